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
