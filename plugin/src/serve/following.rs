//! Requests about the changes that were begun here.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Extension, Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse as _;
use axum::response::sse::{Event as Sent, KeepAlive, Sse};
use futures::{Stream, StreamExt as _, stream};
use tokio::sync::OwnedSemaphorePermit;

use super::answers::Listed;
use super::app::{Answer, App, Shared, document, found, session};
use super::callers::Caller;
use super::operations::{Act, Event, Operation, Printed};
use super::problem::Problem;

/// The time between two signs of life on a stream of events.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// The clusters of operations that are read at a time.
const AT_ONCE: usize = 8;
/// Seconds after which a stream may find a place.
const AGAIN: u32 = 1;

pub(super) async fn operations(State(app): Shared, Extension(caller): Extension<Caller>) -> Answer {
    let all = app.operations.all();
    if !app.passes_tokens {
        return document(StatusCode::OK, &Listed { items: all });
    }
    // Only what the caller may read, each cluster asked for once.
    let session = session(&app, caller, "default", &Printed::default()).await?;
    let place = |it: &Operation| (it.namespace.clone(), it.name.clone());
    let places: BTreeSet<(String, String)> = all.iter().map(place).collect();
    let seen = stream::iter(places).map(|(namespace, name)| {
        let session = session.in_namespace(&namespace);
        async move { found(&session, &name).await.ok().map(|_| (namespace, name)) }
    });
    let seen: BTreeSet<_> = seen.buffered(AT_ONCE).filter_map(async |it| it).collect().await;
    let items = all.into_iter().filter(|it| seen.contains(&place(it))).collect();
    document(StatusCode::OK, &Listed { items })
}

/// Returns the operation with this id, if the caller may read its cluster. Otherwise it looks like
/// one that is not there.
pub(super) async fn allowed(app: &App, caller: Caller, id: &str) -> Result<Arc<Act>, Problem> {
    let missing = || {
        Problem::new(StatusCode::NOT_FOUND, format!("no operation {id:?} here"))
            .hint("what was done is in the history of the cluster, also after a restart")
    };
    let act = app.operations.get(id).ok_or_else(missing)?;
    if app.passes_tokens {
        let Operation { namespace, name, .. } = act.operation();
        let session = session(app, caller, &namespace, &Printed::default()).await?;
        match found(&session, &name).await {
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

pub(super) async fn operation(
    State(app): Shared,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Answer {
    let act = allowed(&app, caller, &id).await?;
    document(StatusCode::OK, &act.operation())
}

pub(super) async fn events(
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

fn progress(event: &Event) -> Option<Sent> {
    let data = serde_json::to_string(event).ok()?;
    Some(Sent::default().event("progress").id(event.seq.to_string()).data(data))
}

fn end(operation: &Operation) -> Option<Sent> {
    let data = serde_json::to_string(operation).ok()?;
    Some(Sent::default().event("end").data(data))
}
