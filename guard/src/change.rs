//! What is being asked: which cluster, from how many instances to how many, and what else the same write
//! touches.

use serde_json::Value;

use crate::postgresql::Postgresql;

/// One write of a `postgresql` object, as it stands before the guard.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The object before the write; `None` when it is being created.
    pub old: Option<Postgresql>,
    /// The object as it would be stored.
    pub new: Postgresql,
    /// Nothing will be stored: the writer only asks.
    pub dry_run: bool,
    /// It takes the last change back; known only to who keeps a history.
    pub undo: bool,
    /// Who writes, as the API server or the kubeconfig names them; only for messages and records.
    pub user: Option<String>,
}

/// Which way the effective number of instances goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
pub enum Direction {
    /// A new object.
    Create,
    /// Fewer instances than before.
    Down,
    /// As many as before: whatever else the write does, the count stays.
    Same,
    /// More instances than before.
    Up,
}

impl Change {
    /// A change of nothing but the count of an existing cluster, as the plugin makes it.
    pub fn of_count(old: Postgresql, to: i64) -> Self {
        let new = old.with_instances(to);
        Self { old: Some(old), new, dry_run: false, undo: false, user: None }
    }

    /// `namespace/name` of the cluster.
    pub fn cluster(&self) -> String {
        format!("{}/{}", self.new.namespace, self.new.name)
    }

    /// The operations that turn the old spec into the new one, the count itself left out.
    ///
    /// Computed as a JSON Patch (RFC 6902), because that is what people can read and the API server
    /// understands. Empty on CREATE: there everything is new and nothing is mixed.
    pub fn other_edits(&self) -> Vec<json_patch::PatchOperation> {
        let Some(old) = &self.old else { return Vec::new() };
        json_patch::diff(&without_count(&old.spec), &without_count(&self.new.spec)).0
    }
}

fn without_count(spec: &Value) -> Value {
    let mut spec = spec.clone();
    if let Some(fields) = spec.as_object_mut() {
        fields.remove("numberOfInstances");
    }
    spec
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_count_is_not_another_edit() {
        let old = Postgresql::of(&json!({
            "metadata": {"namespace": "db", "name": "acid-a"},
            "spec": {"numberOfInstances": 3, "volume": {"size": "1Gi"}},
        }))
        .unwrap();
        let change = Change::of_count(old.clone(), 5);
        assert_eq!(change.new.instances, Some(5));
        assert_eq!(change.other_edits(), Vec::new());

        let mut mixed = change;
        mixed.new.spec["volume"]["size"] = json!("2Gi");
        let edits: Vec<String> =
            mixed.other_edits().iter().map(|edit| edit.path().to_string()).collect();
        assert_eq!(edits, ["/volume/size"]);
    }
}
