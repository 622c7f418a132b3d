//! The review path: `AdmissionReview` in, live reads, the guard's verdict, `AdmissionReview` out.
//!
//! Whatever arrives, the answer is a valid review or an HTTP 4xx, never silence: the API server would take
//! silence for a failed call, and `failurePolicy` would decide instead of the guard. A verdict that cannot be
//! reached (an error of ours, a time limit, an object nobody can read) refuses what could take something
//! away and lets pass, with a warning, what only adds, unless the installation refuses that, too.

use std::any::Any;
use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use futures::{FutureExt as _, StreamExt as _};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::core::Status;
use kube::core::admission::{AdmissionResponse, Operation};
use pgscale_guard::duration::exact;
use pgscale_guard::postgresql::{GROUP, KIND, PLURAL, VERSION};
use pgscale_guard::read::{AskWhom, MemberClient, Operators, ReadScope, Reader, machine_time};
use pgscale_guard::rules::after_switchover;
use pgscale_guard::{Change, evaluate};
use tokio::time::Instant;

use crate::admit::decision::{CANNOT_BE_JUDGED, Decided, Fallback, Judgement};
use crate::admit::request::{Asked, STATEFUL_SETS, Scaled, asks_after_switchover, behind, settled};
use crate::admit::review::{Received, Review, Undecodable};
use crate::configuration::FailurePolicy;
use crate::events::Events;
use crate::metrics::{Metrics, Outcome};

mod advice;
mod budget;
mod decision;
mod object;
mod request;
mod response;
mod review;
mod text;
mod tree;

/// Where reviews are sent.
pub(crate) const PATH: &str = "/validate";
/// Two objects of 3 MB, etcd's limit with the API server's own allowance, and what is around them: the
/// arithmetic of controller-runtime (pkg/webhook/admission/http.go).
const BODY_LIMIT: usize = 7 << 20;
/// A body that is too large is read and thrown away up to here: who is still sending cannot hear an answer.
const DISCARD_LIMIT: usize = 32 << 20;
/// For the whole body.
const BODY_TIME: Duration = Duration::from_secs(5);
/// The API server's own default, where it does not say how long it waits.
const DEFAULT_TIME: Duration = Duration::from_secs(10);

/// Answers reviews.
#[derive(Clone)]
pub(crate) struct Admission {
    /// Reads the objects.
    pub(crate) client: Client,
    /// Asks the members.
    pub(crate) ask: Arc<dyn MemberClient>,
    /// Writes Events.
    pub(crate) events: Events,
    /// Counts.
    pub(crate) metrics: Arc<Metrics>,
    /// The installation's `growFailurePolicy`, for growth and new clusters that cannot be judged.
    pub(crate) growth: FailurePolicy,
}

/// The route of the TLS port.
pub(crate) fn router(admission: Admission) -> Router {
    Router::new().route(PATH, post(validate)).with_state(admission)
}

async fn validate(
    State(admission): State<Admission>,
    RawQuery(query): RawQuery,
    body: Body,
) -> Response {
    let started = Instant::now();
    let malformed = |status: StatusCode, why: String| {
        admission.metrics.answered("unknown", Outcome::malformed, false, started.elapsed());
        tracing::warn!(%status, why, "refused a request that is no review");
        (status, why + "\n").into_response()
    };
    let body = match tokio::time::timeout(BODY_TIME, whole(body)).await {
        Ok(Ok(body)) => body,
        Ok(Err((status, why))) => return malformed(status, why),
        Err(_) => {
            let why = format!("the body did not arrive within {}", exact(BODY_TIME));
            return malformed(StatusCode::REQUEST_TIMEOUT, why);
        }
    };
    match read(&body) {
        Ok((review, asked)) => {
            // Everything that is judged is decoded by now, and the live reads may take seconds.
            drop(body);
            let within = Deadlines::of(query.as_deref(), started);
            let judged = match asked {
                Ok(asked) => {
                    let moved = asks_after_switchover(&review);
                    admission.judge(asked, moved, within).await
                }
                Err(why) => Decided::Unjudged { why, fallback: Fallback::Refuse },
            };
            admission.conclude(&review, &judged, started.elapsed());
            respond(judged.respond(&review))
        }
        Err(Undecodable::Review { uid, why }) => {
            admission.metrics.answered("unknown", Outcome::denied, false, started.elapsed());
            tracing::warn!(uid, why, "refused a review that cannot be read");
            respond(unreadable(uid, why))
        }
        Err(Undecodable::Request(why)) => malformed(StatusCode::BAD_REQUEST, why),
    }
}

/// Reads the review in `body`: its fields, and the question in it or the reason why it cannot be
/// judged.
fn read(body: &[u8]) -> Result<(Review, Result<Asked, String>), Undecodable> {
    let received = Received::of(body)?;
    // Nothing in here is known to panic, and a refusal is better than a broken connection if it
    // does.
    let asked = match catch_unwind(AssertUnwindSafe(|| Asked::of(&received))) {
        Ok(asked) => asked.map_err(|error| error.to_string()),
        Err(panic) => Err(internal(panic.as_ref())),
    };
    Ok((received.review, asked))
}

/// The whole body, if it is not larger than a review may be.
async fn whole(body: Body) -> Result<Vec<u8>, (StatusCode, String)> {
    let mut stream = body.into_data_stream();
    let mut whole = Vec::new();
    let mut seen = 0;
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|error| {
            (StatusCode::BAD_REQUEST, format!("failed to read the body: {error}"))
        })?;
        seen += chunk.len();
        if seen <= BODY_LIMIT {
            whole.extend_from_slice(&chunk);
        } else if seen > DISCARD_LIMIT {
            break;
        } else {
            whole = Vec::new();
        }
    }
    if seen > BODY_LIMIT {
        let limit = BODY_LIMIT >> 20;
        let why = format!("the body is larger than {limit} MiB, the most a review can be");
        return Err((StatusCode::PAYLOAD_TOO_LARGE, why));
    }
    Ok(whole)
}

fn unreadable(uid: String, why: String) -> AdmissionResponse {
    let why = Decided::Unjudged { why, fallback: Fallback::Refuse };
    let mut response = AdmissionResponse::invalid("");
    response.uid = uid;
    response.result = Status::failure(&why.message(), "Forbidden").with_code(403);
    response
}

fn respond(response: AdmissionResponse) -> Response {
    match serde_json::to_vec(&response.into_review()) {
        Ok(body) => ([(header::CONTENT_TYPE, "application/json")], body).into_response(),
        Err(error) => {
            tracing::error!(%error, "failed to encode an answer");
            (StatusCode::INTERNAL_SERVER_ERROR, "failed to encode the answer\n").into_response()
        }
    }
}

/// How long the parts of a review may take, so that we answer before the API server gives up.
#[derive(Clone, Copy, Debug)]
struct Deadlines {
    /// The live reads end.
    reads: Instant,
    /// The verdict is there, or there is none.
    verdict: Instant,
}

impl Deadlines {
    /// The API server says how long it waits in the query: `?timeout=5s`.
    fn of(query: Option<&str>, started: Instant) -> Self {
        let time = query
            .into_iter()
            .flat_map(|query| query.split('&'))
            .find_map(|pair| pair.strip_prefix("timeout="))
            .and_then(|text| crate::duration(text).ok())
            .unwrap_or(DEFAULT_TIME);
        // A fifth of it, for the way there and back and for a machine that has other things to do.
        let margin = (time / 5).clamp(Duration::from_millis(50), Duration::from_secs(1));
        let reads = started + time.saturating_sub(margin);
        Self { reads, verdict: reads + margin / 2 }
    }

    fn time_to_read(self) -> Duration {
        self.reads.saturating_duration_since(Instant::now())
    }
}

impl Admission {
    async fn judge(&self, asked: Asked, moved: bool, deadlines: Deadlines) -> Decided {
        let fallback = self.fallback(&asked);
        let verdict = AssertUnwindSafe(self.verdict(asked, moved, deadlines)).catch_unwind();
        match tokio::time::timeout_at(deadlines.verdict, verdict).await {
            Ok(Ok(judged)) => judged,
            Ok(Err(panic)) => Decided::Unjudged { why: internal(panic.as_ref()), fallback },
            Err(_) => {
                let why = "the cluster's objects and members could not be read in time; ask again";
                Decided::Unjudged { why: why.to_owned(), fallback }
            }
        }
    }

    /// Returns the answer to a write where no verdict is reached, the same as the registration has for a webhook that
    /// does not answer: a StatefulSet is never ours to refuse.
    fn fallback(&self, asked: &Asked) -> Fallback {
        match asked {
            Asked::Nothing(_) | Asked::PastTheOperator(_) => Fallback::Pass,
            Asked::Scale(_) | Asked::Write(_) => self.fallback_of_change(asked.grows()),
        }
    }

    fn fallback_of_change(&self, grows: bool) -> Fallback {
        match self.growth {
            _ if !grows => Fallback::Refuse,
            FailurePolicy::Fail => Fallback::RefuseGrowth,
            FailurePolicy::Ignore => Fallback::Pass,
        }
    }

    /// Judges what is `asked`; with the leader `moved` out of the way where nothing will be stored
    /// and the writer asks for the verdict after a switchover.
    async fn verdict(&self, asked: Asked, moved: bool, deadlines: Deadlines) -> Decided {
        let change = match asked {
            Asked::Nothing(why) => return Decided::Nothing(why),
            Asked::PastTheOperator(scaled) => {
                if self.is_operator(scaled.user.as_deref(), deadlines).await {
                    return Decided::Nothing("an operator scales its own StatefulSet");
                }
                return Decided::Verdict(Box::new(Judgement::past_the_operator(&scaled)));
            }
            Asked::Write(change) => *change,
            Asked::Scale(scaled) => match self.behind(&scaled, deadlines).await {
                Ok(change) => match settled(&change) {
                    Some(why) => return Decided::Nothing(why),
                    None => change,
                },
                Err(judged) => return judged,
            },
        };
        let reader = self.reader(deadlines);
        let asked = change.clone();
        let (facts, mut policies) =
            tokio::join!(reader.facts(change, AskWhom::AsNeeded), reader.policies(&asked));
        if self.growth == FailurePolicy::Fail {
            policies = policies.failing_growth_closed();
        }
        let facts = if moved { after_switchover(&facts, &policies) } else { Cow::Borrowed(&facts) };
        let mut verdict = evaluate(&facts, &policies);
        if !verdict.allows() {
            // Read only now: nearly every change needs none.
            policies.overrides = self.reader(deadlines).overrides(&asked.new).await;
            verdict = evaluate(&facts, &policies);
        }
        let leader = match &facts {
            Cow::Owned(moved) => moved.leader_name().map(str::to_owned),
            Cow::Borrowed(_) => None,
        };
        let result = Judgement::new(&facts, &policies, verdict);
        Decided::Verdict(Box::new(Judgement { assumed_leader: leader, ..result }))
    }

    /// Returns whether `user` is an operator. Where that cannot be told it is not: such a write is warned of at most.
    async fn is_operator(&self, user: Option<&str>, deadlines: Deadlines) -> bool {
        let Some(user) = user else { return false };
        match self.reader(deadlines).operator_accounts().await {
            Ok(accounts) => accounts.iter().any(|account| account.user() == user),
            Err(why) => {
                tracing::warn!(user, why, "cannot tell whether a writer is the operator");
                false
            }
        }
    }

    /// Reads the cluster behind a `Scale` and returns the change, or the outcome of the review
    /// without it.
    async fn behind(&self, scaled: &Scaled, deadlines: Deadlines) -> Result<Change, Decided> {
        let Scaled { namespace, name, from, to, .. } = scaled;
        let grows = to > from;
        let text = self.reader(deadlines).cluster_text(namespace, name).await;
        let text = text.map_err(|error| {
            let why = format!("postgresql {namespace}/{name} could not be read: {error}");
            Decided::Unjudged { why, fallback: self.fallback_of_change(grows) }
        })?;
        behind(scaled, &text).map_err(|error| {
            let fallback = self.fallback_of_change(grows && !error.is_too_large());
            Decided::Unjudged { why: error.to_string(), fallback }
        })
    }

    fn reader(&self, deadlines: Deadlines) -> Reader {
        Reader {
            client: self.client.clone(),
            ask: Arc::clone(&self.ask),
            deadline: deadlines.time_to_read(),
            breadth: ReadScope::Review,
            operators: Operators::Listed,
            clock: machine_time,
        }
    }

    /// Counts, logs and, for a change that was meant, writes the Event.
    fn conclude(&self, review: &Review, judged: &Decided, took: Duration) {
        let outcome = judged.outcome();
        self.metrics.answered(operation(review), outcome, review.dry_run, took);
        for (rule, effect) in judged.effects() {
            self.metrics.found(rule, effect);
        }
        let refusing = judged.refusing();
        let instances = match judged {
            Decided::Verdict(result) => result.span(),
            Decided::Nothing(why) => (*why).to_owned(),
            Decided::Unjudged { .. } => CANNOT_BE_JUDGED.to_owned(),
        };
        tracing::info!(
            uid = review.uid,
            operation = operation(review),
            cluster = format!("{}/{}", review.namespace.as_deref().unwrap_or(""), review.name),
            user = review.user,
            manager = review.field_manager,
            dry_run = review.dry_run,
            instances,
            verdict = ?outcome,
            rules = refusing.join(","),
            milliseconds = took.as_millis(),
            "reviewed"
        );
        // A dry run asks what would be; only what was meant tells when a trial may end, and is worth an Event.
        if review.dry_run {
            return;
        }
        for (rule, mode) in judged.on_trial() {
            let namespace = review.namespace.as_deref().unwrap_or_default();
            self.metrics.would_deny(namespace, rule, mode);
        }
        if judged.is_overridden() {
            self.metrics.overridden();
        }
        let user = review.user.as_deref().unwrap_or("somebody");
        if let (Some(object), Some((happened, rules, note))) =
            (regarding(review), judged.story(user))
        {
            self.events.tell(object, happened, &rules, &note);
        }
    }
}

/// What an Event is about: the cluster, or the StatefulSet that was written past it. One that is being created
/// has no identity yet, and what was sent here by mistake is nothing to put an Event on.
fn regarding(review: &Review) -> Option<ObjectReference> {
    let resource = &review.resource;
    let (api_version, kind) = match (&*resource.group, &*resource.resource) {
        (GROUP, PLURAL) => (format!("{GROUP}/{VERSION}"), KIND),
        _ if is_stateful_set(review) => ("apps/v1".to_owned(), "StatefulSet"),
        _ => return None,
    };
    Some(ObjectReference {
        api_version: Some(api_version),
        kind: Some(kind.to_owned()),
        name: review.object_name.clone().or_else(|| Some(review.name.clone())),
        namespace: review.namespace.clone(),
        uid: review.object_uid.clone(),
        ..ObjectReference::default()
    })
}

fn is_stateful_set(review: &Review) -> bool {
    let resource = &review.resource;
    (&*resource.group, &*resource.version, &*resource.resource) == STATEFUL_SETS
}

fn operation(review: &Review) -> &'static str {
    match (&review.operation, review.sub_resource.as_deref()) {
        (Operation::Update, _) if is_stateful_set(review) => "STATEFULSET",
        (Operation::Update, Some("scale")) => "SCALE",
        (Operation::Update, _) => "UPDATE",
        (Operation::Create, _) => "CREATE",
        (Operation::Delete, _) => "DELETE",
        (Operation::Connect, _) => "CONNECT",
    }
}

fn internal(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("an error of pgscale itself ({}); please report it", text.unwrap_or("no message"))
}

#[cfg(test)]
mod tests;
