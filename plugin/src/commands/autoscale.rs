//! `autoscale`: the count follows the load of the replicas, or the clock.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use pgscale_guard::Change;
use pgscale_guard::autoscale::{Decision, Entry, Schedule, Spec, State, decide, wanted};
use pgscale_guard::change::Direction;
use pgscale_guard::policy::Mode;
use tokio::time::sleep;

use super::scale::{self, CountRequest, ScaleRequest};
use crate::args::{
    Acting, DryRun, Shape, Target, Targets, WaitOptions, Why, count, positive, timeout,
};
use crate::autoscale::{Looked, look};
use crate::document::AutoscaleDecision;
use crate::error::Failure;
use crate::outcome::Outcome;
use crate::session::Session;
use crate::terminal::Format;

mod schedule;
#[cfg(test)]
mod tests;

/// How the reason of a change begins, in the history and in Events.
const REASON: &str = "autoscale: ";

/// Let the count follow the load of the replicas, or the clock.
///
/// The average CPU of the postgres containers of all replicas, by metrics.k8s.io, in percent of
/// what they request, is held near --cpu. One instance is added or removed at a time, within --min and
/// --max, never while the cluster has not converged, and only where every rule allows it: as `up`
/// and `down` do it. A value that is missing, too old or no number changes nothing. Every look
/// prints what was decided and why.
///
/// With --schedule the count follows the clock. Beside --cpu the scheduled count is the fewest.
///
/// Without any of these flags, the `autoscale` of its policy says what is wanted,
/// read again at every look; a policy whose mode is Warn or Audit only shows what it would do.
///
/// It runs until it is interrupted, and asks nothing: the bounds are the consent.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  kubectl pgscale autoscale acid-a --cpu 80 --min 3 --max 7
  kubectl pgscale autoscale acid-a --cpu 80 --min 3 --max 7 --dry-run
  kubectl pgscale autoscale acid-a                   as its policy says
  kubectl pgscale autoscale acid-a --min 3 --max 5 --schedule 08:00=5")]
pub(crate) struct Args {
    #[command(flatten)]
    target: Target,
    /// Wanted CPU, in percent of the requests.
    #[arg(long, value_name = "PERCENT", requires_all = ["min", "max"],
        value_parser = clap::value_parser!(u32).range(1..=1000))]
    cpu: Option<u32>,
    /// The fewest instances.
    #[arg(long, value_name = "N", value_parser = count, requires = "max")]
    min: Option<i64>,
    /// The most instances.
    #[arg(long, value_name = "N", value_parser = count, requires = "min")]
    max: Option<i64>,
    /// A count from a time on: Mon,Tue,08:00=5.
    ///
    /// Without days: every day. May be given several times; the one that began last holds.
    #[arg(long, value_name = "WHEN=N", requires_all = ["min", "max"])]
    schedule: Vec<String>,
    /// The time zone of --schedule, such as Europe/Berlin.
    #[arg(long, value_name = "ZONE", default_value = "UTC")]
    time_zone: String,
    /// Difference from --cpu that changes nothing, in percent.
    #[arg(long, value_name = "PERCENT", default_value = "10",
        value_parser = clap::value_parser!(u32).range(0..=100))]
    tolerance: u32,
    /// Time for which more must be wanted.
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = timeout)]
    up_after: Duration,
    /// Time for which fewer must be wanted.
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = timeout)]
    down_after: Duration,
    /// Rest after a change, and after one that failed.
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = timeout)]
    cooldown: Duration,
    /// Age at which a value of metrics.k8s.io is too old.
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = positive)]
    stale_after: Duration,
    /// Time between two looks.
    #[arg(long, value_name = "DURATION", default_value = "15s", value_parser = positive)]
    interval: Duration,
    /// Look and act once.
    ///
    /// One look has seen no window: the load changes the count only with --up-after=0 or
    /// --down-after=0. A schedule is followed at once.
    #[arg(long)]
    once: bool,
    /// Decide, and change nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    patience: WaitOptions,
    #[command(flatten)]
    shape: Shape,
}

impl Args {
    /// Returns what the flags want. `None` where a policy says it.
    ///
    /// # Errors
    /// `Usage` where it is impossible.
    fn spec(&self) -> Result<Option<Spec>, Failure> {
        let (Some(min), Some(max)) = (self.min, self.max) else { return Ok(None) };
        let entries: Result<Vec<Entry>, String> =
            self.schedule.iter().map(|word| schedule::entry(word, &self.time_zone)).collect();
        let spec = Spec {
            cpu: self.cpu,
            min,
            max,
            tolerance: self.tolerance,
            up_after: self.up_after,
            down_after: self.down_after,
            cooldown: self.cooldown,
            stale: self.stale_after,
            schedule: entries.and_then(Schedule::new).map_err(Failure::usage)?,
        };
        spec.check().map_err(Failure::usage)?;
        Ok(Some(spec))
    }

    /// Returns the request for one step.
    fn step(&self, name: &str, decision: &Decision, tries: bool) -> ScaleRequest {
        let up = decision.wanted > decision.declared;
        let direction = if up { Direction::Up } else { Direction::Down };
        let reason = crate::args::reason(&format!("{REASON}{}", sentence(decision))).ok();
        ScaleRequest {
            count: CountRequest::Towards(direction, decision.wanted),
            targets: Targets::one(name.to_owned()),
            acting: Acting {
                yes: true,
                confirm: None,
                expect_plan: None,
                dry_run: if tries { DryRun::Client } else { DryRun::None },
                wait: true,
                patience: self.patience,
                why: Why { reason },
                report: None,
                settle: None,
                shape: self.shape,
            },
            undoes: None,
            declared: Some(decision.declared),
        }
    }
}

/// Looks, decides and acts, until it is interrupted.
pub(crate) async fn run(session: &Session, args: Args) -> Result<(), Failure> {
    let flags = args.spec()?;
    let name = args.target.name.clone();
    let mut state = remembered(session, &name).await?;
    let mut before = None;
    loop {
        session.interruption.means("interrupted; nothing is being changed");
        let (spec, tries) = match &flags {
            Some(spec) => (spec.clone(), args.dry_run),
            None => match by_policy(session, &name).await {
                Ok((spec, tries)) => (spec, tries || args.dry_run),
                Err(failure) if args.once => return Err(failure),
                Err(failure) => {
                    session.out.failure(&failure.reached_by(&session.reach));
                    sleep(args.interval).await;
                    continue;
                }
            },
        };
        if before.as_ref().is_some_and(|before| *before != spec) {
            // Something else is wanted now, so the windows and the rounds begin from the start.
            state = remembered(session, &name).await?;
        }
        match look(session, &name, &spec).await {
            Ok(Looked { cluster, sample }) => {
                let now = session.now();
                let decision = decide(&spec, &mut state, &sample, now);
                let ended = if decision.acts() {
                    let request = args.step(&name, &decision, tries);
                    Some(Box::pin(act(session, &request, &decision, &mut state)).await)
                } else {
                    None
                };
                let failure = ended.as_ref().and_then(|it| it.as_ref().err().cloned());
                let result = ended.map(|it| it.unwrap_or_else(|failure| failure.kind.word()));
                show(session, &args, &AutoscaleDecision::of(&cluster, &decision, now, result))?;
                match failure {
                    Some(failure) if args.once => return Err(failure),
                    Some(failure) => session.out.failure(&failure.reached_by(&session.reach)),
                    None => {}
                }
            }
            // A cluster that is gone has nothing to follow.
            Err(failure) if args.once || failure.ends => return Err(failure.failure),
            Err(failure) => session.out.failure(&failure.failure.reached_by(&session.reach)),
        }
        if args.once || session.out.reader_left() {
            return Ok(());
        }
        before = Some(spec);
        sleep(args.interval).await;
    }
}

/// Returns what the policy of the cluster wants, and whether its mode makes it a trial.
async fn by_policy(session: &Session, name: &str) -> Result<(Spec, bool), Failure> {
    let cluster = session.cluster(name).await?;
    let count = cluster.instances.unwrap_or(0);
    let policies = session.reader.policies(&Change::of_count(cluster, count)).await;
    session.show_warnings();
    let limit = wanted(&policies).map_err(Failure::error)?.ok_or_else(|| {
        Failure::usage(format!(
            "no policy of postgresql {}/{name} has autoscale",
            session.namespace
        ))
        .hint("give --cpu, --min and --max, or write autoscale in its ScalePolicy")
        .hint_to("see its policies", session.suggest(&["policy", name]))
    })?;
    let spec = Spec::of(&limit.value)
        .map_err(|why| Failure::error(format!("autoscale of {}: {why}", limit.source)))?;
    Ok((spec, limit.mode != Mode::Enforce))
}

/// Returns what is known from before: the last change, and whether it was a step of ours. Another
/// writer that took it back meanwhile is noticed at the first look.
async fn remembered(session: &Session, name: &str) -> Result<State, Failure> {
    let cluster = session.cluster(name).await?;
    let history = match crate::history::read(session, name).await {
        Ok(history) => history,
        Err(error) => {
            session.out.warning(&format!(
                "the last change is not known, so the first one is not held back: {}",
                crate::services::short(&error, "configmaps")
            ));
            return Ok(State::default());
        }
    };
    let entries = history.entries(&cluster.uid);
    let Some(last) = entries.iter().rev().find(|it| it.changed_the_count()) else {
        return Ok(State::default());
    };
    let mut state = State::since(last.time());
    let ours = last.reason.as_deref().is_some_and(|reason| reason.starts_with(REASON));
    if let (true, Some(from), Some(to), Some(time)) = (ours, last.from, last.to, last.time()) {
        state.stepped(from, to, time);
    }
    Ok(state)
}

/// Carries one step out. Returns the word of its result.
async fn act(
    session: &Session,
    request: &ScaleRequest,
    decision: &Decision,
    state: &mut State,
) -> Result<&'static str, Failure> {
    let outcome = match Box::pin(scale::unattended(session, request)).await {
        Ok(outcome) => outcome,
        Err(failure) => {
            state.failed(session.now());
            return Err(failure);
        }
    };
    let now: Timestamp = session.now();
    if written(&outcome) {
        state.stepped(decision.declared, decision.wanted, now);
    }
    match outcome.failure() {
        Some(failure) => {
            state.failed(now);
            Err(failure.clone())
        }
        None => Ok(outcome.word()),
    }
}

/// Returns whether the count was written, or may have been.
fn written(outcome: &Outcome) -> bool {
    outcome.done.count.written() != Some(false)
}

/// Returns the decision as a sentence, with the load where it is known.
fn sentence(decision: &Decision) -> String {
    match decision.cpu {
        Some(cpu) => format!("{} (CPU {cpu}%)", decision.reason),
        None => decision.reason.to_string(),
    }
}

/// Prints one decision.
fn show(session: &Session, args: &Args, decision: &AutoscaleDecision) -> Result<(), Failure> {
    let out = &session.out;
    match args.shape.output {
        Format::Json => out.json_line(decision),
        Format::Yaml => {
            out.data("---")?;
            out.document(Format::Yaml, decision)
        }
        Format::Name => out.data(&scale::resource(&args.target.name)),
        Format::Text | Format::Wide => out.said(&decision.line()),
    }
}
