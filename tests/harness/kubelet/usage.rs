//! What the processes of running members use, as a kubelet reports it to metrics-server.

use std::sync::PoisonError;
use std::time::Duration;

use super::{Kubelet, Member, PodName};

/// What the container of one running member uses.
#[derive(Clone, Debug)]
pub struct Usage {
    /// The namespace of the pod.
    pub namespace: String,
    /// The name of the pod.
    pub pod: String,
    /// The first process. Another one means another container, which counts from 0.
    pub first: i32,
    /// CPU time since the start of the container.
    pub cpu: Duration,
    /// Bytes of memory that is not shared.
    pub memory: u64,
}

impl Kubelet {
    /// Returns what every running member uses.
    pub fn usages(&self) -> Vec<Usage> {
        let members: Vec<(PodName, Member)> = {
            let members = self.host.members.lock().unwrap_or_else(PoisonError::into_inner);
            members.iter().map(|(name, member)| (name.clone(), member.clone())).collect()
        };
        let usage = |(PodName { namespace, name }, member): (PodName, Member)| {
            let used = member.processes.used();
            let first = member.processes.first();
            Usage { namespace, pod: name, first, cpu: used.cpu, memory: used.memory }
        };
        members.into_iter().map(usage).collect()
    }
}
