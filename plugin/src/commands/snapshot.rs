//! `snapshot`: a record of everything that a verdict on one cluster rests on.

use clap::ValueEnum;
use pgscale_guard::Change;
use pgscale_guard::read::AskWhom;
use pgscale_guard::snapshot::Snapshot;

use crate::args::{cluster_name, count};
use crate::document::ClusterSnapshot;
use crate::error::Failure;
use crate::session::Session;
use crate::terminal::Format;

/// Record the facts about one cluster, without secrets, so that a verdict can be repeated.
///
/// Reads the cluster, asks every member for its state, and changes nothing. The record holds what
/// the rules look at, the policies and the overrides. Values of environment variables, passwords,
/// tokens and connection strings are replaced by words such as redacted-1. Names of objects, nodes
/// and images stay: look through it before you hand it on. The command kubectl pgscale lint --facts
/// judges by it, which is also how a wrong verdict is reported.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  kubectl pgscale snapshot acid-a > record.json
  kubectl pgscale snapshot acid-a --to 2 > record.json      for the change to 2")]
pub(crate) struct Args {
    /// The cluster: NAME, pg/NAME or postgresql/NAME.
    #[arg(value_name = "NAME", value_parser = cluster_name)]
    name: String,
    /// Count that the record is for; no change when unset.
    #[arg(long = "to", value_name = "N", value_parser = count, allow_negative_numbers = true)]
    count: Option<i64>,
    /// Output format.
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    output: Shown,
}

/// The format of the record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Shown {
    /// A versioned JSON object.
    #[default]
    Json,
    /// The same as YAML.
    Yaml,
}

/// Prints the record.
pub(crate) async fn run(session: &Session, args: Args) -> Result<(), Failure> {
    let snapshot = taken(session, &args.name, args.count).await?;
    let document = ClusterSnapshot::of(&snapshot)
        .map_err(|error| Failure::error(format!("failed to encode the record: {error}")))?;
    let format = match args.output {
        Shown::Json => Format::Json,
        Shown::Yaml => Format::Yaml,
    };
    session.out.document(format, &document)
}

/// Reads everything that a verdict on the cluster rests on, for a change to `to`.
async fn taken(session: &Session, name: &str, to: Option<i64>) -> Result<Snapshot, Failure> {
    let cluster = session.cluster(name).await?;
    let to = to.unwrap_or_else(|| cluster.instances.unwrap_or(0));
    let change = Change::of_count(cluster.clone(), to);
    let reader = session.recording();
    let (facts, policies, overrides) = futures::join!(
        reader.facts(change, AskWhom::All),
        reader.written_policies(&session.namespace),
        reader.overrides(&cluster),
    );
    session.show_warnings();
    Ok(Snapshot { facts, policies, overrides })
}

#[cfg(test)]
mod tests;
