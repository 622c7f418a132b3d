//! Members that fail while nobody changes anything.

use anyhow::{Context as _, Result, ensure};
use hyper::Method;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use pgscale_tests::cluster::PATIENCE;
use pgscale_tests::patroni::rest;
use pgscale_tests::stage::Fault;
use pgscale_tests::wait::{Attempt, until};
use serde_json::json;

use super::Patient;
use crate::trial::{Case, Scene, case};

/// Longer than any lock lives; soon enough for a wait that nobody ends.
const STUCK: &str = "20s";

pub(super) fn cases() -> Vec<Case> {
    vec![
        case("ways_out::of_members_that_are_down", down),
        case("ways_out::of_a_leader_that_is_gone", leader),
    ]
}

async fn down(scene: Scene) -> Result<()> {
    let patient = Patient::of(scene, 4).await?;
    stopped(&patient).await.context("stopped")?;
    scheduled(&patient).await.context("scheduled")?;
    asynchronous(&patient).await.context("asynchronous")?;
    lost(&patient).await.context("lost")
}

/// The leader is on the highest ordinal, and -0, to which the operator would hand over, is stopped.
async fn stopped(patient: &Patient) -> Result<()> {
    let state = "the leader on the highest ordinal, and -0 stopped";
    patient.cluster.move_leader_to(3).await?;
    patient.cluster.stage(0, Fault::StoppedPatroni).await?;
    let printed = patient.refused(state, 2, "leader-condemned").await?;
    // Whatever keeps a container from being started has gone with its pod.
    patient.scene.bed.kubelet().unstage_all(&patient.scene.namespace);
    patient.take(&printed, "delete pod acid-fix-0", &[]).await?;
    patient.settled(4).await?;
    let down = ["down", "acid-fix", "--to", "3", "--yes", "--timeout", "4m"];
    patient.cluster.pgscale(&down).await?.ok()?;
    patient.settled(3).await
}

/// Somebody scheduled a switchover to a member that shall go.
async fn scheduled(patient: &Patient) -> Result<()> {
    let cluster = &patient.cluster;
    cluster.move_leader_to(0).await?;
    let leader = cluster.leader().await?;
    let address = leader.address.context("the leader has no address")?;
    let tomorrow = Timestamp::now().checked_add(SignedDuration::from_hours(24))?;
    let wish = json!({
        "leader": leader.pod, "candidate": "acid-fix-2", "scheduled_at": tomorrow.to_string(),
    });
    rest::send(address, Method::POST, "/switchover", &wish).await?;
    let printed = patient.refused("a switchover for tomorrow", 2, "switchover-pending").await?;
    patient.take(&printed, "exec", &[]).await?;
    patient.warned("no switchover any more", 2, "Allowed").await?;
    patient.settled(3).await
}

/// Replication is synchronous, and no standby is.
async fn asynchronous(patient: &Patient) -> Result<()> {
    let state = "no synchronous standby where replication is synchronous";
    for ordinal in [1, 2] {
        patient.cluster.stage(ordinal, Fault::StalledReceiver).await?;
    }
    synchronous(patient, true).await?;
    until("no synchronous standby", PATIENCE, async || {
        let set = ["get", "endpoints", "acid-fix-sync", "--ignore-not-found"];
        let output =
            "--output=jsonpath={.metadata.annotations.leader}/{.metadata.annotations.sync_standby}";
        let set = patient.cluster.kubectl(&[&set[..], &[output]].concat()).await?.ok()?;
        Ok(if set == "acid-fix-0/" { Attempt::Done(()) } else { Attempt::NotYet(set) })
    })
    .await?;
    let printed = patient.warned(state, 2, "survivor-unhealthy").await?;
    ensure!(printed.text.contains("set numberOfInstances to 2"), "{}", printed.text);
    patient.cluster.patch(2).await?.ok()?;
    patient.cluster.unstage(1, Fault::StalledReceiver).await?;
    patient.cluster.unstage(2, Fault::StalledReceiver).await?;
    patient.settled(2).await?;
    synchronous(patient, false).await
}

async fn synchronous(patient: &Patient, on: bool) -> Result<()> {
    let patch = json!({"spec": {"patroni": {"synchronous_mode": on}}}).to_string();
    let patch = ["patch", "postgresql", "acid-fix", "--type=merge", "-p", &patch];
    patient.cluster.kubectl(&patch).await?.ok().map(drop)
}

/// A node is lost, and with it a pod that nobody can end any more.
async fn lost(patient: &Patient) -> Result<()> {
    patient.cluster.patch(3).await?.ok()?;
    patient.settled(3).await?;
    patient.cluster.stage(2, Fault::NodeLost).await?;
    let printed = patient.warned("a lost node", 2, "acid-fix-2").await?;
    ensure!(printed.text.contains("set numberOfInstances to 2"), "{}", printed.text);
    let set = ["set", "acid-fix", "2", "--yes", "--timeout", STUCK];
    let said = patient.cluster.pgscale(&set).await?;
    ensure!(said.code == Some(4), "a pod on a lost node has ended: {said:?}");
    let printed = patient.why("a pod that nobody ends").await?;
    patient.take(&printed, "delete pod acid-fix-2", &[]).await?;
    patient.settled(2).await?;
    patient.cluster.unstage(2, Fault::NodeLost).await
}

async fn leader(scene: Scene) -> Result<()> {
    let patient = Patient::of(scene, 3).await?;
    paused(&patient).await.context("paused")?;
    dead(&patient).await.context("dead")?;
    frozen(&patient).await.context("frozen")?;
    claim(&patient).await.context("claim")
}

/// Patroni is paused, and the leader has gone: nobody takes over.
async fn paused(patient: &Patient) -> Result<()> {
    let state = "Patroni paused, and the leader gone";
    let cluster = &patient.cluster;
    patient.scene.bed.kubelet().pause(&cluster.namespace, &cluster.name).await?;
    patient.cluster.stage(0, Fault::StoppedPatroni).await?;
    until("the leader lock to expire", PATIENCE, async || {
        let planned = patient.plan(2).await?;
        let expired = planned.stdout.contains("no-leader");
        Ok(if expired { Attempt::Done(()) } else { Attempt::NotYet(planned.stdout) })
    })
    .await?;
    let printed = patient.refused(state, 2, "paused").await?;
    patient.take(&printed, "exec", &[]).await?;
    until("another leader", PATIENCE, async || {
        let leader = cluster.leader().await;
        Ok(match leader {
            Ok(_) => Attempt::Done(()),
            Err(error) => Attempt::NotYet(format!("{error:#}")),
        })
    })
    .await?;
    patient.cluster.unstage(0, Fault::StoppedPatroni).await?;
    patient.settled(3).await
}

/// The node of the leader is lost: another takes over, and the pod of the old one still says that it leads.
async fn dead(patient: &Patient) -> Result<()> {
    patient.cluster.move_leader_to(2).await?;
    patient.cluster.stage(2, Fault::NodeLost).await?;
    let candidate = until("an heir", PATIENCE, async || {
        Ok(match patient.cluster.leader().await {
            Ok(leader) if leader.ordinal != 2 => Attempt::Done(leader.ordinal),
            other => Attempt::NotYet(format!("{other:?}")),
        })
    })
    .await?;
    ensure!(candidate < 2, "-{candidate} leads");
    let printed = patient.refused("a dead leader", 2, "no-leader").await?;
    patient.take(&printed, "delete pod acid-fix-2", &[]).await?;
    patient.settled(3).await?;
    patient.cluster.unstage(2, Fault::NodeLost).await
}

/// The leader is on the highest ordinal, and -0 looks alive and is not.
async fn frozen(patient: &Patient) -> Result<()> {
    patient.cluster.patch(4).await?.ok()?;
    patient.settled(4).await?;
    patient.cluster.move_leader_to(3).await?;
    patient.cluster.stage(0, Fault::FrozenPatroni).await?;
    let printed = patient.refused("a frozen -0", 2, "leader-condemned").await?;
    let how = ["--yes", "--timeout", "4m"];
    patient.take(&printed, "pgscale down acid-fix --to 3", &how).await?;
    patient.cluster.unstage(0, Fault::FrozenPatroni).await?;
    patient.settled(3).await
}

/// The volume claim of a member is being deleted while it runs on it.
async fn claim(patient: &Patient) -> Result<()> {
    let cluster = &patient.cluster;
    cluster.move_leader_to(0).await?;
    let claim = ["delete", "pvc", "pgdata-acid-fix-2", "--wait=false"];
    cluster.kubectl(&claim).await?.ok()?;
    let printed = patient.warned("a volume that is being deleted", 2, "Allowed").await?;
    ensure!(printed.text.contains("set numberOfInstances to 2"), "{}", printed.text);
    cluster.patch(2).await?.ok()?;
    patient.settled(2).await?;
    cluster.patch(3).await?.ok()?;
    patient.settled(3).await
}
