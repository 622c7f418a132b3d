//! Reads what a budget counts: all clusters of a namespace, and the ledger.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::facts::{Facts, Seen, Spending};
use crate::ledger::{
    Found, InstanceLedger, Ledger, Listing, MOST_CLUSTERS, NAME, Revision, Stored,
};
use crate::operator::Operator;
use crate::policy::{Budgets, Policies};
use crate::postgresql::{GROUP, KIND, PLURAL, Postgresql, VERSION};
use crate::read::fetch::Kind;
use crate::read::{ReadScope, Reader};

/// The most operators whose limits one list asks for. Clusters of further ones count as written.
const OPERATORS: usize = 16;

/// A cluster as the API server has it, with all that its effective count depends on.
#[derive(Clone, Debug)]
struct Listed {
    uid: String,
    at: Revision,
    cluster: Postgresql,
}

impl Listed {
    fn of(object: &Value) -> Result<Self, String> {
        let cluster = Postgresql::of(object).map_err(|error| error.to_string())?;
        let Postgresql { name, uid, resource_version, annotations, instances, .. } =
            cluster.clone();
        let at = resource_version.parse().map_err(|error| format!("{PLURAL} {name}: {error}"))?;
        // Up to a thousand of them are held at once, so most of the spec is left out.
        let spec = json!({"env": cluster.spec.get("env"), "standby": cluster.spec.get("standby")});
        let cluster = Postgresql { name, annotations, instances, spec, ..Postgresql::default() };
        Ok(Self { uid, at, cluster })
    }

    fn found(&self, operator: Option<&Seen<Operator>>) -> Found {
        let written = self.cluster.instances.unwrap_or(0);
        let operator = operator.and_then(Seen::known);
        let runs = operator.map_or(written, |it| it.settings.effective(&self.cluster));
        Found {
            name: self.cluster.name.clone(),
            uid: self.uid.clone(),
            at: self.at,
            instances: instances(runs),
        }
    }
}

/// Returns a count as the ledger has it. A negative one is none.
pub fn instances(count: i64) -> u32 {
    u32::try_from(count.max(0)).unwrap_or(u32::MAX)
}

impl Reader {
    /// Lists all clusters of a namespace with their effective counts, consistently.
    ///
    /// # Errors
    /// A reason: they could not be read, there are too many, or one of them is malformed.
    pub async fn listing(&self, namespace: &str) -> Result<Listing, String> {
        // An answer that others have asked for may have begun before this moment.
        let alone = Self { sharing: None, ..self.clone() };
        let begun = (self.clock)();
        let objects = alone.objects(self.deadline);
        let kind = Kind::foreign(GROUP, VERSION, KIND, PLURAL, Some(namespace));
        let (listed, at) = objects.list_whole(&kind, MOST_CLUSTERS, Listed::of).await?;
        let at: Revision = at.parse().map_err(|error| format!("list {PLURAL}: {error}"))?;
        let operators = self.operators_of(listed.iter().map(|one| &one.cluster), namespace).await;
        let found = |one: &Listed| one.found(operators.get(one.cluster.controller()));
        Ok(Listing { at, begun: Some(begun), clusters: listed.iter().map(found).collect() })
    }

    /// Returns what a cluster is, as the ledger sees it. The object is one that the API server has sent.
    ///
    /// # Errors
    /// A reason: it is malformed.
    pub async fn found(&self, object: &Value, namespace: &str) -> Result<Found, String> {
        let one = Listed::of(object)?;
        let operators = self.operators_of([&one.cluster].into_iter(), namespace).await;
        Ok(one.found(operators.get(one.cluster.controller())))
    }

    /// Reads the ledger of a namespace. `None` where there is none, or its CRD is not installed.
    ///
    /// # Errors
    /// A reason: it could not be read or decoded.
    pub async fn ledger(&self, namespace: &str) -> Result<Option<Stored>, String> {
        let alone = Self { sharing: None, ..self.clone() };
        let kind = Kind::of::<InstanceLedger>(Some(namespace));
        match alone.objects(self.deadline).get_of::<InstanceLedger>(&kind, NAME).await {
            Seen::Known(object) => object.stored().map(Some).ok_or_else(no_version),
            Seen::Absent => Ok(None),
            Seen::Unreadable(why) => Err(why),
        }
    }

    /// Reads what counts against the budgets of a cluster's namespace.
    pub async fn spending(&self, namespace: &str, name: &str, budgets: &Budgets) -> Seen<Spending> {
        // Boxed: the state between these answers would make every caller's future large.
        let both = Box::pin(async {
            let ledger = self.ledger(namespace).await?;
            // After the ledger: it may count what is stored only now.
            Ok::<_, String>((ledger, self.listing(namespace).await?))
        });
        match both.await {
            Err(why) => Seen::Unreadable(why),
            Ok((stored, listing)) => {
                let mut ledger = stored.map_or_else(
                    || Ledger {
                        settles: None,
                        ..Ledger::unsettled(budgets.basis.clone(), (self.clock)())
                    },
                    |stored| stored.ledger,
                );
                match ledger.observe_all(&listing) {
                    Ok(()) => Seen::Known(Spending {
                        budget: budgets.strictest().map(|limit| limit.value),
                        ..Spending::looked_at(&ledger, name, &budgets.basis)
                    }),
                    Err(many) => Seen::Unreadable(many.to_string()),
                }
            }
        }
    }

    /// Reads what counts against the budget of the namespace, where a policy sets one and the change
    /// may add instances, or others are looked at beside it.
    pub async fn count_against_budgets(&self, facts: &mut Facts, policies: &Policies) {
        let around = matches!(self.breadth, ReadScope::Around | ReadScope::Everything);
        let grows = facts.from().is_none_or(|from| facts.to() > from);
        if policies.budget.limits.is_empty() || !(grows || around) {
            return;
        }
        let cluster = &facts.change.new;
        let spending = self.spending(&cluster.namespace, &cluster.name, &policies.budget).await;
        facts.capacity.budget = Some(spending);
    }

    /// Reads the operators of some clusters, by the annotation that names them.
    async fn operators_of<'a>(
        &self,
        clusters: impl Iterator<Item = &'a Postgresql>,
        namespace: &str,
    ) -> BTreeMap<String, Seen<Operator>> {
        let mut of: BTreeMap<&str, &Postgresql> = BTreeMap::new();
        for cluster in clusters {
            if of.len() < OPERATORS {
                of.entry(cluster.controller()).or_insert(cluster);
            }
        }
        let mut operators = BTreeMap::new();
        for (controller, cluster) in of {
            let there = Postgresql { namespace: namespace.to_owned(), ..cluster.clone() };
            let operator = self.operator(&there).await;
            operators.insert(controller.to_owned(), operator);
        }
        operators
    }
}

fn no_version() -> String {
    format!("get instanceledgers: {NAME} has no resourceVersion")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::Booking;
    use crate::read::AskWhom;
    use crate::read::testing::{Members, World, change, world};

    fn path(name: &str) -> String {
        format!("/apis/acid.zalan.do/v1/namespaces/db/postgresqls/{name}")
    }

    fn cluster(name: &str, instances: i64) -> Value {
        json!({"metadata": {"namespace": "db", "name": name, "uid": name, "resourceVersion": "7"},
            "spec": {"numberOfInstances": instances, "users": {"a": []}}})
    }

    fn budgeted(world: World) -> World {
        let policy = json!({"apiVersion": "pgscale.dev/v1alpha1", "kind": "ScalePolicy",
            "metadata": {"namespace": "db", "name": "b", "uid": "p", "generation": 1},
            "spec": {"budget": {"instances": 12}}});
        world.with("/apis/pgscale.dev/v1alpha1/namespaces/db/scalepolicies/b", policy)
    }

    fn asked_for_a_budget(world: &World) -> usize {
        let of =
            |asked: &&String| asked.contains("instanceledgers") || asked.contains("postgresqls");
        world.requested().iter().filter(of).count()
    }

    #[tokio::test(start_paused = true)]
    async fn clusters_count_by_the_limits_of_their_operators() {
        let there = world("endpoints")
            .with(&path("acid-a"), cluster("acid-a", 3))
            .with(&path("many"), cluster("many", 12));
        let reader = there.reader(&Members::healthy());
        let listing = reader.listing("db").await.unwrap();
        let counts: Vec<_> =
            listing.clusters.iter().map(|it| (it.name.as_str(), it.instances)).collect();
        // The operator has max_instances 9.
        assert_eq!(counts, [("acid-a", 3), ("many", 9)]);
        assert!(listing.begun.is_some());
        let strange = there.with(&path("odd"), {
            let mut odd = cluster("odd", 1);
            odd["metadata"]["resourceVersion"] = json!("x");
            odd
        });
        let why = strange.reader(&Members::healthy()).listing("db").await.unwrap_err();
        assert!(why.contains("odd"), "{why}");
    }

    #[tokio::test(start_paused = true)]
    async fn person_sees_what_counts_and_only_where_a_policy_sets_a_budget() {
        let there = world("endpoints")
            .with(&path("acid-a"), cluster("acid-a", 3))
            .with(&path("acid-b"), cluster("acid-b", 5))
            .seen_whole();
        let read = async |world: &World, to: i64| {
            let reader = world.reader(&Members::healthy());
            let (facts, _) = reader.facts_and_policies(change(3, to), AskWhom::AsNeeded).await;
            facts.capacity.budget
        };
        assert_eq!(read(&there, 5).await, None);
        assert_eq!(asked_for_a_budget(&there), 0);
        let there = budgeted(there);
        let Some(Seen::Known(spending)) = read(&there, 5).await else { panic!() };
        assert_eq!((spending.used, spending.own, spending.budget), (8, 3, Some(12)));
        assert_eq!(spending.booking, Booking::Looked, "without a ledger the sums say it");
        let asked = asked_for_a_budget(&there);
        assert_eq!((read(&there, 2).await, asked_for_a_budget(&there)), (None, asked));
    }
}
