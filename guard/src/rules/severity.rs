//! The severity of a finding: the default of its rule, then the opinions of policies, then a repair,
//! then the mode of the policy, in this order.
//!
//! A stricter opinion of a policy (`rules`) never makes a finding weaker, and a policy on trial never
//! refuses. An opinion below the default lowers the rule's own finding to the strictest of the
//! opinions below. An opinion at or above the default stands beside it, in the mode of its own policy.
//! No other policy lowers a finding that rests on a policy's own limit: the `rules` of that policy
//! were applied when it was read.

use crate::assessment::Assessment;
use crate::policy::{Limit, Mode, Policies, Weight};
use crate::remedy::Remedy;
use crate::rule_id::RuleId;
use crate::rules::{Kind, Rule};
use crate::verdict::{Finding, Outcome, Severity, Standing};

mod unread;

use unread::{failing_closed, unseen};

/// One possible severity of a finding, with the mode of its policy. The policy is named unless the
/// rule itself decides.
#[derive(Clone, Debug)]
struct Candidate {
    severity: Severity,
    mode: Mode,
    says: Option<String>,
}

/// Returns the finding of a rule after policies, repairs and modes.
pub(super) fn weighed(
    rule: &Rule,
    outcome: &Outcome,
    facts: &Assessment<'_>,
    policies: &Policies,
) -> Option<Finding> {
    let (finding, candidates) = match outcome {
        Outcome::NotApplicable | Outcome::Pass => return None,
        Outcome::Found(finding @ Finding { mode: Some(mode), .. }) => {
            let own = Candidate { severity: finding.severity, mode: *mode, says: None };
            (finding.clone(), vec![own])
        }
        Outcome::Found(finding) => {
            let own = base(finding.severity, policies);
            let raised = |limit: &Limit<Weight>| weight(limit).filter(|it| *it >= own.severity);
            let raising = opinions(rule, policies)
                .filter_map(|limit| Some(spoken(rule, limit, raised(limit)?)));
            let mut candidates: Vec<_> = raising.collect();
            candidates.extend(lowered(rule, own, policies));
            (finding.clone(), candidates)
        }
        Outcome::Unknown(why) | Outcome::Unsaid { why, .. } => {
            let mut unseen = unseen(rule, facts.direction(), policies);
            unseen.extend(failing_closed(facts.direction(), policies));
            let most = unseen.iter().map(|it| it.severity).max();
            // A policy can pin a rule, but not above the severity of an unknown fact.
            let pinned = opinions(rule, policies)
                .filter_map(|limit| Some(spoken(rule, limit, weight(limit)?.min(most?))));
            let mut candidates: Vec<_> = pinned.collect();
            // An advisory refuses nothing by itself, seen or not, unless a policy has raised it.
            let own = unseen.into_iter().map(|it| match rule.kind {
                Kind::Advisory if it.severity > Severity::Warn => {
                    Candidate { severity: Severity::Warn, says: None, ..it }
                }
                Kind::Bound | Kind::Calendar | Kind::Advisory | Kind::Live | Kind::Room => it,
            });
            candidates.extend(own.filter_map(|it| lowered(rule, it, policies)));
            // A policy on trial refuses nothing for want of a fact, either.
            let asked = policies.requested(rule.id).unwrap_or(Mode::Enforce);
            for candidate in &mut candidates {
                candidate.mode = candidate.mode.min(asked);
            }
            let remedy = match outcome {
                Outcome::Unsaid { remedy, .. } => remedy.clone(),
                Outcome::NotApplicable
                | Outcome::Pass
                | Outcome::Found(_)
                | Outcome::Unknown(_) => {
                    Remedy::note("make the fact readable (network, rights), then ask again")
                }
            };
            let mut finding =
                Finding::new(rule.id, Severity::Warn, format!("cannot be judged: {why}"))
                    .remedy(remedy);
            // What no repair excuses is not excused where it is unknown, either.
            if rule.id == RuleId::PAUSED && facts.from() == Some(0) {
                finding = finding.unexcused();
            }
            (finding, candidates)
        }
    };
    let strongest =
        candidates.into_iter().max_by_key(|it| (strength(it.severity, it.mode), it.severity))?;
    Some(apply(rule, finding, strongest, facts, policies))
}

/// Returns the same for facts that are judged by a limit on trial. The mode of that policy is the
/// upper bound.
pub(super) fn on_trial(
    rule: &Rule,
    outcome: &Outcome,
    facts: &Assessment<'_>,
    policies: &Policies,
    limit: &Limit<u64>,
) -> Option<Finding> {
    // Unknown facts do not depend on the allowed lag.
    let Outcome::Found(finding) = outcome else { return None };
    let mode = finding.mode.unwrap_or(policies.mode).min(limit.mode);
    let found = Outcome::Found(because_of_lag(finding.clone(), limit).in_mode(mode));
    weighed(rule, &found, facts, policies)
}

/// Names the policy with the limit on the lag that the finding rests on.
pub(super) fn because_of_lag(finding: Finding, limit: &Limit<u64>) -> Finding {
    let value = format_args!("{} bytes", limit.value);
    finding.because(limit.source.clone(), "survivors.maxLag", value)
}

/// Returns the stronger finding, and the first of two that are equally strong.
pub(super) fn stronger(one: Option<Finding>, other: Option<Finding>) -> Option<Finding> {
    let weight = |finding: &Option<Finding>| {
        finding.as_ref().map(|finding| (!finding.audit_only, finding.severity, finding.on_trial))
    };
    if weight(&other) > weight(&one) { other } else { one }
}

/// Returns the effect as a number: 1 is recorded, 2 is a warning, 3 refuses.
fn strength(severity: Severity, mode: Mode) -> u8 {
    match (mode, severity) {
        (Mode::Audit, _) => 1,
        (Mode::Warn, _) | (Mode::Enforce, Severity::Warn) => 2,
        (Mode::Enforce, Severity::Deny) => 3,
    }
}

fn base(severity: Severity, policies: &Policies) -> Candidate {
    Candidate { severity, mode: policies.mode, says: None }
}

/// Returns the opinions of policies on a rule. Where not all policies could be read, no opinion
/// loosens anything.
fn opinions<'a>(rule: &Rule, policies: &'a Policies) -> impl Iterator<Item = &'a Limit<Weight>> {
    policies.rules.get(rule.id.as_str()).into_iter().flatten()
}

fn weight(limit: &Limit<Weight>) -> Option<Severity> {
    match limit.value {
        Weight::Ignore => None,
        Weight::Warn => Some(Severity::Warn),
        Weight::Deny => Some(Severity::Deny),
    }
}

fn spoken(rule: &Rule, limit: &Limit<Weight>, severity: Severity) -> Candidate {
    Candidate { severity, mode: limit.mode, says: Some(says(rule, limit)) }
}

fn says(rule: &Rule, limit: &Limit<Weight>) -> String {
    format!("{} says rules.{}: {:?}", limit.source, rule.id, limit.value)
}

/// Returns `own`, lowered to the strictest of the opinions below it. `None` where they ignore it.
fn lowered(rule: &Rule, own: Candidate, policies: &Policies) -> Option<Candidate> {
    if policies.unreadable.is_some() {
        return Some(own);
    }
    let below = opinions(rule, policies).filter(|limit| weight(limit) < Some(own.severity));
    match below.max_by_key(|limit| limit.value) {
        None => Some(own),
        Some(limit) => {
            let severity = weight(limit)?;
            Some(Candidate { severity, says: Some(says(rule, limit)), ..own })
        }
    }
}

/// Returns whether a repair lowers findings of this kind.
fn excusable(kind: Kind, facts: &Assessment<'_>) -> bool {
    match kind {
        Kind::Bound => false,
        Kind::Room => facts.members.known().is_some_and(|members| !members.is_empty()),
        Kind::Advisory | Kind::Calendar | Kind::Live => true,
    }
}

/// Returns the finding with this severity, as far as a repair and the mode allow it.
fn apply(
    rule: &Rule,
    mut finding: Finding,
    chosen: Candidate,
    facts: &Assessment<'_>,
    policies: &Policies,
) -> Finding {
    let built_in = finding.mode.is_none() && chosen.says.is_none();
    if chosen.severity != finding.severity || (chosen.says.is_some() && finding.mode.is_none()) {
        finding.severity = chosen.severity;
        finding.severity_reason = chosen.says.or(finding.severity_reason);
    }
    finding.mode = Some(chosen.mode);
    if let Some(repair) = facts.repair()
        && excusable(rule.kind, facts)
        && finding.standing != Standing::Unexcused
        && finding.severity == Severity::Deny
    {
        finding.severity = Severity::Warn;
        finding.severity_reason = Some(repair.reason().to_owned());
    }
    match (chosen.mode, finding.severity) {
        (Mode::Enforce, _) | (Mode::Warn, Severity::Warn) => {}
        (Mode::Warn, Severity::Deny) => {
            finding.severity = Severity::Warn;
            finding.severity_reason = Some(if built_in {
                let sources: Vec<String> =
                    policies.built_in.iter().map(|limit| limit.source.to_string()).collect();
                format!("not refused: built-in rules only warn here ({})", sources.join(", "))
            } else {
                "not refused: the policy is in mode Warn".to_owned()
            });
            finding.on_trial = true;
        }
        (Mode::Audit, severity) => {
            finding.audit_only = true;
            finding.on_trial = severity == Severity::Deny;
        }
    }
    finding
}

#[cfg(test)]
mod tests;
