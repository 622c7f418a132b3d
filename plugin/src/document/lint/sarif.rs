//! The verdicts as SARIF 2.1.0, which GitHub and others show beside the code.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use pgscale_guard::rules::{RULES, Rule};
use pgscale_guard::verdict::{Finding, Severity};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::lint::{Checked, Place, Report};

/// The schema that the document names.
const SCHEMA: &str = "https://json.schemastore.org/sarif-2.1.0.json";
/// The rule of inputs that cannot be judged.
const INPUT: &str = "input-error";

/// The SARIF log of a check.
pub(crate) struct Sarif;

impl Sarif {
    /// Returns the log.
    pub(crate) fn of(report: &Report) -> Value {
        let findings =
            report.clusters.iter().flat_map(|it| it.findings.iter().map(move |f| (it, f)));
        let named: BTreeSet<&str> = findings.clone().map(|(_, f)| f.rule.as_str()).collect();
        let rules: Vec<&Rule> =
            RULES.iter().filter(|rule| named.contains(rule.id.as_str())).collect();
        let index = |id: &str| rules.iter().position(|rule| rule.id.as_str() == id);
        let mut described: Vec<Value> = rules.iter().map(|rule| described(rule)).collect();
        let mut results: Vec<Value> =
            findings.map(|(cluster, it)| result(cluster, it, index(it.rule.as_str()))).collect();
        if !report.problems.is_empty() {
            results.extend(report.problems.iter().map(|problem| {
                json!({
                    "ruleId": INPUT, "ruleIndex": described.len(), "level": "error",
                    "message": {"text": problem.message},
                    "locations": [location(&problem.place)],
                    "partialFingerprints": {
                        "pgscale/v1": fingerprint(&[INPUT, &problem.place.file, &problem.message]),
                    },
                })
            }));
            let text = "An input cannot be judged";
            described.push(json!({
                "id": INPUT, "name": INPUT, "shortDescription": {"text": text},
                "fullDescription": {"text": text}, "help": {"text": text},
                "defaultConfiguration": {"level": "error"},
            }));
        }
        let notifications: Vec<Value> =
            report.clusters.iter().filter(|it| !it.not_judged.is_empty()).map(unjudged).collect();
        json!({
            "$schema": SCHEMA,
            "version": "2.1.0",
            "runs": [{
                "tool": {"driver": {
                    "name": "pgscale", "version": env!("CARGO_PKG_VERSION"),
                    "semanticVersion": env!("CARGO_PKG_VERSION"), "rules": described,
                }},
                "columnKind": "unicodeCodePoints",
                "invocations": [{
                    "executionSuccessful": report.problems.is_empty(),
                    "toolExecutionNotifications": notifications,
                }],
                "results": results,
            }],
        })
    }
}

fn described(rule: &Rule) -> Value {
    json!({
        "id": rule.id.as_str(), "name": rule.id.as_str(),
        "shortDescription": {"text": rule.title},
        "fullDescription": {"text": rule.title},
        "help": {"text": rule.page},
        "defaultConfiguration": {"level": if rule.default.starts_with("deny") { "error" } else { "warning" }},
    })
}

fn result(cluster: &Checked, finding: &Finding, index: Option<usize>) -> Value {
    let level = match finding.severity {
        Severity::Deny => "error",
        Severity::Warn => "warning",
    };
    let mut result = json!({
        "ruleId": finding.rule.as_str(), "level": level,
        "message": {"text": format!("postgresql {}: {finding}", cluster.cluster())},
        "locations": [location(&cluster.place)],
        // The line may move, and the finding stays the same.
        "partialFingerprints": {
            "pgscale/v1": fingerprint(&[finding.rule.as_str(), &cluster.place.file, &cluster.cluster()]),
        },
    });
    if let (Some(index), Some(fields)) = (index, result.as_object_mut()) {
        fields.insert("ruleIndex".to_owned(), json!(index));
    }
    result
}

fn unjudged(cluster: &Checked) -> Value {
    let rules: Vec<String> = cluster
        .unjudged()
        .iter()
        .map(|(why, rules)| format!("{}: {why}", rules.join(", ")))
        .collect();
    json!({
        "level": "note",
        "message": {"text": format!("postgresql {}: not judged: {}", cluster.cluster(), rules.join("; "))},
        "locations": [location(&cluster.place)],
    })
}

fn location(place: &Place) -> Value {
    let mut physical = json!({"artifactLocation": {"uri": uri(&place.file)}});
    // GitHub shows no result without a line.
    let mut region = json!({"startLine": place.line.unwrap_or(1)});
    if let (Some(column), Some(region)) =
        (place.column.filter(|it| *it > 0), region.as_object_mut())
    {
        region.insert("startColumn".to_owned(), json!(column));
    }
    if let Some(physical) = physical.as_object_mut() {
        physical.insert("region".to_owned(), region);
    }
    json!({"physicalLocation": physical})
}

/// Returns the path as a URI reference: relative to the top of the repository where it is relative.
fn uri(path: &str) -> String {
    let path = if cfg!(windows) { path.replace('\\', "/") } else { path.to_owned() };
    let path = path.strip_prefix("./").unwrap_or(&path);
    let mut uri = String::new();
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            _ = write!(uri, "%{byte:02X}");
        }
    }
    if path.starts_with('/') { format!("file://{uri}") } else { uri }
}

fn fingerprint(parts: &[&str]) -> String {
    let mut text = String::new();
    for byte in Sha256::digest(parts.join("\0")).iter().take(16) {
        _ = write!(text, "{byte:02x}");
    }
    text
}
