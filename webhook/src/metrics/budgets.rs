//! What is published about the budgets of namespaces.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError};

use k8s_openapi::jiff::SignedDuration;
use pgscale_guard::ledger::Totals;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::Metrics;

/// The most namespaces that are published.
const NAMESPACES: usize = 1_000;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Namespace {
    namespace: String,
}

/// The numbers about budgets.
#[derive(Debug)]
pub(super) struct Budgets {
    budget: Family<Namespace, Gauge>,
    used: Family<Namespace, Gauge>,
    reserved: Family<Namespace, Gauge>,
    free: Family<Namespace, Gauge>,
    oldest: Family<Namespace, Gauge<f64, AtomicU64>>,
    conflicts: Counter,
    known: Mutex<BTreeSet<String>>,
}

impl Budgets {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let gauge = |registry: &mut Registry, name: &str, help: &str| {
            let family = Family::<Namespace, Gauge>::default();
            registry.register(name, help, family.clone());
            family
        };
        let budget = gauge(registry, "budget_instances", "The enforced budget of a namespace");
        let used = gauge(registry, "budget_used_instances", "Instances that the clusters have");
        let reserved = gauge(
            registry,
            "budget_reserved_instances",
            "Instances that changes may add which were admitted and are not decided yet",
        );
        let free = gauge(registry, "budget_free_instances", "What is left of the budget");
        let oldest = Family::<Namespace, Gauge<f64, AtomicU64>>::default();
        registry.register_with_unit(
            "budget_oldest_reservation",
            "Age of the oldest change that is not decided yet, 0 where there is none",
            Unit::Seconds,
            oldest.clone(),
        );
        let conflicts = Counter::default();
        registry.register(
            "budget_conflicts",
            "Writes of ledgers that came after the write of another replica",
            conflicts.clone(),
        );
        let known = Mutex::default();
        Self { budget, used, reserved, free, oldest, conflicts, known }
    }
}

impl Metrics {
    /// Records what a ledger of a namespace says.
    pub(crate) fn budget(
        &self,
        namespace: &str,
        budget: u32,
        totals: Totals,
        oldest: Option<SignedDuration>,
    ) {
        let budgets = &self.budgets;
        {
            let mut known = budgets.known.lock().unwrap_or_else(PoisonError::into_inner);
            if known.len() >= NAMESPACES && !known.contains(namespace) {
                return;
            }
            known.insert(namespace.to_owned());
        }
        let label = Namespace { namespace: namespace.to_owned() };
        let free = u64::from(budget).saturating_sub(totals.counted());
        let set = |family: &Family<Namespace, Gauge>, value: u64| {
            family.get_or_create(&label).set(i64::try_from(value).unwrap_or(i64::MAX));
        };
        set(&budgets.budget, budget.into());
        set(&budgets.used, totals.used);
        set(&budgets.reserved, totals.reserved);
        set(&budgets.free, free);
        let oldest = oldest.map_or(0.0, |age| age.as_secs_f64());
        budgets.oldest.get_or_create(&label).set(oldest);
    }

    /// Publishes no longer what is known of namespaces that have no budget any more.
    pub(crate) fn budgets_of(&self, has_one: impl Fn(&str) -> bool) {
        let budgets = &self.budgets;
        let mut known = budgets.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|namespace| {
            let keep = has_one(namespace);
            if !keep {
                let label = Namespace { namespace: namespace.clone() };
                for family in [&budgets.budget, &budgets.used, &budgets.reserved, &budgets.free] {
                    family.remove(&label);
                }
                budgets.oldest.remove(&label);
            }
            keep
        });
    }

    /// Counts a write of a ledger that came after the write of another replica.
    pub(crate) fn budget_conflict(&self) {
        self.budgets.conflicts.inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_a_budget_that_is_gone_are_not_published() {
        let metrics = Metrics::new();
        let totals = Totals { used: 7, reserved: 2 };
        metrics.budget("db", 12, totals, Some(SignedDuration::from_millis(1500)));
        metrics.budget("other", 5, totals, None);
        let text = metrics.text();
        for line in [
            "pgscale_budget_instances{namespace=\"db\"} 12",
            "pgscale_budget_used_instances{namespace=\"db\"} 7",
            "pgscale_budget_reserved_instances{namespace=\"db\"} 2",
            "pgscale_budget_free_instances{namespace=\"db\"} 3",
            "pgscale_budget_oldest_reservation_seconds{namespace=\"db\"} 1.5",
            "pgscale_budget_free_instances{namespace=\"other\"} 0",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
        metrics.budgets_of(|namespace| namespace == "other");
        let text = metrics.text();
        assert!(!text.contains("namespace=\"db\"") && text.contains("namespace=\"other\""));
    }
}
