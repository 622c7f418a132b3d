//! Places for pods that must be kept apart.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm, PodSpec, Toleration};

use crate::capacity::Template;
use crate::selector::{meets, selects};

/// A node, reduced to what the scheduler checks before it counts free room.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its taints.
    pub taints: Vec<Taint>,
    /// It is cordoned.
    pub unschedulable: bool,
}

/// A taint.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Taint {
    /// Its key.
    pub key: String,
    /// Its value.
    pub value: Option<String>,
    /// `NoSchedule`, `PreferNoSchedule` or `NoExecute`.
    pub effect: String,
}

/// The sign that a node is being emptied, or takes no pods.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Draining {
    /// It is cordoned.
    Cordoned,
    /// It is being deleted.
    Deleted,
    /// A taint that the member's pod does not tolerate.
    Tainted(Taint),
}

impl Draining {
    /// Returns the field of the node that shows it, and its value.
    pub fn shown(&self) -> (&'static str, String) {
        match self {
            Self::Cordoned => ("spec.unschedulable", "true".to_owned()),
            Self::Deleted => ("metadata.deletionTimestamp", "set".to_owned()),
            Self::Tainted(Taint { key, value, effect }) => {
                let value = value.as_ref().filter(|value| !value.is_empty());
                let value = value.map_or(String::new(), |value| format!("={value}"));
                ("spec.taints", format!("{key}{value}:{effect}"))
            }
        }
    }
}

/// Prefix of the taints that Kubernetes sets by the state of a node.
const BY_STATE: &str = "node.kubernetes.io/";

/// Those of them that empty a node. The others pass, or are said by its condition Ready.
const EMPTIES: [&str; 2] =
    ["node.kubernetes.io/out-of-service", "node.kubernetes.io/unschedulable"];

/// Returns the sign that a node with these marks would not take a pod again that runs on it.
///
/// A taint that the pod does not tolerate was set after the pod came. Autoscalers, cloud providers
/// and drain tools mark a node in this way before they remove it, each with a key of its own.
pub fn draining(node: &Node, tolerations: &[Toleration]) -> Option<Draining> {
    if node.unschedulable {
        return Some(Draining::Cordoned);
    }
    let found = node.taints.iter().find(|taint| {
        let by_state = taint.key.starts_with(BY_STATE) && !EMPTIES.contains(&taint.key.as_str());
        !by_state && repels(taint, tolerations)
    });
    found.cloned().map(Draining::Tainted)
}

/// Returns whether a taint keeps pods with these tolerations away.
fn repels(taint: &Taint, tolerations: &[Toleration]) -> bool {
    matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute")
        && !tolerations.iter().any(|it| tolerates(it, taint))
}

/// Places that take one member each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Domain {
    /// The node label whose values tell the places apart.
    pub key: String,
    /// Its values on nodes that fit. `None` where a fitting node lacks the label, and so takes any
    /// number.
    pub places: Option<BTreeSet<String>>,
}

/// Returns whether members must be kept apart.
pub fn spreads(template: &Template) -> bool {
    keys(template).next().is_some()
}

/// Returns the places that the required anti-affinity between members leaves, by topology key.
pub fn domains(template: &Template, nodes: &[Node]) -> Vec<Domain> {
    keys(template)
        .map(|key| {
            let fitting = nodes.iter().filter(|node| fits(node, &template.pod));
            let places = fitting.map(|node| node.labels.get(key).cloned()).collect();
            Domain { key: key.to_owned(), places }
        })
        .collect()
}

/// Returns the topology keys of the terms that select the members themselves.
fn keys(template: &Template) -> impl Iterator<Item = &str> {
    let apart = template.pod.affinity.as_ref().and_then(|it| it.pod_anti_affinity.as_ref());
    apart
        .into_iter()
        .flat_map(|it| it.required_during_scheduling_ignored_during_execution.iter().flatten())
        .filter(|term| {
            let selector = term.label_selector.as_ref();
            // No selector selects nothing. An unreadable one is left to the scheduler.
            selector.is_some_and(|it| selects(it, &template.labels).unwrap_or(false))
        })
        .map(|term| term.topology_key.as_str())
}

/// Returns whether the scheduler would consider the node, apart from its free room.
pub fn fits(node: &Node, pod: &PodSpec) -> bool {
    let chosen =
        pod.node_selector.iter().flatten().all(|(key, value)| node.labels.get(key) == Some(value));
    let terms = pod
        .affinity
        .as_ref()
        .and_then(|it| it.node_affinity.as_ref())
        .and_then(|it| it.required_during_scheduling_ignored_during_execution.as_ref())
        .map(|it| it.node_selector_terms.as_slice());
    let liked = terms.is_none_or(|terms| terms.iter().any(|term| matches(term, node)));
    let tolerations = pod.tolerations.as_deref().unwrap_or(&[]);
    let repelled = node.taints.iter().any(|taint| repels(taint, tolerations));
    !node.unschedulable && chosen && liked && !repelled
}

fn matches(term: &NodeSelectorTerm, node: &Node) -> bool {
    let (expressions, fields) = (&term.match_expressions, &term.match_fields);
    // An empty term matches nothing.
    if expressions.iter().flatten().next().is_none() && fields.iter().flatten().next().is_none() {
        return false;
    }
    let by_label = |it: &NodeSelectorRequirement| fulfils(node.labels.get(&it.key), it);
    // metadata.name is the only field.
    let by_field = |it: &NodeSelectorRequirement| fulfils(Some(&node.name), it);
    expressions.iter().flatten().all(by_label) && fields.iter().flatten().all(by_field)
}

fn fulfils(value: Option<&String>, requirement: &NodeSelectorRequirement) -> bool {
    let values = requirement.values.as_deref().unwrap_or(&[]);
    let compared = |than: fn(i64, i64) -> bool| {
        let bound = values.first().and_then(|bound| bound.parse().ok());
        let own = value.and_then(|value| value.parse().ok());
        own.zip(bound).is_some_and(|(own, bound)| than(own, bound))
    };
    match requirement.operator.as_str() {
        "Gt" => compared(|own, bound| own > bound),
        "Lt" => compared(|own, bound| own < bound),
        operator => meets(value, operator, values).unwrap_or(false),
    }
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let set = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let effect = set(&toleration.effect).is_none_or(|effect| effect == taint.effect);
    let key = set(&toleration.key).is_none_or(|key| key == taint.key);
    let value = toleration.operator.as_deref() == Some("Exists")
        || (toleration.key.is_some()
            && toleration.value.as_deref().unwrap_or("") == taint.value.as_deref().unwrap_or(""));
    effect && key && value
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn node(name: &str, zone: Option<&str>, taint: Option<&str>) -> Node {
        let mut node = Node { name: name.to_owned(), ..Node::default() };
        node.labels.insert("host".to_owned(), name.to_owned());
        node.labels.extend(zone.map(|zone| ("zone".to_owned(), zone.to_owned())));
        node.taints.extend(taint.map(|key| Taint {
            key: key.to_owned(),
            value: None,
            effect: "NoSchedule".to_owned(),
        }));
        node
    }

    /// Returns the number of places for a pod.
    fn places(pod: Value) -> String {
        let mut pod = pod;
        pod["containers"] = json!([]);
        let template = Template {
            pod: serde_json::from_value(pod).unwrap(),
            labels: [("cluster-name".to_owned(), "acid-a".to_owned())].into(),
            ..Template::default()
        };
        let nodes = [
            node("n1", Some("a"), None),
            node("n2", Some("a"), None),
            node("n3", Some("b"), Some("gpu")),
            Node { unschedulable: true, ..node("n4", Some("c"), None) },
        ];
        let shown = |domain: Domain| {
            let places = domain.places.map_or("any".to_owned(), |it| it.len().to_string());
            format!("{}={places}", domain.key)
        };
        domains(&template, &nodes).into_iter().map(shown).collect::<Vec<_>>().join(" ")
    }

    fn apart(key: &str, cluster: &str) -> Value {
        json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
            {"topologyKey": key, "labelSelector": {"matchLabels": {"cluster-name": cluster}}}]}})
    }

    #[test]
    fn places_are_those_of_nodes_that_fit() {
        let affine = |expression: Value| {
            let mut affinity = apart("host", "acid-a");
            affinity["nodeAffinity"] = json!({"requiredDuringSchedulingIgnoredDuringExecution":
                {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}});
            json!({"affinity": affinity})
        };
        for (pod, want) in [
            (json!({}), ""),
            (json!({"affinity": apart("host", "acid-b")}), ""),
            (json!({"affinity": apart("host", "acid-a")}), "host=2"),
            (json!({"affinity": apart("zone", "acid-a")}), "zone=1"),
            (json!({"affinity": apart("rack", "acid-a")}), "rack=any"),
            (
                json!({"affinity": apart("host", "acid-a"),
                    "tolerations": [{"key": "gpu", "operator": "Exists"}]}),
                "host=3",
            ),
            (
                json!({"affinity": apart("host", "acid-a"), "tolerations": [{"operator": "Exists"}]}),
                "host=3",
            ),
            (
                json!({"affinity": apart("host", "acid-a"), "tolerations": [{"key": "gpu", "value": "x"}]}),
                "host=2",
            ),
            (
                json!({"affinity": apart("host", "acid-a"), "nodeSelector": {"host": "n2"}}),
                "host=1",
            ),
            (affine(json!({"key": "zone", "operator": "In", "values": ["a"]})), "host=2"),
            (affine(json!({"key": "host", "operator": "NotIn", "values": ["n1"]})), "host=1"),
            (affine(json!({"key": "ssd", "operator": "Exists"})), "host=0"),
            (affine(json!({"key": "ssd", "operator": "DoesNotExist"})), "host=2"),
            (affine(json!({"key": "zone", "operator": "Gt", "values": ["1"]})), "host=0"),
        ] {
            assert_eq!(places(pod.clone()), want, "{pod}");
        }
    }
}
