//! The steps of the reconciler, of people and of time.

use pgscale_guard::ledger::Ledger;

use crate::ledger::replica::written;
use crate::ledger::setup::{Mistake, Setup};
use crate::ledger::state::{Creation, Entry, Held, Kind, Left, Live, NAMES, Phase, State};
use crate::ledger::step::{Next, Step};
use crate::ledger::stored::{self, LANDS_WITHIN};

/// Returns whether a growth is recorded on the revision that the cluster still has.
pub(super) fn can_fence(state: &State, name: usize) -> bool {
    let Some((live, entry)) = state.names[name].live.zip(state.names[name].entry) else {
        return false;
    };
    let raised = |held: Held| held.raised.is_some() && held.uid == live.uid;
    live.at == entry.at && entry.held.is_some_and(raised)
}

pub(super) fn touched(mut state: State, name: usize) -> State {
    let at = state.next_revision();
    if let Some(live) = &mut state.names[name].live {
        live.at = at;
    }
    state
}

/// Adds the steps of the reconciler, of people and of time.
pub(super) fn beside(state: &State, setup: &Setup, all: &mut Vec<Next>) {
    for name in 0..NAMES {
        if state.left.touches > 0 && state.names[name].live.is_some() {
            let mut next = touched(*state, name);
            next.left.touches -= 1;
            all.push((Step::Touch(name), next, None));
        }
        if state.left.fences > 0 && can_fence(state, name) {
            let mut next = touched(*state, name);
            next.left.fences -= 1;
            all.push((Step::Fence(name), next, None));
        }
        if setup.mistake == Some(Mistake::ReleaseByTime) && state.now > 0 {
            let mut next = *state;
            if let Some(held) = next.names[name].entry.as_mut().and_then(|it| it.held.as_mut()) {
                held.raised = None;
            }
            all.push((Step::Release(name), next, None));
        }
    }
    if state.budget.is_some() && state.list.is_none() && state.left.lists > 0 {
        let mut next = *state;
        next.left.lists -= 1;
        next.list = Some((state.revision, state.now));
        for name in &mut next.names {
            name.listed = name.live;
        }
        all.push((Step::List, next, None));
    }
    if state.list.is_some() {
        all.push((Step::TakeIn, taken_in(state, setup), None));
    }
    if state.now < setup.times && !has_to_land_first(state) {
        all.push((Step::Tick, State { now: state.now + 1, ..*state }, None));
    }
    if state.left.shrinks > 0 && state.budget.is_some() {
        let left = Left { shrinks: state.left.shrinks - 1, ..state.left };
        all.push((Step::Shrink, State { budget: Some(setup.less), left, ..*state }, None));
    }
    if state.budget.is_none() {
        let next = new_ledger(State { budget: Some(setup.budget), ..*state }, setup);
        all.push((Step::Appear, next, None));
    }
    if state.left.deletions > 0 && state.budget.is_some() {
        let left = Left { deletions: state.left.deletions - 1, ..state.left };
        let mut next = new_ledger(State { left, ..*state }, setup);
        for edit in &mut next.edits {
            if let Phase::Admitted { unrecorded, .. } = &mut edit.phase {
                *unrecorded = true;
            }
        }
        all.push((Step::DeleteLedger, next, None));
    }
}

/// Returns whether an admitted request has to be stored, or end, before time passes: the only
/// thing that the ledger trusts a clock with.
fn has_to_land_first(state: &State) -> bool {
    state.edits.iter().any(|edit| {
        let Phase::Admitted { since, unrecorded, .. } = edit.phase else { return false };
        let by_clock = unrecorded || matches!(edit.kind, Kind::Create(_));
        by_clock && since + LANDS_WITHIN <= state.now + 1
    })
}

/// Returns the state with a ledger that knows nothing yet, made now.
fn new_ledger(mut state: State, setup: &Setup) -> State {
    let mut ledger = Ledger::unsettled(stored::basis(), stored::time(state.now));
    if setup.mistake == Some(Mistake::NoSettling) {
        let lives = state.names.iter().map(|name| name.live);
        let list = stored::listing(state.revision, state.now + LANDS_WITHIN, lives);
        _ = ledger.observe_all(&list);
    }
    written(&mut state, &ledger);
    state
}

/// Returns the state after the list that was read was taken into the ledger.
fn taken_in(state: &State, setup: &Setup) -> State {
    let mut next = *state;
    let Some((at, begun)) = next.list.take() else { return next };
    let listed = state.names.map(|name| name.listed);
    for name in &mut next.names {
        name.listed = None;
    }
    let begun = if setup.mistake == Some(Mistake::EarlyRead) { state.now } else { begun };
    let mut ledger = stored::ledger_of(&next);
    if ledger.observe_all(&stored::listing(at, begun, listed.into_iter())).is_err() {
        return next;
    }
    written(&mut next, &ledger);
    for (name, live) in next.names.iter_mut().zip(listed) {
        let (Some(entry), Some(live)) = (&mut name.entry, live) else { continue };
        match setup.mistake {
            Some(Mistake::NameEndsCreation) => ended(entry, live),
            Some(Mistake::ReleaseByDifference) if live.at != entry.at => {
                let held = Held { uid: live.uid, committed: live.count, raised: None };
                (entry.at, entry.held) = (live.at, Some(held));
            }
            _ => {}
        }
    }
    next
}

/// Ends the creations of all others than the cluster that holds the name.
fn ended(entry: &mut Entry, live: Live) {
    for creation in &mut entry.creations {
        *creation = creation.filter(|Creation { uid, .. }| *uid == live.uid);
    }
    entry.creations.sort_unstable();
}
