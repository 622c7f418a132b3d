//! The object that a write leaves, from the one before and the manifest or the patch.

use json_patch::PatchOperation;
use serde_json::{Map, Value};

/// The annotation in which `kubectl apply` keeps the last manifest.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Returns what `kubectl apply` of `manifest` makes of `live`.
///
/// Fields that the manifest does not name stay, unless the last manifest named them. Lists are
/// replaced as a whole, as in every custom resource (`CreateThreeWayJSONMergePatch`,
/// k8s.io/apimachinery/pkg/util/jsonmergepatch).
pub(crate) fn applied(live: &Value, manifest: &Value) -> Value {
    let last = live.pointer("/metadata/annotations").and_then(|it| it.get(LAST_APPLIED));
    let last: Value = last
        .and_then(Value::as_str)
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default();
    let mut patch = manifest.clone();
    if let Some(fields) = patch.as_object_mut() {
        fields.remove("status");
    }
    if let Some(metadata) = patch.get_mut("metadata").and_then(Value::as_object_mut) {
        for servers in
            ["creationTimestamp", "generation", "managedFields", "resourceVersion", "uid"]
        {
            metadata.remove(servers);
        }
    }
    if let Some(metadata) = patch.get_mut("metadata").and_then(Value::as_object_mut) {
        // kubectl adds an annotation of its own to each manifest, so there is always one.
        let annotations = metadata.entry("annotations").or_insert(Value::Null);
        if annotations.is_null() {
            *annotations = Value::Object(Map::new());
        }
    }
    drop_unnamed(&mut patch, &last);
    let mut object = live.clone();
    json_patch::merge(&mut object, &patch);
    object
}

/// Adds a null to `patch` for every field of `last` that it does not name.
fn drop_unnamed(patch: &mut Value, last: &Value) {
    let (Some(patch), Some(last)) = (patch.as_object_mut(), last.as_object()) else { return };
    for (key, value) in last {
        match patch.get_mut(key) {
            Some(named) => drop_unnamed(named, value),
            None if key == "status" => {}
            None => {
                patch.insert(key.clone(), Value::Null);
            }
        }
    }
}

/// Applies a JSON merge patch (RFC 7386) or a JSON Patch (RFC 6902) to `object`.
///
/// # Errors
/// It is neither, or it does not fit the object.
pub(crate) fn patched(object: &Value, patch: &Value) -> Result<Value, String> {
    let mut patched = object.clone();
    match patch {
        Value::Object(_) => json_patch::merge(&mut patched, patch),
        Value::Array(_) => {
            let operations: Vec<PatchOperation> = serde_json::from_value(patch.clone())
                .map_err(|error| format!("it is no JSON Patch: {error}"))?;
            json_patch::patch(&mut patched, &operations)
                .map_err(|error| format!("the JSON Patch does not fit the object: {error}"))?;
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            return Err("it is neither a merge patch nor a JSON Patch".to_owned());
        }
    }
    Ok(patched)
}

/// Checks `spec.numberOfInstances` as the API server does: a whole number from 0 to 2147483647.
///
/// # Errors
/// The reason for which the API server refuses the object.
pub(crate) fn checked_count(object: &Value) -> Result<i64, String> {
    let none = Map::new();
    let spec = object.get("spec").and_then(Value::as_object).unwrap_or(&none);
    let count = match spec.get("numberOfInstances") {
        None => {
            return Err("spec.numberOfInstances is missing, and the API server demands it".into());
        }
        Some(Value::Null) => {
            return Err(
                "spec.numberOfInstances is null, and the API server demands a number".into()
            );
        }
        Some(count) => count,
    };
    let Some(number) = count.as_i64() else {
        let text = count.to_string();
        let shown: String = text.chars().take(40).collect();
        return Err(format!(
            "spec.numberOfInstances is {shown}, which is not a whole number of instances"
        ));
    };
    match number {
        ..0 => Err(format!("spec.numberOfInstances is {number}, and 0 is the fewest")),
        0..=2_147_483_647 => Ok(number),
        _ => Err(format!(
            "spec.numberOfInstances is {number}, and an int32 holds at most 2147483647"
        )),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn field_that_the_last_manifest_named_goes_and_every_other_stays() {
        let last = json!({"metadata": {"name": "a", "labels": {"old": "x"}},
            "spec": {"numberOfInstances": 3, "env": [1], "teamId": "t"}})
        .to_string();
        let live = json!({"metadata": {"name": "a", "uid": "u1", "labels": {"old": "x", "other": "y"},
                "annotations": {LAST_APPLIED: last}},
            "spec": {"numberOfInstances": 3, "env": [1], "teamId": "t", "set-by-another": true},
            "status": {"PostgresClusterStatus": "Running"}});
        let manifest = json!({"metadata": {"name": "a", "uid": "wrong", "labels": {}},
            "spec": {"numberOfInstances": 2, "teamId": "t"}, "status": {}});
        let object = applied(&live, &manifest);
        assert_eq!(
            object["spec"],
            json!({"numberOfInstances": 2, "teamId": "t", "set-by-another": true})
        );
        assert_eq!(object["metadata"]["labels"], json!({"other": "y"}));
        assert_eq!(object["metadata"]["uid"], "u1");
        assert_eq!(object["status"]["PostgresClusterStatus"], "Running");
    }

    #[test]
    fn manifest_without_a_count_keeps_the_live_one_that_it_never_named() {
        let live = json!({"spec": {"numberOfInstances": 3}});
        assert_eq!(
            applied(&live, &json!({"spec": {"teamId": "t"}}))["spec"]["numberOfInstances"],
            3
        );
    }

    #[test]
    fn both_kinds_of_patch_fit_or_say_why_not() {
        let object = json!({"spec": {"numberOfInstances": 3, "a": 1}});
        let merge = json!({"spec": {"numberOfInstances": 2, "a": null}});
        assert_eq!(patched(&object, &merge), Ok(json!({"spec": {"numberOfInstances": 2}})));
        let patch = json!([{"op": "replace", "path": "/spec/numberOfInstances", "value": 2}]);
        assert_eq!(patched(&object, &patch).unwrap()["spec"]["numberOfInstances"], 2);
        for (patch, why) in [
            (json!([{"op": "replace", "path": "/spec/none", "value": 2}]), "does not fit"),
            (json!([{"op": "test", "path": "/spec/a", "value": 2}]), "does not fit"),
            (json!([{"op": "grow"}]), "no JSON Patch"),
            (json!("x"), "neither"),
        ] {
            let error = patched(&object, &patch).unwrap_err();
            assert!(error.contains(why), "{patch}: {error}");
        }
    }

    #[test]
    fn count_that_the_api_server_refuses_is_an_error() {
        let count = |value: Value| checked_count(&json!({"spec": {"numberOfInstances": value}}));
        assert_eq!(count(json!(0)), Ok(0));
        assert_eq!(count(json!(2_147_483_647)), Ok(2_147_483_647));
        for (value, why) in [
            (json!(null), "null"),
            (json!("3"), "is \"3\", which is not a whole number"),
            (json!(2.5), "is 2.5, which is not a whole number"),
            (json!(true), "not a whole number"),
            (json!([3]), "not a whole number"),
            (json!(1e30), "not a whole number"),
            (json!(-1), "0 is the fewest"),
            (json!(2_147_483_648_i64), "int32"),
        ] {
            let error = count(value.clone()).unwrap_err();
            assert!(error.contains(why), "{value}: {error}");
        }
        for object in [json!({}), json!({"spec": null}), json!({"spec": {}}), json!({"spec": []})] {
            assert!(checked_count(&object).unwrap_err().contains("missing"), "{object}");
        }
    }
}
