//! Facts about a cluster's surroundings and the room in them.

use k8s_openapi::api::core::v1::{LimitRange, ResourceQuota};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use k8s_openapi::jiff::Timestamp;

use crate::capacity::{self, Footprint, Look, Node, Template};
use crate::change::Direction;
use crate::facts::{Facts, Seen, Spending};

/// Parts of a spec that shape every pod or claim. A write that changes one makes the StatefulSet
/// out of date.
const RESHAPES: &[&str] = &[
    "/resources",
    "/sidecars",
    "/initContainers",
    "/init_containers",
    "/volume/size",
    "/volume/storageClass",
    "/podPriorityClassName",
    "/pod_priority_class_name",
];

/// The room in the cluster's surroundings.
///
/// `None` means that it was not read: the change does not need it, or the reader has no permission.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Capacity {
    /// The template of every member now. `Absent` without a StatefulSet.
    pub template: Seen<Template>,
    /// The namespace's quotas, as they are stored. Their arithmetic is in [`capacity`].
    pub quotas: Option<Seen<Vec<ResourceQuota>>>,
    /// The namespace's limit ranges, as they are stored.
    pub limit_ranges: Option<Seen<Vec<LimitRange>>>,
    /// The nodes, read where members must be kept apart.
    pub nodes: Option<Seen<Vec<Node>>>,
    /// The disruption budgets that count the cluster's leader.
    pub disruption_budgets: Option<Seen<Vec<DisruptionBudget>>>,
    /// The cluster's logical backup job.
    pub backup: Option<Seen<Backup>>,
    /// What counts against the budget of the namespace. `None` where no policy sets one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Seen<Spending>>,
}

impl Default for Capacity {
    fn default() -> Self {
        Self {
            template: Seen::Absent,
            quotas: None,
            limit_ranges: None,
            nodes: None,
            disruption_budgets: None,
            backup: None,
            budget: None,
        }
    }
}

/// A `PodDisruptionBudget` that counts the leader's pod.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct DisruptionBudget {
    /// Its name.
    pub name: String,
    /// Pods that must be available.
    pub min_available: Option<IntOrString>,
    /// Pods that may be unavailable.
    pub max_unavailable: Option<IntOrString>,
    /// The number of pods that it last counted.
    pub expected: Option<i64>,
    /// It counts the leader's pod and none of the others.
    pub leader_only: bool,
}

/// The logical backup job of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Backup {
    /// Name of its `CronJob`.
    pub name: String,
    /// The time of its last success.
    pub succeeded: Option<Timestamp>,
    /// It is suspended.
    pub suspended: bool,
}

impl Facts {
    /// Returns the needs of one more member, with the defaults of the namespace's limit ranges
    /// where those were read.
    ///
    /// They come from the StatefulSet, or from the manifest where there is no StatefulSet or the
    /// same write changes the template.
    ///
    /// # Errors
    /// The reason for which they are not known.
    pub fn footprint(&self) -> Look<Footprint> {
        let template = if self.by_manifest() {
            let operator = match &self.operator {
                Seen::Known(operator) => operator,
                Seen::Absent => {
                    return Err("no operator was found whose defaults would apply".to_owned());
                }
                Seen::Unreadable(why) => {
                    return Err(format!("the operator's defaults could not be read ({why})"));
                }
            };
            capacity::template(&self.change.new, &operator.settings.pods)?
        } else {
            match &self.capacity.template {
                Seen::Known(template) => template.clone(),
                Seen::Absent => return Err("there is no StatefulSet to read it from".to_owned()),
                Seen::Unreadable(why) => {
                    return Err(format!("the StatefulSet could not be read ({why})"));
                }
            }
        };
        let ranges = self.capacity.limit_ranges.as_ref().and_then(Seen::known);
        Footprint::of(&capacity::defaulted(template, ranges.map_or(&[], Vec::as_slice)))
    }

    /// Returns whether the manifest, and not the StatefulSet, determines a new member.
    fn by_manifest(&self) -> bool {
        let reshaped = || {
            self.change.other_edits().iter().any(|edit| {
                let path = edit.path().to_string();
                RESHAPES.iter().any(|part| path.starts_with(part) || part.starts_with(&path))
            })
        };
        self.direction() == Direction::Create
            || self.capacity.template == Seen::Absent
            || reshaped()
    }

    /// Returns the number of pods that will be made to reach `count`, including those that an
    /// earlier change still waits for.
    ///
    /// # Errors
    /// The reason for which it is not known.
    pub fn pods_to_come(&self, count: i64) -> Look<i64> {
        match &self.members {
            Seen::Known(members) => {
                // A pod that has ended is made again, and does not count as used.
                let there = members.iter().filter(|member| {
                    member.ordinal < count
                        && !matches!(member.pod.phase.as_str(), "Failed" | "Succeeded")
                });
                Ok(count.saturating_sub(counted(there.count())).max(0))
            }
            Seen::Absent => Ok(count.max(0)),
            Seen::Unreadable(why) => Err(format!("the cluster's pods could not be listed ({why})")),
        }
    }

    /// Returns the number of members that will get a new claim to reach `count`. A kept claim costs
    /// nothing.
    ///
    /// # Errors
    /// The reason for which it is not known.
    pub fn claims_to_come(&self, count: i64) -> Look<i64> {
        match &self.claims {
            Seen::Known(claims) => {
                let there =
                    claims.iter().filter(|claim| claim.ordinal < count && !claim.terminating);
                Ok(count.saturating_sub(counted(there.count())).max(0))
            }
            Seen::Absent => Ok(count.max(0)),
            Seen::Unreadable(why) => Err(format!("the volume claims could not be listed ({why})")),
        }
    }
}

fn counted(these: usize) -> i64 {
    i64::try_from(these).unwrap_or(i64::MAX)
}
