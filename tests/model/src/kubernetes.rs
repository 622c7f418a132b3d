//! The steps of the operator and of the StatefulSet controller.
//!
//! Sources: `syncStatefulSet`, `updateStatefulSet`, `preScaleDown` and `replaceStatefulSet` of the
//! operator (pkg/cluster/sync.go, resources.go), `processReplica` and `processCondemned` of
//! Kubernetes (`stateful_set_control.go`).

use crate::patroni;
use crate::setup::Setup;
use crate::state::{MEMBERS, Operator, Pod, State};
use crate::step::{Step, note_lost_volumes, ordinals};

/// Adds the steps that the operator and the StatefulSet controller may take.
pub(crate) fn steps(state: &State, setup: &Setup, steps: &mut Vec<(Step, State)>) {
    if !state.stopped {
        operator(state, setup, steps);
    }
    let number = |ordinal: usize| u8::try_from(ordinal).unwrap_or(u8::MAX);
    for ordinal in created(state, setup) {
        let mut next = *state;
        let member = &mut next.members[ordinal];
        member.pod = Pod::Running;
        (member.started, member.stalled, member.frozen) = (!state.paused, false, false);
        member.elsewhere = state.made_elsewhere;
        if !member.volume {
            (member.volume, member.built, member.log, member.current) = (true, false, 0, false);
        }
        steps.push((Step::Create(number(ordinal)), patroni::flowing(next, setup)));
    }
    for ordinal in deleted(state, setup) {
        let mut next = *state;
        next.members[ordinal].pod = Pod::Terminating;
        if state.leading() == Some(ordinal) {
            // A leader below the declared count is not deleted by a change of that count.
            let asked = ordinal >= usize::from(state.target(setup));
            let path = &mut next.path;
            // An earlier change removes it, and it leads by a fault after that one.
            let to_blame = !path.parted || path.earlier.is_none_or(|it| ordinal < usize::from(it));
            path.deleted |= asked && to_blame;
            path.foreign |= !(asked && to_blame);
        }
        steps.push((Step::Delete(number(ordinal)), next));
    }
    for (ordinal, member) in state.each() {
        if member.pod == Pod::Terminating && !patroni::waits_for_release(state, ordinal) {
            let mut next = *state;
            end(&mut next, setup, ordinal);
            steps.push((Step::End(number(ordinal)), next));
        }
    }
}

fn operator(state: &State, setup: &Setup, steps: &mut Vec<(Step, State)>) {
    let target = state.target(setup);
    // Environment and count are written at once (`syncStatefulSet`, pkg/cluster/sync.go).
    let written = State {
        replicas: target,
        operator: Operator::Idle,
        made_elsewhere: state.asked_elsewhere,
        ..*state
    };
    match state.operator {
        Operator::Queued => {
            let mut next = *state;
            if moves_leader(&mut next, setup, target) {
                next.operator = Operator::Moved;
                steps.push((Step::Act, next));
            } else {
                steps.push((Step::Act, written));
            }
        }
        Operator::Moved => steps.push((Step::Patch, written)),
        Operator::Dropped => {
            steps.push((Step::Resync, State { operator: Operator::Queued, ..*state }));
        }
        Operator::Idle if state.replicas != target => {
            steps.push((Step::Resync, State { operator: Operator::Queued, ..*state }));
        }
        Operator::Idle => {}
    }
}

/// Lets the operator move the leader to ordinal 0, the only candidate it knows. Returns whether it
/// did. Whatever the answer is, it goes on.
fn moves_leader(next: &mut State, setup: &Setup, target: u8) -> bool {
    let removes = next.holder.is_some_and(|holder| holder >= target);
    let tries = target < next.replicas && !setup.replaced && !setup.unreachable;
    tries && removes && patroni::switch_over(next, setup, 0)
}

/// Returns the ordinals of which the StatefulSet may create the pod now.
fn created(state: &State, setup: &Setup) -> Vec<usize> {
    let missing = |ordinal: &usize| state.members[*ordinal].pod == Pod::Absent;
    let mut missing = ordinals(state.replicas).filter(missing);
    if setup.parallel {
        return missing.collect();
    }
    // One after the other: each waits until those below it run.
    let ready = |ordinal: usize| state.ready(setup, ordinal);
    missing.next().filter(|first| (0..*first).all(ready)).into_iter().collect()
}

/// Returns the ordinals of which the StatefulSet may delete the pod now.
fn deleted(state: &State, setup: &Setup) -> Vec<usize> {
    let beyond = usize::from(state.replicas)..MEMBERS;
    let runs = |ordinal: &usize| state.members[*ordinal].pod == Pod::Running;
    if setup.parallel {
        return beyond.filter(runs).collect();
    }
    // From the top, one at a time, and only while all that stay are Ready. One that is not Ready
    // itself goes only where no lower pod is unready.
    let unready = |ordinal: &usize| !state.ready(setup, *ordinal);
    let stay = !ordinals(state.replicas).any(|ordinal| unready(&ordinal));
    let there = |ordinal: &usize| state.members[*ordinal].pod != Pod::Absent;
    let first_unready = beyond.clone().filter(there).find(unready);
    let may_go = |ordinal: &usize| {
        stay && runs(ordinal) && (!unready(ordinal) || first_unready == Some(*ordinal))
    };
    beyond.rev().find(there).filter(may_go).into_iter().collect()
}

/// Ends a pod that is being deleted, and its volume where that goes with it.
fn end(next: &mut State, setup: &Setup, ordinal: usize) {
    patroni::shut_down(next, ordinal);
    let goes = setup.deletes_volumes && ordinal >= usize::from(next.replicas);
    next.members[ordinal].end(goes);
    note_lost_volumes(next);
}
