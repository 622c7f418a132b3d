//! The documents of `lint` and of `snapshot`.

use k8s_openapi::jiff::Timestamp;
use pgscale_guard::snapshot::Snapshot;
use pgscale_guard::verdict::Finding;
use serde::Serialize;
use serde_json::Value;

use super::{API_VERSION, Metadata};
use crate::lint::{Basis, Checked, Place, Problem, Report, Said};

mod sarif;

pub(crate) use sarif::Sarif;

/// `kind: LintReport`: the verdicts on manifests.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(crate) struct LintReport<'a> {
    #[cfg_attr(test, schemars(extend("const" = API_VERSION)))]
    api_version: &'static str,
    #[cfg_attr(test, schemars(extend("const" = "LintReport")))]
    kind: &'static str,
    /// `Refused` where a rule refuses a change, `Error` where an input cannot be judged, `Allowed`
    /// where every rule was judged, and `AllowedSoFar` where some need the cluster.
    result: &'static str,
    /// The numbers of everything that was looked at.
    counts: Counts,
    /// The clusters, in the order of the files.
    items: Vec<Item<'a>>,
    /// The inputs that cannot be judged.
    errors: Vec<Fault<'a>>,
    /// What could not be read of the other revision, and records that are of no manifest.
    notes: Vec<Fault<'a>>,
    /// Documents that are no objects of Kubernetes: they have no `apiVersion` or no `kind`.
    not_objects: Vec<At<'a>>,
}

/// Numbers of what was looked at.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
struct Counts {
    files: usize,
    clusters: usize,
    refused: usize,
    policies: usize,
    /// Objects of kinds that are not judged.
    other_kinds: usize,
}

/// A place in a file, counted from 1.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct At<'a> {
    file: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<u64>,
}

impl<'a> At<'a> {
    fn of(place: &'a Place) -> Self {
        Self { file: &place.file, line: place.line, column: place.column }
    }
}

/// One cluster.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
struct Item<'a> {
    metadata: Name<'a>,
    /// The place of `spec.numberOfInstances`, or else of the document.
    at: At<'a>,
    /// The count before. None for a cluster that is judged as a new one.
    from: Option<i64>,
    /// The written count. None for a cluster that is not in the manifests any more.
    to: Option<i64>,
    /// `None`, `File`, `Revision`, `Record` or `Cluster`: what it was compared with.
    compared_with: &'static str,
    /// The time at which a record was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    recorded_at: Option<Timestamp>,
    /// `Refused`, `Allowed`, `AllowedSoFar`, `Unchanged` or `Removed`.
    verdict: &'static str,
    findings: &'a [Finding],
    /// The refusing rules whose finding no state of the cluster lifts. Only an override does.
    certain: Vec<&'static str>,
    /// The rules that look at such a change and need a fact that was not read.
    not_judged: Vec<NotJudged<'a>>,
    notes: &'a [String],
}

/// The name of a cluster.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Name<'a> {
    namespace: &'a str,
    name: &'a str,
}

/// A rule that could not be judged.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct NotJudged<'a> {
    rule: &'static str,
    why: &'a str,
}

/// An input that cannot be judged, or a note on one.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Fault<'a> {
    at: At<'a>,
    message: &'a str,
}

impl<'a> LintReport<'a> {
    /// Returns the document of a check.
    pub(crate) fn of(report: &'a Report) -> Self {
        let refused = report.count(Said::Refused);
        let result = if refused > 0 {
            "Refused"
        } else if !report.problems.is_empty() {
            "Error"
        } else if report.count(Said::SoFar) > 0 {
            "AllowedSoFar"
        } else {
            "Allowed"
        };
        Self {
            api_version: API_VERSION,
            kind: "LintReport",
            result,
            counts: Counts {
                files: report.files,
                clusters: report.clusters.len(),
                refused,
                policies: report.policies,
                other_kinds: report.others,
            },
            items: report.clusters.iter().map(item).collect(),
            errors: faults(&report.problems),
            notes: faults(&report.notes),
            not_objects: report.strangers.iter().map(At::of).collect(),
        }
    }
}

fn faults(problems: &[Problem]) -> Vec<Fault<'_>> {
    problems.iter().map(|it| Fault { at: At::of(&it.place), message: &it.message }).collect()
}

fn item(checked: &Checked) -> Item<'_> {
    let (compared_with, recorded_at) = match checked.basis {
        Basis::Nothing => ("None", None),
        Basis::Stored => ("File", None),
        Basis::Revision => ("Revision", None),
        Basis::Recorded(time) => ("Record", Some(time)),
        Basis::Live => ("Cluster", None),
    };
    let not_judged = checked.not_judged.iter();
    Item {
        metadata: Name { namespace: &checked.namespace, name: &checked.name },
        at: At::of(&checked.place),
        from: checked.from,
        to: checked.to,
        compared_with,
        recorded_at,
        verdict: match checked.said {
            Said::Refused => "Refused",
            Said::Allowed => "Allowed",
            Said::SoFar => "AllowedSoFar",
            Said::Unchanged => "Unchanged",
            Said::Removed => "Removed",
        },
        findings: &checked.findings,
        certain: checked.certain.iter().map(|rule| rule.as_str()).collect(),
        not_judged: not_judged.map(|(rule, why)| NotJudged { rule: rule.as_str(), why }).collect(),
        notes: &checked.notes,
    }
}

/// `kind: ClusterSnapshot`: the facts about one cluster, without secrets.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(crate) struct ClusterSnapshot {
    #[cfg_attr(test, schemars(extend("const" = API_VERSION)))]
    api_version: &'static str,
    #[cfg_attr(test, schemars(extend("const" = "ClusterSnapshot")))]
    kind: &'static str,
    metadata: Metadata,
    /// The version of the program that recorded it. Another version may not be able to read it.
    recorded_by: &'static str,
    /// The time of the record.
    #[cfg_attr(test, schemars(with = "String"))]
    recorded_at: Timestamp,
    /// The facts, the policies and the overrides, as this version of the rules holds them. Each
    /// secret is replaced by a word such as `redacted-1`, and equal secrets by equal words.
    snapshot: Value,
}

impl ClusterSnapshot {
    /// Returns the document of a record.
    ///
    /// # Errors
    /// The encoder's message.
    pub(crate) fn of(snapshot: &Snapshot) -> Result<Self, serde_json::Error> {
        Ok(Self {
            api_version: API_VERSION,
            kind: "ClusterSnapshot",
            metadata: Metadata::of(snapshot.cluster()),
            recorded_by: env!("CARGO_PKG_VERSION"),
            recorded_at: snapshot.facts.now,
            snapshot: snapshot.redacted()?,
        })
    }
}

#[cfg(test)]
mod tests;
