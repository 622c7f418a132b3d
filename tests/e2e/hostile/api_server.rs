//! A minimal API server for the webhook: it has one policy and no other object.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result};
use http::{Method, Request, Response};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// A running API server, ended when dropped.
pub(super) struct ApiServer {
    address: SocketAddr,
    reads: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl ApiServer {
    /// Starts the server on a port of this machine.
    pub(super) async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("no free port")?;
        let address = listener.local_addr().context("no address")?;
        let reads = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&reads);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let counted = Arc::clone(&counted);
                let service = service_fn(move |request: Request<Incoming>| {
                    let of_the_cluster = request.uri().path().contains("/namespaces/db/");
                    if request.method() == Method::GET && of_the_cluster {
                        counted.fetch_add(1, Ordering::Relaxed);
                    }
                    let (status, object) = answer(request.method(), request.uri().path());
                    let body = Full::new(Bytes::from(object.to_string()));
                    let mut response = Response::new(body);
                    *response.status_mut() = status;
                    async move { Ok::<_, Infallible>(response) }
                });
                let connection =
                    http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                // A connection that a client breaks off does not matter.
                tokio::spawn(async move { drop(connection.await) });
            }
        });
        Ok(Self { address, reads, task })
    }

    /// Returns its URL.
    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns how many objects and lists were read so far in the namespace of the reviews. The
    /// webhook reads others at any time: it watches policies, and looks for operators.
    pub(super) fn reads(&self) -> usize {
        self.reads.load(Ordering::Relaxed)
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn answer(method: &Method, path: &str) -> (http::StatusCode, Value) {
    let list = |items: &[Value]| json!({"kind": "List", "apiVersion": "v1", "metadata": {}, "items": items});
    let plural = path.rsplit('/').next().unwrap_or_default();
    if method == Method::POST {
        return (http::StatusCode::CREATED, json!({"metadata": {"name": "x"}}));
    }
    match plural {
        "scalepolicies" => (http::StatusCode::OK, list(&[super::policy()])),
        _ if plural.ends_with('s') => (http::StatusCode::OK, list(&[])),
        _ => {
            let message = format!("{path} not found");
            let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure",
                "reason": "NotFound", "message": message, "code": 404});
            (http::StatusCode::NOT_FOUND, status)
        }
    }
}
