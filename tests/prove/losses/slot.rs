//! A logical slot that is made just before the leader moves: a consumer may miss changes that it
//! had not read.

use anyhow::{Context as _, Result, ensure};
use hyper::Method;
use pgscale_tests::cluster::{Cluster, TIMEOUT};
use pgscale_tests::guarding;
use pgscale_tests::patroni::rest;
use pgscale_tests::progress::say;
use pgscale_tests::proof::{Outcome, answered};
use pgscale_tests::slots;
use pgscale_tests::trial::TestCtx;
use pgscale_tests::wait::{Attempt, until};
use pgscale_tests::writing::{finish, finish_with_any_loss};
use serde_json::json;

use super::{DEADLINE, Staged};
use crate::document::Row;

/// The number of changes that no consumer has read when the leader moves.
const CHANGES: u32 = 100;

pub(super) async fn made(ctx: TestCtx) -> Result<Row> {
    let spec = json!({"postgresql": {"parameters": {"wal_level": "logical"}}});
    let cluster = Cluster::create(&ctx.bed, &ctx.namespace, super::NAME, 3, spec).await?;
    let staged = Staged { ctx, cluster };
    let cluster = &staged.cluster;
    cluster.move_leader_to(2).await?;
    cluster.sql(2, "CREATE TABLE changed (row int)").await?;
    cluster.sql(2, "CREATE PUBLICATION changes FOR TABLE changed").await?;

    let webhook = guarding::guarded(&staged.ctx).await?;
    let writer = staged.writing().await?;
    unread(cluster, "guarded").await?;
    let answered = answered(cluster, 2).await?;
    say(&format!("  a plain edit: {answered}"));
    let down = ["down", super::NAME, "--to", "2", "--yes", "--timeout", "4m"];
    cluster.pgscale(&down).await?.ok().context("kubectl pgscale down")?;
    let leader = cluster.leader().await?.ordinal;
    let what = format!(
        "moves the leader to -{leader} once it holds the slot, then shrinks; {} of {CHANGES} \
         changes reach the consumer",
        delivered(cluster, leader, "guarded").await?
    );
    let with_plugin = Outcome { what, record: finish(writer).await? };
    say(&format!("  kubectl pgscale: {with_plugin}"));
    webhook.unguard(&staged.ctx.namespace).await?;

    staged.patch(3).await?;
    cluster.converged(3).await?;
    cluster.move_leader_to(2).await?;
    cluster.settled().await?;
    let writer = staged.writing().await?;
    unread(cluster, "alone").await?;
    staged.patch(2).await?;
    let leader = staged.led(&writer, 2).await?.context("no member leads")?;
    let what = format!(
        "-{leader} leads; {} of {CHANGES} changes reach the consumer",
        delivered(cluster, leader, "alone").await?
    );
    let alone = Outcome { what, record: finish_with_any_loss(writer).await };
    say(&format!("  the operator alone: {alone}"));
    let words = "3 to 2 with the leader on 2, a logical slot made just before";
    Ok(Row { words: words.to_owned(), alone, answered, with_plugin })
}

/// Lets Patroni make a logical slot, waits until the leader holds it, and makes changes that its
/// consumer has not read.
async fn unread(cluster: &Cluster, slot: &str) -> Result<()> {
    let address = cluster.leader().await?.address.context("the leader has no address")?;
    let kept = json!({"type": "logical", "database": "postgres", "plugin": "pgoutput"});
    rest::send(address, Method::PATCH, "/config", &json!({"slots": {slot: kept}})).await?;
    until(&format!("{slot} on the leader"), TIMEOUT, async || {
        let held = slots::held(cluster, 2, slot).await?;
        Ok(if held { Attempt::Done(()) } else { Attempt::NotYet("no slot".to_owned()) })
    })
    .await?;
    let rows = format!("INSERT INTO changed SELECT generate_series(1, {CHANGES})");
    cluster.sql(2, &rows).await.map(drop)
}

/// Waits until the leader holds the slot, and returns the number of inserted rows that a consumer
/// would get.
async fn delivered(cluster: &Cluster, leader: u32, slot: &str) -> Result<u32> {
    // A leader that lacks the slot makes it, at its own position.
    until(&format!("{slot} on the leader"), DEADLINE, async || {
        let held = slots::held(cluster, leader, slot).await?;
        Ok(if held { Attempt::Done(()) } else { Attempt::NotYet("no slot".to_owned()) })
    })
    .await?;
    let rows = slots::delivered(cluster, leader, slot).await?;
    ensure!(rows <= CHANGES, "{rows} changes of {CHANGES}");
    Ok(rows)
}
