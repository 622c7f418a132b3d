//! A client that never stops writing: what it was promised and how long it had to wait.
//!
//! It behaves like an ordinary application behind the cluster's Service: it looks up the Service's
//! endpoints, writes one row per transaction, believes a commit only when it is acknowledged, and
//! connects again at once when anything goes wrong.

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

/// How long an acknowledgement may take before the client gives up the connection.
const TIMEOUT: Duration = Duration::from_secs(1);

/// The pause after a failure: short, so that an outage is measured to a few hundredths of a second.
const RETRY: Duration = Duration::from_millis(20);

/// How long the first row, and the leader who is to be asked at the end, may take to appear.
const DEADLINE: Duration = Duration::from_secs(120);

/// A running writer; it stops when dropped.
#[derive(Debug)]
pub struct Writer {
    diary: watch::Receiver<Diary>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
    service: Service,
}

/// What became of the rows.
#[derive(Debug)]
pub struct Writes {
    /// How many commits were acknowledged.
    pub acknowledged: usize,
    /// The longest time without an acknowledgement, the end included: a writer that is stopped in
    /// the middle of an outage has waited until then.
    pub longest_gap: Duration,
    ids: Vec<i64>,
    service: Service,
}

impl Writer {
    /// Starts to write through the Service `cluster`. Returns when the first row is acknowledged.
    ///
    /// # Errors
    /// When that takes longer than two minutes.
    pub async fn start(client: Client, namespace: &str, cluster: &str) -> Result<Self> {
        let service =
            Service { slices: Api::namespaced(client, namespace), name: cluster.to_owned() };
        let (sender, diary) = watch::channel(Diary::default());
        let (stop, stopping) = watch::channel(false);
        let task = tokio::spawn(write(service.clone(), sender, stopping));
        let mut writer = Self { diary, stop, task, service };
        let first = writer.diary.wait_for(|diary| !diary.ids.is_empty());
        let started = timeout(DEADLINE, first).await.is_ok_and(|first| first.is_ok());
        if !started {
            let trouble = writer.diary.borrow().trouble.clone();
            bail!(
                "no row could be written through service {namespace}/{cluster} within {} s: {trouble}",
                DEADLINE.as_secs()
            );
        }
        Ok(writer)
    }

    /// How many commits were acknowledged so far.
    pub fn acknowledged(&self) -> usize {
        self.diary.borrow().ids.len()
    }

    /// How long the last acknowledgement is ago.
    pub fn silence(&self) -> Duration {
        self.diary.borrow().last.map_or(Duration::ZERO, |last| last.elapsed())
    }

    /// Stops and says what became of the rows.
    pub async fn stop(mut self) -> Writes {
        self.stop.send_replace(true);
        // A writer that panicked has written its diary up to then.
        _ = (&mut self.task).await;
        let diary = self.diary.borrow();
        Writes {
            acknowledged: diary.ids.len(),
            longest_gap: diary.longest_gap.max(self.silence()),
            ids: diary.ids.clone(),
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
    /// How many acknowledged rows the leader does not have.
    ///
    /// # Errors
    /// When no leader answers within two minutes.
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

    /// How many acknowledged rows the member at `address` does not have.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn missing_on(&self, address: Ipv4Addr) -> Result<usize> {
        let session = Session::open(address).await?;
        let rows = timeout(DEADLINE, session.query("SELECT id FROM pgscale_writer", &[]))
            .await
            .with_context(|| format!("{address} took too long to list the rows"))??;
        let ids = rows.iter().map(|row| row.try_get(0)).collect::<Result<HashSet<i64>, _>>()?;
        Ok(self.ids.iter().filter(|id| !ids.contains(id)).count())
    }
}

/// What the writer knows so far.
#[derive(Debug, Default)]
struct Diary {
    ids: Vec<i64>,
    last: Option<Instant>,
    longest_gap: Duration,
    /// What went wrong last.
    trouble: String,
}

impl Diary {
    fn note(&mut self, id: i64, now: Instant) {
        let gap = self.last.map_or(Duration::ZERO, |last| now.duration_since(last));
        self.longest_gap = self.longest_gap.max(gap);
        self.last = Some(now);
        self.ids.push(id);
    }
}

async fn write(service: Service, diary: watch::Sender<Diary>, mut stopping: watch::Receiver<bool>) {
    let mut next = None;
    let writing = async {
        loop {
            if let Err(error) = write_through(&service, &diary, &mut next).await {
                diary.send_modify(|diary| diary.trouble = format!("{error:#}"));
            }
            sleep(RETRY).await;
        }
    };
    tokio::select! {
        () = writing => {}
        _ = stopping.wait_for(|stop| *stop) => {}
    }
}

/// Writes rows over one connection until something goes wrong. `next` is the id to use next: an id
/// whose commit was not acknowledged is never used again, for nobody knows whether it was written.
async fn write_through(
    service: &Service,
    diary: &watch::Sender<Diary>,
    next: &mut Option<i64>,
) -> Result<()> {
    let session = Session::open(service.leader().await?).await?;
    if next.is_none() {
        let table = "CREATE TABLE IF NOT EXISTS pgscale_writer (id bigint PRIMARY KEY)";
        session.word(table).await?;
        let last = session.word("SELECT coalesce(max(id), 0) FROM pgscale_writer").await?;
        let last = last.context("the table of rows has no end")?;
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
        diary.send_modify(|diary| diary.note(id, Instant::now()));
    }
}

/// A Service, as a client sees it.
#[derive(Clone, Debug)]
struct Service {
    slices: Api<EndpointSlice>,
    name: String,
}

impl Service {
    /// The address behind it.
    async fn leader(&self) -> Result<Ipv4Addr> {
        let selector = format!("kubernetes.io/service-name={}", self.name);
        let slices = self.slices.list(&ListParams::default().labels(&selector)).await?;
        address(&slices.items)
            .with_context(|| format!("service {} has no ready endpoint", self.name))
    }
}

/// The first ready address of a Service.
fn address(slices: &[EndpointSlice]) -> Option<Ipv4Addr> {
    let endpoints = slices.iter().flat_map(|slice| slice.endpoints.iter().flatten());
    let mut ready = endpoints.filter(|endpoint| {
        let conditions = endpoint.conditions.as_ref();
        // Unset means ready, for whoever reads slices.
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
        let mut diary = Diary::default();
        for (id, milliseconds) in [(1, 500), (2, 510), (4, 2_510), (5, 2_520)] {
            diary.note(id, start + Duration::from_millis(milliseconds));
        }
        assert_eq!(diary.longest_gap, Duration::from_secs(2), "the start is no outage");
        assert_eq!(diary.ids, [1, 2, 4, 5]);
    }
}
