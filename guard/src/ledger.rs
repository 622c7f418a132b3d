//! The ledger of a namespace: the instances that its clusters have, and those that were admitted
//! and are not decided yet. It is what makes a budget exact.
//!
//! The API server asks for admission, and only then stores the object. An admitted change may be
//! stored seconds later, or never, and no call tells which. So each admitted growth is recorded
//! here first, by compare-and-swap, and is counted until it is decided.
//!
//! # Deciding without a clock
//!
//! The API server stores an update only on the revision that it asked about
//! (`GuaranteedUpdate` in kubernetes/apiserver, pkg/storage/etcd3/store.go). On a conflict it reads
//! the object again, and asks again. So of all changes that were admitted on one revision at most
//! one is stored: they count as the **greatest** of them, and never as their sum. And whatever was
//! seen at a later revision decides all of them.
//!
//! That makes every step safe with old data. What is seen of a cluster, `(revision, uid, count)`,
//! is true for ever. It lowers an entry only if it is later than all that the entry knows, and a
//! growth that may still be stored was admitted on a revision that is at least as late. Revisions
//! of one resource compare as numbers (KEP-5504).
//!
//! An update whose writer gave up is decided by a **fence**: any write that moves the revision of
//! the cluster, such as a label. It is safe at any time. [`Ledger::overdue`] says when it is due.
//!
//! # What needs a clock
//!
//! A creation has no revision to compare with. It is decided once its uid was seen, or by a read
//! that began [`LAND_WITHIN`] after it was admitted. The same time passes before a new ledger
//! admits growth: changes that were admitted without one may still be stored.
//!
//! # One name, one cluster
//!
//! An entry is kept by name, because at most one cluster of a name exists at a time. What is
//! deleted and created again counts once, and the old cluster counts until it is gone.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

mod course;
mod heal;
mod object;
mod observe;
mod reserve;
mod turn;

#[cfg(test)]
mod crowd;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

pub use course::{Course, MOST_CONFLICTS, Next, Stored};
pub use heal::{Heal, Step};
pub use object::{InstanceLedger, InstanceLedgerSpec, NAME};
pub use observe::{Found, Listing, TooMany};
pub use reserve::{Answer, Ask, Base, Free, Holder, NotReady, Over, Terms};
pub use turn::Turn;

/// The time after which the revision of an undecided update is fenced. Only politeness: a writer
/// that sends its own revision has to send it again after a fence.
pub const FENCE_AFTER: SignedDuration = SignedDuration::from_secs(10);

/// The time after which an admitted request is not stored any more, where no revision tells it.
///
/// The API server gives up after a minute (`RequestTimeout` in pkg/server/config.go), and requests
/// were seen that hung for 90 seconds on their way to etcd (kubernetes/kubernetes#140911). The rest
/// is for replicas whose clocks differ, and for a ledger that one remembers for some seconds.
pub const LAND_WITHIN: SignedDuration = SignedDuration::from_secs(180);

/// The most clusters of a ledger. Each growth writes the whole object.
pub const MOST_CLUSTERS: usize = 1000;

/// The most undecided creations of one name of which each has an end of its own.
pub const MOST_CREATIONS: usize = 4;

/// A revision of the store, the number in `metadata.resourceVersion`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct Revision(pub u64);

/// A `resourceVersion` that is no number, so that it cannot be compared.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the resourceVersion is no number, so revisions cannot be compared")]
pub struct NoRevision;

impl FromStr for Revision {
    type Err = NoRevision;

    fn from_str(text: &str) -> Result<Self, NoRevision> {
        // `parse` would take a sign, too.
        if !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(NoRevision);
        }
        text.parse().map(Self).map_err(|_| NoRevision)
    }
}

impl TryFrom<String> for Revision {
    type Error = NoRevision;

    fn try_from(text: String) -> Result<Self, NoRevision> {
        text.parse()
    }
}

impl From<Revision> for String {
    fn from(revision: Revision) -> Self {
        revision.to_string()
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

/// The instances of a namespace: committed, and admitted but undecided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Ledger {
    /// The policies whose budgets it is kept for, by what tells one life of a budget from another.
    ///
    /// While one of them holds, no growth was admitted past the ledger. Where none of them does,
    /// there may have been a time without a budget, and the ledger has to settle again.
    #[schemars(with = "Vec<String>", length(max = 64), inner(length(max = 128)))]
    pub basis: BTreeSet<String>,
    /// The time from which a list of all clusters makes it ready. `None` once it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Time>")]
    pub settles: Option<Timestamp>,
    /// The revision of the latest list. A name without an entry held no cluster then.
    #[schemars(with = "String", length(max = 20), regex(pattern = r"^[0-9]+$"))]
    pub swept: Revision,
    /// What is known of each name.
    #[serde(default)]
    #[schemars(extend("maxProperties" = MOST_CLUSTERS))]
    pub clusters: BTreeMap<String, Entry>,
}

/// What is known of one name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// The latest revision at which the name was seen.
    #[schemars(with = "String", length(max = 20), regex(pattern = r"^[0-9]+$"))]
    pub at: Revision,
    /// The cluster that held the name then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<Held>,
    /// The undecided creations of this name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    pub creations: Vec<Creation>,
}

/// A cluster at the revision of its entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Held {
    /// The uid of the cluster.
    #[schemars(length(max = 64))]
    pub uid: String,
    /// Its effective number of instances at that revision.
    #[schemars(with = "i64", range(min = 0, max = 4_294_967_295_i64))]
    pub committed: u32,
    /// The greatest growth that was admitted on that revision. Growth on an earlier one is decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raised: Option<Raised>,
}

/// A growth that was admitted and is undecided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Raised {
    /// The effective number of instances after it.
    #[schemars(with = "i64", range(min = 0, max = 4_294_967_295_i64))]
    pub to: u32,
    /// The time from which the revision may be fenced.
    #[schemars(with = "Time")]
    pub until: Timestamp,
}

/// A creation that was admitted and is undecided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Creation {
    /// The uid that the API server has given to the new object. `None` for several creations that
    /// count as one: only the clock decides those.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub uid: Option<String>,
    /// The effective number of instances of the new cluster.
    #[schemars(with = "i64", range(min = 0, max = 4_294_967_295_i64))]
    pub to: u32,
    /// The time after which it is not stored any more.
    #[schemars(with = "Time")]
    pub until: Timestamp,
}

/// The sums of a ledger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// The instances that clusters have.
    pub used: u64,
    /// The instances that undecided changes may add.
    pub reserved: u64,
}

impl Totals {
    /// Returns what counts against the budget.
    pub fn counted(self) -> u64 {
        self.used.saturating_add(self.reserved)
    }
}

/// A cluster whose revision has to be moved, to decide what was admitted on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fence {
    /// Its name.
    pub name: String,
    /// Its uid, a precondition of the write.
    pub uid: String,
    /// Its revision, a precondition of the write. A conflict means that another write has moved it.
    pub at: Revision,
}

impl Entry {
    /// Returns the entry of a name that held no cluster at this revision.
    fn vacant(at: Revision) -> Self {
        Self { at, held: None, creations: Vec::new() }
    }

    /// Returns the committed number of instances.
    pub fn committed(&self) -> u32 {
        self.held.as_ref().map_or(0, |held| held.committed)
    }

    /// Returns the number of instances that count against the budget: the greatest that the name
    /// may come to hold.
    pub fn counted(&self) -> u32 {
        let raised = self.held.as_ref().and_then(|held| held.raised).map_or(0, |raised| raised.to);
        let created = self.creations.iter().map(|creation| creation.to).max().unwrap_or(0);
        self.committed().max(raised).max(created)
    }

    /// Returns whether it says nothing: no cluster holds the name, and none may come to hold it.
    fn is_vacant(&self) -> bool {
        self.held.is_none() && self.creations.is_empty()
    }
}

impl Ledger {
    /// Returns a ledger that knows nothing yet. It admits growth after the time in which changes
    /// that were admitted without it may still be stored, and a list of all clusters.
    pub fn unsettled(basis: BTreeSet<String>, now: Timestamp) -> Self {
        Self {
            basis,
            settles: Some(later(now, LAND_WITHIN)),
            swept: Revision::default(),
            clusters: BTreeMap::new(),
        }
    }

    /// Returns the same ledger for other policies, after a time in which no budget may have held.
    ///
    /// What it knows stays true: undecided changes may still be stored.
    #[must_use]
    pub fn resettled(self, basis: BTreeSet<String>, now: Timestamp) -> Self {
        let settles = self.settles.unwrap_or(now).max(later(now, LAND_WITHIN));
        Self { basis, settles: Some(settles), ..self }
    }

    /// Returns the sums.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for entry in self.clusters.values() {
            let committed = entry.committed();
            totals.used = totals.used.saturating_add(committed.into());
            totals.reserved = totals.reserved.saturating_add((entry.counted() - committed).into());
        }
        totals
    }

    /// Returns the undecided updates that have had their time, each with the write that decides it.
    pub fn overdue(&self, now: Timestamp) -> Vec<Fence> {
        let fence = |(name, entry): (&String, &Entry)| {
            let held = entry.held.as_ref()?;
            let due = held.raised?.until <= now;
            due.then(|| Fence { name: name.clone(), uid: held.uid.clone(), at: entry.at })
        };
        self.clusters.iter().filter_map(fence).collect()
    }

    /// Returns the age of the oldest undecided change. `None` where there is none.
    pub fn oldest(&self, now: Timestamp) -> Option<SignedDuration> {
        let age = |until: Timestamp, whole: SignedDuration| {
            whole.saturating_sub(until.duration_since(now)).max(SignedDuration::ZERO)
        };
        let ages = self.clusters.values().flat_map(|entry| {
            let raised = entry.held.as_ref().and_then(|held| held.raised);
            let raised = raised.map(|raised| age(raised.until, FENCE_AFTER));
            let created = entry.creations.iter().map(|it| age(it.until, LAND_WITHIN));
            raised.into_iter().chain(created)
        });
        ages.max()
    }

    /// Returns the times from which undecided changes may be decided by a fence or by the clock.
    pub fn undecided(&self) -> impl Iterator<Item = Timestamp> {
        self.clusters.values().flat_map(|entry| {
            let raised = entry.held.as_ref().and_then(|held| held.raised);
            let created = entry.creations.iter().map(|creation| creation.until);
            raised.map(|raised| raised.until).into_iter().chain(created)
        })
    }
}

/// Returns the time `after` another, at most the last one.
fn later(time: Timestamp, after: SignedDuration) -> Timestamp {
    time.saturating_add(after).unwrap_or(Timestamp::MAX)
}
