//! One turn of a webhook: all changes that wait for one ledger are answered together, with one
//! write at most.

use crate::ledger::{Answer, Ask, Ledger, Terms};

/// The answers to some changes, on one state of the ledger.
///
/// Where there is something to write, no answer may be given before it is written, on the condition
/// that the stored ledger is still the one that was read. On a conflict **all** answers are void:
/// the ledger is read again, and a new turn answers every change. To keep the answer of one that
/// passed before the conflict is how a `ResourceQuota` admits too much
/// (kubernetes/kubernetes#141904).
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Turn {
    ledger: Ledger,
    answers: Vec<Answer>,
}

impl Turn {
    /// Answers the changes one after another, each beside those that passed before it.
    pub fn of<'a>(
        mut ledger: Ledger,
        asks: impl IntoIterator<Item = &'a Ask>,
        terms: &Terms<'_>,
    ) -> Self {
        let answers = asks.into_iter().map(|ask| ledger.reserve(ask, terms)).collect();
        Self { ledger, answers }
    }

    /// Returns the ledger to store, `None` where nothing has to be written.
    pub fn to_write(&self) -> Option<&Ledger> {
        self.answers.contains(&Answer::Reserved).then_some(&self.ledger)
    }

    /// Returns the ledger after the turn, whether or not it has to be stored.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Returns whether the ledger counts other instances, or is nearer to being ready, than it did
    /// before: worth a write by itself.
    pub(super) fn tells_more_than(&self, before: &Ledger) -> bool {
        let said = |ledger: &Ledger| (ledger.totals(), ledger.settles, ledger.basis.clone());
        said(&self.ledger) != said(before)
    }

    /// Returns whether a change does not pass. Such an answer has to rest on a ledger that was read
    /// after the change arrived, and on what was seen of the clusters since: an older ledger may
    /// count what is decided by now.
    ///
    /// What passes may rest on an older one, of some seconds. A ledger that was deleted in between
    /// has a successor that settles for longer than that.
    pub fn refuses(&self) -> bool {
        self.answers.iter().any(|answer| !answer.admits())
    }

    /// Returns the answers, and the ledger as it is now, after what was to be written is stored.
    pub fn stored(self) -> (Ledger, Vec<Answer>) {
        (self.ledger, self.answers)
    }

    /// Returns the answers of a turn that is given up after conflicts.
    ///
    /// A change that did not fit beside others may fit without them, so that it is not refused by
    /// the budget either.
    pub fn given_up(self) -> Vec<Answer> {
        let mut answers = self.answers;
        for answer in &mut answers {
            match answer {
                Answer::Free(_) | Answer::NotReady(_) | Answer::Full => {}
                Answer::Reserved | Answer::Over(_) | Answer::Contended => {
                    *answer = Answer::Contended;
                }
            }
        }
        answers
    }
}
