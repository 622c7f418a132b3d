//! The operator's settings that bear on scaling, and the count that it really runs.
//!
//! The operator reads them once, at its start, from an `OperatorConfiguration` object or a
//! ConfigMap (pkg/controller/controller.go `initOperatorConfig`). Several operators may share one
//! Kubernetes cluster. Each `postgresql` belongs to the operator whose `CONTROLLER_ID` its
//! annotation names.

use std::collections::BTreeMap;

use k8s_openapi::jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use crate::object_ref::{Kind, ObjectRef};
use crate::patroni::Store;
use crate::postgresql::Postgresql;

pub mod account;
pub mod compared;
pub mod dynamic;
mod pods;
mod stores;
pub mod upgrade;

pub use account::Account;
pub use compared::{Compared, Shaping};
pub use pods::{PodSettings, Written};
pub use stores::{Given, SPEC_ENV, SPEC_ENV_FROM, Stores, variables};
pub use upgrade::Upgrades;

/// The container that runs Patroni and PostgreSQL (pkg/util/constants/kubernetes.go).
pub(crate) const POSTGRES_CONTAINER: &str = "postgres";

/// The operator that owns a cluster, as far as it was read.
#[derive(Clone, Debug, PartialEq, serde::Serialize, Deserialize)]
pub struct Operator {
    /// Its Deployment, with the namespace.
    pub deployment: ObjectRef,
    /// The service account of its pods.
    pub account: Account,
    /// The first number of its version, by the tag of its image or else by its labels. `None` where
    /// neither is a version.
    pub major: Option<u32>,
    /// The object that holds its settings.
    pub source: ObjectRef,
    /// The settings in that object.
    pub settings: Settings,
    /// Its Deployment has an available replica. `None` where this is not known.
    pub available: Option<bool>,
    /// The settings were edited after the operator's pod started, so it still runs with older ones.
    /// `None` where this is not known.
    pub stale_settings: Option<bool>,
    /// The namespace that it watches. `None` for all.
    pub watched_namespace: Option<String>,
    /// The last start of its container. `None` where this is not known.
    pub started: Option<Timestamp>,
}

impl Operator {
    /// Returns an operator of which nothing but the settings in `source` is known. It is taken to run
    /// with them.
    pub fn of_settings(source: ObjectRef, settings: Settings) -> Self {
        Self {
            deployment: ObjectRef::all(Kind::Deployment),
            account: Account { namespace: String::new(), name: String::new() },
            major: None,
            source,
            settings,
            available: None,
            stale_settings: Some(false),
            started: None,
            watched_namespace: None,
        }
    }

    /// Returns the annotations that the operator ignores when it compares objects.
    ///
    /// None where it may run with older settings than those that were read.
    pub fn certainly_ignored(&self) -> &[String] {
        if self.stale_settings == Some(true) { &[] } else { &self.settings.ignored_annotations }
    }

    /// Returns the DCS store that the operator gives Patroni. `None` where neither the setting nor
    /// the version is known.
    ///
    /// An unset setting means Endpoints in 1.x and ConfigMaps in 2.x (pkg/util/config/config.go).
    pub fn store(&self) -> Option<Store> {
        let settings = &self.settings;
        match (&settings.etcd_host, settings.use_config_maps, self.major) {
            (Some(_), _, _) => Some(Store::Etcd),
            (None, Some(false), _) | (None, None, Some(0 | 1)) => Some(Store::Endpoints),
            (None, Some(true), _) | (None, None, Some(_)) => Some(Store::ConfigMaps),
            (None, None, None) => None,
        }
    }
}

/// The settings of an operator. Defaults are the operator's own (pkg/util/config/config.go).
#[derive(Clone, Debug, PartialEq, serde::Serialize, Deserialize)]
pub struct Settings {
    /// The fewest instances that it runs. Negative for no minimum. Zero is an active value.
    pub min_instances: i64,
    /// The most instances that it runs. Negative for no maximum. Zero is an active value.
    pub max_instances: i64,
    /// The annotation that switches both limits off for one cluster, set to exactly `"true"`.
    pub ignore_limits_annotation: Option<String>,
    /// Labels of everything that belongs to any cluster.
    pub cluster_labels: BTreeMap<String, String>,
    /// The label that holds the cluster's name.
    pub cluster_name_label: String,
    /// The label that holds a pod's role.
    pub role_label: String,
    /// Patroni keeps its objects in ConfigMaps rather than Endpoints. `None` when unset: the
    /// default differs between 1.x (Endpoints) and 2.x (ConfigMaps).
    pub use_config_maps: Option<bool>,
    /// An etcd address. With it, Patroni keeps nothing in Kubernetes and the guard sees nothing.
    pub etcd_host: Option<String>,
    /// The operator lets Kubernetes delete the claims of removed members
    /// (`persistent_volume_claim_retention_policy.when_scaled: delete`).
    pub deletes_volumes: bool,
    /// The setting that deletes the claims of a deleted cluster, and its value. `None` where they are
    /// kept.
    #[serde(deserialize_with = "known_deletion")]
    pub deletes_with_cluster: Option<(&'static str, &'static str)>,
    /// Annotation keys that the operator ignores when it compares objects.
    pub ignored_annotations: Vec<String>,
    /// `enable_patroni_failsafe_mode`, which holds where a manifest says nothing.
    pub failsafe: bool,
    /// The settings about major upgrades.
    pub upgrades: Box<Upgrades>,
    /// The settings that shape the pods that it makes.
    pub pods: Box<PodSettings>,
    /// The settings for the parts of a StatefulSet that it compares.
    pub shaping: Box<Shaping>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            min_instances: -1,
            max_instances: -1,
            ignore_limits_annotation: None,
            cluster_labels: BTreeMap::from([("application".to_owned(), "spilo".to_owned())]),
            cluster_name_label: "cluster-name".to_owned(),
            role_label: "spilo-role".to_owned(),
            use_config_maps: None,
            etcd_host: None,
            deletes_volumes: false,
            deletes_with_cluster: deletes_with_cluster(true, false),
            ignored_annotations: Vec::new(),
            failsafe: false,
            upgrades: Box::default(),
            pods: Box::default(),
            shaping: Box::default(),
        }
    }
}

/// The setting about the fate of claims.
const RETENTION: &str = "persistent_volume_claim_retention_policy";
/// Its entry that deletes the claims of removed members. Any other value keeps them
/// (`generateStatefulSet`, pkg/cluster/k8sres.go).
const WHEN_SCALED_DELETE: (&str, &str) = ("when_scaled", "delete");
/// Its entry that deletes claims together with the StatefulSet.
const WHEN_DELETED_DELETE: (&str, &str) = ("when_deleted", "delete");
/// The setting by which the operator deletes the claims of a deleted cluster, unless it is false
/// (`deleteStatefulSet`, pkg/cluster/resources.go).
const CLAIM_DELETION: &str = "enable_persistent_volume_claim_deletion";

/// Returns the setting that deletes the claims of a deleted cluster, and its value.
fn deletes_with_cluster(
    by_operator: bool,
    by_retention: bool,
) -> Option<(&'static str, &'static str)> {
    let retention = ("persistent_volume_claim_retention_policy.when_deleted", "delete");
    let retention = by_retention.then_some(retention);
    by_operator.then_some(("enable_persistent_volume_claim_deletion", "true")).or(retention)
}

/// Decodes the setting that deletes the claims of a deleted cluster: one of those that are known.
fn known_deletion<'de, D: serde::Deserializer<'de>>(
    decoder: D,
) -> Result<Option<(&'static str, &'static str)>, D::Error> {
    let Some((name, value)) = <Option<(String, String)>>::deserialize(decoder)? else {
        return Ok(None);
    };
    let known = [deletes_with_cluster(true, false), deletes_with_cluster(false, true)];
    let found = known.into_iter().flatten().find(|known| *known == (&*name, &*value));
    found
        .map(Some)
        .ok_or_else(|| serde::de::Error::custom(format!("unknown setting {name}={value}")))
}

/// A setting with a value that the operator itself would not accept.
#[derive(Debug, thiserror::Error, PartialEq)]
#[error("operator setting {name} is {value:?}, which is not {expected}")]
pub struct BadSetting {
    /// The setting's name.
    pub name: &'static str,
    /// Its value.
    pub value: String,
    /// The expected kind of value.
    pub expected: &'static str,
}

impl Settings {
    /// Returns the labels that the operator puts on everything that belongs to `cluster`.
    pub fn selector(&self, cluster: &str) -> BTreeMap<String, String> {
        let mut labels = self.cluster_labels.clone();
        labels.insert(self.cluster_name_label.clone(), cluster.to_owned());
        labels
    }

    /// Reads the flat keys of an operator ConfigMap. Maps are written `key:value,key:value`.
    pub fn of_config_map(data: &BTreeMap<String, String>) -> Result<Self, BadSetting> {
        let text =
            |name: &str| data.get(name).map(|text| text.trim()).filter(|text| !text.is_empty());
        let number = |name: &'static str| {
            text(name)
                .map(|text| {
                    text.parse::<i64>().map_err(|_| BadSetting {
                        name,
                        value: text.to_owned(),
                        expected: "a whole number",
                    })
                })
                .transpose()
        };
        let retention = |wanted: (&str, &str)| {
            let pairs = text(RETENTION).into_iter().flat_map(|pairs| pairs.split(','));
            let mut pairs = pairs.filter_map(|pair| pair.split_once(':'));
            pairs.any(|(key, value)| (key.trim(), value.trim()) == wanted)
        };
        let default = Self::default();
        let cluster_labels = match text("cluster_labels") {
            None => default.cluster_labels,
            Some(pairs) => pairs
                .split(',')
                .map(|pair| {
                    pair.split_once(':')
                        .map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned()))
                        .ok_or_else(|| BadSetting {
                            name: "cluster_labels",
                            value: pairs.to_owned(),
                            expected: "key:value pairs",
                        })
                })
                .collect::<Result<_, _>>()?,
        };
        Ok(Self {
            min_instances: number("min_instances")?.unwrap_or(default.min_instances),
            max_instances: number("max_instances")?.unwrap_or(default.max_instances),
            ignore_limits_annotation: text("ignore_instance_limits_annotation_key")
                .map(str::to_owned),
            cluster_labels,
            cluster_name_label: text("cluster_name_label")
                .map_or(default.cluster_name_label, str::to_owned),
            role_label: text("pod_role_label").map_or(default.role_label, str::to_owned),
            use_config_maps: text("kubernetes_use_configmaps")
                .map(|text| {
                    parse_bool(text).ok_or_else(|| BadSetting {
                        name: "kubernetes_use_configmaps",
                        value: text.to_owned(),
                        expected: "true or false",
                    })
                })
                .transpose()?,
            etcd_host: text("etcd_host").map(str::to_owned),
            deletes_volumes: retention(WHEN_SCALED_DELETE),
            deletes_with_cluster: deletes_with_cluster(
                // An unreadable value counts as the default: the operator deletes.
                text(CLAIM_DELETION).and_then(parse_bool).unwrap_or(true),
                retention(WHEN_DELETED_DELETE),
            ),
            // As they stand: the operator trims no item of a list.
            ignored_annotations: data
                .get("ignored_annotations")
                .filter(|keys| !keys.is_empty())
                .into_iter()
                .flat_map(|keys| keys.split(','))
                .map(str::to_owned)
                .collect(),
            failsafe: text("enable_patroni_failsafe_mode").and_then(parse_bool).unwrap_or(false),
            upgrades: Box::new(Upgrades::of_config_map(data)),
            pods: Box::new(PodSettings::of_config_map(data)),
            shaping: Box::new(Shaping::of_config_map(data)),
        })
    }

    /// Reads `configuration` of an `OperatorConfiguration` object.
    pub fn of_operator_configuration(object: &Value) -> Result<Self, BadSetting> {
        let configuration = &object["configuration"];
        let kubernetes = &configuration["kubernetes"];
        let number = |name: &'static str| match configuration.get(name) {
            None | Some(Value::Null) => Ok(-1),
            Some(value) => value.as_i64().ok_or_else(|| BadSetting {
                name,
                value: value.to_string(),
                expected: "a whole number",
            }),
        };
        let text =
            |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        let retention = |(entry, value): (&str, &str)| {
            let entry = kubernetes.get(RETENTION).and_then(|policy| policy.get(entry));
            entry.is_some_and(|set| set == value)
        };
        let default = Self::default();
        Ok(Self {
            min_instances: number("min_instances")?,
            max_instances: number("max_instances")?,
            ignore_limits_annotation: text(&configuration["ignore_instance_limits_annotation_key"]),
            // Empty is unset (`CoalesceStrMap`, pkg/util/util.go).
            cluster_labels: kubernetes["cluster_labels"]
                .as_object()
                .filter(|labels| !labels.is_empty())
                .map_or(default.cluster_labels, |labels| {
                    labels
                        .iter()
                        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
                        .collect()
                }),
            cluster_name_label: text(&kubernetes["cluster_name_label"])
                .unwrap_or(default.cluster_name_label),
            role_label: text(&kubernetes["pod_role_label"]).unwrap_or(default.role_label),
            use_config_maps: configuration["kubernetes_use_configmaps"].as_bool(),
            etcd_host: text(&configuration["etcd_host"]),
            deletes_volumes: retention(WHEN_SCALED_DELETE),
            deletes_with_cluster: deletes_with_cluster(
                kubernetes[CLAIM_DELETION] != false,
                retention(WHEN_DELETED_DELETE),
            ),
            ignored_annotations: kubernetes["ignored_annotations"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|key| key.as_str().map(str::to_owned))
                .collect(),
            failsafe: configuration.pointer("/patroni/enable_patroni_failsafe_mode")
                == Some(&Value::Bool(true)),
            upgrades: Box::new(Upgrades::of_operator_configuration(configuration)),
            pods: Box::new(PodSettings::of_operator_configuration(configuration)),
            shaping: Box::new(Shaping::of_operator_configuration(configuration)),
        })
    }

    /// Returns the number of pods that the operator really runs for `cluster`
    /// (`getNumberOfInstances`, pkg/cluster/k8sres.go).
    ///
    /// It applies the limits silently, the minimum last.
    pub fn effective(&self, cluster: &Postgresql) -> i64 {
        let asked = cluster.instances.unwrap_or(0);
        if self.limits_ignored(cluster) || (cluster.is_standby() && asked == 1) {
            return asked;
        }
        let mut effective = asked;
        if self.max_instances >= 0 {
            effective = effective.min(self.max_instances);
        }
        if self.min_instances >= 0 {
            effective = effective.max(self.min_instances);
        }
        effective
    }

    /// Returns whether `cluster` carries the annotation that switches the limits off.
    pub fn limits_ignored(&self, cluster: &Postgresql) -> bool {
        cluster.switches(self.ignore_limits_annotation.as_ref())
    }
}

/// Reads the spellings of Go's `strconv.ParseBool`.
fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn asking(count: i64, more: &Value) -> Postgresql {
        let mut object = json!({
            "metadata": {"name": "acid-a", "annotations": {}},
            "spec": {"numberOfInstances": count},
        });
        if more.is_object() {
            object["spec"]["standby"] = more["standby"].clone();
            object["metadata"]["annotations"] = more["annotations"].clone();
        }
        Postgresql::of(&object).unwrap()
    }

    #[test]
    fn effective_count_is_computed_as_by_the_operator() {
        let standby = json!({"standby": {"standby_host": "h"}});
        let ignoring = json!({"annotations": {"ignore": "true"}});
        let almost = json!({"annotations": {"ignore": "True"}});
        for (min, max, asked, more, want) in [
            (-1, -1, 7, &Value::Null, 7),
            (2, 5, 7, &Value::Null, 5),
            (2, 5, 1, &Value::Null, 2),
            (2, 5, 0, &Value::Null, 2),
            (-1, 0, 3, &Value::Null, 0), // zero is an active maximum
            (4, 2, 3, &Value::Null, 4),  // the minimum wins over the maximum
            (2, 5, 1, &standby, 1),      // limits are off for a standby cluster of one
            (2, 5, 9, &standby, 5),      // and on again for more
            (2, 5, 9, &ignoring, 9),
            (2, 5, 9, &almost, 5), // only exactly "true"
        ] {
            let settings = Settings {
                min_instances: min,
                max_instances: max,
                ignore_limits_annotation: Some("ignore".into()),
                ..Settings::default()
            };
            assert_eq!(
                settings.effective(&asking(asked, more)),
                want,
                "{min} {max} {asked} {more}"
            );
        }
    }

    #[test]
    fn both_sources_of_settings_are_read_alike() {
        let flat: BTreeMap<String, String> = [
            ("min_instances", "2"),
            ("max_instances", "5"),
            ("ignore_instance_limits_annotation_key", "acid/ignore"),
            ("cluster_labels", "application:pg,team: a"),
            ("cluster_name_label", "cluster"),
            ("pod_role_label", "role"),
            ("kubernetes_use_configmaps", "True"),
            ("etcd_host", ""),
            ("ignored_annotations", "a/b,c"),
            ("enable_persistent_volume_claim_deletion", "false"),
            ("persistent_volume_claim_retention_policy", "when_deleted:retain,when_scaled:delete"),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into();
        let object = json!({"configuration": {
            "min_instances": 2, "max_instances": 5, "ignore_instance_limits_annotation_key": "acid/ignore",
            "kubernetes_use_configmaps": true, "etcd_host": "",
            "kubernetes": {"cluster_labels": {"application": "pg", "team": "a"},
                "ignored_annotations": ["a/b", "c"], "enable_persistent_volume_claim_deletion": false,
                "persistent_volume_claim_retention_policy":
                    {"when_deleted": "retain", "when_scaled": "delete"},
                "cluster_name_label": "cluster", "pod_role_label": "role"},
        }});
        let settings = Settings::of_config_map(&flat).unwrap();
        assert_eq!(Ok(&settings), Settings::of_operator_configuration(&object).as_ref());
        assert_eq!(settings.max_instances, 5);
        assert_eq!(settings.cluster_labels["team"], "a");
        assert_eq!(settings.use_config_maps, Some(true));
        assert_eq!(settings.ignored_annotations, ["a/b", "c"]);
        assert_eq!(settings.deletes_with_cluster, None);
        assert!(settings.deletes_volumes);

        let empty = Settings::of_operator_configuration(&json!({}));
        assert_eq!(Settings::of_config_map(&BTreeMap::new()), empty);
        assert_eq!(empty, Ok(Settings::default()));
        let without_labels = json!({"configuration": {"kubernetes": {"cluster_labels": {}}}});
        assert_eq!(Settings::of_operator_configuration(&without_labels), empty);
    }

    #[test]
    fn error_names_the_bad_setting() {
        let data = BTreeMap::from([("max_instances".to_owned(), "five".to_owned())]);
        let error = Settings::of_config_map(&data).unwrap_err().to_string();
        assert_eq!(
            error,
            "operator setting max_instances is \"five\", which is not a whole number"
        );
    }
}
