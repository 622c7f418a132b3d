//! Requests for another count.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::answers::{Scaled, Started};
use super::app::{Answer, App, Shared, document, session};
use super::body;
use super::callers::Caller;
use super::names::Place;
use super::operations::{About, Act, Busy, Printed};
use super::problem::Problem;
use super::verbs::{apart, command, run, speaking};
use crate::cli::Verb;
use crate::commands::set;
use crate::plan::{Outcome, Plan, PlanHash};
use crate::session::Session;
use axum::body::Body;
use axum::extract::{Extension, Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};

/// Seconds after which a request to a server that stops may come again: to the next one.
const AGAIN: u32 = 1;
/// Seconds after which an operation may find a place.
const LATER: u32 = 10;

pub(super) async fn scale_by_name(
    State(app): Shared,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let place = app.naming.place(&name)?;
    change(app, caller, place, name, &headers, body).await
}

pub(super) async fn scale(
    State(app): Shared,
    Extension(caller): Extension<Caller>,
    place: Place,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let shown = place.name.clone();
    change(app, caller, place, shown, &headers, body).await
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
    let Verb::Set(set) = command(ask.words(&place.name))? else {
        return Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "another verb was read"));
    };
    let session = session(&app, caller.clone(), &place.namespace, &Printed::default()).await?;
    let plan = judged(session, &place.name, &set, ask.expect_plan.as_ref()).await?;
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
                    .after(LATER)
            }
        })?;
    app.metrics.begun();
    let link = act.operation().link;
    tokio::spawn(carry_out(app, act, caller, place.namespace, set));
    let mut answer = document(StatusCode::ACCEPTED, &Started::begun(data, link.clone()))?;
    if let Ok(location) = HeaderValue::from_str(&link.href) {
        answer.headers_mut().insert(header::LOCATION, location);
    }
    Ok(answer)
}

/// Judges a change as the verb will, so that a refusal is the answer to the request itself.
async fn judged(
    session: Session,
    name: &str,
    set: &set::Args,
    expected: Option<&PlanHash>,
) -> Result<Plan, Problem> {
    let (name, set) = (name.to_owned(), set.clone());
    let judged = apart(async move || {
        let judged = set::judge(&session, &name, set).await;
        judged.map_err(|failure| failure.reached_by(&session.reach))
    });
    let judged = judged.await.and_then(|judged| judged);
    let (plan, refusal) = judged.map_err(|failure| Problem::of_failure(&failure))?;
    if let Some(expected) = expected {
        plan.is_expected(expected).map_err(|it| Problem::of(StatusCode::CONFLICT, &it))?;
    }
    match refusal {
        None => Ok(plan),
        Some(_) if plan.outcome() == Outcome::Refused => Err(Problem::of_plan(&plan)),
        Some(refusal) => Err(Problem::of(StatusCode::FORBIDDEN, &refusal)),
    }
}

/// Makes the change that was asked for, until its end.
async fn carry_out(
    app: Arc<App>,
    act: Arc<Act>,
    caller: Caller,
    namespace: String,
    set: set::Args,
) {
    let kept = Printed::default();
    let result = match app.callers.session(caller, speaking(&act, &kept)).await {
        Ok(session) => run(Verb::Set(set), session.in_namespace(&namespace)).await,
        Err(failure) => Err(failure),
    };
    act.end(&result, &kept.bytes());
    app.metrics.ended(&act.operation().result);
}
