//! One PostgreSQL cluster on the bed, created, observed and changed as a person does it.

mod member;
mod waiting;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::ResourceExt as _;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, ListParams, PostParams};
use serde_json::{Value, json};

use crate::bed::{Bed, Said};
use crate::followed::Followed;
use crate::patroni::overlay;
use crate::stage::Fault;
use crate::wait::{Attempt, until};

pub use self::member::Member;

/// The limit for a change of the members on a busy machine with two cores.
pub const TIMEOUT: Duration = Duration::from_secs(240);
/// The newest version that the CRD of operator 1.15 accepts. The settings of the bed forbid the
/// operator to upgrade anything.
const NEWEST_DECLARED: u32 = 17;

/// A `postgresql` object and its pods.
#[derive(Clone)]
pub struct Cluster {
    bed: Arc<Bed>,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// Returns the `postgresql` resource.
pub fn resource() -> ApiResource {
    let kind = GroupVersionKind::gvk("acid.zalan.do", "v1", "postgresql");
    ApiResource::from_gvk_with_plural(&kind, "postgresqls")
}

/// Returns the settings of a cluster whose Patroni looks twice as often as by default, for tests
/// that only wait for it.
#[must_use]
pub fn quick() -> Value {
    json!({"patroni": {"ttl": 25, "loop_wait": 5}})
}

impl Cluster {
    /// Returns the cluster `name`, which may exist or not.
    pub fn new(bed: &Arc<Bed>, namespace: &str, name: &str) -> Self {
        Self { bed: Arc::clone(bed), namespace: namespace.to_owned(), name: name.to_owned() }
    }

    /// Creates the cluster with `instances` members and `spec` over the usual one, and waits until
    /// all members stream and the operator has said that it is done: until then its creation is an
    /// operation in progress, and a shrink is refused.
    ///
    /// # Errors
    /// Fails when the API server refuses the object, or the cluster takes too long.
    pub async fn create(
        bed: &Arc<Bed>,
        namespace: &str,
        name: &str,
        instances: u32,
        spec: Value,
    ) -> Result<Self> {
        let cluster = Self::new(bed, namespace, name);
        cluster.submit(instances, spec).await?;
        cluster.converged(instances).await?;
        cluster.settled().await?;
        Ok(cluster)
    }

    /// Creates the object without waiting for the cluster.
    ///
    /// # Errors
    /// Fails when the API server refuses the object.
    pub async fn submit(&self, instances: u32, spec: Value) -> Result<()> {
        let object: DynamicObject = serde_json::from_value(self.manifest(instances, spec).await?)
            .context("failed to build a postgresql object")?;
        let objects = self.objects();
        until(&format!("{} to be created", self.name), TIMEOUT, async || {
            match objects.create(&PostParams::default(), &object).await {
                Ok(_) => Ok(Attempt::Done(())),
                // For half a minute after its start an API server may not know the kind by which
                // the floor is set, and refuses (kubernetes/kubernetes#124237).
                Err(kube::Error::Api(status)) if status.message.contains("paramKind") => {
                    Ok(Attempt::NotYet(status.message.clone()))
                }
                Err(error) => Err(error).context("the API server refuses it"),
            }
        })
        .await
        .with_context(|| format!("failed to create {}", self.name))
    }

    /// Returns the object as it is created, with `instances` members and `spec` over the usual one.
    ///
    /// # Errors
    /// Fails when the server of this machine does not report its version.
    pub async fn manifest(&self, instances: u32, spec: Value) -> Result<Value> {
        let mut declared = json!({
            "teamId": "acid", "numberOfInstances": instances,
            "volume": {"size": "1Gi"}, "postgresql": {"version": self.version().await?},
        });
        overlay(&mut declared, &spec);
        Ok(json!({
            "apiVersion": "acid.zalan.do/v1", "kind": "postgresql",
            "metadata": {"namespace": self.namespace, "name": self.name},
            "spec": declared,
        }))
    }

    /// Returns the PostgreSQL version to declare: the one that pods run, or the newest in the CRD.
    async fn version(&self) -> Result<String> {
        let major = self.bed.postgres_major().await?;
        let known = major.parse::<u32>().is_ok_and(|major| major <= NEWEST_DECLARED);
        Ok(if known { major } else { NEWEST_DECLARED.to_string() })
    }

    /// Returns the bed of the cluster.
    #[must_use]
    pub fn bed(&self) -> &Bed {
        &self.bed
    }

    /// Returns the API of `postgresql` objects in its namespace.
    pub fn objects(&self) -> Api<DynamicObject> {
        Api::namespaced_with(self.bed.client(), &self.namespace, &resource())
    }

    /// Reads the object.
    ///
    /// # Errors
    /// Fails when it cannot be read.
    pub async fn object(&self) -> Result<DynamicObject> {
        self.objects().get(&self.name).await.context("failed to read the cluster")
    }

    /// Reads `spec.numberOfInstances`.
    ///
    /// # Errors
    /// Fails when it cannot be read.
    pub async fn declared(&self) -> Result<i64> {
        let object = self.object().await?;
        let count = object.data.pointer("/spec/numberOfInstances").and_then(Value::as_i64);
        count.context("the cluster declares no count")
    }

    /// Reads `spec.replicas` of its StatefulSet.
    ///
    /// # Errors
    /// Fails when it cannot be read.
    pub async fn replicas(&self) -> Result<i32> {
        let sets: Api<StatefulSet> = Api::namespaced(self.bed.client(), &self.namespace);
        let set = sets.get(&self.name).await.context("failed to read the StatefulSet")?;
        Ok(set.spec.and_then(|spec| spec.replicas).unwrap_or(1))
    }

    /// Lists its pods, lowest ordinal first.
    ///
    /// # Errors
    /// Fails when they cannot be listed.
    pub async fn pods(&self) -> Result<Vec<Pod>> {
        let pods: Api<Pod> = Api::namespaced(self.bed.client(), &self.namespace);
        let selector = format!("application=spilo,cluster-name={}", self.name);
        let list = pods.list(&ListParams::default().labels(&selector)).await;
        let mut pods = list.context("failed to list the pods")?.items;
        pods.sort_by_key(|pod| self.ordinal(&pod.name_any()));
        Ok(pods)
    }

    /// Returns everything in the object that the plugin could write.
    ///
    /// The resource version is left out, because the operator writes the status at any time.
    ///
    /// # Errors
    /// Fails when it cannot be read.
    pub async fn written(&self) -> Result<impl PartialEq + std::fmt::Debug + use<>> {
        let DynamicObject { metadata, data, .. } = self.object().await?;
        let spec = data.get("spec").cloned();
        Ok((metadata.generation, metadata.annotations, metadata.labels, spec))
    }

    /// Stages a fault of the member with `ordinal`.
    ///
    /// # Errors
    /// Fails like `Kubelet::stage`.
    pub async fn stage(&self, ordinal: u32, fault: Fault) -> Result<()> {
        self.bed.kubelet().stage(&self.namespace, &self.pod_name(ordinal), fault).await
    }

    /// Lifts a fault of the member with `ordinal`.
    ///
    /// # Errors
    /// Fails like `Kubelet::unstage`.
    pub async fn unstage(&self, ordinal: u32, fault: Fault) -> Result<()> {
        self.bed.kubelet().unstage(&self.namespace, &self.pod_name(ordinal), fault).await
    }

    /// Patches the count by `kubectl patch`, as the guide does it.
    ///
    /// # Errors
    /// Fails when kubectl cannot be run. A refusal is not an error.
    pub async fn patch(&self, instances: i64) -> Result<Said> {
        let patch = json!({"spec": {"numberOfInstances": instances}}).to_string();
        self.kubectl(&["patch", "postgresql", &self.name, "--type=merge", "-p", &patch]).await
    }

    /// Runs the real `kubectl` in the namespace of the cluster.
    ///
    /// # Errors
    /// Fails when it cannot be run.
    pub async fn kubectl(&self, args: &[&str]) -> Result<Said> {
        let args = ["--namespace", &self.namespace].into_iter().chain(args.iter().copied());
        let args: Vec<_> = args.collect();
        self.bed.kubectl(&args).await
    }

    /// Runs the built `kubectl-pgscale` in the namespace of the cluster, as `kubectl pgscale`.
    ///
    /// # Errors
    /// Fails when it cannot be run.
    pub async fn pgscale(&self, args: &[&str]) -> Result<Said> {
        self.bed.kubectl(&self.pgscale_args(args)).await
    }

    /// Starts the same, and follows it while it runs.
    ///
    /// # Errors
    /// Fails when it cannot be started.
    pub fn follow_pgscale(&self, args: &[&str]) -> Result<Followed> {
        let mut command = self.bed.command(&self.bed.tools().kubectl, self.bed.kubeconfig())?;
        command.args(self.pgscale_args(args));
        Followed::start(command)
    }

    fn pgscale_args<'a>(&'a self, args: &[&'a str]) -> Vec<&'a str> {
        // kubectl refuses flags before the plugin's name.
        ["pgscale"]
            .into_iter()
            .chain(args.iter().copied())
            .chain(["--namespace", self.namespace.as_str()])
            .collect()
    }

    /// Runs a statement by `psql` in the pod with `ordinal`, through `kubectl exec`. Returns the
    /// rows, unaligned.
    ///
    /// # Errors
    /// Fails when the statement fails.
    pub async fn sql(&self, ordinal: u32, statement: &str) -> Result<String> {
        let pod = self.pod_name(ordinal);
        let args = [
            "exec",
            &pod,
            "--",
            "psql",
            "-X",
            "-U",
            "postgres",
            "-v",
            "ON_ERROR_STOP=1",
            "-Atc",
            statement,
        ];
        Ok(self.kubectl(&args).await?.ok()?.trim().to_owned())
    }

    /// Returns the addresses to which one of its Services leads, sorted.
    ///
    /// # Errors
    /// Fails when the slices cannot be listed.
    pub async fn endpoints(&self, service: &str) -> Result<Vec<String>> {
        let all: Api<EndpointSlice> = Api::namespaced(self.bed.client(), &self.namespace);
        let selector = format!("kubernetes.io/service-name={service}");
        let slices = all.list(&ListParams::default().labels(&selector)).await;
        let slices = slices.with_context(|| format!("failed to list the slices of {service}"))?;
        let endpoints = slices.items.into_iter().filter_map(|slice| slice.endpoints).flatten();
        // An unset condition means ready.
        let ready = endpoints.filter(|endpoint| {
            let conditions = endpoint.conditions.as_ref();
            conditions.and_then(|conditions| conditions.ready) != Some(false)
        });
        let mut addresses: Vec<_> = ready.flat_map(|endpoint| endpoint.addresses).collect();
        addresses.sort();
        Ok(addresses)
    }

    /// Returns the name of the pod with `ordinal`.
    pub fn pod_name(&self, ordinal: u32) -> String {
        format!("{}-{ordinal}", self.name)
    }

    fn ordinal(&self, pod: &str) -> u32 {
        pod.strip_prefix(&self.name)
            .and_then(|rest| rest.strip_prefix('-')?.parse().ok())
            .unwrap_or(u32::MAX)
    }
}
