//! The surroundings of a cluster: nodes, disruption budgets, the backup job.

use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::CronJob;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;

use crate::facts::{self, Backup, DisruptionBudget, Taint};
use crate::objects::Layout;
use crate::selector::selects;

/// The longest name of a `CronJob`. The operator cuts off the rest (`trimCronjobName`,
/// pkg/cluster/util.go).
const CRON_JOB_NAME: usize = 52;

/// Reduces a node.
pub fn node(object: &Node) -> facts::Node {
    let spec = object.spec.as_ref();
    facts::Node {
        name: object.metadata.name.clone().unwrap_or_default(),
        labels: object.metadata.labels.clone().unwrap_or_default(),
        taints: spec
            .iter()
            .flat_map(|spec| spec.taints.iter().flatten())
            .map(|taint| Taint {
                key: taint.key.clone(),
                value: taint.value.clone(),
                effect: taint.effect.clone(),
            })
            .collect(),
        unschedulable: spec.and_then(|spec| spec.unschedulable).unwrap_or(false),
    }
}

/// Returns the namespace's budgets that count the leader's pod, which has the template's `labels`
/// and its role.
pub fn disruption_budgets(
    objects: &[PodDisruptionBudget],
    labels: &BTreeMap<String, String>,
    layout: &Layout,
) -> Vec<DisruptionBudget> {
    let of = |role: &str| {
        let mut labels = labels.clone();
        labels.extend(layout.selector.clone());
        labels.insert(layout.role_label.clone(), role.to_owned());
        labels
    };
    // The operator's own selector says master, for every value of the role label.
    let (leader, replica) = (of("master"), of("replica"));
    let budgets = objects.iter().filter_map(|object| {
        let spec = object.spec.as_ref()?;
        let selector = spec.selector.as_ref()?;
        selects(selector, &leader).unwrap_or(false).then(|| DisruptionBudget {
            name: object.metadata.name.clone().unwrap_or_default(),
            min_available: spec.min_available.clone(),
            max_unavailable: spec.max_unavailable.clone(),
            expected: object.status.as_ref().and_then(|it| it.expected_pods).map(i64::from),
            leader_only: !selects(selector, &replica).unwrap_or(true),
        })
    });
    budgets.collect()
}

/// Reduces a backup job.
pub fn backup(object: &CronJob) -> Backup {
    let status = object.status.as_ref();
    Backup {
        name: object.metadata.name.clone().unwrap_or_default(),
        succeeded: status.and_then(|it| it.last_successful_time.as_ref()).map(|time| time.0),
        suspended: object.spec.suspend.unwrap_or(false),
    }
}

/// Returns the name of a cluster's backup job.
pub fn backup_job(prefix: &str, cluster: &str) -> String {
    let name: String = format!("{prefix}{cluster}").chars().take(CRON_JOB_NAME).collect();
    name.trim_end_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
    use serde_json::{Value, json};

    use super::*;
    use crate::operator::Settings;

    #[test]
    fn budgets_that_do_not_count_the_leader_are_left_out() {
        let layout = Layout::by_settings("acid-a", &Settings::default());
        let labels = BTreeMap::from([("team".to_owned(), "acid".to_owned())]);
        let budget = |name: &str, selector: Value| -> PodDisruptionBudget {
            serde_json::from_value(json!({"metadata": {"name": name},
                "spec": {"minAvailable": 1, "selector": selector},
                "status": {"expectedPods": 2, "currentHealthy": 2, "desiredHealthy": 1, "disruptionsAllowed": 1}}))
            .unwrap()
        };
        let found = disruption_budgets(
            &[
                budget(
                    "leader",
                    json!({"matchLabels": {"cluster-name": "acid-a", "spilo-role": "master"}}),
                ),
                budget("team", json!({"matchLabels": {"team": "acid"}})),
                budget("all", json!({})),
                budget("none", Value::Null),
                budget("critical", json!({"matchLabels": {"critical-operation": "true"}})),
                budget("other", json!({"matchLabels": {"cluster-name": "acid-b"}})),
            ],
            &labels,
            &layout,
        );
        let shown: Vec<_> = found.iter().map(|it| (it.name.as_str(), it.leader_only)).collect();
        assert_eq!(shown, [("leader", true), ("team", false), ("all", false)]);
        assert_eq!(found[0].min_available, Some(IntOrString::Int(1)));
        assert_eq!(found[0].expected, Some(2));
    }

    #[test]
    fn backup_job_name_is_cut_as_by_the_operator() {
        let node = node(
            &serde_json::from_value(json!({"metadata": {"name": "n", "labels": {"zone": "a"}},
                "spec": {"unschedulable": true,
                    "taints": [{"key": "k", "value": "v", "effect": "NoSchedule"}]}}))
            .unwrap(),
        );
        assert!(node.unschedulable && node.labels["zone"] == "a");
        assert_eq!(node.taints[0].key, "k");

        let job: CronJob = serde_json::from_value(json!({"metadata": {"name": "logical-backup-a"},
            "spec": {"schedule": "@daily", "suspend": true, "jobTemplate": {}},
            "status": {"lastSuccessfulTime": "2026-11-24T00:00:00Z"}}))
        .unwrap();
        let backup = backup(&job);
        assert!(backup.suspended && backup.succeeded.is_some());

        assert_eq!(backup_job("logical-backup-", "acid-a"), "logical-backup-acid-a");
        let long = backup_job("logical-backup-", &format!("{}-{}", "x".repeat(36), "y".repeat(9)));
        assert_eq!(
            long,
            format!("logical-backup-{}", "x".repeat(36)),
            "52 characters, no dash at the end"
        );
    }
}
