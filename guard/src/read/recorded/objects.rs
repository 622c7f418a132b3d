//! The Kubernetes objects of a recorded cluster.

use serde_json::{Value, json};

use super::{Condition, Kept, OperatorOf, Patroni, Recording, SetBy};
use crate::read::testing::{LIST, World, accounts, core};

/// The operator's container, and its field manager.
const OPERATOR: &str = "postgres-operator";

impl Recording {
    /// Returns the variables that the operator gives Patroni.
    fn environment(&self) -> Vec<Value> {
        let set = |name: &str, value: &str| json!({"name": name, "value": value});
        let field = |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}});
        let mut env = vec![
            set("SCOPE", self.name),
            set("PGROOT", "/home/postgres/pgdata/pgroot"),
            field("POD_IP", "status.podIP"),
            field("POD_NAMESPACE", "metadata.namespace"),
            set("PGUSER_SUPERUSER", "postgres"),
            set("KUBERNETES_SCOPE_LABEL", self.name_label),
            set("KUBERNETES_ROLE_LABEL", self.role_label),
            set("PGVERSION", "15"),
            set("KUBERNETES_LABELS", r#"{"application":"spilo"}"#),
        ];
        match self.kept {
            Kept::Etcd => env.push(set("ETCD_HOST", "etcd.etcd:2379")),
            Kept::Endpoints | Kept::ConfigMaps => {
                env.push(set("DCS_ENABLE_KUBERNETES_API", "true"));
                env.push(set("KUBERNETES_BOOTSTRAP_LABELS", r#"{"critical-operation":"true"}"#));
            }
        }
        if self.kept == Kept::ConfigMaps {
            env.push(set("KUBERNETES_USE_CONFIGMAPS", "true"));
        }
        // Comes from `spec.env` or the operator's ConfigMap for pods.
        if let Some(label) = self.leader_label {
            env.push(set("KUBERNETES_LEADER_LABEL_VALUE", label));
            env.push(set("KUBERNETES_STANDBY_LEADER_LABEL_VALUE", label));
        }
        env
    }

    /// Returns the StatefulSet.
    pub(super) fn stateful_set(&self) -> Value {
        let mut selector = json!({"application": "spilo"});
        selector[self.name_label] = json!(self.name);
        let image = match self.operator {
            OperatorOf::V1_15 => "ghcr.io/zalando/spilo-17:4.0-p3",
            OperatorOf::V2_0 => "ghcr.io/zalando/spilo-18:4.1-p2",
        };
        let owned = json!([{"manager": OPERATOR, "operation": "Update", "apiVersion": "apps/v1",
            "time": "2026-11-20T10:00:00Z", "fieldsType": "FieldsV1", "fieldsV1": {
                "f:metadata": {"f:labels": {}}, "f:spec": {"f:replicas": {}, "f:selector": {}, "f:template": {}}}}]);
        let count = self.members.len();
        json!({"metadata": {"namespace": "db", "name": self.name, "generation": 4, "labels": self.labels(),
                "managedFields": owned},
            "spec": {"replicas": count, "podManagementPolicy": "OrderedReady", "serviceName": self.name,
                "selector": {"matchLabels": selector}, "updateStrategy": {"type": "OnDelete"},
                "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Retain"},
                "template": {"metadata": {"labels": self.labels()},
                    "spec": {"containers": [{"name": "postgres", "image": image, "env": self.environment()}]}},
                "volumeClaimTemplates": [{"metadata": {"name": "pgdata"}, "spec": {
                    "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}]},
            "status": {"replicas": count, "readyReplicas": count, "currentReplicas": count, "updatedReplicas": count,
                "observedGeneration": 4}})
    }

    /// Returns a member's pod.
    pub(super) fn pod(&self, member: usize) -> Value {
        let mut labels = self.labels();
        let (state, ..) = self.words(member);
        // Patroni removes the label from a member that neither leads nor runs.
        if member == self.leader {
            labels[self.role_label] = json!(self.leader_label.unwrap_or("master"));
        } else if state == "running" {
            labels[self.role_label] = json!("replica");
        }
        let building = self.members[member] == Condition::Rebuilding;
        if building && self.patroni == Patroni::V4_1 {
            labels["critical-operation"] = json!("true");
        }
        // Far ahead, because the reader looks at the real clock: a rebuild of over an hour weighs less.
        let started = if building { "2100-01-01T00:00:00Z" } else { "2026-11-20T10:00:05Z" };
        // Without the Kubernetes API, Patroni writes nothing on its pod. A callback sets the label.
        let annotations = match self.kept {
            Kept::Etcd => json!({}),
            Kept::Endpoints | Kept::ConfigMaps => {
                json!({"status": self.report(member).to_string()})
            }
        };
        json!({"metadata": {"namespace": "db", "name": self.pod_name(member), "labels": labels,
                "creationTimestamp": "2026-11-20T10:00:00Z", "annotations": annotations},
            "spec": {"nodeName": format!("node-{member}"), "containers": [{"name": "postgres"}]},
            "status": {"phase": "Running", "podIP": format!("10.244.0.{}", 10 + member),
                "conditions": [{"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": "True"}],
                "containerStatuses": [{"name": "postgres", "image": "spilo", "imageID": "spilo", "ready": true,
                    "restartCount": 0, "state": {"running": {"startedAt": started}}}]}})
    }

    /// Adds the state that Patroni keeps for all members.
    pub(super) fn shared_in(&self, world: World) -> World {
        let (plural, lock) = match self.kept {
            Kept::Etcd => return world,
            Kept::Endpoints => ("endpoints", self.name.to_owned()),
            Kept::ConfigMaps => ("configmaps", format!("{}-leader", self.name)),
        };
        let leader = self.pod_name(self.leader);
        // Far ahead, because the reader looks at the real clock.
        let mut lease = json!({"acquireTime": "2026-11-20T10:00:00.000001+00:00", "leader": leader,
            "optime": "5000", "renewTime": "2100-01-01T00:00:00.123456+00:00", "transitions": "6", "ttl": "30"});
        match self.patroni {
            Patroni::V2_1 => {}
            Patroni::V3_3 => lease["slots"] = json!(r#"{"acid_a_1":5000}"#),
            Patroni::V4_1 => {
                lease["slots"] = json!(r#"{"acid_a_1":5000}"#);
                lease["retain_slots"] = json!(r#"["acid_a_1"]"#);
            }
        }
        let mut config = json!({"ttl": 30, "loop_wait": 10, "retry_timeout": 10, "maximum_lag_on_failover": 33_554_432,
            "postgresql": {"use_pg_rewind": true, "use_slots": true, "parameters": {"max_wal_senders": 10,
                "max_replication_slots": 10}}});
        if self.paused {
            config["pause"] = json!(true);
        }
        if let Some((mode, _)) = &self.synchronous {
            config["synchronous_mode"] = mode.clone();
        }
        if self.standby {
            config["standby_cluster"] = json!({"host": "elsewhere", "port": 5432});
        }
        let history =
            json!([[6, 5000, "no recovery target specified", "2026-11-20T10:00:00+00:00", leader]]);
        let config = json!({"config": config.to_string(), "history": history.to_string(),
            "initialize": "7310000000000000000"});
        let object = |name: &str, annotations: Value| {
            json!({"metadata": {"namespace": "db", "name": name, "labels": self.labels(),
                "annotations": annotations}})
        };
        let names = ["config", "failover", "sync"].map(|part| format!("{}-{part}", self.name));
        let [config_name, failover_name, sync_name] = &names;
        let world = world
            .with(&core(plural, &lock), object(&lock, lease))
            .with(&core(plural, config_name), object(config_name, config));
        // The first switchover creates the object, and its end empties it.
        let pending = self.patroni != Patroni::V2_1 || !self.failover.is_null();
        let world = if pending {
            world.with(&core(plural, failover_name), object(failover_name, self.failover.clone()))
        } else {
            world
        };
        match &self.synchronous {
            None => world,
            Some((_, standbys)) => {
                let names: Vec<_> = standbys.iter().map(|member| self.pod_name(*member)).collect();
                let mut sync = json!({"leader": leader, "sync_standby": names.join(",")});
                if self.patroni == Patroni::V4_1 {
                    sync["quorum"] = json!("0");
                }
                world.with(&core(plural, sync_name), object(sync_name, sync))
            }
        }
    }

    /// Adds the operator, its settings and its pod.
    pub(in crate::read) fn operator_in(&self, world: World) -> World {
        let ((min, max), name) = (self.limits, self.operated_by);
        // Among several operators, none is accepted without a list.
        let world = if name == OPERATOR {
            world
        } else {
            world.with(LIST, accounts("default/postgres-operator"))
        };
        let image = match self.operator {
            OperatorOf::V1_15 => "ghcr.io/zalando/postgres-operator:v1.15.1",
            OperatorOf::V2_0 => "ghcr.io/zalando/postgres-operator:v2.0.1",
        };
        // A value that is the operator's own default need not be written.
        let by_default = match self.operator {
            OperatorOf::V1_15 => Kept::Endpoints,
            OperatorOf::V2_0 => Kept::ConfigMaps,
        };
        let config_maps = (self.kept != by_default).then_some(self.kept == Kept::ConfigMaps);
        let etcd = if self.kept == Kept::Etcd { "etcd.etcd:2379" } else { "" };
        let (labels, variable, path, settings) = match self.set_by {
            SetBy::ConfigMap => {
                let mut data = json!({"api_port": "8080", "cluster_labels": "application:spilo",
                    "cluster_name_label": self.name_label, "pod_role_label": self.role_label, "etcd_host": etcd,
                    "min_instances": min.to_string(), "max_instances": max.to_string(), "watched_namespace": self.watches,
                    "enable_pod_disruption_budget": "true", "resync_period": "30m"});
                if let Some(config_maps) = config_maps {
                    data["kubernetes_use_configmaps"] = json!(config_maps.to_string());
                }
                (
                    json!({"application": OPERATOR}),
                    "CONFIG_MAP_NAME",
                    format!("/api/v1/namespaces/default/configmaps/{name}"),
                    json!({"data": data}),
                )
            }
            SetBy::OperatorConfiguration => {
                let mut configuration = json!({"etcd_host": etcd, "min_instances": min, "max_instances": max,
                    "resync_period": "30m", "kubernetes": {"cluster_labels": {"application": "spilo"},
                        "cluster_name_label": self.name_label, "pod_role_label": self.role_label,
                        "watched_namespace": self.watches, "enable_pod_disruption_budget": true}});
                if let Some(config_maps) = config_maps {
                    configuration["kubernetes_use_configmaps"] = json!(config_maps);
                }
                (
                    json!({"app.kubernetes.io/name": OPERATOR, "app.kubernetes.io/instance": "pg"}),
                    "POSTGRES_OPERATOR_CONFIGURATION_OBJECT",
                    format!(
                        "/apis/acid.zalan.do/v1/namespaces/default/operatorconfigurations/{name}"
                    ),
                    json!({"configuration": configuration}),
                )
            }
        };
        let mut settings = settings;
        settings["metadata"] = json!({"namespace": "default", "name": name,
            "creationTimestamp": "2026-11-01T00:00:00Z"});
        world
            .with(&path, settings)
            .with(
                &format!("/apis/apps/v1/namespaces/default/deployments/{name}"),
                json!({"metadata": {"namespace": "default", "name": name, "labels": labels},
                    "spec": {"replicas": 1, "selector": {"matchLabels": {"name": name}},
                        "template": {"spec": {"serviceAccountName": OPERATOR, "containers": [{
                            "name": OPERATOR, "image": image,
                            "env": [{"name": variable, "value": name}, {"name": "CONTROLLER_ID", "value": self.controller}]}]}}},
                    "status": {"replicas": 1, "availableReplicas": 1}}),
            )
            .with(
                &format!("/api/v1/namespaces/default/pods/{name}-x"),
                json!({"metadata": {"namespace": "default", "name": format!("{name}-x"),
                    "labels": {"name": name}},
                    "status": {"phase": "Running", "startTime": "2026-11-02T00:00:00Z"}}),
            )
    }
}
