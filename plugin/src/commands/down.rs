//! `down`: run fewer instances.

use pgscale_guard::change::Direction;

use super::scale::{self, CountRequest, ScaleRequest};
use crate::args::{Acting, Targets, count, step};
use crate::error::Failure;
use crate::session::Session;

/// Run fewer instances; the leader is moved out of the way first.
///
/// The members with the highest ordinals go. Where the leader is one of them, the best caught-up
/// member that is kept takes over first, through Patroni, and the count is lowered only after lock,
/// label and the new leader itself agree. Before the leader moves, the API server and its webhooks
/// have judged the write, as a dry run. Any doubt before that: nothing is changed, and the reason
/// is shown.
///
/// Asks before anything is written; --yes answers, and --confirm=NAMESPACE/NAME for a change to 0.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  kubectl pgscale down acid-a              one instance less
  kubectl pgscale down acid-a --to 3       three instances
  kubectl pgscale down acid-a --to 0 --confirm=db/acid-a")]
pub(crate) struct Args {
    #[command(flatten)]
    targets: Targets,
    /// Number of instances to run.
    #[arg(long = "to", value_name = "N", value_parser = count, allow_negative_numbers = true,
        conflicts_with = "by")]
    count: Option<i64>,
    /// Number of instances to remove.
    #[arg(long, value_name = "N", value_parser = step, allow_negative_numbers = true,
        default_value = "1")]
    by: i64,
    #[command(flatten)]
    acting: Acting,
}

/// Carries out the shrink that `args` ask for.
pub(crate) async fn run(session: &Session, args: Args) -> Result<(), Failure> {
    let Args { targets, count, by, acting } = args;
    let count = match count {
        Some(count) => CountRequest::Towards(Direction::Down, count),
        None => CountRequest::By(-by),
    };
    let request = ScaleRequest { count, targets, acting, undoes: None, declared: None };
    Box::pin(scale::run(session, &request)).await
}
