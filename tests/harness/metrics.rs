//! metrics.k8s.io, as metrics-server serves it behind the API server: the CPU that the processes of
//! each member really used between two looks.
//!
//! The API server reaches it through an `APIService`, and decides who may ask. It asks for no
//! certificate, because nothing else of the bed knows of it.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use hyper::StatusCode;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::jiff::Timestamp;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::bed::Bed;
use crate::control_plane::ADDRESS;
use crate::kubelet::Usage;
use crate::pki::write;
use crate::reviewer::{Answer, acceptor, reviewed, serve_requests};
use crate::wait::{Attempt, until};

/// The group and version.
const VERSION: &str = "metrics.k8s.io/v1beta1";
/// The path of its discovery. Those of its lists begin with it.
const PATH: &str = "/apis/metrics.k8s.io/v1beta1";
/// The name of the `APIService`, as the API server derives it.
const REGISTRATION: &str = "v1beta1.metrics.k8s.io";
/// The name of its Service.
const NAME: &str = "metrics-server";
const PORT: u16 = 4443;
/// The time between two looks at the processes: metrics-server looks every 15 seconds.
const WINDOW: Duration = Duration::from_secs(3);
/// The limit until the API server passes requests on: it looks every 30 seconds whether it can.
const AVAILABLE: Duration = Duration::from_secs(90);
/// The age of the values of [`Answers::Old`].
const OLD: Duration = Duration::from_secs(600);

/// How the server answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answers {
    /// With what was measured.
    Measured,
    /// With `NaN` in the place of all CPU.
    NotANumber,
    /// As if everything had been measured ten minutes ago.
    Old,
    /// With 404.
    NotFound,
}

/// A running metrics-server. It ends when dropped, and the API server then waits for it: see
/// [`Metrics::stop`].
pub struct Metrics {
    bed: Arc<Bed>,
    answers: watch::Sender<Answers>,
    _tasks: JoinSet<()>,
}

impl Metrics {
    /// Starts it, with its objects in `namespace`, and waits until the API server passes requests on
    /// to it.
    ///
    /// # Errors
    /// Fails when the API server refuses an object, or takes too long.
    pub async fn start(bed: &Arc<Bed>, namespace: &str) -> Result<Self> {
        let (answers, answering) = watch::channel(Answers::Measured);
        let (sender, measured) = watch::channel(Vec::new());
        let pair = {
            let control_plane = bed.control_plane().lock().await;
            control_plane.authority().server(NAME, &[&format!("{NAME}.{namespace}.svc")])?
        };
        let certificate = write(bed.directory(), "metrics.crt", &pair.certificate)?;
        let tls = acceptor(&certificate, &write(bed.directory(), "metrics.key", &pair.key)?)?;
        let address: Ipv4Addr = ADDRESS.parse()?;
        let listener = TcpListener::bind((address, PORT)).await.context("failed to listen")?;
        let mut tasks = JoinSet::new();
        tasks.spawn(measure(Arc::clone(bed), sender));
        tasks.spawn(async move {
            let answer = move |request: hyper::Request<_>| {
                let how = *answering.borrow();
                let path = request.uri().path();
                std::future::ready(answer(path, how, &measured.borrow()))
            };
            // It ends only with the listener, and then clients see that nothing answers.
            _ = serve_requests(listener, tls, answer).await;
        });
        let metrics = Self { bed: Arc::clone(bed), answers, _tasks: tasks };
        metrics.register(namespace).await?;
        metrics.available().await?;
        Ok(metrics)
    }

    /// Answers like this from now on.
    pub fn answer(&self, how: Answers) {
        self.answers.send_replace(how);
    }

    /// Ends it, and takes the API away: clients that list all APIs would fail as long as it does not
    /// answer, and no namespace could be deleted.
    ///
    /// # Errors
    /// Fails when the API server refuses.
    pub async fn stop(self) -> Result<()> {
        let registrations: Api<APIService> = Api::all(self.bed.client());
        let deleted = registrations.delete(REGISTRATION, &DeleteParams::default()).await;
        deleted.context("failed to take metrics.k8s.io away")?;
        Ok(())
    }

    async fn register(&self, namespace: &str) -> Result<()> {
        let client = self.bed.client();
        let apply = PatchParams::apply("bed").force();
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": NAME},
            "spec": {"ports": [{"name": "https", "port": 443, "targetPort": PORT}]},
        });
        let services: Api<Service> = Api::namespaced(client.clone(), namespace);
        let applied = services.patch(NAME, &apply, &Patch::Apply(service)).await;
        applied.context("failed to make the Service of the metrics")?;
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": NAME, "labels": {"kubernetes.io/service-name": NAME}},
            "addressType": "IPv4",
            "ports": [{"name": "https", "protocol": "TCP", "port": PORT}],
            "endpoints": [{"addresses": [ADDRESS], "conditions": {"ready": true}}],
        });
        let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), namespace);
        let applied = slices.patch(NAME, &apply, &Patch::Apply(slice)).await;
        applied.context("failed to make the endpoints of the metrics")?;
        let bundle = {
            let control_plane = self.bed.control_plane().lock().await;
            control_plane.authority().certificate().as_bytes().to_vec()
        };
        let registration = json!({
            "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
            "metadata": {"name": REGISTRATION},
            "spec": {
                "group": "metrics.k8s.io", "version": "v1beta1",
                "groupPriorityMinimum": 100, "versionPriority": 100,
                "service": {"namespace": namespace, "name": NAME},
                "caBundle": k8s_openapi::ByteString(bundle),
            },
        });
        let registrations: Api<APIService> = Api::all(client);
        let applied = registrations.patch(REGISTRATION, &apply, &Patch::Apply(registration)).await;
        applied.context("failed to register metrics.k8s.io")?;
        Ok(())
    }

    /// Waits until the API server passes requests on.
    async fn available(&self) -> Result<()> {
        let client = self.bed.client();
        until("metrics.k8s.io to be served", AVAILABLE, async || {
            let request = http::Request::get(format!("{PATH}/pods")).body(Vec::new())?;
            Ok(match client.request::<Value>(request).await {
                Ok(_) => Attempt::Done(()),
                Err(error) => Attempt::NotYet(error.to_string()),
            })
        })
        .await
    }
}

/// What the container of one pod used between two looks.
#[derive(Clone, Debug, PartialEq)]
struct Measured {
    namespace: String,
    pod: String,
    at: Timestamp,
    window: Duration,
    /// CPU time within the window.
    cpu: Duration,
    memory: u64,
}

impl Measured {
    /// Returns it as metrics-server writes it.
    fn object(&self, how: Answers) -> Value {
        let nanocores = self.cpu.as_nanos() * 1_000_000_000 / self.window.as_nanos().max(1);
        let cpu = match how {
            Answers::NotANumber => "NaN".to_owned(),
            Answers::Measured | Answers::Old | Answers::NotFound => format!("{nanocores}n"),
        };
        let at = if how == Answers::Old { self.at - OLD } else { self.at };
        json!({
            "metadata": {"name": self.pod, "namespace": self.namespace},
            "timestamp": at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            "window": format!("{:.3}s", self.window.as_secs_f64()),
            "containers": [{
                "name": "postgres",
                "usage": {"cpu": cpu, "memory": format!("{}Ki", self.memory / 1024)},
            }],
        })
    }
}

/// Looks at the processes of all members again and again, and sends what they used between two
/// looks.
async fn measure(bed: Arc<Bed>, sender: watch::Sender<Vec<Measured>>) {
    let mut before: Option<(Instant, Vec<Usage>)> = None;
    loop {
        let (time, now) = (Instant::now(), bed.kubelet().usages());
        if let Some((then, before)) = &before {
            sender.send_replace(between(before, &now, time - *then, Timestamp::now()));
        }
        before = Some((time, now));
        sleep(WINDOW).await;
    }
}

/// Returns what was used between two looks. A container that started meanwhile has no value yet.
fn between(before: &[Usage], now: &[Usage], window: Duration, at: Timestamp) -> Vec<Measured> {
    let key = |usage: &Usage| (usage.namespace.clone(), usage.pod.clone(), usage.first);
    let before: BTreeMap<_, Duration> = before.iter().map(|it| (key(it), it.cpu)).collect();
    let measured = |usage: &Usage| {
        let cpu = usage.cpu.saturating_sub(*before.get(&key(usage))?);
        let Usage { namespace, pod, memory, .. } = usage.clone();
        Some(Measured { namespace, pod, at, window, cpu, memory })
    };
    now.iter().filter_map(measured).collect()
}

/// Answers a request by its path.
fn answer(path: &str, how: Answers, measured: &[Measured]) -> Answer {
    let list = |namespace: Option<&str>| {
        let asked =
            measured.iter().filter(|it| namespace.is_none_or(|wanted| it.namespace == wanted));
        let items: Vec<Value> = asked.map(|it| it.object(how)).collect();
        reviewed(&json!({
            "apiVersion": VERSION, "kind": "PodMetricsList", "metadata": {}, "items": items,
        }))
    };
    let rest = path.strip_prefix(PATH).unwrap_or("/elsewhere");
    let parts: Vec<&str> = rest.split('/').skip(1).collect();
    match parts[..] {
        [] => reviewed(&json!({
            "apiVersion": "v1", "kind": "APIResourceList", "groupVersion": VERSION,
            "resources": [{
                "name": "pods", "singularName": "", "namespaced": true, "kind": "PodMetrics",
                "verbs": ["get", "list"],
            }],
        })),
        ["pods"] if how != Answers::NotFound => list(None),
        ["namespaces", namespace, "pods"] if how != Answers::NotFound => list(Some(namespace)),
        _ => {
            let mut none = reviewed(&json!({
                "apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure",
                "message": "the server could not find the requested resource",
                "reason": "NotFound", "code": 404,
            }));
            *none.status_mut() = StatusCode::NOT_FOUND;
            none
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(pod: &str, first: i32, cpu: u64) -> Usage {
        let cpu = Duration::from_millis(cpu);
        Usage { namespace: "db".into(), pod: pod.into(), first, cpu, memory: 8 << 20 }
    }

    fn at() -> Timestamp {
        "2026-12-01T10:00:00Z".parse().unwrap()
    }

    #[test]
    fn a_rate_is_taken_from_two_looks_at_the_same_container() {
        let before = [usage("acid-a-0", 1, 1000), usage("acid-a-1", 2, 1000)];
        let now = [usage("acid-a-0", 1, 1400), usage("acid-a-1", 3, 20), usage("acid-a-2", 4, 9)];
        let measured = between(&before, &now, Duration::from_secs(2), at());
        let objects: Vec<_> = measured.iter().map(|it| it.object(Answers::Measured)).collect();
        assert_eq!(
            objects,
            [json!({
                "metadata": {"name": "acid-a-0", "namespace": "db"},
                "timestamp": "2026-12-01T10:00:00Z", "window": "2.000s",
                "containers": [
                    {"name": "postgres", "usage": {"cpu": "200000000n", "memory": "8192Ki"}},
                ],
            })]
        );
    }

    #[test]
    fn faults_show_in_values_and_in_the_status() {
        let measured =
            between(&[usage("acid-a-0", 1, 0)], &[usage("acid-a-0", 1, 5)], WINDOW, at());
        let object = |how| measured[0].object(how);
        assert_eq!(object(Answers::NotANumber)["containers"][0]["usage"]["cpu"], "NaN");
        assert_eq!(object(Answers::Old)["timestamp"], "2026-12-01T09:50:00Z");
        for (path, how, status) in [
            (PATH, Answers::NotFound, 200),
            ("/apis/metrics.k8s.io/v1beta1/pods", Answers::Measured, 200),
            ("/apis/metrics.k8s.io/v1beta1/pods", Answers::NotFound, 404),
            ("/apis/metrics.k8s.io/v1beta1/namespaces/db/pods", Answers::Old, 200),
            ("/apis/metrics.k8s.io/v1beta1/nodes", Answers::Measured, 404),
            ("/apis", Answers::Measured, 404),
        ] {
            assert_eq!(answer(path, how, &measured).status(), status, "{path} {how:?}");
        }
    }
}
