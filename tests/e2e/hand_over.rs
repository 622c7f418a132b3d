//! Changes whose hand-over the operator would not make: it replaces the StatefulSet instead, or
//! reaches no member. A plain edit is refused, and the plugin moves the leader first.

use anyhow::{Context as _, Result, ensure};
use pgscale_tests::bed::Said;
use pgscale_tests::cluster::{Cluster, TIMEOUT};
use pgscale_tests::operator::Settings;
use pgscale_tests::proof::admission::{ANNOTATION, annotate, stop_annotating};
use pgscale_tests::wait::{Attempt, until};
use pgscale_tests::writer::Writer;
use serde_json::json;

use crate::guarding;
use crate::trial::{Case, TestCtx, case};
use crate::with_plugin::{self, Expected, State};
use crate::writing::acknowledged;

const NAME: &str = "acid-hand";
const WARM: usize = 100;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case(
            "hand_over::an_annotation_by_admission_is_named_and_the_plugin_moves_the_leader",
            annotated,
        ),
        case("hand_over::an_operator_that_reaches_no_member_never_deletes_the_leader", unreachable),
    ]
}

/// Waits until a plain patch to `to` is refused because the leader would be deleted, with `mention`
/// in the answer. A patch changes nothing.
async fn refused(cluster: &Cluster, to: u32, mention: &str) -> Result<Said> {
    let before = State::of(cluster).await?;
    let said = until(&format!("a refusal with {mention:?}"), TIMEOUT, async || {
        let said = cluster.patch(to.into()).await?;
        ensure!(
            said.code == Some(1) && said.stderr.contains("- leader-condemned: "),
            "{to} was not refused for the leader: {said:?}"
        );
        let named = said.stderr.contains(mention);
        Ok(if named { Attempt::Done(said) } else { Attempt::NotYet(said.stderr) })
    })
    .await?;
    let after = State::of(cluster).await?;
    ensure!(after == before, "refused, but changed: {before:?}, then {after:?}");
    Ok(said)
}

/// The leader is on 2. Checks that a plain edit is refused, and that the plugin scales to 2.
async fn moved_first(ctx: &TestCtx, cluster: &Cluster, mention: &str) -> Result<()> {
    cluster.move_leader_to(2).await?;
    let writer = Writer::start(ctx.bed.client(), &cluster.namespace, NAME).await?;
    acknowledged(&writer, WARM).await?;
    refused(cluster, 2, mention).await?;
    with_plugin::down(cluster, writer, 2, Expected::Shrinks).await?;
    Ok(())
}

async fn annotated(ctx: TestCtx) -> Result<()> {
    annotate(&ctx.bed, &ctx.namespace).await?;
    let tried = named(&ctx).await;
    stop_annotating(&ctx.bed, &ctx.namespace).await?;
    tried
}

async fn named(ctx: &TestCtx) -> Result<()> {
    guarding::guarded(ctx).await?;
    let cluster = Cluster::create(&ctx.bed, &ctx.namespace, NAME, 3, json!({})).await?;
    moved_first(ctx, &cluster, ANNOTATION).await?;
    // The operator replaces the StatefulSet at every change, and so it does at the next one.
    guarding::admitted(&cluster, 3).await?;
    cluster.converged(3).await?;
    moved_first(ctx, &cluster, ANNOTATION).await.context("the second time")
}

async fn unreachable(ctx: TestCtx) -> Result<()> {
    guarding::guarded(&ctx).await?;
    let cluster = Cluster::create(&ctx.bed, &ctx.namespace, NAME, 3, json!({})).await?;
    let cut_off = Settings { cut_off: true, ..Settings::default() };
    ctx.bed.operator().lock().await.start(&cut_off).await?;
    let tried = moved_first(&ctx, &cluster, "leader-condemned").await;
    // Other tests expect the default, also after a failure of this one.
    ctx.bed.operator().lock().await.start(&Settings::default()).await?;
    tried
}
