//! The budget of a namespace, under many writers at once: what webhooks that only add up let
//! through, and what ours does while its replicas are killed.
//!
//! No operator owns the clusters, so an edit is nothing but a write. The whole history of what was
//! stored comes from one watch, in the order of the writes: the greatest sum in it is exact.

mod cost;
mod naive;
mod seen;
mod soak;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use pgscale_tests::budget::Field;
use pgscale_tests::budget::edits::Answer;
use pgscale_tests::guarding;
use pgscale_tests::progress::say;
use pgscale_tests::replicas::{Replicas, SEEN};
use pgscale_tests::trial::{Case, TestCtx, case};

use crate::document::{Budgeted, Proof};
use naive::Sum;

/// The replicas behind the Service.
const REPLICAS: usize = 3;
/// The edits that are made at once where nothing but the race is looked at.
const AT_ONCE: usize = 40;
/// What the budget has beyond one instance for each cluster.
const ROOM: i64 = 20;
/// How often that is done.
const ROUNDS: usize = 5;
/// The time limit of one part.
const LIMIT: Duration = Duration::from_secs(2400);

pub(crate) fn parts(proof: &Arc<Proof>, seed: u64) -> Vec<Case> {
    let (race, soak, cost) = (Arc::clone(proof), Arc::clone(proof), Arc::clone(proof));
    vec![
        case("budget::edits_at_once", move |ctx| raced(ctx, race)).within(LIMIT),
        case("budget::many_writers_and_killed_replicas", move |ctx| soak::run(ctx, soak, seed))
            .within(LIMIT),
        case("budget::what_it_costs", move |ctx| cost::run(ctx, cost)).within(LIMIT),
    ]
}

/// Races edits against webhooks that add up what they remember or list, and against ours.
async fn raced(ctx: TestCtx, proof: Arc<Proof>) -> Result<()> {
    // It installs the definitions of policies.
    guarding::webhook(&ctx).await?;
    let mut replicas = Replicas::new(&ctx).await?;
    let field = Field::stage(&ctx, AT_ONCE, ROOM).await?;
    field.loosen().await?;
    for (who, sum) in [("sum of a cache", Sum::Remembered), ("sum of a list", Sum::Listed)] {
        let servers = naive::start(&ctx, &replicas, sum, field.budget, REPLICAS).await?;
        replicas.register(&[&replicas.authority]).await?;
        tokio::time::sleep(SEEN).await;
        let outcome = rounds(&field, who).await?;
        replicas.deregister().await?;
        servers.end().await?;
        tokio::time::sleep(SEEN).await;
        proof.budgeted(outcome);
    }
    let mut ours = Vec::new();
    for _ in 0..REPLICAS {
        ours.push(replicas.start().await?);
    }
    replicas.register(&[&replicas.authority]).await?;
    tokio::time::sleep(SEEN).await;
    let outcome = rounds(&field, "pgscale").await?;
    outcome.kept()?;
    proof.budgeted(outcome);
    replicas.deregister().await?;
    for replica in ours {
        replica.leave().await?;
    }
    Ok(())
}

/// Raises every cluster at once, several times, and returns the worst of it.
async fn rounds(field: &Field, who: &'static str) -> Result<Budgeted> {
    let mut outcome = Budgeted { who, budget: field.budget, ..Budgeted::default() };
    for _ in 0..ROUNDS {
        let answers = field.raise_all().await;
        for (answer, took) in answers {
            outcome.count(&answer, took);
            if let Answer::Other(error) = answer {
                bail!("{who}: {error}");
            }
        }
        outcome.most = outcome.most.max(field.stored().await?);
        field.settled().await?;
        field.lower_all().await?;
    }
    say(&format!("  {outcome}"));
    Ok(outcome)
}
