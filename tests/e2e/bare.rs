//! What the bare operator does when a plain `kubectl patch` takes a cluster from 5 to 2.
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

use crate::trial::{Case, Scene, case};
use crate::writing::{Record, acknowledged, finish, stopped_for};

/// How long writes must have been stopped to count as an outage that does not end by itself.
const STUCK: Duration = Duration::from_secs(45);
/// The longest pause of a hand-over on a busy machine; about 2.5 s on a quiet one.
const HAND_OVER: Duration = Duration::from_secs(20);
/// How long the operator and Patroni may take until they have done what they do.
const DEADLINE: Duration = Duration::from_secs(300);
/// Rows the writer must have written before the edit.
const WARM: usize = 100;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("bare::leader_on_0_all_healthy", |scene| {
            row(scene, Row { leader: 0, stage: &[], paused: false, want: Want::Harmless })
        }),
        case("bare::leader_on_4_all_healthy", |scene| {
            row(scene, Row { leader: 4, stage: &[], paused: false, want: Want::Pause })
        }),
        case("bare::leader_on_4_patroni_paused_0_healthy", |scene| {
            row(scene, Row { leader: 4, stage: &[], paused: true, want: Want::Pause })
        }),
        case("bare::leader_on_4_0_nofailover", |scene| {
            let stage = &[(0, Fault::NoFailover)];
            row(scene, Row { leader: 4, stage, paused: false, want: Want::Pause })
        }),
        case("bare::leader_on_4_0_nofailover_patroni_paused", |scene| {
            let stage = &[(0, Fault::NoFailover)];
            row(scene, Row { leader: 4, stage, paused: true, want: Want::Outage })
        }),
        case("bare::leader_on_4_receivers_of_0_and_1_stalled", |scene| {
            let stage = &[(0, Fault::StalledReceiver), (1, Fault::StalledReceiver)];
            row(scene, Row { leader: 4, stage, paused: false, want: Want::Loss })
        }),
        case("bare::leader_on_4_patroni_of_0_frozen", |scene| {
            let stage = &[(0, Fault::FrozenPatroni)];
            row(scene, Row { leader: 4, stage, paused: false, want: Want::LeaderDeletedOrWaiting })
        }),
    ]
}

/// One row of the table.
struct Row {
    leader: u32,
    stage: &'static [(u32, Fault)],
    paused: bool,
    want: Want,
}

/// What is to be seen.
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
}

async fn row(scene: Scene, row: Row) -> Result<()> {
    let Scene { bed, namespace } = &scene;
    let cluster = Cluster::create(bed, namespace, "acid-bare", 5, json!({})).await?;
    cluster.move_leader_to(row.leader).await?;
    // Before the stage: a stalled receiver would not even hear of the writer's table.
    let writer = Writer::start(bed.client(), namespace, &cluster.name).await?;
    for &(ordinal, fault) in row.stage {
        bed.kubelet().stage(namespace, &cluster.pod_name(ordinal), fault).await?;
    }
    if row.paused {
        bed.kubelet().pause(namespace, &cluster.name).await?;
    }
    acknowledged(&writer, WARM).await?;
    cluster.patch(2).await?.ok().context("the bare operator's API takes every number")?;
    let record = match row.want {
        Want::Harmless | Want::Pause => {
            cluster.converged(2).await?;
            // Writes go on after the change, with whoever leads now.
            acknowledged(&writer, WARM).await?;
            finish(writer).await?
        }
        Want::Outage => {
            stopped_for(&writer, STUCK).await?;
            ensure!(cluster.leader().await.is_err(), "somebody leads although Patroni is paused");
            // A person comes and resumes Patroni; only then does somebody take over.
            bed.kubelet().resume(namespace, &cluster.name).await?;
            acknowledged(&writer, 1).await?;
            finish(writer).await?
        }
        Want::Loss => {
            until("a survivor to be promoted without the rows", DEADLINE, async || {
                let leader = cluster.leader().await;
                Ok(match leader {
                    Ok(leader) if leader.ordinal < 2 => Attempt::Done(()),
                    other => Attempt::NotYet(format!("{other:?}")),
                })
            })
            .await?;
            finish(writer).await?
        }
        Want::LeaderDeletedOrWaiting => {
            acknowledged(&writer, 10 * WARM).await?;
            finish(writer).await?
        }
    };
    judge(row.want, &record)
}

fn judge(want: Want, record: &Record) -> Result<()> {
    let Record { acknowledged, missing, longest_gap, .. } = record;
    say(&format!(
        "  {missing} of {acknowledged} acknowledged rows lost, writes stopped for {longest_gap:?}"
    ));
    let seen = format!("{want:?}: {record:?}");
    match want {
        Want::Harmless => ensure!(*missing == 0 && *longest_gap < Duration::from_secs(5), "{seen}"),
        Want::Pause => ensure!(*missing == 0 && *longest_gap < HAND_OVER, "{seen}"),
        Want::Outage => ensure!(*missing == 0 && *longest_gap >= STUCK, "{seen}"),
        Want::Loss => ensure!(*missing > 0, "{seen}"),
        Want::LeaderDeletedOrWaiting => ensure!(*missing == 0, "{seen}"),
    }
    Ok(())
}
