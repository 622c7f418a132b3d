//! New members that do not start, and the return to the old count.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::{Pod, PodCondition};
use pgscale_tests::cluster::TIMEOUT;
use pgscale_tests::stage::Fault;
use pgscale_tests::wait::{Attempt, until};

use super::BrokenCluster;
use crate::cloning;
use crate::trial::{Case, TestCtx, case};

pub(super) const GIVEN_UP: &str = "rebuild-in-progress";

pub(super) fn cases() -> Vec<Case> {
    vec![case("ways_out::failed_growth_can_be_reverted", growth).beside_others()]
}

async fn growth(ctx: TestCtx) -> Result<()> {
    let broken = BrokenCluster::of(ctx, 3).await?;
    for (state, fault) in [
        ("a pod that finds no node", Fault::Unschedulable),
        ("a base backup that fails for ever", Fault::FailingBaseBackup),
        ("an image that cannot be pulled", Fault::ImageUnavailable),
        ("a container that crashes over and over", Fault::Crashing),
    ] {
        given_up(&broken, state, fault).await.context(state)?;
    }
    two_at_once(&broken).await.context("two at once")
}

/// The fourth member never starts: a refusal of a fifth member prints how to give up the fourth.
async fn given_up(broken: &BrokenCluster, state: &str, fault: Fault) -> Result<()> {
    broken.cluster.stage(3, fault).await?;
    broken.cluster.patch(4).await?.ok()?;
    until("the new member to be in trouble", TIMEOUT, async || {
        let pods = broken.cluster.pods().await?;
        Ok(match pods.get(3) {
            Some(pod) if in_trouble(pod, fault) => Attempt::Done(()),
            other => Attempt::NotYet(format!("{:?}", other.map(|pod| &pod.status))),
        })
    })
    .await?;
    if fault == Fault::FailingBaseBackup {
        cloning::fails(broken.ctx.bed.kubelet(), &broken.ctx.namespace, "acid-fix-3").await?;
    }
    let printed = broken.refused(state, 5, GIVEN_UP).await?;
    broken.back_to(&printed, 3).await?;
    broken.cluster.unstage(3, fault).await
}

/// Returns whether `pod` shows this fault.
fn in_trouble(pod: &Pod, fault: Fault) -> bool {
    let status = pod.status.as_ref();
    let waits = |reason: &str| {
        let containers = status.and_then(|status| status.container_statuses.as_deref());
        containers.unwrap_or_default().iter().any(|container| {
            let waiting = container.state.as_ref().and_then(|state| state.waiting.as_ref());
            waiting.is_some_and(|waiting| waiting.reason.as_deref() == Some(reason))
        })
    };
    let unscheduled =
        |condition: &PodCondition| condition.type_ == "PodScheduled" && condition.status == "False";
    if fault == Fault::Unschedulable {
        let conditions = status.and_then(|status| status.conditions.as_deref());
        conditions.unwrap_or_default().iter().any(unscheduled)
    } else if fault == Fault::ImageUnavailable {
        waits("ImagePullBackOff")
    } else if fault == Fault::Crashing {
        waits("CrashLoopBackOff")
    } else {
        status.is_some_and(|status| status.phase.as_deref() == Some("Running"))
    }
}

/// Two members cannot start again.
async fn two_at_once(broken: &BrokenCluster) -> Result<()> {
    const FAULT: Fault = Fault::ImageUnavailable;
    broken.cluster.patch(4).await?.ok()?;
    broken.settled(4).await?;
    for ordinal in [2, 3] {
        broken.cluster.stage(ordinal, FAULT).await?;
    }
    broken.cluster.kubectl(&["delete", "pod", "acid-fix-3", "acid-fix-2"]).await?.ok()?;
    until("neither of them to start", TIMEOUT, async || {
        let pods = broken.cluster.pods().await?;
        let down = |pod: &Pod| in_trouble(pod, FAULT);
        // The StatefulSet may wait for the first pod before it recreates the second.
        let done = pods.get(2).is_some_and(down) && pods.get(3).is_none_or(down);
        Ok(if done { Attempt::Done(()) } else { Attempt::NotYet(pods.len().to_string()) })
    })
    .await?;
    let printed = broken.refused("two members that do not start", 5, GIVEN_UP).await?;
    broken.back_to(&printed, 2).await?;
    for ordinal in [2, 3] {
        broken.cluster.unstage(ordinal, FAULT).await?;
    }
    ensure!(broken.cluster.leader().await?.ordinal == 0, "the leader moved");
    Ok(())
}
