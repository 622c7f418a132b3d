//! Readiness probes of the `httpGet` kind.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, HTTPGetAction, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::patroni::rest;

/// A container's readiness, probed until it is dropped.
#[derive(Debug)]
pub(super) struct Readiness {
    verdict: watch::Receiver<bool>,
    prober: Option<JoinHandle<()>>,
}

impl Readiness {
    /// Starts to probe `container` at `address`. Without an `httpGet` probe a container is ready as
    /// soon as it has started, as for a kubelet.
    pub(super) fn of(container: &Container, address: Ipv4Addr) -> Self {
        let Some((schedule, target, path)) = plan(container, address) else {
            return Self { verdict: watch::Sender::new(true).subscribe(), prober: None };
        };
        let (sender, verdict) = watch::channel(false);
        let prober = tokio::spawn(async move {
            let mut streak = Streak::default();
            sleep(schedule.delay).await;
            let mut ticks = interval(schedule.period);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                let answer = rest::probe(target, &path, schedule.limit).await;
                // A kubelet takes 200 to 399 as success.
                let fine = answer.is_ok_and(|status| status.as_u16() / 100 <= 3);
                if let Some(ready) = streak.count(fine, &schedule) {
                    sender.send_if_modified(|before| std::mem::replace(before, ready) != ready);
                }
            }
        });
        Self { verdict, prober: Some(prober) }
    }

    /// Returns whether the container is ready now.
    pub(super) fn now(&self) -> bool {
        *self.verdict.borrow()
    }

    /// Waits until that changes.
    pub(super) async fn changed(&mut self) {
        if self.verdict.changed().await.is_err() {
            // Without a probe it never changes.
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Readiness {
    fn drop(&mut self) {
        if let Some(prober) = &self.prober {
            prober.abort();
        }
    }
}

/// The timing of a probe, and the number of answers for a verdict.
#[derive(Clone, Copy, Debug)]
struct Schedule {
    delay: Duration,
    period: Duration,
    limit: Duration,
    successes: u32,
    failures: u32,
}

/// Returns the probe of a container, if it has one.
fn plan(container: &Container, address: Ipv4Addr) -> Option<(Schedule, SocketAddr, String)> {
    let probe = container.readiness_probe.as_ref()?;
    let get = probe.http_get.as_ref()?;
    let path = get.path.clone().unwrap_or_else(|| "/".to_owned());
    Some((schedule(probe), (address, port(container, get)?).into(), path))
}

fn schedule(probe: &Probe) -> Schedule {
    let number = |value: Option<i32>, default: u32| {
        value.and_then(|value| u32::try_from(value).ok()).filter(|n| *n > 0).unwrap_or(default)
    };
    let seconds = |value: Option<i32>, default| Duration::from_secs(number(value, default).into());
    Schedule {
        delay: seconds(probe.initial_delay_seconds, 0),
        period: seconds(probe.period_seconds, 10),
        limit: seconds(probe.timeout_seconds, 1),
        successes: number(probe.success_threshold, 1),
        failures: number(probe.failure_threshold, 3),
    }
}

fn port(container: &Container, get: &HTTPGetAction) -> Option<u16> {
    let number = match &get.port {
        IntOrString::Int(number) => *number,
        IntOrString::String(name) => {
            let mut ports = container.ports.iter().flatten();
            ports.find(|port| port.name.as_ref() == Some(name))?.container_port
        }
    };
    u16::try_from(number).ok()
}

/// The number of equal answers in a row.
#[derive(Debug, Default)]
struct Streak {
    fine: bool,
    length: u32,
}

impl Streak {
    /// Counts an answer. Returns the verdict once enough answers agree.
    fn count(&mut self, fine: bool, schedule: &Schedule) -> Option<bool> {
        self.length = if self.fine == fine { self.length.saturating_add(1) } else { 1 };
        self.fine = fine;
        let needed = if fine { schedule.successes } else { schedule.failures };
        (self.length >= needed).then_some(fine)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Returns a container with the probe that the operator gives to Spilo.
    fn container() -> Container {
        serde_json::from_value(json!({
            "name": "postgres",
            "ports": [{"name": "patroni", "containerPort": 8008}],
            "readinessProbe": {
                "httpGet": {"path": "/readiness", "port": "patroni"},
                "initialDelaySeconds": 6, "periodSeconds": 10, "timeoutSeconds": 5,
                "successThreshold": 1, "failureThreshold": 3,
            },
        }))
        .unwrap()
    }

    #[test]
    fn a_probe_is_read_with_its_defaults() {
        let address = Ipv4Addr::new(10, 244, 0, 10);
        let (schedule, target, path) = plan(&container(), address).unwrap();
        assert_eq!(
            (target.to_string().as_str(), path.as_str()),
            ("10.244.0.10:8008", "/readiness")
        );
        assert_eq!(schedule.delay, Duration::from_secs(6));
        assert_eq!((schedule.successes, schedule.failures), (1, 3));
        let mut changed = container();
        changed.readiness_probe.as_mut().unwrap().period_seconds = None;
        assert_eq!(plan(&changed, address).unwrap().0.period, Duration::from_secs(10));
        changed.readiness_probe = None;
        assert!(plan(&changed, address).is_none());
    }

    #[test]
    fn a_verdict_takes_as_many_answers_as_the_probe_says() {
        let (schedule, ..) = plan(&container(), Ipv4Addr::LOCALHOST).unwrap();
        let mut streak = Streak::default();
        let verdicts: Vec<_> = [false, false, false, true, false, false, true, false, false, false]
            .into_iter()
            .map(|fine| streak.count(fine, &schedule))
            .collect();
        let (up, down) = (Some(true), Some(false));
        assert_eq!(verdicts, [None, None, down, up, None, None, up, None, None, down]);
    }
}
