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

/// How long a switchover may take, from the first time it is asked for.
const SWITCHOVER: Duration = Duration::from_secs(180);
/// When a switchover that was refused, or led to nothing, is asked for again: longer than Patroni's loop.
const AGAIN: Duration = Duration::from_secs(15);

impl Cluster {
    /// Waits until exactly `instances` members run, one leads and the others stream from it.
    ///
    /// # Errors
    /// When that takes longer than [`TIMEOUT`].
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

    /// Its members, as soon as every one of them answers: on a busy machine a healthy one may be too late once.
    ///
    /// # Errors
    /// When one of them gives no answer for longer than [`TIMEOUT`].
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

    /// The member that leads, by its own word, as soon as exactly one does.
    ///
    /// # Errors
    /// When none or several do for longer than [`TIMEOUT`].
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

    /// Waits until every pod's annotation tells of a member that runs, and streams unless it leads: what everybody
    /// believes from the moment when it does not answer any more. Patroni writes it once per loop.
    ///
    /// # Errors
    /// When that takes longer than [`TIMEOUT`].
    pub async fn reported(&self) -> Result<()> {
        until(
            &format!("every member of {} to be reported as well", self.name),
            TIMEOUT,
            async || {
                let pods = self.pods().await?;
                let told = |pod: &Pod| pod.annotations().get("status").cloned().unwrap_or_default();
                let told: Vec<_> = pods.iter().map(told).collect();
                Ok(if told.iter().all(|status| is_well(status)) {
                    Attempt::Done(())
                } else {
                    Attempt::NotYet(format!("{told:?}"))
                })
            },
        )
        .await
    }

    /// Waits until the operator calls it running. Until then it writes the status, and with it the version of the
    /// object, whenever it likes.
    ///
    /// # Errors
    /// When that takes longer than [`TIMEOUT`].
    pub async fn settled(&self) -> Result<()> {
        until(&format!("the operator to call {} running", self.name), TIMEOUT, async || {
            let object = self.object().await?;
            let status = object.data.pointer("/status/PostgresClusterStatus");
            Ok(match status.and_then(Value::as_str) {
                Some("Running") => Attempt::Done(()),
                _ => Attempt::NotYet(format!("{status:?}")),
            })
        })
        .await
    }

    /// Moves the leader to the member with `ordinal` and waits until it leads and is labelled so, and all others
    /// stream from it.
    ///
    /// # Errors
    /// When it takes too long, with Patroni's last refusal if there was one.
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

    /// The pods that are labelled as the leader's.
    async fn labelled_master(&self) -> Result<Vec<String>> {
        let pods = self.pods().await?;
        let labelled = pods
            .iter()
            .filter(|pod| pod.labels().get("spilo-role").is_some_and(|role| role == "master"));
        Ok(labelled.map(kube::ResourceExt::name_any).collect())
    }
}

/// Asks `leader` to hand over to `candidate`; what came of it, in words. The answer comes after the hand-over, which
/// may outlast a call, and on a busy machine Patroni may find a healthy candidate too slow: who leads then tells.
async fn switch_over(leader: &Member, candidate: &str) -> String {
    let Some(address) = leader.address else { return "the leader has no address".to_owned() };
    let wish = json!({"leader": leader.pod, "candidate": candidate});
    match rest::send(address, Method::POST, "/switchover", &wish).await {
        Ok(()) => "accepted".to_owned(),
        Err(error) => format!("{error:#}"),
    }
}

/// Whether Patroni's annotation `status` tells of a member that leads or streams.
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
    fn a_member_is_well_that_leads_or_streams() {
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
