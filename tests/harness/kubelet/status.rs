//! A pod's status as a kubelet reports it (pure).

use std::net::Ipv4Addr;

use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated,
    ContainerStateWaiting, ContainerStatus, HostIP, Pod, PodCondition, PodIP, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use super::nodes;

/// The kubelet's observation of a pod that has a node.
#[derive(Clone, Debug)]
pub(super) struct Observation {
    /// The pod's address, once it has one.
    pub(super) address: Option<Ipv4Addr>,
    /// The state of its containers: all of them share one here.
    pub(super) state: State,
    /// The number of their restarts.
    pub(super) restarts: i32,
    /// The end of their previous run.
    pub(super) last: Option<Termination>,
}

/// The state of a pod's containers.
#[derive(Clone, Debug)]
pub(super) enum State {
    /// Not started (again) yet, for this reason.
    Waiting { reason: &'static str, message: String },
    /// Started. Ready if the readiness probe succeeds or there is none.
    Running { started: Timestamp, ready: bool },
    /// Ended, and not restarted for now.
    Terminated(Termination),
}

/// The end of a container's run.
#[derive(Clone, Debug)]
pub(super) struct Termination {
    /// The exit code, or 128 + n after signal n.
    pub(super) exit_code: i32,
    /// The start of that run.
    pub(super) started: Timestamp,
    /// The end of that run.
    pub(super) finished: Timestamp,
}

impl Termination {
    fn state(&self) -> ContainerStateTerminated {
        let reason = if self.exit_code == 0 { "Completed" } else { "Error" };
        ContainerStateTerminated {
            exit_code: self.exit_code,
            reason: Some(reason.to_owned()),
            started_at: Some(Time(self.started)),
            finished_at: Some(Time(self.finished)),
            ..ContainerStateTerminated::default()
        }
    }
}

/// Returns the status to report for `pod`, whose last reported status is `before`.
pub(super) fn status(
    pod: &Pod,
    before: &PodStatus,
    seen: &Observation,
    now: Timestamp,
) -> PodStatus {
    let started = matches!(seen.state, State::Running { .. });
    let ready = matches!(seen.state, State::Running { ready: true, .. });
    // A pod whose containers ended once and will be started again is Running, not Pending.
    let running = started || seen.restarts > 0 || seen.last.is_some();
    let running = running || matches!(seen.state, State::Terminated(_));
    let mut conditions = Conditions { before, now, list: others(before) };
    conditions.set("PodScheduled", true, None);
    conditions.set("PodReadyToStartContainers", seen.address.is_some(), None);
    conditions.set("Initialized", running, None);
    let unready = (!ready).then_some("ContainersNotReady");
    conditions.set("ContainersReady", ready, unready);
    conditions.set("Ready", ready, unready);
    let containers = pod.spec.as_ref().map(|spec| spec.containers.as_slice()).unwrap_or_default();
    PodStatus {
        phase: Some(if running { "Running" } else { "Pending" }.to_owned()),
        conditions: Some(conditions.list),
        host_ip: Some(nodes::ADDRESS.to_owned()),
        host_ips: Some(vec![HostIP { ip: nodes::ADDRESS.to_owned() }]),
        pod_ip: seen.address.map(|address| address.to_string()),
        pod_ips: seen.address.map(|address| vec![PodIP { ip: address.to_string() }]),
        start_time: Some(before.start_time.clone().unwrap_or(Time(now))),
        container_statuses: Some(
            containers.iter().map(|container| container_status(pod, container, seen)).collect(),
        ),
        init_container_statuses: running.then(|| init_containers(pod, before, now)).flatten(),
        ..PodStatus::default()
    }
}

/// Returns the status of a pod that no node can take, with the reason.
pub(super) fn unschedulable(before: &PodStatus, message: &str, now: Timestamp) -> PodStatus {
    let mut conditions = Conditions { before, now, list: others(before) };
    conditions.set("PodScheduled", false, Some("Unschedulable"));
    for condition in &mut conditions.list {
        if condition.type_ == "PodScheduled" {
            condition.message = Some(message.to_owned());
        }
    }
    PodStatus {
        phase: Some("Pending".to_owned()),
        conditions: Some(conditions.list),
        ..PodStatus::default()
    }
}

/// The conditions under construction.
struct Conditions<'a> {
    before: &'a PodStatus,
    now: Timestamp,
    list: Vec<PodCondition>,
}

impl Conditions<'_> {
    /// Adds a condition. Its transition time stays the same unless its status changes.
    fn set(&mut self, kind: &str, holds: bool, reason: Option<&str>) {
        let status = if holds { "True" } else { "False" };
        let before = self.before.conditions.iter().flatten();
        let unchanged = before
            .filter(|condition| condition.type_ == kind && condition.status == status)
            .find_map(|condition| condition.last_transition_time.clone());
        self.list.push(PodCondition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: reason.map(str::to_owned),
            last_transition_time: Some(unchanged.unwrap_or(Time(self.now))),
            ..PodCondition::default()
        });
    }
}

/// Returns the conditions that are not a kubelet's, such as `DisruptionTarget`, unchanged.
fn others(before: &PodStatus) -> Vec<PodCondition> {
    const OURS: [&str; 5] =
        ["PodScheduled", "PodReadyToStartContainers", "Initialized", "ContainersReady", "Ready"];
    let conditions = before.conditions.iter().flatten();
    conditions.filter(|condition| !OURS.contains(&condition.type_.as_str())).cloned().collect()
}

fn container_status(pod: &Pod, container: &Container, seen: &Observation) -> ContainerStatus {
    let image = container.image.clone().unwrap_or_default();
    let mut state = ContainerState::default();
    match &seen.state {
        State::Waiting { reason, message } => {
            state.waiting = Some(ContainerStateWaiting {
                reason: Some((*reason).to_owned()),
                message: (!message.is_empty()).then(|| message.clone()),
            });
        }
        State::Running { started, .. } => {
            state.running = Some(ContainerStateRunning { started_at: Some(Time(*started)) });
        }
        State::Terminated(end) => state.terminated = Some(end.state()),
    }
    let running = state.running.is_some();
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    let last = seen
        .last
        .as_ref()
        .map(|end| ContainerState { terminated: Some(end.state()), ..ContainerState::default() });
    ContainerStatus {
        name: container.name.clone(),
        container_id: running.then(|| format!("bed://{uid}/{}/{}", container.name, seen.restarts)),
        image_id: image.clone(),
        image,
        ready: matches!(seen.state, State::Running { ready: true, .. }),
        started: Some(running),
        restart_count: seen.restarts,
        state: Some(state),
        last_state: last,
        ..ContainerStatus::default()
    }
}

/// Returns the statuses of init containers, reported as completed: no program runs for them here.
fn init_containers(pod: &Pod, before: &PodStatus, now: Timestamp) -> Option<Vec<ContainerStatus>> {
    let containers = pod.spec.as_ref()?.init_containers.as_ref()?;
    let known = before.init_container_statuses.clone();
    let done = |container: &Container| ContainerStatus {
        name: container.name.clone(),
        image: container.image.clone().unwrap_or_default(),
        ready: true,
        state: Some(ContainerState {
            terminated: Some(Termination { exit_code: 0, started: now, finished: now }.state()),
            ..ContainerState::default()
        }),
        ..ContainerStatus::default()
    };
    known.or_else(|| Some(containers.iter().map(done).collect()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn pod() -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "acid-a-0", "uid": "u"},
            "spec": {"containers": [{"name": "postgres", "image": "spilo"}]},
        }))
        .unwrap()
    }

    fn seen(state: State) -> Observation {
        Observation { address: Some(Ipv4Addr::new(10, 244, 0, 10)), state, restarts: 0, last: None }
    }

    fn condition(status: &PodStatus, kind: &str) -> (String, Timestamp) {
        let conditions = status.conditions.as_ref().unwrap();
        let found = conditions.iter().find(|condition| condition.type_ == kind).unwrap();
        (found.status.clone(), found.last_transition_time.as_ref().unwrap().0)
    }

    #[test]
    fn conditions_follow_a_container_from_waiting_to_ready() {
        let waiting = State::Waiting { reason: "ContainerCreating", message: String::new() };
        let first = status(&pod(), &PodStatus::default(), &seen(waiting), at(1));
        assert_eq!(first.phase.as_deref(), Some("Pending"));
        assert_eq!(first.start_time, Some(Time(at(1))));
        assert_eq!(condition(&first, "PodScheduled"), ("True".into(), at(1)));
        assert_eq!(condition(&first, "Ready"), ("False".into(), at(1)));

        let running = State::Running { started: at(2), ready: false };
        let second = status(&pod(), &first, &seen(running), at(3));
        assert_eq!(second.phase.as_deref(), Some("Running"));
        assert_eq!(second.start_time, Some(Time(at(1))), "the pod's start, not the container's");
        assert_eq!(condition(&second, "Initialized"), ("True".into(), at(3)));
        assert_eq!(condition(&second, "Ready"), ("False".into(), at(1)), "it did not change");
        let container = &second.container_statuses.as_ref().unwrap()[0];
        let state = container.state.as_ref().unwrap().running.as_ref().unwrap();
        assert_eq!(state.started_at, Some(Time(at(2))));

        let ready = State::Running { started: at(2), ready: true };
        let third = status(&pod(), &second, &seen(ready), at(4));
        assert_eq!(condition(&third, "Ready"), ("True".into(), at(4)));
        assert_eq!(condition(&third, "Initialized"), ("True".into(), at(3)));
        assert!(third.container_statuses.unwrap()[0].ready);
    }

    #[test]
    fn a_container_that_ended_leaves_the_pod_running_but_unready() {
        let end = Termination { exit_code: 137, started: at(2), finished: at(9) };
        for state in [
            State::Terminated(end.clone()),
            State::Waiting { reason: "CrashLoopBackOff", message: "back-off".into() },
        ] {
            let seen = Observation { restarts: 1, last: Some(end.clone()), ..seen(state) };
            let status = status(&pod(), &PodStatus::default(), &seen, at(10));
            assert_eq!(status.phase.as_deref(), Some("Running"));
            assert_eq!(condition(&status, "Ready").0, "False");
            let container = &status.container_statuses.as_ref().unwrap()[0];
            assert_eq!(container.restart_count, 1);
            let last = container.last_state.as_ref().unwrap().terminated.as_ref().unwrap();
            assert_eq!((last.exit_code, last.reason.as_deref()), (137, Some("Error")));
        }
    }

    #[test]
    fn an_unschedulable_pod_shows_the_reason_and_keeps_foreign_conditions() {
        let before: PodStatus = serde_json::from_value(json!({
            "conditions": [{"type": "DisruptionTarget", "status": "True"}],
        }))
        .unwrap();
        let status = unschedulable(&before, "0/6 nodes are available", at(1));
        let conditions = status.conditions.unwrap();
        let kinds: Vec<_> = conditions.iter().map(|condition| condition.type_.as_str()).collect();
        assert_eq!(kinds, ["DisruptionTarget", "PodScheduled"]);
        assert_eq!(conditions[1].reason.as_deref(), Some("Unschedulable"));
        assert_eq!(conditions[1].message.as_deref(), Some("0/6 nodes are available"));
        assert_eq!(status.phase.as_deref(), Some("Pending"));
    }
}
