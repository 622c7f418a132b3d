//! The difference between what a release has and what it is to have.

use std::collections::BTreeMap;

use serde_json::Value;

/// Labels that carry a version. They differ in every upgrade and say nothing.
const VERSIONS: [&str; 2] = ["helm.sh/chart", "app.kubernetes.io/version"];

/// The objects that differ, each as `Kind name`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    pub(crate) added: Vec<String>,
    pub(crate) changed: Vec<String>,
    pub(crate) removed: Vec<String>,
}

impl Changes {
    /// Returns the difference between two manifests.
    pub(crate) fn between(before: &[Value], after: &[Value]) -> Self {
        let (before, after) = (by_name(before), by_name(after));
        let only = |one: &BTreeMap<String, Value>, other: &BTreeMap<String, Value>| {
            one.keys().filter(|name| !other.contains_key(*name)).cloned().collect()
        };
        let changed =
            after.iter().filter(|(name, now)| before.get(*name).is_some_and(|then| then != *now));
        Self {
            added: only(&after, &before),
            changed: changed.map(|(name, _)| name.clone()).collect(),
            removed: only(&before, &after),
        }
    }

    /// Returns its lines for a person.
    pub(crate) fn lines(&self) -> Vec<String> {
        let parts = [("new", &self.added), ("changed", &self.changed), ("removed", &self.removed)];
        let lines: Vec<String> = parts
            .into_iter()
            .filter(|(_, names)| !names.is_empty())
            .map(|(what, names)| {
                let objects = if names.len() == 1 { "object" } else { "objects" };
                format!("- {} {objects} {what}: {}", names.len(), names.join(", "))
            })
            .collect();
        if lines.is_empty() { vec!["- objects: none changes".to_owned()] } else { lines }
    }
}

/// Returns each object without its versions, by kind, namespace and name.
fn by_name(objects: &[Value]) -> BTreeMap<String, Value> {
    let text = |object: &Value, path: &str| {
        object.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let named = objects.iter().map(|object| {
        let (kind, name) = (text(object, "/kind"), text(object, "/metadata/name"));
        let name = match text(object, "/metadata/namespace") {
            namespace if namespace.is_empty() => format!("{kind} {name}"),
            namespace => format!("{kind} {namespace}/{name}"),
        };
        let mut object = object.clone();
        plain(&mut object);
        (name, object)
    });
    named.collect()
}

fn plain(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, _| !VERSIONS.contains(&name.as_str()));
            fields.values_mut().for_each(plain);
        }
        Value::Array(items) => items.iter_mut().for_each(plain),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Returns the objects of a manifest.
///
/// # Errors
/// It is no YAML.
pub(crate) fn objects(manifest: &str) -> Result<Vec<Value>, String> {
    let all: Vec<Option<Value>> =
        serde_saphyr::from_multiple(manifest).map_err(|error| error.to_string())?;
    Ok(all.into_iter().flatten().filter(Value::is_object).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(kind: &str, name: &str, version: &str, replicas: u32) -> Value {
        json!({
            "kind": kind,
            "metadata": {"name": name, "namespace": "n", "labels": {"helm.sh/chart": version}},
            "spec": {"replicas": replicas, "template": {"metadata": {"labels":
                {"app.kubernetes.io/version": version, "a": "b"}}}},
        })
    }

    #[test]
    fn objects_that_differ_are_named_and_versions_alone_are_no_difference() {
        let before = [
            object("Deployment", "webhook", "1", 2),
            object("Service", "webhook", "1", 0),
            object("Role", "gone", "1", 0),
        ];
        let after = [
            object("Deployment", "webhook", "2", 3),
            object("Service", "webhook", "2", 0),
            object("Role", "new", "2", 0),
        ];
        let changes = Changes::between(&before, &after);
        insta::assert_snapshot!(changes.lines().join("\n"), @"
        - 1 object new: Role n/new
        - 1 object changed: Deployment n/webhook
        - 1 object removed: Role n/gone
        ");
        assert_eq!(Changes::between(&before, &before), Changes::default());
        assert_eq!(Changes::default().lines(), ["- objects: none changes"]);
    }

    #[test]
    fn empty_documents_and_comments_are_no_objects() {
        let text = "---\n# Source: a\nkind: A\n---\n# nothing\n---\nkind: B\n";
        let kinds: Vec<_> = objects(text).unwrap().iter().map(|it| it["kind"].clone()).collect();
        assert_eq!(kinds, ["A", "B"]);
        assert!(objects("a: [").is_err());
    }
}
