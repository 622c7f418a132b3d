//! The placement of pods: the part of a scheduler that matters when a database is scaled (pure).

use k8s_openapi::api::core::v1::{Node, Pod, PodAffinityTerm};
use kube::ResourceExt as _;
use kube::core::{Selector, SelectorExt as _};

/// Chooses a node for `pod` among `nodes`, given all `pods` of the cluster.
///
/// A member of a StatefulSet gets the node of its ordinal's number if possible, so that the loss of
/// one node loses one member. Every other pod gets the node with the fewest pods. Node selectors,
/// cordons, lost nodes and required anti-affinity are respected. Resources, taints and node
/// affinity are ignored.
///
/// # Errors
/// Fails when no node fits, with the message of a scheduler.
pub(super) fn place(pod: &Pod, nodes: &[Node], pods: &[Pod]) -> Result<String, String> {
    let mut refusals: Vec<(&str, usize)> = Vec::new();
    let mut fitting = Vec::new();
    for (index, node) in nodes.iter().enumerate() {
        match refusal(pod, node, nodes, pods) {
            None => fitting.push((index, node)),
            Some(reason) => match refusals.iter_mut().find(|(known, _)| *known == reason) {
                Some((_, count)) => *count += 1,
                None => refusals.push((reason, 1)),
            },
        }
    }
    let number = ordinal(&pod.name_any()).map(|ordinal| ordinal % nodes.len().max(1));
    let crowd = |node: &Node| pods.iter().filter(|pod| runs_on(pod, node)).count();
    fitting
        .into_iter()
        .min_by_key(|(index, node)| (Some(*index) != number, crowd(node)))
        .map(|(_, node)| node.name_any())
        .ok_or_else(|| {
            let reasons = refusals.iter().map(|(reason, count)| format!("{count} {reason}"));
            let reasons = reasons.collect::<Vec<_>>().join(", ");
            format!("0/{} nodes are available: {reasons}.", nodes.len())
        })
}

/// Returns the reason why `node` cannot take `pod`, in the scheduler's words.
fn refusal(pod: &Pod, node: &Node, nodes: &[Node], pods: &[Pod]) -> Option<&'static str> {
    let spec = pod.spec.as_ref()?;
    if node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true) {
        return Some("node(s) were unschedulable");
    }
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    if conditions.clone().any(|condition| condition.type_ == "Ready" && condition.status != "True")
    {
        return Some("node(s) had untolerated taint(s)");
    }
    let mut wanted = spec.node_selector.iter().flatten();
    if wanted.any(|(key, value)| node.labels().get(key) != Some(value)) {
        return Some("node(s) didn't match Pod's node affinity/selector");
    }
    let affinity = spec.affinity.as_ref().and_then(|affinity| affinity.pod_anti_affinity.as_ref());
    let terms = affinity
        .and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
    let apart = terms.into_iter().flatten().all(|term| {
        !pods.iter().any(|other| repels(term, pod, other) && close(term, node, other, nodes))
    });
    (!apart).then_some("node(s) didn't match pod anti-affinity rules")
}

/// Returns whether an anti-affinity term of `pod` selects `other`.
fn repels(term: &PodAffinityTerm, pod: &Pod, other: &Pod) -> bool {
    let selector = term.label_selector.clone().and_then(|labels| Selector::try_from(labels).ok());
    let namespaces = term.namespaces.as_deref().unwrap_or_default();
    let namespace = other.namespace().unwrap_or_default();
    let about = if namespaces.is_empty() {
        pod.namespace().unwrap_or_default() == namespace
    } else {
        namespaces.contains(&namespace)
    };
    about && other.uid() != pod.uid() && selector.is_some_and(|wants| wants.matches(other.labels()))
}

/// Returns whether `other` runs in the same topology domain as `node`.
fn close(term: &PodAffinityTerm, node: &Node, other: &Pod, nodes: &[Node]) -> bool {
    let domain = |node: &Node| node.labels().get(&term.topology_key).cloned();
    let there = nodes.iter().find(|node| runs_on(other, node)).and_then(domain);
    there.is_some() && there == domain(node)
}

fn runs_on(pod: &Pod, node: &Node) -> bool {
    let at = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
    at.is_some() && at == node.metadata.name.as_deref()
}

/// Returns the ordinal in the name of a StatefulSet's pod.
fn ordinal(name: &str) -> Option<usize> {
    name.rsplit_once('-')?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn nodes() -> Vec<Node> {
        (0..3)
            .map(|index| {
                let labels = json!({
                    "kubernetes.io/hostname": format!("node-{index}"),
                    "topology.kubernetes.io/zone": if index < 2 { "a" } else { "b" },
                });
                serde_json::from_value(json!({
                    "metadata": {"name": format!("node-{index}"), "labels": labels},
                    "status": {"conditions": [{"type": "Ready", "status": "True"}]},
                }))
                .unwrap()
            })
            .collect()
    }

    fn pod(name: &str, spec: Value) -> Pod {
        let mut spec = spec;
        spec["containers"] = json!([]);
        serde_json::from_value(json!({
            "metadata": {"name": name, "uid": name, "namespace": "db", "labels": {"app": "spilo"}},
            "spec": spec,
        }))
        .unwrap()
    }

    fn apart(topology: &str) -> Value {
        json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
            {"labelSelector": {"matchLabels": {"app": "spilo"}}, "topologyKey": topology},
        ]}}})
    }

    #[test]
    fn members_get_the_node_of_their_ordinal() {
        for (name, node) in [("acid-a-0", "node-0"), ("acid-a-2", "node-2"), ("acid-a-4", "node-1")]
        {
            assert_eq!(place(&pod(name, json!({})), &nodes(), &[]).unwrap(), node, "{name}");
        }
    }

    #[test]
    fn other_pods_get_the_node_with_the_fewest_pods() {
        let pods =
            [pod("a-x", json!({"nodeName": "node-0"})), pod("b-x", json!({"nodeName": "node-1"}))];
        assert_eq!(place(&pod("c-x", json!({})), &nodes(), &pods).unwrap(), "node-2");
    }

    #[test]
    fn a_node_that_may_not_be_used_is_passed_over() {
        let mut cordoned = nodes();
        cordoned[0].spec = serde_json::from_value(json!({"unschedulable": true})).unwrap();
        assert_eq!(place(&pod("acid-a-0", json!({})), &cordoned, &[]).unwrap(), "node-1");
        let mut lost = nodes();
        lost[0].status =
            serde_json::from_value(json!({"conditions": [{"type": "Ready", "status": "Unknown"}]}))
                .unwrap();
        assert_eq!(place(&pod("acid-a-0", json!({})), &lost, &[]).unwrap(), "node-1");
        let zone = json!({"nodeSelector": {"topology.kubernetes.io/zone": "b"}});
        assert_eq!(place(&pod("acid-a-0", zone), &nodes(), &[]).unwrap(), "node-2");
    }

    #[test]
    fn anti_affinity_keeps_members_apart_and_says_when_it_cannot() {
        let host = "kubernetes.io/hostname";
        let mut pods = vec![pod("acid-a-0", json!({"nodeName": "node-0"}))];
        assert_eq!(place(&pod("acid-a-3", apart(host)), &nodes(), &pods).unwrap(), "node-1");
        pods.push(pod("acid-a-1", json!({"nodeName": "node-1"})));
        pods.push(pod("acid-a-2", json!({"nodeName": "node-2"})));
        assert_eq!(
            place(&pod("acid-a-3", apart(host)), &nodes(), &pods).unwrap_err(),
            "0/3 nodes are available: 3 node(s) didn't match pod anti-affinity rules."
        );
        let zone = apart("topology.kubernetes.io/zone");
        assert_eq!(place(&pod("acid-a-1", zone), &nodes(), &pods[..1]).unwrap(), "node-2");
    }

    #[test]
    fn every_reason_is_counted() {
        let mut nodes = nodes();
        nodes[0].spec = serde_json::from_value(json!({"unschedulable": true})).unwrap();
        let pod = pod("acid-a-0", json!({"nodeSelector": {"disk": "ssd"}}));
        assert_eq!(
            place(&pod, &nodes, &[]).unwrap_err(),
            "0/3 nodes are available: 1 node(s) were unschedulable, 2 node(s) didn't match Pod's \
             node affinity/selector."
        );
    }
}
