//! The allowed counts that are nearest to a refused one.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use pgscale_guard::remedy::Remedy;
use pgscale_guard::{Change, Facts, Policies};

use super::{Plan, judge};

/// The distance from the present and from the requested count within which every count is tried.
const NEAR: i64 = 50;

/// Counts in the requested direction, so that a request for more is never answered with less. Never
/// 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Nearest {
    /// The nearest count that changes less than the requested one.
    pub(crate) short: Option<i64>,
    /// The nearest count beyond the requested one.
    pub(crate) beyond: Option<i64>,
}

impl Nearest {
    /// Returns both counts, the one that changes less first.
    pub(crate) fn counts(&self) -> impl Iterator<Item = i64> {
        self.short.into_iter().chain(self.beyond)
    }

    /// Returns the commands that ask for them instead of `plan`. Without any, returns the command
    /// that names the problem.
    pub(super) fn remedy(&self, plan: &Plan) -> Remedy {
        let counts: Vec<String> = self.counts().map(|count| count.to_string()).collect();
        if counts.is_empty() {
            let why = plan.command("status", &["--why"]);
            return Remedy::note("none").or_to("what is wrong with the cluster", why);
        }
        let present = plan.declared.unwrap_or(plan.from);
        self.counts().fold(Remedy::note(counts.join(", or ")), |remedy, count| {
            let verb = if count < present { "down" } else { "up" };
            remedy.or(plan.command(verb, &["--to", &count.to_string()]))
        })
    }

    /// Searches them. Every count is judged as a plan of its own, because a neighbour of an allowed
    /// count need not be allowed.
    pub(super) fn of(facts: &Facts, policies: &Policies) -> Self {
        let (Some(old), Some(from)) = (&facts.change.old, facts.from()) else {
            return Self::default();
        };
        let count = facts.requested();
        let allowed = |candidate: &&i64| {
            let mut other = facts.clone();
            other.change =
                Change { undo: facts.change.undo, ..Change::of_count(old.clone(), **candidate) };
            other.direction() == facts.direction() && judge(&other, policies, None).1.allows()
        };
        let counts = candidates(facts, policies, from, count);
        let counts: BTreeSet<i64> =
            counts.into_iter().filter(|other| Some(*other) != old.instances).collect();
        let below = counts.range(..count).rev().find(allowed).copied();
        let above = counts.range(count.saturating_add(1)..).find(allowed).copied();
        if count < from {
            Self { short: above, beyond: below }
        } else {
            Self { short: below, beyond: above }
        }
    }
}

/// Returns the counts to try: all counts around the two, the bounds of policies and of the
/// operator, and the ends of the members and of the volumes.
fn candidates(facts: &Facts, policies: &Policies, from: i64, count: i64) -> BTreeSet<i64> {
    let around = |centre: i64| -> RangeInclusive<i64> {
        centre.saturating_sub(NEAR)..=centre.saturating_add(NEAR)
    };
    let bounds = policies.bounds();
    let down = policies.step_down.iter().map(|step| from.saturating_sub(step.value));
    let up = policies.step_up.iter().map(|step| from.saturating_add(step.value));
    let settings = facts.operator.known().map(|operator| &operator.settings);
    let limits = settings.into_iter().flat_map(|it| [it.min_instances, it.max_instances]);
    let members = facts.all_members().iter().map(|member| member.ordinal);
    let claims = facts.claims.known().into_iter().flatten().map(|claim| claim.ordinal);
    let ends = members.chain(claims).map(|ordinal| ordinal.saturating_add(1));
    around(count)
        .chain(around(from))
        .chain(bounds)
        .chain(down)
        .chain(up)
        .chain(limits)
        .chain(ends)
        .filter(|count| (1..=i64::from(i32::MAX)).contains(count))
        .collect()
}

#[cfg(test)]
mod tests {
    use pgscale_guard::Seen;
    use pgscale_guard::facts::Claim;
    use pgscale_guard::policy::{Limit, Mode};
    use pgscale_guard::remedy::{Line, Reach};

    use super::*;
    use crate::testing::{facts, stalled};

    fn nearest(facts: &Facts, policies: &Policies) -> (Option<i64>, Option<i64>) {
        let Nearest { short, beyond } = Nearest::of(facts, policies);
        (short, beyond)
    }

    #[test]
    fn alternative_is_the_nearest_in_the_requested_direction() {
        let none = Policies::default();
        let limit = |value| Limit {
            value,
            source: pgscale_guard::object_ref::ObjectRef::policy("p"),
            mode: Mode::Enforce,
        };
        // 0 and 1 are stalled: 4 keeps two that are not.
        assert_eq!(nearest(&stalled(stalled(facts(5, 2, 4), 0), 1), &none), (Some(4), None));
        // A policy's bound far from both counts.
        let mut served = facts(3, 5000, 0);
        if let Seen::Known(configuration) = &mut served.configuration {
            configuration.max_wal_senders = 9999;
            configuration.max_replication_slots = 9999;
        }
        let max = Policies { max: vec![limit(700)], ..none.clone() };
        assert_eq!(nearest(&served, &max), (Some(700), None));
        let step = Policies { step_down: vec![limit(1)], ..none.clone() };
        assert_eq!(nearest(&facts(5, 2, 0), &step), (Some(4), None));
        // Growth ends at the number of replicas that the leader can serve.
        assert_eq!(nearest(&facts(3, 5000, 0), &none), (Some(11), None));
    }

    #[test]
    fn alternatives_outside_both_counts_are_found() {
        let mut asleep = facts(0, 1, 0);
        asleep.leader = Seen::Absent;
        asleep.last_leader = Seen::Known("acid-a-2".into());
        let claim = |ordinal| Claim {
            name: format!("pgdata-acid-a-{ordinal}"),
            ordinal,
            ..Claim::default()
        };
        asleep.claims = Seen::Known((0..3).map(claim).collect());
        // Between 0 and 1 there is nothing, and 3 mounts the volume of the last leader.
        assert_eq!(nearest(&asleep, &Policies::default()), (None, Some(3)));
    }

    #[test]
    fn alternative_is_missing_where_no_count_is_allowed() {
        let policies = Policies::unreadable("scalepolicies is forbidden");
        assert_eq!(nearest(&facts(3, 2, 0), &policies), (None, None));
    }

    #[test]
    fn next_commands_carry_the_flags_of_the_caller() {
        let reach = Reach {
            kubectl: vec!["--context=c".to_owned()],
            pgscale: vec!["--operator=a/b".to_owned()],
        };
        let next = |facts: &Facts| {
            let plan = Plan::of(facts, &Policies::default()).reached_by(&reach);
            plan.next().map(|next| next.lines())
        };
        let command = |words: &str| {
            Line::Command(format!("kubectl pgscale {words} -n db --context=c --operator=a/b"))
        };
        let refused = stalled(stalled(facts(5, 2, 4), 0), 1);
        let counts = vec![Line::Text("4".to_owned()), command("down acid-a --to 4")];
        assert_eq!(next(&refused), Some(counts));
        assert_eq!(next(&facts(5, 3, 4)), Some(vec![command("switchover acid-a --for 3")]));
        assert_eq!(next(&facts(5, 3, 0)), None);
    }
}
