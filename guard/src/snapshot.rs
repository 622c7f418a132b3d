//! A record of everything that a verdict on one cluster rests on, so that it can be judged again
//! elsewhere: in a check without the cluster, or by the reader of a bug report.
//!
//! The record is plain JSON without secrets. Equal secrets are replaced by equal words, so that
//! whatever the rules compare is still equal, or still differs.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::change::Change;
use crate::facts::{Facts, Seen};
use crate::overrides::Overrides;
use crate::policy::{Policies, Written};
use crate::postgresql::Postgresql;

mod redaction;

pub use redaction::{REDACTED, redact};

/// The facts about one cluster at one moment, and the policies that may hold for it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Snapshot {
    /// The facts. Their change is the one that they were recorded for.
    pub facts: Facts,
    /// The policies as they are written, before the cluster selects among them.
    pub policies: Written,
    /// The overrides that name the cluster.
    pub overrides: Overrides,
}

impl Snapshot {
    /// Returns the record as JSON without secrets.
    ///
    /// # Errors
    /// The encoder's message.
    pub fn redacted(&self) -> Result<Value, serde_json::Error> {
        let mut value = serde_json::to_value(self)?;
        redact(&mut value);
        Ok(value)
    }

    /// Returns the cluster as it was recorded, before any change.
    pub fn cluster(&self) -> &Postgresql {
        self.facts.change.old.as_ref().unwrap_or(&self.facts.change.new)
    }

    /// Returns the facts and the policies for the recorded change.
    pub fn replay(&self) -> (Facts, Policies) {
        let mut policies = self.policies.of(&self.facts.change);
        policies.overrides = self.overrides.clone();
        (self.facts.clone(), policies)
    }

    /// Returns the record for another change of the same cluster.
    ///
    /// Only the operator that the cluster had is recorded.
    #[must_use]
    pub fn changed_to(&self, new: Postgresql) -> Self {
        let mut snapshot = self.clone();
        let old = self.cluster().clone();
        let unknown = || Seen::Unreadable(OTHER.to_owned());
        // The recorded change may have handed the cluster over itself.
        let recorded = self.facts.change.new.controller();
        let owner = |controller: &str| {
            let before = self.facts.operator_before.as_deref();
            match before.filter(|_| controller == old.controller()) {
                Some(before) => before.clone(),
                None if controller == recorded => self.facts.operator.clone(),
                None => unknown(),
            }
        };
        let facts = &mut snapshot.facts;
        facts.operator = owner(new.controller());
        let moved = new.controller() != old.controller();
        facts.operator_before = moved.then(|| Box::new(owner(old.controller())));
        facts.change = Change { old: Some(old), new, dry_run: false, undo: false, user: None };
        snapshot
    }
}

/// The reason for which the next operator of a cluster is not known.
const OTHER: &str = "the snapshot does not hold the operator that the write names";

#[cfg(test)]
pub(crate) mod tests;
