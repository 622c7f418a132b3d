//! What was stored, and what might have been, at any time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use futures::TryStreamExt as _;
use kube::api::{Api, DynamicObject, ListParams, WatchEvent, WatchParams};
use pgscale_tests::budget::count;
use pgscale_tests::budget::edits::Answer;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// An admitted edit is stored and seen within this time, and a decided one is released within two
/// seconds.
const AFTER_STORED: Duration = Duration::from_secs(3);
/// An edit whose webhook was killed stays reserved until its cluster has been fenced: fifteen
/// seconds, and some on a busy machine.
const AFTER_LOST: Duration = Duration::from_secs(20);
/// The watch is behind by less than this.
const BEHIND: Duration = Duration::from_secs(2);

/// The history of the stored counts, and the edits under way.
#[derive(Debug, Default)]
pub(crate) struct Seen(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    counts: BTreeMap<String, i64>,
    sum: i64,
    /// The greatest sum ever.
    most: i64,
    /// Earlier counts, each with the time of its end.
    before: Vec<(Instant, String, i64)>,
    edits: Vec<Edit>,
}

/// An edit that may be stored or reserved until `until`.
#[derive(Debug)]
struct Edit {
    id: usize,
    cluster: String,
    to: i64,
    until: Option<Instant>,
}

impl Seen {
    /// Follows the clusters for as long as the returned task runs.
    pub(crate) async fn follow(
        clusters: Api<DynamicObject>,
    ) -> Result<(Arc<Self>, JoinHandle<()>)> {
        let seen = Arc::new(Self::default());
        let list = clusters.list(&ListParams::default()).await.context("no list of clusters")?;
        for cluster in &list.items {
            seen.stored(cluster, false);
        }
        let mut version = list.metadata.resource_version.context("a list without a version")?;
        let follower = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            // The API server ends each watch after some minutes. One that fails would hide sums, so
            // the task ends with it.
            while let Ok(()) = follower.events(&clusters, &mut version).await {}
        });
        Ok((seen, task))
    }

    async fn events(&self, clusters: &Api<DynamicObject>, version: &mut String) -> Result<()> {
        let params = WatchParams::default().timeout(290);
        let mut events = Box::pin(clusters.watch(&params, version).await?);
        while let Some(event) = events.try_next().await? {
            match event {
                WatchEvent::Added(cluster) | WatchEvent::Modified(cluster) => {
                    self.stored(&cluster, false);
                    version.clone_from(&cluster.metadata.resource_version.unwrap_or_default());
                }
                WatchEvent::Deleted(cluster) => {
                    self.stored(&cluster, true);
                    version.clone_from(&cluster.metadata.resource_version.unwrap_or_default());
                }
                WatchEvent::Bookmark(_) => {}
                // A watch that has fallen behind would hide sums.
                WatchEvent::Error(status) => anyhow::bail!("{}", status.message),
            }
        }
        Ok(())
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stored(&self, cluster: &DynamicObject, deleted: bool) {
        let mut inner = self.inner();
        let name = cluster.metadata.name.clone().unwrap_or_default();
        let now = if deleted { 0 } else { count(cluster).unwrap_or(0) };
        let before = inner.counts.insert(name.clone(), now).unwrap_or(0);
        inner.before.push((Instant::now(), name, before));
        inner.sum += now - before;
        inner.most = inner.most.max(inner.sum);
    }

    /// Returns the last known count of a cluster.
    pub(crate) fn count(&self, name: &str) -> i64 {
        self.inner().counts.get(name).copied().unwrap_or(0)
    }

    /// Returns the sum now, and the greatest ever.
    pub(crate) fn sums(&self) -> (i64, i64) {
        let inner = self.inner();
        (inner.sum, inner.most)
    }

    /// Records that an edit begins.
    pub(crate) fn begins(&self, id: usize, cluster: &str, to: i64) {
        let edit = Edit { id, cluster: cluster.to_owned(), to, until: None };
        self.inner().edits.push(edit);
    }

    /// Records the answer to an edit.
    pub(crate) fn ends(&self, id: usize, answer: &Answer) {
        let now = Instant::now();
        let mut inner = self.inner();
        let until = match answer {
            Answer::Admitted | Answer::Raced => now + AFTER_STORED,
            Answer::Lost | Answer::Other(_) => now + AFTER_LOST,
            // What is refused is not reserved.
            Answer::Refused | Answer::Repeat | Answer::Unjudged => {
                inner.edits.retain(|edit| edit.id != id);
                return;
            }
        };
        if let Some(edit) = inner.edits.iter_mut().find(|edit| edit.id == id) {
            edit.until = Some(until);
        }
    }

    /// Returns the most that could count since `from`, with `to` for this cluster: of each cluster
    /// the greatest count that was stored or under way.
    pub(crate) fn could_count(&self, from: Instant, cluster: &str, to: i64) -> i64 {
        let mut inner = self.inner();
        let oldest = Instant::now().checked_sub(AFTER_LOST + BEHIND);
        inner.before.retain(|(ended, ..)| oldest.is_none_or(|oldest| *ended >= oldest));
        inner.edits.retain(|edit| edit.until.is_none_or(|until| Some(until) >= oldest));
        let mut most = inner.counts.clone();
        let mut raise = |name: &str, to: i64| {
            let held = most.entry(name.to_owned()).or_default();
            *held = (*held).max(to);
        };
        let since = from.checked_sub(BEHIND).unwrap_or(from);
        for (ended, name, count) in &inner.before {
            if *ended >= since {
                raise(name, *count);
            }
        }
        for edit in &inner.edits {
            if edit.until.is_none_or(|until| until >= from) {
                raise(&edit.cluster, edit.to);
            }
        }
        raise(cluster, to);
        most.values().sum()
    }
}
