//! `kubectl pgscale down` from 5 to 2 on every stage that is known to end badly for the operator
//! alone, and on harmless ones. The program `prove` records what the operator alone does there.
//!
//! The stages share one cluster. A test that passes leaves it with five healthy members.

use anyhow::Result;
use pgscale_tests::progress::say;
use pgscale_tests::proof::stages::{self, STAGES, Stage};

use crate::pool::Pool;
use crate::trial::{Case, TestCtx, case};

static POOL: Pool = Pool::new("stages", "acid-plain", stages::BEFORE);

pub(crate) fn cases() -> Vec<Case> {
    STAGES.iter().map(|stage| case(stage.name, |ctx| scaled(ctx, stage))).collect()
}

async fn scaled(ctx: TestCtx, stage: &Stage) -> Result<()> {
    let (cluster, _) = POOL.take(&ctx.bed, async |_| Ok(())).await?;
    let writer = stage.set(&cluster).await?;
    let outcome = stage.with_plugin(&cluster, writer).await?;
    say(&format!("  kubectl pgscale {outcome}"));
    stage.lift(&cluster).await?;
    if stage.unchanged() {
        cluster.converged(stages::BEFORE).await?;
    } else {
        stages::restore(&cluster).await?;
    }
    POOL.hand_on(cluster).await;
    Ok(())
}
