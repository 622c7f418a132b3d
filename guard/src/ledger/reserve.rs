//! Admitting growth against a budget: the only way in which an entry becomes more.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ledger::{
    Creation, Entry, FENCE_AFTER, Found, Held, LAND_WITHIN, Ledger, MOST_CLUSTERS, MOST_CREATIONS,
    Raised, Revision, later,
};

/// The most clusters that a refusal names.
const MOST_HOLDERS: usize = 5;

/// One change, as the API server asks about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// The name of the cluster, the generated one where the API server has generated it.
    pub name: String,
    /// Its uid. The API server gives it before it asks, on CREATE, too.
    pub uid: String,
    /// What the change is based on.
    pub base: Base,
    /// The effective number of instances after it.
    pub to: u32,
    /// A dry run: nothing is stored.
    pub dry_run: bool,
}

/// What a change is based on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    /// It creates the cluster.
    Creation,
    /// It changes the cluster, and is stored only while it has this revision.
    Update {
        /// The `resourceVersion` of `oldObject`.
        at: Revision,
        /// The effective number of instances of `oldObject`.
        from: u32,
    },
}

/// The present demands, and the time.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// The smallest budget of the policies of the namespace.
    pub budget: u32,
    /// The policies that set a budget: see [`Ledger::basis`].
    pub basis: &'a BTreeSet<String>,
    /// The present time.
    pub now: Timestamp,
}

/// The answer to one change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It passes, and nothing has to be written.
    Free(Free),
    /// It passes once the changed ledger is stored, and not before.
    Reserved,
    /// It does not fit.
    Over(Over),
    /// The ledger cannot say yet.
    NotReady(NotReady),
    /// The ledger holds no further name: the namespace has too many clusters.
    Full,
    /// Others wrote the ledger each time. The writer may try again.
    Contended,
}

impl Answer {
    /// Returns whether the change passes, a reserved one once the ledger is stored.
    pub fn admits(&self) -> bool {
        matches!(self, Self::Free(_) | Self::Reserved)
    }
}

/// The reason for which nothing has to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Free {
    /// It adds no instance.
    NoGrowth,
    /// As much growth on the same revision, or the same creation, is recorded already.
    Covered,
    /// The cluster has a later revision by now. The API server cannot store this change, and asks
    /// about it again.
    Outrun,
    /// A dry run would pass.
    DryRun,
}

/// The reason for which the ledger cannot say whether growth fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotReady {
    /// Changes that were admitted without a budget may still be stored until this time, or no
    /// list was read since.
    Settling(Timestamp),
    /// The budgets are others than those that it was kept for: see [`Ledger::resettled`].
    OtherBasis,
}

/// The reason for which growth does not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Over {
    /// The budget.
    pub budget: u32,
    /// The instances that clusters have.
    pub used: u64,
    /// The instances that undecided changes may add.
    pub reserved: u64,
    /// What the change would add to the sum.
    pub wanted: u64,
    /// The clusters that count most, and how many count less.
    pub holders: Vec<Holder>,
    /// How many further clusters count.
    pub others: usize,
}

impl Over {
    /// Returns what is left of the budget.
    pub fn free(&self) -> u64 {
        u64::from(self.budget).saturating_sub(self.used.saturating_add(self.reserved))
    }

    /// Returns whether only undecided changes stand in the way: the same change may fit soon.
    pub fn may_fit_soon(&self) -> bool {
        self.used.saturating_add(self.wanted) <= self.budget.into()
    }
}

/// A cluster that counts against the budget.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Its name.
    pub name: String,
    /// Its committed number of instances.
    pub committed: u32,
    /// The number that counts: more than the committed one while growth is undecided.
    pub counted: u32,
}

impl Ask {
    /// Returns whether the change adds instances. One that does not needs no ledger.
    pub fn grows(&self) -> bool {
        match self.base {
            Base::Creation => self.to > 0,
            Base::Update { from, .. } => self.to > from,
        }
    }
}

impl Ledger {
    /// Answers one change, and records it where it is [`Answer::Reserved`].
    ///
    /// A change is refused only if it would raise the sum beyond the budget. A sum that is beyond
    /// it already may not rise, and whatever does not raise it passes.
    pub fn reserve(&mut self, ask: &Ask, terms: &Terms<'_>) -> Answer {
        if !ask.grows() {
            return Answer::Free(Free::NoGrowth);
        }
        if let Some(why) = self.not_ready(terms.basis) {
            return Answer::NotReady(why);
        }
        if ask.dry_run {
            let answer = self.clone().reserve(&Ask { dry_run: false, ..ask.clone() }, terms);
            return if answer.admits() { Answer::Free(Free::DryRun) } else { answer };
        }
        let entry = self.clusters.get(&ask.name);
        if entry.is_none() && self.clusters.len() >= MOST_CLUSTERS {
            return Answer::Full;
        }
        if let Base::Update { at, .. } = ask.base {
            let known = entry.map_or(self.swept, |entry| entry.at);
            // An entry may know of this very revision. A list that did not show the name cannot.
            if at < known || (entry.is_none() && at == known) {
                return Answer::Free(Free::Outrun);
            }
        }
        let mut entry = entry.cloned().unwrap_or_else(|| Entry::vacant(self.swept));
        if let Base::Update { at, from } = ask.base {
            let (name, uid) = (ask.name.clone(), ask.uid.clone());
            entry.observe(at, Some(&Found { name, uid, at, instances: from }));
        }
        if entry.covers(ask) {
            return Answer::Free(Free::Covered);
        }
        // What the change itself has shown is true, whatever the answer.
        let before = entry.counted();
        if !entry.is_vacant() {
            self.clusters.insert(ask.name.clone(), entry.clone());
        }
        entry.record(ask, terms.now);
        let wanted = u64::from(entry.counted() - before);
        let totals = self.totals();
        if wanted > 0 && totals.counted().saturating_add(wanted) > terms.budget.into() {
            return Answer::Over(self.over(terms.budget, wanted));
        }
        self.basis.clone_from(terms.basis);
        self.clusters.insert(ask.name.clone(), entry);
        Answer::Reserved
    }

    /// Returns the reason for which growth cannot be judged, if there is one.
    pub fn not_ready(&self, basis: &BTreeSet<String>) -> Option<NotReady> {
        if self.basis.is_disjoint(basis) {
            return Some(NotReady::OtherBasis);
        }
        self.settles.map(NotReady::Settling)
    }

    fn over(&self, budget: u32, wanted: u64) -> Over {
        let totals = self.totals();
        let (holders, others) = self.holders();
        Over { budget, used: totals.used, reserved: totals.reserved, wanted, holders, others }
    }

    /// Returns the clusters that count most, and how many further ones count.
    pub fn holders(&self) -> (Vec<Holder>, usize) {
        let counting = self.clusters.iter().filter(|(_, entry)| entry.counted() > 0);
        let mut holders: Vec<Holder> = counting
            .map(|(name, entry)| Holder {
                name: name.clone(),
                committed: entry.committed(),
                counted: entry.counted(),
            })
            .collect();
        // A stable sort: equal ones stay in the order of their names.
        holders.sort_by_key(|holder| Reverse(holder.counted));
        let others = holders.len().saturating_sub(MOST_HOLDERS);
        holders.truncate(MOST_HOLDERS);
        (holders, others)
    }
}

impl Entry {
    /// Returns whether the change is recorded already, so that it counts as long as it may be
    /// stored.
    fn covers(&self, ask: &Ask) -> bool {
        match ask.base {
            Base::Creation => self
                .creations
                .iter()
                .any(|creation| creation.uid.as_ref() == Some(&ask.uid) && creation.to >= ask.to),
            Base::Update { at, .. } => self.held.as_ref().is_some_and(|held| {
                at == self.at
                    && held.uid == ask.uid
                    && held.raised.is_some_and(|raised| raised.to >= ask.to)
            }),
        }
    }

    /// Records an admitted growth on what the entry has seen of the cluster.
    fn record(&mut self, ask: &Ask, now: Timestamp) {
        match ask.base {
            Base::Creation => self.record_creation(ask, later(now, LAND_WITHIN)),
            Base::Update { at, from } => {
                let raised = Raised { to: ask.to, until: later(now, FENCE_AFTER) };
                let counted = self.counted();
                match &mut self.held {
                    Some(held) if held.uid == ask.uid => held.raised = Some(raised),
                    // Two uids at one revision do not happen. If they did, neither may count less.
                    Some(held) => {
                        let to = ask.to.max(counted);
                        held.raised = Some(Raised { to, ..raised });
                    }
                    None => {
                        let uid = ask.uid.clone();
                        self.at = at;
                        self.held = Some(Held { uid, committed: from, raised: Some(raised) });
                    }
                }
            }
        }
    }

    /// Records a creation. Beyond the bound it becomes one with the last one, and both count
    /// as the greater for the longer time.
    fn record_creation(&mut self, ask: &Ask, until: Timestamp) {
        let same = |creation: &&mut Creation| creation.uid.as_ref() == Some(&ask.uid);
        if let Some(creation) = self.creations.iter_mut().find(same) {
            (creation.to, creation.until) = (creation.to.max(ask.to), until);
            return;
        }
        if let Some(last) = self.creations.get_mut(MOST_CREATIONS - 1) {
            let (to, until) = (last.to.max(ask.to), last.until.max(until));
            *last = Creation { uid: None, to, until };
        } else {
            self.creations.push(Creation { uid: Some(ask.uid.clone()), to: ask.to, until });
        }
    }
}
