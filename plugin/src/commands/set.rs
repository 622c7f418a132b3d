//! `set`: run exactly N instances.

use super::scale::{self, Wish};
use crate::args::{Acting, Target, count};
use crate::error::Failure;
use crate::session::Session;

/// Run exactly N instances, whether that is more or fewer.
///
/// Does what `up` or `down` would do, and nothing where N is there already.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  kubectl pgscale set acid-a 3
  kubectl pgscale set acid-a 3 --yes -o json")]
pub(crate) struct Args {
    #[command(flatten)]
    target: Target,
    /// How many instances to run.
    #[arg(value_name = "N", value_parser = count, allow_negative_numbers = true)]
    count: i64,
    #[command(flatten)]
    acting: Acting,
}

/// Runs the verb.
pub(crate) async fn run(session: &Session, args: Args) -> Result<(), Failure> {
    scale::run(session, &args.target.name, Wish::Exactly(args.count), &args.acting).await
}
