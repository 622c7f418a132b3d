//! `kind: AutoscaleDecision`.

use k8s_openapi::jiff::Timestamp;
use pgscale_guard::autoscale::Decision;
use pgscale_guard::postgresql::Postgresql;
use serde::Serialize;

use super::{API_VERSION, Metadata};
use crate::history::to_the_second;

/// What one look decided.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(crate) struct AutoscaleDecision {
    api_version: &'static str,
    kind: &'static str,
    metadata: Metadata,
    /// The time of the look, RFC 3339.
    time: String,
    /// `numberOfInstances` at that time.
    declared: i64,
    /// The count that was wanted, at most one step away.
    wanted: i64,
    /// The average CPU of the replicas, in percent of what they request. Null where not known.
    cpu_percent: Option<u64>,
    /// The reason in one word.
    reason: &'static str,
    /// The reason in a line.
    message: String,
    /// The result of the step. Null where none was taken.
    result: Option<&'static str>,
}

impl AutoscaleDecision {
    /// Returns the document of one decision.
    pub(crate) fn of(
        cluster: &Postgresql,
        decision: &Decision,
        now: Timestamp,
        result: Option<&'static str>,
    ) -> Self {
        Self {
            api_version: API_VERSION,
            kind: "AutoscaleDecision",
            metadata: Metadata::of(cluster),
            time: to_the_second(now),
            declared: decision.declared,
            wanted: decision.wanted,
            cpu_percent: decision.cpu,
            reason: decision.reason.word(),
            message: decision.reason.to_string(),
            result,
        }
    }

    /// Returns the decision as a line for people.
    pub(crate) fn line(&self) -> String {
        let Metadata { namespace, name, .. } = &self.metadata;
        let count = match (self.declared, self.wanted) {
            (declared, wanted) if declared == wanted => format!("stays at {declared}"),
            (declared, wanted) => format!("{declared} -> {wanted}"),
        };
        let load = self.cpu_percent.map_or(String::new(), |cpu| format!(" (CPU {cpu}%)"));
        let result = self.result.map_or(String::new(), |result| format!(" [{result}]"));
        format!(
            "{} {namespace}/{name} {count}: {}: {}{load}{result}",
            self.time, self.reason, self.message
        )
    }
}
