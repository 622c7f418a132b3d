//! Reads the surroundings of a cluster, as far as the change bears on them.

use k8s_openapi::api::batch::v1::CronJob;
use k8s_openapi::api::core::v1::{LimitRange, Node, ResourceQuota};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;

use crate::capacity::{Template, spreads};
use crate::change::Change;
use crate::facts::{self, Backup, DisruptionBudget, Seen};
use crate::objects::{Layout, capacity as objects_of};
use crate::operator::Operator;
use crate::read::ReadScope;
use crate::read::fetch::Objects;
use crate::rules::{Read, Reads, may_shrink};

/// The parts of the surroundings that a change needs.
///
/// The written count decides, because the operator's limits are read at the same time
/// ([`Reads::of_change`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "independent reads")]
pub(super) struct Needed {
    /// The volume claims.
    pub(super) claims: bool,
    /// The nodes of all members. Otherwise those of members that look unwell.
    pub(super) members_nodes: bool,
    /// Quotas and limit ranges.
    pub(super) room: bool,
    /// The last backup. In a review it is read later, where a policy asks for it.
    pub(super) backup: bool,
    /// The nodes, where members must be kept apart.
    pub(super) nodes: bool,
    /// The disruption budgets.
    pub(super) disruption_budgets: bool,
    /// Patroni's objects of both kinds: where no member may run, the store may have moved unseen.
    pub(super) both_stores: bool,
}

impl Needed {
    pub(super) fn of(change: &Change, breadth: ReadScope) -> Self {
        let needed = Reads::of_change(change);
        let everything = breadth == ReadScope::Everything;
        let around = breadth == ReadScope::Around || everything;
        let whole = breadth != ReadScope::Review;
        let asked = change.new.instances.unwrap_or(0);
        let budgets = needed.contains(Read::DisruptionBudgets) && asked == 1;
        Self {
            claims: needed.contains(Read::Claims) || whole,
            // Kept members on nodes that are being emptied, and zones, matter to a shrink alone.
            members_nodes: may_shrink(change) || whole,
            room: needed.contains(Read::Quotas) || needed.contains(Read::LimitRanges) || around,
            backup: (needed.contains(Read::Backup) && whole) || around,
            nodes: (needed.contains(Read::Nodes) || around) && whole,
            disruption_budgets: (budgets || around || everything) && whole,
            both_stores: change.old.as_ref().is_none_or(|old| old.instances.unwrap_or(0) == 0),
        }
    }
}

/// Reads the namespace's quotas and limit ranges.
pub(super) async fn room(
    objects: &Objects,
    namespace: &str,
) -> (Seen<Vec<ResourceQuota>>, Seen<Vec<LimitRange>>) {
    let (quotas, ranges) = futures::join!(
        objects.list::<ResourceQuota>(Some(namespace), None),
        objects.list::<LimitRange>(Some(namespace), None),
    );
    (seen(quotas), seen(ranges))
}

/// Reads the nodes, or none where nothing keeps the members apart.
pub(super) async fn nodes(objects: &Objects, template: &Template) -> Seen<Vec<facts::Node>> {
    if !spreads(template) {
        return Seen::Known(Vec::new());
    }
    let nodes = objects.list::<Node>(None, None).await;
    seen(nodes.map(|nodes| nodes.iter().map(objects_of::node).collect()))
}

/// Reads the namespace's disruption budgets that count the leader.
pub(super) async fn disruption_budgets(
    objects: &Objects,
    namespace: &str,
    template: &Template,
    layout: &Layout,
) -> Seen<Vec<DisruptionBudget>> {
    let budgets = objects.list::<PodDisruptionBudget>(Some(namespace), None).await;
    seen(budgets.map(|it| objects_of::disruption_budgets(&it, &template.labels, layout)))
}

/// Reads the cluster's backup job, which the operator's settings name.
pub(super) async fn backup(
    objects: &Objects,
    namespace: &str,
    cluster: &str,
    operator: impl Future<Output = Seen<Operator>>,
) -> Seen<Backup> {
    let settings = operator.await.known().map(|operator| operator.settings.pods.clone());
    let prefix = settings.unwrap_or_default().backup_job_prefix;
    let name = objects_of::backup_job(&prefix, cluster);
    let job = objects.get::<CronJob>(Some(namespace), &name).await;
    job.map(|job| objects_of::backup(&job))
}

pub(super) fn seen<T>(read: Result<T, String>) -> Seen<T> {
    read.map_or_else(Seen::Unreadable, Seen::Known)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::facts::Facts;
    use crate::read::AskWhom;
    use crate::read::testing::{Fault, Members, SET, change, core, world};

    /// Describes the surroundings that were read: `-` for not asked, `?` for unreadable, else their
    /// number.
    fn surroundings(facts: &Facts) -> String {
        fn of<T>(name: &str, seen: Option<&Seen<Vec<T>>>) -> String {
            match seen {
                None => format!("{name} -"),
                Some(Seen::Absent) => format!("{name} none"),
                Some(Seen::Known(all)) => format!("{name} {}", all.len()),
                Some(Seen::Unreadable(why)) => format!("{name} ? {why}"),
            }
        }
        let capacity = &facts.capacity;
        let backup = match &capacity.backup {
            None => "backup -".to_owned(),
            Some(Seen::Absent) => "backup none".to_owned(),
            Some(Seen::Known(backup)) => format!("backup {}", backup.name),
            Some(Seen::Unreadable(why)) => format!("backup ? {why}"),
        };
        [
            of("quotas", capacity.quotas.as_ref()),
            of("ranges", capacity.limit_ranges.as_ref()),
            of("nodes", capacity.nodes.as_ref()),
            of("budgets", capacity.disruption_budgets.as_ref()),
            backup,
        ]
        .join(", ")
    }

    #[tokio::test(start_paused = true)]
    async fn surroundings_are_read_where_the_change_bears_on_them() {
        let named = |name: &str| json!({"metadata": {"namespace": "db", "name": name}});
        let apart = json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
            {"topologyKey": "kubernetes.io/hostname",
                "labelSelector": {"matchLabels": {"cluster-name": "acid-a"}}}]}});
        let mut budget = named("leader");
        budget["spec"] = json!({"minAvailable": 1,
            "selector": {"matchLabels": {"cluster-name": "acid-a", "spilo-role": "master"}}});
        let mut job = named("logical-backup-acid-a");
        job["spec"] = json!({"schedule": "@daily", "jobTemplate": {}});
        let there = world("endpoints")
            .with(&core("resourcequotas", "team"), named("team"))
            .with(&core("limitranges", "small"), named("small"))
            .with("/apis/policy/v1/namespaces/db/poddisruptionbudgets/leader", budget)
            .with("/apis/batch/v1/namespaces/db/cronjobs/logical-backup-acid-a", job)
            .edit(SET, |set| {
                set["spec"]["template"]["metadata"]["labels"]["cluster-name"] = json!("acid-a");
                set["spec"]["template"]["spec"]["affinity"] = apart;
            });
        for (world, (from, to), want) in [
            (there.clone(), (3, 4), "quotas 1, ranges 1, nodes -, budgets -, backup -"),
            (
                there.clone().seen_whole(),
                (3, 4),
                "quotas 1, ranges 1, nodes 3, budgets -, backup -",
            ),
            (there.clone(), (3, 1), "quotas -, ranges -, nodes -, budgets -, backup -"),
            (
                there.clone().seen_whole(),
                (3, 1),
                "quotas -, ranges -, nodes -, budgets 1, backup logical-backup-acid-a",
            ),
            (
                there.clone().seen_whole(),
                (3, 3),
                "quotas -, ranges -, nodes -, budgets -, backup -",
            ),
            (
                there.clone().seen_around(),
                (3, 3),
                "quotas 1, ranges 1, nodes 3, budgets 1, backup logical-backup-acid-a",
            ),
            (
                there.clone().seen_around(),
                (2, 2),
                "quotas 1, ranges 1, nodes 3, budgets 1, backup logical-backup-acid-a",
            ),
            (
                world("endpoints").seen_whole(),
                (3, 4),
                "quotas 0, ranges 0, nodes 0, budgets -, backup -",
            ),
            (
                world("endpoints").seen_whole(),
                (3, 2),
                "quotas -, ranges -, nodes -, budgets -, backup none",
            ),
            (
                there.clone().fault("resourcequotas", Fault::Status(403)),
                (3, 4),
                "quotas ? list resourcequotas in db: forbidden, ranges 1, nodes -, budgets -, backup -",
            ),
            (
                there.fault("nodes", Fault::Status(403)).seen_whole(),
                (3, 4),
                "quotas 1, ranges 1, nodes ? list nodes: forbidden, budgets -, backup -",
            ),
        ] {
            let reader = world.reader(&Members::healthy());
            let facts = reader.facts(change(from, to), AskWhom::AsNeeded).await;
            assert_eq!(surroundings(&facts), want, "{from} to {to}");
            assert!(facts.capacity.template.known().is_some());
        }
        let mut created = change(3, 3);
        created.old = None;
        let facts =
            world("endpoints").reader(&Members::healthy()).facts(created, AskWhom::AsNeeded).await;
        assert_eq!(surroundings(&facts), "quotas 0, ranges 0, nodes -, budgets -, backup -");
    }
}
