//! Requests for another count.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::body::Body;
use axum::extract::{Extension, Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use pgscale_guard::Change;
use pgscale_guard::postgresql::Postgresql;
use pgscale_guard::read::AskWhom;

use super::answers::{Scaled, Started};
use super::app::{Answer, App, Shared, document, found, session};
use super::body;
use super::callers::Caller;
use super::names::Place;
use super::operations::{About, Act, Busy, Printed};
use super::problem::Problem;
use super::verbs::{apart, command, run, speaking};
use crate::error::Failure;
use crate::permissions;
use crate::plan::{Outcome, Plan, PlanHash};
use crate::session::Session;

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
                    .after(LATER)
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
    expected: Option<PlanHash>,
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
            return ended(&app, &act, &Err(Failure::usage(message.unwrap_or_default())), b"");
        }
    };
    let result = match app.callers.session(caller, speaking(&act, &kept)).await {
        Ok(session) => run(cli, session.in_namespace(&place.namespace)).await,
        Err(failure) => Err(failure),
    };
    ended(&app, &act, &result, &kept.bytes());
}

fn ended(app: &App, act: &Act, result: &Result<(), Failure>, report: &[u8]) {
    act.end(result, report);
    app.metrics.ended(&act.operation().result);
}
