//! The outcome of a change of the count.

use std::time::Duration;

use crate::effect::Effect;
use crate::error::Failure;
use crate::execute::Done;
use crate::history::{Entry, Recording, seconds};
use crate::impact::Impact;
use crate::plan::Plan;
use crate::session::Session;
use crate::watch::Watched;

/// The outcome of a change.
#[derive(Default)]
pub(crate) struct Outcome {
    /// Namespace of the cluster.
    pub(crate) namespace: String,
    /// Its name.
    pub(crate) name: String,
    /// One line for people, where nothing failed.
    pub(crate) said: String,
    /// The word of the report, where nothing failed.
    pub(crate) result: &'static str,
    /// The failure, where it came before there was anything to watch.
    pub(crate) failure: Option<Failure>,
    /// The plan, where there was one.
    pub(crate) plan: Option<Plan>,
    /// The impact of the plan, where it was read.
    pub(crate) impact: Option<Box<Impact>>,
    /// The acts, however it ended.
    pub(crate) done: Done,
    /// The end of the wait, where there was one.
    pub(crate) watched: Option<Watched>,
    /// The figures before and after it, where they were measured.
    pub(crate) effect: Option<Box<Effect>>,
    /// The entry in the history, where it was recorded.
    pub(crate) entry: Option<Entry>,
}

impl Outcome {
    /// Returns the outcome of a plan that came to `result`.
    pub(crate) fn of(plan: Plan, result: &'static str) -> Self {
        Self {
            namespace: plan.namespace.clone(),
            name: plan.name.clone(),
            result,
            plan: Some(plan),
            ..Self::default()
        }
    }

    /// Returns the outcome of a plan that came to nothing.
    pub(crate) fn failed(plan: Plan, failure: Failure) -> Self {
        Self { failure: Some(failure), ..Self::of(plan, "Failed") }
    }

    /// Returns the failure, from before the wait or from its end.
    pub(crate) fn failure(&self) -> Option<&Failure> {
        let watched = self.watched.as_ref().and_then(|watched| watched.failure.as_ref());
        self.failure.as_ref().or(watched)
    }

    /// Returns the report's word for its end.
    pub(crate) fn word(&self) -> &'static str {
        self.failure().map_or(self.result, |failure| failure.kind.word())
    }

    /// Completes the record of a change with its whole duration.
    pub(crate) async fn record(
        &mut self,
        session: &Session,
        mut recording: Recording,
        took: Duration,
    ) {
        let entry = &mut recording.entry;
        self.word().clone_into(&mut entry.result);
        entry.seconds = Some(seconds(took));
        entry.written = self.done.count.written();
        entry.led(&self.done.lead);
        if let Some(failure) = self.failure() {
            entry.failed(&failure.text());
        }
        if let Some(watched) = &self.watched {
            entry.leader_changes = Some(watched.leader_changes);
            entry.worst_lag_bytes = watched.worst_lag;
            entry.leaderless_seconds = Some(seconds(watched.leaderless));
        }
        self.entry = Some(recording.end(session).await);
    }
}
