//! Requests that only read.

use axum::extract::{Extension, Path, State};
use axum::http::StatusCode;
use pgscale_guard::read::AskWhom;

use super::answers::Summary;
use super::app::{Answer, App, Shared, document, found, json, session};
use super::callers::Caller;
use super::names::{Place, To};
use super::operations::Printed;
use super::problem::Problem;
use super::verbs::{apart, command, run};
use crate::commands::status::{Events, look};

/// The text of a document, or why there is none.
type Text = Result<Vec<u8>, Problem>;

/// Runs a verb that reads, and returns the document that it prints.
async fn printed(app: &App, caller: Caller, namespace: &str, line: &[&str]) -> Text {
    let verb = command(line.iter().copied().chain(["-o", "json"]).map(str::to_owned))?;
    let kept = Printed::default();
    let ended = run(verb, session(app, caller, namespace, &kept).await?).await;
    let text = kept.bytes();
    // A plan that is refused is an answer too.
    match ended {
        Err(failure) if text.is_empty() => Err(Problem::of_failure(&failure)),
        Ok(()) | Err(_) => Ok(text),
    }
}

/// Returns all clusters as a `ScaleStatusList`.
pub(super) async fn list(app: &App, caller: Caller) -> Text {
    printed(app, caller, "default", &["status", "-A"]).await
}

/// Returns what a verb prints about one cluster.
pub(super) async fn about(
    app: &App,
    caller: Caller,
    place: &Place,
    verb: &str,
    flags: &[&str],
) -> Text {
    let line = [&[verb, place.name.as_str()], flags].concat();
    printed(app, caller, &place.namespace, &line).await
}

pub(super) async fn clusters(State(app): Shared, Extension(caller): Extension<Caller>) -> Answer {
    Ok(json(StatusCode::OK, list(&app, caller).await?))
}

pub(super) async fn clusters_of(
    State(app): Shared,
    Extension(caller): Extension<Caller>,
    Path(namespace): Path<String>,
) -> Answer {
    // The name of a cluster is not in question here.
    let Place { namespace, .. } = Place::of(&namespace, "a")?;
    Ok(json(StatusCode::OK, printed(&app, caller, &namespace, &["status"]).await?))
}

pub(super) async fn status(
    State(app): Shared,
    Extension(caller): Extension<Caller>,
    place: Place,
) -> Answer {
    Ok(json(StatusCode::OK, about(&app, caller, &place, "status", &[]).await?))
}

pub(super) async fn history(
    State(app): Shared,
    Extension(caller): Extension<Caller>,
    place: Place,
) -> Answer {
    Ok(json(StatusCode::OK, about(&app, caller, &place, "history", &[]).await?))
}

pub(super) async fn plan(
    State(app): Shared,
    Extension(caller): Extension<Caller>,
    place: Place,
    to: To,
) -> Answer {
    Ok(json(StatusCode::OK, about(&app, caller, &place, "plan", &[&to.flag()]).await?))
}

pub(super) async fn summary(
    State(app): Shared,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Answer {
    let place = app.naming.place(&name)?;
    let session = session(&app, caller, &place.namespace, &Printed::default()).await?;
    let cluster = found(&session, &place.name).await?;
    let looked = apart(async move || {
        let status = look(&session, cluster, AskWhom::All, Events::Left, false).await;
        Summary::of(&status)
    });
    let summary = looked.await.map_err(|failure| Problem::of_failure(&failure))?;
    document(StatusCode::OK, &summary)
}
