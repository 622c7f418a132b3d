//! What is published is documented, shown and watched by its present names: `docs/metrics.md`, the
//! chart's dashboard and its alerts.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde_json::Value;

use super::*;

const ALERTS: &str = "charts/pgscale/files/alerts.yaml";
const DASHBOARD: &str = "charts/pgscale/files/dashboard.json";
const PAGE: &str = "docs/metrics.md";
/// The tests of the alerts with promtool.
const TESTED: &str = "tests/alerts/alerts.test.yaml";
/// Metrics of the API server that alerts look at.
const OF_THE_API_SERVER: [&str; 2] =
    ["apiserver_admission_webhook_fail_open_count", "apiserver_admission_webhook_rejection_count"];

fn file(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Returns the names of all metrics with their kinds.
fn families() -> BTreeMap<String, String> {
    let metrics = Metrics::new();
    // A metric with labels is not published before its first count, unless its labels are known.
    metrics.found("above-max", "deny");
    metrics.would_deny("db", "above-max", "warn");
    metrics.connection_dropped("no place");
    metrics.budget("db", 12, pgscale_guard::ledger::Totals::default(), None);
    let text = metrics.text();
    let lines = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let found = lines.filter_map(|line| line.split_once(' '));
    found.map(|(name, kind)| (name.to_owned(), kind.to_owned())).collect()
}

/// Returns the names of the samples of one metric.
fn samples(name: &str, kind: &str) -> Vec<String> {
    match kind {
        "counter" => vec![format!("{name}_total")],
        "histogram" => ["_bucket", "_count", "_sum"].map(|part| format!("{name}{part}")).into(),
        "info" => vec![format!("{name}_info")],
        _ => vec![name.to_owned()],
    }
}

/// Returns the metrics that a text in `PromQL` names.
fn asked(text: &str) -> BTreeSet<String> {
    let words = text.split(|char: char| !char.is_ascii_alphanumeric() && char != '_');
    let ours = words.filter(|word| word.starts_with("pgscale_") || word.starts_with("apiserver_"));
    ours.map(str::to_owned).collect()
}

/// Returns the texts below `value` whose key is `key`.
fn texts(value: &Value, key: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value.as_str() {
                    Some(text) if name == key => found.push(text.to_owned()),
                    Some(_) | None => texts(value, key, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| texts(item, key, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn alerts() -> Value {
    serde_saphyr::from_str(&file(ALERTS)).unwrap()
}

/// Returns the expressions of the alerts, and those of the dashboard.
fn expressions() -> [Vec<String>; 2] {
    let (mut watched, mut shown) = (Vec::new(), Vec::new());
    texts(&alerts(), "expr", &mut watched);
    let dashboard: Value = serde_json::from_str(&file(DASHBOARD)).unwrap();
    texts(&dashboard, "expr", &mut shown);
    let mut variables = Vec::new();
    texts(&dashboard, "query", &mut variables);
    shown.extend(variables.into_iter().filter(|query| query.starts_with("label_values(")));
    assert!(watched.len() > 10 && shown.len() > 10, "{} and {}", watched.len(), shown.len());
    [watched, shown]
}

#[test]
fn every_metric_has_a_row_in_the_documentation() {
    let page = file(PAGE);
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `pgscale_"));
    let described: Vec<String> = rows
        .filter_map(|row| row.split_once('`'))
        .map(|(name, _)| format!("pgscale_{}", name.split('{').next().unwrap_or_default()))
        .collect();
    let published: BTreeSet<String> = families()
        .iter()
        .map(|(name, kind)| match kind.as_str() {
            "histogram" => name.clone(),
            _ => samples(name, kind).remove(0),
        })
        .collect();
    assert_eq!(described.iter().cloned().collect::<BTreeSet<_>>(), published);
    assert_eq!(described.len(), published.len(), "a metric has two rows");
}

#[test]
fn alerts_and_dashboard_ask_for_metrics_that_exist() {
    let mut exist: BTreeSet<String> =
        families().iter().flat_map(|(name, kind)| samples(name, kind)).collect();
    exist.extend(OF_THE_API_SERVER.map(str::to_owned));
    for expression in expressions().concat() {
        let asked = asked(&expression);
        assert!(!asked.is_empty(), "no metric of ours: {expression}");
        for name in asked {
            assert!(exist.contains(&name), "{name} does not exist: {expression}");
        }
    }
}

#[test]
fn dashboard_shows_every_metric() {
    let [_, shown] = expressions();
    let shown = asked(&shown.join(" "));
    for (name, kind) in families() {
        let any = samples(&name, &kind).iter().any(|sample| shown.contains(sample));
        assert!(any, "the dashboard does not show {name}");
    }
}

#[test]
fn alerts_name_reasons_that_are_counted() {
    let [watched, _] = expressions();
    for (metric, key, known) in [
        ("pgscale_watched_changes_ended_total", "result", &WATCH_ENDS[..]),
        ("pgscale_certificate_reloads_total", "result", &["ok", "failed"][..]),
        ("pgscale_admission_requests_total", "verdict", &VERDICTS[..]),
        ("pgscale_events_total", "result", &EVENTS[..]),
    ] {
        let about: Vec<_> = watched.iter().filter(|expr| expr.contains(metric)).collect();
        assert!(!about.is_empty(), "no alert is about {metric}");
        for expression in about {
            let (_, rest) = expression.split_once(&format!("{key}=")).unwrap();
            let reasons = rest.split('"').nth(1).unwrap();
            for reason in reasons.split('|') {
                assert!(known.contains(&reason), "{metric} never counts {reason}");
            }
        }
    }
}

#[test]
fn every_alert_has_a_runbook_and_a_test() {
    let mut names = Vec::new();
    texts(&alerts(), "alert", &mut names);
    let page = file(PAGE);
    let runbooks: Vec<&str> =
        page.lines().filter_map(|line| line.strip_prefix("### Pgscale")).collect();
    let ours: Vec<&str> = names.iter().filter_map(|name| name.strip_prefix("Pgscale")).collect();
    assert_eq!(runbooks, ours, "one runbook for each alert, in the order of {ALERTS}");
    let tested = file(TESTED);
    for name in &names {
        // Once as it fires, and once on a quiet day.
        assert!(tested.contains(&format!("name: {name} fires\n")), "{TESTED} has no {name}");
        assert!(tested.contains(&format!("alertname: {name}}}")), "{TESTED}: a quiet day, {name}");
    }
}
