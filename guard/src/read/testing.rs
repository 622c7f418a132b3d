//! A small API server and scripted members, both in process.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{self, BoxFuture};
use http::{Request, Response, StatusCode, Uri};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::change::Change;
use crate::postgresql::Postgresql;
use crate::read::{Address, MemberClient, Operators, ReadScope, Reader, RestRequest, RestResponse};

/// A fault of the API server in every request for one resource.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    Hang,
    Status(u16),
    /// The answer has more than a review decodes.
    Flood,
}

/// An API server: objects by path, faults by resource, and a list of the requests.
#[derive(Clone)]
pub(super) struct World {
    breadth: ReadScope,
    objects: BTreeMap<String, Value>,
    faults: BTreeMap<&'static str, Fault>,
    requested: Arc<Mutex<Vec<String>>>,
}

impl Default for World {
    fn default() -> Self {
        Self {
            breadth: ReadScope::Review,
            objects: BTreeMap::new(),
            faults: BTreeMap::new(),
            requested: Arc::default(),
        }
    }
}

impl World {
    /// Gives it the reader of a person who plans.
    pub(super) fn seen_whole(mut self) -> Self {
        self.breadth = ReadScope::Whole;
        self
    }

    /// Gives it the reader of a person who is shown one instance less and one more.
    pub(super) fn seen_around(mut self) -> Self {
        self.breadth = ReadScope::Around;
        self
    }

    /// Stores an object under its path.
    pub(super) fn with(mut self, path: &str, object: Value) -> Self {
        self.objects.insert(path.to_owned(), object);
        self
    }

    /// Adds everything of another world.
    pub(super) fn and(mut self, other: Self) -> Self {
        self.objects.extend(other.objects);
        self
    }

    /// Removes an object.
    pub(super) fn without(mut self, path: &str) -> Self {
        assert!(self.objects.remove(path).is_some(), "{path} does not exist");
        self
    }

    /// Changes an object in place.
    pub(super) fn edit(mut self, path: &str, edit: impl FnOnce(&mut Value)) -> Self {
        edit(self.objects.get_mut(path).unwrap());
        self
    }

    /// Lets every request for `resource` fail.
    pub(super) fn fault(mut self, resource: &'static str, fault: Fault) -> Self {
        self.faults.insert(resource, fault);
        self
    }

    /// Returns the requests, as path and query.
    pub(super) fn requested(&self) -> Vec<String> {
        self.requested.lock().unwrap().clone()
    }

    /// Returns a reader of this world.
    pub(super) fn reader(&self, members: &Members) -> Reader {
        let world = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let world = world.clone();
            async move { Ok::<_, Infallible>(world.answer(request.uri().clone()).await) }
        });
        Reader {
            client: Client::new(service, "default"),
            ask: Arc::new(members.clone()),
            deadline: Duration::from_secs(4),
            breadth: self.breadth,
            operators: Operators::default(),
            clock: super::machine_time,
            sharing: None,
        }
    }

    async fn answer(&self, uri: Uri) -> Response<Body> {
        self.requested.lock().unwrap().push(uri.to_string());
        let path = uri.path();
        let parts: Vec<&str> = path.split('/').skip(1).collect();
        let (group, rest) = parts.split_at(if parts[0] == "api" { 2 } else { 3 });
        let (namespace, rest) = match rest {
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (Some(*namespace), rest),
            rest => (None, rest),
        };
        match self.faults.get(rest[0]) {
            Some(Fault::Hang) => return future::pending().await,
            Some(Fault::Status(code)) => return failure(*code),
            Some(Fault::Flood) => {
                let items = vec![r#"{"":0}"#; 60_000].join(",");
                let flood = format!(r#"{{"metadata":{{"name":"flood"}},"items":[{items}]}}"#);
                return Response::new(Body::from(flood.into_bytes()));
            }
            None => {}
        }
        match rest {
            [_, _name] => match self.objects.get(path) {
                Some(object) => reply(StatusCode::OK, object),
                None => failure(404),
            },
            [plural] => {
                let selector = labels(uri.query().unwrap_or(""));
                let items: Vec<&Value> = self
                    .objects
                    .iter()
                    .filter(|(path, _)| match namespace {
                        Some(_) => path.starts_with(&format!("{}/", uri.path())),
                        None => {
                            path.starts_with(&format!("/{}/", group.join("/")))
                                && path.contains(&format!("/{plural}/"))
                        }
                    })
                    .map(|(_, object)| object)
                    .filter(|object| {
                        selector
                            .iter()
                            .all(|(key, value)| object["metadata"]["labels"][key] == **value)
                    })
                    .collect();
                reply(
                    StatusCode::OK,
                    &json!({"kind": "List", "apiVersion": "v1",
                    "metadata": {"resourceVersion": "1"}, "items": items}),
                )
            }
            other => panic!("not a path of one object or one kind: {other:?}"),
        }
    }
}

/// Decodes `labelSelector=a%3D1%2Cb%3D2` into pairs.
fn labels(query: &str) -> Vec<(String, String)> {
    query
        .split('&')
        .filter_map(|part| part.strip_prefix("labelSelector="))
        .flat_map(|selector| {
            let selector = selector.replace("%3D", "=").replace("%2C", ",").replace("%2F", "/");
            let pairs = selector.split(',').filter_map(|pair| pair.split_once('='));
            pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect::<Vec<_>>()
        })
        .collect()
}

fn failure(code: u16) -> Response<Body> {
    let reason = match code {
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "NotFound",
        _ => "InternalError",
    };
    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code,
        "reason": reason, "message": format!("the server says {reason}")});
    reply(StatusCode::from_u16(code).unwrap(), &status)
}

fn reply(status: StatusCode, body: &Value) -> Response<Body> {
    Response::builder().status(status).body(Body::from(body.to_string().into_bytes())).unwrap()
}

/// One reply of a member.
#[derive(Clone, Debug)]
pub(super) enum Reply {
    Body(u16, Value),
    Error(&'static str),
    Hang,
}

/// Members that answer from a script. The last reply of each is repeated.
#[derive(Clone)]
pub(super) struct Members {
    script: Arc<Mutex<BTreeMap<String, VecDeque<Reply>>>>,
    requested: Arc<Mutex<Vec<(String, Duration)>>>,
    start: Instant,
}

impl Members {
    /// Returns members `acid-a-0`, `acid-a-1` … with their replies in order.
    pub(super) fn of(scripts: impl IntoIterator<Item = Vec<Reply>>) -> Self {
        Self::named("acid-a", scripts)
    }

    /// Returns members of another cluster.
    pub(super) fn named(cluster: &str, scripts: impl IntoIterator<Item = Vec<Reply>>) -> Self {
        let script = scripts
            .into_iter()
            .enumerate()
            .map(|(ordinal, replies)| (format!("{cluster}-{ordinal}"), replies.into()))
            .collect();
        Self {
            script: Arc::new(Mutex::new(script)),
            requested: Arc::default(),
            start: Instant::now(),
        }
    }

    /// Returns three members that have all WAL of the leader, which is the first.
    pub(super) fn healthy() -> Self {
        Self::of([vec![leader(1000)], vec![standby(1000)], vec![standby(1000)]])
    }

    /// Returns the number of requests to each member.
    pub(super) fn counts(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for (pod, _) in self.requested.lock().unwrap().iter() {
            *counts.entry(pod.clone()).or_default() += 1;
        }
        counts
    }
}

impl MemberClient for Members {
    fn exchange<'a>(
        &'a self,
        pod: &'a Address,
        request: RestRequest,
    ) -> BoxFuture<'a, Result<RestResponse, String>> {
        assert_eq!((request.path.as_str(), pod.namespace.as_str()), ("/patroni", "db"));
        assert!(pod.ip.is_some() && request.timeout <= Duration::from_secs(1));
        self.requested.lock().unwrap().push((pod.pod.clone(), self.start.elapsed()));
        let mut script = self.script.lock().unwrap();
        let replies = script.get_mut(&pod.pod).unwrap();
        let reply =
            if replies.len() > 1 { replies.pop_front().unwrap() } else { replies[0].clone() };
        async move {
            match reply {
                Reply::Body(status, body) => Ok(RestResponse { status, body: body.to_string() }),
                Reply::Error(why) => Err(why.to_owned()),
                Reply::Hang => future::pending().await,
            }
        }
        .boxed()
    }
}

/// Returns a leader's answer.
pub(super) fn leader(location: u64) -> Reply {
    Reply::Body(
        200,
        json!({"state": "running", "role": "primary", "timeline": 1,
        "server_version": 150_004, "xlog": {"location": location}, "patroni": {"version": "4.1.4"}}),
    )
}

/// Returns a replica's answer.
pub(super) fn standby(received: u64) -> Reply {
    Reply::Body(
        200,
        json!({"state": "running", "role": "replica", "timeline": 1,
        "server_version": 150_004, "replication_state": "streaming",
        "xlog": {"received_location": received, "replayed_location": received, "paused": false},
        "patroni": {"version": "4.1.4"}}),
    )
}

pub(super) const SET: &str = "/apis/apps/v1/namespaces/db/statefulsets/acid-a";
pub(super) const OPERATOR: &str = "/apis/apps/v1/namespaces/default/deployments/postgres-operator";
pub(super) const SETTINGS: &str = "/api/v1/namespaces/default/configmaps/postgres-operator";

/// The operator's Deployment, which is also the name of its account.
pub(super) const REAL: &str = "default/postgres-operator";

/// The path of the list of operators' accounts.
pub(super) const LIST: &str = "/api/v1/namespaces/kube-public/configmaps/pgscale-operators";

/// Returns a list of operators' accounts.
pub(super) fn accounts(text: &str) -> Value {
    json!({"metadata": {"namespace": "kube-public", "name": "pgscale-operators"},
        "data": {"accounts": text}})
}

/// Returns the path of an object of the core group in the cluster's namespace.
pub(super) fn core(plural: &str, name: &str) -> String {
    format!("/api/v1/namespaces/db/{plural}/{name}")
}

/// Returns a change of the count of `acid-a` in namespace `db`.
pub(super) fn change(from: i64, to: i64) -> Change {
    let old = json!({"metadata": {"namespace": "db", "name": "acid-a"},
        "spec": {"numberOfInstances": from}});
    Change::of_count(Postgresql::of(&old).unwrap(), to)
}

/// Returns a healthy cluster of three, led by `acid-a-0`, that keeps Patroni's objects in `plural`,
/// beside foreign objects.
pub(super) fn world(plural: &str) -> World {
    let labels = json!({"application": "spilo", "cluster-name": "acid-a"});
    let mut world = World::default()
        .with(SET, stateful_set(plural == "configmaps"))
        .with(OPERATOR, operator("postgres-operator"))
        .with(
            SETTINGS,
            json!({"metadata": {"namespace": "default", "name": "postgres-operator",
            "creationTimestamp": "2026-11-01T00:00:00Z"},
            "data": {"min_instances": "1", "max_instances": "9", "watched_namespace": "*"}}),
        )
        .with(
            "/api/v1/namespaces/default/pods/postgres-operator-x",
            json!({"metadata": {"namespace": "default", "name": "postgres-operator-x",
                "labels": {"name": "postgres-operator"}},
                "status": {"phase": "Running", "startTime": "2026-11-02T00:00:00Z"}}),
        );
    for ordinal in 0..3 {
        let name = format!("acid-a-{ordinal}");
        let claim = format!("pgdata-{name}");
        world = world
            .with(&core("pods", &name), pod(ordinal))
            .with(
                &core("persistentvolumeclaims", &claim),
                json!({
                "metadata": {"namespace": "db", "name": claim, "labels": labels,
                    "creationTimestamp": "2026-11-20T10:00:00Z"},
                "status": {"phase": "Bound", "capacity": {"storage": "2Gi"}}}),
            )
            .with(
                &format!("/api/v1/nodes/node-{ordinal}"),
                json!({
                "metadata": {"name": format!("node-{ordinal}"),
                    "labels": {"topology.kubernetes.io/zone": format!("zone-{ordinal}")}},
                "status": {"conditions": [{"type": "Ready", "status": "True"}]}}),
            );
    }
    let stranger = |name: &str, labels: &Value| json!({"metadata": {"namespace": "db", "name": name, "labels": labels}});
    world = world
        .with(
            &core("pods", "acid-a-1-0"),
            stranger("acid-a-1-0", &json!({"application": "spilo", "cluster-name": "acid-a-1"})),
        )
        .with(&core("pods", "acid-a-pooler-7d9c"), stranger("acid-a-pooler-7d9c", &labels))
        .with(&core("persistentvolumeclaims", "backup"), stranger("backup", &labels));
    let patroni = |name: &str, annotations: Value| json!({"metadata": {"namespace": "db", "name": name, "labels": labels, "annotations": annotations}});
    let lock = if plural == "endpoints" { "acid-a" } else { "acid-a-leader" };
    world
        .with(
            &core(plural, lock),
            patroni(
                lock,
                json!({"leader": "acid-a-0", "ttl": "30",
            // Far ahead, because the reader looks at the real clock.
            "renewTime": "2100-01-01T00:00:00.123456+00:00", "transitions": "2", "optime": "1000",
            "acquireTime": "2026-11-20T10:00:00.000000+00:00"}),
            ),
        )
        .with(
            &core(plural, "acid-a-config"),
            patroni(
                "acid-a-config",
                json!({
            "config": json!({"ttl": 30, "loop_wait": 10, "maximum_lag_on_failover": 33_554_432,
                "synchronous_mode": true}).to_string(),
            "initialize": "7310000000000000000", "history": json!([
                [1, 25_165_920, "no recovery target specified", "2026-11-20T10:00:00+00:00", "acid-a-0"],
            ]).to_string()}),
            ),
        )
        .with(&core(plural, "acid-a-failover"), patroni("acid-a-failover", Value::Null))
        .with(
            &core(plural, "acid-a-sync"),
            patroni("acid-a-sync", json!({"leader": "acid-a-0", "sync_standby": "acid-a-1"})),
        )
}

/// Returns a StatefulSet as the operator makes it.
fn stateful_set(config_maps: bool) -> Value {
    let mut env = vec![
        json!({"name": "SCOPE", "value": "acid-a"}),
        json!({"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}),
        json!({"name": "KUBERNETES_SCOPE_LABEL", "value": "cluster-name"}),
        json!({"name": "KUBERNETES_ROLE_LABEL", "value": "spilo-role"}),
        json!({"name": "DCS_ENABLE_KUBERNETES_API", "value": "true"}),
    ];
    if config_maps {
        env.push(json!({"name": "KUBERNETES_USE_CONFIGMAPS", "value": "true"}));
    }
    json!({"metadata": {"namespace": "db", "name": "acid-a", "generation": 4},
        "spec": {"replicas": 3, "podManagementPolicy": "OrderedReady", "serviceName": "acid-a",
            "selector": {"matchLabels": {"application": "spilo", "cluster-name": "acid-a"}},
            "template": {"spec": {"containers": [{"name": "postgres", "env": env}]}}},
        "status": {"replicas": 3, "observedGeneration": 4}})
}

/// Returns a running member's pod. The first leads.
pub(super) fn pod(ordinal: i64) -> Value {
    let leads = ordinal == 0;
    let mut status = json!({"state": "running", "role": if leads { "primary" } else { "replica" },
        "version": "4.1.4", "xlog_location": 1000, "timeline": 1,
        "conn_url": "postgres://10.244.0.10:5432/postgres", "api_url": "http://10.244.0.10:8008/patroni"});
    if !leads {
        status["replication_state"] = json!("streaming");
    }
    json!({"metadata": {"namespace": "db", "name": format!("acid-a-{ordinal}"),
            "creationTimestamp": "2026-11-20T10:00:00Z",
            "labels": {"application": "spilo", "cluster-name": "acid-a",
                "spilo-role": if leads { "master" } else { "replica" }},
            "annotations": {"status": status.to_string()}},
        "spec": {"nodeName": format!("node-{ordinal}"), "containers": [{"name": "postgres"}]},
        "status": {"phase": "Running", "podIP": format!("10.244.0.{}", 10 + ordinal),
            "conditions": [{"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": "True"}],
            "containerStatuses": [{"name": "postgres", "image": "spilo", "imageID": "spilo", "ready": true,
                "restartCount": 0, "state": {"running": {"startedAt": "2026-11-20T10:00:05Z"}}}]}})
}

/// Returns a Deployment as the operator's plain manifests make it.
pub(super) fn operator(name: &str) -> Value {
    json!({"metadata": {"namespace": "default", "name": name,
            "labels": {"application": "postgres-operator"}},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"name": name}},
            "template": {"spec": {"serviceAccountName": "postgres-operator", "containers": [
                {"name": "postgres-operator", "image": "ghcr.io/zalando/postgres-operator:v1.15.1",
                "env": [{"name": "CONFIG_MAP_NAME", "value": name}]}]}}},
        "status": {"replicas": 1, "availableReplicas": 1}})
}
