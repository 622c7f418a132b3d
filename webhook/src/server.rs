//! The TLS server: accepts connections, limits them, and stops in an order that loses no review.
//!
//! It has an accept loop of its own. `axum-server` was considered first. It has the handshake
//! timeout, the header timers and the graceful shutdown. It has no cap on connections, no bound on
//! the time that a connection may stay silent before its first request, and no way to tell
//! connections made under an old certificate from those made under the present one. Each of these
//! would be an acceptor around its acceptor.
//!
//! These bound a peer, in order: the number of connections, the TLS handshake, the time to the
//! first request, the time between requests, and in `admit` the size and the time of the body. The
//! time between requests is longer than the 90 s after which the API server closes an idle
//! connection, so that the API server closes it and not the webhook.
//!
//! The API server cannot send a review again on a connection that the webhook closes under it. The
//! review fails, and under `failurePolicy: Fail` the API server refuses a change for no reason. So
//! nothing here closes an idle HTTP/1.1 connection while it can be avoided. From the first sign of
//! stopping, and after a new certificate, answers carry `Connection: close` instead, and the peer
//! opens another connection.

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::header::CONNECTION;
use axum::http::{HeaderValue, Request, Response, Version};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tower::ServiceExt as _;

use crate::certs::Certificates;
use crate::metrics::Metrics;

/// The phase of the server's life. It only moves forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Everything is normal.
    Serving,
    /// It is about to stop. It is not ready, and still accepts connections, because the API server
    /// may find out seconds later.
    Draining,
    /// It accepts no connection. Open ones finish their present request.
    Stopping,
}

/// The bounds of a peer.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// The most open connections. The next one waits in the kernel's queue.
    pub(crate) connections: u32,
    /// The time for the TLS handshake.
    pub(crate) handshake: Duration,
    /// The time from the handshake to the end of the first request's headers.
    pub(crate) first_request: Duration,
    /// The time from an answer to the end of the next request's headers.
    pub(crate) next_request: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1024,
            handshake: Duration::from_secs(5),
            first_request: Duration::from_secs(10),
            next_request: Duration::from_secs(100),
        }
    }
}

/// The pause after a failed `accept`, mostly for lack of file descriptors. Another try at once
/// would only use up a core.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
const STREAMS_PER_CONNECTION: u32 = 100;
const HTTP2_PING: Duration = Duration::from_secs(30);

/// A server that is ready to run.
pub(crate) struct Server {
    /// The socket that accepts connections.
    pub(crate) listener: TcpListener,
    /// The routes that answer requests.
    pub(crate) router: Router,
    /// The serving certificate.
    pub(crate) certificates: Arc<Certificates>,
    /// The bounds of a peer.
    pub(crate) limits: Limits,
    /// The phase of the server's life.
    pub(crate) phase: watch::Receiver<Phase>,
    /// The counters of connections.
    pub(crate) metrics: Arc<Metrics>,
}

/// The values that all connections share.
struct Shared {
    router: Router,
    certificates: Arc<Certificates>,
    limits: Limits,
    phase: watch::Receiver<Phase>,
    metrics: Arc<Metrics>,
    tls: TlsAcceptor,
    http: auto::Builder<TokioExecutor>,
}

impl Server {
    /// Accepts connections until [`Phase::Stopping`], and returns when the last one has ended. The
    /// caller bounds that by a timeout.
    pub(crate) async fn run(self) {
        let Self { listener, router, certificates, limits, mut phase, metrics } = self;
        let tls = TlsAcceptor::from(tls_config(&certificates));
        let http = http(&limits);
        let slots = Arc::new(Semaphore::new(limits.connections as usize));
        let all_slots = limits.connections;
        let shared = Arc::new(Shared {
            router,
            certificates,
            limits,
            phase: phase.clone(),
            metrics,
            tls,
            http,
        });
        loop {
            let accepted = tokio::select! {
                biased;
                _ = phase.wait_for(|phase| *phase >= Phase::Stopping) => break,
                accepted = accept(&listener, &slots) => accepted,
            };
            match accepted {
                Ok((stream, slot)) => {
                    tokio::spawn(connection(Arc::clone(&shared), stream, slot));
                }
                Err(error) => {
                    tracing::warn!(%error, "failed to accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(listener);
        // Every connection holds a slot until it has ended.
        let ended = slots.acquire_many(all_slots).await;
        debug_assert!(ended.is_ok(), "the slots are never closed");
    }
}

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    // Answers are small, and the API server waits for them.
    stream.set_nodelay(true)?;
    Ok((stream, slot))
}

fn tls_config(certificates: &Arc<Certificates>) -> Arc<ServerConfig> {
    let resolver: Arc<dyn rustls::server::ResolvesServerCert> = Arc::clone(certificates) as _;
    let mut config = ServerConfig::builder().with_no_client_auth().with_cert_resolver(resolver);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Arc::new(config)
}

fn http(limits: &Limits) -> auto::Builder<TokioExecutor> {
    let mut http = auto::Builder::new(TokioExecutor::new());
    // hyper starts this timer as soon as it waits for a request: it bounds idle connections too.
    http.http1().timer(TokioTimer::new()).header_read_timeout(limits.next_request);
    http.http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_PER_CONNECTION)
        .keep_alive_interval(HTTP2_PING);
    http
}

async fn connection(shared: Arc<Shared>, stream: TcpStream, slot: OwnedSemaphorePermit) {
    let open = shared.metrics.connection();
    let generation = shared.certificates.generation();
    let handshake = tokio::time::timeout(shared.limits.handshake, shared.tls.accept(stream)).await;
    match handshake {
        Ok(Ok(stream)) => serve(&shared, stream, generation).await,
        Ok(Err(error)) => {
            tracing::debug!(%error, "TLS handshake failed");
            shared.metrics.connection_dropped("handshake failed");
        }
        Err(_) => shared.metrics.connection_dropped("handshake too slow"),
    }
    drop((open, slot));
}

/// Serves one connection until it ends. It was made under the certificate of `generation`.
async fn serve(shared: &Arc<Shared>, stream: TlsStream<TcpStream>, generation: u64) {
    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let requested = Arc::new(AtomicBool::new(false));
    let service = service_fn({
        let (shared, requested) = (Arc::clone(shared), Arc::clone(&requested));
        move |request: Request<Incoming>| {
            requested.store(true, Ordering::Relaxed);
            answer(Arc::clone(&shared), request, generation)
        }
    });
    let mut connection = pin!(shared.http.serve_connection(TokioIo::new(stream), service));
    let mut phase = shared.phase.clone();
    // HTTP/2 says to the peer that no new stream is accepted, and loses none. So it can begin at
    // once.
    let drain_at = if http2 { Phase::Draining } else { Phase::Stopping };
    let mut draining = false;
    let mut silent = pin!(tokio::time::sleep(shared.limits.first_request));
    let mut waited = false;
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(error, "connection ended");
                }
                return;
            }
            _ = phase.wait_for(|phase| *phase >= drain_at), if !draining => {
                draining = true;
                connection.as_mut().graceful_shutdown();
            }
            () = silent.as_mut(), if !waited => {
                waited = true;
                if !requested.load(Ordering::Relaxed) {
                    shared.metrics.connection_dropped("no request");
                    return;
                }
            }
        }
    }
}

async fn answer(
    shared: Arc<Shared>,
    request: Request<Incoming>,
    generation: u64,
) -> Result<Response<Body>, Infallible> {
    let http1 = request.version() < Version::HTTP_2;
    let mut response = shared.router.clone().oneshot(request).await?;
    let draining = *shared.phase.borrow() >= Phase::Draining;
    if http1 && (draining || shared.certificates.generation() != generation) {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use axum::routing::get;
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, ServerName};
    use rustls::{ClientConfig, RootCertStore};
    use tempfile::TempDir;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::task::JoinHandle;
    use tokio_rustls::TlsConnector;
    use tokio_rustls::client::TlsStream as ClientStream;

    use super::*;
    use crate::certs::Files;
    use crate::certs::tests::{issue, load, write};

    const SOON: Duration = Duration::from_secs(5);

    struct Running {
        address: SocketAddr,
        phase: watch::Sender<Phase>,
        certificates: Arc<Certificates>,
        directory: TempDir,
        files: Files,
        issued: (String, String),
        task: JoinHandle<()>,
    }

    async fn running(limits: Limits) -> Running {
        // A second test of the same process finds it installed already.
        rustls::crypto::ring::default_provider().install_default().ok();
        let directory = TempDir::new().unwrap();
        let issued = issue();
        let files = write(directory.path(), &issued);
        let certificates = load(&files);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, phase) = watch::channel(Phase::Serving);
        let server = Server {
            listener,
            router: Router::new().route("/", get(async || "here")),
            certificates: Arc::clone(&certificates),
            limits,
            phase,
            metrics: Arc::new(Metrics::new()),
        };
        let task = tokio::spawn(server.run());
        Running { address, phase: sender, certificates, directory, files, issued, task }
    }

    impl Running {
        async fn connect(&self) -> io::Result<ClientStream<TcpStream>> {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_slice(self.issued.0.as_bytes()).unwrap()).unwrap();
            let config =
                ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
            let stream = TcpStream::connect(self.address).await?;
            let name = ServerName::try_from("localhost").unwrap();
            TlsConnector::from(Arc::new(config)).connect(name, stream).await
        }
    }

    /// Sends one request and reads one answer, whose end is known.
    async fn ask(stream: &mut ClientStream<TcpStream>) -> String {
        stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
        let mut text = String::new();
        while !text.ends_with("here") {
            let mut buffer = [0; 1024];
            let read = tokio::time::timeout(SOON, stream.read(&mut buffer)).await.unwrap().unwrap();
            assert_ne!(read, 0, "closed after {text:?}");
            text.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
        }
        text
    }

    async fn closed(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> bool {
        let mut rest = Vec::new();
        // With or without a TLS close.
        tokio::time::timeout(SOON, stream.read_to_end(&mut rest)).await.is_ok() && rest.is_empty()
    }

    #[tokio::test]
    async fn every_peer_is_answered_until_the_server_stops() {
        let mut server = running(Limits::default()).await;
        let mut early = server.connect().await.unwrap();
        let text = ask(&mut early).await;
        assert!(text.starts_with("HTTP/1.1 200 OK"), "{text}");
        assert!(!text.contains("connection: close"), "{text}");
        let mut idle = server.connect().await.unwrap();
        ask(&mut idle).await;

        server.phase.send_replace(Phase::Draining);
        // A late peer is still served, and is asked to open another connection next time.
        let mut late = server.connect().await.unwrap();
        for stream in [&mut early, &mut late] {
            let text = ask(stream).await;
            assert!(text.contains("connection: close"), "{text}");
            assert!(closed(stream).await);
        }
        assert!(!server.task.is_finished(), "still accepting");

        server.phase.send_replace(Phase::Stopping);
        assert!(closed(&mut idle).await, "an idle connection delays nothing");
        tokio::time::timeout(SOON, &mut server.task).await.unwrap().unwrap();
        assert!(server.connect().await.is_err(), "the socket is closed");
    }

    #[tokio::test]
    async fn new_certificate_serves_new_connections_and_closes_old_ones_after_an_answer() {
        let mut server = running(Limits::default()).await;
        let mut old = server.connect().await.unwrap();
        ask(&mut old).await;
        server.issued = issue();
        write(server.directory.path(), &server.issued);
        assert!(server.certificates.replace(server.files.offer().unwrap()).unwrap());

        let mut new = server.connect().await.expect("trusts the new certificate only");
        assert!(!ask(&mut new).await.contains("connection: close"));
        assert!(ask(&mut old).await.contains("connection: close"));
    }

    #[tokio::test]
    async fn silent_peer_is_dropped() {
        let limits = Limits {
            handshake: Duration::from_millis(50),
            first_request: Duration::from_millis(50),
            ..Limits::default()
        };
        let server = running(limits).await;
        let mut before_tls = TcpStream::connect(server.address).await.unwrap();
        assert!(closed(&mut before_tls).await, "no handshake");
        let mut after_tls = server.connect().await.unwrap();
        after_tls.write_all(b"GET / HT").await.unwrap();
        assert!(closed(&mut after_tls).await, "no whole request");
    }

    #[tokio::test]
    async fn connections_over_the_cap_wait_for_a_slot() {
        let server = running(Limits { connections: 1, ..Limits::default() }).await;
        let mut first = server.connect().await.unwrap();
        ask(&mut first).await;
        let mut second = pin!(server.connect());
        let turn = tokio::time::timeout(Duration::from_millis(100), second.as_mut()).await;
        assert!(turn.is_err(), "the only slot is taken");
        drop(first);
        ask(&mut tokio::time::timeout(SOON, second).await.unwrap().unwrap()).await;
    }
}
