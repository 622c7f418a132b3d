//! The port: connections, TLS, and what bounds a peer.
//!
//! In order: the number of connections, the TLS handshake, the headers of each request in bytes and
//! in time (which also ends a connection that is idle), the time until an answer begins. `body` bounds
//! bodies. A peer that finds no place waits in the kernel's queue.

use std::convert::Infallible;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt as _;

use super::problem::Problem;
use crate::error::{Failure, chain};
use crate::terminal::Output;

/// The bounds of a peer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// The most connections at a time.
    pub(crate) connections: usize,
    /// The time for the TLS handshake.
    pub(crate) handshake: Duration,
    /// The time for the headers of a request, counted from the opening of the connection or from
    /// the answer before.
    pub(crate) headers: Duration,
    /// The time until an answer begins.
    pub(crate) answer: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 128,
            handshake: Duration::from_secs(5),
            headers: Duration::from_secs(10),
            answer: Duration::from_secs(60),
        }
    }
}

/// The most bytes of a request's line and headers together.
const HEADERS: usize = 32 << 10;
/// The pause after a failed `accept`, mostly for lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// The time after which the files of the certificate are read again: they are replaced before they
/// expire, as in a Secret that is mounted.
const REREAD: Duration = Duration::from_secs(60);

/// The certificate and its key, in files.
pub(crate) struct Tls {
    certificate: PathBuf,
    key: PathBuf,
    read: Mutex<(Instant, Arc<ServerConfig>)>,
    out: Arc<Output>,
}

impl Tls {
    /// Reads both files.
    ///
    /// # Errors
    /// One of both cannot be read, or they do not belong together.
    pub(crate) fn of(
        certificate: PathBuf,
        key: PathBuf,
        out: Arc<Output>,
    ) -> Result<Self, Failure> {
        let config = configured(&certificate, &key).map_err(Failure::usage)?;
        Ok(Self { read: Mutex::new((Instant::now(), config)), certificate, key, out })
    }

    /// Returns the present configuration. Files that cannot be read any more change nothing, and are
    /// complained about.
    fn config(&self) -> Arc<ServerConfig> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if read.0.elapsed() >= REREAD {
            read.0 = Instant::now();
            match configured(&self.certificate, &self.key) {
                Ok(config) => read.1 = config,
                Err(why) => self.out.warning(&format!("{why}; the old certificate stays in use")),
            }
        }
        Arc::clone(&read.1)
    }
}

fn configured(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, String> {
    let chained = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| format!("--tls-cert-file={}: {error}", certificate.display()))?;
    let secret = PrivateKeyDer::from_pem_file(key)
        .map_err(|error| format!("--tls-private-key-file={}: {error}", key.display()))?;
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chained, secret);
    let mut config = config.map_err(|error| {
        format!("{} and {}: {}", certificate.display(), key.display(), chain(&error))
    })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// A port that is ready to be served.
pub(crate) struct Port {
    /// The socket.
    pub(crate) listener: TcpListener,
    /// The routes.
    pub(crate) router: Router,
    /// The certificate. `None` for plain HTTP.
    pub(crate) tls: Option<Arc<Tls>>,
    /// The bounds of a peer.
    pub(crate) limits: Limits,
    /// Becomes `true` when the server stops.
    pub(crate) stopping: watch::Receiver<bool>,
}

impl Port {
    /// Serves connections until the server stops. Those that are open finish their request.
    pub(crate) async fn run(self) {
        let Self { listener, router, tls, limits, mut stopping } = self;
        let places = Arc::new(Semaphore::new(limits.connections));
        loop {
            let accepted = async {
                let place = Arc::clone(&places).acquire_owned().await.ok()?;
                Some((place, listener.accept().await))
            };
            let accepted = tokio::select! {
                _ = stopping.wait_for(|stopping| *stopping) => return,
                accepted = accepted => accepted,
            };
            match accepted {
                Some((place, Ok((stream, _)))) => {
                    let (router, tls, stopping) = (router.clone(), tls.clone(), stopping.clone());
                    tokio::spawn(async move {
                        connection(stream, router, tls, limits, stopping).await;
                        drop(place);
                    });
                }
                Some((_, Err(_))) => sleep(ACCEPT_PAUSE).await,
                None => return,
            }
        }
    }
}

async fn connection(
    stream: TcpStream,
    router: Router,
    tls: Option<Arc<Tls>>,
    limits: Limits,
    stopping: watch::Receiver<bool>,
) {
    // Events are small, and a person waits for them.
    stream.set_nodelay(true).ok();
    let Some(tls) = tls else { return serve(stream, router, limits, stopping).await };
    let handshake = TlsAcceptor::from(tls.config()).accept(stream);
    let accepted: Result<io::Result<_>, _> = timeout(limits.handshake, handshake).await;
    if let Ok(Ok(stream)) = accepted {
        serve(stream, router, limits, stopping).await;
    }
}

async fn serve<S>(stream: S, router: Router, limits: Limits, mut stopping: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(|request: Request<Incoming>| answer(router.clone(), request, limits));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(limits.headers).max_buf_size(HEADERS);
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        // A peer that breaks off is no fault of ours.
        _ = connection.as_mut() => return,
        _ = stopping.wait_for(|stopping| *stopping) => {}
    }
    connection.as_mut().graceful_shutdown();
    connection.await.ok();
}

async fn answer(
    router: Router,
    request: Request<Incoming>,
    limits: Limits,
) -> Result<Response<Body>, Infallible> {
    let answered = timeout(limits.answer, router.oneshot(request.map(Body::new))).await;
    answered.unwrap_or_else(|_| {
        let why = format!("no answer within {} s", limits.answer.as_secs());
        Ok(Problem::new(StatusCode::GATEWAY_TIMEOUT, why).answer())
    })
}
