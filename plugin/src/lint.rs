//! The verdicts on manifests: files, directories, the output of kustomize or Helm, two revisions of
//! a repository.
//!
//! What is not known without the cluster is said, and is neither a refusal nor a permission.

use std::collections::BTreeMap;

use pgscale_guard::RuleId;
use pgscale_guard::verdict::{Finding, Severity};

mod current;
mod git;
mod judge;
mod manifest;
mod merge;
mod objects;
mod recorded;
mod source;

pub(crate) use current::Current;
pub(crate) use git::at_revision;
pub(crate) use judge::{Basis, Lint, check};
pub(crate) use manifest::{Document, documents};
pub(crate) use objects::{Manifest, Objects};
pub(crate) use recorded::recorded;
pub(crate) use source::{Text, read};

/// A place in a file, counted from 1.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// The file, as it was named.
    pub(crate) file: String,
    /// The line. `None` where the whole file is meant.
    pub(crate) line: Option<u64>,
    /// The column.
    pub(crate) column: Option<u64>,
}

impl Place {
    /// Returns the whole file.
    pub(crate) fn file(name: &str) -> Self {
        Self { file: name.to_owned(), line: None, column: None }
    }

    /// Returns a line of the file.
    pub(crate) fn line(name: &str, line: u64) -> Self {
        Self { line: Some(line), ..Self::file(name) }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&self.file)?;
        self.line.map_or(Ok(()), |line| write!(out, ":{line}"))
    }
}

/// An input that cannot be judged, and the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    /// Its place.
    pub(crate) place: Place,
    /// The reason.
    pub(crate) message: String,
}

impl Problem {
    /// Returns that the input at `place` cannot be judged because of `message`.
    pub(crate) fn new(place: Place, message: impl Into<String>) -> Self {
        Self { place, message: message.into() }
    }
}

/// What came of one cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// A rule refuses the change.
    Refused,
    /// No rule refuses it, and every rule was judged on the cluster itself.
    Allowed,
    /// No rule refuses it as far as that is known without the cluster.
    SoFar,
    /// The count cannot change by it, so that no rule looks at it.
    Unchanged,
    /// The cluster is not in the manifests any more. Rules judge no deletion.
    Removed,
}

/// One cluster of the manifests, judged.
#[derive(Clone, Debug)]
pub(crate) struct Checked {
    /// Its namespace.
    pub(crate) namespace: String,
    /// Its name.
    pub(crate) name: String,
    /// The place of its count, or else of its document.
    pub(crate) place: Place,
    /// The count before. `None` for a cluster that is judged as a new one.
    pub(crate) from: Option<i64>,
    /// The written count.
    pub(crate) to: Option<i64>,
    /// What it was compared with.
    pub(crate) basis: Basis,
    /// The result.
    pub(crate) said: Said,
    /// The findings that the writer reads.
    pub(crate) findings: Vec<Finding>,
    /// The rules whose refusal nothing in the cluster lifts, but an override.
    pub(crate) certain: Vec<RuleId>,
    /// The rules that could not be judged, each with the reason.
    pub(crate) not_judged: Vec<(RuleId, String)>,
    /// Facts that are worth knowing and no failure.
    pub(crate) notes: Vec<String>,
}

impl Checked {
    /// Returns the findings that refuse the change.
    pub(crate) fn denials(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| finding.severity == Severity::Deny)
    }

    /// Returns `namespace/name`.
    pub(crate) fn cluster(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// Returns the rules that could not be judged, by the reason.
    pub(crate) fn unjudged(&self) -> BTreeMap<&str, Vec<&'static str>> {
        let mut by_reason: BTreeMap<&str, Vec<&'static str>> = BTreeMap::new();
        for (rule, why) in &self.not_judged {
            by_reason.entry(why).or_default().push(rule.as_str());
        }
        by_reason
    }
}

/// Everything that came of one check.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    /// The clusters, in the order of the files.
    pub(crate) clusters: Vec<Checked>,
    /// The inputs that cannot be judged.
    pub(crate) problems: Vec<Problem>,
    /// What is worth a word and no error: what could not be read of the other revision, which this one
    /// may mend, and records that are of no manifest.
    pub(crate) notes: Vec<Problem>,
    /// The documents that are no objects of Kubernetes.
    pub(crate) strangers: Vec<Place>,
    /// Files that were read.
    pub(crate) files: usize,
    /// Documents of other kinds.
    pub(crate) others: usize,
    /// Policies that were read.
    pub(crate) policies: usize,
}

impl Report {
    /// Returns the number of clusters with this result.
    pub(crate) fn count(&self, said: Said) -> usize {
        self.clusters.iter().filter(|it| it.said == said).count()
    }
}
