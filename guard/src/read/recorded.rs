//! Clusters as different operators and Patronis leave them: one situation in the words of each.
//!
//! Shapes: `touch_member` (patroni/ha.py), `get_postgresql_status` (patroni/api.py) and
//! patroni/dcs/kubernetes.py of 2.1.7, 3.3.0 and 4.1.4. `generateSpiloPodEnvVars` and
//! `generateStatefulSet` (pkg/cluster/k8sres.go), the manifests and the chart of operator 1.15.1
//! and 2.0.1.

use serde_json::{Value, json};

use crate::change::Change;
use crate::facts::Facts;
use crate::postgresql::Postgresql;
use crate::read::AskWhom;
use crate::read::testing::{Members, Reply, World, core};

mod objects;

/// The version of Patroni.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patroni {
    V2_1,
    V3_3,
    V4_1,
}

/// The DCS store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kept {
    Endpoints,
    ConfigMaps,
    Etcd,
}

/// The kind of the object with the operator's settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SetBy {
    ConfigMap,
    OperatorConfiguration,
}

/// The version of the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OperatorOf {
    V1_15,
    V2_0,
}

/// The condition of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    Well,
    /// It replays the archive, far behind.
    ArchiveOnly,
    NoFailover,
    Rebuilding,
    /// It streams, but has received nothing for a while.
    Stalled,
    Stopped,
    /// Its Patroni is frozen.
    Silent,
}

/// A cluster and its surroundings.
#[derive(Clone, Debug)]
pub(super) struct Recording {
    pub(super) patroni: Patroni,
    pub(super) kept: Kept,
    pub(super) set_by: SetBy,
    pub(super) operator: OperatorOf,
    pub(super) name: &'static str,
    pub(super) name_label: &'static str,
    pub(super) role_label: &'static str,
    /// Patroni's value for a leader in the role label, where that is configured.
    pub(super) leader_label: Option<&'static str>,
    pub(super) members: Vec<Condition>,
    pub(super) leader: usize,
    pub(super) paused: bool,
    /// `synchronous_mode`, and the members in the `-sync` object.
    pub(super) synchronous: Option<(Value, Vec<usize>)>,
    /// Annotations of `-failover`.
    pub(super) failover: Value,
    /// It follows a cluster in another place.
    pub(super) standby: bool,
    /// Name of the operator's Deployment and of the object with its settings.
    pub(super) operated_by: &'static str,
    /// `CONTROLLER_ID` of the operator and the annotation of the cluster that names it.
    pub(super) controller: &'static str,
    /// The namespace that the operator watches.
    pub(super) watches: &'static str,
    /// The operator's `min_instances` and `max_instances`.
    pub(super) limits: (i64, i64),
}

impl Recording {
    /// Returns three healthy members, led by the first.
    pub(super) fn healthy(
        patroni: Patroni,
        kept: Kept,
        set_by: SetBy,
        operator: OperatorOf,
    ) -> Self {
        Self {
            patroni,
            kept,
            set_by,
            operator,
            name: "acid-a",
            name_label: "cluster-name",
            role_label: "spilo-role",
            leader_label: None,
            members: vec![Condition::Well; 3],
            leader: 0,
            paused: false,
            synchronous: None,
            failover: json!(null),
            standby: false,
            operated_by: "postgres-operator",
            controller: "",
            watches: "*",
            limits: (1, 9),
        }
    }

    /// Returns every combination of versions and places.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        let patronis = [Patroni::V2_1, Patroni::V3_3, Patroni::V4_1].into_iter();
        patronis
            .flat_map(|patroni| [Kept::Endpoints, Kept::ConfigMaps].map(|kept| (patroni, kept)))
            .flat_map(|(patroni, kept)| {
                [SetBy::ConfigMap, SetBy::OperatorConfiguration].map(|by| (patroni, kept, by))
            })
            .flat_map(|(patroni, kept, set_by)| {
                [OperatorOf::V1_15, OperatorOf::V2_0]
                    .map(|operator| Self::healthy(patroni, kept, set_by, operator))
            })
    }

    /// Returns Patroni 4.1 under operator 2.0 as the chart installs it.
    pub(super) fn usual() -> Self {
        Self::healthy(
            Patroni::V4_1,
            Kept::ConfigMaps,
            SetBy::OperatorConfiguration,
            OperatorOf::V2_0,
        )
    }

    /// Sets the condition of one member.
    pub(super) fn with(mut self, member: usize, condition: Condition) -> Self {
        self.members[member] = condition;
        self
    }

    /// Sets the leader.
    pub(super) fn led_by(mut self, leader: usize) -> Self {
        self.leader = leader;
        self
    }

    /// Reads the facts for a change of the count to `to`.
    pub(super) async fn read(&self, to: i64) -> Facts {
        self.read_in(&self.world(), to).await
    }

    /// Reads the same from a world that differs from the recording.
    pub(super) async fn read_in(&self, world: &World, to: i64) -> Facts {
        let cluster = Postgresql::of(&self.postgresql()).unwrap();
        let reader = world.reader(&self.voices());
        reader.facts(Change::of_count(cluster, to), AskWhom::AsNeeded).await
    }

    /// Returns the cluster's own object.
    pub(super) fn postgresql(&self) -> Value {
        let owner = (!self.controller.is_empty())
            .then(|| json!({"acid.zalan.do/controller": self.controller}));
        let spec = json!({"teamId": "acid", "numberOfInstances": self.members.len(), "volume": {"size": "1Gi"},
            "postgresql": {"version": "15"},
            "standby": self.standby.then(|| json!({"standby_host": "elsewhere", "standby_port": "5432"}))});
        json!({"apiVersion": "acid.zalan.do/v1", "kind": "postgresql",
            "metadata": {"namespace": "db", "name": self.name, "uid": "u1", "resourceVersion": "7", "generation": 3,
                "annotations": owner},
            "spec": spec, "status": {"PostgresClusterStatus": "Running"}})
    }

    /// Returns the members with their answers.
    pub(super) fn voices(&self) -> Members {
        let scripts = (0..self.members.len()).map(|member| vec![self.answer(member)]);
        Members::named(self.name, scripts)
    }

    /// Returns everything that the API server holds.
    pub(super) fn world(&self) -> World {
        let mut world = self.operator_in(World::default());
        world = world.with(&self.set_path(), self.stateful_set());
        for member in 0..self.members.len() {
            let (name, claim) =
                (self.pod_name(member), format!("pgdata-{}", self.pod_name(member)));
            world = world
                .with(&core("pods", &name), self.pod(member))
                .with(
                    &core("persistentvolumeclaims", &claim),
                    json!({"metadata": {"namespace": "db", "name": claim, "labels": self.labels(),
                        "creationTimestamp": "2026-11-20T10:00:00Z"},
                        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
                        "status": {"phase": "Bound", "capacity": {"storage": "1Gi"}}}),
                )
                .with(
                    &format!("/api/v1/nodes/node-{member}"),
                    json!({"metadata": {"name": format!("node-{member}"),
                        "labels": {"topology.kubernetes.io/zone": format!("zone-{member}")}},
                        "status": {"conditions": [{"type": "Ready", "status": "True"}]}}),
                );
        }
        self.shared_in(world)
    }

    /// Returns the path of the StatefulSet.
    pub(super) fn set_path(&self) -> String {
        format!("/apis/apps/v1/namespaces/db/statefulsets/{}", self.name)
    }

    fn pod_name(&self, member: usize) -> String {
        format!("{}-{member}", self.name)
    }

    fn labels(&self) -> Value {
        let mut labels = json!({"application": "spilo", "team": "acid"});
        labels[self.name_label] = json!(self.name);
        labels
    }

    fn version(&self) -> &'static str {
        match self.patroni {
            Patroni::V2_1 => "2.1.7",
            Patroni::V3_3 => "3.3.0",
            Patroni::V4_1 => "4.1.4",
        }
    }

    fn role(&self, member: usize) -> &'static str {
        match (member == self.leader, self.standby, self.patroni) {
            (false, ..) => "replica",
            (true, true, _) => "standby_leader",
            (true, false, Patroni::V4_1) => "primary",
            (true, false, Patroni::V2_1 | Patroni::V3_3) => "master",
        }
    }

    /// Returns the state, position and replication state of a member.
    fn words(&self, member: usize) -> (&'static str, Option<u64>, Option<&'static str>) {
        let upstream = (member != self.leader || self.standby).then_some("streaming");
        let upstream = upstream.filter(|_| self.patroni != Patroni::V2_1);
        match self.members[member] {
            Condition::Well | Condition::NoFailover | Condition::Silent => {
                ("running", Some(5000), upstream)
            }
            Condition::Stalled => ("running", Some(4000), upstream),
            Condition::ArchiveOnly => {
                ("running", Some(4000), upstream.map(|_| "in archive recovery"))
            }
            Condition::Rebuilding => ("creating replica", None, None),
            Condition::Stopped => ("stopped", None, None),
        }
    }

    fn tags(&self, member: usize) -> Option<Value> {
        (self.members[member] == Condition::NoFailover).then(|| json!({"nofailover": true}))
    }

    /// Returns the pod annotation `status`.
    fn report(&self, member: usize) -> Value {
        let (state, position, replication) = self.words(member);
        let host = format!("10.244.0.{}", 10 + member);
        let mut report = json!({"conn_url": format!("postgres://{host}:5432/postgres"),
            "api_url": format!("http://{host}:8008/patroni"), "state": state, "role": self.role(member),
            "version": self.version()});
        if let Some(tags) = self.tags(member) {
            report["tags"] = tags;
        }
        if let Some(position) = position {
            report["xlog_location"] = json!(position);
            report["timeline"] = json!(7);
            if self.patroni == Patroni::V4_1 && self.role(member) != "primary" {
                report["receive_lsn"] = json!(position);
                report["replay_lsn"] = json!(position);
            }
        }
        if let Some(replication) = replication {
            report["replication_state"] = json!(replication);
        }
        if self.paused {
            report["pause"] = json!(true);
        }
        report
    }

    /// Returns the answer to `GET /patroni`.
    fn answer(&self, member: usize) -> Reply {
        if self.members[member] == Condition::Silent {
            return Reply::Hang;
        }
        let (state, position, replication) = self.words(member);
        let mut answer = json!({"state": state, "role": self.role(member), "dcs_last_seen": 1_764_000_000,
            "database_system_identifier": "7310000000000000000",
            "patroni": {"version": self.version(), "scope": self.name}});
        if self.patroni != Patroni::V2_1 {
            answer["patroni"]["name"] = json!(self.pod_name(member));
        }
        if let Some(tags) = self.tags(member) {
            answer["tags"] = tags;
        }
        if let Some(position) = position {
            answer["postmaster_start_time"] = json!("2026-11-20 10:00:05.123456+00:00");
            answer["server_version"] = json!(150_004);
            answer["timeline"] = json!(7);
            let flushed = matches!(self.role(member), "primary" | "master");
            answer["xlog"] = if flushed {
                json!({"location": position})
            } else {
                json!({"received_location": position, "replayed_location": position,
                    "replayed_timestamp": "2026-11-24 09:59:59+00:00", "paused": false})
            };
        }
        if member == self.leader {
            answer["replication"] = self.senders();
        } else if position.is_some() && self.in_sync(member) {
            match self.patroni {
                Patroni::V2_1 => {}
                Patroni::V3_3 => answer["sync_standby"] = json!(true),
                Patroni::V4_1 => {
                    let quorum =
                        self.synchronous.as_ref().is_some_and(|(mode, _)| mode == "quorum");
                    answer[if quorum { "quorum_standby" } else { "sync_standby" }] = json!(true);
                }
            }
        }
        if let Some(replication) = replication {
            answer["replication_state"] = json!(replication);
        }
        if self.paused {
            answer["pause"] = json!(true);
        }
        Reply::Body(200, answer)
    }

    fn in_sync(&self, member: usize) -> bool {
        self.synchronous.as_ref().is_some_and(|(_, standbys)| standbys.contains(&member))
    }

    /// Returns the replicas that stream from the leader.
    fn senders(&self) -> Value {
        let streams = |member: &usize| {
            let condition = self.members[*member];
            *member != self.leader
                && !matches!(
                    condition,
                    Condition::ArchiveOnly | Condition::Rebuilding | Condition::Stopped
                )
        };
        let row = |member: usize| {
            json!({"usename": "standby", "application_name": self.pod_name(member),
                "client_addr": format!("10.244.0.{}", 10 + member), "state": "streaming",
                "sync_state": if self.in_sync(member) { "sync" } else { "async" },
                "sync_priority": i32::from(self.in_sync(member))})
        };
        (0..self.members.len()).filter(streams).map(row).collect()
    }
}
