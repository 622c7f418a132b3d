//! `undo`: the last recorded change taken back, by the same rules as any other.

use super::history::entries;
use super::scale::{self, CountRequest, ScaleRequest};
use crate::args::{Acting, Target, Targets};
use crate::error::Failure;
use crate::history::undo;
use crate::session::Session;

/// Take the last recorded change of the count back.
///
/// The cluster is judged again: what was safe in one direction need not be so in the other. Only a
/// change that is still what the cluster asks for is taken back; where another writer changed the
/// count since, use `set`. An undo is recorded too, and can be undone.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  kubectl pgscale undo acid-a
  kubectl pgscale undo acid-a --dry-run=client      what it would do")]
pub(crate) struct Args {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    acting: Acting,
}

/// Takes the last recorded change of the cluster back.
pub(crate) async fn run(session: &Session, args: Args) -> Result<(), Failure> {
    let cluster = session.cluster(&args.target.name).await?;
    let entries = entries(session, &cluster.name, &cluster.uid).await?;
    let (last, count) = undo(&entries, cluster.instances).map_err(|why| {
        // No rule says no: there is only nothing that could be taken back.
        Failure::error(format!(
            "nothing of postgresql {}/{} is undone: {why}",
            cluster.namespace, cluster.name
        ))
        .hint_to("see what was done", session.suggest(&["history", &cluster.name]))
        .hint_to("ask for a count yourself", session.suggest(&["set", &cluster.name, "N"]))
    })?;
    let reason = last.reason.as_ref().map_or(String::new(), |reason| format!(", {reason}"));
    session.out.note(&format!(
        "taking back the change of {} by {}{reason}",
        last.started,
        if last.who.is_empty() { "another user" } else { &last.who }
    ));
    let request = ScaleRequest {
        count: CountRequest::Exactly(count),
        targets: Targets::one(cluster.name),
        acting: args.acting,
        undoes: Some(last.id.clone()),
        declared: None,
    };
    Box::pin(scale::run(session, &request)).await
}
