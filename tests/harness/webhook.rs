//! The project's own admission webhook, running with the rights its own manifests give it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use hyper::StatusCode;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::sync::Mutex;

use crate::bed::Bed;
use crate::cluster::resource;
use crate::control_plane::url;
use crate::patroni::rest;
use crate::pki::write;
use crate::process::Process;
use crate::wait::{Attempt, until};

/// Namespace and service account of the webhook, as its manifests name them.
pub const NAMESPACE: &str = "pgscale-system";
/// See [`NAMESPACE`].
pub const ACCOUNT: &str = "pgscale-webhook";
/// Namespaces with this label are guarded: the bed also shows what the bare operator does.
pub const GUARDED: (&str, &str) = ("pgscale.dev/guarded", "true");

const LISTEN: &str = "127.0.0.1:9443";
const METRICS: ([u8; 4], u16) = ([127, 0, 0, 1], 9444);
const READY: Duration = Duration::from_secs(120);
const GRACE: Duration = Duration::from_secs(15);
const TOKEN_SECONDS: i64 = 24 * 3600;

/// A running webhook, registered with the API server.
pub struct Webhook {
    bed: Arc<Bed>,
    directory: PathBuf,
    kubeconfig: PathBuf,
    process: Mutex<Option<Process>>,
}

impl Webhook {
    /// Installs its CRD and rights, starts it, and registers it for namespaces labelled [`GUARDED`].
    ///
    /// # Errors
    /// When any of it is refused, or it is not ready in time.
    pub async fn start(bed: &Arc<Bed>) -> Result<Self> {
        let directory = bed.directory().join("webhook");
        fs::create_dir_all(&directory)
            .with_context(|| format!("failed to make {}", directory.display()))?;
        let pair = bed
            .control_plane()
            .lock()
            .await
            .authority()
            .server("pgscale-webhook", &["127.0.0.1", "localhost"])?;
        write(&directory, "tls.crt", &pair.certificate)?;
        write(&directory, "tls.key", &pair.key)?;
        let authority = bed.control_plane().lock().await.authority().certificate().to_owned();
        write(&directory, "ca.crt", &authority)?;

        let mut webhook = Self {
            bed: Arc::clone(bed),
            kubeconfig: PathBuf::new(),
            directory,
            process: Mutex::default(),
        };
        webhook.apply(&webhook.says(&["crd"]).await?).await?;
        create_namespace(bed).await?;
        webhook.apply(&webhook.says(&["rbac", "--namespace", NAMESPACE]).await?).await?;
        webhook.kubeconfig = webhook.own_kubeconfig().await?;
        webhook.run().await?;
        webhook.register().await?;
        Ok(webhook)
    }

    /// Starts the process, if it is stopped, and waits until it is ready.
    ///
    /// # Errors
    /// When it ends early (with the end of its log) or is not ready in time.
    pub async fn run(&self) -> Result<()> {
        let mut running = self.process.lock().await;
        if running.is_some() {
            return Ok(());
        }
        let mut command =
            self.bed.command(&self.bed.programs()?.webhook.clone(), &self.kubeconfig)?;
        let metrics = std::net::SocketAddr::from(METRICS);
        command
            .args(["serve", "--listen", LISTEN, "--metrics-listen", &metrics.to_string()])
            // Nobody has to be told that the address moved: it does not.
            .args(["--drain-delay", "1s", "--log-format", "text"])
            .arg("--tls-cert")
            .arg(self.directory.join("tls.crt"))
            .arg("--tls-key")
            .arg(self.directory.join("tls.key"))
            .arg("--kubeconfig")
            .arg(&self.kubeconfig);
        let mut process = Process::spawn("pgscale-webhook", command, &self.bed.logs())?;
        until("the webhook to be ready", READY, async || {
            process.ensure_alive()?;
            Ok(match rest::probe(metrics, "/readyz", Duration::from_secs(1)).await {
                Ok(StatusCode::OK) => Attempt::Done(()),
                Ok(status) => Attempt::NotYet(status.to_string()),
                Err(error) => Attempt::NotYet(format!("{error:#}")),
            })
        })
        .await?;
        *running = Some(process);
        Ok(())
    }

    /// Ends the process and leaves the registration: as if it were down.
    ///
    /// # Errors
    /// When its end cannot be observed.
    pub async fn stop(&self) -> Result<()> {
        match self.process.lock().await.take() {
            Some(mut process) => process.stop(GRACE).await,
            None => Ok(()),
        }
    }

    /// Where its certificate and key are, to be replaced while it runs.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The address it serves reviews at.
    pub fn address(&self) -> &'static str {
        LISTEN
    }

    /// Its process id, while it runs.
    pub async fn id(&self) -> Option<u32> {
        self.process.lock().await.as_ref().and_then(Process::id)
    }

    /// Its metrics, as Prometheus reads them.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn metrics(&self) -> Result<String> {
        rest::text(METRICS.into(), "/metrics").await
    }

    /// How many reviews it has answered since it started.
    ///
    /// # Errors
    /// When it does not answer, or does not count.
    pub async fn reviews(&self) -> Result<u64> {
        let text = self.metrics().await?;
        let counted =
            text.lines().filter(|line| line.starts_with("pgscale_admission_requests_total"));
        counted
            .map(|line| {
                let count = line.rsplit(' ').next().unwrap_or_default();
                count.parse::<u64>().with_context(|| format!("not a count: {line}"))
            })
            .sum()
    }

    /// Guards `namespace`, and returns when the API server acts on that.
    ///
    /// # Errors
    /// When the namespace cannot be labelled, or the API server takes too long to see it.
    pub async fn guard(&self, namespace: &str) -> Result<()> {
        let (label, value) = GUARDED;
        let patch = Patch::Merge(json!({"metadata": {"labels": {label: value}}}));
        Api::<Namespace>::all(self.bed.client())
            .patch(namespace, &PatchParams::default(), &patch)
            .await
            .with_context(|| format!("failed to label the namespace {namespace}"))?;
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
        until(&format!("writes in {namespace} to be sent to the webhook"), READY, async || {
            let before = self.reviews().await?;
            // Whatever it says: every cluster that is created is sent to it.
            let said = clusters.create(&dry, &probe).await.map(drop);
            let sent = self.reviews().await? > before;
            Ok(if sent { Attempt::Done(()) } else { Attempt::NotYet(format!("{said:?}")) })
        })
        .await
    }

    /// What one of the webhook's printing subcommands says.
    async fn says(&self, args: &[&str]) -> Result<String> {
        let output = Command::new(&self.bed.programs()?.webhook)
            .args(args)
            .output()
            .await
            .context("failed to run pgscale-webhook")?;
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        anyhow::ensure!(output.status.success(), "pgscale-webhook {args:?} failed: {stderr}");
        String::from_utf8(output.stdout).context("the output is not UTF-8")
    }

    async fn apply(&self, manifest: &str) -> Result<()> {
        let file = write(&self.directory, "manifest.yaml", manifest)?;
        let file = file.to_string_lossy().into_owned();
        self.bed.kubectl(&["apply", "--server-side", "-f", &file]).await?.ok()?;
        Ok(())
    }

    async fn own_kubeconfig(&self) -> Result<PathBuf> {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.bed.client(), NAMESPACE);
        let spec = TokenRequestSpec {
            expiration_seconds: Some(TOKEN_SECONDS),
            ..TokenRequestSpec::default()
        };
        let request = TokenRequest { spec: Some(spec), ..TokenRequest::default() };
        let answer = accounts
            .create_token_request(ACCOUNT, &PostParams::default(), &request)
            .await
            .context("failed to get a token for the webhook's service account")?;
        let token = answer.status.and_then(|status| status.token);
        let token = token.context("the API server answered without a token")?;
        let user = format!("system:serviceaccount:{NAMESPACE}:{ACCOUNT}");
        let control_plane = self.bed.control_plane().lock().await;
        let text = control_plane.authority().kubeconfig_with_token(&url(), &user, &token)?;
        write(&self.directory, "kubeconfig", &text)
    }

    /// Registers it as its own `configuration` subcommand says, narrowed to [`GUARDED`] namespaces.
    async fn register(&self) -> Result<()> {
        let authority = self.directory.join("ca.crt");
        let authority = authority.to_string_lossy();
        let address = format!("https://{LISTEN}");
        let text =
            self.says(&["configuration", "--url", &address, "--ca-file", &authority]).await?;
        let mut configuration: Value =
            serde_saphyr::from_str(&text).context("failed to decode the configuration")?;
        let (label, value) = GUARDED;
        let entries = configuration.get_mut("webhooks").and_then(Value::as_array_mut);
        for entry in entries.into_iter().flatten().filter_map(Value::as_object_mut) {
            let selector = json!({"matchLabels": {label: value}});
            entry.insert("namespaceSelector".to_owned(), selector);
        }
        self.apply(&configuration.to_string()).await
    }
}

async fn create_namespace(bed: &Bed) -> Result<()> {
    let namespace =
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
    Api::<Namespace>::all(bed.client())
        .patch(NAMESPACE, &PatchParams::apply("bed").force(), &Patch::Apply(namespace))
        .await
        .context("failed to create the webhook's namespace")?;
    Ok(())
}
