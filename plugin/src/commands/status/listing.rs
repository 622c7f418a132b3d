//! What `kubectl get` can do with a list: several names, an order, labels, no first line.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use futures::future::join_all;
use pgscale_guard::postgresql::Postgresql;
use serde_json::Value;

use super::Args;
use crate::document::ScaleStatus;
use crate::error::Failure;
use crate::session::Session;
use crate::status::Status;
use crate::terminal::expression::Expression;
use crate::terminal::text::{columns, padded};
use crate::view::status::{list, rows};

/// The title of the column that `--show-labels` adds.
const LABELS: &str = "LABELS";

/// Returns the arguments without the names that are not there, and the failures about those. One
/// name is looked up later, unless it may be missing.
pub(super) async fn known(
    session: &Session,
    mut args: Args,
) -> Result<(Args, Vec<Failure>), Failure> {
    // Before anything is read.
    args.order()?;
    let Some(first) = args.name.clone() else { return Ok((args, Vec::new())) };
    if args.others.is_empty() && !args.listing.ignore_not_found {
        return Ok((args, Vec::new()));
    }
    let mut seen = BTreeSet::new();
    let names: Vec<String> = std::iter::once(first)
        .chain(std::mem::take(&mut args.others))
        .filter(|name| seen.insert(name.clone()))
        .collect();
    let single = names.len() == 1;
    let looks = join_all(names.iter().map(|name| session.cluster_if_there(name))).await;
    let (mut there, mut missing) = (Vec::new(), Vec::new());
    for (name, found) in names.into_iter().zip(looks) {
        match found {
            Ok(Some(_)) => there.push(name),
            Ok(None) if args.listing.ignore_not_found => {}
            Ok(None) => missing.push(session.missing(&name)),
            Err(failure) => return Err(failure),
        }
    }
    args.name = if single { there.pop() } else { None };
    args.none = args.name.is_none() && there.is_empty();
    args.others = there;
    Ok((args, missing))
}

/// Ends as a command about several names ends: with those that are not there.
pub(super) fn ended(session: &Session, missing: &[Failure]) -> Result<(), Failure> {
    let Some((last, others)) = missing.split_last() else { return Ok(()) };
    for failure in others {
        session.out.failure(&failure.clone().reached_by(&session.reach));
    }
    Err(last.clone())
}

impl Args {
    /// Returns whether every cluster that was named is missing.
    pub(super) fn lists_none(&self) -> bool {
        self.none
    }

    /// Reads the clusters of the list.
    pub(super) async fn clusters(&self, session: &Session) -> Result<Vec<Postgresql>, Failure> {
        if self.others.is_empty() {
            return session.clusters_of(self.all_namespaces, self.selector.as_deref()).await;
        }
        let found = join_all(self.others.iter().map(|name| session.cluster(name))).await;
        found.into_iter().collect()
    }

    /// Returns the path of `--sort-by` as an expression.
    fn order(&self) -> Result<Option<Expression>, Failure> {
        let Some(path) = &self.listing.sort_by else { return Ok(None) };
        let path = path.trim_start_matches('{').trim_end_matches('}');
        let dot = if path.starts_with(['.', '$', '[']) { "" } else { "." };
        match Expression::of(&format!("jsonpath={{{dot}{path}}}")) {
            Some(Ok(expression)) => Ok(Some(expression)),
            Some(Err(why)) => Err(Failure::usage(format!("--sort-by {path:?}: {why}"))),
            None => Err(Failure::usage(format!("--sort-by {path:?} is no path"))),
        }
    }

    /// Sorts the list by `--sort-by`, if that is given: numbers by their size, and others as texts.
    pub(super) fn sort(&self, all: &mut [Status]) -> Result<(), Failure> {
        let Some(path) = self.order()? else { return Ok(()) };
        let value = |status: &Status| {
            let document = serde_json::to_value(ScaleStatus::of(status)).unwrap_or(Value::Null);
            path.render(&document).unwrap_or_default()
        };
        if !all.is_empty() && all.iter().all(|status| value(status).is_empty()) {
            let path = self.listing.sort_by.as_deref().unwrap_or_default();
            return Err(Failure::usage(format!("--sort-by {path:?}: no cluster has such a field")));
        }
        all.sort_by_cached_key(|status| Key(value(status)));
        Ok(())
    }

    /// Returns the list as text.
    pub(super) fn table(&self, all: &[Status], wide: bool, width: Option<usize>) -> String {
        let table = if self.listing.show_labels {
            let lines = rows(all, self.all_namespaces, wide, None);
            labelled(&lines, all)
        } else {
            list(all, self.all_namespaces, wide, width)
        };
        match table.split_once('\n') {
            Some((_, rest)) if self.listing.no_headers => rest.to_owned(),
            Some(_) | None => table,
        }
    }
}

/// A value to sort by.
#[derive(PartialEq, Eq)]
struct Key(String);

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        let number = |key: &Self| key.0.trim().parse::<f64>().ok();
        match (number(self), number(other)) {
            (Some(one), Some(another)) => one.total_cmp(&another),
            (..) => self.0.cmp(&other.0),
        }
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Adds the labels as a last column.
fn labelled(lines: &[String], all: &[Status]) -> String {
    let widest = lines.iter().map(|line| columns(line)).max().unwrap_or_default();
    let labels = all.iter().map(|status| {
        let labels = &status.snapshot.facts.change.new.labels;
        match labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>() {
            none if none.is_empty() => "<none>".to_owned(),
            some => some.join(","),
        }
    });
    let labels = std::iter::once(LABELS.to_owned()).chain(labels);
    let rows: Vec<String> = lines
        .iter()
        .zip(labels)
        .map(|(line, labels)| format!("{}   {labels}", padded(line, widest)))
        .collect();
    rows.join("\n")
}

#[cfg(test)]
mod tests {
    use crate::testing::{World, run};

    async fn shown(line: &str) -> (String, u8, String) {
        let (screen, code, failure) = run(&World::new(3, 0).with_another(), line, None).await;
        (screen.stdout(), code, failure)
    }

    fn names(table: &str) -> Vec<&str> {
        table.lines().filter_map(|line| line.split_whitespace().next()).collect()
    }

    #[tokio::test]
    async fn several_names_make_a_list() {
        let (table, code, _) = shown("status acid-a acid-b acid-a").await;
        assert_eq!(code, 0);
        let mut found = names(&table);
        found.sort_unstable();
        assert_eq!(found, ["NAME", "acid-a", "acid-b"]);
        let (table, code, failure) = shown("status acid-a acid-c").await;
        assert_eq!((names(&table), code), (vec!["NAME", "acid-a"], 1));
        assert!(failure.contains("postgresql acid-c not found"), "{failure}");
        let (json, ..) = shown("status acid-a acid-b -o json").await;
        let list: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(list["kind"], "ScaleStatusList");
    }

    #[tokio::test]
    async fn missing_cluster_is_no_error_where_that_is_wanted() {
        for line in ["status acid-c", "status acid-c acid-d", "status acid-c -o json"] {
            let (_, code, _) = shown(line).await;
            assert_eq!(code, 1, "{line}");
            let (table, code, failure) = shown(&format!("{line} --ignore-not-found")).await;
            assert_eq!((table.as_str(), code, failure.as_str()), ("", 0, ""), "{line}");
        }
        let (table, code, _) = shown("status acid-a acid-c --ignore-not-found").await;
        assert_eq!((names(&table), code), (vec!["NAME", "acid-a"], 0));
        let (detail, ..) = shown("status acid-a --ignore-not-found").await;
        assert_eq!(detail, shown("status acid-a").await.0);
    }

    #[tokio::test]
    async fn list_is_printed_as_kubectl_get_prints_one() {
        let (table, ..) = shown("status --no-headers --sort-by .metadata.name").await;
        assert_eq!(names(&table), ["acid-a", "acid-b"]);
        let (table, ..) = shown("status --no-headers --sort-by={.metadata.name}").await;
        assert_eq!(names(&table), ["acid-a", "acid-b"]);
        let (table, ..) = shown("status --show-labels").await;
        let lines: Vec<&str> = table.lines().collect();
        assert!(lines[0].ends_with("   LABELS"), "{table}");
        let place = lines[0].find("LABELS").unwrap();
        assert!(lines[1..].iter().all(|line| !line[place..].starts_with(' ')), "{table}");
        for path in [".no.such", "{.a"] {
            let (_, code, _) = shown(&format!("status --sort-by={path}")).await;
            assert_eq!(code, 2, "{path:?}");
        }
    }
}
