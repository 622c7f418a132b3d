//! The steps of Patroni and PostgreSQL: the lock, failover, switchover, synchronous standbys,
//! replication.
//!
//! Sources: `patroni/ha.py` (`is_healthiest_node`, `process_unhealthy_cluster`, `shutdown`,
//! `manual_failover_process_no_leader`), `patroni/api.py` (`is_failover_possible`).

use crate::setup::Setup;
use crate::state::{MAX_LAG, MEMBERS, Member, Pod, State, bit};
use crate::step::{Step, has};

/// Adds the steps that Patroni and PostgreSQL may take.
pub(crate) fn steps(state: &State, setup: &Setup, steps: &mut Vec<(Step, State)>) {
    let number = |ordinal: usize| u8::try_from(ordinal).unwrap_or(u8::MAX);
    let leading = state.leading();
    for (ordinal, member) in state.each() {
        if member.pod == Pod::Running && !member.started && !state.paused {
            let mut next = *state;
            next.members[ordinal].started = true;
            steps.push((Step::Start(number(ordinal)), flowing(next, setup)));
        }
        if member.elsewhere {
            if member.pod == Pod::Running && member.started && !state.led_elsewhere {
                steps.push((Step::Found(number(ordinal)), founded(state, ordinal)));
            }
            continue;
        }
        let Some(leader) = leading.filter(|leader| *leader != ordinal) else { continue };
        if member.pod == Pod::Running && member.started && !member.built {
            let mut next = *state;
            follow(&mut next, leader, ordinal);
            next.members[ordinal].built = true;
            steps.push((Step::Copy(number(ordinal)), flowing(next, setup)));
        }
        if !setup.prompt && member.receives() && behind(state, leader, member) {
            let mut next = *state;
            follow(&mut next, leader, ordinal);
            steps.push((Step::Replicate(number(ordinal)), next));
        }
    }
    // Members that receive follow within the minute.
    let follows = |(ordinal, member): (usize, &Member)| {
        leading == Some(ordinal) || !member.receives() || member.current
    };
    if state.fresh && leading.is_some() && state.each().all(follows) {
        steps.push((Step::Settle, State { fresh: false, ..*state }));
    }
    match leading {
        Some(leader) if setup.synchronous => {
            let standbys = standbys(state, leader);
            if (state.sync_leader, state.sync) != (Some(number(leader)), standbys) {
                let mut next = *state;
                (next.sync_leader, next.sync) = (Some(number(leader)), standbys);
                steps.push((Step::ChooseStandby, next));
            }
        }
        Some(_) => {}
        None => without_leader(state, setup, steps),
    }
}

fn without_leader(state: &State, setup: &Setup, steps: &mut Vec<(Step, State)>) {
    let holds = state.holder.map(|holder| state.members[usize::from(holder)]);
    // A holder that shuts down renews its lock until it has ended.
    if holds.is_some_and(|holder| holder.pod != Pod::Terminating) && !state.expired {
        steps.push((Step::Expire, State { expired: true, fresh: false, ..*state }));
    }
    let free = state.holder.is_none() || state.expired;
    if !free || state.paused {
        return;
    }
    let eligible = |ordinal: usize| may_take_over(state, setup, ordinal);
    let best = (0..MEMBERS)
        .filter(|ordinal| eligible(*ordinal))
        .map(|ordinal| state.members[ordinal].reach())
        .max();
    for ordinal in (0..MEMBERS).filter(|ordinal| eligible(*ordinal)) {
        if Some(state.members[ordinal].reach()) != best {
            continue;
        }
        let mut next = *state;
        lead(&mut next, ordinal);
        let path = &mut next.path;
        let removed = ordinal >= usize::from(setup.effective(state.declared));
        path.landed |= path.acted && path.writes > 0 && removed && state.declared > 0;
        let number = u8::try_from(ordinal).unwrap_or(u8::MAX);
        steps.push((Step::TakeOver(number), flowing(next, setup)));
    }
}

/// Returns whether a member may take the free lock, the others' positions aside.
fn may_take_over(state: &State, setup: &Setup, ordinal: usize) -> bool {
    let member = &state.members[ordinal];
    let lag = u32::from(state.optime).saturating_sub(member.position());
    member.fit() && lag <= MAX_LAG && in_sync_set(state, setup, ordinal)
}

fn in_sync_set(state: &State, setup: &Setup, ordinal: usize) -> bool {
    let wrote = state.sync_leader.map(usize::from) == Some(ordinal);
    !setup.synchronous || state.sync == 0 || has(state.sync, ordinal) || wrote
}

/// Returns the state after a member took the lead in the other store, where it found no cluster.
///
/// It leads with what its volume holds, or an empty database (`bootstrap` and `post_recover`,
/// patroni/ha.py). Clients reach it, because it is labelled as the leader.
fn founded(state: &State, ordinal: usize) -> State {
    let mut next = *state;
    next.members[ordinal].built = true;
    next.led_elsewhere = true;
    next.path.lost |= next.path.acknowledged & !next.members[ordinal].log;
    next
}

/// Makes a member the leader, with what it has.
fn lead(next: &mut State, ordinal: usize) {
    let number = u8::try_from(ordinal).unwrap_or(u8::MAX);
    for member in &mut next.members {
        member.current = false;
    }
    let member = &mut next.members[ordinal];
    member.current = true;
    next.path.lost |= next.path.acknowledged & !member.log;
    next.optime = u8::try_from(member.position()).unwrap_or(u8::MAX);
    (next.holder, next.expired, next.fresh) = (Some(number), false, true);
    next.history |= next.last != number;
    next.last = number;
}

/// Lets a person make a member the leader where none leads (`patronictl failover`). The member takes
/// the lock whatever it lacks (`manual_failover_process_no_leader`).
pub(crate) fn forced(state: &State, setup: &Setup, ordinal: usize) -> Option<State> {
    let free = state.holder.is_none() || state.expired;
    if !free || !state.members[ordinal].fit() {
        return None;
    }
    let mut next = *state;
    lead(&mut next, ordinal);
    Some(flowing(next, setup))
}

/// Moves the leader to `candidate` where Patroni does that. Returns whether it did.
pub(crate) fn switch_over(next: &mut State, setup: &Setup, candidate: usize) -> bool {
    let Some(leader) = next.leading().filter(|leader| *leader != candidate) else { return false };
    let to = &next.members[candidate];
    let behind = next.members[leader].position().saturating_sub(to.position());
    if !to.fit() || !to.current || behind > MAX_LAG {
        return false;
    }
    if setup.synchronous && !has(next.sync, candidate) {
        return false;
    }
    // The leader stops cleanly. It waits for those that receive.
    if to.receives() {
        follow(next, leader, candidate);
    }
    lead(next, candidate);
    if setup.synchronous {
        next.sync_leader = next.holder;
        next.sync = (next.sync & !bit(candidate)) | bit(leader);
    }
    *next = flowing(*next, setup);
    true
}

/// Returns the state after a commit, where the leader can confirm it.
pub(crate) fn commit(state: &State, setup: &Setup, commit: u8) -> Option<State> {
    let leader = state.leading().filter(|leader| !state.members[*leader].frozen)?;
    let mut next = *state;
    next.members[leader].log |= commit;
    if setup.synchronous && state.sync != 0 {
        let receives = |ordinal: &usize| {
            let standby = &state.members[*ordinal];
            has(state.sync, *ordinal) && standby.receives() && standby.current
        };
        let standby = (0..MEMBERS).find(receives)?;
        follow(&mut next, leader, standby);
    }
    next.optime = u8::try_from(next.members[leader].position()).unwrap_or(u8::MAX);
    next.path.acknowledged |= commit;
    if next.path.since == 0 {
        next.path.safe |= commit;
    }
    Some(flowing(next, setup))
}

/// Shuts the PostgreSQL of a terminating member down, cleanly.
pub(crate) fn shut_down(next: &mut State, ordinal: usize) {
    if next.holder.map(usize::from) != Some(ordinal) || !next.members[ordinal].built {
        return;
    }
    // In pause the lock stays, and no member takes over (`shutdown`, patroni/ha.py).
    if next.paused || next.expired {
        return;
    }
    for replica in (0..MEMBERS).filter(|replica| *replica != ordinal) {
        let replica_receives = next.members[replica].receives() && next.members[replica].current;
        if replica_receives {
            follow(next, ordinal, replica);
        }
    }
    (next.holder, next.fresh) = (None, false);
}

/// Returns whether a sync standby that shuts down still waits for the leader to release it.
pub(crate) fn waits_for_release(state: &State, ordinal: usize) -> bool {
    has(state.sync, ordinal) && state.leading().is_some_and(|leader| leader != ordinal)
}

/// Returns the state after every replica that receives has got what the leader has, where
/// replication is prompt.
pub(crate) fn flowing(mut state: State, setup: &Setup) -> State {
    if !setup.prompt {
        return state;
    }
    state.fresh = false;
    let Some(leader) = state.leading() else { return state };
    for replica in (0..MEMBERS).filter(|replica| *replica != leader) {
        if state.members[replica].receives() {
            follow(&mut state, leader, replica);
        }
    }
    state
}

fn behind(state: &State, leader: usize, member: &Member) -> bool {
    !member.current || member.log != state.members[leader].log
}

fn follow(next: &mut State, leader: usize, replica: usize) {
    next.members[replica].log = next.members[leader].log;
    next.members[replica].current = true;
}

/// Returns the set of synchronous standbys that the leader would write: one, and rather the present
/// one (`SyncHandler.current_state`, patroni/postgresql/sync.py).
fn standbys(state: &State, leader: usize) -> u8 {
    let able = |ordinal: &usize| {
        let member = &state.members[*ordinal];
        *ordinal != leader && member.receives() && member.current
    };
    let wrote = state.sync_leader.map(usize::from) == Some(leader);
    let kept = |ordinal: &usize| wrote && has(state.sync, *ordinal) && able(ordinal);
    let barred = |ordinal: &usize| state.members[*ordinal].barred;
    let chosen = (0..MEMBERS)
        .find(kept)
        .or_else(|| (0..MEMBERS).find(|ordinal| able(ordinal) && !barred(ordinal)))
        .or_else(|| (0..MEMBERS).find(able));
    chosen.map_or(0, bit)
}
