//! HTTPS over kept HTTP/1.1 connections, as the API server calls a webhook and a client calls the
//! API server.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST, WARNING};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use pgscale_tests::pki::Pair;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::net::TcpSocket;
use tokio_rustls::TlsConnector;

/// A request that can be sent many times.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// The method.
    pub(crate) method: Method,
    /// The path and the query.
    pub(crate) path: String,
    /// The media type of the body.
    pub(crate) content: &'static str,
    /// The body.
    pub(crate) body: Bytes,
}

impl Call {
    /// Returns a request with a JSON body.
    pub(crate) fn json(method: Method, path: impl Into<String>, body: &Value) -> Self {
        let body = Bytes::from(body.to_string());
        Self { method, path: path.into(), content: "application/json", body }
    }

    /// Returns a request for a JSON merge patch.
    pub(crate) fn patch(path: impl Into<String>, body: &Value) -> Self {
        let content = "application/merge-patch+json";
        Self { content, ..Self::json(Method::PATCH, path, body) }
    }

    /// Returns a request without a body.
    pub(crate) fn bare(method: Method, path: impl Into<String>) -> Self {
        Self { method, path: path.into(), content: "application/json", body: Bytes::new() }
    }
}

/// An answer.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    /// Its status.
    pub(crate) status: StatusCode,
    /// Its warnings.
    pub(crate) warnings: Vec<String>,
    /// Its body.
    pub(crate) body: Bytes,
}

/// One server and the connections to it.
pub(crate) struct Https {
    address: SocketAddr,
    host: String,
    name: ServerName<'static>,
    tls: TlsConnector,
    /// The addresses to call from, in turn. Empty for the kernel's choice.
    sources: Vec<Ipv4Addr>,
    calls: AtomicUsize,
    /// The connections without a request, last used last.
    idle: Mutex<Vec<SendRequest<Full<Bytes>>>>,
}

impl Https {
    /// Returns a client of the server at `address` that the authority `ca`, PEM, has certified for
    /// `name`. It shows the certificate `identity` where there is one.
    pub(crate) fn new(
        address: SocketAddr,
        name: &str,
        ca: &[u8],
        identity: Option<&Pair>,
        sources: &[Ipv4Addr],
    ) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(ca) {
            roots.add(certificate.context("a bad authority")?).context("a bad authority")?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .context("no version of TLS")?
            .with_root_certificates(roots);
        let mut config = match identity {
            None => config.with_no_client_auth(),
            Some(Pair { certificate, key }) => {
                let chain = CertificateDer::pem_slice_iter(certificate.as_bytes());
                let chain = chain.collect::<Result<Vec<_>, _>>().context("a bad certificate")?;
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).context("a bad key")?;
                config.with_client_auth_cert(chain, key).context("a bad client certificate")?
            }
        };
        // The API server calls webhooks by HTTP/1.1 (pkg/util/webhook/client.go).
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self {
            address,
            host: name.to_owned(),
            name: ServerName::try_from(name.to_owned()).context("a bad server name")?,
            tls: TlsConnector::from(Arc::new(config)),
            sources: sources.to_vec(),
            calls: AtomicUsize::new(0),
            idle: Mutex::default(),
        })
    }

    /// Makes one exchange, on a kept connection where there is one.
    ///
    /// # Errors
    /// Fails without a whole answer.
    pub(crate) async fn send(&self, call: &Call) -> Result<Reply> {
        loop {
            let kept = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let fresh = kept.is_none();
            let mut sender = match kept {
                Some(sender) => sender,
                None => self.connect().await?,
            };
            if let Err(error) = sender.ready().await {
                if fresh {
                    return Err(error).context("the connection ended");
                }
                continue;
            }
            let request = Request::builder()
                .method(call.method.clone())
                .uri(&call.path)
                .header(HOST, &self.host)
                .header(ACCEPT, "application/json")
                .header(CONTENT_TYPE, call.content)
                .body(Full::new(call.body.clone()))
                .context("a bad request")?;
            let response = match sender.send_request(request).await {
                Ok(response) => response,
                // The server closed a kept connection before the request was written.
                Err(error) if !fresh && error.is_canceled() => continue,
                Err(error) => return Err(error).context("no answer"),
            };
            let status = response.status();
            let warnings = response.headers().get_all(WARNING).into_iter();
            let warnings =
                warnings.map(|text| String::from_utf8_lossy(text.as_bytes()).into_owned());
            let warnings = warnings.collect();
            let body = response.into_body().collect().await.context("half an answer")?.to_bytes();
            if !sender.is_closed() {
                self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(sender);
            }
            return Ok(Reply { status, warnings, body });
        }
    }

    /// Makes one exchange, and returns the JSON of a 2xx answer.
    ///
    /// # Errors
    /// Fails without a 2xx answer.
    pub(crate) async fn expect(&self, call: &Call) -> Result<Value> {
        let Reply { status, body, .. } = self.send(call).await?;
        anyhow::ensure!(
            status.is_success(),
            "{} {}: {status}: {}",
            call.method,
            call.path,
            String::from_utf8_lossy(&body)
        );
        serde_json::from_slice(&body).with_context(|| format!("{} is no JSON", call.path))
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>> {
        let socket = TcpSocket::new_v4().context("no socket")?;
        let turn = self.calls.fetch_add(1, Ordering::Relaxed);
        if let Some(source) = self.sources.get(turn % self.sources.len().max(1)) {
            socket.bind((*source, 0).into()).context("failed to bind")?;
        }
        let stream = socket.connect(self.address).await.context("failed to connect")?;
        stream.set_nodelay(true).context("failed to set an option")?;
        let stream = self.tls.connect(self.name.clone(), stream).await.context("no TLS")?;
        let (sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.context("no HTTP")?;
        // Its errors reach the sender.
        tokio::spawn(async move { _ = connection.await });
        Ok(sender)
    }
}
