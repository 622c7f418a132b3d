//! The change to judge: the cluster, its count before and after, and the other edits of the same
//! write.

use serde_json::Value;

use crate::postgresql::Postgresql;

/// One write of a `postgresql` object, before it is stored.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Change {
    /// The object before the write. `None` on CREATE.
    pub old: Option<Postgresql>,
    /// The object as it would be stored.
    pub new: Postgresql,
    /// A dry run: nothing will be stored.
    pub dry_run: bool,
    /// It takes the last change back. Only a caller that keeps a history knows this.
    pub undo: bool,
    /// The writer, by the name in the API server's review or in the kubeconfig. Only for messages
    /// and records.
    pub user: Option<String>,
}

/// The direction of the effective number of instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
pub enum Direction {
    /// A new object.
    Create,
    /// Fewer instances than before.
    Down,
    /// As many as before: only other parts of the spec change.
    Same,
    /// More instances than before.
    Up,
}

impl Change {
    /// Returns a change of only the count of an existing cluster, as the plugin makes it.
    pub fn of_count(old: Postgresql, to: i64) -> Self {
        let new = old.with_instances(to);
        Self { old: Some(old), new, dry_run: false, undo: false, user: None }
    }

    /// Returns `namespace/name` of the cluster.
    pub fn cluster(&self) -> String {
        format!("{}/{}", self.new.namespace, self.new.name)
    }

    /// Returns whether the effective count may be another one after the write.
    ///
    /// It depends on the written count, on two annotations whose names the operator's configuration
    /// knows, and on whether the cluster is a standby.
    pub fn may_change_count(&self) -> bool {
        let (Some(old), new) = (&self.old, &self.new) else { return true };
        old.instances.unwrap_or(0) != new.instances.unwrap_or(0)
            || old.annotations != new.annotations
            || old.is_standby() != new.is_standby()
    }

    /// Returns the operations that turn the old spec into the new one, without the count itself.
    ///
    /// Computed as a JSON Patch (RFC 6902): people can read it, and the API server understands it.
    /// Empty on CREATE, where everything is new and nothing is mixed.
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
    fn count_is_not_another_edit() {
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
