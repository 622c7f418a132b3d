//! Pods and nodes to members.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodStatus};
use k8s_openapi::jiff::Timestamp;

use crate::facts::{self, Live, Member, Seen, Waiting};
use crate::objects::nodes::NodeState;
use crate::objects::rest_refusals::rest_refusals;
use crate::objects::{Layout, postgres_container, stated_store};
use crate::operator::POSTGRES_CONTAINER;
use crate::patroni::{Report, Store};
use crate::postgresql::ordinal;

/// The operator's annotation on a pod that it is to recreate (pkg/cluster/pod.go).
const ROLLING_UPDATE: &str = "zalando-postgres-operator-rolling-update-required";

/// Label of a pod that is bootstrapping, or in a major upgrade.
const CRITICAL_OPERATION: &str = "critical-operation";

/// The only value of the role label by which the operator finds the leader (pkg/cluster/types.go).
const OPERATORS_MASTER: &str = "master";

/// This crate's word for every other value that means "leader".
const OTHER_LEADER: &str = "primary";

/// Returns the members among `pods`, by ordinal. `nodes` are those that could be read.
pub fn members(
    pods: &[Pod],
    nodes: &BTreeMap<String, NodeState>,
    cluster: &str,
    layout: &Layout,
) -> Vec<Member> {
    let mut members: Vec<Member> = pods
        .iter()
        .filter_map(|pod| {
            let name = pod.metadata.name.as_deref()?;
            Some(Member {
                name: name.to_owned(),
                ordinal: ordinal(cluster, name)?,
                pod: reduce(pod, nodes, layout),
                report: report(pod, name, layout.store),
                live: Live::NotAsked,
            })
        })
        .collect();
    members.sort_by_key(|member| member.ordinal);
    members
}

/// Returns whether a pod is ready and stays: Kubernetes has not lost its node.
pub fn is_well(pod: &Pod) -> bool {
    let status = pod.status.as_ref();
    let ready = status.and_then(|status| condition(status, "Ready"));
    ready.is_some_and(|(status, _)| status == "True") && pod.metadata.deletion_timestamp.is_none()
}

/// Returns whether the container of PostgreSQL runs, and where no container has its name, whether
/// all `wanted` containers run.
///
/// An exporter in a crash loop proves nothing about the data.
fn postgres_runs(containers: &[&ContainerStatus], wanted: usize) -> bool {
    let runs = |container: &ContainerStatus| {
        container.state.as_ref().is_some_and(|state| state.running.is_some())
    };
    match containers.iter().find(|container| container.name == POSTGRES_CONTAINER) {
        Some(postgres) => runs(postgres),
        None => {
            !containers.is_empty()
                && containers.len() >= wanted
                && containers.iter().all(|container| runs(container))
        }
    }
}

fn reduce(pod: &Pod, nodes: &BTreeMap<String, NodeState>, layout: &Layout) -> facts::Pod {
    let unset = PodStatus::default();
    let status = pod.status.as_ref().unwrap_or(&unset);
    let metadata = &pod.metadata;
    let label = |key: &str| metadata.labels.as_ref().and_then(|labels| labels.get(key));
    let annotation = |key: &str| metadata.annotations.as_ref().and_then(|all| all.get(key));
    let containers: Vec<&ContainerStatus> = status.container_statuses.iter().flatten().collect();
    let wanted = pod.spec.as_ref().map_or(0, |spec| spec.containers.len());
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
    let known = node.as_ref().and_then(|node| nodes.get(node)).cloned().unwrap_or_default();
    let tolerations = pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref());
    facts::Pod {
        phase: status.phase.clone().unwrap_or_default(),
        ready: condition(status, "Ready").is_some_and(|(status, _)| status == "True"),
        containers_running: postgres_runs(&containers, wanted),
        terminating: metadata.deletion_timestamp.is_some(),
        created: metadata.creation_timestamp.as_ref().map(|time| time.0),
        scheduled: transition(status, "PodScheduled", "True"),
        started: postgres(&containers).and_then(started),
        ip: status.pod_ip.clone().filter(|ip| !ip.is_empty()),
        role: label(&layout.role_label).map(|role| {
            let leads = role != OPERATORS_MASTER && layout.leader_values.contains(role);
            if leads { OTHER_LEADER.to_owned() } else { role.clone() }
        }),
        node,
        node_ready: known.ready,
        draining: known.draining(tolerations.unwrap_or(&[])),
        zone: known.zone,
        image: postgres_container(pod.spec.as_ref()).and_then(|container| container.image.clone()),
        unready: transition(status, "Ready", "False"),
        critical_operation: label(CRITICAL_OPERATION).is_some_and(|value| value == "true"),
        rolling_update_required: annotation(ROLLING_UPDATE).is_some_and(|value| value == "true"),
        waiting: waiting(status),
        store: stated_store(pod.spec.as_ref()),
        rest_refusals: rest_refusals(pod),
        restarts: postgres(&containers).map_or(0, |container| container.restart_count.into()),
    }
}

/// Returns the container of PostgreSQL, or the first where none has its name.
fn postgres<'a>(containers: &[&'a ContainerStatus]) -> Option<&'a ContainerStatus> {
    containers
        .iter()
        .find(|container| container.name == POSTGRES_CONTAINER)
        .or(containers.first())
        .copied()
}

fn started(container: &ContainerStatus) -> Option<Timestamp> {
    let running = container.state.as_ref()?.running.as_ref()?;
    running.started_at.as_ref().map(|time| time.0)
}

/// Returns the time since which a condition of the pod has this status. `None` where it has another.
fn transition(status: &PodStatus, name: &str, is: &str) -> Option<Timestamp> {
    let conditions = status.conditions.iter().flatten();
    conditions
        .filter(|condition| condition.type_ == name && condition.status == is)
        .find_map(|condition| condition.last_transition_time.as_ref().map(|time| time.0))
}

fn report(pod: &Pod, name: &str, store: Store) -> Seen<Report> {
    let text = pod.metadata.annotations.as_ref().and_then(|all| all.get("status"));
    match text.map(|text| Report::of(text)) {
        // It reports to a place that the guard cannot read. That proves nothing about its state.
        None if matches!(store, Store::Etcd | Store::Other) => {
            Seen::Unreadable(format!("{name} reports to etcd only"))
        }
        None => Seen::Absent,
        Some(Ok(report)) => Seen::Known(report),
        Some(Err(error)) => {
            Seen::Unreadable(format!("annotation status of pod {name} is not JSON: {error}"))
        }
    }
}

/// Returns the reason for which the pod does not run.
///
/// This is the scheduler's reason, else the reason of the first container that waits or ended, else
/// the pod's own (evicted, node lost).
fn waiting(status: &PodStatus) -> Option<Waiting> {
    let unscheduled = condition(status, "PodScheduled")
        .filter(|(scheduled, _)| *scheduled == "False")
        .and_then(|(_, message)| message)
        .map(Waiting::from);
    let container = || {
        // A finished init container is no reason.
        let init = status.init_container_statuses.iter().flatten().filter(|container| {
            let end = container.state.as_ref().and_then(|state| state.terminated.as_ref());
            end.is_none_or(|end| end.exit_code != 0)
        });
        init.chain(status.container_statuses.iter().flatten()).find_map(stopped)
    };
    let own = || said(status.reason.as_ref(), status.message.as_ref());
    unscheduled.or_else(container).or_else(own)
}

fn stopped(container: &ContainerStatus) -> Option<Waiting> {
    let state = container.state.as_ref()?;
    let name = Some(container.name.clone());
    if let Some(waiting) = &state.waiting {
        let why = said(waiting.reason.as_ref(), waiting.message.as_ref())?;
        return Some(Waiting { container: name, ..why });
    }
    let terminated = state.terminated.as_ref()?;
    let why = said(terminated.reason.as_ref(), terminated.message.as_ref()).unwrap_or_default();
    Some(Waiting { container: name, exit_code: Some(terminated.exit_code), ..why })
}

fn said(reason: Option<&String>, message: Option<&String>) -> Option<Waiting> {
    let reason = reason.filter(|text| !text.is_empty()).cloned();
    let message = message.filter(|text| !text.is_empty()).cloned();
    let any = reason.is_some() || message.is_some();
    any.then(|| Waiting { reason, message, ..Waiting::default() })
}

fn condition<'a>(status: &'a PodStatus, name: &str) -> Option<(&'a str, Option<&'a str>)> {
    status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == name)
        .map(|condition| (condition.status.as_str(), condition.message.as_deref()))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::operator::Settings;
    use crate::patroni::{Role, State};

    /// Returns the only member among these pods, on a node that is known.
    fn member(pod: Value) -> Member {
        let pod: Pod = serde_json::from_value(pod).unwrap();
        let ready = NodeState { ready: Some(true), zone: Some("a".into()), ..NodeState::default() };
        let nodes = BTreeMap::from([("node-1".to_owned(), ready)]);
        let layout = Layout::by_settings("acid-a", &Settings::default());
        let [member] = members(&[pod], &nodes, "acid-a", &layout).try_into().unwrap();
        member
    }

    /// Returns a running pod of ordinal 1 with `overlay` merged into it.
    fn running(overlay: &Value) -> Value {
        let mut pod = json!({
        "metadata": {"name": "acid-a-1", "labels": {"spilo-role": "replica"}, "annotations": {}},
        "spec": {"nodeName": "node-1", "containers": [{"name": "postgres"}, {"name": "exporter"}]},
        "status": {"phase": "Running", "podIP": "10.244.0.11", "containerStatuses": [
            container("exporter", &json!({"running": {}})),
            container("postgres", &json!({"running": {}})),
        ]}});
        json_patch::merge(&mut pod, overlay);
        pod
    }

    fn container(name: &str, state: &Value) -> Value {
        json!({"name": name, "image": "i", "imageID": "i", "ready": true,
            "restartCount": if name == "postgres" { 4 } else { 9 }, "state": state})
    }

    #[test]
    fn running_pod_keeps_its_labels_and_annotations() {
        let member = member(running(&json!({"metadata": {
            "labels": {"critical-operation": "true"},
            "annotations": {"zalando-postgres-operator-rolling-update-required": "true"}}})));
        assert_eq!((member.name.as_str(), member.ordinal), ("acid-a-1", 1));
        let pod = &member.pod;
        assert_eq!(
            (pod.phase.as_str(), pod.containers_running, pod.ready),
            ("Running", true, false)
        );
        assert_eq!(pod.role.as_deref(), Some("replica"));
        assert_eq!((pod.node.as_deref(), pod.node_ready), (Some("node-1"), Some(true)));
        assert_eq!((pod.zone.as_deref(), pod.restarts), (Some("a"), 4));
        assert!(pod.critical_operation && pod.rolling_update_required && !pod.terminating);
        assert_eq!(
            (&pod.waiting, &member.report, &member.live),
            (&None, &Seen::Absent, &Live::NotAsked)
        );
    }

    #[test]
    fn times_of_a_start_are_read() {
        let at = "2026-11-24T10:00:05Z";
        let started = json!({"status": {
        "conditions": [{"type": "PodScheduled", "status": "True", "lastTransitionTime": at}],
        "containerStatuses": [
            container("exporter", &json!({"running": {"startedAt": "2026-11-24T09:00:00Z"}})),
            container("postgres", &json!({"running": {"startedAt": at}})),
        ]}});
        let pod = member(running(&started)).pod;
        assert_eq!((pod.scheduled, pod.started), (at.parse().ok(), at.parse().ok()));
        let pod = member(running(&json!({"status": {
            "conditions": [{"type": "PodScheduled", "status": "False", "lastTransitionTime": at}],
            "containerStatuses": null}})))
        .pod;
        assert_eq!((pod.scheduled, pod.started), (None, None));
    }

    #[test]
    fn marks_count_only_when_true() {
        let member = member(running(&json!({"metadata": {
            "labels": {"critical-operation": "false"},
            "annotations": {"zalando-postgres-operator-rolling-update-required": "false"}}})));
        assert!(!member.pod.critical_operation && !member.pod.rolling_update_required);
    }

    #[test]
    fn reason_of_a_pod_that_does_not_run_is_read() {
        let full = "0/3 nodes are available: 3 node(s) didn't match pod anti-affinity rules.";
        let states = |states: &Value| json!({"status": {"containerStatuses": states}});
        for (name, overlay, containers_running, want) in [
            (
                "pending",
                json!({"spec": {"nodeName": null}, "status": {"phase": "Pending",
                    "containerStatuses": null, "conditions": [{"type": "PodScheduled",
                        "status": "False", "reason": "Unschedulable", "message": full}]}}),
                false,
                Some(full),
            ),
            (
                "image",
                states(&json!([container(
                    "postgres",
                    &json!({"waiting": {"reason": "ImagePullBackOff",
                    "message": "Back-off pulling image"}})
                )])),
                false,
                Some("container postgres: ImagePullBackOff: Back-off pulling image"),
            ),
            (
                "init container still at work",
                json!({"status": {"phase": "Pending",
                    "initContainerStatuses": [
                        container("first", &json!({"terminated": {"exitCode": 0, "reason": "Completed"}})),
                        container("second", &json!({"terminated": {"exitCode": 3, "reason": "Error"}})),
                    ],
                    "containerStatuses": [container("postgres",
                        &json!({"waiting": {"reason": "PodInitializing"}}))]}}),
                false,
                Some("container second: Error, exit code 3"),
            ),
            (
                "ended",
                states(&json!([container("postgres", &json!({"terminated": {"exitCode": 0}}))])),
                false,
                Some("container postgres: ended, exit code 0"),
            ),
            (
                "evicted",
                json!({"status": {"phase": "Failed", "reason": "Evicted", "message": "low on memory",
                    "containerStatuses": null}}),
                false,
                Some("Evicted: low on memory"),
            ),
            (
                "a sidecar not started yet",
                states(&json!([container("postgres", &json!({"running": {}}))])),
                true,
                None,
            ),
            (
                "an exporter that crashes over and over",
                states(&json!([
                    container("postgres", &json!({"running": {}})),
                    container("exporter", &json!({"waiting": {"reason": "CrashLoopBackOff"}})),
                ])),
                true,
                Some("container exporter: CrashLoopBackOff"),
            ),
            ("all is well", json!({}), true, None),
        ] {
            let member = member(running(&overlay));
            assert_eq!(
                member.pod.waiting.as_ref().map(ToString::to_string).as_deref(),
                want,
                "{name}"
            );
            assert_eq!(member.pod.containers_running, containers_running, "{name}");
        }
    }

    #[test]
    fn leader_label_that_the_operator_ignores_is_primary() {
        for (label, want) in [
            (json!("master"), Some("master")),
            (json!("primary"), Some("primary")),
            (json!("standby_leader"), Some("primary")),
            (json!("replica"), Some("replica")),
            (json!("demoted"), Some("demoted")),
            (json!(null), None),
        ] {
            let member = member(running(&json!({"metadata": {"labels": {"spilo-role": label}}})));
            assert_eq!(member.pod.role.as_deref(), want, "{label}");
        }
    }

    #[test]
    fn report_of_every_patroni_version_is_read() {
        let report = |status: &str| {
            member(running(&json!({"metadata": {"annotations": {"status": status}}}))).report
        };
        // As Patroni 2.1, 3.3 and 4.1 write them.
        for (status, role, replication) in [
            (
                r#"{"conn_url":"postgres://10.244.0.11:5432/postgres","api_url":"http://10.244.0.11:8008/patroni","state":"running","role":"master","version":"2.1.4","xlog_location":67109200,"timeline":1}"#,
                Role::Primary,
                None,
            ),
            (
                r#"{"conn_url":"postgres://10.244.0.11:5432/postgres","state":"running","role":"replica","version":"3.3.2","xlog_location":67109200,"replication_state":"streaming","timeline":1}"#,
                Role::Replica,
                Some("streaming"),
            ),
            (
                r#"{"state":"running","role":"standby_leader","version":"4.1.4","xlog_location":67109200,"replay_lsn":67109200,"receive_lsn":67109200,"replication_state":"in archive recovery","timeline":1}"#,
                Role::StandbyLeader,
                Some("in archive recovery"),
            ),
        ] {
            let seen = report(status);
            let report = seen.known().unwrap();
            assert_eq!((&report.state, report.role), (&State::Running, role));
            assert_eq!((report.position, report.timeline), (Some(67_109_200), Some(1)));
            assert_eq!(report.replication_state.as_deref(), replication);
        }
        let broken = report("{");
        let why = broken.unreadable().unwrap();
        assert!(why.starts_with("annotation status of pod acid-a-1 is not JSON: "), "{why}");
    }

    #[test]
    fn node_is_ready_only_by_its_condition() {
        let node = |conditions: Value| {
            NodeState::of(
                &serde_json::from_value(
                    json!({"metadata": {}, "status": {"conditions": conditions}}),
                )
                .unwrap(),
            )
        };
        let ready = |status: &str| {
            node(
                json!([{"type": "DiskPressure", "status": "True"}, {"type": "Ready", "status": status}]),
            )
        };
        assert_eq!(ready("True").ready, Some(true));
        assert_eq!(ready("False").ready, Some(false));
        assert_eq!(ready("Unknown").ready, Some(false));
        assert_eq!(node(json!([])).ready, None);
    }

    #[test]
    fn members_are_sorted_and_other_pods_left_out() {
        let pods: Vec<Pod> = ["acid-a-10", "acid-a-2", "acid-a-1-0", "acid-a-pooler-x", "acid-b-0"]
            .iter()
            .map(|name| serde_json::from_value(json!({"metadata": {"name": name}})).unwrap())
            .collect();
        let layout = Layout::by_settings("acid-a", &Settings::default());
        let found = members(&pods, &BTreeMap::new(), "acid-a", &layout);
        assert_eq!(found.iter().map(|member| member.ordinal).collect::<Vec<_>>(), [2, 10]);
        assert!(!found[0].pod.containers_running, "a pod without a status runs nothing");
    }
}
