//! `kubectl pgscale install`, `upgrade` and `uninstall`: from nothing to a proven guard in two
//! commands, and back without a refused write.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Client;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use pgscale_tests::bed::Said;
use pgscale_tests::cluster::{Cluster, quick};
use pgscale_tests::pki;
use pgscale_tests::progress::say;
use pgscale_tests::webhook::{NAMESPACE, REGISTRATION, install, values};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use crate::guarding::guarded;
use crate::trial::{Case, TestCtx, case};

mod releases;

const KIND: &str = "validatingwebhookconfiguration";
/// The time from nothing to a proven guard, on an idle machine. The machine of a test may be busy.
const MINUTES: Duration = Duration::from_secs(180);
/// The time between two writes: 50 a second.
const PAUSE: Duration = Duration::from_millis(20);
/// The number of writes to one of the cluster's spec.
const SELDOM: u32 = 200;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("installation::two_commands_lead_to_a_proven_guard_and_one_back", whole),
        case(
            "installation::helm_test_upgrade_and_rollback_find_the_guard_holding",
            releases::whole,
        ),
    ]
}

/// Writes that are no change of a count, 50 a second, until this is stopped.
struct Writes {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU32>,
    task: JoinHandle<Result<Vec<String>>>,
}

impl Writes {
    fn start(client: Client, cluster: &Cluster) -> Self {
        let (stop, done) = (Arc::<AtomicBool>::default(), Arc::<AtomicU32>::default());
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&done));
        let (objects, name) = (cluster.objects(), cluster.name.clone());
        let sets: Api<StatefulSet> = Api::namespaced(client.clone(), &cluster.namespace);
        let maps: Api<ConfigMap> = Api::namespaced(client, &cluster.namespace);
        let task = tokio::spawn(async move {
            let mut ticks = interval(PAUSE);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
            let mut failed = Vec::new();
            let mut turn: u32 = 0;
            while !stopped.load(Ordering::Relaxed) {
                ticks.tick().await;
                turn += 1;
                if let Err(error) = write(&objects, &sets, &maps, &name, turn).await {
                    failed.push(format!("write {turn}: {error}"));
                }
                counted.fetch_add(1, Ordering::Relaxed);
            }
            Ok(failed)
        });
        Self { stop, done, task }
    }

    /// Ends it, and fails when any write failed.
    async fn end(self) -> Result<u32> {
        self.stop.store(true, Ordering::Relaxed);
        let failed = self.task.await.context("the writer ended early")??;
        ensure!(failed.is_empty(), "{} writes failed: {failed:#?}", failed.len());
        Ok(self.done.load(Ordering::Relaxed))
    }
}

/// Makes one write: of a label of the cluster or of its StatefulSet, of another object, or, now and
/// then because the operator acts on it, of another field of the cluster.
async fn write(
    objects: &Api<DynamicObject>,
    sets: &Api<StatefulSet>,
    maps: &Api<ConfigMap>,
    name: &str,
    turn: u32,
) -> Result<(), kube::Error> {
    let params = PatchParams::default();
    let label = Patch::Merge(json!({"metadata": {"labels": {"turn": turn.to_string()}}}));
    if turn.is_multiple_of(SELDOM) {
        let ttl = Patch::Merge(json!({"spec": {"patroni": {"ttl": 30 + turn / SELDOM % 2}}}));
        return objects.patch(name, &params, &ttl).await.map(drop);
    }
    match turn % 3 {
        0 => objects.patch(name, &params, &label).await.map(drop),
        1 => sets.patch(name, &params, &label).await.map(drop),
        _ => {
            let map = json!({"apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {"name": "written"}, "data": {"turn": turn.to_string()}});
            let params = PatchParams::apply("e2e").force();
            maps.patch("written", &params, &Patch::Apply(map)).await.map(drop)
        }
    }
}

/// Runs a command of ours with the bed's helm on the path, as a person pastes it.
async fn pgscale(ctx: &TestCtx, line: &str) -> Result<Said> {
    let helm = ctx.bed.tools().helm.parent().context("helm is in no directory")?;
    ctx.bed.paste(&format!("PATH={}:$PATH kubectl pgscale {line}", helm.display())).await
}

async fn registered(ctx: &TestCtx) -> Result<bool> {
    let found = ["get", KIND, REGISTRATION, "--ignore-not-found", "--output=name"];
    Ok(!ctx.bed.kubectl(&found).await?.ok()?.trim().is_empty())
}

/// Returns what the API server says to a dry run that no rule admits.
async fn forbidden(cluster: &Cluster) -> Result<Said> {
    let zero = json!({"spec": {"numberOfInstances": 0}}).to_string();
    let patch = ["patch", "postgresql", &cluster.name, "--type=merge", "--dry-run=server"];
    cluster.kubectl(&[&patch[..], &["-p", &zero]].concat()).await
}

async fn whole(ctx: TestCtx) -> Result<()> {
    let webhook = guarded(&ctx).await?;
    let cluster = Cluster::create(&ctx.bed, &ctx.namespace, "acid-new", 1, quick()).await?;
    let refused = forbidden(&cluster).await?;
    ensure!(refused.stderr.contains("scale-to-zero"), "{refused:?}");

    // The end of the guard, under writes. The process ends when its pods do.
    let writes = Writes::start(ctx.bed.client(), &cluster);
    let removed = pgscale(&ctx, "uninstall --yes").await?;
    webhook.stop().await?;
    let said = format!("{}{}", removed.stdout, removed.stderr);
    ensure!(removed.code == Some(0), "{removed:?}");
    for part in ["is uninstalled", "scalepolicies.pgscale.dev", "kubectl delete namespace"] {
        ensure!(said.contains(part), "{part} is missing: {said}");
    }
    ensure!(!registered(&ctx).await?, "the registration is there");
    let again = pgscale(&ctx, "uninstall --yes").await?;
    ensure!(again.code == Some(0) && again.stdout.contains("nothing is installed"), "{again:?}");
    let passed = forbidden(&cluster).await?;
    ensure!(passed.code == Some(0), "no write is judged: {passed:?}");
    let without = pgscale(&ctx, "doctor -o name").await?;
    ensure!(without.code == Some(5), "{without:?}");
    let count = writes.end().await?;
    say(&format!("{count} writes, and none failed"));

    // From nothing to a proven guard. It guards every namespace, so that doctor misses none.
    let mut everywhere = values();
    everywhere.as_object_mut().context("values")?.remove("namespaceSelector");
    let file = pki::write(ctx.bed.directory(), "everywhere.json", &everywhere.to_string())?;
    let file = file.display();
    let begin = Instant::now();
    let line = format!("install --yes --timeout 4m -f {file}");
    let (installed, adopted) = tokio::join!(pgscale(&ctx, &line), webhook.adopt());
    let took = begin.elapsed();
    let installed = installed?;
    adopted.with_context(|| format!("{installed:?}"))?;
    ensure!(installed.code == Some(0), "{}\n{}", installed.stdout, installed.stderr);
    ensure!(installed.stdout.contains("the guard HOLDS"), "{installed:?}");
    ensure!(installed.stdout.contains("was refused by scale-to-zero"), "{installed:?}");
    say(&format!("from nothing to a proven guard in {took:?}"));
    ensure!(took < MINUTES, "it took {took:?}");
    let refused = forbidden(&cluster).await?;
    ensure!(refused.stderr.contains("scale-to-zero"), "{refused:?}");
    let twice = pgscale(&ctx, "install --yes").await?;
    ensure!(twice.code == Some(1) && twice.stderr.contains("installed already"), "{twice:?}");

    planted(&ctx).await?;
    upgraded(&ctx).await?;

    // As the other tests of the bed know it.
    install(&ctx.bed)?;
    webhook.guard(&ctx.namespace).await
}

/// A registration that selects nothing is named by the verdict with which an upgrade ends, and by
/// doctor.
async fn planted(ctx: &TestCtx) -> Result<()> {
    let label = "namespaceSelector.matchLabels";
    let nothing = pgscale(ctx, &format!("upgrade --yes --set {label}.a=of-no-namespace")).await?;
    ensure!(nothing.code == Some(5) && nothing.stdout.contains("namespace-exempt"), "{nothing:?}");
    let said = pgscale(ctx, "doctor -o json").await?;
    ensure!(said.code == Some(5), "{said:?}");
    let found: Value = serde_json::from_str(&said.stdout)?;
    let findings = found["findings"].as_array().context("no findings")?;
    let exempt = findings.iter().any(|finding| finding["id"] == "namespace-exempt");
    ensure!(found["verdict"] == "DoesNotHold" && exempt, "{found:#}");
    let cured = pgscale(ctx, &format!("upgrade --yes --set {label}=null")).await?;
    ensure!(cured.code == Some(0) && cured.stdout.contains("the guard HOLDS"), "{cured:?}");
    Ok(())
}

/// An upgrade says what changes, keeps the stored values, and brings a definition up to date that
/// Helm would leave as it is.
async fn upgraded(ctx: &TestCtx) -> Result<()> {
    let definition = "scalepolicies.pgscale.dev";
    let field = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/mode";
    let older = json!([{"op": "remove", "path": field}]).to_string();
    let patch = ["patch", "customresourcedefinition", definition, "--type=json", "-p", &older];
    ctx.bed.kubectl(&patch).await?.ok()?;
    let plan = pgscale(ctx, "upgrade --dry-run=client --set log.filter=debug").await?;
    ensure!(plan.code == Some(0), "{plan:?}");
    for part in [
        &format!("definition {definition}: new: .spec.mode"),
        "1 object changed: Deployment pgscale-system/pgscale-webhook",
        "nothing was changed",
    ] {
        ensure!(plan.stdout.contains(part), "{part} is missing: {}", plan.stdout);
    }
    let done = pgscale(ctx, "upgrade --yes").await?;
    ensure!(done.code == Some(0) && done.stdout.contains("the guard HOLDS"), "{done:?}");
    let again = pgscale(ctx, "upgrade --dry-run=client").await?;
    let same = ["all are as in this program", "none changes"];
    ensure!(same.iter().all(|part| again.stdout.contains(part)), "{again:?}");
    // The stored values are kept, whatever was given once.
    let manifest = pgscale(ctx, "upgrade --dry-run=client -o yaml").await?.ok()?;
    ensure!(manifest.contains("pgscale.dev/bed-run"), "a value is lost");
    ensure!(manifest.contains(&format!("namespace: {NAMESPACE}")), "another namespace");
    Ok(())
}
