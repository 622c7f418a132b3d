//! Taking what was seen of clusters into the ledger: the only way in which an entry becomes less.

use jiff::Timestamp;

use crate::ledger::{Entry, Held, Ledger, MOST_CLUSTERS, Revision};

/// A cluster as it was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Its own revision.
    pub at: Revision,
    /// Its effective number of instances.
    pub instances: u32,
}

/// All clusters of the namespace, as one list showed them: pages of several revisions are none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// The revision of the list. A name that is not in it held no cluster at this revision.
    pub at: Revision,
    /// The time before the request was sent, where the list is a consistent one. `None` where it
    /// may come from a cache: it then decides no creation by time.
    pub begun: Option<Timestamp>,
    /// The clusters.
    pub clusters: Vec<Found>,
}

/// More clusters than a ledger holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the namespace has {0} clusters, and a budget can be kept for {MOST_CLUSTERS} at most")]
pub struct TooMany(pub usize);

impl Entry {
    /// Takes in what was seen of the name at a revision: a cluster, or none.
    ///
    /// What is seen later decides whatever was admitted on an earlier revision: it is stored by
    /// then, or never. What is seen earlier says nothing new.
    pub(super) fn observe(&mut self, at: Revision, found: Option<&Found>) {
        if let Some(found) = found {
            // A uid is given once. Its creation was stored, whatever came after it.
            self.creations.retain(|creation| creation.uid.as_ref() != Some(&found.uid));
        }
        if at > self.at {
            self.at = at;
            self.held = found.map(|found| Held {
                uid: found.uid.clone(),
                committed: found.instances,
                raised: None,
            });
        } else if at == self.at
            && let (Some(found), Some(held)) = (found, &mut self.held)
            && found.uid == held.uid
        {
            // The same object: only the operator's limits, which make the count, may differ.
            held.committed = found.instances;
        }
    }

    /// Drops the creations that were not stored in their time, at a consistent read of the name
    /// that began at `begun` and did not show them.
    fn expire(&mut self, begun: Timestamp) {
        self.creations.retain(|creation| creation.until > begun);
    }
}

impl Ledger {
    /// Takes in one cluster as it was seen, in an answer of any age.
    pub fn observe(&mut self, found: &Found) {
        if let Some(entry) = self.entry_to_observe(found) {
            entry.observe(found.at, Some(found));
        }
    }

    /// Takes in a list of all clusters, of any age.
    ///
    /// # Errors
    /// The namespace has more clusters than a ledger holds. Nothing is taken in then.
    pub fn observe_all(&mut self, listing: &Listing) -> Result<(), TooMany> {
        if listing.clusters.len() > MOST_CLUSTERS {
            return Err(TooMany(listing.clusters.len()));
        }
        for found in &listing.clusters {
            self.observe(found);
        }
        let mut listed: Vec<&str> =
            listing.clusters.iter().map(|found| found.name.as_str()).collect();
        listed.sort_unstable();
        for (name, entry) in &mut self.clusters {
            if listed.binary_search(&name.as_str()).is_err() {
                entry.observe(listing.at, None);
            }
            if let Some(begun) = listing.begun {
                entry.expire(begun);
            }
        }
        self.swept = self.swept.max(listing.at);
        // `swept` remembers that these names held no cluster.
        let swept = self.swept;
        self.clusters.retain(|_, entry| !entry.is_vacant() || entry.at > swept);
        let settled = |time| listing.begun.is_some_and(|begun| begun >= time);
        self.settles = self.settles.filter(|time| !settled(*time));
        Ok(())
    }

    /// Returns the entry for what was seen. `None` where the latest list showed no cluster of the
    /// name, and this was seen before.
    fn entry_to_observe(&mut self, found: &Found) -> Option<&mut Entry> {
        if !self.clusters.contains_key(&found.name) && found.at <= self.swept {
            return None;
        }
        let swept = self.swept;
        Some(self.clusters.entry(found.name.clone()).or_insert_with(|| Entry::vacant(swept)))
    }
}
