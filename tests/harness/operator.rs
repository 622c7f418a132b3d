//! The real postgres-operator, run outside of the cluster and found like any other.
//!
//! It runs as a process with the permissions of its own service account, so that admission sees the
//! same account as in production. Its Deployment exists too, because readers look for its
//! configuration there. The Deployment's pod is reported as running, but no process runs for it
//! ([`RUN_NOTHING`]).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, ResourceExt as _};
use rustix::process::Signal;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::account;
use crate::kubelet::RUN_LABEL;
use crate::pki::{Authority, write};
use crate::process::Process;
use crate::wait::{Attempt, until};

/// The operator's namespace.
pub const NAMESPACE: &str = "default";
/// The name of its Deployment, ConfigMap and service account, as in its own manifests.
pub const NAME: &str = "postgres-operator";
/// The service account of the pods that the operator makes.
pub const POD_SERVICE_ACCOUNT: &str = "postgres-pod";
/// The label of a pod without a process: a pod whose label `pgscale.dev/bed-run` has the value
/// `none` is reported as running and ready, but no process runs for it.
pub const RUN_NOTHING: (&str, &str) = (RUN_LABEL, "none");

/// The operator's HTTP API.
const API: &str = "127.0.0.1:8080";
/// An address where nothing listens (the port of RFC 863).
const NOTHING: &str = "http://127.0.0.1:9";
const READY: Duration = Duration::from_secs(120);
const GRACE: Duration = Duration::from_secs(5);
const FIELD_MANAGER: &str = "bed";

/// The operator's CRDs: without them its first start ends with a fatal error.
pub const CRDS: [&str; 3] =
    ["postgresql.crd.yaml", "operatorconfiguration.crd.yaml", "postgresteam.crd.yaml"];
/// The rest of its manifests that are applied as they are.
pub const RBAC: &str = "operator-service-account-rbac.yaml";

/// The settings of the operator that tests choose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// True if Patroni keeps its state in ConfigMaps. False for Endpoints, the default of v1.
    pub use_configmaps: bool,
    /// The fewest instances of any cluster. Negative for no limit.
    pub min_instances: i32,
    /// The most instances of any cluster. Negative for no limit.
    pub max_instances: i32,
    /// True if pods carry Patroni's readiness probe.
    pub readiness_probe: bool,
    /// True if StatefulSets start and end their pods all at once.
    pub parallel_pods: bool,
    /// The interval at which the operator compares every cluster with its manifest.
    pub resync: Duration,
    /// Whether the operator reaches Patroni.
    pub patroni: Reach,
    /// Further keys of the ConfigMap, spelled as the operator spells them. They override the
    /// others.
    pub more: BTreeMap<String, String>,
}

/// The operator's way to Patroni's REST API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// It reaches every member.
    Open,
    /// It reaches none, as behind a network policy, while others do.
    CutOff,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            use_configmaps: false,
            min_instances: -1,
            max_instances: -1,
            readiness_probe: false,
            parallel_pods: false,
            resync: Duration::from_secs(30),
            patroni: Reach::Open,
            more: BTreeMap::new(),
        }
    }
}

impl Settings {
    /// Returns the settings with the operator's own intervals, as in production: it compares a
    /// cluster with its manifest every 30 minutes, and repairs a failed one after 5.
    pub fn with_production_intervals() -> Self {
        let repair = ("repair_period".to_owned(), "5m".to_owned());
        Self { resync: Duration::from_secs(1800), more: [repair].into(), ..Self::default() }
    }

    /// Returns the keys that override the operator's own example configuration.
    fn keys(&self) -> BTreeMap<String, String> {
        let seconds = format!("{}s", self.resync.as_secs());
        let policy = if self.parallel_pods { "parallel" } else { "ordered_ready" };
        let chosen = [
            ("kubernetes_use_configmaps", self.use_configmaps.to_string()),
            ("min_instances", self.min_instances.to_string()),
            ("max_instances", self.max_instances.to_string()),
            ("enable_readiness_probe", self.readiness_probe.to_string()),
            ("pod_management_policy", policy.to_owned()),
            ("resync_period", seconds.clone()),
            ("repair_period", seconds),
        ];
        let fixed = [
            // Out of cluster the operator cannot reach PostgreSQL or a teams API.
            ("enable_database_access", "false"),
            ("enable_teams_api", "false"),
            // The example's five minutes would let a pod that ignores SIGTERM delay every test.
            ("pod_terminate_grace_period", "10s"),
            // The example's ten minutes are too long as well, if the operator misses the end of a
            // pod. Its next synchronisation continues.
            ("pod_deletion_wait_timeout", "30s"),
            ("pod_service_account_name", POD_SERVICE_ACCOUNT),
            ("watched_namespace", "*"),
            // The server of this machine may be newer than any version in the CRD.
            ("major_version_upgrade_mode", "off"),
        ];
        let mut keys: BTreeMap<_, _> =
            chosen.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        keys.extend(fixed.map(|(key, value)| (key.to_owned(), value.to_owned())));
        keys.extend(self.more.clone());
        keys
    }
}

/// The operator of a bed, running or stopped.
pub struct Operator {
    client: Client,
    program: PathBuf,
    example: BTreeMap<String, String>,
    kubeconfig: PathBuf,
    directory: PathBuf,
    logs: PathBuf,
    process: Option<Process>,
}

impl Operator {
    /// Prepares everything except for the process: ConfigMap, Deployment, kubeconfig. [`CRDS`] and
    /// [`RBAC`] must have been applied.
    ///
    /// # Errors
    /// Fails when the API server refuses one of them.
    pub async fn install(
        client: Client,
        authority: &Authority,
        program: &Path,
        manifests: &Path,
        directory: &Path,
        logs: &Path,
    ) -> Result<Self> {
        fs::create_dir_all(directory)
            .with_context(|| format!("failed to make {}", directory.display()))?;
        let example: ConfigMap = manifest(manifests, "configmap.yaml")?;
        let deployment: Deployment = manifest(manifests, "postgres-operator.yaml")?;
        apply(&client, discoverable(deployment)).await?;
        let kubeconfig = account::kubeconfig(&client, authority, NAMESPACE, NAME).await?;
        Ok(Self {
            client,
            program: program.to_owned(),
            example: example.data.unwrap_or_default(),
            kubeconfig: write(directory, "kubeconfig", &kubeconfig)?,
            directory: directory.to_owned(),
            logs: logs.to_owned(),
            process: None,
        })
    }

    /// Starts the operator with these settings, and waits until it serves its API.
    ///
    /// # Errors
    /// Fails when it ends early (with the end of its log) or is not ready in time.
    pub async fn start(&mut self, settings: &Settings) -> Result<()> {
        self.stop().await?;
        self.configure(settings).await?;
        let mut command = Command::new(&self.program);
        command
            .current_dir(&self.directory)
            .arg(format!("-kubeconfig={}", self.kubeconfig.display()))
            .args(["-outofcluster", "-nodatabaseaccess"])
            .env("CONFIG_MAP_NAME", format!("{NAMESPACE}/{NAME}"))
            .env("OPERATOR_NAMESPACE", NAMESPACE)
            .env("POD_NAMESPACE", NAMESPACE);
        if settings.patroni == Reach::CutOff {
            // Go's default client, which the operator uses for Patroni (pkg/util/patroni), takes
            // plain HTTP through this proxy. The API server speaks HTTPS.
            command.env("HTTP_PROXY", NOTHING);
        }
        let mut process = Process::spawn(NAME, command, &self.logs)?;
        until("the operator to serve its API", READY, async || {
            process.ensure_alive()?;
            Ok(match TcpStream::connect(API).await {
                Ok(_) => Attempt::Done(()),
                Err(error) => Attempt::NotYet(error.to_string()),
            })
        })
        .await?;
        self.process = Some(process);
        self.scale(1).await
    }

    /// Ends the operator as an administrator does, with its Deployment scaled to zero. Does nothing
    /// if it is stopped.
    ///
    /// # Errors
    /// Fails when the end cannot be observed.
    pub async fn stop(&mut self) -> Result<()> {
        match self.process.take() {
            Some(mut process) => {
                process.stop(GRACE).await?;
                self.scale(0).await
            }
            None => Ok(()),
        }
    }

    /// Stops its process in the middle of its work (SIGSTOP), like an operator that is busy or
    /// starved. Its Deployment and its connections stay. Does nothing if it is stopped.
    pub fn freeze(&self) {
        if let Some(process) = &self.process {
            process.signal(Signal::STOP);
        }
    }

    /// Ends what [`Self::freeze`] began: the operator continues where it was.
    pub fn thaw(&self) {
        if let Some(process) = &self.process {
            process.signal(Signal::CONT);
        }
    }

    /// Returns whether its process was started and not stopped.
    pub fn runs(&self) -> bool {
        self.process.is_some()
    }

    /// Fails when its process has ended.
    ///
    /// # Errors
    /// Fails with the end of its log.
    pub fn ensure_alive(&mut self) -> Result<()> {
        self.process.as_mut().map_or(Ok(()), Process::ensure_alive)
    }

    /// Writes the ConfigMap that the operator reads at its next start, as an upgrade of its chart
    /// does.
    ///
    /// # Errors
    /// Fails when the API server refuses it.
    pub async fn configure(&self, settings: &Settings) -> Result<()> {
        let mut data = self.example.clone();
        data.extend(settings.keys());
        let mut map = ConfigMap { data: Some(data), ..ConfigMap::default() };
        map.metadata.name = Some(NAME.to_owned());
        map.metadata.namespace = Some(NAMESPACE.to_owned());
        apply(&self.client, map).await
    }

    async fn scale(&self, replicas: i32) -> Result<()> {
        let deployments: Api<Deployment> = Api::namespaced(self.client.clone(), NAMESPACE);
        let patch = Patch::Merge(json!({ "spec": { "replicas": replicas } }));
        deployments
            .patch(NAME, &PatchParams::default(), &patch)
            .await
            .context("failed to scale the operator's Deployment")?;
        Ok(())
    }
}

/// Returns the operator's Deployment, scaled to zero, with the name of its ConfigMap, and without a
/// process for its pod.
fn discoverable(mut deployment: Deployment) -> Deployment {
    deployment.metadata.namespace = Some(NAMESPACE.to_owned());
    if let Some(spec) = &mut deployment.spec {
        spec.replicas = Some(0);
        let (label, value) = RUN_NOTHING;
        let metadata = spec.template.metadata.get_or_insert_default();
        metadata.labels.get_or_insert_default().insert(label.to_owned(), value.to_owned());
    }
    deployment
}

fn manifest<K: serde::de::DeserializeOwned>(manifests: &Path, file: &str) -> Result<K> {
    let path = manifests.join(file);
    let text =
        fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))?;
    serde_saphyr::from_str(&text).with_context(|| format!("failed to decode {}", path.display()))
}

async fn apply<K>(client: &Client, object: K) -> Result<()>
where
    K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
        + serde::Serialize
        + serde::de::DeserializeOwned
        + Clone
        + std::fmt::Debug,
{
    let api: Api<K> = Api::namespaced(client.clone(), NAMESPACE);
    let params = PatchParams::apply(FIELD_MANAGER).force();
    api.patch(&object.name_any(), &params, &Patch::Apply(&object))
        .await
        .with_context(|| format!("failed to apply {} {}", K::kind(&()), object.name_any()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_become_the_operators_own_keys() {
        let settings = Settings {
            use_configmaps: true,
            max_instances: 5,
            parallel_pods: true,
            more: [("enable_readiness_probe".to_owned(), "true".to_owned())].into(),
            ..Settings::default()
        };
        let keys = settings.keys();
        for (key, value) in [
            ("kubernetes_use_configmaps", "true"),
            ("min_instances", "-1"),
            ("max_instances", "5"),
            ("pod_management_policy", "parallel"),
            ("resync_period", "30s"),
            ("enable_readiness_probe", "true"),
            ("enable_database_access", "false"),
        ] {
            assert_eq!(keys[key], value, "{key}");
        }
    }

    #[test]
    fn production_intervals_are_those_of_the_operator() {
        let keys = Settings::with_production_intervals().keys();
        assert_eq!(
            (keys["resync_period"].as_str(), keys["repair_period"].as_str()),
            ("1800s", "5m")
        );
    }

    #[test]
    fn the_deployment_keeps_its_labels_and_runs_no_process() {
        let text = "{apiVersion: apps/v1, kind: Deployment, metadata: {name: postgres-operator}, \
                    spec: {replicas: 1, selector: {}, template: {metadata: {labels: {name: o}}}}}";
        let deployment = discoverable(serde_saphyr::from_str(text).unwrap());
        let spec = deployment.spec.unwrap();
        assert_eq!(spec.replicas, Some(0));
        let labels = spec.template.metadata.unwrap().labels.unwrap();
        assert_eq!(labels["name"], "o");
        assert_eq!(labels["pgscale.dev/bed-run"], "none");
    }
}
