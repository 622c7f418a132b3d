//! The review path: `AdmissionReview` in, live reads, the guard's verdict, `AdmissionReview` out.
//!
//! The webhook answers everything that arrives, with a valid review or an HTTP 4xx. To the API
//! server silence is a failed call, and then `failurePolicy` decides instead of the guard.
//! Sometimes no verdict can be reached: an error in pgscale, a time limit, an object that cannot be
//! read. Then the webhook refuses a write that may remove something. It lets pass, with a warning,
//! a write that only adds, unless the installation refuses that, too.

use std::any::Any;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use futures::FutureExt as _;
use kube::Client;
use kube::core::Status;
use kube::core::admission::AdmissionResponse;
use pgscale_guard::read::{
    Age, AskWhom, KnownOperators, MemberClient, Operators, ReadScope, Reader, Shared, machine_time,
};
use pgscale_guard::rules::after_switchover;
use pgscale_guard::{Change, evaluate};
use tokio::time::Instant;

use crate::admit::arriving::Arriving;
pub(crate) use crate::admit::changes::announce;
use crate::admit::deadlines::Deadlines;
use crate::admit::decision::{Decision, Fallback, JudgedChange};
use crate::admit::early::Early;
pub(crate) use crate::admit::ledgers::{FENCE, Ledgers};
pub(crate) use crate::admit::limits::Limits;
use crate::admit::limits::{Busy, Lending, Place};
use crate::admit::request::{
    CountWrite, Exemption, Question, asks_after_switchover, change_of_scale, exemption,
};
use crate::admit::review::{Received, Review, Undecodable};
use crate::admit::spending::Budgeted;
pub(crate) use crate::admit::watch::Watch;
use crate::events::Events;
use crate::metrics::{MALFORMED, Metrics, UNKNOWN};
use crate::registration::{FailurePolicy, PATH};

mod advice;
mod arriving;
mod beginning;
mod budget;
mod changes;
mod deadlines;
mod decision;
mod early;
#[cfg(fuzzing)]
#[path = "../../fuzz/targets/review.rs"]
mod fuzzed;
mod ledgers;
mod limits;
mod object;
mod record;
mod refusal;
mod request;
mod response;
mod review;
mod spending;
#[cfg(test)]
mod testing;
mod text;
mod tree;
mod watch;

/// The dependencies of the review path.
#[derive(Clone)]
pub(crate) struct Admission {
    /// The client that reads the objects.
    pub(crate) client: Client,
    /// The answers that reviews share.
    pub(crate) shared: Shared,
    /// The client that asks the members.
    pub(crate) ask: Arc<dyn MemberClient>,
    /// The writer of Events.
    pub(crate) events: Events,
    /// The counters.
    pub(crate) metrics: Arc<Metrics>,
    /// The budget of all reviews together.
    pub(crate) limits: Limits,
    /// The operators, which reviews share.
    pub(crate) operators: KnownOperators,
    /// The admitted changes that are looked at again.
    pub(crate) watch: Watch,
    /// The ledgers of namespaces with a budget.
    pub(crate) ledgers: Ledgers,
    /// The installation's `growFailurePolicy`, for growth and new clusters that cannot be judged.
    pub(crate) growth: FailurePolicy,
}

/// Returns the route of the TLS port.
pub(crate) fn router(admission: Admission) -> Router {
    Router::new().route(PATH, post(validate)).with_state(admission)
}

async fn validate(
    State(admission): State<Admission>,
    RawQuery(query): RawQuery,
    body: Body,
) -> Response {
    let started = Instant::now();
    let deadlines = Deadlines::of(query.as_deref(), started);
    let place = admission.limits.place(deadlines.start).await;
    // Boxed: a review that waits for its place would be as large as one that is judged.
    Box::pin(admission.answer(Arriving::of(body), place, deadlines, started)).await
}

/// Reads the review in `body`: its fields, the question in it or the reason why it cannot be
/// judged, and the number of JSON values that were decoded.
fn read(body: &[u8]) -> Result<(Review, Result<Question, String>, usize), Undecodable> {
    let received = Received::of(body)?;
    // Nothing in here is known to panic. If it does, a refusal is better than a broken connection.
    let question = match catch_unwind(AssertUnwindSafe(|| Question::of(&received))) {
        Ok(question) => question.map_err(|error| error.to_string()),
        Err(panic) => Err(internal(panic.as_ref())),
    };
    let values = received.budget.used();
    Ok((received.review, question, values))
}

fn unreadable(uid: String, message: &str) -> AdmissionResponse {
    let mut response = AdmissionResponse::invalid("");
    response.uid = uid;
    response.result = Status::failure(message, "Forbidden").with_code(403);
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

impl Admission {
    /// Answers a review that has its place, or has waited for one in vain.
    async fn answer(
        &self,
        mut body: Arriving,
        mut place: Result<Place, Busy>,
        deadlines: Deadlines,
        started: Instant,
    ) -> Response {
        let malformed = |status: StatusCode, why: String| {
            self.metrics.answered(UNKNOWN, MALFORMED, false, started.elapsed());
            tracing::warn!(%status, why, "refused a request that is no review");
            (status, why + "\n").into_response()
        };
        let length = body.length();
        let namespace = if Limits::is_large(length) { body.namespace().await } else { None };
        let held = place.as_mut().ok();
        let room = self.limits.room(held, length, namespace.as_deref(), deadlines.verdict).await;
        let Ok(room) = room else {
            drop(place);
            body.discard(deadlines.verdict).await;
            return malformed(StatusCode::SERVICE_UNAVAILABLE, Busy::WHY.to_owned());
        };
        let body = match body.whole(place.as_ref().ok(), deadlines.verdict).await {
            Some(Ok(body)) => body,
            Some(Err((status, why))) => return malformed(status, why),
            None => {
                let why = "the body did not arrive in time".to_owned();
                return malformed(StatusCode::REQUEST_TIMEOUT, why);
            }
        };
        match read(&body) {
            Ok((review, question, values)) => {
                // Everything that is judged is decoded by now, and the live reads may take seconds.
                drop(body);
                // Without a place nothing but this room bounds how many are in memory.
                let room = place.is_err().then_some(room);
                if let Ok(held) = &mut place {
                    let namespace = review.namespace.as_deref();
                    let weighed = self.limits.weigh(held, values, namespace, deadlines.start).await;
                    place = weighed.and(place);
                }
                let decision = match question {
                    Ok(question) => {
                        let moved = asks_after_switchover(&review);
                        self.decide(question, moved, deadlines, place).await
                    }
                    Err(why) => Decision::Unjudged { why, fallback: Fallback::Refuse },
                };
                drop(room);
                self.record(&review, &decision, started.elapsed());
                respond(decision.respond(&review))
            }
            Err(Undecodable::Review { uid, why }) => {
                tracing::warn!(uid, why, "refused a review that cannot be read");
                let decision = Decision::Unjudged { why, fallback: Fallback::Refuse };
                let outcome = decision.outcome().as_str();
                self.metrics.answered(UNKNOWN, outcome, false, started.elapsed());
                respond(unreadable(uid, &decision.message()))
            }
            Err(Undecodable::Request(why)) => malformed(StatusCode::BAD_REQUEST, why),
        }
    }

    /// Decides about a question, within its deadlines and whatever happens.
    async fn decide(
        &self,
        question: Question,
        moved: bool,
        deadlines: Deadlines,
        place: Result<Place, Busy>,
    ) -> Decision {
        let fallback = self.fallback(&question);
        if let Question::Nothing(why) = question {
            return Decision::NothingToJudge(why);
        }
        let budgeted = Budgeted::default();
        // Boxed: a review that waits for its place would be as large as one that is judged.
        let judged = match place {
            Ok(place) => self.judge(question, moved, deadlines, place, &budgeted).boxed(),
            Err(Busy) => self.without_place(question, fallback, deadlines).boxed(),
        };
        let judged = AssertUnwindSafe(judged).catch_unwind();
        let unjudged = |why: String| Decision::Unjudged { why, fallback: budgeted.or(fallback) };
        match tokio::time::timeout_at(deadlines.verdict, judged).await {
            Ok(Ok(decision)) => decision,
            Ok(Err(panic)) => unjudged(internal(panic.as_ref())),
            Err(_) => {
                let why = "the cluster's objects and members could not be read in time. Try again";
                unjudged(why.to_owned())
            }
        }
    }

    /// Returns the decision about a question that got no place: the webhook is busy.
    ///
    /// What would pass is refused where policies or the operator's limits alone refuse it. An early look
    /// rests on what other reviews have read, so it costs nearly nothing.
    async fn without_place(
        &self,
        question: Question,
        fallback: Fallback,
        deadlines: Deadlines,
    ) -> Decision {
        let budgeted = Budgeted::default();
        let look = async {
            let _turn = self.limits.turn_without_place().await?;
            let change = match question {
                Question::Write(change) => *change,
                Question::Scale(write) => self.change_of_scale(&write, deadlines).await.ok()?,
                Question::Nothing(_) | Question::PastTheOperator(_) => return None,
            };
            let early = Early::of(&self.reader(deadlines), deadlines);
            budgeted.note(&early.policies(&change).await);
            early.refusal(&change).await
        };
        let refused = match fallback {
            Fallback::Pass => tokio::time::timeout_at(deadlines.reads, look).await.ok().flatten(),
            Fallback::Refuse
            | Fallback::RefuseGrowth
            | Fallback::RefuseReturn
            | Fallback::RefuseUnreserved => None,
        };
        let Some(refused) = refused else {
            let why = Busy::WHY.to_owned();
            return Decision::Unjudged { why, fallback: budgeted.or(fallback) };
        };
        self.metrics.refused_early();
        Decision::Judged(Box::new(refused))
    }

    /// Returns the answer to a write where no verdict is reached.
    ///
    /// It is the one that the registration has for a webhook that does not answer, with one exception.
    /// A return from zero is refused: `growFailurePolicy` is about growth that copies a leader, and an
    /// unread fact is never taken as fine where rows are at stake. A write of a StatefulSet always
    /// passes.
    fn fallback(&self, question: &Question) -> Fallback {
        match question {
            Question::Nothing(_) | Question::PastTheOperator(_) => Fallback::Pass,
            Question::Scale(_) | Question::Write(_) => {
                self.fallback_of_change(question.grows(), question.returns_from_zero())
            }
        }
    }

    fn fallback_of_change(&self, grows: bool, from_zero: bool) -> Fallback {
        match self.growth {
            _ if !grows => Fallback::Refuse,
            FailurePolicy::Fail => Fallback::RefuseGrowth,
            FailurePolicy::Ignore if from_zero => Fallback::RefuseReturn,
            FailurePolicy::Ignore => Fallback::Pass,
        }
    }

    /// Judges a question; with the leader `moved` to a kept member where the API server will store
    /// nothing and the writer asks for the verdict after a switchover.
    async fn judge(
        &self,
        question: Question,
        moved: bool,
        deadlines: Deadlines,
        place: Place,
        budgeted: &Budgeted,
    ) -> Decision {
        let change = match question {
            Question::Nothing(why) => return Decision::NothingToJudge(why),
            Question::PastTheOperator(write) => {
                if self.is_operator(write.user.as_deref(), deadlines).await {
                    return Decision::NothingToJudge(Exemption::OperatorWrite);
                }
                return Decision::Judged(Box::new(JudgedChange::past_the_operator(&write)));
            }
            Question::Write(change) => *change,
            Question::Scale(write) => match self.change_of_scale(&write, deadlines).await {
                Ok(change) => match exemption(&change) {
                    Some(why) => return Decision::NothingToJudge(why),
                    None => change,
                },
                Err(decision) => {
                    let namespace = &write.namespace;
                    let policies = self.reader(deadlines).written_policies(namespace).await;
                    budgeted.note(&policies.matching(&BTreeMap::new()));
                    return match decision {
                        Decision::Unjudged { why, fallback } => {
                            Decision::Unjudged { why, fallback: budgeted.or(fallback) }
                        }
                        Decision::NothingToJudge(_) | Decision::Judged(_) => decision,
                    };
                }
            },
        };
        // Held until the end, and lent to another review while this one waits for members.
        let place = Arc::new(place);
        let ask = Lending { inner: Arc::clone(&self.ask), place: Arc::clone(&place) };
        let reader = Reader { ask: Arc::new(ask), ..self.reader(deadlines) };
        // It keeps what it reads until the end, for the reads that follow.
        let early = Early::of(&reader, deadlines);
        if let Some(refused) = early.refusal(&change).await {
            self.metrics.refused_early();
            return Decision::Judged(Box::new(refused));
        }
        let (mut facts, mut policies) = reader.facts_and_policies(change, AskWhom::AsNeeded).await;
        budgeted.note(&policies);
        if self.growth == FailurePolicy::Fail {
            policies = policies.failing_growth_closed();
        }
        let mut leader = None;
        if moved && let Cow::Owned(after) = after_switchover(&facts, &policies) {
            leader = after.leader_name().map(str::to_owned);
            facts = after;
        }
        let spends = spending::spends(&facts, &policies);
        if spends {
            facts.capacity.budget = Some(spending::that_fits(&facts));
        }
        let mut verdict = evaluate(&facts, &policies);
        if !verdict.allows() {
            // Overrides are read only now, because nearly every change needs none.
            policies.overrides = self.reader(deadlines).overrides(&facts.change.new).await;
            verdict = evaluate(&facts, &policies);
        }
        if spends {
            // Asked last: what is refused anyway reserves nothing.
            place.lend();
            let refused = !verdict.allows();
            let spending = self.spend(&facts, &policies, refused, deadlines).await;
            facts.capacity.budget = Some(spending);
            verdict = evaluate(&facts, &policies);
            if !verdict.allows() && !refused {
                policies.overrides = self.reader(deadlines).overrides(&facts.change.new).await;
                verdict = evaluate(&facts, &policies);
            }
        }
        let judged = JudgedChange::new(&facts, &policies, verdict);
        drop(place);
        Decision::Judged(Box::new(JudgedChange { assumed_leader: leader, ..judged }))
    }

    /// Returns whether `user` is an operator; `false` where that cannot be found out, because the
    /// webhook only warns about such a write.
    async fn is_operator(&self, user: Option<&str>, deadlines: Deadlines) -> bool {
        let Some(user) = user else { return false };
        match self.reader(deadlines).operator_accounts().await {
            Ok(accounts) => accounts.iter().any(|account| account.user() == user),
            Err(why) => {
                tracing::warn!(user, why, "could not find out whether the writer is the operator");
                false
            }
        }
    }

    /// Reads the cluster of a `Scale` and returns the change, or the decision without it.
    async fn change_of_scale(
        &self,
        write: &CountWrite,
        deadlines: Deadlines,
    ) -> Result<Change, Decision> {
        let CountWrite { namespace, name, from, to, .. } = write;
        let (grows, from_zero) = (to > from, *from <= 0);
        let text = self.reader(deadlines).cluster_text(namespace, name).await;
        let text = text.map_err(|error| {
            let why = format!("postgresql {namespace}/{name} could not be read: {error}");
            Decision::Unjudged { why, fallback: self.fallback_of_change(grows, from_zero) }
        })?;
        change_of_scale(write, &text).map_err(|error| {
            let fallback = self.fallback_of_change(grows && !error.is_too_large(), from_zero);
            Decision::Unjudged { why: error.to_string(), fallback }
        })
    }

    fn reader(&self, deadlines: Deadlines) -> Reader {
        Reader {
            client: self.client.clone(),
            ask: Arc::clone(&self.ask),
            deadline: deadlines.time_to_read(),
            breadth: ReadScope::Review,
            operators: Operators::Known(self.operators.aged(Age::Since(deadlines.arrived))),
            clock: machine_time,
            sharing: Some(self.shared.aged(Age::Since(deadlines.arrived))),
        }
    }
}

fn internal(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("pgscale itself failed ({}). Please report it", text.unwrap_or("no message"))
}

#[cfg(test)]
mod tests;
