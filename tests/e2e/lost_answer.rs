//! A connection that is cut after the API server has stored the count and before its answer
//! arrives.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use pgscale_tests::cluster::{Cluster, quick};
use pgscale_tests::control_plane::{ADDRESS, PORT};
use pgscale_tests::progress::say;
use pgscale_tests::relay::Relay;
use pgscale_tests::wait::{Attempt, until};

use crate::trial::{Case, TestCtx, case};
use crate::with_plugin::generation;

/// The delays of the answers: the time that this test has to hold the next answer back, once the
/// plan was shown. On a busy machine the test may be too late. Then it tries again with a longer
/// delay.
const DELAYS: [Duration; 4] = [
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
];
/// The limit for the API server to store a write.
const SOON: Duration = Duration::from_secs(30);

pub(crate) fn cases() -> Vec<Case> {
    vec![case("lost_answer::a_stored_write_is_read_back_and_not_sent_again", read_back)]
}

async fn read_back(ctx: TestCtx) -> Result<()> {
    let TestCtx { bed, namespace } = &ctx;
    let cluster = Cluster::create(bed, namespace, "acid-lost", 1, quick()).await?;
    for delay in DELAYS {
        // Otherwise the operator may write first, and the answer that is held back reports a
        // conflict.
        cluster.settled().await?;
        if read_back_after(&cluster, delay).await? {
            cluster.converged(2).await?;
            return Ok(());
        }
        say(&format!("  with answers {delay:?} late, the one to the write was not held back"));
        cluster.patch(1).await?.ok()?;
        cluster.converged(1).await?;
    }
    bail!("the answer to the write could not be held back")
}

/// Loses the answer to the write, and checks the reaction. Returns false if another answer was
/// lost, or none.
async fn read_back_after(cluster: &Cluster, delay: Duration) -> Result<bool> {
    let before = generation(cluster).await?;
    let server = format!("{ADDRESS}:{PORT}").parse().context("the API server has no address")?;
    let relay = Relay::start(server, delay).await?;

    let through = format!("--server=https://{}", relay.address());
    let args = ["up", &cluster.name, "--to", "2", "--timeout", "4m", &through];
    let mut up = cluster.follow_pgscale(&args)?;
    // Growth asks nothing and reads nothing between its plan and its write, so the held answer is
    // that of the write.
    if !up.says(|line| line.starts_with("PLANNED")).await? {
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
        // The plugin's report is true all the same.
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
