//! `wait`: the wait until a cluster has converged.

use super::scale::{conclude, show_notes};
use crate::args::{Shape, Target, WaitOptions};
use crate::error::Failure;
use crate::outcome::Outcome;
use crate::patience::Patience;
use crate::session::Session;
use crate::watch::{Goal, watch};

/// Wait until a cluster has converged on the count it asks for.
///
/// Converged means: StatefulSet and pods match the count, every member streams on one timeline and
/// is caught up, one leader holds the lock and the label, and both Services lead to exactly the
/// members, for some seconds. The operator's `Running` means none of that.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  kubectl pgscale wait acid-a
  kubectl pgscale wait acid-a --timeout 3h
  kubectl pgscale wait acid-a --timeout 0      look once")]
pub(crate) struct Args {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    patience: WaitOptions,
    #[command(flatten)]
    shape: Shape,
}

/// Waits until the cluster has converged, or until the time is over.
pub(crate) async fn run(session: &Session, args: Args) -> Result<(), Failure> {
    let cluster = session.cluster(&args.target.name).await?;
    let goal = Goal::of_cluster(&cluster);
    session.interruption.means("interrupted; waiting changes nothing");
    let timeout = if let Some(timeout) = args.patience.timeout {
        timeout
    } else {
        let patience = Patience::of_cluster(session, &cluster).await;
        patience.tell(session);
        patience.limit
    };
    let watched = watch(session, &goal, timeout).await;
    let said = format!(
        "postgresql/{} has converged on {}",
        goal.name,
        crate::terminal::text::instances(goal.count)
    );
    let outcome = Outcome {
        namespace: cluster.namespace,
        name: cluster.name,
        said,
        result: "Converged",
        watched: Some(watched),
        ..Outcome::default()
    };
    show_notes(session, &outcome);
    conclude(session, &outcome, args.shape.output, None)
}
