//! What all requests share, and what every handler does first.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, Response, StatusCode, header};
use axum::response::IntoResponse as _;
use k8s_openapi::jiff::Timestamp;
use pgscale_guard::postgresql::Postgresql;
use serde::Serialize;
use tokio::sync::Semaphore;

use super::callers::{Caller, Callers};
use super::metrics::Metrics;
use super::names::Naming;
use super::operations::{Operations, Printed};
use super::problem::Problem;
use super::verbs::quiet;
use crate::session::Session;

/// The most requests that are answered at a time.
const REQUESTS: usize = 64;
/// The most streams of events that are open at a time.
const FOLLOWERS: usize = 32;

/// What all requests share.
pub(crate) struct App {
    /// Opens sessions.
    pub(crate) callers: Arc<dyn Callers>,
    /// The names of the guide's routes.
    pub(crate) naming: Naming,
    /// Further names of this server, beside those of loopback.
    pub(crate) hosts: Vec<String>,
    /// Each request acts in the name of its token's bearer.
    pub(crate) passes_tokens: bool,
    /// The acts that were begun.
    pub(crate) operations: Operations,
    /// The counters.
    pub(crate) metrics: Metrics,
    /// Nothing is begun any more.
    pub(crate) stopping: AtomicBool,
    /// The clock.
    pub(crate) clock: fn() -> Timestamp,
    /// A source of numbers that distinguish operations of one second.
    pub(crate) chance: fn() -> u32,
    /// The places of requests.
    pub(super) requests: Semaphore,
    /// The places of streams of events.
    pub(super) followers: Arc<Semaphore>,
}

impl App {
    /// Returns an application without operations.
    pub(crate) fn new(
        callers: Arc<dyn Callers>,
        naming: Naming,
        clock: fn() -> Timestamp,
        chance: fn() -> u32,
    ) -> Self {
        Self {
            callers,
            naming,
            hosts: Vec::new(),
            passes_tokens: false,
            operations: Operations::default(),
            metrics: Metrics::new(),
            stopping: AtomicBool::new(false),
            clock,
            chance,
            requests: Semaphore::new(REQUESTS),
            followers: Arc::new(Semaphore::new(FOLLOWERS)),
        }
    }
}

/// The application, as handlers get it.
pub(super) type Shared = State<Arc<App>>;
/// The answer of a handler.
pub(super) type Answer = Result<Response<Body>, Problem>;

/// Returns JSON that is there already.
pub(super) fn json(status: StatusCode, text: Vec<u8>) -> Response<Body> {
    let kind = (header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    (status, [kind], text).into_response()
}

/// Returns an object as JSON.
pub(super) fn document(status: StatusCode, object: &impl Serialize) -> Answer {
    let mut text = serde_json::to_vec(object).map_err(|error| {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, format!("failed to write JSON: {error}"))
    })?;
    text.push(b'\n');
    Ok(json(status, text))
}

/// Opens a session of the caller in a namespace. Its result goes to `printed`.
pub(super) async fn session(
    app: &App,
    caller: Caller,
    namespace: &str,
    printed: &Printed,
) -> Result<Session, Problem> {
    let session = app.callers.session(caller, quiet(printed)).await;
    let session = session.map_err(|failure| Problem::of_failure(&failure))?;
    Ok(session.in_namespace(namespace))
}

/// Reads a cluster, which also shows that the caller may.
pub(super) async fn found(session: &Session, name: &str) -> Result<Postgresql, Problem> {
    let cluster = session.cluster(name).await;
    cluster.map_err(|failure| Problem::of_failure(&failure.reached_by(&session.reach)))
}
