//! The state of the API server, the ledger, the webhook's replicas and the writers.

use std::fmt;

/// How many clusters, at most, have a name in the namespace.
pub const NAMES: usize = 3;
/// How many replicas the webhook has.
pub const REPLICAS: usize = 3;
/// How many edits there are at most.
pub const EDITS: usize = 4;

/// One state.
///
/// Revisions are ranks: only their order counts. Names and replicas that could change places are
/// the same state.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct State {
    /// The latest revision.
    pub revision: u8,
    /// The time, in halves of what a request may take.
    pub now: u8,
    /// The budget. `None` before there is one.
    pub budget: Option<u8>,
    /// What the sum must not pass: the budget, or what was there when it became less.
    pub cap: u8,
    /// What belongs to each name.
    pub names: [Name; NAMES],
    /// The revision of the ledger's latest list.
    pub swept: u8,
    /// The time from which a list makes the ledger ready.
    pub settles: Option<u8>,
    /// The edits.
    pub edits: [Edit; EDITS],
    /// The replicas.
    pub replicas: [Replica; REPLICAS],
    /// A list that was read and is not taken in yet: its revision, and the time before it.
    pub list: Option<(u8, u8)>,
    /// What may still happen.
    pub left: Left,
}

/// What may still happen, as often as the numbers say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Left {
    /// A replica crashes.
    pub crashes: u8,
    /// Another writer edits something else of a cluster.
    pub touches: u8,
    /// The budget becomes less.
    pub shrinks: u8,
    /// The stored ledger is deleted.
    pub deletions: u8,
    /// The reconciler moves the revision of a cluster.
    pub fences: u8,
    /// The reconciler reads a list.
    pub lists: u8,
}

/// What belongs to one name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    /// The stored cluster.
    pub live: Option<Live>,
    /// The cluster in the list that was read and is not taken in yet.
    pub listed: Option<Live>,
    /// The entry of the ledger.
    pub entry: Option<Entry>,
    /// The number of uids that were given.
    pub uids: u8,
    /// The greatest count that was ever stored or admitted.
    pub top: u8,
}

/// A stored cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Live {
    /// Its uid.
    pub uid: u8,
    /// Its number of instances.
    pub count: u8,
    /// Its revision.
    pub at: u8,
}

/// An entry of the ledger, as [`pgscale_guard::ledger::Entry`]. The time after which an update is
/// fenced is left out: the model fences at any time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Entry {
    /// The revision at which the name was seen.
    pub at: u8,
    /// The cluster that held it.
    pub held: Option<Held>,
    /// The undecided creations.
    pub creations: [Option<Creation>; EDITS],
}

/// A cluster as the ledger has seen it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Held {
    /// Its uid.
    pub uid: u8,
    /// Its committed count.
    pub committed: u8,
    /// The greatest count that was admitted on the revision.
    pub raised: Option<u8>,
}

/// An undecided creation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Creation {
    /// The uid of the new cluster.
    pub uid: u8,
    /// Its count.
    pub to: u8,
    /// The time after which it is not stored any more.
    pub until: u8,
}

/// One edit of a writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Edit {
    /// How far it has come.
    pub phase: Phase,
    /// The name it is about.
    pub name: u8,
    /// What it does.
    pub kind: Kind,
}

/// What an edit does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// It sets the count.
    Update(u8),
    /// It creates a cluster of this count.
    Create(u8),
    /// It deletes the cluster.
    Delete,
}

/// How far an edit has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// It does not take place in this run.
    Never,
    /// It is not sent yet.
    Unsent,
    /// The API server has to read the cluster again, after a conflict.
    Again,
    /// The API server has read the cluster.
    Read(Base),
    /// A replica of the webhook was asked.
    Asked {
        /// The replica.
        replica: u8,
        /// What the API server has read.
        base: Base,
        /// It passed before a conflict. Only a mistake looks at this.
        passed: bool,
    },
    /// It was admitted, and is on its way to the store.
    Admitted {
        /// What the API server has read.
        base: Base,
        /// The time of the answer.
        since: u8,
        /// It was admitted without this ledger. It is stored in its time, or not.
        unrecorded: bool,
    },
    /// It has ended.
    Done,
}

/// What the API server has read before it asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Base {
    /// The uid of the cluster, or the new one of a creation.
    pub uid: u8,
    /// The revision, or 0 for a creation.
    pub at: u8,
    /// The count.
    pub from: u8,
}

/// A replica of the webhook.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Replica {
    /// It has read nothing.
    #[default]
    Idle,
    /// It has read the ledger, and nothing was written since.
    Current,
    /// It has read the ledger, and another write came after that.
    Stale,
}

impl Entry {
    /// Returns the committed count.
    pub fn committed(&self) -> u8 {
        self.held.map_or(0, |held| held.committed)
    }

    /// Returns the count that counts against the budget.
    pub fn counted(&self) -> u8 {
        let raised = self.held.and_then(|held| held.raised).unwrap_or(0);
        let created = self.creations.iter().flatten().map(|creation| creation.to).max();
        self.committed().max(raised).max(created.unwrap_or(0))
    }
}

impl Edit {
    /// Returns whether it is under way, so that its name counts.
    pub fn is_active(&self) -> bool {
        !matches!(self.phase, Phase::Never | Phase::Unsent | Phase::Done)
    }

    /// Returns the edit after its end.
    pub fn done() -> Self {
        Self { phase: Phase::Done, name: 0, kind: Kind::Delete }
    }

    fn base(&mut self) -> Option<&mut Base> {
        match &mut self.phase {
            Phase::Read(base) | Phase::Asked { base, .. } | Phase::Admitted { base, .. } => {
                Some(base)
            }
            Phase::Never | Phase::Unsent | Phase::Again | Phase::Done => None,
        }
    }
}

impl State {
    /// Returns the sum of what is stored and of what is admitted and may still be stored.
    pub fn worst(&self) -> u8 {
        (0..NAMES).map(|name| self.worst_of(name)).sum()
    }

    /// Returns the same of one name.
    pub fn worst_of(&self, name: usize) -> u8 {
        let live = self.names[name].live;
        let admitted = self.edits.iter().filter(|edit| usize::from(edit.name) == name);
        let admitted = admitted.filter_map(|edit| {
            let Phase::Admitted { base, .. } = edit.phase else { return None };
            match edit.kind {
                Kind::Create(to) => Some(to),
                Kind::Update(to) => live
                    .is_some_and(|live| (live.uid, live.at) == (base.uid, base.at))
                    .then_some(to),
                Kind::Delete => None,
            }
        });
        admitted.chain(live.map(|live| live.count)).max().unwrap_or(0)
    }

    /// Returns the sum that the ledger counts.
    pub fn counted(&self) -> u8 {
        self.names.iter().filter_map(|name| name.entry).map(|entry| entry.counted()).sum()
    }

    /// Returns whether the ledger has to hold what the check asks.
    pub fn is_ready(&self) -> bool {
        self.budget.is_some() && self.settles.is_none()
    }

    /// Returns whether no edit is under way.
    pub fn is_quiet(&self) -> bool {
        self.edits.iter().all(|edit| !edit.is_active())
    }

    /// Returns the next revision.
    pub fn next_revision(&mut self) -> u8 {
        self.revision += 1;
        self.revision
    }

    /// Returns the one state that stands for all that differ only in numbers and places.
    #[must_use]
    pub fn canonical(mut self) -> Self {
        self.rank_revisions();
        let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
        let all = orders.map(|order| self.placed(order));
        all.into_iter().min().unwrap_or(self)
    }

    /// Replaces each revision by its rank. 0 stays, for what was never seen.
    fn rank_revisions(&mut self) {
        let mut used = 1_u64;
        self.each_revision(|revision| used |= 1 << *revision);
        self.each_revision(|revision| {
            let below = used & ((1 << *revision) - 1);
            *revision = u8::try_from(below.count_ones()).unwrap_or(u8::MAX);
        });
    }

    fn each_revision(&mut self, mut with: impl FnMut(&mut u8)) {
        with(&mut self.revision);
        with(&mut self.swept);
        if let Some((at, _)) = &mut self.list {
            with(at);
        }
        for name in &mut self.names {
            for live in [&mut name.live, &mut name.listed].into_iter().flatten() {
                with(&mut live.at);
            }
            if let Some(entry) = &mut name.entry {
                with(&mut entry.at);
            }
        }
        for edit in &mut self.edits {
            if let Some(base) = edit.base() {
                with(&mut base.at);
            }
        }
    }

    /// Returns the state with its names in another order, and edits and replicas in theirs.
    fn placed(&self, order: [u8; NAMES]) -> Self {
        let mut moved = *self;
        for (from, to) in order.into_iter().enumerate() {
            moved.names[usize::from(to)] = self.names[from];
        }
        for edit in &mut moved.edits {
            if edit.is_active() {
                edit.name = order[usize::from(edit.name)];
            }
        }
        // Sorted without the replicas, which get their places by the sorted edits.
        let key = |edit: &Edit| {
            let mut edit = *edit;
            if let Phase::Asked { replica, .. } = &mut edit.phase {
                *replica = 0;
            }
            edit
        };
        moved.edits.sort_by_key(key);
        let mut places = [None; REPLICAS];
        let mut next = 0;
        for edit in &mut moved.edits {
            if let Phase::Asked { replica, .. } = &mut edit.phase {
                let place = places[usize::from(*replica)].get_or_insert_with(|| {
                    next += 1;
                    next - 1
                });
                *replica = *place;
            }
        }
        moved.replicas = [Replica::Idle; REPLICAS];
        for (from, place) in places.into_iter().enumerate() {
            if let Some(place) = place {
                moved.replicas[usize::from(place)] = self.replicas[from];
            }
        }
        moved
    }
}

impl fmt::Debug for State {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { revision, now, budget, cap, settles, .. } = self;
        write!(out, "revision {revision}, time {now}, budget {budget:?} (cap {cap})")?;
        if let Some(settles) = settles {
            write!(out, ", settles at {settles}")?;
        }
        for name in &self.names {
            match name.live {
                Some(Live { uid, count, at }) => write!(out, "; uid {uid}: {count}@{at}")?,
                None => write!(out, "; none")?,
            }
            match name.entry {
                Some(entry) => {
                    write!(out, ", ledger: {}@{}", entry.committed(), entry.at)?;
                    if entry.counted() > entry.committed() {
                        write!(out, " up to {}", entry.counted())?;
                    }
                }
                None => write!(out, ", no entry")?,
            }
        }
        for edit in self.edits.iter().filter(|edit| edit.is_active()) {
            write!(out, "; {:?} of {}: {:?}", edit.kind, edit.name, edit.phase)?;
        }
        if let Some((at, begun)) = self.list {
            write!(out, "; a list of revision {at} and time {begun}")?;
        }
        Ok(())
    }
}
