//! Policies as they are stored, before a cluster selects among them.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Budgets, ClusterScalePolicy, Policies, ScalePolicy, Undecodable};
use crate::change::Change;
use crate::seen::Seen;

/// The most policies that cannot be decoded and are named.
const UNDECODABLE: usize = 16;

/// The policies that may hold for the clusters of one namespace.
///
/// Reviews that read the same answers share the decoded policies.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Written {
    /// The policies of the namespace.
    pub own: Arc<Vec<ScalePolicy>>,
    /// The policies of all namespaces.
    pub everywhere: Arc<Vec<ClusterScalePolicy>>,
    /// Policies of either kind that cannot be decoded.
    pub undecodable: Vec<Undecodable>,
    /// The labels of the namespace. They matter only where a policy selects namespaces.
    pub labels: Seen<BTreeMap<String, String>>,
    /// The reason for which some or all policies could not be read.
    pub unreadable: Option<String>,
}

impl Written {
    /// Returns whether any policy selects namespaces by their labels.
    pub fn selects_namespaces(&self) -> bool {
        let selects = |policy: &ClusterScalePolicy| policy.spec.namespace_selector.is_some();
        self.everywhere.iter().any(selects)
            || self.undecodable.iter().any(Undecodable::selects_namespaces)
    }

    /// Returns the combined policies that hold for `change`: those that select the labels after the
    /// write, and those that select the labels before it.
    pub fn of(&self, change: &Change) -> Policies {
        let mut policies = self.matching(&change.new.labels);
        let relabelled = change.old.as_ref().filter(|old| old.labels != change.new.labels);
        let before = relabelled.map(|old| self.matching(&old.labels));
        policies.by_old_labels = before.filter(|before| *before != policies).map(Box::new);
        policies
    }

    /// Returns the undecodable policies that may hold for clusters of the namespace.
    pub fn undecodable_here(&self) -> impl Iterator<Item = &Undecodable> {
        self.undecodable.iter().filter(|one| one.may_hold_in(&self.labels))
    }

    /// Returns the budgets of the namespace: they count all clusters, whatever their policies select.
    pub fn budgets(&self) -> Budgets {
        self.matching(&BTreeMap::new()).budget
    }

    /// Returns the combined policies that hold for a cluster with these labels.
    pub fn matching(&self, labels: &BTreeMap<String, String>) -> Policies {
        let policies = Policies::of(&*self.own, &*self.everywhere, &self.labels, labels);
        let mut binding =
            self.undecodable.iter().filter(|one| one.may_select(&self.labels, labels));
        let undecodable: Vec<_> = binding.by_ref().take(UNDECODABLE).cloned().collect();
        let more = binding.count();
        let more = (more > 0).then(|| format!("{more} more policies cannot be decoded"));
        let named = undecodable.iter().map(ToString::to_string);
        let reasons: Vec<_> = named.chain(more).chain(self.unreadable.clone()).collect();
        let policies = Policies { undecodable, ..policies };
        if reasons.is_empty() { policies } else { policies.and_unreadable(reasons.join("; ")) }
    }
}
