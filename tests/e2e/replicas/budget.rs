//! Many edits at once against several replicas, under a budget that only some of them fit.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use pgscale_tests::budget::Field;
use pgscale_tests::budget::edits::Answer;
use pgscale_tests::progress::say;
use pgscale_tests::replicas::{Replicas, SEEN, SOON};
use pgscale_tests::wait::{Attempt, until};
use tokio::time::Instant;

use crate::guarding;
use crate::trial::TestCtx;

/// The clusters, each of one instance. Each is raised to two, all at once.
const CLUSTERS: usize = 40;
/// How many of these edits fit.
const FIT: usize = 12;
/// The time within which all reservations are decided. It is more than that of a fence.
const DECIDED: Duration = Duration::from_secs(20);

pub(super) async fn parallel_edits(ctx: TestCtx) -> Result<()> {
    // It installs the definitions of policies.
    guarding::webhook(&ctx).await?;
    let mut replicas = Replicas::new(&ctx).await?;
    // Even so, growth under a budget never passes unreserved.
    replicas.growth = "Ignore";
    let (first, second) = (replicas.start().await?, replicas.start().await?);
    let field = Field::stage(&ctx, CLUSTERS, i64::try_from(FIT)?).await?;
    replicas.register(&[&replicas.authority]).await?;
    tokio::time::sleep(SEEN).await;

    let start = Instant::now();
    let answers = field.raise_all().await;
    let took = start.elapsed();
    let mut admitted = 0;
    for (number, (answer, _)) in answers.into_iter().enumerate() {
        match answer {
            Answer::Admitted => admitted += 1,
            Answer::Refused | Answer::Repeat => {}
            other @ (Answer::Unjudged | Answer::Lost | Answer::Raced | Answer::Other(_)) => {
                bail!("edit {number}: {other:?}")
            }
        }
    }
    let total = field.stored().await?;
    say(&format!("{admitted} of {CLUSTERS} edits fit, {total} instances, {} ms", took.as_millis()));
    let budget = field.budget;
    ensure!(total <= budget, "{total} instances under a budget of {budget}");
    ensure!(admitted == FIT, "{admitted} edits were admitted, and {FIT} fit");

    let since = Instant::now();
    until("no reservation to be left", SOON, async || {
        let ledger = field.ledger().await?;
        let done = ledger.reserved == 0 && i64::try_from(ledger.used)? == budget;
        Ok(if done {
            Attempt::Done(())
        } else {
            Attempt::NotYet(format!("{} used, {} reserved", ledger.used, ledger.reserved))
        })
    })
    .await?;
    ensure!(since.elapsed() < DECIDED, "decided after {:?}", since.elapsed());
    for replica in [first, second] {
        replica.leave().await?;
    }
    replicas.deregister().await
}
