//! The verdict on a change without the cluster: what the written objects, the policies and the
//! operator's settings say alone.
//!
//! A fact that was not read is neither a refusal nor a permission here. Each rule that needs one is
//! named, with the reason.

use k8s_openapi::jiff::Timestamp;

use crate::assessment::Assessment;
use crate::change::Change;
use crate::facts::{Facts, Seen};
use crate::operator::Operator;
use crate::policy::Policies;
use crate::postgresql::Postgresql;
use crate::rule_id::RuleId;
use crate::rules::early::{BY_THE_OPERATOR, BY_THE_WRITTEN_COUNT, partly_read, refusable_unseen};
use crate::rules::judge::judge_by;
use crate::rules::{RULES, Read, Reads, Rule, passing};
use crate::verdict::{Outcome, Verdict};

/// The reason for which a fact of the cluster is not known.
const WHY: &str = "the cluster was not read";

/// The reason for which the count is not known that the same written count leads to.
const LIMITS: &str = "the operator's limits were not read, and the count depends on those alone";

/// The verdict on a change of which nothing live was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Offline {
    /// The facts that it rests on: the change, and perhaps the operator.
    pub facts: Facts,
    /// The findings of the rules that could be judged. They suggest no other count, because the
    /// other rules have judged none.
    pub verdict: Verdict,
    /// The rules that look at such a change and could not be judged, each with the reason.
    pub not_judged: Vec<(RuleId, String)>,
    /// The rules whose refusal no live fact lifts. Only an override does.
    pub certain: Vec<RuleId>,
}

/// Judges a change by everything that is known without the cluster.
///
/// Without `operator` its limits are not known, and the written counts are judged. The rules on the
/// pace and the times of changes may refuse here what is only warned about in a cluster that the
/// change repairs.
pub fn judge_offline(
    change: Change,
    now: Timestamp,
    policies: &Policies,
    operator: Option<&Operator>,
) -> Offline {
    let moved = change.old.as_ref().is_some_and(|old| old.controller() != change.new.controller());
    let mut facts = Facts::unread(change, now).only(Reads::NONE, WHY);
    if let Some(operator) = operator {
        facts.operator = Seen::Known(operator.clone());
    }
    if moved {
        facts.operator_before = Some(Box::new(Seen::Unreadable(WHY.to_owned())));
    }
    let available = Reads::of(&[Read::Policies, Read::Operator]);
    let mut verdict = judge_by(&facts, policies, available);
    passing::suggest_no_count(&mut verdict);

    let looks = |id: &RuleId| {
        let rule = RULES.iter().find(|rule| rule.id == *id);
        rule.is_some_and(|rule| rule.applies.includes(&Assessment::of(&facts, policies)))
    };
    // What other clusters have is known to no manifest, and matters only where a policy adds it up.
    let budget = |rule: &&Rule| {
        let none = policies.budget.limits.is_empty() && policies.unreadable.is_none();
        rule.id != RuleId::NAMESPACE_BUDGET || !none
    };
    let unread = RULES.iter().filter(|rule| !available.covers(rule.needs(&facts))).filter(budget);
    let unread = unread.map(|rule| rule.id).filter(looks).map(|id| (id, WHY.to_owned()));
    let unknown = verdict.results.iter().filter_map(|result| match &result.outcome {
        Outcome::Unknown(why) | Outcome::Unsaid { why, .. } => Some((result.rule, why.clone())),
        Outcome::NotApplicable | Outcome::Pass | Outcome::Found(_) => None,
    });
    // Annotations switch those limits, so the same written count may be another one that runs.
    let written = |cluster: &Postgresql| cluster.instances.unwrap_or(0);
    let same = facts.change.old.as_ref().map(written) == Some(written(&facts.change.new));
    let doubtful = verdict
        .results
        .iter()
        .filter(|result| operator.is_none() && same && matches!(result.outcome, Outcome::Found(_)));
    let doubtful = doubtful.map(|result| (result.rule, LIMITS.to_owned()));
    // Only the cluster's own object has a status. A manifest without one says nothing about it.
    let unsaid = facts.change.old.as_ref().is_some_and(|old| old.status.is_none());
    let unsaid = Some(RuleId::OPERATOR_FAILED).filter(|id| unsaid && looks(id));
    let unsaid = unsaid.map(|id| (id, WHY.to_owned()));
    let mut not_judged: Vec<(RuleId, String)> =
        unread.chain(unknown).chain(doubtful).chain(unsaid).collect();
    not_judged.sort_by_key(|(id, _)| RULES.iter().position(|rule| rule.id == *id));
    verdict.findings.retain(|finding| not_judged.iter().all(|(id, _)| *id != finding.rule));

    let mut certain = Vec::new();
    let clear = facts.change.old.is_none() || refusable_unseen(&facts.change);
    if clear && !partly_read(policies) {
        let bounds = if operator.is_some() { BY_THE_OPERATOR } else { BY_THE_WRITTEN_COUNT };
        let refusing = verdict.denials().map(|finding| finding.rule);
        certain = refusing.filter(|rule| bounds.contains(rule)).collect();
    }
    Offline { facts, verdict, not_judged, certain }
}

#[cfg(test)]
mod tests;
