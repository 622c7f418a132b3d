//! How far an admitted change has been carried out, in few small reads: a look that is repeated.

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use kube::core::PartialObjectMeta;

use crate::facts::{CLOCK_GRACE, Seen};
use crate::objects::{self, Layout, spell};
use crate::postgresql::ordinal;
use crate::read::Reader;
use crate::read::patroni;

/// The state of a cluster, as far as it shows what a change of the count has come to.
#[derive(Clone, Debug, PartialEq)]
pub struct CarriedOut {
    /// `spec.replicas` of the StatefulSet: the count that the operator last asked for.
    pub replicas: Seen<i64>,
    /// The holder of a valid leader lock. `Absent` where no member holds one.
    pub leader: Seen<String>,
    /// The ordinals that have a pod, also one that terminates.
    pub pods: Seen<BTreeSet<i64>>,
}

impl Reader {
    /// Reads how far a change of the cluster has been carried out.
    ///
    /// The StatefulSet is read first. The operator switches over before it lowers the count
    /// (`preScaleDown`, pkg/cluster/resources.go), so a lock that is read after a lower count is
    /// not the one from before that switchover.
    pub async fn carried_out(&self, namespace: &str, cluster: &str) -> CarriedOut {
        let objects = self.objects(self.deadline);
        let set = objects.get::<StatefulSet>(Some(namespace), cluster).await;
        let set = match set {
            Seen::Known(set) => set,
            Seen::Absent => return CarriedOut::unreadable("there is no StatefulSet"),
            Seen::Unreadable(why) => return CarriedOut::unreadable(&why),
        };
        let layout = Layout::of(&set, cluster);
        let selector = spell(&layout.selector);
        let (lock, pods) = futures::join!(
            patroni::leader(&objects, namespace, cluster, &layout.store),
            // Their names are enough.
            objects.list::<PartialObjectMeta<Pod>>(Some(namespace), Some(&selector)),
        );
        let now = (self.clock)();
        let pods = pods.map(|pods| {
            let names = pods.iter().filter_map(|pod| pod.metadata.name.as_deref());
            names.filter_map(|name| ordinal(cluster, name)).collect()
        });
        CarriedOut {
            replicas: Seen::Known(objects::stateful_set(&set).replicas),
            leader: lock.and_then(|lock| {
                let holder = lock.valid_holder(now, CLOCK_GRACE);
                holder.map_or(Seen::Absent, |holder| Seen::Known(holder.to_owned()))
            }),
            pods: match pods {
                Ok(pods) => Seen::Known(pods),
                Err(why) => Seen::Unreadable(why),
            },
        }
    }
}

impl CarriedOut {
    fn unreadable(why: &str) -> Self {
        Self {
            replicas: Seen::Unreadable(why.to_owned()),
            leader: Seen::Unreadable(why.to_owned()),
            pods: Seen::Unreadable(why.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read::testing::{Fault, Members, SET, World, core, world};

    async fn look(world: &World) -> CarriedOut {
        world.reader(&Members::healthy()).carried_out("db", "acid-a").await
    }

    #[tokio::test(start_paused = true)]
    async fn look_sees_count_leader_and_pods_in_three_small_reads() {
        for plural in ["endpoints", "configmaps"] {
            let world = world(plural);
            let seen = look(&world).await;
            let want = CarriedOut {
                replicas: Seen::Known(3),
                leader: Seen::Known("acid-a-0".to_owned()),
                pods: Seen::Known([0, 1, 2].into()),
            };
            assert_eq!(seen, want, "{plural}");
            assert_eq!(world.requested().len(), 3, "{:?}", world.requested());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_read_is_neither_done_nor_fine() {
        let gone = look(&world("endpoints").without(SET)).await;
        assert_eq!(gone, CarriedOut::unreadable("there is no StatefulSet"));
        let hidden = look(&world("endpoints").fault("pods", Fault::Status(403))).await;
        assert_eq!(hidden.pods.unreadable(), Some("list pods in db: forbidden"));
        assert_eq!(hidden.leader.known().map(String::as_str), Some("acid-a-0"));
        let expired = world("endpoints").edit(&core("endpoints", "acid-a"), |lock| {
            lock["metadata"]["annotations"]["renewTime"] = "2020-01-01T00:00:00+00:00".into();
        });
        assert_eq!(look(&expired).await.leader, Seen::Absent);
    }
}
