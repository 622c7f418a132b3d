//! More reviews than the webhook can judge.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::time::sleep_until;

use super::{Extent, Found};
use crate::answer::{Shot, Target as Server};
use crate::load::{Outcome, at_once, closed_loop, open_loop};
use crate::meter::memory;
use crate::report::{Line, Target, Unit};
use crate::rig::{Column, Rig};
use crate::shots::Kind;
use crate::window::count;

const RATE: u32 = 300;
const AT_ONCE: usize = 1000;
/// The requests in flight while the capacity is measured.
const WIDTH: usize = 16;
/// The time in which the webhook must be normal again.
const NORMAL: Duration = Duration::from_secs(1);
/// The requests one after the other that show how long a review takes.
const PROBES: usize = 10;

/// The figures of both loads.
#[derive(Default)]
struct Figures {
    peak: Vec<f64>,
    capacity: Vec<f64>,
    part: Vec<f64>,
    verdicts: Vec<f64>,
    unjudged: Vec<f64>,
    failed: Vec<f64>,
    late: Vec<f64>,
    wrong: Vec<f64>,
    wrong_allows: Vec<f64>,
    p99: Vec<f64>,
    after: Vec<f64>,
    delay: Vec<f64>,
    examples: Vec<String>,
}

/// The webhook, just started, with a mix of reviews that need live state.
struct Fresh {
    target: Arc<Server>,
    /// Growth that must pass, growth above the maximum and shrinks, both of which must be refused.
    mix: Arc<Vec<Shot>>,
    /// The verdicts in a second that it reaches at its best.
    capacity: f64,
    /// The time of a review at rest, in milliseconds.
    rest: f64,
}

impl Fresh {
    async fn start(rig: &Rig, extent: Extent) -> Result<Self> {
        rig.webhook.stop().await?;
        rig.webhook.run().await?;
        let target = rig.straight(Column::Ours).await?;
        let growth = rig.reviews(Column::Ours, Kind::Growth).await?;
        let above = rig.reviews(Column::Ours, Kind::AboveMax).await?;
        let shrink = rig.reviews(Column::Ours, Kind::LosesLeader).await?;
        let refused = above.iter().cycle().zip(shrink.iter().cycle());
        let mix =
            growth.iter().zip(refused).enumerate().flat_map(|(number, (one, (above, shrink)))| {
                // As many pass as are refused.
                let other = if number % 4 == 0 { above } else { shrink };
                [one.clone(), other.clone()]
            });
        let mix = Arc::new(mix.collect());
        let best = closed_loop(&target, &mix, WIDTH, extent.time(3)).await?;
        let capacity = count(best.verdicts) / best.took.as_secs_f64();
        let rest = probe(&target, &mix).await?.milliseconds(0.5);
        Ok(Self { target, mix, capacity, rest })
    }
}

impl Figures {
    /// Adds a repeat. `after` is the time of a review later, in milliseconds.
    async fn add(&mut self, rig: &Rig, fresh: &Fresh, outcome: &Outcome, after: f64) -> Result<()> {
        // The verdicts that the capacity allows from the first request to the last answer.
        let possible = (fresh.capacity * outcome.took.as_secs_f64()).min(count(outcome.sent));
        self.peak.push(memory(rig.process(Column::Ours).await?)?.peak);
        self.capacity.push(fresh.capacity);
        self.part.push(count(outcome.verdicts) / possible.max(1.0));
        self.verdicts.push(count(outcome.verdicts));
        self.unjudged.push(count(outcome.unjudged));
        self.failed.push(count(outcome.failed));
        self.late.push(count(outcome.after_deadline));
        self.wrong.push(count(outcome.wrong));
        self.wrong_allows.push(count(outcome.wrong_allows));
        self.p99.push(outcome.milliseconds(0.99));
        self.delay.push(outcome.own_delay(0.99));
        self.after.push(after / fresh.rest.max(0.001));
        self.examples.extend(outcome.examples.first().cloned());
        Ok(())
    }

    fn found(self, row: &str) -> Found {
        let line = |measure: &str, unit, target, ours| Line::of(row, measure, unit, target, ours);
        let always_none = Target::AlwaysAtMost(0.0);
        let lines = vec![
            line("most memory since the start", Unit::MiB, Target::AtMost(64.0), self.peak),
            line("answers after the deadline of 5 s", Unit::Plain, always_none, self.late),
            line("wrong allows", Unit::Plain, always_none, self.wrong_allows),
            line("wrong verdicts", Unit::Plain, always_none, self.wrong),
            line(
                "verdicts in time, part of the capacity",
                Unit::Plain,
                Target::AtLeast(0.8),
                self.part,
            ),
            line(
                "time of a review 1 s later ÷ before",
                Unit::Plain,
                Target::AtMost(2.0),
                self.after,
            ),
            line("capacity, verdicts/s", Unit::Plain, Target::None, self.capacity),
            line("verdicts in time", Unit::Plain, Target::None, self.verdicts),
            line("answers without a verdict", Unit::Plain, Target::None, self.unjudged),
            line("no answer", Unit::Plain, Target::None, self.failed),
            line("p99", Unit::Ms, Target::None, self.p99),
            line("delay of the load itself, p99", Unit::Ms, Target::None, self.delay),
        ];
        let examples = self.examples.into_iter().take(2);
        let notes = examples.map(|example| format!("{row}: not right: {example}")).collect();
        Found { lines, notes }
    }
}

/// Measures 300 reviews a second for 30 seconds.
pub(super) async fn overload(rig: &Rig, extent: Extent) -> Result<Found> {
    let time = extent.time(30);
    let mut figures = Figures::default();
    for _ in 0..extent.repeats {
        let fresh = Fresh::start(rig, extent).await?;
        let end = Instant::now() + time;
        let (outcome, after) = tokio::join!(
            open_loop(&fresh.target, &fresh.mix, RATE, time),
            after_load(&fresh.target, &fresh.mix, end + NORMAL),
        );
        figures.add(rig, &fresh, &outcome?, after?).await?;
    }
    Ok(figures.found(&format!("{RATE} reviews a second for {} s, straight", time.as_secs())))
}

/// Measures 1,000 reviews at once.
pub(super) async fn burst(rig: &Rig, extent: Extent) -> Result<Found> {
    let mut figures = Figures::default();
    let reviews = extent.number(AT_ONCE);
    for _ in 0..extent.repeats {
        let fresh = Fresh::start(rig, extent).await?;
        let outcome = at_once(&fresh.target, &fresh.mix, reviews).await?;
        let after = after_load(&fresh.target, &fresh.mix, Instant::now() + NORMAL).await?;
        figures.add(rig, &fresh, &outcome, after).await?;
    }
    Ok(figures.found(&format!("{reviews} reviews at once, straight")))
}

/// Returns the time of a review at `time`, in milliseconds.
async fn after_load(target: &Arc<Server>, mix: &Arc<Vec<Shot>>, time: Instant) -> Result<f64> {
    sleep_until(time.into()).await;
    Ok(probe(target, mix).await?.milliseconds(0.5))
}

/// Sends some reviews one after the other.
async fn probe(target: &Arc<Server>, mix: &Arc<Vec<Shot>>) -> Result<Outcome> {
    let few: Vec<_> = mix.iter().take(PROBES).cloned().collect();
    closed_loop(target, &Arc::new(few), 1, Duration::from_millis(500)).await
}
