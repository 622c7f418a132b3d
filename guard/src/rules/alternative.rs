//! The alternative: the count that would be admitted where the requested one is refused.

use std::collections::BTreeSet;

use crate::assessment::Assessment;
use crate::change::{Change, Direction};
use crate::facts::{Facts, Seen};
use crate::policy::Policies;
use crate::remedy::Remedy;
use crate::rule_id::RuleId;
use crate::rules::{down, inside_asking, judge, pgscale, set_count};
use crate::verdict::{Severity, Verdict};

/// The distance above the requested count within which every other count is tried.
const NEAR: i64 = 20;

/// The number of counts that are tried.
const TRIES: usize = 64;

/// The rules whose remedy may be another count, or another leader first.
const SEARCHED: &[RuleId] = &[
    RuleId::LEADER_CANNOT_MOVE,
    RuleId::LEADER_CONDEMNED,
    RuleId::PARALLEL_SHRINK,
    RuleId::PAUSED,
    RuleId::REPLACE_PENDING,
    RuleId::SYNC_STANDBYS_CONDEMNED,
    RuleId::TOO_FEW_HEALTHY_SURVIVORS,
    RuleId::WILL_NOT_PROGRESS,
];

/// A shrink that would be admitted now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alternative {
    /// The number of instances to ask for.
    pub to: i64,
    /// The member that has to lead first, where the change would delete the leader's pod.
    pub leader: Option<String>,
}

/// Returns the smallest count, from the requested one upwards, that every rule admits, with the
/// leader moved to the best survivor where it has to move.
///
/// `None` where the change neither is a shrink to at least one instance nor deletes the leader, or
/// no such count exists.
pub fn alternative(facts: &Facts, policies: &Policies) -> Option<Alternative> {
    let old = facts.change.old.as_ref()?;
    let shrinks = facts.direction() == Direction::Down;
    if !(shrinks || facts.deletes_leader()) || facts.to() < 1 {
        return None;
    }
    let beyond = facts.all_members().iter().map(|member| member.ordinal.saturating_add(1)).max()?;
    let highest = if shrinks { beyond.min(facts.from()?.saturating_sub(1)) } else { beyond };
    candidates(facts, highest).find_map(|to| {
        let mut there = facts.clone();
        // Only the previous count is an undo: any other count is held to the calendar.
        let undo = facts.change.undo && to == facts.to();
        there.change = Change { dry_run: true, undo, ..Change::of_count(old.clone(), to) };
        // The operator's limits may turn it into another count than the written one.
        if there.to() != to || (shrinks && there.direction() != Direction::Down) {
            return None;
        }
        let leader = if there.leader_condemned() {
            // Two switchovers at a time are one too many: it would be a matter of luck which one
            // Patroni does.
            if there.failover != Seen::Absent {
                return None;
            }
            let leader = Assessment::of(&there, policies).best_survivor()?.name.clone();
            there = there.led_by(&leader);
            Some(leader)
        } else {
            None
        };
        judge(&there, policies).allows().then_some(Alternative { to, leader })
    })
}

/// Returns the counts that are tried, in order: the next ones, and those that keep one pod more.
///
/// Counts and ordinals may be as high as an int32 goes, and each try judges the whole change. So no
/// more than [`TRIES`] are made.
fn candidates(facts: &Facts, highest: i64) -> impl Iterator<Item = i64> {
    let to = facts.to();
    let near = to..=to.saturating_add(NEAR).min(highest);
    let keeping = facts.all_members().iter().map(|member| member.ordinal.saturating_add(1));
    let counts: BTreeSet<i64> =
        near.chain(keeping.filter(|count| (to..=highest).contains(count))).collect();
    counts.into_iter().take(TRIES)
}

/// Adds the alternative to the denials that another count, or another leader, would lift.
pub(super) fn show(verdict: &mut Verdict, facts: &Facts, policies: &Policies) {
    let denied = |rule: RuleId, severity| severity == Severity::Deny && SEARCHED.contains(&rule);
    if !verdict.findings.iter().any(|finding| denied(finding.rule, finding.severity)) {
        return;
    }
    let Some(way) = alternative(facts, policies) else { return };
    let shrinks = facts.from().is_some_and(|from| way.to < from);
    let command = if shrinks { down(facts, way.to) } else { set_count(facts, way.to) };
    let other = (way.to != facts.to()).then(|| format!("not {}, but {}", facts.to(), way.to));
    let moves =
        way.leader.as_ref().map(|leader| format!("this moves the leader to {leader} first"));
    let why: Vec<String> = other.into_iter().chain(moves).collect();
    let remedy =
        if why.is_empty() { Remedy::run(command) } else { Remedy::to(why.join("; "), command) };
    for finding in &mut verdict.findings {
        if !denied(finding.rule, finding.severity) {
            continue;
        }
        finding.remedy = Some(match &way.leader {
            Some(leader) if finding.rule == RuleId::LEADER_CONDEMNED && way.to == facts.to() => {
                move_first(facts, leader)
            }
            _ => remedy.clone(),
        });
    }
}

/// Returns the command that moves the leader off the removed ordinals, once with the plugin and
/// once without it.
fn move_first(facts: &Facts, candidate: &str) -> Remedy {
    let name = &facts.change.new.name;
    let switchover = ["patronictl", "switchover", name, "--candidate", candidate];
    let count = facts.to().to_string();
    Remedy::to(
        "move the leader first, then repeat the change",
        pgscale(facts, "switchover", &["--for", &count]),
    )
    .or_to("without the plugin", inside_asking(facts, &switchover))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::testing::{healthy, led_by_the_last};

    #[test]
    fn search_ends_for_the_highest_count_and_ordinal() {
        // One pod with the highest possible ordinal leads, and no other member can take over from
        // it.
        let far = i64::from(i32::MAX) - 1;
        let alone = healthy(1, 2).with_member(0, |member| {
            member.ordinal = far;
            member.name = format!("acid-a-{far}");
        });
        let grows = alone.clone().led_by(&format!("acid-a-{far}"));
        assert!(grows.deletes_leader());
        assert_eq!(alternative(&grows, &Policies::default()).map(|way| way.to), Some(far + 1));
        // While Patroni is paused, no count of the thousand millions between is admitted either.
        let stuck = led_by_the_last(1).stalled([0, 1, 2, 3]).with_count(i64::from(i32::MAX), 1);
        assert_eq!(alternative(&stuck, &Policies::default()).map(|way| way.to), Some(5));
        assert!(candidates(&grows, far + 1).count() <= TRIES);
    }
}
