//! Deployments of operators, and the one that owns a cluster.
//!
//! Semantics: `hasOwnership`, `getEffectiveNamespace` and `initController` in
//! pkg/controller/controller.go, `NamespacedName.Decode` and `GetOperatorNamespace` in
//! pkg/spec/types.go.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Container, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;

use crate::object_ref::{Kind, ObjectRef};
use crate::objects::{Variable, environment};
use crate::operator::Account;

/// The account of the operator in its own manifests, in its chart and in the one of OLM.
const USUAL_ACCOUNT: &str = "postgres-operator";

const CONFIGURATION_OBJECT: &str = "POSTGRES_OPERATOR_CONFIGURATION_OBJECT";
const CONFIG_MAP: &str = "CONFIG_MAP_NAME";
const CONTROLLER_ID: &str = "CONTROLLER_ID";
const OPERATOR_NAMESPACE: &str = "OPERATOR_NAMESPACE";
const WATCHED_NAMESPACE: &str = "WATCHED_NAMESPACE";

/// One operator, as its Deployment describes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// The Deployment, with its namespace.
    pub deployment: ObjectRef,
    /// Namespace of its pods.
    pub namespace: String,
    /// The service account that they run under.
    pub account: Account,
    /// The first number of the version in its image's tag, or else in its labels. `None` where
    /// neither is a version.
    pub major: Option<u32>,
    /// The id by which clusters name it. Empty for the default operator.
    pub controller_id: String,
    /// The namespace that it takes for its own.
    pub own_namespace: String,
    /// `WATCHED_NAMESPACE`, which wins over its settings.
    pub watched_by_environment: Option<String>,
    /// The place of its settings.
    pub settings: SettingsSource,
    /// It has an available replica. `None` where the Deployment does not say.
    pub available: Option<bool>,
    /// Labels of its pods.
    pub pod_selector: BTreeMap<String, String>,
}

/// The place of an operator's settings.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SettingsSource {
    /// No place: it runs with its built-in defaults.
    BuiltIn,
    /// In a ConfigMap.
    ConfigMap {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// In an `OperatorConfiguration`.
    OperatorConfiguration {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
}

impl SettingsSource {
    /// Returns the object that holds them.
    pub fn object(&self) -> ObjectRef {
        match self {
            Self::BuiltIn => ObjectRef::all(Kind::BuiltIn),
            Self::ConfigMap { namespace, name } => {
                ObjectRef::new(Kind::ConfigMap, name).in_namespace(namespace)
            }
            Self::OperatorConfiguration { namespace, name } => {
                ObjectRef::new(Kind::OperatorConfiguration, name).in_namespace(namespace)
            }
        }
    }
}

impl Candidate {
    /// Reads a Deployment. The error names a variable with a value in a place that the guard does
    /// not read.
    pub fn of(object: &Deployment) -> Result<Self, String> {
        let namespace = object.metadata.namespace.clone().unwrap_or_default();
        let name = object.metadata.name.as_deref().unwrap_or_default();
        let deployment = ObjectRef::new(Kind::Deployment, name).in_namespace(&namespace);
        let spec = object.spec.as_ref();
        let containers = spec
            .and_then(|spec| spec.template.spec.as_ref())
            .map_or(&[][..], |pod| pod.containers.as_slice());
        let container = operator_container(containers);
        let text = |name: &str| -> Result<Option<String>, String> {
            let text = match container.and_then(|container| environment(container, name)) {
                None => None,
                Some(Variable::Text(text)) => Some(text.to_owned()),
                Some(Variable::Field("metadata.namespace")) => Some(namespace.clone()),
                Some(Variable::Field(field)) if let Some(text) = of_the_template(object, field) => {
                    Some(text)
                }
                Some(Variable::Field(field)) => {
                    return Err(format!(
                        "{name} of {deployment} comes from the pod's {field}, which the guard \
                         does not know"
                    ));
                }
                Some(Variable::Elsewhere(place)) => {
                    return Err(format!(
                        "{name} of {deployment} comes from {place}, which the guard does not read"
                    ));
                }
            };
            Ok(text.filter(|text| !text.is_empty()))
        };
        let own_namespace = text(OPERATOR_NAMESPACE)?.unwrap_or_else(|| namespace.clone());
        let settings = match (text(CONFIGURATION_OBJECT)?, text(CONFIG_MAP)?) {
            (Some(name), _) => {
                SettingsSource::OperatorConfiguration { namespace: own_namespace.clone(), name }
            }
            (None, Some(name)) => {
                let (namespace, name) = match name.split_once('/') {
                    Some((namespace, name)) if !namespace.is_empty() => (namespace, name),
                    Some((_, name)) => (own_namespace.as_str(), name),
                    None => (own_namespace.as_str(), name.as_str()),
                };
                SettingsSource::ConfigMap { namespace: namespace.into(), name: name.into() }
            }
            (None, None) => SettingsSource::BuiltIn,
        };
        let stopped = spec.and_then(|spec| spec.replicas) == Some(0);
        let available =
            object.status.as_ref().map(|status| status.available_replicas.unwrap_or(0) > 0);
        Ok(Self {
            account: account(object),
            major: container
                .and_then(|container| major(container.image.as_deref()?))
                .or_else(|| major_by_labels(&object.metadata)),
            controller_id: text(CONTROLLER_ID)?.unwrap_or_default(),
            watched_by_environment: text(WATCHED_NAMESPACE)?,
            settings,
            available: if stopped { Some(false) } else { available },
            pod_selector: spec
                .and_then(|spec| spec.selector.match_labels.clone())
                .unwrap_or_default(),
            own_namespace,
            deployment,
            namespace,
        })
    }

    /// Returns the namespace that it watches, `None` for all, where its settings say `by_settings`.
    ///
    /// The environment wins, then the settings, then its own namespace.
    pub fn watched_namespace(&self, by_settings: Option<&str>) -> Option<String> {
        let watched = self
            .watched_by_environment
            .as_deref()
            .or(by_settings.filter(|text| !text.is_empty()))
            .unwrap_or(&self.own_namespace);
        (watched != "*").then(|| watched.to_owned())
    }

    /// Returns whether it may watch `namespace`, by its Deployment alone: without the environment
    /// variable, its settings decide.
    pub fn may_watch(&self, namespace: &str) -> bool {
        self.watched_by_environment
            .as_deref()
            .is_none_or(|watched| watched == "*" || watched == namespace)
    }
}

/// Returns the value of a pod's label or annotation as the template sets it, for the path of a
/// field such as `metadata.annotations['olm.targetNamespaces']`.
///
/// `None` where the template does not set it.
fn of_the_template(object: &Deployment, field: &str) -> Option<String> {
    let (map, rest) = field.strip_prefix("metadata.")?.split_once("['")?;
    let key = rest.strip_suffix("']")?;
    let metadata = object.spec.as_ref()?.template.metadata.as_ref()?;
    let values = match map {
        "annotations" => metadata.annotations.as_ref()?,
        "labels" => metadata.labels.as_ref()?,
        _ => return None,
    };
    values.get(key).cloned()
}

/// Returns the service account of the pods of a Deployment: `default` where it names none.
pub fn account(object: &Deployment) -> Account {
    let pod = object.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
    let name = pod.and_then(|pod| {
        // The older of the two fields still works where the newer one is unset.
        pod.service_account_name.as_deref().or(pod.service_account.as_deref())
    });
    Account {
        namespace: object.metadata.namespace.clone().unwrap_or_default(),
        name: name.filter(|name| !name.is_empty()).unwrap_or("default").to_owned(),
    }
}

/// Returns whether a Deployment may be an operator, by its account or by its configuration.
///
/// It runs under the usual account, or one of its containers names the place of an operator's
/// settings. Labels decide nothing.
pub fn may_operate(object: &Deployment) -> bool {
    let containers = object
        .spec
        .as_ref()
        .and_then(|spec| spec.template.spec.as_ref())
        .map_or(&[][..], |pod| pod.containers.as_slice());
    let configured = containers.iter().any(|container| {
        [CONFIGURATION_OBJECT, CONFIG_MAP].iter().any(|name| environment(container, name).is_some())
    });
    configured || account(object).name == USUAL_ACCOUNT
}

/// Returns the first number of the version in an image's tag: 2 of
/// `registry/postgres-operator:v2.0.1@sha256:…`.
fn major(image: &str) -> Option<u32> {
    let (name, _) = image.split_once('@').unwrap_or((image, ""));
    // A colon before the last slash is a registry's port.
    let (_, tag) = name.rsplit_once(':').filter(|(_, tag)| !tag.contains('/'))?;
    let (number, _) = tag.trim_start_matches('v').split_once('.')?;
    // A larger number is no version of the operator but, say, a date.
    number.parse().ok().filter(|major| *major <= 9)
}

/// Returns the first number of the version that the operator's chart writes beside it, for an image
/// whose tag is no version: its own label (`postgres-operator.chart`,
/// charts/postgres-operator/templates/_helpers.tpl), or the common one. The chart and the operator
/// have one version.
fn major_by_labels(metadata: &ObjectMeta) -> Option<u32> {
    let labels = metadata.labels.as_ref()?;
    let chart = labels.get("helm.sh/chart").and_then(|chart| {
        chart.strip_prefix("postgres-operator-").filter(|version| version.contains('.'))
    });
    let common = labels.get("app.kubernetes.io/version").map(String::as_str);
    let version = chart.or(common)?.trim_start_matches('v');
    version.split_once('.')?.0.parse().ok().filter(|major| *major <= 9)
}

/// Returns the operator's container: one with its variables, else one with its name, else the
/// first.
fn operator_container(containers: &[Container]) -> Option<&Container> {
    let configured = |container: &&Container| {
        [CONFIGURATION_OBJECT, CONFIG_MAP, CONTROLLER_ID, WATCHED_NAMESPACE]
            .iter()
            .any(|name| environment(container, name).is_some())
    };
    containers
        .iter()
        .find(configured)
        .or_else(|| containers.iter().find(|container| container.name == "postgres-operator"))
        .or_else(|| containers.first())
}

/// Returns the time of the last write to `part` (`data`, `configuration`) of an object, as far as
/// it is recorded.
pub fn last_edit(metadata: &ObjectMeta, part: &str) -> Option<Timestamp> {
    let field = format!("f:{part}");
    metadata
        .managed_fields
        .iter()
        .flatten()
        .filter(|entry| {
            entry.fields_v1.as_ref().is_some_and(|fields| fields.0.get(&field).is_some())
        })
        .filter_map(|entry| entry.time.as_ref())
        .chain(metadata.creation_timestamp.as_ref())
        .map(|time| time.0)
        .max()
}

/// Returns the time at which the newest of an operator's `pods` started and read its settings.
pub fn started(pods: &[Pod]) -> Option<Timestamp> {
    pods.iter()
        .filter_map(|pod| pod.status.as_ref())
        .flat_map(|status| {
            let restarts = status.container_statuses.iter().flatten().filter_map(|container| {
                container.state.as_ref()?.running.as_ref()?.started_at.as_ref()
            });
            restarts.chain(status.start_time.as_ref())
        })
        .map(|time| time.0)
        .max()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// Returns a Deployment whose operator container has this environment.
    fn deployment(env: &Value) -> Deployment {
        serde_json::from_value(json!({
            "metadata": {"namespace": "ops", "name": "pg"},
            "spec": {"selector": {"matchLabels": {"name": "pg"}}, "template": {"spec": {"containers": [
                {"name": "proxy", "env": [{"name": "PORT", "value": "1"}]},
                {"name": "postgres-operator", "env": env}]}}},
            "status": {"availableReplicas": 1}}))
        .unwrap()
    }

    fn config_map(namespace: &str, name: &str) -> SettingsSource {
        SettingsSource::ConfigMap { namespace: namespace.into(), name: name.into() }
    }

    #[test]
    fn environment_names_the_settings() {
        let object =
            SettingsSource::OperatorConfiguration { namespace: "ops".into(), name: "o".into() };
        let own = json!({"name": "OPERATOR_NAMESPACE", "value": "home"});
        let map = |name: &str| json!({"name": "CONFIG_MAP_NAME", "value": name});
        for (env, want) in [
            (json!([]), SettingsSource::BuiltIn),
            (json!([map("m")]), config_map("ops", "m")),
            (json!([map("other/m")]), config_map("other", "m")),
            (json!([map("/m")]), config_map("ops", "m")),
            (json!([map("m"), own]), config_map("home", "m")),
            (json!([map("other/m"), own]), config_map("other", "m")),
            (
                json!([map("m"), {"name": "POSTGRES_OPERATOR_CONFIGURATION_OBJECT", "value": "o"}]),
                object,
            ),
        ] {
            assert_eq!(Candidate::of(&deployment(&env)).unwrap().settings, want, "{env}");
        }
    }

    #[test]
    fn version_is_of_the_image_or_else_of_the_labels() {
        let major = |image: &str, labels: Value| {
            let mut object = deployment(&json!([]));
            object.metadata.labels = serde_json::from_value(labels).unwrap();
            let pod = object.spec.as_mut().unwrap().template.spec.as_mut().unwrap();
            pod.containers[1].image = Some(image.to_owned());
            Candidate::of(&object).unwrap().major
        };
        let chart = |chart: &str| json!({"helm.sh/chart": chart});
        let digest = "ghcr.io/zalando/postgres-operator@sha256:00";
        for (image, labels, want) in [
            ("postgres-operator:v1.15.1", chart("postgres-operator-2.0.1"), Some(1)),
            ("postgres-operator:v2.0.1@sha256:00", json!({}), Some(2)),
            (digest, chart("postgres-operator-1.15.1"), Some(1)),
            (digest, chart("platform-7.1.0"), None),
            (digest, json!({"app.kubernetes.io/version": "v2.0.1"}), Some(2)),
            ("postgres-operator:latest", json!({}), None),
        ] {
            assert_eq!(major(image, labels.clone()), want, "{image} {labels}");
        }
    }

    #[test]
    fn watched_namespace_is_computed_as_by_the_operator() {
        for (env, by_settings, want) in [
            (json!([]), None, Some("ops")),
            (json!([]), Some(""), Some("ops")),
            (json!([]), Some("db"), Some("db")),
            (json!([]), Some("*"), None),
            (json!([{"name": "WATCHED_NAMESPACE", "value": "*"}]), Some("db"), None),
            (json!([{"name": "WATCHED_NAMESPACE", "value": "db"}]), Some("*"), Some("db")),
            (json!([{"name": "WATCHED_NAMESPACE", "value": ""}]), Some("*"), None),
            (
                json!([{"name": "WATCHED_NAMESPACE",
                    "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}}]),
                Some("*"),
                Some("ops"),
            ),
        ] {
            let candidate = Candidate::of(&deployment(&env)).unwrap();
            assert_eq!(
                candidate.watched_namespace(by_settings).as_deref(),
                want,
                "{env} {by_settings:?}"
            );
        }
    }

    #[test]
    fn version_is_read_off_the_tag() {
        for (image, want) in [
            ("ghcr.io/zalando/postgres-operator:v2.0.1", Some(2)),
            ("registry.example.com:5000/postgres-operator:v1.15.1@sha256:0ff", Some(1)),
            ("postgres-operator:1.14.0-5-gabc", Some(1)),
            ("registry.example.com:5000/postgres-operator", None),
            ("postgres-operator@sha256:0ff", None),
            ("postgres-operator:latest", None),
            ("postgres-operator:master-15.2", None),
        ] {
            assert_eq!(major(image), want, "{image}");
        }
    }

    #[test]
    fn accounts_and_settings_make_a_candidate_but_labels_do_not() {
        let with = |env: &Value, name: Value| {
            let mut object = deployment(env);
            object.spec.as_mut().unwrap().template.spec.as_mut().unwrap().service_account_name =
                serde_json::from_value(name).unwrap();
            object
        };
        let map = json!([{"name": "CONFIG_MAP_NAME", "value": "m"}]);
        for (object, account_name, candidate) in [
            (with(&json!([]), json!("postgres-operator")), "postgres-operator", true),
            (with(&map, json!(null)), "default", true),
            (with(&map, json!("custom")), "custom", true),
            (with(&json!([]), json!("custom")), "custom", false),
        ] {
            assert_eq!(account(&object).to_string(), format!("ops/{account_name}"));
            assert_eq!(may_operate(&object), candidate, "{account_name}");
        }
        let mut labelled = with(&json!([]), json!("custom"));
        labelled.metadata.labels = Some(BTreeMap::from([
            ("application".into(), "postgres-operator".into()),
            ("app.kubernetes.io/name".into(), "postgres-operator".into()),
        ]));
        assert!(!may_operate(&labelled));
    }

    #[test]
    fn value_set_by_the_template_is_known() {
        let env = json!([{"name": "WATCHED_NAMESPACE",
            "valueFrom": {"fieldRef": {"fieldPath": "metadata.annotations['olm.targetNamespaces']"}}}]);
        let mut object = deployment(&env);
        assert!(Candidate::of(&object).is_err(), "only its pods may know");
        let template = &mut object.spec.as_mut().unwrap().template;
        let annotations = BTreeMap::from([("olm.targetNamespaces".to_owned(), "db".to_owned())]);
        template.metadata =
            Some(ObjectMeta { annotations: Some(annotations), ..ObjectMeta::default() });
        let candidate = Candidate::of(&object).unwrap();
        assert_eq!(candidate.watched_namespace(Some("*")).as_deref(), Some("db"));
    }

    #[test]
    fn operator_is_available_when_a_replica_is() {
        let available = |edit: fn(&mut Deployment)| {
            let mut object = deployment(&json!([]));
            edit(&mut object);
            Candidate::of(&object).unwrap().available
        };
        assert_eq!(available(|_| {}), Some(true));
        assert_eq!(
            available(|object| object.spec.as_mut().unwrap().replicas = Some(0)),
            Some(false)
        );
        assert_eq!(
            available(|object| object.status.as_mut().unwrap().available_replicas = None),
            Some(false)
        );
        assert_eq!(available(|object| object.status = None), None);
    }

    #[test]
    fn value_from_another_object_is_not_guessed() {
        for (source, want) in [
            (
                json!({"fieldRef": {"fieldPath": "metadata.name"}}),
                "CONTROLLER_ID of deployment ops/pg comes from the pod's metadata.name, which the guard \
                 does not know",
            ),
            (
                json!({"configMapKeyRef": {"name": "m", "key": "k"}}),
                "CONTROLLER_ID of deployment ops/pg comes from a ConfigMap, which the guard does not read",
            ),
        ] {
            let object = deployment(&json!([{"name": "CONTROLLER_ID", "valueFrom": source}]));
            assert_eq!(Candidate::of(&object), Err(want.to_owned()));
        }
    }

    #[test]
    fn restarted_container_has_read_the_settings_again() {
        let pod = |start: &str, restart: Option<&str>| -> Pod {
            let running = restart.map(|time| {
                json!([{"name": "o", "image": "i", "imageID": "i",
                "ready": true, "restartCount": 1, "state": {"running": {"startedAt": time}}}])
            });
            serde_json::from_value(json!({"metadata": {},
                "status": {"startTime": start, "containerStatuses": running}}))
            .unwrap()
        };
        let time = |text: &str| text.parse::<Timestamp>().unwrap();
        assert_eq!(started(&[]), None);
        let (first, second) = ("2026-11-20T10:00:00Z", "2026-11-21T10:00:00Z");
        assert_eq!(started(&[pod(second, None), pod(first, None)]), Some(time(second)));
        assert_eq!(started(&[pod(first, Some(second))]), Some(time(second)));
    }
}
