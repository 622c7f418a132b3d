//! An Event for every change that was refused, that passed by an override, or that goes past the operator, so
//! that `kubectl describe` shows what Argo CD was told and nobody read.
//!
//! Written off the answer's path and bounded: an answer never waits for its Event, and a storm of refusals
//! costs Events, not memory.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use tokio::sync::Semaphore;

use crate::metrics::Metrics;

/// Events being written at one moment; more are dropped and counted.
const AT_ONCE: u32 = 32;
/// How long one may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// What the API server accepts, in bytes (`validateV1EventSeries` and `legacyValidateEvent`,
/// pkg/apis/core/validation/events.go).
const NOTE_LIMIT: usize = 1024;
/// The same of an action.
const ACTION_LIMIT: usize = 128;
/// Who reports.
const REPORTER: &str = "pgscale.dev/webhook";

/// What an Event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Happened {
    /// A change was refused.
    Denied,
    /// A change passed that would have been refused but for an override.
    Overridden,
    /// Somebody scaled a StatefulSet itself.
    PastTheOperator,
}

impl Happened {
    fn reason(self) -> &'static str {
        match self {
            Self::Denied => "ScaleDenied",
            Self::Overridden => "ScaleOverridden",
            Self::PastTheOperator => "StatefulSetScaled",
        }
    }
}

/// Writes Events.
#[derive(Clone)]
pub(crate) struct Events {
    recorder: Recorder,
    slots: Arc<Semaphore>,
    metrics: Arc<Metrics>,
}

impl Events {
    /// Writes with `client`, which needs `create` and `patch` of `events` in `events.k8s.io`.
    pub(crate) fn new(client: Client, metrics: Arc<Metrics>) -> Self {
        let recorder = Recorder::new(client, Reporter::from(REPORTER));
        Self { recorder, slots: Arc::new(Semaphore::new(AT_ONCE as usize)), metrics }
    }

    /// Says on `object` what `happened` because of `rules`, as `note` tells in full; returns at once.
    ///
    /// The rules are part of the action, because Events are counted together by everything but their note:
    /// a refusal for another reason is another Event.
    pub(crate) fn tell(
        &self,
        object: ObjectReference,
        happened: Happened,
        rules: &[&str],
        note: &str,
    ) {
        let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() else {
            self.metrics.event("dropped");
            return;
        };
        let event = Event {
            type_: EventType::Warning,
            reason: happened.reason().to_owned(),
            note: Some(cut(&one_line(note), NOTE_LIMIT).to_owned()),
            action: cut(&rules.join(","), ACTION_LIMIT).to_owned(),
            secondary: None,
        };
        let Self { recorder, metrics, .. } = self.clone();
        tokio::spawn(async move {
            let written = tokio::time::timeout(PATIENCE, recorder.publish(&event, &object)).await;
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

    /// Waits for those under way, at most for `patience`.
    pub(crate) async fn flush(&self, patience: Duration) {
        if tokio::time::timeout(patience, self.slots.acquire_many(AT_ONCE)).await.is_err() {
            tracing::warn!("left with Events unwritten");
        }
    }
}

/// `kubectl get events` shows nothing after the first line.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The longest beginning of `text` that has at most `limit` bytes.
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
    fn a_note_is_cut_between_characters() {
        assert_eq!(cut("abc", 3), "abc");
        assert_eq!(cut("ab한", 4), "ab");
        assert_eq!(cut("ab한", 5), "ab한");
    }
}
