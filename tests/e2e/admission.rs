//! The webhook behind a real API server: the writes it gets, its refusals, and the time without it.
//! Nothing runs in these clusters: no operator owns them, so that only bounds decide.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::events::v1::Event;
use kube::api::{Api, ListParams};
use pgscale_tests::bed::Said;
use pgscale_tests::pki::write;
use pgscale_tests::wait::{Attempt, until};
use pgscale_tests::webhook::Webhook;
use serde_json::{Value, json};

use crate::guarding::guarded;
use crate::trial::{Case, TestCtx, case};

mod break_glass;
mod fence;
mod floor;
mod installation;
mod writes;

/// The limit for actions of the API server and the webhook, which take seconds on an idle machine.
const SOON: Duration = Duration::from_secs(180);
const NAME: &str = "acid-idle";

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = vec![
        case("admission::an_unsafe_edit_is_refused_in_every_form", every_way),
        case("admission::an_unrelated_edit_never_reaches_the_webhook", unrelated),
        case("admission::a_refusal_leaves_an_event_and_an_audit_annotation", written_down),
        case("admission::odd_objects_never_make_a_match_condition_fail", odd_objects),
        case("admission::a_terminating_cluster_can_be_deleted", terminating),
        case("admission::the_scale_subresource_is_judged", scale),
        case("admission::without_the_webhook_only_shrinks_fail", away),
    ];
    cases.extend(break_glass::cases());
    cases.extend(fence::cases());
    cases.extend(floor::cases());
    cases.extend(installation::cases());
    cases.extend(writes::cases());
    cases
}

/// The commands of these tests, for a cluster that no operator owns.
trait Idle {
    async fn run(&self, args: &[&str]) -> Result<Said>;

    async fn patch(&self, patch: &Value) -> Result<Said>;

    /// Writes `object` to a file named `file`, for kubectl to read, and returns its path.
    fn file(&self, file: &str, object: &Value) -> Result<String>;

    async fn apply(&self, object: &Value) -> Result<Said>;

    /// Returns the stored count.
    async fn count(&self) -> Result<String>;

    /// Creates a policy of 2 to 5 instances and a cluster of 3, with the webhook guarding them.
    async fn set(&self) -> Result<std::sync::Arc<Webhook>>;
}

impl Idle for TestCtx {
    async fn run(&self, args: &[&str]) -> Result<Said> {
        self.bed.kubectl(&[&["--namespace", self.namespace.as_str()], args].concat()).await
    }

    async fn patch(&self, patch: &Value) -> Result<Said> {
        self.run(&["patch", "postgresql", NAME, "--type=merge", "--patch", &patch.to_string()])
            .await
    }

    fn file(&self, file: &str, object: &Value) -> Result<String> {
        let directory = self.bed.directory().join(&self.namespace);
        fs::create_dir_all(&directory).context("failed to make a directory for manifests")?;
        let path: PathBuf = write(&directory, file, &object.to_string())?;
        Ok(path.to_string_lossy().into_owned())
    }

    async fn apply(&self, object: &Value) -> Result<Said> {
        let file = self.file("applied.json", object)?;
        self.run(&["apply", "--server-side", "--force-conflicts", "--filename", &file]).await
    }

    async fn count(&self) -> Result<String> {
        let path = "--output=jsonpath={.spec.numberOfInstances}";
        self.run(&["get", "postgresql", NAME, path]).await?.ok()
    }

    async fn set(&self) -> Result<std::sync::Arc<Webhook>> {
        let webhook = guarded(self).await?;
        self.apply(&policy()).await?.ok()?;
        self.apply(&cluster(3)).await?.ok()?;
        Ok(webhook)
    }
}

fn policy() -> Value {
    json!({
        "apiVersion": "pgscale.dev/v1alpha1", "kind": "ScalePolicy",
        "metadata": {"name": "production"}, "spec": {"instances": {"min": 2, "max": 5}},
    })
}

/// Returns a cluster that no operator owns.
fn cluster(instances: i64) -> Value {
    json!({
        "apiVersion": "acid.zalan.do/v1", "kind": "postgresql",
        "metadata": {"name": NAME, "annotations": {"acid.zalan.do/controller": "no-operator"}},
        "spec": {
            "teamId": "acid", "numberOfInstances": instances,
            "postgresql": {"version": "17"}, "volume": {"size": "1Gi"},
        },
    })
}

fn to(instances: i64) -> Value {
    json!({"spec": {"numberOfInstances": instances}})
}

/// Checks that kubectl shows a refusal by `rule`.
fn ensure_refused(way: &str, said: &Said, rule: &str) -> Result<()> {
    ensure!(said.code == Some(1), "{way} was not refused: {said:?}");
    for part in ["denied the request: pgscale refuses", &format!("- {rule}: "), "Try:"] {
        ensure!(said.stderr.contains(part), "{way}: {part:?} is missing in {}", said.stderr);
    }
    Ok(())
}

async fn every_way(ctx: TestCtx) -> Result<()> {
    ctx.set().await?;
    let unsafe_edit = ctx.file("nine.json", &cluster(9))?;
    let pointer = json!([{"op": "replace", "path": "/spec/numberOfInstances", "value": 9}]);
    for (way, args) in [
        (
            "merge patch",
            vec!["patch", "postgresql", NAME, "--type=merge", "-p", &to(9).to_string()],
        ),
        (
            "JSON patch",
            vec!["patch", "postgresql", NAME, "--type=json", "-p", &pointer.to_string()],
        ),
        ("replace", vec!["replace", "--filename", &unsafe_edit]),
        ("apply", vec!["apply", "--filename", &unsafe_edit]),
        (
            "server-side apply",
            vec!["apply", "--server-side", "--force-conflicts", "-f", &unsafe_edit],
        ),
        ("dry run", vec!["apply", "--dry-run=server", "--filename", &unsafe_edit]),
    ] {
        let said = ctx.run(&args).await?;
        ensure_refused(way, &said, "above-max")?;
        ensure!(said.stderr.contains("(Forbidden)"), "{way}: {}", said.stderr);
    }
    let mut edit = ctx.bed.command(&ctx.bed.tools().kubectl, ctx.bed.kubeconfig())?;
    let edited = edit
        .args(["--namespace", &ctx.namespace, "edit", "postgresql", NAME])
        .env("KUBE_EDITOR", "sed -i 's/numberOfInstances: 3/numberOfInstances: 9/'")
        .output()
        .await
        .context("failed to run kubectl edit")?;
    let stderr = String::from_utf8_lossy(&edited.stderr);
    ensure!(edited.status.code() == Some(1), "edit was not refused: {stderr}");
    ensure!(stderr.contains("- above-max: "), "edit: {stderr}");
    ensure!(ctx.count().await? == "3", "something got through");

    let mut another = cluster(9);
    another["metadata"]["name"] = json!("acid-another");
    ensure_refused("create", &ctx.apply(&another).await?, "above-max")?;
    ensure_refused("shrink", &ctx.patch(&to(1)).await?, "below-min")?;
    ensure_refused("zero", &ctx.patch(&to(0)).await?, "scale-to-zero")?;
    ctx.patch(&to(5)).await?.ok().context("what the policy allows")?;
    Ok(())
}

async fn unrelated(ctx: TestCtx) -> Result<()> {
    let webhook = ctx.set().await?;
    let before = webhook.reviews().await?;
    for patch in [
        json!({"metadata": {"labels": {"team": "a"}}}),
        json!({"metadata": {"annotations": {"note": "b"}}}),
        json!({"spec": {"volume": {"size": "2Gi"}}}),
        json!({"spec": {"users": {"someone": []}}}),
        json!({"metadata": {"finalizers": []}}),
    ] {
        ctx.patch(&patch).await?.ok()?;
    }
    let status = json!({"status": {"PostgresClusterStatus": "Running"}}).to_string();
    let status =
        ["patch", "postgresql", NAME, "--subresource=status", "--type=merge", "-p", &status];
    ctx.run(&status).await?.ok()?;
    ctx.apply(&policy()).await?.ok()?;
    ensure!(webhook.reviews().await? == before, "an edit of something else was sent");
    ctx.patch(&to(4)).await?.ok()?;
    ensure!(webhook.reviews().await? == before + 1, "a change of the count is sent exactly once");
    Ok(())
}

async fn written_down(ctx: TestCtx) -> Result<()> {
    ctx.set().await?;
    let dry = to(9).to_string();
    let dry = ["patch", "postgresql", NAME, "--dry-run=server", "--type=merge", "-p", &dry];
    ensure_refused("dry run", &ctx.run(&dry).await?, "above-max")?;
    ensure_refused("shrink", &ctx.patch(&to(1)).await?, "below-min")?;

    let events: Api<Event> = Api::namespaced(ctx.bed.client(), &ctx.namespace);
    let event = until("an Event about the refusal", SOON, async || {
        let found = events.list(&ListParams::default()).await.context("failed to list Events")?;
        let mut denials: Vec<_> = found
            .into_iter()
            .filter(|event| event.reason.as_deref() == Some("ScaleDenied"))
            .collect();
        ensure!(denials.len() < 2, "a dry run leaves no Event: {denials:?}");
        Ok(denials.pop().map_or_else(|| Attempt::NotYet("none".into()), Attempt::Done))
    })
    .await?;
    ensure!(event.action.as_deref() == Some("below-min"), "{event:?}");
    let regarding = event.regarding.context("the Event names no object")?;
    ensure!(regarding.name.as_deref() == Some(NAME) && regarding.uid.is_some(), "{regarding:?}");

    let log = ctx.bed.control_plane().lock().await.audit_log();
    let audited = until("the refusal in the audit log", SOON, async || {
        let text = fs::read_to_string(&log).context("failed to read the audit log")?;
        let denials = text.lines().filter(|line| line.contains("below-min=deny"));
        let found = denials
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .find(|event| event["objectRef"]["namespace"] == ctx.namespace.as_str());
        Ok(found.map_or_else(|| Attempt::NotYet("nothing".into()), Attempt::Done))
    })
    .await?;
    let annotations = &audited["annotations"];
    ensure!(annotations["shrink.pgscale.dev/verdict"] == "denied", "{annotations}");
    ensure!(annotations["shrink.pgscale.dev/policy"] == "scalepolicy/production", "{annotations}");
    ensure!(annotations["shrink.pgscale.dev/instances"] == "3 -> 1", "{annotations}");
    Ok(())
}

/// Checks the match conditions of the registration on a resource without a schema. The real
/// resource has a schema, but objects may be older than it, and a condition that fails would refuse
/// every edit of them.
async fn odd_objects(ctx: TestCtx) -> Result<()> {
    guarded(&ctx).await?;
    let kind = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "oddities.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"plural": "oddities", "singular": "oddity", "kind": "Oddity"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {
                "openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            }}],
        },
    });
    ctx.apply(&kind).await?.ok()?;
    let established =
        ["wait", "--for=condition=Established", "crd/oddities.example.com", "--timeout=120s"];
    ctx.run(&established).await?.ok()?;
    let odd = |name: &str, rest: &Value| {
        let mut object = json!({
            "apiVersion": "example.com/v1", "kind": "Oddity", "metadata": {"name": name},
        });
        for (key, value) in rest.as_object().into_iter().flatten() {
            if let (Some(into), Some(more)) = (object[key].as_object_mut(), value.as_object()) {
                into.extend(more.clone());
            } else {
                object[key] = value.clone();
            }
        }
        object
    };
    let oddities = [
        ("no-spec", json!({})),
        ("null-spec", json!({"spec": null})),
        ("list-spec", json!({"spec": []})),
        ("no-field", json!({"spec": {}})),
        ("null-field", json!({"spec": {"numberOfInstances": null}})),
        ("zero", json!({"spec": {"numberOfInstances": 0}})),
        ("text", json!({"spec": {"numberOfInstances": "3"}})),
        ("fraction", json!({"spec": {"numberOfInstances": 2.5}})),
        ("huge", json!({"spec": {"numberOfInstances": 1e300}})),
        (
            "null-annotations",
            json!({"metadata": {"annotations": null}, "spec": {"numberOfInstances": 3}}),
        ),
        (
            "terminating",
            json!({"metadata": {"finalizers": ["example.com/hold"]}, "spec": {"numberOfInstances": 3}}),
        ),
    ];
    for (name, rest) in &oddities {
        let file = ctx.file("odd.json", &odd(name, rest))?;
        // The CRD is Established a moment before the API server serves it and kubectl finds it.
        until(&format!("{name} to be created"), SOON, async || {
            let said = ctx.run(&["create", "--filename", &file]).await?;
            let created = said.code == Some(0);
            Ok(if created { Attempt::Done(()) } else { Attempt::NotYet(said.stderr) })
        })
        .await?;
    }
    ctx.run(&["delete", "oddity", "terminating", "--wait=false"]).await?.ok()?;

    let get = ["get", "validatingwebhookconfiguration", "pgscale.dev", "--output=json"];
    let mut registration: Value = serde_json::from_str(&ctx.run(&get).await?.ok()?)?;
    registration["metadata"] = json!({"name": "oddities.example.com"});
    for entry in registration["webhooks"].as_array_mut().into_iter().flatten() {
        entry["rules"][0]["apiGroups"] = json!(["example.com"]);
        entry["rules"][0]["resources"] = json!(["oddities"]);
        // Otherwise an error would not be visible.
        entry["failurePolicy"] = json!("Fail");
    }
    // The other entries look at fields of built-in kinds, which these objects do not have.
    if let Some(entries) = registration["webhooks"].as_array_mut() {
        let odd = ["shrink.pgscale.dev", "grow.pgscale.dev"];
        entries.retain(|entry| odd.iter().any(|name| entry["name"] == *name));
    }
    let file = ctx.file("registration.json", &registration)?;
    ctx.run(&["create", "--filename", &file]).await?.ok()?;
    let judged = async {
        let patch = async |name: &str, patch: Value| {
            let patch = patch.to_string();
            ctx.run(&["patch", "oddity", name, "--type=merge", "--patch", &patch]).await
        };
        until("the registration to be in force", SOON, async || {
            let said = patch("zero", to(1)).await?;
            Ok(if said.code == Some(1) {
                Attempt::Done(())
            } else {
                patch("zero", to(0)).await?;
                Attempt::NotYet(format!("{said:?}"))
            })
        })
        .await?;
        for (name, _) in &oddities {
            let labelled = patch(name, json!({"metadata": {"labels": {"a": "b"}}})).await?;
            labelled.ok().with_context(|| format!("a label on {name}"))?;
            // The webhook refuses an edit of an unknown kind, and no condition fails.
            let annotated = json!({"metadata": {"annotations": {"acid.zalan.do/controller": "x"}}});
            for (what, edit) in [("the owner", annotated), ("the count", to(7))] {
                let said = patch(name, edit).await?;
                let refused = said.stderr.contains("pgscale does not judge ");
                ensure!(said.code == Some(1) && refused, "{what} of {name}: {said:?}");
            }
        }
        patch("terminating", json!({"metadata": {"finalizers": null}})).await?.ok()?;
        anyhow::Ok(())
    };
    let judged = judged.await;
    ctx.run(&["delete", "--filename", &file]).await?.ok()?;
    ctx.run(&["delete", "crd", "oddities.example.com", "--wait=false"]).await?.ok()?;
    judged
}

async fn terminating(ctx: TestCtx) -> Result<()> {
    ctx.set().await?;
    ctx.patch(&json!({"metadata": {"finalizers": ["example.com/hold"]}})).await?.ok()?;
    ctx.run(&["delete", "postgresql", NAME, "--wait=false"]).await?.ok()?;
    ensure_refused("growth of what is being deleted", &ctx.patch(&to(9)).await?, "above-max")?;
    ctx.patch(&to(0)).await?.ok().context("less of what is being deleted")?;
    ctx.patch(&json!({"metadata": {"finalizers": null}})).await?.ok()?;
    let gone = ["wait", "--for=delete", "postgresql", NAME, "--timeout=120s"];
    ctx.run(&gone).await?.ok()?;
    Ok(())
}

/// Checks the `scale` subresource, which the operator's CRD does not enable today: enabling it must
/// not bypass the webhook.
async fn scale(ctx: TestCtx) -> Result<()> {
    let webhook = ctx.set().await?;
    let subresources = async |value: Value| {
        let patch = json!([{"op": "add", "path": "/spec/versions/0/subresources", "value": value}]);
        let crd = ["patch", "crd", "postgresqls.acid.zalan.do", "--type=json", "--patch"];
        ctx.run(&[&crd[..], &[&patch.to_string()]].concat()).await?.ok()
    };
    let paths = json!({
        "specReplicasPath": ".spec.numberOfInstances", "statusReplicasPath": ".status.instances",
    });
    subresources(json!({"status": {}, "scale": paths})).await?;
    let judged = async {
        let get = ["get", "postgresql", NAME, "--subresource=scale"];
        until("the subresource to be served", SOON, async || {
            let said = ctx.run(&get).await?;
            let served = said.code == Some(0);
            Ok(if served { Attempt::Done(()) } else { Attempt::NotYet(said.stderr) })
        })
        .await?;
        let resource = format!("postgresql/{NAME}");
        let scale = async |to: &str| ctx.run(&["scale", &resource, "--replicas", to]).await;
        ensure_refused("scale up", &scale("9").await?, "above-max")?;
        ensure_refused("scale down", &scale("1").await?, "below-min")?;
        let none = json!({"spec": {"replicas": null}}).to_string();
        let none =
            ["patch", "postgresql", NAME, "--subresource=scale", "--type=merge", "-p", &none];
        ensure_refused("no replicas", &ctx.run(&none).await?, "scale-to-zero")?;
        ensure!(ctx.count().await? == "3", "something got through");
        let before = webhook.reviews().await?;
        scale("4").await?.ok()?;
        ensure!(webhook.reviews().await? == before + 1, "a scale is reviewed once, as a scale");
        // The break-glass group passes here too, and its write is reported.
        let glass = [&["--as=jane"][..], &break_glass::GROUP].concat();
        let scaled = ["scale", &resource, "--replicas", "9"];
        let said = ctx.run(&[&glass[..], &scaled].concat()).await?;
        let seen = said.stderr.contains("(UPDATE), replicas 4 -> 9; pgscale did not judge it");
        ensure!(said.code == Some(0) && seen, "break glass: {said:?}");
        ensure!(webhook.reviews().await? == before + 1, "the group is judged");
        anyhow::Ok(())
    };
    let judged = judged.await;
    subresources(json!({"status": {}})).await?;
    judged
}

async fn away(ctx: TestCtx) -> Result<()> {
    let webhook = ctx.set().await?;
    webhook.stop().await?;
    let judged = async {
        let shrink = ctx.patch(&to(2)).await?;
        let failed = shrink.stderr.contains("failed calling webhook \"shrink.pgscale.dev\"");
        ensure!(shrink.code == Some(1) && failed, "no webhook could check this: {shrink:?}");
        ctx.patch(&json!({"metadata": {"labels": {"a": "b"}}})).await?.ok()?;
        ctx.patch(&to(4)).await?.ok().context("growth goes on")?;
        anyhow::Ok(())
    };
    let judged = judged.await;
    webhook.run().await?;
    judged?;
    ctx.patch(&to(3)).await?.ok().context("it is back")?;
    Ok(())
}
