//! The connection is cut after the API server has stored the count and before it could say so.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use pgscale_tests::cluster::Cluster;
use pgscale_tests::control_plane::{ADDRESS, PORT};
use pgscale_tests::relay::Relay;
use pgscale_tests::wait::{Attempt, until};
use serde_json::json;

use crate::ours::generation;
use crate::trial::{Case, Scene, case};

/// How late answers are from the start: the time this test has to hold the next one back, once the plan was shown.
const DELAY: Duration = Duration::from_millis(500);
const SOON: Duration = Duration::from_secs(60);

pub(crate) fn cases() -> Vec<Case> {
    vec![case("lost_answer::a_stored_write_is_looked_for_and_not_sent_again", looked_for)]
}

async fn looked_for(scene: Scene) -> Result<()> {
    let Scene { bed, namespace } = &scene;
    let cluster = Cluster::create(bed, namespace, "acid-lost", 1, json!({})).await?;
    let before = generation(&cluster).await?;
    let server = format!("{ADDRESS}:{PORT}").parse().context("the API server has no address")?;
    let relay = Relay::start(server, DELAY).await?;

    let through = format!("--server=https://{}", relay.address());
    let args = ["up", &cluster.name, "--to", "2", "--timeout", "4m", &through];
    let mut up = cluster.follow_pgscale(&args)?;
    // Growth asks nothing and reads nothing between its plan and its write: what is held is the write's answer.
    if !up.says(|line| line.starts_with("Allowed")).await? {
        bail!("there was no plan: {:?}", up.end().await?);
    }
    relay.hold();
    until("the count to be stored", SOON, async || {
        let declared = cluster.declared().await?;
        Ok(if declared == 2 { Attempt::Done(()) } else { Attempt::NotYet(declared.to_string()) })
    })
    .await?;
    relay.cut();

    let said = up.end().await?;
    ensure!(said.code == Some(0), "{said:?}");
    for words in ["the answer to the write was lost", "it arrived", "numberOfInstances is 2"] {
        ensure!(said.stderr.contains(words), "{words:?} is missing: {said:?}");
    }
    ensure!(said.stdout.contains("scaled from 1 to 2 instances"), "{said:?}");
    ensure!(generation(&cluster).await? == before + 1, "sent again: {said:?}");
    cluster.converged(2).await?;
    Ok(())
}
