//! Every flag and its help; raw words become ready-to-use values here, once.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use k8s_openapi::jiff::SignedDuration;

use crate::commands::{
    completion, down, history, overrides, plan, policy, rules, set, status, switchover, undo, up,
    verify, version, wait,
};
use crate::error::EXIT_CODES;
use crate::terminal::Color;
use crate::terminal::expression::Expression;

mod connection;
mod output;
mod tips;

pub(crate) use connection::ConnectionFlags;
pub(crate) use output::{Shape, expression};

/// Scale PostgreSQL clusters of the Zalando postgres-operator without losing the leader or the data.
///
/// Every change is a planned, verified act: the plan says which members come and go and what every rule says
/// about it; a shrink moves the leader off the members that go before the count is lowered; the command ends when
/// every member streams, and not when the operator says Running.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "kubectl-pgscale",
    version,
    disable_help_subcommand = true,
    max_term_width = 100,
    after_help = EXIT_CODES
)]
pub(crate) struct Cli {
    /// When to colour the output; `NO_COLOR` wins.
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN")]
    pub(crate) color: Color,
    /// How to reach the API server, and as whom.
    #[command(flatten)]
    pub(crate) connection: ConnectionFlags,
    /// What to do.
    #[command(subcommand)]
    pub(crate) verb: Verb,
    /// The expression of `-o`, beside the format: see [`Shape`].
    #[arg(skip)]
    pub(crate) expression: Option<Expression>,
}

/// What to do. The help of each verb is the doc comment of its arguments.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Verb {
    Status(status::Args),
    Plan(plan::Args),
    Up(up::Args),
    Down(down::Args),
    Set(set::Args),
    Switchover(switchover::Args),
    Wait(wait::Args),
    Verify(verify::Args),
    History(history::Args),
    Undo(undo::Args),
    Override(overrides::Args),
    Policy(policy::Args),
    Rules(rules::Args),
    Completion(completion::Args),
    Version(version::Args),
}

impl Cli {
    /// Reads the command line. The error is clap's: help and `--version` arrive as one too.
    pub(crate) fn of<I, T>(arguments: I) -> Result<Self, clap::Error>
    where
        I: IntoIterator<Item = T>,
        T: Into<std::ffi::OsString> + Clone,
    {
        let arguments: Vec<std::ffi::OsString> = arguments.into_iter().map(Into::into).collect();
        let matches = Self::command_as(arguments.first())
            .try_get_matches_from(&arguments)
            .map_err(|error| tips::advised(error, &arguments))?;
        let expression = expression(&matches);
        Ok(Self { expression, ..Self::from_arg_matches(&matches)? })
    }

    /// The command, named the way it was called: kubectl runs `kubectl-pgscale` for `kubectl pgscale`.
    pub(crate) fn command_as(program: Option<&std::ffi::OsString>) -> clap::Command {
        let file = program
            .map(PathBuf::from)
            .and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
        let command = Self::command().mut_subcommands(with_rights);
        match file {
            Some(file) if !file.starts_with("kubectl-") => command.bin_name(file),
            _ => command.bin_name("kubectl pgscale"),
        }
    }
}

/// The command, its long help completed by the rights it needs: before the examples, which end the short one too.
fn with_rights(command: clap::Command) -> clap::Command {
    let Some(rights) = crate::permissions::help(command.get_name()) else { return command };
    let examples = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    command.after_long_help(format!("{rights}\n\n{examples}"))
}

/// Whether anything is written.
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

/// How a change is carried out.
#[derive(Args, Clone, Debug)]
pub(crate) struct Acting {
    /// Answer yes to the question before a change.
    #[arg(short, long)]
    pub(crate) yes: bool,
    /// Confirms a change to 0 instances, which ends the service.
    #[arg(long, value_name = "NAMESPACE/NAME")]
    pub(crate) confirm: Option<String>,
    /// Change nothing: `client` only plans, `server` has the write judged and not stored.
    #[arg(long, value_enum, default_value_t, value_name = "MODE")]
    pub(crate) dry_run: DryRun,
    /// Wait until the cluster has converged; --wait=false returns after the write.
    #[arg(long, value_name = "BOOL", default_value_t = true, action = ArgAction::Set,
        num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) wait: bool,
    #[command(flatten)]
    pub(crate) patience: WaitOptions,
    #[command(flatten)]
    pub(crate) why: Why,
    /// Print a full report of the change to stdout: a page of Markdown, or JSON.
    #[arg(long, value_enum, value_name = "FORMAT", conflicts_with = "output")]
    pub(crate) report: Option<ReportFormat>,
    #[command(flatten)]
    pub(crate) shape: Shape,
}

/// `--reason`.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Why {
    /// Why: kept in the history, and shown in the Event on the cluster.
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
    /// How long to wait, such as 5s, 2m or 3h; 0 looks once, a negative value waits a week.
    #[arg(long, value_name = "DURATION", default_value = "30m", value_parser = timeout,
        allow_hyphen_values = true)]
    pub(crate) timeout: Duration,
}

/// NAME: which cluster.
#[derive(Args, Clone, Debug)]
pub(crate) struct Target {
    /// The cluster: NAME, pg/NAME or postgresql/NAME.
    #[arg(value_name = "NAME", value_parser = cluster_name)]
    pub(crate) name: String,
}

/// Which cluster, or which clusters.
#[derive(Args, Clone, Debug)]
pub(crate) struct Targets {
    /// The cluster: NAME, pg/NAME or postgresql/NAME.
    #[arg(value_name = "NAME", value_parser = cluster_name,
        required_unless_present_any = ["selector", "all_namespaces"],
        conflicts_with_all = ["selector", "all_namespaces"])]
    pub(crate) name: Option<String>,
    /// All clusters with these labels, instead of one by name.
    #[arg(short = 'l', long, value_name = "LABELS", value_parser = labels,
        help_heading = "Several clusters")]
    pub(crate) selector: Option<String>,
    /// Clusters of all namespaces; needs -l.
    #[arg(short = 'A', long, requires = "selector", help_heading = "Several clusters")]
    pub(crate) all_namespaces: bool,
    /// How many clusters are changed at a time.
    #[arg(long, value_name = "N", default_value = "1", value_parser = at_a_time,
        help_heading = "Several clusters")]
    pub(crate) max_parallel: usize,
    /// Begin nothing if any cluster's change is refused, and nothing more after one failed.
    #[arg(long, help_heading = "Several clusters")]
    pub(crate) stop_on_error: bool,
}

impl Targets {
    /// Returns the cluster `name` alone.
    pub(crate) fn one(name: String) -> Self {
        Self {
            name: Some(name),
            selector: None,
            all_namespaces: false,
            max_parallel: 1,
            stop_on_error: false,
        }
    }
}

/// Reads the labels of clusters to change. None at all would choose every cluster, as an unset
/// variable of a script does.
fn labels(word: &str) -> Result<String, String> {
    if word.trim().is_empty() {
        return Err("it is empty, and would choose every cluster".to_owned());
    }
    Ok(word.to_owned())
}

fn at_a_time(word: &str) -> Result<usize, String> {
    match word.parse() {
        Ok(0) | Err(_) => Err("it is not a number of clusters, 1 or more".to_owned()),
        Ok(number) => Ok(number),
    }
}

/// How many characters a reason may have: it is for people, and kept 50 times.
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

/// Reads `acid-a`, `pg/acid-a`, `postgresql/acid-a` or the name `-o name` prints.
pub(crate) fn cluster_name(word: &str) -> Result<String, String> {
    let name = match word.split_once('/') {
        None => word,
        Some((kind, name)) => {
            let kind = kind.to_ascii_lowercase();
            let kind = kind.strip_suffix(".acid.zalan.do").unwrap_or(&kind);
            if !matches!(kind, "pg" | "postgresql" | "postgresqls") {
                return Err(format!(
                    "{kind:?} is not a kind this command knows; use postgresql/NAME"
                ));
            }
            name
        }
    };
    let allowed = |character: char| {
        character.is_ascii_lowercase() || character.is_ascii_digit() || "-.".contains(character)
    };
    if name.is_empty() || !name.chars().all(allowed) {
        return Err(format!("{name:?} cannot be the name of a cluster"));
    }
    Ok(name.to_owned())
}

/// Reads a number of instances: what the field `numberOfInstances` (int32) can hold and means something.
pub(crate) fn count(word: &str) -> Result<i64, String> {
    const MOST: i64 = i32::MAX as i64;
    let (negative, digits) = match word.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, word.strip_prefix('+').unwrap_or(word)),
    };
    if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return Err("it is not a whole number of instances".to_owned());
    }
    if negative {
        return Err("it is negative; 0 is the fewest instances there can be".to_owned());
    }
    digits.parse().ok().filter(|number| *number <= MOST).ok_or_else(|| {
        format!("it is above {MOST}, the most the field numberOfInstances (int32) can hold")
    })
}

/// Reads a number of instances to add or remove: at least one.
pub(crate) fn step(word: &str) -> Result<i64, String> {
    match count(word)? {
        0 => Err("it is 0: nothing would change".to_owned()),
        step => Ok(step),
    }
}

/// A week: what kubectl takes a negative `--timeout` to mean.
const WEEK: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Reads `--timeout`: a duration, kubectl's way.
pub(crate) fn timeout(word: &str) -> Result<Duration, String> {
    let duration = duration(word)?;
    Ok(if duration.is_negative() { WEEK } else { duration.unsigned_abs() })
}

/// Reads a length of time that ends in the future.
pub(crate) fn positive(word: &str) -> Result<Duration, String> {
    let duration = duration(word)?;
    if duration.is_positive() {
        Ok(duration.unsigned_abs())
    } else {
        Err("it is over at once".to_owned())
    }
}

fn duration(word: &str) -> Result<SignedDuration, String> {
    if word == "0" {
        return Ok(SignedDuration::ZERO);
    }
    word.parse().map_err(|_| "it is not a duration such as 5s, 2m, 1h30m".to_owned())
}

#[cfg(test)]
mod tests;
