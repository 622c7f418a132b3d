//! The nodes as a pod sees them that the scheduler cannot place: cordons, taints, labels, free room.
//!
//! The scheduler says how many nodes lack what, and names none. This names each, with the fact.
//! Storage and preferences are left to the scheduler: a node that is said to have room is a place to
//! look at, and no promise.

use std::collections::BTreeMap;

use futures::FutureExt as _;
use k8s_openapi::api::core::v1;
use kube::Api;
use kube::api::ListParams;
use pgscale_guard::capacity::{Amounts, Footprint, Look, Node, Template, draining, fits, spreads};
use pgscale_guard::duration::exact;
use pgscale_guard::evidence::Evidence;
use pgscale_guard::facts::{Facts, Member};
use pgscale_guard::object_ref::{Kind, ObjectRef};
use pgscale_guard::objects;
use pgscale_guard::quantity::Amount;
use tokio::time::timeout;

use crate::services::short;
use crate::session::Session;

/// The number of nodes that are named: those that come nearest first.
const NAMED: usize = 8;

/// The number of nodes and of pods that are read at most.
const MOST_NODES: u32 = 2000;
const PAGE: u32 = 500;
const MOST_PODS: usize = 10_000;

/// Reads the nodes where a member's pod has none, and returns what keeps it away from each.
pub(crate) async fn read(session: &Session, facts: &Facts) -> Vec<Evidence> {
    let waits = |member: &Member| member.pod.node.is_none() && member.pod.phase == "Pending";
    if !facts.survivors().any(waits) {
        return Vec::new();
    }
    let unread = |why: &str| vec![Evidence::unreadable(ObjectRef::all(Kind::Node), why)];
    let template = match (facts.capacity.template.known(), facts.capacity.template.unreadable()) {
        (Some(template), _) => template,
        (None, Some(why)) => return unread(why),
        (None, None) => return Vec::new(),
    };
    let limit = session.pace.impact;
    let late = |what: &str| format!("{what}: no answer within {}", exact(limit));
    let nodes =
        async { timeout(limit, nodes(session)).await.unwrap_or_else(|_| Err(late("nodes"))) };
    let pods = async { timeout(limit, pods(session)).await.unwrap_or_else(|_| Err(late("pods"))) };
    let (nodes, pods) = futures::join!(nodes.boxed(), pods.boxed());
    match nodes {
        Ok(nodes) => judge(template, &nodes, &pods, facts),
        Err(why) => unread(&why),
    }
}

async fn nodes(session: &Session) -> Look<Vec<v1::Node>> {
    let api: Api<v1::Node> = Api::all(session.client.clone());
    let list = api.list(&ListParams::default().limit(MOST_NODES)).await;
    Ok(list.map_err(|error| short(&error, "nodes"))?.items)
}

/// Reads every pod that takes room, in pages.
async fn pods(session: &Session) -> Look<Vec<v1::Pod>> {
    let api: Api<v1::Pod> = Api::all(session.client.clone());
    let running = "status.phase!=Succeeded,status.phase!=Failed";
    let mut page = ListParams::default().fields(running).limit(PAGE);
    let mut all = Vec::new();
    loop {
        let list = api.list(&page).await;
        let list = list.map_err(|error| short(&error, "pods of all namespaces"))?;
        all.extend(list.items);
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            None => return Ok(all),
            Some(_) if all.len() >= MOST_PODS => {
                return Err(format!("there are more than {MOST_PODS} pods"));
            }
            Some(token) => page = page.continue_token(&token),
        }
    }
}

/// What a node is to the pod, the nearest first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Obstacle {
    /// None that is looked at here.
    None,
    /// The room could not be read.
    Unknown,
    /// This much of a resource is free, and that much is needed.
    Room(String),
    /// A member runs there, and members are kept apart.
    Taken,
    /// It is cordoned, or tainted.
    Marked(&'static str, String),
    /// It is not Ready.
    NotReady,
    /// Labels that the pod's `nodeSelector` or affinity does not select.
    Labels,
}

/// Returns what keeps a pod of this template away from each node.
fn judge(
    template: &Template,
    nodes: &[v1::Node],
    pods: &Look<Vec<v1::Pod>>,
    facts: &Facts,
) -> Vec<Evidence> {
    let needs = Footprint::of(template).map(|footprint| footprint.requests);
    let taken = pods.as_ref().map(|pods| taken(pods)).map_err(String::as_str);
    let mut all: Vec<(Obstacle, &str, String)> = nodes
        .iter()
        .map(|node| {
            let name = node.metadata.name.as_deref().unwrap_or_default();
            let free = match &taken {
                Ok(taken) => Ok(free(node, taken.get(name))),
                Err(why) => Err(*why),
            };
            let (obstacle, room) = match (&needs, &free) {
                (Ok(needs), Ok(free)) => (lacks(needs, free), in_words(needs, free)),
                (Err(why), _) => (Some(Obstacle::Unknown), why.clone()),
                (_, Err(why)) => (Some(Obstacle::Unknown), (*why).to_owned()),
            };
            let obstacle = marks(node, template, facts).or(obstacle).unwrap_or(Obstacle::None);
            (obstacle, name, room)
        })
        .collect();
    all.sort();
    let shown = all.len().min(NAMED);
    let mut evidence: Vec<Evidence> = all
        .iter()
        .take(shown)
        .map(|(obstacle, name, room)| shown_as(obstacle, name, room))
        .collect();
    let besides = all.len() - shown;
    if besides > 0 {
        evidence.push(Evidence::new(
            ObjectRef::all(Kind::Node),
            "not named",
            format!("{besides} more"),
        ));
    }
    if all.is_empty() {
        evidence.push(Evidence::new(ObjectRef::all(Kind::Node), "number", 0));
    }
    evidence
}

fn shown_as(obstacle: &Obstacle, name: &str, room: &str) -> Evidence {
    let node = ObjectRef::new(Kind::Node, name);
    match obstacle {
        Obstacle::None => Evidence::new(node, "free", format!("{room}: has room")),
        Obstacle::Unknown => Evidence::new(node, "free room not known", room),
        Obstacle::Room(what) => Evidence::new(node, "free", what),
        Obstacle::Taken => {
            Evidence::new(node, "members", "one runs there, and they are kept apart")
        }
        Obstacle::Marked(field, value) => Evidence::new(node, field, value),
        Obstacle::NotReady => Evidence::new(node, "condition Ready", "not True"),
        Obstacle::Labels => {
            Evidence::new(node, "labels", "not those of nodeSelector and affinity of the pod")
        }
    }
}

/// Returns what keeps the pod away apart from room.
fn marks(node: &v1::Node, template: &Template, facts: &Facts) -> Option<Obstacle> {
    let reduced = objects::capacity::node(node);
    let tolerations = template.pod.tolerations.as_deref().unwrap_or(&[]);
    if let Some(mark) = draining(&reduced, tolerations) {
        let (field, value) = mark.shown();
        return Some(Obstacle::Marked(field, value));
    }
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let mut ready = conditions.filter(|condition| condition.type_ == "Ready");
    if ready.any(|condition| condition.status != "True") {
        return Some(Obstacle::NotReady);
    }
    if !fits(&reduced, &template.pod) {
        let untainted = Node { taints: Vec::new(), ..reduced.clone() };
        // A taint by the state of the node, such as a pressure.
        let taints: Vec<&str> = reduced.taints.iter().map(|taint| taint.key.as_str()).collect();
        return Some(if fits(&untainted, &template.pod) {
            Obstacle::Marked("spec.taints", taints.join(", "))
        } else {
            Obstacle::Labels
        });
    }
    let here = |member: &Member| member.pod.node.as_deref() == Some(reduced.name.as_str());
    (spreads(template) && facts.all_members().iter().any(here)).then_some(Obstacle::Taken)
}

/// The resource that counts pods.
const PODS: &str = "pods";

/// Returns the requests of pods, by node.
fn taken(pods: &[v1::Pod]) -> BTreeMap<&str, Amounts> {
    let mut taken: BTreeMap<&str, Amounts> = BTreeMap::new();
    for pod in pods {
        let Some(spec) = &pod.spec else { continue };
        let Some(node) = spec.node_name.as_deref() else { continue };
        let of = taken.entry(node).or_default();
        let template = Template { pod: spec.clone(), ..Template::default() };
        // The API server takes no pod with a request that is no quantity.
        let requests = Footprint::of(&template).map(|it| it.requests).unwrap_or_default();
        for (resource, amount) in requests.into_iter().chain([(PODS.to_owned(), Amount::whole(1))])
        {
            let sum = of.entry(resource).or_default();
            *sum = sum.plus(amount);
        }
    }
    taken
}

/// Returns the free room of a node. A resource that it does not have is missing.
fn free(node: &v1::Node, taken: Option<&Amounts>) -> Amounts {
    let allocatable = node.status.as_ref().and_then(|status| status.allocatable.as_ref());
    let rest = |(resource, quantity): (&String, _)| {
        let taken = taken.and_then(|taken| taken.get(resource)).copied().unwrap_or_default();
        Some((resource.clone(), Amount::of(quantity)?.minus(taken)))
    };
    allocatable.into_iter().flatten().filter_map(rest).collect()
}

/// Returns the first resource of which the node has too little.
fn lacks(needs: &Amounts, free: &Amounts) -> Option<Obstacle> {
    let one = [(PODS.to_owned(), Amount::whole(1))];
    let short = |(resource, amount): &(String, Amount)| {
        free.get(resource).copied().unwrap_or_default() < *amount
    };
    let needs = needs.clone().into_iter().chain(one);
    let (resource, amount) = needs.into_iter().find(short)?;
    let free = free.get(&resource).copied().unwrap_or_default().max(Amount::default());
    let needed =
        if resource == PODS { String::new() } else { format!(", {} needed", amount.readable()) };
    Some(Obstacle::Room(format!("{} {resource}{needed}", free.readable())))
}

/// Returns the free room of the resources that are needed.
fn in_words(needs: &Amounts, free: &Amounts) -> String {
    let one = |(resource, _): (&String, &Amount)| {
        let free = free.get(resource).copied().unwrap_or_default().max(Amount::default());
        format!("{} {resource}", free.readable())
    };
    let words: Vec<String> = needs.iter().map(one).collect();
    if words.is_empty() { "the pod requests nothing".to_owned() } else { words.join(", ") }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::facts;

    fn node(name: &str, more: &Value) -> v1::Node {
        let mut object = json!({"metadata": {"name": name, "labels": {"disk": "ssd"}}, "spec": {},
            "status": {"allocatable": {"cpu": "4", "memory": "16Gi", "pods": "110"},
                "conditions": [{"type": "Ready", "status": "True"}]}});
        for (pointer, value) in more.as_object().unwrap() {
            let (parent, key) = pointer.rsplit_once('/').unwrap();
            object.pointer_mut(parent).unwrap()[key] = value.clone();
        }
        serde_json::from_value(object).unwrap()
    }

    fn pod(node: &str, cpu: &str) -> v1::Pod {
        serde_json::from_value(json!({"metadata": {}, "spec": {"nodeName": node, "containers":
            [{"name": "c", "resources": {"requests": {"cpu": cpu, "memory": "1Gi"}}}]}}))
        .unwrap()
    }

    fn template(more: &Value) -> Template {
        let mut pod = json!({"nodeSelector": {"disk": "ssd"}, "containers": [{"name": "postgres",
            "resources": {"requests": {"cpu": "1", "memory": "4Gi"}}}]});
        pod.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        Template {
            pod: serde_json::from_value(pod).unwrap(),
            labels: [("cluster-name".to_owned(), "acid-a".to_owned())].into(),
            ..Template::default()
        }
    }

    fn lines(all: &[Evidence]) -> String {
        all.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn every_node_has_its_reason_and_the_nearest_is_first() {
        let nodes = [
            node("cordoned", &json!({"/spec/unschedulable": true})),
            node("full", &json!({})),
            node("gpu", &json!({"/spec/taints": [{"key": "gpu", "effect": "NoSchedule"}]})),
            node("hdd", &json!({"/metadata/labels": {"disk": "hdd"}})),
            node("lost", &json!({"/status/conditions": [{"type": "Ready", "status": "Unknown"}]})),
            node("node-1", &json!({})),
            node(
                "small",
                &json!({"/status/allocatable": {"cpu": "4", "memory": "16Gi", "pods": "0"}}),
            ),
            node("free", &json!({})),
        ];
        let pods = Ok(vec![pod("full", "3"), pod("full", "500m"), pod("free", "1")]);
        let apart = json!({"affinity": {"podAntiAffinity":
            {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "kubernetes.io/hostname",
                "labelSelector": {"matchLabels": {"cluster-name": "acid-a"}}}]}}});
        let found = judge(&template(&apart), &nodes, &pods, &facts(3, 3, 0));
        insta::assert_snapshot!(lines(&found), @"
        node/free: free: 3 cpu, 15Gi memory: has room
        node/small: free: 0 pods
        node/full: free: 0.5 cpu, 1 needed
        node/node-1: members: one runs there, and they are kept apart
        node/gpu: spec.taints: gpu:NoSchedule
        node/cordoned: spec.unschedulable: true
        node/lost: condition Ready: not True
        node/hdd: labels: not those of nodeSelector and affinity of the pod
        ");
    }

    #[test]
    fn room_that_cannot_be_read_is_unknown_and_never_free() {
        let pods = Err("may not read pods of all namespaces".to_owned());
        let nodes =
            [node("free", &json!({})), node("cordoned", &json!({"/spec/unschedulable": true}))];
        let found = judge(&template(&json!({})), &nodes, &pods, &facts(3, 3, 0));
        insta::assert_snapshot!(lines(&found), @"
        node/free: free room not known: may not read pods of all namespaces
        node/cordoned: spec.unschedulable: true
        ");
        let many: Vec<v1::Node> =
            (0..20).map(|it| node(&format!("n{it:02}"), &json!({}))).collect();
        let found = judge(&template(&json!({})), &many, &Ok(Vec::new()), &facts(3, 3, 0));
        assert_eq!(found.len(), NAMED + 1);
        assert!(lines(&found).ends_with("12 more"), "{}", lines(&found));
        let none = judge(&template(&json!({})), &[], &Ok(Vec::new()), &facts(3, 3, 0));
        assert_eq!(none.len(), 1);
    }
}
