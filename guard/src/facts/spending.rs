//! What counts against the budget of a namespace.

use std::collections::BTreeSet;

use k8s_openapi::jiff::Timestamp;

use crate::ledger::{Holder, Ledger, NotReady};

/// What counts against the budget of a namespace, as one cluster sees it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Spending {
    /// The instances that clusters have.
    pub used: u64,
    /// The instances that changes may add which were admitted and are not decided yet.
    pub reserved: u64,
    /// The part of both that the cluster itself counts for.
    pub own: u64,
    /// The clusters that count most.
    pub holders: Vec<Holder>,
    /// How many further clusters count.
    pub others: usize,
    /// What the ledger said to the change.
    pub booking: Booking,
    /// The strictest budget, where it was read beside the sums. Only for people: rules judge by the
    /// policies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<i64>,
}

/// What the ledger of a namespace said to a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Booking {
    /// Nothing is reserved. The sums alone say whether the change fits.
    Looked,
    /// The change may lead to this count: it is reserved, or nothing has to be.
    Granted(i64),
    /// The ledger admits no growth before this time: changes that were admitted without it may
    /// still be stored.
    Settling(Timestamp),
    /// Other changes wrote the ledger each time.
    Contended,
    /// The namespace has more clusters than a ledger holds.
    Full,
}

impl Spending {
    /// Returns what a ledger says to the cluster of this name.
    pub fn of(ledger: &Ledger, name: &str, booking: Booking) -> Self {
        let totals = ledger.totals();
        let own = ledger.clusters.get(name).map_or(0, |entry| entry.counted().into());
        let (holders, others) = ledger.holders();
        Self {
            used: totals.used,
            reserved: totals.reserved,
            own,
            holders,
            others,
            booking,
            budget: None,
        }
    }

    /// Returns the same for a ledger that was only looked at, for these budgets.
    ///
    /// A budget that the ledger was not kept for is judged by the sums: whether changes were
    /// admitted past it is for the webhook to find out.
    pub fn looked_at(ledger: &Ledger, name: &str, basis: &BTreeSet<String>) -> Self {
        let booking = match ledger.not_ready(basis) {
            Some(NotReady::Settling(until)) => Booking::Settling(until),
            Some(NotReady::OtherBasis) | None => Booking::Looked,
        };
        Self::of(ledger, name, booking)
    }

    /// Returns the placeholder for a change that is judged before the ledger is asked: it fits.
    pub fn assumed(to: i64) -> Self {
        Self {
            used: 0,
            reserved: 0,
            own: 0,
            holders: Vec::new(),
            others: 0,
            booking: Booking::Granted(to),
            budget: None,
        }
    }

    /// Returns what counts.
    pub fn counted(&self) -> u64 {
        self.used.saturating_add(self.reserved)
    }

    /// Returns what is left of a budget.
    pub fn free(&self, budget: i64) -> u64 {
        u64::try_from(budget).unwrap_or(0).saturating_sub(self.counted())
    }

    /// Returns what a change to `to` instances would add.
    pub fn wanted(&self, to: i64) -> u64 {
        u64::try_from(to).unwrap_or(0).saturating_sub(self.own)
    }

    /// Returns the greatest count of the cluster that fits in a budget.
    pub fn most(&self, budget: i64) -> i64 {
        i64::try_from(self.own.saturating_add(self.free(budget))).unwrap_or(i64::MAX)
    }
}
