//! Which operator owns a cluster, and with which settings.
//!
//! An operator is a Deployment that runs under an account which the platform lists as one. Without a list it is the only
//! Deployment of the whole Kubernetes cluster that may be an operator by its account or its configuration; of several
//! none is believed, because anybody who may create Deployments can add one.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

use crate::facts::Seen;
use crate::objects::deployment::{
    Candidate, SettingsSource, account, last_edit, may_operate, started,
};
use crate::objects::spell;
use crate::operator::account::{LIST_KEY, LIST_NAME, LIST_NAMESPACE, create_list, listed};
use crate::operator::{Account, Operator, Settings};
use crate::postgresql::{GROUP, Postgresql, VERSION};
use crate::read::fetch::{Kind, Objects};

/// Where the operators are looked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Operators {
    /// Under the accounts that the platform lists, or the only candidate where there is no list.
    #[default]
    Listed,
    /// In this Deployment, whatever is listed: a person names it.
    Named {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
}

/// Finds the operator of `cluster`.
pub(super) async fn operator(
    objects: &Objects,
    operators: &Operators,
    cluster: &Postgresql,
) -> Seen<Operator> {
    let found = match candidates(objects, operators).await {
        Ok(found) => found,
        Err(why) => return Seen::Unreadable(why),
    };
    let mut doubts = Vec::new();
    // Two Deployments of one account and one configuration are one operator, rolled out twice.
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
    let mut owners: Vec<Operator> = Vec::new();
    for candidate in read {
        match candidate {
            Err(why) => doubts.push(why),
            Ok(operator) => {
                let watched = operator.watched_namespace.as_ref();
                if watched.is_none_or(|namespace| *namespace == cluster.namespace) {
                    owners.push(operator);
                }
            }
        }
    }
    if let Some((first, rest)) = owners.split_first() {
        if let Some(other) = rest.iter().find(|other| !same(first, other)) {
            let cluster = format!("{}/{}", cluster.namespace, cluster.name);
            doubts.push(format!(
                "{} and {} both own postgresql {cluster}: give one of them a CONTROLLER_ID",
                first.deployment, other.deployment
            ));
        } else {
            let running = owners.iter().position(|it| it.available == Some(true));
            return Seen::Known(owners.swap_remove(running.unwrap_or(0)));
        }
    }
    if let (Operators::Named { namespace, name }, true) = (operators, doubts.is_empty()) {
        doubts.push(format!(
            "deployment {namespace}/{name}, named as the operator, does not own postgresql {}/{}: its CONTROLLER_ID or \
             its watched namespace is another",
            cluster.namespace, cluster.name
        ));
    }
    if doubts.is_empty() { Seen::Absent } else { Seen::Unreadable(doubts.join("; ")) }
}

/// Returns whether both are one operator: the same account with the same settings.
fn same(one: &Operator, other: &Operator) -> bool {
    one.account == other.account && one.source == other.source
}

/// The Deployments that are operators.
async fn candidates(objects: &Objects, operators: &Operators) -> Result<Vec<Deployment>, String> {
    if let Operators::Named { namespace, name } = operators {
        return match objects.get::<Deployment>(Some(namespace), name).await {
            Seen::Known(deployment) => Ok(vec![deployment]),
            Seen::Absent => {
                Err(format!("deployment {namespace}/{name}, named as the operator, does not exist"))
            }
            Seen::Unreadable(why) => Err(why),
        };
    }
    match listed_accounts(objects).await? {
        Some(accounts) => under(objects, &accounts).await,
        None => only_candidate(objects).await,
    }
}

/// The Deployments of the only operator there can be, where no account is listed.
///
/// # Errors
/// There are several, or they could not be read.
async fn only_candidate(objects: &Objects) -> Result<Vec<Deployment>, String> {
    let found = objects.list_matching::<Deployment>(None, may_operate).await?;
    let identities: BTreeSet<(Account, Option<SettingsSource>)> = found
        .iter()
        .map(|it| (account(it), Candidate::of(it).ok().map(|candidate| candidate.settings)))
        .collect();
    if identities.len() < 2 {
        return Ok(found);
    }
    let mut names: Vec<String> = found
        .iter()
        .map(|it| {
            let metadata = &it.metadata;
            let part = |part: &Option<String>| part.clone().unwrap_or_default();
            let name = format!("{}/{}", part(&metadata.namespace), part(&metadata.name));
            format!("{name} (account {})", account(it))
        })
        .collect();
    names.sort_unstable();
    let more = names.len().saturating_sub(NAMED);
    names.truncate(NAMED);
    if more > 0 {
        names.push(format!("{more} more"));
    }
    Err(format!(
        "{} deployments may be the operator and none is listed as one: {}. List the accounts of all operators \
         (operatorAccounts of the chart): {}",
        found.len(),
        names.join(", "),
        create_list()
    ))
}

/// How many candidates a message names.
const NAMED: usize = 5;

/// Reads the accounts that the platform lists; `None` where there is no list.
///
/// # Errors
/// The list could not be read, or lists nothing that can be understood.
pub(super) async fn listed_accounts(objects: &Objects) -> Result<Option<Vec<Account>>, String> {
    match objects.get::<ConfigMap>(Some(LIST_NAMESPACE), LIST_NAME).await {
        Seen::Known(list) => {
            let text = list.data.as_ref().and_then(|data| data.get(LIST_KEY));
            let text = text.map(String::as_str).unwrap_or_default();
            let accounts = listed(text)
                .map_err(|why| format!("configmap {LIST_NAMESPACE}/{LIST_NAME}: {why}"))?;
            Ok(Some(accounts))
        }
        Seen::Absent => Ok(None),
        Seen::Unreadable(why) => Err(format!("the list of operators' accounts: {why}")),
    }
}

/// The Deployments that run under one of `accounts`.
async fn under(objects: &Objects, accounts: &[Account]) -> Result<Vec<Deployment>, String> {
    let namespaces: BTreeSet<&str> =
        accounts.iter().map(|account| account.namespace.as_str()).collect();
    let lists = namespaces.into_iter().map(|namespace| {
        let keep = |deployment: &Deployment| accounts.contains(&account(deployment));
        objects.list_matching::<Deployment>(Some(namespace), keep)
    });
    let lists: Result<Vec<_>, String> =
        futures::future::join_all(lists).await.into_iter().collect();
    Ok(lists?.into_iter().flatten().collect())
}

/// Reads the accounts that operators run under: those that are listed, or the one of the only candidate.
///
/// # Errors
/// They could not be read, or there are several candidates and no list.
pub(super) async fn accounts(objects: &Objects) -> Result<Vec<Account>, String> {
    if let Some(accounts) = listed_accounts(objects).await? {
        return Ok(accounts);
    }
    Ok(only_candidate(objects).await?.iter().map(account).collect())
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
        account: candidate.account.clone(),
        major: candidate.major,
        source: candidate.settings.object(),
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
                    .map_err(|error| format!("{}: {error}", source.object()))?,
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
    use crate::read::testing::{
        self, Fault, LIST, Members, OPERATOR, SETTINGS, World, change, world,
    };

    async fn read(world: &World) -> Seen<Operator> {
        let cluster = change(3, 3).new;
        operator(
            &world.reader(&Members::healthy()).objects(std::time::Duration::from_secs(1)),
            &Operators::Listed,
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
        assert_eq!(operator.deployment.to_string(), "deployment default/postgres-operator");
        assert_eq!(operator.source.to_string(), "configmap default/postgres-operator");
        assert_eq!((operator.settings.min_instances, operator.settings.max_instances), (1, 9));
        assert_eq!((operator.available, operator.stale_settings), (Some(true), Some(false)));
        assert_eq!(operator.watched_namespace, None);
    }

    /// A tenant's Deployment that calls itself the operator in every way a Deployment can.
    fn look_alike(world: World) -> World {
        let mut deployment = testing::operator("postgres-operator");
        deployment["metadata"] = json!({"namespace": "a-tenant", "name": "postgres-operator",
            "labels": {"app.kubernetes.io/name": "postgres-operator", "application": "postgres-operator"}});
        let container = &mut deployment["spec"]["template"]["spec"]["containers"][0];
        container["env"] = json!([{"name": "CONFIG_MAP_NAME", "value": "mine"},
            {"name": "WATCHED_NAMESPACE", "value": "*"}]);
        let settings = json!({"metadata": {"namespace": "a-tenant", "name": "mine"},
            "data": {"max_instances": "2"}});
        world
            .with("/apis/apps/v1/namespaces/a-tenant/deployments/postgres-operator", deployment)
            .with("/api/v1/namespaces/a-tenant/configmaps/mine", settings)
    }

    const REAL: &str = "default/postgres-operator";

    /// review-path.md §4 row 1: with the limits of a tenant's Deployment a 5 to 2 passed as "2 to 2".
    #[tokio::test(start_paused = true)]
    async fn a_look_alike_has_no_say_whatever_its_labels_are() {
        // Without a list, nobody can tell which of the two it is.
        let both = look_alike(world("endpoints"));
        let told = why(&read(&both).await).to_owned();
        for part in
            ["a-tenant/postgres-operator", REAL, "kubectl create configmap pgscale-operators"]
        {
            assert!(told.contains(part), "{part}: {told}");
        }
        let listed = both.clone().with(LIST, testing::accounts(REAL));
        let found = read(&listed).await;
        assert_eq!(found.known().unwrap().deployment.to_string(), format!("deployment {REAL}"));
        assert_eq!(found.known().unwrap().settings.max_instances, 9);
        // The look-alike alone, beside a list: there is no operator.
        let alone = listed.clone().without(OPERATOR);
        assert_eq!(read(&alone).await, Seen::Absent);
        // A person may name one.
        let objects = both.reader(&Members::healthy()).objects(std::time::Duration::from_secs(1));
        let named = |namespace: &str, name: &str| Operators::Named {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        };
        let cluster = change(3, 3).new;
        let found = operator(&objects, &named("default", "postgres-operator"), &cluster).await;
        assert_eq!(found.known().unwrap().deployment.to_string(), format!("deployment {REAL}"));
        let missing = operator(&objects, &named("default", "other"), &cluster).await;
        assert_eq!(
            why(&missing),
            "deployment default/other, named as the operator, does not exist"
        );
    }

    /// cases.md B7: neither manifest of OLM, nor a chart with another name, nor a plain one carries the labels.
    #[tokio::test(start_paused = true)]
    async fn an_operator_is_found_by_its_account_or_its_configuration_without_labels() {
        let without = |edit: fn(&mut Value)| {
            world("endpoints").edit(OPERATOR, move |deployment| {
                deployment["metadata"]["labels"] = json!({});
                edit(deployment);
            })
        };
        let pod = |deployment: &mut Value| deployment["spec"]["template"]["spec"].take();
        let by_account = without(|_| {});
        let by_configuration =
            without(|it| it["spec"]["template"]["spec"]["serviceAccountName"] = json!("pg"));
        for (name, world, account) in
            [("account", by_account, REAL), ("configuration", by_configuration, "default/pg")]
        {
            let found = read(&world).await;
            let found = found.known().unwrap_or_else(|| panic!("{name}: {found:?}"));
            assert_eq!(
                (found.deployment.to_string(), found.account.to_string()),
                (format!("deployment {REAL}"), account.to_owned())
            );
        }
        // Under any name, where it is listed.
        let custom = world("endpoints").edit(OPERATOR, |it| {
            it["metadata"]["labels"] = json!({});
            let mut spec = pod(it);
            spec["serviceAccountName"] = json!("custom");
            spec["containers"][0]["env"] = json!([{"name": "WATCHED_NAMESPACE", "value": "*"}]);
            it["spec"]["template"]["spec"] = spec;
        });
        assert_eq!(read(&custom).await, Seen::Absent);
        let listed = custom.with(LIST, testing::accounts("default/custom"));
        assert_eq!(read(&listed).await.known().unwrap().account.to_string(), "default/custom");
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_that_cannot_be_used_is_not_taken_for_none() {
        for (name, world, want) in [
            (
                "forbidden",
                world("endpoints").fault("configmaps", Fault::Status(403)),
                "the list of operators' accounts: get configmaps in kube-public: forbidden",
            ),
            (
                "empty",
                world("endpoints").with(LIST, testing::accounts("")),
                "configmap kube-public/pgscale-operators: its key accounts lists no account",
            ),
        ] {
            assert_eq!(why(&read(&world).await), want, "{name}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn of_two_real_owners_of_one_cluster_none_is_believed() {
        let path = "/apis/apps/v1/namespaces/default/deployments/second";
        let settings = "/api/v1/namespaces/default/configmaps/second";
        let two = world("endpoints")
            .with(path, testing::operator("second"))
            .with(
                settings,
                json!({"metadata": {"namespace": "default", "name": "second"},
                "data": {"max_instances": "2", "watched_namespace": "*"}}),
            )
            .with(LIST, testing::accounts(REAL));
        assert_eq!(
            why(&read(&two).await),
            "deployment default/postgres-operator and deployment default/second both own postgresql db/acid-a: give \
             one of them a CONTROLLER_ID"
        );
        // The same one, rolled out twice: the one that runs counts.
        let twice = world("endpoints").with(path, testing::operator("postgres-operator")).edit(
            path,
            |it| {
                it["metadata"]["name"] = json!("second");
            },
        );
        let stopped = twice.edit(OPERATOR, |it| it["spec"]["replicas"] = json!(0));
        assert_eq!(
            read(&stopped).await.known().unwrap().deployment.to_string(),
            "deployment default/second"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn of_two_operators_the_one_the_cluster_names_owns_it() {
        let path = "/apis/apps/v1/namespaces/default/deployments/second";
        let two = world("endpoints")
            .with(LIST, testing::accounts(REAL))
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
        let first = operator(&objects, &Operators::Listed, &cluster).await;
        assert_eq!(first.known().unwrap().settings.max_instances, 9);

        cluster.annotations.insert("acid.zalan.do/controller".into(), "second".into());
        let second = operator(&objects, &Operators::Listed, &cluster).await;
        let second = second.known().unwrap();
        assert_eq!(second.source.to_string(), "operatorconfiguration default/second");
        assert_eq!(second.settings.max_instances, 5);
        assert_eq!(second.watched_namespace.as_deref(), Some("db"));

        cluster.annotations.insert("acid.zalan.do/controller".into(), "third".into());
        assert_eq!(operator(&objects, &Operators::Listed, &cluster).await, Seen::Absent);
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
