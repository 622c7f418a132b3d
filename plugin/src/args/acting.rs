//! The flags of every change: questions, waiting, reason, output.

use std::time::Duration;

use clap::{ArgAction, Args, ValueEnum};

use super::{Shape, timeout};
use crate::plan::PlanHash;

/// The dry run of a change, if it is one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum DryRun {
    /// The change is made.
    #[default]
    None,
    /// Only the plan is shown.
    Client,
    /// The write is sent and judged by every admission webhook, and not stored.
    Server,
}

/// The manner in which a change is carried out.
#[derive(Args, Clone, Debug)]
pub(crate) struct Acting {
    /// Answer yes to the question before a change.
    #[arg(short, long)]
    pub(crate) yes: bool,
    /// Confirm a change to 0, or of more than 3 clusters.
    ///
    /// NAMESPACE/NAME for a change to 0 instances, N-clusters for one of more than three clusters.
    #[arg(long, value_name = "WHAT")]
    pub(crate) confirm: Option<String>,
    /// Change nothing unless the plan is still this one.
    ///
    /// The hash is that of `plan -o json`. Another plan ends with exit code 3.
    #[arg(long, value_name = "HASH", value_parser = PlanHash::read)]
    pub(crate) expect_plan: Option<PlanHash>,
    /// Change nothing: client or server.
    ///
    /// `client` only plans, `server` has the write judged and not stored.
    #[arg(long, value_enum, default_value_t, value_name = "MODE")]
    pub(crate) dry_run: DryRun,
    /// Wait until it has converged; false ends earlier.
    ///
    /// --wait=false returns after the write.
    #[arg(long, value_name = "BOOL", default_value_t = true, action = ArgAction::Set,
        num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) wait: bool,
    #[command(flatten)]
    pub(crate) patience: WaitOptions,
    #[command(flatten)]
    pub(crate) why: Why,
    /// Print a report to stdout: md or json.
    ///
    /// A page of Markdown for a ticket, or the JSON of `-o json`. CPU, memory, lag and reads of each
    /// member are measured before the change, and again after the time of --settle.
    #[arg(long, value_enum, value_name = "FORMAT", conflicts_with = "output")]
    pub(crate) report: Option<ReportFormat>,
    /// Measure before, and this long after it converged.
    ///
    /// CPU and memory by metrics.k8s.io, reads by SQL: what cannot be read is said. 60s with --report
    /// where unset. The exit code stays that of the change, and Ctrl-C ends only the wait.
    #[arg(long, value_name = "DURATION", value_parser = timeout)]
    pub(crate) settle: Option<Duration>,
    #[command(flatten)]
    pub(crate) shape: Shape,
}

impl Acting {
    /// Returns the time between the end of the change and the second look at its effect, where that
    /// is measured. `usual` is the time where a person gives none.
    pub(crate) fn settles(&self, usual: Duration) -> Option<Duration> {
        let watched = self.wait && self.dry_run == DryRun::None;
        self.settle.or(self.report.map(|_| usual)).filter(|_| watched)
    }
}

/// `--reason`.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Why {
    /// Reason, for the history and the Event.
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    pub(crate) reason: Option<String>,
}

/// The shape of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ReportFormat {
    /// The JSON of `-o json`.
    Json,
    /// A page for a ticket.
    Md,
}

/// `--timeout`.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct WaitOptions {
    /// Time to wait, such as 5s, 2m or 3h.
    ///
    /// 0 looks once, a negative value waits a week. When unset: 30m, and where members copy their data
    /// twice the time of all base backups at 20 MiB/s more, 24h at most.
    #[arg(long, value_name = "DURATION", value_parser = timeout, allow_hyphen_values = true)]
    pub(crate) timeout: Option<Duration>,
}

/// The longest reason, in characters: it is for people, and kept 50 times.
const REASON: usize = 500;

/// Reads a reason.
pub(crate) fn reason(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("it is empty".to_owned()),
        text if text.chars().count() > REASON => {
            Err(format!("it is longer than {REASON} characters"))
        }
        text => Ok(text.split_whitespace().collect::<Vec<_>>().join(" ")),
    }
}
