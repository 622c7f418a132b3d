//! The plugin or the API server ends in the middle of a change. The same command, run again,
//! completes the change: without a second move of the leader, a second write or a lost row.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use pgscale_tests::bed::Said;
use pgscale_tests::cluster::{Cluster, quick};
use pgscale_tests::progress::say;
use pgscale_tests::wait::{Attempt, until};
use pgscale_tests::writer::Writer;
use tokio::time::sleep;

use crate::trial::{Case, TestCtx, case};
use crate::with_plugin::State;
use crate::writing::{Record, acknowledged, finish};

/// The time without the API server: shorter than Patroni tolerates (`retry_timeout`).
const AWAY: Duration = Duration::from_secs(2);
/// The time in which the same command may still be refused after a kill: Patroni ends the
/// switchover that was begun.
const SETTLING: Duration = Duration::from_secs(240);
const WARM: usize = 100;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("interruptions::a_killed_command_run_again_completes_the_change", killed)
            .beside_others(),
        case("interruptions::a_restart_of_the_api_server_is_waited_for", api_server),
    ]
}

/// A point at which the plugin is killed.
struct Point {
    /// The action at that point.
    doing: &'static str,
    /// The line that was just printed.
    line: fn(&str) -> bool,
    /// The delay between the line and the kill.
    later: Duration,
    /// The counts that may be declared then, as long as no further line was printed.
    counts: &'static [i64],
}

/// The changes, all from 3 to 2 with the leader on 2, and the points of each. The command that is
/// run again is killed at a later point.
const CHANGES: [&[Point]; 3] = [
    &[
        Point {
            doing: "the plan was shown",
            line: |line| line.starts_with("PLANNED"),
            later: Duration::ZERO,
            counts: &[3],
        },
        Point {
            doing: "a checkpoint is being written",
            line: |line| line.starts_with("CHECKPOINT on"),
            later: Duration::ZERO,
            counts: &[3],
        },
        Point {
            doing: "the plugin is about to request the switchover",
            line: |line| line.starts_with("switching over from"),
            later: Duration::ZERO,
            counts: &[3],
        },
    ],
    &[
        Point {
            doing: "the switchover is under way",
            line: |line| line.starts_with("switching over from"),
            later: Duration::from_millis(300),
            counts: &[3],
        },
        Point {
            doing: "the count was written",
            line: |line| line.starts_with("numberOfInstances is 2"),
            later: Duration::ZERO,
            counts: &[2],
        },
    ],
    &[
        Point {
            doing: "the leader has moved",
            line: |line| line.contains(" leads (lock, label and Patroni agree)"),
            later: Duration::ZERO,
            // The next write may come before the kill.
            counts: &[3, 2],
        },
        Point {
            doing: "the change is being waited for",
            line: |line| line.starts_with('['),
            later: Duration::ZERO,
            counts: &[2],
        },
    ],
];

async fn killed(ctx: TestCtx) -> Result<()> {
    let TestCtx { bed, namespace } = &ctx;
    let cluster = Cluster::create(bed, namespace, "acid-cut", 3, quick()).await?;
    let writer = Writer::start(bed.client(), namespace, &cluster.name).await?;
    acknowledged(&writer, WARM).await?;
    for points in CHANGES {
        cluster.pgscale(&["set", &cluster.name, "3", "--timeout", "4m"]).await?.ok()?;
        cluster.move_leader_to(2).await?;
        let before = State::of(&cluster).await?;
        for point in points {
            let Some(said) = kill_at(&cluster, point).await? else {
                say(&format!("  done before {}", point.doing));
                break;
            };
            let declared = cluster.declared().await?;
            say(&format!("  killed when {}: {declared} declared", point.doing));
            // On a busy machine the plugin may be further when it is killed.
            let there = said.stderr.lines().last().is_some_and(point.line);
            let counts = if there { point.counts } else { &[3, 2] };
            ensure!(counts.contains(&declared), "{declared} declared: {said:?}");
        }
        let said = ended(&cluster).await?;
        let after = State::of(&cluster).await?;
        let states = format!("{before:?}, then {after:?}: {said:?}");
        ensure!(after.declared == 2 && after.replicas == 2 && after.leader < 2, "{states}");
        ensure!(after.timeline == before.timeline + 1, "the leader moved more than once: {states}");
        ensure!(after.generation == before.generation + 1, "written more than once: {states}");
    }
    nothing_lost(writer).await
}

/// Runs the command until it is at `point`, and kills it there. Returns nothing if a run has passed
/// that point already.
async fn kill_at(cluster: &Cluster, point: &Point) -> Result<Option<Said>> {
    until(&format!("the moment when {}", point.doing), SETTLING, async || {
        let mut down = cluster.follow_pgscale(&down(cluster))?;
        if down.says(point.line).await? {
            sleep(point.later).await;
            return Ok(Attempt::Done(Some(down.kill().await?)));
        }
        let said = down.end().await?;
        if said.code == Some(0) {
            return Ok(Attempt::Done(None));
        }
        not_yet(cluster, &said).await?;
        Ok(Attempt::NotYet(format!("{said:?}")))
    })
    .await
}

/// Runs the command until it has completed the change.
async fn ended(cluster: &Cluster) -> Result<Said> {
    until("the change to be completed", SETTLING, async || {
        let said = cluster.pgscale(&down(cluster)).await?;
        if said.code == Some(0) {
            return Ok(Attempt::Done(said));
        }
        not_yet(cluster, &said).await?;
        Ok(Attempt::NotYet(format!("{said:?}")))
    })
    .await
}

fn down(cluster: &Cluster) -> [&str; 7] {
    ["down", &cluster.name, "--to", "2", "--yes", "--timeout", "4m"]
}

/// Checks that a command that fails while Patroni completes a switchover has written nothing: it
/// may refuse, or report that a fact is unknown.
async fn not_yet(cluster: &Cluster, said: &Said) -> Result<()> {
    let declared = cluster.declared().await?;
    say(&format!("  exit code {:?}: {:?}", said.code, said.stderr.lines().last()));
    ensure!(matches!(said.code, Some(1 | 3 | 5)) && declared == 3, "{declared} declared: {said:?}");
    Ok(())
}

async fn nothing_lost(writer: Writer) -> Result<()> {
    acknowledged(&writer, WARM).await?;
    let record = finish(writer).await?;
    let Record { acknowledged, missing, longest_gap } = record;
    say(&format!(
        "  {missing} of {acknowledged} acknowledged rows lost, writes stopped for {longest_gap:?}"
    ));
    ensure!(missing == 0, "{record:?}");
    Ok(())
}

async fn api_server(ctx: TestCtx) -> Result<()> {
    let TestCtx { bed, namespace } = &ctx;
    let cluster = Cluster::create(bed, namespace, "acid-away", 2, quick()).await?;
    let writer = Writer::start(bed.client(), namespace, &cluster.name).await?;
    acknowledged(&writer, WARM).await?;
    let mut up = cluster.follow_pgscale(&["up", &cluster.name, "--to", "3", "--timeout", "4m"])?;
    // The operator has acted by then, so its own reaction to an outage does not matter here.
    if !up.says(|line| line.starts_with('[')).await? {
        bail!("there was nothing to wait for: {:?}", up.end().await?);
    }
    {
        let mut control_plane = bed.control_plane().lock().await;
        control_plane.stop_api_server().await?;
        sleep(AWAY).await;
        control_plane.start_api_server().await?;
    }
    let said = up.end().await?;
    ensure!(said.code == Some(0), "{said:?}");
    ensure!(said.stdout.contains("scaled from 2 to 3 instances"), "{said:?}");
    // The change was complete when the plugin reported it.
    let members = cluster.answering().await?;
    ensure!(members.iter().filter(|member| member.streams()).count() == 2, "{members:?}");
    nothing_lost(writer).await.context("a client meanwhile")
}
