//! The refusals that no live state can change: they are certain before anything of the cluster is read.
//!
//! Five rules judge by policies and by the operator's settings alone, and no repair excuses them
//! ([`Kind::Bound`]). Every other rule yields to some live fact, so none of them refuses here. Three of the
//! five judge the written count as well, and so need no operator either.
//!
//! [`Kind::Bound`]: crate::rules::Kind::Bound

use k8s_openapi::jiff::Timestamp;

use crate::change::Change;
use crate::facts::{Facts, Seen};
use crate::operator::Operator;
use crate::policy::Policies;
use crate::postgresql::Postgresql;
use crate::rule_id::RuleId;
use crate::rules::judge::judge_these;
use crate::rules::pgscale;
use crate::verdict::{Outcome, Verdict};

/// The rules that refuse a written count whatever the operator's limits are.
pub(super) const BY_THE_WRITTEN_COUNT: &[RuleId] =
    &[RuleId::BELOW_MIN, RuleId::ABOVE_MAX, RuleId::OUTSIDE_FLOOR];

/// The rules that refuse before anything live is read, where the operator is known.
pub(super) const BY_THE_OPERATOR: &[RuleId] = &[
    RuleId::BELOW_MIN,
    RuleId::ABOVE_MAX,
    RuleId::OUTSIDE_FLOOR,
    RuleId::SCALE_TO_ZERO,
    RuleId::OPERATOR_LIMITS,
];

/// Returns whether [`refused_unseen`] may refuse the change, by the change alone.
pub fn refusable_unseen(change: &Change) -> bool {
    let written = |cluster: &Postgresql| cluster.instances.unwrap_or(0);
    change.old.as_ref().is_some_and(|old| {
        old.controller() == change.new.controller() && written(old) != written(&change.new)
    })
}

/// Returns the verdict on a change that [`evaluate`] refuses whatever the live state of the cluster is,
/// with the facts that it rests on. `None` where that is not certain.
///
/// Without `operator`, the verdict holds for every operator. It suggests plans and no change, because no
/// other rule has judged the counts in it. A cluster that is being created is not refused here: the
/// refusal may leave a deleted cluster deleted, and has to say what is left.
///
/// [`evaluate`]: crate::rules::evaluate
pub fn refused_unseen(
    change: &Change,
    now: Timestamp,
    policies: &Policies,
    operator: Option<&Operator>,
) -> Option<(Facts, Verdict)> {
    if !refusable_unseen(change) || partly_read(policies) {
        return None;
    }
    let mut facts = Facts::unread(change.clone(), now);
    let mut certain = BY_THE_WRITTEN_COUNT;
    if let Some(operator) = operator {
        facts.operator = Seen::Known(operator.clone());
        certain = BY_THE_OPERATOR;
    }
    let mut verdict = judge_these(&facts, policies, certain);
    verdict.results.retain(|result| matches!(result.outcome, Outcome::Found(_)));
    let found: Vec<RuleId> = verdict.results.iter().map(|result| result.rule).collect();
    verdict.findings.retain(|finding| found.contains(&finding.rule));
    if verdict.allows() {
        return None;
    }
    only_plan(&mut verdict, &facts);
    Some((facts, verdict))
}

/// Returns whether a policy could not be read. It may be the one that allows the change.
pub(super) fn partly_read(policies: &Policies) -> bool {
    let before = policies.by_old_labels.as_deref();
    [Some(policies), before].into_iter().flatten().any(|it| it.unreadable.is_some())
}

/// Puts the plan for a count in place of each command that asks for it.
fn only_plan(verdict: &mut Verdict, facts: &Facts) {
    let remedies = verdict.findings.iter_mut().filter_map(|finding| finding.remedy.as_mut());
    for suggested in remedies.flat_map(|remedy| &mut remedy.commands) {
        if let Some(count) = suggested.command.count() {
            suggested.command = pgscale(facts, "plan", &["--to", &count.to_string()]);
        }
    }
}

#[cfg(test)]
mod tests;
