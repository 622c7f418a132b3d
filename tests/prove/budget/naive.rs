//! Webhooks that keep a budget as policy engines do: they add up what there is, and reserve nothing.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use futures::StreamExt as _;
use hyper::body::Bytes;
use kube::api::{Api, DynamicObject, ListParams};
use kube::runtime::reflector::{self, Store};
use kube::runtime::{WatchStreamExt as _, watcher};
use pgscale_tests::budget::count;
use pgscale_tests::budget::edits::SUM_REFUSAL;
use pgscale_tests::cluster::resource;
use pgscale_tests::control_plane::ADDRESS;
use pgscale_tests::replicas::Replicas;
use pgscale_tests::reviewer::{self, Answer, reviewed};
use pgscale_tests::trial::TestCtx;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// The first port of these webhooks.
const PORTS: u16 = 20_443;

/// Where the sum comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Sum {
    /// From what a watch has shown so far, as with Gatekeeper's data.
    Remembered,
    /// From a list that is read for every review, as with Kyverno's calls of the API.
    Listed,
}

/// Running webhooks.
pub(crate) struct Servers {
    tasks: Vec<JoinHandle<()>>,
    slices: Vec<String>,
    api: Api<k8s_openapi::api::discovery::v1::EndpointSlice>,
}

impl Servers {
    /// Ends them.
    pub(crate) async fn end(self) -> Result<()> {
        self.tasks.iter().for_each(JoinHandle::abort);
        for slice in self.slices {
            self.api.delete(&slice, &kube::api::DeleteParams::default()).await?;
        }
        Ok(())
    }
}

/// What one webhook decides by.
struct Keeper {
    clusters: Api<DynamicObject>,
    remembered: Store<DynamicObject>,
    sum: Sum,
    budget: i64,
}

/// Starts `number` webhooks behind the Service of `replicas`, each with a watch of its own.
pub(crate) async fn start(
    ctx: &TestCtx,
    replicas: &Replicas,
    sum: Sum,
    budget: i64,
    number: usize,
) -> Result<Servers> {
    let (certificate, key) = replicas.serving_files();
    let tls = reviewer::acceptor(&certificate, &key)?;
    let api = Api::namespaced(ctx.bed.client(), &ctx.namespace);
    let mut servers = Servers { tasks: Vec::new(), slices: Vec::new(), api };
    for port in (PORTS..).take(number) {
        let clusters: Api<DynamicObject> =
            Api::namespaced_with(ctx.bed.client(), &ctx.namespace, &resource());
        let writer = reflector::store::Writer::new(resource());
        let remembered = writer.as_reader();
        let watched = watcher(clusters.clone(), watcher::Config::default());
        let watched = watched.default_backoff().reflect(writer);
        servers.tasks.push(tokio::spawn(watched.for_each(|_| async {})));
        remembered.wait_until_ready().await.context("the watch ended")?;
        let address: SocketAddr = format!("{ADDRESS}:{port}").parse()?;
        let listener = TcpListener::bind(address).await.context("failed to listen")?;
        let keeper = Arc::new(Keeper { clusters, remembered, sum, budget });
        let by_sum = move |body| answer(Arc::clone(&keeper), body);
        let serving = reviewer::serve(listener, tls.clone(), by_sum);
        servers.tasks.push(tokio::spawn(async { _ = serving.await }));
        servers.slices.push(replicas.publish(port).await?);
    }
    Ok(servers)
}

async fn answer(keeper: Arc<Keeper>, body: hyper::Result<Bytes>) -> Answer {
    let review: Value =
        body.ok().and_then(|body| serde_json::from_slice(&body).ok()).unwrap_or_default();
    let allowed = keeper.allows(&review).await.unwrap_or(false);
    let uid = review.pointer("/request/uid").cloned().unwrap_or_default();
    reviewed(&json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "response": {"uid": uid, "allowed": allowed, "status": {"message": SUM_REFUSAL}},
    }))
}

impl Keeper {
    /// Decides a review, `None` where it cannot be understood or nothing can be listed.
    async fn allows(&self, review: &Value) -> Option<bool> {
        let field = |path: &str| review.pointer(&format!("/request/{path}"));
        let instances = |object: &str| field(object)?.pointer("/spec/numberOfInstances")?.as_i64();
        let name = field("name")?.as_str()?;
        let to = instances("object")?;
        if to <= instances("oldObject").unwrap_or(0) {
            return Some(true);
        }
        let other = |cluster: &DynamicObject| {
            let other = cluster.metadata.name.as_deref() != Some(name);
            if other { count(cluster).unwrap_or(0) } else { 0 }
        };
        let others: i64 = match self.sum {
            Sum::Remembered => self.remembered.state().iter().map(|it| other(it)).sum(),
            Sum::Listed => {
                let list = self.clusters.list(&ListParams::default()).await.ok()?;
                list.items.iter().map(other).sum()
            }
        };
        Some(others + to <= self.budget)
    }
}
