//! Members that fail while the count does not change.

use anyhow::{Context as _, Result, ensure};
use hyper::Method;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use pgscale_tests::cluster::TIMEOUT;
use pgscale_tests::patroni::rest;
use pgscale_tests::stage::Fault;
use pgscale_tests::wait::{Attempt, until};
use serde_json::json;

use super::BrokenCluster;
use crate::trial::{Case, TestCtx, case};

/// The timeout of a wait that cannot succeed: longer than the lock lives.
const STUCK: &str = "20s";

pub(super) fn cases() -> Vec<Case> {
    vec![
        case("ways_out::printed_commands_repair_failed_members", down).beside_others(),
        case("ways_out::printed_commands_repair_a_lost_leader", leader).beside_others(),
        // Members of other clusters are on the same nodes.
        case("ways_out::printed_commands_repair_the_loss_of_a_node", nodes),
    ]
}

async fn down(ctx: TestCtx) -> Result<()> {
    let broken = BrokenCluster::of(ctx, 4).await?;
    stopped(&broken).await.context("stopped")?;
    scheduled(&broken).await.context("scheduled")?;
    asynchronous(&broken).await.context("asynchronous")
}

/// The leader is on the highest ordinal, and -0 is stopped, to which the operator would move the
/// leader.
async fn stopped(broken: &BrokenCluster) -> Result<()> {
    let state = "the leader on the highest ordinal, and -0 stopped";
    broken.cluster.move_leader_to(3).await?;
    broken.cluster.stage(0, Fault::StoppedPatroni).await?;
    let printed = broken.refused(state, 2, "leader-condemned").await?;
    // The fault ends with the pod that has it.
    broken.ctx.bed.kubelet().unstage_all(&broken.ctx.namespace);
    broken.run_printed(&printed, "delete pod acid-fix-0", &[]).await?;
    broken.settled(4).await?;
    let down = ["down", "acid-fix", "--to", "3", "--yes", "--timeout", "4m"];
    broken.cluster.pgscale(&down).await?.ok()?;
    broken.settled(3).await
}

/// A person scheduled a switchover to a member that is to be removed.
async fn scheduled(broken: &BrokenCluster) -> Result<()> {
    let cluster = &broken.cluster;
    cluster.move_leader_to(0).await?;
    let leader = cluster.leader().await?;
    let address = leader.address.context("the leader has no address")?;
    let tomorrow = Timestamp::now().checked_add(SignedDuration::from_hours(24))?;
    let request = json!({
        "leader": leader.pod, "candidate": "acid-fix-2", "scheduled_at": tomorrow.to_string(),
    });
    rest::send(address, Method::POST, "/switchover", &request).await?;
    let printed = broken.refused("a switchover for tomorrow", 2, "switchover-pending").await?;
    broken.run_printed(&printed, "exec", &[]).await?;
    broken.warned("no switchover any more", 2, "ALLOWED").await?;
    broken.settled(3).await
}

/// Replication is synchronous, and there is no synchronous standby.
async fn asynchronous(broken: &BrokenCluster) -> Result<()> {
    let state = "no synchronous standby where replication is synchronous";
    for ordinal in [1, 2] {
        broken.cluster.stage(ordinal, Fault::StalledReceiver).await?;
    }
    synchronous(broken, true).await?;
    until("no synchronous standby", TIMEOUT, async || {
        let set = ["get", "endpoints", "acid-fix-sync", "--ignore-not-found"];
        let output =
            "--output=jsonpath={.metadata.annotations.leader}/{.metadata.annotations.sync_standby}";
        let set = broken.cluster.kubectl(&[&set[..], &[output]].concat()).await?.ok()?;
        Ok(if set == "acid-fix-0/" { Attempt::Done(()) } else { Attempt::NotYet(set) })
    })
    .await?;
    let printed = broken.warned(state, 2, "survivor-unhealthy").await?;
    ensure!(printed.text.contains("set numberOfInstances to 2"), "{}", printed.text);
    broken.cluster.patch(2).await?.ok()?;
    broken.cluster.unstage(1, Fault::StalledReceiver).await?;
    broken.cluster.unstage(2, Fault::StalledReceiver).await?;
    broken.settled(2).await?;
    synchronous(broken, false).await
}

async fn synchronous(broken: &BrokenCluster, on: bool) -> Result<()> {
    let patch = json!({"spec": {"patroni": {"synchronous_mode": on}}}).to_string();
    let patch = ["patch", "postgresql", "acid-fix", "--type=merge", "-p", &patch];
    broken.cluster.kubectl(&patch).await?.ok().map(drop)
}

/// A node is lost, and with it a pod whose end its kubelet cannot report.
async fn lost(broken: &BrokenCluster) -> Result<()> {
    broken.cluster.stage(2, Fault::NodeLost).await?;
    let printed = broken.warned("a lost node", 2, "acid-fix-2").await?;
    ensure!(printed.text.contains("set numberOfInstances to 2"), "{}", printed.text);
    let set = ["set", "acid-fix", "2", "--yes", "--timeout", STUCK];
    let said = broken.cluster.pgscale(&set).await?;
    ensure!(said.code == Some(4), "a pod on a lost node has ended: {said:?}");
    let printed = broken.why("a pod on a lost node").await?;
    broken.run_printed(&printed, "delete pod acid-fix-2", &[]).await?;
    broken.settled(2).await?;
    broken.cluster.unstage(2, Fault::NodeLost).await
}

async fn leader(ctx: TestCtx) -> Result<()> {
    let broken = BrokenCluster::of(ctx, 3).await?;
    paused(&broken).await.context("paused")?;
    frozen(&broken).await.context("frozen")?;
    claim(&broken).await.context("claim")
}

async fn nodes(ctx: TestCtx) -> Result<()> {
    let broken = BrokenCluster::of(ctx, 3).await?;
    dead(&broken).await.context("dead")?;
    lost(&broken).await.context("lost")
}

/// Patroni is paused and the leader is gone, so no replica takes over.
async fn paused(broken: &BrokenCluster) -> Result<()> {
    let state = "Patroni paused, and the leader gone";
    let cluster = &broken.cluster;
    broken.ctx.bed.kubelet().pause(&cluster.namespace, &cluster.name).await?;
    broken.cluster.stage(0, Fault::StoppedPatroni).await?;
    until("the leader lock to expire", TIMEOUT, async || {
        let planned = broken.plan(2).await?;
        let expired = planned.stdout.contains("no-leader");
        Ok(if expired { Attempt::Done(()) } else { Attempt::NotYet(planned.stdout) })
    })
    .await?;
    let printed = broken.refused(state, 2, "paused").await?;
    broken.run_printed(&printed, "exec", &[]).await?;
    until("another leader", TIMEOUT, async || {
        let leader = cluster.leader().await;
        Ok(match leader {
            Ok(_) => Attempt::Done(()),
            Err(error) => Attempt::NotYet(format!("{error:#}")),
        })
    })
    .await?;
    broken.cluster.unstage(0, Fault::StoppedPatroni).await?;
    broken.settled(3).await
}

/// The node of the leader is lost. Another member takes over, and the pod of the old leader still
/// carries the leader's label.
async fn dead(broken: &BrokenCluster) -> Result<()> {
    broken.cluster.move_leader_to(2).await?;
    broken.cluster.stage(2, Fault::NodeLost).await?;
    let candidate = until("a new leader", TIMEOUT, async || {
        Ok(match broken.cluster.leader().await {
            Ok(leader) if leader.ordinal != 2 => Attempt::Done(leader.ordinal),
            other => Attempt::NotYet(format!("{other:?}")),
        })
    })
    .await?;
    ensure!(candidate < 2, "-{candidate} leads");
    let printed = broken.refused("a dead leader", 2, "no-leader").await?;
    broken.run_printed(&printed, "delete pod acid-fix-2", &[]).await?;
    broken.settled(3).await?;
    broken.cluster.unstage(2, Fault::NodeLost).await
}

/// The leader is on the highest ordinal, and -0 only looks alive.
async fn frozen(broken: &BrokenCluster) -> Result<()> {
    broken.cluster.patch(4).await?.ok()?;
    broken.settled(4).await?;
    broken.cluster.move_leader_to(3).await?;
    // A frozen Patroni could no longer report that the member follows the new leader.
    broken.cluster.reported().await?;
    broken.cluster.stage(0, Fault::FrozenPatroni).await?;
    let printed = broken.refused("a frozen -0", 2, "leader-condemned").await?;
    let how = ["--yes", "--timeout", "4m"];
    broken.run_printed(&printed, "pgscale down acid-fix --to 3", &how).await?;
    broken.cluster.unstage(0, Fault::FrozenPatroni).await?;
    broken.settled(3).await
}

/// The claim of a running member is being deleted.
async fn claim(broken: &BrokenCluster) -> Result<()> {
    let cluster = &broken.cluster;
    cluster.move_leader_to(0).await?;
    let claim = ["delete", "pvc", "pgdata-acid-fix-2", "--wait=false"];
    cluster.kubectl(&claim).await?.ok()?;
    let printed = broken.warned("a volume that is being deleted", 2, "ALLOWED").await?;
    ensure!(printed.text.contains("set numberOfInstances to 2"), "{}", printed.text);
    cluster.patch(2).await?.ok()?;
    broken.settled(2).await?;
    cluster.patch(3).await?.ok()?;
    broken.settled(3).await
}
