//! The budget of a namespace, as all its policies set it.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::policy::{Limit, Mode};

/// The most entries of [`Budgets::basis`]. Any part of them says as much, so that the rest is left
/// out.
const MOST: usize = 32;

/// The budgets of a namespace: the smallest of each mode, and what the ledger rests on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Budgets {
    /// The smallest budget of each mode.
    pub limits: Vec<Limit<i64>>,
    /// What tells the life of each enforced budget from another: see
    /// [`Ledger::basis`](crate::ledger::Ledger::basis).
    ///
    /// A policy stands in it by its uid, with its generation and with the one before. Each edit of
    /// a spec raises the generation by one. So a budget that was taken out and put back is seen as
    /// another one, and the edit of a budget as the same.
    pub basis: BTreeSet<String>,
}

impl Budgets {
    /// Returns the smallest budget that is enforced. Growth is reserved for that one alone.
    pub fn enforced(&self) -> Option<&Limit<i64>> {
        self.limits.iter().find(|limit| limit.mode == Mode::Enforce)
    }

    /// Returns the smallest budget of the strictest mode.
    pub fn strictest(&self) -> Option<&Limit<i64>> {
        self.limits.iter().max_by_key(|limit| limit.mode)
    }

    /// Adds the budget of a policy with this metadata, if it has one.
    pub(super) fn extend(&mut self, limit: Option<Limit<i64>>, metadata: &ObjectMeta) {
        let Some(limit) = limit else { return };
        if limit.mode == Mode::Enforce {
            // A manifest has neither. It is no policy that a ledger is kept for.
            let uid = metadata.uid.as_deref().unwrap_or_default();
            let generation = metadata.generation.unwrap_or(1);
            let before = (generation > 1).then(|| generation - 1);
            for generation in before.into_iter().chain([generation]) {
                self.basis.insert(format!("{uid}@{generation}"));
            }
            while self.basis.len() > MOST {
                self.basis.pop_last();
            }
        }
        match self.limits.iter_mut().find(|known| known.mode == limit.mode) {
            Some(known) if known.value <= limit.value => {}
            Some(known) => *known = limit,
            None => self.limits.push(limit),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::{Value, json};

    use crate::policy::{ClusterScalePolicy, Mode, Policies, ScalePolicy};
    use crate::seen::Seen;

    fn own(name: &str, metadata: &Value, spec: Value) -> ScalePolicy {
        let mut policy = ScalePolicy::new(name, serde_json::from_value(spec).unwrap());
        policy.metadata.uid = Some(name.to_owned());
        policy.metadata.generation = metadata.as_i64();
        policy
    }

    fn platform(selector: &Value) -> ClusterScalePolicy {
        let spec = json!({"budget": {"instances": 5}, "namespaceSelector": selector});
        ClusterScalePolicy::new("platform", serde_json::from_value(spec).unwrap())
    }

    fn combined(own: &[ScalePolicy], everywhere: &[ClusterScalePolicy]) -> Policies {
        let labels = BTreeMap::from([("env".to_owned(), "prod".to_owned())]);
        Policies::of(own, everywhere, &Seen::Known(labels), &BTreeMap::new())
    }

    fn budget(instances: i64) -> Value {
        json!({"budget": {"instances": instances}})
    }

    #[test]
    fn smallest_budget_of_each_mode_holds_whatever_its_selector_says() {
        let mut narrow = budget(7);
        narrow["clusterSelector"] = json!({"matchLabels": {"tier": "gold"}});
        let mut tried = budget(3);
        tried["mode"] = json!("Warn");
        let all = [
            own("a", &json!(1), budget(9)),
            own("b", &json!(1), narrow),
            own("c", &json!(1), tried),
            own("d", &json!(1), json!({"instances": {"min": 2}})),
        ];
        let policies = combined(&all, &[]);
        let shown: Vec<_> = (policies.budget.limits.iter())
            .map(|limit| (limit.mode, limit.value, limit.source.name()))
            .collect();
        assert_eq!(shown, [(Mode::Enforce, 7, "b"), (Mode::Warn, 3, "c")]);
        assert_eq!(policies.budget.enforced().map(|limit| limit.value), Some(7));
        assert!(policies.matched.iter().all(|(name, _)| name != "scalepolicy/b"));
    }

    #[test]
    fn budget_of_the_platform_holds_in_the_namespaces_it_selects() {
        let select = |env: &str| json!({"matchLabels": {"env": env}});
        for (selector, holds) in
            [(Value::Null, true), (select("prod"), true), (select("test"), false)]
        {
            let policies = combined(&[], &[platform(&selector)]);
            assert_eq!(policies.budget.enforced().is_some(), holds, "{selector}");
        }
        let unread: Seen<BTreeMap<String, String>> = Seen::Unreadable("forbidden".to_owned());
        let mut hidden = platform(&select("prod"));
        let other = json!({"matchLabels": {"tier": "gold"}});
        hidden.spec.policy.cluster_selector = serde_json::from_value(other).unwrap();
        let policies = Policies::of([], &[hidden], &unread, &BTreeMap::new());
        assert!(policies.unreadable.is_some(), "it may hold, whatever clusters it selects");
    }

    #[test]
    fn policy_that_makes_the_rule_warn_enforces_no_budget() {
        for (weight, mode) in [("Warn", Some(Mode::Warn)), ("Ignore", None)] {
            let mut spec = budget(7);
            spec["rules"] = json!({"namespace-budget": weight});
            let policies = combined(&[own("a", &json!(1), spec)], &[]);
            let modes: Vec<_> = policies.budget.limits.iter().map(|limit| limit.mode).collect();
            assert_eq!(modes, mode.into_iter().collect::<Vec<_>>());
            assert!(policies.budget.basis.is_empty());
        }
    }

    /// A budget that was taken out is gone for one generation at least.
    #[test]
    fn one_edit_of_a_budget_is_the_same_life_and_two_may_be_another() {
        let basis = |generation: i64| {
            combined(&[own("a", &json!(generation), budget(7))], &[]).budget.basis
        };
        assert!(!basis(4).is_disjoint(&basis(4)));
        assert!(!basis(4).is_disjoint(&basis(5)));
        assert!(basis(4).is_disjoint(&basis(6)));
        assert_eq!(basis(1).len(), 1);
        let many: Vec<_> =
            (0..100).map(|number| own(&format!("p{number:03}"), &json!(2), budget(7))).collect();
        assert_eq!(combined(&many, &[]).budget.basis.len(), 32);
    }
}
