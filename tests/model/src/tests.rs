//! What the search holds true, and what it finds where a mistake is put in.

use pgscale_guard::policy::Policies;
use pgscale_guard::{RuleId, evaluate};

use crate::check::{Alone, Broken, Found, check};
use crate::explore::{Numbered, can_reach};
use crate::run::{Extent, run};
use crate::seen::{Patterns, facts_of};
use crate::setup::{Bound, Kinds, Mistake, Setup};
use crate::state::{Fault, State};

/// One commit and one change of up to three members, with one of each of these faults.
fn with(faults: &[Fault]) -> Bound {
    let count = u8::try_from(faults.len()).unwrap();
    Bound { commits: 1, faults: count, writes: 1, most: 3, kinds: Kinds::of(faults) }
}

fn found(setup: Setup, faults: &[Fault]) -> Found {
    let bound = with(faults);
    check(&setup, &bound, &Alone::search(&setup, &bound))
}

/// Checks that the search finds `broken` where the mistake is put in, and nothing without it.
fn finds(mistake: Mistake, broken: Broken, faults: &[Fault], setup: Setup) {
    let sound = found(setup, faults);
    assert!(sound.broken.is_empty(), "without a mistake: {:?}", sound.violations.first());
    let mistaken = found(Setup { mistake: Some(mistake), ..setup }, faults);
    assert!(mistaken.broken.contains_key(&broken), "{mistake:?}: only {:?}", mistaken.broken);
}

/// Three members, led by the last, where the platform leaves the leader to the operator.
fn lowered() -> Setup {
    Setup { leader_lowered: true, ..Setup::new(3, 2) }
}

#[test]
fn small_search_breaks_no_rule_and_admits_changes() {
    let summary = run(Extent::Small);
    assert!(summary.holds(), "{summary}");
    assert!(summary.exhaustive.admitted > 1000, "{summary}");
    assert!(summary.exhaustive.admitted < summary.exhaustive.verdicts, "{summary}");
    // What no admission can prevent is seen: a failover that lands on a removed ordinal.
    assert!(summary.exhaustive.landed > 0 && summary.random.landed > 0, "{summary}");
}

#[test]
fn first_state_of_a_run_looks_healthy_to_the_rules() {
    for (leader, to) in [(0, 2), (1, 2), (0, 4)] {
        for synchronous in [false, true] {
            let setup = Setup { synchronous, ..Setup::new(3, leader) };
            let facts = facts_of(&Patterns::new(), &State::first(&setup), &setup, to);
            let verdict = evaluate(&facts, &Policies::default());
            assert!(verdict.allows(), "{leader} leads, to {to}: {:?}", verdict.findings);
        }
    }
}

#[test]
fn deleted_volumes_at_zero_are_found() {
    let setup = Setup { zero_allowed: true, deletes_volumes: true, ..Setup::new(3, 0) };
    finds(Mistake::Without(RuleId::VOLUMES_DELETED), Broken::CommitLost, &[], setup);
}

#[test]
fn strangers_annotation_that_replaces_the_stateful_set_is_found() {
    let setup = Setup { replaced: true, ..lowered() };
    finds(Mistake::StrangersUnseen, Broken::LeaderDeleted, &[], setup);
}

#[test]
fn operator_that_cannot_reach_patroni_is_found_where_the_leader_is_left_to_it() {
    let setup = Setup { unreachable: true, ..Setup::new(3, 2) };
    finds(Mistake::Without(RuleId::LEADER_CONDEMNED), Broken::LeaderDeleted, &[], setup);
    // No fact tells of it. So the rules that judge the operator's own switchover cannot refuse it.
    let left_to_it = found(Setup { leader_lowered: true, ..setup }, &[]);
    assert!(left_to_it.broken.contains_key(&Broken::LeaderDeleted), "{:?}", left_to_it.broken);
}

#[test]
fn act_that_comes_after_the_survivors_have_stalled_is_found() {
    let late = found(lowered(), &[Fault::Stalls(0)]);
    assert!(late.broken.contains_key(&Broken::CostsMore), "{:?}", late.broken);
    let refused = found(Setup::new(3, 2), &[Fault::Stalls(0)]);
    assert!(refused.broken.is_empty(), "{:?}", refused.violations.first());
}

#[test]
fn leader_that_goes_with_its_volume_is_found() {
    let setup = Setup { deletes_volumes: true, unreachable: true, ..lowered() };
    finds(Mistake::Without(RuleId::VOLUMES_DELETED), Broken::LeaderDeleted, &[], setup);
}

#[test]
fn start_from_zero_while_patroni_is_paused_is_found() {
    let setup = Setup { from_zero: true, zero_allowed: true, ..Setup::new(3, 0) };
    finds(Mistake::Without(RuleId::PAUSED), Broken::NeverLed, &[Fault::Paused], setup);
}

#[test]
fn volume_of_the_last_leader_that_is_left_out_is_found() {
    let setup = Setup { from_zero: true, zero_allowed: true, ..Setup::new(3, 2) };
    finds(Mistake::Without(RuleId::RETURN_FROM_ZERO), Broken::CommitLost, &[], setup);
}

#[test]
fn barred_member_that_passes_for_fit_is_found() {
    finds(
        Mistake::TagsUnread,
        Broken::LeaderlessAfterFault,
        &[Fault::Barred(0), Fault::NodeLost(0)],
        Setup::new(3, 0),
    );
}

#[test]
fn answer_of_another_member_is_found() {
    finds(
        Mistake::AnswersMixedUp,
        Broken::LeaderlessAfterFault,
        &[Fault::Freezes(0), Fault::NodeLost(0)],
        Setup::new(3, 0),
    );
}

#[test]
fn survivors_that_are_not_counted_are_found() {
    let mistake = Mistake::Without(RuleId::TOO_FEW_HEALTHY_SURVIVORS);
    finds(
        mistake,
        Broken::LeaderlessAfterFault,
        &[Fault::Freezes(0), Fault::NodeLost(0)],
        Setup::new(3, 0),
    );
}

#[test]
fn count_that_follows_a_scaled_stateful_set_is_found() {
    finds(
        Mistake::StatefulSetsCountPasses,
        Broken::LeaderDeleted,
        &[Fault::Scaled(0)],
        Setup::new(3, 2),
    );
}

#[test]
fn rescue_that_is_refused_is_found() {
    let setup = Setup { from_zero: true, zero_allowed: true, ..Setup::new(3, 2) };
    finds(Mistake::WarningsRefuse, Broken::NoWayBack, &[], setup);
}

#[test]
fn numbers_of_states_stay_theirs_while_the_table_grows() {
    let mut numbered = Numbered::new();
    for value in 0..5000_u32 {
        assert_eq!(numbered.number(value), (value, true));
    }
    for value in 0..5000_u32 {
        assert_eq!((numbered.number(value), numbered.get(value)), ((value, false), value));
    }
}

#[test]
fn search_back_follows_edges_against_their_direction() {
    let edges = [(0, 1), (1, 2), (3, 0), (2, 4), (5, 5)];
    assert_eq!(can_reach(6, &edges, [2]), [true, true, true, true, false, false]);
}
