//! `set`: run exactly N instances.

use super::scale::{self, CountRequest, ScaleRequest};
use crate::args::{Acting, Targets, count};
use crate::error::Failure;
use crate::plan::Plan;
use crate::session::Session;

/// Run exactly N instances, whether that is more or fewer.
///
/// Does what `up` or `down` would do, asks what they would ask, and does nothing where N is there
/// already. Where N is declared and the operator has not acted on it, the same command judges the
/// change again and makes the operator act.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  kubectl pgscale set acid-a 3
  kubectl pgscale set acid-a 3 --yes -o json
  kubectl pgscale set -l env=staging --to 2 --reason 'load test is over'")]
pub(crate) struct Args {
    #[command(flatten)]
    targets: Targets,
    /// Number of instances to run.
    #[arg(value_name = "N", value_parser = count, allow_negative_numbers = true,
        required_unless_present = "count_of_each", conflicts_with = "count_of_each")]
    count: Option<i64>,
    /// The same, where several clusters are named by labels.
    #[arg(long = "to", alias = "replicas", value_name = "N", value_parser = count, allow_negative_numbers = true)]
    count_of_each: Option<i64>,
    /// Change nothing unless this is the present count.
    ///
    /// The number that is asked for now, as in `kubectl scale`. -1 stands for any number.
    #[arg(long, value_name = "N", value_parser = precondition, allow_negative_numbers = true)]
    current_replicas: Option<i64>,
    #[command(flatten)]
    acting: Acting,
}

/// Reads the number that must be asked for now. -1 stands for any number, as in kubectl.
fn precondition(word: &str) -> Result<i64, String> {
    if word == "-1" { Ok(-1) } else { count(word) }
}

impl Args {
    fn request(self) -> ScaleRequest {
        let Self { targets, count, count_of_each, current_replicas, acting } = self;
        // Clap makes sure that exactly one is there.
        let count = count.or(count_of_each).map_or(CountRequest::By(0), CountRequest::Exactly);
        ScaleRequest {
            count,
            targets,
            acting,
            undoes: None,
            declared: current_replicas.filter(|number| *number >= 0),
        }
    }
}

/// Carries out the change to the count that `args` ask for.
pub(crate) async fn run(session: &Session, args: Args) -> Result<(), Failure> {
    Box::pin(scale::run(session, &args.request())).await
}

/// Judges the change of the cluster `name` that `args` ask for, as [`run`] does before anything
/// else. Returns the plan, and why it must not be carried out if so.
///
/// # Errors
/// There is no plan.
pub(crate) async fn judge(
    session: &Session,
    name: &str,
    args: Args,
) -> Result<(Plan, Option<Failure>), Failure> {
    Box::pin(scale::judge(session, name, &args.request())).await
}
