//! A server of the tests themselves, such as a webhook: the TLS and HTTP of the real one, and an
//! answer of the test.

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use http_body_util::{BodyExt as _, Collected, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// The answer to a request.
pub type Answer = Response<Full<Bytes>>;

/// Returns what ends the TLS of a webhook with this certificate and key, both PEM files.
///
/// # Errors
/// Fails when they cannot be read, or do not belong together.
pub fn acceptor(certificate: &Path, key: &Path) -> Result<TlsAcceptor> {
    let chain = CertificateDer::pem_file_iter(certificate).context("no certificate")?;
    let chain = chain.collect::<Result<Vec<_>, _>>().context("a bad certificate")?;
    let key = PrivateKeyDer::from_pem_file(key).context("a bad key")?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("no version of TLS")?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .context("the key does not belong to the certificate")?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Answers every request by its body, until this future is dropped. The connections end with it: the
/// API server would go on to use them.
///
/// # Errors
/// Fails when no connection can be accepted any more.
pub async fn serve<F>(
    listener: TcpListener,
    tls: TlsAcceptor,
    answer: impl Fn(hyper::Result<Bytes>) -> F + Clone + Send + Sync + 'static,
) -> Result<()>
where
    F: Future<Output = Answer> + Send + 'static,
{
    let by_body = move |request: Request<Incoming>| {
        let answer = answer.clone();
        async move {
            let body = request.into_body().collect().await;
            answer(body.map(Collected::to_bytes)).await
        }
    };
    serve_requests(listener, tls, by_body).await
}

/// The same, by the whole request.
///
/// # Errors
/// Fails like [`serve`].
pub async fn serve_requests<F>(
    listener: TcpListener,
    tls: TlsAcceptor,
    answer: impl Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
) -> Result<()>
where
    F: Future<Output = Answer> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.context("failed to accept")?;
        let (tls, answer) = (tls.clone(), answer.clone());
        connections.spawn(async move {
            _ = stream.set_nodelay(true);
            let Ok(stream) = tls.accept(stream).await else { return };
            let service = service_fn(move |request: Request<Incoming>| {
                let answer = answer(request);
                async move { Ok::<_, Infallible>(answer.await) }
            });
            _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
        // Those that have ended need no memory.
        while connections.try_join_next().is_some() {}
    }
}

/// Returns a review, or another object, as an answer.
pub fn reviewed(review: &Value) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(review.to_string())));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}
