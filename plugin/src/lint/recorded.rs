//! Recorded clusters, by which manifests are judged as they would be there.

use pgscale_guard::postgresql::Postgresql;
use pgscale_guard::snapshot::{REDACTED, Snapshot};
use serde_json::{Value, json};

use super::manifest::Document;
use super::objects::Manifest;
use super::{Place, Problem};

/// The kind of the document that `kubectl pgscale snapshot` prints.
pub(crate) const SNAPSHOT: &str = "ClusterSnapshot";

/// One recorded cluster.
#[derive(Clone, Debug)]
pub(crate) struct Recorded {
    /// The record.
    pub(crate) snapshot: Snapshot,
    /// Its place.
    pub(crate) place: Place,
}

/// Reads the record in a document.
///
/// # Errors
/// It is none, or one that this version cannot read.
pub(crate) fn recorded(document: &Document) -> Result<Recorded, Problem> {
    let place = document.place.clone();
    let kind = document.text("/kind");
    if kind != SNAPSHOT {
        let why = format!("{kind:?} is no {SNAPSHOT} as kubectl pgscale snapshot prints it");
        return Err(Problem::new(place, why));
    }
    let snapshot = document.value.get("snapshot").cloned().unwrap_or_default();
    match serde_json::from_value(snapshot) {
        Ok(snapshot) => Ok(Recorded { snapshot, place }),
        Err(error) => {
            let by = document.text("/recordedBy");
            let own = env!("CARGO_PKG_VERSION");
            let why = format!(
                "the record of pgscale {by} cannot be read by pgscale {own} ({error}). Use the version that \
                 recorded it"
            );
            Err(Problem::new(place, why))
        }
    }
}

impl Recorded {
    /// Returns whether it is a record of the cluster.
    pub(crate) fn is_of(&self, namespace: &str, name: &str) -> bool {
        let cluster = self.snapshot.cluster();
        cluster.namespace == namespace && cluster.name == name
    }

    /// Returns whether it is a record of one of these clusters.
    pub(crate) fn is_of_any(&self, manifests: &[Manifest]) -> bool {
        manifests.iter().any(|it| self.is_of(&it.namespace, &it.name))
    }

    /// Returns the object as it was recorded.
    pub(crate) fn manifest(&self) -> Manifest {
        let cluster = self.snapshot.cluster();
        let value = json!({
            "apiVersion": "acid.zalan.do/v1", "kind": "postgresql",
            "metadata": {
                "namespace": cluster.namespace, "name": cluster.name, "uid": cluster.uid,
                "resourceVersion": cluster.resource_version, "labels": cluster.labels,
                "annotations": cluster.annotations,
            },
            "spec": cluster.spec,
            "status": {"PostgresClusterStatus": cluster.status},
        });
        Manifest {
            namespace: cluster.namespace.clone(),
            name: cluster.name.clone(),
            document: Document::at(self.place.clone(), value),
        }
    }

    /// Returns the cluster after a write of `object`, and the number of secrets in it that are not
    /// recorded and taken as unchanged.
    pub(crate) fn after(&self, mut object: Value) -> (Value, usize) {
        let kept = keep_redacted(&self.manifest().document.value, &mut object);
        (object, kept)
    }

    /// Returns `cluster` with what no manifest says: its writers and its times.
    pub(crate) fn completed(&self, cluster: Postgresql) -> Postgresql {
        let old = self.snapshot.cluster();
        Postgresql {
            created: old.created,
            terminating: old.terminating,
            count_managers: old.count_managers.clone(),
            writes: old.writes,
            ..cluster
        }
    }
}

/// Puts the word of a redacted secret in `old` in place of the text that `new` has there. Returns
/// the number of such texts.
fn keep_redacted(old: &Value, new: &mut Value) -> usize {
    match (old, new) {
        (Value::String(old), Value::String(new)) if old.starts_with(REDACTED) && old != new => {
            new.clone_from(old);
            1
        }
        (Value::Object(old), Value::Object(new)) => new
            .iter_mut()
            .filter_map(|(key, value)| Some(keep_redacted(old.get(key)?, value)))
            .sum(),
        (Value::Array(old), Value::Array(new)) => {
            old.iter().zip(new).map(|(old, new)| keep_redacted(old, new)).sum()
        }
        _ => 0,
    }
}
