//! What the bare operator does when a plain `kubectl patch` takes a cluster from 5 to 2, and beside it what
//! `kubectl pgscale down` makes of the very same stage.
//!
//! What is promised is asserted: of `kubectl pgscale`. What the bare operator does is watched to its end, written
//! down and not judged: on the same stage it deletes the leader or waits, loses rows or none, by chance.

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

/// How long writes must have been stopped while Patroni is paused to count as an outage that does not end by itself.
const STUCK: Duration = Duration::from_secs(45);
/// How long nobody may lead although Patroni is not paused until a person comes.
const LEADERLESS: Duration = Duration::from_secs(240);
/// How long the operator and Patroni may take until they have done what they do.
const DEADLINE: Duration = Duration::from_secs(300);
/// How long nothing may change, while writes go on, until nothing more is expected.
const QUIET: Duration = Duration::from_secs(60);
/// The same where the operator waits for a member that cannot answer.
const SHORT_QUIET: Duration = Duration::from_secs(15);
/// Rows the writer must have written before the edit.
const WARM: usize = 100;
const CLUSTER: &str = "acid-bare";

pub(crate) fn cases() -> Vec<Case> {
    ROWS.iter().map(|row| case(row.name, |ctx| beside(ctx, row))).collect()
}

/// The table: each row a stage that was seen, or is said, to end badly, or to be harmless.
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

/// How the bare operator's work ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Two pods are left, and this one leads.
    Over(u32),
    /// Nobody leads, and nobody will until a person comes.
    Leaderless,
    /// Writes go on and nothing happens; what the StatefulSet says meanwhile.
    Still(i32),
}

/// What may change while it works: the StatefulSet's count, the number of pods, and who leads.
type Look = (i32, usize, Option<u32>);

async fn beside(ctx: TestCtx, row: &Row) -> Result<()> {
    let TestCtx { bed, namespace } = &ctx;
    let cluster = Cluster::create(bed, namespace, CLUSTER, 5, json!({})).await?;

    let writer = set(&ctx, &cluster, row).await?;
    let with_plugin =
        with_plugin::down(&cluster, writer, 2, row.expected).await.context("kubectl pgscale")?;
    say(&format!("  kubectl pgscale {with_plugin}"));

    let writer = if row.expected == Expected::Refuses(None) {
        // It changed nothing: the same stage, to the last byte.
        let writer = Writer::start(bed.client(), namespace, CLUSTER).await?;
        acknowledged(&writer, WARM).await?;
        writer
    } else {
        lift(&ctx, &cluster, row).await?;
        cluster.patch(5).await?.ok()?;
        cluster.converged(5).await?;
        set(&ctx, &cluster, row).await?
    };
    let operator_only = patched(&ctx, &cluster, row, writer).await.context("the bare operator")?;
    say(&format!("  the bare operator {operator_only}"));
    table::add(table::Row { stage: row.stage, operator_only, with_plugin });
    Ok(())
}

/// Sets the stage: the leader, a writer who has begun, and what is wrong.
async fn set(ctx: &TestCtx, cluster: &Cluster, row: &Row) -> Result<Writer> {
    let TestCtx { bed, namespace } = ctx;
    cluster.move_leader_to(row.leader).await?;
    if row.synchronous {
        only_1_is_synchronous(ctx, cluster).await?;
    }
    if row.faults.iter().any(|(_, fault)| *fault == Fault::FrozenPatroni) {
        // It could not report any more that it follows the new leader.
        cluster.reported().await?;
    }
    // Before the faults: a stalled receiver would not even hear of the writer's table.
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

/// Takes away what is wrong.
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

/// Has replication made synchronous while Patroni prefers 1 to all others: it keeps whom it has.
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

/// The plain edit, watched until it is over, with a person's help where it is not by itself.
async fn patched(ctx: &TestCtx, cluster: &Cluster, row: &Row, writer: Writer) -> Result<Outcome> {
    cluster.patch(2).await?.ok().context("the bare operator's API takes every number")?;
    let end = watched(cluster, row, &writer).await?;
    let what = match end {
        End::Over(candidate) => gone(row.leader, candidate),
        End::Leaderless if row.paused => {
            // Only then does somebody take over.
            ctx.bed.kubelet().resume(&ctx.namespace, &cluster.name).await?;
            "deletes the leader; no member leads until a person resumes Patroni".to_owned()
        }
        End::Leaderless => {
            lift(ctx, cluster, row).await?;
            "deletes the leader; no member leads until a person mends the others".to_owned()
        }
        End::Still(5) => "has not acted yet: it waits for -0".to_owned(),
        End::Still(_) => {
            lift(ctx, cluster, row).await?;
            match watched(cluster, row, &writer).await? {
                End::Over(candidate) if candidate == row.leader => {
                    format!(
                        "nothing at first; once -0 is mended, it shrinks; -{candidate} leads on"
                    )
                }
                End::Over(candidate) => format!(
                    "nothing at first; once -0 is mended, the leader is deleted and -{candidate} takes over"
                ),
                End::Leaderless => "deletes the leader; nobody leads".to_owned(),
                End::Still(count) => format!("sets {count}; the pods stay"),
            }
        }
    };
    // Writes go on after the change, with whoever leads now.
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

/// Watches until the operator, the StatefulSet and Patroni have done what they do.
async fn watched(cluster: &Cluster, row: &Row, writer: &Writer) -> Result<End> {
    let mut last: Option<(Look, Instant)> = None;
    let leaderless = if row.paused { STUCK } else { LEADERLESS };
    until("the bare operator's work to end", DEADLINE, async || {
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

/// How the leader came to be another.
fn gone(old: u32, new: u32) -> String {
    match new {
        new if new == old => format!("shrinks; -{new} leads on"),
        // The only member it ever asks.
        0 => "moves the leader to -0, then shrinks".to_owned(),
        new => format!("deletes the leader; -{new} takes over"),
    }
}
