//! Reads the settings of one operator.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

use crate::facts::Seen;
use crate::objects::deployment::{Candidate, SettingsSource, last_edit, started};
use crate::objects::spell;
use crate::operator::{Operator, Settings, variables};
use crate::postgresql::{GROUP, VERSION};
use crate::read::fetch::{Kind, Objects};

/// The most sets of pods whose starts are remembered. There are as many as operators.
const SETS: usize = 64;

/// A time before which none of an operator's pods started, by the namespace and the labels of these pods.
///
/// It holds for ever: a pod keeps its start, and a later pod starts later. So settings that were not
/// edited since are those of every pod, and nothing more needs to be read to know it.
#[derive(Debug, Default)]
pub(super) struct Starts(Mutex<HashMap<(String, String), Timestamp>>);

impl Starts {
    fn of(&self, pods: &(String, String)) -> Option<Timestamp> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(pods).copied()
    }

    /// Records the first start among the `read` pods. The start of a pod is that of its kubelet's work:
    /// a container that restarts changes nothing about it.
    fn record(&self, pods: (String, String), read: &[Pod]) {
        let starts = read.iter().filter_map(|pod| pod.status.as_ref()?.start_time.as_ref());
        let Some(first) = starts.map(|time| time.0).min() else { return };
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= SETS {
            all.clear();
        }
        all.insert(pods, first);
    }
}

/// Completes a Deployment's data with the settings of its operator. What `starts` knows of its pods is
/// not read again.
pub(super) async fn complete(
    objects: &Objects,
    candidate: &Candidate,
    starts: Option<&Starts>,
) -> Result<Operator, String> {
    let key = (candidate.namespace.clone(), spell(&candidate.pod_selector));
    // Where the version is not known, what the operator wrote since its newest start tells of it.
    let first = starts.filter(|_| candidate.major.is_some()).and_then(|starts| starts.of(&key));
    let pods = async {
        let (namespace, selector) = &key;
        // An empty selector would select every pod.
        if selector.is_empty() {
            return None;
        }
        let pods = objects.list::<Pod>(Some(namespace), Some(selector)).await.ok()?;
        if let Some(starts) = starts {
            starts.record(key.clone(), &pods);
        }
        Some(pods)
    };
    let (SettingsObject { mut settings, watched_namespace, edited }, pods) = match first {
        None => {
            let (settings, pods) = futures::join!(settings(objects, candidate), pods);
            (settings?, pods)
        }
        Some(first) => {
            let settings = settings(objects, candidate).await?;
            let every_pod_has_them = settings.edited.is_none_or(|edited| edited <= first);
            let pods = if every_pod_has_them { Some(Vec::new()) } else { pods.await };
            (settings, pods)
        }
    };
    let stale_settings = match (edited, &pods) {
        (None, _) => Some(false),
        (Some(_), None) => None,
        // An operator that does not run yet reads the settings when it starts.
        (Some(edited), Some(pods)) => Some(started(pods).is_some_and(|started| edited > started)),
    };
    // A name alone is one in the operator's own namespace (`NamespacedName.Decode`,
    // pkg/spec/types.go).
    if let Some(map) = &mut settings.pods.environment_map {
        let (namespace, name) = map.split_once('/').unwrap_or(("", map));
        let namespace = if namespace.is_empty() { &candidate.own_namespace } else { namespace };
        *map = format!("{namespace}/{}", name.trim_start_matches('/'));
    }
    Ok(Operator {
        deployment: candidate.deployment.clone(),
        account: candidate.account.clone(),
        major: candidate.major,
        source: candidate.settings.object(),
        settings,
        available: candidate.available,
        stale_settings,
        watched_namespace: candidate.watched_namespace(watched_namespace.as_deref()),
        started: pods.and_then(|pods| started(&pods)),
    })
}

/// Returns the object that holds the settings of an operator, by the path of its kind and by its name.
/// `None` where no object holds them.
pub(super) fn place(source: &SettingsSource) -> Option<(Kind, &str)> {
    match source {
        SettingsSource::BuiltIn => None,
        SettingsSource::ConfigMap { namespace, name } => {
            Some((Kind::of::<ConfigMap>(Some(namespace)), name.as_str()))
        }
        SettingsSource::OperatorConfiguration { namespace, name } => {
            Some((configurations(namespace), name.as_str()))
        }
    }
}

fn configurations(namespace: &str) -> Kind {
    let (kind, plural) = ("OperatorConfiguration", "operatorconfigurations");
    Kind::foreign(GROUP, VERSION, kind, plural, Some(namespace))
}

/// Adds the variables that the operator gives every pod of a cluster in `namespace`, where a ConfigMap
/// holds them (`getPodEnvironmentConfigMapVariables`, pkg/cluster/k8sres.go).
pub(super) async fn with_environment(
    objects: &Objects,
    mut operator: Operator,
    namespace: &str,
) -> Operator {
    let Some(map) = &operator.settings.pods.environment_map else { return operator };
    let (own, name) = map.split_once('/').unwrap_or((namespace, map));
    let found = match objects.get::<ConfigMap>(Some(own), name).await {
        // Where it is not there, the operator looks beside the cluster.
        Seen::Absent if own != namespace => objects.get(Some(namespace), name).await,
        found @ (Seen::Absent | Seen::Known(_) | Seen::Unreadable(_)) => found,
    };
    operator.settings.pods.environment = match found {
        Seen::Known(ConfigMap { data, .. }) => {
            let data = data.unwrap_or_default();
            let all = data.iter().map(|(name, text)| (name.as_str(), !text.is_empty()));
            Seen::Known(variables(all))
        }
        Seen::Absent => Seen::Unreadable(format!("configmap {map} does not exist")),
        Seen::Unreadable(why) => Seen::Unreadable(why),
    };
    operator
}

struct SettingsObject {
    settings: Settings,
    watched_namespace: Option<String>,
    edited: Option<Timestamp>,
}

async fn settings(objects: &Objects, candidate: &Candidate) -> Result<SettingsObject, String> {
    let source = &candidate.settings;
    let missing = || {
        format!(
            "{}, which {} names for its settings, does not exist",
            source.object(),
            candidate.deployment
        )
    };
    match source {
        SettingsSource::BuiltIn => Ok(SettingsObject {
            settings: Settings::default(),
            watched_namespace: None,
            edited: None,
        }),
        SettingsSource::ConfigMap { namespace, name } => {
            let map = match objects.get::<ConfigMap>(Some(namespace), name).await {
                Seen::Known(map) => map,
                Seen::Absent => return Err(missing()),
                Seen::Unreadable(why) => return Err(why),
            };
            let data = map.data.unwrap_or_default();
            Ok(SettingsObject {
                settings: Settings::of_config_map(&data)
                    .map_err(|error| format!("{}: {error}", source.object()))?,
                watched_namespace: data.get("watched_namespace").cloned(),
                edited: last_edit(&map.metadata, "data"),
            })
        }
        SettingsSource::OperatorConfiguration { namespace, name } => {
            let object = match objects.get_of::<Value>(&configurations(namespace), name).await {
                Seen::Known(object) => object,
                Seen::Absent => return Err(missing()),
                Seen::Unreadable(why) => return Err(why),
            };
            let metadata = object.get("metadata").cloned().unwrap_or_default();
            let metadata: ObjectMeta = serde_json::from_value(metadata).unwrap_or_default();
            let watched = object.pointer("/configuration/kubernetes/watched_namespace");
            Ok(SettingsObject {
                settings: Settings::of_operator_configuration(&object)
                    .map_err(|error| format!("{}: {error}", source.object()))?,
                watched_namespace: watched.and_then(Value::as_str).map(str::to_owned),
                edited: last_edit(&metadata, "configuration"),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::Seen;
    use crate::read::operator::tests::{read, set, why};
    use crate::read::testing::{Fault, OPERATOR, SETTINGS, World, world};

    #[tokio::test(start_paused = true)]
    async fn missing_or_malformed_settings_are_unreadable() {
        let bad = world("endpoints")
            .edit(SETTINGS, |settings| settings["data"]["max_instances"] = json!("five"));
        assert_eq!(
            why(&read(&bad).await),
            "configmap default/postgres-operator: operator setting max_instances is \"five\", which is \
             not a whole number"
        );
        assert_eq!(
            why(&read(&world("endpoints").without(SETTINGS)).await),
            "configmap default/postgres-operator, which deployment default/postgres-operator names for \
             its settings, does not exist"
        );
        let secret = world("endpoints").edit(OPERATOR, |deployment| {
            let source = json!({"secretKeyRef": {"name": "s", "key": "k"}});
            set(deployment, json!({"name": "CONTROLLER_ID", "valueFrom": source}));
        });
        assert_eq!(
            why(&read(&secret).await),
            "CONTROLLER_ID of deployment default/postgres-operator comes from a Secret, which the guard \
             does not read"
        );
        assert_eq!(
            why(&read(&world("endpoints").fault("deployments", Fault::Hang)).await),
            "list deployments: no answer within 1s"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn variables_of_every_pod_are_read_where_the_operator_looks_for_them() {
        let map = |namespace: &str, data: Value| {
            let path = format!("/api/v1/namespaces/{namespace}/configmaps/pods");
            (path, json!({"metadata": {"namespace": namespace, "name": "pods"}, "data": data}))
        };
        let naming = |name: &str| {
            world("endpoints").edit(SETTINGS, |settings| {
                settings["data"]["pod_environment_configmap"] = json!(name);
            })
        };
        let found = async |world: &World| {
            read(world).await.known().unwrap().settings.pods.environment.clone()
        };
        assert_eq!(found(&world("endpoints")).await, Seen::Absent);
        let (path, object) = map(
            "default",
            json!({"KUBERNETES_USE_CONFIGMAPS": "no", "WAL_S3_BUCKET": "b", "ETCD_HOST": ""}),
        );
        let own = naming("pods").with(&path, object.clone());
        let want = [("ETCD_HOST", false), ("KUBERNETES_USE_CONFIGMAPS", true)];
        let want = Seen::Known(want.map(|(name, set)| (name.to_owned(), set)).into());
        assert_eq!(found(&own).await, want, "only what bears on the store is kept");
        let (path, object) = map("db", object["data"].clone());
        assert_eq!(found(&naming("elsewhere/pods").with(&path, object)).await, want);
        let gone = found(&naming("pods")).await;
        assert_eq!(gone.unreadable(), Some("configmap default/pods does not exist"));
        let ask = own.fault("configmaps", Fault::Status(403));
        assert!(read(&ask).await.unreadable().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn settings_edited_after_the_start_are_stale() {
        let edited_at = |time: &str| {
            world("endpoints").edit(SETTINGS, |settings| {
                settings["metadata"]["managedFields"] = json!([
                    {"manager": "kubectl-edit", "operation": "Update", "time": time,
                     "fieldsType": "FieldsV1", "fieldsV1": {"f:data": {"f:max_instances": {}}}},
                    {"manager": "kubectl-label", "operation": "Update", "time": "2026-11-23T00:00:00Z",
                     "fieldsType": "FieldsV1", "fieldsV1": {"f:metadata": {"f:labels": {}}}},
                ]);
            })
        };
        let stale = async |world: &World| read(world).await.known().unwrap().stale_settings;
        assert_eq!(stale(&edited_at("2026-11-02T00:00:01Z")).await, Some(true));
        assert_eq!(stale(&edited_at("2026-11-01T23:59:59Z")).await, Some(false));
        let forbidden = edited_at("2026-11-03T00:00:00Z").fault("pods", Fault::Status(403));
        assert_eq!(stale(&forbidden).await, None, "not known is not fine");
    }
}
