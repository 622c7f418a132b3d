//! The remedies that pass: no finding suggests a count that would be refused itself.

use std::collections::BTreeMap;

use crate::change::Change;
use crate::facts::Facts;
use crate::policy::Policies;
use crate::remedy::{Remedy, Suggested};
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
        if !fewer || remedy.note.is_some() {
            continue;
        }
        // What is left may delete a volume, and was the second way: first comes a look.
        let deletes = |it: &Suggested| it.command.argv.iter().any(|word| word == "delete");
        if remedy.commands.first().is_none_or(deletes) {
            let look = Remedy::to("no count that helps is admitted now; see why", status(facts));
            remedy.commands.splice(0..0, look.commands);
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
    fn volume_is_never_deleted_first_because_no_count_mounts_it() {
        let mut facts = healthy(0, 1);
        facts.leader = crate::facts::Seen::Absent;
        facts.claims = crate::facts::Seen::Known(
            (0..2)
                .map(|ordinal| crate::facts::Claim {
                    name: format!("pgdata-acid-a-{ordinal}"),
                    ordinal,
                    ..crate::facts::Claim::default()
                })
                .collect(),
        );
        let commands = |policies: &Policies| {
            let verdict = evaluate(&facts, policies);
            let remedy = verdict.finding("return-from-zero").unwrap().remedy.clone().unwrap();
            let words = remedy.commands.iter().map(|it| it.command.argv[1..3].join(" "));
            words.collect::<Vec<_>>()
        };
        assert_eq!(commands(&Policies::default()), ["pgscale set", "delete pvc"]);
        let one = Policies { max: vec![limit(1)], ..Policies::default() };
        assert_eq!(commands(&one), ["pgscale status", "delete pvc"]);
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
