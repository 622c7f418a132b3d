//! What the guard reads of a state: real facts, as its readers would make them.

use pgscale_guard::facts::{Claim, Facts, Live, Member as Read, Seen};
use pgscale_guard::patroni::{Role, State as Words, Store, SyncState, Synchronous};
use pgscale_guard::testing::{healthy, lock, member, now};

use k8s_openapi::jiff::SignedDuration;
use serde_json::json;

use crate::setup::{Mistake, Setup};
use crate::state::{MAX_LAG, MEMBERS, Member, Operator, Pod, State};
use crate::step::has;

/// Bytes of WAL that one commit of the model stands for.
const COMMIT: u64 = 1000;
/// The position before the first commit.
const BEFORE: u64 = 5000;

/// Returns the state with what no reader can tell apart made equal: states that look the same are
/// judged once.
pub fn view(state: &State, setup: &Setup) -> State {
    let mut view = state.bare();
    for member in &mut view.members {
        // Positions are read, and never which commits they stand for. A stalled receiver shows only
        // when the leader has written more.
        member.log = match member.position() {
            8.. => u8::MAX,
            position => (1 << position) - 1,
        };
        member.stalled = false;
        if member.pod == Pod::Absent {
            *member = Member { volume: member.volume, ending: member.ending, ..Member::default() };
        }
    }
    view.operator = if scaled_directly(state, setup) { Operator::Idle } else { Operator::Queued };
    view
}

/// Healthy members, from which those of a state are made.
pub struct Patterns {
    /// By ordinal: as a replica, and as the leader.
    members: Vec<[Read; 2]>,
    /// Facts of a healthy cluster.
    facts: Facts,
}

impl Patterns {
    /// Makes the patterns.
    pub fn new() -> Self {
        let members = (0..MEMBERS).map(|ordinal| {
            let number = i64::try_from(ordinal).unwrap_or(i64::MAX);
            [member(number, false), member(number, true)]
        });
        Self { members: members.collect(), facts: healthy(0, 0) }
    }
}

impl Default for Patterns {
    fn default() -> Self {
        Self::new()
    }
}

/// Returns the facts of a change of the count to `to`, as read in this state.
///
/// A part that the model knows nothing of is as it is in a healthy cluster.
pub fn facts_of(patterns: &Patterns, state: &State, setup: &Setup, to: u8) -> Facts {
    let mut facts = patterns.facts.clone().with_count(i64::from(state.declared), i64::from(to));
    let leading = state.leading();
    let members = state.each().filter(|(_, it)| it.pod != Pod::Absent);
    let members = members.map(|(ordinal, it)| {
        let leads = state.holder.map(usize::from) == Some(ordinal);
        let pattern = &patterns.members[ordinal][usize::from(leads)];
        let mut read = read(pattern, state, it, leads, leading);
        if it.pod == Pod::Running {
            read.pod.ready = state.ready(setup, ordinal);
        }
        read
    });
    let mut members: Vec<Read> = members.collect();
    if setup.mistake == Some(Mistake::AnswersMixedUp) {
        mix_up(&mut members, leading);
    }
    facts.members = Seen::Known(members);
    facts.leader = Seen::Known(the_lock(state));
    facts = facts.with_configuration(|configuration| {
        configuration.paused = state.paused;
        configuration.maximum_lag_on_failover = u64::from(MAX_LAG) * COMMIT;
        if setup.synchronous {
            configuration.synchronous = Synchronous::On;
        }
    });
    if setup.synchronous {
        facts.sync = Seen::Known(SyncState {
            leader: state.sync_leader.map(|leader| name(usize::from(leader))),
            standbys: state
                .each()
                .filter(|(ordinal, _)| has(state.sync, *ordinal))
                .map(|(ordinal, _)| name(ordinal))
                .collect(),
        });
    }
    facts = facts.with_stateful_set(|set| {
        set.replicas = i64::from(state.replicas);
        set.parallel = setup.parallel;
        set.deletes_volumes = setup.deletes_volumes;
        set.scaled_by = scaled_directly(state, setup).then(|| "kubectl".to_owned());
        if setup.replaced && setup.mistake != Some(Mistake::StrangersUnseen) {
            let key = "kubectl.kubernetes.io/restartedAt";
            set.compared.annotations.insert(key.to_owned(), "now".to_owned());
            set.foreign_annotations.push((key.to_owned(), "kubectl-rollout".to_owned()));
        }
    });
    facts = facts.with_settings(|settings| {
        settings.deletes_volumes = setup.deletes_volumes;
        settings.shaping.parallel = setup.parallel;
        settings.min_instances = setup.min.map_or(-1, i64::from);
        settings.max_instances = setup.max.map_or(-1, i64::from);
    });
    if let Seen::Known(operator) = &mut facts.operator {
        operator.available = Some(!state.stopped);
    }
    if setup.store_moves {
        facts = in_stores(facts, state);
    }
    facts.claims = Seen::Known(claims(state));
    facts.last_leader =
        if state.history { Seen::Known(name(usize::from(state.last))) } else { Seen::Absent };
    if let Seen::Known(members) = &mut facts.members
        && setup.mistake == Some(Mistake::TagsUnread)
    {
        members.iter_mut().for_each(untag);
    }
    facts
}

/// Returns the facts with the store that each object names: the operator's settings say Endpoints.
fn in_stores(facts: Facts, state: &State) -> Facts {
    let store = |elsewhere| if elsewhere { Store::ConfigMaps } else { Store::Endpoints };
    let mut facts = facts
        .with_settings(|settings| settings.use_config_maps = Some(false))
        .with_stateful_set(|set| set.store = Some(store(state.made_elsewhere)));
    if let Seen::Known(members) = &mut facts.members {
        for member in members {
            let ordinal = usize::try_from(member.ordinal).unwrap_or(MEMBERS);
            let model = state.members.get(ordinal);
            member.pod.store = model.map(|model| store(model.elsewhere));
        }
    }
    if state.asked_elsewhere {
        let change = &mut facts.change;
        for cluster in change.old.iter_mut().chain([&mut change.new]) {
            let variable = json!({"name": "KUBERNETES_USE_CONFIGMAPS", "value": "true"});
            cluster.spec["env"] = json!([variable]);
        }
    }
    facts
}

fn name(ordinal: usize) -> String {
    format!("acid-a-{ordinal}")
}

fn position(log: u8) -> u64 {
    BEFORE + COMMIT * u64::from(log.count_ones())
}

/// Returns whether another writer than the operator has set `spec.replicas`.
fn scaled_directly(state: &State, setup: &Setup) -> bool {
    state.operator == Operator::Idle && state.replicas != state.target(setup)
}

fn the_lock(state: &State) -> pgscale_guard::patroni::LeaderLock {
    let mut lock = lock("");
    lock.holder = state.holder.map(|holder| name(usize::from(holder)));
    lock.optime = Some(BEFORE + COMMIT * u64::from(state.optime));
    if state.fresh {
        lock.acquired = Some(now() - SignedDuration::from_secs(10));
    }
    if state.expired {
        lock.renewed = Some(now() - SignedDuration::from_mins(10));
    }
    lock
}

/// Returns what a reader sees of one member.
fn read(
    pattern: &Read,
    state: &State,
    member: &Member,
    leads: bool,
    leading: Option<usize>,
) -> Read {
    let mut read = pattern.clone();
    read.pod.created = Some(now() - SignedDuration::from_hours(2));
    let timeline = if member.current { 2 } else { 1 };
    let streams = !leads && leading.is_some() && member.current;
    let (state_word, role) = words(member, leads);
    let runs = state_word == Words::Running;
    if let Seen::Known(report) = &mut read.report {
        (report.state, report.role) = (state_word.clone(), role);
        report.timeline = runs.then_some(timeline);
        report.position = runs.then_some(position(member.log));
        report.replication_state = streams.then(|| "streaming".to_owned());
        report.tags.nofailover = member.barred;
    }
    if let Live::Answered(answer) = &mut read.live {
        (answer.state, answer.role) = (state_word, role);
        answer.timeline = runs.then_some(timeline);
        let at = runs.then_some(position(member.log));
        answer.location = at.filter(|_| leads);
        answer.received = at.filter(|_| !leads);
        answer.replayed = answer.received;
        answer.replication_state = streams.then(|| "streaming".to_owned());
        answer.paused = state.paused;
        answer.tags.nofailover = member.barred;
    }
    match member.pod {
        Pod::Absent | Pod::Running => {}
        Pod::Terminating => {
            read.pod.terminating = true;
            read.live = Live::Silent("connection refused".to_owned());
        }
        Pod::Lost => {
            (read.pod.node_ready, read.pod.ready) = (Some(false), false);
            read.live = Live::Silent("no answer in 1s".to_owned());
        }
    }
    if member.frozen {
        read.live = Live::Silent("no answer in 1s".to_owned());
    }
    read
}

/// Returns the words by which a member's Patroni tells its state and role.
fn words(member: &Member, leads: bool) -> (Words, Role) {
    let role = if leads { Role::Primary } else { Role::Replica };
    match (member.started, member.built) {
        (false, true) if member.pod == Pod::Running => (Words::Stopped, Role::Replica),
        (true | false, true) => (Words::Running, role),
        (true, false) => (Words::CreatingReplica, Role::Replica),
        (false, false) => (Words::Stopped, Role::Uninitialized),
    }
}

fn claims(state: &State) -> Vec<Claim> {
    let kept = state.each().filter(|(_, member)| member.volume);
    let claim = |(ordinal, member): (usize, &Member)| Claim {
        terminating: member.ending,
        name: format!("pgdata-{}", name(ordinal)),
        ordinal: i64::try_from(ordinal).unwrap_or(i64::MAX),
        created: Some(now() - SignedDuration::from_hours(48)),
        capacity: Some(1 << 30),
        requested: Some(1 << 30),
        ..Claim::default()
    };
    kept.map(claim).collect()
}

fn untag(member: &mut Read) {
    if let Seen::Known(report) = &mut member.report {
        report.tags.nofailover = false;
    }
    if let Live::Answered(answer) = &mut member.live {
        answer.tags.nofailover = false;
    }
}

/// Gives every replica the answer of the leader's best one, as if one address answered for all.
fn mix_up(members: &mut [Read], leading: Option<usize>) {
    let leading = leading.and_then(|leading| i64::try_from(leading).ok());
    let position = |member: &Read| match &member.live {
        Live::Answered(answer) => answer.position(),
        Live::NotAsked | Live::Silent(_) => None,
    };
    let replicas = members.iter().filter(|member| Some(member.ordinal) != leading);
    let best = replicas.max_by_key(|member| position(member)).map(|member| member.live.clone());
    let Some(best) = best else { return };
    for member in members.iter_mut().filter(|member| Some(member.ordinal) != leading) {
        member.live = best.clone();
    }
}
