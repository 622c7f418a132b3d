//! What is kept of a decision: counters, a line of the log, an Event, and the watch over the change.

use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::core::admission::Operation;
use pgscale_guard::postgresql::{GROUP, KIND, PLURAL, VERSION};

use super::Admission;
use super::decision::{CANNOT_BE_JUDGED, Decision};
use super::request::STATEFUL_SETS;
use super::review::Review;
use super::watch::Admitted;

impl Admission {
    /// Counts and logs a decision. Unless the review is a dry run, writes the Event about it, and
    /// watches a change that was admitted.
    pub(super) fn record(&self, review: &Review, decision: &Decision, took: Duration) {
        let outcome = decision.outcome().as_str();
        self.metrics.answered(operation(review), outcome, review.dry_run, took);
        for (rule, effect) in decision.effects() {
            self.metrics.found(rule, effect.as_str());
        }
        let refusing = decision.refusing();
        let instances = match decision {
            Decision::Judged(judged) => judged.span(),
            Decision::NothingToJudge(why) => why.as_str().to_owned(),
            Decision::Unjudged { .. } => CANNOT_BE_JUDGED.to_owned(),
        };
        tracing::info!(
            uid = review.uid,
            operation = operation(review),
            cluster = format!("{}/{}", review.namespace.as_deref().unwrap_or(""), review.name),
            user = review.user,
            manager = review.field_manager,
            dry_run = review.dry_run,
            instances,
            verdict = outcome,
            rules = refusing.join(","),
            milliseconds = took.as_millis(),
            "reviewed"
        );
        // A dry run changes nothing. Only a change that was meant says whether a trial may end, and
        // is worth an Event.
        if review.dry_run {
            return;
        }
        for (rule, mode) in decision.on_trial() {
            let namespace = review.namespace.as_deref().unwrap_or_default();
            self.metrics.would_deny(namespace, rule, mode);
        }
        if decision.is_overridden() {
            self.metrics.overridden();
        }
        let user = review.user.as_deref().unwrap_or("an unknown user");
        if let (Some(object), Decision::Judged(judged)) = (event_object(review), decision)
            && let Some(removal) = judged.removal.clone()
        {
            self.watch.add(Admitted {
                object,
                namespace: judged.namespace.clone(),
                name: judged.name.clone(),
                uid: judged.uid.clone(),
                user: user.to_owned(),
                removal,
            });
        }
        if let (Some(object), Some(reason)) = (event_object(review), decision.event()) {
            self.events.write(object, reason, &decision.rules_of_event(), &decision.note(user));
        }
    }
}

/// Returns the object that an Event is about: the cluster, or the StatefulSet that was scaled past
/// the operator; `None` for an object that was sent here by mistake.
///
/// An object that is being created has no uid yet.
fn event_object(review: &Review) -> Option<ObjectReference> {
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
