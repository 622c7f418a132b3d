//! Reads one cluster: its objects from the API server, its members' positions from the members.
//!
//! The only I/O of the crate. Nothing here judges, and no single failure fails the whole read. A
//! fact that cannot be read becomes [`Unreadable`](crate::facts::Seen::Unreadable) with its reason,
//! and the rules decide its meaning.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::OptionFuture;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use tokio::time::Instant;

use crate::change::Change;
use crate::facts::{Capacity, Facts, Seen};
use crate::operator::{Account, Operator};
use crate::overrides::{Overrides, ScaleOverride};
use crate::policy::Policies;
use crate::postgresql::Postgresql;
use crate::rules::may_shrink;

mod address;
mod ask;
mod bounded;
mod capacity;
mod carried_out;
mod clusters;
mod fetch;
#[cfg(test)]
mod floods;
mod json_end;
mod lean;
#[cfg(test)]
mod matrix;
mod member_address;
#[cfg(test)]
mod neighbours;
mod nodes;
mod operator;
mod patroni;
mod policies;
#[cfg(test)]
mod recorded;
#[cfg(test)]
mod requests;
mod rest;
mod shared;
#[cfg(test)]
mod testing;
mod workload;

pub use bounded::bounded_text;
pub use carried_out::CarriedOut;
pub use fetch::{ReadError, forbidden};
pub use operator::{KnownOperators, Operators, Source};
pub use rest::{Address, Direct, MemberClient, RestRequest, RestResponse, exchange_over};
pub use shared::{Age, Moment, Observe, Served, Shared, Sharing};

use capacity::Needed;
use fetch::Objects;
use workload::{silent_members_nodes, workload};

/// The time that the objects leave for the members: a second to answer, and a reserve.
const FOR_MEMBERS: Duration = Duration::from_millis(1300);

/// The time for which the nodes wait for the policies, which say how old they may be.
const FOR_POLICIES: Duration = Duration::from_millis(200);

/// A reader of clusters.
#[derive(Clone)]
pub struct Reader {
    /// The API server.
    pub client: Client,
    /// The way to the members.
    pub ask: Arc<dyn MemberClient>,
    /// The time limit of one whole read.
    pub deadline: Duration,
    /// The scope of what it reads around the cluster.
    pub breadth: ReadScope,
    /// The source of the operators.
    pub operators: Operators,
    /// The source of the present time.
    pub clock: Clock,
    /// The answers that it shares with other readers. `None` where each read asks for itself, as for a
    /// person who plans.
    pub sharing: Option<Sharing>,
}

/// A function that returns the present time.
pub type Clock = fn() -> Timestamp;

/// Returns the time of the machine.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "the one place that reads the clock: every other function takes the time as an argument"
)]
pub fn machine_time() -> Timestamp {
    Timestamp::now()
}

/// The scope of what a reader reads around the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadScope {
    /// The facts that a review needs and may wait for.
    Review,
    /// Also facts for a person who plans: all nodes, and the disruption budgets.
    Whole,
    /// The same for one instance less and one more, whatever the change, for a view of both
    /// directions.
    Around,
    /// Every fact that any rule needs for any change, for a record.
    Everything,
}

/// The members to ask for their live state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AskWhom {
    /// All members, whatever the change.
    All,
    /// The members that the change needs: all for a shrink, and for growth the leader and those
    /// that look unfinished.
    AsNeeded,
}

impl Reader {
    /// Reads the overrides that name a cluster.
    ///
    /// Without the CRD there are none. A failure is recorded in [`Overrides::unreadable`].
    pub async fn overrides(&self, cluster: &Postgresql) -> Overrides {
        let objects = self.objects(self.deadline).lasting();
        match objects.ours::<ScaleOverride>(Some(&cluster.namespace)).await {
            Ok(overrides) => {
                let own = overrides.decoded.iter().filter(|one| one.spec.cluster == cluster.name);
                Overrides::of(own.cloned().collect(), &cluster.name)
                    .and_undecodable(&overrides.undecodable, &cluster.name)
            }
            Err(error) => Overrides::unreadable(error.to_string()),
        }
    }

    /// Reads the service accounts of operators: those that the platform lists, or the account of
    /// the only candidate.
    ///
    /// # Errors
    /// They could not be read, or there are several candidates and no list.
    pub async fn operator_accounts(&self) -> Result<Vec<Account>, String> {
        operator::accounts(&self.objects(self.deadline).lasting(), &self.operators).await
    }

    /// Reads the operator that owns a cluster, and its settings.
    pub async fn operator(&self, cluster: &Postgresql) -> Seen<Operator> {
        let objects = self.objects(self.deadline).lasting();
        operator::operator(&objects, &self.operators, cluster).await
    }

    /// Reads everything that the rules look at: the objects, in parallel, then the members that
    /// `ask` names.
    pub async fn facts(&self, change: Change, ask: AskWhom) -> Facts {
        // Boxed: the state between all these answers would make every caller's future large.
        self.read_facts(change, ask, std::future::ready(true)).boxed().await
    }

    /// Does the same. What other reviews have read of nodes counts unless `fresh_nodes` says otherwise.
    async fn read_facts(
        &self,
        change: Change,
        ask: AskWhom,
        fresh_nodes: impl Future<Output = bool> + Clone + Send + Sync,
    ) -> Facts {
        let now = (self.clock)();
        let until = Instant::now() + self.deadline;
        let may_ask = ask == AskWhom::All || change.old.is_some();
        let kept_back = if may_ask { FOR_MEMBERS.min(self.deadline / 2) } else { Duration::ZERO };
        let objects = self.objects(self.deadline.saturating_sub(kept_back));
        let cluster = &change.new;

        let operators = &self.operators;
        let lasting = objects.lasting();
        let operator = operator::operator(&lasting, operators, cluster).boxed().shared();
        let moved = change.old.as_ref().filter(|old| old.controller() != cluster.controller());
        let before = moved.map(|old| operator::operator(&lasting, operators, old));
        let before = OptionFuture::from(before).boxed();
        let needed = Needed::of(&change, self.breadth);
        let guess = operators.usual_layout(&cluster.name);
        let workload = workload(&objects, cluster, needed, &guess, operator.clone(), fresh_nodes);
        let workload = workload.boxed();
        let (namespace, name) = (cluster.namespace.as_str(), cluster.name.as_str());
        let room = if needed.room { Some(capacity::room(&objects, namespace)) } else { None };
        let room = OptionFuture::from(room).boxed();
        let backup = capacity::backup(&objects, namespace, name, operator.clone());
        let backup = OptionFuture::from(needed.backup.then_some(backup)).boxed();
        let (operator, before, workload, room, backup) =
            futures::join!(operator, before, workload, room, backup);
        let (quotas, limit_ranges) = room.unzip();
        let mut facts = Facts {
            now,
            change,
            operator,
            operator_before: before.map(Box::new),
            stateful_set: workload.stateful_set,
            members: workload.members,
            leader: workload.patroni.leader,
            configuration: workload.patroni.configuration,
            failover: workload.patroni.failover,
            sync: workload.patroni.sync,
            claims: workload.claims,
            last_leader: workload.patroni.last_leader,
            initialize: workload.patroni.initialize,
            elsewhere: workload.patroni.elsewhere.map(Box::new),
            capacity: Box::new(Capacity {
                template: workload.template,
                quotas,
                limit_ranges,
                nodes: workload.nodes,
                disruption_budgets: workload.disruption_budgets,
                backup,
            }),
        };
        ask::ask(self.ask.as_ref(), &mut facts, ask, until).boxed().await;
        if let Seen::Known(members) = &mut facts.members {
            let objects = Objects { until, ..objects.clone() };
            silent_members_nodes(&objects, members).boxed().await;
        }
        facts
    }

    /// Reads everything that the rules look at, and the policies, at the same time. What only some
    /// policies ask for is read once they are known.
    pub async fn facts_and_policies(&self, change: Change, ask: AskWhom) -> (Facts, Policies) {
        let written = change.clone();
        let until = Instant::now() + self.deadline;
        let policies = self.policies(&written).map(Arc::new).boxed().shared();
        let fresh_nodes = {
            let policies = policies.clone();
            let refuse = async move {
                let policies = policies.await;
                nodes::refuse(&policies)
            };
            let known = tokio::time::timeout(FOR_POLICIES, refuse);
            known.map(|known| known.unwrap_or(true)).boxed().shared()
        };
        let facts = self.read_facts(change, ask, fresh_nodes).boxed();
        let (mut facts, policies) = futures::join!(facts, policies);
        let policies = Arc::unwrap_or_clone(policies);
        let asks = |policies: &Policies| policies.backup_max_age.is_some();
        let asked = asks(&policies) || policies.by_old_labels.as_deref().is_some_and(asks);
        if asked && facts.capacity.backup.is_none() && may_shrink(&facts.change) {
            let objects = Objects { until, ..self.objects(self.deadline) };
            let operator = futures::future::ready(facts.operator.clone());
            let Postgresql { namespace, name, .. } = &facts.change.new;
            let backup = capacity::backup(&objects, namespace, name, operator).boxed().await;
            facts.capacity.backup = Some(backup);
        }
        (facts, policies)
    }

    fn objects(&self, patience: Duration) -> Objects {
        Objects { sharing: self.sharing.clone(), ..Objects::of(self.client.clone(), patience) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::{Value, json};

    use super::*;
    use crate::facts::Live;
    use crate::read::testing::{Fault, Members, SET, World, change, world};

    async fn read(world: &World) -> Facts {
        world.reader(&Members::healthy()).facts(change(3, 2), AskWhom::AsNeeded).await
    }

    /// Returns every unreadable fact with its reason, by name.
    fn unreadable(facts: &Facts) -> BTreeMap<&'static str, &str> {
        [
            ("operator", facts.operator.unreadable()),
            ("stateful_set", facts.stateful_set.unreadable()),
            ("members", facts.members.unreadable()),
            ("leader", facts.leader.unreadable()),
            ("configuration", facts.configuration.unreadable()),
            ("failover", facts.failover.unreadable()),
            ("sync", facts.sync.unreadable()),
            ("claims", facts.claims.unreadable()),
            ("last_leader", facts.last_leader.unreadable()),
            ("initialize", facts.initialize.unreadable()),
        ]
        .into_iter()
        .filter_map(|(name, why)| Some((name, why?)))
        .collect()
    }

    #[tokio::test(start_paused = true)]
    async fn healthy_cluster_is_read_in_full() {
        for plural in ["endpoints", "configmaps"] {
            let world = world(plural);
            let facts = read(&world).await;
            assert_eq!(unreadable(&facts), BTreeMap::new());
            let names: Vec<_> =
                facts.all_members().iter().map(|member| member.name.as_str()).collect();
            assert_eq!(names, ["acid-a-0", "acid-a-1", "acid-a-2"]);
            let member = facts.member("acid-a-1").unwrap();
            assert_eq!(member.pod.zone.as_deref(), Some("zone-1"));
            assert_eq!(member.pod.node_ready, Some(true));
            assert_eq!(facts.leader_name(), Some("acid-a-0"));
            let source = match plural {
                "endpoints" => "endpoints/acid-a",
                _ => "configmap/acid-a-leader",
            };
            assert_eq!(facts.leader.known().unwrap().source.to_string(), source);
            assert_eq!(facts.configuration.known().unwrap().maximum_lag_on_failover, 33_554_432);
            assert_eq!(facts.failover, Seen::Absent, "the object is there and holds nothing");
            assert_eq!(facts.sync.known().unwrap().standbys, ["acid-a-1"]);
            assert_eq!(facts.last_leader, Seen::Known("acid-a-0".into()));
            assert_eq!(facts.claims.known().unwrap().len(), 3);
            assert_eq!(facts.operator.known().unwrap().settings.max_instances, 9);
            assert_eq!((facts.from(), facts.to()), (Some(3), 2));
            assert!(facts.all_members().iter().all(|member| member.live != Live::NotAsked));
            assert!(
                world.requested().iter().all(|asked| !asked.contains("resourceVersion")),
                "a resource version would be answered from a cache: {:?}",
                world.requested()
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn forbidden_resource_is_named_and_hides_no_other_fact() {
        let patroni = ["configuration", "failover", "initialize", "last_leader", "leader", "sync"];
        for (resource, blind, why) in [
            ("statefulsets", &["stateful_set"][..], "get statefulsets in db: forbidden"),
            ("pods", &["members"], "list pods in db: forbidden"),
            ("persistentvolumeclaims", &["claims"], "list persistentvolumeclaims in db: forbidden"),
            ("endpoints", &patroni, "get endpoints in db: forbidden"),
            ("deployments", &["operator"], "list deployments: forbidden"),
            (
                "configmaps",
                &["operator"],
                "the list of operators' accounts: get configmaps in kube-public: forbidden",
            ),
            ("nodes", &[], ""),
        ] {
            let facts = read(&world("endpoints").fault(resource, Fault::Status(403))).await;
            let mut found = unreadable(&facts);
            if resource == "statefulsets" {
                // Without it the DCS store is not known, and both kinds are read.
                assert_eq!(facts.leader_name(), Some("acid-a-0"));
                found.retain(|name, _| !patroni.contains(name));
            }
            assert_eq!(found.keys().copied().collect::<Vec<_>>(), blind, "{resource}");
            assert!(found.values().all(|said| *said == why), "{resource}: {found:?}");
            if resource == "nodes" {
                let nodes: Vec<_> =
                    facts.all_members().iter().map(|member| member.pod.node_ready).collect();
                assert_eq!(nodes, [None, None, None]);
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn missing_objects_are_absent_and_not_unreadable() {
        let facts = World::default()
            .reader(&Members::healthy())
            .facts(Change { old: None, ..change(3, 3) }, AskWhom::All)
            .await;
        assert_eq!(unreadable(&facts), BTreeMap::new());
        assert_eq!(facts.operator, Seen::Absent);
        assert_eq!(facts.stateful_set, Seen::Absent);
        assert_eq!(facts.members, Seen::Known(Vec::new()));
        assert_eq!(facts.leader, Seen::Absent);
        assert_eq!(facts.configuration, Seen::Absent);
        assert_eq!(facts.claims, Seen::Known(Vec::new()));
    }

    #[tokio::test(start_paused = true)]
    async fn hanging_api_server_costs_no_more_than_the_deadline() {
        let start = Instant::now();
        let facts = read(&world("endpoints").fault("persistentvolumeclaims", Fault::Hang)).await;
        assert_eq!(
            unreadable(&facts),
            BTreeMap::from([(
                "claims",
                "list persistentvolumeclaims in db: no answer within 2.7s"
            )])
        );
        assert!(matches!(facts.all_members()[0].live, Live::Answered(_)), "there is time to ask");
        assert!(start.elapsed() <= Duration::from_secs(4));

        let mut dead = world("endpoints");
        for resource in [
            "statefulsets",
            "pods",
            "deployments",
            "endpoints",
            "configmaps",
            "persistentvolumeclaims",
        ] {
            dead = dead.fault(resource, Fault::Hang);
        }
        let start = Instant::now();
        let facts = read(&dead).await;
        assert_eq!(unreadable(&facts).len(), 10);
        assert!(start.elapsed() <= Duration::from_secs(4), "{:?}", start.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn deleted_node_is_not_ready() {
        let facts = read(&world("endpoints").without("/api/v1/nodes/node-2")).await;
        assert_eq!(facts.member("acid-a-2").unwrap().pod.node_ready, Some(false));
    }

    #[tokio::test(start_paused = true)]
    async fn annotation_that_the_operator_ignores_is_not_foreign() {
        let foreign = |set: &mut Value| {
            set["metadata"]["annotations"] = json!({"a/b": "x", "c": "x"});
            set["metadata"]["managedFields"] = json!([{"manager": "vela", "operation": "Update",
                "fieldsV1": {"f:metadata": {"f:annotations": {".": {}, "f:a/b": {}, "f:c": {}}}}}]);
        };
        let facts =
            read(&world("endpoints").edit(SET, foreign).edit(testing::SETTINGS, |settings| {
                settings["data"]["ignored_annotations"] = json!("a/b");
            }))
            .await;
        let set = facts.stateful_set.known().unwrap();
        let replacement = facts.assess().replacement(set, &facts.change.new).unwrap();
        let reasons: Vec<String> = replacement.reasons.iter().map(ToString::to_string).collect();
        assert_eq!(reasons, ["statefulset/acid-a: annotation c: written by vela"]);
    }

    const CLUSTER: &str = "/apis/acid.zalan.do/v1/namespaces/db/postgresqls/acid-a";

    #[tokio::test(start_paused = true)]
    async fn cluster_is_read_or_the_error_names_the_reason() {
        let there = World::default().with(
            CLUSTER,
            json!({"metadata": {"namespace": "db", "name": "acid-a", "labels": {"team": "acid"}},
                "spec": {"numberOfInstances": 3}}),
        );
        let members = Members::healthy();
        let reader = there.reader(&members);
        assert_eq!(reader.cluster("db", "acid-a").await.unwrap().instances, Some(3));
        let missing = reader.cluster("db", "acid-b").await.unwrap_err();
        assert!(missing.is_not_found() && !missing.is_forbidden());
        assert_eq!(missing.to_string(), "failed to get postgresqls acid-b in db: not found");
        assert_eq!(reader.clusters(Some("db"), Some("team=acid")).await.unwrap().len(), 1);
        assert_eq!(reader.clusters(None, Some("team=other")).await.unwrap().len(), 0);
        assert_eq!(reader.clusters(None, None).await.unwrap().len(), 1);

        for (fault, why) in [
            (Fault::Status(403), "failed to get postgresqls acid-a in db: forbidden"),
            (Fault::Status(401), "failed to get postgresqls acid-a in db: unauthorized"),
            (
                Fault::Status(500),
                "failed to get postgresqls acid-a in db: 500 the server says InternalError",
            ),
            (Fault::Hang, "failed to get postgresqls acid-a in db: no answer within 4s"),
        ] {
            let reader = there.clone().fault("postgresqls", fault).reader(&members);
            assert_eq!(reader.cluster("db", "acid-a").await.unwrap_err().to_string(), why);
        }
        let odd = there.edit(CLUSTER, |cluster| cluster["spec"]["numberOfInstances"] = json!("3"));
        assert_eq!(
            odd.reader(&members).clusters(None, None).await.unwrap_err().to_string(),
            "failed to understand postgresqls db/acid-a: spec.numberOfInstances is \"3\", which is not a \
             whole number of instances"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn overrides_are_read_or_the_error_names_the_reason() {
        let members = Members::healthy();
        let cluster = change(3, 3).new;
        let named = |name: &str| {
            json!({"apiVersion": "pgscale.dev/v1alpha1", "kind": "ScaleOverride",
                "metadata": {"namespace": "db", "name": name},
                "spec": {"cluster": name, "clusterUid": "u1", "to": 2, "rules": ["paused"],
                    "reason": "night", "expiresAt": "2026-11-24T11:00:00Z"}})
        };
        let path = "/apis/pgscale.dev/v1alpha1/namespaces/db/scaleoverrides";
        let world = World::default()
            .with(&format!("{path}/acid-a"), named("acid-a"))
            .with(&format!("{path}/acid-b"), named("acid-b"));
        let found = world.reader(&members).overrides(&cluster).await;
        assert_eq!(found.granted.len(), 1, "{found:?}");
        assert_eq!(found.granted[0].spec.cluster, "acid-a");

        let without_crd = World::default().fault("scaleoverrides", Fault::Status(404));
        assert_eq!(without_crd.reader(&members).overrides(&cluster).await, Overrides::default());

        let forbidden = world.fault("scaleoverrides", Fault::Status(403));
        assert_eq!(
            forbidden.reader(&members).overrides(&cluster).await.unreadable.as_deref(),
            Some("failed to list scaleoverrides in db: forbidden")
        );
    }

    #[tokio::test(start_paused = true)]
    async fn future_of_a_read_can_be_spawned() {
        let reader = world("endpoints").reader(&Members::healthy());
        let facts = tokio::spawn(async move { reader.facts(change(3, 2), AskWhom::All).await })
            .await
            .unwrap();
        assert_eq!(facts.all_members().len(), 3);
    }
}
