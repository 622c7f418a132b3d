//! The operator's settings that shape its pods, in both of their places.

#![expect(
    clippy::indexing_slicing,
    reason = "only JSON values are indexed: a missing value reads as null"
)]

use std::collections::BTreeMap;

use serde_json::Value;

use crate::seen::Seen;

/// The beginning of the names of the operator's backup jobs, before the cluster's name.
const BACKUP_JOB_PREFIX: &str = "logical-backup-";

/// Amounts of `cpu` and `memory`, as they are written. Unset ones are missing.
pub type Written = BTreeMap<String, String>;

/// The operator's defaults for a pod whose manifest is silent, and its changes to one whose
/// manifest is not (`generateResourceRequirements`, pkg/cluster/k8sres.go).
///
/// The operator has no built-in amounts.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "independent switches of the operator's")]
pub struct PodSettings {
    /// Requests of a container that has none.
    pub default_requests: Written,
    /// Limits of a container that has none.
    pub default_limits: Written,
    /// The least limits of the `postgres` container. Lower ones are raised.
    pub min_limits: Written,
    /// The greatest requests of that container. Higher ones are capped.
    pub max_requests: Written,
    /// Memory requests are raised to the limit.
    pub memory_request_to_limit: bool,
    /// The annotation that switches the two bounds off for one cluster, set to exactly `"true"`.
    pub ignore_bounds_annotation: Option<String>,
    /// The operator makes the sidecars of manifests.
    pub sidecars: bool,
    /// The operator makes the init containers of manifests.
    pub init_containers: bool,
    /// Containers that every pod gets as they are.
    pub global_sidecars: Vec<Value>,
    /// Names of containers that every pod gets with the default amounts.
    pub sidecar_images: Vec<String>,
    /// Every pod gets a log shipper with its own amounts, which the guard does not read.
    pub scalyr: bool,
    /// Priority class of a pod whose manifest names none.
    pub priority_class: Option<String>,
    /// The beginning of the name of a cluster's backup job.
    pub backup_job_prefix: String,
    /// The ConfigMap with variables of every pod, as `NAME` or `NAMESPACE/NAME`.
    pub environment_map: Option<String>,
    /// The variables in it by which Patroni finds its store: their names, and whether each has a text.
    /// `Absent` where the setting is unset.
    pub environment: Seen<BTreeMap<String, bool>>,
    /// The Secret with variables of every pod, in the namespace of the cluster.
    pub environment_secret: Option<String>,
}

impl Default for PodSettings {
    fn default() -> Self {
        Self {
            default_requests: Written::new(),
            default_limits: Written::new(),
            min_limits: Written::new(),
            max_requests: Written::new(),
            memory_request_to_limit: false,
            ignore_bounds_annotation: None,
            sidecars: true,
            init_containers: true,
            global_sidecars: Vec::new(),
            sidecar_images: Vec::new(),
            scalyr: false,
            priority_class: None,
            backup_job_prefix: BACKUP_JOB_PREFIX.to_owned(),
            environment_map: None,
            environment: Seen::Absent,
            environment_secret: None,
        }
    }
}

impl PodSettings {
    /// Reads the flat keys of an operator ConfigMap, which cannot hold whole containers.
    pub(super) fn of_config_map(data: &BTreeMap<String, String>) -> Self {
        let text = |name: &str| {
            data.get(name).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
        };
        let images = text("sidecar_docker_images").unwrap_or_default();
        Self {
            sidecar_images: images
                .split(',')
                .filter_map(|pair| Some(pair.split_once(':')?.0.trim().to_owned()))
                .collect(),
            ..Self::read(text, |name| text(name).and_then(|text| super::parse_bool(&text)))
        }
    }

    /// Reads `configuration` of an `OperatorConfiguration` object.
    pub(super) fn of_operator_configuration(configuration: &Value) -> Self {
        const SECTIONS: [&str; 4] =
            ["postgres_pod_resources", "kubernetes", "logical_backup", "scalyr"];
        let value = |name: &str| {
            let sections = SECTIONS.iter().map(|section| &configuration[*section][name]);
            let mut places = sections.chain([&configuration[name]]);
            places.find(|value| !value.is_null())
        };
        let text = |name: &str| {
            value(name).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned)
        };
        let names = configuration["sidecar_docker_images"].as_object();
        Self {
            global_sidecars: configuration["sidecars"].as_array().cloned().unwrap_or_default(),
            sidecar_images: names.into_iter().flat_map(|it| it.keys().cloned()).collect(),
            ..Self::read(text, |name| value(name).and_then(Value::as_bool))
        }
    }

    fn read(text: impl Fn(&str) -> Option<String>, switch: impl Fn(&str) -> Option<bool>) -> Self {
        let amounts = |before: &str, after: &str| -> Written {
            ["cpu", "memory"]
                .into_iter()
                .filter_map(|name| {
                    Some((name.to_owned(), text(&format!("{before}_{name}_{after}"))?))
                })
                .collect()
        };
        let default = Self::default();
        Self {
            default_requests: amounts("default", "request"),
            default_limits: amounts("default", "limit"),
            min_limits: amounts("min", "limit"),
            max_requests: amounts("max", "request"),
            memory_request_to_limit: switch("set_memory_request_to_limit").unwrap_or(false),
            ignore_bounds_annotation: text("ignore_resources_limits_annotation_key"),
            sidecars: switch("enable_sidecars").unwrap_or(default.sidecars),
            init_containers: switch("enable_init_containers").unwrap_or(default.init_containers),
            scalyr: text("scalyr_api_key").is_some(),
            priority_class: text("pod_priority_class_name"),
            backup_job_prefix: text("logical_backup_job_prefix")
                .unwrap_or(default.backup_job_prefix),
            environment_map: text("pod_environment_configmap"),
            environment_secret: text("pod_environment_secret"),
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn both_sources_of_pod_settings_are_read_alike() {
        let flat: BTreeMap<String, String> = [
            ("default_cpu_request", "100m"),
            ("default_memory_limit", "500Mi"),
            ("min_cpu_limit", "250m"),
            ("max_memory_request", " 4Gi "),
            ("set_memory_request_to_limit", "true"),
            ("ignore_resources_limits_annotation_key", "acid/big"),
            ("enable_sidecars", "false"),
            ("sidecar_docker_images", "exporter:quay.io/exporter:1"),
            ("scalyr_api_key", "k"),
            ("pod_priority_class_name", "db"),
            ("logical_backup_job_prefix", "dump-"),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into();
        let configuration = json!({
            "set_memory_request_to_limit": true,
            "ignore_resources_limits_annotation_key": "acid/big",
            "sidecar_docker_images": {"exporter": "quay.io/exporter:1"},
            "postgres_pod_resources": {"default_cpu_request": "100m", "default_memory_limit": "500Mi",
                "min_cpu_limit": "250m", "max_memory_request": "4Gi"},
            "kubernetes": {"enable_sidecars": false, "pod_priority_class_name": "db"},
            "logical_backup": {"logical_backup_job_prefix": "dump-"},
            "scalyr": {"scalyr_api_key": "k"},
        });
        let settings = PodSettings::of_config_map(&flat);
        assert_eq!(settings, PodSettings::of_operator_configuration(&configuration));
        assert_eq!(
            settings.default_requests,
            Written::from([("cpu".to_owned(), "100m".to_owned())])
        );
        assert_eq!(settings.max_requests, Written::from([("memory".to_owned(), "4Gi".to_owned())]));
        assert!(settings.memory_request_to_limit && settings.scalyr && !settings.sidecars);
        assert_eq!(settings.sidecar_images, ["exporter"]);

        let empty = PodSettings::of_operator_configuration(&json!({}));
        assert_eq!(PodSettings::of_config_map(&BTreeMap::new()), empty);
        assert_eq!(empty, PodSettings::default());
    }
}
