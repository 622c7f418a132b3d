//! What became of a review: there was nothing to judge, it could not be judged, or the guard has spoken. What of
//! that is counted is said here; how it is told to people, machines and the audit log is [`super::answer`]'s.

use pgscale_guard::policy::Policies;
use pgscale_guard::rules::{Recreation, past_the_operator, recreation};
use pgscale_guard::verdict::{Finding, Severity};
use pgscale_guard::{Change, Facts, Verdict};

use super::request::Scaled;
use crate::metrics::{Effect, Outcome};

/// Stands in for a rule's id where no rule could be asked.
pub(crate) const CANNOT_BE_JUDGED: &str = "cannot-be-judged";

/// A review and what became of it.
#[derive(Debug, PartialEq)]
pub(crate) enum Decided {
    /// There was nothing to judge; the text says why.
    Nothing(&'static str),
    /// No verdict could be reached.
    Unjudged {
        /// Why, for people.
        why: String,
        /// The answer in place of a verdict.
        fallback: Fallback,
    },
    /// The guard's verdict.
    Verdict(Box<Judgement>),
}

/// The answer to a write that could not be judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fallback {
    /// It passes with a warning: it certainly takes nothing away.
    Pass,
    /// It is refused: it may take something away.
    Refuse,
    /// It is refused although it only adds: this installation says `growFailurePolicy: Fail`.
    RefuseGrowth,
}

/// A verdict with what it was reached on.
#[derive(Debug, PartialEq)]
pub(crate) struct Judgement {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) uid: String,
    /// The effective counts before and after.
    pub(super) from: Option<i64>,
    pub(super) to: i64,
    /// The count as written.
    pub(super) asked: i64,
    /// The policies that were heard.
    pub(super) policies: Vec<String>,
    /// What a refused CREATE leaves behind, where a cluster of this name was deleted.
    pub(super) recreation: Option<Recreation>,
    /// The member that was taken to lead, where a dry run asked for the verdict after a switchover.
    pub(super) assumed_leader: Option<String>,
    /// It is the StatefulSet that is scaled, and not the cluster.
    pub(super) past_the_operator: bool,
    pub(super) verdict: Verdict,
}

impl Judgement {
    /// Puts together what the guard was given and what it said.
    pub(crate) fn new(facts: &Facts, policies: &Policies, verdict: Verdict) -> Self {
        let cluster = &facts.change.new;
        Self {
            namespace: cluster.namespace.clone(),
            name: cluster.name.clone(),
            uid: identity(&facts.change),
            from: facts.from(),
            to: facts.to(),
            asked: facts.requested(),
            policies: policies.names(),
            recreation: if verdict.allows() { None } else { recreation(facts, policies) },
            assumed_leader: None,
            past_the_operator: false,
            verdict,
        }
    }

    /// What is found of a write that goes past the operator.
    pub(crate) fn past_the_operator(scaled: &Scaled) -> Self {
        let Scaled { namespace, name, from, to, .. } = scaled;
        let finding = past_the_operator(namespace, name, *from, *to);
        Self {
            namespace: namespace.clone(),
            name: name.clone(),
            uid: String::new(),
            from: Some(*from),
            to: *to,
            asked: *to,
            policies: Vec::new(),
            recreation: None,
            assumed_leader: None,
            past_the_operator: true,
            verdict: Verdict { findings: vec![finding], ..Verdict::default() },
        }
    }

    /// `3 -> 5`, or `new -> 5`.
    pub(crate) fn span(&self) -> String {
        let from = self.from.map_or_else(|| "new".to_owned(), |from| from.to_string());
        format!("{from} -> {}", self.to)
    }
}

/// Identity of a cluster that exists; one that is being created has none to attach anything to yet.
fn identity(change: &Change) -> String {
    change.old.as_ref().map(|old| old.uid.clone()).unwrap_or_default()
}

impl Decided {
    /// How it ends, for counting.
    pub(crate) fn outcome(&self) -> Outcome {
        match self {
            Self::Unjudged { fallback: Fallback::Pass, .. } => Outcome::warned,
            Self::Unjudged { .. } => Outcome::denied,
            Self::Verdict(result) if !result.verdict.allows() => Outcome::denied,
            Self::Verdict(result) if result.verdict.warnings().next().is_some() => Outcome::warned,
            Self::Nothing(_) | Self::Verdict(_) => Outcome::allowed,
        }
    }

    /// What was found, rule by rule.
    pub(crate) fn effects(&self) -> Vec<(&'static str, Effect)> {
        match self {
            Self::Nothing(_) => Vec::new(),
            Self::Unjudged { fallback, .. } => {
                let effect = match fallback {
                    Fallback::Pass => Effect::warn,
                    Fallback::Refuse | Fallback::RefuseGrowth => Effect::deny,
                };
                vec![(CANNOT_BE_JUDGED, effect)]
            }
            Self::Verdict(result) => result
                .verdict
                .findings
                .iter()
                .map(|finding| (finding.rule.as_str(), effect(finding)))
                .collect(),
        }
    }

    /// What would have refused it, were the policy behind it not on trial: rule by rule, with the policy's mode.
    pub(crate) fn on_trial(&self) -> Vec<(&'static str, &'static str)> {
        let Self::Verdict(result) = self else { return Vec::new() };
        let findings = result.verdict.findings.iter().filter(|finding| finding.on_trial);
        findings
            .map(|finding| {
                (finding.rule.as_str(), if finding.audit_only { "Audit" } else { "Warn" })
            })
            .collect()
    }

    /// The rules that refuse it.
    pub(crate) fn refusing(&self) -> Vec<&'static str> {
        let denying = |(rule, effect)| (effect == Effect::deny).then_some(rule);
        self.effects().into_iter().filter_map(denying).collect()
    }

    /// The findings that would refuse it but for an override; none where it is refused anyway.
    pub(super) fn overridden(&self) -> Vec<&Finding> {
        let Self::Verdict(result) = self else { return Vec::new() };
        if !result.verdict.allows() {
            return Vec::new();
        }
        let findings = result.verdict.findings.iter();
        findings.filter(|finding| finding.overridden.is_some()).collect()
    }

    /// It passes only because of an override.
    pub(crate) fn is_overridden(&self) -> bool {
        !self.overridden().is_empty()
    }
}

fn effect(finding: &Finding) -> Effect {
    match (finding.audit_only, finding.severity, &finding.overridden) {
        (true, ..) => Effect::audit,
        (false, _, Some(_)) => Effect::overridden,
        (false, Severity::Deny, None) => Effect::deny,
        (false, Severity::Warn, None) => Effect::warn,
    }
}
