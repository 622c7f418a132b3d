//! The two kinds of policy as they are written: `ScalePolicy` and `ClusterScalePolicy`.
//!
//! Fields that combine have no schema default: unset must stay unset. The schema checks everything
//! that it can when the policy is written, and not when it is needed.
#![allow(
    unreachable_pub,
    reason = "the schema derive repeats each struct inside a function, where nothing is reachable"
)]

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, Time};
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::autoscale::AutoscaleSpec;
use crate::rule_id::RuleId;
use crate::severity::{Mode, Severity, Weight};

/// The demands of a namespace on every scale change of its `postgresql` clusters.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "pgscale.dev",
    version = "v1alpha1",
    kind = "ScalePolicy",
    plural = "scalepolicies",
    shortname = "scalepol",
    category = "pgscale",
    namespaced,
    derive = "PartialEq",
    doc = "Limits on the number of instances of the postgresql clusters in this namespace",
    printcolumn(name = "Mode", type_ = "string", json_path = ".spec.mode"),
    printcolumn(name = "Min", type_ = "integer", json_path = ".spec.instances.min"),
    printcolumn(name = "Max", type_ = "integer", json_path = ".spec.instances.max"),
    printcolumn(name = "Zero", type_ = "string", json_path = ".spec.instances.zero"),
    printcolumn(name = "Budget", type_ = "integer", json_path = ".spec.budget.instances"),
    printcolumn(name = "Frozen Until", type_ = "string", json_path = ".spec.freeze.until"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[expect(clippy::duplicated_attributes, reason = "each column has its own type_")]
#[serde(rename_all = "camelCase")]
pub struct ScalePolicySpec {
    /// The effect of a violation of the limits in this policy: Enforce refuses it, Warn warns the
    /// writer, Audit only records it. Enforce when unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// The clusters it holds for, by their labels; all of the namespace when unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_selector: Option<LabelSelector>,
    /// Bounds on the effective number of instances of each cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instances: Option<InstanceBounds>,
    /// Bounds that the API server holds itself, even while no webhook answers. They hold whatever
    /// the mode and the rules of this policy say, and no override lifts them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub floor: Option<Floor>,
    /// The instances that all clusters of the namespace may have together, whatever clusterSelector
    /// says. Of several policies the smallest budget holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,
    /// The number of instances that one change may add or remove.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<Steps>,
    /// Demands on a member that counts as healthy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub survivors: Option<Survivors>,
    /// The effect of a fact that could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when_unknown: Option<WhenUnknown>,
    /// A time in which the count must not change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub freeze: Option<FreezeSpec>,
    /// The hours of the week in which the count may change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub windows: Option<WindowsSpec>,
    /// The weights of single rules, by their ids: see `kubectl pgscale rules`. A ScalePolicy may
    /// lower only those that the platform lists in builtIn.loosenable.
    #[schemars(extend("maxProperties" = 64))]
    #[x_kube(validation = Rule::new(known_rules()).message("unknown rule: see kubectl pgscale rules"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rules: Option<BTreeMap<String, Weight>>,
    /// Demands on the cluster's backups before instances are removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<Backup>,
    /// The load, or the clock, that the count of each cluster follows where the autoscaler runs. It
    /// never goes past another limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autoscale: Option<AutoscaleSpec>,
}

/// The demands of the platform's owners on every scale change of `postgresql` clusters in many
/// namespaces.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "pgscale.dev",
    version = "v1alpha1",
    kind = "ClusterScalePolicy",
    plural = "clusterscalepolicies",
    shortname = "cscalepol",
    category = "pgscale",
    derive = "PartialEq",
    doc = "Limits on the number of instances of the postgresql clusters in many namespaces",
    printcolumn(name = "Mode", type_ = "string", json_path = ".spec.mode"),
    printcolumn(name = "Built-In", type_ = "string", json_path = ".spec.builtIn.mode"),
    printcolumn(name = "Min", type_ = "integer", json_path = ".spec.instances.min"),
    printcolumn(name = "Max", type_ = "integer", json_path = ".spec.instances.max"),
    printcolumn(name = "Zero", type_ = "string", json_path = ".spec.instances.zero"),
    printcolumn(name = "Budget", type_ = "integer", json_path = ".spec.budget.instances"),
    printcolumn(name = "Frozen Until", type_ = "string", json_path = ".spec.freeze.until"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[expect(clippy::duplicated_attributes, reason = "each column has its own type_")]
#[serde(rename_all = "camelCase")]
pub struct ClusterScalePolicySpec {
    /// The namespaces it holds for, by their labels; all when unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<LabelSelector>,
    /// The platform's mode for findings that rest on no policy's own limit, in these namespaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub built_in: Option<BuiltIn>,
    /// The rest is the same as in a `ScalePolicy`.
    #[serde(flatten)]
    pub policy: ScalePolicySpec,
}

/// The platform's mode for findings that rest on no policy's own limit.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BuiltIn {
    /// The effect of these findings: Enforce refuses the change, Warn warns the writer, Audit only
    /// records. Enforce when unset. Of several policies the strictest holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// Ids of the rules that a ScalePolicy of the namespace may lower. A list replaces the default,
    /// which is every rule but dcs-store-changing, leader-cannot-move, leader-condemned,
    /// return-from-zero, too-few-healthy-survivors and volumes-deleted. Of several policies only
    /// what all of them list may be lowered.
    #[schemars(length(max = 64), inner(length(max = 63)))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = Rule::new(known_rules()).message("unknown rule: see kubectl pgscale rules")
    )]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loosenable: Option<Vec<String>>,
}

/// Returns a condition that holds where every key of the map, or every item of the list `self` is
/// the id of a rule that has a weight. A floor always refuses.
fn known_rules() -> String {
    let weighed = RuleId::ALL.iter().filter(|id| **id != RuleId::OUTSIDE_FLOOR);
    let ids: Vec<String> = weighed.map(|id| format!("'{id}'")).collect();
    format!("self.all(id, id in [{}])", ids.join(", "))
}

/// Bounds on the effective number of instances.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.min) || !has(self.max) || self.min <= self.max")
        .message("instances.min must not be greater than instances.max")
        .field_path(".min")
)]
pub struct InstanceBounds {
    /// Fewest instances, zero aside.
    #[schemars(range(min = 1, max = 1000))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<i32>,
    /// Most instances.
    #[schemars(range(min = 1, max = 1000))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<i32>,
    /// Permission to scale a cluster to zero, which is a full outage. Deny when unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zero: Option<Zero>,
}

/// Bounds on the written number of instances that no override lifts.
///
/// A `ValidatingAdmissionPolicy` refuses growth and creation above `max`, and creation below `min`.
/// The webhook refuses these and a shrink below `min`.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.min) || !has(self.max) || self.min <= self.max")
        .message("floor.min must not be greater than floor.max")
        .field_path(".min")
)]
pub struct Floor {
    /// Fewest instances. Zero is fewer.
    #[schemars(range(min = 1, max = 1000))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<i32>,
    /// Most instances.
    #[schemars(range(min = 1, max = 1000))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<i32>,
}

/// The instances that all clusters of a namespace may have together.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Budget {
    /// Most effective instances of all clusters together. A cluster with zero instances counts as 0.
    #[schemars(range(min = 0, max = 1_000_000))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instances: Option<i32>,
}

/// The number of instances that one change may add or remove.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Steps {
    /// Most instances that one change may add.
    #[schemars(range(min = 1, max = 1000))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub up: Option<i32>,
    /// Most instances that one change may remove.
    #[schemars(range(min = 1, max = 1000))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub down: Option<i32>,
}

/// Demands on a member that counts as healthy.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Survivors {
    /// Bytes of log that its replay may be behind, such as 16Mi. The smaller of this and Patroni's
    /// own `maximum_lag_on_failover` holds.
    #[schemars(regex(pattern = r"^[0-9]{1,15}(k|M|G|T|Ki|Mi|Gi|Ti)?$"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_lag: Option<String>,
}

/// The effect of a fact that could not be read.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WhenUnknown {
    /// For a shrink. Deny when unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub down: Option<Severity>,
    /// For growth. Warn when unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub up: Option<Severity>,
}

/// A time in which the count must not change.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.from) || !has(self.until) || self.from < self.until")
        .message("freeze.from must be before freeze.until")
        .field_path(".from")
)]
pub struct FreezeSpec {
    /// Its beginning. It holds at once when unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Time>,
    /// Its end. It holds until the policy is changed when unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
    /// The changes it is about. Down when unset.
    #[schemars(length(min = 1, max = 2))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directions: Option<Vec<Way>>,
    /// The reason, for the writers that are refused.
    #[schemars(length(max = 200))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The hours of the week in which the count may change.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WindowsSpec {
    /// The changes they are about. Down when unset.
    #[schemars(length(min = 1, max = 2))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directions: Option<Vec<Way>>,
    /// The zone of days and times, by its name in the IANA time zone database. UTC when unset.
    #[schemars(length(min = 1, max = 64))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// The windows. A change is allowed in any one of them.
    #[schemars(length(min = 1, max = 32))]
    pub allow: Vec<WindowSpec>,
}

/// Some hours of some days. They go on after midnight where they end no later than they begin.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.from != self.to")
        .message("a window that begins when it ends has no hours; a whole day is 00:00 to 24:00")
        .field_path(".to")
)]
pub struct WindowSpec {
    /// The days on which it begins; all when unset.
    #[schemars(length(min = 1, max = 7))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub days: Option<Vec<Day>>,
    /// Its beginning, by the clock on the wall: HH:MM.
    #[schemars(regex(pattern = r"^([01][0-9]|2[0-3]):[0-5][0-9]$"), length(max = 5))]
    pub from: String,
    /// Its end: HH:MM, at most 24:00.
    #[schemars(regex(pattern = r"^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$"), length(max = 5))]
    pub to: String,
}

/// Demands on the cluster's backups before instances are removed.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Backup {
    /// The greatest age of the last logical backup, such as 26h or 1h30m.
    #[schemars(regex(pattern = r"^([0-9]{1,6}h)?([0-9]{1,6}m)?([0-9]{1,6}s)?$"), length(min = 2))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age: Option<String>,
}

/// Permission for zero instances.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
pub enum Zero {
    /// A cluster may be scaled to zero.
    Allow,
    /// It may not.
    #[default]
    Deny,
}

/// The direction of a change of the count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
pub enum Way {
    /// Fewer instances.
    Down,
    /// More instances.
    Up,
}

/// A day of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[expect(missing_docs, reason = "the days speak for themselves")]
pub enum Day {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}
