//! A cluster that several tests share, one after another.

use std::sync::Arc;

use anyhow::Result;
use pgscale_tests::bed::Bed;
use pgscale_tests::cluster::Cluster;
use pgscale_tests::operator::Settings;
use serde_json::Value;
use tokio::sync::{Mutex, MutexGuard};

use crate::trial::create_namespace;

/// The clusters of a group of tests.
pub(crate) struct Pool {
    group: &'static str,
    name: &'static str,
    members: u32,
    spec: fn() -> Value,
    state: Mutex<State>,
}

/// The turn of a test: no other test has the cluster meanwhile.
pub(crate) struct Turn {
    /// The cluster.
    pub(crate) cluster: Cluster,
    /// True if it was made for this test.
    pub(crate) new: bool,
    state: MutexGuard<'static, State>,
}

impl Turn {
    /// Leaves the cluster at rest to the next test.
    pub(crate) fn hand_on(mut self) {
        self.state.cluster = Some(self.cluster);
    }
}

struct State {
    /// The number of clusters made so far: a test that fails does not return its cluster.
    made: u32,
    /// The cluster at rest, unless a test uses it.
    cluster: Option<Cluster>,
}

impl Pool {
    /// Returns a pool without a cluster. Its clusters are called `name`, have `members` and `spec`,
    /// and are in namespaces named after `group`.
    pub(crate) const fn new(
        group: &'static str,
        name: &'static str,
        members: u32,
        spec: fn() -> Value,
    ) -> Self {
        let state = Mutex::const_new(State { made: 0, cluster: None });
        Self { group, name, members, spec, state }
    }

    /// Takes the cluster at rest, once no other test has it, or creates one in a namespace that
    /// `prepare` gets first.
    pub(crate) async fn take(
        &'static self,
        bed: &Arc<Bed>,
        prepare: impl AsyncFnOnce(&str) -> Result<()>,
    ) -> Result<Turn> {
        let mut state = self.state.lock().await;
        if let Some(cluster) = state.cluster.take() {
            return Ok(Turn { cluster, new: false, state });
        }
        if state.made > 0 {
            // A failed test may have left a member frozen, for which the operator waits, or other
            // settings.
            bed.kubelet().unstage_all(&self.namespace(state.made));
            bed.operator().lock().await.start(&Settings::default()).await?;
        }
        state.made += 1;
        let namespace = self.namespace(state.made);
        create_namespace(bed, &namespace).await?;
        prepare(&namespace).await?;
        let cluster =
            Cluster::create(bed, &namespace, self.name, self.members, (self.spec)()).await?;
        Ok(Turn { cluster, new: true, state })
    }

    fn namespace(&self, number: u32) -> String {
        format!("{}-{number}", self.group)
    }
}
