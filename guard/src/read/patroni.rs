//! Patroni's own objects of a cluster, in Endpoints or ConfigMaps.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, Endpoints};
use kube::core::{PartialObjectMeta, Resource};
use serde::de::DeserializeOwned;

use crate::facts::{Elsewhere, Seen};
use crate::object_ref::{Kind, ObjectRef};
use crate::objects;
use crate::objects::{Layout, spell};
use crate::patroni::{Configuration, LeaderLock, PendingFailover, Store, SyncState};
use crate::read::fetch::{Objects, OnePage};

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
    pub(super) elsewhere: Seen<Elsewhere>,
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
            elsewhere: Seen::Absent,
        }
    }
}

impl Shared {
    /// Returns what is left of the cluster here, in `store`.
    fn left(self, store: Store) -> Seen<Elsewhere> {
        let unreadable =
            [self.leader.unreadable(), self.initialize.unreadable(), self.last_leader.unreadable()];
        if let Some(why) = unreadable.into_iter().flatten().next() {
            return Seen::Unreadable(why.to_owned());
        }
        let lock = self.leader.known();
        let left = Elsewhere {
            store,
            initialize: self.initialize.known().cloned(),
            last_leader: lock
                .and_then(|lock| lock.holder.clone())
                .or_else(|| self.last_leader.known().cloned()),
            renewed: lock.and_then(|lock| lock.renewed),
        };
        if left.initialize.is_none() && left.last_leader.is_none() {
            return Seen::Absent;
        }
        Seen::Known(left)
    }
}

/// Reads Patroni's objects of `cluster` from the store that `layout` names.
pub(super) async fn shared(
    objects: &Objects,
    namespace: &str,
    cluster: &str,
    layout: &Layout,
) -> Shared {
    let selector = spell(&layout.selector);
    let place = Place { objects, namespace, cluster, selector: &selector };
    match &layout.store {
        Store::ConfigMaps => place.in_config_maps().await,
        Store::Endpoints => place.in_endpoints().await,
        Store::Etcd | Store::Other => Shared::unreadable(IN_ETCD),
        Store::Unknown => {
            let (maps, endpoints) = futures::join!(place.in_config_maps(), place.in_endpoints());
            fresher(maps, endpoints)
        }
    }
}

/// Reads the same, and also what is left in the other kind of object, for a cluster of which no member
/// may run: the store may have moved while it slept.
pub(super) async fn shared_of_both(
    objects: &Objects,
    namespace: &str,
    cluster: &str,
    layout: &Layout,
) -> Shared {
    let other = match layout.store {
        Store::ConfigMaps => Store::Endpoints,
        Store::Endpoints => Store::ConfigMaps,
        Store::Etcd | Store::Other | Store::Unknown => {
            return shared(objects, namespace, cluster, layout).await;
        }
    };
    let there = Layout { store: other, ..layout.clone() };
    let (here, there) = futures::join!(
        shared(objects, namespace, cluster, layout),
        shared(objects, namespace, cluster, &there)
    );
    Shared { elsewhere: there.left(other), ..here }
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
        Store::Etcd | Store::Other => Seen::Unreadable(IN_ETCD.to_owned()),
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

/// The place of the objects of one cluster.
#[derive(Clone, Copy)]
struct Place<'a> {
    objects: &'a Objects,
    namespace: &'a str,
    cluster: &'a str,
    /// The labels of everything that belongs to the cluster.
    selector: &'a str,
}

/// The annotations of the four objects.
struct Annotations {
    leader: Seen<BTreeMap<String, String>>,
    configuration: Seen<BTreeMap<String, String>>,
    failover: Seen<BTreeMap<String, String>>,
    sync: Seen<BTreeMap<String, String>>,
}

impl Place<'_> {
    async fn in_config_maps(self) -> Shared {
        let leader = format!("{}-leader", self.cluster);
        self.read::<ConfigMap>(Kind::ConfigMap, &leader).await
    }

    async fn in_endpoints(self) -> Shared {
        self.read::<Endpoints>(Kind::Endpoints, self.cluster).await
    }

    async fn read<K>(self, kind: Kind, leader: &str) -> Shared
    where
        K: Resource<DynamicType = ()> + DeserializeOwned,
        PartialObjectMeta<K>: Resource<DynamicType = ()> + Clone,
    {
        let found = match self.annotations::<K>(leader).await {
            Ok(found) => found,
            Err(why) => return Shared::unreadable(&why),
        };
        let source = ObjectRef::new(kind, &format!("{}-config", self.cluster));
        let Annotations { leader: lock, configuration, failover, sync } = found;
        Shared {
            last_leader: configuration.clone().and_then(|it| objects::last_leader(&source, &it)),
            initialize: configuration.clone().and_then(|it| objects::initialize(&it)),
            configuration: configuration.and_then(|it| objects::configuration(&source, &it)),
            leader: lock.map(|it| LeaderLock::of(ObjectRef::new(kind, leader), &it)),
            failover: failover.and_then(|it| objects::failover(&it)),
            sync: sync.and_then(|it| objects::sync(&it)),
            elsewhere: Seen::Absent,
        }
    }

    /// Reads the annotations of the four objects, in one request where that is possible.
    ///
    /// Patroni itself lists them by the labels of its cluster and sees no other
    /// (`_label_selector`, patroni/dcs/kubernetes.py). Where the lock is not in the list, the labels
    /// may be others than the StatefulSet says, or the permission for the list is missing. Then they
    /// are read by name.
    ///
    /// All of Patroni's data is in annotations, and an Endpoints object may be large.
    async fn annotations<K>(self, leader: &str) -> Result<Annotations, String>
    where
        K: Resource<DynamicType = ()> + DeserializeOwned,
        PartialObjectMeta<K>: Resource<DynamicType = ()> + Clone,
    {
        let Self { objects, namespace, cluster, selector } = self;
        let page = objects.one_page::<PartialObjectMeta<K>>(namespace, selector).await?;
        let mut listed: Option<BTreeMap<String, BTreeMap<String, String>>> = match page {
            OnePage::All(all) => {
                let named = all.into_iter().map(|it| it.metadata);
                let named =
                    named.filter_map(|it| Some((it.name?, it.annotations.unwrap_or_default())));
                Some(named.collect())
            }
            OnePage::More | OnePage::Refused => None,
        };
        let by_name = async |name: &str| -> Seen<BTreeMap<String, String>> {
            let object = objects.get::<PartialObjectMeta<K>>(Some(namespace), name).await;
            object.map(|object| object.metadata.annotations.unwrap_or_default())
        };
        let parts = ["config", "failover", "sync"].map(|part| format!("{cluster}-{part}"));
        let in_list = listed.as_mut().and_then(|listed| listed.remove(leader));
        let (lock, complete) = if let Some(lock) = in_list {
            (Seen::Known(lock), true)
        } else {
            let lock = by_name(leader).await;
            let complete = lock == Seen::Absent;
            (lock, complete)
        };
        let listed = listed.filter(|_| complete);
        let [configuration, failover, sync] = if let Some(mut listed) = listed {
            parts.map(|part| listed.remove(&part).map_or(Seen::Absent, Seen::Known))
        } else {
            let [configuration, failover, sync] = &parts;
            let found = futures::join!(by_name(configuration), by_name(failover), by_name(sync));
            [found.0, found.1, found.2]
        };
        Ok(Annotations { leader: lock, configuration, failover, sync })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::operator::Settings;
    use crate::read::testing::{Fault, Members, World, core, world};

    async fn read(world: &World, store: Store) -> Shared {
        let reader = world.reader(&Members::healthy());
        let objects = reader.objects(std::time::Duration::from_secs(1));
        let layout = Layout { store, ..Layout::by_settings("acid-a", &Settings::default()) };
        Box::pin(shared(&objects, "db", "acid-a", &layout)).await
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

    /// One list is one moment of all four objects, where four reads were four moments.
    #[tokio::test(start_paused = true)]
    async fn patronis_objects_are_read_in_one_request() {
        for (plural, store) in [("endpoints", Store::Endpoints), ("configmaps", Store::ConfigMaps)]
        {
            let there = world(plural);
            let found = read(&there, store).await;
            assert_eq!(found.leader.known().unwrap().holder.as_deref(), Some("acid-a-0"));
            assert_eq!(found.sync.known().unwrap().standbys, ["acid-a-1"]);
            assert_eq!(found.failover, Seen::Absent);
            let [asked] = &there.requested()[..] else { panic!("{:?}", there.requested()) };
            assert!(asked.contains(&format!("/namespaces/db/{plural}?")), "{asked}");
            assert!(asked.contains("labelSelector=") && asked.contains("limit="), "{asked}");
        }
        // Nothing is there: the lock is asked for by its name before it counts as absent.
        let empty = World::default();
        assert_eq!(read(&empty, Store::Endpoints).await.leader, Seen::Absent);
        assert_eq!(empty.requested().len(), 2, "{:?}", empty.requested());
    }

    #[tokio::test(start_paused = true)]
    async fn objects_with_other_labels_are_read_by_name() {
        let other = |object: &mut Value| object["metadata"]["labels"] = json!({"team": "acid"});
        let there = ["acid-a", "acid-a-config", "acid-a-failover", "acid-a-sync"]
            .iter()
            .fold(world("endpoints"), |there, name| there.edit(&core("endpoints", name), other));
        let found = read(&there, Store::Endpoints).await;
        assert_eq!(found, read(&world("endpoints"), Store::Endpoints).await);
        assert_eq!(there.requested().len(), 5, "{:?}", there.requested());
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
