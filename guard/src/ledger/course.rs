//! The way of some changes through the ledger, as requests to make and answers to give. It makes no
//! request itself: [`Course::next`] says what to do next.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::ledger::{Answer, Ask, Fence, Found, Free, Ledger, Listing, NotReady, Terms, Turn};

/// The most writes of one course that may meet a conflict. Of replicas that write at once, one
/// succeeds each time.
pub const MOST_CONFLICTS: u32 = 20;

/// A ledger as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The ledger.
    pub ledger: Ledger,
    /// The `resourceVersion` of the object, on which the next write depends.
    pub version: String,
}

/// What has to be done next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Read the ledger, then call [`Course::read`].
    Read,
    /// List all clusters of the namespace, consistently, then call [`Course::listed`].
    List,
    /// Move the revision of these clusters, then call [`Course::fenced`] with what they are now.
    Fence(Vec<Fence>),
    /// Write the ledger, then call [`Course::written`] or [`Course::conflict`].
    Write {
        /// The ledger.
        ledger: Ledger,
        /// The version that it replaces, a precondition. `None` creates the object.
        replaces: Option<String>,
    },
    /// Give these answers, one for each change in their order.
    Answer(Vec<Answer>),
}

/// Some changes on their way, from the question to the answers.
///
/// - A change that adds nothing needs no request, and a dry run no write.
/// - With a remembered ledger, growth that fits is one write.
/// - Growth that does not fit is refused on a ledger that was read for it, beside a list that was
///   read for it, and after fences of what is overdue. So whatever is decided by then refuses
///   nothing, whether a controller runs or not.
/// - After a conflict everything is answered again, on the ledger that was written meanwhile. What
///   was seen before stays true.
#[derive(Clone, Debug)]
pub struct Course {
    asks: Vec<Ask>,
    budget: u32,
    basis: BTreeSet<String>,
    base: Base,
    /// The ledger was read after the changes had arrived.
    fresh: bool,
    listing: Option<Listing>,
    /// The fences were asked for, and what they have shown.
    fenced: Option<Vec<Found>>,
    conflicts: u32,
    /// The turn that is being written.
    writing: Option<Turn>,
    answers: Option<Vec<Answer>>,
    /// The ledger that the last turn has left.
    shown: Option<Ledger>,
}

/// The ledger to start from.
#[derive(Clone, Debug)]
enum Base {
    Unread,
    Missing,
    Stored(Stored),
}

impl Course {
    /// Begins with some changes, the smallest budget of the namespace, the policies that set one,
    /// and the ledger that this process has read or written in the last seconds.
    pub fn new(
        asks: Vec<Ask>,
        budget: u32,
        basis: BTreeSet<String>,
        remembered: Option<Stored>,
    ) -> Self {
        Self {
            asks,
            budget,
            basis,
            base: remembered.map_or(Base::Unread, Base::Stored),
            fresh: false,
            listing: None,
            fenced: None,
            conflicts: 0,
            writing: None,
            answers: None,
            shown: None,
        }
    }

    /// Returns the changes, in the order of their answers.
    pub fn asks(&self) -> &[Ask] {
        &self.asks
    }

    /// Returns the budget.
    pub fn budget(&self) -> u32 {
        self.budget
    }

    /// Returns the ledger that the answers rest on. `None` where they need none.
    pub fn ledger(&self) -> Option<&Ledger> {
        self.shown.as_ref()
    }

    /// Returns what has to be done next.
    pub fn next(&mut self, now: Timestamp) -> Next {
        if let Some(answers) = &self.answers {
            return Next::Answer(answers.clone());
        }
        if !self.asks.iter().any(Ask::grows) {
            return self.end(self.asks.iter().map(without_ledger).collect());
        }
        let (before, version) = match &self.base {
            Base::Unread => return Next::Read,
            Base::Missing => (Ledger::unsettled(self.basis.clone(), now), None),
            Base::Stored(stored) => (stored.ledger.clone(), Some(stored.version.clone())),
        };
        let Some(ledger) = self.seen(before.clone(), now) else {
            return self.end(self.asks.iter().map(without_ledger).collect());
        };
        let terms = Terms { budget: self.budget, basis: &self.basis, now };
        let turn = Turn::of(ledger, &self.asks, &terms);
        self.shown = Some(turn.ledger().clone());
        if turn.refuses()
            && let Some(next) = self.look_again(&turn, now)
        {
            return next;
        }
        let tells = turn.refuses() && (version.is_none() || turn.tells_more_than(&before));
        if self.may_write() && (tells || turn.to_write().is_some()) {
            let ledger = turn.ledger().clone();
            self.writing = Some(turn);
            return Next::Write { ledger, replaces: version };
        }
        self.end(turn.stored().1)
    }

    /// Takes the ledger as it was read. `None` where there is none.
    pub fn read(&mut self, stored: Option<Stored>) {
        self.base = stored.map_or(Base::Missing, Base::Stored);
        self.fresh = true;
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

    /// Takes the version of the ledger that was written. Returns the ledger, to be remembered.
    pub fn written(&mut self, version: String) -> Option<Stored> {
        let (ledger, answers) = self.writing.take()?.stored();
        self.answers = Some(answers);
        Some(Stored { ledger, version })
    }

    /// Takes note that another write came first, and the ledger was not written.
    pub fn conflict(&mut self) {
        self.conflicts += 1;
        self.base = Base::Unread;
        if let Some(turn) = self.writing.take()
            && self.conflicts >= MOST_CONFLICTS
        {
            self.answers = Some(turn.given_up());
            // What it shows is not stored.
            self.shown = None;
        }
    }

    /// Returns how many writes met a conflict.
    pub fn conflicts(&self) -> u32 {
        self.conflicts
    }

    /// Returns the ledger with all that this course has seen. `None` where there are more clusters
    /// than a ledger holds.
    fn seen(&self, ledger: Ledger, now: Timestamp) -> Option<Ledger> {
        let mut ledger = match ledger.not_ready(&self.basis) {
            Some(NotReady::OtherBasis) => ledger.resettled(self.basis.clone(), now),
            Some(NotReady::Settling(_)) | None => ledger,
        };
        if let Some(listing) = &self.listing {
            ledger.observe_all(listing).ok()?;
        }
        for found in self.fenced.iter().flatten() {
            ledger.observe(found);
        }
        Some(ledger)
    }

    /// Returns what may still change a refusal.
    fn look_again(&mut self, turn: &Turn, now: Timestamp) -> Option<Next> {
        if !self.fresh {
            self.base = Base::Unread;
            return Some(Next::Read);
        }
        let settling = turn.ledger().settles;
        if self.listing.is_none() && settling.is_none_or(|time| time <= now) {
            return Some(Next::List);
        }
        if self.fenced.is_none() && settling.is_none() && self.may_write() {
            self.fenced = Some(Vec::new());
            let due = turn.ledger().overdue(now);
            return (!due.is_empty()).then_some(Next::Fence(due));
        }
        None
    }

    /// Returns whether a change is more than a dry run.
    fn may_write(&self) -> bool {
        self.asks.iter().any(|ask| ask.grows() && !ask.dry_run)
    }

    fn end(&mut self, answers: Vec<Answer>) -> Next {
        Next::Answer(self.answers.insert(answers).clone())
    }
}

/// Returns the answer to a change where no ledger can be kept, or none is needed.
fn without_ledger(ask: &Ask) -> Answer {
    if ask.grows() { Answer::Full } else { Answer::Free(Free::NoGrowth) }
}

#[cfg(test)]
mod tests;
