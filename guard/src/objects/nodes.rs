//! Nodes to what they say of the members that run on them.

use k8s_openapi::api::core::v1::{Node, Toleration};

use crate::capacity::draining;
use crate::facts::{self, Draining};
use crate::objects::capacity;

/// The state of a node, as far as it was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeState {
    /// Its `Ready` condition is true. `None` where it has none.
    pub ready: Option<bool>,
    /// Its zone.
    pub zone: Option<String>,
    /// It is being deleted.
    pub terminating: bool,
    /// Its marks.
    pub node: facts::Node,
}

impl NodeState {
    /// Reads the condition, the zone and the marks of a node.
    pub fn of(node: &Node) -> Self {
        let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
        Self {
            ready: conditions
                .filter(|condition| condition.type_ == "Ready")
                .map(|condition| condition.status == "True")
                .next(),
            zone: node
                .metadata
                .labels
                .as_ref()
                .and_then(|labels| labels.get("topology.kubernetes.io/zone"))
                .cloned(),
            terminating: node.metadata.deletion_timestamp.is_some(),
            node: capacity::node(node),
        }
    }

    /// Returns the state of a node whose object does not exist any more: Kubernetes controls
    /// nothing on it.
    pub fn gone() -> Self {
        Self { ready: Some(false), ..Self::default() }
    }

    /// Returns the sign that the node is being emptied, for a pod with these tolerations.
    pub fn draining(&self, tolerations: &[Toleration]) -> Option<Draining> {
        if self.terminating {
            return Some(Draining::Deleted);
        }
        draining(&self.node, tolerations)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// Returns the sign of a node for a pod with these tolerations, as it is printed.
    fn sign(node: Value, tolerations: Value) -> Option<String> {
        let node = NodeState::of(&serde_json::from_value(node).unwrap());
        let tolerations: Vec<Toleration> = serde_json::from_value(tolerations).unwrap();
        let (field, value) = node.draining(&tolerations)?.shown();
        Some(format!("{field}: {value}"))
    }

    fn tainted(key: &str, effect: &str) -> Value {
        json!({"metadata": {}, "spec": {"taints": [{"key": key, "effect": effect}]}})
    }

    #[test]
    fn node_that_would_not_take_the_pod_again_is_being_emptied() {
        let cordoned = json!({"metadata": {}, "spec": {"unschedulable": true,
            "taints": [{"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}]}});
        let deleted = json!({"metadata": {"deletionTimestamp": "2026-11-24T10:00:00Z"}});
        let everything = || json!([{"operator": "Exists"}]);
        for (node, tolerations, want) in [
            (json!({"metadata": {}}), json!([]), None),
            (cordoned.clone(), json!([]), Some("spec.unschedulable: true")),
            (cordoned, everything(), Some("spec.unschedulable: true")),
            (deleted, json!([]), Some("metadata.deletionTimestamp: set")),
            (
                tainted("ToBeDeletedByClusterAutoscaler", "NoSchedule"),
                json!([]),
                Some("spec.taints: ToBeDeletedByClusterAutoscaler:NoSchedule"),
            ),
            (
                tainted("karpenter.sh/disrupted", "NoSchedule"),
                json!([]),
                Some("spec.taints: karpenter.sh/disrupted:NoSchedule"),
            ),
            (
                tainted("node.kubernetes.io/out-of-service", "NoExecute"),
                json!([]),
                Some("spec.taints: node.kubernetes.io/out-of-service:NoExecute"),
            ),
            // A node for databases only, a passing pressure, a wish.
            (tainted("dedicated", "NoSchedule"), json!([{"key": "dedicated"}]), None),
            (tainted("node.kubernetes.io/memory-pressure", "NoSchedule"), json!([]), None),
            (tainted("DeletionCandidateOfClusterAutoscaler", "PreferNoSchedule"), json!([]), None),
        ] {
            assert_eq!(sign(node.clone(), tolerations).as_deref(), want, "{node}");
        }
    }
}
