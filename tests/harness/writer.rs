//! A client that writes all the time, and measures acknowledged rows and its longest wait.
//!
//! It behaves like an ordinary application behind the cluster's Service: it looks up the Service's
//! endpoints, writes one row per transaction, trusts a commit only when it is acknowledged, and
//! connects again at once after any error.

use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::ListParams;
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use crate::postgres::Session;
use crate::wait::{Attempt, until};

/// The pause between two rows: about a hundred per second.
const PACE: Duration = Duration::from_millis(10);

/// The time after which the client gives up a connection without an acknowledgement.
const TIMEOUT: Duration = Duration::from_secs(1);

/// The pause after a failure: short, so that an outage is measured to a few hundredths of a second.
const RETRY: Duration = Duration::from_millis(20);

/// The limit for the first row, and for the leader that is asked at the end.
const DEADLINE: Duration = Duration::from_secs(120);

/// A running writer. It stops when dropped.
#[derive(Debug)]
pub struct Writer {
    progress: watch::Receiver<Progress>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
    service: Service,
}

/// The outcome of the writes.
#[derive(Debug)]
pub struct Writes {
    /// The number of acknowledged commits.
    pub acknowledged: usize,
    /// The longest time without an acknowledgement, the end included: a writer that is stopped
    /// during an outage has waited until then.
    pub longest_gap: Duration,
    ids: Vec<i64>,
    service: Service,
}

impl Writer {
    /// Starts to write through the Service `cluster`. Returns when the first row is acknowledged.
    ///
    /// # Errors
    /// Fails when that takes longer than two minutes.
    pub async fn start(client: Client, namespace: &str, cluster: &str) -> Result<Self> {
        let service =
            Service { slices: Api::namespaced(client, namespace), name: cluster.to_owned() };
        let (sender, progress) = watch::channel(Progress::default());
        let (stop, stopping) = watch::channel(false);
        let task = tokio::spawn(write(service.clone(), sender, stopping));
        let mut writer = Self { progress, stop, task, service };
        let first = writer.progress.wait_for(|progress| !progress.ids.is_empty());
        let started = timeout(DEADLINE, first).await.is_ok_and(|first| first.is_ok());
        if !started {
            let last_error = writer.progress.borrow().last_error.clone();
            bail!(
                "no row could be written through service {namespace}/{cluster} within {} s: {last_error}",
                DEADLINE.as_secs()
            );
        }
        Ok(writer)
    }

    /// Returns the number of commits acknowledged so far.
    pub fn acknowledged(&self) -> usize {
        self.progress.borrow().ids.len()
    }

    /// Returns the time since the last acknowledgement.
    pub fn silence(&self) -> Duration {
        self.progress.borrow().last.map_or(Duration::ZERO, |last| last.elapsed())
    }

    /// Stops the writer and returns the outcome.
    pub async fn stop(mut self) -> Writes {
        self.stop.send_replace(true);
        // A writer that panicked has recorded its rows up to then.
        _ = (&mut self.task).await;
        let progress = self.progress.borrow();
        Writes {
            acknowledged: progress.ids.len(),
            longest_gap: progress.longest_gap.max(self.silence()),
            ids: progress.ids.clone(),
            service: self.service.clone(),
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Writes {
    /// Returns the number of acknowledged rows that the leader lacks.
    ///
    /// # Errors
    /// Fails when no leader answers within two minutes.
    pub async fn missing(&self) -> Result<usize> {
        until("a leader to count rows on", DEADLINE, async || {
            let counted = match self.service.leader().await {
                Ok(leader) => self.missing_on(leader).await,
                Err(error) => Err(error),
            };
            Ok(match counted {
                Ok(count) => Attempt::Done(count),
                Err(error) => Attempt::NotYet(format!("{error:#}")),
            })
        })
        .await
    }

    /// Returns the number of acknowledged rows that the member at `address` lacks.
    ///
    /// # Errors
    /// Fails when the member does not answer.
    pub async fn missing_on(&self, address: Ipv4Addr) -> Result<usize> {
        let session = Session::open(address).await?;
        let rows = timeout(DEADLINE, session.query("SELECT id FROM pgscale_writer", &[]))
            .await
            .with_context(|| format!("{address} took too long to list the rows"))??;
        let ids = rows.iter().map(|row| row.try_get(0)).collect::<Result<HashSet<i64>, _>>()?;
        Ok(self.ids.iter().filter(|id| !ids.contains(id)).count())
    }
}

/// The writer's record so far.
#[derive(Debug, Default)]
struct Progress {
    ids: Vec<i64>,
    last: Option<Instant>,
    longest_gap: Duration,
    /// The last error.
    last_error: String,
}

impl Progress {
    fn note(&mut self, id: i64, now: Instant) {
        let gap = self.last.map_or(Duration::ZERO, |last| now.duration_since(last));
        self.longest_gap = self.longest_gap.max(gap);
        self.last = Some(now);
        self.ids.push(id);
    }
}

async fn write(
    service: Service,
    progress: watch::Sender<Progress>,
    mut stopping: watch::Receiver<bool>,
) {
    let mut next = None;
    let writing = async {
        loop {
            if let Err(error) = write_through(&service, &progress, &mut next).await {
                progress.send_modify(|progress| progress.last_error = format!("{error:#}"));
            }
            sleep(RETRY).await;
        }
    };
    tokio::select! {
        () = writing => {}
        _ = stopping.wait_for(|stop| *stop) => {}
    }
}

/// Writes rows over one connection until an error.
///
/// `next` is the next id. An id whose commit was not acknowledged is never used again, because the
/// row may have been written.
async fn write_through(
    service: &Service,
    progress: &watch::Sender<Progress>,
    next: &mut Option<i64>,
) -> Result<()> {
    let session = Session::open(service.leader().await?).await?;
    if next.is_none() {
        let table = "CREATE TABLE IF NOT EXISTS pgscale_writer (id bigint PRIMARY KEY)";
        session.word(table).await?;
        let last = session.word("SELECT coalesce(max(id), 0) FROM pgscale_writer").await?;
        let last = last.context("the table of rows has no highest id")?;
        *next = Some(last.parse::<i64>()? + 1);
    }
    let insert = timeout(TIMEOUT, session.prepare("INSERT INTO pgscale_writer VALUES ($1)"));
    let insert = insert.await.context("no answer to PREPARE")??;
    let mut pace = interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        pace.tick().await;
        let id = next.context("no row was numbered")?;
        *next = Some(id + 1);
        timeout(TIMEOUT, session.execute(&insert, &[&id]))
            .await
            .context("no answer to COMMIT")??;
        progress.send_modify(|progress| progress.note(id, Instant::now()));
    }
}

/// A Service, as a client sees it.
#[derive(Clone, Debug)]
struct Service {
    slices: Api<EndpointSlice>,
    name: String,
}

impl Service {
    /// Returns the address behind the Service.
    async fn leader(&self) -> Result<Ipv4Addr> {
        let selector = format!("kubernetes.io/service-name={}", self.name);
        let slices = self.slices.list(&ListParams::default().labels(&selector)).await?;
        address(&slices.items)
            .with_context(|| format!("service {} has no ready endpoint", self.name))
    }
}

/// Returns the first ready address of a Service.
fn address(slices: &[EndpointSlice]) -> Option<Ipv4Addr> {
    let endpoints = slices.iter().flat_map(|slice| slice.endpoints.iter().flatten());
    let mut ready = endpoints.filter(|endpoint| {
        let conditions = endpoint.conditions.as_ref();
        // An unset condition means ready.
        conditions.and_then(|conditions| conditions.ready) != Some(false)
    });
    ready.find_map(|endpoint| endpoint.addresses.first()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_leader_is_the_ready_endpoint() {
        let slice = |endpoints| {
            let slice = json!({"addressType": "IPv4", "endpoints": endpoints, "metadata": {}});
            serde_json::from_value::<EndpointSlice>(slice).unwrap()
        };
        let old = json!({"addresses": ["10.244.0.10"], "conditions": {"ready": false}});
        let new = json!({"addresses": ["10.244.0.11"], "conditions": {"ready": true}});
        let plain = json!({"addresses": ["10.244.0.12"]});
        assert_eq!(address(&[]), None);
        assert_eq!(address(&[slice(json!([old]))]), None);
        assert_eq!(
            address(&[slice(json!([old])), slice(json!([new]))]),
            "10.244.0.11".parse().ok()
        );
        assert_eq!(address(&[slice(json!([plain]))]), "10.244.0.12".parse().ok());
    }

    #[test]
    fn the_longest_gap_is_between_acknowledgements() {
        let start = Instant::now();
        let mut progress = Progress::default();
        for (id, milliseconds) in [(1, 500), (2, 510), (4, 2_510), (5, 2_520)] {
            progress.note(id, start + Duration::from_millis(milliseconds));
        }
        assert_eq!(progress.longest_gap, Duration::from_secs(2), "the start is no outage");
        assert_eq!(progress.ids, [1, 2, 4, 5]);
    }
}
