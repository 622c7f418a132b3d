//! The look after a ledger between reviews: what was decided is taken in, what is overdue is
//! fenced, and what it is kept for is brought up to date. No review depends on it.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::ledger::{Fence, Found, Ledger, Listing, NotReady, Stored};

/// The most fences of one look. The rest is for the next one.
const MOST_FENCES: usize = 16;

/// What has to be done next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// List all clusters of the namespace, consistently, then call [`Heal::listed`].
    List,
    /// Move the revision of these clusters, then call [`Heal::fenced`] with what they are now.
    Fence(Vec<Fence>),
    /// Write the ledger, and end. After a conflict, too: another write says more.
    Write {
        /// The ledger.
        ledger: Ledger,
        /// The version that it replaces, a precondition. `None` creates the object.
        replaces: Option<String>,
    },
    /// The ledger says what is so.
    Done,
}

/// One look after a ledger.
#[derive(Clone, Debug)]
pub struct Heal {
    before: Option<Stored>,
    basis: BTreeSet<String>,
    listing: Option<Listing>,
    fenced: Option<Vec<Found>>,
}

impl Heal {
    /// Begins with the ledger of a namespace as it was read, and the policies that set a budget.
    pub fn of(before: Option<Stored>, basis: BTreeSet<String>) -> Self {
        Self { before, basis, listing: None, fenced: None }
    }

    /// Returns what has to be done next.
    pub fn next(&mut self, now: Timestamp) -> Step {
        let Some(Stored { ledger: before, version }) = self.before.clone() else {
            let ledger = Ledger::unsettled(self.basis.clone(), now);
            return Step::Write { ledger, replaces: None };
        };
        let Some(listing) = &self.listing else { return Step::List };
        let mut ledger = match before.not_ready(&self.basis) {
            Some(NotReady::OtherBasis) => before.clone().resettled(self.basis.clone(), now),
            Some(NotReady::Settling(_)) | None => {
                Ledger { basis: self.basis.clone(), ..before.clone() }
            }
        };
        if ledger.observe_all(listing).is_err() {
            return Step::Done;
        }
        match &self.fenced {
            None => {
                self.fenced = Some(Vec::new());
                let mut due = ledger.overdue(now);
                due.truncate(MOST_FENCES);
                if !due.is_empty() {
                    return Step::Fence(due);
                }
            }
            Some(fenced) => fenced.iter().for_each(|found| ledger.observe(found)),
        }
        let says = |ledger: &Ledger| {
            let (totals, undecided) = (ledger.totals(), ledger.undecided().count());
            (totals, undecided, ledger.settles, ledger.basis.clone())
        };
        if says(&ledger) == says(&before) {
            return Step::Done;
        }
        Step::Write { ledger, replaces: Some(version) }
    }

    /// Takes the list of all clusters.
    pub fn listed(&mut self, listing: Listing) {
        self.listing = Some(listing);
    }

    /// Takes what clusters are after their fences, or after the write that was faster. One that is
    /// gone is left out.
    pub fn fenced(&mut self, clusters: Vec<Found>) {
        self.fenced = Some(clusters);
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;
    use crate::ledger::{Ask, Base, FENCE_AFTER, LAND_WITHIN, Revision, Terms};

    fn at(seconds: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds)
    }

    fn basis(name: &str) -> BTreeSet<String> {
        BTreeSet::from([name.to_owned()])
    }

    fn found(at: u64, instances: u32) -> Found {
        Found { name: "a".into(), uid: "a".into(), at: Revision(at), instances }
    }

    fn listing(revision: u64, begun: i64, clusters: &[Found]) -> Listing {
        Listing { at: Revision(revision), begun: Some(at(begun)), clusters: clusters.to_vec() }
    }

    /// A ledger that has reserved growth of `a` from 1 to 3 on revision 5, at time 0.
    fn reserved() -> Stored {
        let mut ledger = Ledger::unsettled(basis("one"), Timestamp::MIN);
        ledger.observe_all(&listing(6, 0, &[found(5, 1)])).unwrap();
        let base = Base::Update { at: Revision(5), from: 1 };
        let ask = Ask { name: "a".into(), uid: "a".into(), base, to: 3, dry_run: false };
        let basis = basis("one");
        assert!(ledger.reserve(&ask, &Terms { budget: 9, basis: &basis, now: at(0) }).admits());
        Stored { ledger, version: "7".to_owned() }
    }

    fn sums(step: &Step) -> (u64, u64) {
        let Step::Write { ledger, replaces } = step else { panic!("{step:?}") };
        assert_eq!(replaces.as_deref(), Some("7"));
        (ledger.totals().used, ledger.totals().reserved)
    }

    #[test]
    fn what_was_stored_is_released_by_one_list() {
        let mut heal = Heal::of(Some(reserved()), basis("one"));
        assert_eq!(heal.next(at(1)), Step::List);
        heal.listed(listing(9, 1, &[found(8, 3)]));
        assert_eq!(sums(&heal.next(at(1))), (3, 0));
    }

    #[test]
    fn what_was_given_up_is_fenced_once_it_is_due_and_then_released() {
        let due = FENCE_AFTER.as_secs();
        let mut heal = Heal::of(Some(reserved()), basis("one"));
        heal.listed(listing(9, 1, &[found(5, 1)]));
        assert_eq!(heal.next(at(due - 1)), Step::Done);
        let mut heal = Heal::of(Some(reserved()), basis("one"));
        heal.listed(listing(9, due, &[found(5, 1)]));
        let fence = Fence { name: "a".into(), uid: "a".into(), at: Revision(5) };
        assert_eq!(heal.next(at(due)), Step::Fence(vec![fence]));
        heal.fenced(vec![found(10, 1)]);
        assert_eq!(sums(&heal.next(at(due))), (1, 0));
    }

    #[test]
    fn ledger_is_made_and_settles_before_the_first_growth_asks() {
        let mut heal = Heal::of(None, basis("one"));
        let Step::Write { ledger, replaces: None } = heal.next(at(0)) else { panic!() };
        let settles = at(LAND_WITHIN.as_secs());
        assert_eq!(ledger.settles, Some(settles));
        let stored = Stored { ledger, version: "7".to_owned() };
        let mut heal = Heal::of(Some(stored), basis("one"));
        heal.listed(listing(9, LAND_WITHIN.as_secs(), &[found(5, 1)]));
        let Step::Write { ledger, .. } = heal.next(settles) else { panic!() };
        assert_eq!((ledger.settles, ledger.totals().used), (None, 1));
    }

    #[test]
    fn edit_of_a_policy_moves_on_what_the_ledger_is_kept_for() {
        let both = BTreeSet::from(["one".to_owned(), "two".to_owned()]);
        let mut heal = Heal::of(Some(reserved()), both.clone());
        heal.listed(listing(9, 1, &[found(5, 1)]));
        let Step::Write { ledger, .. } = heal.next(at(1)) else { panic!() };
        assert_eq!((ledger.basis, ledger.settles), (both, None));
        let mut heal = Heal::of(Some(reserved()), basis("two"));
        heal.listed(listing(9, 1, &[found(5, 1)]));
        let Step::Write { ledger, .. } = heal.next(at(1)) else { panic!() };
        assert_eq!(ledger.settles, Some(at(1 + LAND_WITHIN.as_secs())));
    }

    #[test]
    fn ledger_that_says_what_is_so_is_not_written() {
        let mut ledger = Ledger::unsettled(basis("one"), Timestamp::MIN);
        ledger.observe_all(&listing(6, 0, &[found(5, 1)])).unwrap();
        let stored = Stored { ledger, version: "7".to_owned() };
        let mut heal = Heal::of(Some(stored), basis("one"));
        // Another edit of the cluster moves its revision, and no sum.
        heal.listed(listing(9, 1, &[found(8, 1)]));
        assert_eq!(heal.next(at(1)), Step::Done);
    }
}
