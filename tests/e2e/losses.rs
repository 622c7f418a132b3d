//! Losses that a plain edit, a tenant or a slip caused before the guard had a rule for them. Each
//! is staged for real, refused, and ended by the command that the refusal prints. docs/rules names
//! the rules. The unit tests of guard and webhook cover the same cases.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use pgscale_tests::bed::Said;
use pgscale_tests::cluster::{Cluster, TIMEOUT, quick};
use pgscale_tests::operator::Settings;
use pgscale_tests::progress::say;
use pgscale_tests::proof::pause_kept;
use pgscale_tests::stage::Fault;
use pgscale_tests::wait::{Attempt, until};
use serde_json::{Value, json};

use crate::guarding;
use crate::suggested;
use crate::trial::{Case, TestCtx, case};

const NAME: &str = "acid-hold";

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("losses::the_leader_survives_a_stuck_shrink_and_a_scaled_stateful_set", stuck),
        case("losses::volumes_survive_a_scale_to_zero", asleep),
        case("losses::a_replaced_cluster_is_not_created_from_older_data", replaced),
        case("losses::limits_of_a_look_alike_operator_do_not_count", look_alike),
        case("losses::growth_is_refused_while_the_dcs_store_changes", store),
    ]
}

/// The cluster of one test, and its operator.
struct TestCluster {
    ctx: TestCtx,
    cluster: Cluster,
}

impl TestCluster {
    async fn of(ctx: TestCtx, instances: u32) -> Result<Self> {
        let cluster = Cluster::create(&ctx.bed, &ctx.namespace, NAME, instances, quick()).await?;
        Ok(Self { ctx, cluster })
    }

    async fn operator(&self, settings: &Settings) -> Result<()> {
        self.ctx.bed.operator().lock().await.start(settings).await
    }

    async fn kubectl(&self, args: &[&str]) -> Result<String> {
        let said = self.cluster.kubectl(args).await?;
        said.ok().with_context(|| format!("kubectl {}", args.join(" ")))
    }

    async fn write(&self, object: &Value) -> Result<()> {
        let file = self.file(object)?;
        self.kubectl(&["apply", "--server-side", "-f", &file]).await.map(drop)
    }

    fn file(&self, object: &Value) -> Result<String> {
        let name = format!("{}.json", self.ctx.namespace);
        let directory = self.ctx.bed.directory();
        let file = pgscale_tests::pki::write(directory, &name, &object.to_string())?;
        Ok(file.to_string_lossy().into_owned())
    }

    /// Waits until `rule` refuses a plain patch to `to`, which changes nothing, and returns the
    /// answer.
    async fn refused(&self, to: i64, rule: &str) -> Result<Said> {
        let declared = self.cluster.declared().await?;
        until(&format!("{to} to be refused by {rule}"), TIMEOUT, async || {
            let said = self.cluster.patch(to).await?;
            ensure!(said.code == Some(1), "{to} was admitted: {said:?}");
            ensure!(self.cluster.declared().await? == declared, "refused, but changed: {said:?}");
            let named = said.stderr.contains(&format!("- {rule}: "));
            Ok(if named { Attempt::Done(said) } else { Attempt::NotYet(format!("{said:?}")) })
        })
        .await
    }

    /// Runs the command in `text` that begins with `words`, after `kubectl`.
    async fn run_printed(&self, text: &str, words: &str, more: &[&str]) -> Result<()> {
        let command = suggested::run(&self.cluster, text, words, more).await?;
        say(&format!("  {command}"));
        Ok(())
    }

    /// Returns the ordinal of the leader and its timeline, which rises with every promotion.
    async fn leadership(&self) -> Result<(u32, Option<u32>)> {
        let leader = self.cluster.leader().await?;
        Ok((leader.ordinal, leader.answer.and_then(|answer| answer.timeline)))
    }

    async fn remembers(&self, row: &str) -> Result<()> {
        let leader = self.cluster.leader().await?.ordinal;
        let rows = self.cluster.sql(leader, "SELECT row FROM kept").await?;
        ensure!(rows == row, "the rows are lost: {rows:?}");
        Ok(())
    }

    async fn keep(&self, row: &str) -> Result<()> {
        let leader = self.cluster.leader().await?.ordinal;
        self.cluster.sql(leader, &format!("CREATE TABLE kept AS SELECT '{row}' AS row")).await?;
        Ok(())
    }
}

/// -0 is stopped, so that a StatefulSet with a lower count deletes nothing yet.
async fn stuck(ctx: TestCtx) -> Result<()> {
    let test = TestCluster::of(ctx, 4).await?;
    let cluster = &test.cluster;
    cluster.move_leader_to(3).await?;
    test.keep("before").await?;
    // Until the operator has seen all members ready, it takes no change.
    cluster.settled().await?;
    cluster.stage(0, Fault::ImageUnavailable).await?;
    test.kubectl(&["delete", "pod", "acid-hold-0"]).await?;
    let ended = async {
        // Without the webhook: the operator asks -0, which is not there, and sets the count all the
        // same.
        cluster.patch(2).await?.ok()?;
        replicas(cluster, 2).await?;
        guarding::guarded(&test.ctx).await?;
        let led = test.leadership().await?;
        let back = guarding::admitted(cluster, 4).await?;
        ensure!(back.stderr.contains("Warning"), "there is no warning: {back:?}");
        replicas(cluster, 4).await?;
        ensure!(test.leadership().await? == led && led.0 == 3, "the leader was not kept: {led:?}");

        // The same by another writer: the StatefulSet alone, while its operator is stopped.
        test.ctx.bed.operator().lock().await.stop().await?;
        let scale = ["scale", "statefulset", NAME, "--replicas=1"];
        test.kubectl(&scale).await?;
        let said = test.refused(1, "leader-condemned").await?;
        let keep = format!("scale statefulset {NAME} --replicas=4");
        test.run_printed(&said.stderr, &keep, &[]).await?;
        ensure!(test.leadership().await? == led, "the leader was not kept");
        Ok(())
    };
    let ended = ended.await;
    test.operator(&Settings::default()).await?;
    ended?;
    cluster.unstage(0, Fault::ImageUnavailable).await?;
    cluster.converged(4).await?;
    test.remembers("before").await
}

async fn replicas(cluster: &Cluster, want: i32) -> Result<()> {
    until(&format!("the StatefulSet to ask for {want}"), TIMEOUT, async || {
        let replicas = cluster.replicas().await?;
        Ok(if replicas == want { Attempt::Done(()) } else { Attempt::NotYet(replicas.to_string()) })
    })
    .await
}

async fn asleep(ctx: TestCtx) -> Result<()> {
    let test = TestCluster::of(ctx, 2).await?;
    guarding::guarded(&test.ctx).await?;
    test.write(&json!({
        "apiVersion": "pgscale.dev/v1alpha1", "kind": "ScalePolicy",
        "metadata": {"name": "sleeps"},
        // Below, another than ordinal 0 leads last.
        "spec": {"instances": {"zero": "Allow"}, "rules": {"last-to-stop": "Warn"}},
    }))
    .await?;
    let deletes = "persistent_volume_claim_retention_policy";
    let more =
        BTreeMap::from([(deletes.to_owned(), "when_deleted:retain,when_scaled:delete".to_owned())]);
    test.operator(&Settings { more, ..Settings::default() }).await?;
    let volumes = volumes(&test).await;
    test.operator(&Settings::default()).await?;
    volumes.context("volumes")?;
    let retains = "--output=jsonpath={.spec.persistentVolumeClaimRetentionPolicy.whenScaled}";
    until("volumes to be kept", TIMEOUT, async || {
        // The operator replaces the StatefulSet: for a moment there is none.
        let kept = test.cluster.kubectl(&["get", "statefulset", NAME, retains]).await?;
        let retained = kept.stdout == "Retain";
        Ok(if retained { Attempt::Done(()) } else { Attempt::NotYet(format!("{kept:?}")) })
    })
    .await?;
    asleep_and_paused(&test).await.context("paused")?;
    unlabelled(&test).await.context("unlabelled")
}

async fn volumes(test: &TestCluster) -> Result<()> {
    let said = test.refused(0, "volumes-deleted").await?;
    let way = "when_scaled: retain in configmap default/postgres-operator, restart the operator";
    ensure!(said.stderr.contains(way), "{said:?}");
    Ok(())
}

async fn asleep_and_paused(test: &TestCluster) -> Result<()> {
    let cluster = &test.cluster;
    cluster.move_leader_to(1).await?;
    // Otherwise -0 leads last: pods end one by one, the highest ordinal first.
    cluster.stage(0, Fault::NoFailover).await?;
    test.keep("newest").await?;
    sleep(test).await?;
    cluster.unstage(0, Fault::NoFailover).await?;
    pause_kept(cluster, Some(true)).await?;
    let said = test.refused(2, "paused").await?;
    test.run_printed(&said.stderr, &format!("get endpoints/{NAME}-config"), &[]).await
}

async fn sleep(test: &TestCluster) -> Result<()> {
    let whole = format!("--confirm={}/{NAME}", test.cluster.namespace);
    let set = ["set", NAME, "0", &whole, "--timeout", "4m"];
    test.cluster.pgscale(&set).await?.ok().map(drop)
}

/// Nothing records the last leader, and only their names assign the claims to members.
async fn unlabelled(test: &TestCluster) -> Result<()> {
    let claims = [0, 1].map(|ordinal| format!("pgdata-{}", test.cluster.pod_name(ordinal)));
    test.kubectl(&["label", "pvc", &claims[0], &claims[1], "cluster-name-", "application-"])
        .await?;
    for (object, key) in [("-config", "history-"), ("", "leader-")] {
        test.kubectl(&["annotate", "endpoints", &format!("{NAME}{object}"), key]).await?;
    }
    let said = test.refused(1, "return-from-zero").await?;
    ensure!(said.stderr.contains(&claims[1]), "the claim that is left out is not named: {said:?}");
    let set = format!("pgscale set {NAME} 2");
    test.run_printed(&said.stderr, &set, &["--yes", "--timeout", "4m"]).await?;
    test.cluster.converged(2).await?;
    test.remembers("newest").await
}

/// `kubectl replace --force` deletes the cluster before the webhook judges the next one.
async fn replaced(ctx: TestCtx) -> Result<()> {
    let test = TestCluster::of(ctx, 3).await?;
    guarding::guarded(&test.ctx).await?;
    test.cluster.move_leader_to(2).await?;
    test.keep("newest").await?;
    let kept = ("enable_persistent_volume_claim_deletion".to_owned(), "false".to_owned());
    let keeping = Settings { more: BTreeMap::from([kept]), ..Settings::default() };
    test.operator(&keeping).await?;
    let ended = volumes_kept(&test).await;
    test.operator(&Settings::default()).await?;
    ended.context("volumes kept")?;
    volumes_deleted(&test).await.context("volumes deleted")
}

/// Replaces the cluster by force with the same manifest and one instance. Returns the answer and
/// the manifest.
async fn replace_by_one(test: &TestCluster) -> Result<(String, String)> {
    test.cluster.move_leader_to(2).await?;
    let object = test.kubectl(&["get", "postgresql", NAME, "--output=json"]).await?;
    let mut object: Value = serde_json::from_str(&object)?;
    object["spec"]["numberOfInstances"] = json!(1);
    object["metadata"] = json!({"name": NAME, "namespace": test.cluster.namespace});
    let file = test.file(&object)?;
    let said = test.cluster.kubectl(&["replace", "--force", "-f", &file]).await?;
    ensure!(said.code == Some(1) && said.stderr.contains("return-from-zero"), "{said:?}");
    ensure!(said.stderr.contains("was deleted, and it stays deleted"), "{said:?}");
    Ok((said.stderr, file))
}

/// Runs the line below the line `words` as it was printed.
async fn run_below(test: &TestCluster, said: &str, words: &str, manifest: &str) -> Result<()> {
    let line = suggested::run_below(&test.cluster, said, words, manifest).await?;
    say(&format!("  {line}"));
    Ok(())
}

async fn volumes_kept(test: &TestCluster) -> Result<()> {
    let (said, manifest) = replace_by_one(test).await?;
    run_below(test, &said, "To bring it back with 3:", &manifest).await?;
    // The pods of the deleted cluster may still exist: the operator reports Running once its own
    // pods run.
    test.cluster.settled().await?;
    test.cluster.converged(3).await?;
    test.remembers("newest").await
}

/// By default the operator deletes the volumes too. Nothing brings them back, but the disks can be
/// kept.
async fn volumes_deleted(test: &TestCluster) -> Result<()> {
    let (said, manifest) = replace_by_one(test).await?;
    ensure!(said.contains("enable_persistent_volume_claim_deletion: true"), "{said}");
    ensure!(!said.contains("To bring it back"), "the operator deletes the volumes: {said}");
    run_below(test, &said, "To keep the disks that are still there:", &manifest).await?;
    let path = "--output=jsonpath={range .items[*]}{.spec.claimRef.namespace}/\
                {.spec.claimRef.name}={.status.phase} {end}";
    until("the disks to be released, and kept", TIMEOUT, async || {
        let volumes = test.kubectl(&["get", "pv", path]).await?;
        let ours = format!("{}/pgdata-{NAME}-", test.cluster.namespace);
        let ours = volumes.split_whitespace().filter(|volume| volume.starts_with(&ours));
        let released = ours.filter(|volume| volume.ends_with("=Released")).count();
        Ok(if released == 3 { Attempt::Done(()) } else { Attempt::NotYet(volumes) })
    })
    .await
}

/// A tenant's Deployment looks like an operator, including its labels and the name of its account.
async fn look_alike(ctx: TestCtx) -> Result<()> {
    let test = TestCluster::of(ctx, 1).await?;
    guarding::guarded(&test.ctx).await?;
    let labels =
        json!({"application": "postgres-operator", "app.kubernetes.io/name": "postgres-operator"});
    let container = json!({
        "name": "postgres-operator", "image": "ghcr.io/zalando/postgres-operator:v1.15.1",
        "env": [{"name": "CONFIG_MAP_NAME", "value": "postgres-operator"},
                {"name": "WATCHED_NAMESPACE", "value": "*"}],
    });
    let settings = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "postgres-operator"},
        "data": {"max_instances": "1", "watched_namespace": "*"},
    });
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "postgres-operator", "labels": labels},
        "spec": {
            "replicas": 0, "selector": {"matchLabels": {"name": "postgres-operator"}},
            "template": {
                "metadata": {"labels": {"name": "postgres-operator"}},
                "spec": {"serviceAccountName": "postgres-operator", "containers": [container]},
            },
        },
    });
    test.write(&settings).await?;
    test.write(&deployment).await?;

    let dry = json!({"spec": {"numberOfInstances": 2}}).to_string();
    let dry = ["patch", "postgresql", NAME, "--type=merge", "--dry-run=server", "-p", &dry];
    // Growth passes with a warning where limits are unknown, and the plugin does not ask for
    // confirmation. The webhook finds the second Deployment with its next search.
    until("the look-alike to be found", TIMEOUT, async || {
        let said = test.cluster.kubectl(&dry).await?;
        ensure!(said.code == Some(0), "{said:?}");
        let warned = said.stderr.contains("operator-limits");
        Ok(if warned { Attempt::Done(()) } else { Attempt::NotYet(format!("{said:?}")) })
    })
    .await?;
    let planned = test.cluster.pgscale(&["plan", NAME, "--to", "2"]).await?;
    let create = "create configmap pgscale-operators -n kube-public --from-literal=accounts=";
    ensure!(planned.stdout.contains(create), "{planned:?}");
    let by_flag = ["plan", NAME, "--to", "2", "--operator", "default/postgres-operator"];
    let named = test.cluster.pgscale(&by_flag).await?;
    ensure!(named.code == Some(0) && !named.stdout.contains("operator-limits"), "{named:?}");

    let listed = format!("{create}default/postgres-operator");
    test.ctx.bed.paste(&format!("kubectl {listed}")).await?.ok()?;
    let judged = until("the limits of the look-alike to be ignored", TIMEOUT, async || {
        let said = test.cluster.kubectl(&dry).await?;
        let silent = said.code == Some(0) && !said.stderr.contains("operator-limits");
        Ok(if silent { Attempt::Done(()) } else { Attempt::NotYet(format!("{said:?}")) })
    })
    .await;
    let remove = ["delete", "configmap", "pgscale-operators", "-n", "kube-public"];
    test.ctx.bed.kubectl(&remove).await?.ok()?;
    test.kubectl(&["delete", "deployment", "postgres-operator"]).await?;
    judged
}

async fn store(ctx: TestCtx) -> Result<()> {
    let test = TestCluster::of(ctx, 1).await?;
    let cluster = &test.cluster;
    guarding::guarded(&test.ctx).await?;
    test.keep("newest").await?;
    // An upgrade to operator 2 that does not pin the setting has this effect.
    let moved = Settings { use_configmaps: true, ..Settings::default() };
    test.ctx.bed.operator().lock().await.configure(&moved).await?;
    let said = test.refused(2, "dcs-store-changing").await;
    test.operator(&Settings::default()).await?;
    ensure!(said?.stderr.contains("docs/migrate.md"), "the page on the migration is not named");
    // The operator now has the setting of the pods: nothing is left to finish.
    guarding::admitted(cluster, 2).await?;
    cluster.converged(2).await?;
    test.remembers("newest").await
}
