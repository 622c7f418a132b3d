//! The floor that the API server holds itself.

use anyhow::{Context as _, Result, ensure};
use pgscale_tests::progress::say;
use pgscale_tests::proof::floor::agree;
use serde_json::json;

use super::{Idle as _, ensure_refused, to};
use crate::guarding;
use crate::trial::{Case, TestCtx, case};

/// The number of generated writes. `prove` has more.
const WRITES: usize = 2_000;
const SEED: u64 = 4393;

pub(super) fn cases() -> Vec<Case> {
    vec![
        case("admission::the_floor_holds_while_no_webhook_answers", away),
        case("admission::the_api_server_and_the_guard_agree_on_the_floor", agreed),
    ]
}

async fn agreed(ctx: TestCtx) -> Result<()> {
    // The chart brings the floor. The namespace is not guarded: the API server answers alone.
    guarding::webhook(&ctx).await?;
    let agreement = agree(&ctx, WRITES, SEED).await?;
    say(&format!("  {agreement:?}"));
    Ok(())
}

async fn away(ctx: TestCtx) -> Result<()> {
    let webhook = ctx.set().await?;
    let floor = json!({"spec": {"floor": {"min": 2, "max": 7}}}).to_string();
    ctx.run(&["patch", "scalepolicy", "production", "--type=merge", "-p", &floor]).await?.ok()?;
    webhook.stop().await?;
    let judged = async {
        ctx.patch(&to(4)).await?.ok().context("growth goes on")?;
        let beyond = ctx.patch(&to(99)).await?;
        ensure!(beyond.code == Some(1), "the floor was passed: {beyond:?}");
        for words in
            ["outside-floor", "99 asked for", "7 is the most", "scalepolicy/production: floor.max"]
        {
            ensure!(beyond.stderr.contains(words), "{words:?} is not in {beyond:?}");
        }
        let printed = format!("kubectl pgscale set acid-idle 7 -n {}", ctx.namespace);
        ensure!(beyond.stderr.contains(&printed), "no command that helps in {beyond:?}");
        let shrink = ctx.patch(&to(3)).await?;
        let failed = shrink.stderr.contains("failed calling webhook \"shrink.pgscale.dev\"");
        ensure!(shrink.code == Some(1) && failed, "no webhook could check this: {shrink:?}");
        anyhow::Ok(())
    };
    let judged = judged.await;
    webhook.run().await?;
    judged?;
    let below = ctx.patch(&to(1)).await?;
    ensure_refused("below the floor", &below, "outside-floor")
}
