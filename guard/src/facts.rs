//! Everything a rule may look at, as plain data.
//!
//! A fact is [`Seen`]: known, known to be absent, or unreadable with the reason. A rule that needs a fact it
//! cannot see says so; it never takes silence for "fine".

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use crate::change::{Change, Direction};
use crate::object_ref::{Kind, ObjectRef};
use crate::operator::Operator;
use crate::patroni::{
    Answer, Configuration, LeaderLock, PendingFailover, Report, Store, SyncState,
};

mod capacity;
mod count;
mod health;
mod operator_switchover;
mod recreated;
mod repair;

pub use capacity::{Backup, Capacity, DisruptionBudget, Node, Taint};
pub(crate) use health::pod_problems;
pub use health::{Health, Problem};
pub use operator_switchover::OperatorSwitchover;
pub use repair::Repair;

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
    /// The system identifier of the cluster that Patroni knows (annotation `initialize` of `<cluster>-config`). While it
    /// is set, a member without data waits for a leader to copy from and never founds a cluster (`bootstrap`,
    /// patroni/ha.py). `Absent` before the first bootstrap has ended.
    pub initialize: Seen<String>,
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
    /// Where the Patroni of new pods keeps its state, by the variables in the template; `None` where those are not an
    /// operator's.
    pub store: Option<Store>,
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
    /// Where its Patroni keeps its state, by its variables; `None` where those are not an operator's.
    pub store: Option<Store>,
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

impl Facts {
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

    /// Returns whether the leader's pod is deleted once this write is carried out. That is not only so for a shrink: by
    /// the operator's limits or by an earlier write that is not carried out yet, more pods may live than the object
    /// asks for, and the operator compares the new count with those (`updateStatefulSet`, pkg/cluster/resources.go).
    pub fn deletes_leader(&self) -> bool {
        self.changes_count()
            && self.from().is_some_and(|from| from != 0)
            && self.to() >= 1
            && self.leader_condemned()
    }

    /// Returns whether this write starts a member that has no pod now, whatever the object asked for before: by the
    /// operator's limits, or by another writer, the StatefulSet may ask for fewer.
    pub fn adds_members(&self) -> bool {
        let asks = self.direction() == Direction::Create || self.changes_count();
        let replicas = self.stateful_set.known().map_or(0, |set| set.replicas);
        // The search ends at the first ordinal without a pod: a count may be as high as an int32 goes.
        asks && (replicas.max(0)..self.to()).any(|ordinal| !self.has_pod(ordinal))
    }

    /// Returns whether a pod with this ordinal was seen.
    pub(crate) fn has_pod(&self, ordinal: i64) -> bool {
        self.all_members().iter().any(|member| member.ordinal == ordinal)
    }

    /// Somebody leads and its pod stays. Where nobody can tell, the leader is taken to go.
    pub fn leader_stays(&self) -> bool {
        self.leader_member().is_some_and(|leader| leader.ordinal < self.to())
    }

    /// Ordinals that the count asked for includes and that have no pod, lowest first.
    pub fn missing_survivors(&self) -> impl Iterator<Item = i64> {
        let seen = self.members.known().is_some();
        (0..self.to()).filter(move |ordinal| seen && !self.has_pod(*ordinal))
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

    /// Returns the object in which Patroni keeps the leader lock.
    pub fn lock_source(&self) -> ObjectRef {
        if let Seen::Known(lock) = &self.leader {
            return lock.source.clone();
        }
        let name = &self.change.new.name;
        if self.kept_in_endpoints() {
            ObjectRef::new(Kind::Endpoints, name)
        } else {
            ObjectRef::new(Kind::ConfigMap, &format!("{name}-leader"))
        }
    }

    /// Returns the object in which Patroni keeps `part` (`config`, `sync`, `failover`).
    pub fn patroni_source(&self, part: &str) -> ObjectRef {
        let kind = if self.kept_in_endpoints() { Kind::Endpoints } else { Kind::ConfigMap };
        ObjectRef::new(kind, &format!("{}-{part}", self.change.new.name))
    }

    fn kept_in_endpoints(&self) -> bool {
        match &self.leader {
            Seen::Known(lock) => lock.source.kind == Kind::Endpoints,
            // Without a lock the template says it, and without that the operator.
            Seen::Absent | Seen::Unreadable(_) => {
                let set = self.stateful_set.known().and_then(|set| set.store);
                let store = set.or_else(|| self.operator.known()?.store());
                store == Some(Store::Endpoints)
            }
        }
    }
}
