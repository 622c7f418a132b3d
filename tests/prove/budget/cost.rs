//! The time that a budget adds to an edit.

use std::sync::Arc;

use anyhow::{Result, ensure};
use pgscale_tests::budget::Field;
use pgscale_tests::budget::edits::{self, Answer};
use pgscale_tests::guarding;
use pgscale_tests::progress::say;
use pgscale_tests::replicas::{Replicas, SEEN};
use pgscale_tests::trial::TestCtx;
use tokio::time::sleep;

use super::REPLICAS;
use crate::document::{Budgeted, Proof};

/// The edits at once. All of them fit.
const AT_ONCE: usize = 50;
const ROUNDS: usize = 6;
/// Rounds of one edit after another.
const ALONE: usize = 4;

/// Times edits one by one with and without a budget, and at once.
pub(crate) async fn run(ctx: TestCtx, proof: Arc<Proof>) -> Result<()> {
    guarding::webhook(&ctx).await?;
    let mut replicas = Replicas::new(&ctx).await?;
    let field = Field::stage(&ctx, AT_ONCE, i64::try_from(AT_ONCE)?).await?;
    field.loosen().await?;
    let mut running = Vec::new();
    for _ in 0..REPLICAS {
        running.push(replicas.start().await?);
    }
    replicas.register(&[&replicas.authority]).await?;
    sleep(SEEN).await;
    proof.budgeted(alone(&field, &ctx, "pgscale, one edit after another").await?);
    let mut together = Budgeted {
        who: "pgscale, 50 edits at once that all fit",
        budget: field.budget,
        ..Budgeted::default()
    };
    for _ in 0..ROUNDS {
        for (answer, took) in field.raise_all().await {
            ensure!(answer == Answer::Admitted, "{answer:?} to an edit that fits");
            together.count(&answer, took);
        }
        together.most = together.most.max(field.stored().await?);
        field.settled().await?;
        field.lower_all().await?;
    }
    say(&format!("  {together}"));
    proof.budgeted(together);
    field.without_budget().await?;
    sleep(SEEN * 2).await;
    let without = alone(&field, &ctx, "pgscale, the same without a budget").await?;
    proof.budgeted(without);
    replicas.deregister().await?;
    for replica in running {
        replica.leave().await?;
    }
    Ok(())
}

async fn alone(field: &Field, ctx: &TestCtx, who: &'static str) -> Result<Budgeted> {
    let clusters = field.api(ctx.bed.client());
    let mut outcome = Budgeted { who, budget: field.budget, ..Budgeted::default() };
    for _ in 0..ALONE {
        for number in 0..field.clusters {
            let (answer, took) = edits::set(&clusters, number, 2).await;
            ensure!(answer == Answer::Admitted, "{answer:?} to an edit that fits");
            outcome.count(&answer, took);
        }
        outcome.most = outcome.most.max(field.stored().await?);
        field.lower_all().await?;
    }
    Ok(outcome)
}
