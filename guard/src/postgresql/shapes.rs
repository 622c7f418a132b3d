//! The parts of a spec that the operator turns into the StatefulSet and its pods.
//!
//! `generateStatefulSet` and `generatePodTemplate` (pkg/cluster/k8sres.go) write them.
//! `compareStatefulSetWith` and `compareContainers` (pkg/cluster/cluster.go) find the difference,
//! and replace the StatefulSet or renew its pods one by one. One table, by the first number of the
//! operator's version: 1.15.1 and 2.0.1 were compared.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// The parts that every version compares. The comment names what they become.
const ALWAYS: &[&str] = &[
    "/additionalVolumes",    // volumes, mounts
    "/clone",                // environment
    "/dockerImage",          // image
    "/enableShmVolume",      // volumes
    "/env",                  // environment
    "/initContainers",       // init containers
    "/nodeAffinity",         // affinity
    "/patroni/initdb",       // environment: SPILO_CONFIGURATION, bootstrap
    "/patroni/pg_hba",       // environment: SPILO_CONFIGURATION, local part
    "/podAnnotations",       // template annotations
    "/podPriorityClassName", // priority class
    "/postgresql/version",   // environment: PGVERSION, or the binaries' path
    "/resources",            // resources
    "/sidecars",             // containers
    "/spiloFSGroup",         // security context
    "/spiloRunAsGroup",      // security context
    "/spiloRunAsUser",       // security context
    "/standby",              // environment
    "/teamId",               // template labels
    "/tls",                  // environment, volumes
    "/tolerations",          // tolerations: only their number
    "/volume/isSubPathExpr", // mounts
    "/volume/selector",      // claim template
    "/volume/size",          // claim template
    "/volume/storageClass",  // claim template
    "/volume/subPath",       // mounts
];

/// The parts that only version 1 knows: earlier spellings.
const BEFORE_2: &[&str] = &["/init_containers", "/pod_priority_class_name"];

/// The parts that version 2 has added.
const SINCE_2: &[&str] = &[
    "/envFrom",                   // environment sources
    "/livenessProbe",             // liveness probe
    "/topologySpreadConstraints", // spread constraints
];

/// The lists whose order the operator does not compare (`compareEnv`, `compareVolumeMounts`).
const UNORDERED: &[&str] = &["/additionalVolumes", "/env"];

/// The PostgreSQL parameters that go into the pods' environment.
///
/// All others go into Patroni's dynamic configuration, which the comparison leaves out
/// (`isBootstrapOnlyParameter`, pkg/cluster/k8sres.go, and `compareSpiloConfiguration`,
/// pkg/cluster/cluster.go).
pub(crate) const LOCAL_PARAMETERS: &[&str] = &[
    "archive_command",
    "bg_mon.history_buckets",
    "bg_mon.listen_address",
    "extwlist.custom_path",
    "extwlist.extensions",
    "log_destination",
    "log_directory",
    "log_file_mode",
    "log_filename",
    "log_rotation_age",
    "log_truncate_on_rotation",
    "logging_collector",
    "pg_stat_statements.track_utility",
    "shared_buffers",
    "shared_preload_libraries",
    "ssl",
    "ssl_ca_file",
    "ssl_cert_file",
    "ssl_crl_file",
    "ssl_key_file",
];

/// Returns the paths of the parts that an operator compares, by the first number of its version.
///
/// Where the version is not known: those of every version.
fn paths(major: Option<u32>) -> impl Iterator<Item = &'static str> {
    let old = major.is_none_or(|major| major < 2);
    let new = major.is_none_or(|major| major >= 2);
    let only = |known: bool, paths: &'static [&'static str]| if known { paths } else { &[] };
    ALWAYS.iter().chain(only(old, BEFORE_2)).chain(only(new, SINCE_2)).copied()
}

/// Returns whether a field at the top of a spec, or something in it, shapes the pods or is the
/// count, for some version of the operator.
pub fn shapes_or_counts(field: &str) -> bool {
    let first = |path: &str| path.trim_start_matches('/').split('/').next() == Some(field);
    field == "numberOfInstances" || paths(None).any(first)
}

/// Returns the parts that differ between two specs and shape the pods, as paths in the object, for
/// an operator of version `major`.
pub fn shaped(old: &Value, new: &Value, major: Option<u32>) -> Vec<String> {
    let mut shaped: Vec<_> = paths(major)
        .filter(|path| differs(old, new, path))
        .map(|path| format!("spec{}", path.replace('/', ".")))
        .collect();
    let (before, after) = (parameters(old), parameters(new));
    shaped.extend(
        LOCAL_PARAMETERS
            .iter()
            .filter(|name| before.get(**name) != after.get(**name))
            .map(|name| format!("spec.postgresql.parameters.{name}")),
    );
    shaped
}

/// Returns whether the operator's comparison finds a difference in this part.
fn differs(old: &Value, new: &Value, path: &str) -> bool {
    let (old, new) = (given(old, path), given(new, path));
    let list = |value: Option<&Value>| value.and_then(Value::as_array).cloned();
    match (list(old), list(new)) {
        // The operator writes other tolerations of the same number along, and renews nothing.
        (Some(old), Some(new)) if path == "/tolerations" => old.len() != new.len(),
        (Some(old), Some(new)) if UNORDERED.contains(&path) => {
            let items = |list: &[Value]| list.iter().map(Value::to_string).collect::<BTreeSet<_>>();
            old.len() != new.len() || items(&old) != items(&new)
        }
        _ => old != new,
    }
}

/// Returns the value of a part of the spec. Unset, null and empty are the same to the operator.
fn given<'a>(spec: &'a Value, path: &str) -> Option<&'a Value> {
    spec.pointer(path).filter(|value| match value {
        Value::Null => false,
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        Value::String(text) => !text.is_empty(),
        Value::Bool(_) | Value::Number(_) => true,
    })
}

fn parameters(spec: &Value) -> BTreeMap<&str, &Value> {
    spec.pointer("/postgresql/parameters")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .map(|(name, value)| (name.as_str(), value))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn edited(path: &str) -> Value {
        let mut parts = path.trim_start_matches('/').split('/');
        let first = parts.next().unwrap();
        match parts.next() {
            Some(second) => json!({first: {second: ["x"]}}),
            None => json!({first: ["x"]}),
        }
    }

    #[test]
    fn every_shaping_part_is_found() {
        for path in paths(None) {
            let named = format!("spec{}", path.replace('/', "."));
            assert_eq!(shaped(&json!({}), &edited(path), None), [named], "{path}");
        }
        for name in LOCAL_PARAMETERS {
            let spec = json!({"postgresql": {"parameters": {*name: "x"}}});
            let named = format!("spec.postgresql.parameters.{name}");
            assert_eq!(shaped(&json!({}), &spec, None), [named]);
        }
    }

    #[test]
    fn each_version_compares_its_own_parts() {
        for (path, by_1, by_2) in [
            ("/envFrom", false, true),
            ("/livenessProbe", false, true),
            ("/topologySpreadConstraints", false, true),
            ("/init_containers", true, false),
            ("/pod_priority_class_name", true, false),
            ("/sidecars", true, true),
            // New pods get another scheduler, and no version compares it.
            ("/schedulerName", false, false),
            ("/users", false, false),
        ] {
            let found = |major| !shaped(&json!({}), &edited(path), major).is_empty();
            assert_eq!((found(Some(1)), found(Some(2))), (by_1, by_2), "{path}");
            assert_eq!(found(None), by_1 || by_2, "{path}, of an operator of unknown version");
        }
    }

    #[test]
    fn difference_is_the_one_that_the_operator_finds() {
        let list = |part: &str, items: Value| json!({part: items});
        for (name, old, new, differs) in [
            ("other order of variables", json!(["a", "b"]), json!(["b", "a"]), false),
            ("another variable", json!(["a"]), json!(["b"]), true),
            ("the same one twice", json!(["a", "b"]), json!(["a", "b", "b"]), true),
            ("none, and an empty list", json!(null), json!([]), false),
        ] {
            for part in ["env", "additionalVolumes"] {
                let found = shaped(&list(part, old.clone()), &list(part, new.clone()), None);
                assert_eq!(!found.is_empty(), differs, "{part}: {name}");
            }
        }
        let tolerations = |keys: Value| list("tolerations", keys);
        let (one, other, two) = (json!(["a"]), json!(["b"]), json!(["a", "b"]));
        assert!(shaped(&tolerations(one.clone()), &tolerations(other), None).is_empty());
        assert!(!shaped(&tolerations(one.clone()), &tolerations(two), None).is_empty());
        assert!(!shaped(&tolerations(json!(null)), &tolerations(one), None).is_empty());
        let sidecars = |names: Value| list("sidecars", names);
        let order = (sidecars(json!(["a", "b"])), sidecars(json!(["b", "a"])));
        assert!(!shaped(&order.0, &order.1, None).is_empty(), "the operator compares by place");
    }

    #[test]
    fn fields_that_shape_or_count_are_known_by_their_first_part() {
        for field in ["numberOfInstances", "patroni", "postgresql", "tolerations", "envFrom"] {
            assert!(shapes_or_counts(field), "{field}");
        }
        for field in ["users", "databases", "maintenanceWindows", "toleration", ""] {
            assert!(!shapes_or_counts(field), "{field}");
        }
    }
}
