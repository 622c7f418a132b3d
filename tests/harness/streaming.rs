//! `kubectl exec` and `kubectl port-forward`: kwok serves as the kubelet's streaming server.
//!
//! kwok manages no node and no pod here. For each running pod, an `Exec` and a `PortForward` object
//! make it run commands as local processes and forward ports to the pod's address.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use kube::Client;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::pki::write;
use crate::process::Process;
use crate::wait::{Attempt, until};

/// The port that every Node of the bed must name as its kubelet's
/// (`status.daemonEndpoints.kubeletEndpoint.Port`, with `InternalIP` 127.0.0.1).
pub const PORT: u16 = 10247;
/// The CRDs to apply before the server starts.
pub const CRDS: [&str; 2] = ["kwok.x-k8s.io_execs.yaml", "kwok.x-k8s.io_portforwards.yaml"];
/// The ports of a pod that can be forwarded: PostgreSQL and Patroni.
pub const FORWARDED: [u16; 2] = [5432, 8008];

const READY: Duration = Duration::from_secs(120);
const GRACE: Duration = Duration::from_secs(3);
const FIELD_MANAGER: &str = "bed";
/// kwok requires a way to manage nodes and pods. These stages select none.
const STAGES: &str = r#"---
apiVersion: kwok.x-k8s.io/v1alpha1
kind: Stage
metadata: {name: no-node}
spec: {resourceRef: {apiGroup: v1, kind: Node}, selector: {matchLabels: {pgscale.dev/never: never}}, next: {statusTemplate: "{}"}}
---
apiVersion: kwok.x-k8s.io/v1alpha1
kind: Stage
metadata: {name: no-pod}
spec: {resourceRef: {apiGroup: v1, kind: Pod}, selector: {matchLabels: {pgscale.dev/never: never}}, next: {statusTemplate: "{}"}}
"#;

/// The target of a pod's streams.
#[derive(Clone, Debug)]
pub struct Target {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub pod: String,
    /// The pod's address.
    pub address: Ipv4Addr,
    /// The working directory of executed commands.
    pub directory: PathBuf,
    /// Their environment.
    pub environment: BTreeMap<String, String>,
}

/// The streaming server of a bed.
#[derive(Debug)]
pub struct Streaming {
    process: Process,
}

impl Streaming {
    /// Starts the server. [`CRDS`] must have been applied.
    ///
    /// `kubeconfig` is an administrator's, `serving` a certificate and its key, and `programs` a
    /// directory with the programs of pods: kwok searches a command in its own `PATH`, not in that
    /// of the pod.
    ///
    /// # Errors
    /// Fails when it ends early (with the end of its log) or does not listen in time.
    pub async fn start(
        kwok: &Path,
        kubeconfig: &Path,
        serving: (&Path, &Path),
        programs: &Path,
        directory: &Path,
        logs: &Path,
    ) -> Result<Self> {
        fs::create_dir_all(directory)
            .with_context(|| format!("failed to make {}", directory.display()))?;
        let config = write(directory, "kwok.yaml", STAGES)?;
        let address = format!("127.0.0.1:{PORT}");
        let (certificate, key) = serving;
        let inherited = env::var_os("PATH").unwrap_or_default();
        let places = [programs.to_owned()].into_iter().chain(env::split_paths(&inherited));
        let path =
            env::join_paths(places).context("the bed's directory has a colon in its name")?;
        let mut command = Command::new(kwok);
        command
            .current_dir(directory)
            // kwok keeps files below its home, and must not find any there.
            .env("HOME", directory)
            .env("PATH", path)
            .arg(format!("--kubeconfig={}", kubeconfig.display()))
            .arg(format!("--config={}", config.display()))
            .args(["--enable-crds=Exec,PortForward", "--manage-all-nodes=false"])
            .arg("--manage-nodes-with-annotation-selector=pgscale.dev/never=never")
            .arg(format!("--server-address={address}"))
            .arg(format!("--tls-cert-file={}", certificate.display()))
            .arg(format!("--tls-private-key-file={}", key.display()));
        let mut process = Process::spawn("kwok", command, logs)?;
        until("the streaming server to listen", READY, async || {
            process.ensure_alive()?;
            Ok(match TcpStream::connect(&address).await {
                Ok(_) => Attempt::Done(()),
                Err(error) => Attempt::NotYet(error.to_string()),
            })
        })
        .await?;
        Ok(Self { process })
    }

    /// Fails when the server has ended.
    ///
    /// # Errors
    /// Fails with the end of its log.
    pub fn ensure_alive(&mut self) -> Result<()> {
        self.process.ensure_alive()
    }

    /// Ends the server.
    ///
    /// # Errors
    /// Fails when the end cannot be observed.
    pub async fn stop(mut self) -> Result<()> {
        self.process.stop(GRACE).await
    }
}

/// Opens the streams of a pod, or leads them to another target.
///
/// # Errors
/// Fails when the API server refuses the objects.
pub async fn open(client: &Client, target: &Target) -> Result<()> {
    for (kind, spec) in [("Exec", exec(target)), ("PortForward", forward(target))] {
        let object = json!({
            "apiVersion": "kwok.x-k8s.io/v1alpha1",
            "kind": kind,
            "metadata": { "name": target.pod, "namespace": target.namespace },
            "spec": spec,
        });
        streams(client, &target.namespace, kind)
            .patch(&target.pod, &PatchParams::apply(FIELD_MANAGER).force(), &Patch::Apply(object))
            .await
            .with_context(|| format!("failed to open the streams of pod {}", target.pod))?;
    }
    Ok(())
}

/// Lets `port` of a pod without a process of its own be forwarded to the same port of this machine.
///
/// # Errors
/// Fails when the API server refuses the object.
pub async fn forward_here(client: &Client, namespace: &str, pod: &str, port: u16) -> Result<()> {
    let target = json!({ "port": port, "address": Ipv4Addr::LOCALHOST });
    let object = json!({
        "apiVersion": "kwok.x-k8s.io/v1alpha1",
        "kind": "PortForward",
        "metadata": { "name": pod, "namespace": namespace },
        "spec": { "forwards": [{ "ports": [port], "target": target }] },
    });
    streams(client, namespace, "PortForward")
        .patch(pod, &PatchParams::apply(FIELD_MANAGER).force(), &Patch::Apply(object))
        .await
        .with_context(|| format!("failed to forward port {port} of pod {pod}"))?;
    Ok(())
}

/// Closes the streams of a pod, if there are any.
///
/// # Errors
/// Fails when the API server refuses.
pub async fn close(client: &Client, namespace: &str, pod: &str) -> Result<()> {
    for kind in ["Exec", "PortForward"] {
        match streams(client, namespace, kind).delete(pod, &DeleteParams::default()).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.is_not_found() => {}
            Err(error) => {
                let what = format!("failed to close the streams of pod {pod}");
                return Err(anyhow::Error::new(error).context(what));
            }
        }
    }
    Ok(())
}

fn streams(client: &Client, namespace: &str, kind: &str) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk("kwok.x-k8s.io", "v1alpha1", kind);
    let plural = format!("{}s", kind.kind.to_lowercase());
    let resource = ApiResource::from_gvk_with_plural(&kind, &plural);
    Api::namespaced_with(client.clone(), namespace, &resource)
}

fn exec(target: &Target) -> Value {
    let environment: Vec<_> = target
        .environment
        .iter()
        .map(|(name, value)| json!({ "name": name, "value": value }))
        .collect();
    json!({ "execs": [{ "local": { "workDir": target.directory, "envs": environment } }] })
}

fn forward(target: &Target) -> Value {
    let forwards: Vec<_> = FORWARDED
        .iter()
        .map(|port| {
            json!({ "ports": [port], "target": { "port": port, "address": target.address } })
        })
        .collect();
    json!({ "forwards": forwards })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_lead_into_the_pod() {
        let target = Target {
            namespace: "shop".into(),
            pod: "acid-a-0".into(),
            address: Ipv4Addr::new(10, 244, 0, 7),
            directory: "/pods/acid-a-0".into(),
            environment: [("PGUSER".to_owned(), "postgres".to_owned())].into(),
        };
        let local = &exec(&target)["execs"][0]["local"];
        assert_eq!(local["workDir"], "/pods/acid-a-0");
        assert_eq!(local["envs"], json!([{ "name": "PGUSER", "value": "postgres" }]));
        let second = &forward(&target)["forwards"][1];
        assert_eq!(
            *second,
            json!({ "ports": [8008], "target": { "port": 8008, "address": "10.244.0.7" } })
        );
    }
}
