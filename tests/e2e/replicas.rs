//! Two real webhooks behind one Service, under a steady load of reviews through the API server,
//! while they are restarted, get other certificates and another secret path, and are killed.
//!
//! The test is their kubelet: it asks each `/readyz` with the timing of the chart's probe and
//! writes the answer into the `EndpointSlice` by which the API server finds it. They answer only
//! peers with the API server's client certificate, and only under a secret path.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use pgscale_tests::control_plane::{ADDRESS, WEBHOOK_CLIENT};
use pgscale_tests::patroni::rest;
use pgscale_tests::pki::{Authority, write};
use pgscale_tests::process::Process;
use pgscale_tests::progress::say;
use pgscale_tests::wait::{Attempt, until};
use serde_json::json;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use crate::guarding;
use crate::trial::{Case, TestCtx, case};
use load::Load;

mod budget;
mod load;

/// The name of the Service and of the registration.
const NAME: &str = "replicas";
/// The reviews that the test needs.
const REVIEWS: usize = 10_000;
/// The timing of the chart's readiness probe (charts/pgscale/templates/deployment.yaml).
const PERIOD: Duration = Duration::from_secs(2);
const PROBE: Duration = Duration::from_secs(1);
/// The time for which a replica accepts connections after SIGTERM: longer than one period.
const DRAIN: &str = "4s";
/// The grace period of a pod.
const GRACE: Duration = Duration::from_secs(35);
/// The time after which the API server has seen the change of an object.
const SEEN: Duration = Duration::from_secs(1);
/// The limit for what takes seconds on an idle machine.
const SOON: Duration = Duration::from_secs(120);
/// The limit for the whole load on a busy machine.
const LIMIT: Duration = Duration::from_secs(900);
/// The first port of the replicas. Each takes two.
const PORTS: u16 = 19_443;
/// The secret part of the path, and the one that follows it.
const PATHS: [&str; 2] =
    ["first-path-of-the-replicas-0123456789", "another-path-of-the-replicas-0123456789"];

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("replicas::no_review_is_lost_while_replicas_come_and_go", come_and_go).within(LIMIT),
        case("budget::parallel_edits_never_pass_the_budget", budget::parallel_edits).within(LIMIT),
    ]
}

async fn come_and_go(ctx: TestCtx) -> Result<()> {
    // It installs the definitions of policies.
    guarding::webhook(&ctx).await?;
    load::stage(&ctx).await?;
    let mut replicas = Replicas::new(&ctx).await?;
    let (mut first, mut second) = (replicas.start().await?, replicas.start().await?);
    replicas.register(&[&replicas.authority]).await?;
    let load = Load::begin(&ctx).await?;
    let start = Instant::now();

    // A rolling restart: a new replica is ready before an old one stops.
    for old in [&mut first, &mut second] {
        let new = replicas.start().await?;
        let old = std::mem::replace(old, new);
        old.leave().await?;
    }
    report(&load, "a rolling restart");

    // Another authority: trusted first, then used, then trusted alone.
    let next = Authority::new()?;
    replicas.register(&[&replicas.authority, &next]).await?;
    sleep(SEEN).await;
    replicas.renew(&next, [&first, &second]).await?;
    replicas.register(&[&next]).await?;
    replicas.authority = next;
    report(&load, "another authority");

    // Another secret path: accepted beside the old one, then called, then accepted alone.
    let [old, new] = PATHS;
    replicas.accept(&[new, old])?;
    replicas.renew(&replicas.authority, [&first, &second]).await?;
    replicas.path = new;
    replicas.register(&[&replicas.authority]).await?;
    sleep(SEEN).await;
    replicas.accept(&[new])?;
    replicas.renew(&replicas.authority, [&first, &second]).await?;
    report(&load, "another secret path");

    for _ in 0..20 {
        replicas.register(&[&replicas.authority]).await?;
        sleep(Duration::from_millis(200)).await;
    }
    report(&load, "a registration that is applied again and again");

    let killed = Instant::now();
    first.kill().await?;
    let known = killed.elapsed() + SEEN;
    let third = replicas.start().await?;
    report(&load, "a SIGKILL");

    until("all reviews", LIMIT, async || {
        load.ensure_no_wrong_answer()?;
        let answered = load.answered();
        Ok(if answered < REVIEWS {
            Attempt::NotYet(answered.to_string())
        } else {
            Attempt::Done(())
        })
    })
    .await?;
    let took = start.elapsed();
    let outcome = load.end().await?;
    let (at_kill, lost): (Vec<_>, Vec<_>) =
        outcome.lost.iter().partition(|lost| lost.overlaps(killed, killed + known));
    say(&format!(
        "{} reviews in {} s, {} of them refusals; {} lost while a killed replica was still in its \
         EndpointSlice, {} lost otherwise",
        outcome.answered,
        took.as_secs(),
        outcome.refused,
        at_kill.len(),
        lost.len()
    ));
    ensure!(lost.is_empty(), "lost: {:?}", lost.iter().take(5).collect::<Vec<_>>());
    ensure!(outcome.answered >= REVIEWS && outcome.refused > 0, "{outcome:?}");
    for replica in [second, third] {
        replica.leave().await?;
    }
    replicas.deregister().await
}

fn report(load: &Load, what: &str) {
    say(&format!("{what}: {} reviews so far, {} lost", load.answered(), load.lost()));
}

/// The replicas of one Service.
struct Replicas {
    ctx: TestCtx,
    directory: PathBuf,
    authority: Authority,
    /// The secret path under which they are called.
    path: &'static str,
    /// `growFailurePolicy`.
    growth: &'static str,
    next: u16,
}

impl Replicas {
    async fn new(ctx: &TestCtx) -> Result<Self> {
        let directory = ctx.bed.directory().join(NAME);
        fs::create_dir_all(&directory).context("failed to make a directory")?;
        let clients = ctx.bed.control_plane().lock().await;
        write(&directory, "clients.crt", clients.authority().certificate())?;
        drop(clients);
        let service = serde_json::from_value(json!({
            "metadata": {"name": NAME},
            "spec": {"ports": [{"name": "webhook", "port": 443}]},
        }))?;
        let services: Api<Service> = Api::namespaced(ctx.bed.client(), &ctx.namespace);
        services.create(&PostParams::default(), &service).await.context("no Service")?;
        let authority = Authority::new()?;
        let [path, _] = PATHS;
        let replicas = Self {
            ctx: ctx.clone(),
            directory,
            authority,
            path,
            // A refusal that is too late on a busy machine is one all the same.
            growth: "Fail",
            next: PORTS,
        };
        replicas.accept(&[path])?;
        replicas.sign(&replicas.authority)?;
        Ok(replicas)
    }

    /// Writes the file of the secret paths that all replicas accept.
    fn accept(&self, paths: &[&str]) -> Result<()> {
        write(&self.directory, "paths", &paths.join("\n")).map(drop)
    }

    /// Writes another certificate by `authority`, and returns when each of `replicas` serves it. By
    /// then each has read the file of paths, too: it does so after the certificate.
    async fn renew(&self, authority: &Authority, replicas: [&Replica; 2]) -> Result<()> {
        let [first, second] = replicas;
        let served = [first.certificates().await?, second.certificates().await?];
        self.sign(authority)?;
        for (replica, served) in replicas.into_iter().zip(served) {
            replica.serves_another_certificate(served).await?;
        }
        Ok(())
    }

    /// Writes the files of a certificate by `authority`, which all replicas read.
    fn sign(&self, authority: &Authority) -> Result<()> {
        let name = format!("{NAME}.{}.svc", self.ctx.namespace);
        let pair = authority.server(NAME, &[&name])?;
        write(&self.directory, "tls.crt", &pair.certificate)?;
        write(&self.directory, "tls.key", &pair.key)?;
        Ok(())
    }

    /// Starts a replica, and returns when the API server may send it reviews.
    async fn start(&mut self) -> Result<Replica> {
        let (port, metrics) = (self.next, self.next + 1);
        self.next += 2;
        let bed = &self.ctx.bed;
        let mut command = bed.command(&bed.programs()?.webhook.clone(), bed.kubeconfig())?;
        let file = |name: &str| OsString::from(self.directory.join(name));
        let arguments = [
            ("--listen", format!("{ADDRESS}:{port}").into()),
            ("--metrics-listen", format!("{ADDRESS}:{metrics}").into()),
            ("--tls-cert", file("tls.crt")),
            ("--tls-key", file("tls.key")),
            ("--path-file", file("paths")),
            ("--client-ca", file("clients.crt")),
            ("--client-name", WEBHOOK_CLIENT.into()),
            ("--kubeconfig", bed.kubeconfig().into()),
            ("--reload-interval", "1s".into()),
            ("--drain-delay", DRAIN.into()),
            ("--grow-failure-policy", self.growth.into()),
            ("--log-format", "text".into()),
        ];
        command.arg("serve");
        for (flag, value) in arguments {
            command.args([OsString::from(flag), value]);
        }
        let name = format!("replica-{port}");
        let mut process = Process::spawn(&name, command, &bed.logs())?;
        let slices = Api::namespaced(bed.client(), &self.ctx.namespace);
        let metrics = format!("{ADDRESS}:{metrics}").parse()?;
        let slice = Arc::new(Slice { slices, name, port });
        until("a replica to be ready", SOON, async || {
            process.ensure_alive()?;
            let answer = rest::probe(metrics, "/readyz", PROBE).await;
            Ok(match answer {
                Ok(status) if status.is_success() => Attempt::Done(()),
                other => Attempt::NotYet(format!("{other:?}")),
            })
        })
        .await?;
        slice.publish(true).await?;
        sleep(SEEN).await;
        let prober = tokio::spawn(Arc::clone(&slice).follow(metrics));
        Ok(Replica { process, slice, prober, metrics })
    }

    /// Registers the replicas under these authorities for every update of a cluster, also one that
    /// leaves the count as it is.
    async fn register(&self, authorities: &[&Authority]) -> Result<()> {
        let bundle: String = authorities.iter().map(|authority| authority.certificate()).collect();
        let bundle = k8s_openapi::ByteString(bundle.into_bytes());
        let namespace = &self.ctx.namespace;
        let path = format!("/validate/{}", self.path);
        let registration = json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": format!("{NAME}.pgscale.dev")},
            "webhooks": [{
                "name": "replicas.pgscale.dev", "admissionReviewVersions": ["v1"],
                "sideEffects": "NoneOnDryRun", "failurePolicy": "Fail", "timeoutSeconds": 10,
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
                "rules": [{
                    "apiGroups": ["acid.zalan.do"], "apiVersions": ["v1"],
                    "operations": ["UPDATE"], "resources": ["postgresqls"],
                }],
                "clientConfig": {
                    "caBundle": bundle,
                    "service": {"namespace": namespace, "name": NAME, "path": path},
                },
            }],
        });
        let registrations: Api<ValidatingWebhookConfiguration> = Api::all(self.ctx.bed.client());
        let apply = PatchParams::apply("bed").force();
        let name = format!("{NAME}.pgscale.dev");
        registrations
            .patch(&name, &apply, &Patch::Apply(registration))
            .await
            .context("failed to register the replicas")?;
        Ok(())
    }

    async fn deregister(&self) -> Result<()> {
        let registrations: Api<ValidatingWebhookConfiguration> = Api::all(self.ctx.bed.client());
        let name = format!("{NAME}.pgscale.dev");
        registrations.delete(&name, &DeleteParams::default()).await?;
        Ok(())
    }
}

/// A running webhook with its `EndpointSlice`.
struct Replica {
    process: Process,
    slice: Arc<Slice>,
    prober: JoinHandle<()>,
    metrics: std::net::SocketAddr,
}

impl Replica {
    /// Ends it as a kubelet does: SIGTERM, and its endpoint follows its readiness until it is gone.
    async fn leave(mut self) -> Result<()> {
        self.process.stop(GRACE).await?;
        self.gone().await
    }

    /// Ends it as a crash does. A kubelet sees the end of a process at once, without a probe.
    async fn kill(mut self) -> Result<()> {
        self.process.kill().await?;
        self.gone().await
    }

    async fn gone(&self) -> Result<()> {
        self.prober.abort();
        let Slice { slices, name, .. } = &*self.slice;
        slices.delete(name, &DeleteParams::default()).await.context("no EndpointSlice")?;
        Ok(())
    }

    async fn serves_another_certificate(&self, served: u64) -> Result<()> {
        until("another certificate to be served", SOON, async || {
            let count = self.certificates().await?;
            let more = count > served;
            Ok(if more { Attempt::Done(()) } else { Attempt::NotYet(count.to_string()) })
        })
        .await
    }

    /// Returns how many certificates it has served so far, the first one included.
    async fn certificates(&self) -> Result<u64> {
        let text = rest::text(self.metrics, "/metrics").await?;
        let line = "pgscale_certificate_reloads_total{result=\"ok\"} ";
        let count = text.lines().find_map(|found| found.strip_prefix(line));
        count.context("no counter of certificates")?.parse().context("no number of certificates")
    }
}

/// The `EndpointSlice` of one replica.
struct Slice {
    slices: Api<EndpointSlice>,
    name: String,
    port: u16,
}

impl Slice {
    async fn publish(&self, ready: bool) -> Result<()> {
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": self.name, "labels": {"kubernetes.io/service-name": NAME}},
            "addressType": "IPv4",
            "ports": [{"name": "webhook", "port": self.port, "protocol": "TCP"}],
            "endpoints": [{"addresses": [ADDRESS], "conditions": {"ready": ready}}],
        });
        let apply = PatchParams::apply("bed").force();
        let patched = self.slices.patch(&self.name, &apply, &Patch::Apply(slice)).await;
        patched.map(drop).context("failed to write an EndpointSlice")
    }

    /// Keeps the endpoint as ready as its replica says, for ever. One answer is enough, as the
    /// chart's probe says.
    async fn follow(self: Arc<Self>, metrics: std::net::SocketAddr) {
        let mut ready = true;
        let mut ticks = interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let answer = rest::probe(metrics, "/readyz", PROBE).await;
            let now = answer.is_ok_and(|status| status.is_success());
            if now != ready && self.publish(now).await.is_ok() {
                ready = now;
            }
        }
    }
}
