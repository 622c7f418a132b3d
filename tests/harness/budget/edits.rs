//! One edit, and its answer.

use std::time::Duration;

use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::Status;
use serde_json::json;
use tokio::time::Instant;

use super::{cluster, name};

/// The words of a refusal by a webhook that only adds up.
pub const SUM_REFUSAL: &str = "more than the sum allows";

/// The answer to an edit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is stored.
    Admitted,
    /// The budget refuses it.
    Refused,
    /// The budget asks to repeat it: too many did the same at once.
    Repeat,
    /// The webhook asks to repeat it, because it could not be judged in time.
    Unjudged,
    /// No webhook answered: it was killed.
    Lost,
    /// Another writer was faster: a conflict, or the cluster is not there, or there already.
    Raced,
    /// Anything else, which is a fault.
    Other(String),
}

fn read(result: kube::Result<DynamicObject>) -> Answer {
    match result {
        Ok(_) => Answer::Admitted,
        Err(kube::Error::Api(status)) => refused(&status),
        Err(error) => Answer::Other(error.to_string()),
    }
}

fn refused(status: &Status) -> Answer {
    let said = |text: &str| status.message.contains(text);
    if said("failed calling webhook") {
        Answer::Lost
    } else if said("was reserved in it") {
        Answer::Unjudged
    } else if said("could be reserved") {
        Answer::Repeat
    } else if said("namespace-budget") || said(SUM_REFUSAL) {
        Answer::Refused
    } else if matches!(status.code, 404 | 409) {
        Answer::Raced
    } else {
        Answer::Other(status.message.clone())
    }
}

/// Sets the count of a cluster.
pub async fn set(clusters: &Api<DynamicObject>, number: usize, to: i64) -> (Answer, Duration) {
    let patch = Patch::Merge(json!({"spec": {"numberOfInstances": to}}));
    let start = Instant::now();
    let answer = clusters.patch(&name(number), &PatchParams::default(), &patch).await;
    (read(answer), start.elapsed())
}

/// Deletes a cluster. Returns whether it was there.
pub async fn delete(clusters: &Api<DynamicObject>, number: usize) -> bool {
    clusters.delete(&name(number), &DeleteParams::default()).await.is_ok()
}

/// Creates a cluster of one instance.
pub async fn create(clusters: &Api<DynamicObject>, number: usize) -> Answer {
    match serde_json::from_value(cluster(number)) {
        Ok(object) => read(clusters.create(&PostParams::default(), &object).await),
        Err(error) => Answer::Other(error.to_string()),
    }
}
