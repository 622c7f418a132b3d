//! A change of the count together with other edits in the same write.

use std::collections::BTreeMap;

use json_patch::PatchOperation;
use serde_json::Value;

use crate::assessment::Assessment;
use crate::change::{Change, Direction};
use crate::evidence::Evidence;
use crate::facts::{Facts, Seen};
use crate::operator::compared::{Difference, Place};
use crate::policy::Policies;
use crate::postgresql::{Postgresql, shapes};
use crate::remedy::Remedy;
use crate::rule_id::RuleId;
use crate::rules::applies::{Applies, DOWN, UP};
use crate::rules::reads::{self, Read};
use crate::rules::{Kind, Rule, inputs, set};
use crate::verdict::{Finding, Outcome, Severity};

/// The number of edits that are shown.
const SHOWN: usize = 8;
/// The number of characters of a value that are shown.
const WIDTH: usize = 60;

/// Parts of the spec whose values are never shown: they may hold credentials.
const SECRET_PARTS: &[&str] = &[
    "/clone",
    "/env",
    "/envFrom",
    "/initContainers",
    "/init_containers",
    "/podAnnotations",
    "/sidecars",
    "/standby",
];
/// Words in a path that make its value a secret wherever it stands.
const SECRET_WORDS: &[&str] =
    &["command", "conninfo", "credential", "key", "pass", "pwd", "secret", "token", "url"];

pub(super) const MIXED_CHANGE: Rule = Rule {
    id: RuleId::MIXED_CHANGE,
    title: "the same write also changes something else",
    applies: Applies::on(&[DOWN.to_at_least(1), UP.to_at_least(1)]),
    default: "down: deny if it shapes the pods, else warn; up: warn",
    kind: Kind::Bound,
    page: "\
The operator carries out one write in one go, and the parts get in each other's way.

A shrink together with anything that shapes the StatefulSet: the operator deletes the StatefulSet and
creates it again with the smaller count, and on this path it does not try to move the leader at all
(`replace`, pkg/cluster/resources.go). Together with anything that renews the pods: it waits up to 20
minutes for pods that the shrink has deleted, then gives up, and the others keep the old shape (#2440, #1556
of zalando/postgres-operator). A growth with such an edit: the renewal waits until the new member is built,
or runs while it is (#1362).

Other parts (users, databases, most parameters) only make one write do two things: warned of.

Signals: the JSON Patch between the old and the new spec, the count left out, against one table of the parts
that shape pods, by the operator's version (`generateStatefulSet`, pkg/cluster/k8sres.go;
`compareStatefulSetWith` and `compareContainers`, pkg/cluster/cluster.go). An operator of unknown version may
compare the parts of all. Labels and annotations of the same write count where the operator hands them down
(inherited_labels, inherited_annotations, downscaler_annotations) and does not ignore them
(ignored_annotations). Values that may be secrets are not shown. Where the StatefulSet
already runs no more than the new count no pod goes, and the rule only warns.

Blind spots: a sidecar that was merely reordered counts as changed, as it does for the operator.

Way out: two commits. First the count, wait for it (`kubectl pgscale wait NAME`), then the rest.",
    reads: &[inputs::other_edits, inputs::replicas],
    needs: reads::COUNT.and(&[Read::StatefulSet]),
    check: mixed_change,
    #[cfg(any(test, feature = "testing"))]
    table: tests::mixed_change,
};

fn mixed_change(facts: &Assessment<'_>, _: &Policies) -> Outcome {
    let direction = facts.direction();
    // Where only the limits are in doubt, the count is the same by all evidence.
    let same = facts.from() == Some(facts.to());
    if same {
        return Outcome::NotApplicable;
    }
    let mut edits = described(&facts.change);
    let mut shaped = shaped(facts);
    let mut unknown = None;
    match handed_down(facts) {
        Ok(handed) => {
            shaped.extend(handed.iter().map(|edit| edit.field.clone()));
            edits.extend(handed);
        }
        Err(why) => unknown = Some(why),
    }
    if let Some(why) = unknown.filter(|_| shaped.is_empty()) {
        return Outcome::Unknown(why);
    }
    if edits.is_empty() {
        return Outcome::Pass;
    }
    let stays_as_it_is = match &facts.stateful_set {
        Seen::Known(set) => set.replicas <= facts.to(),
        Seen::Absent | Seen::Unreadable(_) => false,
    };
    let severity = if direction == Direction::Down && !shaped.is_empty() && !stays_as_it_is {
        Severity::Deny
    } else {
        Severity::Warn
    };
    let from = facts.from().unwrap_or(0);
    let to = facts.to();
    let message = match (shaped.is_empty(), direction) {
        (true, _) => {
            format!("the write that changes {from} to {to} instances also changes other parts")
        }
        (false, Direction::Down) => format!(
            "the write that changes {from} to {to} instances also changes {}: the operator would replace or \
             renew the pods instead of handing the leader over",
            shaped.join(", ")
        ),
        (false, _) => format!(
            "the write that changes {from} to {to} instances also changes {}: the operator would renew the \
             pods while new members are built",
            shaped.join(", ")
        ),
    };
    let mut finding = Finding::new(MIXED_CHANGE.id, severity, message);
    let more = edits.len().saturating_sub(SHOWN);
    finding.evidence.extend(edits.into_iter().take(SHOWN).map(|edit| edit.evidence(facts)));
    if more > 0 {
        finding = finding.because(facts.postgresql_source(), "other edits", more);
    }
    Outcome::Found(
        finding.remedy(
            Remedy::note("two commits, the count first and the rest when it is done")
                .and(set(facts, facts.requested())),
        ),
    )
}

/// Returns the parts that differ and shape the pods, as paths in the object.
fn shaped(facts: &Facts) -> Vec<String> {
    let Some(old) = &facts.change.old else { return Vec::new() };
    let major = facts.operator.known().and_then(|operator| operator.major);
    shapes::shaped(&old.spec, &facts.change.new.spec, major)
}

/// Returns the edits of labels and annotations that the operator hands down to the StatefulSet or
/// its pods.
///
/// # Errors
/// The reason for which it is not known what the operator hands down.
fn handed_down(facts: &Facts) -> Result<Vec<Edit>, String> {
    let Change { old: Some(old), new, .. } = &facts.change else { return Ok(Vec::new()) };
    if old.labels == new.labels && old.annotations == new.annotations {
        return Ok(Vec::new());
    }
    let operator = match &facts.operator {
        Seen::Known(operator) => operator,
        Seen::Absent => return Ok(Vec::new()),
        Seen::Unreadable(why) => {
            return Err(format!(
                "whether the operator hands the edited labels and annotations down is not known: its \
                 settings could not be read ({why})"
            ));
        }
    };
    let relabelled = Postgresql {
        labels: new.labels.clone(),
        annotations: new.annotations.clone(),
        ..old.clone()
    };
    let settings = &operator.settings;
    let (before, after) = (settings.compared(old)?, settings.compared(&relabelled)?);
    let found = before.differences(&after, operator.certainly_ignored());
    let edits: BTreeMap<String, String> = found
        .into_iter()
        .filter_map(|Difference { place, is, becomes }| {
            let annotation = match place {
                Place::PodLabel(key) if !secret(&key) => {
                    let text = |value: Option<String>| value.unwrap_or_else(|| "unset".to_owned());
                    let field = format!("metadata.labels.{key}");
                    return Some((field, format!("{} → {}", text(is), text(becomes))));
                }
                Place::PodLabel(key) => format!("metadata.labels.{key}"),
                Place::Annotation(key) | Place::PodAnnotation(key) => {
                    format!("metadata.annotations.{key}")
                }
                Place::GracePeriod
                | Place::PodManagement
                | Place::Retention
                | Place::ServiceAccount => return None,
            };
            Some((annotation, hidden(is.is_some(), becomes.is_some()).to_owned()))
        })
        .collect();
    Ok(edits.into_iter().map(|(field, value)| Edit { field, value }).collect())
}

/// Returns the words for a value that is not shown.
fn hidden(was: bool, becomes: bool) -> &'static str {
    match (was, becomes) {
        (false, true) => "added, not shown",
        (_, false) => "removed, not shown",
        (true, true) => "changed, not shown",
    }
}

/// One edit, without secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Edit {
    /// The part that is edited, as a JSON pointer.
    field: String,
    /// `from → to`, or that it is not shown.
    value: String,
}

impl Edit {
    /// Returns the edit as evidence.
    pub(super) fn evidence(&self, facts: &Facts) -> Evidence {
        Evidence::new(facts.postgresql_source(), &self.field, &self.value)
    }
}

/// Returns every edit of the spec but that of the count, and of what the operator hands down. The
/// second is the reason for which the latter is not known.
pub(super) fn all_edits(facts: &Facts) -> (Vec<Edit>, Option<String>) {
    let mut edits = described(&facts.change);
    let unknown = match handed_down(facts) {
        Ok(handed) => {
            edits.extend(handed);
            None
        }
        Err(why) => Some(why),
    };
    (edits, unknown)
}

/// Returns every edit of the spec but that of the count.
fn described(change: &Change) -> Vec<Edit> {
    let Some(old) = &change.old else { return Vec::new() };
    // Each operation is relative to the result of the ones before it, array indices above all.
    let mut before = old.spec.clone();
    change
        .other_edits()
        .into_iter()
        .map(|edit| {
            let path = edit.path().to_string();
            let was = before.pointer(&path).cloned();
            // An addition to a list moves what is at its place, and replaces nothing.
            let (was, becomes) = match &edit {
                PatchOperation::Add(add) => (None, Some(&add.value)),
                PatchOperation::Replace(replace) => (was, Some(&replace.value)),
                // A patch made by diffing holds none of the other operations.
                PatchOperation::Copy(_)
                | PatchOperation::Move(_)
                | PatchOperation::Remove(_)
                | PatchOperation::Test(_) => (was, None),
            };
            let value = if secret(&path) {
                hidden(was.is_some(), becomes.is_some()).to_owned()
            } else {
                let unset = || "unset".to_owned();
                let was = was.as_ref().map_or_else(unset, shown);
                format!("{was} → {}", becomes.map_or_else(unset, shown))
            };
            // A patch that comes from a diff applies. If it did not, the later values would only be
            // less exact.
            let _ = json_patch::patch(&mut before, std::slice::from_ref(&edit));
            Edit { field: format!("/spec{path}"), value }
        })
        .collect()
}

fn secret(path: &str) -> bool {
    let lower = path.to_ascii_lowercase();
    SECRET_PARTS.iter().any(|part| {
        path.strip_prefix(part).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }) || SECRET_WORDS.iter().any(|word| lower.contains(word))
}

/// Returns a value on one line.
///
/// The content of a map or a list may be secret and is long: only its kind is shown.
fn shown(value: &Value) -> String {
    match value {
        Value::Object(_) => "{…}".to_owned(),
        Value::Array(_) => "[…]".to_owned(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            let text = value.to_string();
            if text.chars().count() > WIDTH {
                format!("{}…", text.chars().take(WIDTH).collect::<String>())
            } else {
                text
            }
        }
    }
}

#[cfg(any(test, feature = "testing"))]
#[cfg_attr(not(test), allow(dead_code, unused_imports, reason = "only tables are used"))]
#[allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::wildcard_imports,
    reason = "a table is a test"
)]
mod tests;
