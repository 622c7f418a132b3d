//! `policy test`: the effect of new policies on the clusters that exist now.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::PathBuf;
use std::sync::Arc;

use futures::{StreamExt as _, stream};
use pgscale_guard::object_ref::{self, ObjectRef};
use pgscale_guard::policy::{
    ClusterScalePolicy, Mode, Policies, ScalePolicy, Written, Zero, decode, named,
};
use pgscale_guard::postgresql::Postgresql;
use pgscale_guard::read::AskWhom;
use pgscale_guard::{Change, Facts};
use serde_json::Value;

use crate::args::Shape;
use crate::commands::scale::resource;
use crate::document::{API_VERSION, PolicyTest, Tried, Verdicts, Violation};
use crate::error::{Failure, Kind};
use crate::session::Session;
use crate::status::{By, CountVerdict, would_say};
use crate::terminal::Format;
use crate::view::policy::trial as render;

/// The number of clusters that are read at a time.
const AT_ONCE: usize = 8;

/// Say what new policies would do to the clusters that exist now: which break their bounds, and the
/// verdict on one instance less or more.
///
/// A policy of the file takes the place of the one with its kind and name, or stands beside all
/// others; nothing is written. Ends with exit code 3 where a cluster breaks a bound that would be
/// enforced, and with 0 otherwise.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  kubectl pgscale policy test -f production.yaml
  kubectl pgscale policy test -f platform.yaml -A
  kubectl pgscale policy test -f - < policies.yaml")]
pub(crate) struct Args {
    /// The file with the policies, YAML or JSON; - for standard input.
    #[arg(short = 'f', long, value_name = "FILE")]
    filename: PathBuf,
    /// Clusters of all namespaces.
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    #[command(flatten)]
    shape: Shape,
}

/// Prints the effect of the new policies on each cluster.
pub(crate) async fn run(session: &Session, args: Args) -> Result<(), Failure> {
    let new = read(&args.filename, &session.namespace)?;
    let clusters = session.clusters_of(args.all_namespaces, None).await?;
    let written = written(session, &clusters).await;
    let clusters = clusters.into_iter().filter_map(|it| Some((written.get(&it.namespace)?, it)));
    let mut items: Vec<Tried> = stream::iter(clusters)
        .map(|(written, cluster)| tried(session, cluster, written, &new))
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    session.show_warnings();
    items.sort_by(|one, other| (&one.namespace, &one.name).cmp(&(&other.namespace, &other.name)));
    let test = PolicyTest::of(items);
    match args.shape.output {
        format @ (Format::Json | Format::Yaml) => session.out.document(format, &test)?,
        Format::Name | Format::Text | Format::Wide if test.items.is_empty() => {
            let place = session.place(args.all_namespaces);
            session.out.note(&format!("No postgresql clusters found in {place}."));
        }
        Format::Name => {
            let names: Vec<_> = test.items.iter().map(|item| resource(&item.name)).collect();
            session.out.data(&names.join("\n"))?;
        }
        Format::Text | Format::Wide => {
            session.out.data(&render(&test, args.all_namespaces, session.out.width))?;
        }
    }
    conclude(session, &test.items)
}

/// Names the facts that could not be read, and ends as the bounds say.
fn conclude(session: &Session, items: &[Tried]) -> Result<(), Failure> {
    for item in items {
        if let Some(why) = &item.unreadable {
            let cluster = format!("{}/{}", item.namespace, item.name);
            session.out.warning(&format!("not all policies of {cluster} could be read: {why}"));
        }
    }
    let enforced = |item: &&Tried| item.violations.iter().any(|it| it.mode == Mode::Enforce);
    let breaking: Vec<String> = items
        .iter()
        .filter(enforced)
        .map(|item| format!("{}/{}", item.namespace, item.name))
        .collect();
    if breaking.is_empty() {
        return Ok(());
    }
    Err(Failure::new(
        Kind::Refused,
        format!(
            "these clusters would break an enforced bound as they are: {}",
            breaking.join(", ")
        ),
    )
    .hint("nothing happens to them by itself; they may only move towards the bound".to_owned()))
}

/// The policies of a file.
#[derive(Debug, Default)]
struct New {
    own: Vec<ScalePolicy>,
    everywhere: Vec<ClusterScalePolicy>,
}

impl New {
    /// Returns the policies in `there` with these among them.
    fn beside(&self, mut there: Written, namespace: &str) -> Written {
        let own = self.own.iter();
        for policy in own.filter(|it| it.metadata.namespace.as_deref() == Some(namespace)) {
            let own = Arc::make_mut(&mut there.own);
            own.retain(|old| old.metadata.name != policy.metadata.name);
            own.push(policy.clone());
            let source = named(object_ref::Kind::ScalePolicy, policy.metadata.name.as_deref());
            there.undecodable.retain(|old| old.source != source);
        }
        for policy in &self.everywhere {
            let everywhere = Arc::make_mut(&mut there.everywhere);
            everywhere.retain(|old| old.metadata.name != policy.metadata.name);
            everywhere.push(policy.clone());
            let source =
                named(object_ref::Kind::ClusterScalePolicy, policy.metadata.name.as_deref());
            there.undecodable.retain(|old| old.source != source);
        }
        there
    }
}

fn read(path: &PathBuf, namespace: &str) -> Result<New, Failure> {
    let mut text = String::new();
    let read = if path.as_os_str() == "-" {
        std::io::stdin().read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|mut file| file.read_to_string(&mut text))
    };
    read.map_err(|error| Failure::error(format!("failed to read {}: {error}", path.display())))?;
    parse(&text, namespace)
        .map_err(|why| Failure::usage(format!("{} holds no policies: {why}", path.display())))
}

/// Returns the policies of a text. Those that name no namespace belong to `namespace`.
fn parse(text: &str, namespace: &str) -> Result<New, String> {
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(text).map_err(|error| error.to_string())?;
    let mut new = New::default();
    for document in documents.into_iter().filter(|document| !document.is_null()) {
        let text = |place| document.pointer(place).and_then(Value::as_str).unwrap_or_default();
        let (kind, name) = (text("/kind").to_owned(), text("/metadata/name").to_owned());
        if text("/apiVersion") != API_VERSION {
            return Err(format!("{kind} {name:?} is not of {API_VERSION}"));
        }
        let wrong = |why: String| format!("{kind} {name:?}: {why}");
        match kind.as_str() {
            "ScalePolicy" => {
                let mut policy: ScalePolicy = decode(&document).map_err(wrong)?;
                policy.metadata.namespace.get_or_insert_with(|| namespace.to_owned());
                new.own.push(policy);
            }
            "ClusterScalePolicy" => {
                new.everywhere.push(decode(&document).map_err(wrong)?);
            }
            other => {
                return Err(format!("{other:?} is neither ScalePolicy nor ClusterScalePolicy"));
            }
        }
    }
    if new.own.is_empty() && new.everywhere.is_empty() {
        return Err("it is empty".to_owned());
    }
    Ok(new)
}

/// Reads the policies of every namespace that has one of `clusters`.
async fn written(session: &Session, clusters: &[Postgresql]) -> BTreeMap<String, Written> {
    let namespaces: BTreeSet<String> = clusters.iter().map(|it| it.namespace.clone()).collect();
    stream::iter(namespaces)
        .map(async |namespace| {
            let written = session.reader.written_policies(&namespace).await;
            (namespace, written)
        })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await
}

async fn tried(session: &Session, cluster: Postgresql, written: &Written, new: &New) -> Tried {
    let (namespace, name) = (cluster.namespace.clone(), cluster.name.clone());
    let count = cluster.instances.unwrap_or(0);
    let change = Change::of_count(cluster.clone(), count);
    let facts = session.around().facts(change, AskWhom::All).await;
    let today = written.matching(&cluster.labels);
    let then = new.beside(written.clone(), &namespace).matching(&cluster.labels);
    Tried {
        instances: facts.to(),
        violations: violations(&facts, &then),
        changes: changes(&facts, &today, &then),
        unreadable: then.unreadable,
        namespace,
        name,
    }
}

/// Returns the bounds that the cluster breaks as it is.
fn violations(facts: &Facts, policies: &Policies) -> Vec<Violation> {
    let count = facts.to();
    let mut all = Vec::new();
    let mut add = |field, value: String, source: &ObjectRef, mode| {
        all.push(Violation { field, value, source: source.to_string(), mode });
    };
    if count == 0 {
        for zero in policies.zero.iter().filter(|zero| zero.value == Zero::Deny) {
            add("instances.zero", "Deny".to_owned(), &zero.source, zero.mode);
        }
    } else {
        for min in policies.min.iter().filter(|min| count < min.value) {
            add("instances.min", min.value.to_string(), &min.source, min.mode);
        }
    }
    for min in policies.floor_min.iter().filter(|min| count < min.value) {
        add("floor.min", min.value.to_string(), &min.source, min.mode);
    }
    for max in policies.floor_max.iter().filter(|max| count > max.value) {
        add("floor.max", max.value.to_string(), &max.source, max.mode);
    }
    for max in policies.max.iter().filter(|max| count > max.value) {
        add("instances.max", max.value.to_string(), &max.source, max.mode);
    }
    all
}

/// Returns our verdicts on one instance less and one more, under the policies of `today` and of
/// `then`.
fn changes(facts: &Facts, today: &Policies, then: &Policies) -> Vec<Verdicts> {
    let reported = |policies: &Policies| {
        let all = would_say(facts, policies);
        all.into_iter().filter(|reported| reported.by == By::Command).collect::<Vec<CountVerdict>>()
    };
    let before = reported(today);
    reported(then)
        .into_iter()
        .map(|then| Verdicts {
            to: then.to,
            allowed_today: before.iter().any(|reported| reported.to == then.to && reported.allowed),
            allowed: then.allowed,
            rules: then.rules,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_policies_are_read_and_errors_are_named() {
        let policy =
            "apiVersion: pgscale.dev/v1alpha1\nkind: ScalePolicy\nmetadata: {name: a}\nspec: {}\n";
        let platform = policy.replace("ScalePolicy", "ClusterScalePolicy");
        let new = parse(&format!("---\n{policy}---\n{platform}---\n"), "db").unwrap();
        assert_eq!(new.own[0].metadata.namespace.as_deref(), Some("db"));
        assert_eq!(new.everywhere.len(), 1);
        for (text, why) in [
            ("", "it is empty"),
            ("kind: ScalePolicy", "ScalePolicy \"\" is not of pgscale.dev/v1alpha1"),
            (
                "apiVersion: pgscale.dev/v1alpha1\nkind: Secret",
                "\"Secret\" is neither ScalePolicy nor ClusterScalePolicy",
            ),
            (
                "apiVersion: pgscale.dev/v1alpha1\nkind: ScalePolicy\nmetadata: {name: a}\nspec: {mode: Maybe}",
                "ScalePolicy \"a\": spec.mode: unknown variant `Maybe`, expected one of `Audit`, `Warn`, `Enforce`",
            ),
        ] {
            assert_eq!(parse(text, "db").unwrap_err(), why);
        }
    }
}
