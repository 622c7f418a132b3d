//! One member of a cluster, as its Patroni describes it.

use std::net::Ipv4Addr;

use anyhow::Result;
use kube::ResourceExt as _;

use super::Cluster;
use crate::patroni::rest;

/// The answer of one member about itself.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its pod.
    pub pod: String,
    /// Its ordinal.
    pub ordinal: u32,
    /// Its address.
    pub address: Option<Ipv4Addr>,
    /// Its answer to `GET /patroni`. `None` if it gave none.
    pub answer: Option<rest::Member>,
}

impl Member {
    /// Returns whether the member leads and answers queries.
    pub fn leads(&self) -> bool {
        let answer = self.answer.as_ref();
        answer.is_some_and(|answer| answer.state == "running" && answer.role == "primary")
    }

    /// Returns whether the member streams from the leader.
    pub fn streams(&self) -> bool {
        self.answer.as_ref().is_some_and(|answer| {
            answer.state == "running" && answer.replication_state.as_deref() == Some("streaming")
        })
    }

    /// Returns the state of its PostgreSQL as its Patroni reports it.
    pub fn state(&self) -> &str {
        self.answer.as_ref().map_or("silent", |answer| answer.state.as_str())
    }
}

impl Cluster {
    /// Returns its members, each with its live answer.
    ///
    /// # Errors
    /// Fails when the pods cannot be listed.
    pub async fn members(&self) -> Result<Vec<Member>> {
        let pods = self.pods().await?;
        let asked = pods.into_iter().map(async |pod| {
            let name = pod.name_any();
            let address = pod
                .status
                .and_then(|status| status.pod_ip)
                .and_then(|ip| ip.parse::<Ipv4Addr>().ok());
            let answer = match address {
                Some(address) => rest::member(address).await.ok(),
                None => None,
            };
            Member { ordinal: self.ordinal(&name), pod: name, address, answer }
        });
        Ok(futures::future::join_all(asked).await)
    }
}
