//! Invalid input: a clear error, the documented exit code or HTTP answer, and no change.

use std::fs;
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use pgscale_tests::bed::Said;
use pgscale_tests::cluster::{Cluster, TIMEOUT, quick};
use pgscale_tests::wait::{Attempt, until};
use pgscale_tests::webhook::Webhook;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::json;
use tokio::io::AsyncWriteExt as _;

use crate::guarding;
use crate::trial::{Case, TestCtx, case};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("input::the_plugin_refuses_invalid_arguments", plugin),
        case("input::the_api_refuses_an_invalid_policy", policy),
        case("input::the_webhook_answers_malformed_reviews", reviews),
    ]
}

async fn plugin(ctx: TestCtx) -> Result<()> {
    let TestCtx { bed, namespace } = &ctx;
    let cluster = Cluster::create(bed, namespace, "acid-input", 1, quick()).await?;
    let before = cluster.written().await?;

    // Arguments, exit code, and a part of the error.
    let name = cluster.name.as_str();
    for (args, code, says) in [
        (vec!["up", "acid-missing"], 1, "acid-missing"),
        (vec!["set", name, "-1"], 2, "-1"),
        (vec!["set", name, "2.5"], 2, "2.5"),
        (vec!["set", name, "2147483648"], 2, "2147483648"),
        (vec!["set", name, "three"], 2, "three"),
        (vec!["set", name], 2, "Usage"),
        (vec!["up", name, "--by", "0"], 2, "0"),
        (vec!["up", "service/acid-input"], 2, "service/acid-input"),
        (vec!["enlarge", name], 2, "enlarge"),
        (vec!["status", name, "--context", "nowhere"], 1, "nowhere"),
        (vec!["status", name, "--server", "https://127.0.0.1:1"], 1, "127.0.0.1:1"),
    ] {
        let said = cluster.pgscale(&args).await?;
        let wrong = format!("{args:?}: {said:?}");
        ensure!(said.code == Some(code), "exit code {code} expected: {wrong}");
        ensure!(said.stderr.contains(says), "{says:?} is missing: {wrong}");
        ensure!(said.stdout.is_empty(), "an error belongs on stderr: {wrong}");
    }

    // A user without any permissions.
    let stranger = bed.user_kubeconfig("stranger", &[]).await?;
    let args = ["pgscale", "up", name, "-n", namespace];
    let said = bed.kubectl_as(&stranger, &args).await?;
    ensure!(said.code == Some(1) && said.stderr.contains("forbidden"), "{said:?}");
    ensure!(said.stderr.contains("postgresqls"), "the missing permission is not named: {said:?}");

    // A context with a token that the API server no longer accepts.
    let text = fs::read_to_string(bed.kubeconfig()).context("failed to read the kubeconfig")?;
    let mut config: serde_json::Value = serde_json::from_str(&text)?;
    config["users"][0]["user"] = json!({"token": "expired"});
    let expired = bed.directory().join("expired.kubeconfig");
    fs::write(&expired, config.to_string()).context("failed to write a kubeconfig")?;
    let said = bed.kubectl_as(&expired, &args).await?;
    ensure!(said.code == Some(1) && said.stderr.contains("nauthorized"), "{said:?}");

    let after = cluster.written().await?;
    ensure!(before == after, "the cluster was written: {before:?}, then {after:?}");
    Ok(())
}

async fn policy(ctx: TestCtx) -> Result<()> {
    guarding::guarded(&ctx).await?;
    let wrong = json!({
        "apiVersion": "pgscale.dev/v1alpha1", "kind": "ScalePolicy",
        "metadata": {"name": "upside-down", "namespace": ctx.namespace},
        "spec": {"instances": {"min": 5, "max": 3}},
    });
    let said = apply(&ctx, &wrong).await?;
    ensure!(said.code == Some(1), "{said:?}");
    ensure!(
        said.stderr.contains("instances.min must not be greater than instances.max"),
        "{said:?}"
    );
    let list = ["get", "scalepolicies", "-n", &ctx.namespace, "-o", "name"];
    let listed = ctx.bed.kubectl(&list).await?.ok()?;
    ensure!(listed.is_empty(), "it was stored: {listed}");
    Ok(())
}

async fn reviews(ctx: TestCtx) -> Result<()> {
    let running = guarding::guarded(&ctx).await?;
    let before = running.id().await;
    let known = running.path().await?;
    let unknown = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "6b1f", "operation": "UPDATE", "namespace": "db", "name": "x",
            "kind": {"group": "apps", "version": "v1", "kind": "Deployment"},
            "resource": {"group": "apps", "version": "v1", "resource": "deployments"},
            "requestKind": {"group": "apps", "version": "v1", "kind": "Deployment"},
            "userInfo": {}, "object": {}, "oldObject": {}, "dryRun": false,
        },
    });
    // Without the path of the registration nothing is answered, whatever the body is.
    for path in ["/", "/validate", "/validate/0123456789abcdef0123456789abcdef"] {
        let (status, body) = post(&running, path, &unknown.to_string()).await?;
        ensure!(status == 404 && !body.contains("6b1f"), "{path}: {status}: {body}");
    }
    let counted = "pgscale_unknown_paths_total ";
    let text = running.metrics().await?;
    let count = text.lines().find_map(|line| line.strip_prefix(counted)?.parse::<u64>().ok());
    ensure!(count.is_some_and(|count| count >= 3), "{counted}is {count:?}");
    let (status, body) = post(&running, &known, "not a review").await?;
    ensure!(status == 400, "{status}: {body}");
    let (status, body) = post(&running, &known, &unknown.to_string()).await?;
    ensure!(
        status == 200 && body.contains("\"6b1f\"") && body.contains("\"allowed\":false"),
        "{status}: {body}"
    );
    let large = "x".repeat(20 << 20);
    until("an answer to a body that is too large", TIMEOUT, async || {
        Ok(match post(&running, &known, &large).await {
            Ok((status, _)) => {
                ensure!(status == 413, "{status}");
                Attempt::Done(())
            }
            // The webhook need not read the whole body, and the client may see the end of the
            // connection before the answer.
            Err(error) => Attempt::NotYet(format!("{error:#}")),
        })
    })
    .await?;
    ensure!(before.is_some() && running.id().await == before, "the webhook did not survive");
    Ok(())
}

/// POSTs to the webhook as any client of the network could that knows `path`, and returns the status
/// and the body of the answer.
async fn post(webhook: &Webhook, path: &str, body: &str) -> Result<(u16, String)> {
    let bundle = webhook.bundle().await?;
    let authorities = CertificateDer::pem_slice_iter(bundle.as_bytes());
    let authorities = authorities.map(|authority| authority.map(|der| der.to_vec()));
    let mut config = kube::Config::new(format!("https://{}", webhook.address()).parse()?);
    config.tls_server_name = Some(webhook.server_name());
    config.root_cert = Some(authorities.collect::<Result<_, _>>()?);
    let request = http::Request::post(path)
        .header("content-type", "application/json")
        .body(kube::client::Body::from(body.as_bytes().to_vec()))?;
    let answer = kube::Client::try_from(config)?.send(request).await?;
    let status = answer.status().as_u16();
    let body = answer.into_body().collect_bytes().await?;
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}

async fn apply(ctx: &TestCtx, object: &serde_json::Value) -> Result<Said> {
    let kubectl = ctx.bed.tools().kubectl.clone();
    let mut child = ctx
        .bed
        .command(&kubectl, ctx.bed.kubeconfig())?
        .args(["apply", "-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("failed to run kubectl")?;
    let mut stdin = child.stdin.take().context("kubectl has no stdin")?;
    stdin.write_all(object.to_string().as_bytes()).await?;
    drop(stdin);
    let output = child.wait_with_output().await?;
    Ok(Said {
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        code: output.status.code(),
    })
}
