//! The judgement of every rule on a plan, those included that found nothing, with the facts that
//! each looked at.

use std::collections::BTreeMap;

use pgscale_guard::evidence::Evidence;
use pgscale_guard::rules::RULES;
use pgscale_guard::verdict::{Finding, Outcome, Severity};
use pgscale_guard::{Assessment, Facts, Policies};

use super::Plan;

/// The judgement of one rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Says {
    /// It found something that is recorded and refuses nothing: its policy only audits.
    Audit,
    /// The rule refuses the change.
    Deny,
    /// It found something or could not see a fact, and a policy ignores that.
    Ignored,
    /// It has nothing to say about this kind of change.
    NotApplicable,
    /// The rule looked, and all is well.
    Pass,
    /// It could not see a fact that it needs, with this effect.
    Unknown(Severity),
    /// The rule warns.
    Warn,
}

/// One rule, its judgement and the reason.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Judged<'a> {
    /// The rule.
    pub(crate) rule: &'static str,
    /// Its judgement.
    pub(crate) says: Says,
    /// The text about its finding, or about the unread fact.
    pub(crate) message: Option<&'a str>,
    /// The finding after policy, with its remedy.
    pub(crate) finding: Option<&'a Finding>,
    /// The objects that it looked at, and their state.
    pub(crate) looked_at: &'a [Evidence],
}

/// Returns the facts that the rules look at, by their ids.
pub(super) fn looked_at(
    facts: &Facts,
    policies: &Policies,
) -> BTreeMap<&'static str, Vec<Evidence>> {
    let assessment = Assessment::of(facts, policies);
    RULES.iter().map(|rule| (rule.id.as_str(), rule.looks_at(&assessment, policies))).collect()
}

/// Returns the judgements of all rules, in the order of the rules.
pub(crate) fn every_rule(plan: &Plan) -> Vec<Judged<'_>> {
    RULES.iter().map(|rule| judged(plan, rule.id.as_str())).collect()
}

fn judged<'a>(plan: &'a Plan, rule: &'static str) -> Judged<'a> {
    let outcome = plan.verdict.results.iter().find(|it| it.rule == rule).map(|it| &it.outcome);
    let finding = weightiest(plan, rule);
    let (says, message) = match (finding, outcome) {
        (Some(finding), _) if finding.audit_only => (Says::Audit, Some(finding.message.as_str())),
        (Some(finding), Some(Outcome::Unknown(_) | Outcome::Unsaid { .. })) => {
            (Says::Unknown(finding.severity), Some(finding.message.as_str()))
        }
        (Some(finding), _) => {
            let says = match finding.severity {
                Severity::Deny => Says::Deny,
                Severity::Warn => Says::Warn,
            };
            (says, Some(finding.message.as_str()))
        }
        (None, Some(Outcome::Pass)) => (Says::Pass, None),
        (None, Some(Outcome::Found(finding))) => (Says::Ignored, Some(finding.message.as_str())),
        (None, Some(Outcome::Unknown(why) | Outcome::Unsaid { why, .. })) => {
            (Says::Ignored, Some(why.as_str()))
        }
        (None, Some(Outcome::NotApplicable) | None) => (Says::NotApplicable, None),
    };
    let looked_at = match says {
        Says::NotApplicable => &[],
        Says::Audit | Says::Deny | Says::Ignored | Says::Pass | Says::Unknown(_) | Says::Warn => {
            plan.looked_at.get(rule).map_or(&[][..], Vec::as_slice)
        }
    };
    Judged { rule, says, message, finding, looked_at }
}

/// Returns the weightiest finding of a rule.
fn weightiest<'a>(plan: &'a Plan, rule: &str) -> Option<&'a Finding> {
    // A finding that is evidence for another rule is shown under its own rule.
    let all = plan.verdict.findings.iter().chain(&plan.verdict.folded);
    let findings = all.filter(|finding| finding.rule == rule);
    findings.max_by_key(|finding| (!finding.audit_only, finding.severity))
}

#[cfg(test)]
mod tests {
    use pgscale_guard::Seen;
    use pgscale_guard::object_ref::ObjectRef;
    use pgscale_guard::patroni::PendingFailover;
    use pgscale_guard::policy::{Limit, Mode, Weight};

    use super::*;
    use crate::testing::{facts, stalled};

    fn says(plan: &Plan, rule: &str) -> Option<Says> {
        every_rule(plan).into_iter().find(|it| it.rule == rule).map(|it| it.says)
    }

    #[test]
    fn every_rule_is_named_once_in_order_with_its_judgement() {
        let mut facts = stalled(facts(3, 2, 0), 1);
        facts.sync = Seen::Unreadable("forbidden".into());
        facts.failover = Seen::Unreadable("forbidden".into());
        let plan = Plan::of(&facts, &Policies::default());
        let ids: Vec<&str> = every_rule(&plan).into_iter().map(|it| it.rule).collect();
        assert_eq!(ids, RULES.iter().map(|rule| rule.id.as_str()).collect::<Vec<_>>());
        for (rule, want) in [
            ("too-few-healthy-survivors", Says::Deny),
            ("survivor-unhealthy", Says::Warn),
            ("paused", Says::Pass),
            ("scale-to-zero", Says::NotApplicable),
            ("switchover-pending", Says::Unknown(Severity::Deny)),
        ] {
            assert_eq!(says(&plan, rule), Some(want), "{rule}");
        }
        for judged in every_rule(&plan) {
            let quiet = judged.says == Says::NotApplicable;
            assert_eq!(judged.looked_at.is_empty(), quiet, "{judged:?}");
        }
    }

    #[test]
    fn audit_is_no_denial_and_ignored_findings_are_shown() {
        let min = Limit { value: 3, source: ObjectRef::policy("trial"), mode: Mode::Audit };
        let source = ObjectRef::policy("p");
        let ignore = Limit { value: Weight::Ignore, source, mode: Mode::Warn };
        let policies = Policies {
            min: vec![min],
            rules: [("no-standby-left".to_owned(), vec![ignore])].into(),
            ..Policies::default()
        };
        let mut facts = facts(5, 1, 4);
        facts.failover = Seen::Known(PendingFailover {
            leader: Some("acid-a-4".into()),
            candidate: Some("acid-a-3".into()),
            scheduled: None,
        });
        let plan = Plan::of(&facts, &policies);
        assert_eq!(says(&plan, "below-min"), Some(Says::Audit));
        assert_eq!(says(&plan, "switchover-pending"), Some(Says::Deny));
        assert_eq!(says(&plan, "no-standby-left"), Some(Says::Ignored));
    }
}
