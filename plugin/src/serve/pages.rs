//! The pages for a browser: the same reads, drawn.

use axum::body::Body;
use axum::extract::{Extension, Path, Request, State};
use axum::http::{HeaderValue, Response, StatusCode, header};
use axum::middleware::Next;
use axum::response::IntoResponse as _;
use maud::Markup;
use serde::de::DeserializeOwned;

use super::app::{Answer, Shared};
use super::callers::Caller;
use super::following::allowed;
use super::names::{Place, To};
use super::operations::{Act, RUNNING};
use super::problem::Problem;
use super::reads::{about, list};
use crate::page;

fn html(status: StatusCode, page: Markup) -> Response<Body> {
    let kind = HeaderValue::from_static("text/html; charset=utf-8");
    (status, [(header::CONTENT_TYPE, kind)], page.into_string()).into_response()
}

/// Reads the document that a verb printed.
fn read<T: DeserializeOwned>(text: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(text).map_err(|error| {
        let why = format!("the document cannot be drawn: {error}");
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, why)
    })
}

pub(super) async fn fleet(State(app): Shared, Extension(caller): Extension<Caller>) -> Answer {
    let fleet = read(&list(&app, caller).await?)?;
    Ok(html(StatusCode::OK, page::fleet(&fleet)))
}

pub(super) async fn cluster(
    State(app): Shared,
    Extension(caller): Extension<Caller>,
    place: Place,
) -> Answer {
    let status = read(&about(&app, caller, &place, "status", &[]).await?)?;
    Ok(html(StatusCode::OK, page::cluster(&status)))
}

pub(super) async fn plan(
    State(app): Shared,
    Extension(caller): Extension<Caller>,
    place: Place,
    to: To,
) -> Answer {
    let plan = read(&about(&app, caller, &place, "plan", &[&to.flag()]).await?)?;
    Ok(html(StatusCode::OK, page::plan(&plan)))
}

pub(super) async fn operation(
    State(app): Shared,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Answer {
    let act = allowed(&app, caller, &id).await?;
    Ok(html(StatusCode::OK, page::operation(&drawable(&act))))
}

fn drawable(act: &Act) -> page::Operation {
    let operation = act.operation();
    let lines = act.since(0).0.into_iter();
    page::Operation {
        title: format!("Run {} instead of {}", operation.to, operation.from),
        id: operation.link.id,
        metadata: page::Metadata { namespace: operation.namespace, name: operation.name },
        lines: lines.map(|it| page::Line { seq: it.seq, at: it.at, text: it.text }).collect(),
        result: Some(operation.result).filter(|result| result != RUNNING),
        message: operation.message,
        hints: operation.hints,
    }
}

/// Draws a failure of a page. Answers of the API stay as they are.
pub(super) async fn drawn(request: Request, next: Next) -> Response<Body> {
    let answer = next.run(request).await;
    match answer.extensions().get::<Problem>() {
        Some(problem) => {
            let page = page::failure(
                problem.status(),
                problem.title(),
                problem.message(),
                problem.hints(),
            );
            html(answer.status(), page)
        }
        None => answer,
    }
}

pub(super) async fn asset(Path(file): Path<String>) -> Answer {
    let path = format!("/assets/{file}");
    let asset = page::asset(&path)
        .ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, format!("no asset {file:?}")))?;
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(asset.content_type)),
        (header::CACHE_CONTROL, HeaderValue::from_static(asset.cache)),
    ];
    Ok((headers, asset.body).into_response())
}
