//! Reviews at a steady rate: early refusals, growth, shrinks.

use anyhow::Result;

use super::{Extent, Found};
use crate::report::{Line, Target, Unit};
use crate::rig::{Column, Rig};
use crate::shots::Kind;
use crate::window::{Load, Window, Windows, count, interleaved};

/// The windows of a row in lines.
struct Lines {
    row: &'static str,
    windows: Windows,
    figures: Vec<Line>,
}

impl Lines {
    async fn measure(
        row: &'static str,
        rig: &Rig,
        columns: &[Column],
        load: Load,
        extent: Extent,
    ) -> Result<Self> {
        let windows = interleaved(rig, columns, load, extent.repeats).await?;
        Ok(Self { row, windows, figures: Vec::new() })
    }

    /// Adds a figure of every column.
    fn all(
        mut self,
        measure: &str,
        unit: Unit,
        target: Target,
        figure: impl Fn(&Window) -> f64,
    ) -> Self {
        let of = |column| self.windows.of(column, &figure);
        let line = Line::of(self.row, measure, unit, target, of(Column::Ours));
        self.figures.push(line.beside(of(Column::Noop)).and_policy(of(Column::Policy)));
        self
    }

    /// Adds a latency.
    fn latency(self, measure: &str, quantile: f64, target: Target) -> Self {
        self.all(measure, Unit::Ms, target, |window| window.outcome.milliseconds(quantile))
    }

    /// Adds a figure of both webhooks.
    fn webhooks(
        mut self,
        measure: &str,
        unit: Unit,
        target: Target,
        figure: impl Fn(&Window) -> f64,
    ) -> Self {
        let of = |column| self.windows.of(column, &figure);
        let line = Line::of(self.row, measure, unit, target, of(Column::Ours));
        self.figures.push(line.beside(of(Column::Noop)));
        self
    }

    /// Adds the requests to the API server.
    fn requests(mut self, target: Target) -> Self {
        let measure = "requests to the API server, each";
        let ours = self.windows.requests();
        self.figures.push(Line::of(self.row, measure, Unit::Plain, target, ours));
        self
    }

    /// Adds the CPU time of the webhook.
    fn cpu(self, target: Target) -> Self {
        self.webhooks("CPU of the webhook, each", Unit::Ms, target, |window| window.cpu)
    }

    /// Adds what every row has: the answers, the API server's CPU, the load's own delay.
    fn found(self) -> Found {
        let row = self.row;
        let lines = self
            .all("CPU of the API server, each", Unit::Ms, Target::None, |window| window.api_cpu)
            .all("delay of the load itself, p99", Unit::Ms, Target::None, |window| {
                window.outcome.own_delay(0.99)
            })
            .webhooks("answers that are not right", Unit::Plain, Target::AlwaysAtMost(0.0), |it| {
                count(it.outcome.sent - it.outcome.right)
            });
        let mut notes =
            vec![format!("{row}: requests for each review: {}", lines.windows.requests_by_kind())];
        let examples = lines.windows.examples().into_iter();
        notes.extend(examples.map(|example| format!("{row}: not right: {example}")));
        Found { lines: lines.figures, notes }
    }
}

/// Returns what a refusal before live reads may cost, on either way.
fn refused_early(lines: Lines) -> Found {
    lines
        .latency("p50", 0.5, Target::TimesNoop(2.0))
        .latency("p99", 0.99, Target::TimesNoop(1.5))
        .requests(Target::AtMost(0.1))
        .cpu(Target::AtMost(0.5))
        .found()
}

/// Measures a refusal by a bound, through the API server.
pub(super) async fn early(rig: &Rig, extent: Extent) -> Result<Found> {
    let load = Load { kind: Kind::AboveMax, straight: false, rate: 50, time: extent.time(6) };
    let row = "early refusal through the API server, 50/s";
    let lines = Lines::measure(row, rig, &Column::ALL, load, extent).await?;
    Ok(refused_early(lines))
}

/// Measures the same, straight to the webhook.
pub(super) async fn early_straight(rig: &Rig, extent: Extent) -> Result<Found> {
    let load = Load { kind: Kind::AboveMax, straight: true, rate: 300, time: extent.time(4) };
    let row = "early refusal straight to the webhook, 300/s";
    let lines = Lines::measure(row, rig, &[Column::Noop, Column::Ours], load, extent).await?;
    Ok(refused_early(lines))
}

/// Measures growth that is admitted.
pub(super) async fn growth(rig: &Rig, extent: Extent) -> Result<Found> {
    let load = Load { kind: Kind::Growth, straight: false, rate: 50, time: extent.time(6) };
    let row = "admitted growth through the API server, 50/s";
    let lines = Lines::measure(row, rig, &Column::ALL, load, extent).await?;
    Ok(lines
        .latency("p50", 0.5, Target::TimesNoop(1.8))
        .latency("p99", 0.99, Target::TimesNoop(2.5))
        .requests(Target::AtMost(8.0))
        .cpu(Target::AtMost(1.5))
        .found())
}

/// Measures a shrink of five members, all of which answer.
pub(super) async fn shrink(rig: &Rig, extent: Extent) -> Result<Found> {
    let load = Load { kind: Kind::Shrink, straight: false, rate: 10, time: extent.time(6) };
    let row = "shrink of 5 members through the API server, 10/s";
    let lines = Lines::measure(row, rig, &[Column::Noop, Column::Ours], load, extent).await?;
    let ours = lines.windows.of(Column::Ours, |window| window.asked);
    let asked = Line::of(row, "requests to members, each", Unit::Plain, Target::AtMost(5.0), ours);
    let mut lines = lines
        .latency("p50", 0.5, Target::None)
        .latency("p99", 0.99, Target::AtMost(50.0))
        .requests(Target::AtMost(7.0))
        .cpu(Target::None);
    lines.figures.push(asked);
    Ok(lines.found())
}

/// Measures the same where one member does not answer.
pub(super) async fn silent(rig: &Rig, extent: Extent) -> Result<Found> {
    let load = Load { kind: Kind::ShrinkSilent, straight: false, rate: 5, time: extent.time(3) };
    let row = "shrink of 5 members, one of them silent, 5/s";
    let lines = Lines::measure(row, rig, &[Column::Ours], load, extent).await?;
    Ok(lines.latency("longest", 1.0, Target::AtMost(1300.0)).found())
}
