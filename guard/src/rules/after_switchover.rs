//! A change as it is judged after the leader has moved out of its way.
//!
//! `kubectl pgscale down` moves the leader before it lowers the count. Before it touches the
//! leader, it must know that the write will pass every rule and every other webhook. So it sends
//! the write as a server-side dry run. Judged with the present leader, that dry run would be
//! refused because of the leader, which is about to change.

use std::borrow::Cow;

use crate::assessment::Assessment;
use crate::facts::Facts;
use crate::policy::Policies;

/// The field manager of a dry run that asks for the verdict after a switchover.
///
/// It means nothing for a write that is stored: there no program has made sure that the leader
/// moved.
pub const AFTER_SWITCHOVER: &str = "pgscale-after-switchover";

/// Returns the facts after a switchover to the best survivor, where the change would delete the
/// leader's pod.
///
/// The facts stay as they are where the leader's pod stays, at 0 instances, and where no survivor
/// is fit to lead by Patroni and `policies`. The change is then judged with the leader that it
/// would delete.
pub fn after_switchover<'a>(facts: &'a Facts, policies: &Policies) -> Cow<'a, Facts> {
    if !facts.deletes_leader() {
        return Cow::Borrowed(facts);
    }
    match Assessment::of(facts, policies).best_survivor() {
        Some(best) => Cow::Owned(facts.led_by(&best.name)),
        None => Cow::Borrowed(facts),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::Seen;
    use crate::policy::{Limit, Mode};
    use crate::rules::evaluate;
    use crate::rules::testing::{healthy, led_by_the_last};

    fn leader(facts: &Facts, policies: &Policies) -> Option<String> {
        after_switchover(facts, policies).leader_name().map(str::to_owned)
    }

    #[test]
    fn the_leader_moves_to_the_best_survivor_only_where_its_pod_would_be_deleted() {
        let none = Policies::default();
        let mut leaderless = led_by_the_last(3);
        leaderless.leader = Seen::Absent;
        for (name, facts, want) in [
            ("it goes", led_by_the_last(3), Some("acid-a-0")),
            ("-0 is not fit", led_by_the_last(3).nofailover(0), Some("acid-a-1")),
            ("none is fit", led_by_the_last(2).stalled([0, 1]), Some("acid-a-4")),
            ("it stays", healthy(5, 3), Some("acid-a-0")),
            ("no member stays", led_by_the_last(0), Some("acid-a-4")),
            ("the count grows", healthy(5, 7).with_leader(4), Some("acid-a-4")),
            ("no member leads", leaderless, None),
        ] {
            assert_eq!(leader(&facts, &none).as_deref(), want, "{name}");
        }
    }

    #[test]
    fn the_lag_that_a_policy_allows_chooses_the_leader() {
        let lagging = led_by_the_last(3).with_answer(0, |answer| answer.replayed = Some(900));
        let limit = Limit {
            value: 50,
            source: crate::object_ref::ObjectRef::policy("p"),
            mode: Mode::Enforce,
        };
        let strict = Policies { max_lag: vec![limit], ..Policies::default() };
        assert_eq!(leader(&lagging, &Policies::default()).as_deref(), Some("acid-a-0"));
        assert_eq!(leader(&lagging, &strict).as_deref(), Some("acid-a-1"));
    }

    #[test]
    fn danger_that_outlasts_the_switchover_is_still_refused() {
        let none = Policies::default();
        let judged = |facts: &Facts| evaluate(&after_switchover(facts, &none), &none);
        assert!(judged(&led_by_the_last(3).nofailover(0)).allows());
        let verdict = judged(&led_by_the_last(3).stalled([0, 1]));
        let rules: Vec<&str> = verdict.denials().map(|denial| denial.rule.as_str()).collect();
        assert_eq!(rules, ["too-few-healthy-survivors"]);
    }
}
