//! Clusters of five members before a change to two: healthy ones, and ones with faults.

use std::time::Duration;

use anyhow::{Context as _, Result};
use futures::future::try_join_all;
use serde_json::json;

use super::Outcome;
use super::with_plugin::{self, Expected};
use crate::cluster::Cluster;
use crate::stage::Fault;
use crate::wait::{Attempt, until};
use crate::writer::Writer;
use crate::writing::acknowledged;

/// The limit for a change of the synchronous set.
const DEADLINE: Duration = Duration::from_secs(300);
/// The time without a change, while writes continue, after which the work of the operator counts as
/// done.
const QUIET: Duration = Duration::from_secs(60);
/// The same where the operator waits for a member that cannot answer.
const SHORT_QUIET: Duration = Duration::from_secs(15);
/// The number of rows that the writer writes before the change.
pub const WARM: usize = 100;
/// The number of members before the change.
pub const BEFORE: u32 = 5;
/// The number of members after the change.
pub const AFTER: u32 = 2;

/// The stages: those that were seen or are said to end badly, and harmless ones.
pub static STAGES: [Stage; 10] = [
    Stage {
        name: "stages::leader_on_0_all_healthy",
        words: "leader on 0, all healthy",
        leader: 0,
        ..STAGE
    },
    Stage { name: "stages::leader_on_4_all_healthy", words: "leader on 4, all healthy", ..STAGE },
    Stage {
        name: "stages::leader_on_4_patroni_paused_0_healthy",
        words: "leader on 4, Patroni paused, -0 healthy",
        paused: true,
        ..STAGE
    },
    Stage {
        name: "stages::leader_on_4_0_nofailover",
        words: "leader on 4, -0 tagged nofailover",
        faults: &[(0, Fault::NoFailover)],
        expected: Expected::Refuses(Some(3)),
        ..STAGE
    },
    Stage {
        name: "stages::leader_on_4_0_nofailover_patroni_paused",
        words: "leader on 4, -0 tagged nofailover, Patroni paused",
        faults: &[(0, Fault::NoFailover)],
        paused: true,
        expected: Expected::Refuses(Some(3)),
        ..STAGE
    },
    Stage {
        name: "stages::leader_on_4_receivers_of_0_and_1_stalled",
        words: "leader on 4, WAL receivers of 0 and 1 stalled",
        faults: &[(0, Fault::StalledReceiver), (1, Fault::StalledReceiver)],
        expected: Expected::Refuses(Some(4)),
        ..STAGE
    },
    Stage {
        name: "stages::leader_on_4_patroni_of_0_frozen",
        words: "leader on 4, Patroni of -0 frozen",
        faults: &[(0, Fault::FrozenPatroni)],
        quiet: SHORT_QUIET,
        expected: Expected::Refuses(Some(3)),
        ..STAGE
    },
    Stage {
        name: "stages::leader_on_4_0_stopped",
        words: "leader on 4, Patroni and PostgreSQL of -0 stopped",
        faults: &[(0, Fault::StoppedPatroni)],
        quiet: SHORT_QUIET,
        expected: Expected::Refuses(None),
        ..STAGE
    },
    Stage {
        name: "stages::leader_on_4_0_delayed",
        words: "leader on 4, -0 receives and does not replay",
        faults: &[(0, Fault::PausedReplay)],
        expected: Expected::Refuses(Some(3)),
        ..STAGE
    },
    Stage {
        name: "stages::leader_on_4_synchronous_0_not_in_the_set",
        words: "leader on 4, synchronous_mode, -1 and not -0 in the set",
        synchronous: true,
        ..STAGE
    },
];

/// A cluster of five members before the change.
#[derive(Debug)]
pub struct Stage {
    /// The name of its test.
    pub name: &'static str,
    /// The state before the change, in words.
    pub words: &'static str,
    /// The ordinal of the leader.
    pub leader: u32,
    faults: &'static [(u32, Fault)],
    /// True if Patroni is paused.
    pub paused: bool,
    synchronous: bool,
    /// The time without a change after which the work of the operator counts as done.
    pub quiet: Duration,
    /// The answer of `kubectl pgscale down`.
    pub expected: Expected,
}

/// The stage on which nothing ails the cluster, and the leader is removed.
pub const HEALTHY: Stage =
    Stage { name: "stages::leader_on_4_all_healthy", words: "leader on 4, all healthy", ..STAGE };

const STAGE: Stage = Stage {
    name: "",
    words: "",
    leader: 4,
    faults: &[],
    paused: false,
    synchronous: false,
    quiet: QUIET,
    expected: Expected::Shrinks,
};

impl Stage {
    /// Sets the stage on a healthy cluster: the leader, a writer at work, and the faults.
    ///
    /// # Errors
    /// Fails when a part of it takes too long.
    pub async fn set(&self, cluster: &Cluster) -> Result<Writer> {
        let bed = cluster.bed();
        cluster.move_leader_to(self.leader).await?;
        if self.synchronous {
            only_1_is_synchronous(cluster).await?;
        }
        if self.faults.iter().any(|(_, fault)| *fault == Fault::FrozenPatroni) {
            // A frozen Patroni could no longer report that the member follows the new leader.
            cluster.reported().await?;
        }
        // Before the faults, because a stalled receiver would not even receive the writer's table.
        let writer = Writer::start(bed.client(), &cluster.namespace, &cluster.name).await?;
        for &(ordinal, fault) in self.faults {
            cluster.stage(ordinal, fault).await?;
        }
        if self.paused {
            bed.kubelet().pause(&cluster.namespace, &cluster.name).await?;
        }
        acknowledged(&writer, WARM).await?;
        Ok(writer)
    }

    /// Scales the cluster by `kubectl pgscale` while `writer` writes, and checks every promise.
    ///
    /// # Errors
    /// Fails when a promise is broken.
    pub async fn with_plugin(&self, cluster: &Cluster, writer: Writer) -> Result<Outcome> {
        with_plugin::down(cluster, writer, AFTER, self.expected).await.context("kubectl pgscale")
    }

    /// Lifts the faults of the stage.
    ///
    /// # Errors
    /// Fails when the end of one takes too long to show.
    pub async fn lift(&self, cluster: &Cluster) -> Result<()> {
        for &(ordinal, fault) in self.faults {
            cluster.unstage(ordinal, fault).await?;
        }
        if self.paused {
            cluster.bed().kubelet().resume(&cluster.namespace, &cluster.name).await?;
        }
        if self.synchronous {
            synchronous(cluster, false, "").await?;
        }
        Ok(())
    }

    /// Returns whether `kubectl pgscale` leaves the stage as it was.
    pub fn unchanged(&self) -> bool {
        self.expected == Expected::Refuses(None)
    }
}

/// Returns the cluster to five healthy members.
///
/// # Errors
/// Fails when the change is refused or takes too long.
pub async fn restore(cluster: &Cluster) -> Result<()> {
    cluster.patch(BEFORE.into()).await?.ok()?;
    cluster.converged(BEFORE).await?;
    Ok(())
}

/// Makes replication synchronous while Patroni prefers member 1 to all others. Patroni then keeps
/// the standby that it has.
async fn only_1_is_synchronous(cluster: &Cluster) -> Result<()> {
    let others = [0, 2, 3];
    try_join_all(others.map(|ordinal| cluster.stage(ordinal, Fault::NoFailover))).await?;
    synchronous(cluster, true, &cluster.pod_name(1)).await?;
    try_join_all(others.map(|ordinal| cluster.unstage(ordinal, Fault::NoFailover))).await?;
    cluster.converged(BEFORE).await?;
    Ok(())
}

/// Switches synchronous replication as a person does, and waits until `standby` is the whole set.
async fn synchronous(cluster: &Cluster, on: bool, standby: &str) -> Result<()> {
    let patch = json!({"spec": {"patroni": {"synchronous_mode": on}}}).to_string();
    cluster
        .kubectl(&["patch", "postgresql", &cluster.name, "--type=merge", "-p", &patch])
        .await?
        .ok()?;
    let set = format!("{}-sync", cluster.name);
    let output = "--output=jsonpath={.metadata.annotations.sync_standby}";
    until(&format!("{standby:?} in the synchronous set"), DEADLINE, async || {
        let seen =
            cluster.kubectl(&["get", "endpoints", &set, "--ignore-not-found", output]).await?;
        let seen = seen.ok()?;
        Ok(if seen == standby { Attempt::Done(()) } else { Attempt::NotYet(seen) })
    })
    .await
}
