//! What a review asks the ledger of its namespace, and what happens where it cannot.

use std::sync::atomic::{AtomicBool, Ordering};

use pgscale_guard::Policies;
use pgscale_guard::facts::{Facts, Seen, Spending};
use pgscale_guard::ledger::{Ask, Base, Revision};
use pgscale_guard::read::instances;

use super::Admission;
use super::deadlines::Deadlines;
use super::decision::Fallback;
use super::ledgers::Terms;

/// Whether an enforced budget is known to hold for the change. Then growth passes no more without
/// a verdict.
#[derive(Debug, Default)]
pub(super) struct Budgeted(AtomicBool);

impl Budgeted {
    /// Takes note of the policies.
    pub(super) fn note(&self, policies: &Policies) {
        if policies.budget.enforced().is_some() {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    /// Returns the answer in place of a verdict: `fallback`, unless that lets growth pass unreserved.
    pub(super) fn or(&self, fallback: Fallback) -> Fallback {
        let unreserved = fallback == Fallback::Pass && self.0.load(Ordering::Relaxed);
        if unreserved { Fallback::RefuseUnreserved } else { fallback }
    }
}

/// Returns whether the change adds instances where a budget holds.
pub(super) fn spends(facts: &Facts, policies: &Policies) -> bool {
    let grows = facts.to() > facts.from().unwrap_or(0);
    grows && !policies.budget.limits.is_empty()
}

/// Returns the fact by which every other rule is judged first.
pub(super) fn that_fits(facts: &Facts) -> Seen<Spending> {
    Seen::Known(Spending::assumed(facts.to()))
}

impl Admission {
    /// Reserves the growth in the ledger of its namespace, and returns what counts against the
    /// budget. Nothing is reserved for growth that is refused already, or by a dry run.
    pub(super) async fn spend(
        &self,
        facts: &Facts,
        policies: &Policies,
        refused: bool,
        deadlines: Deadlines,
    ) -> Seen<Spending> {
        let cluster = &facts.change.new;
        let Some(terms) = Terms::of(policies) else {
            // Only budgets on trial: they reserve nothing.
            let reader = self.reader(deadlines);
            return reader.spending(&cluster.namespace, &cluster.name, &policies.budget).await;
        };
        let ask = match ask(facts, refused) {
            Ok(ask) => ask,
            Err(why) => return Seen::Unreadable(why),
        };
        match self.ledgers.reserve(&cluster.namespace, ask, terms, deadlines.reads).await {
            Ok(spending) => Seen::Known(spending),
            Err(why) => Seen::Unreadable(why),
        }
    }
}

/// Returns the question to the ledger.
fn ask(facts: &Facts, refused: bool) -> Result<Ask, String> {
    let change = &facts.change;
    let base = match &change.old {
        None => Base::Creation,
        Some(old) => {
            let at: Revision = old.resource_version.parse().map_err(|_| {
                "the review has no revision of the cluster that can be compared".to_owned()
            })?;
            Base::Update { at, from: instances(facts.from().unwrap_or(0)) }
        }
    };
    let cluster = change.old.as_ref().unwrap_or(&change.new);
    if change.new.name.is_empty() || cluster.uid.is_empty() {
        return Err("the review has no name or no uid of the cluster".to_owned());
    }
    Ok(Ask {
        name: change.new.name.clone(),
        uid: cluster.uid.clone(),
        base,
        to: instances(facts.to()),
        dry_run: change.dry_run || refused,
    })
}
