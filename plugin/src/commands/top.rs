//! `top`: what the members of clusters use, one line for each cluster.

use std::cmp::Reverse;

use clap::ValueEnum;
use futures::{FutureExt as _, StreamExt as _, stream};
use pgscale_guard::postgresql::Postgresql;
use pgscale_guard::read::AskWhom;

use super::status::{Events, look};
use crate::args::Shape;
use crate::document::ClusterUsageList;
use crate::error::Failure;
use crate::reads::{self, Reads};
use crate::session::Session;
use crate::status::Status;
use crate::terminal::Format;
use crate::top::Row;
use crate::usage::{self, Usages};
use crate::view::top::table;

/// The number of clusters that are read at a time.
const AT_ONCE: usize = 8;

/// Show what the members of clusters use, one line each, the worst first.
///
/// CPU and memory of all members together by metrics.k8s.io, and the lag of the replica that is
/// furthest behind by the members' own reports. With --sql every member is asked for the rows that it
/// reads in a second. What is not known is `-`, and a line says why.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  kubectl pgscale top
  kubectl pgscale top -A --sort-by cpu
  kubectl pgscale top -A -l env=production --sql")]
pub(crate) struct Args {
    /// Clusters of all namespaces.
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Only clusters with these labels.
    #[arg(short = 'l', long, value_name = "LABELS")]
    selector: Option<String>,
    /// Rows that members read in a second; needs exec.
    #[arg(long)]
    sql: bool,
    /// Order: cpu, memory, lag, reads or name.
    ///
    /// The highest first, and names from a to z. When unset, the cluster that needs a person most.
    #[arg(long, value_enum, value_name = "FIELD")]
    sort_by: Option<SortBy>,
    /// Print the table without its first line.
    #[arg(long)]
    no_headers: bool,
    #[command(flatten)]
    shape: Shape,
}

/// The order of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum SortBy {
    /// CPU of all members.
    Cpu,
    /// Memory of all members.
    Memory,
    /// The lag of the replica that is furthest behind.
    Lag,
    /// Rows read in a second by all members.
    Reads,
    /// The namespace and the name.
    Name,
}

/// Prints the table.
pub(crate) async fn run(session: &Session, args: Args) -> Result<(), Failure> {
    session.interruption.means("interrupted; looking changes nothing");
    let clusters = session.clusters_of(args.all_namespaces, args.selector.as_deref()).await?;
    let namespace = (!args.all_namespaces).then_some(session.namespace.as_str());
    let none = clusters.is_empty();
    let usages =
        async { if none { Ok(Usages::new()) } else { usage::read(session, namespace).await } };
    let (usages, looks) =
        futures::join!(usages.boxed(), looks(session, clusters, args.sql).boxed());
    session.show_warnings();
    let mut unread: Vec<String> = Vec::new();
    let usages = usages.unwrap_or_else(|why| {
        unread.push(format!("CPU and memory: {why}"));
        Usages::new()
    });
    let asked = looks.iter().filter_map(|(_, reads)| reads.as_ref());
    unread.extend(reads::unread(asked.clone().flat_map(|reads| &reads.members)));
    let check = asked.clone().find_map(|reads| reads.check.clone());
    let mut rows: Vec<Row> = looks
        .into_iter()
        .map(|(status, reads)| {
            let members = reads.as_ref().map(|reads| reads.members.as_slice());
            Row::of(status, &usages, members)
        })
        .collect();
    sort(&mut rows, args.sort_by);
    show(session, &args, &rows, &unread)?;
    if let Some(check) = check {
        session.out.advice("check the permission:", &check);
    }
    Ok(())
}

fn show(session: &Session, args: &Args, rows: &[Row], unread: &[String]) -> Result<(), Failure> {
    let out = &session.out;
    match args.shape.output {
        format @ (Format::Json | Format::Yaml) => {
            return out.document(format, &ClusterUsageList::of(rows, unread));
        }
        _ if rows.is_empty() => {
            let place = session.place(args.all_namespaces);
            out.note(&format!("No postgresql clusters found in {place}."));
            return Ok(());
        }
        Format::Name => {
            let name = |row: &Row| super::scale::resource(row.name().1);
            out.data(&rows.iter().map(name).collect::<Vec<_>>().join("\n"))?;
        }
        Format::Text | Format::Wide => {
            let shown = table(rows, args.all_namespaces, args.sql, out.width);
            let shown = match shown.split_once('\n') {
                Some((_, rest)) if args.no_headers => rest,
                Some(_) | None => shown.as_str(),
            };
            out.data(shown)?;
        }
    }
    for what in unread {
        out.note(&format!("not known: {what}"));
    }
    Ok(())
}

/// Looks at every cluster, and asks its members for their reads where that is wanted.
async fn looks(
    session: &Session,
    clusters: Vec<Postgresql>,
    sql: bool,
) -> Vec<(Status, Option<Reads>)> {
    stream::iter(clusters)
        .map(|cluster| {
            async move {
                let status = look(session, cluster, AskWhom::AsNeeded, Events::Left, true).await;
                let reads = if sql {
                    Some(Reads::ask(session, &status.snapshot.facts, 0).await)
                } else {
                    None
                };
                (status, reads)
            }
            .boxed()
        })
        .buffered(AT_ONCE)
        .collect()
        .await
}

/// Sorts the rows. A value that is not known comes last.
fn sort(rows: &mut [Row], by: Option<SortBy>) {
    let name = |row: &Row| {
        let (namespace, name) = row.name();
        (namespace.to_owned(), name.to_owned())
    };
    rows.sort_by_cached_key(name);
    let by_number = |rows: &mut [Row], number: fn(&Row) -> Option<u64>| {
        rows.sort_by_key(|row| Reverse(number(row)));
    };
    match by {
        Some(SortBy::Name) => {}
        Some(SortBy::Cpu) => by_number(rows, |row| row.usage.map(|usage| usage.millicores)),
        Some(SortBy::Memory) => by_number(rows, |row| row.usage.map(|usage| usage.memory)),
        Some(SortBy::Lag) => by_number(rows, |row| row.lag),
        Some(SortBy::Reads) => rows.sort_by(|one, other| {
            let number = |row: &Row| row.rows.unwrap_or(-1.0);
            number(other).total_cmp(&number(one))
        }),
        None => rows.sort_by_cached_key(|row| {
            let facts = &row.status.snapshot.facts;
            let paused = facts.configuration.known().is_some_and(|it| it.paused);
            (row.status.severity(), !paused, Reverse(row.lag))
        }),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use crate::reads::tests::reading;
    use crate::testing::{World, run};

    fn column(table: &str, place: usize) -> Vec<&str> {
        table.lines().filter_map(|line| line.split_whitespace().nth(place)).collect()
    }

    #[tokio::test]
    async fn usage_of_a_cluster_is_that_of_all_its_members() {
        let world = reading(World::new(3, 0).metered());
        let (screen, code, why) = run(&world, "top --sql", None).await;
        assert_eq!((code, why.as_str()), (0, ""));
        assert_eq!(screen.stderr(), "");
        let (json, ..) = run(&world, "top --sql -o json", None).await;
        let document: Value = serde_json::from_str(&json.stdout()).unwrap();
        let item = &document["items"][0];
        assert_eq!(item["cpuMillicores"], 600);
        assert_eq!(item["memoryBytes"], 6_u64 << 30);
        assert_eq!((&item["measuredMembers"], &item["members"]), (&3.into(), &3.into()));
        assert!(item["rowsReturnedPerSecond"].as_f64().unwrap() > 0.0, "{item}");
    }

    #[tokio::test]
    async fn unknown_value_is_a_dash_and_one_line_says_why() {
        let world = World::new(3, 0).with_fleet(3).hiding(&["exec"]);
        let (screen, code, _) = run(&world, "top -A --sql", None).await;
        assert_eq!(code, 0);
        insta::assert_snapshot!(screen.stderr(), @"
        not known: CPU and memory: metrics.k8s.io is not served here (metrics-server does that)
        not known: what acid-a-0 and 8 more members read: pods/exec is not permitted
        check the permission:
            kubectl auth can-i create pods --subresource=exec -n db-0
        ");
        assert_eq!(column(&screen.stdout(), 3), ["CPU", "-", "-", "-"]);
        let (screen, ..) = run(&World::new(3, 0).hiding(&["metrics.k8s.io"]), "top", None).await;
        assert_eq!(
            screen.stderr(),
            "not known: CPU and memory: may not read pods.metrics.k8s.io\n"
        );
    }

    #[tokio::test]
    async fn worst_cluster_is_first_and_another_order_may_be_asked_for() {
        let world = World::new(3, 0).with_another().metered();
        let (screen, ..) = run(&world, "top --no-headers", None).await;
        assert_eq!(column(&screen.stdout(), 0), ["acid-b", "acid-a"]);
        for (by, want) in [("name", ["acid-a", "acid-b"]), ("cpu", ["acid-a", "acid-b"])] {
            let (screen, ..) = run(&world, &format!("top --no-headers --sort-by {by}"), None).await;
            assert_eq!(column(&screen.stdout(), 0), want, "{by}");
        }
    }
}
