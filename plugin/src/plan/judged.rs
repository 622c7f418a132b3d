//! What every rule says of a plan, those included that found nothing.

use pgscale_guard::Verdict;
use pgscale_guard::rules::RULES;
use pgscale_guard::verdict::{Outcome, Severity};

/// What one rule says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Judged {
    /// It found something that is recorded and refuses nothing: its policy only audits.
    Audit,
    /// It refuses the change.
    Deny,
    /// It has nothing to say about this kind of change.
    NotApplicable,
    /// It looked, and all is well.
    Pass,
    /// It warns.
    Warn,
}

/// Every rule, in the order of the rules.
pub(crate) fn every_rule(verdict: &Verdict) -> Vec<(&'static str, Judged)> {
    let by_rule = RULES.iter().map(|rule| {
        let outcome = verdict.judgements.iter().find(|it| it.rule == rule.id).map(|it| &it.outcome);
        let quiet = match outcome {
            Some(Outcome::Pass) => Judged::Pass,
            // One that found something, or could not see, has a finding.
            Some(Outcome::NotApplicable | Outcome::Found(_) | Outcome::Unknown(_)) | None => {
                Judged::NotApplicable
            }
        };
        (rule.id, found(verdict, rule.id).unwrap_or(quiet))
    });
    by_rule.collect()
}

/// The weightiest finding of a rule.
fn found(verdict: &Verdict, rule: &str) -> Option<Judged> {
    let findings = verdict.findings.iter().filter(|finding| finding.rule == rule);
    findings
        .map(|finding| match finding.severity {
            _ if finding.audit_only => (0, Judged::Audit),
            Severity::Warn => (1, Judged::Warn),
            Severity::Deny => (2, Judged::Deny),
        })
        .max_by_key(|(weight, _)| *weight)
        .map(|(_, judged)| judged)
}

#[cfg(test)]
mod tests {
    use pgscale_guard::Policies;
    use pgscale_guard::Seen;
    use pgscale_guard::patroni::PendingFailover;
    use pgscale_guard::policy::{Limit, Mode};

    use super::*;
    use crate::plan::Plan;
    use crate::testing::{facts, stalled};

    fn judged(verdict: &Verdict, rule: &str) -> Option<Judged> {
        every_rule(verdict).into_iter().find(|(id, _)| *id == rule).map(|(_, judged)| judged)
    }

    #[test]
    fn every_rule_is_named_once_in_their_order_with_what_it_says() {
        let verdict = Plan::of(&stalled(facts(3, 2, 0), 1), &Policies::default()).verdict;
        let ids: Vec<&str> = every_rule(&verdict).into_iter().map(|(id, _)| id).collect();
        assert_eq!(ids, RULES.iter().map(|rule| rule.id).collect::<Vec<_>>());
        for (rule, want) in [
            ("too-few-healthy-survivors", Judged::Deny),
            ("survivor-unhealthy", Judged::Warn),
            ("paused", Judged::Pass),
            ("scale-to-zero", Judged::NotApplicable),
        ] {
            assert_eq!(judged(&verdict, rule), Some(want), "{rule}");
        }
    }

    #[test]
    fn what_only_audits_is_no_denial() {
        let min = Limit { value: 3, source: "scalepolicy/trial".into(), mode: Mode::Audit };
        let policies = Policies { min: vec![min], ..Policies::default() };
        let mut facts = facts(5, 2, 4);
        facts.failover = Seen::Known(PendingFailover {
            leader: Some("acid-a-4".into()),
            candidate: Some("acid-a-3".into()),
            scheduled: None,
        });
        let verdict = Plan::of(&facts, &policies).verdict;
        assert_eq!(judged(&verdict, "below-min"), Some(Judged::Audit));
        assert_eq!(judged(&verdict, "switchover-pending"), Some(Judged::Deny));
    }
}
