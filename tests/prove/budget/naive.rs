//! Webhooks that keep a budget as policy engines do: they add up what there is, and reserve nothing.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use futures::StreamExt as _;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use kube::api::{Api, DynamicObject, ListParams};
use kube::runtime::reflector::{self, Store};
use kube::runtime::{WatchStreamExt as _, watcher};
use pgscale_tests::cluster::resource;
use pgscale_tests::control_plane::ADDRESS;
use pgscale_tests::replicas::Replicas;
use pgscale_tests::trial::TestCtx;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use super::field::count;

/// The words of a refusal.
pub(crate) const REFUSAL: &str = "more than the sum allows";
/// The first port of these webhooks.
const PORTS: u16 = 20_443;

/// Where the sum comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Sum {
    /// From what a watch has told so far, as with Gatekeeper's data.
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
    let tls = acceptor(replicas)?;
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
        servers.tasks.push(tokio::spawn(serve(listener, tls.clone(), keeper)));
        servers.slices.push(replicas.publish(port).await?);
    }
    Ok(servers)
}

fn acceptor(replicas: &Replicas) -> Result<TlsAcceptor> {
    let (certificate, key) = replicas.serving_files();
    let chain = CertificateDer::pem_file_iter(certificate).context("no certificate")?;
    let chain = chain.collect::<Result<Vec<_>, _>>().context("a bad certificate")?;
    let key = PrivateKeyDer::from_pem_file(key).context("a bad key")?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("no version of TLS")?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .context("the key does not belong to the certificate")?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Serves until the task is aborted. Its connections end with it: the API server would go on to use
/// them.
async fn serve(listener: TcpListener, tls: TlsAcceptor, keeper: Arc<Keeper>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (tls, keeper) = (tls.clone(), Arc::clone(&keeper));
        connections.spawn(async move {
            let Ok(stream) = tls.accept(stream).await else { return };
            let service = service_fn(move |request| answer(Arc::clone(&keeper), request));
            _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(
    keeper: Arc<Keeper>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let body = request.into_body().collect().await.map(http_body_util::Collected::to_bytes);
    let review: Value =
        body.ok().and_then(|body| serde_json::from_slice(&body).ok()).unwrap_or_default();
    let allowed = keeper.allows(&review).await.unwrap_or(false);
    let uid = review.pointer("/request/uid").cloned().unwrap_or_default();
    let text = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "response": {"uid": uid, "allowed": allowed, "status": {"message": REFUSAL}},
    })
    .to_string();
    let mut response = Response::new(Full::new(Bytes::from(text)));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
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
