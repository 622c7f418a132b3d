//! Waits for a state of a cluster, and the move of its leader.

use std::time::Duration;

use anyhow::Result;
use hyper::Method;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Cluster, Member, TIMEOUT};
use crate::patroni::rest;
use crate::wait::{Attempt, until};

/// The limit for a switchover, from its first request.
const SWITCHOVER: Duration = Duration::from_secs(180);
/// The pause before a switchover that was refused or had no effect is requested again: longer than
/// Patroni's loop.
const AGAIN: Duration = Duration::from_secs(15);

impl Cluster {
    /// Waits until exactly `instances` members run, one leads and the others stream from it.
    ///
    /// # Errors
    /// Fails when that takes longer than [`TIMEOUT`].
    pub async fn converged(&self, instances: u32) -> Result<Vec<Member>> {
        let what = format!("{instances} streaming members of {}", self.name);
        until(&what, TIMEOUT, async || {
            let members = self.members().await?;
            let leaders = members.iter().filter(|member| member.leads()).count();
            let streaming = members.iter().filter(|member| member.streams()).count();
            let wanted = usize::try_from(instances)?;
            Ok(if leaders == 1 && members.len() == wanted && streaming + 1 == wanted {
                Attempt::Done(members)
            } else {
                Attempt::NotYet(format!("{members:?}"))
            })
        })
        .await
    }

    /// Returns its members as soon as every one of them answers: on a busy machine a healthy member
    /// may be too late once.
    ///
    /// # Errors
    /// Fails when one of them gives no answer for longer than [`TIMEOUT`].
    pub async fn answering(&self) -> Result<Vec<Member>> {
        until(&format!("every member of {} to answer", self.name), TIMEOUT, async || {
            let members = self.members().await?;
            Ok(if members.iter().all(|member| member.answer.is_some()) {
                Attempt::Done(members)
            } else {
                Attempt::NotYet(format!("{members:?}"))
            })
        })
        .await
    }

    /// Returns the leader as soon as exactly one member reports that it leads.
    ///
    /// # Errors
    /// Fails when none or several do for longer than [`TIMEOUT`].
    pub async fn leader(&self) -> Result<Member> {
        until(&format!("one leader of {}", self.name), TIMEOUT, async || {
            let members = self.members().await?;
            let leaders: Vec<_> = members.iter().filter(|member| member.leads()).collect();
            Ok(match leaders[..] {
                [leader] => Attempt::Done(leader.clone()),
                _ => Attempt::NotYet(format!("{members:?}")),
            })
        })
        .await
    }

    /// Waits until every pod's annotation describes a member that runs, and streams unless it
    /// leads.
    ///
    /// Other programs use the annotation once the member no longer answers. Patroni writes it once
    /// per loop.
    ///
    /// # Errors
    /// Fails when that takes longer than [`TIMEOUT`].
    pub async fn reported(&self) -> Result<()> {
        until(
            &format!("every member of {} to be reported as well", self.name),
            TIMEOUT,
            async || {
                let pods = self.pods().await?;
                let status =
                    |pod: &Pod| pod.annotations().get("status").cloned().unwrap_or_default();
                let reported: Vec<_> = pods.iter().map(status).collect();
                Ok(if reported.iter().all(|status| is_well(status)) {
                    Attempt::Done(())
                } else {
                    Attempt::NotYet(format!("{reported:?}"))
                })
            },
        )
        .await
    }

    /// Waits until the operator reports the status Running.
    ///
    /// Until then the operator may write the status at any time, and with it the resource version
    /// of the object.
    ///
    /// # Errors
    /// Fails when that takes longer than [`TIMEOUT`].
    pub async fn settled(&self) -> Result<()> {
        until(&format!("the operator to report {} as running", self.name), TIMEOUT, async || {
            let object = self.object().await?;
            let status = object.data.pointer("/status/PostgresClusterStatus");
            Ok(match status.and_then(Value::as_str) {
                Some("Running") => Attempt::Done(()),
                _ => Attempt::NotYet(format!("{status:?}")),
            })
        })
        .await
    }

    /// Moves the leader to the member with `ordinal`, and waits until it leads and is labelled so,
    /// and all others stream from it.
    ///
    /// # Errors
    /// Fails when it takes too long, with Patroni's last refusal if there was one.
    pub async fn move_leader_to(&self, ordinal: u32) -> Result<()> {
        let candidate = self.pod_name(ordinal);
        let mut asked: Option<(Instant, String)> = None;
        until(&format!("{candidate} to lead"), SWITCHOVER, async || {
            let members = self.members().await?;
            let leader = members.iter().find(|member| member.leads());
            if leader.is_some_and(|leader| leader.pod == candidate) {
                let labelled = self.labelled_master().await?;
                return Ok(if labelled == [candidate.clone()] {
                    Attempt::Done(())
                } else {
                    Attempt::NotYet(format!("labelled master: {labelled:?}"))
                });
            }
            let due = asked.as_ref().is_none_or(|(at, _)| at.elapsed() >= AGAIN);
            if let (true, Some(leader)) = (due, leader) {
                asked = Some((Instant::now(), switch_over(leader, &candidate).await));
            }
            Ok(Attempt::NotYet(format!("asked: {asked:?}, members: {members:?}")))
        })
        .await?;
        let members = u32::try_from(self.pods().await?.len())?;
        self.converged(members).await?;
        Ok(())
    }

    /// Lists the pods with the label of the leader.
    async fn labelled_master(&self) -> Result<Vec<String>> {
        let pods = self.pods().await?;
        let labelled = pods
            .iter()
            .filter(|pod| pod.labels().get("spilo-role").is_some_and(|role| role == "master"));
        Ok(labelled.map(kube::ResourceExt::name_any).collect())
    }
}

/// Asks `leader` to switch over to `candidate`, and describes the outcome.
///
/// The answer comes after the switchover, which may outlast a call. On a busy machine Patroni may
/// find a healthy candidate too slow. So the caller checks which member leads.
async fn switch_over(leader: &Member, candidate: &str) -> String {
    let Some(address) = leader.address else { return "the leader has no address".to_owned() };
    let request = json!({"leader": leader.pod, "candidate": candidate});
    match rest::send(address, Method::POST, "/switchover", &request).await {
        Ok(()) => "accepted".to_owned(),
        Err(error) => format!("{error:#}"),
    }
}

/// Returns whether Patroni's annotation `status` describes a member that leads or streams.
fn is_well(status: &str) -> bool {
    let status: Value = serde_json::from_str(status).unwrap_or_default();
    let says = |key: &str| status.get(key).and_then(Value::as_str).unwrap_or_default();
    let leads = matches!(says("role"), "primary" | "master");
    says("state") == "running" && (leads || says("replication_state") == "streaming")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_that_leads_or_streams_is_well() {
        for (status, well) in [
            (r#"{"state": "running", "role": "primary"}"#, true),
            (r#"{"state": "running", "role": "replica", "replication_state": "streaming"}"#, true),
            (r#"{"state": "running", "role": "replica"}"#, false),
            (r#"{"state": "stopped", "role": "primary"}"#, false),
            ("", false),
        ] {
            assert_eq!(is_well(status), well, "{status}");
        }
    }
}
