//! Work that must not be disturbed and can be given up. `ways_out` has the other cases.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use pgscale_tests::cluster::{Cluster, quick};

use crate::cloning::{self, SLOW};
use crate::guarding;
use crate::trial::{Case, TestCtx, case};

/// The time after a member streams in which a refusal is still right: Patroni and the webhook have
/// to see it too.
const SOON: Duration = Duration::from_secs(60);

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case(
            "repairs::during_a_base_backup_only_the_unfinished_member_can_be_removed",
            base_backup,
        )
        .beside_others(),
    ]
}

async fn guarded(ctx: &TestCtx, instances: u32) -> Result<Cluster> {
    guarding::guarded(ctx).await?;
    Cluster::create(&ctx.bed, &ctx.namespace, "acid-fix", instances, quick()).await
}

async fn base_backup(ctx: TestCtx) -> Result<()> {
    let cluster = guarded(&ctx, 3).await?;
    let kubelet = ctx.bed.kubelet();
    let newest = cluster.pod_name(3);
    kubelet.stage(&ctx.namespace, &newest, SLOW).await?;
    guarding::admitted(&cluster, 4).await?;
    cloning::runs(&cluster, 3).await?;

    let up = cluster.patch(5).await?;
    ensure!(up.code == Some(1) && up.stderr.contains("rebuild-in-progress"), "{up:?}");
    ensure!(up.stderr.contains(&newest), "the member is not named: {up:?}");

    let back = guarding::admitted(&cluster, 3).await?;
    ensure!(back.stderr.contains("rebuild-in-progress"), "{back:?}");
    cluster.converged(3).await?;

    // The opposite case: a survivor is being rebuilt and a healthy member would be removed.
    kubelet.unstage(&ctx.namespace, &newest, SLOW).await?;
    guarding::admitted(&cluster, 4).await.context("a healthy cluster may grow")?;
    cluster.converged(4).await?;
    // A busy machine may have moved the leader meanwhile, and Patroni rebuilds no leader.
    cluster.move_leader_to(0).await?;
    let rebuilt = cluster.pod_name(2);
    kubelet.stage(&ctx.namespace, &rebuilt, SLOW).await?;
    kubelet.reinitialize(&ctx.namespace, &rebuilt).await?;
    cloning::runs(&cluster, 2).await?;
    let down = cluster.patch(3).await?;
    ensure!(down.code == Some(1) && down.stderr.contains("rebuild-in-progress"), "{down:?}");
    ensure!(down.stderr.contains(&rebuilt), "the member is not named: {down:?}");
    let planned = cluster.pgscale(&["down", &cluster.name, "--to", "3", "--yes"]).await?;
    ensure!(planned.code == Some(3), "{planned:?}");

    kubelet.unstage(&ctx.namespace, &rebuilt, SLOW).await?;
    cluster.converged(4).await?;
    // Both directions are allowed soon after the member first reports that it streams.
    for count in [5, 3] {
        guarding::admissible(&cluster, count, SOON).await.context("once the member streams")?;
    }
    guarding::admitted(&cluster, 3).await?;
    cluster.converged(3).await?;
    Ok(())
}
