//! Several real webhooks behind one Service of a test's namespace.
//!
//! The test is their kubelet: it asks each `/readyz` with the timing of the chart's probe and
//! writes the answer into the `EndpointSlice` by which the API server finds it. They answer only
//! peers with the API server's client certificate, and only under a secret path.

use std::ffi::OsString;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::control_plane::{ADDRESS, WEBHOOK_CLIENT};
use crate::patroni::rest;
use crate::pki::{Authority, write};
use crate::process::Process;
use crate::trial::TestCtx;
use crate::wait::{Attempt, until};

/// The name of the Service and of the registration.
const NAME: &str = "replicas";
/// The timing of the chart's readiness probe (charts/pgscale/templates/deployment.yaml).
const PERIOD: Duration = Duration::from_secs(2);
const PROBE: Duration = Duration::from_secs(1);
/// The time for which a replica accepts connections after SIGTERM: longer than one period.
const DRAIN: &str = "4s";
/// The grace period of a pod.
const GRACE: Duration = Duration::from_secs(35);
/// The time after which the API server has seen the change of an object.
pub const SEEN: Duration = Duration::from_secs(1);
/// The limit for what takes seconds on an idle machine.
pub const SOON: Duration = Duration::from_secs(120);
/// The first port of the replicas. Each takes two.
const PORTS: u16 = 19_443;
/// The secret part of the path, and the one that follows it.
pub const PATHS: [&str; 2] =
    ["first-path-of-the-replicas-0123456789", "another-path-of-the-replicas-0123456789"];

/// The replicas of one Service.
pub struct Replicas {
    ctx: TestCtx,
    directory: PathBuf,
    /// The authority of their certificates.
    pub authority: Authority,
    /// The secret path under which they are called.
    pub path: &'static str,
    /// `growFailurePolicy`.
    pub growth: &'static str,
    /// The operations on clusters that are sent to them.
    pub operations: &'static [&'static str],
    next: u16,
}

impl Replicas {
    /// Makes the Service of the test's namespace, and the files of its replicas, of which none runs
    /// yet.
    ///
    /// # Errors
    /// Fails when a file or the Service cannot be made.
    pub async fn new(ctx: &TestCtx) -> Result<Self> {
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
            operations: &["UPDATE"],
            next: PORTS,
        };
        replicas.accept(&[path])?;
        replicas.sign(&replicas.authority)?;
        Ok(replicas)
    }

    /// Returns the certificate that all replicas serve, and its key.
    pub fn serving_files(&self) -> (PathBuf, PathBuf) {
        (self.directory.join("tls.crt"), self.directory.join("tls.key"))
    }

    /// Writes the file of the secret paths that all replicas accept.
    ///
    /// # Errors
    /// Fails when it cannot be written.
    pub fn accept(&self, paths: &[&str]) -> Result<()> {
        write(&self.directory, "paths", &paths.join("\n")).map(drop)
    }

    /// Writes another certificate by `authority`, and returns when each of `replicas` serves it. By
    /// then each has read the file of paths, too: it does so after the certificate.
    ///
    /// # Errors
    /// Fails when one of them does not within two minutes.
    pub async fn renew(&self, authority: &Authority, replicas: [&Replica; 2]) -> Result<()> {
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
    ///
    /// # Errors
    /// Fails when it ends, or is not ready within two minutes.
    pub async fn start(&mut self) -> Result<Replica> {
        let kubeconfig = self.ctx.bed.kubeconfig().to_owned();
        self.start_with(&kubeconfig).await
    }

    /// The same for one that reaches the API server by `kubeconfig`.
    ///
    /// # Errors
    /// Fails like [`Self::start`].
    pub async fn start_with(&mut self, kubeconfig: &Path) -> Result<Replica> {
        let (port, metrics) = (self.next, self.next + 1);
        self.next += 2;
        let bed = &self.ctx.bed;
        let mut command = bed.command(&bed.programs()?.webhook.clone(), kubeconfig)?;
        let file = |name: &str| OsString::from(self.directory.join(name));
        let arguments = [
            ("--listen", format!("{ADDRESS}:{port}").into()),
            ("--metrics-listen", format!("{ADDRESS}:{metrics}").into()),
            ("--tls-cert", file("tls.crt")),
            ("--tls-key", file("tls.key")),
            ("--path-file", file("paths")),
            ("--client-ca", file("clients.crt")),
            ("--client-name", WEBHOOK_CLIENT.into()),
            ("--kubeconfig", kubeconfig.into()),
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
        let metrics = format!("{ADDRESS}:{metrics}").parse()?;
        let slice = Arc::new(self.slice(name, port));
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

    fn slice(&self, name: String, port: u16) -> Slice {
        Slice { slices: Api::namespaced(self.ctx.bed.client(), &self.ctx.namespace), name, port }
    }

    /// Lets the API server send reviews to another program at this port, until the `EndpointSlice`
    /// with the returned name is deleted.
    ///
    /// # Errors
    /// Fails when it cannot be written.
    pub async fn publish(&self, port: u16) -> Result<String> {
        let slice = self.slice(format!("other-{port}"), port);
        slice.publish(true).await?;
        Ok(slice.name)
    }

    /// Registers the replicas under these authorities for every such operation on a cluster, also
    /// for one that leaves the count as it is.
    ///
    /// # Errors
    /// Fails when the API server refuses.
    pub async fn register(&self, authorities: &[&Authority]) -> Result<()> {
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
                    "operations": self.operations, "resources": ["postgresqls"],
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

    /// Removes the registration.
    ///
    /// # Errors
    /// Fails when the API server refuses.
    pub async fn deregister(&self) -> Result<()> {
        let registrations: Api<ValidatingWebhookConfiguration> = Api::all(self.ctx.bed.client());
        let name = format!("{NAME}.pgscale.dev");
        registrations.delete(&name, &DeleteParams::default()).await?;
        Ok(())
    }
}

/// A running webhook with its `EndpointSlice`.
pub struct Replica {
    process: Process,
    slice: Arc<Slice>,
    prober: JoinHandle<()>,
    metrics: SocketAddr,
}

impl Replica {
    /// Ends it as a kubelet does: SIGTERM, and its endpoint follows its readiness until it is gone.
    ///
    /// # Errors
    /// Fails when its end cannot be observed.
    pub async fn leave(mut self) -> Result<()> {
        self.process.stop(GRACE).await?;
        self.gone().await
    }

    /// Ends it as a crash does. A kubelet sees the end of a process at once, without a probe.
    ///
    /// # Errors
    /// Fails when its end cannot be observed.
    pub async fn kill(mut self) -> Result<()> {
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
    async fn follow(self: Arc<Self>, metrics: SocketAddr) {
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
