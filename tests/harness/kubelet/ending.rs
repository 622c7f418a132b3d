//! The end of a pod: with grace, by force, or unreported because its node is lost.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result};
use kube::api::{DeleteParams, Preconditions};
use rustix::process::Signal;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::container::Container;
use super::pod::{RETRY, Running, Worker};

/// The time to unmount volumes.
///
/// Without it the pod's deletion follows its last change at once, and the operator drops an event
/// that arrives while it handles the one before (`processPodEvent`, pkg/cluster/cluster.go): it
/// then waits for the end of a pod that has ended.
const UNMOUNT: Duration = Duration::from_millis(200);

impl Worker {
    /// Ends the container with the grace period of the deletion, and lets the API server remove the
    /// pod.
    pub(super) async fn end(&self, running: Option<Running>) -> Result<()> {
        if let Some(mut running) = running {
            if !self.gone() {
                self.end_with_grace(&mut running.container).await;
            }
            running.container.kill().await?;
            self.host.leave(&self.name);
            // A pod that is gone may have a successor of the same name, to which these streams
            // belong.
            if !self.gone() {
                self.close_streams().await;
                sleep(UNMOUNT).await;
            }
        }
        self.await_node().await;
        while let Err(error) = self.forget().await {
            self.log_error(&error).await;
            sleep(RETRY).await;
        }
        match tokio::fs::remove_dir_all(self.directory()).await {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).context("failed to remove a pod's directory")
            }
            _ => Ok(()),
        }
    }

    /// Returns whether no grace is needed: the object is gone, or the kubelet stops.
    fn gone(&self) -> bool {
        self.seen.borrow().gone || self.seen.has_changed().is_err()
    }

    async fn end_with_grace(&self, container: &mut Container) {
        let grace = self.pod().metadata.deletion_grace_period_seconds.unwrap_or(0);
        let deadline = Instant::now() + Duration::from_secs(u64::try_from(grace).unwrap_or(0));
        let mut seen = self.seen.clone();
        let mut lost = self.host.nodes.lost();
        let node = self.pod().spec.as_ref().and_then(|spec| spec.node_name.clone());
        let node = node.unwrap_or_default();
        container.processes().signal_first(Signal::TERM);
        tokio::select! {
            _ = container.ended() => {}
            _ = seen.wait_for(|seen| seen.gone) => {}
            () = node_lost(&mut lost, &node) => {}
            () = sleep_until(deadline) => {}
        }
    }

    /// Waits while the pod's node is lost: no kubelet there could report that the pod has ended.
    async fn await_node(&self) {
        let pod = self.pod();
        let Some(node) = pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref()) else { return };
        let mut lost = self.host.nodes.lost();
        let mut seen = self.seen.clone();
        tokio::select! {
            () = node_recovered(&mut lost, node) => {}
            _ = seen.wait_for(|seen| seen.gone) => {}
        }
    }

    /// Reports to the API server that the pod's containers are gone, if the object still exists.
    async fn forget(&self) -> Result<()> {
        if self.gone() {
            return Ok(());
        }
        let params = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(Preconditions {
                uid: Some(self.uid.clone()),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        match self.api().delete(&self.name.name, &params).await {
            Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => {
                Ok(())
            }
            deleted => deleted.map(drop).with_context(|| format!("failed to delete {}", self.name)),
        }
    }
}

/// Waits until a node is lost.
pub(super) async fn node_lost(lost: &mut watch::Receiver<BTreeSet<String>>, node: &str) {
    _ = lost.wait_for(|lost| lost.contains(node)).await;
}

/// Waits while a node is lost.
pub(super) async fn node_recovered(lost: &mut watch::Receiver<BTreeSet<String>>, node: &str) {
    _ = lost.wait_for(|lost| !lost.contains(node)).await;
}
