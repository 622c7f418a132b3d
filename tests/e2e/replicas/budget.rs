//! Many edits at once against several replicas, under a budget that only some of them fit.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::future::join_all;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use pgscale_guard::ledger::{InstanceLedger, NAME as LEDGER};
use pgscale_guard::policy::ScalePolicy;
use pgscale_tests::cluster::resource;
use pgscale_tests::pki::write;
use pgscale_tests::progress::say;
use pgscale_tests::replicas::{Replicas, SEEN, SOON};
use pgscale_tests::wait::{Attempt, until};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::guarding;
use crate::trial::TestCtx;

/// The clusters, each of one instance. Each is raised to two, all at once.
const CLUSTERS: usize = 40;
/// How many of these edits fit.
const FIT: usize = 12;
/// The time within which all reservations are decided. It is more than that of a fence.
const DECIDED: Duration = Duration::from_secs(20);

/// Stages clusters that no operator owns, and a budget of the namespace whose ledger has settled.
async fn stage(ctx: &TestCtx) -> Result<()> {
    let cluster = |number: usize| {
        json!({
            "apiVersion": "acid.zalan.do/v1", "kind": "postgresql",
            "metadata": {
                "name": name(number), "annotations": {"acid.zalan.do/controller": "no-operator"},
            },
            "spec": {
                "teamId": "acid", "numberOfInstances": 1,
                "postgresql": {"version": "17"}, "volume": {"size": "1Gi"},
            },
        })
    };
    let items: Vec<Value> = (0..CLUSTERS).map(cluster).collect();
    let objects = json!({"apiVersion": "v1", "kind": "List", "items": items});
    let file = write(ctx.bed.directory(), "budget.json", &objects.to_string())?;
    let file = file.to_string_lossy();
    let create = ["create", "--namespace", &ctx.namespace, "--filename", &file];
    ctx.bed.kubectl(&create).await?.ok()?;

    let client = ctx.bed.client();
    let apply = PatchParams::apply("bed").force();
    let policies: Api<ScalePolicy> = Api::namespaced(client.clone(), &ctx.namespace);
    let policy = json!({
        "apiVersion": "pgscale.dev/v1alpha1", "kind": "ScalePolicy",
        "metadata": {"name": "budget"}, "spec": {"budget": {"instances": CLUSTERS + FIT}},
    });
    let policy = policies.patch("budget", &apply, &Patch::Apply(policy)).await?;
    let uid = policy.metadata.uid.context("a policy without a uid")?;
    // A new ledger settles for three minutes. This one has.
    let ledgers: Api<InstanceLedger> = Api::namespaced(client, &ctx.namespace);
    let ledger = json!({
        "apiVersion": "pgscale.dev/v1alpha1", "kind": "InstanceLedger",
        "metadata": {"name": LEDGER},
        "spec": {
            "budget": CLUSTERS + FIT, "used": 0, "reserved": 0, "free": 0,
            "basis": [format!("{uid}@1")], "settles": "2026-01-01T00:00:00Z", "swept": "0",
            "clusters": {},
        },
    });
    ledgers.patch(LEDGER, &apply, &Patch::Apply(ledger)).await.context("no ledger")?;
    Ok(())
}

fn name(number: usize) -> String {
    format!("acid-b{number:02}")
}

/// Raises one cluster. Returns whether that was admitted; a refusal has to name the budget.
async fn raise(clusters: &Api<DynamicObject>, number: usize) -> Result<bool> {
    let two = Patch::Merge(json!({"spec": {"numberOfInstances": 2}}));
    match clusters.patch(&name(number), &PatchParams::default(), &two).await {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.message.contains("namespace-budget") => Ok(false),
        Err(error) => Err(error).context(format!("edit {number}")),
    }
}

pub(super) async fn parallel_edits(ctx: TestCtx) -> Result<()> {
    // It installs the definitions of policies.
    guarding::webhook(&ctx).await?;
    let mut replicas = Replicas::new(&ctx).await?;
    // Even so, growth under a budget never passes unreserved.
    replicas.growth = "Ignore";
    let (first, second) = (replicas.start().await?, replicas.start().await?);
    stage(&ctx).await?;
    replicas.register(&[&replicas.authority]).await?;
    tokio::time::sleep(SEEN).await;

    let clusters: Api<DynamicObject> =
        Api::namespaced_with(ctx.bed.client(), &ctx.namespace, &resource());
    let start = Instant::now();
    let edits = join_all((0..CLUSTERS).map(|number| raise(&clusters, number))).await;
    let took = start.elapsed();
    let mut admitted = 0;
    for edit in edits {
        admitted += usize::from(edit?);
    }
    let stored = clusters.list(&kube::api::ListParams::default()).await?;
    let count = |object: &DynamicObject| object.data.pointer("/spec/numberOfInstances")?.as_i64();
    let total: i64 = stored.items.iter().filter_map(count).sum();
    say(&format!("{admitted} of {CLUSTERS} edits fit, {total} instances, {} ms", took.as_millis()));
    let budget = i64::try_from(CLUSTERS + FIT)?;
    ensure!(total <= budget, "{total} instances under a budget of {budget}");
    ensure!(admitted == FIT, "{admitted} edits were admitted, and {FIT} fit");

    let ledgers: Api<InstanceLedger> = Api::namespaced(ctx.bed.client(), &ctx.namespace);
    let since = Instant::now();
    until("no reservation to be left", SOON, async || {
        let ledger = ledgers.get(LEDGER).await?.spec;
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
