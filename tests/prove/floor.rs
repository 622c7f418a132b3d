//! Very many generated writes, judged by the API server's own floor and by the guard.

use anyhow::Result;
use pgscale_tests::guarding;
use pgscale_tests::progress::say;
use pgscale_tests::proof::floor::agree;
use pgscale_tests::trial::{Case, TestCtx, case};
use std::time::Duration;

/// The number of writes.
const WRITES: usize = 100_000;
/// The limit: the API server takes about 8 ms of a core for each.
const LIMIT: Duration = Duration::from_secs(3600);

pub(crate) fn parts(seed: u64) -> Vec<Case> {
    let name = "floor::the_api_server_and_the_guard_agree";
    vec![case(name, move |ctx| agreed(ctx, seed)).within(LIMIT)]
}

async fn agreed(ctx: TestCtx, seed: u64) -> Result<()> {
    guarding::webhook(&ctx).await?;
    let agreement = agree(&ctx, WRITES, seed).await?;
    say(&format!("  {agreement:?}"));
    Ok(())
}
