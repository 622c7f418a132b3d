//! What surrounds a cluster, as far as the change bears on it.

use k8s_openapi::api::batch::v1::CronJob;
use k8s_openapi::api::core::v1::{LimitRange, Node, ResourceQuota};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;

use crate::capacity::{Template, spreads};
use crate::change::Change;
use crate::facts::{self, Backup, Seen};
use crate::objects::capacity as objects_of;
use crate::operator::Operator;
use crate::read::Breadth;
use crate::read::fetch::Objects;

/// What of the surroundings a change needs. The count as it is written decides, because the operator's limits are
/// read at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Needed {
    /// Quotas and limit ranges.
    pub(super) room: bool,
    /// The last backup.
    pub(super) backup: bool,
    /// The nodes, where members must be kept apart.
    pub(super) nodes: bool,
    /// The disruption budgets.
    pub(super) disruption_budgets: bool,
}

impl Needed {
    pub(super) fn of(change: &Change, breadth: Breadth) -> Self {
        let asked = change.new.instances.unwrap_or(0);
        let old = change.old.as_ref();
        let before = old.map(|old| old.instances.unwrap_or(0));
        // Two annotations change the effective count without the written one.
        let either = old.is_some_and(|old| old.annotations != change.new.annotations);
        let grows = before.is_none_or(|before| asked > before) || either;
        let shrinks = before.is_some_and(|before| asked < before) || either;
        let whole = breadth == Breadth::Whole;
        Self {
            room: grows,
            backup: shrinks,
            nodes: grows && whole,
            disruption_budgets: shrinks && asked == 1 && whole,
        }
    }
}

/// The namespace's quotas and limit ranges.
pub(super) async fn room(
    objects: &Objects,
    namespace: &str,
) -> (Seen<Vec<ResourceQuota>>, Seen<Vec<LimitRange>>) {
    let (quotas, ranges) = futures::join!(
        objects.all::<ResourceQuota>(Some(namespace)),
        objects.all::<LimitRange>(Some(namespace)),
    );
    (seen(quotas), seen(ranges))
}

/// The nodes; none where nothing keeps the members apart, because then nobody has to look.
pub(super) async fn nodes(objects: &Objects, template: &Template) -> Seen<Vec<facts::Node>> {
    if !spreads(template) {
        return Seen::Known(Vec::new());
    }
    let nodes = objects.all::<Node>(None).await;
    seen(nodes.map(|nodes| nodes.iter().map(objects_of::node).collect()))
}

/// The namespace's disruption budgets.
pub(super) async fn disruption_budgets(
    objects: &Objects,
    namespace: &str,
) -> Result<Vec<PodDisruptionBudget>, String> {
    objects.all::<PodDisruptionBudget>(Some(namespace)).await
}

/// The cluster's backup job, which the operator's settings name.
pub(super) async fn backup(
    objects: &Objects,
    namespace: &str,
    cluster: &str,
    operator: impl Future<Output = Seen<Operator>>,
) -> Seen<Backup> {
    let settings = operator.await.known().map(|operator| operator.settings.pods.clone());
    let prefix = settings.unwrap_or_default().backup_job_prefix;
    let name = objects_of::backup_job(&prefix, cluster);
    match objects.get::<CronJob>(Some(namespace), &name).await {
        Seen::Known(job) => Seen::Known(objects_of::backup(&job)),
        Seen::Absent => Seen::Absent,
        Seen::Unreadable(why) => Seen::Unreadable(why),
    }
}

pub(super) fn seen<T>(read: Result<T, String>) -> Seen<T> {
    read.map_or_else(Seen::Unreadable, Seen::Known)
}
