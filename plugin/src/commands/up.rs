//! `up`: run more instances.

use pgscale_guard::change::Direction;

use super::scale::{self, CountRequest, ScaleRequest};
use crate::args::{Acting, Targets, count, step};
use crate::error::Failure;
use crate::session::Session;

/// Run more instances.
///
/// Shows the plan, writes numberOfInstances, and waits until every new member streams from the
/// leader and its Service leads to it.
///
/// Asks before anything is written where a rule could not be judged, and where labels find more
/// than one cluster, even if only one of them would change; --yes answers.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  kubectl pgscale up acid-a                one instance more
  kubectl pgscale up acid-a --to 5         five instances
  kubectl pgscale up -l env=staging -A --by 1 --max-parallel 4")]
pub(crate) struct Args {
    #[command(flatten)]
    targets: Targets,
    /// Number of instances to run.
    #[arg(long = "to", value_name = "N", value_parser = count, allow_negative_numbers = true,
        conflicts_with = "by")]
    count: Option<i64>,
    /// Number of instances to add.
    #[arg(long, value_name = "N", value_parser = step, allow_negative_numbers = true,
        default_value = "1")]
    by: i64,
    #[command(flatten)]
    acting: Acting,
}

/// Carries out the growth that `args` ask for.
pub(crate) async fn run(session: &Session, args: Args) -> Result<(), Failure> {
    let Args { targets, count, by, acting } = args;
    let count = match count {
        Some(count) => CountRequest::Towards(Direction::Up, count),
        None => CountRequest::By(by),
    };
    let request = ScaleRequest { count, targets, acting, undoes: None, declared: None };
    Box::pin(scale::run(session, &request)).await
}
