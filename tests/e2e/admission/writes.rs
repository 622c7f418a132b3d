//! Every way to write a count on a real API server, and the writes that the webhook must never
//! hinder.

use super::*;

/// The flag that makes a write one of the operator's account.
const OPERATOR: &str = "--as=system:serviceaccount:default:postgres-operator";

pub(super) fn cases() -> Vec<Case> {
    vec![
        case("admission::an_override_admits_one_change_and_is_reported", overridden),
        case("admission::the_merged_result_of_two_field_managers_is_judged", two_managers),
        case("admission::an_object_with_a_generated_name_is_judged", generated),
        case("admission::a_cluster_created_again_is_judged", again),
        case("admission::a_violating_cluster_can_be_edited_and_improved", violating),
        case("admission::the_operators_own_writes_never_reach_the_webhook", operators_own),
        case("admission::edits_that_switch_limits_are_judged", switches),
        case("admission::counts_with_a_decimal_point_and_many_annotations_are_judged", disguised),
        case("admission::scaling_a_stateful_set_warns_and_is_not_refused", direct_scale),
    ]
}

fn named(name: &str, instances: i64) -> Value {
    let mut object = cluster(instances);
    object["metadata"]["name"] = json!(name);
    object
}

/// The creation of objects, and what it leaves.
trait Written {
    async fn create(&self, object: &Value) -> Result<Said>;

    async fn uid(&self) -> Result<String>;

    /// Waits for an Event with this reason.
    async fn event(&self, reason: &str) -> Result<Event>;
}

impl Written for TestCtx {
    async fn create(&self, object: &Value) -> Result<Said> {
        let file = self.file("created.json", object)?;
        self.run(&["create", "--filename", &file]).await
    }

    async fn uid(&self) -> Result<String> {
        let path = "--output=jsonpath={.metadata.uid}";
        self.run(&["get", "postgresql", NAME, path]).await?.ok()
    }

    async fn event(&self, reason: &str) -> Result<Event> {
        let events: Api<Event> = Api::namespaced(self.bed.client(), &self.namespace);
        until(&format!("an Event {reason}"), SOON, async || {
            let found =
                events.list(&ListParams::default()).await.context("failed to list Events")?;
            let event = found.into_iter().find(|event| event.reason.as_deref() == Some(reason));
            Ok(event.map_or_else(|| Attempt::NotYet("none".into()), Attempt::Done))
        })
        .await
    }
}

/// Returns the text of all warnings, unwrapped.
fn warned(said: &Said) -> String {
    let lines = said.stderr.lines().filter_map(|line| line.strip_prefix("Warning: "));
    lines.map(str::trim).collect::<Vec<_>>().join(" ")
}

async fn overridden(ctx: TestCtx) -> Result<()> {
    let webhook = ctx.set().await?;
    let now = k8s_openapi::jiff::Timestamp::now();
    let hours = |hours| now + k8s_openapi::jiff::SignedDuration::from_hours(hours);
    let uid = ctx.uid().await?;
    let granted = |name: &str, hours_left: i64| {
        json!({
            "apiVersion": "pgscale.dev/v1alpha1", "kind": "ScaleOverride", "metadata": {"name": name},
            "spec": {"cluster": NAME, "clusterUid": uid, "to": 9, "rules": ["above-max"],
                "reason": "the sale begins", "expiresAt": hours(hours_left)},
        })
    };
    ctx.create(&granted("for-long", 5)).await?.ok()?;
    let said = ctx.patch(&to(9)).await?;
    ensure_refused("an override that is valid for too long", &said, "above-max")?;
    ensure!(said.stderr.contains("more than 4h after its creation"), "{}", said.stderr);

    for (wrong, value) in [
        ("rules", json!([])),
        ("to", json!(-1)),
        ("reason", json!("")),
        ("expiresAt", json!("soon")),
    ] {
        let mut object = granted("wrong", 1);
        object["spec"][wrong] = value;
        let said = ctx.create(&object).await?;
        ensure!(said.code == Some(1) && said.stderr.contains("is invalid"), "{wrong}: {said:?}");
    }
    ctx.create(&granted("sale", 1)).await?.ok()?;
    let longer = json!({"spec": {"expiresAt": hours(3)}}).to_string();
    let said = ctx.run(&["patch", "scaleoverride", "sale", "--type=merge", "-p", &longer]).await?;
    ensure!(said.stderr.contains("an override cannot be changed"), "{said:?}");

    let said = ctx.patch(&to(8)).await?;
    ensure_refused("another count", &said, "above-max")?;
    ensure!(said.stderr.contains("it allows 9 instances, and 8 are asked for"), "{}", said.stderr);
    let nine = to(9).to_string();
    let dry = ["patch", "postgresql", NAME, "--dry-run=server", "--type=merge", "-p", &nine];
    ctx.run(&dry).await?.ok().context("a dry run of what was allowed")?;
    let used =
        async || -> Result<bool> { Ok(webhook.metrics().await?.contains("effect=\"overridden\"")) };
    ensure!(used().await?, "a dry run is judged alike");
    let said = ctx.patch(&to(9)).await?;
    ensure!(said.code == Some(0) && warned(&said).contains("scaleoverride/sale"), "{said:?}");
    let event = ctx.event("ScaleOverridden").await?;
    ensure!(
        event.note.as_deref().is_some_and(|note| note.contains("the sale begins")),
        "{event:?}"
    );

    // A cluster of the same name is another cluster.
    ctx.run(&["delete", "postgresql", NAME]).await?.ok()?;
    ctx.create(&cluster(3)).await?.ok()?;
    let said = ctx.patch(&to(9)).await?;
    ensure_refused("a new cluster of the same name", &said, "above-max")?;
    ensure!(
        said.stderr.contains(&format!("it is for the cluster with uid {uid}")),
        "{}",
        said.stderr
    );
    Ok(())
}

async fn two_managers(ctx: TestCtx) -> Result<()> {
    ctx.set().await?;
    let flux = async |spec: Value, force: bool| {
        let object = json!({
            "apiVersion": "acid.zalan.do/v1", "kind": "postgresql",
            "metadata": {"name": NAME}, "spec": spec,
        });
        let file = ctx.file("flux.json", &object)?;
        let mut args = vec!["apply", "--server-side", "--field-manager=flux", "--filename", &file];
        args.extend(force.then_some("--force-conflicts"));
        ctx.run(&args).await
    };
    let conflict = flux(json!({"numberOfInstances": 4}), false).await?;
    ensure!(conflict.stderr.contains("conflict"), "two owners of one field: {conflict:?}");
    let nine = flux(json!({"numberOfInstances": 9}), true).await?;
    ensure_refused("a taken field", &nine, "above-max")?;
    flux(json!({"numberOfInstances": 4}), true).await?.ok()?;
    // The other manager keeps its fields, and the count stays.
    let mut without = cluster(0);
    without["spec"].as_object_mut().context("a spec")?.remove("numberOfInstances");
    let file = ctx.file("without.json", &without)?;
    ctx.run(&["apply", "--server-side", "--filename", &file]).await?.ok()?;
    ensure!(ctx.count().await? == "4", "the count belongs to flux");
    // Otherwise the count would have no owner, and the operator would read 0.
    let given_up = flux(json!({}), true).await?;
    ensure!(given_up.code == Some(1), "a cluster without a count: {given_up:?}");
    ensure!(ctx.count().await? == "4", "something got through");
    Ok(())
}

async fn generated(ctx: TestCtx) -> Result<()> {
    ctx.set().await?;
    let generated = |instances| {
        let mut object = cluster(instances);
        object["metadata"] = json!({"generateName": "acid-made-",
            "annotations": {"acid.zalan.do/controller": "no-operator"}});
        object
    };
    let said = ctx.create(&generated(9)).await?;
    ensure_refused("create with a generated name", &said, "above-max")?;
    let whole = format!("{}/acid-made-", ctx.namespace);
    ensure!(said.stderr.contains(&whole), "the name is missing in {}", said.stderr);
    ctx.create(&generated(3)).await?.ok()?;
    Ok(())
}

async fn again(ctx: TestCtx) -> Result<()> {
    ctx.set().await?;
    let before = ctx.uid().await?;
    // Its volumes stay, as after a deletion by the operator.
    for ordinal in [0, 4] {
        let claim = json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": {"name": format!("pgdata-{NAME}-{ordinal}"),
                "labels": {"application": "spilo", "cluster-name": NAME}},
            "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "none",
                "resources": {"requests": {"storage": "1Gi"}}},
        });
        ctx.create(&claim).await?.ok()?;
    }
    ctx.run(&["delete", "postgresql", NAME]).await?.ok()?;
    ensure_refused("more than allowed", &ctx.create(&cluster(9)).await?, "above-max")?;
    ensure_refused("fewer than allowed", &ctx.create(&cluster(1)).await?, "below-min")?;
    ctx.create(&cluster(5)).await?.ok()?;
    ensure!(ctx.uid().await? != before, "it is another cluster");
    Ok(())
}

async fn violating(ctx: TestCtx) -> Result<()> {
    guarded(&ctx).await?;
    for (name, instances) in [(NAME, 9), ("acid-small", 1)] {
        ctx.apply(&named(name, instances)).await?.ok()?;
    }
    ctx.apply(&policy()).await?.ok()?;
    ctx.patch(&json!({"metadata": {"labels": {"team": "a"}}})).await?.ok()?;
    ctx.patch(&json!({"spec": {"volume": {"size": "2Gi"}}})).await?.ok()?;
    ctx.patch(&to(8)).await?.ok().context("towards the maximum")?;
    ensure_refused("away from it", &ctx.patch(&to(9)).await?, "above-max")?;
    let two = to(2).to_string();
    ctx.run(&["patch", "postgresql", "acid-small", "--type=merge", "-p", &two]).await?.ok()?;
    Ok(())
}

async fn operators_own(ctx: TestCtx) -> Result<()> {
    let webhook = guarded(&ctx).await?;
    ctx.apply(&cluster(9)).await?.ok()?;
    ctx.apply(&policy()).await?.ok()?;
    let before = webhook.reviews().await?;
    for patch in [
        json!({"metadata": {"finalizers": ["postgres-operator.acid.zalan.do"]}}),
        json!({"metadata": {"annotations": {"last-major-upgrade-success": "2026-01-01"}}}),
        json!({"metadata": {"finalizers": null}}),
    ] {
        let patch = patch.to_string();
        let args = ["patch", "postgresql", NAME, "--type=merge", "-p", &patch, OPERATOR];
        ctx.run(&args).await?.ok()?;
    }
    let status = json!({"status": {"PostgresClusterStatus": "Running"}}).to_string();
    let status = [
        "patch",
        "postgresql",
        NAME,
        "--subresource=status",
        "--type=merge",
        "-p",
        &status,
        OPERATOR,
    ];
    ctx.run(&status).await?.ok()?;
    ensure!(webhook.reviews().await? == before, "a write of the operator was sent");
    Ok(())
}

async fn switches(ctx: TestCtx) -> Result<()> {
    let webhook = ctx.set().await?;
    for patch in [
        json!({"metadata": {"annotations": {"acid.zalan.do/controller": "other"}}}),
        json!({"spec": {"standby": {"standby_host": "elsewhere"}}}),
        json!({"spec": {"standby": null}}),
        json!({"spec": {"env": [{"name": "STANDBY_WALE_S3_PREFIX", "value": "s3://elsewhere"}]}}),
        json!({"spec": {"env": null}}),
    ] {
        let before = webhook.reviews().await?;
        ctx.patch(&patch).await?.ok()?;
        ensure!(webhook.reviews().await? == before + 1, "{patch} was not judged");
    }
    Ok(())
}

/// Checks two edits for which the API server might not call the webhook: it skips an entry whose
/// condition is false or, where errors are ignored, costs too much.
async fn disguised(ctx: TestCtx) -> Result<()> {
    let webhook = ctx.set().await?;
    let zero = json!({"spec": {"instances": {"min": 2, "max": 5, "zero": "Allow"}}});
    ctx.run(&["patch", "scalepolicy", "production", "--type=merge", "-p", &zero.to_string()])
        .await?
        .ok()?;
    ctx.create(&named("acid-asleep", 0)).await?.ok()?;
    // kubectl would write the number without its decimal point.
    let path =
        format!("/apis/acid.zalan.do/v1/namespaces/{}/postgresqls/acid-asleep", ctx.namespace);
    let request = http::Request::patch(path)
        .header("Content-Type", "application/merge-patch+json")
        .body(br#"{"spec":{"numberOfInstances":9.0}}"#.to_vec())
        .context("a bad request")?;
    let answer = ctx.bed.client().request::<Value>(request).await;
    let refused = answer.as_ref().err().map(ToString::to_string).unwrap_or_default();
    ensure!(refused.contains("- above-max: "), "a count of 9.0: {answer:?}");

    let many: serde_json::Map<String, Value> =
        (0..10_500).map(|index| (format!("a{index}"), json!(""))).collect();
    for edit in [json!({}), to(9)] {
        let before = webhook.reviews().await?;
        let mut edit = edit;
        edit["metadata"] = json!({"annotations": many});
        let said = ctx.patch(&edit).await?;
        ensure!(webhook.reviews().await? == before + 1, "{edit} was not judged");
        let refused = said.stderr.contains("metadata.annotations of the new object is too large");
        ensure!(said.code == Some(1) && refused, "very many annotations: {}", said.stderr);
    }
    ensure!(ctx.count().await? == "3", "something got through");
    Ok(())
}

async fn direct_scale(ctx: TestCtx) -> Result<()> {
    let webhook = guarded(&ctx).await?;
    let labels = json!({"application": "spilo", "cluster-name": NAME});
    let set = |name: &str, labels: &Value| {
        json!({
            "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": name, "labels": labels},
            "spec": {"replicas": 3, "serviceName": name, "selector": {"matchLabels": labels},
                // The account does not exist, so no pod is ever made.
                "template": {"metadata": {"labels": labels}, "spec": {"serviceAccountName": "missing",
                    "containers": [{"name": "postgres", "image": "spilo"}]}}},
        })
    };
    ctx.apply(&set(NAME, &labels)).await?.ok()?;
    ctx.apply(&set("web", &json!({"application": "web"}))).await?.ok()?;
    let before = webhook.reviews().await?;
    let patched = |replicas: i64| json!({"spec": {"replicas": replicas}}).to_string();
    let (two, four) = (patched(2), patched(4));
    let set = format!("statefulset/{NAME}");
    for (way, args) in [
        ("scale", vec!["scale", &set, "--replicas=5"]),
        ("patch", vec!["patch", &set, "--type=merge", "--patch", &two]),
        ("dry run", vec!["scale", &set, "--replicas=1", "--dry-run=server"]),
    ] {
        let said = ctx.run(&args).await?;
        let warned = warned(&said);
        ensure!(said.code == Some(0), "{way} is not refused: {said:?}");
        ensure!(warned.starts_with("statefulset-scaled: "), "{way}: {said:?}");
    }
    ensure!(webhook.reviews().await? == before + 3, "each is sent once");
    let event = ctx.event("StatefulSetScaled").await?;
    let regarding = event.regarding.context("the Event is about nothing")?;
    ensure!(regarding.kind.as_deref() == Some("StatefulSet"), "{regarding:?}");

    // No accounts are listed here: the webhook itself finds the operator's account.
    let own = ctx.run(&["patch", &set, "--type=merge", "--patch", &four, OPERATOR]).await?;
    ensure!(own.code == Some(0) && warned(&own).is_empty(), "the operator's own: {own:?}");
    let before = webhook.reviews().await?;
    ctx.run(&["label", &set, "a=b"]).await?.ok()?;
    ctx.run(&["scale", "statefulset/web", "--replicas=5"]).await?.ok()?;
    ensure!(webhook.reviews().await? == before, "unrelated writes were sent to the webhook");

    webhook.stop().await?;
    let away = ctx.run(&["scale", &set, "--replicas=0"]).await;
    webhook.run().await?;
    away?.ok().context("while the webhook is away")?;
    Ok(())
}
