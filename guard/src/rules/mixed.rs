//! A change of the count together with other edits in the same write.

use json_patch::PatchOperation;
use serde_json::Value;

use crate::assessment::Assessment;
use crate::change::{Change, Direction};
use crate::evidence::Evidence;
use crate::facts::{Facts, Seen};
use crate::policy::Policies;
use crate::postgresql::shapes;
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
compare the parts of all. Values that may be secrets are not shown. Where the StatefulSet
already runs no more than the new count no pod goes, and the rule only warns.

Blind spots: edits of labels and annotations that the operator is configured to hand down to the pods
(`inherited_labels`, `inherited_annotations`) are not in the spec. A sidecar that was merely reordered counts
as changed, as it does for the operator.

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
    let edits = described(&facts.change);
    if edits.is_empty() {
        return Outcome::Pass;
    }
    let shaped = shaped(facts);
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

/// Returns every edit but that of the count.
pub(super) fn described(change: &Change) -> Vec<Edit> {
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
            let value = match (secret(&path), was, becomes) {
                (true, None, Some(_)) => "added, not shown".to_owned(),
                (true, _, None) => "removed, not shown".to_owned(),
                (true, Some(_), Some(_)) => "changed, not shown".to_owned(),
                (false, was, becomes) => {
                    let unset = || "unset".to_owned();
                    let was = was.as_ref().map_or_else(unset, shown);
                    format!("{was} → {}", becomes.map_or_else(unset, shown))
                }
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
mod tests {
    use serde_json::json;

    use super::*;
    use crate::rules::testing::{Want, healthy, table, text};

    /// Returns facts in which another controller is named, and no operator of that name is found:
    /// its limits may make the count smaller.
    fn in_doubt(mut facts: Facts) -> Facts {
        let key = crate::postgresql::CONTROLLER_ANNOTATION.to_owned();
        facts.change.new.annotations.insert(key, "another".to_owned());
        facts.operator = Seen::Absent;
        facts
    }

    pub(super) fn mixed_change() {
        let volume =
            |from, to| healthy(from, to).editing(|spec| spec["volume"]["size"] = json!("2Gi"));
        let users = |from, to| healthy(from, to).editing(|spec| spec["users"] = json!({"app": []}));
        let of_version = |major, part: &'static str| {
            let mut facts = healthy(5, 3).editing(move |spec| spec[part] = json!(["x"]));
            if let Seen::Known(operator) = &mut facts.operator {
                operator.major = major;
            }
            facts
        };
        let parameter = |name: &str| {
            let name = name.to_owned();
            healthy(5, 3).editing(move |spec| spec["postgresql"]["parameters"] = json!({name: "x"}))
        };
        table(
            "mixed-change",
            vec![
                ("the count alone", healthy(5, 3), Want::Pass),
                ("the count alone, growing", healthy(3, 5), Want::Pass),
                ("a larger volume", volume(5, 3), Want::Deny),
                ("a larger volume, growing", volume(3, 5), Want::Warn),
                (
                    "another controller and a larger volume, its limits not known",
                    in_doubt(volume(3, 3)),
                    Want::NotApplicable,
                ),
                ("a user", users(5, 3), Want::Warn),
                ("a user, growing", users(3, 5), Want::Warn),
                (
                    "a parameter of the pods' environment",
                    parameter("shared_preload_libraries"),
                    Want::Deny,
                ),
                (
                    "a parameter of Patroni's configuration",
                    parameter("max_connections"),
                    Want::Warn,
                ),
                (
                    "Patroni's own",
                    healthy(5, 3).editing(|spec| {
                        spec["patroni"] = json!({"ttl": 20, "pg_hba": []});
                    }),
                    Want::Warn,
                ),
                (
                    "an empty list is no edit of the pods",
                    healthy(5, 3).editing(|spec| {
                        spec["sidecars"] = json!([]);
                    }),
                    Want::Warn,
                ),
                (
                    "the StatefulSet runs no more than that",
                    { volume(5, 3).with_stateful_set(|set| set.replicas = 3) },
                    Want::Warn,
                ),
                ("sources of variables, version 1", of_version(Some(1), "envFrom"), Want::Warn),
                ("sources of variables, version 2", of_version(Some(2), "envFrom"), Want::Deny),
                ("sources of variables, some version", of_version(None, "envFrom"), Want::Deny),
                ("a probe, version 1", of_version(Some(1), "livenessProbe"), Want::Warn),
                ("a probe, version 2", of_version(Some(2), "livenessProbe"), Want::Deny),
                ("another scheduler", of_version(Some(2), "schedulerName"), Want::Warn),
                ("it cannot be seen", volume(5, 3).without_sight_of_the_set(), Want::Deny),
                ("zero has its own rule", volume(5, 0), Want::NotApplicable),
                ("the count stays", volume(5, 5), Want::NotApplicable),
            ],
        );
        let id = "mixed-change";
        insta::assert_snapshot!(text(id, &volume(5, 3).editing(|spec| {
            spec["resources"] = json!({"requests": {"cpu": "1"}});
            spec["teamId"] = json!("other");
            spec["databases"] = json!({"app": "owner"});
        })), @r#"
        mixed-change: the write that changes 5 to 3 instances also changes spec.resources, spec.teamId, spec.volume.size: the operator would replace or renew the pods instead of handing the leader over
          postgresql/acid-a: /spec/databases: unset → {…}; /spec/resources: unset → {…}
          postgresql/acid-a: /spec/teamId: "acid" → "other"; /spec/volume/size: "1Gi" → "2Gi"
          Try: two commits, the count first and the rest when it is done
              kubectl pgscale set acid-a 3 -n db
        "#);
        insta::assert_snapshot!(text(id, &users(3, 5)), @"
        mixed-change: the write that changes 3 to 5 instances also changes other parts
          postgresql/acid-a: /spec/users: unset → {…}
          Try: two commits, the count first and the rest when it is done
              kubectl pgscale set acid-a 5 -n db
        ");
    }

    #[test]
    fn secrets_are_never_shown() {
        let marker = "hunter2";
        let facts = healthy(5, 3).editing(|spec| {
            spec["env"] = json!([{"name": "PGPASSWORD", "value": marker}]);
            spec["sidecars"] = json!([{"name": "s", "env": [{"name": "A", "value": marker}]}]);
            spec["clone"] = json!({"cluster": marker, "s3_secret_access_key": marker});
            spec["standby"] = json!({"standby_host": marker});
            spec["podAnnotations"] = json!({"a": marker});
            spec["postgresql"]["parameters"] = json!({"archive_command": marker});
            spec["users"] = json!({marker.to_owned(): [marker]});
        });
        let edits = shown_edits(&facts);
        assert_eq!(edits.len(), 7);
        for edit in edits {
            assert!(!edit.contains(marker), "{edit}");
        }
        let one_by_one = healthy(5, 3).editing(|spec| {
            spec["postgresql"]["parameters"] = json!({"max_connections": "100"});
        });
        let mut later = one_by_one.clone();
        later.change.old = Some(crate::postgresql::Postgresql {
            spec: one_by_one.change.new.spec.clone(),
            ..one_by_one.change.new.clone()
        });
        later.change.new.spec["postgresql"]["parameters"] = json!({
            "max_connections": "200", "ssl_passphrase_command": marker, "primary_conninfo": marker});
        insta::assert_snapshot!(shown_edits(&later).join("\n"), @r#"
        /spec/postgresql/parameters/max_connections: "100" → "200"
        /spec/postgresql/parameters/primary_conninfo: added, not shown
        /spec/postgresql/parameters/ssl_passphrase_command: added, not shown
        "#);
    }

    fn shown_edits(facts: &Facts) -> Vec<String> {
        let edits = described(&facts.change);
        edits.iter().map(|edit| format!("{}: {}", edit.field, edit.value)).collect()
    }

    #[test]
    fn values_are_shown_as_each_edit_found_them() {
        let mut facts = healthy(5, 3);
        if let Some(old) = &mut facts.change.old {
            old.spec["tolerations"] = json!(["a", "b", "c"]);
        }
        facts.change.new.spec["tolerations"] = json!(["c"]);
        facts.change.new.spec["dockerImage"] = json!("x".repeat(200));
        insta::assert_snapshot!(shown_edits(&facts).join("\n"), @r#"
        /spec/dockerImage: unset → "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…
        /spec/tolerations/0: "a" → "c"
        /spec/tolerations/1: "b" → unset
        /spec/tolerations/1: "c" → unset
        "#);
    }
}
