//! The part that each namespace has of what large reviews share.
//!
//! A review is large because of what is written, so the editors of one namespace decide how many there are.
//! They have half of the values, and all places to wait but one: another namespace gets its turn beside them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{ASIDE, Busy};
use crate::admit::budget::VALUES;

/// The most reviews of one namespace that wait for large ones. Eight edits of a large cluster at once are
/// all judged: one is read, the others wait.
pub(super) const OWN_ASIDE: usize = ASIDE - 1;

/// The parts of the namespaces with large reviews in memory, by their names. Reviews without a namespace,
/// or with one that is not known yet, have a part together.
#[derive(Clone, Default)]
pub(super) struct Shares(Arc<Mutex<HashMap<String, Weak<Share>>>>);

/// The part of one namespace.
pub(super) struct Share {
    aside: Arc<Semaphore>,
    weight: Arc<Semaphore>,
}

impl Shares {
    /// Returns the part of a namespace.
    pub(super) fn of(&self, namespace: Option<&str>) -> Arc<Share> {
        let name = namespace.unwrap_or_default();
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(share) = known.get(name).and_then(Weak::upgrade) {
            return share;
        }
        // There are never more than reviews in memory.
        known.retain(|_, share| share.strong_count() > 0);
        let aside = Arc::new(Semaphore::new(OWN_ASIDE));
        // A review of the largest size that is judged fits in.
        let share = Arc::new(Share { aside, weight: Arc::new(Semaphore::new(VALUES)) });
        known.insert(name.to_owned(), Arc::downgrade(&share));
        share
    }
}

impl Share {
    /// Takes one of the places of reviews that wait for large ones.
    ///
    /// # Errors
    /// The namespace has as many as it may have.
    pub(super) fn aside(&self) -> Result<OwnedSemaphorePermit, Busy> {
        Arc::clone(&self.aside).try_acquire_owned().map_err(|_| Busy)
    }

    /// Returns the JSON values that its reviews may have together.
    pub(super) fn weight(&self) -> &Arc<Semaphore> {
        &self.weight
    }
}
