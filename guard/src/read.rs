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
mod budget;
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
pub use budget::instances;
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
                budget: None,
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
        // The webhook asks the ledger itself, and not before everything else has let the change pass.
        if self.breadth != ReadScope::Review {
            self.count_against_budgets(&mut facts, &policies).boxed().await;
        }
        (facts, policies)
    }

    fn objects(&self, patience: Duration) -> Objects {
        Objects { sharing: self.sharing.clone(), ..Objects::of(self.client.clone(), patience) }
    }
}

#[cfg(test)]
mod tests;
