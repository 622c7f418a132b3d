//! One incarnation of a pod, from its binding to its end.

use std::future::pending;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::{Binding, Container as ContainerSpec, Pod, PodStatus};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt as _};
use serde_json::json;
use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, interval_at, sleep};

use super::container::{Container, exit_code};
use super::ending::{node_lost, node_recovered};
use super::environment::{Sources, environment};
use super::faults::Enforcer;
use super::history::{History, back_off};
use super::identity;
use super::launch::Launch;
use super::nodes::{COUNT, Nodes};
use super::probe::Readiness;
use super::scheduler;
use super::status::{Observation, State, status, unschedulable};
use super::volumes::Mount;
use super::workload::{Workload, data_claim};
use super::{Host, Member, PodName, everything};
use crate::stage::{Fault, Faults};
use crate::streaming;

/// The pause before another look for something that does not exist yet.
pub(super) const RETRY: Duration = Duration::from_millis(500);

/// The reason of a container that has died too often.
pub(super) const CRASHING: &str = "CrashLoopBackOff";

/// The reason of a container without an image.
pub(super) const NO_IMAGE: &str = "ImagePullBackOff";

/// The interval at which a running member is compared with its staged faults.
const TICK: Duration = Duration::from_millis(100);

/// The latest state of a pod.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) pod: Arc<Pod>,
    /// True if the object is gone from the API server.
    pub(super) gone: bool,
}

impl Seen {
    fn ending(&self) -> bool {
        self.gone || self.pod.metadata.deletion_timestamp.is_some()
    }
}

/// The worker of one incarnation of a pod.
pub(super) struct Worker {
    pub(super) host: Arc<Host>,
    pub(super) name: PodName,
    pub(super) uid: String,
    pub(super) seen: watch::Receiver<Seen>,
    faults: watch::Receiver<Faults>,
    /// The status last reported.
    status: Mutex<PodStatus>,
    /// The last error. The journal gets it once, however often it repeats.
    last_error: Mutex<String>,
}

/// A container and the volume it has mounted.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) container: Container,
    launch: Launch,
    _mount: Option<Mount>,
}

/// The reason why a container is no longer attended.
enum Exit {
    Ended(ExitStatus),
    NodeLost,
}

/// The reason why a container cannot start yet.
struct Obstacle {
    reason: &'static str,
    message: String,
}

impl Worker {
    pub(super) fn new(host: Arc<Host>, seen: watch::Receiver<Seen>) -> Self {
        let pod = Arc::clone(&seen.borrow().pod);
        let name = PodName::new(&pod.namespace().unwrap_or_default(), &pod.name_any());
        Self {
            faults: host.stages.of(&name),
            uid: pod.uid().unwrap_or_default(),
            status: Mutex::new(pod.status.clone().unwrap_or_default()),
            last_error: Mutex::default(),
            host,
            name,
            seen,
        }
    }

    /// Runs the pod until it is over.
    pub(super) async fn run(self) {
        let mut running = None;
        let mut seen = self.seen.clone();
        tokio::select! {
            () = self.live(&mut running) => {}
            // An error means that the kubelet stops, which ends the pod like the others.
            _ = seen.wait_for(Seen::ending) => {}
        }
        if let Err(error) = self.end(running).await {
            self.log_error(&error).await;
        }
    }

    /// Writes an error into the journal, unless it is the same as the last one.
    pub(super) async fn log_error(&self, error: &anyhow::Error) {
        let text = format!("{error:#}");
        let mut last_error = self.last_error.lock().await;
        if *last_error != text {
            self.host.journal.write(format_args!("{}: {text}", self.name));
            *last_error = text;
        }
    }

    pub(super) fn pod(&self) -> Arc<Pod> {
        Arc::clone(&self.seen.borrow().pod)
    }

    pub(super) fn api(&self) -> Api<Pod> {
        Api::namespaced(self.host.client.clone(), &self.name.namespace)
    }

    /// Binds and runs the pod. Never returns: the caller drops it when the pod ends.
    async fn live(&self, running: &mut Option<Running>) {
        let node = self.bound().await;
        if !Nodes::has(&node) {
            return pending().await;
        }
        let spec = match Workload::of(&self.pod()) {
            Workload::Spilo(container) => container,
            Workload::Nothing => {
                let state = State::Running { started: Timestamp::now(), ready: true };
                self.report(Some(self.take_address()), state, &History::default()).await;
                return pending().await;
            }
            Workload::Unknown { image } => {
                let message = format!("the test bed has no program for image {image}");
                self.obstacle(None, &History::default(), "ErrImageNeverPull", message).await;
                return pending().await;
            }
        };
        let address = self.take_address();
        let mut history = History::default();
        let mut lost = self.host.nodes.lost();
        loop {
            node_recovered(&mut lost, &node).await;
            let (launch, mount) = self.prepared(&spec, address, &history).await;
            let started =
                match Container::start(&launch.command(), &self.host.log(&self.name)).await {
                    Ok(container) => running.insert(Running { container, launch, _mount: mount }),
                    Err(error) => {
                        let message = format!("{error:#}");
                        self.obstacle(Some(address), &history, "RunContainerError", message).await;
                        sleep(RETRY).await;
                        continue;
                    }
                };
            let exit = self.attend(started, &spec, &node, &history).await;
            let began = started.container.started();
            *running = None;
            match exit {
                // No kubelet is there to report. A recovered node starts its containers again.
                Exit::NodeLost => history.record(137, began),
                Exit::Ended(status) => {
                    history.record(exit_code(status), began);
                    self.pause_before_restart(address, &history).await;
                }
            }
            history.restarts += 1;
        }
    }

    /// Returns a new address for this incarnation.
    fn take_address(&self) -> Ipv4Addr {
        self.host.addresses.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Binds the pod, unless another scheduler has, and returns its node.
    async fn bound(&self) -> String {
        let mut faults = self.faults.clone();
        let mut seen = self.seen.clone();
        loop {
            let pod = self.pod();
            if let Some(node) = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()) {
                return node;
            }
            let blocked = faults.borrow_and_update().has(Fault::Unschedulable);
            let placed = if blocked {
                Err(format!("0/{COUNT} nodes are available: {COUNT} node(s) were staged away."))
            } else {
                self.place(&pod).await.unwrap_or_else(|error| Err(format!("{error:#}")))
            };
            match placed {
                Ok(()) => {
                    let bound = |seen: &Seen| {
                        seen.pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some())
                    };
                    _ = seen.wait_for(bound).await;
                }
                Err(message) => {
                    let before = self.status.lock().await.clone();
                    let now = Timestamp::now();
                    self.write_status(unschedulable(&before, &message, now)).await;
                    tokio::select! {
                        _ = faults.changed() => {}
                        _ = seen.changed() => {}
                        () = sleep(RETRY) => {}
                    }
                }
            }
        }
    }

    /// Binds the pod to a node. The inner error is the scheduler's message.
    async fn place(&self, pod: &Pod) -> Result<Result<(), String>> {
        let _one_at_a_time = self.host.placing.lock().await;
        let nodes = self.host.nodes.list().await?;
        let pods = Api::<Pod>::all(self.host.client.clone()).list(&everything()).await?.items;
        let node = match scheduler::place(pod, &nodes, &pods) {
            Ok(node) => node,
            Err(message) => return Ok(Err(message)),
        };
        let binding: Binding = serde_json::from_value(json!({
            "metadata": {"name": self.name.name, "uid": self.uid},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        }))?;
        self.api()
            .create_subresource::<_, serde_json::Value>(
                "binding",
                &self.name.name,
                &PostParams::default(),
                &binding,
            )
            .await
            .with_context(|| format!("failed to bind {} to {node}", self.name))?;
        Ok(Ok(()))
    }

    /// Prepares everything that a container needs, and waits for missing objects.
    async fn prepared(
        &self,
        spec: &ContainerSpec,
        address: Ipv4Addr,
        history: &History,
    ) -> (Launch, Option<Mount>) {
        loop {
            match self.prepare(spec, address).await {
                Ok(ready) => return ready,
                Err(Obstacle { reason, message }) => {
                    self.obstacle(Some(address), history, reason, message).await;
                    sleep(RETRY).await;
                }
            }
        }
    }

    async fn prepare(
        &self,
        spec: &ContainerSpec,
        address: Ipv4Addr,
    ) -> Result<(Launch, Option<Mount>), Obstacle> {
        let creating = |error: anyhow::Error| Obstacle {
            reason: "ContainerCreating",
            message: format!("{error:#}"),
        };
        let misconfigured = |error: anyhow::Error| Obstacle {
            reason: "CreateContainerConfigError",
            message: format!("{error:#}"),
        };
        let host = &self.host;
        let pod = self.pod();
        if self.faults.borrow().has(Fault::ImageUnavailable) {
            let image = spec.image.as_deref().unwrap_or_default();
            let message = format!("Back-off pulling image \"{image}\"");
            return Err(Obstacle { reason: NO_IMAGE, message });
        }
        let directory = self.directory();
        tokio::fs::create_dir_all(&directory).await.map_err(|error| creating(error.into()))?;
        let mount = match data_claim(&pod) {
            None => None,
            Some(claim) => {
                let mount = host.volumes.mount(&self.name.namespace, claim).await;
                let mount = mount.map_err(creating)?;
                Some(mount.ok_or_else(|| Obstacle {
                    reason: "ContainerCreating",
                    message: format!("waiting for claim {claim} to be bound"),
                })?)
            }
        };
        let volume = mount.as_ref().map_or_else(|| directory.join("empty"), |m| m.path().into());
        let sources = Sources::read(&host.client, &self.name.namespace, spec).await;
        let sources = sources.map_err(creating)?;
        let launch = Launch {
            env: environment(&pod, spec, address, &sources).map_err(misconfigured)?,
            pod: self.name.clone(),
            address,
            directory,
            volume,
            python: host.python.clone(),
            init: host.directory.join("init.py"),
            api_server: host.api_server.clone(),
        };
        identity::project(&host.client, &host.ca_pem, &pod, &launch.service_account())
            .await
            .map_err(creating)?;
        let faults = self.faults.borrow().clone();
        launch.lay_out(&faults).await.map_err(misconfigured)?;
        Ok((launch, mount))
    }

    /// Attends a running container until it ends or its node is lost.
    async fn attend(
        &self,
        running: &mut Running,
        spec: &ContainerSpec,
        node: &str,
        history: &History,
    ) -> Exit {
        let launch = &running.launch;
        self.host.enter(
            &self.name,
            Member {
                address: launch.address,
                superuser: launch.superuser().to_owned(),
                launch: launch.clone(),
                processes: running.container.processes().clone(),
            },
        );
        if let Err(error) = self.open_streams(running).await {
            self.log_error(&error).await;
        }
        let exit = self.watch_over(running, spec, node, history).await;
        self.host.leave(&self.name);
        self.close_streams().await;
        exit
    }

    async fn watch_over(
        &self,
        running: &mut Running,
        spec: &ContainerSpec,
        node: &str,
        history: &History,
    ) -> Exit {
        let Running { container, launch, .. } = running;
        let faults = self.faults.clone();
        let mut enforcer =
            Enforcer::new(launch.clone(), container.processes().clone(), &faults.borrow());
        let mut ready = Readiness::of(spec, launch.address);
        let mut lost = self.host.nodes.lost();
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut renewal = interval_at(Instant::now() + identity::RENEWAL, identity::RENEWAL);
        loop {
            let state = State::Running { started: container.started(), ready: ready.now() };
            self.report(Some(launch.address), state, history).await;
            let done = tokio::select! {
                status = container.ended() => match status {
                    Ok(status) => return Exit::Ended(status),
                    Err(error) => Err(error),
                },
                () = node_lost(&mut lost, node) => {
                    if container.kill().await.is_ok() {
                        return Exit::NodeLost;
                    }
                    Ok(())
                }
                () = ready.changed() => Ok(()),
                _ = ticks.tick() => {
                    let faults = faults.borrow().clone();
                    if faults.has(Fault::NodeLost) {
                        self.host.stages.forget(&self.name, Fault::NodeLost);
                        self.host.lose_node(&self.name, node).await
                    } else {
                        enforcer.enforce(&faults).await
                    }
                }
                _ = renewal.tick() => {
                    let directory = launch.service_account();
                    let pod = self.pod();
                    identity::project(&self.host.client, &self.host.ca_pem, &pod, &directory).await
                }
            };
            if let Err(error) = done {
                self.log_error(&error).await;
            }
        }
    }

    async fn open_streams(&self, running: &Running) -> Result<()> {
        let Running { container, launch, .. } = running;
        launch.remember(container.processes().first()).await?;
        streaming::open(&self.host.client, &launch.streams()).await
    }

    /// Closes the streams of a pod that no longer runs.
    pub(super) async fn close_streams(&self) {
        let PodName { namespace, name } = &self.name;
        if let Err(error) = streaming::close(&self.host.client, namespace, name).await {
            self.log_error(&error).await;
        }
    }

    /// Pauses between two starts of a container. The pause grows with each failure.
    async fn pause_before_restart(&self, address: Ipv4Addr, history: &History) {
        let Some(last) = &history.last else { return };
        let mut faults = self.faults.clone();
        if faults.borrow().has(Fault::StoppedPatroni) {
            self.report(Some(address), State::Terminated(last.clone()), history).await;
            _ = faults.wait_for(|faults| !faults.has(Fault::StoppedPatroni)).await;
            return;
        }
        let pause = back_off(history.failures);
        if !pause.is_zero() {
            let message = format!("back-off {}s restarting failed container", pause.as_secs());
            self.obstacle(Some(address), history, CRASHING, message).await;
            sleep(pause).await;
        }
    }

    pub(super) fn directory(&self) -> PathBuf {
        let PodName { namespace, name } = &self.name;
        self.host.directory.join(format!("pods/{namespace}_{name}_{}", self.uid))
    }

    /// Reports that the container waits.
    async fn obstacle(
        &self,
        address: Option<Ipv4Addr>,
        history: &History,
        reason: &'static str,
        message: String,
    ) {
        self.report(address, State::Waiting { reason, message }, history).await;
    }

    /// Reports the pod's status, if it differs from the last report.
    async fn report(&self, address: Option<Ipv4Addr>, state: State, history: &History) {
        let seen =
            Observation { address, state, restarts: history.restarts, last: history.last.clone() };
        let before = self.status.lock().await.clone();
        self.write_status(status(&self.pod(), &before, &seen, Timestamp::now())).await;
    }

    async fn write_status(&self, status: PodStatus) {
        let mut before = self.status.lock().await;
        if *before == status {
            return;
        }
        // The uid keeps a status of this incarnation from the next one.
        let patch = Patch::Merge(json!({"metadata": {"uid": self.uid}, "status": status}));
        match self.api().patch_status(&self.name.name, &PatchParams::default(), &patch).await {
            Ok(_) => *before = status,
            Err(kube::Error::Api(answer)) if answer.is_not_found() || answer.is_conflict() => {}
            Err(error) => {
                let error = anyhow::Error::new(error).context("failed to report the pod's status");
                self.log_error(&error).await;
            }
        }
    }
}
