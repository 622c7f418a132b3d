//! The routes, and what stands before each of them.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Extension, MatchedPath, Path, Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::IntoResponse;
use axum::response::sse::{Event as Sent, KeepAlive, Sse};
use axum::routing::{get, patch};
use futures::{Stream, StreamExt as _, stream};
use k8s_openapi::jiff::Timestamp;
use pgscale_guard::Change;
use pgscale_guard::postgresql::Postgresql;
use pgscale_guard::read::AskWhom;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::answers::{Scaled, Started, Summary};
use super::body;
use super::callers::{Caller, Callers};
use super::fence;
use super::metrics::Metrics;
use super::names::{Naming, Place};
use super::operations::{About, Act, Busy, Operation, Operations, Printed};
use super::problem::Problem;
use super::verbs::{apart, command, quiet, run, speaking};
use crate::commands::status::{Events, look};
use crate::permissions;
use crate::plan::{Outcome, Plan};
use crate::session::{Session, unreadable};

/// The most requests that are answered at a time.
const REQUESTS: usize = 64;
/// The most streams of events that are open at a time.
const FOLLOWERS: usize = 32;
/// The time between two signs of life on a stream of events.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// The clusters of operations that are read at a time.
const AT_ONCE: usize = 8;
/// Seconds after which a request that found no place may come again.
const AGAIN: u32 = 1;

/// The description of all routes. A test makes it from the types.
const OPENAPI: &str = include_str!("openapi.json");

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
    requests: Semaphore,
    followers: Arc<Semaphore>,
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

type Shared = State<Arc<App>>;
type Answer = Result<Response<Body>, Problem>;

/// Every route that is answered in JSON, by its pattern: what [`OPENAPI`] describes.
#[cfg(test)]
pub(crate) const ROUTES: [(&str, &str); 13] = [
    ("get", "/clusters"),
    ("get", "/ha-clusters/{name}"),
    ("patch", "/ha-clusters/{name}/scale"),
    ("get", "/healthz"),
    ("get", "/metrics"),
    ("get", "/namespaces/{namespace}/clusters"),
    ("get", "/namespaces/{namespace}/clusters/{name}"),
    ("get", "/namespaces/{namespace}/clusters/{name}/history"),
    ("get", "/namespaces/{namespace}/clusters/{name}/plan"),
    ("patch", "/namespaces/{namespace}/clusters/{name}/scale"),
    ("get", "/operations"),
    ("get", "/operations/{id}"),
    ("get", "/operations/{id}/events"),
];

/// Returns all routes.
pub(crate) fn router(app: Arc<App>) -> Router {
    let asked = Router::new()
        .route("/clusters", get(clusters))
        .route("/ha-clusters/{name}", get(summary))
        .route("/ha-clusters/{name}/scale", patch(scale_by_name))
        .route("/namespaces/{namespace}/clusters", get(clusters_of))
        .route("/namespaces/{namespace}/clusters/{name}", get(status))
        .route("/namespaces/{namespace}/clusters/{name}/history", get(history))
        .route("/namespaces/{namespace}/clusters/{name}/plan", get(plan))
        .route("/namespaces/{namespace}/clusters/{name}/scale", patch(scale))
        .route("/operations", get(operations))
        .route("/operations/{id}", get(operation))
        .route("/operations/{id}/events", get(events))
        .layer(from_fn_with_state(Arc::clone(&app), named));
    // These say nothing about clusters.
    let open = Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/metrics", get(metrics))
        .route("/openapi.json", get(async || json(StatusCode::OK, OPENAPI.as_bytes().to_vec())));
    asked
        .merge(open)
        .fallback(async || Problem::new(StatusCode::NOT_FOUND, "no such path").hint(SEE))
        .method_not_allowed_fallback(async || {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "the path has no such method").hint(SEE)
        })
        .layer(from_fn_with_state(Arc::clone(&app), fenced))
        .with_state(app)
}

const SEE: &str = "all paths and methods: GET /openapi.json";

/// Bounds and counts requests, refuses those of other origins, and gives every answer its headers.
async fn fenced(State(app): Shared, request: Request, next: Next) -> Response<Body> {
    let method = method(request.method());
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let answer = match (
        app.requests.try_acquire(),
        fence::check(request.method(), request.headers(), &app.hosts, !app.passes_tokens),
    ) {
        (_, Err(problem)) => problem.answer(),
        (Err(_), Ok(())) => {
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too many requests at a time")
                .after(AGAIN)
                .answer()
        }
        (Ok(_place), Ok(())) => next.run(request).await,
    };
    app.metrics.answered(method, route.as_deref().unwrap_or("none"), answer.status().as_u16());
    with_headers(shaped(answer))
}

/// Returns a method as a label. Those that a stranger made up make no series.
fn method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::PATCH => "PATCH",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        _ => "other",
    }
}

/// Gives a failure that the router made the one shape of all failures.
fn shaped(answer: Response<Body>) -> Response<Body> {
    let status = answer.status();
    let failed = status.is_client_error() || status.is_server_error();
    let ours = answer
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/problem+json"));
    if !failed || ours {
        return answer;
    }
    let mut problem = Problem::new(status, "the request cannot be understood").answer();
    if let Some(allow) = answer.headers().get(header::ALLOW) {
        problem.headers_mut().insert(header::ALLOW, allow.clone());
    }
    problem
}

fn with_headers(mut answer: Response<Body>) -> Response<Body> {
    let headers = answer.headers_mut();
    for (name, value) in [
        (header::CACHE_CONTROL, "no-store"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ] {
        // A page has a policy of its own.
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    answer
}

/// Finds out in whose name a request is.
async fn named(State(app): Shared, mut request: Request, next: Next) -> Response<Body> {
    let caller = if app.passes_tokens {
        match Caller::of_token(request.headers()) {
            Ok(caller) => caller,
            Err(problem) => return problem.answer(),
        }
    } else {
        Caller::Own
    };
    request.extensions_mut().insert(caller);
    next.run(request).await
}

fn json(status: StatusCode, text: Vec<u8>) -> Response<Body> {
    let kind = (header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    (status, [kind], text).into_response()
}

fn document(status: StatusCode, object: &impl Serialize) -> Answer {
    let mut text = serde_json::to_vec(object).map_err(|error| {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, format!("failed to write JSON: {error}"))
    })?;
    text.push(b'\n');
    Ok(json(status, text))
}

/// Opens a session of the caller in a namespace. Its result goes to `printed`.
async fn session(
    app: &App,
    caller: Caller,
    namespace: &str,
    printed: &Printed,
) -> Result<Session, Problem> {
    let session = app.callers.session(caller, quiet(printed)).await;
    let session = session.map_err(|failure| Problem::of_failure(&failure))?;
    Ok(session.in_namespace(namespace))
}

/// Reads the cluster at `place`, which also shows that the caller may.
async fn found(session: &Session, place: &Place) -> Result<Postgresql, Problem> {
    session.reader.cluster(&place.namespace, &place.name).await.map_err(|error| {
        let failure = if error.is_not_found() {
            session.missing(&place.name)
        } else {
            let asked = format!("read postgresql {}/{}", place.namespace, place.name);
            unreadable(&error, &asked)
        };
        Problem::of_read(&error, &failure.reached_by(&session.reach))
    })
}

/// Runs a verb that reads, and answers with the document that it prints.
async fn printed(words: Vec<String>, session: Session, printed: Printed) -> Answer {
    let ended = run(command(words)?, session).await;
    let text = printed.bytes();
    // A plan that is refused is an answer too.
    match ended {
        Err(failure) if text.is_empty() => Err(Problem::of_failure(&failure)),
        Ok(()) | Err(_) => Ok(json(StatusCode::OK, text)),
    }
}

fn words<const N: usize>(words: [&str; N]) -> Vec<String> {
    words.map(str::to_owned).into()
}

async fn clusters(State(app): Shared, Extension(caller): Extension<Caller>) -> Answer {
    let kept = Printed::default();
    let session = session(&app, caller, "default", &kept).await?;
    listed(session, kept, &["-A"]).await
}

async fn clusters_of(
    State(app): Shared,
    Extension(caller): Extension<Caller>,
    Path(namespace): Path<String>,
) -> Answer {
    // The name of a cluster is not in question here.
    let place = Place::of(&namespace, "a")?;
    let kept = Printed::default();
    let session = session(&app, caller, &place.namespace, &kept).await?;
    listed(session, kept, &[]).await
}

async fn listed(session: Session, kept: Printed, flags: &[&str]) -> Answer {
    let everywhere = !flags.is_empty();
    let namespace = (!everywhere).then_some(session.namespace.as_str());
    // One that cannot be read at all has the API server's own status.
    if let Err(error) = session.reader.clusters(namespace, None).await {
        let asked = format!("list postgresql clusters in {}", session.place(everywhere));
        let failure = unreadable(&error, &asked).reached_by(&session.reach);
        return Err(Problem::of_read(&error, &failure));
    }
    let line = words(["status", "-o", "json"]).into_iter();
    printed(line.chain(flags.iter().map(|flag| (*flag).to_owned())).collect(), session, kept).await
}

async fn status(
    State(app): Shared,
    Extension(caller): Extension<Caller>,
    Path((namespace, name)): Path<(String, String)>,
) -> Answer {
    let place = Place::of(&namespace, &name)?;
    let kept = Printed::default();
    let session = session(&app, caller, &place.namespace, &kept).await?;
    found(&session, &place).await?;
    printed(words(["status", &place.name, "-o", "json"]), session, kept).await
}

async fn history(
    State(app): Shared,
    Extension(caller): Extension<Caller>,
    Path((namespace, name)): Path<(String, String)>,
) -> Answer {
    let place = Place::of(&namespace, &name)?;
    let kept = Printed::default();
    let session = session(&app, caller, &place.namespace, &kept).await?;
    found(&session, &place).await?;
    printed(words(["history", &place.name, "-o", "json"]), session, kept).await
}

async fn plan(
    State(app): Shared,
    Extension(caller): Extension<Caller>,
    Path((namespace, name)): Path<(String, String)>,
    Query(query): Query<Vec<(String, String)>>,
) -> Answer {
    let place = Place::of(&namespace, &name)?;
    let to = match query.as_slice() {
        [(name, to)] if name == "to" => to.parse::<i32>().ok().filter(|to| *to >= 0),
        _ => None,
    };
    let Some(count) = to else {
        return Err(Problem::new(StatusCode::BAD_REQUEST, body::NO_COUNT)
            .hint("name the instances to plan for: ?to=5"));
    };
    let kept = Printed::default();
    let session = session(&app, caller, &place.namespace, &kept).await?;
    found(&session, &place).await?;
    let line = words(["plan", &place.name, &format!("--to={count}"), "-o", "json"]);
    printed(line, session, kept).await
}

async fn summary(
    State(app): Shared,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Answer {
    let place = app.naming.place(&name)?;
    let session = session(&app, caller, &place.namespace, &Printed::default()).await?;
    let cluster = found(&session, &place).await?;
    let looked = apart(async move || {
        let status = look(&session, cluster, AskWhom::All, Events::Left, false).await;
        Summary::of(&status)
    });
    let summary = looked.await.map_err(|failure| Problem::of_failure(&failure))?;
    document(StatusCode::OK, &summary)
}

async fn scale_by_name(
    State(app): Shared,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let place = app.naming.place(&name)?;
    change(app, caller, place, name, &headers, body).await
}

async fn scale(
    State(app): Shared,
    Extension(caller): Extension<Caller>,
    Path((namespace, name)): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let place = Place::of(&namespace, &name)?;
    change(app, caller, place, name, &headers, body).await
}

/// Judges a change, and begins it where it can be made. `shown` is the name by which the caller
/// knows the cluster.
async fn change(
    app: Arc<App>,
    caller: Caller,
    place: Place,
    shown: String,
    headers: &HeaderMap,
    body: Body,
) -> Answer {
    let ask = body::ask(&body::read(headers, body).await?, &place)?;
    let unnamed = session(&app, caller.clone(), &place.namespace, &Printed::default()).await?;
    let cluster = found(&unnamed, &place).await?;
    let judged = apart({
        let (replicas, expected) = (ask.replicas, ask.expect_plan.clone());
        async move || judge(&unnamed, cluster, replicas, expected).await
    });
    let plan = judged.await.map_err(|failure| Problem::of_failure(&failure))??;
    let data = Scaled { name: shown, namespace: place.namespace.clone(), replicas: plan.count };
    if plan.outcome() == Outcome::Nothing && plan.running == Some(plan.to) {
        return document(StatusCode::OK, &Started::nothing(data));
    }
    if app.stopping.load(Ordering::Acquire) {
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the server is about to stop")
            .after(AGAIN));
    }
    let about =
        About { namespace: &place.namespace, name: &place.name, from: plan.from, to: plan.to };
    let act =
        app.operations.begin(&about, app.clock, (app.chance)()).map_err(|busy| match busy {
            Busy::With(link) => Problem::new(
                StatusCode::CONFLICT,
                format!("another operation works on postgresql {}/{}", place.namespace, place.name),
            )
            .because_of(link),
            Busy::Full => {
                Problem::new(StatusCode::TOO_MANY_REQUESTS, "too many operations at a time")
                    .after(10)
            }
        })?;
    app.metrics.begun();
    let link = act.operation().link;
    tokio::spawn(carry_out(app, act, caller, place, ask));
    let mut answer = document(StatusCode::ACCEPTED, &Started::begun(data, link.clone()))?;
    if let Ok(location) = HeaderValue::from_str(&link.href) {
        answer.headers_mut().insert(header::LOCATION, location);
    }
    Ok(answer)
}

/// Judges a change as the verb will, so that a refusal is the answer to the request itself.
async fn judge(
    session: &Session,
    cluster: Postgresql,
    replicas: i64,
    expected: Option<crate::plan::PlanHash>,
) -> Result<Plan, Problem> {
    let change = Change::of_count(cluster, replicas);
    let (facts, policies) = session.facts(change, AskWhom::All).await;
    let plan = Plan::of(&facts, &policies).reached_by(&session.reach);
    if let Some(expected) = expected {
        plan.is_expected(&expected).map_err(|it| Problem::of(StatusCode::CONFLICT, &it))?;
    }
    match plan.outcome() {
        Outcome::Refused => Err(Problem::of_plan(&plan)),
        Outcome::Nothing => Ok(plan),
        Outcome::Ready => {
            let moves = plan.leader_move.is_some();
            permissions::check(session, permissions::SCALE, &facts, moves)
                .await
                .map_err(|failure| Problem::of(StatusCode::FORBIDDEN, &failure))?;
            Ok(plan)
        }
    }
}

/// Makes the change that was asked for, until its end.
async fn carry_out(app: Arc<App>, act: Arc<Act>, caller: Caller, place: Place, ask: body::Ask) {
    let kept = Printed::default();
    let cli = match command(ask.words(&place.name)) {
        Ok(cli) => cli,
        Err(problem) => {
            let (message, _) = problem.said();
            return ended(
                &app,
                &act,
                &Err(crate::error::Failure::usage(message.unwrap_or_default())),
                b"",
            );
        }
    };
    let result = match app.callers.session(caller, speaking(&act, &kept)).await {
        Ok(session) => run(cli, session.in_namespace(&place.namespace)).await,
        Err(failure) => Err(failure),
    };
    ended(&app, &act, &result, &kept.bytes());
}

fn ended(app: &App, act: &Act, result: &Result<(), crate::error::Failure>, report: &[u8]) {
    act.end(result, report);
    app.metrics.ended(&act.operation().result);
}

async fn operations(State(app): Shared, Extension(caller): Extension<Caller>) -> Answer {
    let all = app.operations.all();
    if !app.passes_tokens {
        return document(StatusCode::OK, &super::answers::Listed { items: all });
    }
    // Only what the caller may read.
    let session = session(&app, caller, "default", &Printed::default()).await?;
    let seen = stream::iter(all).map(|operation| {
        let session = session.clone();
        async move {
            let place = place_of(&operation);
            found(&session.in_namespace(&place.namespace), &place).await.ok().map(|_| operation)
        }
    });
    let items = seen.buffered(AT_ONCE).filter_map(async |it| it).collect().await;
    document(StatusCode::OK, &super::answers::Listed { items })
}

fn place_of(operation: &Operation) -> Place {
    Place { namespace: operation.namespace.clone(), name: operation.name.clone() }
}

/// Returns the operation with this id, if the caller may read its cluster. Otherwise it looks like
/// one that is not there.
async fn allowed(app: &App, caller: Caller, id: &str) -> Result<Arc<Act>, Problem> {
    let missing = || {
        Problem::new(StatusCode::NOT_FOUND, format!("no operation {id:?} here"))
            .hint("what was done is in the history of the cluster, also after a restart")
    };
    let act = app.operations.get(id).ok_or_else(missing)?;
    if app.passes_tokens {
        let place = place_of(&act.operation());
        let session = session(app, caller, &place.namespace, &Printed::default()).await?;
        match found(&session, &place).await {
            Ok(_) => {}
            Err(problem) if problem.status() == StatusCode::UNAUTHORIZED.as_u16() => {
                return Err(problem);
            }
            // A cluster that is deleted by now cannot be asked about.
            Err(_) => return Err(missing()),
        }
    }
    Ok(act)
}

async fn operation(
    State(app): Shared,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Answer {
    let act = allowed(&app, caller, &id).await?;
    document(StatusCode::OK, &act.operation())
}

async fn events(
    State(app): Shared,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Answer {
    let act = allowed(&app, caller, &id).await?;
    let place = Arc::clone(&app.followers).try_acquire_owned().map_err(|_| {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too many streams of events are open")
            .hint(format!("ask GET /operations/{id} now and then"))
            .after(AGAIN)
    })?;
    let last = headers.get("last-event-id").and_then(|it| it.to_str().ok()?.parse().ok());
    let events = followed(act, last.unwrap_or(0), place);
    let alive = KeepAlive::new().interval(HEARTBEAT);
    Ok(Sse::new(events).keep_alive(alive).into_response())
}

/// Returns the events after the one with this number as they come, and the end as the last one.
fn followed(
    act: Arc<Act>,
    after: u64,
    place: OwnedSemaphorePermit,
) -> impl Stream<Item = Result<Sent, Infallible>> {
    let changes = act.changes();
    let state = (act, changes, after, false, place);
    stream::unfold(state, async |(act, mut changes, after, over, place)| {
        if over {
            return None;
        }
        let (events, ended) = loop {
            changes.mark_unchanged();
            let (events, ended) = act.since(after);
            if ended || !events.is_empty() {
                break (events, ended);
            }
            changes.changed().await.ok()?;
        };
        let after = events.last().map_or(after, |event| event.seq);
        let mut sent: Vec<Sent> = events.iter().filter_map(progress).collect();
        if ended {
            sent.extend(end(&act.operation()));
        }
        let sent = stream::iter(sent.into_iter().map(Ok));
        Some((sent, (act, changes, after, ended, place)))
    })
    .flatten()
}

fn progress(event: &super::operations::Event) -> Option<Sent> {
    let data = serde_json::to_string(event).ok()?;
    Some(Sent::default().event("progress").id(event.seq.to_string()).data(data))
}

fn end(operation: &Operation) -> Option<Sent> {
    let data = serde_json::to_string(operation).ok()?;
    Some(Sent::default().event("end").data(data))
}

async fn metrics(State(app): Shared) -> Response<Body> {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, HeaderValue::from_static(kind))], app.metrics.text()).into_response()
}
