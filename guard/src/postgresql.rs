//! The part of the `postgresql` resource (`acid.zalan.do/v1`) that the guard reads.
//!
//! The resource is foreign and large, so it is read from plain JSON. Unknown fields stay in
//! [`Postgresql::spec`], and this workspace never writes them back. Shape: the operator's
//! `manifests/postgresql.crd.yaml`.

#![expect(
    clippy::indexing_slicing,
    reason = "only JSON values are indexed: a missing value reads as null"
)]

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

pub mod shapes;
pub mod writes;

pub use writes::Writes;

/// API group of the resource.
pub const GROUP: &str = "acid.zalan.do";
/// Its only served version.
pub const VERSION: &str = "v1";
/// Its plural, which cannot be derived from the kind.
pub const PLURAL: &str = "postgresqls";
/// Its kind, in lower case upstream.
pub const KIND: &str = "postgresql";
/// The annotation by which a cluster chooses one of several operators.
pub const CONTROLLER_ANNOTATION: &str = "acid.zalan.do/controller";
/// Variables of `spec.env` that make operator 2.0 treat a cluster as a standby of another
/// (`isStandbyCluster`, pkg/cluster/util.go).
pub const STANDBY_VARIABLES: [&str; 4] = [
    "STANDBY_WALE_S3_PREFIX",
    "STANDBY_WALE_GS_PREFIX",
    "STANDBY_WALE_GSC_PREFIX",
    "STANDBY_WALE_SWIFT_PREFIX",
];

/// Keys of `spec` that a rule reads, whatever else a write changes.
///
/// Everything else in the spec is only compared between the old and the new object
/// ([`Change::other_edits`](crate::Change::other_edits)). So a caller that limits its decoding may
/// leave out a part that is not listed here and is the same in both. A property of the rules keeps
/// the list complete.
pub const JUDGED_PARTS: [&str; 18] = [
    "enableReplicaConnectionPooler",
    "env",
    "envFrom",
    "initContainers",
    "init_containers",
    "maintenanceWindows",
    "numberOfInstances",
    "patroni",
    "podAnnotations",
    "podPriorityClassName",
    "pod_priority_class_name",
    "postgresql",
    "resources",
    "sidecars",
    "standby",
    "streams",
    "teamId",
    "volume",
];

/// One `postgresql` object, reduced to the parts that a scale decision may look at.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Postgresql {
    /// Namespace.
    pub namespace: String,
    /// Name, which is also the name of its StatefulSet and the prefix of its pods.
    pub name: String,
    /// Identity across delete and create. Empty on a CREATE that has none yet.
    pub uid: String,
    /// Version for a conditional write. Empty on CREATE.
    pub resource_version: String,
    /// Labels, by which policies select.
    pub labels: BTreeMap<String, String>,
    /// Annotations. Two of them change the effective count.
    pub annotations: BTreeMap<String, String>,
    /// Its time of creation.
    pub created: Option<Timestamp>,
    /// It is being deleted and waits for its finalizers.
    pub terminating: bool,
    /// `spec.numberOfInstances`. `None` when the field is missing: the CRD forbids that, but old
    /// objects may lack it.
    pub instances: Option<i64>,
    /// `status.PostgresClusterStatus`, a word of the operator that proves little.
    pub status: Option<String>,
    /// `managedFields` entries that own `spec.numberOfInstances`: (manager, operation, time).
    pub count_managers: Vec<(String, String, Option<Timestamp>)>,
    /// The times of the last writes, by `managedFields`. A caller that limits its decoding may leave
    /// them out of an object that is not stored yet.
    pub writes: Writes,
    /// The spec, for comparing two of them: the whole, or without parts that are the same in both
    /// and not among [`JUDGED_PARTS`].
    pub spec: Value,
}

/// The reason for which an object is no `postgresql` that can be judged.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum Malformed {
    /// The metadata could not be decoded.
    #[error("failed to decode the metadata of a postgresql object: {0}")]
    Metadata(String),
    /// `spec.numberOfInstances` is not a whole number.
    #[error("spec.numberOfInstances is {0}, which is not a whole number of instances")]
    Count(String),
}

impl Postgresql {
    /// Reads an object as the API server stores it. Absent parts are no error, wrong types are.
    pub fn of(object: &Value) -> Result<Self, Malformed> {
        Self::of_parts(object["metadata"].clone(), object["spec"].clone(), &object["status"])
    }

    /// Reads the parts of such an object, `Null` for an absent one. The spec is kept as it is.
    pub fn of_parts(metadata: Value, spec: Value, status: &Value) -> Result<Self, Malformed> {
        let metadata = if metadata.is_null() {
            ObjectMeta::default()
        } else {
            serde_json::from_value::<ObjectMeta>(metadata)
                .map_err(|error| Malformed::Metadata(error.to_string()))?
        };
        let instances = match spec.get("numberOfInstances") {
            None | Some(Value::Null) => None,
            Some(count) => Some(count.as_i64().ok_or_else(|| Malformed::Count(count.to_string()))?),
        };
        // Objects written by operators before 1.0 hold the status as a bare string.
        let status = status.as_str().or_else(|| status["PostgresClusterStatus"].as_str());
        let writes = Writes::of(metadata.managed_fields.as_deref().unwrap_or_default());
        let count_managers = metadata
            .managed_fields
            .iter()
            .flatten()
            .filter(|entry| {
                entry.subresource.is_none()
                    && entry
                        .fields_v1
                        .as_ref()
                        .is_some_and(|fields| !fields.0["f:spec"]["f:numberOfInstances"].is_null())
            })
            .map(|entry| {
                (
                    entry.manager.clone().unwrap_or_default(),
                    entry.operation.clone().unwrap_or_default(),
                    entry.time.as_ref().map(|time| time.0),
                )
            })
            .collect();
        Ok(Self {
            namespace: metadata.namespace.unwrap_or_default(),
            name: metadata.name.unwrap_or_default(),
            uid: metadata.uid.unwrap_or_default(),
            resource_version: metadata.resource_version.unwrap_or_default(),
            labels: metadata.labels.unwrap_or_default(),
            annotations: metadata.annotations.unwrap_or_default(),
            created: metadata.creation_timestamp.map(|time| time.0),
            terminating: metadata.deletion_timestamp.is_some(),
            instances,
            status: status.map(str::to_owned),
            count_managers,
            writes,
            spec,
        })
    }

    /// Returns the same object with a count of `instances`.
    #[must_use]
    pub fn with_instances(&self, instances: i64) -> Self {
        let mut changed = self.clone();
        changed.instances = Some(instances);
        if !changed.spec.is_object() {
            changed.spec = json!({});
        }
        changed.spec["numberOfInstances"] = json!(instances);
        changed
    }

    /// Returns whether the cluster carries an annotation of the operator that switches something
    /// off: set to exactly `"true"`.
    ///
    /// False where the operator's settings name no annotation.
    pub fn switches(&self, annotation: Option<&String>) -> bool {
        annotation.and_then(|key| self.annotations.get(key)).is_some_and(|value| value == "true")
    }

    /// Returns whether it is declared as a standby of another cluster, by `spec.standby` or by the
    /// environment variables that operator 2.0 treats the same.
    pub fn is_standby(&self) -> bool {
        let by_environment = self.spec["env"].as_array().into_iter().flatten().any(|variable| {
            variable["name"].as_str().is_some_and(|name| STANDBY_VARIABLES.contains(&name))
        });
        self.spec["standby"].is_object() || by_environment
    }

    /// Returns the value of `acid.zalan.do/controller`, which names the operator of the cluster.
    /// Empty for the default operator.
    pub fn controller(&self) -> &str {
        self.annotations.get(CONTROLLER_ANNOTATION).map_or("", String::as_str)
    }
}

/// Returns the ordinal of a pod of `cluster`: 2 for `acid-a-2`.
///
/// `None` for everything but `<cluster>-<number>`: `acid-a-pooler-0` is no member, and the pods of
/// `acid-a-1` (`acid-a-1-0`) are not pods of `acid-a`. Also `None` for a number that a StatefulSet
/// cannot have: its replicas are an int32.
pub fn ordinal(cluster: &str, pod: &str) -> Option<i64> {
    let digits = pod.strip_prefix(cluster)?.strip_prefix('-')?;
    let plain = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
    let canonical = digits == "0" || !digits.starts_with('0');
    if plain && canonical { digits.parse::<i32>().ok().map(i64::from) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinal_belongs_to_its_own_cluster_only() {
        for (cluster, pod, want) in [
            ("acid-a", "acid-a-0", Some(0)),
            ("acid-a", "acid-a-2147483647", Some(2_147_483_647)),
            ("acid-a", "acid-a-2147483648", None),
            ("acid-a", "acid-a-9000000000000000000", None),
            ("acid-a", "acid-a-11", Some(11)),
            ("acid-a", "acid-a-1-0", None),
            ("acid-a-1", "acid-a-1-0", Some(0)),
            ("acid-a", "acid-ab-0", None),
            ("acid-a", "acid-a-", None),
            ("acid-a", "acid-a-01", None),
            ("acid-a", "acid-a-+1", None),
            ("acid-a", "acid-a-pooler-6f9-x", None),
            ("acid-a", "acid-a-99999999999999999999", None),
        ] {
            assert_eq!(ordinal(cluster, pod), want, "{cluster} {pod}");
        }
    }

    #[test]
    fn object_with_missing_parts_is_read() {
        let empty = Postgresql::of(&json!({})).unwrap();
        assert_eq!((empty.instances, empty.terminating), (None, false));
        let null =
            Postgresql::of(&json!({"metadata": {"name": "a", "annotations": null}, "spec": null}));
        assert_eq!(null.unwrap().name, "a");
        let bare = Postgresql::of(&json!({"status": "Running"})).unwrap();
        assert_eq!(bare.status.as_deref(), Some("Running"));
        assert_eq!(
            Postgresql::of(&json!({"spec": {"numberOfInstances": 2.5}})),
            Err(Malformed::Count("2.5".into()))
        );
    }

    #[test]
    fn owners_of_the_count_are_named() {
        let object = Postgresql::of(&json!({"metadata": {"managedFields": [
            {"manager": "argocd-controller", "operation": "Apply", "fieldsType": "FieldsV1",
             "fieldsV1": {"f:spec": {"f:numberOfInstances": {}}}},
            {"manager": "kubectl", "operation": "Update", "fieldsV1": {"f:metadata": {}}},
        ]}}))
        .unwrap();
        let names: Vec<_> = object.count_managers.iter().map(|(name, ..)| name.as_str()).collect();
        assert_eq!(names, ["argocd-controller"]);
    }
}
