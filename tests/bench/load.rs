//! Load: an open loop without coordinated omission, all at once, and a closed loop.
//!
//! In the open loop a thread of its own starts each request at its time, whether earlier ones are
//! answered or not, and the latency counts from that time. A timer of the runtime would be up to a
//! millisecond late, which is as long as a whole review may take.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use hdrhistogram::Histogram;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::answer::{Answer, Grade, Shot, Target};

/// The time that the API server gives the webhook, and so the deadline of each answer.
pub(crate) const DEADLINE: Duration = Duration::from_secs(5);
/// The time after which the load gives up an answer.
const PATIENCE: Duration = Duration::from_secs(15);
/// The most answers whose text is kept.
const EXAMPLES: usize = 3;

/// What came of many requests.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// The time to each answer, in microseconds.
    pub(crate) latency: Histogram<u64>,
    /// The delay of the load itself in sending, in microseconds.
    pub(crate) late: Histogram<u64>,
    /// The requests.
    pub(crate) sent: u64,
    /// The right answers.
    pub(crate) right: u64,
    /// The answers without a verdict.
    pub(crate) unjudged: u64,
    /// The wrong answers.
    pub(crate) wrong: u64,
    /// Those of them that let a write pass.
    pub(crate) wrong_allows: u64,
    /// The requests without an answer.
    pub(crate) failed: u64,
    /// The answers after [`DEADLINE`].
    pub(crate) after_deadline: u64,
    /// The verdicts before it, right or wrong.
    pub(crate) verdicts: u64,
    /// The time from the first request to the last answer.
    pub(crate) took: Duration,
    /// The first answers that are not right.
    pub(crate) examples: Vec<String>,
}

struct Done {
    late: Duration,
    latency: Duration,
    grade: Grade,
    text: Option<String>,
}

impl Outcome {
    fn new() -> Result<Self> {
        let histogram = || Histogram::new_with_bounds(1, 120_000_000, 3).context("no histogram");
        Ok(Self {
            latency: histogram()?,
            late: histogram()?,
            sent: 0,
            right: 0,
            unjudged: 0,
            wrong: 0,
            wrong_allows: 0,
            failed: 0,
            after_deadline: 0,
            verdicts: 0,
            took: Duration::ZERO,
            examples: Vec::new(),
        })
    }

    fn add(&mut self, done: Done) {
        let Done { late, latency, grade, text } = done;
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.latency.saturating_record(micros(latency));
        self.late.saturating_record(micros(late));
        self.sent += 1;
        match grade {
            Grade::Right => self.right += 1,
            Grade::Unjudged => self.unjudged += 1,
            Grade::WrongRefusal => self.wrong += 1,
            Grade::WrongAllow => {
                self.wrong += 1;
                self.wrong_allows += 1;
            }
            Grade::Failed => self.failed += 1,
        }
        let verdict = !matches!(grade, Grade::Unjudged | Grade::Failed);
        if latency <= DEADLINE {
            self.verdicts += u64::from(verdict);
        } else if grade != Grade::Failed {
            self.after_deadline += 1;
        }
        if let Some(text) = text.filter(|_| self.examples.len() < EXAMPLES) {
            self.examples.push(text);
        }
    }

    /// Returns the latency that this part of the requests does not exceed, in milliseconds.
    pub(crate) fn milliseconds(&self, quantile: f64) -> f64 {
        micros_to_ms(self.latency.value_at_quantile(quantile))
    }

    /// Returns the same of the delay of the load itself.
    pub(crate) fn own_delay(&self, quantile: f64) -> f64 {
        micros_to_ms(self.late.value_at_quantile(quantile))
    }
}

#[expect(clippy::cast_precision_loss, reason = "a count of microseconds is far below 2^53")]
fn micros_to_ms(micros: u64) -> f64 {
    micros as f64 / 1000.0
}

/// Sends `shots` in turn, `rate` a second for `time`, whatever the answers do.
///
/// # Errors
/// Fails when the load cannot be made.
pub(crate) async fn open_loop(
    target: &Arc<Target>,
    shots: &Arc<Vec<Shot>>,
    rate: u32,
    time: Duration,
) -> Result<Outcome> {
    ensure!(!shots.is_empty() && rate > 0, "nothing to send");
    let (sender, answers) = mpsc::unbounded_channel();
    let (target, shots) = (Arc::clone(target), Arc::clone(shots));
    let pause = Duration::from_secs(1) / rate;
    let start = Instant::now();
    let handle = Handle::current();
    thread::spawn(move || {
        let mut at = start;
        for index in (0..shots.len()).cycle() {
            // A load that is given up has no receiver.
            if at.duration_since(start) >= time || sender.is_closed() {
                return;
            }
            thread::sleep(at.saturating_duration_since(Instant::now()));
            let (target, shots, sender) = (Arc::clone(&target), Arc::clone(&shots), sender.clone());
            handle.spawn(async move { fire(&target, &shots, index, at, &sender).await });
            at += pause;
        }
    });
    gather(answers, start).await
}

/// Collects the answers until the last sender is gone.
async fn gather(mut answers: mpsc::UnboundedReceiver<Done>, start: Instant) -> Result<Outcome> {
    let mut outcome = Outcome::new()?;
    while let Some(done) = answers.recv().await {
        outcome.add(done);
    }
    outcome.took = start.elapsed();
    Ok(outcome)
}

/// Sends `count` requests at the same time.
///
/// # Errors
/// Fails when the load cannot be made.
pub(crate) async fn at_once(
    target: &Arc<Target>,
    shots: &Arc<Vec<Shot>>,
    count: usize,
) -> Result<Outcome> {
    ensure!(!shots.is_empty(), "nothing to send");
    let (sender, answers) = mpsc::unbounded_channel();
    let start = Instant::now();
    for index in (0..shots.len()).cycle().take(count) {
        let (target, shots, sender) = (Arc::clone(target), Arc::clone(shots), sender.clone());
        tokio::spawn(async move { fire(&target, &shots, index, start, &sender).await });
    }
    drop(sender);
    gather(answers, start).await
}

/// Keeps `width` requests in flight for `time`, each after the answer to the one before.
///
/// # Errors
/// Fails when the load cannot be made.
pub(crate) async fn closed_loop(
    target: &Arc<Target>,
    shots: &Arc<Vec<Shot>>,
    width: usize,
    time: Duration,
) -> Result<Outcome> {
    ensure!(!shots.is_empty(), "nothing to send");
    let (sender, answers) = mpsc::unbounded_channel();
    let start = Instant::now();
    for lane in 0..width {
        let (target, shots, sender) = (Arc::clone(target), Arc::clone(shots), sender.clone());
        tokio::spawn(async move {
            for index in (0..shots.len()).cycle().skip(lane) {
                let at = Instant::now();
                if at.duration_since(start) >= time || sender.is_closed() {
                    return;
                }
                fire(&target, &shots, index, at, &sender).await;
            }
        });
    }
    drop(sender);
    gather(answers, start).await
}

/// Sends one request that was due at `at`.
async fn fire(
    target: &Target,
    shots: &[Shot],
    index: usize,
    at: Instant,
    sender: &mpsc::UnboundedSender<Done>,
) {
    let Some(shot) = shots.get(index) else { return };
    let late = at.elapsed();
    let reply = tokio::time::timeout(PATIENCE, target.send(shot)).await;
    let latency = at.elapsed();
    let reply = reply.unwrap_or_else(|_| Err(format!("no answer within {PATIENCE:?}")));
    let answer = target.answer(reply);
    let grade = shot.right.grade(&answer);
    let text = (grade != Grade::Right).then(|| brief(&answer));
    // A load that is given up has no receiver.
    _ = sender.send(Done { late, latency, grade, text });
}

/// Returns an answer in at most 400 characters.
fn brief(answer: &Answer) -> String {
    format!("{answer:?}").chars().take(400).collect()
}
