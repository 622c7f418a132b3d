//! The steps of the webhook's replicas: each reads the ledger, answers all that wait for it
//! together, and writes the ledger before it answers.

use pgscale_guard::ledger::{self, Answer, Ask, Free, Ledger, Turn};

use crate::ledger::setup::{Mistake, Setup};
use crate::ledger::state::{Edit, Kind, NAMES, Phase, Replica, State};
use crate::ledger::step::{Broken, Next, Step};
use crate::ledger::stored;

/// Returns the numbers of the edits that wait for a replica.
pub(super) fn asked(state: &State, replica: usize) -> impl Iterator<Item = usize> {
    state.edits.iter().enumerate().filter_map(move |(number, edit)| {
        let Phase::Asked { replica: place, .. } = edit.phase else { return None };
        (usize::from(place) == replica).then_some(number)
    })
}

/// Adds the steps of one replica.
pub(super) fn of_replica(state: &State, setup: &Setup, replica: usize, all: &mut Vec<Next>) {
    let waiting: Vec<usize> = asked(state, replica).collect();
    if waiting.is_empty() {
        return;
    }
    let without = |end: fn(&mut Edit)| {
        let mut next = *state;
        for number in &waiting {
            end(&mut next.edits[*number]);
        }
        next.replicas[replica] = Replica::Idle;
        next
    };
    let failed: fn(&mut Edit) = |edit| *edit = Edit::done();
    let may_crash = state.left.crashes > 0;
    let crashed = |mut next: State| {
        next.left.crashes -= 1;
        next
    };
    if may_crash {
        all.push((Step::Crash(replica), crashed(without(failed)), None));
    }
    match state.replicas[replica] {
        Replica::Idle => all.push((Step::Read(replica), read(state, setup, replica), None)),
        Replica::Stale => {
            if setup.mistake == Some(Mistake::FlipOnConflict) {
                let (next, broken) = turn(state, setup, replica, waiting.clone());
                all.push((Step::Turn { replica, backwards: false }, next, broken));
            }
            let mut next = *state;
            next.replicas[replica] = Replica::Idle;
            all.push((Step::Conflict(replica), next, None));
            all.push((Step::GiveUp(replica), without(failed), None));
        }
        Replica::Current => {
            let (next, broken) = turn(state, setup, replica, waiting.clone());
            if may_crash {
                let mut after = crashed(next);
                for number in &waiting {
                    after.edits[*number] = Edit::done();
                }
                all.push((Step::CrashAfterWrite(replica), after, broken));
            }
            all.push((Step::Turn { replica, backwards: false }, next, broken));
            if waiting.len() > 1 {
                let order = waiting.iter().rev().copied().collect();
                let (next, broken) = turn(state, setup, replica, order);
                all.push((Step::Turn { replica, backwards: true }, next, broken));
            }
        }
    }
}

/// Returns the state after a replica has read the ledger.
fn read(state: &State, setup: &Setup, replica: usize) -> State {
    let mut next = *state;
    next.replicas[replica] = Replica::Current;
    if setup.mistake == Some(Mistake::FlipOnConflict) {
        let waiting: Vec<usize> = asked(state, replica).collect();
        let (after, _) = turn(state, setup, replica, waiting.clone());
        for number in waiting {
            let passes = matches!(after.edits[number].phase, Phase::Admitted { .. });
            if let Phase::Asked { passed, .. } = &mut next.edits[number].phase {
                *passed = passes;
            }
        }
    }
    next
}

/// Returns the state after a turn of a replica, with the ledger as it is stored.
fn turn(
    state: &State,
    setup: &Setup,
    replica: usize,
    order: Vec<usize>,
) -> (State, Option<Broken>) {
    let ask = |number: &usize| ask(state, setup, *number);
    let asks: Vec<Ask> = order.iter().filter_map(ask).collect();
    let basis = stored::basis();
    let mut terms = stored::terms(state, &basis);
    let passed = |number: &usize| {
        let phase = state.edits[*number].phase;
        matches!(phase, Phase::Asked { passed: true, .. })
    };
    if state.replicas[replica] == Replica::Stale && order.iter().all(passed) {
        terms.budget = u32::MAX;
    }
    let turn = Turn::of(stored::ledger_of(state), &asks, &terms);
    let mut next = *state;
    if let Some(ledger) = turn.to_write() {
        written(&mut next, ledger);
    }
    let (_, mut answers) = turn.stored();
    if setup.mistake == Some(Mistake::LiveList) {
        next = *state;
        answers = order.iter().map(|number| by_live_list(state, *number)).collect();
    }
    let mut broken = None;
    for (number, answer) in order.into_iter().zip(answers) {
        let Edit { phase, name, kind } = state.edits[number];
        let (Phase::Asked { base, .. }, Kind::Update(to) | Kind::Create(to)) = (phase, kind) else {
            continue;
        };
        let name = usize::from(name);
        if answer.admits() {
            let phase = Phase::Admitted { base, since: state.now, unrecorded: false };
            next.edits[number].phase = phase;
            next.names[name].top = next.names[name].top.max(to);
        } else {
            next.edits[number] = Edit::done();
            if matches!(answer, Answer::Over(_)) && fits(&next, name, to) {
                broken = Some(Broken::RefusedForNothing);
            }
        }
    }
    next.replicas[replica] = Replica::Idle;
    (next, broken)
}

/// Returns the answer of a webhook that adds up what is stored.
fn by_live_list(state: &State, number: usize) -> Answer {
    let Edit { name, kind, .. } = state.edits[number];
    let live = |name: usize| state.names[name].live.map_or(0, |live| live.count);
    let others = (0..NAMES).filter(|other| *other != usize::from(name)).map(live).sum::<u8>();
    let fits = match kind {
        Kind::Update(to) | Kind::Create(to) => state.budget.is_none_or(|all| others + to <= all),
        Kind::Delete => true,
    };
    if fits { Answer::Free(Free::NoGrowth) } else { Answer::Full }
}

/// Returns what is asked about an edit, with the mistakes that are made here.
fn ask(state: &State, setup: &Setup, number: usize) -> Option<Ask> {
    let edit = state.edits[number];
    let Phase::Asked { base, .. } = edit.phase else { return None };
    let mut ask = stored::ask(edit.name, edit.kind, base);
    let entry = state.names[usize::from(edit.name)].entry.unwrap_or_default();
    let counted = entry.counted();
    if setup.mistake == Some(Mistake::Sum) && entry.at == base.at && counted > entry.committed() {
        ask.to += u32::from(counted - base.from);
    }
    if setup.mistake == Some(Mistake::CountedIsFree) && ask.to <= u32::from(counted) {
        // It does not grow, then.
        ask.base = ledger::Base::Update { at: ledger::Revision(base.at.into()), from: ask.to };
    }
    Some(ask)
}

/// Returns whether a refused count fits beside the greatest counts that any name ever had.
fn fits(state: &State, name: usize, to: u8) -> bool {
    let all: u8 = state.names.iter().map(|name| name.top).sum();
    let own = state.names[name].top;
    state.budget.is_some_and(|budget| all - own + own.max(to) <= budget)
}

/// Stores a ledger. A replica that has read it before meets a conflict.
pub(super) fn written(state: &mut State, ledger: &Ledger) {
    stored::store(state, ledger);
    for replica in &mut state.replicas {
        if *replica == Replica::Current {
            *replica = Replica::Stale;
        }
    }
}
