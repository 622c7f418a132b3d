//! The settings of a run, and the mistakes that a test puts in.

use crate::Extent;
use crate::ledger::state::{
    EDITS, Edit, Entry, Held, Kind, Left, Live, NAMES, Name, Phase, REPLICAS, Replica, State,
};
use crate::ledger::stored::LANDS_WITHIN;

/// The settings of one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setup {
    /// The counts of the clusters at the start. `None` for a name without a cluster.
    pub start: [Option<u8>; NAMES],
    /// The budget.
    pub budget: u8,
    /// The budget after it has become less.
    pub less: u8,
    /// What each edit may do, to any name.
    pub menu: &'static [Kind],
    /// How many edits there are.
    pub edits: usize,
    /// What may happen beside them.
    pub left: Left,
    /// The budget, and with it the ledger, comes while edits are under way.
    pub appears: bool,
    /// How often time passes.
    pub times: u8,
    /// The mistake.
    pub mistake: Option<Mistake>,
}

/// A mistake of a ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {
    /// Time alone releases what was reserved.
    ReleaseByTime,
    /// Changes on one revision count as their sum.
    Sum,
    /// After a conflict, the answer of before the conflict is kept.
    FlipOnConflict,
    /// What was seen releases what was reserved on any other revision, not only on earlier ones.
    ReleaseByDifference,
    /// Growth up to what the name counts anyway is not recorded.
    CountedIsFree,
    /// A cluster that holds the name ends the creations of others.
    NameEndsCreation,
    /// A creation ends by a read that began before its time.
    EarlyRead,
    /// A new ledger admits growth at once.
    NoSettling,
    /// No fence decides what a writer has given up.
    NoFence,
    /// There is no ledger: each answer rests on what is stored at its moment. An answer that rests
    /// on a sum of some time ago can only be worse.
    LiveList,
}

impl Setup {
    /// Returns three clusters of one instance, and room for `room` more.
    pub fn of_updates(room: u8, edits: usize) -> Self {
        Self {
            start: [Some(1); NAMES],
            budget: 3 + room,
            less: 3,
            menu: &[Kind::Update(2), Kind::Update(3)],
            edits,
            left: Left { crashes: 1, touches: 0, shrinks: 0, deletions: 0, fences: 1, lists: 1 },
            appears: false,
            times: 0,
            mistake: None,
        }
    }

    /// Returns the first state.
    pub fn first(&self) -> State {
        let mut names = [Name::default(); NAMES];
        for (name, count) in names.iter_mut().zip(self.start) {
            let Some(count) = count else { continue };
            let held = Held { uid: 1, committed: count, raised: None };
            *name = Name {
                live: Some(Live { uid: 1, count, at: 1 }),
                listed: None,
                entry: (!self.appears).then(|| Entry {
                    at: 1,
                    held: Some(held),
                    ..Entry::default()
                }),
                uids: 1,
                top: count,
            };
        }
        let mut edits = [Edit { phase: Phase::Never, ..Edit::done() }; EDITS];
        for edit in edits.iter_mut().take(self.edits) {
            edit.phase = Phase::Unsent;
        }
        let state = State {
            revision: 1,
            now: 0,
            budget: (!self.appears).then_some(self.budget),
            cap: u8::MAX,
            names,
            swept: u8::from(!self.appears),
            settles: None,
            edits,
            replicas: [Replica::Idle; REPLICAS],
            list: None,
            left: self.left,
        };
        state.capped().canonical()
    }
}

/// Returns a run in which others edit the clusters, too.
pub fn touched(room: u8, edits: usize) -> Setup {
    let setup = Setup::of_updates(room, edits);
    Setup { left: Left { touches: 1, crashes: 0, ..setup.left }, ..setup }
}

/// Returns a run in which clusters are created and deleted. Two names hold a cluster, and there is
/// room for two instances.
pub fn creations(edits: usize) -> Setup {
    let setup = Setup::of_updates(0, edits);
    Setup {
        start: [Some(1), Some(1), None],
        budget: 4,
        menu: &[Kind::Create(2), Kind::Update(2), Kind::Delete],
        times: LANDS_WITHIN + 1,
        ..setup
    }
}

/// Returns a run in which the budget becomes less than what is there.
pub fn shrinking(edits: usize) -> Setup {
    let setup = Setup::of_updates(2, edits);
    let menu = &[Kind::Update(0), Kind::Update(2), Kind::Update(3)];
    Setup { less: 2, menu, left: Left { shrinks: 1, ..setup.left }, ..setup }
}

/// Returns a run in which the budget comes while edits are under way.
pub fn appearing(edits: usize) -> Setup {
    let setup = Setup::of_updates(1, edits);
    let menu = &[Kind::Update(2), Kind::Create(1)];
    Setup { appears: true, menu, times: LANDS_WITHIN + 1, ..setup }
}

/// Returns a run in which a person deletes the stored ledger.
pub fn deleted(edits: usize) -> Setup {
    let setup = Setup::of_updates(1, edits);
    let left = Left { deletions: 1, ..setup.left };
    Setup { left, times: LANDS_WITHIN + 1, ..setup }
}

/// Returns a run in which admitted edits take longer than any request may.
pub fn slow(edits: usize) -> Setup {
    Setup { times: LANDS_WITHIN + 1, ..Setup::of_updates(1, edits) }
}

/// Returns the runs of an extent.
pub fn runs(extent: Extent) -> Vec<Setup> {
    let mut runs = vec![
        Setup::of_updates(1, 1),
        Setup::of_updates(1, 2),
        Setup::of_updates(1, 3),
        Setup::of_updates(2, 3),
        touched(1, 2),
        slow(2),
        creations(2),
        shrinking(2),
        appearing(2),
        deleted(2),
    ];
    if extent == Extent::Small {
        return runs;
    }
    let more = |setup: Setup| {
        let left = Left { fences: 2, lists: 2, ..setup.left };
        Setup { left, ..setup }
    };
    runs.extend([touched(2, 3), creations(3), slow(3), appearing(3), deleted(3)]);
    runs.extend([touched(1, 2), creations(2), shrinking(2), appearing(2), deleted(2)].map(more));
    runs.extend([more(Setup::of_updates(1, 3)), Setup::of_updates(1, 4), shrinking(3)]);
    runs
}
