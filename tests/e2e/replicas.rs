//! Two real webhooks behind one Service, under a steady load of reviews through the API server,
//! while they are restarted, get other certificates and another secret path, and are killed.

use std::time::Duration;

use anyhow::{Result, ensure};
use pgscale_tests::pki::Authority;
use pgscale_tests::progress::say;
use pgscale_tests::replicas::{PATHS, Replicas, SEEN};
use pgscale_tests::wait::{Attempt, until};
use tokio::time::{Instant, sleep};

use crate::guarding;
use crate::trial::{Case, TestCtx, case};
use load::Load;

mod budget;
mod load;

/// The reviews that the test needs.
const REVIEWS: usize = 10_000;
/// The limit for the whole load on a busy machine.
const LIMIT: Duration = Duration::from_secs(900);

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("replicas::no_review_is_lost_while_replicas_come_and_go", come_and_go).within(LIMIT),
        case("budget::parallel_edits_never_pass_the_budget", budget::parallel_edits).within(LIMIT),
    ]
}

async fn come_and_go(ctx: TestCtx) -> Result<()> {
    // It installs the definitions of policies.
    guarding::webhook(&ctx).await?;
    load::stage(&ctx).await?;
    let mut replicas = Replicas::new(&ctx).await?;
    let (mut first, mut second) = (replicas.start().await?, replicas.start().await?);
    replicas.register(&[&replicas.authority]).await?;
    let load = Load::begin(&ctx).await?;
    let start = Instant::now();

    // A rolling restart: a new replica is ready before an old one stops.
    for old in [&mut first, &mut second] {
        let new = replicas.start().await?;
        let old = std::mem::replace(old, new);
        old.leave().await?;
    }
    report(&load, "a rolling restart");

    // Another authority: trusted first, then used, then trusted alone.
    let next = Authority::new()?;
    replicas.register(&[&replicas.authority, &next]).await?;
    sleep(SEEN).await;
    replicas.renew(&next, [&first, &second]).await?;
    replicas.register(&[&next]).await?;
    replicas.authority = next;
    report(&load, "another authority");

    // Another secret path: accepted beside the old one, then called, then accepted alone.
    let [old, new] = PATHS;
    replicas.accept(&[new, old])?;
    replicas.renew(&replicas.authority, [&first, &second]).await?;
    replicas.path = new;
    replicas.register(&[&replicas.authority]).await?;
    sleep(SEEN).await;
    replicas.accept(&[new])?;
    replicas.renew(&replicas.authority, [&first, &second]).await?;
    report(&load, "another secret path");

    for _ in 0..20 {
        replicas.register(&[&replicas.authority]).await?;
        sleep(Duration::from_millis(200)).await;
    }
    report(&load, "a registration that is applied again and again");

    let killed = Instant::now();
    first.kill().await?;
    let known = killed.elapsed() + SEEN;
    let third = replicas.start().await?;
    report(&load, "a SIGKILL");

    until("all reviews", LIMIT, async || {
        load.ensure_no_wrong_answer()?;
        let answered = load.answered();
        Ok(if answered < REVIEWS {
            Attempt::NotYet(answered.to_string())
        } else {
            Attempt::Done(())
        })
    })
    .await?;
    let took = start.elapsed();
    let outcome = load.end().await?;
    let (at_kill, lost): (Vec<_>, Vec<_>) =
        outcome.lost.iter().partition(|lost| lost.overlaps(killed, killed + known));
    say(&format!(
        "{} reviews in {} s, {} of them refusals; {} lost while a killed replica was still in its \
         EndpointSlice, {} lost otherwise",
        outcome.answered,
        took.as_secs(),
        outcome.refused,
        at_kill.len(),
        lost.len()
    ));
    ensure!(lost.is_empty(), "lost: {:?}", lost.iter().take(5).collect::<Vec<_>>());
    ensure!(outcome.answered >= REVIEWS && outcome.refused > 0, "{outcome:?}");
    for replica in [second, third] {
        replica.leave().await?;
    }
    replicas.deregister().await
}

fn report(load: &Load, what: &str) {
    say(&format!("{what}: {} reviews so far, {} lost", load.answered(), load.lost()));
}
