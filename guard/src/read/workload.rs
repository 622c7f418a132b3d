//! Reads the running parts of a cluster: its StatefulSet, pods, claims, and Patroni's state.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::OptionFuture;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};

use crate::capacity::Template;
use crate::facts::{self, Claim, DisruptionBudget, Live, Member, Seen};
use crate::objects::nodes::NodeState;
use crate::objects::pods::{is_well, members};
use crate::objects::{self, Layout, spell};
use crate::operator::Operator;
use crate::patroni::Store;
use crate::postgresql::Postgresql;
use crate::read::capacity::{self, Needed, seen};
use crate::read::fetch::Objects;
use crate::read::nodes::{NODES, read_nodes, remembered};
use crate::read::patroni;

/// The reason for which a fact was not read that no rule can need for this change.
const NO_RULE_ASKS: &str = "no rule asks for it in this change";

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
/// The StatefulSet determines the labels of everything else and Patroni's store. Pods and Patroni's
/// objects are read meanwhile as `guess` says, and again where the StatefulSet says otherwise. Only
/// where it is not known does this wait for the operator's settings.
pub(super) async fn workload(
    objects: &Objects,
    cluster: &Postgresql,
    needed: Needed,
    guess: &Layout,
    operator: impl Future<Output = Seen<Operator>> + Send,
    fresh_nodes: impl Future<Output = bool> + Clone + Send + Sync,
) -> Workload {
    let (namespace, name) = (cluster.namespace.as_str(), cluster.name.as_str());
    // By name: a claim belongs to the member that its name says, whatever its labels are.
    let claims = async {
        if !needed.claims {
            return Err(NO_RULE_ASKS.to_owned());
        }
        let prefix = format!("pgdata-{name}-");
        let own = |name: &str| name.starts_with(&prefix);
        objects.list_matching::<PersistentVolumeClaim>(Some(namespace), own, |_| true).await
    };
    let known = async {
        let set = objects.get::<StatefulSet>(Some(namespace), name).await;
        let layout = layout_of(&set, cluster, operator).await;
        Arc::new((set, layout))
    };
    let known = known.boxed().shared();
    let pods = async {
        let early = read_pods(objects, namespace, needed, guess, fresh_nodes.clone());
        let (early, known) = futures::join!(early, known.clone());
        let (_, layout) = &*known;
        if layout.selector == guess.selector {
            return early;
        }
        read_pods(objects, namespace, needed, layout, fresh_nodes.clone()).await
    };
    let patroni = async {
        // The store is guessed only where something says which it is.
        let says = guess.store != Store::Unknown;
        let read = async |layout: &Layout| {
            if needed.both_stores {
                patroni::shared_of_both(objects, namespace, name, layout).boxed().await
            } else {
                patroni::shared(objects, namespace, name, layout).boxed().await
            }
        };
        let early = says.then(|| read(guess).boxed());
        let (early, known) = futures::join!(OptionFuture::from(early), known.clone());
        let (_, layout) = &*known;
        let right = (&layout.selector, layout.store) == (&guess.selector, guess.store);
        match early.filter(|_| right) {
            Some(shared) => shared,
            None => read(layout).boxed().await,
        }
    };
    let bare =
        |set: &Seen<StatefulSet>| set.known().map(|set| Template::of(set, &[])).unwrap_or_default();
    let nodes = async {
        let known = known.clone().await;
        capacity::nodes(objects, &bare(&known.0)).await
    };
    let nodes = needed.nodes.then_some(nodes);
    let budgets = async {
        let known = known.clone().await;
        capacity::disruption_budgets(objects, namespace, &bare(&known.0), &known.1).await
    };
    let budgets = needed.disruption_budgets.then_some(budgets);
    let (known, claims, pods, patroni, nodes, budgets) = futures::join!(
        known.clone(),
        claims.boxed(),
        pods.boxed(),
        patroni.boxed(),
        OptionFuture::from(nodes).boxed(),
        OptionFuture::from(budgets).boxed(),
    );
    let (set, layout) = &*known;
    let (members, pods) = match pods {
        Ok((pods, nodes)) => (Seen::Known(members(&pods, &nodes, name, layout)), pods),
        Err(why) => (Seen::Unreadable(why), Vec::new()),
    };
    Workload {
        template: set.as_ref().map(|set| Template::of(set, &pods)),
        nodes,
        disruption_budgets: budgets,
        stateful_set: set.as_ref().map(objects::stateful_set),
        members,
        claims: seen(claims.map(|claims| objects::claims(&claims, name))),
        patroni,
    }
}

/// Returns the layout of the cluster, by its StatefulSet or else by the operator's settings.
async fn layout_of(
    set: &Seen<StatefulSet>,
    cluster: &Postgresql,
    operator: impl Future<Output = Seen<Operator>>,
) -> Layout {
    let name = cluster.name.as_str();
    if let Seen::Known(set) = set {
        return Layout::of(set, name);
    }
    let operator = operator.await;
    let settings = operator.known().map(|operator| operator.settings.clone());
    let layout = Layout::by_settings(name, &settings.unwrap_or_default());
    let stores = operator.known().map(|operator| operator.stores(&cluster.spec, None));
    let store = stores.and_then(|stores| stores.only());
    Layout { store: store.unwrap_or(layout.store), ..layout }
}

/// The pods of a cluster as they are stored, and the nodes of some that could be read.
type Placed = (Vec<Pod>, BTreeMap<String, NodeState>);

/// Reads the pods with the cluster's labels, and their nodes: all nodes where the change needs them,
/// else those of pods that are not well.
async fn read_pods(
    objects: &Objects,
    namespace: &str,
    needed: Needed,
    layout: &Layout,
    fresh_nodes: impl Future<Output = bool>,
) -> Result<Placed, String> {
    let selector = spell(&layout.selector);
    let pods = objects.list_few::<Pod>(namespace, &selector).await?;
    let wanted = pods.iter().filter(|pod| needed.members_nodes || !is_well(pod));
    let on = |pod: &'_ Pod| Some((pod.spec.as_ref()?.node_name.clone()?, is_well(pod)));
    let wanted: Vec<(String, bool)> = wanted.filter_map(on).take(NODES).collect();
    let mut names: BTreeSet<&str> = wanted.iter().map(|(name, _)| name.as_str()).collect();
    let unwell = wanted.iter().filter(|(_, well)| !well);
    let unwell: BTreeSet<&str> = unwell.map(|(name, _)| name.as_str()).collect();
    let well: BTreeSet<&str> = names.difference(&unwell).copied().collect();
    let mut nodes = BTreeMap::new();
    if !well.is_empty() && !fresh_nodes.await {
        nodes = remembered(objects, &well);
    }
    names.retain(|name| !nodes.contains_key(*name));
    nodes.extend(read_nodes(objects, names).await);
    Ok((pods, nodes))
}

/// Reads the nodes of the members that gave no answer, where they have not been read.
pub(super) async fn silent_members_nodes(objects: &Objects, members: &mut [Member]) {
    let unread = |member: &&Member| {
        matches!(member.live, Live::Silent(_)) && member.pod.node_ready.is_none()
    };
    let names: BTreeSet<String> = members
        .iter()
        .filter(unread)
        .filter_map(|member| member.pod.node.clone())
        .take(NODES)
        .collect();
    let nodes = read_nodes(objects, names.iter().map(String::as_str).collect()).await;
    for member in members.iter_mut() {
        if let Some(node) = member.pod.node.as_ref().and_then(|name| nodes.get(name)) {
            member.pod.node_ready = node.ready;
            member.pod.zone.clone_from(&node.zone);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::facts::{Draining, Facts, Seen};
    use crate::patroni::Store;
    use crate::policy::Policies;
    use crate::read::AskWhom;
    use crate::read::testing::{Members, OPERATOR, SET, SETTINGS, World, change, core, world};
    use crate::rules::evaluate;

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

    /// Asleep under operator 1.15 with its state in Endpoints; operator 2.0 has written its own store
    /// into the template since.
    #[tokio::test(start_paused = true)]
    async fn state_in_the_store_that_a_sleeping_cluster_left_is_read_and_refuses_its_start() {
        let mut there = world("endpoints")
            .edit(SET, |set| {
                set["spec"]["replicas"] = json!(0);
                set["status"]["replicas"] = json!(0);
                let env = &mut set["spec"]["template"]["spec"]["containers"][0]["env"];
                let more = json!({"name": "KUBERNETES_USE_CONFIGMAPS", "value": "true"});
                env.as_array_mut().unwrap().push(more);
            })
            .edit(OPERATOR, |it| {
                it["spec"]["template"]["spec"]["containers"][0]["image"] =
                    json!("ghcr.io/zalando/postgres-operator:v2.0.1");
            })
            .edit(SETTINGS, |it| it["data"]["min_instances"] = json!("-1"));
        for ordinal in 0..3 {
            there = there.without(&core("pods", &format!("acid-a-{ordinal}")));
        }
        let from_zero = |world: &World| {
            let reader = world.reader(&Members::healthy());
            async move { reader.facts(change(0, 3), AskWhom::AsNeeded).await }
        };
        let facts = from_zero(&there).await;
        let left = facts.elsewhere.known().unwrap();
        assert_eq!(left.store, Store::Endpoints);
        assert_eq!(left.last_leader.as_deref(), Some("acid-a-0"));
        let verdict = evaluate(&facts, &Policies::default());
        assert!(verdict.denials().any(|it| it.rule == "dcs-store-changing"), "{verdict:?}");
        let running = read(&world("endpoints")).await;
        assert_eq!(running.elsewhere, Seen::Absent, "it is not asked for while members run");
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
