//! A plain `kubectl patch` from 5 to 2 by the operator alone, and `kubectl pgscale down` on the
//! same stage.
//!
//! Assertions cover `kubectl pgscale` only. The operator's work is watched to its end, recorded and
//! not judged: on the same stage the operator may delete the leader or wait, and may lose rows or
//! none.

use std::time::Duration;

use anyhow::{Context as _, Result};
use futures::future::try_join_all;
use pgscale_tests::cluster::Cluster;
use pgscale_tests::progress::say;
use pgscale_tests::stage::Fault;
use pgscale_tests::wait::{Attempt, until};
use pgscale_tests::writer::Writer;
use serde_json::json;
use tokio::time::Instant;

use crate::table::{self, Outcome};
use crate::trial::{Case, TestCtx, case};
use crate::with_plugin::{self, Expected};
use crate::writing::{PAUSE, acknowledged, finish};

/// The length of a stop of writes, while Patroni is paused, that counts as an outage without an
/// end.
const STUCK: Duration = Duration::from_secs(45);
/// The time without a leader, while Patroni is not paused, until a person intervenes.
const LEADERLESS: Duration = Duration::from_secs(240);
/// The limit for the work of the operator and Patroni.
const DEADLINE: Duration = Duration::from_secs(300);
/// The time without a change, while writes continue, after which the work counts as done.
const QUIET: Duration = Duration::from_secs(60);
/// The same where the operator waits for a member that cannot answer.
const SHORT_QUIET: Duration = Duration::from_secs(15);
/// The number of rows that the writer writes before the edit.
const WARM: usize = 100;
const CLUSTER: &str = "acid-plain";

pub(crate) fn cases() -> Vec<Case> {
    ROWS.iter().map(|row| case(row.name, |ctx| compared(ctx, row))).collect()
}

/// The rows of the table: stages that were seen or are said to end badly, and harmless ones.
const ROWS: [Row; 10] = [
    Row {
        name: "operator_only::leader_on_0_all_healthy",
        stage: "leader on 0, all healthy",
        leader: 0,
        ..ROW
    },
    Row {
        name: "operator_only::leader_on_4_all_healthy",
        stage: "leader on 4, all healthy",
        ..ROW
    },
    Row {
        name: "operator_only::leader_on_4_patroni_paused_0_healthy",
        stage: "leader on 4, Patroni paused, -0 healthy",
        paused: true,
        ..ROW
    },
    Row {
        name: "operator_only::leader_on_4_0_nofailover",
        stage: "leader on 4, -0 tagged nofailover",
        faults: &[(0, Fault::NoFailover)],
        expected: Expected::Refuses(Some(3)),
        ..ROW
    },
    Row {
        name: "operator_only::leader_on_4_0_nofailover_patroni_paused",
        stage: "leader on 4, -0 tagged nofailover, Patroni paused",
        faults: &[(0, Fault::NoFailover)],
        paused: true,
        expected: Expected::Refuses(Some(3)),
        ..ROW
    },
    Row {
        name: "operator_only::leader_on_4_receivers_of_0_and_1_stalled",
        stage: "leader on 4, WAL receivers of 0 and 1 stalled",
        faults: &[(0, Fault::StalledReceiver), (1, Fault::StalledReceiver)],
        expected: Expected::Refuses(Some(4)),
        ..ROW
    },
    Row {
        name: "operator_only::leader_on_4_patroni_of_0_frozen",
        stage: "leader on 4, Patroni of -0 frozen",
        faults: &[(0, Fault::FrozenPatroni)],
        quiet: SHORT_QUIET,
        expected: Expected::Refuses(Some(3)),
        ..ROW
    },
    Row {
        name: "operator_only::leader_on_4_0_stopped",
        stage: "leader on 4, Patroni and PostgreSQL of -0 stopped",
        faults: &[(0, Fault::StoppedPatroni)],
        quiet: SHORT_QUIET,
        expected: Expected::Refuses(None),
        ..ROW
    },
    Row {
        name: "operator_only::leader_on_4_0_delayed",
        stage: "leader on 4, -0 receives and does not replay",
        faults: &[(0, Fault::PausedReplay)],
        expected: Expected::Refuses(Some(3)),
        ..ROW
    },
    Row {
        name: "operator_only::leader_on_4_synchronous_0_not_in_the_set",
        stage: "leader on 4, synchronous_mode, -1 and not -0 in the set",
        synchronous: true,
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
    quiet: Duration,
    expected: Expected,
}

const ROW: Row = Row {
    name: "",
    stage: "",
    leader: 4,
    faults: &[],
    paused: false,
    synchronous: false,
    quiet: QUIET,
    expected: Expected::Shrinks,
};

/// The end of the operator's work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Two pods are left, and the member with this ordinal leads.
    Over(u32),
    /// No member leads until a person intervenes.
    Leaderless,
    /// Writes continue and nothing changes. The value is `spec.replicas` of the StatefulSet.
    Still(i32),
}

/// The count of the StatefulSet, the number of pods, and the ordinal of the leader.
type Look = (i32, usize, Option<u32>);

async fn compared(ctx: TestCtx, row: &Row) -> Result<()> {
    let TestCtx { bed, namespace } = &ctx;
    let cluster = Cluster::create(bed, namespace, CLUSTER, 5, json!({})).await?;

    let writer = set(&ctx, &cluster, row).await?;
    let with_plugin =
        with_plugin::down(&cluster, writer, 2, row.expected).await.context("kubectl pgscale")?;
    say(&format!("  kubectl pgscale {with_plugin}"));

    let writer = if row.expected == Expected::Refuses(None) {
        // The refusal changed nothing, so the stage is still the same.
        let writer = Writer::start(bed.client(), namespace, CLUSTER).await?;
        acknowledged(&writer, WARM).await?;
        writer
    } else {
        lift(&ctx, &cluster, row).await?;
        cluster.patch(5).await?.ok()?;
        cluster.converged(5).await?;
        set(&ctx, &cluster, row).await?
    };
    let operator_only = patched(&ctx, &cluster, row, writer).await.context("the operator alone")?;
    say(&format!("  the operator alone {operator_only}"));
    table::add(table::Row { stage: row.stage, operator_only, with_plugin });
    Ok(())
}

/// Sets the stage: the leader, a writer at work, and the faults.
async fn set(ctx: &TestCtx, cluster: &Cluster, row: &Row) -> Result<Writer> {
    let TestCtx { bed, namespace } = ctx;
    cluster.move_leader_to(row.leader).await?;
    if row.synchronous {
        only_1_is_synchronous(ctx, cluster).await?;
    }
    if row.faults.iter().any(|(_, fault)| *fault == Fault::FrozenPatroni) {
        // A frozen Patroni could no longer report that the member follows the new leader.
        cluster.reported().await?;
    }
    // Before the faults, because a stalled receiver would not even receive the writer's table.
    let writer = Writer::start(bed.client(), namespace, &cluster.name).await?;
    for &(ordinal, fault) in row.faults {
        cluster.stage(ordinal, fault).await?;
    }
    if row.paused {
        bed.kubelet().pause(namespace, &cluster.name).await?;
    }
    acknowledged(&writer, WARM).await?;
    Ok(writer)
}

/// Lifts the faults of the stage.
async fn lift(ctx: &TestCtx, cluster: &Cluster, row: &Row) -> Result<()> {
    let TestCtx { bed, namespace } = ctx;
    for &(ordinal, fault) in row.faults {
        cluster.unstage(ordinal, fault).await?;
    }
    if row.paused {
        bed.kubelet().resume(namespace, &cluster.name).await?;
    }
    if row.synchronous {
        synchronous(cluster, false, "").await?;
    }
    Ok(())
}

/// Makes replication synchronous while Patroni prefers member 1 to all others. Patroni then keeps
/// the standby that it has.
async fn only_1_is_synchronous(ctx: &TestCtx, cluster: &Cluster) -> Result<()> {
    let TestCtx { bed, namespace } = ctx;
    let others = [0, 2, 3].map(|ordinal| cluster.pod_name(ordinal));
    let stage = |pod| bed.kubelet().stage(namespace, pod, Fault::NoFailover);
    try_join_all(others.iter().map(|pod| stage(pod))).await?;
    synchronous(cluster, true, &cluster.pod_name(1)).await?;
    let unstage = |pod| bed.kubelet().unstage(namespace, pod, Fault::NoFailover);
    try_join_all(others.iter().map(|pod| unstage(pod))).await?;
    cluster.converged(5).await?;
    Ok(())
}

/// Switches synchronous replication as a person does, and waits until `standby` is the whole set.
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

/// Patches the count and watches until the operator is done, with a person's help where the outage
/// has no other end.
async fn patched(ctx: &TestCtx, cluster: &Cluster, row: &Row, writer: Writer) -> Result<Outcome> {
    cluster
        .patch(2)
        .await?
        .ok()
        .context("without the webhook, the API server takes every number")?;
    let end = watched(cluster, row, &writer).await?;
    let what = match end {
        End::Over(candidate) => change_of_leader(row.leader, candidate),
        End::Leaderless if row.paused => {
            // Only then a replica takes over.
            ctx.bed.kubelet().resume(&ctx.namespace, &cluster.name).await?;
            "deletes the leader; no member leads until a person resumes Patroni".to_owned()
        }
        End::Leaderless => {
            lift(ctx, cluster, row).await?;
            "deletes the leader; no member leads until a person repairs the others".to_owned()
        }
        End::Still(5) => "has not acted yet: it waits for -0".to_owned(),
        End::Still(_) => {
            lift(ctx, cluster, row).await?;
            match watched(cluster, row, &writer).await? {
                End::Over(candidate) if candidate == row.leader => {
                    format!(
                        "nothing at first; once -0 is repaired, it shrinks; -{candidate} stays the leader"
                    )
                }
                End::Over(candidate) => format!(
                    "nothing at first; once -0 is repaired, deletes the leader; -{candidate} takes over"
                ),
                End::Leaderless => "deletes the leader; no member leads".to_owned(),
                End::Still(count) => format!("sets {count}; the pods stay"),
            }
        }
    };
    // Writes continue after the change, on the present leader.
    acknowledged(&writer, WARM).await?;
    let record = finish(writer).await?;
    let what = match end {
        End::Over(candidate) if record.missing > 0 => {
            format!("deletes the leader; -{candidate} is promoted without the rows")
        }
        End::Over(_) | End::Leaderless | End::Still(_) => what,
    };
    Ok(Outcome { what, record })
}

/// Watches until the operator, the StatefulSet and Patroni are done.
async fn watched(cluster: &Cluster, row: &Row, writer: &Writer) -> Result<End> {
    let mut last: Option<(Look, Instant)> = None;
    let leaderless = if row.paused { STUCK } else { LEADERLESS };
    until("the operator's work to end", DEADLINE, async || {
        let look = look(cluster).await?;
        let since = match last {
            Some((before, since)) if before == look => since,
            _ => Instant::now(),
        };
        last = Some((look, since));
        Ok(match look {
            (_, 2, Some(leader @ (0 | 1))) => Attempt::Done(End::Over(leader)),
            (_, _, None) if writer.silence() >= leaderless => Attempt::Done(End::Leaderless),
            (replicas, ..) if since.elapsed() >= row.quiet && writer.silence() < PAUSE => {
                Attempt::Done(End::Still(replicas))
            }
            _ => Attempt::NotYet(format!("{look:?}")),
        })
    })
    .await
}

async fn look(cluster: &Cluster) -> Result<Look> {
    let members = cluster.members().await?;
    let leader = members.iter().find(|member| member.leads()).map(|member| member.ordinal);
    Ok((cluster.replicas().await?, members.len(), leader))
}

/// Describes the change of the leader.
fn change_of_leader(old: u32, new: u32) -> String {
    match new {
        new if new == old => format!("shrinks; -{new} stays the leader"),
        // The operator asks no other member.
        0 => "moves the leader to -0, then shrinks".to_owned(),
        new => format!("deletes the leader; -{new} takes over"),
    }
}
