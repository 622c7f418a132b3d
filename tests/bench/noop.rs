//! A webhook that allows everything: what a review costs without any judgement.
//!
//! It is a process of its own with the TLS and HTTP libraries of the real one. It decodes the uid
//! of a review and nothing else.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::CONTENT_TYPE;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::Deserialize;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// The file with its certificate, in its directory.
pub(crate) const CERTIFICATE: &str = "noop.crt";
/// The file with its key.
pub(crate) const KEY: &str = "noop.key";

/// The part of a review that an answer needs.
#[derive(Deserialize)]
struct Review {
    request: Asked,
}

#[derive(Deserialize)]
struct Asked {
    uid: String,
}

/// Answers reviews on `address` until the process is killed, with the certificate in `directory`.
///
/// # Errors
/// Fails when it cannot listen.
pub(crate) async fn serve(address: SocketAddr, directory: &Path) -> Result<()> {
    let certificate = directory.join(CERTIFICATE);
    let chain = CertificateDer::pem_file_iter(&certificate).context("no certificate")?;
    let chain = chain.collect::<Result<Vec<_>, _>>().context("a bad certificate")?;
    let key = PrivateKeyDer::from_pem_file(directory.join(KEY)).context("a bad key")?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("no version of TLS")?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .context("the key does not belong to the certificate")?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let tls = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind(address).await.context("failed to listen")?;
    loop {
        let (stream, _) = listener.accept().await.context("failed to accept")?;
        tokio::spawn(connection(tls.clone(), stream));
    }
}

async fn connection(tls: TlsAcceptor, stream: TcpStream) {
    _ = stream.set_nodelay(true);
    if let Ok(stream) = tls.accept(stream).await {
        _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer)).await;
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let body = match request.into_body().collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => return Ok(refusal(&error.to_string())),
    };
    Ok(match serde_json::from_slice::<Review>(&body) {
        Ok(Review { request: Asked { uid } }) => {
            let review = json!({
                "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
                "response": {"uid": uid, "allowed": true},
            });
            let mut response = Response::new(Full::new(Bytes::from(review.to_string())));
            response.headers_mut().insert(CONTENT_TYPE, JSON);
            response
        }
        Err(error) => refusal(&error.to_string()),
    })
}

const JSON: hyper::header::HeaderValue =
    hyper::header::HeaderValue::from_static("application/json");

fn refusal(why: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(why.to_owned())));
    *response.status_mut() = StatusCode::BAD_REQUEST;
    response
}
