//! The story of the demo: 3 → 5 → 3 on a real stack, proof that replication holds, and refusals.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, PostParams};
use pgscale_tests::bed::{Bed, BedOptions};
use pgscale_tests::cluster::Cluster;
use pgscale_tests::operator::Settings;
use pgscale_tests::progress::{Step, brief};
use pgscale_tests::sandbox;
use pgscale_tests::stage::Fault;
use pgscale_tests::supplies::Supplies;
use pgscale_tests::webhook::Webhook;
use pgscale_tests::writer::Writer;
use tokio::signal::unix::{SignalKind, signal};

use crate::narrator::{Narrator, line};

const NAMESPACE: &str = "production";
const NAME: &str = "acid-shop";

const POLICY: &str = "\
apiVersion: pgscale.dev/v1alpha1
kind: ScalePolicy
metadata: {name: production, namespace: production}
spec:
  mode: Enforce
  instances: {min: 3, max: 7, zero: Deny}
";

const TABLE: &str = "CREATE TABLE orders (id serial PRIMARY KEY, item text, placed timestamp DEFAULT now()); \
    INSERT INTO orders (item) VALUES ('test1'), ('test2'), ('test3')";

/// A digest of all rows, to compare members.
const FINGERPRINT: &str =
    "SELECT count(*) || ' rows, md5 ' || md5(string_agg(o::text, ',' ORDER BY id)) FROM orders o";

/// Runs the story. With `keep`, everything is left running at the end.
pub(crate) async fn run(keep: bool) -> Result<()> {
    let mut terminations = signal(SignalKind::terminate()).context("failed to watch signals")?;
    tokio::select! {
        outcome = tell(keep) => outcome,
        _ = terminations.recv() => anyhow::bail!("interrupted; everything was removed"),
    }
}

async fn tell(keep: bool) -> Result<()> {
    let start = Instant::now();
    let supplies = Supplies::read()?;
    let directory = sandbox::directory()?;
    let step = Step::begin("bringing up etcd, the API server, the controllers and the operator");
    let options = BedOptions { directory, supplies, operator: Settings::default() };
    let bed = Arc::new(Bed::start(options).await?);
    step.done();
    let step = Step::begin("installing the webhook from its chart");
    let webhook = Webhook::start(&bed).await?;
    step.done();

    let narrator = Narrator::new(&bed, NAMESPACE);
    let outcome = chapters(&bed, &webhook, &narrator).await;
    if outcome.is_ok() {
        narrator.title(&format!("Done in {}", brief(start.elapsed())))?;
        narrator.summary()?;
    }
    if keep {
        // A failed story is worth a look too.
        if let Err(error) = &outcome {
            line(&format!("\nerror: {error:#}"))?;
        }
        sandbox::keep(bed.kubeconfig().to_owned(), bed.path())?;
        // The command that stops a kept demo ends this process.
        std::future::pending::<()>().await;
    }
    drop(webhook);
    outcome
}

async fn chapters(bed: &Arc<Bed>, webhook: &Webhook, narrator: &Narrator) -> Result<()> {
    narrator.title("A cluster of three members")?;
    let mut namespace = Namespace::default();
    namespace.metadata.name = Some(NAMESPACE.to_owned());
    Api::<Namespace>::all(bed.client())
        .create(&PostParams::default(), &namespace)
        .await
        .context("failed to create the demo's namespace")?;
    webhook.guard(NAMESPACE).await?;
    narrator.apply("Production keeps 3 to 7 instances and never 0:", POLICY).await?;
    let step = Step::begin("a PostgreSQL cluster of 3, made by the operator");
    let cluster = Cluster::create(bed, NAMESPACE, NAME, 3, serde_json::json!({})).await?;
    step.done();
    // Patroni decides the first leader by a race of the members.
    let leader = cluster.leader().await?.ordinal;
    cluster.sql(leader, TABLE).await.context("failed to write the first rows")?;
    narrator.shows("kubectl get postgresql").await?;
    narrator.shows(&format!("kubectl pgscale status {NAME}")).await?;

    narrator.title("3 to 5, with proof")?;
    let writer = Writer::start(bed.client(), NAMESPACE, NAME).await?;
    narrator.shows(&format!("kubectl pgscale up {NAME} --to 5")).await?;
    prove(&cluster, narrator).await?;

    narrator.title("Changes that the webhook refuses")?;
    narrator.refused(&count_patch(2), "below-min").await?;
    narrator.refused(&count_patch(0), "scale-to-zero").await?;
    narrator.refused(&count_patch(9), "above-max").await?;
    line("\nNow the leader moves to the highest ordinal, and Patroni of -0 is frozen:")?;
    cluster.move_leader_to(4).await?;
    cluster.stage(0, Fault::FrozenPatroni).await?;
    narrator.refused(&count_patch(3), "leader-condemned").await?;
    line(
        "\nWithout the webhook, the operator would have asked -0 to take over, and deleted the leader when -0 did not.",
    )?;
    cluster.unstage(0, Fault::FrozenPatroni).await?;
    cluster.converged(5).await?;

    narrator.title("5 to 3, after the leader was moved")?;
    narrator.shows(&format!("kubectl pgscale down {NAME} --to 3 --yes --reason off-peak")).await?;
    narrator.shows(&format!("kubectl pgscale status {NAME}")).await?;
    narrator.shows(&format!("kubectl pgscale history {NAME}")).await?;
    let record = writer.stop().await;
    let missing = record.missing().await?;
    ensure!(missing == 0, "{missing} acknowledged rows are missing");
    narrator.note(format!(
        "a client that wrote all the time: {} rows acknowledged, none missing, longest pause {:.1} s",
        record.acknowledged,
        record.longest_gap.as_secs_f64()
    ));
    Ok(())
}

/// Shows that the new replicas hold what the old members hold, and that they follow new writes.
async fn prove(cluster: &Cluster, narrator: &Narrator) -> Result<()> {
    line("\nThe answers of every member: is it in recovery, and which rows does it hold?")?;
    let leader = cluster.leader().await?.ordinal;
    cluster.sql(leader, "INSERT INTO orders (item) VALUES ('new_data_after_scale')").await?;
    let wanted = cluster.sql(leader, FINGERPRINT).await?;
    for ordinal in 0..5 {
        let position = "SELECT pg_is_in_recovery()";
        let recovering = cluster.sql(ordinal, position).await?;
        let holds = pgscale_tests::wait::until(
            &format!("{} to hold {wanted}", cluster.pod_name(ordinal)),
            std::time::Duration::from_secs(10),
            async || {
                let holds = cluster.sql(ordinal, FINGERPRINT).await?;
                Ok(if holds == wanted {
                    pgscale_tests::wait::Attempt::Done(holds)
                } else {
                    pgscale_tests::wait::Attempt::NotYet(holds)
                })
            },
        )
        .await?;
        line(&format!("  {}  {recovering}  {holds}", cluster.pod_name(ordinal)))?;
    }
    narrator.note(format!("after 3 to 5, all five members hold the same rows: {wanted}"));
    line("\nThe same from PostgreSQL, with one message that every replica must replay:")?;
    narrator.shows(&format!("kubectl pgscale verify {NAME} --sql --canary")).await?;
    narrator.shows("kubectl get endpoints").await
}

fn count_patch(count: u32) -> String {
    format!(
        "kubectl patch postgresql {NAME} --type=merge -p '{{\"spec\":{{\"numberOfInstances\":{count}}}}}'"
    )
}
