//! The project's own admission webhook, as its chart installs it.
//!
//! It has the chart's objects, the arguments of its Deployment, and the permissions of its service
//! account and no others. Its pods exist, and are admitted under the restricted pod security
//! standard. One process answers at the addresses of all of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use hyper::StatusCode;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Pod, Secret};
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::account;
use crate::bed::Bed;
use crate::chart;
use crate::cluster::resource;
use crate::operator::RUN_NOTHING;
use crate::patroni::rest;
use crate::pki::write;
use crate::process::Process;
use crate::streaming;
use crate::wait::{Attempt, until};

/// The namespace of the webhook.
pub const NAMESPACE: &str = "pgscale-system";
/// The name of its service account, its Deployment and its Service in the chart.
pub const ACCOUNT: &str = "pgscale-webhook";
/// The Secret with its certificates.
pub const SECRET: &str = "pgscale-webhook-certificates";
/// The name of its registration.
pub const REGISTRATION: &str = "pgscale.dev";
/// The label of guarded namespaces: the bed also shows the operator without the webhook.
pub const GUARDED: (&str, &str) = ("pgscale.dev/guarded", "true");

/// The labels of the review of a probe in the metrics.
const PROBE: [&str; 2] = ["operation=\"CREATE\"", "dry_run=\"true\""];
const LISTEN: &str = "127.0.0.1:9443";
const PORT: u16 = 9443;
const METRICS: ([u8; 4], u16) = ([127, 0, 0, 1], 9090);
const READY: Duration = Duration::from_secs(120);
const GRACE: Duration = Duration::from_secs(15);

/// A running webhook, registered with the API server.
pub struct Webhook {
    bed: Arc<Bed>,
    kubeconfig: PathBuf,
    /// The arguments of the chart's Deployment.
    args: Vec<String>,
    process: Mutex<Option<Process>>,
    probing: Mutex<()>,
}

impl Webhook {
    /// Installs the chart for namespaces labelled [`GUARDED`] and starts the program of its
    /// Deployment.
    ///
    /// # Errors
    /// Fails when the API server refuses an object, or the webhook is not ready in time.
    pub async fn start(bed: &Arc<Bed>) -> Result<Self> {
        let directory = bed.directory().join("webhook");
        fs::create_dir_all(&directory)
            .with_context(|| format!("failed to make {}", directory.display()))?;
        create_namespace(bed).await?;
        install(bed)?;
        let deployments: Api<Deployment> = Api::namespaced(bed.client(), NAMESPACE);
        let deployment = deployments.get(ACCOUNT).await;
        let deployment = deployment.context("failed to read the webhook's Deployment")?;
        let webhook = Self {
            kubeconfig: own_kubeconfig(bed, &directory).await?,
            bed: Arc::clone(bed),
            args: arguments(&deployment).context("the Deployment has no arguments")?,
            process: Mutex::default(),
            probing: Mutex::default(),
        };
        webhook.run().await?;
        let rollout = format!("deployment/{ACCOUNT}");
        let rollout = ["--namespace", NAMESPACE, "rollout", "status", &rollout, "--timeout=60s"];
        bed.kubectl(&rollout).await?.ok().context("the chart's pods do not come up")?;
        Ok(webhook)
    }

    /// Starts the process, if it is stopped, and waits until it is ready.
    ///
    /// # Errors
    /// Fails when it ends early (with the end of its log) or is not ready in time.
    pub async fn run(&self) -> Result<()> {
        if self.spawn().await? {
            until("the webhook to be ready", READY, async || {
                Ok(match self.readiness().await? {
                    Ok(StatusCode::OK) => Attempt::Done(()),
                    Ok(status) => Attempt::NotYet(status.to_string()),
                    Err(error) => Attempt::NotYet(format!("{error:#}")),
                })
            })
            .await?;
        }
        Ok(())
    }

    /// Starts the process, if it is stopped. Returns whether it was.
    ///
    /// # Errors
    /// Fails when it cannot be started.
    pub async fn spawn(&self) -> Result<bool> {
        let mut running = self.process.lock().await;
        if running.is_some() {
            return Ok(false);
        }
        let mut command =
            self.bed.command(&self.bed.programs()?.webhook.clone(), &self.kubeconfig)?;
        // In a pod the webhook would find the account's token by itself.
        command.args(&self.args).arg("--kubeconfig").arg(&self.kubeconfig);
        *running = Some(Process::spawn("pgscale-webhook", command, &self.bed.logs())?);
        Ok(true)
    }

    /// Returns what it says to the question of a kubelet whether it is ready.
    ///
    /// # Errors
    /// Fails when the process has ended, with the end of its log.
    pub async fn readiness(&self) -> Result<Result<StatusCode>> {
        if let Some(process) = self.process.lock().await.as_mut() {
            process.ensure_alive()?;
        }
        Ok(rest::probe(METRICS.into(), "/readyz", Duration::from_secs(1)).await)
    }

    /// Waits until the chart is installed again, then runs the process for its new account and pods.
    ///
    /// Each pod that is ready lets its certificate be seen through a port-forward.
    ///
    /// # Errors
    /// Fails when the pods do not come up, or the process is not ready in time.
    pub async fn adopt(&self) -> Result<()> {
        self.stop().await?;
        let client = self.bed.client();
        let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
        let labels = format!("app.kubernetes.io/name={ACCOUNT}");
        let labels = ListParams::default().labels(&labels);
        let names = until("the pods of the webhook", READY, async || {
            let deployments: Api<Deployment> = Api::namespaced(client.clone(), NAMESPACE);
            let deployment = deployments.get_opt(ACCOUNT).await?;
            let wanted = deployment.and_then(|it| it.spec?.replicas).unwrap_or(i32::MAX);
            let pods = pods.list(&labels).await.context("failed to list the webhook's pods")?;
            let alive = pods.items.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
            let names: Vec<String> = alive.filter_map(|pod| pod.metadata.name.clone()).collect();
            let all = i32::try_from(names.len()).is_ok_and(|there| there >= wanted);
            Ok(if all { Attempt::Done(names) } else { Attempt::NotYet(format!("{names:?}")) })
        })
        .await?;
        for name in names {
            streaming::forward_here(&client, NAMESPACE, &name, PORT).await?;
        }
        own_kubeconfig(&self.bed, &self.bed.directory().join("webhook")).await?;
        self.run().await
    }

    /// Ends the process and leaves the registration, like a webhook that is down.
    ///
    /// # Errors
    /// Fails when its end cannot be observed.
    pub async fn stop(&self) -> Result<()> {
        match self.process.lock().await.take() {
            Some(mut process) => process.stop(GRACE).await,
            None => Ok(()),
        }
    }

    /// Returns the address at which it serves reviews.
    pub fn address(&self) -> &'static str {
        LISTEN
    }

    /// Returns the name in its certificate.
    pub fn server_name(&self) -> String {
        format!("{ACCOUNT}.{NAMESPACE}.svc")
    }

    /// Reads its registration, which says where and how the API server calls it.
    ///
    /// # Errors
    /// Fails when there is none.
    pub async fn registration(&self) -> Result<ValidatingWebhookConfiguration> {
        let registrations = Api::all(self.bed.client());
        registrations.get(REGISTRATION).await.context("failed to read the webhook's registration")
    }

    /// Returns the path in its registration, under which alone it answers.
    ///
    /// # Errors
    /// Fails when there is none.
    pub async fn path(&self) -> Result<String> {
        let service = self.registration().await?.webhooks.unwrap_or_default().into_iter().next();
        let service = service.and_then(|entry| entry.client_config.service);
        service.and_then(|service| service.path).context("the registration has no path")
    }

    /// Returns the authorities in its registration, PEM: those by which the API server trusts it.
    ///
    /// The Secret may hold newer ones alone, which sign no certificate yet.
    ///
    /// # Errors
    /// Fails when there is none.
    pub async fn bundle(&self) -> Result<String> {
        let first = self.registration().await?.webhooks.unwrap_or_default().into_iter().next();
        let bundle = first.and_then(|entry| entry.client_config.ca_bundle);
        let bundle = bundle.context("the registration has no bundle")?;
        String::from_utf8(bundle.0).context("the bundle is not UTF-8")
    }

    /// Returns the value of `key` in its Secret.
    ///
    /// # Errors
    /// Fails when there is no such value.
    pub async fn kept(&self, key: &str) -> Result<String> {
        let secrets: Api<Secret> = Api::namespaced(self.bed.client(), NAMESPACE);
        let secret = secrets.get(SECRET).await.context("failed to read the webhook's Secret")?;
        let bytes = secret.data.unwrap_or_default().remove(key);
        let bytes = bytes.with_context(|| format!("{SECRET} has no {key}"))?;
        String::from_utf8(bytes.0).with_context(|| format!("{key} is not UTF-8"))
    }

    /// Returns its process id, while it runs.
    pub async fn id(&self) -> Option<u32> {
        self.process.lock().await.as_ref().and_then(Process::id)
    }

    /// Returns its metrics, as Prometheus reads them.
    ///
    /// # Errors
    /// Fails when it does not answer.
    pub async fn metrics(&self) -> Result<String> {
        rest::text(METRICS.into(), "/metrics").await
    }

    /// Returns the number of reviews that it has answered since its start.
    ///
    /// # Errors
    /// Fails when it does not answer, or does not count.
    pub async fn reviews(&self) -> Result<u64> {
        self.reviews_with(&[]).await
    }

    /// Returns the number of those whose labels in the metrics contain `labels`.
    async fn reviews_with(&self, labels: &[&str]) -> Result<u64> {
        let text = self.metrics().await?;
        let counted =
            text.lines().filter(|line| line.starts_with("pgscale_admission_requests_total"));
        counted
            .filter(|line| labels.iter().all(|label| line.contains(label)))
            .map(|line| {
                let count = line.rsplit(' ').next().unwrap_or_default();
                count.parse::<u64>().with_context(|| format!("not a count: {line}"))
            })
            .sum()
    }

    /// Guards `namespace`, and returns when the API server sends writes there to the webhook.
    ///
    /// # Errors
    /// Fails when the namespace cannot be labelled, or the API server takes too long to see it.
    pub async fn guard(&self, namespace: &str) -> Result<()> {
        let (label, value) = GUARDED;
        let patch = Patch::Merge(json!({"metadata": {"labels": {label: value}}}));
        Api::<Namespace>::all(self.bed.client())
            .patch(namespace, &PatchParams::default(), &patch)
            .await
            .with_context(|| format!("failed to label the namespace {namespace}"))?;
        until(&format!("writes in {namespace} to be sent to the webhook"), READY, async || {
            Ok(match self.sent(namespace).await? {
                (true, _) => Attempt::Done(()),
                (false, said) => Attempt::NotYet(said),
            })
        })
        .await
    }

    /// Ends what [`Self::guard`] began, and returns when the API server no longer sends writes in
    /// `namespace` to the webhook.
    ///
    /// # Errors
    /// Fails like [`Self::guard`].
    pub async fn unguard(&self, namespace: &str) -> Result<()> {
        let (label, _) = GUARDED;
        let patch = Patch::Merge(json!({"metadata": {"labels": {label: null}}}));
        Api::<Namespace>::all(self.bed.client())
            .patch(namespace, &PatchParams::default(), &patch)
            .await
            .with_context(|| format!("failed to remove a label of the namespace {namespace}"))?;
        until(&format!("writes in {namespace} to pass the webhook by"), READY, async || {
            Ok(match self.sent(namespace).await? {
                (false, _) => Attempt::Done(()),
                (true, said) => Attempt::NotYet(said),
            })
        })
        .await
    }

    /// Returns whether the API server sends a write in `namespace` to the webhook, and its answer.
    async fn sent(&self, namespace: &str) -> Result<(bool, String)> {
        let probe: DynamicObject = serde_json::from_value(json!({
            "apiVersion": "acid.zalan.do/v1", "kind": "postgresql",
            "metadata": {"namespace": namespace, "name": "acid-probe"},
            "spec": {
                "teamId": "acid", "numberOfInstances": 1,
                "postgresql": {"version": "17"}, "volume": {"size": "1Gi"},
            },
        }))?;
        let clusters: Api<DynamicObject> =
            Api::namespaced_with(self.bed.client(), namespace, &resource());
        let dry = PostParams { dry_run: true, ..PostParams::default() };
        // Only one probe at a time creates a cluster on trial, and no other test does.
        let _probing = self.probing.lock().await;
        let before = self.reviews_with(&PROBE).await?;
        // The answer does not matter: every cluster that is created is sent to the webhook.
        let said = clusters.create(&dry, &probe).await.map(drop);
        Ok((self.reviews_with(&PROBE).await? > before, format!("{said:?}")))
    }
}

/// Installs the chart, or upgrades it, by Helm. Returns Helm's notes for the user.
///
/// # Errors
/// Fails when Helm or the API server refuses.
pub fn install(bed: &Bed) -> Result<String> {
    chart::install(&bed.tools().helm, bed.kubeconfig(), NAMESPACE, &values())
}

/// Returns the values in which an installation here differs from the chart's defaults.
pub fn values() -> Value {
    let (guarded, value) = GUARDED;
    let (run, nothing) = RUN_NOTHING;
    json!({
        "namespaceSelector": {"matchLabels": {guarded: value}},
        "podLabels": {run: nothing},
        // The address never moves, so no client needs time to learn of a move.
        "drain": {"delay": "1s"},
        "log": {"format": "text"},
    })
}

fn arguments(deployment: &Deployment) -> Option<Vec<String>> {
    let pod = deployment.spec.as_ref()?.template.spec.as_ref()?;
    pod.containers.first()?.args.clone()
}

/// Makes a kubeconfig for the webhook's service account.
async fn own_kubeconfig(bed: &Bed, directory: &Path) -> Result<PathBuf> {
    let control_plane = bed.control_plane().lock().await;
    let authority = control_plane.authority();
    let text = account::kubeconfig(&bed.client(), authority, NAMESPACE, ACCOUNT).await?;
    write(directory, "kubeconfig", &text)
}

async fn create_namespace(bed: &Bed) -> Result<()> {
    let namespace = json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {
            "name": NAMESPACE, "labels": {"pod-security.kubernetes.io/enforce": "restricted"},
        },
    });
    Api::<Namespace>::all(bed.client())
        .patch(NAMESPACE, &PatchParams::apply("bed").force(), &Patch::Apply(namespace))
        .await
        .context("failed to create the webhook's namespace")?;
    Ok(())
}
