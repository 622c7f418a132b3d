//! The nodes of the kubelet.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::watch;

/// The address of every node: each is this machine.
pub(super) const ADDRESS: &str = "127.0.0.1";

/// The number of nodes: enough for every member of a large cluster to have its own.
pub(super) const COUNT: usize = 6;

/// The zones of the nodes, assigned in turn.
const ZONES: [&str; 3] = ["bed-a", "bed-b", "bed-c"];

/// The kubelet's nodes: `bed-node-0`, `bed-node-1`, …
#[derive(Debug)]
pub(super) struct Nodes {
    api: Api<Node>,
    lost: watch::Sender<BTreeSet<String>>,
}

impl Nodes {
    /// Registers the nodes. Exec and port-forward are served at `streaming_port`.
    pub(super) async fn register(client: Client, streaming_port: u16) -> Result<Self> {
        let nodes = Self { api: Api::all(client), lost: watch::Sender::default() };
        for index in 0..COUNT {
            nodes.register_one(index, streaming_port).await?;
        }
        Ok(nodes)
    }

    async fn register_one(&self, index: usize, streaming_port: u16) -> Result<()> {
        let name = name(index);
        let zone = ZONES.get(index % ZONES.len()).copied().unwrap_or_default();
        let node = json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": name, "labels": {
                "kubernetes.io/hostname": name,
                "kubernetes.io/os": "linux",
                "topology.kubernetes.io/region": "bed",
                "topology.kubernetes.io/zone": zone,
            }},
        });
        self.api
            .patch(&name, &PatchParams::apply(super::MANAGER), &Patch::Apply(&node))
            .await
            .with_context(|| format!("failed to register node {name}"))?;
        let resources = json!({
            "cpu": "32", "memory": "64Gi", "ephemeral-storage": "100Gi", "pods": "110",
        });
        self.set_status(
            &name,
            &json!({
                "capacity": resources,
                "allocatable": resources,
                "addresses": [
                    {"type": "InternalIP", "address": ADDRESS},
                    {"type": "Hostname", "address": name},
                ],
                "daemonEndpoints": {"kubeletEndpoint": {"Port": streaming_port}},
                "nodeInfo": {
                    "architecture": "amd64", "operatingSystem": "linux", "osImage": "bed",
                    "containerRuntimeVersion": "bed://1", "kubeletVersion": "v1.36.3",
                    "kubeProxyVersion": "", "kernelVersion": "", "machineID": "", "bootID": "",
                    "systemUUID": "",
                },
                "conditions": [ready("True", "KubeletReady", "the kubelet is posting ready status")],
            }),
        )
        .await
    }

    /// Lists every node in the API server.
    pub(super) async fn list(&self) -> Result<Vec<Node>> {
        Ok(self.api.list(&super::everything()).await?.items)
    }

    /// Returns whether the node belongs to the kubelet.
    pub(super) fn has(name: &str) -> bool {
        (0..COUNT).any(|index| self::name(index) == name)
    }

    /// Marks a node as lost: its processes end and the kubelet no longer reports for it. Its Ready
    /// condition turns Unknown, as the node lifecycle controller writes it.
    pub(super) async fn lose(&self, name: &str) -> Result<()> {
        if self.lost.send_if_modified(|lost| lost.insert(name.to_owned())) {
            let message = "Kubelet stopped posting node status.";
            let condition = ready("Unknown", "NodeStatusUnknown", message);
            self.set_status(name, &json!({"conditions": [condition]})).await?;
        }
        Ok(())
    }

    /// Brings a lost node back.
    pub(super) async fn recover(&self, name: &str) -> Result<()> {
        let condition = ready("True", "KubeletReady", "the kubelet is posting ready status");
        self.set_status(name, &json!({"conditions": [condition]})).await?;
        self.lost.send_if_modified(|lost| lost.remove(name));
        Ok(())
    }

    /// Returns the names of the lost nodes and their later changes.
    pub(super) fn lost(&self) -> watch::Receiver<BTreeSet<String>> {
        self.lost.subscribe()
    }

    async fn set_status(&self, name: &str, status: &serde_json::Value) -> Result<()> {
        let patch = Patch::Merge(json!({"status": status}));
        self.api
            .patch_status(name, &PatchParams::default(), &patch)
            .await
            .with_context(|| format!("failed to write the status of node {name}"))?;
        Ok(())
    }
}

fn name(index: usize) -> String {
    format!("bed-node-{index}")
}

fn ready(status: &str, reason: &str, message: &str) -> serde_json::Value {
    let now = Timestamp::now().to_string();
    json!({
        "type": "Ready", "status": status, "reason": reason, "message": message,
        "lastHeartbeatTime": now, "lastTransitionTime": now,
    })
}
