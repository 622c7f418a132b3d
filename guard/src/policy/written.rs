//! Policies as they are stored, before a cluster selects among them.

use std::collections::BTreeMap;

use super::{ClusterScalePolicy, Policies, ScalePolicy};
use crate::change::Change;
use crate::facts::Seen;

/// The policies that may hold for the clusters of one namespace.
#[derive(Clone, Debug)]
pub struct Written {
    /// Those of the namespace.
    pub own: Vec<ScalePolicy>,
    /// Those of all namespaces.
    pub everywhere: Vec<ClusterScalePolicy>,
    /// The labels of the namespace.
    pub labels: Seen<BTreeMap<String, String>>,
    /// Why they could not be read, or not all of them.
    pub unreadable: Option<String>,
}

impl Written {
    /// Returns those that hold for `change`, combined: those that select the labels after the write, and those that
    /// select the labels before it.
    pub fn of(&self, change: &Change) -> Policies {
        let mut policies = self.matching(&change.new.labels);
        let relabelled = change.old.as_ref().filter(|old| old.labels != change.new.labels);
        let before = relabelled.map(|old| self.matching(&old.labels));
        policies.by_old_labels = before.filter(|before| *before != policies).map(Box::new);
        policies
    }

    /// Returns those that hold for a cluster with these labels, combined.
    pub fn matching(&self, labels: &BTreeMap<String, String>) -> Policies {
        let policies = Policies::of(&self.own, &self.everywhere, &self.labels, labels);
        match &self.unreadable {
            Some(why) => policies.and_unreadable(why),
            None => policies,
        }
    }
}
