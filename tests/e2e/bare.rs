//! What the bare operator does when a plain `kubectl patch` takes a cluster from 5 to 2, and beside it what
//! `kubectl pgscale down` makes of the very same stage.
//!
//! These are the facts the product rests on, seen again on every run: an edit that looks like one line is
//! harmless, a pause, an outage until a person comes, or lost commits. Shapes are asserted, not decimals.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use pgscale_tests::cluster::Cluster;
use pgscale_tests::progress::say;
use pgscale_tests::stage::Fault;
use pgscale_tests::wait::{Attempt, until};
use pgscale_tests::writer::Writer;
use serde_json::json;

use crate::ours::{self, Deed};
use crate::table::{self, Outcome};
use crate::trial::{Case, Scene, case};
use crate::writing::{Record, acknowledged, finish, stopped_for};

/// How long writes must have been stopped to count as an outage that does not end by itself.
const STUCK: Duration = Duration::from_secs(45);
/// The longest pause of a hand-over on a busy machine; about 2.5 s on a quiet one.
const HAND_OVER: Duration = Duration::from_secs(20);
/// How long the operator and Patroni may take until they have done what they do.
const DEADLINE: Duration = Duration::from_secs(300);
/// How long the operator may take to act on a stage where it need not act at all.
const PATIENCE: Duration = Duration::from_secs(60);
/// Rows the writer must have written before the edit.
const WARM: usize = 100;
const CLUSTER: &str = "acid-bare";

pub(crate) fn cases() -> Vec<Case> {
    ROWS.iter().map(|row| case(row.name, |scene| beside(scene, row))).collect()
}

/// The table: each row a stage that was seen, or is said, to end badly, or to be harmless.
const ROWS: [Row; 10] = [
    Row {
        name: "bare::leader_on_0_all_healthy",
        stage: "leader on 0, all healthy",
        leader: 0,
        ..ROW
    },
    Row {
        name: "bare::leader_on_4_all_healthy",
        stage: "leader on 4, all healthy",
        want: Want::Pause,
        ..ROW
    },
    Row {
        name: "bare::leader_on_4_patroni_paused_0_healthy",
        stage: "leader on 4, Patroni paused, -0 healthy",
        paused: true,
        want: Want::Pause,
        ..ROW
    },
    Row {
        name: "bare::leader_on_4_0_nofailover",
        stage: "leader on 4, -0 tagged nofailover",
        faults: &[(0, Fault::NoFailover)],
        want: Want::Pause,
        ours: Deed::Refuses(Some(3)),
        ..ROW
    },
    Row {
        name: "bare::leader_on_4_0_nofailover_patroni_paused",
        stage: "leader on 4, -0 tagged nofailover, Patroni paused",
        faults: &[(0, Fault::NoFailover)],
        paused: true,
        want: Want::Outage,
        ours: Deed::Refuses(Some(3)),
        ..ROW
    },
    Row {
        name: "bare::leader_on_4_receivers_of_0_and_1_stalled",
        stage: "leader on 4, WAL receivers of 0 and 1 stalled",
        faults: &[(0, Fault::StalledReceiver), (1, Fault::StalledReceiver)],
        want: Want::Loss,
        ours: Deed::Refuses(Some(4)),
        ..ROW
    },
    Row {
        name: "bare::leader_on_4_patroni_of_0_frozen",
        stage: "leader on 4, Patroni of -0 frozen",
        faults: &[(0, Fault::FrozenPatroni)],
        want: Want::LeaderDeletedOrWaiting,
        ours: Deed::Refuses(Some(3)),
        ..ROW
    },
    Row {
        name: "bare::leader_on_4_0_stopped",
        stage: "leader on 4, Patroni and PostgreSQL of -0 stopped",
        faults: &[(0, Fault::StoppedPatroni)],
        want: Want::LeaderDeletedLater,
        ours: Deed::Refuses(None),
        ..ROW
    },
    Row {
        name: "bare::leader_on_4_0_delayed",
        stage: "leader on 4, -0 receives and does not replay",
        faults: &[(0, Fault::PausedReplay)],
        want: Want::Pause,
        ours: Deed::Refuses(Some(3)),
        ..ROW
    },
    Row {
        name: "bare::leader_on_4_synchronous_0_not_in_the_set",
        stage: "leader on 4, synchronous_mode, -1 and not -0 in the set",
        synchronous: true,
        want: Want::Pause,
        ..ROW
    },
];

/// One row of the table.
struct Row {
    name: &'static str,
    stage: &'static str,
    leader: u32,
    faults: &'static [(u32, Fault)],
    paused: bool,
    synchronous: bool,
    want: Want,
    ours: Deed,
}

const ROW: Row = Row {
    name: "",
    stage: "",
    leader: 4,
    faults: &[],
    paused: false,
    synchronous: false,
    want: Want::Harmless,
    ours: Deed::Shrinks,
};

/// What is to be seen of the bare operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Want {
    /// Nothing lost, no pause to speak of.
    Harmless,
    /// Nothing lost, a short pause.
    Pause,
    /// Nothing lost, and writes stay stopped.
    Outage,
    /// Acknowledged rows are missing afterwards.
    Loss,
    /// The operator still waits for -0, or has deleted the leader; nothing lost either way.
    LeaderDeletedOrWaiting,
    /// Nothing happens until -0 is mended, and then the leader is deleted, or the operator has not acted at all
    /// yet; nothing lost either way.
    LeaderDeletedLater,
}

async fn beside(scene: Scene, row: &Row) -> Result<()> {
    let Scene { bed, namespace } = &scene;
    let cluster = Cluster::create(bed, namespace, CLUSTER, 5, json!({})).await?;

    let writer = set(&scene, &cluster, row).await?;
    let ours = ours::down(&cluster, writer, 2, row.ours).await.context("kubectl pgscale")?;
    say(&format!("  kubectl pgscale {ours}"));

    let writer = if row.ours == Deed::Refuses(None) {
        // It changed nothing: the same stage, to the last byte.
        let writer = Writer::start(bed.client(), namespace, CLUSTER).await?;
        acknowledged(&writer, WARM).await?;
        writer
    } else {
        lift(&scene, &cluster, row).await?;
        cluster.patch(5).await?.ok()?;
        cluster.converged(5).await?;
        set(&scene, &cluster, row).await?
    };
    let bare = patched(&scene, &cluster, row, writer).await.context("the bare operator")?;
    say(&format!("  the bare operator {bare}"));
    table::add(table::Row { stage: row.stage, bare, ours });
    Ok(())
}

/// Sets the stage: the leader, a writer who has begun, and what is wrong.
async fn set(scene: &Scene, cluster: &Cluster, row: &Row) -> Result<Writer> {
    let Scene { bed, namespace } = scene;
    cluster.move_leader_to(row.leader).await?;
    if row.synchronous {
        only_1_is_synchronous(scene, cluster).await?;
    }
    // Before the faults: a stalled receiver would not even hear of the writer's table.
    let writer = Writer::start(bed.client(), namespace, &cluster.name).await?;
    for &(ordinal, fault) in row.faults {
        bed.kubelet().stage(namespace, &cluster.pod_name(ordinal), fault).await?;
    }
    if row.paused {
        bed.kubelet().pause(namespace, &cluster.name).await?;
    }
    acknowledged(&writer, WARM).await?;
    Ok(writer)
}

/// Takes away what is wrong.
async fn lift(scene: &Scene, cluster: &Cluster, row: &Row) -> Result<()> {
    let Scene { bed, namespace } = scene;
    for &(ordinal, fault) in row.faults {
        bed.kubelet().unstage(namespace, &cluster.pod_name(ordinal), fault).await?;
    }
    if row.paused {
        bed.kubelet().resume(namespace, &cluster.name).await?;
    }
    if row.synchronous {
        synchronous(cluster, false, "").await?;
    }
    Ok(())
}

/// Has replication made synchronous while only 1 can be chosen: Patroni keeps whom it has.
async fn only_1_is_synchronous(scene: &Scene, cluster: &Cluster) -> Result<()> {
    let Scene { bed, namespace } = scene;
    for ordinal in [0, 2, 3] {
        let pod = cluster.pod_name(ordinal);
        bed.kubelet().stage(namespace, &pod, Fault::StalledReceiver).await?;
    }
    synchronous(cluster, true, &cluster.pod_name(1)).await?;
    for ordinal in [0, 2, 3] {
        let pod = cluster.pod_name(ordinal);
        bed.kubelet().unstage(namespace, &pod, Fault::StalledReceiver).await?;
    }
    cluster.converged(5).await?;
    Ok(())
}

/// Switches synchronous replication as a person does, and waits until `standby` is all there is of the set.
async fn synchronous(cluster: &Cluster, on: bool, standby: &str) -> Result<()> {
    let patch = json!({"spec": {"patroni": {"synchronous_mode": on}}}).to_string();
    cluster.kubectl(&["patch", "postgresql", CLUSTER, "--type=merge", "-p", &patch]).await?.ok()?;
    let set = format!("{CLUSTER}-sync");
    let output = "--output=jsonpath={.metadata.annotations.sync_standby}";
    until(&format!("{standby:?} in the synchronous set"), DEADLINE, async || {
        let seen =
            cluster.kubectl(&["get", "endpoints", &set, "--ignore-not-found", output]).await?;
        let seen = seen.ok()?;
        Ok(if seen == standby { Attempt::Done(()) } else { Attempt::NotYet(seen) })
    })
    .await
}

/// The plain edit, watched until it is over.
async fn patched(scene: &Scene, cluster: &Cluster, row: &Row, writer: Writer) -> Result<Outcome> {
    let Scene { bed, namespace } = scene;
    cluster.patch(2).await?.ok().context("the bare operator's API takes every number")?;
    let (what, record) = match row.want {
        Want::Harmless | Want::Pause => {
            cluster.converged(2).await?;
            // Writes go on after the change, with whoever leads now.
            acknowledged(&writer, WARM).await?;
            (gone(row.leader, cluster.leader().await?.ordinal), finish(writer).await?)
        }
        Want::Outage => {
            stopped_for(&writer, STUCK).await?;
            ensure!(cluster.leader().await.is_err(), "somebody leads although Patroni is paused");
            // A person comes and resumes Patroni; only then does somebody take over.
            bed.kubelet().resume(namespace, &cluster.name).await?;
            acknowledged(&writer, 1).await?;
            let what = "deletes the leader; nobody leads until a person resumes Patroni";
            (what.to_owned(), finish(writer).await?)
        }
        Want::Loss => {
            let heir = until("a survivor to be promoted without the rows", DEADLINE, async || {
                let leader = cluster.leader().await;
                Ok(match leader {
                    Ok(leader) if leader.ordinal < 2 => Attempt::Done(leader.ordinal),
                    other => Attempt::NotYet(format!("{other:?}")),
                })
            })
            .await?;
            let what = format!("deletes the leader; -{heir} is promoted without the rows");
            (what, finish(writer).await?)
        }
        Want::LeaderDeletedOrWaiting => {
            acknowledged(&writer, 10 * WARM).await?;
            let what = if cluster.replicas().await? == 5 {
                "has not acted yet: it waits for -0".to_owned()
            } else {
                gone(row.leader, cluster.leader().await?.ordinal)
            };
            (what, finish(writer).await?)
        }
        Want::LeaderDeletedLater => {
            let lowered = until("the operator to lower the StatefulSet", PATIENCE, async || {
                let replicas = cluster.replicas().await?;
                let lowered = replicas == 2;
                Ok(if lowered { Attempt::Done(()) } else { Attempt::NotYet(replicas.to_string()) })
            })
            .await;
            if lowered.is_err() {
                // Its first try may fail on the member that is down; the next comes with a later synchronisation.
                acknowledged(&writer, 5 * WARM).await?;
                let what = "has not acted within a minute: it waits for -0";
                let record = finish(writer).await?;
                judge(row.want, &record)?;
                return Ok(Outcome { what: what.to_owned(), record });
            }
            acknowledged(&writer, 5 * WARM).await?;
            ensure!(cluster.pods().await?.len() == 5, "pods went although -0 is not ready");
            for &(ordinal, fault) in row.faults {
                bed.kubelet().unstage(namespace, &cluster.pod_name(ordinal), fault).await?;
            }
            cluster.converged(2).await?;
            acknowledged(&writer, WARM).await?;
            let heir = cluster.leader().await?.ordinal;
            let what = format!(
                "nothing at first; once -0 is mended, the leader is deleted and -{heir} takes over"
            );
            (what, finish(writer).await?)
        }
    };
    judge(row.want, &record)?;
    Ok(Outcome { what, record })
}

/// How the leader came to be another.
fn gone(old: u32, new: u32) -> String {
    match new {
        new if new == old => format!("shrinks; -{new} leads on"),
        // The only member it ever asks.
        0 => "moves the leader to -0, then shrinks".to_owned(),
        new => format!("deletes the leader; -{new} takes over"),
    }
}

fn judge(want: Want, record: &Record) -> Result<()> {
    let Record { missing, longest_gap, .. } = record;
    let seen = format!("{want:?}: {record:?}");
    match want {
        Want::Harmless => ensure!(*missing == 0 && *longest_gap < Duration::from_secs(5), "{seen}"),
        Want::Pause | Want::LeaderDeletedLater => {
            ensure!(*missing == 0 && *longest_gap < HAND_OVER, "{seen}");
        }
        Want::Outage => ensure!(*missing == 0 && *longest_gap >= STUCK, "{seen}"),
        Want::Loss => ensure!(*missing > 0, "{seen}"),
        Want::LeaderDeletedOrWaiting => ensure!(*missing == 0, "{seen}"),
    }
    Ok(())
}
