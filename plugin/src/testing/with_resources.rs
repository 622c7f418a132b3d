//! The surroundings of the cluster in its namespace: sized pods, volumes, quotas.

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

/// Returns the pod template of a StatefulSet with a sidecar.
pub(super) fn pod_spec() -> Value {
    json!({"containers": [
        {"name": "postgres",
            "env": [{"name": "KUBERNETES_USE_CONFIGMAPS", "value": "true"}],
            "resources": {"requests": {"cpu": "1", "memory": "4Gi"},
                "limits": {"cpu": "4", "memory": "4Gi"}}},
        {"name": "exporter", "resources": {"requests": {"cpu": "100m", "memory": "128Mi"},
            "limits": {"memory": "128Mi"}}}]})
}

/// Returns the claims of a StatefulSet.
pub(super) fn claim_templates() -> Value {
    json!([{"metadata": {"name": "pgdata"}, "spec": {"accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "100Gi"}}}}])
}

/// Returns a claim for each ordinal below `count`.
pub(super) fn claims(count: i64, now: Timestamp) -> Vec<Value> {
    // Not to the second: a test may run across its end.
    let made = now - SignedDuration::from_hours(12 * 24 + 1);
    let claim = |ordinal: i64| {
        json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": {"namespace": "db", "name": format!("pgdata-acid-a-{ordinal}"),
                "creationTimestamp": made.to_string()},
            "status": {"phase": "Bound", "capacity": {"storage": "100Gi"}}})
    };
    (0..count).map(claim).collect()
}

/// Returns the zone of a node. The first three are in one zone.
pub(super) fn zone(node: &str) -> &'static str {
    if matches!(node, "node-0" | "node-1" | "node-2") { "zone-a" } else { "zone-b" }
}

/// Returns a quota in which `members` run, with room for one more, and a quota for terminating
/// pods.
pub(super) fn quotas(members: i64) -> Vec<Value> {
    let quota = |name: &str, spec: Value, used: Value| {
        json!({"apiVersion": "v1", "kind": "ResourceQuota",
            "metadata": {"namespace": "db", "name": name}, "spec": spec, "status": {"used": used}})
    };
    vec![
        quota(
            "compute",
            json!({"hard": {"requests.cpu": (members + 2).to_string(), "requests.memory": "64Gi", "pods": "20", "services": "9"}}),
            json!({"requests.cpu": format!("{}m", members * 1100),
                "requests.memory": format!("{}Mi", members * 4224),
                "pods": members.to_string(), "services": "2"}),
        ),
        quota(
            "jobs",
            json!({"hard": {"pods": "4"}, "scopes": ["Terminating"]}),
            json!({"pods": "4"}),
        ),
    ]
}
