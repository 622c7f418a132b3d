//! `upgrade`: the installed chart to the one in this program.

use super::install::{How, carry_out};
use crate::error::Failure;
use crate::install::read::found;
use crate::session::Session;

/// Upgrade the webhook to the version of this program, and check that the guard holds.
///
/// Shows what changes: the versions, the fields of the definitions, and the objects. It writes the
/// definitions first, which Helm never upgrades, and then has helm upgrade the release. The values
/// that are stored with the release stay. Values that are given here are added to them.
///
/// It never goes back to an older version: stored policies would lose fields.
///
/// Ends with 0 where the guard holds, with 5 where it does not or helm failed half-way, and with 4
/// where the webhook does not answer in time.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  kubectl pgscale upgrade
  kubectl pgscale upgrade --dry-run=client        what would change
  kubectl pgscale upgrade --set replicas=3")]
pub(crate) struct Args {
    #[command(flatten)]
    how: How,
}

/// Decides, shows, asks, and upgrades.
pub(crate) async fn run(session: &Session, args: Args) -> Result<(), Failure> {
    let named = args.how.named(session.named_namespace.clone());
    let plan = crate::install::upgrade(&found(session).await?, &named)?;
    carry_out(session, &plan, &args.how, "Upgrade it?").await
}
