//! Slow and failing base backups, staged and observed by tests.

use anyhow::Result;
use pgscale_tests::cluster::{Cluster, TIMEOUT};
use pgscale_tests::kubelet::Kubelet;
use pgscale_tests::stage::Fault;
use pgscale_tests::wait::{Attempt, until};

/// A throttle in kilobytes per second: slow enough to look at, minutes for the smallest cluster,
/// and soon over when the throttle is lifted.
pub(crate) const SLOW: Fault = Fault::SlowBaseBackup { kilobytes_per_second: 64 };

/// Waits until Patroni of the member reports that it clones.
pub(crate) async fn runs(cluster: &Cluster, ordinal: u32) -> Result<()> {
    until("a base backup to run", TIMEOUT, async || {
        let members = cluster.members().await?;
        let member = members.into_iter().find(|member| member.ordinal == ordinal);
        let cloning = member.as_ref().is_some_and(|member| member.state() == "creating replica");
        Ok(if cloning { Attempt::Done(()) } else { Attempt::NotYet(format!("{member:?}")) })
    })
    .await
}

/// Waits until a base backup has failed because of [`Fault::FailingBaseBackup`].
pub(crate) async fn fails(kubelet: &Kubelet, namespace: &str, pod: &str) -> Result<()> {
    let log = kubelet.log(namespace, pod);
    until("a base backup to fail", TIMEOUT, async || {
        let failed = std::fs::read_to_string(&log)?.contains("error: staged to fail");
        Ok(if failed { Attempt::Done(()) } else { Attempt::NotYet("none has failed".into()) })
    })
    .await
}
