//! The HTTP API over TLS, in the name of a service account with a token of its own: what the account
//! may not do is not done, and a shrink loses nothing.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use http::{Method, Request};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{Api, ObjectMeta, PostParams};
use kube::client::Body;
use kube::config::{Config, KubeConfigOptions, Kubeconfig};
use kube::{Client, ResourceExt as _};
use pgscale_tests::account;
use pgscale_tests::cluster::{Cluster, TIMEOUT, quick};
use pgscale_tests::pki::write;
use pgscale_tests::process::Process;
use pgscale_tests::wait::{Attempt, until};
use pgscale_tests::writer::Writer;
use serde_json::{Value, json};

use crate::trial::{Case, TestCtx, case};
use crate::writing::{PAUSE, acknowledged, finish};

const WARM: usize = 100;
/// The time that the program has to end after it was asked to.
const END: Duration = Duration::from_secs(20);

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("api::a_caller_does_what_its_token_may_and_a_shrink_loses_nothing", whole)
            .beside_others(),
    ]
}

/// The API, as one caller sees it.
struct Caller {
    client: Client,
    address: String,
}

/// An answer.
#[derive(Debug)]
struct Got {
    status: u16,
    body: String,
}

impl Got {
    fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.body).with_context(|| format!("no JSON: {self:?}"))
    }
}

impl Caller {
    /// Returns a caller with the credentials of a kubeconfig, for the API at `address`.
    async fn of(kubeconfig: &str, address: &str) -> Result<Self> {
        let kubeconfig = Kubeconfig::from_yaml(kubeconfig)?;
        let options = KubeConfigOptions::default();
        let mut config = Config::from_custom_kubeconfig(kubeconfig, &options).await?;
        config.cluster_url = address.parse()?;
        // A change is followed until its end.
        config.read_timeout = None;
        Ok(Self { client: Client::try_from(config)?, address: address.to_owned() })
    }

    async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Got> {
        let request = Request::builder().method(method).uri(format!("{}{path}", self.address));
        let request = request.header("content-type", "application/json");
        let body = body.map(Value::to_string).unwrap_or_default();
        let answer = self.client.send(request.body(Body::from(body.into_bytes()))?).await?;
        let status = answer.status().as_u16();
        let body = answer.into_body().collect_bytes().await?;
        Ok(Got { status, body: String::from_utf8(body.to_vec())? })
    }
}

/// Makes a service account, and returns a kubeconfig with its token.
async fn account_of(ctx: &TestCtx, name: &str) -> Result<String> {
    let TestCtx { bed, namespace } = ctx;
    let accounts: Api<ServiceAccount> = Api::namespaced(bed.client(), namespace);
    let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
    let made = ServiceAccount { metadata, ..ServiceAccount::default() };
    let made = accounts.create(&PostParams::default(), &made).await?;
    let control_plane = bed.control_plane().lock().await;
    let authority = control_plane.authority();
    account::kubeconfig(&bed.client(), authority, namespace, &made.name_any()).await
}

/// Lets the account do what `kubectl pgscale rbac set` prints, with the bindings that it suggests.
async fn permit(ctx: &TestCtx, cluster: &Cluster, name: &str) -> Result<()> {
    let TestCtx { bed, namespace } = ctx;
    let roles = cluster.pgscale(&["rbac", "set"]).await?;
    let file = bed.directory().join("api-roles.yaml");
    fs::write(&file, &roles.stdout)?;
    let file = file.display().to_string();
    bed.kubectl(&["apply", "-f", &file]).await?.ok()?;
    let user = format!("--user=system:serviceaccount:{namespace}:{name}");
    let bindings = roles.stderr.lines().map(str::trim).filter(|it| it.starts_with("kubectl "));
    let bindings: Vec<String> = bindings.map(|it| it.replace("--user=ME", &user)).collect();
    ensure!(bindings.len() == 4, "{roles:?}");
    for binding in bindings {
        bed.paste(&binding).await?.ok()?;
    }
    Ok(())
}

/// Starts the server, and returns its address.
async fn start(ctx: &TestCtx) -> Result<(Process, String)> {
    let TestCtx { bed, .. } = ctx;
    let pair = {
        let control_plane = bed.control_plane().lock().await;
        control_plane.authority().server("localhost", &["127.0.0.1"])?
    };
    let certificate = write(bed.directory(), "api.crt", &pair.certificate)?;
    let key = write(bed.directory(), "api.key", &pair.key)?;
    let mut command = bed.command(&bed.tools().kubectl, bed.kubeconfig())?;
    command.args(["pgscale", "serve", "--port=0", "--pass-token"]);
    command.arg(format!("--tls-cert-file={}", certificate.display()));
    command.arg(format!("--tls-private-key-file={}", key.display()));
    let mut server = Process::spawn("api", command, &bed.logs())?;
    let address = until("the API to be served", TIMEOUT, async || {
        server.ensure_alive()?;
        let log = fs::read_to_string(server.log())?;
        Ok(match log.lines().find_map(|line| line.strip_prefix("Serving on ")) {
            Some(address) => Attempt::Done(address.trim().to_owned()),
            None => Attempt::NotYet(log),
        })
    })
    .await?;
    Ok((server, address))
}

async fn whole(ctx: TestCtx) -> Result<()> {
    let TestCtx { bed, namespace } = &ctx;
    let cluster = Cluster::create(bed, namespace, "acid-api", 3, quick()).await?;
    cluster.move_leader_to(2).await?;
    let (mut server, address) = start(&ctx).await?;
    let (alice, mallory) = (account_of(&ctx, "alice").await?, account_of(&ctx, "mallory").await?);
    permit(&ctx, &cluster, "alice").await?;
    let (alice, mallory) =
        (Caller::of(&alice, &address).await?, Caller::of(&mallory, &address).await?);
    let path = format!("/namespaces/{namespace}/clusters/acid-api");
    let scale = format!("{path}/scale");

    // The server itself could do everything: the kubeconfig that it was started with is an
    // administrator's. A caller does what its own token may.
    let two = json!({"replicas": 2});
    for (method, path, body) in [(Method::GET, &path, None), (Method::PATCH, &scale, Some(&two))] {
        let got = mallory.ask(method, path, body).await?;
        ensure!(got.status == 403 && got.json()?["success"] == false, "{got:?}");
    }
    ensure!(cluster.declared().await? == 3, "changed by a caller without permissions");

    until("a healthy cluster", TIMEOUT, async || {
        let got = alice.ask(Method::GET, &path, None).await?;
        ensure!(got.status == 200, "{got:?}");
        let state = got.json()?;
        let done = state["verdict"] == "HEALTHY";
        Ok(if done { Attempt::Done(()) } else { Attempt::NotYet(state["reasons"].to_string()) })
    })
    .await?;
    let writer = Writer::start(bed.client(), namespace, &cluster.name).await?;
    acknowledged(&writer, WARM).await?;
    let plan = alice.ask(Method::GET, &format!("{path}/plan?to=2"), None).await?.json()?;
    let asked = json!({"replicas": 2, "expectPlan": plan["hash"], "reason": "by the API"});
    let got = alice.ask(Method::PATCH, &scale, Some(&asked)).await?;
    ensure!(got.status == 202, "{got:?}");
    let operation = got.json()?["operation"].clone();
    let Some(events) = operation["events"].as_str() else { bail!("no operation: {got:?}") };
    let events = alice.ask(Method::GET, events, None).await?.body;
    let end = events.split("event: end\ndata: ").nth(1).and_then(|end| end.lines().next());
    let end: Value = serde_json::from_str(end.with_context(|| format!("no end: {events}"))?)?;
    ensure!(end["result"] == "Converged" && end["report"]["leaderMoved"].is_object(), "{end}");
    acknowledged(&writer, WARM).await?;
    let record = finish(writer).await?;
    ensure!(record.missing == 0 && record.longest_gap < PAUSE, "{record:?}");
    ensure!(cluster.leader().await?.ordinal < 2, "the leader is one of the removed members");
    cluster.converged(2).await?;

    // Another caller sees neither the cluster nor what was done to it.
    let Some(href) = operation["href"].as_str() else { bail!("no operation: {operation}") };
    ensure!(mallory.ask(Method::GET, href, None).await?.status == 404, "seen by a stranger");
    let history = alice.ask(Method::GET, &format!("{path}/history"), None).await?.json()?;
    ensure!(history["items"][0]["reason"] == "by the API", "{history}");
    server.stop(END).await
}
