//! The objects that each rule reads, and their present state.
//!
//! They are printed beside every verdict, also beside one without findings, so that a person can
//! check it. Nothing is judged here, and no rule judges by these texts. A fact that could not be
//! read is printed as unreadable.

use crate::assessment::Assessment;
use crate::facts::Seen;
use crate::policy::Policies;
use crate::rules::Rule;
use crate::verdict::Evidence;

mod cluster;
mod members;
mod patroni;
mod policies;
mod room;

pub(super) use cluster::{
    count, declared_synchrony, foreign_annotations, generation, operator_limits, operator_runs,
    other_edits, owner_before, pod_management, replicas, retention, standby, status, stores,
    upgrade_failure, volumes_of_deleted,
};
pub(super) use members::{answers, marks, pods, restarts, role_labels, sources, zones};
pub(super) use patroni::{
    failover, initialize, lag, last_leader, leader, pause, senders, sync_standbys, synchrony,
};
pub(super) use policies::{backup_age, freezes, max, max_lag, min, steps, windows, zero};
pub(super) use room::{
    anti_affinity, backup, claims, disruption_budgets, limit_ranges, missed_claims, need, nodes,
    quotas,
};

/// One object that a rule reads: its source and its present state.
pub type Input = fn(&Assessment<'_>, &Policies) -> Vec<Evidence>;

/// The number of objects of one kind that are shown.
const SHOWN: usize = 20;

impl Rule {
    /// Returns everything that the rule looks at, each object once.
    pub fn looks_at(&self, facts: &Assessment<'_>, policies: &Policies) -> Vec<Evidence> {
        let mut seen: Vec<Evidence> = Vec::new();
        for reading in self.reads {
            for evidence in reading(facts, policies) {
                if !seen.contains(&evidence) {
                    seen.push(evidence);
                }
            }
        }
        seen
    }
}

/// Returns one object and its state.
fn one(source: impl Into<String>, says: impl Into<String>) -> Vec<Evidence> {
    vec![Evidence::new(source, says)]
}

/// Returns the text of `value`, that it does not exist, or the reason why it could not be read.
fn seen<T>(value: &Seen<T>, source: String, says: impl FnOnce(&T) -> String) -> Vec<Evidence> {
    match value {
        Seen::Known(value) => one(source, says(value)),
        Seen::Absent => one(source, "not there"),
        Seen::Unreadable(why) => unread(source, why),
    }
}

fn unread(source: impl Into<String>, why: &str) -> Vec<Evidence> {
    one(source, format!("could not be read: {why}"))
}

/// Returns the first of `all`, which were listed as `source`.
fn listed(source: &str, mut all: Vec<Evidence>) -> Vec<Evidence> {
    let more = all.len().saturating_sub(SHOWN);
    all.truncate(SHOWN);
    match (more, all.is_empty()) {
        (_, true) => one(source, "there are none"),
        (0, false) => all,
        (more, false) => {
            all.push(Evidence::new(source, format!("and {more} more")));
            all
        }
    }
}

/// Returns a yes or no as manifests spell it.
fn flag(name: &str, value: bool) -> String {
    format!("{name}: {value}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::Facts;
    use crate::rules::testing::healthy;

    fn told(id: &str, facts: &Facts, policies: &Policies) -> String {
        let rule = crate::rules::rule(id).unwrap();
        let all = rule.looks_at(&Assessment::of(facts, policies), policies);
        let lines = all.iter().map(|it| format!("{}: {}", it.source, it.says));
        lines.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn inputs_of_a_rule_can_be_checked_by_hand() {
        let facts = healthy(3, 2).frozen(1).pending(2);
        let policies = Policies::default();
        insta::assert_snapshot!(told("below-min", &facts, &policies), @"
        postgresql/acid-a: numberOfInstances: 3 -> 2
        scalepolicies: none sets instances.min
        built-in: instances.min: 1
        ConfigMap default/postgres-operator: min_instances: -1, max_instances: -1
        ");
        insta::assert_snapshot!(told("leader-cannot-move", &facts, &policies), @"
        configmap/acid-a-leader: leader: acid-a-0, renewTime: 2026-11-24T10:00:00Z, ttl: 30
        pod/acid-a-0: role label: master
        pod/acid-a-1: role label: replica
        pod/acid-a-2: role label: none
        http://10.244.0.10:8008/patroni: acid-a-0: running primary, timeline 1, at 0/3E8
        http://10.244.0.11:8008/patroni: acid-a-1: does not answer (no answer in 1s); last reported running replica, timeline 1, at 0/3E8, streaming
        pod/acid-a-2: acid-a-2: does not answer (it has no address); never reported
        configmap/acid-a-config: maximum_lag_on_failover: 33554432 bytes
        scalepolicies: none sets survivors.maxLag
        configmap/acid-a-config: synchronous_mode: false, synchronous_mode_strict: false, synchronous_node_count: 1
        configmap/acid-a-sync: not there
        statefulset/acid-a: no annotation by anyone but the operator
        ");
        insta::assert_snapshot!(told("will-not-progress", &facts, &policies), @"
        statefulset/acid-a: podManagementPolicy: OrderedReady, readiness probe: false
        statefulset/acid-a: spec.replicas: 3
        pod/acid-a-0: Running, Ready, on node-0
        pod/acid-a-1: Running, Ready, on node-1
        pod/acid-a-2: Pending, not Ready, 0/3 nodes are available, on no node
        configmap/acid-a-leader: leader: acid-a-0, renewTime: 2026-11-24T10:00:00Z, ttl: 30
        ");
        insta::assert_snapshot!(told("quota-headroom", &healthy(3, 5), &policies), @"
        postgresql/acid-a: numberOfInstances: 3 -> 5
        a new member: requests nothing; limits nothing; volumes none
        resourcequotas: none counts a new member
        ");
    }

    #[test]
    fn unreadable_inputs_are_shown_with_the_reason() {
        let blind = healthy(5, 2)
            .without_sight_of_members()
            .without_sight_of_the_lock()
            .without_sight_of_the_set();
        let policies = Policies::unreadable("scalepolicies is forbidden");
        insta::assert_snapshot!(told("will-not-progress", &blind, &policies), @"
        statefulset/acid-a: could not be read: statefulsets is forbidden
        pods: could not be read: pods is forbidden
        endpoints/acid-a: could not be read: configmaps is forbidden
        ");
        insta::assert_snapshot!(told("below-min", &blind, &policies), @"
        postgresql/acid-a: numberOfInstances: 5 -> 2
        scalepolicies: could not be read: scalepolicies is forbidden
        built-in: instances.min: 1
        ConfigMap default/postgres-operator: min_instances: -1, max_instances: -1
        ");
    }

    #[test]
    fn only_the_first_of_many_members_are_shown() {
        let all = told("restart-pending", &healthy(25, 24), &Policies::default());
        assert_eq!((all.lines().count(), all.lines().last()), (21, Some("pods: and 5 more")));
    }
}
