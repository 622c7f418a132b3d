//! Finds the operator that owns a cluster.
//!
//! [`candidates`] lists the Deployments that are operators, and [`settings`] reads the settings of
//! one. [`known`] keeps what they found for a second.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::Deployment;

use crate::facts::Seen;
use crate::objects::Layout;
use crate::objects::deployment::{Candidate, account};
use crate::operator::{Account, Operator};
use crate::postgresql::Postgresql;
use crate::read::fetch::Objects;
use crate::read::shared::Age;

mod candidates;
mod known;
mod settings;

pub use known::{KnownOperators, Source};

use candidates::{candidates, listed_accounts, only_candidate};
use settings::{Starts, complete, with_environment};

/// The source of operators.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Operators {
    /// The Deployments with an account that the platform lists, or the only candidate where there
    /// is no list.
    #[default]
    Listed,
    /// The same, for a process that judges many changes: they share what is at most a second old.
    Known(KnownOperators),
    /// This Deployment, independent of the list: a person names it.
    Named {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
}

impl Operators {
    /// Returns the same for a reader that takes what is this old. It matters only where changes share the
    /// operators.
    #[must_use]
    pub fn aged(&self, age: Age) -> Self {
        match self {
            Self::Known(known) => Self::Known(known.aged(age)),
            Self::Listed | Self::Named { .. } => self.clone(),
        }
    }

    /// Returns the layout that a cluster usually has, as a guess before anything is read of it.
    pub(super) fn usual_layout(&self, cluster: &str) -> Layout {
        let last = match self {
            Self::Known(known) => known.last(),
            Self::Listed | Self::Named { .. } => None,
        };
        let settings = last.as_ref().map(|operator| operator.settings.clone());
        let layout = Layout::by_settings(cluster, &settings.unwrap_or_default());
        let store = last.as_ref().and_then(Operator::store);
        Layout { store: store.unwrap_or(layout.store), ..layout }
    }
}

/// The operators that were found.
#[derive(Debug, Default)]
struct Found {
    /// The reasons for which some Deployments are not understood.
    doubts: Vec<String>,
    /// The others, each with its settings, or the reason for which those are not known.
    operators: Vec<(Candidate, Result<Operator, String>)>,
}

impl Found {
    /// Returns the operators of these Deployments: all, or those that may own `cluster`.
    async fn of(
        objects: &Objects,
        deployments: &[Deployment],
        cluster: Option<&Postgresql>,
        starts: Option<&Starts>,
    ) -> Self {
        let mut doubts = Vec::new();
        // Two Deployments of one account and one configuration are one operator, rolled out twice.
        let mut candidates = BTreeMap::new();
        for deployment in deployments {
            match Candidate::of(deployment) {
                Ok(candidate) => {
                    candidates.insert(candidate.deployment.clone(), candidate);
                }
                Err(why) => doubts.push(why),
            }
        }
        let possible = candidates
            .into_values()
            .filter(|candidate| cluster.is_none_or(|cluster| may_own(candidate, cluster)));
        let read = possible.map(async |candidate| {
            let operator = complete(objects, &candidate, starts).await;
            (candidate, operator)
        });
        Self { doubts, operators: futures::future::join_all(read).await }
    }

    /// Returns whether everything is known.
    fn is_complete(&self) -> bool {
        self.doubts.is_empty() && self.operators.iter().all(|(_, operator)| operator.is_ok())
    }

    /// Returns the operator of `cluster`.
    fn owner(&self, operators: &Operators, cluster: &Postgresql) -> Seen<Operator> {
        let mut doubts = self.doubts.clone();
        let mut owners: Vec<&Operator> = Vec::new();
        let possible = self.operators.iter().filter(|(candidate, _)| may_own(candidate, cluster));
        for (_, operator) in possible {
            match operator {
                Err(why) => doubts.push(why.clone()),
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
                let running = owners.iter().find(|it| it.available == Some(true));
                return Seen::Known((*running.unwrap_or(first)).clone());
            }
        }
        if let (Operators::Named { namespace, name }, true) = (operators, doubts.is_empty()) {
            doubts.push(format!(
                "deployment {namespace}/{name}, named as the operator, does not own postgresql {}/{}: its CONTROLLER_ID or \
                 its watched namespace differs",
                cluster.namespace, cluster.name
            ));
        }
        if doubts.is_empty() { Seen::Absent } else { Seen::Unreadable(doubts.join("; ")) }
    }
}

/// Finds the operator of `cluster`.
pub(super) async fn operator(
    objects: &Objects,
    operators: &Operators,
    cluster: &Postgresql,
) -> Seen<Operator> {
    let owner = if let Operators::Known(known) = operators {
        match known.found(objects).await {
            Ok(found) => found.owner(operators, cluster),
            Err(why) => Seen::Unreadable(why),
        }
    } else {
        match candidates(objects, operators).await {
            Ok(deployments) => Found::of(objects, &deployments, Some(cluster), None)
                .await
                .owner(operators, cluster),
            Err(why) => Seen::Unreadable(why),
        }
    };
    match owner {
        Seen::Known(owner) => {
            Seen::Known(with_environment(objects, owner, &cluster.namespace).await)
        }
        unknown @ (Seen::Absent | Seen::Unreadable(_)) => unknown,
    }
}

/// Reads the service accounts of operators: the listed ones, or the account of the only candidate.
///
/// # Errors
/// They could not be read, or there are several candidates and no list.
pub(super) async fn accounts(
    objects: &Objects,
    operators: &Operators,
) -> Result<Vec<Account>, String> {
    if let Operators::Known(known) = operators {
        return known.accounts(objects).await;
    }
    if let Some(accounts) = listed_accounts(objects).await? {
        return Ok(accounts);
    }
    Ok(only_candidate(objects).await?.iter().map(account).collect())
}

/// Returns whether the operator may own `cluster`, by all that its Deployment says.
fn may_own(candidate: &Candidate, cluster: &Postgresql) -> bool {
    candidate.controller_id == cluster.controller() && candidate.may_watch(&cluster.namespace)
}

/// Returns whether both are one operator: the same account with the same settings.
fn same(one: &Operator, other: &Operator) -> bool {
    one.account == other.account && one.source == other.source
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::read::testing::{
        self, LIST, Members, OPERATOR, REAL, SETTINGS, World, change, world,
    };

    /// Reads the operator of `acid-a`.
    pub(super) async fn read(world: &World) -> Seen<Operator> {
        let cluster = change(3, 3).new;
        operator(
            &world.reader(&Members::healthy()).objects(std::time::Duration::from_secs(1)),
            &Operators::Listed,
            &cluster,
        )
        .await
    }

    /// Adds a variable to the operator's container.
    pub(super) fn set(deployment: &mut Value, variable: Value) {
        let container = &mut deployment["spec"]["template"]["spec"]["containers"][0];
        container["env"].as_array_mut().unwrap().push(variable);
    }

    /// Returns the reason for which the operator is not known.
    pub(super) fn why(seen: &Seen<Operator>) -> &str {
        seen.unreadable().unwrap_or_else(|| panic!("the operator is known: {seen:?}"))
    }

    #[tokio::test(start_paused = true)]
    async fn owner_is_found_with_its_settings() {
        let found = read(&world("endpoints")).await;
        let operator = found.known().unwrap();
        assert_eq!(operator.deployment.to_string(), "deployment default/postgres-operator");
        assert_eq!(operator.source.to_string(), "configmap default/postgres-operator");
        assert_eq!((operator.settings.min_instances, operator.settings.max_instances), (1, 9));
        assert_eq!((operator.available, operator.stale_settings), (Some(true), Some(false)));
        assert_eq!(operator.watched_namespace, None);
    }

    #[tokio::test(start_paused = true)]
    async fn two_owners_of_one_cluster_are_an_error() {
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
        // The same operator, rolled out twice: the running one counts.
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
    async fn operator_that_the_cluster_names_owns_it() {
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
    async fn operator_of_another_namespace_owns_nothing_here() {
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
}
