//! The document of `top`.

use serde::Serialize;

use super::{API_VERSION, Metadata};
use crate::top::Row;

/// `kind: ClusterUsageList`: what the members of clusters use.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(crate) struct ClusterUsageList<'a> {
    #[cfg_attr(test, schemars(extend("const" = API_VERSION)))]
    api_version: &'static str,
    #[cfg_attr(test, schemars(extend("const" = "ClusterUsageList")))]
    kind: &'static str,
    items: Vec<ClusterUsage>,
    /// The values that are not known, each with the reason.
    unread: &'a [String],
}

/// What the members of one cluster use together.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
struct ClusterUsage {
    metadata: Metadata,
    /// `NoLeader`, `Unknown`, `CountDiffers`, `Rebuilding`, `NotConverged` or `Converged`.
    state: &'static str,
    instances: i64,
    /// `null` where the pods could not be listed. By the members' reports.
    healthy_members: Option<usize>,
    members: usize,
    /// The members whose CPU and memory are known, and part of the sums.
    measured_members: usize,
    /// `null` where those of no member are known.
    cpu_millicores: Option<u64>,
    memory_bytes: Option<u64>,
    /// Bytes that the replica lacks that is furthest behind, by the members' reports.
    worst_lag_bytes: Option<u64>,
    /// `null` where those of one member are not known.
    rows_returned_per_second: Option<f64>,
}

impl<'a> ClusterUsageList<'a> {
    /// Returns the document of these clusters.
    pub(crate) fn of(rows: &[Row], unread: &'a [String]) -> Self {
        let items = rows.iter().map(item).collect();
        Self { api_version: API_VERSION, kind: "ClusterUsageList", items, unread }
    }
}

fn item(row: &Row) -> ClusterUsage {
    let facts = &row.status.snapshot.facts;
    let (healthy, instances) = row.status.healthy();
    ClusterUsage {
        metadata: Metadata::of(&facts.change.new),
        state: row.status.severity().word(),
        instances,
        healthy_members: healthy,
        members: facts.all_members().len(),
        measured_members: row.measured,
        cpu_millicores: row.usage.map(|usage| usage.millicores),
        memory_bytes: row.usage.map(|usage| usage.memory),
        worst_lag_bytes: row.lag,
        rows_returned_per_second: row.rows,
    }
}
