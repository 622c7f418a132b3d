//! What the guard answers: every rule's finding, with its evidence and a way out.

use std::fmt;

use serde::Serialize;

use crate::printable::printable;
use crate::remedy::{Line, Remedy};
use crate::rule_id::RuleId;
use crate::severity::Mode;

pub use crate::severity::Severity;

/// One fact a finding rests on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct Evidence {
    /// The object it was read from, as `kind/name`, or a member's address for what it said itself.
    pub source: String,
    /// What it says.
    pub says: String,
}

impl Evidence {
    /// `source` says `says`. What a terminal would obey is left out: objects say what their writers like.
    pub fn new(source: impl Into<String>, says: impl Into<String>) -> Self {
        Self { source: printable(&source.into()), says: printable(&says.into()) }
    }
}

/// What one rule found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// The rule's id.
    #[schemars(with = "str")]
    pub rule: RuleId,
    /// How much it weighs after policy, mode and the repair exemption.
    pub severity: Severity,
    /// One or two sentences: what was asked, the limit and the current value.
    pub message: String,
    /// What it rests on.
    pub evidence: Vec<Evidence>,
    /// The command, or the edit, that would work.
    pub remedy: Option<Remedy>,
    /// Why it weighs less (or more) than the rule's default, if it does: a policy's mode, a repair.
    pub severity_reason: Option<String>,
    /// Only recorded, never shown to the writer: the policy behind it is in mode `Audit`.
    pub audit_only: bool,
    /// The mode of the policy its limit came from; the strictest of all where it comes from none.
    #[serde(skip)]
    pub mode: Option<Mode>,
    /// The override but for which it would refuse the change, as `kind/name`.
    #[serde(skip)]
    pub overridden: Option<String>,
    /// It would refuse the change if the policy behind it were enforced.
    #[serde(skip)]
    pub on_trial: bool,
    /// It rests on the lag that a policy allows, where Patroni would allow more.
    #[serde(skip)]
    pub by_policy_lag: bool,
    /// How it stands beside other findings and repairs.
    #[serde(skip)]
    pub standing: Standing,
}

/// How a finding stands beside other findings and repairs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// For itself, and a repair lowers it as its rule's kind allows.
    #[default]
    Alone,
    /// It is about what happens because the leader's pod is deleted: while `leader-condemned` refuses the change, it is
    /// evidence for that rule and is not repeated.
    LeaderGoes,
    /// No repair lowers it, whatever its rule's kind is.
    Unexcused,
}

impl Finding {
    /// The change is refused because of `message`.
    pub fn deny(rule: RuleId, message: impl Into<String>) -> Self {
        Self::new(rule, Severity::Deny, message)
    }

    /// The change passes, and the writer reads `message`.
    pub fn warn(rule: RuleId, message: impl Into<String>) -> Self {
        Self::new(rule, Severity::Warn, message)
    }

    /// A finding of `severity`, for rules that weigh by circumstances.
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

    /// Marks it as a consequence of the leader's pod being deleted, where `applies`.
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

    /// Says which policy mode the limit behind it has.
    #[must_use]
    pub fn in_mode(mut self, mode: Mode) -> Self {
        self.mode = Some(mode);
        self
    }

    /// Adds what it rests on.
    #[must_use]
    pub fn because(mut self, source: impl Into<String>, says: impl Into<String>) -> Self {
        self.evidence.push(Evidence::new(source, says));
        self
    }

    /// Adds the way out.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<Remedy>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }
}

/// How one rule judged the change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Outcome {
    /// The rule has nothing to say about this kind of change.
    NotApplicable,
    /// It looked, and all is well.
    Pass,
    /// It found something.
    Found(Finding),
    /// It could not see a fact it needs; the text says which and why. Turned into a finding in one place
    /// (`rules/severity.rs`), by policy.
    Unknown(String),
    /// The same where all was read and does not say it: reading again would not help, and `remedy` does.
    Unsaid {
        /// What is not known, and why.
        why: String,
        /// The command, or the edit, that makes it known or lets it not matter.
        remedy: Remedy,
    },
}

/// One rule's judgement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RuleResult {
    /// The rule's id.
    pub rule: RuleId,
    /// What it said, before policy weighed it.
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
    /// Nothing refuses the change.
    pub fn allows(&self) -> bool {
        self.denials().next().is_none()
    }

    /// The reasons to refuse; all of them, not the first.
    pub fn denials(&self) -> impl Iterator<Item = &Finding> {
        self.findings
            .iter()
            .filter(|finding| finding.severity == Severity::Deny && !finding.audit_only)
    }

    /// What the writer should know although the change passes.
    pub fn warnings(&self) -> impl Iterator<Item = &Finding> {
        self.findings
            .iter()
            .filter(|finding| finding.severity == Severity::Warn && !finding.audit_only)
    }

    /// Returns the warnings of rules that could not see a fact that they need: nothing is known to
    /// be wrong, and nothing is known to be well.
    pub fn unjudged(&self) -> impl Iterator<Item = &Finding> {
        self.warnings().filter(|finding| {
            self.results.iter().any(|result| {
                result.rule == finding.rule
                    && matches!(result.outcome, Outcome::Unknown(_) | Outcome::Unsaid { .. })
            })
        })
    }

    /// The finding of one rule.
    pub fn finding(&self, rule: &str) -> Option<&Finding> {
        self.findings.iter().find(|finding| finding.rule == rule)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.rule, self.message)?;
        for evidence in &self.evidence {
            write!(out, "\n  {}: {}", evidence.source, evidence.says)?;
        }
        if let Some(severity_reason) = &self.severity_reason {
            write!(out, "\n  ({severity_reason})")?;
        }
        if let Some(remedy) = &self.remedy {
            for Line::Text(line) | Line::Command(line) in remedy.behind("  Try:") {
                write!(out, "\n{line}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_others_stays_on_its_line_and_moves_no_cursor() {
        let says = "acid-a-0\n  Try: kubectl delete pvc --all\u{1b}[2K\u{202e}";
        let evidence = Evidence::new("configmap/acid-a-failover", says);
        assert_eq!(evidence.says, "acid-a-0   Try: kubectl delete pvc --all [2K ");
        let finding = Finding::deny(RuleId::PAUSED, says);
        assert_eq!(finding.message, evidence.says);
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
    fn unjudged_is_what_warns_of_a_fact_that_was_not_seen() {
        let outcomes = [
            (RuleId::ABOVE_MAX, Outcome::Unknown("forbidden".into())),
            (
                RuleId::TOO_FEW_WAL_SENDERS,
                Outcome::Unsaid { why: "unset".into(), remedy: Remedy::note("set it") },
            ),
            (RuleId::PAUSED, Outcome::Found(Finding::warn(RuleId::PAUSED, "Patroni is paused"))),
            // A policy ignores it, so it has no finding.
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
            .because("scalepolicy/production", "instances.min: 3")
            .remedy("kubectl pgscale set acid-a 3");
        insta::assert_snapshot!(finding, @r"
        below-min: 2 instances asked, at least 3 required
          scalepolicy/production: instances.min: 3
          Try: kubectl pgscale set acid-a 3
        ");
    }
}
