//! The objects that the API server of the world holds.

use http::Response;
use kube::client::Body;
use serde_json::{Value, json};

use super::super::growth::Stage;
use super::super::{report, with_resources};
use super::server::respond;
use super::{Mishap, State, address};

impl State {
    pub(super) fn annotated(&self, name: &str, annotations: &Value) -> Response<Body> {
        respond(
            200,
            &json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
                "metadata": {"namespace": "db", "name": name, "annotations": annotations,
                    "resourceVersion": self.version.to_string()}}),
        )
    }

    pub(super) fn stateful_set(&self) -> Value {
        let mut set = json!({"apiVersion": "apps/v1", "kind": "StatefulSet",
            "metadata": {"namespace": "db", "name": "acid-a", "generation": 1},
            "spec": {"replicas": self.replicas, "serviceName": "acid-a",
                "selector": {"matchLabels": {"cluster-name": "acid-a"}},
                "template": {"metadata": {}, "spec": {"containers": [{"name": "postgres",
                    "env": [{"name": "KUBERNETES_USE_CONFIGMAPS", "value": "true"}]}]}}},
            "status": {"replicas": self.replicas,
                "observedGeneration": i32::from(!self.is_busy())}});
        if self.with_resources {
            set["spec"]["template"]["spec"] = with_resources::pod_spec();
            set["spec"]["volumeClaimTemplates"] = with_resources::claim_templates();
        }
        set
    }

    pub(super) fn pod(&self, ordinal: i64) -> Value {
        let leads = ordinal == self.leader;
        let came = match self.mishap {
            Some(Mishap::Pending) => self.managers == ["kubectl-pgscale"],
            Some(Mishap::PendingAndCounted) => !self.writes.is_empty(),
            _ => false,
        };
        let pending = came && ordinal == self.members - 1;
        let status = if pending {
            json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False",
                "reason": "Unschedulable", "message": "0/3 nodes are available"}]})
        } else {
            json!({"phase": "Running", "podIP": address(ordinal),
                "conditions": [{"type": "Ready", "status": "True"}],
                "containerStatuses": [{"name": "postgres", "ready": true, "restartCount": 0,
                    "image": "spilo", "imageID": "", "started": true,
                    "state": {"running": {"startedAt": "2026-11-24T08:00:00Z"}}}]})
        };
        let stage = self.stage(ordinal);
        let since = self.growth.as_ref().map_or_else(String::new, |growth| growth.since.clone());
        let status = stage.map_or(status, |stage| stage.status(ordinal, &since));
        let pending = pending || stage == Some(Stage::Unscheduled);
        let mut said = report(leads, self.timeline);
        if let Some(state) = stage.and_then(Stage::says) {
            said["state"] = json!(state);
            said["role"] = json!("uninitialized");
        }
        let silent = stage.is_some_and(|stage| !stage.runs() || matches!(stage, Stage::Started(_)));
        let annotations =
            if pending || silent { json!({}) } else { json!({"status": said.to_string()}) };
        let created = if stage.is_some() { since.as_str() } else { "2026-11-24T08:00:00Z" };
        json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"namespace": "db", "name": format!("acid-a-{ordinal}"),
                "creationTimestamp": created, "annotations": annotations,
                "labels": {"cluster-name": "acid-a",
                    "spilo-role": if leads { "master" } else { "replica" }}},
            "spec": {"nodeName": if pending { Value::Null } else { json!(format!("node-{ordinal}")) },
                "containers": [{"name": "postgres", "resources": self.requested()}]},
            "status": status})
    }

    /// Returns the requests of the `postgres` container.
    fn requested(&self) -> Value {
        self.using.map_or(json!({}), |_| json!({"requests": {"cpu": "1"}}))
    }

    pub(super) fn slice(&self, replicas: bool) -> Value {
        let endpoints: Vec<Value> = (0..self.members)
            .filter(|ordinal| (*ordinal == self.leader) != replicas)
            .filter(|ordinal| self.stage(*ordinal).is_none_or(|stage| stage == Stage::Serving))
            .map(|ordinal| json!({"addresses": [address(ordinal)], "conditions": {"ready": true}}))
            .collect();
        json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"namespace": "db", "name": "s"}, "endpoints": endpoints, "ports": []})
    }
}

/// Returns the Deployment of an operator that keeps its settings in a ConfigMap.
pub(super) fn operator() -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"namespace": "default", "name": "postgres-operator"},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"name": "postgres-operator"}},
            "template": {"spec": {"containers": [{"name": "postgres-operator",
                "env": [{"name": "CONFIG_MAP_NAME", "value": "postgres-operator"}]}]}}},
        "status": {"replicas": 1, "availableReplicas": 1}})
}
