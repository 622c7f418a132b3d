//! Faults of one member, and actions of a person on a cluster's Patroni.
//!
//! A fault is set for a pod's name. It holds for every pod of that name, now or later, until it is
//! lifted: a fault that is set before the pod exists affects the pod from its first moment.
//! [`Kubelet::stage`] and [`Kubelet::unstage`] return when the effect can be seen from outside.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::mem::discriminant;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use hyper::Method;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::kubelet::{Kubelet, PodName};
use crate::patroni::{RuntimeSettings, TagValue, rest};
use crate::wait::{Attempt, until};

/// The limit for an effect to show: Patroni acts once per loop, of ten seconds by default, and a
/// shutdown takes a checkpoint, on a machine that may be busy.
const DEADLINE: Duration = Duration::from_secs(180);

/// A fault of one member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The next base backup is throttled, so that a rebuild can be watched. A running one is not
    /// slowed down. Lifting the fault ends a throttled one, and Patroni starts again at full speed
    /// within some seconds.
    SlowBaseBackup {
        /// The rate: at least 32, as `pg_basebackup` requires. A new cluster has about 25,000
        /// kilobytes.
        kilobytes_per_second: u32,
    },
    /// Every base backup ends with an error. Patroni tries again for ever.
    FailingBaseBackup,
    /// Patroni is stopped (SIGSTOP) while PostgreSQL continues. The kernel accepts REST calls and
    /// Patroni never answers them. The leader lock is not renewed.
    FrozenPatroni,
    /// Patroni got SIGTERM, has shut PostgreSQL down, and is not started again: the container is
    /// terminated. A leader switches over first.
    StoppedPatroni,
    /// The WAL receiver is stopped and no other can start. The replica lags by everything that is
    /// written from now on, while it reports that it is running. If it is promoted, the WAL that it
    /// has not received is lost.
    StalledReceiver,
    /// The replica receives WAL and does not replay it.
    PausedReplay,
    /// The member has Patroni's `nofailover` tag: it never takes over.
    NoFailover,
    /// The member has another tag of Patroni, in any spelling that Patroni reads.
    Tagged {
        /// The name of the tag.
        tag: &'static str,
        /// Its value.
        value: TagValue,
    },
    /// Patroni refuses connections to its REST API, and works otherwise.
    RestRefused,
    /// The pod's node is gone, with everything on it: the processes disappear, the kubelet no
    /// longer reports for the pod, and the Node's Ready condition turns Unknown. Deleting the pod
    /// changes nothing until it is deleted by force or the fault is lifted. The fault does not
    /// follow the pod's name to another node.
    NodeLost,
    /// The pod finds no node and is Pending for ever. Only for a pod that has no node yet.
    Unschedulable,
    /// The image cannot be pulled: no container of the pod starts any more. A running container
    /// continues.
    ImageUnavailable,
    /// The container dies as soon as it runs, and is started again after a pause that grows. Once
    /// the fault is lifted, it stays up after the present pause.
    Crashing,
}

/// The faults of one pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Faults(Vec<Fault>);

impl Faults {
    /// Returns whether this fault is set, with any parameters.
    pub(crate) fn has(&self, fault: Fault) -> bool {
        self.0.iter().any(|set| discriminant(set) == discriminant(&fault))
    }

    /// Returns the part of Patroni's configuration that the faults change.
    pub(crate) fn runtime_settings(&self) -> RuntimeSettings {
        RuntimeSettings {
            nofailover: self.has(Fault::NoFailover),
            rest_refused: self.has(Fault::RestRefused),
            tag: self.0.iter().find_map(|fault| {
                let Fault::Tagged { tag, value } = fault else { return None };
                Some((*tag, *value))
            }),
        }
    }

    /// Returns the instruction for base backups: `fail`, a rate for `--max-rate`, or an empty text.
    pub(crate) fn base_backup(&self) -> String {
        if self.has(Fault::FailingBaseBackup) {
            return "fail".to_owned();
        }
        let rate = self.0.iter().find_map(|fault| {
            let Fault::SlowBaseBackup { kilobytes_per_second } = fault else { return None };
            Some(kilobytes_per_second)
        });
        rate.map_or_else(String::new, |rate| format!("{rate}k"))
    }

    fn set(&mut self, fault: Fault) {
        self.lift(fault);
        self.0.push(fault);
    }

    fn lift(&mut self, fault: Fault) {
        self.0.retain(|set| discriminant(set) != discriminant(&fault));
    }
}

/// The faults of all pods, by name.
#[derive(Debug, Default)]
pub(crate) struct StagedFaults(Mutex<HashMap<PodName, watch::Sender<Faults>>>);

impl StagedFaults {
    /// Returns the faults of a pod and their later changes.
    pub(crate) fn of(&self, pod: &PodName) -> watch::Receiver<Faults> {
        let mut stages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        stages.entry(pod.clone()).or_default().subscribe()
    }

    /// Lifts a fault without waiting for its end.
    pub(crate) fn forget(&self, pod: &PodName, fault: Fault) {
        self.change(pod, |faults| faults.lift(fault));
    }

    /// Lifts every fault of the namespace's pods. Returns whether there was one.
    fn clear(&self, namespace: &str) -> bool {
        let stages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut any = false;
        for (_, faults) in stages.iter().filter(|(pod, _)| pod.namespace == namespace) {
            any |= !faults.borrow().0.is_empty();
            faults.send_modify(|faults| faults.0.clear());
        }
        any
    }

    fn change(&self, pod: &PodName, change: impl FnOnce(&mut Faults)) {
        let mut stages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        stages.entry(pod.clone()).or_default().send_modify(change);
    }
}

impl Kubelet {
    /// Sets a fault for a pod. Returns when it is in effect, or at once if the pod does not run.
    ///
    /// # Errors
    /// Fails when the effect does not show within three minutes (the fault stays set), for
    /// [`Fault::Unschedulable`] when the pod has a node already, and for [`Fault::PausedReplay`]
    /// when it leads.
    pub async fn stage(&self, namespace: &str, pod: &str, fault: Fault) -> Result<()> {
        let name = PodName::new(namespace, pod);
        let existing = self.pod(&name).await?;
        let node = existing
            .as_ref()
            .and_then(|pod| pod.spec.as_ref().and_then(|spec| spec.node_name.clone()));
        match (fault, node) {
            (Fault::Unschedulable, Some(node)) => bail!(
                "pod {name} cannot be kept from a node, it is on {node} already; \
                 stage it before the pod is created"
            ),
            (Fault::PausedReplay, Some(_)) if self.host.leads(&name).await => bail!(
                "replay of pod {name} cannot be paused: it leads its cluster and replays nothing"
            ),
            (Fault::NodeLost, Some(node)) => self.host.lose_node(&name, &node).await?,
            _ => self.host.stages.change(&name, |faults| faults.set(fault)),
        }
        let waits = if fault == Fault::Unschedulable {
            existing.is_some()
        } else {
            // A missing image shows when a container is started the next time.
            fault != Fault::ImageUnavailable && self.host.member(&name).is_some()
        };
        if waits { self.observed(&name, fault, true).await } else { Ok(()) }
    }

    /// Lifts a fault. Returns when the pod runs without it, or at once if there is no such pod or
    /// it did not have the fault.
    ///
    /// # Errors
    /// Fails when the effect does not show within three minutes.
    pub async fn unstage(&self, namespace: &str, pod: &str, fault: Fault) -> Result<()> {
        let name = PodName::new(namespace, pod);
        let had = self.host.stages.of(&name).borrow().has(fault);
        self.host.stages.forget(&name, fault);
        let lost = fault == Fault::NodeLost && self.host.recover_node(&name).await?;
        // These faults keep the pod from running. Without them it runs, or waits for something
        // else.
        let keeps_down = [
            Fault::Crashing,
            Fault::ImageUnavailable,
            Fault::NodeLost,
            Fault::StoppedPatroni,
            Fault::Unschedulable,
        ];
        let matters = keeps_down.contains(&fault) || self.host.member(&name).is_some();
        if (had || lost) && matters && self.pod(&name).await?.is_some_and(|pod| !is_ending(&pod)) {
            self.observed(&name, fault, false).await?;
        }
        Ok(())
    }

    /// Lifts everything that [`Self::stage`] has set for a namespace's pods, except for lost nodes,
    /// without waiting. Returns whether there was a fault.
    pub fn unstage_all(&self, namespace: &str) -> bool {
        self.host.stages.clear(namespace)
    }

    /// Puts a cluster's Patroni into maintenance mode (`PATCH /config {"pause": true}`), in which
    /// no member takes over. Returns when every member that answers reports it.
    ///
    /// # Errors
    /// Fails when no member accepts it, or a member that answers does not follow within three
    /// minutes.
    pub async fn pause(&self, namespace: &str, cluster: &str) -> Result<()> {
        self.set_pause(namespace, cluster, true).await
    }

    /// Ends what [`Self::pause`] began.
    ///
    /// # Errors
    /// Fails like [`Self::pause`].
    pub async fn resume(&self, namespace: &str, cluster: &str) -> Result<()> {
        self.set_pause(namespace, cluster, false).await
    }

    async fn set_pause(&self, namespace: &str, cluster: &str, pause: bool) -> Result<()> {
        let members = self.host.members_of(namespace, cluster);
        // Patroni removes a setting that is null. A value of false would stay in the configuration
        // for ever.
        let body = json!({"pause": if pause { json!(true) } else { Value::Null }});
        let mut refusals = String::new();
        let mut answering = Vec::new();
        for (name, address) in members {
            match rest::send(address, Method::PATCH, "/config", &body).await {
                Ok(()) => answering.push((name, address)),
                Err(error) => _ = write!(refusals, "\n  {name}: {error:#}"),
            }
        }
        if answering.is_empty() {
            bail!(
                "no member of {namespace}/{cluster} took the change of its pause; \
                 look at the members with: kubectl -n {namespace} get pods{refusals}"
            );
        }
        for (name, address) in answering {
            let what = format!("member {name} to say {}", if pause { "paused" } else { "resumed" });
            until(&what, DEADLINE, async || {
                let says = rest::member(address).await.map(|member| member.pause);
                Ok(match says {
                    Ok(says) if says == pause => Attempt::Done(()),
                    Ok(says) => Attempt::NotYet(format!("pause: {says}")),
                    Err(error) => Attempt::NotYet(format!("{error:#}")),
                })
            })
            .await?;
        }
        Ok(())
    }

    /// Makes a replica delete its data and build it again (`POST /reinitialize`). Returns when it
    /// no longer runs on the old data.
    ///
    /// # Errors
    /// Fails when the pod does not run, Patroni refuses (a leader cannot be rebuilt), or the
    /// rebuild does not begin within three minutes.
    pub async fn reinitialize(&self, namespace: &str, pod: &str) -> Result<()> {
        let address = self
            .address(namespace, pod)
            .with_context(|| format!("pod {namespace}/{pod} does not run; it cannot be rebuilt"))?;
        let before = until(&format!("{pod} to answer"), DEADLINE, async || {
            Ok(match rest::member(address).await {
                Ok(member) => Attempt::Done(member.postmaster_start_time),
                Err(error) => Attempt::NotYet(format!("{error:#}")),
            })
        })
        .await?;
        let mut refusal = Some("not asked yet".to_owned());
        until(&format!("{pod} to be rebuilt"), DEADLINE, async || {
            if refusal.is_some() {
                let request = json!({"force": true});
                let asked = rest::send(address, Method::POST, "/reinitialize", &request).await;
                refusal = asked.err().map(|error| format!("{error:#}"));
            }
            let member = match rest::member(address).await {
                Ok(member) => member,
                Err(error) => return Ok(Attempt::NotYet(format!("{error:#}"))),
            };
            let rebuilt = member.state != "running" || member.postmaster_start_time != before;
            Ok(if rebuilt {
                Attempt::Done(())
            } else {
                Attempt::NotYet(format!("{}, refusal: {refusal:?}", member.state))
            })
        })
        .await
    }

    /// Waits until `fault` can be seen from outside, or can no longer be seen.
    async fn observed(&self, pod: &PodName, fault: Fault, wanted: bool) -> Result<()> {
        let what = format!("{fault:?} of pod {pod} to {}", if wanted { "show" } else { "end" });
        until(&what, DEADLINE, async || {
            Ok(match self.host.shows(pod, fault).await {
                Ok(shown) if shown == wanted => Attempt::Done(()),
                Ok(shown) => Attempt::NotYet(format!("shows: {shown}")),
                Err(error) => Attempt::NotYet(format!("{error:#}")),
            })
        })
        .await
        .with_context(|| {
            format!("see the member's log {}", self.log(&pod.namespace, &pod.name).display())
        })
    }

    async fn pod(&self, name: &PodName) -> Result<Option<Pod>> {
        let api = Api::<Pod>::namespaced(self.host.client(), &name.namespace);
        api.get_opt(&name.name).await.with_context(|| format!("failed to read pod {name}"))
    }
}

fn is_ending(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_set_once_whatever_its_parameters() {
        let mut faults = Faults::default();
        assert_eq!(faults.base_backup(), "");
        faults.set(Fault::SlowBaseBackup { kilobytes_per_second: 500 });
        faults.set(Fault::SlowBaseBackup { kilobytes_per_second: 1000 });
        assert_eq!(faults.base_backup(), "1000k");
        faults.set(Fault::FailingBaseBackup);
        assert_eq!(faults.base_backup(), "fail");
        faults.lift(Fault::SlowBaseBackup { kilobytes_per_second: 0 });
        faults.lift(Fault::FailingBaseBackup);
        assert_eq!(faults, Faults::default());
    }

    #[test]
    fn runtime_settings_follow_the_faults() {
        let mut faults = Faults::default();
        assert_eq!(faults.runtime_settings(), RuntimeSettings::default());
        faults.set(Fault::NoFailover);
        assert_eq!(
            faults.runtime_settings(),
            RuntimeSettings { nofailover: true, ..RuntimeSettings::default() }
        );
        faults.set(Fault::RestRefused);
        let value = TagValue::Text("false");
        faults.set(Fault::Tagged { tag: "nosync", value });
        assert_eq!(
            faults.runtime_settings(),
            RuntimeSettings { nofailover: true, rest_refused: true, tag: Some(("nosync", value)) }
        );
    }

    #[test]
    fn a_fault_reaches_present_and_later_subscribers() {
        let stages = StagedFaults::default();
        let pod = PodName::new("db", "acid-a-0");
        let early = stages.of(&pod);
        stages.change(&pod, |faults| faults.set(Fault::NoFailover));
        assert!(early.borrow().has(Fault::NoFailover));
        assert!(stages.of(&pod).borrow().has(Fault::NoFailover));
        assert!(!stages.of(&PodName::new("db", "acid-a-1")).borrow().has(Fault::NoFailover));
        stages.forget(&pod, Fault::NoFailover);
        assert!(!early.borrow().has(Fault::NoFailover));
    }
}
