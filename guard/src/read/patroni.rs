//! Patroni's own objects of a cluster, in Endpoints or ConfigMaps.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, Endpoints};
use kube::core::{PartialObjectMeta, Resource};
use serde::de::DeserializeOwned;

use crate::facts::Seen;
use crate::object_ref::{Kind, ObjectRef};
use crate::objects;
use crate::patroni::{Configuration, LeaderLock, PendingFailover, Store, SyncState};
use crate::read::fetch::Objects;

/// The reason for which a state in etcd is not known.
const IN_ETCD: &str = "Patroni keeps its state in etcd, which the guard cannot see";

/// Patroni's state that all members share.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Shared {
    pub(super) leader: Seen<LeaderLock>,
    pub(super) configuration: Seen<Configuration>,
    pub(super) failover: Seen<PendingFailover>,
    pub(super) sync: Seen<SyncState>,
    pub(super) last_leader: Seen<String>,
    pub(super) initialize: Seen<String>,
}

impl Shared {
    fn unreadable(why: &str) -> Self {
        Self {
            leader: Seen::Unreadable(why.to_owned()),
            configuration: Seen::Unreadable(why.to_owned()),
            failover: Seen::Unreadable(why.to_owned()),
            sync: Seen::Unreadable(why.to_owned()),
            last_leader: Seen::Unreadable(why.to_owned()),
            initialize: Seen::Unreadable(why.to_owned()),
        }
    }
}

/// Reads Patroni's objects of `cluster` from its `store`.
pub(super) async fn shared(
    objects: &Objects,
    namespace: &str,
    cluster: &str,
    store: &Store,
) -> Shared {
    match store {
        Store::ConfigMaps => in_config_maps(objects, namespace, cluster).await,
        Store::Endpoints => in_endpoints(objects, namespace, cluster).await,
        Store::Etcd => Shared::unreadable(IN_ETCD),
        Store::Unknown => {
            let (maps, endpoints) = futures::join!(
                in_config_maps(objects, namespace, cluster),
                in_endpoints(objects, namespace, cluster),
            );
            fresher(maps, endpoints)
        }
    }
}

/// Reads the leader lock of `cluster` alone from its `store`.
pub(super) async fn leader(
    objects: &Objects,
    namespace: &str,
    cluster: &str,
    store: &Store,
) -> Seen<LeaderLock> {
    let map = format!("{cluster}-leader");
    let by_map = lock::<ConfigMap>(objects, Kind::ConfigMap, namespace, &map);
    let by_endpoints = lock::<Endpoints>(objects, Kind::Endpoints, namespace, cluster);
    match store {
        Store::ConfigMaps => by_map.await,
        Store::Endpoints => by_endpoints.await,
        Store::Etcd => Seen::Unreadable(IN_ETCD.to_owned()),
        Store::Unknown => {
            let (by_map, by_endpoints) = futures::join!(by_map, by_endpoints);
            fresher_lock(by_map, by_endpoints)
        }
    }
}

async fn lock<K>(objects: &Objects, kind: Kind, namespace: &str, name: &str) -> Seen<LeaderLock>
where
    K: Resource<DynamicType = ()> + DeserializeOwned,
    PartialObjectMeta<K>: Resource<DynamicType = ()>,
{
    let object = objects.get::<PartialObjectMeta<K>>(Some(namespace), name).await;
    let annotations = object.map(|object| object.metadata.annotations.unwrap_or_default());
    annotations.map(|annotations| LeaderLock::of(ObjectRef::new(kind, name), &annotations))
}

/// Returns the lock that was renewed last. Unless both could be read, there is no choice.
fn fresher_lock(by_map: Seen<LeaderLock>, by_endpoints: Seen<LeaderLock>) -> Seen<LeaderLock> {
    match (by_map, by_endpoints) {
        (Seen::Unreadable(why), _) | (_, Seen::Unreadable(why)) => Seen::Unreadable(why),
        (one, Seen::Absent) | (Seen::Absent, one) => one,
        (Seen::Known(by_map), Seen::Known(by_endpoints)) => {
            let map_is_fresher = by_map.renewed >= by_endpoints.renewed;
            Seen::Known(if map_is_fresher { by_map } else { by_endpoints })
        }
    }
}

async fn in_config_maps(objects: &Objects, namespace: &str, cluster: &str) -> Shared {
    let leader = format!("{cluster}-leader");
    read::<ConfigMap>(objects, Kind::ConfigMap, namespace, cluster, &leader).await
}

async fn in_endpoints(objects: &Objects, namespace: &str, cluster: &str) -> Shared {
    read::<Endpoints>(objects, Kind::Endpoints, namespace, cluster, cluster).await
}

/// Returns the set whose leader renewed its lock last.
///
/// A migration from one kind to the other leaves the old objects behind (operator docs/migrate.md).
/// Unless both could be read, there is no choice.
fn fresher(maps: Shared, endpoints: Shared) -> Shared {
    match (&maps.leader, &endpoints.leader) {
        (Seen::Unreadable(why), _) | (_, Seen::Unreadable(why)) => Shared::unreadable(why),
        (_, Seen::Absent) => maps,
        (Seen::Absent, _) => endpoints,
        (Seen::Known(by_map), Seen::Known(by_endpoints)) => {
            if by_map.renewed >= by_endpoints.renewed { maps } else { endpoints }
        }
    }
}

async fn read<K>(
    objects: &Objects,
    kind: Kind,
    namespace: &str,
    cluster: &str,
    leader: &str,
) -> Shared
where
    K: Resource<DynamicType = ()> + DeserializeOwned,
    PartialObjectMeta<K>: Resource<DynamicType = ()>,
{
    // All of Patroni's data is in annotations, and an Endpoints object may be large.
    let annotations = async |name: &str| -> Seen<BTreeMap<String, String>> {
        let object = objects.get::<PartialObjectMeta<K>>(Some(namespace), name).await;
        object.map(|object| object.metadata.annotations.unwrap_or_default())
    };
    let [configuration, failover, sync] =
        ["config", "failover", "sync"].map(|part| format!("{cluster}-{part}"));
    let found = futures::join!(
        annotations(leader),
        annotations(&configuration),
        annotations(&failover),
        annotations(&sync),
    );
    let source = ObjectRef::new(kind, &configuration);
    let last_leader =
        found.1.clone().and_then(|annotations| objects::last_leader(&source, &annotations));
    let initialize = found.1.clone().and_then(|annotations| objects::initialize(&annotations));
    Shared {
        last_leader,
        initialize,
        leader: found
            .0
            .map(|annotations| LeaderLock::of(ObjectRef::new(kind, leader), &annotations)),
        configuration: found
            .1
            .and_then(|annotations| objects::configuration(&source, &annotations)),
        failover: found.2.and_then(|annotations| objects::failover(&annotations)),
        sync: found.3.and_then(|annotations| objects::sync(&annotations)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::read::testing::{Fault, Members, World, core, world};

    async fn read(world: &World, store: Store) -> Shared {
        let reader = world.reader(&Members::healthy());
        let objects = reader.objects(std::time::Duration::from_secs(1));
        Box::pin(shared(&objects, "db", "acid-a", &store)).await
    }

    /// Returns a world with both kinds, as after a migration. The ConfigMap was renewed at
    /// `renewed`.
    fn both(renewed: &str) -> World {
        world("endpoints")
            .with(
                &core("configmaps", "acid-a-leader"),
                json!({"metadata": {"name": "acid-a-leader", "annotations": {
                    "leader": "acid-a-2", "renewTime": renewed, "ttl": "30"}}}),
            )
            .with(
                &core("configmaps", "acid-a-config"),
                json!({"metadata": {"name": "acid-a-config", "annotations": {"config": "{\"ttl\": 60}"}}}),
            )
    }

    #[tokio::test(start_paused = true)]
    async fn fresher_lock_decides_where_the_store_is_not_known() {
        let orphaned = read(&both("2020-01-01T00:00:00+00:00"), Store::Unknown).await;
        assert_eq!(orphaned.leader.known().unwrap().source.to_string(), "endpoints/acid-a");
        assert_eq!(orphaned.configuration.known().unwrap().ttl, 30);
        let migrated = read(&both("2101-01-01T00:00:00+00:00"), Store::Unknown).await;
        assert_eq!(migrated.leader.known().unwrap().source.to_string(), "configmap/acid-a-leader");
        assert_eq!(migrated.configuration.known().unwrap().ttl, 60);
        assert_eq!(migrated.sync, Seen::Absent);
    }

    #[tokio::test(start_paused = true)]
    async fn no_store_is_chosen_unless_both_were_read() {
        let half = both("2020-01-01T00:00:00+00:00").fault("configmaps", Fault::Status(403));
        let unseen = read(&half, Store::Unknown).await;
        assert_eq!(unseen.leader.unreadable(), Some("get configmaps in db: forbidden"));
        assert_eq!(unseen.sync.unreadable(), Some("get configmaps in db: forbidden"));
        let chosen = read(&half, Store::Endpoints).await;
        assert_eq!(chosen.leader.known().unwrap().holder.as_deref(), Some("acid-a-0"));
    }

    #[tokio::test(start_paused = true)]
    async fn etcd_store_is_unreadable() {
        let blind = read(&world("endpoints"), Store::Etcd).await;
        assert_eq!(
            blind,
            Shared::unreadable("Patroni keeps its state in etcd, which the guard cannot see")
        );
    }

    #[tokio::test(start_paused = true)]
    async fn pending_switchover_is_read_and_broken_configuration_unreadable() {
        let odd = world("configmaps")
            .edit(&core("configmaps", "acid-a-failover"), |map| {
                map["metadata"]["annotations"] =
                    json!({"leader": "acid-a-0", "member": "acid-a-1"});
            })
            .edit(&core("configmaps", "acid-a-config"), |map| {
                map["metadata"]["annotations"]["config"] = json!("{");
            })
            .without(&core("configmaps", "acid-a-sync"));
        let found = read(&odd, Store::ConfigMaps).await;
        assert_eq!(found.failover.known().unwrap().candidate.as_deref(), Some("acid-a-1"));
        assert_eq!(found.sync, Seen::Absent);
        let why = found.configuration.unreadable().unwrap();
        assert!(
            why.starts_with("annotation config of configmap/acid-a-config is not JSON: "),
            "{why}"
        );
    }
}
