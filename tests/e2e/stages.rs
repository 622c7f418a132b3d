//! `kubectl pgscale down` from 5 to 2 on every stage that is known to end badly for the operator
//! alone, and on harmless ones. The program `prove` records what the operator alone does there.
//!
//! The stages share one cluster. A test that passes leaves it with five healthy members.

use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, DeleteParams};
use pgscale_tests::progress::say;
use pgscale_tests::proof::stages::{self, STAGES, Stage};

use serde_json::json;

use crate::pool::Pool;
use crate::trial::{Case, TestCtx, case};

// With Patroni's own times: what the stages show is promised for them.
static POOL: Pool = Pool::new("stages", "acid-plain", stages::BEFORE, || json!({}));
/// The number of stages that have not begun. After the last one nothing needs the cluster.
static LEFT: AtomicUsize = AtomicUsize::new(STAGES.len());

pub(crate) fn cases() -> Vec<Case> {
    let stage = |stage: &'static Stage| case(stage.name, |ctx| scaled(ctx, stage));
    STAGES.iter().map(stage).map(Case::beside_others).collect()
}

async fn scaled(ctx: TestCtx, stage: &Stage) -> Result<()> {
    let turn = POOL.take(&ctx.bed, async |_| Ok(())).await?;
    let last = LEFT.fetch_sub(1, Ordering::Relaxed) == 1;
    let cluster = &turn.cluster;
    let writer = stage.set(cluster).await?;
    let outcome = stage.with_plugin(cluster, writer).await?;
    say(&format!("  {}: {outcome}", stage.words));
    stage.lift(cluster).await?;
    if last {
        let namespaces = Api::<Namespace>::all(ctx.bed.client());
        let deleted = namespaces.delete(&cluster.namespace, &DeleteParams::default()).await;
        return deleted.map(drop).context("failed to delete the namespace of the stages");
    }
    if stage.unchanged() {
        cluster.converged(stages::BEFORE).await?;
    } else {
        stages::restore(cluster).await?;
    }
    turn.hand_on();
    Ok(())
}
