//! Reads the running parts of a cluster: its StatefulSet, pods, claims, and Patroni's state.

use std::collections::{BTreeMap, BTreeSet};

use futures::FutureExt as _;
use futures::future::{OptionFuture, join_all};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Node, PersistentVolumeClaim, Pod};

use crate::capacity::Template;
use crate::facts::{self, Claim, DisruptionBudget, Member, Seen};
use crate::objects::nodes::NodeState;
use crate::objects::pods::members;
use crate::objects::{self, Layout, spell};
use crate::operator::Operator;
use crate::postgresql::Postgresql;
use crate::read::capacity::{self, Needed, seen};
use crate::read::fetch::Objects;
use crate::read::patroni;

/// The running parts of a cluster.
pub(super) struct Workload {
    pub(super) stateful_set: Seen<facts::StatefulSet>,
    pub(super) members: Seen<Vec<Member>>,
    pub(super) claims: Seen<Vec<Claim>>,
    pub(super) patroni: patroni::Shared,
    pub(super) template: Seen<Template>,
    pub(super) nodes: Option<Seen<Vec<facts::Node>>>,
    pub(super) disruption_budgets: Option<Seen<Vec<DisruptionBudget>>>,
}

/// Reads the running parts.
///
/// The StatefulSet determines the labels of everything else and Patroni's store. Only where it is
/// not known does this wait for the operator's settings.
pub(super) async fn workload(
    objects: &Objects,
    cluster: &Postgresql,
    needed: Needed,
    operator: impl Future<Output = Seen<Operator>>,
) -> Workload {
    let (namespace, name) = (cluster.namespace.as_str(), cluster.name.as_str());
    let set = objects.get::<StatefulSet>(Some(namespace), name).await;
    let layout = match &set {
        Seen::Known(set) => Layout::of(set, name),
        Seen::Absent | Seen::Unreadable(_) => {
            let operator = operator.await;
            let settings = operator.known().map(|operator| operator.settings.clone());
            let layout = Layout::by_settings(name, &settings.unwrap_or_default());
            let store = operator.known().and_then(Operator::store);
            Layout { store: store.unwrap_or(layout.store), ..layout }
        }
    };
    let selector = spell(&layout.selector);
    let bare = set.known().map(|set| Template::of(set, &[])).unwrap_or_default();
    let nodes = needed.nodes.then(|| capacity::nodes(objects, &bare));
    let budgets = needed
        .disruption_budgets
        .then(|| capacity::disruption_budgets(objects, namespace, &bare, &layout));
    let (pods, claims, patroni, nodes, budgets) = futures::join!(
        read_pods(objects, cluster, &layout, &selector).boxed(),
        // By name: a claim belongs to the member that its name says, whatever its labels are.
        objects.list::<PersistentVolumeClaim>(Some(namespace), None).boxed(),
        patroni::shared(objects, namespace, name, &layout.store).boxed(),
        OptionFuture::from(nodes).boxed(),
        OptionFuture::from(budgets).boxed(),
    );
    let (members, pods) = match pods {
        Ok((members, pods)) => (Seen::Known(members), pods),
        Err(why) => (Seen::Unreadable(why), Vec::new()),
    };
    Workload {
        template: set.as_ref().map(|set| Template::of(set, &pods)),
        nodes,
        disruption_budgets: budgets,
        stateful_set: set.map(|set| objects::stateful_set(&set)),
        members,
        claims: seen(claims.map(|claims| objects::claims(&claims, name))),
        patroni,
    }
}

/// Reads the members, and their pods as they are stored.
async fn read_pods(
    objects: &Objects,
    cluster: &Postgresql,
    layout: &Layout,
    selector: &str,
) -> Result<(Vec<Member>, Vec<Pod>), String> {
    let pods = objects.list::<Pod>(Some(&cluster.namespace), Some(selector)).await?;
    let names: BTreeSet<&str> =
        pods.iter().filter_map(|pod| pod.spec.as_ref()?.node_name.as_deref()).collect();
    let nodes = names.into_iter().map(async |name| {
        let state = match objects.get::<Node>(None, name).await {
            Seen::Known(node) => NodeState::of(&node),
            Seen::Absent => NodeState::gone(),
            // A reader without the permission for nodes gets less, and no refusal.
            Seen::Unreadable(_) => return None,
        };
        Some((name.to_owned(), state))
    });
    let nodes: BTreeMap<String, NodeState> = join_all(nodes).await.into_iter().flatten().collect();
    Ok((members(&pods, &nodes, &cluster.name, layout), pods))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::facts::{Draining, Facts};
    use crate::read::AskWhom;
    use crate::read::testing::{Members, SET, World, change, core, world};

    async fn read(world: &World) -> Facts {
        world.reader(&Members::healthy()).facts(change(3, 2), AskWhom::AsNeeded).await
    }

    /// A claim belongs to a member by its name.
    #[tokio::test(start_paused = true)]
    async fn claim_without_labels_belongs_to_the_member_of_its_name() {
        let bare = |claim: &mut Value| claim["metadata"]["labels"] = Value::Null;
        let claim = core("persistentvolumeclaims", "pgdata-acid-a-2");
        let facts = read(&world("endpoints").edit(&claim, bare)).await;
        let ordinals = facts.claims.known().unwrap().iter().map(|claim| claim.ordinal);
        assert_eq!(ordinals.collect::<Vec<_>>(), [0, 1, 2]);
    }

    /// The marks of the members' own nodes, and the images of pods, are read for a
    /// review.
    #[tokio::test(start_paused = true)]
    async fn marks_of_nodes_and_images_of_pods_are_read() {
        let there = world("endpoints")
            .edit("/api/v1/nodes/node-1", |node| node["spec"] = json!({"unschedulable": true}))
            .edit(&core("pods", "acid-a-1"), |pod| {
                pod["spec"]["containers"][0]["image"] = json!("spilo:old");
            })
            .edit(SET, |set| {
                set["spec"]["template"]["spec"]["containers"][0]["image"] = json!("spilo:new");
                set["status"]["updateRevision"] = json!("acid-a-1234567890");
            });
        let facts = read(&there).await;
        let pod = &facts.member("acid-a-1").unwrap().pod;
        assert_eq!(pod.draining, Some(Draining::Cordoned));
        assert_eq!(facts.member("acid-a-0").unwrap().pod.draining, None);
        assert_eq!(pod.image.as_deref(), Some("spilo:old"));
        let set = facts.stateful_set.known().unwrap();
        assert_eq!(set.image.as_deref(), Some("spilo:new"));
        assert_eq!(set.revision.as_deref(), Some("acid-a-1234567890"));
        let nodes = there.requested().into_iter().filter(|path| path.contains("/nodes"));
        assert!(nodes.clone().all(|path| path.contains("/nodes/node-")), "{nodes:?}");
    }
}
