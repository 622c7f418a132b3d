//! Everything that a rule may look at, as plain data.
//!
//! A fact is [`Seen`]: known, certainly absent, or unreadable with the reason. A rule that needs an
//! unreadable fact returns "unknown". It never takes silence for "fine".

use std::fmt;

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use crate::change::Change;
use crate::object_ref::{Kind, ObjectRef};
use crate::operator::{Compared, Given, Operator};
use crate::patroni::{
    Answer, Configuration, LeaderLock, PendingFailover, Report, Store, SyncState,
};

mod capacity;
mod count;
mod foreign;
mod health;
mod leading;
mod operator_switchover;
mod recreated;
mod repair;
mod rest;
mod spec_edit;
mod spending;

pub use crate::capacity::{Draining, Node, Taint};
pub use crate::seen::Seen;
pub use capacity::{Backup, Capacity, DisruptionBudget};
pub use foreign::Foreign;
pub(crate) use health::pod_problems;
pub use health::{Health, LagLimit, Problem};
pub use operator_switchover::OperatorSwitchover;
pub use repair::Repair;
pub use spec_edit::SpecEdit;
pub use spending::{Booking, Spending};

/// The difference between the guard's clock and a member's at which a leader lock still counts as
/// valid.
pub(crate) const CLOCK_GRACE: SignedDuration = SignedDuration::from_secs(5);

/// The most characters of a label's value.
pub(crate) const LONGEST_LABEL: usize = 63;

/// The facts about one change of one cluster at one moment.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Facts {
    /// The time of reading.
    pub now: Timestamp,
    /// The change to judge.
    pub change: Change,
    /// The operator that owns the cluster. `Absent` when none was found.
    pub operator: Seen<Operator>,
    /// The owner before the write, where this very write hands the cluster to another operator.
    /// Boxed, because that is rare.
    pub operator_before: Option<Box<Seen<Operator>>>,
    /// The cluster's StatefulSet.
    pub stateful_set: Seen<StatefulSet>,
    /// Its pods, by ordinal. `Known` and empty when there are none.
    pub members: Seen<Vec<Member>>,
    /// The leader lock.
    pub leader: Seen<LeaderLock>,
    /// Patroni's dynamic configuration.
    pub configuration: Seen<Configuration>,
    /// A switchover that was requested and not carried out yet. `Absent` when none is pending.
    pub failover: Seen<PendingFailover>,
    /// The synchronous standbys.
    pub sync: Seen<SyncState>,
    /// The cluster's volume claims.
    pub claims: Seen<Vec<Claim>>,
    /// Name of the member that took the lead last, by Patroni's history. `Absent` where the history
    /// names no member.
    pub last_leader: Seen<String>,
    /// The cluster's system identifier that Patroni knows (annotation `initialize` of
    /// `<cluster>-config`).
    ///
    /// While it is set, a member without data waits for a leader to copy from and never founds a
    /// cluster (`bootstrap`, patroni/ha.py). `Absent` before the end of the first bootstrap.
    pub initialize: Seen<String>,
    /// What is left of the cluster in the other kind of Kubernetes object than the template names.
    /// Read only where no member may run. `Absent` also where it was not asked for.
    pub elsewhere: Seen<Box<Elsewhere>>,
    /// The room in its surroundings. Boxed: a pod's template is large, and facts are moved often.
    pub capacity: Box<Capacity>,
}

/// Patroni's state of a cluster in a store that its next members would not look into.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Elsewhere {
    /// The store.
    pub store: Store,
    /// The cluster's system identifier there.
    pub initialize: Option<String>,
    /// The member that led last there.
    pub last_leader: Option<String>,
    /// The last renewal of the leader lock there.
    pub renewed: Option<Timestamp>,
}

impl Elsewhere {
    /// Returns the object with its configuration, of a cluster of this name.
    pub fn source(&self, cluster: &str) -> ObjectRef {
        let kind = match self.store {
            Store::Endpoints => Kind::Endpoints,
            Store::ConfigMaps | Store::Etcd | Store::Other | Store::Unknown => Kind::ConfigMap,
        };
        ObjectRef::new(kind, &format!("{cluster}-config"))
    }
}

/// The StatefulSet, reduced.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts as Kubernetes reports them")]
pub struct StatefulSet {
    /// `namespace/name`.
    pub name: String,
    /// `spec.replicas`: what the operator last asked for.
    pub replicas: i64,
    /// `metadata.generation`.
    pub generation: i64,
    /// `status.observedGeneration`.
    pub observed_generation: i64,
    /// All removed pods end at once (`podManagementPolicy: Parallel`).
    pub parallel: bool,
    /// It is being deleted.
    pub terminating: bool,
    /// The parts that the operator compares, beside [`Self::parallel`] and
    /// [`Self::deletes_volumes`]. Boxed: facts are moved often.
    pub compared: Box<Compared>,
    /// Annotations of a writer other than the operator, as (key, manager).
    ///
    /// They name the writer. Whether an annotation is the operator's own is decided by
    /// [`Self::compared`], where its settings are known.
    pub foreign_annotations: Vec<(String, String)>,
    /// The DCS store of new pods' Patroni, by the variables in the template. `None` where those are
    /// not an operator's.
    pub store: Option<Store>,
    /// The other part of the template that the store of a next template depends on.
    pub given: Box<Given>,
    /// The operator's last write of the spec. `None` where it is not recorded.
    pub written: Option<Timestamp>,
    /// Kubernetes deletes the claims of removed members
    /// (`persistentVolumeClaimRetentionPolicy.whenScaled`).
    pub deletes_volumes: bool,
    /// A pod counts as ready only when a probe succeeds. Without this, as soon as its containers
    /// have started.
    pub probed: bool,
    /// The writer of the last `spec.replicas`. `None` where that is the operator.
    pub scaled_by: Option<String>,
    /// The image of PostgreSQL in new pods.
    pub image: Option<String>,
    /// `status.updateRevision`: the name of the template's newest revision.
    pub revision: Option<String>,
}

/// A volume claim of one ordinal.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Claim {
    /// Its name.
    pub name: String,
    /// The ordinal it belongs to.
    pub ordinal: i64,
    /// Its time of creation.
    pub created: Option<Timestamp>,
    /// Bytes of its present size.
    pub capacity: Option<u64>,
    /// Bytes of its requested size.
    pub requested: Option<u64>,
    /// The condition of a resize in progress.
    pub resizing: Option<String>,
    /// It is being deleted.
    pub terminating: bool,
}

/// One member: a pod, its report and its answer.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Member {
    /// Name of the pod and of the Patroni member.
    pub name: String,
    /// Its ordinal.
    pub ordinal: i64,
    /// The pod.
    pub pod: Pod,
    /// The `status` annotation. `Absent` until Patroni's first loop.
    pub report: Seen<Report>,
    /// Its answer to the guard's question.
    pub live: Live,
}

impl Member {
    /// Returns its timeline: from its answer, or else from its last report.
    pub fn timeline(&self) -> Option<u64> {
        let answered = match &self.live {
            Live::Answered(answer) => answer.timeline,
            Live::NotAsked | Live::Silent(_) => None,
        };
        answered.or_else(|| self.report.known()?.timeline)
    }
}

/// The pod of a member.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts as Kubernetes reports them")]
pub struct Pod {
    /// `status.phase`.
    pub phase: String,
    /// Its `Ready` condition is true. That means little: the operator sets no readiness probe by
    /// default.
    pub ready: bool,
    /// All its containers run.
    pub containers_running: bool,
    /// It is being deleted.
    pub terminating: bool,
    /// Its time of creation.
    pub created: Option<Timestamp>,
    /// The time at which it got its node.
    pub scheduled: Option<Timestamp>,
    /// The last start of its PostgreSQL container. `None` while the container does not run.
    pub started: Option<Timestamp>,
    /// Its address.
    pub ip: Option<String>,
    /// The role label: `replica` and others as Patroni wrote it, `master` for a leader by the label
    /// value that the operator knows, `primary` for a leader by any other value.
    pub role: Option<String>,
    /// Its node. `None` until it is scheduled.
    pub node: Option<String>,
    /// The node's `Ready` condition. `None` when it could not be read.
    pub node_ready: Option<bool>,
    /// The zone of the node.
    pub zone: Option<String>,
    /// The sign that its node is being emptied. `None` also where the node could not be read.
    pub draining: Option<Draining>,
    /// The image of PostgreSQL that it was made with.
    pub image: Option<String>,
    /// The last time at which it stopped to be Ready, where it is not.
    pub unready: Option<Timestamp>,
    /// Patroni or the operator marked it as busy (`critical-operation: "true"`).
    pub critical_operation: bool,
    /// The operator wants to recreate it (`zalando-postgres-operator-rolling-update-required`).
    pub rolling_update_required: bool,
    /// The reason why it does not run, in the kubelet's or the scheduler's words.
    pub waiting: Option<Waiting>,
    /// The DCS store of its Patroni, by its variables. `None` where those are not an operator's.
    pub store: Option<Store>,
    /// The settings for which Patroni's REST interface refuses the operator, or may.
    pub rest_refusals: Vec<RestRefusal>,
    /// Restarts of its PostgreSQL container.
    pub restarts: i64,
}

/// A setting of a pod for which Patroni's REST interface refuses the operator, or may: TLS, a
/// password, an allowlist, another port.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct RestRefusal {
    /// The setting, as evidence names it: `env APIPORT`.
    pub field: String,
    /// Its value; `set` for one that may be a secret.
    pub value: String,
    /// The operator is certainly refused. Otherwise that depends on what the guard cannot see.
    pub certain: bool,
}

/// The reason why a pod does not run, in the kubelet's or the scheduler's words.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Waiting {
    /// The container that does not run; `None` where no container is named.
    pub container: Option<String>,
    /// The reason in one word, such as `CrashLoopBackOff`.
    pub reason: Option<String>,
    /// The reason in a sentence.
    pub message: Option<String>,
    /// The code with which the container ended; `None` for one that did not end.
    pub exit_code: Option<i32>,
}

impl Waiting {
    /// Returns whether the container ended, or crashes over and over.
    pub fn crashes(&self) -> bool {
        self.exit_code.is_some() || self.reason.as_deref() == Some("CrashLoopBackOff")
    }

    /// Returns the flag of `kubectl logs` for the log of the run that ended last: none while that
    /// run is the container's present one, because a first run has none before it.
    pub fn last_run(&self) -> Option<&'static str> {
        self.exit_code.is_none().then_some("--previous")
    }
}

impl From<&str> for Waiting {
    /// A sentence alone, as the scheduler's.
    fn from(message: &str) -> Self {
        Self { message: Some(message.to_owned()), ..Self::default() }
    }
}

impl fmt::Display for Waiting {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(container) = &self.container {
            write!(out, "container {container}: ")?;
        }
        match (&self.reason, &self.message) {
            (Some(reason), Some(message)) => write!(out, "{reason}: {message}")?,
            (Some(one), None) | (None, Some(one)) => write!(out, "{one}")?,
            (None, None) => write!(out, "ended")?,
        }
        match self.exit_code {
            Some(code) => write!(out, ", exit code {code}"),
            None => Ok(()),
        }
    }
}

/// A member's answer about its live state.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub enum Live {
    /// It answered.
    Answered(Answer),
    /// It was not asked: this kind of change does not need the answer.
    NotAsked,
    /// It gave no usable answer, for the reason in the text.
    Silent(String),
}

impl Facts {
    /// Returns the facts of `change` before anything was read: every fact but the change is
    /// unreadable.
    pub fn unread(change: Change, now: Timestamp) -> Self {
        fn unread<T>() -> Seen<T> {
            Seen::Unreadable("it was not read".to_owned())
        }
        Self {
            now,
            change,
            operator: unread(),
            operator_before: None,
            stateful_set: unread(),
            members: unread(),
            leader: unread(),
            configuration: unread(),
            failover: unread(),
            sync: unread(),
            claims: unread(),
            last_leader: unread(),
            initialize: unread(),
            elsewhere: unread(),
            capacity: Box::new(Capacity { template: unread(), ..Capacity::default() }),
        }
    }

    /// Returns the name of the pod with `ordinal`.
    pub fn pod_name(&self, ordinal: i64) -> String {
        format!("{}-{ordinal}", self.change.new.name)
    }

    /// Returns all members, and none where [`Facts::members`] could not be listed.
    pub fn all_members(&self) -> &[Member] {
        self.members.known().map_or(&[], Vec::as_slice)
    }

    /// Returns the kept members: ordinals below `to`.
    pub fn survivors(&self) -> impl Iterator<Item = &Member> {
        self.all_members().iter().filter(|member| member.ordinal < self.to())
    }

    /// Returns the removed members: ordinals from `to` upwards.
    pub fn condemned(&self) -> impl Iterator<Item = &Member> {
        self.all_members().iter().filter(|member| member.ordinal >= self.to())
    }

    /// Returns one member by name.
    pub fn member(&self, name: &str) -> Option<&Member> {
        self.all_members().iter().find(|member| member.name == name)
    }

    /// Returns the holder of a valid leader lock.
    pub fn leader_name(&self) -> Option<&str> {
        self.leader.known()?.valid_holder(self.now, CLOCK_GRACE)
    }

    /// Returns the member that holds a valid leader lock.
    pub fn leader_member(&self) -> Option<&Member> {
        self.member(self.leader_name()?)
    }

    /// Returns the name of the newest revision of the pods, where it is too long for their label.
    ///
    /// The StatefulSet labels each pod with it (`newVersionedStatefulSetPod`,
    /// `stateful_set_utils.go` of Kubernetes), so the API server refuses every new pod.
    pub fn unlabelled_revision(&self) -> Option<&str> {
        let revision = self.stateful_set.known()?.revision.as_deref();
        revision.filter(|revision| revision.len() > LONGEST_LABEL)
    }

    /// Returns the ordinals that the requested count includes and that have no pod, lowest first.
    pub fn missing_survivors(&self) -> impl Iterator<Item = i64> {
        let seen = self.members.known().is_some();
        (0..self.to()).filter(move |ordinal| seen && !self.has_pod(*ordinal))
    }

    /// Returns the same facts after a successful switchover to `leader`.
    ///
    /// The plugin plans with them. It verifies the switchover itself before it relies on them.
    #[must_use]
    pub fn led_by(&self, leader: &str) -> Self {
        let mut moved = self.clone();
        let old = self.leader_name().map(str::to_owned);
        if let Seen::Known(lock) = &mut moved.leader {
            lock.holder = Some(leader.to_owned());
            (lock.renewed, lock.acquired) = (Some(self.now), Some(self.now));
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
                        // Replicas that it fed now follow the new leader.
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

    /// Returns the object that holds the leader lock.
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
            // Without a lock the template decides, and without a template the operator.
            Seen::Absent | Seen::Unreadable(_) => {
                let set = self.stateful_set.known().and_then(|set| set.store);
                let store = set.or_else(|| self.operator.known()?.store());
                store == Some(Store::Endpoints)
            }
        }
    }
}
