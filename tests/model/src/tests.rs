//! What the search holds true, and what it finds where a mistake is put in.

use pgscale_guard::policy::Policies;
use pgscale_guard::{RuleId, evaluate};

use crate::check::{Alone, Broken, Found, broken, check};
use crate::explore::{Numbered, can_reach};
use crate::judge::Guard;
use crate::run::{Extent, run, run_with};
use crate::seen::{Patterns, facts_of};
use crate::setup::{Bound, Kinds, Mistake, Setup};
use crate::state::{Fault, Operator, State};
use crate::step::{self, Step};

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
fn new_member_in_another_store_is_found() {
    let mistake = Mistake::Without(RuleId::DCS_STORE_CHANGING);
    let grows = Setup { store_moves: true, ..Setup::new(1, 0) };
    finds(mistake, Broken::CommitLost, &[], grows);
    let returns = Setup { from_zero: true, zero_allowed: true, ..Setup::new(3, 0) };
    finds(mistake, Broken::CommitLost, &[], Setup { store_moves: true, ..returns });
}

#[test]
fn claims_that_are_being_deleted_are_found_on_the_way_to_zero() {
    // All of them, and that of ordinal 0 alone, which stops last.
    for (ending, leader) in [(0b111, 0), (0b001, 2)] {
        let setup = Setup { ending, zero_allowed: true, ..Setup::new(3, leader) };
        finds(Mistake::Without(RuleId::VOLUMES_DELETED), Broken::CommitLost, &[], setup);
    }
}

#[test]
fn last_member_to_stop_without_the_newest_rows_is_found() {
    let setup = Setup { zero_allowed: true, ..Setup::new(2, 1) };
    let bound = with(&[Fault::Stalls(0)]);
    let (_, stalled) = step::faults(&State::first(&setup), &setup, &bound).pop().unwrap();
    let (_, behind) = step::commit(&stalled, &setup, &bound).unwrap();
    assert_eq!(Guard::new(&setup).refusals(&behind, 0), [RuleId::LAST_TO_STOP]);
    let mistake = Some(Mistake::Without(RuleId::LAST_TO_STOP));
    let setup = Setup { mistake, ..setup };
    assert!(Guard::new(&setup).admits(&behind, 0));
    // A search that admits this loses the commit.
    let written = step::write(&behind, &setup, 0, false);
    let steps = step::of_the_system(&written, &setup);
    let (_, acted) = steps.into_iter().find(|(step, _)| *step == Step::Act).unwrap();
    assert_eq!(broken(&acted, &setup, false), Some(Broken::CommitLost));
}

#[test]
fn cluster_that_went_to_zero_comes_back_with_every_row() {
    for leader in [0, 1] {
        let setup = Setup { zero_allowed: true, ..Setup::new(2, leader) };
        let bound = Bound { most: 2, ..with(&[]).twice() };
        let found = check(&setup, &bound, &Alone::search(&setup, &bound));
        assert!(found.broken.is_empty(), "{:?}", found.violations.first());
    }
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
fn limit_that_is_not_met_breaks_a_whole_large_search() {
    let mut summary = run_with(Extent::Small, "no such setting", &|_, _| {});
    assert!(summary.holds());
    (summary.extent, summary.whole) = (Extent::Large, true);
    assert!(!summary.holds(), "no limit was met");
    summary.whole = false;
    assert!(summary.holds(), "a part of the search need not meet any");
}

#[test]
fn later_change_is_not_to_blame_for_a_leader_that_an_earlier_one_removes() {
    let setup = Setup::new(5, 0);
    let deletes = |state: &State| {
        let steps = step::of_the_system(state, &setup);
        steps.into_iter().find(|(step, _)| *step == Step::Delete(4)).unwrap().1.path.deleted
    };
    let shrunk = State {
        replicas: 2,
        operator: Operator::Idle,
        ..step::write(&State::first(&setup), &setup, 2, false)
    };
    let failed_over = |mut state: State| {
        state.holder = Some(4);
        state
    };
    let bound =
        Bound { commits: 0, faults: 1, writes: 2, most: 5, kinds: Kinds::of(&[Fault::LockLost]) };
    let (_, struck) = step::faults(&shrunk, &setup, &bound).pop().unwrap();
    assert!(!deletes(&failed_over(step::write(&struck, &setup, 3, true))));
    // Without a fault between the two, the changes are to blame.
    assert!(deletes(&failed_over(step::write(&shrunk, &setup, 3, true))));
    // The later change removes -4 by itself.
    let kept = State { replicas: 5, ..step::write(&State::first(&setup), &setup, 5, false) };
    let (_, struck) = step::faults(&kept, &setup, &bound).pop().unwrap();
    let later = step::write(&struck, &setup, 3, true);
    assert!(deletes(&failed_over(State { replicas: 3, ..later })));
}

#[test]
fn person_may_make_a_member_the_leader_that_lags_too_far() {
    let setup = Setup::new(2, 1);
    let mut state = State::first(&setup);
    (state.holder, state.optime) = (None, 3);
    let takes_over = |step: &Step| matches!(step, Step::TakeOver(_));
    assert!(!step::of_the_system(&state, &setup).iter().any(|(step, _)| takes_over(step)));
    let forced = step::heals(&state, &setup).into_iter().find(|(step, _)| *step == Step::Force(0));
    assert_eq!(forced.unwrap().1.leading(), Some(0));
}

#[test]
fn limits_of_the_operator_bind_every_count() {
    let setup = Setup { min: Some(2), max: Some(4), ..Setup::new(5, 0) };
    assert_eq!([0, 1, 3, 5].map(|count| setup.effective(count)), [2, 2, 3, 4]);
    let state = State::first(&setup);
    assert_eq!((state.declared, state.replicas, state.at_rest(&setup)), (5, 4, true));
}

#[test]
fn member_that_is_not_ready_stops_the_shrink_where_pods_are_probed() {
    for probed in [false, true] {
        let setup = Setup { probed, ..Setup::new(3, 0) };
        let mut state = State { replicas: 2, ..State::first(&setup) };
        state.members[1].frozen = true;
        let deletes = |(step, _): &(Step, State)| *step == Step::Delete(2);
        assert_eq!(step::of_the_system(&state, &setup).iter().any(deletes), !probed);
    }
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
