//! The requests of a course, one after another.

use jiff::SignedDuration;

use super::*;
use crate::ledger::{Base as AskBase, LAND_WITHIN, MOST_CLUSTERS, Revision};

fn at(seconds: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds)
}

fn basis() -> BTreeSet<String> {
    BTreeSet::from(["policy".to_owned()])
}

fn found(name: &str, revision: u64, instances: u32) -> Found {
    Found { name: name.into(), uid: name.into(), at: Revision(revision), instances }
}

fn update(name: &str, revision: u64, from: u32, to: u32) -> Ask {
    let base = AskBase::Update { at: Revision(revision), from };
    Ask { name: name.into(), uid: name.into(), base, to, dry_run: false }
}

fn listing(revision: u64, begun: i64, clusters: &[Found]) -> Listing {
    Listing { at: Revision(revision), begun: Some(at(begun)), clusters: clusters.to_vec() }
}

/// The store of a namespace, and the requests that a course made of it.
struct Store {
    ledger: Option<Stored>,
    clusters: Vec<Found>,
    /// How many writes meet a conflict.
    conflicts: u32,
    now: i64,
    requests: Vec<&'static str>,
}

impl Store {
    /// Returns a store whose ledger has seen its clusters at revision 9, version 1.
    fn new(clusters: &[(&str, u32)]) -> Self {
        let clusters: Vec<Found> =
            clusters.iter().map(|(name, count)| found(name, 9, *count)).collect();
        let mut ledger = Ledger::unsettled(basis(), Timestamp::MIN);
        ledger.observe_all(&listing(9, 0, &clusters)).unwrap();
        let ledger = Some(Stored { ledger, version: "1".to_owned() });
        Self { ledger, clusters, conflicts: 0, now: 0, requests: Vec::new() }
    }

    fn stored(&self) -> &Stored {
        self.ledger.as_ref().unwrap()
    }

    /// Reserves growth by another replica.
    fn reserve(&mut self, ask: &Ask) {
        let terms = Terms { budget: 1000, basis: &basis(), now: at(self.now) };
        let stored = self.ledger.as_mut().unwrap();
        assert_eq!(stored.ledger.reserve(ask, &terms), Answer::Reserved);
    }

    /// Goes a course to its end, and returns the requests and the answers.
    fn go(&mut self, mut course: Course) -> (Vec<&'static str>, Vec<Answer>) {
        self.requests.clear();
        loop {
            match course.next(at(self.now)) {
                Next::Read => {
                    self.requests.push("read");
                    course.read(self.ledger.clone());
                }
                Next::List => {
                    self.requests.push("list");
                    let revision = self.clusters.iter().map(|it| it.at.0).max().unwrap_or(9);
                    course.listed(listing(revision + 10, self.now, &self.clusters));
                }
                Next::Fence(fences) => {
                    let mut after = Vec::new();
                    for fence in fences {
                        self.requests.push("fence");
                        let cluster = self.clusters.iter_mut().find(|it| it.name == fence.name);
                        let cluster = cluster.unwrap();
                        assert_eq!((cluster.at, &cluster.uid), (fence.at, &fence.uid));
                        cluster.at = Revision(cluster.at.0 + 100);
                        after.push(cluster.clone());
                    }
                    course.fenced(after);
                }
                Next::Write { ledger, replaces } => {
                    self.requests.push("write");
                    let version = self.ledger.as_ref().map(|stored| stored.version.clone());
                    if self.conflicts > 0 || replaces != version {
                        self.conflicts = self.conflicts.saturating_sub(1);
                        course.conflict();
                        continue;
                    }
                    let version = format!("{}1", version.unwrap_or_default());
                    let stored = course.written(version.clone()).unwrap();
                    assert_eq!(stored, Stored { ledger, version });
                    self.ledger = Some(stored);
                }
                Next::Answer(answers) => {
                    assert_eq!(course.next(at(self.now)), Next::Answer(answers.clone()));
                    return (self.requests.clone(), answers);
                }
            }
        }
    }

    fn ask(&mut self, budget: u32, asks: &[Ask]) -> (Vec<&'static str>, Vec<Answer>) {
        self.go(Course::new(asks.to_vec(), budget, basis(), None))
    }

    fn ask_remembering(&mut self, budget: u32, asks: &[Ask]) -> (Vec<&'static str>, Vec<Answer>) {
        let remembered = self.ledger.clone();
        self.go(Course::new(asks.to_vec(), budget, basis(), remembered))
    }
}

fn is_over(answers: &[Answer]) -> bool {
    matches!(answers, [Answer::Over(_)])
}

#[test]
fn growth_that_fits_is_one_write_with_a_remembered_ledger() {
    let mut store = Store::new(&[("a", 1), ("b", 1)]);
    let asks = [update("a", 9, 1, 3), update("b", 9, 1, 2)];
    let both = vec![Answer::Reserved, Answer::Reserved];
    assert_eq!(store.ask_remembering(9, &asks), (vec!["write"], both.clone()));
    let mut store = Store::new(&[("a", 1), ("b", 1)]);
    assert_eq!(store.ask(9, &asks), (vec!["read", "write"], both));
}

#[test]
fn what_adds_nothing_makes_no_request() {
    let mut store = Store::new(&[("a", 3)]);
    let asks = [update("a", 9, 3, 1), update("a", 9, 3, 3)];
    let free = vec![Answer::Free(Free::NoGrowth); 2];
    assert_eq!(store.ask(0, &asks), (vec![], free));
}

#[test]
fn dry_run_writes_nothing_whatever_its_answer() {
    let mut store = Store::new(&[("a", 1), ("b", 1)]);
    store.reserve(&update("b", 9, 1, 5));
    store.now = 60;
    let dry = |to| Ask { dry_run: true, ..update("a", 9, 1, to) };
    let passes = vec![Answer::Free(Free::DryRun)];
    assert_eq!(store.ask_remembering(9, &[dry(2)]), (vec![], passes));
    let (requests, answers) = store.ask_remembering(6, &[dry(3)]);
    assert!(requests == ["read", "list"] && is_over(&answers), "{requests:?} {answers:?}");
    store.ledger = None;
    let (requests, answers) = store.ask(6, &[dry(2)]);
    assert_eq!(requests, ["read"]);
    assert!(matches!(answers[..], [Answer::NotReady(_)]));
}

#[test]
fn repeated_question_is_no_write() {
    let mut store = Store::new(&[("a", 1)]);
    store.reserve(&update("a", 9, 1, 3));
    let covered = vec![Answer::Free(Free::Covered)];
    assert_eq!(store.ask_remembering(9, &[update("a", 9, 1, 3)]), (vec![], covered));
}

#[test]
fn refusal_rests_on_what_was_read_and_listed_for_it() {
    let mut store = Store::new(&[("a", 1), ("b", 1)]);
    let (requests, answers) = store.ask_remembering(3, &[update("a", 9, 1, 3)]);
    assert!(requests == ["read", "list"] && is_over(&answers), "{requests:?} {answers:?}");
    // Another cluster has shrunk, and nothing but the list has seen it.
    store.clusters[1] = found("b", 12, 0);
    let (requests, answers) = store.ask_remembering(3, &[update("a", 9, 1, 3)]);
    assert_eq!((requests, answers), (vec!["read", "list", "write"], vec![Answer::Reserved]));
}

#[test]
fn remembered_ledger_refuses_nothing() {
    let mut store = Store::new(&[("a", 1), ("b", 5)]);
    let remembered = store.ledger.clone();
    let seen = store.ledger.as_mut().unwrap();
    seen.ledger.observe(&found("b", 12, 1));
    seen.version = "2".to_owned();
    let course = Course::new(vec![update("a", 9, 1, 3)], 6, basis(), remembered);
    assert_eq!(store.go(course), (vec!["read", "write"], vec![Answer::Reserved]));
}

#[test]
fn growth_that_was_given_up_is_fenced_by_the_next_that_needs_its_room() {
    let growth = [update("a", 9, 1, 3)];
    for (now, requests, passes) in
        [(9, vec!["read", "list"], false), (10, vec!["read", "list", "fence", "write"], true)]
    {
        let mut store = Store::new(&[("a", 1), ("b", 1)]);
        store.reserve(&update("b", 9, 1, 3));
        store.now = now;
        let (made, answers) = store.ask(4, &growth);
        assert_eq!((made, answers[0].admits()), (requests, passes), "after {now} s");
    }
}

#[test]
fn what_a_refusal_has_seen_is_kept_for_the_next() {
    let mut store = Store::new(&[("a", 1), ("b", 1), ("c", 2)]);
    store.reserve(&update("b", 9, 1, 3));
    store.clusters[1] = found("b", 12, 1);
    let (requests, answers) = store.ask(4, &[update("a", 9, 1, 2)]);
    assert!(is_over(&answers), "{answers:?}");
    assert_eq!(requests, ["read", "list", "write"]);
    assert_eq!(store.stored().ledger.totals().reserved, 0);
    let (requests, _) = store.ask(4, &[update("a", 9, 1, 2)]);
    assert_eq!(requests, ["read", "list"], "nothing new to keep");
}

#[test]
fn after_a_conflict_everything_is_answered_again() {
    let mut store = Store::new(&[("a", 1), ("b", 1)]);
    let remembered = store.ledger.clone();
    // Another replica was faster, and took the room.
    store.reserve(&update("b", 9, 1, 3));
    store.ledger.as_mut().unwrap().version = "2".to_owned();
    let course = Course::new(vec![update("a", 9, 1, 3)], 4, basis(), remembered);
    let (requests, answers) = store.go(course);
    assert_eq!(requests, ["write", "read", "list"]);
    assert!(is_over(&answers), "{answers:?}");
}

#[test]
fn what_was_seen_before_a_conflict_is_not_asked_for_again() {
    let mut store = Store::new(&[("a", 1), ("b", 1)]);
    store.reserve(&update("b", 9, 1, 3));
    (store.now, store.conflicts) = (10, 1);
    let (requests, answers) = store.ask(4, &[update("a", 9, 1, 3)]);
    assert_eq!(requests, ["read", "list", "fence", "write", "read", "write"]);
    assert_eq!(answers, [Answer::Reserved]);
}

#[test]
fn conflicts_without_end_refuse_as_contention() {
    let mut store = Store::new(&[("a", 1), ("b", 1)]);
    store.conflicts = MOST_CONFLICTS;
    let asks = [update("a", 9, 1, 3), update("b", 9, 1, 1)];
    let (requests, answers) = store.ask(9, &asks);
    assert_eq!(requests.iter().filter(|request| **request == "write").count(), 20);
    assert_eq!(answers, [Answer::Contended, Answer::Free(Free::NoGrowth)]);
    store.conflicts = MOST_CONFLICTS - 1;
    assert_eq!(store.ask(9, &asks).1[0], Answer::Reserved);
}

#[test]
fn first_growth_makes_the_ledger_and_the_first_after_its_time_passes() {
    let mut store = Store::new(&[("a", 1)]);
    store.ledger = None;
    let growth = [update("a", 9, 1, 3)];
    let settles = at(LAND_WITHIN.as_secs());
    let settling = vec![Answer::NotReady(NotReady::Settling(settles))];
    assert_eq!(store.ask(9, &growth), (vec!["read", "write"], settling.clone()));
    store.now = 179;
    assert_eq!(store.ask_remembering(9, &growth), (vec!["read"], settling));
    store.now = 180;
    let passes = vec![Answer::Reserved];
    assert_eq!(store.ask_remembering(9, &growth), (vec!["read", "list", "write"], passes));
    assert_eq!(store.stored().ledger.settles, None);
}

#[test]
fn budgets_of_other_policies_settle_the_ledger_again() {
    let mut store = Store::new(&[("a", 1)]);
    let other = BTreeSet::from(["other".to_owned()]);
    let course = Course::new(vec![update("a", 9, 1, 3)], 9, other.clone(), None);
    let (requests, answers) = store.go(course);
    assert_eq!(requests, ["read", "write"]);
    assert!(matches!(answers[..], [Answer::NotReady(NotReady::Settling(_))]));
    assert_eq!(store.stored().ledger.basis, other);
}

#[test]
fn namespace_with_too_many_clusters_may_shrink() {
    let mut store = Store::new(&[("a", 1)]);
    store.clusters =
        (0..=MOST_CLUSTERS).map(|number| found(&format!("c{number}"), 12, 1)).collect();
    let asks = [update("a", 9, 1, 3000), update("a", 9, 1, 0)];
    let (requests, answers) = store.ask(2000, &asks);
    assert_eq!(requests, ["read", "list"]);
    assert_eq!(answers, [Answer::Full, Answer::Free(Free::NoGrowth)]);
}
