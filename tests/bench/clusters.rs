//! Clusters as objects: the operator's complete manifest, a StatefulSet whose pods run nothing, and
//! what Patroni writes about the members.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use futures::{TryStreamExt as _, stream};
use hyper::Method;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use pgscale_tests::operator::RUN_NOTHING;
use pgscale_tests::wait::{Attempt, until};
use serde_json::{Value, json};

use crate::https::{Call, Https};
use crate::members::{Member, Members, POSITION, SYSTEM};

/// The writes in flight while the clusters are made.
const AT_ONCE: usize = 8;
const READY: Duration = Duration::from_secs(120);

/// A cluster to make.
#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    /// Its name.
    pub(crate) name: String,
    /// The number of its members.
    pub(crate) members: u32,
    /// The ordinal of its leader.
    pub(crate) leader: u32,
    /// The ordinal of a member that never answers.
    pub(crate) silent: Option<u32>,
}

impl Cluster {
    /// Returns a healthy cluster that its first member leads.
    pub(crate) fn new(name: impl Into<String>, members: u32) -> Self {
        Self { name: name.into(), members, leader: 0, silent: None }
    }

    fn labels(&self) -> Value {
        json!({"application": "spilo", "cluster-name": self.name})
    }

    fn pod(&self, ordinal: u32) -> String {
        format!("{}-{ordinal}", self.name)
    }

    /// Returns the path of the object in `namespace`.
    pub(crate) fn path(&self, namespace: &str) -> String {
        format!("{}/{}", all(namespace), self.name)
    }

    /// Returns the object: the operator's complete manifest with this name and count.
    fn object(&self, complete: &Value) -> Result<Value> {
        let mut object = complete.clone();
        let set = |object: &mut Value, path: &str, value: Value| {
            let place = object.pointer_mut(path);
            *place.with_context(|| format!("the complete manifest has no {path}"))? = value;
            anyhow::Ok(())
        };
        let (run, nothing) = RUN_NOTHING;
        let metadata = json!({"name": self.name, "labels": {run: nothing}});
        set(&mut object, "/metadata", metadata)?;
        set(&mut object, "/spec/numberOfInstances", json!(self.members))?;
        Ok(object)
    }

    /// Returns the StatefulSet, in the form of `generateStatefulSet` (pkg/cluster/k8sres.go).
    fn stateful_set(&self) -> Value {
        let (run, nothing) = RUN_NOTHING;
        let set = |name: &str, value: &str| json!({"name": name, "value": value});
        let field = |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}});
        let environment = json!([
            set("SCOPE", &self.name),
            set("PGROOT", "/home/postgres/pgdata/pgroot"),
            field("POD_IP", "status.podIP"),
            field("POD_NAMESPACE", "metadata.namespace"),
            set("PGUSER_SUPERUSER", "postgres"),
            set("KUBERNETES_SCOPE_LABEL", "cluster-name"),
            set("KUBERNETES_ROLE_LABEL", "spilo-role"),
            set("PGVERSION", "17"),
            set("KUBERNETES_LABELS", r#"{"application":"spilo"}"#),
            set("DCS_ENABLE_KUBERNETES_API", "true"),
            set("KUBERNETES_BOOTSTRAP_LABELS", r#"{"critical-operation":"true"}"#),
        ]);
        let mut labels = self.labels();
        if let Some(labels) = labels.as_object_mut() {
            labels.insert(run.to_owned(), json!(nothing));
            labels.insert("team".to_owned(), json!("acid"));
        }
        json!({
            "apiVersion": "apps/v1", "kind": "StatefulSet",
            "metadata": {"name": self.name, "labels": self.labels()},
            "spec": {
                "replicas": self.members, "serviceName": self.name,
                "podManagementPolicy": "Parallel",
                "selector": {"matchLabels": self.labels()}, "updateStrategy": {"type": "OnDelete"},
                "template": {"metadata": {"labels": labels}, "spec": {
                    "terminationGracePeriodSeconds": 10,
                    "containers": [{
                        "name": "postgres", "image": "ghcr.io/zalando/spilo-17:4.0-p3",
                        "env": environment,
                        "resources": {
                            "requests": {"cpu": "10m", "memory": "100Mi"},
                            "limits": {"cpu": "500m", "memory": "500Mi"},
                        },
                        "volumeMounts": [{"name": "pgdata", "mountPath": "/home/postgres/pgdata"}],
                    }],
                }},
                "volumeClaimTemplates": [{
                    "metadata": {"name": "pgdata", "labels": self.labels()},
                    "spec": {"accessModes": ["ReadWriteOnce"],
                        "resources": {"requests": {"storage": "1Gi"}}},
                }],
            },
        })
    }

    /// Returns Patroni's own objects, in the form of patroni/dcs/kubernetes.py.
    fn patronis_objects(&self) -> Vec<Value> {
        let leader = self.pod(self.leader);
        let object = |suffix: &str, annotations: Value| {
            json!({
                "apiVersion": "v1", "kind": "Endpoints",
                "metadata": {"name": format!("{}{suffix}", self.name), "labels": self.labels(),
                    "annotations": annotations},
            })
        };
        let configuration = json!({
            "ttl": 30, "loop_wait": 10, "retry_timeout": 10, "maximum_lag_on_failover": 33_554_432,
            "synchronous_mode": false, "failsafe_mode": false,
            "postgresql": {"use_pg_rewind": true, "use_slots": true,
                "parameters": {"max_wal_senders": 10, "max_replication_slots": 10}},
        });
        let lease = json!({
            "acquireTime": "2026-11-20T10:00:00.000001+00:00", "leader": leader,
            "optime": POSITION.to_string(), "renewTime": now(), "transitions": "0", "ttl": "30",
        });
        let shared = json!({
            "config": configuration.to_string(), "history": "[]", "initialize": SYSTEM,
        });
        vec![object("", lease), object("-config", shared), object("-failover", json!({}))]
    }

    /// Returns what Patroni writes on the pod of a member (`touch_member`, patroni/ha.py).
    fn report(&self, ordinal: u32, address: Ipv4Addr) -> Value {
        let leads = ordinal == self.leader;
        let mut report = json!({
            "conn_url": format!("postgres://{address}:5432/postgres"),
            "api_url": format!("http://{address}:8008/patroni"), "state": "running",
            "role": if leads { "primary" } else { "replica" }, "version": "4.1.4",
            "xlog_location": POSITION, "timeline": 1,
        });
        if let (false, Some(report)) = (leads, report.as_object_mut()) {
            report.insert("replication_state".into(), json!("streaming"));
        }
        json!({"metadata": {
            "annotations": {"status": report.to_string()},
            "labels": {"spilo-role": if leads { "master" } else { "replica" }},
        }})
    }
}

/// Returns the path of all clusters of a namespace.
pub(crate) fn all(namespace: &str) -> String {
    format!("/apis/acid.zalan.do/v1/namespaces/{namespace}/postgresqls")
}

/// Returns the operator's complete manifest.
///
/// # Errors
/// Fails when it is no YAML.
pub(crate) fn complete() -> Result<Value> {
    serde_saphyr::from_str(include_str!("complete.yaml")).context("the manifest is no YAML")
}

/// Creates the objects of clusters alone, without anything that runs.
///
/// # Errors
/// Fails when the API server refuses one.
pub(crate) async fn declare(
    api: &Https,
    namespace: &str,
    clusters: &[Cluster],
    complete: &Value,
) -> Result<()> {
    let objects = clusters.iter().map(|cluster| cluster.object(complete));
    let calls = objects.map(|object| Ok(Call::json(Method::POST, all(namespace), &object?)));
    every(api, calls.collect::<Result<Vec<_>>>()?).await
}

/// Makes everything else of clusters, and waits until their members run.
///
/// # Errors
/// Fails when the API server refuses an object, or pods do not come up.
pub(crate) async fn bring_up(
    api: &Https,
    namespace: &str,
    clusters: &[Cluster],
    members: &Members,
) -> Result<()> {
    let sets = format!("/apis/apps/v1/namespaces/{namespace}/statefulsets");
    let endpoints = format!("/api/v1/namespaces/{namespace}/endpoints");
    let mut calls = Vec::new();
    for cluster in clusters {
        calls.push(Call::json(Method::POST, &sets, &cluster.stateful_set()));
        let objects = cluster.patronis_objects();
        calls.extend(objects.iter().map(|it| Call::json(Method::POST, &endpoints, it)));
    }
    every(api, calls).await?;
    let pods = format!("/api/v1/namespaces/{namespace}/pods");
    let wanted: u32 = clusters.iter().map(|cluster| cluster.members).sum();
    let found = until("the members' pods to run", READY, async || {
        let found = addresses(api, &pods).await?;
        let enough = u32::try_from(found.len()).is_ok_and(|found| found >= wanted);
        let seen = format!("{} of {wanted}", found.len());
        Ok(if enough { Attempt::Done(found) } else { Attempt::NotYet(seen) })
    })
    .await?;
    let mut reports = Vec::new();
    for cluster in clusters {
        for ordinal in 0..cluster.members {
            let pod = cluster.pod(ordinal);
            let Some((_, address)) = found.iter().find(|(name, _)| *name == pod) else {
                bail!("{pod} does not run");
            };
            let (leads, silent) = (ordinal == cluster.leader, cluster.silent == Some(ordinal));
            reports.push(Call::patch(format!("{pods}/{pod}"), &cluster.report(ordinal, *address)));
            let member = Member { cluster: cluster.name.clone(), pod, leads, silent };
            members.add(*address, member);
        }
    }
    every(api, reports).await
}

/// Returns the names of ready pods and their addresses.
async fn addresses(api: &Https, pods: &str) -> Result<Vec<(String, Ipv4Addr)>> {
    let mut list = api.expect(&Call::bare(Method::GET, pods)).await?;
    let items = list.get_mut("items").map(Value::take).context("no list of pods")?;
    let pods: Vec<Pod> = serde_json::from_value(items).context("no list of pods")?;
    let ready = |pod: &Pod| {
        let mut conditions = pod.status.iter().flat_map(|it| it.conditions.iter().flatten());
        conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
    };
    let address = |pod: &Pod| pod.status.as_ref()?.pod_ip.as_ref()?.parse().ok();
    let running = pods.iter().filter(|pod| ready(pod));
    Ok(running.filter_map(|pod| Some((pod.name_any(), address(pod)?))).collect())
}

/// Renews the leader locks of clusters as Patroni does, until it is aborted.
pub(crate) async fn renew(api: Arc<Https>, namespace: &str, clusters: &[Cluster]) {
    let count = u32::try_from(clusters.len()).unwrap_or(u32::MAX).max(1);
    // Patroni renews the lock every `loop_wait`.
    let mut turn = tokio::time::interval(Duration::from_secs(10) / count);
    for cluster in clusters.iter().cycle() {
        turn.tick().await;
        let path = format!("/api/v1/namespaces/{namespace}/endpoints/{}", cluster.name);
        let renewed = json!({"metadata": {"annotations": {"renewTime": now()}}});
        let (api, call) = (Arc::clone(&api), Call::patch(path, &renewed));
        // One slow answer of a busy API server must not let the other locks expire.
        tokio::spawn(async move { _ = api.send(&call).await });
    }
}

/// Sends requests, several at a time.
///
/// # Errors
/// Fails when one does.
pub(crate) async fn every(api: &Https, calls: Vec<Call>) -> Result<()> {
    stream::iter(calls.into_iter().map(Ok))
        .try_for_each_concurrent(AT_ONCE, async |call| api.expect(&call).await.map(drop))
        .await
}

/// Returns the present time as Patroni writes it.
fn now() -> String {
    Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.6f+00:00").to_string()
}
