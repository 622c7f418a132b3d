//! Observation of staged faults from outside the member.

use std::net::Ipv4Addr;

use anyhow::{Context as _, Result, bail};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, ResourceExt as _};
use serde_json::Value;

use super::faults::{is_receiver, is_throttled, receivers_blocked, refuses, replay_state};
use super::pod::{CRASHING, NO_IMAGE};
use super::{Host, Member, PodName};
use crate::patroni::{REST_PORT, rest};
use crate::postgres::Session;
use crate::stage::Fault;

impl Host {
    pub(crate) fn client(&self) -> Client {
        self.client.clone()
    }

    /// Returns the running members of a cluster, and their addresses.
    pub(crate) fn members_of(&self, namespace: &str, cluster: &str) -> Vec<(String, Ipv4Addr)> {
        let members = self.members.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let of_cluster = members.iter().filter(|(name, member)| {
            name.namespace == namespace && member.launch.scope() == Some(cluster)
        });
        of_cluster.map(|(name, member)| (name.name.clone(), member.address)).collect()
    }

    /// Returns whether `fault` shows in the pod with this name.
    ///
    /// # Errors
    /// Fails when that cannot be determined at the moment. The caller tries again.
    pub(crate) async fn shows(&self, name: &PodName, fault: Fault) -> Result<bool> {
        let running = || self.member(name).context("its container does not run");
        match fault {
            Fault::SlowBaseBackup { .. } | Fault::FailingBaseBackup => {
                base_backup_shows(&running()?, fault)
            }
            Fault::FrozenPatroni => is_frozen(&running()?).await,
            Fault::StalledReceiver => is_stalled(&running()?).await,
            Fault::PausedReplay => {
                let member = running()?;
                let session = Session::open_as(member.address, &member.superuser).await?;
                Ok(replay_state(&session).await?.as_deref() == Some("paused"))
            }
            Fault::NoFailover => {
                self.has_tag(name, &running()?, "nofailover", &Value::Bool(true)).await
            }
            Fault::Tagged { tag, value } => {
                self.has_tag(name, &running()?, tag, &value.as_json()).await
            }
            Fault::RestRefused => Ok(refuses(running()?.address, REST_PORT).await),
            Fault::StoppedPatroni => match self.member(name) {
                Some(member) => rest::member(member.address).await.map(|_| false),
                None => Ok(self.pod(name).await?.is_some_and(|pod| is_terminated(&pod))),
            },
            Fault::Crashing => self.waits(name, CRASHING).await,
            Fault::ImageUnavailable => self.waits(name, NO_IMAGE).await,
            Fault::NodeLost => match self.member(name) {
                Some(member) => rest::member(member.address).await.map(|_| false),
                None => Ok(true),
            },
            Fault::Unschedulable => {
                let pod = self.pod(name).await?.context("the pod is gone")?;
                Ok(pod.spec.is_some_and(|spec| spec.node_name.is_none()))
            }
        }
    }

    /// Returns whether the pod runs and its PostgreSQL is not in recovery.
    pub(crate) async fn leads(&self, name: &PodName) -> bool {
        let Some(member) = self.member(name) else { return false };
        let Ok(session) = Session::open_as(member.address, &member.superuser).await else {
            return false;
        };
        replay_state(&session).await.is_ok_and(|state| state.is_none())
    }

    /// Returns whether a container of the pod waits for this reason.
    async fn waits(&self, name: &PodName, reason: &str) -> Result<bool> {
        let status = self.pod(name).await?.and_then(|pod| pod.status);
        let containers = status.and_then(|status| status.container_statuses);
        let mut waiting = containers
            .into_iter()
            .flatten()
            .filter_map(|container| container.state?.waiting?.reason);
        Ok(waiting.any(|seen| seen == reason))
    }

    async fn pod(&self, name: &PodName) -> Result<Option<Pod>> {
        Ok(Api::namespaced(self.client(), &name.namespace).get_opt(&name.name).await?)
    }

    /// Returns whether the member has the tag with this value. Patroni and the annotation that other
    /// programs read must agree.
    async fn has_tag(
        &self,
        name: &PodName,
        member: &Member,
        tag: &str,
        value: &Value,
    ) -> Result<bool> {
        let said = rest::member(member.address).await?.tags.get(tag) == Some(value);
        let pod = self.pod(name).await?.context("the pod is gone")?;
        let status = pod.annotations().get("status").context("it has no status annotation yet")?;
        let status: Value = serde_json::from_str(status)?;
        let written = status.pointer(&format!("/tags/{tag}")) == Some(value);
        (said == written).then_some(said).with_context(|| {
            format!("Patroni says {tag} is {value}: {said}, its annotation says so: {written}")
        })
    }
}

/// Returns whether a fault of base backups shows: in the instruction for the next one, or in a
/// throttled one that still runs.
fn base_backup_shows(member: &Member, fault: Fault) -> Result<bool> {
    let stage = member.launch.base_backup_stage();
    let next = std::fs::read_to_string(&stage)
        .with_context(|| format!("failed to read {}", stage.display()))?;
    if fault == Fault::FailingBaseBackup {
        return Ok(next == "fail");
    }
    let throttled = || member.processes.list().iter().any(is_throttled);
    Ok(!next.is_empty() && next != "fail" || throttled())
}

async fn is_frozen(member: &Member) -> Result<bool> {
    let all = member.processes.list();
    let mut patroni = all.iter().filter(|process| member.launch.is_patroni(&process.command));
    let first = patroni.next().context("Patroni has no process")?.stopped;
    if !patroni.all(|process| process.stopped == first) {
        bail!("half of Patroni is stopped");
    }
    // The member is responsive again once it answers.
    if first { Ok(true) } else { rest::member(member.address).await.map(|_| false) }
}

async fn is_stalled(member: &Member) -> Result<bool> {
    let session = Session::open_as(member.address, &member.superuser).await?;
    let blocked = receivers_blocked(&session).await?;
    let held = member
        .processes
        .list()
        .iter()
        .filter(|process| is_receiver(process))
        .all(|receiver| receiver.stopped == blocked);
    held.then_some(blocked).context("its WAL receiver has not changed its state yet")
}

fn is_terminated(pod: &Pod) -> bool {
    let containers =
        pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    let mut states = containers.filter_map(|container| container.state.as_ref());
    states.any(|state| state.terminated.is_some())
}
