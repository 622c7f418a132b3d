//! The remedies that pass: no finding suggests a count that would be refused itself.

use std::collections::BTreeMap;

use crate::change::Change;
use crate::facts::Facts;
use crate::policy::Policies;
use crate::remedy::Remedy;
use crate::rules::{after_switchover, judge, status};
use crate::verdict::Verdict;

/// Removes the commands from the remedies whose count would not be admitted now.
///
/// Each command is written by one rule, which does not know the outcome of the other rules for that
/// count.
pub(super) fn keep(verdict: &mut Verdict, facts: &Facts, policies: &Policies) {
    // One verdict suggests few counts: most rules name the same one.
    let mut known: BTreeMap<i64, bool> = BTreeMap::new();
    for remedy in verdict.findings.iter_mut().filter_map(|finding| finding.remedy.as_mut()) {
        let before = remedy.commands.len();
        remedy.commands.retain(|suggested| {
            suggested.command.count().is_none_or(|count| {
                *known.entry(count).or_insert_with(|| admitted(count, facts, policies))
            })
        });
        let fewer = remedy.commands.len() < before;
        if fewer && remedy.commands.is_empty() && remedy.note.is_none() {
            *remedy = Remedy::to("no count that helps is admitted now; see why", status(facts));
        }
    }
}

/// Removes every command that asks for a count from the remedies: it is not known whether that
/// count would be admitted.
pub(super) fn suggest_no_count(verdict: &mut Verdict) {
    for finding in &mut verdict.findings {
        let Some(remedy) = &mut finding.remedy else { continue };
        remedy.commands.retain(|suggested| suggested.command.count().is_none());
        if remedy.commands.is_empty() && remedy.note.is_none() {
            finding.remedy = None;
        }
    }
}

/// Returns whether `kubectl pgscale` could go to `count`: every rule admits it, with the leader
/// moved first where it has to move.
fn admitted(count: i64, facts: &Facts, policies: &Policies) -> bool {
    // Where there is no cluster yet, no command of pgscale creates it.
    let Some(old) = facts.change.old.clone() else { return true };
    // The field is an int32: no command of pgscale can ask for more.
    if i32::try_from(count).is_err() {
        return false;
    }
    let mut there = facts.clone();
    there.change = Change { dry_run: true, ..Change::of_count(old, count) };
    judge(&after_switchover(&there, policies), policies).allows()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate;
    use crate::policy::{Limit, Mode};
    use crate::remedy::Line;
    use crate::rules::testing::healthy;

    fn limit(value: i64) -> Limit<i64> {
        Limit { value, source: crate::object_ref::ObjectRef::policy("a"), mode: Mode::Enforce }
    }

    #[test]
    fn count_that_another_rule_refuses_is_not_suggested() {
        // Two at a time would be 3, and 4 is the minimum.
        let policies = Policies { step_down: vec![limit(2)], ..Policies::default() };
        let facts = healthy(5, 2);
        let step = |policies: &Policies| {
            let verdict = evaluate(&facts, policies);
            verdict.finding("step-too-large").unwrap().remedy.clone().unwrap().lines()
        };
        let command = |words: &str| Line::Command(format!("kubectl pgscale {words} -n db"));
        assert_eq!(step(&policies).last(), Some(&command("set acid-a 3")));
        let bounded = Policies { min: vec![limit(4)], ..policies };
        assert_eq!(step(&bounded).last(), Some(&command("status acid-a")));
    }
}
