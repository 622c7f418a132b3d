//! `status`: the state of clusters.

use futures::{StreamExt as _, stream};
use pgscale_guard::postgresql::Postgresql;
use pgscale_guard::read::AskWhom;
use pgscale_guard::remedy::Remedy;
use pgscale_guard::{Assessed, Change, Seen};

use crate::args::{Listing, Shape, cluster_name};
use crate::diagnosis::{self, Clues};
use crate::document::{NamespaceBudget, ScaleStatus, ScaleStatusList};
use crate::error::Failure;
use crate::events;
use crate::nodes;
use crate::reads::{self, Reads};
use crate::services::{self, Services};
use crate::session::Session;
use crate::status::{Detail, Status, Vitals, worst_first};
use crate::terminal::Format;
use crate::view::policy::budget_of;
use crate::view::status::detail;
use crate::watch::{Goal, Lack, Snapshot, lacks};
use budgets::Budgets;

mod budgets;
mod listing;
mod watch;

/// The number of clusters of a list that are read at a time.
const AT_ONCE: usize = 8;

/// Show members, health, roles, lag and what to do next.
///
/// One cluster in detail: every member asked for its state, delays by the leader's PostgreSQL where
/// you may exec into pods, replication slots, volumes, backups, the room policies leave, and the
/// verdict on one instance more or less now. With --sql also what each member reads. The first line and the last one say whether it is
/// healthy. Or one line per cluster of the namespace, the worst first: there no member is asked, so
/// health and lag are by the members' own reports, which are some seconds old.
#[derive(clap::Args, Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent flags")]
#[command(after_help = "\
Examples:
  kubectl pgscale status acid-a
  kubectl pgscale status acid-a --why
  kubectl pgscale status acid-a --sql --tables 10
  kubectl pgscale status acid-a -w
  kubectl pgscale status -A -l env=production
  kubectl pgscale status -A -o custom-columns=NAME:.metadata.name,BY:.leader
  kubectl pgscale status acid-a -o jsonpath='{.members[0].node}'")]
pub(crate) struct Args {
    /// The cluster: NAME, pg/NAME or postgresql/NAME; all of the namespace when unset.
    #[arg(value_name = "NAME", value_parser = cluster_name)]
    name: Option<String>,
    /// More clusters, for a list of those that are named.
    #[arg(value_name = "NAMES", value_parser = cluster_name, requires = "name", hide = true)]
    others: Vec<String>,
    /// All namespaces.
    #[arg(short = 'A', long, conflicts_with = "name")]
    all_namespaces: bool,
    /// Only clusters with these labels.
    #[arg(short = 'l', long, value_name = "LABELS", conflicts_with = "name")]
    selector: Option<String>,
    /// Every cause of not converging, with Events.
    ///
    /// Where a pod finds no node: what keeps it away from each one. The free room of nodes needs `list
    /// pods` in all namespaces.
    #[arg(long, requires = "name")]
    why: bool,
    /// Reads, lag, WAL and slots of each member, in SQL.
    ///
    /// Every member is asked twice, with two seconds in between: rows and blocks that were read, the
    /// part of blocks that were in the cache, the busiest tables, the lag of replicas, the rate of WAL,
    /// and the slots that hold WAL back. Needs exec.
    #[arg(long, requires = "name", conflicts_with = "others")]
    sql: bool,
    /// Tables of each member, the busiest first; means --sql.
    ///
    /// 5 when unset, 0 for none. Tables of the 8 databases that are read most.
    #[arg(long, value_name = "N", requires = "name", conflicts_with = "others", value_parser = tables)]
    tables: Option<usize>,
    /// Look again and again.
    ///
    /// A terminal is redrawn. Elsewhere each change is printed.
    #[arg(short, long)]
    watch: bool,
    /// Print each change that -w sees with its time.
    ///
    /// A terminal is not redrawn then. Documents carry the time anyway.
    #[arg(long, requires = "watch")]
    timestamps: bool,
    /// Every cluster that was named is missing.
    #[arg(skip)]
    none: bool,
    #[command(flatten)]
    listing: Listing,
    #[command(flatten)]
    shape: Shape,
}

/// The most tables of a member that are shown.
const MOST_TABLES: usize = 100;

/// Reads a number of tables.
fn tables(word: &str) -> Result<usize, String> {
    let number = word.parse().ok().filter(|number| *number <= MOST_TABLES);
    number.ok_or_else(|| format!("it is not a number of tables, at most {MOST_TABLES}"))
}

impl Args {
    /// Returns the number of tables of each member, if members are asked for their reads.
    fn reads(&self) -> Option<usize> {
        self.tables.or(self.sql.then_some(reads::TABLES))
    }
}

/// Prints the state of one cluster, or of all clusters.
pub(crate) async fn run(session: &Session, args: Args) -> Result<(), Failure> {
    let (args, missing) = listing::known(session, args).await?;
    if args.lists_none() {
        return listing::ended(session, &missing);
    }
    if args.watch {
        return Box::pin(watch::run(session, &args)).await;
    }
    let all = Box::pin(gather(session, &args)).await?;
    // One cluster has a screen of its own, and names alone have no place for a budget.
    let budgets = match (&args.name, args.shape.output) {
        (Some(_), _) | (None, Format::Name) => Budgets::default(),
        (None, _) => Box::pin(budgets::read(session, &all)).await,
    };
    show(session, &args, &all, &budgets.read)?;
    if let Some(unread) = &budgets.unread {
        session.out.warning(unread);
    }
    listing::ended(session, &missing)
}

/// Reads the cluster, or all of them, the worst first.
async fn gather(session: &Session, args: &Args) -> Result<Vec<Status>, Failure> {
    if let Some(name) = &args.name {
        let cluster = session.cluster(name).await?;
        let events = if args.why { Events::Read } else { Events::Left };
        let mut status = look(session, cluster, AskWhom::All, events, args.watch).await;
        if let (Some(tables), Some(detail)) = (args.reads(), &mut status.detail) {
            detail.reads = Some(Reads::ask(session, &status.snapshot.facts, tables).await);
        }
        session.show_warnings();
        if !args.why && !status.missing.is_empty() {
            let more = Remedy::from(session.suggest(&["status", name, "--why"]));
            status.more = Some(more.reached_by(&session.reach));
        }
        return Ok(vec![status]);
    }
    let clusters = args.clusters(session).await?;
    let mut all: Vec<Status> = stream::iter(clusters)
        .map(|cluster| look(session, cluster, AskWhom::AsNeeded, Events::Left, args.watch))
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    worst_first(&mut all);
    args.sort(&mut all)?;
    Ok(all)
}

/// Prints the states that were gathered.
fn show(
    session: &Session,
    args: &Args,
    all: &[Status],
    budgets: &[NamespaceBudget],
) -> Result<(), Failure> {
    let out = &session.out;
    match (args.shape.output, &args.name, all) {
        (format @ (Format::Json | Format::Yaml), Some(_), [status]) => {
            out.document(format, &ScaleStatus::of(status))
        }
        (format @ (Format::Json | Format::Yaml), ..) => {
            out.document(format, &ScaleStatusList::of(all, budgets))
        }
        (Format::Name | Format::Text | Format::Wide, _, []) => {
            out.note(&format!(
                "No postgresql clusters found in {}.",
                session.place(args.all_namespaces)
            ));
            Ok(())
        }
        (Format::Name, ..) => {
            let name =
                |status: &Status| super::scale::resource(&status.snapshot.facts.change.new.name);
            out.data(&all.iter().map(name).collect::<Vec<_>>().join("\n"))
        }
        (Format::Text | Format::Wide, ..) => {
            out.data(&text(args, all, out.width))?;
            // Beside the table, so that a program that reads it meets rows alone.
            for budget in budgets {
                out.note(&budget_of(budget));
            }
            Ok(())
        }
    }
}

/// Returns the states that were gathered as text for people.
fn text(args: &Args, all: &[Status], width: Option<usize>) -> String {
    let wide = args.shape.output == Format::Wide;
    match (&args.name, all) {
        (Some(_), [status]) => detail(status, args.why, wide, width),
        (Some(_) | None, all) => args.table(all, wide, width),
    }
}

/// The choice to read Events for the reasons, or not to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Events {
    /// They cost a request per object that does not run.
    Left,
    Read,
}

/// Looks at one cluster once.
pub(crate) async fn look(
    session: &Session,
    cluster: Postgresql,
    whom: AskWhom,
    events: Events,
    again: bool,
) -> Status {
    let goal = Goal::of_cluster(&cluster);
    let change = Change::of_count(cluster, goal.count);
    let unread = || Seen::Unreadable("not read for a list".to_owned());
    let (snapshot, detail) = match whom {
        AskWhom::All => {
            let ((facts, policies), services) = futures::join!(
                session.facts_around(change, whom),
                services::read(&session.client, &goal.namespace, &goal.name)
            );
            // The leader lock says where they are.
            let (slots, vitals) = futures::join!(
                services::read_slots(&session.client, &facts),
                Vitals::ask(session, &facts, again)
            );
            let detail = Detail::of(&facts, &policies, slots, vitals);
            (Snapshot { facts: Assessed::of(facts, &policies), services }, Some(detail))
        }
        // A list is an overview. A person who wants to know more asks for one cluster.
        AskWhom::AsNeeded => {
            let facts = session.reader.facts(change, whom).await;
            let services = Services { leader: unread(), replicas: unread() };
            (Snapshot { facts: facts.into(), services }, None)
        }
    };
    let lacks = lacks(&goal, &snapshot);
    let missing: Vec<String> = lacks.iter().map(ToString::to_string).collect();
    let unread = lacks.iter().filter(|lack| lack.is_unread()).map(Lack::to_string).collect();
    let nodes = match events {
        Events::Read => nodes::read(session, &snapshot.facts).await,
        Events::Left => Vec::new(),
    };
    let events = match events {
        Events::Read if !missing.is_empty() => events::read(&session.client, &snapshot.facts).await,
        Events::Left | Events::Read => Seen::Absent,
    };
    let clues = Clues {
        snapshot: &snapshot,
        missing: &missing,
        events: &events,
        nodes: &nodes,
        reach: &session.reach,
    };
    let why = diagnosis::causes(&clues);
    let events_unread = events.unreadable().map(str::to_owned);
    Status { snapshot, missing, unread, detail, why, events_unread, more: None }
}
