//! `history`: the recorded changes, with their writers and their reasons.

use super::each::{Place, Places, places, together};
use crate::args::{Shape, Which};
use crate::document::{ScaleHistory, ScaleHistoryList};
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
  kubectl pgscale history acid-a acid-b
  kubectl pgscale history -l env=staging -A
  kubectl pgscale history acid-a -o json | jq '.items[].result'")]
pub(crate) struct Args {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    shape: Shape,
}

/// Prints the recorded changes of the clusters.
pub(crate) async fn run(session: &Session, args: Args) -> Result<(), Failure> {
    let all = match places(session, &args.which).await? {
        Places::One(name) => {
            let cluster = recorded(session, &name).await?;
            return show(session, &cluster, args.shape.output, false);
        }
        Places::Several(all) => all,
    };
    let mut found = Vec::new();
    let mut ended: Vec<(&Place, Option<Failure>)> = Vec::new();
    for place in &all {
        match recorded(&place.session, &place.name).await {
            Ok(cluster) => {
                ended.push((place, None));
                found.push(cluster);
            }
            Err(failure) => ended.push((place, Some(failure))),
        }
    }
    match args.shape.output {
        format @ (Format::Json | Format::Yaml) => {
            let histories =
                found.iter().map(|it| ScaleHistory::of(&it.items).about(&it.namespace, &it.name));
            session.out.document(format, &ScaleHistoryList::of(histories.collect()))?;
        }
        format @ (Format::Name | Format::Text | Format::Wide) => {
            for cluster in &found {
                show(session, cluster, format, true)?;
            }
        }
    }
    together(&ended, "could not be read")
}

/// The recorded changes of one cluster, newest first.
struct Recorded {
    namespace: String,
    name: String,
    items: Vec<Entry>,
}

async fn recorded(session: &Session, name: &str) -> Result<Recorded, Failure> {
    let cluster = session.cluster(name).await?;
    let mut items = entries(session, &cluster.name, &cluster.uid).await?;
    items.reverse();
    Ok(Recorded { namespace: cluster.namespace, name: cluster.name, items })
}

/// Prints the changes of one cluster, under its name where it is one of several.
fn show(
    session: &Session,
    cluster: &Recorded,
    format: Format,
    of_several: bool,
) -> Result<(), Failure> {
    let Recorded { namespace, name, items } = cluster;
    match format {
        Format::Name => session.out.data(&super::scale::resource(name)),
        format @ (Format::Json | Format::Yaml) => {
            session.out.document(format, &ScaleHistory::of(items))
        }
        Format::Text | Format::Wide if items.is_empty() => {
            session.out.note(&format!("No changes of postgresql {namespace}/{name} are recorded."));
            Ok(())
        }
        format @ (Format::Text | Format::Wide) => {
            let wide = format == Format::Wide;
            if of_several {
                session.out.data(&format!("postgresql {namespace}/{name}"))?;
            }
            session.out.data(&render(items, wide, session.now(), session.out.width))
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
