//! `helm test`, an upgrade and a rollback of a release: the guard holds at each step.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, Patch, PatchParams};
use pgscale_tests::account;
use pgscale_tests::bed::Said;
use pgscale_tests::chart;
use pgscale_tests::cluster::{Cluster, quick};
use pgscale_tests::pki;
use pgscale_tests::wait::{Attempt, until};
use pgscale_tests::webhook::{NAMESPACE, Webhook, install, values};
use serde_json::{Value, json};

use super::{forbidden, pgscale};
use crate::guarding::guarded;
use crate::trial::TestCtx;

/// The name of the pod of `helm test`, and of its account.
const DOCTOR: &str = "pgscale-doctor";
const DEFINITION: &str = "scalepolicies.pgscale.dev";
/// The place of a field that a newer version has.
const FIELD: &str =
    "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/ofANewerVersion";
/// The time until a pod or an API server follows.
const SOON: Duration = Duration::from_secs(60);

/// Returns values that guard every namespace, so that doctor misses none.
fn everywhere(more: &Value) -> Result<Value> {
    let mut all = values();
    let fields = all.as_object_mut().context("the values are no object")?;
    fields.remove("namespaceSelector");
    fields.extend(more.as_object().cloned().unwrap_or_default());
    Ok(all)
}

pub(super) async fn whole(ctx: TestCtx) -> Result<()> {
    let webhook = guarded(&ctx).await?;
    let cluster = Cluster::create(&ctx.bed, &ctx.namespace, "acid-kept", 1, quick()).await?;
    write(&ctx, &webhook, &json!({})).await?;
    holds(&ctx, &cluster, "installed").await?;
    tested(&ctx).await?;

    let before = revision(&ctx).await?;
    bumped(&ctx).await?;
    let more = json!({"growFailurePolicy": "Fail", "log": {"format": "text", "filter": "debug"}});
    write(&ctx, &webhook, &more).await?;
    ensure!(revision(&ctx).await? > before, "no new revision");
    holds(&ctx, &cluster, "upgraded").await?;
    kept(&ctx).await?;

    helm(&ctx, &format!("rollback pgscale {before} -n {NAMESPACE}")).await?.ok()?;
    follow(&ctx, &webhook).await?;
    holds(&ctx, &cluster, "rolled back").await?;
    let policy = grow_failure_policy(&ctx).await?;
    ensure!(policy == "Ignore", "the registration is that of the upgrade: {policy}");
    // Helm touches no definition, so no stored policy loses a field.
    kept(&ctx).await?;
    // Nor does a program take a field away that it does not know.
    let refused = pgscale(&ctx, "upgrade --yes").await?;
    let said = ["is newer than this program", ".spec.ofANewerVersion", "nothing was changed"];
    ensure!(refused.code == Some(1), "{refused:?}");
    ensure!(said.iter().all(|part| refused.stderr.contains(part)), "{refused:?}");
    kept(&ctx).await?;

    // As the other tests of the bed know it.
    ctx.bed.kubectl(&["delete", "scalepolicy", "newer", "-n", &ctx.namespace]).await?.ok()?;
    definition(&ctx, &json!([{"op": "remove", "path": FIELD}])).await?;
    install(&ctx.bed)?;
    follow(&ctx, &webhook).await?;
    webhook.guard(&ctx.namespace).await
}

/// Has helm write the release with these values, and lets the webhook run for its pods.
async fn write(ctx: &TestCtx, webhook: &Webhook, more: &Value) -> Result<()> {
    chart::install(&ctx.bed.tools().helm, ctx.bed.kubeconfig(), NAMESPACE, &everywhere(more)?)?;
    follow(ctx, webhook).await
}

async fn follow(ctx: &TestCtx, webhook: &Webhook) -> Result<()> {
    let rollout = ["rollout", "status", "deployment/pgscale-webhook", "--timeout=60s"];
    ctx.bed.kubectl(&[&["--namespace", NAMESPACE], &rollout[..]].concat()).await?.ok()?;
    webhook.adopt().await
}

async fn helm(ctx: &TestCtx, line: &str) -> Result<Said> {
    let program = &ctx.bed.tools().helm;
    ctx.bed.paste(&format!("{} {line}", program.display())).await
}

async fn revision(ctx: &TestCtx) -> Result<u64> {
    let said = helm(ctx, &format!("history pgscale -n {NAMESPACE} -o json")).await?.ok()?;
    let all: Value = serde_json::from_str(&said)?;
    all.as_array().and_then(|all| all.last()?["revision"].as_u64()).context("no revision")
}

async fn grow_failure_policy(ctx: &TestCtx) -> Result<String> {
    let path = "jsonpath={.webhooks[?(@.name==\"grow.pgscale.dev\")].failurePolicy}";
    let get = ["get", super::KIND, "pgscale.dev", "-o", path];
    ctx.bed.kubectl(&get).await?.ok()
}

/// Fails unless doctor says that the guard holds, and a change that no rule admits is refused.
async fn holds(ctx: &TestCtx, cluster: &Cluster, step: &str) -> Result<()> {
    // Each API server learns of a registration by a watch.
    until(&format!("the guard to hold once {step}"), SOON, async || {
        let said = pgscale(ctx, "doctor").await?;
        let holds = said.code == Some(0) && said.stdout.contains("was refused by scale-to-zero");
        Ok(if holds { Attempt::Done(()) } else { Attempt::NotYet(format!("{said:?}")) })
    })
    .await?;
    let refused = forbidden(cluster).await?;
    ensure!(refused.stderr.contains("scale-to-zero"), "{step}: {refused:?}");
    Ok(())
}

/// Gives the definition a field of a newer version, and stores a policy with it.
async fn bumped(ctx: &TestCtx) -> Result<()> {
    let added = json!([{"op": "add", "path": FIELD, "value": {"type": "string"}}]);
    definition(ctx, &added).await?;
    let policy = json!({
        "apiVersion": "pgscale.dev/v1alpha1", "kind": "ScalePolicy",
        "metadata": {"name": "newer", "namespace": ctx.namespace},
        // It selects no cluster here, so its unknown field changes no verdict.
        "spec": {
            "clusterSelector": {"matchLabels": {"of": "no-cluster"}},
            "instances": {"max": 9}, "ofANewerVersion": "kept",
        },
    });
    let file = pki::write(ctx.bed.directory(), "newer.json", &policy.to_string())?;
    let file = file.display().to_string();
    // The API server serves a changed definition some moments later.
    until("the policy with the new field to be stored", SOON, async || {
        ctx.bed.kubectl(&["apply", "--validate=false", "-f", &file]).await?.ok()?;
        Ok(match field_of(ctx).await?.as_str() {
            "kept" => Attempt::Done(()),
            other => {
                ctx.bed.kubectl(&["delete", "-f", &file]).await?.ok()?;
                Attempt::NotYet(format!("the field is {other:?}"))
            }
        })
    })
    .await
}

async fn definition(ctx: &TestCtx, patch: &Value) -> Result<()> {
    let patch = patch.to_string();
    let words = ["patch", "customresourcedefinition", DEFINITION, "--type=json", "-p", &patch];
    ctx.bed.kubectl(&words).await?.ok().map(drop)
}

async fn field_of(ctx: &TestCtx) -> Result<String> {
    let path = "jsonpath={.spec.ofANewerVersion}";
    let get = ["get", "scalepolicy", "newer", "-n", &ctx.namespace, "-o", path];
    ctx.bed.kubectl(&get).await?.ok()
}

/// Fails where the field of the newer version is lost.
async fn kept(ctx: &TestCtx) -> Result<()> {
    let field = field_of(ctx).await?;
    ensure!(field == "kept", "the field is {field:?}");
    Ok(())
}

/// `helm test`: the bed runs no image, so the command of the pod runs here, by the token of the
/// pod's account and with no other permission, and the pod ends as that command does.
async fn tested(ctx: &TestCtx) -> Result<()> {
    let line = format!("test pgscale -n {NAMESPACE} --timeout 2m");
    let (said, ran) = tokio::join!(helm(ctx, &line), run_as_the_pod(ctx));
    let (said, ran) = (said?, ran?);
    ensure!(ran.code == Some(0), "{ran:?}");
    ensure!(ran.stdout.contains("the guard HOLDS"), "{ran:?}");
    ensure!(ran.stdout.contains("--no-canary"), "a canary is sent: {ran:?}");
    ensure!(said.code == Some(0), "{said:?}");
    let kinds = "serviceaccount,role,rolebinding,clusterrole,clusterrolebinding,pod";
    until("the account of the test to be gone", SOON, async || {
        let get = ["get", kinds, "-n", NAMESPACE, "-o", "name"];
        let there = ctx.bed.kubectl(&get).await?.ok()?;
        let left: Vec<_> = there.lines().filter(|name| name.ends_with(DOCTOR)).collect();
        Ok(if left.is_empty() { Attempt::Done(()) } else { Attempt::NotYet(format!("{left:?}")) })
    })
    .await
}

async fn run_as_the_pod(ctx: &TestCtx) -> Result<Said> {
    let pods: Api<Pod> = Api::namespaced(ctx.bed.client(), NAMESPACE);
    let pod = until("the pod of helm test", SOON, async || {
        Ok(match pods.get_opt(DOCTOR).await? {
            Some(pod) => Attempt::Done(pod),
            None => Attempt::NotYet("there is none".to_owned()),
        })
    })
    .await?;
    let spec = pod.spec.context("the pod has no specification")?;
    let service_account = spec.service_account_name.context("the pod has no account")?;
    let args = spec.containers.into_iter().next().and_then(|it| it.args).unwrap_or_default();
    let file = {
        // As the kubelet gives a token to the pod.
        let control_plane = ctx.bed.control_plane().lock().await;
        let authority = control_plane.authority();
        let text =
            account::kubeconfig(&ctx.bed.client(), authority, NAMESPACE, &service_account).await?;
        pki::write(ctx.bed.directory(), "doctor.kubeconfig", &text)?
    };
    let line = format!("kubectl-pgscale {} --kubeconfig {}", args.join(" "), file.display());
    let ran = ctx.bed.paste(&line).await?;
    let phase = if ran.code == Some(0) { "Succeeded" } else { "Failed" };
    let ended = Patch::Merge(json!({"status": {"phase": phase}}));
    pods.patch_status(DOCTOR, &PatchParams::default(), &ended).await?;
    Ok(ran)
}
