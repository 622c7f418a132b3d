//! The steps, and which of them a state allows.

use crate::ledger::around::{beside, can_fence, touched};
use crate::ledger::replica::{asked, of_replica};
use crate::ledger::setup::{Mistake, Setup};
use crate::ledger::state::{Base, Edit, Kind, Live, NAMES, Phase, REPLICAS, State};
use crate::ledger::stored::{self, LANDS_WITHIN};

/// One step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are an edit, a name or a replica by its number")]
pub enum Step {
    /// A writer sends an edit, and the API server reads the cluster, maybe for some time.
    Send { edit: usize, name: u8, kind: Kind },
    /// The API server reads the cluster again after a conflict.
    ReadAgain(usize),
    /// The API server asks a replica.
    Ask { edit: usize, replica: usize },
    /// The edit adds nothing, or no budget holds: no ledger is asked.
    PassUnasked(usize),
    /// A replica reads the ledger.
    Read(usize),
    /// A replica answers all edits that wait for it. It writes the ledger first where it has to.
    Turn { replica: usize, backwards: bool },
    /// The ledger that a replica was about to write has changed.
    Conflict(usize),
    /// A replica gives up after a conflict.
    GiveUp(usize),
    /// A replica ends before its answers.
    Crash(usize),
    /// A replica ends after it has written the ledger, and before its answers.
    CrashAfterWrite(usize),
    /// The API server stores an edit, or finds that it cannot.
    Commit(usize),
    /// The writer, another webhook or a quota ends an admitted edit.
    Abort(usize),
    /// Another writer edits something else of the cluster.
    Touch(usize),
    /// The reconciler moves the revision of a cluster, to decide what was admitted on it.
    Fence(usize),
    /// The reconciler reads all clusters.
    List,
    /// It takes in what it has read.
    TakeIn,
    /// Time passes.
    Tick,
    /// The budget becomes less.
    Shrink,
    /// The budget, and with it a new ledger, comes into force.
    Appear,
    /// The stored ledger is deleted, and a replica makes a new one.
    DeleteLedger,
    /// A mistake: time releases what was reserved.
    Release(usize),
}

/// A rule that a step breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Broken {
    /// More is stored, or admitted and may still be stored, than the budget or what was there.
    Overshoot,
    /// Less is counted for a name than is stored, or admitted and may still be stored.
    Uncounted,
    /// The ledger's sum rises beyond the budget.
    LedgerOver,
    /// An edit is refused by the budget that fits beside all that was ever stored or admitted.
    RefusedForNothing,
    /// Reservations stay, or counts differ from what is stored, after the last edit.
    NeverReleased,
}

impl Broken {
    /// Returns whether only the ledger is wrong so far.
    pub fn is_of_the_ledger(self) -> bool {
        matches!(self, Self::Uncounted | Self::LedgerOver)
    }
}

/// A step with the state that it leads to, and the rule that it breaks.
pub type Next = (Step, State, Option<Broken>);

impl State {
    /// Returns the state with the sum that must not be passed from now on.
    #[must_use]
    pub fn capped(mut self) -> Self {
        let there = self.counted().max(self.worst());
        self.cap = self.budget.map_or(u8::MAX, |budget| budget.max(self.cap.min(there)));
        self
    }
}

/// Returns the rule that a state breaks.
pub fn broken(state: &State, setup: &Setup) -> Option<Broken> {
    if state.budget.is_some() && state.worst() > state.cap {
        return Some(Broken::Overshoot);
    }
    if !state.is_ready() {
        return None;
    }
    let counted = |name: usize| state.names[name].entry.map_or(0, |entry| entry.counted());
    if (0..NAMES).any(|name| state.worst_of(name) > counted(name)) {
        return Some(Broken::Uncounted);
    }
    if state.counted() > state.cap {
        return Some(Broken::LedgerOver);
    }
    (state.is_quiet() && !heals(state, setup)).then_some(Broken::NeverReleased)
}

/// Returns whether fences and one list, after the last edit, leave what is stored and nothing else.
fn heals(state: &State, setup: &Setup) -> bool {
    let mut state = *state;
    if setup.mistake != Some(Mistake::NoFence) {
        for name in 0..NAMES {
            if can_fence(&state, name) {
                state = touched(state, name);
            }
        }
    }
    let mut ledger = stored::ledger_of(&state);
    let lives = state.names.iter().map(|name| name.live);
    let list = stored::listing(state.revision, state.now + LANDS_WITHIN, lives);
    if ledger.observe_all(&list).is_err() {
        return false;
    }
    let live = state.names.iter().filter_map(|name| name.live);
    let live: u64 = live.map(|live| u64::from(live.count)).sum();
    let totals = ledger.totals();
    (totals.used, totals.reserved, ledger.settles) == (live, 0, None)
}

/// Returns every step that a state allows.
pub fn steps(state: &State, setup: &Setup) -> Vec<Next> {
    let mut all = Vec::with_capacity(16);
    let mut known = Vec::new();
    for (number, edit) in state.edits.iter().enumerate() {
        // Equal edits take equal steps.
        if !known.contains(edit) {
            known.push(*edit);
            of_edit(state, setup, number, &mut all);
        }
    }
    for replica in 0..REPLICAS {
        of_replica(state, setup, replica, &mut all);
    }
    beside(state, setup, &mut all);
    for (_, next, _) in &mut all {
        *next = next.capped().canonical();
    }
    all
}

fn of_edit(state: &State, setup: &Setup, number: usize, all: &mut Vec<Next>) {
    let edit = state.edits[number];
    let name = usize::from(edit.name);
    let with = |phase| {
        let mut next = *state;
        next.edits[number].phase = phase;
        next
    };
    let done = |mut next: State| {
        next.edits[number] = Edit::done();
        next
    };
    match edit.phase {
        Phase::Never | Phase::Done | Phase::Asked { .. } => {}
        Phase::Unsent => {
            for name in 0..NAMES {
                for kind in setup.menu {
                    if let Some(next) = sent(state, number, name, *kind) {
                        let name = u8::try_from(name).unwrap_or(0);
                        all.push((Step::Send { edit: number, name, kind: *kind }, next, None));
                    }
                }
            }
        }
        Phase::Again => {
            let next = match state.names[name].live {
                Some(live) => with(Phase::Read(base(live))),
                None => done(*state),
            };
            all.push((Step::ReadAgain(number), next, None));
        }
        Phase::Read(base) => {
            let grows = stored::ask(edit.name, edit.kind, base).grows();
            if state.budget.is_none() || !grows {
                let unrecorded = state.budget.is_none();
                let next = with(Phase::Admitted { base, since: state.now, unrecorded });
                all.push((Step::PassUnasked(number), next, None));
                return;
            }
            let mut idle = false;
            for replica in 0..REPLICAS {
                let waits = asked(state, replica).next().is_some();
                // Replicas without a waiting edit are the same.
                if !waits && std::mem::replace(&mut idle, true) {
                    continue;
                }
                let place = u8::try_from(replica).unwrap_or(0);
                let next = with(Phase::Asked { replica: place, base, passed: false });
                all.push((Step::Ask { edit: number, replica }, next, None));
            }
        }
        Phase::Admitted { base, .. } => {
            all.push((Step::Commit(number), committed(state, number, base), None));
            all.push((Step::Abort(number), done(*state), None));
        }
    }
}

fn base(live: Live) -> Base {
    Base { uid: live.uid, at: live.at, from: live.count }
}

/// Returns the state after an edit was sent and its cluster was read, `None` where it is refused
/// without a question.
fn sent(state: &State, number: usize, name: usize, kind: Kind) -> Option<State> {
    let mut next = *state;
    let place = &mut next.names[name];
    let read = match (kind, place.live) {
        (Kind::Create(_), _) => {
            place.uids += 1;
            Base { uid: place.uids, at: 0, from: 0 }
        }
        (Kind::Update(to), Some(live)) if to != live.count => base(live),
        (Kind::Delete, Some(_)) => {
            // No ledger is asked, so that it is one step.
            place.live = None;
            next.next_revision();
            next.edits[number] = Edit::done();
            return Some(next);
        }
        (Kind::Update(_) | Kind::Delete, _) => return None,
    };
    let name = u8::try_from(name).unwrap_or(0);
    next.edits[number] = Edit { phase: Phase::Read(read), name, kind };
    Some(next)
}

/// Returns the state after the API server tried to store an edit.
fn committed(state: &State, number: usize, base: Base) -> State {
    let mut next = *state;
    let edit = state.edits[number];
    let name = usize::from(edit.name);
    let live = state.names[name].live;
    next.edits[number] = Edit::done();
    match edit.kind {
        Kind::Create(_) if live.is_some() => {}
        Kind::Create(count) => {
            let at = next.next_revision();
            next.names[name].live = Some(Live { uid: base.uid, count, at });
        }
        Kind::Update(count) if live.is_some_and(|it| (it.uid, it.at) == (base.uid, base.at)) => {
            let at = next.next_revision();
            next.names[name].live = Some(Live { uid: base.uid, count, at });
        }
        // The API server reads the cluster again, and asks again.
        Kind::Update(_) if live.is_some() => {
            next.edits[number] = Edit { phase: Phase::Again, ..edit };
        }
        Kind::Update(_) | Kind::Delete => {}
    }
    let live = next.names[name].live.map_or(0, |live| live.count);
    next.names[name].top = next.names[name].top.max(live);
    next
}
