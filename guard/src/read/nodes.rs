//! Reads the nodes of members.
//!
//! A review of a shrink looks at the node of each kept member, and many members share a node. What a node
//! says of a member that is well can only warn: that it is being emptied, and its zone. So another review
//! may have read it, up to [`LASTS`] before. Three things are read for each review: a node whose pod is not
//! well, because what it says decides, one that was not ready, and all nodes where a policy refuses by them.
//!
//! Kubernetes marks the pods of a node that it has lost as not ready, in the same pass that marks the node
//! (`MarkPodsNotReady`, `pkg/controller/nodelifecycle/node_lifecycle_controller.go`). The pods are read for
//! each review.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::core::v1::Node;
use tokio::time::Instant;

use crate::facts::Seen;
use crate::objects::nodes::NodeState;
use crate::policy::Policies;
use crate::read::fetch::Objects;
use crate::rule_id::RuleId;

/// The most nodes of members that are read.
pub(super) const NODES: usize = 32;
/// The age up to which what one review has read of a node serves another.
const LASTS: Duration = Duration::from_secs(5);
/// The most nodes that are remembered.
const MOST: usize = 1024;
/// The most bytes of the marks of a node that is remembered.
const MARKS: usize = 1 << 10;

/// Nodes that were ready a moment ago.
#[derive(Debug, Default)]
pub(super) struct Remembered(Mutex<HashMap<String, (Instant, NodeState)>>);

impl Remembered {
    fn of(&self, name: &str) -> Option<NodeState> {
        let nodes = self.nodes();
        let (read, state) = nodes.get(name)?;
        (read.elapsed() <= LASTS).then(|| state.clone())
    }

    /// Remembers a node that was asked for at `read`. One that is not ready is forgotten.
    fn keep(&self, name: &str, read: Instant, state: &NodeState) {
        let mut nodes = self.nodes();
        nodes.remove(name);
        let taints = state.node.taints.iter();
        let marks = taints.map(|it| it.key.len() + it.value.as_ref().map_or(0, String::len));
        if state.ready != Some(true) || marks.sum::<usize>() > MARKS {
            return;
        }
        if nodes.len() >= MOST {
            nodes.retain(|_, (read, _)| read.elapsed() <= LASTS);
        }
        if nodes.len() < MOST {
            let mut state = state.clone();
            // No rule looks at the labels of a member's own node.
            state.node.labels = BTreeMap::new();
            nodes.insert(name.to_owned(), (read, state));
        }
    }

    fn nodes(&self) -> MutexGuard<'_, HashMap<String, (Instant, NodeState)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns whether a policy refuses by what nodes say of members that are well.
pub(super) fn refuse(policies: &Policies) -> bool {
    let by = [RuleId::SURVIVORS_DRAINING, RuleId::SURVIVORS_ONE_ZONE];
    by.into_iter().any(|rule| policies.denies_by(rule))
}

/// Reads the nodes with these names, as far as that is possible.
pub(super) async fn read_nodes(
    objects: &Objects,
    names: BTreeSet<&str>,
) -> BTreeMap<String, NodeState> {
    let nodes = names.into_iter().map(async |name| {
        let read = Instant::now();
        let state = match objects.get::<Node>(None, name).await {
            Seen::Known(node) => NodeState::of(&node),
            Seen::Absent => NodeState::gone(),
            // A reader without the permission for nodes gets less, and no refusal.
            Seen::Unreadable(_) => return None,
        };
        if let Some(sharing) = &objects.sharing {
            sharing.nodes().keep(name, read, &state);
        }
        Some((name.to_owned(), state))
    });
    join_all(nodes).await.into_iter().flatten().collect()
}

/// Returns what other reviews have read of the nodes with these names a moment ago.
pub(super) fn remembered(objects: &Objects, names: &BTreeSet<&str>) -> BTreeMap<String, NodeState> {
    let Some(sharing) = &objects.sharing else { return BTreeMap::new() };
    let known = |name: &&str| Some(((*name).to_owned(), sharing.nodes().of(name)?));
    names.iter().filter_map(known).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;
    use crate::facts::{Draining, Facts};
    use crate::read::testing::{Members, World, change, core, pod, world};
    use crate::read::{Age, AskWhom, Moment, Reader, Shared};
    use tokio::time::advance;

    const NODE: &str = "/api/v1/nodes/node-1";

    /// Reviews a shrink, and returns its facts and the names of the nodes that it asked for.
    async fn review(world: &World, shared: &Shared) -> (Facts, Vec<String>) {
        let before = world.requested().len();
        let sharing = Some(shared.aged(Age::Since(Moment::now())));
        let reader = Reader { sharing, ..world.reader(&Members::healthy()) };
        let (facts, _) = reader.facts_and_policies(change(3, 2), AskWhom::AsNeeded).await;
        let asked = world.requested().split_off(before);
        let nodes = asked.iter().filter_map(|path| path.strip_prefix("/api/v1/nodes/"));
        let mut nodes: Vec<_> = nodes.map(|name| name.trim_end_matches('?').to_owned()).collect();
        nodes.sort();
        (facts, nodes)
    }

    fn draining(facts: &Facts) -> Option<&Draining> {
        facts.member("acid-a-1").unwrap().pod.draining.as_ref()
    }

    fn remembering(world: &World) -> Shared {
        Shared::new(world.reader(&Members::healthy()).client, Arc::new(|_| {}))
    }

    #[tokio::test(start_paused = true)]
    async fn nodes_of_members_that_are_well_are_read_once_for_the_reviews_of_seconds() {
        let there = world("endpoints");
        let shared = remembering(&there);
        let all = ["node-0", "node-1", "node-2"];
        assert_eq!(review(&there, &shared).await.1, all);
        let (facts, asked) = review(&there, &shared).await;
        assert_eq!(asked, [""; 0]);
        let member = facts.member("acid-a-1").unwrap();
        assert_eq!(
            (member.pod.node_ready, member.pod.zone.as_deref()),
            (Some(true), Some("zone-1"))
        );
        advance(LASTS).await;
        assert_eq!(review(&there, &shared).await.1, [""; 0]);
        advance(Duration::from_millis(1)).await;
        assert_eq!(review(&there, &shared).await.1, all);
    }

    #[tokio::test(start_paused = true)]
    async fn node_that_was_not_ready_or_whose_pod_is_not_well_is_never_remembered() {
        let lost = world("endpoints").edit(NODE, |node| {
            node["status"]["conditions"][0]["status"] = json!("Unknown");
        });
        let shared = remembering(&lost);
        for _ in 0..2 {
            let (facts, asked) = review(&lost, &shared).await;
            assert!(asked.contains(&"node-1".to_owned()), "{asked:?}");
            assert_eq!(facts.member("acid-a-1").unwrap().pod.node_ready, Some(false));
        }
        let mut unwell: Value = pod(1);
        unwell["status"]["conditions"][1]["status"] = json!("False");
        let unwell = world("endpoints").with(&core("pods", "acid-a-1"), unwell);
        let shared = remembering(&unwell);
        review(&unwell, &shared).await;
        assert_eq!(review(&unwell, &shared).await.1, ["node-1"]);
    }

    #[tokio::test(start_paused = true)]
    async fn policy_that_refuses_by_nodes_is_judged_on_nodes_read_for_the_review() {
        let path = "/apis/pgscale.dev/v1alpha1/namespaces/db/scalepolicies/strict";
        for (weight, asked) in [("Deny", 3), ("Warn", 0)] {
            for rule in ["survivors-draining", "survivors-one-zone"] {
                let policy = json!({"apiVersion": "pgscale.dev/v1alpha1", "kind": "ScalePolicy",
                    "metadata": {"namespace": "db", "name": "strict"},
                    "spec": {"rules": {rule: weight}}});
                let there = world("endpoints").with(path, policy);
                let shared = remembering(&there);
                review(&there, &shared).await;
                assert_eq!(review(&there, &shared).await.1.len(), asked, "{rule}: {weight}");
            }
        }
        let cordoned =
            world("endpoints").edit(NODE, |node| node["spec"] = json!({"unschedulable": true}));
        let shared = remembering(&cordoned);
        for _ in 0..2 {
            let (facts, _) = review(&cordoned, &shared).await;
            assert_eq!(draining(&facts), Some(&Draining::Cordoned), "read or remembered");
        }
    }

    #[test]
    fn memory_is_bounded() {
        let memory = Remembered::default();
        let ready = NodeState { ready: Some(true), ..NodeState::default() };
        for number in 0..2 * MOST {
            memory.keep(&format!("node-{number}"), Instant::now(), &ready);
        }
        assert_eq!(memory.nodes().len(), MOST);
        let mut marked = ready;
        marked.node.taints.push(crate::facts::Taint {
            key: "a".repeat(MARKS + 1),
            value: None,
            effect: "NoSchedule".to_owned(),
        });
        memory.keep("node-0", Instant::now(), &marked);
        assert_eq!(memory.of("node-0"), None);
    }
}
