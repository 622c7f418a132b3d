//! Everything a rule may look at, as plain data.
//!
//! A fact is [`Seen`]: known, known to be absent, or unreadable with the reason. A rule that needs a fact it
//! cannot see says so; it never takes silence for "fine".

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use crate::change::{Change, Direction};
use crate::operator::Operator;
use crate::patroni::{
    Answer, Configuration, LeaderLock, PendingFailover, Report, State, SyncState,
};
use crate::postgresql::Postgresql;

mod capacity;
mod hand_over;
mod health;
mod made_anew;

pub use capacity::{Backup, Capacity, DisruptionBudget, Node, Taint};
pub use hand_over::HandOver;
pub use health::{Ailment, Health};

/// How far the guard's clock and a member's may differ before a leader lock counts as expired.
const CLOCK_GRACE: SignedDuration = SignedDuration::from_secs(5);

/// A fact and how we came by it.
#[derive(Clone, Debug, PartialEq)]
pub enum Seen<T> {
    /// The object is not there, and that is certain.
    Absent,
    /// It was read.
    Known(T),
    /// It could not be read; the text says why. Never taken as fine.
    Unreadable(String),
}

impl<T> Seen<T> {
    /// The value, if it was read.
    pub fn known(&self) -> Option<&T> {
        match self {
            Self::Known(value) => Some(value),
            Self::Absent | Self::Unreadable(_) => None,
        }
    }

    /// Why it could not be read.
    pub fn unreadable(&self) -> Option<&str> {
        match self {
            Self::Unreadable(why) => Some(why),
            Self::Absent | Self::Known(_) => None,
        }
    }

    /// The same fact, whose value is borrowed.
    pub fn as_ref(&self) -> Seen<&T> {
        match self {
            Self::Absent => Seen::Absent,
            Self::Known(value) => Seen::Known(value),
            Self::Unreadable(why) => Seen::Unreadable(why.clone()),
        }
    }

    /// The same fact, with what `change` makes of its value.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Seen<U> {
        self.and_then(|value| Seen::Known(change(value)))
    }

    /// What `next` sees in the value; it sees no more than this where there is none.
    pub fn and_then<U>(self, next: impl FnOnce(T) -> Seen<U>) -> Seen<U> {
        match self {
            Self::Known(value) => next(value),
            Self::Absent => Seen::Absent,
            Self::Unreadable(why) => Seen::Unreadable(why),
        }
    }
}

/// The facts about one change of one cluster at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    /// When they were read.
    pub now: Timestamp,
    /// What is being asked.
    pub change: Change,
    /// The operator that owns the cluster; `Absent` when none was found.
    pub operator: Seen<Operator>,
    /// The operator that owned it, where this very write hands it to another. Boxed: that is rare.
    pub operator_before: Option<Box<Seen<Operator>>>,
    /// The cluster's StatefulSet.
    pub stateful_set: Seen<StatefulSet>,
    /// Its pods, by ordinal. `Known` and empty when there are none.
    pub members: Seen<Vec<Member>>,
    /// The leader lock.
    pub leader: Seen<LeaderLock>,
    /// Patroni's dynamic configuration.
    pub configuration: Seen<Configuration>,
    /// A switchover asked for and not done; `Absent` when none is pending.
    pub failover: Seen<PendingFailover>,
    /// The synchronous standbys.
    pub sync: Seen<SyncState>,
    /// The cluster's volume claims.
    pub claims: Seen<Vec<Claim>>,
    /// Name of the member that took the lead last, by Patroni's history; `Absent` where that names nobody.
    pub last_leader: Seen<String>,
    /// What its surroundings have room for. Boxed: a pod's template is large, and facts are handed on a lot.
    pub capacity: Box<Capacity>,
}

/// The StatefulSet, reduced.
#[derive(Clone, Debug, Default, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts as Kubernetes tells them")]
pub struct StatefulSet {
    /// `namespace/name`.
    pub name: String,
    /// `spec.replicas`: what the operator last asked for.
    pub replicas: i64,
    /// `metadata.generation`.
    pub generation: i64,
    /// `status.observedGeneration`.
    pub observed_generation: i64,
    /// All condemned pods end at once (`podManagementPolicy: Parallel`).
    pub parallel: bool,
    /// It is being deleted.
    pub terminating: bool,
    /// Annotations written by someone other than the operator, as (key, manager): the operator replaces the
    /// StatefulSet because of them and skips its hand-over (`compareAnnotations`, pkg/cluster/cluster.go).
    pub foreign_annotations: Vec<(String, String)>,
    /// The claims of members that go are deleted (`persistentVolumeClaimRetentionPolicy.whenScaled`).
    pub deletes_volumes: bool,
    /// A pod counts as ready only when a probe says so; else as soon as its containers have started.
    pub probed: bool,
    /// Who else wrote `spec.replicas` last; `None` while it is the operator's.
    pub scaled_by: Option<String>,
}

/// A volume claim of one ordinal.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Claim {
    /// Its name.
    pub name: String,
    /// The ordinal it belongs to.
    pub ordinal: i64,
    /// When it was created.
    pub created: Option<Timestamp>,
    /// Bytes it holds room for.
    pub capacity: Option<u64>,
    /// Bytes it asks for.
    pub requested: Option<u64>,
    /// The condition that says that it is being resized.
    pub resizing: Option<String>,
    /// It is being deleted.
    pub terminating: bool,
}

/// One member: a pod, what it wrote and what it said.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// Name of the pod and of the Patroni member.
    pub name: String,
    /// Its ordinal.
    pub ordinal: i64,
    /// The pod.
    pub pod: Pod,
    /// The `status` annotation; `Absent` until Patroni's first loop.
    pub report: Seen<Report>,
    /// What it said when asked.
    pub live: Live,
}

impl Member {
    /// Its timeline: what it said when asked, or else what it last reported.
    pub fn timeline(&self) -> Option<u64> {
        let answered = match &self.live {
            Live::Answered(answer) => answer.timeline,
            Live::NotAsked | Live::Silent(_) => None,
        };
        answered.or_else(|| self.report.known()?.timeline)
    }
}

/// The pod of a member.
#[derive(Clone, Debug, Default, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts as Kubernetes tells them")]
pub struct Pod {
    /// `status.phase`.
    pub phase: String,
    /// Its `Ready` condition is true. Means little: the operator sets no readiness probe by default.
    pub ready: bool,
    /// All its containers run.
    pub containers_running: bool,
    /// It is being deleted.
    pub terminating: bool,
    /// When it was created.
    pub created: Option<Timestamp>,
    /// When it got its node.
    pub scheduled: Option<Timestamp>,
    /// When its PostgreSQL container last started; `None` while it does not run.
    pub started: Option<Timestamp>,
    /// Its address.
    pub ip: Option<String>,
    /// The role label: `replica` and others as Patroni wrote it, `master` for a leader as the operator knows it,
    /// `primary` for one under any other name.
    pub role: Option<String>,
    /// The node it runs on; `None` until it is scheduled.
    pub node: Option<String>,
    /// The node's `Ready` condition; `None` when it could not be read.
    pub node_ready: Option<bool>,
    /// The zone of the node.
    pub zone: Option<String>,
    /// Patroni or the operator marked it as busy (`critical-operation: "true"`).
    pub critical_operation: bool,
    /// The operator wants to recreate it (`zalando-postgres-operator-rolling-update-required`).
    pub rolling_update_required: bool,
    /// Why it does not run, in the kubelet's or the scheduler's words.
    pub waiting: Option<String>,
    /// Restarts of its PostgreSQL container.
    pub restarts: i64,
}

/// What a member said when asked for its live state.
#[derive(Clone, Debug, PartialEq)]
pub enum Live {
    /// It answered.
    Answered(Answer),
    /// Nobody asked: this kind of change does not need it.
    NotAsked,
    /// It was asked and gave no (usable) answer; the text says why.
    Silent(String),
}

/// A change that makes a bad state better and is never refused for the live state or the calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repair {
    /// `to` is what the StatefulSet already runs: a change that was not applied is being cancelled.
    Cancels,
    /// The cluster has no pod and no kept volume.
    NothingRuns,
    /// The cluster comes back from zero: there are no members to judge.
    ReturnsFromZero,
    /// Only members that are not healthy and not the leader go.
    RemovesUnhealthyOnly,
}

impl Repair {
    /// Why live-state rules only warn.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Cancels => "not refused: the change returns to what the StatefulSet already runs",
            Self::NothingRuns => "not refused: the cluster has no pod and no kept volume",
            Self::ReturnsFromZero => "not refused: at 0 instances there are no members to judge",
            Self::RemovesUnhealthyOnly => {
                "not refused: only members that are not healthy, and not the leader, go"
            }
        }
    }
}

/// The number of pods `operator` runs for `cluster`; the number written where it has no say that is known.
fn effective(operator: &Seen<Operator>, cluster: &Postgresql) -> i64 {
    match operator.known() {
        Some(operator) => operator.settings.effective(cluster),
        None => cluster.instances.unwrap_or(0),
    }
}

/// `operator` may still run with settings older than those that were read.
fn may_be_stale(operator: &Seen<Operator>) -> bool {
    operator.known().is_some_and(|operator| operator.stale_settings != Some(false))
}

impl Facts {
    /// The effective number of instances before the change, after the operator's own limits; `None` on
    /// CREATE.
    ///
    /// The operator reads its settings once. While those in place may be newer than its pod, it is not known by
    /// which limits a written shrink is carried out: from the most that may run ...
    pub fn from(&self) -> Option<i64> {
        let from = self.from_by_settings()?;
        let written = self.change.old.as_ref()?.instances.unwrap_or(0);
        let before = self.operator_before.as_deref().unwrap_or(&self.operator);
        Some(if self.written_shrink() && may_be_stale(before) { from.max(written) } else { from })
    }

    /// The effective number before the change by the settings in place, whichever the operator has read.
    pub fn from_by_settings(&self) -> Option<i64> {
        let old = self.change.old.as_ref()?;
        Some(match self.operator_before.as_deref() {
            None => effective(&self.operator, old),
            // Nobody carried out what was written: what runs is what the StatefulSet says.
            Some(Seen::Absent) if let Seen::Known(set) = &self.stateful_set => set.replicas,
            Some(before) => effective(before, old),
        })
    }

    /// The effective number of instances the change leads to; of a written shrink by settings that may be newer
    /// than the operator's pod: ... to the fewest that may be left.
    pub fn to(&self) -> i64 {
        let to = self.to_by_settings();
        if self.shrinks_by_older_settings() { to.min(self.asked()) } else { to }
    }

    /// The effective number the change leads to by the settings in place, whichever the operator has read.
    pub fn to_by_settings(&self) -> i64 {
        effective(&self.operator, &self.change.new)
    }

    /// It is a shrink as it is written, and the operator may still run with other limits than those in place.
    /// Growth needs no such care: no limits make it a shrink.
    pub fn shrinks_by_older_settings(&self) -> bool {
        self.written_shrink() && may_be_stale(&self.operator)
    }

    fn written_shrink(&self) -> bool {
        let old = self.change.old.as_ref();
        old.is_some_and(|old| old.instances.unwrap_or(0) > self.asked())
    }

    /// The number the writer wrote; 0 when the field is missing, which is how the operator decodes it.
    pub fn asked(&self) -> i64 {
        self.change.new.instances.unwrap_or(0)
    }

    /// Which way the effective count goes. Down as well where nobody can tell and it might.
    pub fn direction(&self) -> Direction {
        match self.from() {
            None => Direction::Create,
            Some(from) if self.to() < from || self.limits_in_doubt() => Direction::Down,
            Some(from) if self.to() > from => Direction::Up,
            Some(_) => Direction::Same,
        }
    }

    /// Why it cannot be told what ran before a write that moves the cluster to another operator.
    pub fn count_before_unreadable(&self) -> Option<&str> {
        match self.operator_before.as_deref()? {
            Seen::Known(_) => None,
            Seen::Absent => self.stateful_set.unreadable(),
            Seen::Unreadable(why) => Some(why),
        }
    }

    /// The write touches what switches the operator's limits on and off, and those limits could not be read:
    /// the same or a higher number may then be a smaller effective count.
    fn limits_in_doubt(&self) -> bool {
        if self.count_before_unreadable().is_some() {
            return true;
        }
        let (Some(old), Seen::Unreadable(_)) = (&self.change.old, &self.operator) else {
            return false;
        };
        let new = &self.change.new;
        // The annotation's key is a setting of the operator's; its value is always "true".
        let switches = |cluster: &Postgresql| {
            let mut keys: Vec<_> = cluster
                .annotations
                .iter()
                .filter(|(_, value)| *value == "true")
                .map(|(key, _)| key.clone())
                .collect();
            keys.sort_unstable();
            keys
        };
        switches(old) != switches(new)
            || old.controller() != new.controller()
            || old.is_standby() != new.is_standby()
    }

    /// Name of the pod with `ordinal`.
    pub fn pod_name(&self, ordinal: i64) -> String {
        format!("{}-{ordinal}", self.change.new.name)
    }

    /// All members, or none where they could not be listed: ask [`Facts::members`] whether that is so.
    pub fn all_members(&self) -> &[Member] {
        self.members.known().map_or(&[], Vec::as_slice)
    }

    /// Members that stay: ordinals below `to`.
    pub fn survivors(&self) -> impl Iterator<Item = &Member> {
        self.all_members().iter().filter(|member| member.ordinal < self.to())
    }

    /// Members that go: ordinals from `to` upwards.
    pub fn condemned(&self) -> impl Iterator<Item = &Member> {
        self.all_members().iter().filter(|member| member.ordinal >= self.to())
    }

    /// One member by name.
    pub fn member(&self, name: &str) -> Option<&Member> {
        self.all_members().iter().find(|member| member.name == name)
    }

    /// The holder of a valid leader lock.
    pub fn leader_name(&self) -> Option<&str> {
        self.leader.known()?.valid_holder(self.now, CLOCK_GRACE)
    }

    /// The member that holds a valid leader lock.
    pub fn leader_member(&self) -> Option<&Member> {
        self.member(self.leader_name()?)
    }

    /// The leader's pod would be deleted.
    pub fn leader_condemned(&self) -> bool {
        self.leader_member().is_some_and(|leader| leader.ordinal >= self.to())
    }

    /// Somebody leads and its pod stays. Where nobody can tell, the leader is taken to go.
    pub fn leader_stays(&self) -> bool {
        self.leader_member().is_some_and(|leader| leader.ordinal < self.to())
    }

    /// The write changes the count of a cluster that exists, as it is written or as it is run.
    pub fn changes_count(&self) -> bool {
        self.change.old.as_ref().is_some_and(|old| {
            old.instances.unwrap_or(0) != self.asked() || self.direction() != Direction::Same
        })
    }

    /// The change is one that is never refused for the live state.
    pub fn repair(&self) -> Option<Repair> {
        let from = self.from()?;
        // A return to a count of zero is an outage, whatever the StatefulSet says.
        if self.to() == 0 {
            return None;
        }
        let stateful_set = self.stateful_set.known();
        if self.direction() != Direction::Same
            && stateful_set.is_some_and(|set| set.replicas == self.to())
        {
            return Some(Repair::Cancels);
        }
        let nobody = self.members.known().is_some_and(Vec::is_empty);
        // An empty list may be the wrong list: without the StatefulSet its labels are a guess.
        let certain = match &self.stateful_set {
            Seen::Known(_) => true,
            Seen::Absent => self.leader_name().is_none(),
            Seen::Unreadable(_) => false,
        };
        if nobody && certain && self.claims.known().is_some_and(Vec::is_empty) {
            return Some(Repair::NothingRuns);
        }
        if from == 0 && nobody {
            return Some(Repair::ReturnsFromZero);
        }
        // Who leads must be certain, and nobody else may claim to, before a member is "not the leader".
        let leader_stays = self.leader_member().is_some_and(|leader| {
            leader.ordinal < self.to()
                && !self.contradicts_lock(leader)
                && !self.may_contradict_lock(leader)
        });
        let removes_unhealthy_only = self.direction() == Direction::Down
            && leader_stays
            && self.labelled_leaders().count() <= 1
            && self.condemned().all(|member| self.expendable(member))
            && self.missed_claims().is_ok_and(|claims| claims.is_empty());
        removes_unhealthy_only.then_some(Repair::RemovesUnhealthyOnly)
    }

    /// A member that goes would be missed: it is healthy, or nobody can be sure that it is not. The rules
    /// count it as healthy.
    pub fn missed(&self, member: &Member) -> bool {
        !self.expendable(member)
    }

    /// Something that was seen, not something that was not, shows that `member` cannot be counted on and has
    /// nothing that the leader lacks. Silence is no proof: a frozen Patroni's PostgreSQL may hold every row.
    fn expendable(&self, member: &Member) -> bool {
        let Health::Unhealthy(ailments) = self.health(member) else { return false };
        ailments.iter().any(|ailment| self.proven(member, ailment))
            && !self.may_be_ahead(member)
            && !self.holds_what_others_lack(member)
    }

    /// `member` looks unwell, yet by its own word it has all the leader has, or more than any standby that
    /// stays: a paused replay or a few bytes of lag make it no worse a copy.
    fn holds_what_others_lack(&self, member: &Member) -> bool {
        let Live::Answered(answer) = &member.live else { return false };
        // What its pod and its node say stands, heard or not: a lost node must not stop the way out.
        let pod = &member.pod;
        let ends = pod.terminating && !self.comes_back(member);
        if ends || !pod.containers_running || pod.node_ready == Some(false) {
            return false;
        }
        let leader = self.leader_member();
        let diverged = leader
            .and_then(Member::timeline)
            .zip(answer.timeline)
            .is_some_and(|(leader, own)| leader != own);
        if answer.state != State::Running || diverged || self.rebuilding(member).is_some() {
            return false;
        }
        let Some(own) = answer.position() else { return false };
        // The numbers of a member that has left the leader's timeline, or is being built, count rows it has to
        // give up or does not have.
        let timeline = leader.and_then(Member::timeline);
        let as_far = |other: &Member| match &other.live {
            Live::Answered(answer) => {
                answer.state == State::Running
                    && answer.timeline.is_some()
                    && answer.timeline == timeline
                    && self.rebuilding(other).is_none()
                    && answer.position().is_some_and(|position| position >= own)
            }
            Live::NotAsked | Live::Silent(_) => false,
        };
        let mut standbys =
            self.survivors().filter(|other| leader.is_none_or(|leader| other.name != leader.name));
        self.leader_position().is_none_or(|leader| own >= leader) || !standbys.any(as_far)
    }

    /// What `member` says of its own role is not what the leader lock says. One that is silent stands by its
    /// last report: a lock holder that last reported to be a replica is no leader until it says so.
    pub fn contradicts_lock(&self, member: &Member) -> bool {
        let holds = self.leader_name() == Some(member.name.as_str());
        let claims = match (&member.live, &member.report) {
            (Live::Answered(answer), _) => answer.role.leads(),
            (Live::Silent(_), Seen::Known(report)) => report.role.leads(),
            (Live::Silent(_) | Live::NotAsked, _) => return false,
        };
        claims != holds
    }

    /// `member` was asked, is silent, and left no word that could be read: nobody can tell whether it leads.
    pub fn may_contradict_lock(&self, member: &Member) -> bool {
        let holds = self.leader_name() == Some(member.name.as_str());
        match (&member.live, &member.report) {
            (Live::Silent(_), Seen::Unreadable(_)) => true,
            // A Patroni that never reported anything cannot hold the lock; without it, it never led.
            (Live::Silent(_), Seen::Absent) => holds,
            (Live::Silent(_), Seen::Known(_)) | (Live::Answered(_) | Live::NotAsked, _) => false,
        }
    }

    /// `member` leads or claims to, or is on a newer timeline than the leader, or nobody can tell.
    fn may_be_ahead(&self, member: &Member) -> bool {
        let leads = match (&member.live, &member.report) {
            (Live::Answered(answer), _) => answer.role.leads(),
            (_, Seen::Known(report)) => report.role.leads(),
            (_, Seen::Unreadable(_)) => return true,
            // Its Patroni never came so far as to report anything.
            (_, Seen::Absent) => false,
        };
        let state = match &member.live {
            Live::Answered(answer) => Some(&answer.state),
            Live::NotAsked | Live::Silent(_) => member.report.known().map(|report| &report.state),
        };
        let untold = state == Some(&State::Running) && member.timeline().is_none();
        let leader = self.leader_member().and_then(Member::timeline);
        leads
            || untold
            || member.timeline().is_some_and(|own| leader.is_none_or(|leader| own > leader))
    }

    /// Ordinals that the count asked for includes and that have no pod, lowest first.
    pub fn missing_survivors(&self) -> impl Iterator<Item = i64> {
        (0..self.to()).filter(|ordinal| {
            self.members
                .known()
                .is_some_and(|members| members.iter().all(|member| member.ordinal != *ordinal))
        })
    }

    /// The same facts with `leader` leading: what the cluster looks like after a switchover to it that went
    /// well. The plugin plans with it; the switchover itself is verified before anything rests on it.
    #[must_use]
    pub fn led_by(&self, leader: &str) -> Self {
        let mut moved = self.clone();
        let old = self.leader_name().map(str::to_owned);
        if let Seen::Known(lock) = &mut moved.leader {
            lock.holder = Some(leader.to_owned());
            lock.renewed = Some(self.now);
        }
        let position =
            old.as_deref().and_then(|old| self.member(old)).and_then(|old| match &old.live {
                Live::Answered(answer) => answer.position(),
                Live::NotAsked | Live::Silent(_) => None,
            });
        if let Seen::Known(members) = &mut moved.members {
            for member in members {
                let leads = member.name == leader;
                if !leads && Some(member.name.as_str()) != old.as_deref() {
                    continue;
                }
                member.pod.role = Some(if leads { "master" } else { "replica" }.to_owned());
                let role = if leads {
                    crate::patroni::Role::Primary
                } else {
                    crate::patroni::Role::Replica
                };
                if let Seen::Known(report) = &mut member.report {
                    report.role = role;
                    report.replication_state = (!leads).then(|| "streaming".to_owned());
                }
                if let Live::Answered(answer) = &mut member.live {
                    answer.role = role;
                    answer.location = if leads { position } else { None };
                    answer.received = if leads { None } else { position };
                    answer.replayed = answer.received;
                    answer.replication_state = (!leads).then(|| "streaming".to_owned());
                    if !leads {
                        // Those that it fed follow the new leader.
                        answer.replication.clear();
                    }
                }
            }
        }
        if let Seen::Known(sync) = &mut moved.sync
            && sync.leader.is_some()
        {
            sync.leader = Some(leader.to_owned());
            sync.standbys = sync
                .standbys
                .iter()
                .filter_map(|standby| {
                    if standby.eq_ignore_ascii_case(leader) {
                        old.clone()
                    } else {
                        Some(standby.clone())
                    }
                })
                .collect();
        }
        moved
    }

    /// Where the leader lock is kept, as `kind/name`.
    pub fn lock_source(&self) -> String {
        if let Seen::Known(lock) = &self.leader {
            return lock.source.clone();
        }
        let name = &self.change.new.name;
        if self.kept_in_endpoints() {
            format!("endpoints/{name}")
        } else {
            format!("configmap/{name}-leader")
        }
    }

    /// The object in which Patroni keeps `part` (`config`, `sync`, `failover`), as `kind/name`.
    pub fn patroni_source(&self, part: &str) -> String {
        let kind = if self.kept_in_endpoints() { "endpoints" } else { "configmap" };
        format!("{kind}/{}-{part}", self.change.new.name)
    }

    fn kept_in_endpoints(&self) -> bool {
        match &self.leader {
            Seen::Known(lock) => lock.source.starts_with("endpoints/"),
            Seen::Absent | Seen::Unreadable(_) => self
                .operator
                .known()
                .is_some_and(|operator| operator.settings.use_config_maps == Some(false)),
        }
    }
}
