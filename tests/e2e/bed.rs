//! The bed keeps its promise: everything that runs on it is real.

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::authorization::v1::SelfSubjectAccessReview;
use k8s_openapi::api::core::v1::Endpoints;
use kube::api::{Api, PostParams};
use pgscale_tests::bed::Bed;
use pgscale_tests::control_plane::{self, ADDRESS};
use pgscale_tests::operator::{NAME, NAMESPACE};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::trial::{Case, TestCtx, case};
use pgscale_tests::wait::{Attempt, until};

/// The limit for a cluster of two members to come up.
const MEMBERS: Duration = Duration::from_secs(240);

/// The limit for a forwarded answer.
const ANSWER: Duration = Duration::from_secs(10);

pub(crate) fn cases() -> Vec<Case> {
    [
        case("bed::kubectl_reaches_the_control_plane", kubectl_reaches_the_control_plane),
        case("bed::the_api_server_keeps_its_data_over_a_restart", restart),
        case("bed::users_have_only_the_permissions_of_their_roles", users),
        case("bed::the_operator_is_found_with_its_configuration", operator_is_found),
        case("bed::kubectl_exec_reaches_a_real_cluster", cluster_is_real),
    ]
    .map(Case::without_programs)
    .into()
}

async fn kubectl_reaches_the_control_plane(ctx: TestCtx) -> Result<()> {
    let version = ctx.bed.kubectl(&["version", "--output=json"]).await?.ok()?;
    let version: Value = serde_json::from_str(&version)?;
    let server = version.pointer("/serverVersion/gitVersion").and_then(Value::as_str);
    ensure!(server == Some("v1.36.3"), "{version:#}");
    // The controllers run: they make the root certificate's ConfigMap in every namespace.
    let args = ["wait", "--for=create", "configmap/kube-root-ca.crt", "--timeout=120s"];
    ctx.bed.kubectl(&[&args[..], &["--namespace", &ctx.namespace]].concat()).await?.ok()?;
    let endpoints: Api<Endpoints> = Api::namespaced(ctx.bed.client(), "default");
    let subsets = endpoints.get("kubernetes").await?.subsets.unwrap_or_default();
    let addresses = subsets.into_iter().flat_map(|subset| subset.addresses.unwrap_or_default());
    let addresses: Vec<_> = addresses.map(|address| address.ip).collect();
    ensure!(addresses == [ADDRESS], "the API server's endpoints are {addresses:?}");
    Ok(())
}

async fn restart(ctx: TestCtx) -> Result<()> {
    let in_namespace = ["--namespace", ctx.namespace.as_str()];
    let create = ["create", "configmap", "kept", "--from-literal=row=1"];
    ctx.bed.kubectl(&[&create[..], &in_namespace].concat()).await?.ok()?;
    let get = [&["get", "configmap", "kept", "--output=jsonpath={.data.row}"][..], &in_namespace]
        .concat();
    {
        let mut control_plane = ctx.bed.control_plane().lock().await;
        control_plane.stop_api_server().await?;
        let away = ctx.bed.kubectl(&get).await?;
        ensure!(away.code == Some(1) && away.stderr.contains("connection"), "{away:?}");
        control_plane.start_api_server().await?;
    }
    let row = ctx.bed.kubectl(&get).await?.ok()?;
    ensure!(row == "1", "{row}");
    Ok(())
}

async fn users(ctx: TestCtx) -> Result<()> {
    let visitor = ctx.bed.user_kubeconfig("someone", &["visitors"]).await?;
    let get = ["get", "pods", "--namespace", &ctx.namespace];
    let refused = ctx.bed.kubectl_as(&visitor, &get).await?;
    ensure!(refused.code == Some(1) && refused.stderr.contains("User \"someone\""), "{refused:?}");
    let binding = ["create", "rolebinding", "visitors", "--clusterrole=view", "--group=visitors"];
    let binding = [&binding[..], &["--namespace", &ctx.namespace]].concat();
    ctx.bed.kubectl(&binding).await?.ok()?;
    let client = control_plane::client(&visitor).await?;
    let review: SelfSubjectAccessReview = serde_json::from_value(json!({
        "spec": { "resourceAttributes":
            { "verb": "list", "resource": "pods", "namespace": ctx.namespace } },
    }))?;
    let reviews: Api<SelfSubjectAccessReview> = Api::all(client);
    // The API server learns of a binding through its own watch, a moment later.
    until("the binding to be in force", MEMBERS, async || {
        let answer = reviews.create(&PostParams::default(), &review).await?;
        let allowed = answer.status.as_ref().is_some_and(|status| status.allowed);
        Ok(if allowed { Attempt::Done(()) } else { Attempt::NotYet(format!("{answer:?}")) })
    })
    .await
}

async fn operator_is_found(ctx: TestCtx) -> Result<()> {
    let path = "--output=jsonpath={.items[0].spec.template.spec.containers[0].env}";
    let select = ["get", "deployment", "--selector=application=postgres-operator", path];
    let environment = ctx.bed.kubectl(&[&select[..], &["--namespace", NAMESPACE]].concat()).await?;
    let environment: Value = serde_json::from_str(&environment.ok()?)?;
    ensure!(environment == json!([{ "name": "CONFIG_MAP_NAME", "value": NAME }]), "{environment}");
    let available = ["wait", "--for=condition=Available", "deployment", NAME, "--timeout=120s"];
    ctx.bed.kubectl(&[&available[..], &["--namespace", NAMESPACE]].concat()).await?.ok()?;
    let settings = ["get", "configmap", NAME, "--output=jsonpath={.data.max_instances}"];
    let max =
        ctx.bed.kubectl(&[&settings[..], &["--namespace", NAMESPACE]].concat()).await?.ok()?;
    ensure!(max == "-1", "{max}");
    Ok(())
}

async fn cluster_is_real(ctx: TestCtx) -> Result<()> {
    let TestCtx { bed, namespace } = &ctx;
    let cluster = json!({
        "apiVersion": "acid.zalan.do/v1",
        "kind": "postgresql",
        "metadata": { "name": "acid-a", "namespace": namespace },
        "spec": {
            "teamId": "acid", "numberOfInstances": 2,
            "postgresql": { "version": bed.postgres_major().await? }, "volume": { "size": "1Gi" },
        },
    });
    let file = bed.directory().join("acid-a.json");
    fs::write(&file, cluster.to_string()).context("failed to write a manifest")?;
    let kubectl = async |args: &[&str]| {
        let said = bed.kubectl(&[&["--namespace", namespace], args].concat()).await?;
        said.ok().with_context(|| format!("kubectl {}", args.join(" ")))
    };
    kubectl(&["create", "--filename", &file.display().to_string()]).await?;
    // Either member may win the race for the first leader lock. A running base backup streams too,
    // so only the replica's own answer shows that it has become one.
    let query = "select pg_is_in_recovery(), count(*) from pg_stat_wal_receiver";
    let in_namespace = ["--namespace", namespace.as_str()];
    let replica = until("a streaming replica", MEMBERS, async || {
        let mut seen = Vec::new();
        for pod in ["acid-a-0", "acid-a-1"] {
            let psql = ["exec", pod, "--", "psql", "-XAtc", query];
            let said = bed.kubectl(&[&in_namespace, &psql[..]].concat()).await?;
            if said.stdout.trim() == "t|1" {
                return Ok(Attempt::Done(pod));
            }
            seen.push(said);
        }
        Ok(Attempt::NotYet(format!("{seen:?}")))
    })
    .await?;
    let status =
        ["get", "postgresql", "acid-a", "--output=jsonpath={.status.PostgresClusterStatus}"];
    until("the operator to call the cluster running", MEMBERS, async || {
        let status = kubectl(&status).await?;
        Ok(if status == "Running" { Attempt::Done(()) } else { Attempt::NotYet(status) })
    })
    .await?;
    forwarded(bed, namespace, replica).await
}

/// Asks the Patroni of a member through `kubectl port-forward`.
async fn forwarded(bed: &Bed, namespace: &str, pod: &str) -> Result<()> {
    let mut kubectl = bed.command(&bed.tools().kubectl, bed.kubeconfig())?;
    let mut kubectl = kubectl
        .args(["port-forward", "--namespace", namespace, pod, "18008:8008"])
        .stdout(Stdio::null())
        .spawn()
        .context("failed to run kubectl port-forward")?;
    let expected = format!("\"name\": \"{pod}\"");
    until("Patroni through port-forward", MEMBERS, async || {
        let ended = kubectl.try_wait().context("failed to look at kubectl")?;
        ensure!(ended.is_none(), "kubectl port-forward ended: {ended:?}");
        let mut answer = Vec::new();
        // The forwarded connection may stay open after the answer, so its end is not awaited.
        let asked = timeout(ANSWER, ask_patroni(&mut answer)).await;
        let answer = String::from_utf8_lossy(&answer);
        Ok(if answer.contains(&expected) {
            Attempt::Done(())
        } else {
            Attempt::NotYet(format!("{answer:?} ({asked:?})"))
        })
    })
    .await?;
    kubectl.kill().await.context("failed to end kubectl port-forward")?;
    Ok(())
}

async fn ask_patroni(answer: &mut Vec<u8>) -> std::io::Result<usize> {
    let mut stream = TcpStream::connect("127.0.0.1:18008").await?;
    stream.write_all(b"GET /patroni HTTP/1.0\r\n\r\n").await?;
    stream.read_to_end(answer).await
}
