//! The requests of the cluster in its namespace, before and after a change.

use std::collections::{BTreeMap, BTreeSet};

use pgscale_guard::capacity::{Amounts, Footprint};
use pgscale_guard::quantity::Amount;

use super::Turn;

/// The requests of the cluster, before and after.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Resources {
    /// Requests of all pods.
    pub(crate) requests: BTreeMap<String, Turn<Amount>>,
    /// Limits of all pods.
    pub(crate) limits: BTreeMap<String, Turn<Amount>>,
    /// Resources without a limit in some container.
    pub(crate) unlimited: BTreeSet<&'static str>,
}

impl Resources {
    /// Returns the sum for the pods.
    pub(super) fn of(footprint: &Footprint, pods: Turn<i64>) -> Self {
        let turn = |amounts: &Amounts| -> BTreeMap<String, Turn<Amount>> {
            amounts
                .iter()
                .map(|(name, amount)| (name.clone(), pods.map(|pods| amount.times(pods))))
                .collect()
        };
        Self {
            requests: turn(&footprint.requests),
            limits: turn(&footprint.limits),
            unlimited: footprint.unlimited.clone(),
        }
    }
}

/// Returns the storage of the members' claims.
pub(super) fn storage(footprint: &Footprint, members: Turn<i64>) -> Turn<Amount> {
    let (_, each) = footprint.claims(None);
    members.map(|members| each.times(members))
}
