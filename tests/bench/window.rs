//! One column under load for a while, and columns in turn.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::answer::{Shot, Target};
use crate::load::{Outcome, open_loop};
use crate::meter::{Requests, cpu, per_review, requests, total};
use crate::rig::{Column, Rig};
use crate::shots::Kind;

/// The time under load before the first repeat, which counts for nothing.
const WARM_UP: Duration = Duration::from_secs(1);

/// The time between two looks whether the webhook has come to rest.
const LOOK: Duration = Duration::from_millis(200);
/// The most CPU time of a webhook at rest between two looks.
const REST: Duration = Duration::from_millis(10);
/// The number of looks after which the next window begins anyway.
const LOOKS: u32 = 25;

/// What one column did under load.
#[derive(Debug)]
pub(crate) struct Window {
    /// The answers.
    pub(crate) outcome: Outcome,
    /// The CPU time of the process that answers, for each review, in milliseconds.
    pub(crate) cpu: f64,
    /// The same of the API server.
    pub(crate) api_cpu: f64,
    /// The requests to the API server, for each review.
    pub(crate) requests: Requests,
    /// The requests to members, for each review.
    pub(crate) asked: f64,
}

/// The load of a row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// The write.
    pub(crate) kind: Kind,
    /// Whether it goes straight to the webhook.
    pub(crate) straight: bool,
    /// The writes in a second.
    pub(crate) rate: u32,
    /// The time of one window.
    pub(crate) time: Duration,
}

/// The windows of all repeats.
#[derive(Debug, Default)]
pub(crate) struct Windows(Vec<(Column, Window)>);

impl Windows {
    /// Returns one figure of a column, repeat by repeat.
    pub(crate) fn of(&self, column: Column, figure: impl Fn(&Window) -> f64) -> Vec<f64> {
        let windows = self.0.iter().filter(|(of, _)| *of == column);
        windows.map(|(_, window)| figure(window)).collect()
    }

    /// Returns the requests of ours beyond those that the API server has anyway, for each review.
    pub(crate) fn requests(&self) -> Vec<f64> {
        let of = |column| self.of(column, |window| total(&window.requests));
        let pairs = of(Column::Ours).into_iter().zip(of(Column::Noop));
        pairs.map(|(ours, noop)| (ours - noop).max(0.0)).collect()
    }

    /// Returns the requests of ours by kind, over all repeats.
    pub(crate) fn requests_by_kind(&self) -> String {
        let mut sum = Requests::new();
        let mut windows = 0.0;
        for (_, window) in self.0.iter().filter(|(column, _)| *column == Column::Ours) {
            windows += 1.0;
            for (kind, count) in &window.requests {
                *sum.entry(kind.clone()).or_default() += count;
            }
        }
        let mut kinds: Vec<_> = sum.into_iter().map(|(kind, sum)| (kind, sum / windows)).collect();
        kinds.retain(|(_, count)| *count >= 0.01);
        kinds.sort_by(|(_, one), (_, other)| other.total_cmp(one));
        let kinds: Vec<_> =
            kinds.iter().map(|(kind, count)| format!("{kind} {count:.2}")).collect();
        if kinds.is_empty() { "none".to_owned() } else { kinds.join(", ") }
    }

    /// Returns the first answers of ours that are not right.
    pub(crate) fn examples(&self) -> Vec<String> {
        let ours = self.0.iter().filter(|(column, _)| *column == Column::Ours);
        ours.flat_map(|(_, window)| window.outcome.examples.clone()).take(2).collect()
    }
}

/// Puts the columns under load in turn, as often as `repeats`. The order moves with every repeat.
///
/// # Errors
/// Fails when a part of the rig does not answer.
pub(crate) async fn interleaved(
    rig: &Rig,
    columns: &[Column],
    load: Load,
    repeats: u32,
) -> Result<Windows> {
    let mut prepared = Vec::new();
    for column in columns {
        let (target, shots) = if load.straight {
            (rig.straight(*column).await?, rig.reviews(*column, load.kind).await?)
        } else {
            (Arc::clone(&rig.api), rig.shots(*column, load.kind))
        };
        open_loop(&target, &shots, load.rate, WARM_UP.min(load.time)).await?;
        at_rest(rig).await?;
        prepared.push((*column, target, shots));
    }
    let mut windows = Windows::default();
    for _ in 0..repeats {
        for (column, target, shots) in &prepared {
            let window = window(rig, *column, target, shots, load).await;
            let window = window.with_context(|| format!("{column:?} under load"))?;
            windows.0.push((*column, window));
            at_rest(rig).await?;
        }
        prepared.rotate_left(1);
    }
    Ok(windows)
}

/// Waits until our webhook does nothing: after more reviews than it can judge, it goes on for a
/// while, and the next column would pay for that.
async fn at_rest(rig: &Rig) -> Result<()> {
    let process = rig.process(Column::Ours).await?;
    let mut before = cpu(process)?;
    for _ in 0..LOOKS {
        tokio::time::sleep(LOOK).await;
        let now = cpu(process)?;
        if now.saturating_sub(before) <= REST {
            break;
        }
        before = now;
    }
    Ok(())
}

async fn window(
    rig: &Rig,
    column: Column,
    target: &Arc<Target>,
    shots: &Arc<Vec<Shot>>,
    load: Load,
) -> Result<Window> {
    let (process, api_server) = (rig.process(column).await?, rig.process(Column::Policy).await?);
    let before = (requests(rig.https()).await?, rig.members.asked());
    let cpu_before = (cpu(process)?, cpu(api_server)?);
    let outcome = open_loop(target, shots, load.rate, load.time).await?;
    let cpu_after = (cpu(process)?, cpu(api_server)?);
    let after = (requests(rig.https()).await?, rig.members.asked());
    let reviews = count(outcome.sent).max(1.0);
    let each = |before: Duration, after: Duration| {
        after.saturating_sub(before).as_secs_f64() * 1000.0 / reviews
    };
    Ok(Window {
        cpu: each(cpu_before.0, cpu_after.0),
        api_cpu: each(cpu_before.1, cpu_after.1),
        requests: per_review(&before.0, &after.0, reviews),
        asked: count(after.1 - before.1) / reviews,
        outcome,
    })
}

/// Returns a count as a number to calculate with.
#[expect(clippy::cast_precision_loss, reason = "no count here is near 2^53")]
pub(crate) fn count(count: u64) -> f64 {
    count as f64
}
