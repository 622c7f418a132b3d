//! Policies as they are stored, before a cluster selects among them.

use std::collections::BTreeMap;

use super::{ClusterScalePolicy, Policies, ScalePolicy, Undecodable};
use crate::change::Change;
use crate::seen::Seen;

/// The policies that may hold for the clusters of one namespace.
#[derive(Clone, Debug)]
pub struct Written {
    /// Those of the namespace.
    pub own: Vec<ScalePolicy>,
    /// Those of all namespaces.
    pub everywhere: Vec<ClusterScalePolicy>,
    /// Those of either kind that cannot be decoded.
    pub undecodable: Vec<Undecodable>,
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

    /// Returns those that cannot be decoded and may hold for clusters of the namespace.
    pub fn undecodable_here(&self) -> impl Iterator<Item = &Undecodable> {
        self.undecodable.iter().filter(|one| one.may_hold_in(&self.labels))
    }

    /// Returns those that hold for a cluster with these labels, combined.
    pub fn matching(&self, labels: &BTreeMap<String, String>) -> Policies {
        let mut policies = Policies::of(&self.own, &self.everywhere, &self.labels, labels);
        let binding = self.undecodable.iter().filter(|one| one.may_select(&self.labels, labels));
        policies.undecodable = binding.cloned().collect();
        let undecodable: Vec<_> = policies.undecodable.iter().map(ToString::to_string).collect();
        let reasons = undecodable.into_iter().chain(self.unreadable.clone());
        reasons.fold(policies, Policies::and_unreadable)
    }
}
