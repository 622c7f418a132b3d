//! Logical replication slots when the leader moves: a consumer gets every change from the new
//! leader, and a slot that goes with the old one is named.

use std::net::Ipv4Addr;

use anyhow::{Context as _, Result, ensure};
use hyper::Method;
use pgscale_tests::cluster::{Cluster, TIMEOUT};
use pgscale_tests::patroni::rest;
use pgscale_tests::postgres::Session;
use pgscale_tests::slots;
use pgscale_tests::wait::{Attempt, until};
use serde_json::{Value, json};

use crate::guarding;
use crate::trial::{Case, TestCtx, case};
use crate::with_plugin::State;

const NAME: &str = "acid-slots";
/// The number of rows that no consumer has read when the leader moves.
const CHANGES: u32 = 100;

pub(crate) fn cases() -> Vec<Case> {
    vec![case("slots::no_change_is_lost_that_a_consumer_has_not_read", moved).beside_others()]
}

/// Returns a logical slot as Patroni's configuration and the manifest spell it.
fn slot() -> Value {
    json!({"type": "logical", "database": "postgres", "plugin": "pgoutput"})
}

async fn moved(ctx: TestCtx) -> Result<()> {
    guarding::guarded(&ctx).await?;
    let spec = json!({
        "patroni": {"ttl": 25, "loop_wait": 5, "slots": {"early": slot()}},
        "postgresql": {"parameters": {"wal_level": "logical"}},
    });
    let cluster = Cluster::create(&ctx.bed, &ctx.namespace, NAME, 3, spec).await?;
    cluster.move_leader_to(2).await?;
    make_by_hand(&cluster).await?;
    cluster.sql(2, "CREATE TABLE changed (row int)").await?;
    cluster.sql(2, "CREATE PUBLICATION changes FOR TABLE changed").await?;
    for ordinal in 0..3 {
        holds(&cluster, ordinal, "early").await?;
    }

    let before = State::of(&cluster).await?;
    let leader = cluster.leader().await?.address.context("the leader has no address")?;
    let late = json!({"slots": {"late": slot()}});
    rest::send(leader, Method::PATCH, "/config", &late).await?;
    unread(leader, "late").await?;

    // Patroni copies the slot in its next loops, with a restart of each replica.
    let said = cluster.pgscale(&["down", NAME, "--to", "2", "--yes", "--timeout", "1s"]).await?;
    ensure!(said.code == Some(3) && said.stderr.contains("late: not "), "{said:?}");
    ensure!(State::of(&cluster).await? == before, "refused, but changed: {said:?}");

    let plain = cluster.patch(2).await?;
    for words in ["- leader-condemned: ", "slots.late", "slots.early"] {
        ensure!(plain.code == Some(1) && plain.stderr.contains(words), "{words}: {plain:?}");
    }

    let said = cluster.pgscale(&["down", NAME, "--to", "2", "--yes", "--timeout", "4m"]).await?;
    ensure!(said.code == Some(0), "{said:?}");
    let by_hand = format!("logical replication slot by_hand of {NAME}-2 (plugin pgoutput");
    ensure!(said.stderr.contains(&by_hand), "the slot is not named: {said:?}");
    let leader = cluster.leader().await?.ordinal;
    ensure!(leader < 2, "-{leader} leads");
    for slot in ["early", "late"] {
        let got = slots::delivered(&cluster, leader, slot).await?;
        ensure!(got == CHANGES, "{got} of {CHANGES} changes of {slot}: {said:?}");
    }
    Ok(())
}

/// Makes a slot that Patroni neither keeps nor removes.
async fn make_by_hand(cluster: &Cluster) -> Result<()> {
    let address = cluster.leader().await?.address.context("the leader has no address")?;
    let ignored = json!({"ignore_slots": [{"name": "by_hand", "type": "logical"}]});
    rest::send(address, Method::PATCH, "/config", &ignored).await?;
    let make = "SELECT pg_create_logical_replication_slot('by_hand', 'pgoutput')";
    cluster.sql(2, make).await.map(drop)
}

/// Waits until the leader holds a slot, and makes changes that its consumer has not read.
async fn unread(leader: Ipv4Addr, slot: &str) -> Result<()> {
    let session = Session::open(leader).await?;
    let count = format!("SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{slot}'");
    until(&format!("{slot} on the leader"), TIMEOUT, async || {
        let count = session.word(&count).await?;
        let made = count.as_deref() == Some("1");
        Ok(if made { Attempt::Done(()) } else { Attempt::NotYet(format!("{count:?}")) })
    })
    .await?;
    let rows = format!("INSERT INTO changed SELECT generate_series(1, {CHANGES})");
    session.batch_execute(&rows).await.context("failed to write the changes")
}

/// Waits until a member holds a slot.
async fn holds(cluster: &Cluster, ordinal: u32, slot: &str) -> Result<()> {
    until(&format!("{slot} on member {ordinal}"), TIMEOUT, async || {
        // A replica is restarted when slots are copied to it.
        Ok(match slots::held(cluster, ordinal, slot).await {
            Ok(true) => Attempt::Done(()),
            other => Attempt::NotYet(format!("{other:?}")),
        })
    })
    .await
}
