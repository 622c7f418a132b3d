//! What the members of one cluster use together. Pure: it rests on what was read.

use crate::reads::MemberReads;
use crate::status::{Status, worst_lag};
use crate::usage::{Usage, Usages};

/// One cluster.
pub(crate) struct Row {
    /// Its state.
    pub(crate) status: Status,
    /// What its members use together. `None` where that of none is known.
    pub(crate) usage: Option<Usage>,
    /// The number of members whose usage is known.
    pub(crate) measured: usize,
    /// Bytes that the replica lacks that is furthest behind.
    pub(crate) lag: Option<u64>,
    /// Rows that all members read in a second. `None` where those of one member are not known.
    pub(crate) rows: Option<f64>,
}

impl Row {
    /// Returns the row of a cluster.
    pub(crate) fn of(status: Status, usages: &Usages, reads: Option<&[MemberReads]>) -> Self {
        let facts = &status.snapshot.facts;
        let namespace = &facts.change.new.namespace;
        let known: Vec<Usage> = facts
            .all_members()
            .iter()
            .filter_map(|member| usages.get(&(namespace.clone(), member.name.clone())).copied())
            .collect();
        let rows = |one: &MemberReads| one.said.as_ref().ok()?.rates.as_ref().ok()?.rows;
        let reads = reads.filter(|all| !all.is_empty());
        Self {
            measured: known.len(),
            usage: known.into_iter().reduce(Usage::plus),
            lag: worst_lag(facts),
            rows: reads.and_then(|all| all.iter().map(rows).sum()),
            status,
        }
    }

    /// Returns its namespace and its name.
    pub(crate) fn name(&self) -> (&str, &str) {
        let cluster = &self.status.snapshot.facts.change.new;
        (&cluster.namespace, &cluster.name)
    }
}
