//! The times of the last writes of a `postgresql` object, by its managed fields.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, Time};
use k8s_openapi::jiff::Timestamp;

use crate::postgresql::shapes::shapes_or_counts;

/// The key of labels in `f:metadata`.
pub const LABELS: &str = "f:labels";
/// The key of annotations in `f:metadata`.
pub const ANNOTATIONS: &str = "f:annotations";
/// The key of the annotation with which `kubectl apply` marks everything that it writes.
pub const LAST_APPLIED: &str = "f:kubectl.kubernetes.io/last-applied-configuration";

/// The times of the last writes. Kubernetes keeps whole seconds, rounded down.
///
/// A writer's time is that of its last change of any field. So an edit of labels alone moves the
/// time of a writer that once wrote the spec. The operator acts on no such edit, and on every edit of
/// an annotation (`postgresqlUpdate`, pkg/controller/postgresql.go).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Writes {
    /// The last write of a writer who owns the count or a part of the spec that shapes the pods. The
    /// operator acts on it.
    pub spec: Option<Timestamp>,
    /// The last write of such a writer who may have edited nothing but labels.
    pub spec_or_labels: Option<Timestamp>,
    /// The last write of the status, which only the operator writes (`SetPostgresCRDStatus`,
    /// pkg/util/k8sutil/k8sutil.go).
    pub status: Option<Timestamp>,
}

impl Writes {
    /// Reads the entries of an object.
    pub(super) fn of(entries: &[ManagedFieldsEntry]) -> Self {
        let mut writes = Self::default();
        for entry in entries {
            let fields = entry.fields_v1.as_ref();
            let spec = fields.and_then(|fields| fields.0["f:spec"].as_object());
            let metadata = fields.map(|fields| &fields.0["f:metadata"]);
            let owned = Owned {
                shaping: spec.is_some_and(|spec| spec.keys().any(|key| Owned::shapes(key))),
                labels: metadata.is_some_and(|it| it.get(LABELS).is_some()),
                last_applied: metadata
                    .is_some_and(|it| it[ANNOTATIONS].get(LAST_APPLIED).is_some()),
            };
            let time = entry.time.as_ref().map(|Time(time)| *time);
            writes.add(entry.subresource.as_deref(), time, owned);
        }
        writes
    }

    /// Adds one entry: the subresource through which it was written, its time, and its fields.
    pub fn add(&mut self, subresource: Option<&str>, time: Option<Timestamp>, owned: Owned) {
        let newest = match subresource {
            Some("status") => &mut self.status,
            None | Some("" | "scale") if !owned.shaping => return,
            None | Some("" | "scale") if owned.labels && !owned.last_applied => {
                &mut self.spec_or_labels
            }
            None | Some("" | "scale") => &mut self.spec,
            Some(_) => return,
        };
        *newest = time.max(*newest);
    }
}

/// The fields of one entry, as far as they are looked at.
#[derive(Clone, Copy, Debug, Default)]
pub struct Owned {
    /// The count, or a part of the spec that shapes the pods.
    pub shaping: bool,
    /// Labels.
    pub labels: bool,
    /// The mark of `kubectl apply`, which is another annotation after each edit.
    pub last_applied: bool,
}

impl Owned {
    /// Returns whether a key of `f:spec` names the count or a part that shapes the pods.
    pub fn shapes(key: &str) -> bool {
        key.strip_prefix("f:").is_some_and(shapes_or_counts)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::postgresql::Postgresql;

    #[test]
    fn newest_writes_of_spec_and_status_are_found() {
        let at = |second: u32| format!("2026-11-24T10:00:{second:02}Z");
        let entry = |subresource: Option<&str>, second: u32, fields: Value| {
            json!({"manager": "m", "operation": "Update", "subresource": subresource,
                "time": at(second), "fieldsType": "FieldsV1", "fieldsV1": fields})
        };
        let spec = |field: &str| json!({"f:spec": {".": {}, field: {}}});
        let status = || json!({"f:status": {"f:PostgresClusterStatus": {}}});
        let time = |second: u32| Some(at(second).parse::<Timestamp>().unwrap());
        let with = |metadata: Value| json!({"f:spec": {"f:sidecars": {}}, "f:metadata": metadata});
        let labels = || json!({".": {}, "f:team": {}});
        let applied = || json!({LAST_APPLIED: {}});
        for (name, entries, want) in [
            ("no managed fields", json!(null), (None, None, None)),
            (
                "the newest of each",
                json!([
                    entry(None, 1, spec("f:numberOfInstances")),
                    entry(None, 5, spec("f:tolerations")),
                    entry(Some("status"), 3, status()),
                    entry(None, 4, spec("f:sidecars")),
                ]),
                (time(5), None, time(3)),
            ),
            (
                "through scale",
                json!([entry(Some("scale"), 2, spec("f:numberOfInstances"))]),
                (time(2), None, None),
            ),
            ("users shape nothing", json!([entry(None, 2, spec("f:users"))]), (None, None, None)),
            (
                "labels alone",
                json!([entry(None, 2, json!({"f:metadata": {"f:labels": labels()}}))]),
                (None, None, None),
            ),
            (
                "perhaps labels alone",
                json!([entry(None, 2, with(json!({"f:labels": labels()})))]),
                (None, time(2), None),
            ),
            (
                "kubectl apply, which marks each edit",
                json!([entry(
                    None,
                    2,
                    with(json!({"f:labels": labels(), "f:annotations": applied()}))
                )]),
                (time(2), None, None),
            ),
            (
                "fields of the status",
                json!([entry(Some("status"), 2, spec("f:tolerations"))]),
                (None, None, time(2)),
            ),
        ] {
            let object = json!({"metadata": {"managedFields": entries}});
            let writes = Postgresql::of(&object).unwrap().writes;
            let found = (writes.spec, writes.spec_or_labels, writes.status);
            assert_eq!(found, want, "{name}");
        }
    }
}
