//! A StatefulSet that waits: for a kept member (D2), for pods that the API server refuses (D11), and
//! for a leader that never comes (D12).

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use k8s_openapi::api::apps::v1::StatefulSet;
use kube::api::Api;
use pgscale_tests::cluster::{Cluster, TIMEOUT};
use pgscale_tests::guarding;
use pgscale_tests::operator::Settings;
use pgscale_tests::stage::Fault;
use pgscale_tests::trial::TestCtx;
use pgscale_tests::wait::{Attempt, until};
use serde_json::json;

use super::screen::{Screen, Seen};
use super::{NAME, Staged, written};
use crate::document::Act;

/// The limit for words to show on a screen that is asked for again and again.
const SHOWN: Duration = Duration::from_secs(60);
/// The number of names that are tried until a revision is too long: with 53 characters three of four
/// are.
const NAMES: u8 = 8;

/// Looks at `kubectl pgscale status NAME --why` until it says all of these words.
async fn why(cluster: &Cluster, all: &[&str]) -> Result<Seen> {
    let words = format!("status {} --why", cluster.name);
    until(&format!("the status to say {all:?}"), SHOWN, async || {
        let seen = Screen::start(cluster, &words)?.end().await?;
        let said = all.iter().all(|words| seen.stdout.contains(words));
        Ok(if said { Attempt::Done(seen) } else { Attempt::NotYet(seen.text()) })
    })
    .await
}

/// A kept member crashes after the count was written and before the operator acts.
pub(super) async fn ordered_ready(ctx: TestCtx) -> Result<Vec<Act>> {
    let staged = Staged::of(ctx, 4).await?;
    let cluster = &staged.cluster;
    // Otherwise a failover comes, too.
    cluster.move_leader_to(1).await?;
    cluster.settled().await?;
    staged.freeze_operator().await;
    let down = format!("down {NAME} --to 3 --yes");
    let mut screen = Screen::start(cluster, &format!("{down} --timeout 4m"))?;
    screen.says("numberOfInstances is 3").await?;
    cluster.stage(0, Fault::Crashing).await?;
    staged.thaw_operator().await;
    let waits = "acid-act-3: waits for acid-act-0 to become Ready (OrderedReady): ";
    screen.says(waits).await?;
    screen.never_said("stopping")?;
    why(cluster, &["acid-act-0 crashes over and over", "kubectl logs acid-act-0"]).await?;
    cluster.unstage(0, Fault::Crashing).await?;
    // A pod may end between two looks.
    screen.says("acid-act-3: ").await?;
    let seen = screen.end().await?;
    ensure!(seen.code == Some(0), "{}", seen.text());
    cluster.converged(3).await?;
    let said = seen.lines(&[waits, "acid-act-3: gone"])?;
    let end = format!("{}, once -0 runs again", seen.code());
    let words = "-0, which is kept, crashes after the count was written";
    Ok(vec![Act { case: "D2", staged: words, command: down, said, end }])
}

/// A cluster whose name is too long for the label of its pods' revision.
pub(super) async fn long_name(ctx: TestCtx) -> Result<Vec<Act>> {
    let webhook = guarding::guarded(&ctx).await?;
    for letter in (b'a'..).take(NAMES.into()) {
        let name =
            format!("acid-{}name-{}", "long-".repeat(8), char::from(letter).to_string().repeat(3));
        ensure!(name.len() == 53, "{} characters", name.len());
        let cluster = Cluster::new(&ctx.bed, &ctx.namespace, &name);
        let warned = written(&ctx, &cluster, &cluster.manifest(1, json!({})).await?).await?;
        let words = "the name has 53 characters: with more than 52 Kubernetes refuses most";
        let warning = warned.lines().find(|line| line.contains(words));
        let warning = warning.with_context(|| format!("CREATE does not warn: {warned}"))?;
        let sets: Api<StatefulSet> = Api::namespaced(ctx.bed.client(), &ctx.namespace);
        let revision = until("a revision of the StatefulSet", TIMEOUT, async || {
            let set = sets.get_opt(&name).await?;
            let revision = set.and_then(|set| set.status?.update_revision);
            Ok(revision.map_or(Attempt::NotYet("none".to_owned()), Attempt::Done))
        })
        .await?;
        if revision.len() <= 63 {
            cluster.kubectl(&["delete", "postgresql", &name]).await?.ok()?;
            continue;
        }
        let first = format!("1. Kubernetes refuses {name}-0: the cluster's name is too long");
        let status = why(&cluster, &[&first, "52 characters or fewer"]).await?;
        let said = vec![(Duration::ZERO, warning.trim().to_owned()), status.line(&first)?];
        cluster.kubectl(&["delete", "postgresql", &name]).await?.ok()?;
        webhook.unguard(&ctx.namespace).await?;
        return Ok(vec![Act {
            case: "D11",
            staged: "a cluster is created with a name of 53 characters, guarded by the webhook",
            command: "kubectl apply`, `status --why".to_owned(),
            said,
            end: "no pod is made; both name the cause first".to_owned(),
        }]);
    }
    bail!("no revision of {NAMES} names is longer than a label")
}

/// Back from zero, with a readiness probe, where the first member may not lead.
pub(super) async fn barred(ctx: TestCtx) -> Result<Vec<Act>> {
    let probed = Settings { readiness_probe: true, ..Settings::default() };
    ctx.bed.operator().lock().await.start(&probed).await?;
    let staged = Staged::of(ctx, 3).await?;
    let cluster = &staged.cluster;
    cluster.move_leader_to(2).await?;
    guarding::webhook(&staged.ctx).await?;
    staged
        .write(&json!({
            "apiVersion": "pgscale.dev/v1alpha1", "kind": "ScalePolicy",
            "metadata": {"name": "sleeps"},
            "spec": {"instances": {"zero": "Allow"}, "rules": {"last-to-stop": "Warn"}},
        }))
        .await?;
    for ordinal in [0, 1] {
        cluster.stage(ordinal, Fault::NoFailover).await?;
    }
    cluster.settled().await?;
    let whole = format!("--confirm={}/{NAME}", cluster.namespace);
    staged.done(&format!("set {NAME} 0 {whole} --timeout 4m")).await?;

    let plan = format!("plan {NAME} --to 3");
    let seen = staged.run(&plan).await?;
    let said = seen.lines(&["no other member is ever started"])?;
    let words = "0 instances; -2 led last, -0 and -1 may not lead, and -0 has to pass a readiness \
                 probe before -1 starts";
    let at_zero = Act { case: "D12", staged: words, command: plan, said, end: seen.code() };

    let back = format!("set {NAME} 3 --yes");
    let seen = staged.run(&format!("{back} --timeout 60s")).await?;
    ensure!(seen.code == Some(4), "{}", seen.text());
    let said = seen.lines(&["acid-act-1: no pod yet", "no member holds a valid leader lock"])?;
    let words = "the same, with the warning passed over";
    let stuck = Act { case: "D12", staged: words, command: back.clone(), said, end: seen.code() };

    let first = "1. no member leads, and every member that is there is tagged nofailover";
    let status = why(cluster, &[first, "remove the tag nofailover"]).await?;
    let plan = format!("plan {NAME} --to 4");
    let seen = staged.run(&plan).await?;
    let mut said = vec![status.line(first)?];
    said.extend(
        seen.lines(&[
            "will-not-progress: the StatefulSet waits for acid-act-0",
            "nofailover: true",
        ])?,
    );
    for ordinal in [0, 1] {
        cluster.unstage(ordinal, Fault::NoFailover).await?;
    }
    let again = staged.done(&format!("{back} --timeout 4m")).await?;
    cluster.converged(3).await?;
    let end = format!("without the tags, `{back}` again: {}", again.code());
    let words = "the same, while -0 is there and is not Ready";
    let command = format!("status {NAME} --why`, `{plan}");
    let named = Act { case: "D12", staged: words, command, said, end };
    Ok(vec![at_zero, stuck, named])
}
