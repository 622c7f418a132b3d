//! The operator alone: a plain `kubectl patch` of the count, watched to its end.
//!
//! Nothing is asserted: on the same stage the operator may delete the leader or wait, and may lose
//! rows or none.

use std::time::Duration;

use anyhow::{Context as _, Result};
use pgscale_tests::cluster::Cluster;
use pgscale_tests::proof::Outcome;
use pgscale_tests::proof::stages::{self, Stage, WARM};
use pgscale_tests::wait::{Attempt, until};
use pgscale_tests::writer::Writer;
use pgscale_tests::writing::{PAUSE, acknowledged, finish};
use tokio::time::Instant;

/// The length of a stop of writes, while Patroni is paused, that counts as an outage without an
/// end.
const STUCK: Duration = Duration::from_secs(45);
/// The time without a leader, while Patroni is not paused, until a person intervenes.
const LEADERLESS: Duration = Duration::from_secs(240);
/// The limit for the work of the operator and Patroni.
const DEADLINE: Duration = Duration::from_secs(300);

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

/// The sight of a hand-over: another member leads while the StatefulSet still has its former count.
///
/// The operator asks for the switchover first, and waits for Patroni's answer, before it lowers the
/// count (`preScaleDown`, pkg/cluster/resources.go). It writes no Event about that. Where it deletes
/// the leader, the count is lowered first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HandOver {
    old: u32,
    replicas: i32,
    pub(crate) seen: bool,
}

impl HandOver {
    /// Returns the sight before a change, while the member with the ordinal `old` leads.
    pub(crate) async fn of(cluster: &Cluster, old: u32) -> Result<Self> {
        Ok(Self { old, replicas: cluster.replicas().await?, seen: false })
    }

    /// Looks once. A StatefulSet that is being replaced is not there, and shows nothing.
    pub(crate) async fn look_at(&mut self, cluster: &Cluster) {
        if let Ok(seen) = look(cluster).await {
            self.look(seen);
        }
    }

    fn look(&mut self, (replicas, _, leader): Look) {
        let another = leader.is_some_and(|leader| leader != self.old);
        self.seen |= another && replicas == self.replicas;
    }
}

/// The count of the StatefulSet, the number of pods, and the ordinal of the leader.
type Look = (i32, usize, Option<u32>);

/// Patches the count and watches until the operator is done, with a person's help where the outage
/// has no other end.
pub(crate) async fn patched(cluster: &Cluster, stage: &Stage, writer: Writer) -> Result<Outcome> {
    let mut hand_over = HandOver::of(cluster, stage.leader).await?;
    cluster
        .patch(stages::AFTER.into())
        .await?
        .ok()
        .context("without the webhook, the API server takes every number")?;
    let end = watched(cluster, stage, &writer, &mut hand_over).await?;
    let what = match end {
        End::Over(candidate) => change_of_leader(stage.leader, candidate, hand_over.seen),
        End::Leaderless if stage.paused => {
            // Only then a replica takes over.
            cluster.bed().kubelet().resume(&cluster.namespace, &cluster.name).await?;
            "deletes the leader; no member leads until a person resumes Patroni".to_owned()
        }
        End::Leaderless => {
            stage.lift(cluster).await?;
            "deletes the leader; no member leads until a person repairs the others".to_owned()
        }
        End::Still(5) => "has not acted yet: it waits for -0".to_owned(),
        End::Still(_) => {
            stage.lift(cluster).await?;
            match watched(cluster, stage, &writer, &mut hand_over).await? {
                End::Over(candidate) if candidate == stage.leader => {
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
async fn watched(
    cluster: &Cluster,
    stage: &Stage,
    writer: &Writer,
    hand_over: &mut HandOver,
) -> Result<End> {
    let mut last: Option<(Look, Instant)> = None;
    let leaderless = if stage.paused { STUCK } else { LEADERLESS };
    until("the operator's work to end", DEADLINE, async || {
        // An operator that replaces the StatefulSet deletes it first.
        let look = match look(cluster).await {
            Ok(look) => look,
            Err(error) => return Ok(Attempt::NotYet(format!("{error:#}"))),
        };
        hand_over.look(look);
        let since = match last {
            Some((before, since)) if before == look => since,
            _ => Instant::now(),
        };
        last = Some((look, since));
        Ok(match look {
            (_, 2, Some(leader @ (0 | 1))) => Attempt::Done(End::Over(leader)),
            (_, _, None) if writer.silence() >= leaderless => Attempt::Done(End::Leaderless),
            (replicas, ..) if since.elapsed() >= stage.quiet && writer.silence() < PAUSE => {
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
    // Read last: a count that is not lowered yet was not lowered when the members answered.
    Ok((cluster.replicas().await?, members.len(), leader))
}

/// Describes the change of the leader. `moved` is true if the operator moved it by a switchover.
pub(crate) fn change_of_leader(old: u32, new: u32, moved: bool) -> String {
    match new {
        new if new == old => format!("shrinks; -{new} stays the leader"),
        new if moved => format!("moves the leader to -{new}, then shrinks"),
        new => format!("deletes the leader; -{new} takes over"),
    }
}
