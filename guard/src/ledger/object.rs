//! The ledger as it is stored: `InstanceLedger`, one object for each namespace with a budget.
#![allow(
    unreachable_pub,
    reason = "the schema derive repeats each struct inside a function, where nothing is reachable"
)]

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::ledger::{Course, Ledger, Stored};

/// The name of the one ledger of a namespace.
pub const NAME: &str = "pgscale";

/// The instances that count against the budget of a namespace. The webhook writes it.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "pgscale.dev",
    version = "v1alpha1",
    kind = "InstanceLedger",
    plural = "instanceledgers",
    shortname = "instledger",
    category = "pgscale",
    namespaced,
    derive = "PartialEq",
    doc = "The instances that count against the budget of this namespace. pgscale's webhook writes it, and no person has to",
    printcolumn(name = "Budget", type_ = "integer", json_path = ".spec.budget"),
    printcolumn(name = "Used", type_ = "integer", json_path = ".spec.used"),
    printcolumn(name = "Reserved", type_ = "integer", json_path = ".spec.reserved"),
    printcolumn(name = "Free", type_ = "integer", json_path = ".spec.free"),
    printcolumn(name = "Settles", type_ = "string", json_path = ".spec.settles"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[expect(clippy::duplicated_attributes, reason = "each column has its own type_")]
#[serde(rename_all = "camelCase")]
pub struct InstanceLedgerSpec {
    /// The budget at the last write.
    #[schemars(with = "i64", range(min = 0))]
    pub budget: u32,
    /// The instances that clusters have. For people: the webhook adds them up itself.
    #[schemars(with = "i64", range(min = 0))]
    pub used: u64,
    /// The instances that changes may add which were admitted and are not decided yet.
    #[schemars(with = "i64", range(min = 0))]
    pub reserved: u64,
    /// What is left of the budget.
    #[schemars(with = "i64", range(min = 0))]
    pub free: u64,
    /// What the sums are made from.
    #[serde(flatten)]
    pub ledger: Ledger,
}

impl InstanceLedgerSpec {
    /// Returns the stored form of a ledger, for people with its sums.
    pub fn of(ledger: Ledger, budget: u32) -> Self {
        let totals = ledger.totals();
        let free = u64::from(budget).saturating_sub(totals.counted());
        Self { budget, used: totals.used, reserved: totals.reserved, free, ledger }
    }
}

impl InstanceLedger {
    /// Returns the object to create or, with `replaces`, the one that takes the place of the object
    /// with this `resourceVersion`.
    pub fn to_store(namespace: &str, spec: InstanceLedgerSpec, replaces: Option<String>) -> Self {
        let mut object = Self::new(NAME, spec);
        object.metadata.namespace = Some(namespace.to_owned());
        object.metadata.resource_version = replaces;
        object
    }

    /// Returns the ledger with the version that its next write depends on. `None` where the API
    /// server has sent none.
    pub fn stored(self) -> Option<Stored> {
        let version = self.metadata.resource_version.filter(|version| !version.is_empty())?;
        Some(Stored { ledger: self.spec.ledger, version })
    }
}

impl Course {
    /// Returns the object of a [`Next::Write`](crate::ledger::Next::Write).
    pub fn object(
        &self,
        namespace: &str,
        ledger: Ledger,
        replaces: Option<String>,
    ) -> InstanceLedger {
        let spec = InstanceLedgerSpec::of(ledger, self.budget());
        InstanceLedger::to_store(namespace, spec, replaces)
    }
}
