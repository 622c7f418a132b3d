//! What a plain edit, a tenant or a slip did to a database before the guard knew of it: each is staged for real, refused,
//! and ended by what the refusal prints. docs/rules names the rules; guard and webhook hold the same by unit tests.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use pgscale_tests::bed::Said;
use pgscale_tests::cluster::{Cluster, PATIENCE};
use pgscale_tests::operator::Settings;
use pgscale_tests::progress::say;
use pgscale_tests::stage::Fault;
use pgscale_tests::wait::{Attempt, until};
use serde_json::{Value, json};

use crate::guarding;
use crate::trial::{Case, Scene, case};

const NAME: &str = "acid-hold";

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("losses::a_stuck_shrink_and_a_stateful_set_that_others_scaled", stuck),
        case("losses::of_volumes_on_the_way_to_zero_and_back", asleep),
        case("losses::a_cluster_that_was_replaced", replaced),
        case("losses::whose_limits_hold_where_others_look_like_the_operator", look_alike),
        case("losses::growth_while_the_store_of_patroni_changes", store),
    ]
}

/// A cluster, and how its operator is set.
struct Ground {
    scene: Scene,
    cluster: Cluster,
}

impl Ground {
    async fn of(scene: Scene, instances: u32) -> Result<Self> {
        let quick = json!({"patroni": {"ttl": 25, "loop_wait": 5}});
        let cluster = Cluster::create(&scene.bed, &scene.namespace, NAME, instances, quick).await?;
        Ok(Self { scene, cluster })
    }

    async fn operator(&self, settings: &Settings) -> Result<()> {
        self.scene.bed.operator().lock().await.start(settings).await
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
        let name = format!("{}.json", self.scene.namespace);
        let directory = self.scene.bed.directory();
        let file = pgscale_tests::pki::write(directory, &name, &object.to_string())?;
        Ok(file.to_string_lossy().into_owned())
    }

    /// Waits until a plain patch to `to` is refused by `rule`, which changes nothing; what is said.
    async fn refused(&self, to: i64, rule: &str) -> Result<Said> {
        let declared = self.cluster.declared().await?;
        until(&format!("{to} to be refused by {rule}"), PATIENCE, async || {
            let said = self.cluster.patch(to).await?;
            ensure!(said.code == Some(1), "{to} was admitted: {said:?}");
            ensure!(self.cluster.declared().await? == declared, "refused, and changed: {said:?}");
            let named = said.stderr.contains(&format!("- {rule}: "));
            Ok(if named { Attempt::Done(said) } else { Attempt::NotYet(format!("{said:?}")) })
        })
        .await
    }

    /// Runs what `text` prints and begins with `words`, after `kubectl`.
    async fn take(&self, text: &str, words: &str, more: &[&str]) -> Result<()> {
        let command = guarding::take(&self.cluster, text, words, more).await?;
        say(&format!("  kubectl {command}"));
        Ok(())
    }

    /// Who leads, and on which timeline: rises whenever somebody is promoted.
    async fn led(&self) -> Result<(u32, Option<u32>)> {
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

/// -0 is away, so that a StatefulSet with a lower count deletes nothing yet.
async fn stuck(scene: Scene) -> Result<()> {
    let ground = Ground::of(scene, 4).await?;
    let cluster = &ground.cluster;
    cluster.move_leader_to(3).await?;
    ground.keep("before").await?;
    // Until it has seen all members ready, the operator takes no change.
    cluster.settled().await?;
    cluster.stage(0, Fault::ImageUnavailable).await?;
    ground.kubectl(&["delete", "pod", "acid-hold-0"]).await?;
    let ended = async {
        // Unguarded: the operator asks -0, which is not there, and sets the count all the same.
        cluster.patch(2).await?.ok()?;
        replicas(cluster, 2).await?;
        guarding::guarded(&ground.scene).await?;
        let led = ground.led().await?;
        let back = guarding::admitted(cluster, 4).await?;
        ensure!(back.stderr.contains("Warning"), "nothing is told: {back:?}");
        replicas(cluster, 4).await?;
        ensure!(ground.led().await? == led && led.0 == 3, "the leader was not kept: {led:?}");

        // The same by another hand: the StatefulSet alone, which its operator does not see.
        ground.scene.bed.operator().lock().await.stop().await?;
        let scale = ["scale", "statefulset", NAME, "--replicas=1"];
        ground.kubectl(&scale).await?;
        let said = ground.refused(1, "leader-condemned").await?;
        let keep = format!("scale statefulset {NAME} --replicas=4");
        ground.take(&said.stderr, &keep, &[]).await?;
        ensure!(ground.led().await? == led, "the leader was not kept");
        Ok(())
    };
    let ended = ended.await;
    ground.operator(&Settings::default()).await?;
    ended?;
    cluster.unstage(0, Fault::ImageUnavailable).await?;
    cluster.converged(4).await?;
    ground.remembers("before").await
}

async fn replicas(cluster: &Cluster, want: i32) -> Result<()> {
    until(&format!("the StatefulSet to ask for {want}"), PATIENCE, async || {
        let replicas = cluster.replicas().await?;
        Ok(if replicas == want { Attempt::Done(()) } else { Attempt::NotYet(replicas.to_string()) })
    })
    .await
}

async fn asleep(scene: Scene) -> Result<()> {
    let ground = Ground::of(scene, 2).await?;
    guarding::guarded(&ground.scene).await?;
    ground
        .write(&json!({
            "apiVersion": "pgscale.dev/v1alpha1", "kind": "ScalePolicy",
            "metadata": {"name": "sleeps"}, "spec": {"instances": {"zero": "Allow"}},
        }))
        .await?;
    let deletes = "persistent_volume_claim_retention_policy";
    let more =
        BTreeMap::from([(deletes.to_owned(), "when_deleted:retain,when_scaled:delete".to_owned())]);
    ground.operator(&Settings { more, ..Settings::default() }).await?;
    let volumes = volumes(&ground).await;
    ground.operator(&Settings::default()).await?;
    volumes.context("volumes")?;
    let retains = "--output=jsonpath={.spec.persistentVolumeClaimRetentionPolicy.whenScaled}";
    until("volumes to be kept", PATIENCE, async || {
        // The operator replaces the StatefulSet: for a moment there is none.
        let kept = ground.cluster.kubectl(&["get", "statefulset", NAME, retains]).await?;
        let retained = kept.stdout == "Retain";
        Ok(if retained { Attempt::Done(()) } else { Attempt::NotYet(format!("{kept:?}")) })
    })
    .await?;
    asleep_and_paused(&ground).await.context("paused")?;
    unlabelled(&ground).await.context("unlabelled")
}

async fn volumes(ground: &Ground) -> Result<()> {
    let said = ground.refused(0, "volumes-deleted").await?;
    let way = "when_scaled: retain in configmap default/postgres-operator, restart the operator";
    ensure!(said.stderr.contains(way), "{said:?}");
    Ok(())
}

async fn asleep_and_paused(ground: &Ground) -> Result<()> {
    let cluster = &ground.cluster;
    cluster.move_leader_to(1).await?;
    // Otherwise it leads last: pods end one by one, the highest ordinal first.
    cluster.stage(0, Fault::NoFailover).await?;
    ground.keep("newest").await?;
    sleep(ground).await?;
    cluster.unstage(0, Fault::NoFailover).await?;
    // Nobody is there whom `patronictl pause` could ask.
    let config = format!("{NAME}-config");
    let kept = ["get", "endpoints", &config, "--output=jsonpath={.metadata.annotations.config}"];
    let mut settings: Value = serde_json::from_str(&ground.kubectl(&kept).await?)?;
    settings["pause"] = json!(true);
    let settings = format!("config={settings}");
    ground.kubectl(&["annotate", "endpoints", &config, "--overwrite", &settings]).await?;
    let said = ground.refused(2, "paused").await?;
    ground.take(&said.stderr, &format!("get endpoints/{config}"), &[]).await
}

async fn sleep(ground: &Ground) -> Result<()> {
    let whole = format!("--confirm={}/{NAME}", ground.cluster.namespace);
    let set = ["set", NAME, "0", &whole, "--timeout", "4m"];
    ground.cluster.pgscale(&set).await?.ok().map(drop)
}

/// Nothing tells who led last, and the claims are members' by their names alone.
async fn unlabelled(ground: &Ground) -> Result<()> {
    let claims = [0, 1].map(|ordinal| format!("pgdata-{}", ground.cluster.pod_name(ordinal)));
    ground
        .kubectl(&["label", "pvc", &claims[0], &claims[1], "cluster-name-", "application-"])
        .await?;
    for (object, key) in [("-config", "history-"), ("", "leader-")] {
        ground.kubectl(&["annotate", "endpoints", &format!("{NAME}{object}"), key]).await?;
    }
    let said = ground.refused(1, "return-from-zero").await?;
    ensure!(said.stderr.contains(&claims[1]), "not what is left out: {said:?}");
    let set = format!("pgscale set {NAME} 2");
    ground.take(&said.stderr, &set, &["--yes", "--timeout", "4m"]).await?;
    ground.cluster.converged(2).await?;
    ground.remembers("newest").await
}

/// `kubectl replace --force` deletes the cluster before the guard is asked about the next one.
async fn replaced(scene: Scene) -> Result<()> {
    let ground = Ground::of(scene, 3).await?;
    guarding::guarded(&ground.scene).await?;
    ground.cluster.move_leader_to(2).await?;
    ground.keep("newest").await?;
    let kept = ("enable_persistent_volume_claim_deletion".to_owned(), "false".to_owned());
    let keeping = Settings { more: BTreeMap::from([kept]), ..Settings::default() };
    ground.operator(&keeping).await?;
    let ended = volumes_kept(&ground).await;
    ground.operator(&Settings::default()).await?;
    ended.context("volumes kept")?;
    volumes_deleted(&ground).await.context("volumes deleted")
}

/// The same manifest with one instance, by force; what is said, and the manifest.
async fn replace_by_one(ground: &Ground) -> Result<(String, String)> {
    ground.cluster.move_leader_to(2).await?;
    let object = ground.kubectl(&["get", "postgresql", NAME, "--output=json"]).await?;
    let mut object: Value = serde_json::from_str(&object)?;
    object["spec"]["numberOfInstances"] = json!(1);
    object["metadata"] = json!({"name": NAME, "namespace": ground.cluster.namespace});
    let file = ground.file(&object)?;
    let said = ground.cluster.kubectl(&["replace", "--force", "-f", &file]).await?;
    ensure!(said.code == Some(1) && said.stderr.contains("return-from-zero"), "{said:?}");
    ensure!(said.stderr.contains("was deleted, and it is gone"), "{said:?}");
    Ok((said.stderr, file))
}

/// The line below `words`, run as it was printed.
async fn paste(ground: &Ground, text: &str, words: &str, manifest: &str) -> Result<()> {
    let line = text.lines().skip_while(|line| *line != words).nth(1);
    let line = line.with_context(|| format!("nothing below {words:?} in {text}"))?.trim();
    let line = line.replace("MANIFEST", manifest);
    ground.scene.bed.paste(&line).await?.ok().with_context(|| line.clone())?;
    say(&format!("  {line}"));
    Ok(())
}

async fn volumes_kept(ground: &Ground) -> Result<()> {
    let (said, manifest) = replace_by_one(ground).await?;
    paste(ground, &said, "To bring it back with 3:", &manifest).await?;
    // The pods of the deleted cluster may still be there: the operator calls it running when its own are.
    ground.cluster.settled().await?;
    ground.cluster.converged(3).await?;
    ground.remembers("newest").await
}

/// By default the operator deletes the volumes, too: nothing brings them back, but the disks can be kept.
async fn volumes_deleted(ground: &Ground) -> Result<()> {
    let (said, manifest) = replace_by_one(ground).await?;
    ensure!(said.contains("enable_persistent_volume_claim_deletion: true"), "{said}");
    ensure!(!said.contains("To bring it back"), "the operator deletes the volumes: {said}");
    paste(ground, &said, "To keep the disks that are still there:", &manifest).await?;
    let path = "--output=jsonpath={range .items[*]}{.spec.claimRef.namespace}/\
                {.spec.claimRef.name}={.status.phase} {end}";
    until("the disks to be released, and kept", PATIENCE, async || {
        let volumes = ground.kubectl(&["get", "pv", path]).await?;
        let ours = format!("{}/pgdata-{NAME}-", ground.cluster.namespace);
        let ours = volumes.split_whitespace().filter(|volume| volume.starts_with(&ours));
        let released = ours.filter(|volume| volume.ends_with("=Released")).count();
        Ok(if released == 3 { Attempt::Done(()) } else { Attempt::NotYet(volumes) })
    })
    .await
}

/// A tenant's Deployment looks like an operator, down to its labels and the name of its account.
async fn look_alike(scene: Scene) -> Result<()> {
    let ground = Ground::of(scene, 1).await?;
    guarding::guarded(&ground.scene).await?;
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
    ground.write(&settings).await?;
    ground.write(&deployment).await?;

    let dry = json!({"spec": {"numberOfInstances": 2}}).to_string();
    let dry = ["patch", "postgresql", NAME, "--type=merge", "--dry-run=server", "-p", &dry];
    // Growth passes with a warning where limits are not known, and the plugin asks nobody here.
    let told = ground.cluster.kubectl(&dry).await?;
    ensure!(told.code == Some(0) && told.stderr.contains("operator-limits"), "{told:?}");
    let planned = ground.cluster.pgscale(&["plan", NAME, "--to", "2"]).await?;
    let create = "create configmap pgscale-operators -n kube-public --from-literal=accounts=";
    ensure!(planned.stdout.contains(create), "{planned:?}");
    let by_flag = ["plan", NAME, "--to", "2", "--operator", "default/postgres-operator"];
    let named = ground.cluster.pgscale(&by_flag).await?;
    ensure!(named.code == Some(0) && !named.stdout.contains("operator-limits"), "{named:?}");

    let listed = format!("{create}default/postgres-operator");
    ground.scene.bed.paste(&format!("kubectl {listed}")).await?.ok()?;
    let judged = until("its limits to be nobody's", PATIENCE, async || {
        let said = ground.cluster.kubectl(&dry).await?;
        let silent = said.code == Some(0) && !said.stderr.contains("operator-limits");
        Ok(if silent { Attempt::Done(()) } else { Attempt::NotYet(format!("{said:?}")) })
    })
    .await;
    let remove = ["delete", "configmap", "pgscale-operators", "-n", "kube-public"];
    ground.scene.bed.kubectl(&remove).await?.ok()?;
    ground.kubectl(&["delete", "deployment", "postgres-operator"]).await?;
    judged
}

async fn store(scene: Scene) -> Result<()> {
    let ground = Ground::of(scene, 1).await?;
    let cluster = &ground.cluster;
    guarding::guarded(&ground.scene).await?;
    ground.keep("newest").await?;
    // Whoever upgrades to operator 2 and does not pin the setting gets this.
    let moved = Settings { use_configmaps: true, ..Settings::default() };
    ground.scene.bed.operator().lock().await.configure(&moved).await?;
    let said = ground.refused(2, "dcs-store-changing").await;
    ground.operator(&Settings::default()).await?;
    ensure!(said?.stderr.contains("docs/migrate.md"), "the page on the migration is not named");
    // The operator as the pods are: nothing is left to finish.
    guarding::admitted(cluster, 2).await?;
    cluster.converged(2).await?;
    ground.remembers("newest").await
}
