//! The writers of an object's fields, by its managed fields.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

/// The field manager of a client-go program that sets none: the name of its binary (client-go
/// `rest.DefaultKubernetesUserAgent`).
const OPERATOR_MANAGER: &str = "postgres-operator";

/// The writers of a StatefulSet's fields (managedFields), and those among them that are the
/// operator.
pub(super) struct Writers<'a> {
    entries: Vec<(&'a str, &'a ManagedFieldsEntry)>,
    operators: BTreeSet<&'a str>,
}

impl<'a> Writers<'a> {
    /// Reads the managed fields of an object.
    ///
    /// The operator writes under the name of its binary, which packagers may change. It is also the
    /// creator of the object, and so the owner of `spec.selector`, which is immutable.
    pub(super) fn of(metadata: &'a ObjectMeta) -> Self {
        let entries: Vec<_> = metadata
            .managed_fields
            .iter()
            .flatten()
            .filter(|entry| matches!(entry.subresource.as_deref(), None | Some("" | "scale")))
            .map(|entry| (entry.manager.as_deref().unwrap_or(""), entry))
            .collect();
        let operators = entries
            .iter()
            .filter(|(manager, entry)| {
                *manager == OPERATOR_MANAGER || field(entry, "/f:spec/f:selector").is_some()
            })
            .map(|(manager, _)| *manager)
            .collect();
        Self { entries, operators }
    }

    /// Returns the annotations of the object, or of its pod template (`kubectl rollout restart`),
    /// that another writer than the operator set, as (key, manager).
    pub(super) fn foreign_annotations(&self) -> Vec<(String, String)> {
        let owned = |entry: &ManagedFieldsEntry| -> Vec<String> {
            ["/f:metadata/f:annotations", "/f:spec/f:template/f:metadata/f:annotations"]
                .into_iter()
                .filter_map(|place| field(entry, place)?.as_object())
                .flat_map(|keys| keys.keys())
                .filter_map(|key| key.strip_prefix("f:").map(str::to_owned))
                .collect()
        };
        let mut foreign = BTreeMap::new();
        for (manager, entry) in &self.entries {
            for key in owned(entry) {
                if !self.operators.contains(manager) {
                    foreign.insert(key, (*manager).to_owned());
                }
            }
        }
        for (manager, entry) in &self.entries {
            if self.operators.contains(manager) {
                for key in owned(entry) {
                    foreign.remove(&key);
                }
            }
        }
        foreign.into_iter().collect()
    }

    /// Returns the time of the operator's last write of the template.
    pub(super) fn written(&self) -> Option<Timestamp> {
        let of_operator = self.entries.iter().filter(|(manager, entry)| {
            self.operators.contains(manager) && field(entry, "/f:spec/f:template").is_some()
        });
        of_operator.filter_map(|(_, entry)| Some(entry.time.as_ref()?.0)).max()
    }

    /// Returns the writer of `spec.replicas`, where the operator is not among its writers.
    pub(super) fn scaled_by(&self) -> Option<String> {
        let mut writers = self
            .entries
            .iter()
            .filter(|(_, entry)| field(entry, "/f:spec/f:replicas").is_some())
            .map(|(manager, _)| *manager)
            .peekable();
        let first = writers.peek().map(|manager| (*manager).to_owned());
        if writers.any(|manager| self.operators.contains(manager)) { None } else { first }
    }
}

fn field<'a>(entry: &'a ManagedFieldsEntry, place: &str) -> Option<&'a Value> {
    entry.fields_v1.as_ref()?.0.pointer(place)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::apps::v1::StatefulSet;
    use serde_json::json;

    use super::*;
    use crate::objects::stateful_set;

    fn set(object: Value) -> StatefulSet {
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn writer_of_the_replicas_is_named_unless_it_is_the_operator() {
        let entry = |manager: &str, subresource: Option<&str>, spec: Value| {
            json!({"manager": manager, "operation": "Update", "subresource": subresource,
                "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": spec}})
        };
        let replicas = || json!({"f:replicas": {}});
        let created = || json!({"f:replicas": {}, "f:selector": {}});
        for (name, entries, want) in [
            ("no managed fields", json!(null), None),
            ("the operator", json!([entry("postgres-operator", None, replicas())]), None),
            ("a renamed operator", json!([entry("manager", None, created())]), None),
            (
                "kubectl scale",
                json!([
                    entry("postgres-operator", None, json!({"f:selector": {}})),
                    entry("kubectl", Some("scale"), replicas())
                ]),
                Some("kubectl"),
            ),
            (
                "the operator agreed since",
                json!([
                    entry("kubectl", Some("scale"), replicas()),
                    entry("postgres-operator", None, created())
                ]),
                None,
            ),
            ("a status", json!([entry("x", Some("status"), replicas())]), None),
        ] {
            let object = set(json!({"metadata": {"managedFields": entries}}));
            assert_eq!(stateful_set(&object).scaled_by.as_deref(), want, "{name}");
        }
    }

    #[test]
    fn last_write_of_the_template_is_the_operators() {
        let entry = |manager: &str, time: &str, spec: Value| {
            json!({"manager": manager, "operation": "Update", "time": time,
                "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": spec}})
        };
        let template = || json!({"f:template": {}});
        let object = set(json!({"metadata": {"managedFields": [
            entry("postgres-operator", "2026-11-24T10:00:00Z", template()),
            entry("kubectl", "2026-11-24T11:00:00Z", template()),
            entry("postgres-operator", "2026-11-24T12:00:00Z", json!({"f:replicas": {}})),
        ]}}));
        let want = "2026-11-24T10:00:00Z".parse().unwrap();
        assert_eq!(stateful_set(&object).written, Some(want));
    }

    #[test]
    fn annotations_of_other_writers_than_the_operator_are_foreign() {
        let annotations = |keys: &[&str]| -> Value {
            let mut fields = serde_json::Map::from_iter([(".".to_owned(), json!({}))]);
            fields.extend(keys.iter().map(|key| (format!("f:{key}"), json!({}))));
            fields.into()
        };
        let entry = |manager: &str, keys: &[&str], spec: Value| {
            json!({"manager": manager, "operation": "Update", "fieldsType": "FieldsV1",
                "fieldsV1": {"f:metadata": {"f:annotations": annotations(keys)}, "f:spec": spec}})
        };
        let status = json!({"manager": "kube-controller-manager", "subresource": "status",
            "fieldsV1": {"f:metadata": {"f:annotations": {"f:not-counted": {}}}}});
        let restarted = "kubectl.kubernetes.io/restartedAt";
        for (name, entries, want) in [
            ("no managed fields", json!(null), vec![]),
            (
                "the operator alone",
                json!([entry("postgres-operator", &["own"], json!({})), status]),
                vec![],
            ),
            (
                "kubectl annotate",
                json!([
                    entry("postgres-operator", &["own"], json!({})),
                    entry("kubectl-annotate", &[restarted], json!({}))
                ]),
                vec![(restarted, "kubectl-annotate")],
            ),
            (
                "kubectl rollout restart, which writes to the pod template",
                json!([
                    entry("postgres-operator", &["own"], json!({})),
                    entry(
                        "kubectl-rollout",
                        &[],
                        json!({"f:template": {"f:metadata": {"f:annotations": annotations(&[restarted])}}})
                    )
                ]),
                vec![(restarted, "kubectl-rollout")],
            ),
            (
                "an operator by another name, known by the creator's own field",
                json!([entry("zalando-pg", &["own"], json!({"f:selector": {}, "f:replicas": {}}))]),
                vec![],
            ),
            (
                "both wrote it",
                json!([
                    entry("argocd", &["shared", "alien"], json!({})),
                    entry("postgres-operator", &["shared"], json!({}))
                ]),
                vec![("alien", "argocd")],
            ),
        ] {
            let object = set(json!({"metadata": {"managedFields": entries}}));
            let found = stateful_set(&object).foreign_annotations;
            let found: Vec<_> =
                found.iter().map(|(key, manager)| (key.as_str(), manager.as_str())).collect();
            assert_eq!(found, want, "{name}");
        }
    }
}
