//! `status`: how clusters are.

use futures::{StreamExt as _, stream};
use pgscale_guard::postgresql::Postgresql;
use pgscale_guard::read::AskWhom;
use pgscale_guard::{Change, Seen};

use crate::args::{Format, Shape, cluster_name};
use crate::error::Failure;
use crate::output::document::{ScaleStatus, ScaleStatusList};
use crate::output::status::{detail, list, reasons};
use crate::services::{self, Services};
use crate::session::{Session, unreadable};
use crate::status::{Detail, Status};
use crate::watch::{Goal, Snapshot, missing};
use crate::why::{self, Clues};

/// How many clusters of a list are read at a time.
const AT_ONCE: usize = 8;

/// Show members, roles, lag, services and counts.
///
/// One cluster in detail, with every member asked for its state; or one line per cluster of the namespace, those
/// that need a look first.
///
/// Rights: get and list on what `up` reads; create on pods/portforward (or pods/exec) for live positions; list on
/// events for --why.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  kubectl pgscale status acid-a
  kubectl pgscale status acid-a --why
  kubectl pgscale status -n db
  kubectl pgscale status -A -l env=production
  kubectl pgscale status -A -o custom-columns=NAME:.metadata.name,LEADER:.leader,WHY:.why[0].what
  kubectl pgscale status acid-a -o jsonpath='{.members[?(@.role==\"leader\")].node}'
  kubectl pgscale status acid-a -o json | jq .members")]
pub(crate) struct Args {
    /// The cluster: NAME, pg/NAME or postgresql/NAME; all of the namespace when unset.
    #[arg(value_name = "NAME", value_parser = cluster_name)]
    name: Option<String>,
    /// All namespaces.
    #[arg(short = 'A', long, conflicts_with = "name")]
    all_namespaces: bool,
    /// Only clusters with these labels.
    #[arg(short = 'l', long, value_name = "LABELS", conflicts_with = "name")]
    selector: Option<String>,
    /// Say what keeps the cluster from converging: causes, evidence and the next command.
    #[arg(long, requires = "name")]
    why: bool,
    #[command(flatten)]
    shape: Shape,
}

/// Runs the verb.
pub(crate) async fn run(session: &Session, args: Args) -> Result<(), Failure> {
    match args.name {
        Some(name) => one(session, &name, args.why, args.shape.output).await,
        None => {
            many(session, args.all_namespaces, args.selector.as_deref(), args.shape.output).await
        }
    }
}

async fn one(session: &Session, name: &str, why: bool, format: Format) -> Result<(), Failure> {
    let cluster = session.cluster(name).await?;
    let events = if why { Events::Read } else { Events::Left };
    let status = look(session, cluster, AskWhom::All, events).await;
    session.show_warnings();
    match format {
        Format::Name => session.out.data(&super::scale::resource(name)),
        Format::Text | Format::Wide => {
            let width = session.out.width;
            let mut text = detail(&status, format == Format::Wide, width);
            if why {
                text = format!("{text}\n\n{}", reasons(&status, width));
            }
            session.out.data(&text)?;
            if !why && !status.why.is_empty() {
                session
                    .out
                    .note(&format!("why: {}", session.command(&format!("status {name} --why"))));
            }
            Ok(())
        }
        Format::Json | Format::Yaml => session.out.document(format, &ScaleStatus::of(&status)),
    }
}

async fn many(
    session: &Session,
    everywhere: bool,
    selector: Option<&str>,
    format: Format,
) -> Result<(), Failure> {
    let namespace = (!everywhere).then_some(session.namespace.as_str());
    let place = namespace.map_or("all namespaces".to_owned(), |name| format!("namespace {name}"));
    let clusters = session.reader.clusters(namespace, selector).await;
    session.show_warnings();
    let clusters = clusters
        .map_err(|error| unreadable(&error, &format!("list postgresql clusters in {place}")))?;
    let mut all: Vec<Status> = stream::iter(clusters)
        .map(|cluster| look(session, cluster, AskWhom::AsNeeded, Events::Left))
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    // The worst first; within that, by name, so that the order is stable.
    all.sort_by_key(|status| {
        let cluster = &status.snapshot.facts.change.new;
        (status.severity(), cluster.namespace.clone(), cluster.name.clone())
    });
    match format {
        Format::Json | Format::Yaml => session.out.document(format, &ScaleStatusList::of(&all)),
        _ if all.is_empty() => {
            session.out.note(&format!("No postgresql clusters found in {place}."));
            Ok(())
        }
        Format::Name => {
            let names: Vec<String> = all
                .iter()
                .map(|status| super::scale::resource(&status.snapshot.facts.change.new.name))
                .collect();
            session.out.data(&names.join("\n"))
        }
        Format::Text | Format::Wide => {
            session.out.data(&list(&all, everywhere, format == Format::Wide))
        }
    }
}

/// Whether Events are read for the reasons.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Events {
    /// They cost a request per object that does not run.
    Left,
    Read,
}

async fn look(session: &Session, cluster: Postgresql, whom: AskWhom, events: Events) -> Status {
    let goal = Goal::of_cluster(&cluster);
    let change = Change::of_count(cluster, goal.asked);
    let unread = || Seen::Unreadable("not read for a list".to_owned());
    let (snapshot, detail) = match whom {
        AskWhom::All => {
            let ((facts, policies), services) = futures::join!(
                session.facts(change, whom),
                services::read(&session.client, &goal.namespace, &goal.name)
            );
            // The leader lock says where they are.
            let slots = services::read_slots(&session.client, &facts).await;
            let detail = Detail::of(&facts, &policies, slots);
            (Snapshot { facts, services }, Some(detail))
        }
        // A list is an overview; who wants to know more asks for one cluster.
        AskWhom::AsNeeded => {
            let facts = session.reader.facts(change, whom).await;
            let services = Services { leader: unread(), replicas: unread() };
            (Snapshot { facts, services }, None)
        }
    };
    let missing = missing(&goal, &snapshot);
    let events = match events {
        Events::Read if !missing.is_empty() => why::read(&session.client, &snapshot.facts).await,
        Events::Left | Events::Read => Seen::Absent,
    };
    let clues =
        Clues { snapshot: &snapshot, missing: &missing, events: &events, flags: &session.flags };
    let why = why::causes(&clues);
    let events_unread = events.unreadable().map(str::to_owned);
    Status { snapshot, missing, detail, why, events_unread }
}
