//! The routes, and what stands before each of them.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderValue, Method, Response, StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::IntoResponse as _;
use axum::routing::{get, patch};

use super::app::{App, Shared, json};
use super::callers::Caller;
use super::changes::{scale, scale_by_name};
use super::fence;
use super::following::{events, operation, operations};
use super::pages;
use super::problem::Problem;
use super::reads::{clusters, clusters_of, history, plan, status, summary};
use crate::page::{HEADERS, PAGE_CACHE};

/// Seconds after which a request that found no place may come again.
const AGAIN: u32 = 1;

/// The description of all routes. A test makes it from the types.
const OPENAPI: &str = include_str!("openapi.json");

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
    let shown = Router::new()
        .route("/", get(pages::fleet))
        .route("/cluster/{namespace}/{name}", get(pages::cluster))
        .route("/cluster/{namespace}/{name}/plan", get(pages::plan))
        .route("/operation/{id}", get(pages::operation))
        .layer(from_fn_with_state(Arc::clone(&app), named))
        .layer(from_fn(pages::drawn));
    // These say nothing about clusters.
    let open = Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/metrics", get(metrics))
        .route("/assets/{file}", get(pages::asset))
        .route("/openapi.json", get(async || json(StatusCode::OK, OPENAPI.as_bytes().to_vec())));
    asked
        .merge(shown)
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
    // Its own shape, or the page that draws it.
    let ours = answer.headers().get(header::CONTENT_TYPE).is_some_and(|kind| {
        let kind = kind.as_bytes();
        kind.starts_with(b"application/problem+json") || kind.starts_with(b"text/html")
    });
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
    for (name, value) in HEADERS {
        headers.insert(*name, HeaderValue::from_static(value));
    }
    // Assets have one of their own.
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static(PAGE_CACHE));
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

async fn metrics(State(app): Shared) -> Response<Body> {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, HeaderValue::from_static(kind))], app.metrics.text()).into_response()
}
