//! Counts that are declared and not applied: a quota has no room, the operator is down or has its
//! own limits, a policy was tightened, or the cluster is scaled to zero.

use anyhow::{Context as _, Result, ensure};
use pgscale_tests::cluster::TIMEOUT;
use pgscale_tests::operator::Settings;
use pgscale_tests::stage::Fault;
use pgscale_tests::wait::{Attempt, until};
use serde_json::json;

use super::BrokenCluster;
use super::growth::GIVEN_UP;
use crate::trial::{Case, TestCtx, case};

pub(super) fn cases() -> Vec<Case> {
    vec![case("ways_out::printed_commands_repair_a_count_that_is_not_applied", counts)]
}

async fn counts(ctx: TestCtx) -> Result<()> {
    let broken = BrokenCluster::of(ctx, 3).await?;
    quota(&broken).await.context("quotas")?;
    broken.cluster.patch(3).await?.ok()?;
    broken.settled(3).await?;
    let operator = broken.ctx.bed.operator();
    operator.lock().await.stop().await?;
    let cancelled = unapplied(&broken).await;
    // Other tests need the operator, also after a failure of this one.
    let few = Settings { max_instances: 2, ..Settings::default() };
    operator.lock().await.start(&few).await?;
    let limited = match cancelled {
        Ok(()) => over_the_limit(&broken).await.context("over the operator's limit"),
        failed @ Err(_) => failed,
    };
    operator.lock().await.start(&Settings::default()).await?;
    limited?;
    bounds(&broken).await.context("a policy that came later")?;
    asleep(&broken).await.context("asleep")
}

/// A quota that blocks the change, and one that is lowered during the change.
async fn quota(broken: &BrokenCluster) -> Result<()> {
    let quota = |pods: &str| {
        json!({
            "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "pods"},
            "spec": {"hard": {"pods": pods}},
        })
    };
    broken.write(&quota("4")).await?;
    used(broken).await?;
    let state = "a quota with room for one of two";
    let printed = broken.refused(state, 5, "quota-headroom").await?;
    broken.run_printed(&printed, "pgscale up acid-fix --to 4", &["--timeout", "4m"]).await?;
    broken.settled(4).await?;

    let operator = broken.ctx.bed.operator();
    operator.lock().await.stop().await?;
    let changed = async {
        broken.write(&quota("5")).await?;
        broken.cluster.patch(5).await?.ok()?;
        broken.write(&quota("4")).await
    };
    let changed = changed.await;
    operator.lock().await.start(&Settings::default()).await?;
    changed?;
    until("the StatefulSet to ask for five", TIMEOUT, async || {
        let replicas = broken.cluster.replicas().await?;
        Ok(if replicas == 5 { Attempt::Done(()) } else { Attempt::NotYet(replicas.to_string()) })
    })
    .await?;
    let printed = broken.refused("a quota that was lowered meanwhile", 6, GIVEN_UP).await?;
    broken.back_to(&printed, 4).await?;
    broken.cluster.kubectl(&["delete", "resourcequota", "pods"]).await?.ok()?;
    Ok(())
}

/// Waits until the quota counts the pods.
async fn used(broken: &BrokenCluster) -> Result<()> {
    until("the quota to count", TIMEOUT, async || {
        let output = "--output=jsonpath={.status.used.pods}";
        let used = broken.cluster.kubectl(&["get", "resourcequota", "pods", output]).await?.ok()?;
        Ok(if used.is_empty() { Attempt::NotYet("nothing".into()) } else { Attempt::Done(()) })
    })
    .await
}

/// The operator is stopped. A change that it has not applied can be taken back.
async fn unapplied(broken: &BrokenCluster) -> Result<()> {
    const RULE: &str = "change-not-applied";
    broken.cluster.patch(2).await?.ok().context("the leader is on 0 and all are healthy")?;
    let printed = broken.refused("a shrink that was not applied", 1, RULE).await?;
    broken.back_to(&printed, 3).await?;

    broken.cluster.patch(5).await?.ok()?;
    let stuck = json!({"status": {"PostgresClusterStatus": "Updating"}}).to_string();
    let status =
        ["patch", "postgresql", "acid-fix", "--subresource=status", "--type=merge", "-p", &stuck];
    broken.cluster.kubectl(&status).await?.ok()?;
    let state = "growth that was not applied, and the status Updating for ever";
    let printed = broken.warned(state, 6, RULE).await?;
    broken.back_to(&printed, 3).await?;
    ensure!(
        broken.cluster.replicas().await? == 3,
        "the operator was stopped, and the count was applied"
    );
    Ok(())
}

/// The operator starts again with a limit below the declared count.
async fn over_the_limit(broken: &BrokenCluster) -> Result<()> {
    until("the operator to apply its limit", TIMEOUT, async || {
        let replicas = broken.cluster.replicas().await?;
        Ok(if replicas == 2 { Attempt::Done(()) } else { Attempt::NotYet(replicas.to_string()) })
    })
    .await?;
    let state = "a count over the operator's limit";
    let printed = broken.refused(state, 4, "operator-limits").await?;
    broken.back_to(&printed, 2).await
}

/// The cluster existed before the bounds of the policy.
async fn bounds(broken: &BrokenCluster) -> Result<()> {
    broken.policy(Some(json!({"min": 3}))).await?;
    let printed = broken.refused("a count below the policy's minimum", 1, "below-min").await?;
    broken.back_to(&printed, 3).await?;
    broken.policy(Some(json!({"max": 2}))).await?;
    let printed = broken.refused("a count over the policy's maximum", 4, "above-max").await?;
    broken.back_to(&printed, 2).await?;
    broken.policy(None).await
}

/// No instance runs, and not every count would mount the newest data.
async fn asleep(broken: &BrokenCluster) -> Result<()> {
    let cluster = &broken.cluster;
    cluster.move_leader_to(1).await?;
    // Otherwise -0 leads last: pods end one by one, the highest ordinal first.
    broken.cluster.stage(0, Fault::NoFailover).await?;
    cluster.sql(1, "CREATE TABLE seen AS SELECT 'the newest' AS row").await?;
    broken
        .write(&json!({
            "apiVersion": "pgscale.dev/v1alpha1", "kind": "ScalePolicy",
            "metadata": {"name": "bounds"},
            "spec": {"instances": {"zero": "Allow"}, "rules": {"last-to-stop": "Warn"}},
        }))
        .await?;
    let whole = format!("--confirm={}/{}", cluster.namespace, cluster.name);
    cluster.pgscale(&["set", &cluster.name, "0", &whole, "--timeout", "4m"]).await?.ok()?;
    broken.policy(None).await?;
    broken.cluster.unstage(0, Fault::NoFailover).await?;
    let printed = broken.refused("no instances", 1, "return-from-zero").await?;
    broken.back_to(&printed, 2).await?;
    let row = cluster.sql(cluster.leader().await?.ordinal, "SELECT row FROM seen").await?;
    ensure!(row == "the newest", "the cluster started from older data: {row:?}");
    Ok(())
}
