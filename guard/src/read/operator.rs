//! Which operator owns a cluster, and with which settings.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

use crate::facts::Seen;
use crate::objects::deployment::{Candidate, SELECTORS, SettingsSource, last_edit, started};
use crate::objects::spell;
use crate::operator::{Operator, Settings};
use crate::postgresql::{GROUP, Postgresql, VERSION};
use crate::read::fetch::{Kind, Objects};

/// Finds the operator of `cluster` among all Deployments that look like one.
pub(super) async fn operator(objects: &Objects, cluster: &Postgresql) -> Seen<Operator> {
    let [manifest, chart] = SELECTORS;
    let (manifest, chart) = futures::join!(
        objects.list::<Deployment>(None, Some(manifest)),
        objects.list::<Deployment>(None, Some(chart)),
    );
    let found = match (manifest, chart) {
        (Ok(manifest), Ok(chart)) => manifest.into_iter().chain(chart),
        (Err(why), _) | (_, Err(why)) => return Seen::Unreadable(why),
    };
    let mut doubts = Vec::new();
    let mut candidates = BTreeMap::new();
    for deployment in found {
        match Candidate::of(&deployment) {
            Ok(candidate) => {
                candidates.insert(candidate.deployment.clone(), candidate);
            }
            Err(why) => doubts.push(why),
        }
    }
    let possible = candidates.values().filter(|candidate| {
        candidate.controller_id == cluster.controller() && candidate.may_watch(&cluster.namespace)
    });
    let read =
        futures::future::join_all(possible.map(|candidate| complete(objects, candidate))).await;
    let mut owner: Option<Operator> = None;
    for candidate in read {
        match candidate {
            Err(why) => doubts.push(why),
            Ok(operator) => {
                let watches = operator
                    .watched_namespace
                    .as_ref()
                    .is_none_or(|namespace| *namespace == cluster.namespace);
                // Two that own the same clusters are a mistake; the one that runs is the one that acts.
                let better = owner.as_ref().is_none_or(|owner| {
                    operator.available == Some(true) && owner.available != Some(true)
                });
                if watches && better {
                    owner = Some(operator);
                }
            }
        }
    }
    match (owner, doubts.is_empty()) {
        (Some(owner), _) => Seen::Known(owner),
        (None, true) => Seen::Absent,
        (None, false) => Seen::Unreadable(doubts.join("; ")),
    }
}

/// Adds what the settings say to what the Deployment says.
async fn complete(objects: &Objects, candidate: &Candidate) -> Result<Operator, String> {
    let selector = spell(&candidate.pod_selector);
    let pods = async {
        // An empty selector would select every pod.
        if selector.is_empty() {
            return None;
        }
        objects.list::<Pod>(Some(&candidate.namespace), Some(&selector)).await.ok()
    };
    let (settings, pods) = futures::join!(settings(objects, candidate), pods);
    let SettingsObject { settings, watched_namespace, edited } = settings?;
    let stale_settings = match (edited, pods) {
        (None, _) => Some(false),
        (Some(_), None) => None,
        // One that does not run reads the settings when it starts.
        (Some(edited), Some(pods)) => Some(started(&pods).is_some_and(|started| edited > started)),
    };
    Ok(Operator {
        deployment: candidate.deployment.clone(),
        source: candidate.settings.to_string(),
        settings,
        available: candidate.available,
        stale_settings,
        watched_namespace: candidate.watched_namespace(watched_namespace.as_deref()),
    })
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
            "{source}, which deployment {} names for its settings, does not exist",
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
                    .map_err(|error| format!("{source}: {error}"))?,
                watched_namespace: data.get("watched_namespace").cloned(),
                edited: last_edit(&map.metadata, "data"),
            })
        }
        SettingsSource::OperatorConfiguration { namespace, name } => {
            let kind = Kind::foreign(
                GROUP,
                VERSION,
                "OperatorConfiguration",
                "operatorconfigurations",
                Some(namespace),
            );
            let object = match objects.get_of::<Value>(&kind, name).await {
                Seen::Known(object) => object,
                Seen::Absent => return Err(missing()),
                Seen::Unreadable(why) => return Err(why),
            };
            let metadata = object.get("metadata").cloned().unwrap_or_default();
            let metadata: ObjectMeta = serde_json::from_value(metadata).unwrap_or_default();
            let watched = object.pointer("/configuration/kubernetes/watched_namespace");
            Ok(SettingsObject {
                settings: Settings::of_operator_configuration(&object)
                    .map_err(|error| format!("{source}: {error}"))?,
                watched_namespace: watched.and_then(Value::as_str).map(str::to_owned),
                edited: last_edit(&metadata, "configuration"),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::read::testing::{self, Fault, Members, OPERATOR, SETTINGS, World, change, world};

    async fn read(world: &World) -> Seen<Operator> {
        let cluster = change(3, 3).new;
        operator(
            &world.reader(&Members::healthy()).objects(std::time::Duration::from_secs(1)),
            &cluster,
        )
        .await
    }

    /// Adds a variable to the operator's container.
    fn set(deployment: &mut Value, variable: Value) {
        let container = &mut deployment["spec"]["template"]["spec"]["containers"][0];
        container["env"].as_array_mut().unwrap().push(variable);
    }

    fn why(seen: &Seen<Operator>) -> &str {
        seen.unreadable().unwrap_or_else(|| panic!("that was read: {seen:?}"))
    }

    #[tokio::test(start_paused = true)]
    async fn the_owner_is_found_with_its_settings() {
        let found = read(&world("endpoints")).await;
        let operator = found.known().unwrap();
        assert_eq!(operator.deployment, "default/postgres-operator");
        assert_eq!(operator.source, "ConfigMap default/postgres-operator");
        assert_eq!((operator.settings.min_instances, operator.settings.max_instances), (1, 9));
        assert_eq!((operator.available, operator.stale_settings), (Some(true), Some(false)));
        assert_eq!(operator.watched_namespace, None);
    }

    #[tokio::test(start_paused = true)]
    async fn of_two_operators_the_one_the_cluster_names_owns_it() {
        let path = "/apis/apps/v1/namespaces/default/deployments/second";
        let two = world("endpoints")
            .with(path, testing::operator("second"))
            .edit(path, |deployment| {
                deployment["metadata"]["labels"] = json!({"app.kubernetes.io/name": "postgres-operator"});
                deployment["spec"]["template"]["spec"]["containers"][0]["env"] = json!([
                    {"name": "CONTROLLER_ID", "value": "second"},
                    {"name": "POSTGRES_OPERATOR_CONFIGURATION_OBJECT", "value": "second"}]);
            })
            .with(
                "/apis/acid.zalan.do/v1/namespaces/default/operatorconfigurations/second",
                json!({"metadata": {"namespace": "default", "name": "second"},
                    "configuration": {"max_instances": 5, "kubernetes": {"watched_namespace": "db"}}}),
            );
        let mut cluster = change(3, 3).new;
        let reader = two.reader(&Members::healthy());
        let objects = reader.objects(std::time::Duration::from_secs(1));
        let first = operator(&objects, &cluster).await;
        assert_eq!(first.known().unwrap().settings.max_instances, 9);

        cluster.annotations.insert("acid.zalan.do/controller".into(), "second".into());
        let second = operator(&objects, &cluster).await;
        let second = second.known().unwrap();
        assert_eq!(second.source, "OperatorConfiguration default/second");
        assert_eq!(second.settings.max_instances, 5);
        assert_eq!(second.watched_namespace.as_deref(), Some("db"));

        cluster.annotations.insert("acid.zalan.do/controller".into(), "third".into());
        assert_eq!(operator(&objects, &cluster).await, Seen::Absent);
    }

    #[tokio::test(start_paused = true)]
    async fn an_operator_that_watches_elsewhere_owns_nothing_here() {
        let elsewhere = |namespace: &str| {
            world("endpoints")
                .edit(SETTINGS, |settings| settings["data"]["watched_namespace"] = json!(namespace))
        };
        assert_eq!(read(&elsewhere("other")).await, Seen::Absent);
        assert_eq!(read(&elsewhere("")).await, Seen::Absent, "only its own namespace");
        assert!(read(&elsewhere("db")).await.known().is_some());
        let by_environment = elsewhere("other").edit(OPERATOR, |deployment| {
            set(deployment, json!({"name": "WATCHED_NAMESPACE", "value": "*"}));
        });
        assert_eq!(read(&by_environment).await.known().unwrap().watched_namespace, None);
    }

    #[tokio::test(start_paused = true)]
    async fn settings_that_cannot_be_had_are_unreadable() {
        let bad = world("endpoints")
            .edit(SETTINGS, |settings| settings["data"]["max_instances"] = json!("five"));
        assert_eq!(
            why(&read(&bad).await),
            "ConfigMap default/postgres-operator: operator setting max_instances is \"five\", which is \
             not a whole number"
        );
        assert_eq!(
            why(&read(&world("endpoints").without(SETTINGS)).await),
            "ConfigMap default/postgres-operator, which deployment default/postgres-operator names for \
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
            "list deployments: no answer within 1 s"
        );
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
