//! The steps of the model, and which of them a state allows.

use crate::setup::{Bound, Setup};
use crate::state::{Fault, Member, Operator, Pod, State, bit};
use crate::{kubernetes, patroni};

/// One step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A client commits, and is told so.
    Commit,
    /// A replica receives what the leader has.
    Replicate(u8),
    /// A member without data copies the leader.
    Copy(u8),
    /// Patroni starts the PostgreSQL of a member.
    Start(u8),
    /// Patroni writes the set of synchronous standbys.
    ChooseStandby,
    /// A member takes the lead in the other store.
    Found(u8),
    /// The leader lock expires.
    Expire,
    /// A member takes the lock.
    TakeOver(u8),
    /// The StatefulSet creates a pod.
    Create(u8),
    /// The StatefulSet deletes a pod.
    Delete(u8),
    /// A pod that is being deleted ends.
    End(u8),
    /// The operator works on an update: it moves the leader where it must and can, or else writes
    /// the StatefulSet.
    Act,
    /// The operator writes the StatefulSet after it moved the leader.
    Patch,
    /// The operator's synchronisation finds a difference.
    Resync,
    /// The writer's change is admitted and stored.
    Write {
        /// The new count.
        to: u8,
        /// The operator drops the update.
        dropped: bool,
    },
    /// The plugin moves the leader before it writes the count.
    Move {
        /// The count that it is to write.
        to: u8,
        /// The new leader.
        candidate: u8,
    },
    /// A mishap.
    Fault(Fault),
    /// A person mends it.
    Heal(Fault),
    /// A person takes the other store out of the manifest.
    TakeBack,
    /// A person makes a member the leader, whatever it lacks.
    Force(u8),
    /// A minute passes, in which members have followed a new leader.
    Settle,
}

/// Returns the steps of Patroni, the operator and Kubernetes, each with the state it leads to.
pub fn of_the_system(state: &State, setup: &Setup) -> Vec<(Step, State)> {
    let mut steps = Vec::with_capacity(8);
    patroni::steps(state, setup, &mut steps);
    kubernetes::steps(state, setup, &mut steps);
    steps
}

/// Returns the commit of a client, where one is possible within the bound.
pub fn commit(state: &State, setup: &Setup, bound: &Bound) -> Option<(Step, State)> {
    let commits = state.path.acknowledged.trailing_ones();
    if commits >= u32::from(bound.commits) {
        return None;
    }
    let next = patroni::commit(state, setup, 1 << commits)?;
    Some((Step::Commit, next))
}

/// Returns the mishaps that may still come, each with the state it leads to.
pub fn faults(state: &State, setup: &Setup, bound: &Bound) -> Vec<(Step, State)> {
    let so_far = state.path.faults.iter().flatten().count();
    if so_far >= usize::from(bound.faults) {
        return Vec::new();
    }
    let leading = state.leading();
    let mut possible = Vec::new();
    for (ordinal, member) in state.each() {
        let replica = leading != Some(ordinal);
        let number = u8::try_from(ordinal).unwrap_or(u8::MAX);
        if member.pod == Pod::Running {
            possible.extend([Fault::Dies(number), Fault::NodeLost(number)]);
            if replica && member.built {
                possible.extend((!member.stalled).then_some(Fault::Stalls(number)));
                possible.extend((!member.frozen).then_some(Fault::Freezes(number)));
                possible.extend((!member.barred).then_some(Fault::Barred(number)));
            }
        }
    }
    possible.extend((!state.paused).then_some(Fault::Paused));
    possible.extend((!state.stopped).then_some(Fault::OperatorStops));
    possible.extend((leading.is_some() && !state.paused).then_some(Fault::LockLost));
    if state.replicas > 1 {
        possible.extend((1..state.replicas).map(Fault::Scaled));
    }
    possible.retain(|fault| bound.kinds.contains(*fault));
    let faults = possible.into_iter().map(|fault| (Step::Fault(fault), strike(state, fault)));
    faults.map(|(step, next)| (step, patroni::flowing(next, setup))).collect()
}

fn strike(state: &State, fault: Fault) -> State {
    let mut next = *state;
    match fault {
        Fault::Dies(ordinal) => {
            next.members[usize::from(ordinal)].end(false);
            note_lost_volumes(&mut next);
        }
        Fault::NodeLost(ordinal) => next.members[usize::from(ordinal)].pod = Pod::Lost,
        Fault::Stalls(ordinal) => next.members[usize::from(ordinal)].stalled = true,
        Fault::Freezes(ordinal) => next.members[usize::from(ordinal)].frozen = true,
        Fault::Barred(ordinal) => next.members[usize::from(ordinal)].barred = true,
        Fault::Paused => next.paused = true,
        Fault::OperatorStops => next.stopped = true,
        Fault::LockLost => (next.holder, next.fresh) = (None, false),
        Fault::Scaled(replicas) => next.replicas = replicas,
    }
    let [first, second] = &mut next.path.faults;
    if first.is_none() {
        *first = Some(fault);
    } else {
        *second = Some(fault);
        if *first > *second {
            std::mem::swap(first, second);
        }
    }
    next.path.since = next.path.since.saturating_add(1);
    next
}

/// Returns what a person may mend, each with the state it leads to.
pub fn heals(state: &State, setup: &Setup) -> Vec<(Step, State)> {
    let mut steps = Vec::new();
    let mut add = |fault, change: &dyn Fn(&mut State)| {
        let mut next = *state;
        change(&mut next);
        steps.push((Step::Heal(fault), next));
    };
    for (ordinal, member) in state.each() {
        let number = u8::try_from(ordinal).unwrap_or(u8::MAX);
        if member.pod == Pod::Lost {
            add(Fault::NodeLost(number), &|next| {
                next.members[ordinal].end(false);
                note_lost_volumes(next);
            });
        }
        if member.stalled {
            add(Fault::Stalls(number), &|next| next.members[ordinal].stalled = false);
        }
        if member.frozen {
            add(Fault::Freezes(number), &|next| next.members[ordinal].frozen = false);
        }
        if member.barred {
            add(Fault::Barred(number), &|next| next.members[ordinal].barred = false);
        }
    }
    if state.paused {
        add(Fault::Paused, &|next| next.paused = false);
    }
    if state.stopped {
        add(Fault::OperatorStops, &|next| next.stopped = false);
    }
    if state.asked_elsewhere {
        let mut next = *state;
        (next.asked_elsewhere, next.operator) = (false, Operator::Queued);
        steps.push((Step::TakeBack, next));
    }
    for (ordinal, _) in state.each() {
        let number = u8::try_from(ordinal).unwrap_or(u8::MAX);
        steps.extend(patroni::forced(state, setup, ordinal).map(|it| (Step::Force(number), it)));
    }
    steps
}

/// Returns the state after an admitted change was stored.
pub fn write(state: &State, setup: &Setup, to: u8, dropped: bool) -> State {
    let mut next = *state;
    begin(&mut next, setup, to);
    next.path.writes = next.path.writes.saturating_add(1);
    next.declared = to;
    next.operator = if dropped { Operator::Dropped } else { Operator::Queued };
    next
}

/// Returns the state after the plugin moved the leader to `candidate`, for a change to `to`. `None`
/// where Patroni refuses.
pub fn plugin_moves(state: &State, setup: &Setup, to: u8, candidate: u8) -> Option<State> {
    let mut next = *state;
    begin(&mut next, setup, to);
    next.path.moved = true;
    patroni::switch_over(&mut next, setup, usize::from(candidate)).then_some(next)
}

/// Marks the begin of an admitted act: from here on a loss without a later fault is its own.
fn begin(next: &mut State, setup: &Setup, to: u8) {
    let leading = next.leading();
    // At zero no member runs. What counts there are the volumes that the count leaves out.
    let at_rest = next.each().all(|(_, member)| member.pod == Pod::Absent);
    let counts = |ordinal: usize, member: &Member| {
        let left_out = ordinal >= usize::from(setup.effective(to));
        // Ordinal 0 starts first. Where it led last, no row has to be given up.
        let first = ordinal == 0 && next.last == 0;
        member.fit() || leading == Some(ordinal) || (at_rest && (left_out || first))
    };
    let held = next.each().filter(|(ordinal, member)| counts(*ordinal, member));
    let held = held.fold(0, |held, (_, member)| held | member.log);
    let before = setup.effective(next.declared);
    let removes = |(ordinal, member): (usize, &Member)| {
        ordinal >= usize::from(before) && member.pod != Pod::Absent
    };
    let unfinished = next.path.writes > 0 && next.each().any(removes);
    let path = &mut next.path;
    path.earlier = unfinished.then_some(before);
    path.parted = unfinished && (path.parted || path.since > 0);
    path.safe = path.acknowledged & held & !path.lost;
    path.led = (leading.is_some() || (at_rest && next.declared == 0)) && setup.effective(to) >= 1;
    (path.since, path.acted) = (0, true);
    (path.deleted, path.foreign, path.landed) = (false, false, false);
}

/// Returns every ordinal of `count` members.
pub fn ordinals(count: u8) -> impl DoubleEndedIterator<Item = usize> {
    0..usize::from(count)
}

/// Marks the commits that no volume holds any more as lost.
pub fn note_lost_volumes(next: &mut State) {
    let held = next.each().filter(|(_, it)| it.volume && it.built);
    let held = held.fold(0, |held, (_, member)| held | member.log);
    next.path.lost |= next.path.acknowledged & !held;
}

/// Returns whether `ordinal` is in the set.
pub fn has(set: u8, ordinal: usize) -> bool {
    set & bit(ordinal) != 0
}
