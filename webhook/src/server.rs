//! The server of both ports: accepts connections, limits them, and stops in an order that loses no
//! review.
//!
//! It has an accept loop of its own. `axum-server` was considered first. It has the handshake
//! timeout, the header timers and the graceful shutdown. It has no cap on connections, no bound on
//! the time that a connection may stay silent before its first request, and no way to tell
//! connections made under an old certificate from those made under the present one. Each of these
//! would be an acceptor around its acceptor. No crate was found that evicts idle connections or
//! bounds the bytes in flight of all connections together: `tower-http` limits one body.
//!
//! These bound a peer, in order: the number of connections ([`table`]), the bytes that no handler
//! has consumed ([`room`]), the TLS handshake, the client certificate where one is asked for
//! ([`clients`]), the time to the first request, its headers, the time of one request, the time
//! between requests, and in `admit` the size and the time of the body. The time between requests is
//! longer than the 90 s after which the API server closes an idle connection, so that the API
//! server closes it and not the webhook.
//!
//! The API server cannot send a review again on a connection that the webhook closes under it. The
//! review fails, and under `failurePolicy: Fail` the API server refuses a change for no reason. So
//! nothing here closes an idle connection while it can be avoided. From the first sign of stopping,
//! and after a new certificate, answers carry `Connection: close` instead, and the peer opens
//! another connection. Before a connection is closed, the server looks once more whether a request
//! has arrived.
//!
//! There is no HTTP/2. The API server speaks HTTP/1.1 to webhooks unless their URL names localhost
//! (apiserver/pkg/util/webhook/client.go), and a peer that offers both gets HTTP/1.1. One
//! connection is then one request in flight, which is what the limits count.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::header::CONNECTION;
use axum::http::{HeaderValue, Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt as _;

use self::clients::Clients;
use self::in_flight::{Answer, Answering, Received};
use self::room::{Counted, Held, Room, RoomLimits};
use self::table::{Activity, Slot, Table};
use self::waiting::Waiting;
use crate::certs::Certificates;
use crate::metrics::Metrics;

pub(crate) mod clients;
mod in_flight;
mod room;
mod table;
#[cfg(test)]
mod tests;
mod waiting;

/// The phase of the server's life. It only moves forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Everything is normal.
    Serving,
    /// It is about to stop. It is not ready, and still accepts connections, because the API server
    /// may find out seconds later.
    Draining,
    /// It accepts no connection that comes from now on. Open ones finish their present request.
    Stopping,
}

/// The bounds of a peer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// The time for the TLS handshake, and for a connection to get a place.
    pub(crate) handshake: Duration,
    /// The time from the handshake to the end of the first request's headers.
    pub(crate) first_request: Duration,
    /// The time from the end of a request's headers to its answer.
    pub(crate) request: Duration,
    /// The time from an answer to the end of the next request's headers.
    pub(crate) next_request: Duration,
    /// The time that a connection has after its eviction, or after the server has stopped to accept
    /// connections, unless a request is in flight.
    pub(crate) last: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(5),
            first_request: Duration::from_secs(10),
            // Longer than the 30 s that the API server waits at most.
            request: Duration::from_secs(35),
            next_request: Duration::from_secs(100),
            last: Duration::from_secs(1),
        }
    }
}

impl Limits {
    /// Returns the time at which a connection ends after its last event, and the reason. `last` is
    /// the end of one that is to close.
    fn end(
        &self,
        activity: Activity,
        opened: Instant,
        last: Option<Instant>,
    ) -> (Instant, &'static str) {
        let (end, why) = match activity {
            Activity::Asked(since) => return (since + self.request, "request too slow"),
            Activity::Opened(_) => (opened + self.first_request, "no request"),
            Activity::Answered(since) => (since + self.next_request, "idle"),
        };
        (last.map_or(end, |last| end.min(last)), why)
    }
}

/// The most bytes that a request's line and headers have together.
const HEADERS: usize = 32 << 10;
/// The pause after a failed `accept`, mostly for lack of file descriptors. Another try at once
/// would only use up a core.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// The time between two looks at what waits.
const TICK: Duration = Duration::from_millis(250);
/// The most evicted connections that are waited for.
const LINGERING: usize = 64;
/// The most connections that are taken from the kernel's queue after the last one was accepted.
const LAST_ACCEPTED: usize = 1024;
/// The most connections of the port for probes and metrics.
const PROBE_CONNECTIONS: usize = 64;
/// The bytes in flight. A review may have 7 MiB, and the oldest one always goes on. The others wait
/// at these, so that both together stay within the memory of an idle webhook once more.
const ROOM: RoomLimits =
    RoomLimits { most: 5 << 20, share: 3 << 20, grace: Duration::from_secs(2) };

/// The limiter of both ports.
#[derive(Debug)]
pub(crate) struct Limiter {
    /// The connections of the TLS port.
    pub(crate) reviews: Arc<Table>,
    /// The connections of the plain port. They have places of their own: probes and reviews never
    /// lock each other out.
    pub(crate) probes: Arc<Table>,
    room: Arc<Room>,
}

impl Limiter {
    /// Returns a limiter of `connections` on the TLS port.
    pub(crate) fn new(connections: usize) -> Arc<Self> {
        Self::with(Table::new(connections), Table::new(PROBE_CONNECTIONS), ROOM)
    }

    fn with(reviews: Arc<Table>, probes: Arc<Table>, room: RoomLimits) -> Arc<Self> {
        Arc::new(Self { reviews, probes, room: Room::new(room) })
    }

    /// Evicts one idle connection of the fuller port, because the process can open no more.
    fn make_room(&self) {
        let mut tables = [&self.reviews, &self.probes];
        tables.sort_by_key(|table| std::cmp::Reverse(table.len()));
        _ = tables.into_iter().any(|table| table.evict_idlest());
    }
}

/// The kind of a port.
#[derive(Clone)]
pub(crate) enum Port {
    /// Reviews over TLS.
    Reviews {
        /// The serving certificate.
        certificates: Arc<Certificates>,
        /// The peers that may connect; without it, all.
        clients: Option<Arc<Clients>>,
    },
    /// Probes and metrics over plain HTTP.
    Probes,
}

/// A server that is ready to run.
pub(crate) struct Server {
    /// The socket that accepts connections.
    pub(crate) listener: TcpListener,
    /// The routes that answer requests.
    pub(crate) router: Router,
    /// The kind of the port.
    pub(crate) port: Port,
    /// The bounds of a peer.
    pub(crate) limits: Limits,
    /// The bounds of all peers together.
    pub(crate) limiter: Arc<Limiter>,
    /// The phase of the server's life.
    pub(crate) phase: watch::Receiver<Phase>,
    /// The counters of connections.
    pub(crate) metrics: Arc<Metrics>,
}

/// The values that all connections share.
struct Shared {
    router: Router,
    limits: Limits,
    limiter: Arc<Limiter>,
    phase: watch::Receiver<Phase>,
    metrics: Arc<Metrics>,
    security: Security,
    http: http1::Builder,
    /// The places of evicted connections that may still ask.
    lingering: Arc<Semaphore>,
    /// A copy of each connection's own. None is left when all have ended.
    open: mpsc::Sender<Infallible>,
}

/// The way in which connections begin.
enum Security {
    Tls(TlsAcceptor, Arc<Certificates>),
    Plain,
}

impl Server {
    /// Accepts connections until [`Phase::Stopping`], and returns when the last one has ended. The
    /// caller bounds that by a timeout.
    pub(crate) async fn run(self) {
        let Self { listener, router, port, limits, limiter, mut phase, metrics } = self;
        let (table, security) = match port {
            Port::Reviews { certificates, clients } => {
                let tls = TlsAcceptor::from(tls_config(&certificates, clients));
                (Arc::clone(&limiter.reviews), Security::Tls(tls, certificates))
            }
            Port::Probes => (Arc::clone(&limiter.probes), Security::Plain),
        };
        let (open, mut ended) = mpsc::channel(1);
        let http = http();
        let lingering = Arc::new(Semaphore::new(LINGERING));
        let stopping = phase.clone();
        let shared = Arc::new(Shared {
            router,
            limits,
            limiter,
            phase: stopping,
            metrics,
            security,
            http,
            lingering,
            open,
        });
        let mut waiting = Waiting::new(Arc::clone(&table), limits.handshake);
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let accepted = tokio::select! {
                biased;
                _ = phase.wait_for(|phase| *phase >= Phase::Stopping) => break,
                () = table.freed.notified(), if !waiting.is_empty() => None,
                _ = ticks.tick() => {
                    shared.limiter.room.look_again();
                    None
                }
                accepted = listener.accept(), if !waiting.is_full() => Some(accepted),
            };
            match accepted {
                None => {}
                Some(Ok((stream, peer))) => shared.admit(&mut waiting, stream, peer),
                Some(Err(error)) => {
                    tracing::warn!(%error, "failed to accept a connection");
                    shared.limiter.make_room();
                    sleep(ACCEPT_PAUSE).await;
                }
            }
            shared.seat(&mut waiting);
        }
        // The kernel has accepted these already. Their requests may be on the way.
        for (stream, peer) in queued(listener) {
            shared.admit(&mut waiting, stream, peer);
        }
        shared.seat(&mut waiting);
        drop((shared, waiting));
        let none: Option<Infallible> = ended.recv().await;
        debug_assert!(none.is_none(), "nothing is ever sent");
    }
}

impl Shared {
    /// Lets a connection wait for a place, or drops it where too many of its address wait.
    fn admit(&self, waiting: &mut Waiting, stream: TcpStream, peer: SocketAddr) {
        // Answers are small, and the API server waits for them.
        let prompt = stream.set_nodelay(true);
        if prompt.is_err() || !waiting.push(stream, peer.ip()) {
            self.metrics.connection_dropped("no place");
        }
    }

    /// Serves the connections that wait and have a place now.
    fn seat(self: &Arc<Self>, waiting: &mut Waiting) {
        let late = waiting.seat(|stream, address, slot| {
            tokio::spawn(connection(Arc::clone(self), stream, address, Arc::new(slot)));
        });
        for _ in 0..late {
            self.metrics.connection_dropped("no place");
        }
    }

    /// Returns the generation of the certificate for new connections.
    fn generation(&self) -> u64 {
        match &self.security {
            Security::Tls(_, certificates) => certificates.generation(),
            Security::Plain => 0,
        }
    }
}

/// Returns the connections in the kernel's queue, and closes the socket.
fn queued(listener: TcpListener) -> Vec<(TcpStream, SocketAddr)> {
    let Ok(listener) = listener.into_std() else { return Vec::new() };
    let accept = || {
        let (stream, peer) = listener.accept()?;
        stream.set_nonblocking(true)?;
        io::Result::Ok((TcpStream::from_std(stream)?, peer))
    };
    std::iter::from_fn(|| accept().ok()).take(LAST_ACCEPTED).collect()
}

fn tls_config(
    certificates: &Arc<Certificates>,
    clients: Option<Arc<Clients>>,
) -> Arc<ServerConfig> {
    let resolver: Arc<dyn rustls::server::ResolvesServerCert> = Arc::clone(certificates) as _;
    let config = ServerConfig::builder();
    let mut config = match clients {
        None => config.with_no_client_auth().with_cert_resolver(resolver),
        Some(clients) => {
            let mut config = config.with_client_cert_verifier(clients).with_cert_resolver(resolver);
            // A resumed session would pass without a look at its certificate.
            config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
            config
        }
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}

fn http() -> http1::Builder {
    let mut http = http1::Builder::new();
    // The timers are those of `serve`. More than 100 headers are refused by default.
    http.header_read_timeout(None).max_buf_size(HEADERS).max_header_size(HEADERS);
    http
}

async fn connection(shared: Arc<Shared>, stream: TcpStream, address: IpAddr, slot: Arc<Slot>) {
    let _open = shared.open.clone();
    let held = Arc::new(shared.limiter.room.connection(address));
    let stream = Counted::new(stream, Arc::clone(&held));
    let generation = shared.generation();
    let Security::Tls(tls, _) = &shared.security else {
        return serve(&shared, stream, slot, held, generation).await;
    };
    let _counted = shared.metrics.connection();
    // Boxed, as the stream: the connection would be as large as both of its parts for as long as it is open.
    let handshake = Box::pin(timeout(shared.limits.handshake, tls.accept(stream)));
    let dropped = tokio::select! {
        handshake = handshake => match handshake {
            Ok(Ok(stream)) => {
                held.release();
                return serve(&shared, Box::new(stream), slot, held, generation).await;
            }
            Ok(Err(error)) => {
                tracing::debug!(%error, "TLS handshake failed");
                "handshake failed"
            }
            Err(_) => "handshake too slow",
        },
        () = slot.evicted.notified() => EVICTED,
        () = held.given_up.notified() => GIVEN_UP,
    };
    shared.metrics.connection_dropped(dropped);
}

const EVICTED: &str = "evicted";
const GIVEN_UP: &str = "unfinished request";

/// Serves one connection until it ends. It was made under the certificate of `generation`.
async fn serve<S>(
    shared: &Arc<Shared>,
    stream: S,
    slot: Arc<Slot>,
    held: Arc<Held>,
    generation: u64,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let limits = shared.limits;
    let closing = Arc::new(AtomicBool::new(false));
    let service = service_fn(|request: Request<Incoming>| {
        let answering = Answering::begin(&slot);
        held.headers_end();
        let request = request.map(|body| Body::new(Received { body, held: Arc::clone(&held) }));
        answer(Arc::clone(shared), request, answering, Arc::clone(&closing), generation)
    });
    let mut connection = pin!(shared.http.serve_connection(TokioIo::new(stream), service));
    let mut phase = shared.phase.clone();
    let opened = Instant::now();
    // The end of a connection that is to close, unless a request is in flight.
    let mut last = None;
    // A peer that asks often asks again before the end, and its answer closes the connection. Only
    // so many may wait for that, because their places are taken.
    let mut lingering = Vec::new();
    let dropped = loop {
        let (end, _) = limits.end(slot.activity(), opened, last);
        // The connection comes first: a request that has arrived is seen before anything ends.
        tokio::select! {
            biased;
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "connection ended");
                }
                return;
            }
            () = slot.evicted.notified() => {
                if matches!(slot.activity(), Activity::Opened(_)) {
                    break EVICTED;
                }
                shared.metrics.connection_dropped(EVICTED);
                closing.store(true, Ordering::Relaxed);
                last = Some(Instant::now() + limits.last);
                lingering.extend(Arc::clone(&shared.lingering).try_acquire_owned());
                if lingering.is_empty() || matches!(slot.activity(), Activity::Asked(_)) {
                    connection.as_mut().graceful_shutdown();
                }
            }
            () = held.given_up.notified() => break GIVEN_UP,
            _ = phase.wait_for(|phase| *phase >= Phase::Stopping), if last.is_none() => {
                last = Some(Instant::now() + limits.last);
                // hyper would close one that has asked nothing. Its first answer closes it.
                if !matches!(slot.activity(), Activity::Opened(_)) {
                    connection.as_mut().graceful_shutdown();
                }
            }
            () = sleep_until(end) => {
                // The connection may have moved on since this timer was set.
                let (end, why) = limits.end(slot.activity(), opened, last);
                if Instant::now() >= end {
                    break why;
                }
            }
        }
    };
    shared.metrics.connection_dropped(dropped);
}

async fn answer(
    shared: Arc<Shared>,
    request: Request<Body>,
    answering: Answering,
    closing: Arc<AtomicBool>,
    generation: u64,
) -> Result<Response<Answer>, Infallible> {
    let mut response = shared.router.clone().oneshot(request).await?;
    let draining = *shared.phase.borrow() >= Phase::Draining;
    let closing = draining || closing.load(Ordering::Relaxed);
    if closing || shared.generation() != generation {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response.map(|body| Answer::new(body, answering)))
}
