//! `history`: the recorded changes, with their writers and their reasons.

use crate::args::{Shape, Target};
use crate::document::ScaleHistory;
use crate::error::Failure;
use crate::history::{Entry, read};
use crate::session::Session;
use crate::terminal::Format;
use crate::view::history::render;

/// Show the changes that were made with this command: who, when, why, and what came of them.
///
/// The last 50 of a cluster are kept in a ConfigMap beside it (pgscale-history-NAME). Changes by
/// others are not in it; an entry says Begun where the client that made it did not live to complete
/// it.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  kubectl pgscale history acid-a
  kubectl pgscale history acid-a -o json | jq '.items[].result'")]
pub(crate) struct Args {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    shape: Shape,
}

/// Prints the recorded changes of a cluster.
pub(crate) async fn run(session: &Session, args: Args) -> Result<(), Failure> {
    let cluster = session.cluster(&args.target.name).await?;
    let mut items = entries(session, &cluster.name, &cluster.uid).await?;
    items.reverse();
    match args.shape.output {
        Format::Name => session.out.data(&super::scale::resource(&cluster.name)),
        format @ (Format::Json | Format::Yaml) => {
            session.out.document(format, &ScaleHistory::of(&items))
        }
        Format::Text | Format::Wide if items.is_empty() => {
            session.out.note(&format!(
                "No changes of postgresql {}/{} are recorded.",
                cluster.namespace, cluster.name
            ));
            Ok(())
        }
        format @ (Format::Text | Format::Wide) => {
            let wide = format == Format::Wide;
            session.out.data(&render(&items, wide, session.now(), session.out.width))
        }
    }
}

/// Returns the recorded changes of this very cluster, oldest first.
pub(super) async fn entries(
    session: &Session,
    name: &str,
    uid: &str,
) -> Result<Vec<Entry>, Failure> {
    let history = read(session, name).await;
    session.show_warnings();
    let asked = format!("read the history of postgresql {}/{name}", session.namespace);
    Ok(history.map_err(|error| Failure::of_kube(&error, &asked))?.entries(uid))
}

#[cfg(test)]
mod tests;
