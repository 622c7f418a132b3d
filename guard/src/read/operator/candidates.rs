//! Lists the Deployments that are operators.
//!
//! An operator is a Deployment with a service account that the platform lists. Without a list it is
//! the only Deployment of the whole Kubernetes cluster that may be an operator by its account or
//! its configuration. Among several none is accepted, because any user who may create Deployments
//! can add one.

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;

use crate::facts::Seen;
use crate::objects::deployment::{Candidate, SettingsSource, account, may_operate};
use crate::operator::Account;
use crate::operator::account::{LIST_KEY, LIST_NAME, LIST_NAMESPACE, create_list, listed};
use crate::read::fetch::Objects;
use crate::read::operator::Operators;

/// The number of candidates that a message names.
const NAMED: usize = 5;

/// Returns the Deployments that are operators.
pub(super) async fn candidates(
    objects: &Objects,
    operators: &Operators,
) -> Result<Vec<Deployment>, String> {
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

/// Returns the Deployments of the only possible operator, where there is no list.
///
/// This lists the Deployments of the whole Kubernetes cluster.
///
/// # Errors
/// There are several, or they could not be read.
pub(super) async fn only_candidate(objects: &Objects) -> Result<Vec<Deployment>, String> {
    only_one(possible(objects).await?)
}

/// Lists the Deployments of the whole Kubernetes cluster that may be operators.
pub(super) async fn possible(objects: &Objects) -> Result<Vec<Deployment>, String> {
    objects.list_matching::<Deployment>(None, |_| true, may_operate).await
}

/// Reads the Deployments with these names again, and returns those of the only possible operator.
///
/// # Errors
/// There are several, or they could not be read.
pub(super) async fn only_of(
    objects: &Objects,
    names: &[(String, String)],
) -> Result<Vec<Deployment>, String> {
    let read = names.iter().map(async |(namespace, name)| {
        match objects.get::<Deployment>(Some(namespace), name).await {
            Seen::Known(deployment) => Ok(Some(deployment)),
            Seen::Absent => Ok(None),
            Seen::Unreadable(why) => Err(why),
        }
    });
    let read: Result<Vec<_>, String> = futures::future::join_all(read).await.into_iter().collect();
    only_one(read?.into_iter().flatten().filter(may_operate).collect())
}

/// Returns these Deployments, where all are one operator.
///
/// # Errors
/// There are several.
pub(super) fn only_one(found: Vec<Deployment>) -> Result<Vec<Deployment>, String> {
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

/// Reads the accounts that the platform lists. `None` where there is no list.
///
/// # Errors
/// The list could not be read, or its content is malformed.
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

/// Returns the Deployments that run under one of `accounts`.
pub(super) async fn under(
    objects: &Objects,
    accounts: &[Account],
) -> Result<Vec<Deployment>, String> {
    let namespaces: BTreeSet<&str> =
        accounts.iter().map(|account| account.namespace.as_str()).collect();
    let lists = namespaces.into_iter().map(|namespace| {
        let keep = |deployment: &Deployment| accounts.contains(&account(deployment));
        objects.list_matching::<Deployment>(Some(namespace), |_| true, keep)
    });
    let lists: Result<Vec<_>, String> =
        futures::future::join_all(lists).await.into_iter().collect();
    Ok(lists?.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::read::operator::operator;
    use crate::read::operator::tests::{read, why};
    use crate::read::testing::{self, Fault, LIST, Members, OPERATOR, REAL, World, change, world};

    /// Adds a tenant's Deployment that poses as the operator in every way that a Deployment can.
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

    /// Without this, the limits of a tenant's Deployment let a change from 5 to 2 pass as "2 to 2".
    #[tokio::test(start_paused = true)]
    async fn deployment_of_a_tenant_is_never_the_operator() {
        // Without a list, it is not known which of the two is the operator.
        let both = look_alike(world("endpoints"));
        let reason = why(&read(&both).await).to_owned();
        for part in
            ["a-tenant/postgres-operator", REAL, "kubectl create configmap pgscale-operators"]
        {
            assert!(reason.contains(part), "{part}: {reason}");
        }
        let listed = both.clone().with(LIST, testing::accounts(REAL));
        let found = read(&listed).await;
        assert_eq!(found.known().unwrap().deployment.to_string(), format!("deployment {REAL}"));
        assert_eq!(found.known().unwrap().settings.max_instances, 9);
        // The look-alike alone, beside a list: there is no operator.
        let alone = listed.clone().without(OPERATOR);
        assert_eq!(read(&alone).await, Seen::Absent);
        // A person may name the operator.
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

    /// Neither manifest of OLM, nor a chart with another name, nor a plain one carries the labels.
    #[tokio::test(start_paused = true)]
    async fn operator_without_labels_is_found_by_account_or_configuration() {
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
        // An account of any name, where it is listed.
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
    async fn unusable_list_does_not_count_as_no_list() {
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
}
