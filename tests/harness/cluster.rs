//! One PostgreSQL cluster on the bed, made, watched and changed as a person would.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use hyper::Method;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Endpoints, Pod};
use kube::ResourceExt as _;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, ListParams, PostParams};
use serde_json::{Value, json};

use crate::bed::{Bed, Said};
use crate::followed::Followed;
use crate::patroni::rest;
use crate::wait::{Attempt, until};

/// How long a change of the members may take on a busy machine with two cores.
pub const PATIENCE: Duration = Duration::from_secs(240);
/// The newest version that the CRD of operator 1.15 takes. The operator is told not to upgrade anything.
const NEWEST_DECLARED: u32 = 17;
/// How long a switchover may take.
const SWITCHOVER: Duration = Duration::from_secs(90);

/// A `postgresql` object and its pods.
#[derive(Clone)]
pub struct Cluster {
    bed: Arc<Bed>,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// What one member says about itself.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its pod.
    pub pod: String,
    /// Its ordinal.
    pub ordinal: u32,
    /// Its address.
    pub address: Option<Ipv4Addr>,
    /// Its answer to `GET /patroni`; nothing if it gave none.
    pub answer: Option<rest::Member>,
}

impl Member {
    /// It leads.
    pub fn leads(&self) -> bool {
        self.answer.as_ref().is_some_and(|answer| answer.role == "primary")
    }

    /// It streams from the leader.
    pub fn streams(&self) -> bool {
        self.answer.as_ref().is_some_and(|answer| {
            answer.state == "running" && answer.replication_state.as_deref() == Some("streaming")
        })
    }

    /// The state of its PostgreSQL, by its own word.
    pub fn state(&self) -> &str {
        self.answer.as_ref().map_or("silent", |answer| answer.state.as_str())
    }
}

/// The `postgresql` resource.
pub fn resource() -> ApiResource {
    let kind = GroupVersionKind::gvk("acid.zalan.do", "v1", "postgresql");
    ApiResource::from_gvk_with_plural(&kind, "postgresqls")
}

impl Cluster {
    /// The cluster `name`, which may exist or not.
    pub fn new(bed: &Arc<Bed>, namespace: &str, name: &str) -> Self {
        Self { bed: Arc::clone(bed), namespace: namespace.to_owned(), name: name.to_owned() }
    }

    /// Creates it with `instances` members and whatever else `spec` says, and waits until all stream.
    ///
    /// # Errors
    /// When it is refused, or not there in time.
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
        Ok(cluster)
    }

    /// Creates the object and waits for nothing.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn submit(&self, instances: u32, spec: Value) -> Result<()> {
        let mut declared = json!({
            "teamId": "acid", "numberOfInstances": instances,
            "volume": {"size": "1Gi"}, "postgresql": {"version": self.version().await?},
        });
        if let (Some(into), Value::Object(more)) = (declared.as_object_mut(), spec) {
            into.extend(more);
        }
        let object = json!({
            "apiVersion": "acid.zalan.do/v1", "kind": "postgresql",
            "metadata": {"namespace": self.namespace, "name": self.name},
            "spec": declared,
        });
        let object: DynamicObject =
            serde_json::from_value(object).context("failed to build a postgresql object")?;
        self.objects()
            .create(&PostParams::default(), &object)
            .await
            .with_context(|| format!("failed to create {}", self.name))?;
        Ok(())
    }

    /// What to declare as its PostgreSQL version: the one that pods run, or the newest the CRD knows.
    async fn version(&self) -> Result<String> {
        let major = self.bed.postgres_major().await?;
        let known = major.parse::<u32>().is_ok_and(|major| major <= NEWEST_DECLARED);
        Ok(if known { major } else { NEWEST_DECLARED.to_string() })
    }

    /// The `postgresql` objects of its namespace.
    pub fn objects(&self) -> Api<DynamicObject> {
        Api::namespaced_with(self.bed.client(), &self.namespace, &resource())
    }

    /// The object as it stands.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn object(&self) -> Result<DynamicObject> {
        self.objects().get(&self.name).await.context("failed to read the cluster")
    }

    /// `spec.numberOfInstances`.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn declared(&self) -> Result<i64> {
        let object = self.object().await?;
        let count = object.data.pointer("/spec/numberOfInstances").and_then(Value::as_i64);
        count.context("the cluster declares no count")
    }

    /// `spec.replicas` of its StatefulSet.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn replicas(&self) -> Result<i32> {
        let sets: Api<StatefulSet> = Api::namespaced(self.bed.client(), &self.namespace);
        let set = sets.get(&self.name).await.context("failed to read the StatefulSet")?;
        Ok(set.spec.and_then(|spec| spec.replicas).unwrap_or(1))
    }

    /// Its pods, lowest ordinal first.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub async fn pods(&self) -> Result<Vec<Pod>> {
        let pods: Api<Pod> = Api::namespaced(self.bed.client(), &self.namespace);
        let selector = format!("application=spilo,cluster-name={}", self.name);
        let list = pods.list(&ListParams::default().labels(&selector)).await;
        let mut pods = list.context("failed to list the pods")?.items;
        pods.sort_by_key(|pod| self.ordinal(&pod.name_any()));
        Ok(pods)
    }

    /// Its members, each asked for its live state.
    ///
    /// # Errors
    /// When the pods cannot be listed.
    pub async fn members(&self) -> Result<Vec<Member>> {
        let pods = self.pods().await?;
        let asked = pods.into_iter().map(async |pod| {
            let name = pod.name_any();
            let address = pod
                .status
                .and_then(|status| status.pod_ip)
                .and_then(|ip| ip.parse::<Ipv4Addr>().ok());
            let answer = match address {
                Some(address) => rest::member(address).await.ok(),
                None => None,
            };
            Member { ordinal: self.ordinal(&name), pod: name, address, answer }
        });
        Ok(futures::future::join_all(asked).await)
    }

    /// Waits until exactly `instances` members run, one leads and the others stream from it.
    ///
    /// # Errors
    /// When that takes longer than [`PATIENCE`].
    pub async fn converged(&self, instances: u32) -> Result<Vec<Member>> {
        let what = format!("{instances} streaming members of {}", self.name);
        until(&what, PATIENCE, async || {
            let members = self.members().await?;
            let leaders = members.iter().filter(|member| member.leads()).count();
            let streaming = members.iter().filter(|member| member.streams()).count();
            let wanted = usize::try_from(instances)?;
            Ok(if leaders == 1 && members.len() == wanted && streaming + 1 == wanted {
                Attempt::Done(members)
            } else {
                Attempt::NotYet(format!("{members:?}"))
            })
        })
        .await
    }

    /// The member that leads, by its own word.
    ///
    /// # Errors
    /// When none or several do.
    pub async fn leader(&self) -> Result<Member> {
        let members = self.members().await?;
        let mut leaders = members.iter().filter(|member| member.leads());
        let leader = leaders.next().with_context(|| format!("nobody leads: {members:?}"))?;
        ensure!(leaders.next().is_none(), "several members lead: {members:?}");
        Ok(leader.clone())
    }

    /// Moves the leader to the member with `ordinal` and waits until it leads and is labelled so.
    ///
    /// # Errors
    /// When Patroni refuses, or it takes too long.
    pub async fn move_leader_to(&self, ordinal: u32) -> Result<()> {
        let leader = self.leader().await?;
        let candidate = self.pod_name(ordinal);
        if leader.pod != candidate {
            let address = leader.address.context("the leader has no address")?;
            let wish = json!({"leader": leader.pod, "candidate": candidate});
            // The answer comes after the hand-over, which may outlast a call: what happened is seen below.
            let asked = rest::send(address, Method::POST, "/switchover", &wish).await;
            if let Err(error) = asked
                && !format!("{error:#}").contains("no answer")
            {
                return Err(error);
            }
        }
        until(&format!("{candidate} to lead"), SWITCHOVER, async || {
            let pods = self.pods().await?;
            let labelled: Vec<_> = pods
                .iter()
                .filter(|pod| pod.labels().get("spilo-role").is_some_and(|role| role == "master"))
                .map(kube::ResourceExt::name_any)
                .collect();
            let leads = self
                .members()
                .await?
                .iter()
                .any(|member| member.pod == candidate && member.leads());
            Ok(if leads && labelled == [candidate.clone()] {
                Attempt::Done(())
            } else {
                Attempt::NotYet(format!("labelled master: {labelled:?}"))
            })
        })
        .await?;
        let members = u32::try_from(self.pods().await?.len())?;
        self.converged(members).await?;
        Ok(())
    }

    /// `kubectl patch` of the count, as the guide does it.
    ///
    /// # Errors
    /// When kubectl cannot be run; a refusal is not an error.
    pub async fn patch(&self, instances: i64) -> Result<Said> {
        let patch = json!({"spec": {"numberOfInstances": instances}}).to_string();
        self.kubectl(&["patch", "postgresql", &self.name, "--type=merge", "-p", &patch]).await
    }

    /// The real `kubectl` in the cluster's namespace.
    ///
    /// # Errors
    /// When it cannot be run.
    pub async fn kubectl(&self, args: &[&str]) -> Result<Said> {
        let args = ["--namespace", &self.namespace].into_iter().chain(args.iter().copied());
        let args: Vec<_> = args.collect();
        self.bed.kubectl(&args).await
    }

    /// The built `kubectl-pgscale` in the cluster's namespace, called as `kubectl pgscale` is.
    ///
    /// # Errors
    /// When it cannot be run.
    pub async fn pgscale(&self, args: &[&str]) -> Result<Said> {
        self.bed.kubectl(&self.pgscale_args(args)).await
    }

    /// The same, started and followed while it runs.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn follow_pgscale(&self, args: &[&str]) -> Result<Followed> {
        let mut command = self.bed.command(&self.bed.tools().kubectl, self.bed.kubeconfig())?;
        command.args(self.pgscale_args(args));
        Followed::start(command)
    }

    fn pgscale_args<'a>(&'a self, args: &[&'a str]) -> Vec<&'a str> {
        // Flags come after the plugin's name: kubectl refuses them before it.
        ["pgscale"]
            .into_iter()
            .chain(args.iter().copied())
            .chain(["--namespace", self.namespace.as_str()])
            .collect()
    }

    /// What `psql` answers in the pod with `ordinal`, through `kubectl exec`; unaligned, rows only.
    ///
    /// # Errors
    /// When the statement fails.
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

    /// The addresses behind one of its services, sorted.
    ///
    /// # Errors
    /// When the Endpoints cannot be read.
    pub async fn endpoints(&self, service: &str) -> Result<Vec<String>> {
        let all: Api<Endpoints> = Api::namespaced(self.bed.client(), &self.namespace);
        let endpoints =
            all.get(service).await.with_context(|| format!("no endpoints {service}"))?;
        let subsets = endpoints.subsets.into_iter().flatten();
        let mut addresses: Vec<_> = subsets
            .flat_map(|subset| subset.addresses.into_iter().flatten())
            .map(|address| address.ip)
            .collect();
        addresses.sort();
        Ok(addresses)
    }

    /// Name of the pod with `ordinal`.
    pub fn pod_name(&self, ordinal: u32) -> String {
        format!("{}-{ordinal}", self.name)
    }

    fn ordinal(&self, pod: &str) -> u32 {
        pod.strip_prefix(&self.name)
            .and_then(|rest| rest.strip_prefix('-')?.parse().ok())
            .unwrap_or(u32::MAX)
    }
}
