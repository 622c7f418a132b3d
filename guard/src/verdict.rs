//! The guard's answer: the findings of every rule, with their evidence and remedies.

use std::fmt;

use serde::Serialize;

use crate::evidence::Evidence;
use crate::object_ref::ObjectRef;
use crate::printable::printable;
use crate::remedy::{Line, Remedy};
use crate::rule_id::RuleId;
use crate::severity::Mode;

mod grouped;

pub use grouped::{Grouped, grouped};

pub use crate::severity::Severity;

/// The finding of one rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// The rule's id.
    #[schemars(with = "str")]
    pub rule: RuleId,
    /// The weight after policy, mode and the repair exemption.
    pub severity: Severity,
    /// One or two sentences: what was asked, the limit and the current value.
    pub message: String,
    /// The facts that it rests on.
    pub evidence: Vec<Evidence>,
    /// The command, or the edit, that would work.
    pub remedy: Option<Remedy>,
    /// The reason for a weight below (or above) the rule's default: a policy's mode, a repair.
    pub severity_reason: Option<String>,
    /// Only recorded, never shown to the writer, because the policy behind it is in mode `Audit`.
    pub audit_only: bool,
    /// The mode of the policy its limit came from. The strictest of all where it comes from none.
    #[serde(skip)]
    pub mode: Option<Mode>,
    /// The override without which it would refuse the change, as `kind/name`.
    #[serde(skip)]
    pub overridden: Option<String>,
    /// It would refuse the change if the policy behind it were enforced.
    #[serde(skip)]
    pub on_trial: bool,
    /// It rests on the lag that a policy allows, where Patroni would allow more.
    #[serde(skip)]
    pub by_policy_lag: bool,
    /// Its relation to other findings and repairs.
    #[serde(skip)]
    pub standing: Standing,
}

/// The relation of a finding to other findings and repairs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// On its own. A repair lowers it as its rule's kind allows.
    #[default]
    Alone,
    /// A consequence of the deletion of the leader's pod. While `leader-condemned` refuses the
    /// change, it is evidence for that rule and is not repeated.
    LeaderGoes,
    /// On its own. No repair lowers it, whatever its rule's kind is.
    Unexcused,
}

impl Finding {
    /// Returns a finding that refuses the change because of `message`.
    pub fn deny(rule: RuleId, message: impl Into<String>) -> Self {
        Self::new(rule, Severity::Deny, message)
    }

    /// Returns a finding that lets the change pass with the warning `message`.
    pub fn warn(rule: RuleId, message: impl Into<String>) -> Self {
        Self::new(rule, Severity::Warn, message)
    }

    /// Returns a finding of `severity`, for rules that weigh by circumstances.
    pub fn new(rule: RuleId, severity: Severity, message: impl Into<String>) -> Self {
        Self {
            rule,
            severity,
            message: printable(&message.into()),
            evidence: Vec::new(),
            remedy: None,
            severity_reason: None,
            audit_only: false,
            mode: None,
            overridden: None,
            on_trial: false,
            by_policy_lag: false,
            standing: Standing::Alone,
        }
    }

    /// Marks it as a consequence of the deletion of the leader's pod, where `applies`.
    #[must_use]
    pub fn if_leader_goes(mut self, applies: bool) -> Self {
        if applies {
            self.standing = Standing::LeaderGoes;
        }
        self
    }

    /// Marks it as one that rests on the lag that a policy allows, where `applies`.
    #[must_use]
    pub fn if_by_policy_lag(mut self, applies: bool) -> Self {
        self.by_policy_lag = applies;
        self
    }

    /// Marks it as one that no repair lowers.
    #[must_use]
    pub fn unexcused(mut self) -> Self {
        self.standing = Standing::Unexcused;
        self
    }

    /// Sets the mode of the policy behind its limit.
    #[must_use]
    pub fn in_mode(mut self, mode: Mode) -> Self {
        self.mode = Some(mode);
        self
    }

    /// Adds what it rests on: `field` of `object` holds `value`.
    #[must_use]
    pub fn because(self, object: ObjectRef, field: &str, value: impl fmt::Display) -> Self {
        self.because_of(Evidence::new(object, field, value))
    }

    /// Adds a fact that it rests on.
    #[must_use]
    pub fn because_of(mut self, evidence: Evidence) -> Self {
        self.evidence.push(evidence);
        self
    }

    /// Adds the remedy.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<Remedy>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }
}

/// The judgement of one rule on the change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Outcome {
    /// The rule has nothing to say about this kind of change.
    NotApplicable,
    /// The rule looked, and all is well.
    Pass,
    /// It found something.
    Found(Finding),
    /// The rule could not see a fact it needs. The text says which and why. Turned into a finding
    /// in one place (`rules/severity.rs`), by policy.
    Unknown(String),
    /// The same where all was read and does not hold the fact. Reading again would not help, but
    /// `remedy` does.
    Unsaid {
        /// The unknown fact, and the reason.
        why: String,
        /// The command, or the edit, that makes the fact known or irrelevant.
        remedy: Remedy,
    },
}

/// One rule's judgement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RuleResult {
    /// The rule's id.
    pub rule: RuleId,
    /// Its judgement, before policy weighed it.
    pub outcome: Outcome,
}

/// The answer to one change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Everything found, in the order of the rules.
    pub findings: Vec<Finding>,
    /// Every rule's own judgement, for explanations.
    pub results: Vec<RuleResult>,
    /// Findings that became evidence for `leader-condemned`, for explanations.
    #[serde(skip)]
    pub folded: Vec<Finding>,
}

impl Verdict {
    /// Returns whether no finding refuses the change.
    pub fn allows(&self) -> bool {
        self.denials().next().is_none()
    }

    /// Returns all findings that refuse the change, not only the first.
    pub fn denials(&self) -> impl Iterator<Item = &Finding> {
        self.findings
            .iter()
            .filter(|finding| finding.severity == Severity::Deny && !finding.audit_only)
    }

    /// Returns the findings that the writer reads although the change passes.
    pub fn warnings(&self) -> impl Iterator<Item = &Finding> {
        self.findings
            .iter()
            .filter(|finding| finding.severity == Severity::Warn && !finding.audit_only)
    }

    /// Returns the warnings of rules that could not see a fact that they need. Nothing is known to
    /// be wrong, and nothing is known to be well.
    pub fn unjudged(&self) -> impl Iterator<Item = &Finding> {
        self.warnings().filter(|finding| {
            self.results.iter().any(|result| {
                result.rule == finding.rule
                    && matches!(result.outcome, Outcome::Unknown(_) | Outcome::Unsaid { .. })
            })
        })
    }

    /// Returns the finding of one rule.
    pub fn finding(&self, rule: &str) -> Option<&Finding> {
        self.findings.iter().find(|finding| finding.rule == rule)
    }
}

impl Finding {
    /// Returns the finding line by line.
    pub fn lines(&self) -> Vec<Line> {
        Grouped { rules: vec![self.rule], finding: self }.lines()
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        Grouped { rules: vec![self.rule], finding: self }.fmt(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object_ref::Kind;

    #[test]
    fn text_of_others_stays_on_its_line_and_moves_no_cursor() {
        let says = "acid-a-0\n  Try: kubectl delete pvc --all\u{1b}[2K\u{202e}";
        let evidence = Evidence::new(ObjectRef::new(Kind::ConfigMap, says), says, says);
        let clean = "acid-a-0   Try: kubectl delete pvc --all [2K ";
        assert_eq!(evidence.to_string(), format!("configmap/{clean}: {clean}: {clean}"));
        let finding = Finding::deny(RuleId::PAUSED, says);
        assert_eq!(finding.message, clean);
        assert_eq!(printable("명절 동결, 2 GiB"), "명절 동결, 2 GiB");
    }

    #[test]
    fn audit_only_findings_neither_refuse_nor_speak() {
        let mut finding = Finding::deny(RuleId::BELOW_MIN, "2 is fewer than 3");
        finding.audit_only = true;
        let verdict = Verdict { findings: vec![finding], ..Verdict::default() };
        assert!(verdict.allows());
        assert_eq!(verdict.warnings().count(), 0);
    }

    #[test]
    fn unjudged_findings_warn_of_an_unread_fact() {
        let outcomes = [
            (RuleId::ABOVE_MAX, Outcome::Unknown("forbidden".into())),
            (
                RuleId::TOO_FEW_WAL_SENDERS,
                Outcome::Unsaid { why: "unset".into(), remedy: Remedy::note("set it") },
            ),
            (RuleId::PAUSED, Outcome::Found(Finding::warn(RuleId::PAUSED, "Patroni is paused"))),
            // A policy ignores this rule, so it has no finding.
            (RuleId::STALE_VOLUME, Outcome::Unknown("forbidden".into())),
            (RuleId::NO_LEADER, Outcome::Unknown("forbidden".into())),
            (RuleId::VOLUME_RESIZING, Outcome::Unknown("forbidden".into())),
        ];
        let mut findings: Vec<Finding> =
            [RuleId::ABOVE_MAX, RuleId::TOO_FEW_WAL_SENDERS, RuleId::PAUSED]
                .map(|rule| Finding::warn(rule, "cannot be judged"))
                .into();
        findings.push(Finding::deny(RuleId::NO_LEADER, "cannot be judged"));
        let mut recorded = Finding::warn(RuleId::VOLUME_RESIZING, "cannot be judged");
        recorded.audit_only = true;
        findings.push(recorded);
        let results = outcomes.map(|(rule, outcome)| RuleResult { rule, outcome }).into();
        let verdict = Verdict { findings, results, ..Verdict::default() };
        let rules: Vec<&str> = verdict.unjudged().map(|finding| finding.rule.as_str()).collect();
        assert_eq!(rules, ["above-max", "too-few-wal-senders"]);
    }

    #[test]
    fn a_finding_reads_from_fact_to_way_out() {
        let finding = Finding::deny(RuleId::BELOW_MIN, "2 instances asked, at least 3 required")
            .because(ObjectRef::new(Kind::ScalePolicy, "production"), "instances.min", 3)
            .remedy("kubectl pgscale set acid-a 3");
        insta::assert_snapshot!(finding, @r"
        below-min: 2 instances asked, at least 3 required
          scalepolicy/production: instances.min: 3
          Try: kubectl pgscale set acid-a 3
        ");
    }
}
