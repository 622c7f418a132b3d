//! The connection is cut after the API server has stored the count and before it could say so.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use pgscale_tests::cluster::Cluster;
use pgscale_tests::control_plane::{ADDRESS, PORT};
use pgscale_tests::progress::say;
use pgscale_tests::relay::Relay;
use pgscale_tests::wait::{Attempt, until};
use serde_json::json;

use crate::trial::{Case, TestCtx, case};
use crate::with_plugin::generation;

/// How late answers are from the start: the time this test has to hold the next one back, once the plan was shown.
/// On a busy machine it may come too late; then it tries again with more.
const DELAYS: [Duration; 4] = [
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
];
/// How long the API server may take to store a write.
const SOON: Duration = Duration::from_secs(30);

pub(crate) fn cases() -> Vec<Case> {
    vec![case("lost_answer::a_stored_write_is_looked_for_and_not_sent_again", looked_for)]
}

async fn looked_for(ctx: TestCtx) -> Result<()> {
    let TestCtx { bed, namespace } = &ctx;
    let cluster = Cluster::create(bed, namespace, "acid-lost", 1, json!({})).await?;
    for delay in DELAYS {
        // Else the operator may write first, and what is held back tells of a conflict.
        cluster.settled().await?;
        if looked_for_after(&cluster, delay).await? {
            cluster.converged(2).await?;
            return Ok(());
        }
        say(&format!("  with answers {delay:?} late, the one to the write was not held back"));
        cluster.patch(1).await?.ok()?;
        cluster.converged(1).await?;
    }
    bail!("the answer to the write could not be held back")
}

/// Loses the answer to the write, and checks what is made of that; false if it was another that was lost, or none.
async fn looked_for_after(cluster: &Cluster, delay: Duration) -> Result<bool> {
    let before = generation(cluster).await?;
    let server = format!("{ADDRESS}:{PORT}").parse().context("the API server has no address")?;
    let relay = Relay::start(server, delay).await?;

    let through = format!("--server=https://{}", relay.address());
    let args = ["up", &cluster.name, "--to", "2", "--timeout", "4m", &through];
    let mut up = cluster.follow_pgscale(&args)?;
    // Growth asks nothing and reads nothing between its plan and its write: what is held is the write's answer.
    if !up.says(|line| line.starts_with("Allowed")).await? {
        bail!("there was no plan: {:?}", up.end().await?);
    }
    relay.hold();
    let stored = until("the count to be stored", SOON, async || {
        let declared = cluster.declared().await?;
        Ok(if declared == 2 { Attempt::Done(()) } else { Attempt::NotYet(declared.to_string()) })
    });
    let stored = stored.await.is_ok();
    relay.cut();

    let said = up.end().await?;
    let lost = said.stderr.contains("the answer to the write was lost");
    if !(stored && lost) {
        // What it says is true all the same.
        let declared = cluster.declared().await?;
        ensure!((declared == 2) == (said.code == Some(0)), "{declared} declared: {said:?}");
        return Ok(false);
    }
    ensure!(said.code == Some(0), "{said:?}");
    for words in ["it arrived", "numberOfInstances is 2"] {
        ensure!(said.stderr.contains(words), "{words:?} is missing: {said:?}");
    }
    ensure!(said.stdout.contains("scaled from 1 to 2 instances"), "{said:?}");
    ensure!(generation(cluster).await? == before + 1, "sent again: {said:?}");
    Ok(true)
}
