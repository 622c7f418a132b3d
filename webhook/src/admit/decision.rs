//! The decision about a review: nothing had to be judged, no verdict was reached, or the guard
//! reached one.
//!
//! The decision owns its outcome: what it means for the write ([`Outcome`]), for each rule
//! ([`Effect`]), and whether an Event records it ([`Reason`]). [`super::response`] renders it for
//! people, for machines and for the audit log.

use pgscale_guard::policy::Policies;
use pgscale_guard::rules::{Recreation, past_the_operator, recreation};
use pgscale_guard::verdict::{Finding, Severity};
use pgscale_guard::{Change, Facts, Verdict};

use super::request::{CountWrite, Exemption};
use super::watch::Removal;
use crate::events::Reason;

/// The id in place of a rule's, where no rule could judge.
pub(crate) const CANNOT_BE_JUDGED: &str = "cannot-be-judged";

/// The decision about one review.
#[derive(Debug, PartialEq)]
pub(crate) enum Decision {
    /// There was nothing to judge.
    NothingToJudge(Exemption),
    /// No verdict could be reached.
    Unjudged {
        /// The reason, for people.
        why: String,
        /// The answer in place of a verdict.
        fallback: Fallback,
    },
    /// The guard reached a verdict.
    Judged(Box<JudgedChange>),
}

/// The answer to a write that could not be judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fallback {
    /// It passes with a warning: it certainly removes nothing.
    Pass,
    /// It is refused: it may remove something.
    Refuse,
    /// It is refused although it only adds: this installation says `growFailurePolicy: Fail`.
    RefuseGrowth,
    /// It is refused although it only adds: it starts a cluster from volumes, and which of them hold
    /// the newest rows is not known.
    RefuseReturn,
    /// It is refused although it only adds: the namespace has a budget, and nothing was reserved.
    RefuseUnreserved,
}

/// The outcome of a review for the write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The write passes.
    Allowed,
    /// The write is refused.
    Denied,
    /// The write passes, and the writer reads warnings.
    Warned,
}

impl Outcome {
    /// Returns the word for it in metrics, logs and the audit log.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
            Self::Warned => "warned",
        }
    }
}

/// The effect of one finding on the write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// It is only recorded.
    Audit,
    /// It refuses the write.
    Deny,
    /// It would refuse the write, and a `ScaleOverride` allows it.
    Overridden,
    /// It warns the writer.
    Warn,
}

impl Effect {
    /// Returns the word for it in metrics and the audit log.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Audit => "audit",
            Self::Deny => "deny",
            Self::Overridden => "overridden",
            Self::Warn => "warn",
        }
    }

    fn of(finding: &Finding) -> Self {
        match (finding.audit_only, finding.severity, &finding.overridden) {
            (true, ..) => Self::Audit,
            (false, _, Some(_)) => Self::Overridden,
            (false, Severity::Deny, None) => Self::Deny,
            (false, Severity::Warn, None) => Self::Warn,
        }
    }
}

/// A change with its verdict.
#[derive(Debug, PartialEq)]
pub(crate) struct JudgedChange {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) uid: String,
    /// The effective counts before and after.
    pub(super) from: Option<i64>,
    pub(super) to: i64,
    /// The count as written.
    pub(super) requested: i64,
    /// The names of the policies that apply.
    pub(super) policies: Vec<String>,
    /// The rest of a deleted cluster of this name, where a CREATE of the next one is refused.
    pub(super) recreation: Option<Recreation>,
    /// The member that the verdict takes for the leader, where a dry run asked for the verdict
    /// after a switchover.
    pub(super) assumed_leader: Option<String>,
    /// It was refused before anything of the cluster was read.
    pub(super) unseen: bool,
    /// The write scales the StatefulSet, and not the cluster.
    pub(super) past_the_operator: bool,
    /// What has to be watched after admission. `None` where the change is refused or removes no
    /// member.
    pub(super) removal: Option<Removal>,
    pub(super) verdict: Verdict,
}

impl JudgedChange {
    /// Puts together what the guard read and its verdict.
    pub(crate) fn new(facts: &Facts, policies: &Policies, verdict: Verdict) -> Self {
        let cluster = &facts.change.new;
        Self {
            namespace: cluster.namespace.clone(),
            name: cluster.name.clone(),
            uid: uid(&facts.change),
            from: facts.from(),
            to: facts.to(),
            requested: facts.requested(),
            policies: policies.names(),
            recreation: if verdict.allows() { None } else { recreation(facts, policies) },
            assumed_leader: None,
            unseen: false,
            past_the_operator: false,
            removal: if verdict.allows() { Removal::of(facts) } else { None },
            verdict,
        }
    }

    /// Returns the verdict on a write of a StatefulSet's replicas, which is removed past the operator.
    pub(crate) fn past_the_operator(write: &CountWrite) -> Self {
        let CountWrite { namespace, name, from, to, .. } = write;
        let finding = past_the_operator(namespace, name, *from, *to);
        Self {
            namespace: namespace.clone(),
            name: name.clone(),
            uid: String::new(),
            from: Some(*from),
            to: *to,
            requested: *to,
            policies: Vec::new(),
            recreation: None,
            assumed_leader: None,
            unseen: false,
            past_the_operator: true,
            removal: None,
            verdict: Verdict { findings: vec![finding], ..Verdict::default() },
        }
    }

    /// Returns both counts: `3 -> 5`, or `new -> 5`.
    pub(crate) fn span(&self) -> String {
        let from = self.from.map_or_else(|| "new".to_owned(), |from| from.to_string());
        format!("{from} -> {}", self.to)
    }
}

/// Returns the uid of a cluster that exists. A cluster that is being created has none yet.
fn uid(change: &Change) -> String {
    change.old.as_ref().map(|old| old.uid.clone()).unwrap_or_default()
}

impl Decision {
    /// Returns the outcome for the write.
    pub(crate) fn outcome(&self) -> Outcome {
        match self {
            Self::Unjudged { fallback: Fallback::Pass, .. } => Outcome::Warned,
            Self::Unjudged { .. } => Outcome::Denied,
            Self::Judged(judged) if !judged.verdict.allows() => Outcome::Denied,
            Self::Judged(_) if !self.warnings().is_empty() => Outcome::Warned,
            Self::NothingToJudge(_) | Self::Judged(_) => Outcome::Allowed,
        }
    }

    /// Returns the findings that warn the writer of a change that passes.
    ///
    /// Beside a refusal there are none. They would hide its reasons, and `plan` shows them.
    pub(super) fn warnings(&self) -> Vec<&Finding> {
        match self {
            Self::Judged(judged) if judged.verdict.allows() => judged.verdict.warnings().collect(),
            Self::NothingToJudge(_) | Self::Unjudged { .. } | Self::Judged(_) => Vec::new(),
        }
    }

    /// Returns the effect of each finding, with its rule.
    pub(crate) fn effects(&self) -> Vec<(&'static str, Effect)> {
        match self {
            Self::NothingToJudge(_) => Vec::new(),
            Self::Unjudged { fallback, .. } => {
                let effect = match fallback {
                    Fallback::Pass => Effect::Warn,
                    Fallback::Refuse
                    | Fallback::RefuseGrowth
                    | Fallback::RefuseReturn
                    | Fallback::RefuseUnreserved => Effect::Deny,
                };
                vec![(CANNOT_BE_JUDGED, effect)]
            }
            Self::Judged(judged) => {
                let findings = judged.verdict.findings.iter();
                findings.map(|finding| (finding.rule.as_str(), Effect::of(finding))).collect()
            }
        }
    }

    /// Returns the rules that would refuse the change if the policy behind them were not on trial,
    /// each with that policy's mode.
    pub(crate) fn on_trial(&self) -> Vec<(&'static str, &'static str)> {
        let Self::Judged(judged) = self else { return Vec::new() };
        let findings = judged.verdict.findings.iter().filter(|finding| finding.on_trial);
        findings
            .map(|finding| {
                (finding.rule.as_str(), if finding.audit_only { "Audit" } else { "Warn" })
            })
            .collect()
    }

    /// Returns the rules that refuse the change.
    pub(crate) fn refusing(&self) -> Vec<&'static str> {
        let denying = |(rule, effect)| (effect == Effect::Deny).then_some(rule);
        self.effects().into_iter().filter_map(denying).collect()
    }

    /// Returns the findings that would refuse the change without an override; none where it is
    /// refused anyway.
    pub(super) fn overridden(&self) -> Vec<&Finding> {
        let Self::Judged(judged) = self else { return Vec::new() };
        if !judged.verdict.allows() {
            return Vec::new();
        }
        let findings = judged.verdict.findings.iter();
        findings.filter(|finding| finding.overridden.is_some()).collect()
    }

    /// Returns whether the change passes only because of an override.
    pub(crate) fn is_overridden(&self) -> bool {
        !self.overridden().is_empty()
    }

    /// Returns the reason of the Event that records the decision, `None` where none does.
    pub(crate) fn event(&self) -> Option<Reason> {
        if self.outcome() == Outcome::Denied {
            return Some(Reason::Denied);
        }
        if let Self::Judged(judged) = self
            && judged.past_the_operator
        {
            return Some(Reason::PastTheOperator);
        }
        self.is_overridden().then_some(Reason::Overridden)
    }

    /// Returns the rules that the Event about the decision names.
    pub(crate) fn rules_of_event(&self) -> Vec<&'static str> {
        match self.event() {
            Some(Reason::Denied) => self.refusing(),
            Some(Reason::LeaderCondemned | Reason::Overridden | Reason::PastTheOperator) => {
                self.findings_of_event().iter().map(|finding| finding.rule.as_str()).collect()
            }
            None => Vec::new(),
        }
    }

    /// Returns the findings that the Event about a change that passes is about.
    pub(super) fn findings_of_event(&self) -> Vec<&Finding> {
        match (self, self.event()) {
            (Self::Judged(judged), Some(Reason::PastTheOperator)) => {
                judged.verdict.findings.iter().collect()
            }
            (_, Some(Reason::Overridden)) => self.overridden(),
            (
                _,
                Some(Reason::Denied | Reason::LeaderCondemned | Reason::PastTheOperator) | None,
            ) => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::VERDICTS;

    #[test]
    fn every_outcome_has_a_counter_before_the_first_review() {
        for outcome in [Outcome::Allowed, Outcome::Denied, Outcome::Warned] {
            assert!(VERDICTS.contains(&outcome.as_str()), "{outcome:?}");
        }
    }

    #[test]
    fn event_records_a_refusal_and_nothing_that_simply_passes() {
        let unjudged = |fallback| Decision::Unjudged { why: "no answer".to_owned(), fallback };
        for (decision, event, rules) in [
            (unjudged(Fallback::Refuse), Some(Reason::Denied), vec![CANNOT_BE_JUDGED]),
            (unjudged(Fallback::RefuseGrowth), Some(Reason::Denied), vec![CANNOT_BE_JUDGED]),
            (unjudged(Fallback::RefuseReturn), Some(Reason::Denied), vec![CANNOT_BE_JUDGED]),
            (unjudged(Fallback::Pass), None, vec![]),
            (Decision::NothingToJudge(Exemption::SameCount), None, vec![]),
        ] {
            assert_eq!((decision.event(), decision.rules_of_event()), (event, rules));
        }
    }
}
