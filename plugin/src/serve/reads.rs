//! Requests that only read.

use axum::extract::{Extension, Path, Query, State};
use axum::http::StatusCode;
use pgscale_guard::read::AskWhom;

use super::answers::Summary;
use super::app::{Answer, App, Shared, document, found, json, session};
use super::body;
use super::callers::Caller;
use super::names::Place;
use super::operations::Printed;
use super::problem::Problem;
use super::verbs::{apart, command, run};
use crate::commands::status::{Events, look};
use crate::session::{Session, unreadable};

/// The text of a document, or why there is none.
type Text = Result<Vec<u8>, Problem>;

/// Runs a verb that reads, and returns the document that it prints.
async fn printed(words: Vec<String>, session: Session, printed: Printed) -> Text {
    let ended = run(command(words)?, session).await;
    let text = printed.bytes();
    // A plan that is refused is an answer too.
    match ended {
        Err(failure) if text.is_empty() => Err(Problem::of_failure(&failure)),
        Ok(()) | Err(_) => Ok(text),
    }
}

fn words<const N: usize>(words: [&str; N]) -> Vec<String> {
    words.map(str::to_owned).into()
}

/// Returns the clusters of a namespace, or of all, as a `ScaleStatusList`.
pub(super) async fn list(app: &App, caller: Caller, namespace: Option<&str>) -> Text {
    let kept = Printed::default();
    let session = session(app, caller, namespace.unwrap_or("default"), &kept).await?;
    // One that cannot be read at all has the API server's own status.
    if let Err(error) = session.reader.clusters(namespace, None).await {
        let asked = format!("list postgresql clusters in {}", session.place(namespace.is_none()));
        let failure = unreadable(&error, &asked).reached_by(&session.reach);
        return Err(Problem::of_read(&error, &failure));
    }
    let mut line = words(["status", "-o", "json"]);
    if namespace.is_none() {
        line.push("-A".to_owned());
    }
    printed(line, session, kept).await
}

/// Returns what a verb prints about one cluster that is there.
pub(super) async fn about(app: &App, caller: Caller, place: &Place, verb: &[&str]) -> Text {
    let kept = Printed::default();
    let session = session(app, caller, &place.namespace, &kept).await?;
    found(&session, place).await?;
    let [verb, flags @ ..] = verb else { return Ok(Vec::new()) };
    let line = [*verb, &place.name, "-o", "json"].into_iter().chain(flags.iter().copied());
    printed(line.map(str::to_owned).collect(), session, kept).await
}

/// Reads the count of `?to=5`.
pub(super) fn count_of(query: &[(String, String)]) -> Result<i32, Problem> {
    let to = match query {
        [(name, to)] if name == "to" => to.parse::<i32>().ok().filter(|to| *to >= 0),
        _ => None,
    };
    to.ok_or_else(|| {
        Problem::new(StatusCode::BAD_REQUEST, body::NO_COUNT)
            .hint("name the instances to plan for: ?to=5")
    })
}

pub(super) async fn clusters(State(app): Shared, Extension(caller): Extension<Caller>) -> Answer {
    Ok(json(StatusCode::OK, list(&app, caller, None).await?))
}

pub(super) async fn clusters_of(
    State(app): Shared,
    Extension(caller): Extension<Caller>,
    Path(namespace): Path<String>,
) -> Answer {
    // The name of a cluster is not in question here.
    let place = Place::of(&namespace, "a")?;
    Ok(json(StatusCode::OK, list(&app, caller, Some(&place.namespace)).await?))
}

pub(super) async fn status(
    State(app): Shared,
    Extension(caller): Extension<Caller>,
    Path((namespace, name)): Path<(String, String)>,
) -> Answer {
    let place = Place::of(&namespace, &name)?;
    Ok(json(StatusCode::OK, about(&app, caller, &place, &["status"]).await?))
}

pub(super) async fn history(
    State(app): Shared,
    Extension(caller): Extension<Caller>,
    Path((namespace, name)): Path<(String, String)>,
) -> Answer {
    let place = Place::of(&namespace, &name)?;
    Ok(json(StatusCode::OK, about(&app, caller, &place, &["history"]).await?))
}

pub(super) async fn plan(
    State(app): Shared,
    Extension(caller): Extension<Caller>,
    Path((namespace, name)): Path<(String, String)>,
    Query(query): Query<Vec<(String, String)>>,
) -> Answer {
    let place = Place::of(&namespace, &name)?;
    let count = format!("--to={}", count_of(&query)?);
    Ok(json(StatusCode::OK, about(&app, caller, &place, &["plan", &count]).await?))
}

pub(super) async fn summary(
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
