//! What the search holds true, and what it finds where a mistake is put in.

use super::check::{check, run};
use super::setup::{Mistake, Setup, appearing, creations, deleted, runs, slow, touched};
use super::step::Broken;
use crate::Extent;

/// Checks that the search finds `broken` where the mistake is put in. That it finds nothing without
/// the mistake is the outcome of the searches of all runs, of which it must be one.
fn finds(mistake: Mistake, broken: Broken, setup: Setup) {
    assert!(runs(Extent::Large).contains(&setup), "{setup:?}");
    let mistaken = check(&Setup { mistake: Some(mistake), ..setup });
    assert!(mistaken.broken.contains_key(&broken), "{mistake:?}: only {:?}", mistaken.broken);
}

#[test]
fn small_search_of_the_ledger_breaks_no_rule() {
    let found = run(Extent::Small, &|_, _| {});
    assert!(found.holds(), "{found}");
    assert!(found.turns > 1000 && found.ends > 100, "{found}");
    // All but the one that only a mistake takes.
    assert_eq!(found.kinds.len(), 20);
}

#[test]
fn release_by_time_alone_is_found() {
    finds(Mistake::ReleaseByTime, Broken::Overshoot, slow(2));
}

#[test]
fn sum_in_place_of_the_greatest_is_found() {
    finds(Mistake::Sum, Broken::RefusedForNothing, Setup::of_updates(2, 3));
}

#[test]
fn answer_that_is_kept_over_a_conflict_is_found() {
    finds(Mistake::FlipOnConflict, Broken::Overshoot, Setup::of_updates(1, 2));
}

#[test]
fn release_by_any_other_revision_is_found() {
    finds(Mistake::ReleaseByDifference, Broken::Overshoot, touched(1, 2));
}

#[test]
fn growth_that_is_free_because_the_name_counts_more_is_found() {
    finds(Mistake::CountedIsFree, Broken::Overshoot, touched(2, 3));
}

#[test]
fn creation_that_ends_because_another_cluster_holds_the_name_is_found() {
    finds(Mistake::NameEndsCreation, Broken::Overshoot, creations(3));
}

#[test]
fn creation_that_ends_by_a_read_that_began_too_early_is_found() {
    finds(Mistake::EarlyRead, Broken::Overshoot, creations(2));
}

#[test]
fn ledger_that_does_not_settle_is_found() {
    finds(Mistake::NoSettling, Broken::Overshoot, appearing(2));
    finds(Mistake::NoSettling, Broken::Overshoot, deleted(2));
}

#[test]
fn edit_that_was_given_up_and_is_not_fenced_is_found() {
    finds(Mistake::NoFence, Broken::NeverReleased, Setup::of_updates(1, 1));
}

#[test]
fn live_list_in_place_of_a_ledger_lets_every_edit_through() {
    let setup = Setup::of_updates(2, 3);
    let naive = check(&Setup { mistake: Some(Mistake::LiveList), ..setup });
    // Three edits raise three clusters of one to three each. The budget has room for one of them.
    assert_eq!((check(&setup).overshoot, naive.overshoot), (0, 4));
}
