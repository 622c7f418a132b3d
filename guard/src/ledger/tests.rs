//! Tables of single steps of the ledger.

use jiff::{SignedDuration, Timestamp};

use super::*;

/// A time, in seconds after the ledger is ready.
fn at(seconds: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds)
}

fn basis() -> BTreeSet<String> {
    BTreeSet::from(["policy".to_owned()])
}

fn found(name: &str, uid: &str, revision: u64, instances: u32) -> Found {
    Found { name: name.into(), uid: uid.into(), at: Revision(revision), instances }
}

/// Returns a ledger that has seen these clusters at revision 9. The uid of each is its name.
fn ready(clusters: &[(&str, u32)]) -> Ledger {
    let mut ledger = Ledger::unsettled(basis(), Timestamp::MIN);
    let clusters = clusters.iter().map(|(name, instances)| found(name, name, 9, *instances));
    let listing = Listing { at: Revision(9), begun: Some(at(0)), clusters: clusters.collect() };
    ledger.observe_all(&listing).unwrap();
    ledger
}

fn list(ledger: &mut Ledger, revision: u64, begun: Option<i64>, clusters: Vec<Found>) {
    let begun = begun.map(at);
    ledger.observe_all(&Listing { at: Revision(revision), begun, clusters }).unwrap();
}

fn update(name: &str, revision: u64, from: u32, to: u32) -> Ask {
    let base = Base::Update { at: Revision(revision), from };
    Ask { name: name.into(), uid: name.into(), base, to, dry_run: false }
}

fn creation(name: &str, uid: &str, to: u32) -> Ask {
    Ask { name: name.into(), uid: uid.into(), base: Base::Creation, to, dry_run: false }
}

/// Answers a change at second 0 under a budget.
fn ask(ledger: &mut Ledger, budget: u32, ask: &Ask) -> Answer {
    ask_at(ledger, budget, 0, ask)
}

fn ask_at(ledger: &mut Ledger, budget: u32, now: i64, ask: &Ask) -> Answer {
    ledger.reserve(ask, &Terms { budget, basis: &basis(), now: at(now) })
}

/// Returns what a ledger counts, and the part that is reserved.
fn sums(ledger: &Ledger) -> (u64, u64) {
    let totals = ledger.totals();
    (totals.counted(), totals.reserved)
}

const FREE: fn(Free) -> Answer = Answer::Free;

#[test]
fn growth_fits_up_to_the_budget_and_not_beyond() {
    let mut ledger = ready(&[("a", 3), ("b", 2)]);
    assert_eq!(ask(&mut ledger, 7, &update("a", 9, 3, 5)), Answer::Reserved);
    assert_eq!(sums(&ledger), (7, 2));
    let Answer::Over(over) = ask(&mut ledger, 7, &update("b", 9, 2, 3)) else { panic!() };
    assert_eq!((over.budget, over.used, over.reserved, over.wanted), (7, 5, 2, 1));
    assert_eq!((over.free(), over.may_fit_soon(), over.others), (0, true, 0));
    let holder = |name: &str, committed, counted| Holder { name: name.into(), committed, counted };
    assert_eq!(over.holders, [holder("a", 3, 5), holder("b", 2, 2)]);
    assert_eq!(sums(&ledger), (7, 2), "a refusal reserves nothing");
}

#[test]
fn refusal_names_the_clusters_that_count_most_and_counts_the_rest() {
    let names: Vec<String> = (0..8).map(|number| format!("c{number}")).collect();
    let clusters: Vec<(&str, u32)> = names.iter().map(String::as_str).zip(1..).collect();
    let mut ledger = ready(&clusters);
    let Answer::Over(over) = ask(&mut ledger, 36, &creation("new", "n", 1)) else { panic!() };
    let holders: Vec<&str> = over.holders.iter().map(|holder| holder.name.as_str()).collect();
    assert_eq!((holders, over.others), (vec!["c7", "c6", "c5", "c4", "c3"], 3));
    assert!(!over.may_fit_soon());
}

#[test]
fn changes_that_add_nothing_pass_without_a_ledger_that_is_ready() {
    let mut ledger = Ledger::unsettled(BTreeSet::new(), at(0));
    let before = ledger.clone();
    for change in [update("a", 9, 3, 2), update("a", 9, 3, 3), creation("b", "b", 0)] {
        assert_eq!(ask(&mut ledger, 0, &change), FREE(Free::NoGrowth), "{change:?}");
    }
    assert_eq!(ledger, before);
}

#[test]
fn dry_run_has_the_same_answer_and_records_nothing() {
    let mut ledger = ready(&[("a", 3)]);
    let before = ledger.clone();
    let dry = |to| Ask { dry_run: true, ..update("a", 9, 3, to) };
    assert_eq!(ask(&mut ledger, 5, &dry(5)), FREE(Free::DryRun));
    assert!(matches!(ask(&mut ledger, 5, &dry(6)), Answer::Over(_)));
    assert_eq!(ledger, before);
}

#[test]
fn all_changes_on_one_revision_count_as_the_greatest() {
    let mut ledger = ready(&[("a", 1)]);
    assert_eq!(ask(&mut ledger, 5, &update("a", 9, 1, 3)), Answer::Reserved);
    assert_eq!(ask(&mut ledger, 5, &update("a", 9, 1, 3)), FREE(Free::Covered));
    assert_eq!(ask(&mut ledger, 5, &update("a", 9, 1, 2)), FREE(Free::Covered));
    assert_eq!(sums(&ledger), (3, 2));
    assert_eq!(ask(&mut ledger, 5, &update("a", 9, 1, 5)), Answer::Reserved);
    assert_eq!(sums(&ledger), (5, 4));
}

#[test]
fn asking_again_for_less_does_not_keep_the_more_from_its_fence() {
    let mut ledger = ready(&[("a", 1)]);
    ask_at(&mut ledger, 5, 0, &update("a", 9, 1, 5));
    assert_eq!(ask_at(&mut ledger, 5, 9, &update("a", 9, 1, 2)), FREE(Free::Covered));
    let fence = Fence { name: "a".into(), uid: "a".into(), at: Revision(9) };
    assert_eq!((ledger.overdue(at(9)), ledger.overdue(at(10))), (vec![], vec![fence]));
}

#[test]
fn later_revision_decides_whatever_was_admitted_on_an_earlier_one() {
    for (seen, counted) in [
        (found("a", "a", 8, 1), (4, 3)),
        (found("a", "a", 9, 1), (4, 3)),
        // Stored, stored as something else, not stored, another cluster.
        (found("a", "a", 10, 4), (4, 0)),
        (found("a", "a", 10, 2), (2, 0)),
        (found("a", "a", 10, 1), (1, 0)),
        (found("a", "z", 10, 2), (2, 0)),
    ] {
        let mut ledger = ready(&[("a", 1)]);
        ask(&mut ledger, 9, &update("a", 9, 1, 4));
        ledger.observe(&seen);
        assert_eq!(sums(&ledger), counted, "{seen:?}");
    }
}

#[test]
fn clock_decides_no_update() {
    let mut ledger = ready(&[("a", 1)]);
    ask(&mut ledger, 9, &update("a", 9, 1, 4));
    list(&mut ledger, 20, Some(1_000_000), vec![found("a", "a", 9, 1)]);
    assert_eq!(sums(&ledger), (4, 3));
    assert_eq!(ledger.overdue(at(1_000_000)).len(), 1);
    // The fence, or any other write of the cluster.
    ledger.observe(&found("a", "a", 21, 1));
    assert_eq!((sums(&ledger), ledger.overdue(at(1_000_000))), ((1, 0), vec![]));
}

#[test]
fn review_on_a_later_revision_decides_by_what_it_carries() {
    let mut ledger = ready(&[("a", 1)]);
    ask(&mut ledger, 5, &update("a", 9, 1, 4));
    assert_eq!(ask(&mut ledger, 5, &update("a", 10, 1, 5)), Answer::Reserved);
    assert_eq!(sums(&ledger), (5, 4));
    // Refused, and yet it has shown that the earlier growth was not stored.
    assert!(matches!(ask(&mut ledger, 5, &update("a", 11, 1, 6)), Answer::Over(_)));
    assert_eq!(sums(&ledger), (1, 0));
}

#[test]
fn review_on_an_earlier_revision_passes_because_it_cannot_be_stored() {
    let mut ledger = ready(&[("a", 1)]);
    ledger.observe(&found("a", "a", 12, 2));
    assert_eq!(ask(&mut ledger, 2, &update("a", 11, 1, 9)), FREE(Free::Outrun));
    // A cluster that was gone before the latest list.
    assert_eq!(ask(&mut ledger, 2, &update("gone", 9, 1, 9)), FREE(Free::Outrun));
    assert!(matches!(ask(&mut ledger, 2, &update("a", 12, 2, 9)), Answer::Over(_)));
}

#[test]
fn cluster_that_the_ledger_does_not_know_counts_from_its_first_review() {
    let mut ledger = ready(&[("a", 1)]);
    assert!(matches!(ask(&mut ledger, 5, &update("b", 12, 4, 5)), Answer::Over(_)));
    assert_eq!(sums(&ledger), (5, 0));
}

#[test]
fn creation_counts_until_its_uid_was_seen() {
    let mut ledger = ready(&[]);
    assert_eq!(ask(&mut ledger, 5, &creation("a", "one", 2)), Answer::Reserved);
    assert_eq!(ask(&mut ledger, 5, &creation("a", "one", 2)), FREE(Free::Covered));
    assert_eq!(sums(&ledger), (2, 2));
    ledger.observe(&found("a", "one", 12, 2));
    assert_eq!(sums(&ledger), (2, 0));
}

#[test]
fn creations_of_one_name_count_as_the_greatest() {
    let mut ledger = ready(&[("a", 2)]);
    assert_eq!(ask(&mut ledger, 5, &creation("a", "one", 5)), Answer::Reserved);
    assert_eq!(ask(&mut ledger, 5, &creation("a", "two", 3)), Answer::Reserved);
    assert_eq!(sums(&ledger), (5, 3));
    // The cluster that holds the name decides nothing: it may be deleted before they are stored.
    ledger.observe(&found("a", "a", 12, 2));
    assert_eq!(sums(&ledger), (5, 3));
    // What holds it next decides its own creation.
    ledger.observe(&found("a", "one", 14, 5));
    list(&mut ledger, 16, None, vec![]);
    assert_eq!(sums(&ledger), (3, 3));
}

#[test]
fn creation_ends_by_a_consistent_read_that_began_after_its_time() {
    let whole = LAND_WITHIN.as_secs();
    for (begun, counted) in [(None, 2), (Some(whole - 1), 2), (Some(whole), 0)] {
        let mut ledger = ready(&[]);
        ask(&mut ledger, 5, &creation("a", "one", 2));
        list(&mut ledger, 20, begun, vec![]);
        assert_eq!(sums(&ledger), (counted, counted), "{begun:?}");
        assert_eq!(ledger.clusters.is_empty(), counted == 0);
    }
}

#[test]
fn deleted_cluster_counts_until_a_list_does_not_show_it() {
    let mut ledger = ready(&[("a", 3)]);
    // It has finalizers: it is there, with a later revision.
    list(&mut ledger, 12, Some(1), vec![found("a", "a", 11, 3)]);
    assert!(matches!(ask(&mut ledger, 5, &creation("b", "b", 3)), Answer::Over(_)));
    list(&mut ledger, 14, Some(2), vec![]);
    assert_eq!(ask(&mut ledger, 5, &creation("b", "b", 3)), Answer::Reserved);
}

#[test]
fn old_answer_brings_no_cluster_back() {
    let mut ledger = ready(&[("a", 3)]);
    list(&mut ledger, 14, Some(2), vec![]);
    ledger.observe(&found("a", "a", 11, 3));
    list(&mut ledger, 12, Some(1), vec![found("a", "a", 11, 3)]);
    assert_eq!((sums(&ledger), ledger.swept), ((0, 0), Revision(14)));
    // Nor beside the next one of its name.
    ask(&mut ledger, 5, &creation("a", "next", 1));
    list(&mut ledger, 12, Some(1), vec![found("a", "a", 11, 3)]);
    assert_eq!(sums(&ledger), (1, 1));
}

#[test]
fn namespace_over_its_budget_may_only_shrink() {
    let mut ledger = ready(&[("a", 5), ("b", 5)]);
    for (change, passes) in [
        (update("a", 9, 5, 6), false),
        (creation("c", "c", 1), false),
        (update("a", 9, 5, 4), true),
        (update("a", 9, 5, 5), true),
    ] {
        assert_eq!(ask(&mut ledger, 6, &change).admits(), passes, "{change:?}");
    }
    // Growth that the sum counts already does not raise it, whatever the budget has become.
    assert_eq!(ask(&mut ledger, 12, &update("a", 9, 5, 7)), Answer::Reserved);
    assert_eq!(ask(&mut ledger, 6, &update("a", 9, 5, 6)), FREE(Free::Covered));
    assert!(matches!(ask(&mut ledger, 6, &update("b", 9, 5, 6)), Answer::Over(_)));
}

#[test]
fn waking_needs_room() {
    let mut ledger = ready(&[("a", 3), ("asleep", 0)]);
    assert!(matches!(ask(&mut ledger, 5, &update("asleep", 9, 0, 3)), Answer::Over(_)));
    assert_eq!(ask(&mut ledger, 6, &update("asleep", 9, 0, 3)), Answer::Reserved);
}

#[test]
fn new_ledger_admits_no_growth_before_a_list_that_began_after_its_time() {
    let mut ledger = Ledger::unsettled(basis(), at(0));
    let settles = at(LAND_WITHIN.as_secs());
    let growth = update("a", 9, 1, 2);
    for begun in [None, Some(1), Some(LAND_WITHIN.as_secs() - 1)] {
        list(&mut ledger, 9, begun, vec![found("a", "a", 9, 1)]);
        let settling = Answer::NotReady(NotReady::Settling(settles));
        assert_eq!(ask_at(&mut ledger, 9, 1000, &growth), settling, "{begun:?}");
    }
    list(&mut ledger, 9, Some(LAND_WITHIN.as_secs()), vec![found("a", "a", 9, 1)]);
    assert_eq!(ask_at(&mut ledger, 9, 1000, &growth), Answer::Reserved);
}

#[test]
fn budgets_of_other_policies_settle_again_and_forget_nothing() {
    let mut ledger = ready(&[("a", 1)]);
    ask(&mut ledger, 5, &creation("b", "b", 3));
    let others = BTreeSet::from(["other".to_owned()]);
    let terms = Terms { budget: 9, basis: &others, now: at(50) };
    let growth = update("a", 9, 1, 2);
    assert_eq!(ledger.reserve(&growth, &terms), Answer::NotReady(NotReady::OtherBasis));
    let mut ledger = ledger.resettled(others.clone(), at(50));
    assert_eq!(sums(&ledger), (4, 3));
    let settles = at(50 + LAND_WITHIN.as_secs());
    assert_eq!(ledger.not_ready(&others), Some(NotReady::Settling(settles)));
    // A list that began within the time of the creation does not end it.
    list(&mut ledger, 20, Some(179), vec![found("a", "a", 9, 1)]);
    assert_eq!((sums(&ledger), ledger.settles), ((4, 3), Some(settles)));
}

#[test]
fn policy_that_stays_carries_the_ledger_over_to_a_new_one() {
    let mut ledger = ready(&[("a", 1)]);
    let both = BTreeSet::from(["policy".to_owned(), "second".to_owned()]);
    let second = BTreeSet::from(["second".to_owned()]);
    let terms = |basis| Terms { budget: 9, basis, now: at(0) };
    assert_eq!(ledger.reserve(&update("a", 9, 1, 2), &terms(&both)), Answer::Reserved);
    assert_eq!(ledger.reserve(&update("a", 10, 2, 3), &terms(&second)), Answer::Reserved);
}

#[test]
fn ledger_that_is_full_takes_no_further_name_and_goes_on_with_its_own() {
    let names: Vec<String> = (0..MOST_CLUSTERS).map(|number| format!("c{number}")).collect();
    let clusters: Vec<(&str, u32)> = names.iter().map(|name| (name.as_str(), 1)).collect();
    let mut ledger = ready(&clusters);
    assert_eq!(ask(&mut ledger, 2000, &creation("new", "n", 1)), Answer::Full);
    assert_eq!(ask(&mut ledger, 2000, &update("c7", 9, 1, 2)), Answer::Reserved);
    let one_more: Vec<Found> =
        (0..=MOST_CLUSTERS).map(|number| found(&format!("d{number}"), "d", 12, 1)).collect();
    let before = ledger.clone();
    let listing = Listing { at: Revision(13), begun: None, clusters: one_more };
    assert_eq!(ledger.observe_all(&listing), Err(TooMany(MOST_CLUSTERS + 1)));
    assert_eq!(ledger, before);
}

#[test]
fn creations_beyond_the_bound_count_until_the_last_one_has_had_its_time() {
    let mut ledger = ready(&[]);
    let whole = LAND_WITHIN.as_secs();
    for number in 0..20 {
        let creation = creation("a", &format!("uid{number}"), if number == 10 { 4 } else { 2 });
        assert_eq!(ask_at(&mut ledger, 5, number, &creation), Answer::Reserved);
    }
    assert_eq!(ledger.clusters["a"].creations.len(), MOST_CREATIONS);
    // The uids of those that became one decide nothing.
    ledger.observe(&found("a", "uid19", 12, 2));
    assert_eq!(sums(&ledger), (4, 2));
    list(&mut ledger, 14, Some(whole + 18), vec![]);
    assert_eq!(sums(&ledger), (4, 4));
    list(&mut ledger, 15, Some(whole + 19), vec![]);
    assert_eq!(sums(&ledger), (0, 0));
}

#[test]
fn operator_limits_that_change_are_seen_at_the_same_revision() {
    let mut ledger = ready(&[("a", 3)]);
    list(&mut ledger, 20, Some(1), vec![found("a", "a", 9, 2)]);
    assert_eq!(sums(&ledger), (2, 0));
}

#[test]
fn turn_answers_each_change_beside_those_before_it_and_writes_once() {
    let ledger = ready(&[("a", 1), ("b", 1)]);
    let asks = [update("a", 9, 1, 3), update("a", 9, 1, 3), update("b", 9, 1, 3)];
    let turn = Turn::of(ledger.clone(), &asks, &Terms { budget: 5, basis: &basis(), now: at(0) });
    assert_eq!(turn.to_write().map(sums), Some((4, 2)));
    assert!(turn.refuses());
    let (stored, answers) = turn.clone().stored();
    assert_eq!(sums(&stored), (4, 2));
    assert_eq!(answers[..2], [Answer::Reserved, FREE(Free::Covered)]);
    assert!(matches!(answers[2], Answer::Over(_)));
}

#[test]
fn turn_that_is_given_up_refuses_nothing_by_the_budget() {
    let ledger = ready(&[("a", 1), ("b", 1)]);
    let asks = [update("a", 9, 1, 3), update("b", 9, 1, 3), update("b", 9, 1, 1)];
    let turn = Turn::of(ledger, &asks, &Terms { budget: 5, basis: &basis(), now: at(0) });
    let expected = [Answer::Contended, Answer::Contended, FREE(Free::NoGrowth)];
    assert_eq!(turn.given_up(), expected);
}

#[test]
fn turn_without_growth_writes_nothing() {
    let asks = [update("a", 9, 3, 1), update("a", 9, 3, 9)];
    let terms = Terms { budget: 5, basis: &basis(), now: at(0) };
    assert_eq!(Turn::of(ready(&[("a", 3)]), &asks, &terms).to_write(), None);
}

#[test]
fn revision_is_a_number_and_nothing_else() {
    assert_eq!("0123".parse(), Ok(Revision(123)));
    for text in ["", "+1", "-1", "1.0", "0x1", " 1", "18446744073709551616"] {
        assert_eq!(text.parse::<Revision>(), Err(NoRevision), "{text}");
    }
}

#[test]
fn greatest_counts_do_not_overflow() {
    let mut ledger = ready(&[("a", u32::MAX), ("b", u32::MAX)]);
    assert_eq!(sums(&ledger), (2 * u64::from(u32::MAX), 0));
    let Answer::Over(over) = ask(&mut ledger, u32::MAX, &creation("c", "c", u32::MAX)) else {
        panic!()
    };
    assert_eq!((over.free(), over.may_fit_soon()), (0, false));
    let mut ledger = ready(&[("a", 1)]);
    let answer = ledger
        .reserve(&update("a", 9, 1, 2), &Terms { budget: 5, basis: &basis(), now: Timestamp::MAX });
    assert_eq!(answer, Answer::Reserved);
}

#[test]
fn stored_ledger_reads_back_and_leaves_out_what_is_empty() {
    let mut ledger = ready(&[("a", 3)]);
    ask(&mut ledger, 9, &update("a", 9, 3, 4));
    ask(&mut ledger, 9, &creation("b", "one", 2));
    let stored = serde_json::to_value(&ledger).unwrap();
    let expected = serde_json::json!({
        "basis": ["policy"],
        "swept": "9",
        "clusters": {
            "a": {"at": "9", "held": {
                "uid": "a", "committed": 3,
                "raised": {"to": 4, "until": "1970-01-01T00:00:10Z"},
            }},
            "b": {"at": "9", "creations": [
                {"uid": "one", "to": 2, "until": "1970-01-01T00:03:00Z"},
            ]},
        },
    });
    assert_eq!(stored, expected);
    assert_eq!(serde_json::from_value::<Ledger>(stored).unwrap(), ledger);
}

#[test]
fn greatest_ledger_fits_into_one_object() {
    let mut ledger = Ledger::unsettled(basis(), at(0));
    let uid = "01234567-89ab-cdef-0123-456789abcdef";
    let until = "2026-11-30T10:00:00.123456789Z".parse().unwrap();
    for number in 0..MOST_CLUSTERS {
        let creation = Creation { uid: Some(uid.into()), to: u32::MAX, until };
        let raised = Some(Raised { to: u32::MAX, until });
        let held = Some(Held { uid: uid.into(), committed: u32::MAX, raised });
        let creations = vec![creation; MOST_CREATIONS];
        // The longest name of an object of the API server.
        let name = format!("{number:0>253}");
        ledger.clusters.insert(name, Entry { at: Revision(u64::MAX), held, creations });
    }
    // etcd takes requests of 1.5 MiB (`--max-request-bytes`).
    let bytes = serde_json::to_vec(&ledger).unwrap().len();
    assert!(bytes < 1 << 20, "{bytes} bytes");
}
