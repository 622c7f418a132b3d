//! `autoscale` of a policy, as it is written.
#![allow(
    unreachable_pub,
    reason = "the schema derive repeats each struct inside a function, where nothing is reachable"
)]

use std::fmt;

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::spec::Day;

/// The count that follows the load of the replicas, or the clock.
///
/// A policy never acts itself: `kubectl pgscale autoscale NAME` does, within every other limit.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.min <= self.max")
        .message("autoscale.min must not be greater than autoscale.max")
        .field_path(".min"),
    validation = Rule::new("has(self.cpu) || has(self.schedule)")
        .message("autoscale needs cpu, or schedule, or both"),
    validation = Rule::new("!has(self.cpu) || self.min >= 2")
        .message("the CPU of the replicas is measured: autoscale.min is 2 or more beside cpu")
        .field_path(".min"),
    validation = Rule::new(
        "!has(self.schedule) || self.schedule.all(e, e.instances >= self.min && e.instances <= self.max)"
    )
    .message("instances of autoscale.schedule lie within min and max")
    .field_path(".schedule")
)]
pub struct AutoscaleSpec {
    /// The wanted average CPU of the replicas, in percent of what their postgres containers
    /// request. Only the schedule counts when unset.
    #[schemars(range(min = 1, max = 1000))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<u32>,
    /// Fewest instances.
    #[schemars(range(min = 1, max = 1000))]
    pub min: i32,
    /// Most instances.
    #[schemars(range(min = 1, max = 1000))]
    pub max: i32,
    /// The difference that changes nothing, in percent of the target. 10 when unset.
    #[schemars(range(min = 0, max = 100))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tolerance: Option<u32>,
    /// Time for which more must be wanted before one is added, such as 1m. 1m when unset.
    #[schemars(regex(pattern = r"^([0-9]{1,6}h)?([0-9]{1,6}m)?([0-9]{1,6}s)?$"), length(min = 2))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub up_after: Option<String>,
    /// Time for which fewer must be wanted before one is removed. 5m when unset.
    #[schemars(regex(pattern = r"^([0-9]{1,6}h)?([0-9]{1,6}m)?([0-9]{1,6}s)?$"), length(min = 2))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub down_after: Option<String>,
    /// Rest after a change, and after one that failed. 5m when unset.
    #[schemars(regex(pattern = r"^([0-9]{1,6}h)?([0-9]{1,6}m)?([0-9]{1,6}s)?$"), length(min = 2))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cooldown: Option<String>,
    /// Counts by the clock: the entry that began last holds. Beside cpu it is the fewest.
    #[schemars(length(min = 1, max = 56))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Vec<ScheduleEntry>>,
}

/// A count that holds from a time of day on.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScheduleEntry {
    /// The days on which it begins; all when unset.
    #[schemars(length(min = 1, max = 7))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub days: Option<Vec<Day>>,
    /// Its beginning, by the clock on the wall: HH:MM.
    #[schemars(regex(pattern = r"^([01][0-9]|2[0-3]):[0-5][0-9]$"), length(max = 5))]
    pub at: String,
    /// The number of instances.
    #[schemars(range(min = 1, max = 1000))]
    pub instances: i32,
    /// The zone of days and time, by its name in the IANA time zone database. UTC when unset.
    #[schemars(length(min = 1, max = 64))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
}

impl fmt::Display for AutoscaleSpec {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} to {}", self.min, self.max)?;
        if let Some(cpu) = self.cpu {
            write!(out, " by {cpu}% CPU")?;
        }
        match self.schedule.as_ref().map_or(0, Vec::len) {
            0 => Ok(()),
            entries => write!(out, ", {entries} times of a schedule"),
        }
    }
}
