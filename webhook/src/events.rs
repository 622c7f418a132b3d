//! An Event for every change that was refused, that passed by an override, that goes past the
//! operator, or that is about to delete the leader: `kubectl describe` then shows it also where
//! Argo CD alone saw the answer.
//!
//! The webhook writes Events beside the answer and within bounds. An answer never waits for its
//! Event, and a storm of refusals costs Events and not memory.

mod pace;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::events::pace::Pace;
use crate::metrics::Metrics;

/// The most Events that are written at the same time. Further ones are dropped and counted.
const AT_ONCE: u32 = 32;
/// The time for which the Event of a refusal also stands for the same refusal of the same cluster: a
/// writer that tries again and again costs one request a minute.
const REPEATED: Duration = Duration::from_secs(60);
/// The most refusals that are remembered for it.
const MOST_REPEATED: usize = 1024;
/// The time for one Event.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The most bytes of a note that the API server accepts (`validateV1EventSeries` and
/// `legacyValidateEvent`, pkg/apis/core/validation/events.go).
const NOTE_LIMIT: usize = 1024;
/// The most bytes of an action that it accepts.
const ACTION_LIMIT: usize = 128;
/// The name of the controller that reports.
const REPORTER: &str = "pgscale.dev/webhook";

/// The reason of an Event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// A change was refused.
    Denied,
    /// A change passed that would have been refused without an override.
    Overridden,
    /// A writer other than the operator scaled a StatefulSet.
    PastTheOperator,
    /// An admitted change is about to delete the leader.
    LeaderCondemned,
}

impl Reason {
    fn as_str(self) -> &'static str {
        match self {
            Self::Denied => "ScaleDenied",
            Self::Overridden => "ScaleOverridden",
            Self::PastTheOperator => "StatefulSetScaled",
            Self::LeaderCondemned => "LeaderCondemned",
        }
    }
}

/// The writer of Events.
#[derive(Clone)]
pub(crate) struct Events {
    recorder: Recorder,
    slots: Arc<Semaphore>,
    written: Arc<Mutex<HashMap<String, Instant>>>,
    pace: Arc<Mutex<Pace>>,
    metrics: Arc<Metrics>,
}

impl Events {
    /// Returns a writer through `client`, which needs the permissions `create` and `patch` for
    /// `events` in `events.k8s.io`.
    pub(crate) fn new(client: Client, metrics: Arc<Metrics>) -> Self {
        let recorder = Recorder::new(client, Reporter::from(REPORTER));
        let slots = Arc::new(Semaphore::new(AT_ONCE as usize));
        Self { recorder, slots, written: Arc::default(), pace: Arc::default(), metrics }
    }

    /// Returns whether an Event about the same refusal was written a moment ago, and remembers this one.
    fn repeats(&self, refusal: &str) -> bool {
        let mut written = locked(&self.written);
        let now = Instant::now();
        let lately = |at: &Instant| now.saturating_duration_since(*at) < REPEATED;
        if written.get(refusal).is_some_and(lately) {
            return true;
        }
        if written.len() >= MOST_REPEATED {
            written.retain(|_, at| lately(at));
        }
        if written.len() < MOST_REPEATED {
            written.insert(refusal.to_owned(), now);
        }
        false
    }

    /// Writes an Event on `object` about a change, because of `about`, with the whole story in
    /// `note`. Returns at once.
    ///
    /// `about` is the action, mostly the rules, because Kubernetes counts Events together when
    /// everything but their note is the same: a refusal by another rule is another Event.
    pub(crate) fn write(
        &self,
        object: ObjectReference,
        reason: Reason,
        about: &[&str],
        note: &str,
    ) {
        let part = |part: &Option<String>| part.clone().unwrap_or_default();
        let refusal = (reason == Reason::Denied).then(|| {
            let ObjectReference { uid, namespace, name, .. } = &object;
            let rules = about.join(",");
            format!("{} {} {} {rules}", part(uid), part(namespace), part(name))
        });
        if refusal.as_ref().is_some_and(|refusal| self.repeats(refusal)) {
            self.metrics.event("repeated");
            return;
        }
        // One that says that the leader is about to be deleted is not held back: a change is watched
        // once, and each leader is named once.
        let namespace = object.namespace.as_deref().unwrap_or_default();
        let urgent = reason == Reason::LeaderCondemned;
        if !urgent && !locked(&self.pace).admits(namespace, Instant::now()) {
            self.metrics.event("dropped");
            return;
        }
        let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() else {
            self.metrics.event("dropped");
            return;
        };
        let event = Event {
            type_: EventType::Warning,
            reason: reason.as_str().to_owned(),
            note: Some(cut(&one_line(note), NOTE_LIMIT).to_owned()),
            action: cut(&about.join(","), ACTION_LIMIT).to_owned(),
            secondary: None,
        };
        let Self { recorder, metrics, written: remembered, .. } = self.clone();
        tokio::spawn(async move {
            let written = tokio::time::timeout(TIMEOUT, recorder.publish(&event, &object)).await;
            if let Some(refusal) = refusal.filter(|_| !matches!(written, Ok(Ok(())))) {
                locked(&remembered).remove(&refusal);
            }
            match written {
                Ok(Ok(())) => metrics.event("written"),
                Ok(Err(error)) => {
                    metrics.event("failed");
                    tracing::warn!(%error, object = ?object.name, "failed to write an Event");
                }
                Err(_) => {
                    metrics.event("failed");
                    tracing::warn!(object = ?object.name, "gave up writing an Event after 5s");
                }
            }
            drop(slot);
        });
    }

    /// Waits at most `timeout` for the Events that are being written.
    pub(crate) async fn flush(&self, timeout: Duration) {
        if tokio::time::timeout(timeout, self.slots.acquire_many(AT_ONCE)).await.is_err() {
            tracing::warn!("stopped before all Events were written");
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the text in one line: `kubectl get events` shows nothing after the first.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Returns the longest beginning of `text` that has at most `limit` bytes.
fn cut(text: &str, limit: usize) -> &str {
    if text.len() <= limit {
        return text;
    }
    let end = (0..=limit).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    text.get(..end).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn note_is_cut_between_characters() {
        assert_eq!(cut("abc", 3), "abc");
        assert_eq!(cut("ab한", 4), "ab");
        assert_eq!(cut("ab한", 5), "ab한");
    }
}
