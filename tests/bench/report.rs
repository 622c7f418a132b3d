//! The table: each figure beside its target, the no-op webhook and the policy, and the page that is
//! written from it.

use std::fmt::Write as _;
use std::fs;
use std::thread::available_parallelism;

use pgscale_tests::tools;

/// The lines around the generated part of the page.
pub(crate) const MARKERS: (&str, &str) = (
    "<!-- written by `cargo run --release -p pgscale-tests --bin bench`: begin -->",
    "<!-- written by `cargo run --release -p pgscale-tests --bin bench`: end -->",
);

/// The unit of a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Milliseconds.
    Ms,
    /// Mebibytes.
    MiB,
    /// A count or a part of something.
    Plain,
}

/// The target of a figure. It holds for the median of the repeats, unless it says otherwise.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Target {
    /// At most this many times the no-op webhook, of the same repeat.
    TimesNoop(f64),
    /// At most this.
    AtMost(f64),
    /// At least this.
    AtLeast(f64),
    /// At most this in every repeat.
    AlwaysAtMost(f64),
    /// None: the figure explains others.
    None,
}

/// One figure over all repeats.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    /// What was done.
    pub(crate) row: String,
    /// What was measured.
    pub(crate) measure: String,
    /// Its unit.
    pub(crate) unit: Unit,
    /// Its target.
    pub(crate) target: Target,
    /// Our figures, one for each repeat.
    pub(crate) ours: Vec<f64>,
    /// Those of the no-op webhook in the same repeats. Empty where it has none.
    pub(crate) noop: Vec<f64>,
    /// Those of the policy.
    pub(crate) policy: Vec<f64>,
}

impl Line {
    /// Returns a figure of ours alone.
    pub(crate) fn of(row: &str, measure: &str, unit: Unit, target: Target, ours: Vec<f64>) -> Self {
        let (row, measure) = (row.to_owned(), measure.to_owned());
        Self { row, measure, unit, target, ours, noop: Vec::new(), policy: Vec::new() }
    }

    /// Adds the figures of the no-op webhook.
    pub(crate) fn beside(self, noop: Vec<f64>) -> Self {
        Self { noop, ..self }
    }

    /// Adds the figures of the policy.
    pub(crate) fn and_policy(self, policy: Vec<f64>) -> Self {
        Self { policy, ..self }
    }

    /// Returns ours divided by the no-op webhook's, repeat by repeat.
    fn ratios(&self) -> Vec<f64> {
        let pairs = self.ours.iter().zip(&self.noop).filter(|(_, noop)| **noop > 0.0);
        pairs.map(|(ours, noop)| ours / noop).collect()
    }

    /// Returns whether the target is reached. `None` without a target.
    pub(crate) fn passes(&self) -> Option<bool> {
        let holds = |values: &[f64], held: &dyn Fn(f64) -> bool| median(values).is_some_and(held);
        match self.target {
            Target::None => None,
            Target::TimesNoop(most) => Some(holds(&self.ratios(), &|it| it <= most)),
            Target::AtMost(most) => Some(holds(&self.ours, &|it| it <= most)),
            Target::AtLeast(least) => Some(holds(&self.ours, &|it| it >= least)),
            Target::AlwaysAtMost(most) => {
                Some(!self.ours.is_empty() && self.ours.iter().all(|it| *it <= most))
            }
        }
    }

    fn target_words(&self) -> String {
        let unit = self.unit.words();
        match self.target {
            Target::None => "–".to_owned(),
            Target::TimesNoop(most) => format!("≤ {most} × no-op"),
            Target::AtMost(most) => format!("≤ {most}{unit}"),
            Target::AtLeast(least) => format!("≥ {least}{unit}"),
            Target::AlwaysAtMost(most) => format!("always ≤ {most}{unit}"),
        }
    }
}

impl Unit {
    fn words(self) -> &'static str {
        match self {
            Self::Ms => " ms",
            Self::MiB => " MiB",
            Self::Plain => "",
        }
    }
}

/// Returns the median.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let upper = sorted.get(middle).copied()?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    sorted.get(middle.checked_sub(1)?).map(|lower| f64::midpoint(*lower, upper))
}

/// Returns `median [least–most]`, or a dash.
fn spread(values: &[f64]) -> String {
    let Some(middle) = median(values) else { return "–".to_owned() };
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if values.len() == 1 {
        return number(middle);
    }
    format!("{} [{}–{}]", number(middle), number(least), number(most))
}

/// Returns a number with about three digits, and a whole number without a fraction.
fn number(value: f64) -> String {
    match value.abs() {
        _ if value.fract() == 0.0 => format!("{value:.0}"),
        size if size >= 99.95 => format!("{value:.0}"),
        size if size >= 9.995 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// Everything that a run found.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// The figures.
    pub(crate) lines: Vec<Line>,
    /// What explains them.
    pub(crate) notes: Vec<String>,
    /// The rows that could not be measured, with the reason.
    pub(crate) failed: Vec<String>,
}

impl Report {
    /// Returns whether every target is reached.
    pub(crate) fn passes(&self) -> bool {
        self.failed.is_empty() && self.lines.iter().all(|line| line.passes() != Some(false))
    }

    /// Returns the table and the notes.
    pub(crate) fn text(&self) -> String {
        let mut text = String::from(
            "| what | figure | target | ours | no-op | policy | ours ÷ no-op | |\n\
             |---|---|---|---|---|---|---|---|\n",
        );
        for line in &self.lines {
            let passes = match line.passes() {
                None => "",
                Some(true) => "pass",
                Some(false) => "**miss**",
            };
            let Line { row, measure, unit, .. } = line;
            _ = writeln!(
                text,
                "| {row} | {measure}{} | {} | {} | {} | {} | {} | {passes} |",
                if *unit == Unit::Plain { "" } else { "," }.to_owned() + unit.words(),
                line.target_words(),
                spread(&line.ours),
                spread(&line.noop),
                spread(&line.policy),
                spread(&line.ratios()),
            );
        }
        for failed in &self.failed {
            _ = writeln!(text, "\nNot measured: {failed}");
        }
        if !self.notes.is_empty() {
            text.push('\n');
        }
        for note in &self.notes {
            _ = writeln!(text, "- {note}");
        }
        text
    }
}

/// Describes the machine, the programs and the run.
pub(crate) fn machine(repeats: u32, commit: &str, load: &str) -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.split_once(':'));
        line.map_or_else(|| "?".to_owned(), |(_, value)| value.trim().to_owned())
    };
    let cores = available_parallelism().map_or(0, usize::from);
    let build = if cfg!(debug_assertions) {
        "debug build, whose figures say nothing"
    } else {
        "release build"
    };
    format!(
        "Commit {commit}, {build}, {repeats} repeats. {cores} cores of {}, {} of memory, Linux {}, \
         Kubernetes {}, manifests of operator {}. Load average before the run: {load}.\n\n\
         The load, the API server, etcd, the controllers and both webhooks share these {cores} \
         cores, so milliseconds say more about the machine than about a webhook. The columns take \
         turns in every repeat, and a ratio compares two of the same repeat. Each cell is the median \
         of the repeats, with the least and the most.\n",
        field(&read("/proc/cpuinfo"), "model name"),
        field(&read("/proc/meminfo"), "MemTotal"),
        read("/proc/sys/kernel/osrelease").trim(),
        tools::kubernetes_version(),
        tools::operator_version(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(target: Target, ours: &[f64], noop: &[f64]) -> Line {
        Line::of("row", "p99", Unit::Ms, target, ours.to_vec()).beside(noop.to_vec())
    }

    #[test]
    fn target_holds_for_the_median_of_paired_ratios() {
        let times = |most| line(Target::TimesNoop(most), &[2.0, 30.0, 9.0], &[1.0, 20.0, 3.0]);
        // The ratios are 2, 1.5 and 3. The ratio of the medians would be 3.
        assert_eq!(times(2.0).passes(), Some(true));
        assert_eq!(times(1.9).passes(), Some(false));
        for (target, passes) in [
            (Target::AtMost(2.0), Some(true)),
            (Target::AtMost(1.0), Some(false)),
            (Target::AtLeast(2.0), Some(true)),
            (Target::AtLeast(2.5), Some(false)),
            (Target::AlwaysAtMost(3.0), Some(true)),
            (Target::AlwaysAtMost(2.0), Some(false)),
            (Target::None, None),
        ] {
            assert_eq!(line(target, &[1.0, 2.0, 3.0], &[]).passes(), passes, "{target:?}");
        }
    }

    #[test]
    fn figure_that_was_not_measured_misses() {
        for target in [Target::TimesNoop(9.0), Target::AtMost(9.0), Target::AlwaysAtMost(9.0)] {
            assert_eq!(line(target, &[], &[]).passes(), Some(false), "{target:?}");
        }
        assert_eq!(line(Target::TimesNoop(9.0), &[1.0], &[]).passes(), Some(false));
        let failed = Report { failed: vec!["growth: no answer".into()], ..Report::default() };
        assert!(!failed.passes());
        assert!(Report::default().passes());
    }

    #[test]
    fn table_shows_target_spread_and_ratio() {
        let lines = vec![
            line(Target::TimesNoop(2.0), &[2.0, 30.0, 9.0], &[1.0, 20.0, 3.0]),
            Line::of("memory", "peak", Unit::MiB, Target::AtMost(64.0), vec![410.0]),
        ];
        let text = Report { lines, ..Report::default() }.text();
        let rows: Vec<_> = text.lines().skip(2).collect();
        assert_eq!(
            rows,
            [
                "| row | p99, ms | ≤ 2 × no-op | 9 [2–30] | 3 [1–20] | – | 2 [1.50–3] | pass |",
                "| memory | peak, MiB | ≤ 64 MiB | 410 | – | – | – | **miss** |",
            ]
        );
    }

    #[test]
    fn median_of_an_even_number_is_between_two() {
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), Some(2.5));
        assert_eq!(median(&[]), None);
    }
}
