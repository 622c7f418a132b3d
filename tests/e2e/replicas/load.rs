//! A steady load of reviews: writes on trial, each of which the API server sends to one webhook.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use pgscale_tests::cluster::resource;
use pgscale_tests::pki::write;
use pgscale_tests::replicas::SOON;
use pgscale_tests::wait::{Attempt, until};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::trial::TestCtx;

const CLUSTER: &str = "acid-idle";
/// The writers, each of which has one write in flight.
const WRITERS: usize = 16;
/// The pause of one writer: all of them make 200 writes a second.
const PAUSE: Duration = Duration::from_millis(80);
/// One of so many writes changes the count, and has to be refused.
const REFUSED: usize = 20;

/// A running load.
pub(super) struct Load {
    counts: Arc<Counts>,
    stop: watch::Sender<bool>,
    writers: Vec<JoinHandle<()>>,
}

/// The outcome of a load.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) answered: usize,
    pub(super) refused: usize,
    pub(super) lost: Vec<Lost>,
}

/// A review that the API server could not get an answer to.
#[derive(Debug)]
pub(super) struct Lost {
    began: Instant,
    ended: Instant,
    /// What the API server said.
    #[expect(dead_code, reason = "printed when the test fails")]
    said: String,
}

impl Lost {
    /// Returns whether it was in flight at any time between both.
    pub(super) fn overlaps(&self, from: Instant, to: Instant) -> bool {
        self.began <= to && self.ended >= from
    }
}

#[derive(Debug, Default)]
struct Counts {
    answered: AtomicUsize,
    refused: AtomicUsize,
    lost: Mutex<Vec<Lost>>,
    wrong: Mutex<Vec<String>>,
}

/// Creates a cluster of 3 that no operator owns, and a policy of at most 5.
pub(super) async fn stage(ctx: &TestCtx) -> Result<()> {
    let objects = json!({"apiVersion": "v1", "kind": "List", "items": [
        {
            "apiVersion": "pgscale.dev/v1alpha1", "kind": "ScalePolicy",
            "metadata": {"name": "production"}, "spec": {"instances": {"min": 2, "max": 5}},
        },
        {
            "apiVersion": "acid.zalan.do/v1", "kind": "postgresql",
            "metadata": {
                "name": CLUSTER, "annotations": {"acid.zalan.do/controller": "no-operator"},
            },
            "spec": {
                "teamId": "acid", "numberOfInstances": 3,
                "postgresql": {"version": "17"}, "volume": {"size": "1Gi"},
            },
        },
    ]});
    let file = write(ctx.bed.directory(), "replicas-load.json", &objects.to_string())?;
    let file = file.to_string_lossy();
    let create = ["create", "--namespace", &ctx.namespace, "--filename", &file];
    ctx.bed.kubectl(&create).await?.ok().map(drop)
}

impl Load {
    /// Begins the load, once the API server sends writes to the webhook.
    pub(super) async fn begin(ctx: &TestCtx) -> Result<Self> {
        let clusters = || {
            let client = ctx.bed.client();
            Api::<DynamicObject>::namespaced_with(client, &ctx.namespace, &resource())
        };
        until("writes to be sent to the replicas", SOON, async || {
            Ok(match write_on_trial(&clusters(), &count()).await {
                Answer::Refused => Attempt::Done(()),
                other @ (Answer::Passed | Answer::Lost(_) | Answer::Other(_)) => {
                    Attempt::NotYet(format!("{other:?}"))
                }
            })
        })
        .await?;
        let counts = Arc::new(Counts::default());
        let (stop, stopped) = watch::channel(false);
        let writers = (0..WRITERS).map(|number| {
            let (counts, stopped) = (Arc::clone(&counts), stopped.clone());
            tokio::spawn(counts.write(clusters(), number, stopped))
        });
        Ok(Self { writers: writers.collect(), counts, stop })
    }

    /// Returns the number of reviews that were answered.
    pub(super) fn answered(&self) -> usize {
        self.counts.answered.load(Ordering::Relaxed)
    }

    /// Returns the number of those that were not.
    pub(super) fn lost(&self) -> usize {
        self.counts.lost.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Fails when an answer was not the right one.
    pub(super) fn ensure_no_wrong_answer(&self) -> Result<()> {
        let wrong = self.counts.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        match wrong.first() {
            Some(first) => bail!("{} wrong answers, the first one: {first}", wrong.len()),
            None => Ok(()),
        }
    }

    /// Ends the load.
    pub(super) async fn end(self) -> Result<Outcome> {
        self.stop.send_replace(true);
        for writer in self.writers {
            writer.await.context("a writer failed")?;
        }
        let lost =
            std::mem::take(&mut *self.counts.lost.lock().unwrap_or_else(PoisonError::into_inner));
        let [answered, refused] = [&self.counts.answered, &self.counts.refused]
            .map(|counter| counter.load(Ordering::Relaxed));
        Ok(Outcome { answered, refused, lost })
    }
}

/// The answer to a write.
#[derive(Debug)]
enum Answer {
    Passed,
    Refused,
    /// The webhook was called and did not answer.
    Lost(String),
    /// Any other error.
    #[expect(dead_code, reason = "printed when the test fails")]
    Other(String),
}

impl Counts {
    async fn write(
        self: Arc<Self>,
        clusters: Api<DynamicObject>,
        number: usize,
        stopped: watch::Receiver<bool>,
    ) {
        let mut ticks = interval(PAUSE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut round = number;
        while !*stopped.borrow() {
            ticks.tick().await;
            round += 1;
            let to_refuse = round.is_multiple_of(REFUSED);
            let patch = if to_refuse {
                count()
            } else {
                json!({"metadata": {"labels": {"round": round.to_string()}}})
            };
            let began = Instant::now();
            let answer = write_on_trial(&clusters, &patch).await;
            match answer {
                Answer::Passed if !to_refuse => {}
                Answer::Refused if to_refuse => {
                    self.refused.fetch_add(1, Ordering::Relaxed);
                }
                Answer::Lost(said) => {
                    let lost = Lost { began, ended: Instant::now(), said };
                    self.lost.lock().unwrap_or_else(PoisonError::into_inner).push(lost);
                    continue;
                }
                other @ (Answer::Passed | Answer::Refused | Answer::Other(_)) => {
                    let wrong = format!("{other:?} to {patch}");
                    self.wrong.lock().unwrap_or_else(PoisonError::into_inner).push(wrong);
                    continue;
                }
            }
            self.answered.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Returns a change past the maximum.
fn count() -> Value {
    json!({"spec": {"numberOfInstances": 9}})
}

async fn write_on_trial(clusters: &Api<DynamicObject>, patch: &Value) -> Answer {
    let dry = PatchParams { dry_run: true, ..PatchParams::default() };
    match clusters.patch(CLUSTER, &dry, &Patch::Merge(patch)).await {
        Ok(_) => Answer::Passed,
        Err(kube::Error::Api(status)) if status.message.contains("failed calling webhook") => {
            Answer::Lost(status.message.clone())
        }
        Err(kube::Error::Api(status)) if status.message.contains("denied the request") => {
            Answer::Refused
        }
        Err(error) => Answer::Other(error.to_string()),
    }
}
