//! etcd, kube-apiserver and kube-controller-manager, as real as in production.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::json;
use tokio::process::Command;

use crate::pki::{ADMINISTRATORS, Authority, Pair, token_keys, write};
use crate::process::Process;
use crate::tools::Tools;
use crate::wait::{Attempt, until};

/// The address of the API server: an address of the pod network that no pod gets, so that clients
/// inside and outside of pods use the same one. Beds are isolated, so every bed uses the same
/// address.
pub const ADDRESS: &str = "10.244.255.1";
/// The API server's port.
pub const PORT: u16 = 6443;
/// The port of a second API server.
pub const SECOND_PORT: u16 = 6444;
/// The addresses of Services. Nothing answers there, because there is no kube-proxy.
pub const SERVICE_NETWORK: &str = "10.96.0.0/16";

/// The name in the client certificate that the API server shows to webhooks which ask for one.
pub const WEBHOOK_CLIENT: &str = "kube-apiserver-webhooks";

const ETCD: &str = "http://127.0.0.1:2379";
const ETCD_PEER: &str = "http://127.0.0.1:2380";
const READY: Duration = Duration::from_secs(180);
/// The API server would wait a minute for its watches to end.
const GRACE: Duration = Duration::from_secs(2);
/// The audit policy: the API server logs every write to a `postgresql`, with the annotations that
/// admission webhooks add.
const AUDIT_POLICY: &str = r#"{
  "apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"],
  "rules": [
    {"level": "Metadata", "resources": [{"group": "acid.zalan.do"}],
     "verbs": ["create", "update", "patch", "delete"]},
    {"level": "None"}
  ]
}"#;

/// A running control plane.
#[derive(Debug)]
pub struct ControlPlane {
    tools: Tools,
    directory: PathBuf,
    logs: PathBuf,
    authority: Authority,
    kubeconfig: PathBuf,
    etcd: Process,
    api_server: Option<Process>,
    controller_manager: Process,
}

impl ControlPlane {
    /// Starts a new, empty control plane with its data in `directory` and its logs in `logs`.
    ///
    /// # Errors
    /// Fails when a program ends early (with the end of its log) or is not ready in time.
    pub async fn start(tools: &Tools, directory: &Path, logs: &Path) -> Result<Self> {
        fs::create_dir_all(directory)
            .with_context(|| format!("failed to make {}", directory.display()))?;
        let authority = Authority::new()?;
        let url = url();
        lay_down_keys(&authority, directory)?;
        let user = |file: &str, name: &str, groups: &[&str]| {
            write(directory, file, &authority.kubeconfig(&url, name, groups)?)
        };
        let kubeconfig = user("admin.kubeconfig", "admin", &[ADMINISTRATORS])?;
        let controllers = user("controllers.kubeconfig", "system:kube-controller-manager", &[])?;

        let mut etcd = start_etcd(tools, directory, logs)?;
        let mut api_server = start_api_server(tools, directory, logs)?;
        let client = client(&kubeconfig).await?;
        ready(&client, &mut [&mut etcd, &mut api_server]).await?;
        let controller_manager = start_controller_manager(tools, directory, logs, &controllers)?;
        Ok(Self {
            tools: tools.clone(),
            directory: directory.to_owned(),
            logs: logs.to_owned(),
            authority,
            kubeconfig,
            etcd,
            api_server: Some(api_server),
            controller_manager,
        })
    }

    /// Returns the certificate authority that every program of the bed trusts.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Returns the administrator's kubeconfig.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Returns the API server's audit log: one JSON event per line, for writes to `postgresql`
    /// objects only.
    pub fn audit_log(&self) -> PathBuf {
        self.logs.join("audit.log")
    }

    /// Returns the API server's certificate and key, for other servers of the bed.
    pub fn serving_files(&self) -> (PathBuf, PathBuf) {
        (self.directory.join("server.crt"), self.directory.join("server.key"))
    }

    /// Returns the process id of the API server, while it runs.
    pub fn api_server_id(&self) -> Option<u32> {
        self.api_server.as_ref().and_then(Process::id)
    }

    /// Ends the API server. Stored objects stay.
    ///
    /// # Errors
    /// Fails when the end cannot be observed.
    pub async fn stop_api_server(&mut self) -> Result<()> {
        match self.api_server.take() {
            Some(mut process) => process.stop(GRACE).await,
            None => Ok(()),
        }
    }

    /// Starts the API server again on the same port and data, and waits until it is ready.
    ///
    /// # Errors
    /// Fails like [`ControlPlane::start`].
    pub async fn start_api_server(&mut self) -> Result<()> {
        let mut process = start_api_server(&self.tools, &self.directory, &self.logs)?;
        let client = client(&self.kubeconfig).await?;
        ready(&client, &mut [&mut self.etcd, &mut process]).await?;
        self.api_server = Some(process);
        Ok(())
    }

    /// Starts a second API server on the same data, and waits until it is ready. Returns it, and the
    /// administrator's kubeconfig for it.
    ///
    /// # Errors
    /// Fails like [`ControlPlane::start`].
    pub async fn second_api_server(&mut self) -> Result<(Process, PathBuf)> {
        let mut command = api_server(&self.tools, &self.directory, SECOND_PORT);
        // The first one alone is the endpoint of the `kubernetes` Service.
        command.arg("--endpoint-reconciler-type=none");
        let mut process = Process::spawn("kube-apiserver-2", command, &self.logs)?;
        let url = format!("https://{ADDRESS}:{SECOND_PORT}");
        let text = self.authority.kubeconfig(&url, "admin", &[ADMINISTRATORS])?;
        let kubeconfig = write(&self.directory, "admin-2.kubeconfig", &text)?;
        let client = client(&kubeconfig).await?;
        ready(&client, &mut [&mut self.etcd, &mut process]).await?;
        Ok((process, kubeconfig))
    }

    /// Fails when one of the programs has ended.
    ///
    /// # Errors
    /// Fails with the end of its log.
    pub fn ensure_alive(&mut self) -> Result<()> {
        self.etcd.ensure_alive()?;
        self.controller_manager.ensure_alive()?;
        self.api_server.as_mut().map_or(Ok(()), Process::ensure_alive)
    }

    /// Ends everything.
    ///
    /// # Errors
    /// Fails when an end cannot be observed.
    pub async fn stop(mut self) -> Result<()> {
        // The bed is discarded, so leases and snapshots need no clean end.
        self.controller_manager.kill().await?;
        if let Some(mut api_server) = self.api_server.take() {
            api_server.kill().await?;
        }
        self.etcd.kill().await
    }
}

/// Returns the URL of the API server.
pub fn url() -> String {
    format!("https://{ADDRESS}:{PORT}")
}

/// Returns a client with the permissions of the user in the kubeconfig.
///
/// # Errors
/// Fails when the kubeconfig cannot be read.
pub async fn client(kubeconfig: &Path) -> Result<Client> {
    let read = Kubeconfig::read_from(kubeconfig).context("failed to read the kubeconfig")?;
    let config = Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await;
    Client::try_from(config.context("failed to use the kubeconfig")?)
        .context("failed to make a client")
}

fn lay_down_keys(authority: &Authority, directory: &Path) -> Result<()> {
    let reachable = [
        "localhost",
        "127.0.0.1",
        ADDRESS,
        "10.96.0.1",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
    ];
    let server = authority.server("kube-apiserver", &reachable)?;
    let kubelet_client = authority.client("kube-apiserver", &[ADMINISTRATORS])?;
    for (name, Pair { certificate, key }) in
        [("server", server), ("kubelet-client", kubelet_client)]
    {
        write(directory, &format!("{name}.crt"), &certificate)?;
        write(directory, &format!("{name}.key"), &key)?;
    }
    lay_down_webhook_client(authority, directory)?;
    let (private, public) = token_keys()?;
    write(directory, "tokens.key", &private)?;
    write(directory, "tokens.pub", &public)?;
    write(directory, "ca.crt", authority.certificate())?;
    write(directory, "audit-policy.json", AUDIT_POLICY)?;
    Ok(())
}

/// Writes the configuration by which the API server has a client certificate for every webhook.
fn lay_down_webhook_client(authority: &Authority, directory: &Path) -> Result<()> {
    let Pair { certificate, key } = authority.client(WEBHOOK_CLIENT, &[])?;
    let user = json!({
        "client-certificate": write(directory, "webhook-client.crt", &certificate)?,
        "client-key": write(directory, "webhook-client.key", &key)?,
    });
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "users": [{"name": "*", "user": user}],
    });
    let kubeconfig = write(directory, "webhooks.kubeconfig", &kubeconfig.to_string())?;
    let version = "apiserver.config.k8s.io/v1";
    let configuration = json!({
        "apiVersion": version, "kind": "AdmissionConfiguration",
        "plugins": [{
            "name": "ValidatingAdmissionWebhook",
            "configuration": {
                "apiVersion": version, "kind": "WebhookAdmissionConfiguration",
                "kubeConfigFile": kubeconfig,
            },
        }],
    });
    write(directory, "admission.json", &configuration.to_string())?;
    Ok(())
}

fn start_etcd(tools: &Tools, directory: &Path, logs: &Path) -> Result<Process> {
    let mut etcd = Command::new(&tools.etcd);
    etcd.current_dir(directory)
        .args(["--name=bed", "--data-dir=etcd", "--unsafe-no-fsync", "--log-level=warn"])
        .args([format!("--listen-client-urls={ETCD}"), format!("--advertise-client-urls={ETCD}")])
        .args([
            format!("--listen-peer-urls={ETCD_PEER}"),
            format!("--initial-advertise-peer-urls={ETCD_PEER}"),
            format!("--initial-cluster=bed={ETCD_PEER}"),
        ]);
    Process::spawn("etcd", etcd, logs)
}

fn start_api_server(tools: &Tools, directory: &Path, logs: &Path) -> Result<Process> {
    let mut server = api_server(tools, directory, PORT);
    server
        .args(["--audit-policy-file=audit-policy.json"])
        .arg(format!("--audit-log-path={}", logs.join("audit.log").display()));
    Process::spawn("kube-apiserver", server, logs)
}

fn api_server(tools: &Tools, directory: &Path, port: u16) -> Command {
    let mut server = Command::new(&tools.kube_apiserver);
    server
        .current_dir(directory)
        .args([format!("--etcd-servers={ETCD}"), format!("--secure-port={port}")])
        // Endpoints refuse loopback addresses: without an address of its own the `kubernetes`
        // Service would have none.
        .args([format!("--advertise-address={ADDRESS}"), "--bind-address=0.0.0.0".to_owned()])
        .args(["--tls-cert-file=server.crt", "--tls-private-key-file=server.key"])
        .args(["--client-ca-file=ca.crt", "--authorization-mode=RBAC"])
        .arg("--service-account-issuer=https://kubernetes.default.svc")
        .args(["--service-account-key-file=tokens.pub"])
        .args(["--service-account-signing-key-file=tokens.key"])
        .arg(format!("--service-cluster-ip-range={SERVICE_NETWORK}"))
        .args(["--kubelet-client-certificate=kubelet-client.crt"])
        .args(["--kubelet-client-key=kubelet-client.key"])
        // There is no name service to resolve a node's name.
        .arg("--kubelet-preferred-address-types=InternalIP")
        // The API server calls webhooks behind a Service at their endpoints: there is no
        // kube-proxy.
        .args(["--enable-aggregator-routing=true", "--allow-privileged=true"])
        .args(["--enable-priority-and-fairness=false"])
        .args(["--admission-control-config-file=admission.json"]);
    server
}

fn start_controller_manager(
    tools: &Tools,
    directory: &Path,
    logs: &Path,
    kubeconfig: &Path,
) -> Result<Process> {
    let mut manager = Command::new(&tools.kube_controller_manager);
    manager
        .current_dir(directory)
        .arg(format!("--kubeconfig={}", kubeconfig.display()))
        .args(["--service-account-private-key-file=tokens.key", "--root-ca-file=ca.crt"])
        // Each controller uses its own account, so that admission sees the real writer.
        .args(["--use-service-account-credentials=true", "--leader-elect=false"])
        // Nodes of the bed send no heartbeats. Tests stage what happens to their pods.
        .arg(
            "--controllers=*,-nodelifecycle,-nodeipam,-cloud-node-lifecycle,\
             -service-lb-controller,-node-route-controller",
        )
        .args(["--bind-address=127.0.0.1", "--kube-api-qps=200", "--kube-api-burst=400"]);
    Process::spawn("kube-controller-manager", manager, logs)
}

/// Waits until `/readyz` answers.
async fn ready(client: &Client, processes: &mut [&mut Process]) -> Result<()> {
    until("the API server to be ready", READY, async || {
        for process in processes.iter_mut() {
            process.ensure_alive()?;
        }
        let request = http::Request::get("/readyz").body(Vec::new()).context("a bad request")?;
        Ok(match client.request_text(request).await {
            Ok(answer) if answer == "ok" => Attempt::Done(()),
            Ok(answer) => Attempt::NotYet(answer),
            Err(error) => Attempt::NotYet(error.to_string()),
        })
    })
    .await
}
