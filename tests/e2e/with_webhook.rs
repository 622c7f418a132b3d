//! The same stages with the webhook: it refuses, or nothing is lost. `operator_only` shows each
//! stage without it.

use anyhow::{Result, ensure};
use pgscale_tests::cluster::{Cluster, quick};
use pgscale_tests::stage::Fault;
use pgscale_tests::writer::Writer;
use serde_json::json;

use crate::guarding;
use crate::suggested;
use crate::trial::{Case, TestCtx, case};
use crate::writing::{PAUSE, Record, acknowledged, finish};

const WARM: usize = 100;

pub(crate) fn cases() -> Vec<Case> {
    [
        case("with_webhook::a_plain_patch_passes_after_the_printed_switchover", healthy),
        case("with_webhook::a_shrink_to_stalled_survivors_is_refused_and_4_is_allowed", stalled),
        case("with_webhook::a_shrink_while_paused_with_0_nofailover_is_refused", paused),
        case(
            "with_webhook::a_shrink_with_0_frozen_is_refused_and_the_plugin_moves_the_leader",
            frozen,
        ),
    ]
    .map(Case::beside_others)
    .into()
}

/// Returns a guarded cluster of five members that ordinal 4 leads.
async fn five(ctx: &TestCtx) -> Result<Cluster> {
    let TestCtx { bed, namespace } = ctx;
    guarding::guarded(ctx).await?;
    let cluster = Cluster::create(bed, namespace, "acid-safe", 5, quick()).await?;
    cluster.move_leader_to(4).await?;
    Ok(cluster)
}

async fn writing(ctx: &TestCtx, cluster: &Cluster) -> Result<Writer> {
    let writer = Writer::start(ctx.bed.client(), &cluster.namespace, &cluster.name).await?;
    acknowledged(&writer, WARM).await?;
    Ok(writer)
}

/// Ends the writer and checks that no acknowledged row is missing.
async fn nothing_lost(writer: Writer) -> Result<Record> {
    acknowledged(&writer, WARM).await?;
    let record = finish(writer).await?;
    ensure!(record.missing == 0, "{record:?}");
    Ok(record)
}

/// Checks also that writes stopped no longer than for a planned move of the leader.
async fn hardly_paused(writer: Writer) -> Result<()> {
    let record = nothing_lost(writer).await?;
    ensure!(record.longest_gap < PAUSE, "{record:?}");
    Ok(())
}

async fn healthy(ctx: TestCtx) -> Result<()> {
    let cluster = five(&ctx).await?;
    let writer = writing(&ctx, &cluster).await?;
    let said = cluster.patch(2).await?;
    ensure!(said.code == Some(1) && said.stderr.contains("leader-condemned"), "{said:?}");
    suggested::run(&cluster, &said.stderr, "pgscale switchover acid-safe --for 2", &[]).await?;
    let leader = cluster.leader().await?.ordinal;
    ensure!(leader < 2 && cluster.declared().await? == 5, "{leader} leads");
    // The switchover ended because this patch is admitted, so the test does not wait.
    cluster.patch(2).await?.ok()?;
    cluster.converged(2).await?;
    hardly_paused(writer).await
}

async fn stalled(ctx: TestCtx) -> Result<()> {
    let cluster = five(&ctx).await?;
    for ordinal in [0, 1] {
        cluster.stage(ordinal, Fault::StalledReceiver).await?;
    }
    let writer = writing(&ctx, &cluster).await?;

    let plain = cluster.patch(2).await?;
    ensure!(plain.code == Some(1) && plain.stderr.contains("leader-condemned"), "{plain:?}");
    ensure!(plain.stderr.contains("too-few-healthy-survivors"), "{plain:?}");
    let planned = cluster.pgscale(&["down", &cluster.name, "--to", "2", "--yes"]).await?;
    ensure!(planned.code == Some(3), "{planned:?}");
    ensure!(cluster.declared().await? == 5 && cluster.replicas().await? == 5, "something changed");
    ensure!(cluster.leader().await?.ordinal == 4, "the leader moved although the plan was refused");

    let alternative = cluster.pgscale(&["down", &cluster.name, "--to", "4", "--yes"]).await?;
    ensure!(alternative.code == Some(0), "{alternative:?}");
    let leader = cluster.leader().await?.ordinal;
    ensure!(leader == 2 || leader == 3, "{leader} leads");
    ensure!(cluster.declared().await? == 4 && cluster.replicas().await? == 4, "{alternative:?}");
    hardly_paused(writer).await
}

async fn paused(ctx: TestCtx) -> Result<()> {
    let cluster = five(&ctx).await?;
    cluster.stage(0, Fault::NoFailover).await?;
    ctx.bed.kubelet().pause(&ctx.namespace, &cluster.name).await?;
    let writer = writing(&ctx, &cluster).await?;
    let said = cluster.patch(2).await?;
    ensure!(said.code == Some(1), "{said:?}");
    for rule in ["leader-condemned", "paused", "leader-cannot-move"] {
        ensure!(said.stderr.contains(rule), "{rule} is missing: {said:?}");
    }
    ensure!(cluster.declared().await? == 5, "refused, and changed all the same");
    hardly_paused(writer).await
}

async fn frozen(ctx: TestCtx) -> Result<()> {
    let cluster = five(&ctx).await?;
    // A frozen Patroni cannot report that the member follows the new leader. The member would count
    // as not yet built.
    cluster.reported().await?;
    cluster.stage(0, Fault::FrozenPatroni).await?;
    let writer = writing(&ctx, &cluster).await?;
    let said = cluster.patch(3).await?;
    ensure!(said.code == Some(1) && said.stderr.contains("leader-condemned"), "{said:?}");
    // The field manager that the plugin uses when it has its write judged means nothing for a write
    // that is stored.
    let patch = json!({"spec": {"numberOfInstances": 3}}).to_string();
    let manager = "--field-manager=pgscale-after-switchover";
    let named = ["patch", "postgresql", &cluster.name, "--type=merge", manager, "-p", &patch];
    let said = cluster.kubectl(&named).await?;
    ensure!(said.code == Some(1) && said.stderr.contains("leader-condemned"), "{said:?}");
    ensure!(cluster.declared().await? == 5, "refused, and changed all the same");

    let moved =
        cluster.pgscale(&["down", &cluster.name, "--to", "3", "--yes", "--timeout", "4m"]).await?;
    let leader = cluster.leader().await?.ordinal;
    ensure!(leader == 1 || leader == 2, "{leader} leads: {moved:?}");
    ensure!(moved.code == Some(0) && cluster.declared().await? == 3, "{moved:?}");
    hardly_paused(writer).await
}
