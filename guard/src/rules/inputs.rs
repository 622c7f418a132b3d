//! The objects that each rule reads, and their present state.
//!
//! They are printed beside every verdict, also beside one without findings, so that a person can
//! check it. Nothing is judged here, and no rule judges by these texts. A fact that could not be
//! read is printed as unreadable.

use std::fmt::Display;

use crate::assessment::Assessment;
use crate::evidence::Evidence;
use crate::facts::Seen;
use crate::object_ref::{self, ObjectRef};
use crate::policy::Policies;
use crate::rules::Rule;

mod cluster;
mod members;
mod patroni;
mod policies;
mod room;

pub(super) use cluster::{
    count, created, declared_synchrony, drift, generation, name, operator_limits, operator_runs,
    other_edits, owner_before, pod_management, replacement, replicas, retention, standby, status,
    stores, upgrade_failure, upgrades, volumes_of_deleted, writes,
};
pub(super) use members::{
    answers, draining, images, marks, pods, rest_refusals, restarts, role_labels, server_version,
    sources, sync_tags, tags, zones,
};
pub(super) use patroni::{
    elsewhere, failover, initialize, lag, last_leader, leader, lock, logical_slots, pause, senders,
    sync_names, sync_standbys, synchrony,
};
pub(super) use policies::{
    backup_age, budget, floor, freezes, max, max_lag, min, steps, windows, zero,
};
pub(super) use room::{
    anti_affinity, backup, claims, disruption_budgets, limit_ranges, missed_claims, need, nodes,
    quotas, spending,
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

/// Returns one field of an object.
fn one(object: ObjectRef, field: &str, value: impl Display) -> Vec<Evidence> {
    vec![Evidence::new(object, field, value)]
}

/// Returns the fields of `value`, that `object` does not exist, or the reason why it could not be read.
fn seen<T, const N: usize>(
    value: &Seen<T>,
    object: &ObjectRef,
    fields: impl FnOnce(&T) -> [(&'static str, String); N],
) -> Vec<Evidence> {
    match value {
        Seen::Known(value) => {
            fields(value).map(|(field, value)| Evidence::new(object.clone(), field, value)).into()
        }
        Seen::Absent => vec![Evidence::absent(object.clone())],
        Seen::Unreadable(why) => unread(object.clone(), why),
    }
}

fn unread(object: ObjectRef, why: &str) -> Vec<Evidence> {
    vec![Evidence::unreadable(object, why)]
}

/// Returns all facts about the first objects of `all`, which are of this kind.
fn listed(kind: object_ref::Kind, all: Vec<Vec<Evidence>>) -> Vec<Evidence> {
    let object = ObjectRef::all(kind);
    if all.is_empty() {
        return vec![Evidence::absent(object)];
    }
    let more = all.len().saturating_sub(SHOWN);
    let mut shown: Vec<Evidence> = all.into_iter().take(SHOWN).flatten().collect();
    if more > 0 {
        shown.push(Evidence::new(object, "not shown", more));
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::Facts;
    use crate::rules::testing::healthy;

    fn looked_at(id: &str, facts: &Facts, policies: &Policies) -> String {
        let rule = crate::rules::rule(id).unwrap();
        let all = rule.looks_at(&Assessment::of(facts, policies), policies);
        all.iter().map(Evidence::to_string).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn inputs_of_a_rule_can_be_checked_by_hand() {
        let facts = healthy(3, 2).frozen(1).pending(2);
        let policies = Policies::default();
        insta::assert_snapshot!(looked_at("below-min", &facts, &policies), @"
        postgresql/acid-a: numberOfInstances: 3 -> 2
        scalepolicies: instances.min: set by none
        built-in defaults: instances.min: 1
        configmap default/postgres-operator: min_instances: -1
        configmap default/postgres-operator: max_instances: -1
        ");
        insta::assert_snapshot!(looked_at("leader-cannot-move", &facts, &policies), @"
        configmap/acid-a-leader: leader: acid-a-0
        configmap/acid-a-leader: renewTime: 2026-11-24T10:00:00Z
        configmap/acid-a-leader: ttl: 30
        pod/acid-a-0: role label: master
        pod/acid-a-1: role label: replica
        pod/acid-a-2: role label: none
        pod/acid-a-0: TLS, a password or an allowlist of its REST interface: none seen
        http://10.244.0.10:8008/patroni: acid-a-0: answer: running primary, timeline 1, at 0/3E8
        http://10.244.0.11:8008/patroni: acid-a-1: answer: none (no answer in 1s)
        pod/acid-a-1: annotation status: running replica, timeline 1, at 0/3E8, streaming
        pod/acid-a-2: answer: none (it has no address)
        pod/acid-a-2: annotation status: unset
        configmap/acid-a-config: maximum_lag_on_failover: 33554432 bytes
        scalepolicies: survivors.maxLag: set by none
        configmap/acid-a-config: synchronous_mode: false
        configmap/acid-a-config: synchronous_mode_strict: false
        configmap/acid-a-config: synchronous_node_count: 1
        configmap/acid-a-sync: not there
        statefulset/acid-a: compared parts: as the operator writes them
        ");
        insta::assert_snapshot!(looked_at("will-not-progress", &facts, &policies), @"
        statefulset/acid-a: spec.podManagementPolicy: OrderedReady
        statefulset/acid-a: readiness probe: unset
        statefulset/acid-a: spec.replicas: 3
        pod/acid-a-0: status.phase: Running
        pod/acid-a-0: condition Ready: yes
        pod/acid-a-0: spec.nodeName: node-0
        pod/acid-a-1: status.phase: Running
        pod/acid-a-1: condition Ready: yes
        pod/acid-a-1: spec.nodeName: node-1
        pod/acid-a-2: status.phase: Pending
        pod/acid-a-2: condition Ready: no
        pod/acid-a-2: status: 0/3 nodes are available
        pod/acid-a-2: spec.nodeName: unset
        http://10.244.0.10:8008/patroni: acid-a-0: tags.nofailover: false
        pod/acid-a-1: annotation status.tags.nofailover (last report, no answer now): false
        pod/acid-a-2: annotation status: unset
        configmap/acid-a-leader: leader: acid-a-0
        configmap/acid-a-leader: renewTime: 2026-11-24T10:00:00Z
        configmap/acid-a-leader: ttl: 30
        postgresql/acid-a: characters of the name: 6
        ");
        insta::assert_snapshot!(looked_at("quota-headroom", &healthy(3, 5), &policies), @"
        postgresql/acid-a: numberOfInstances: 3 -> 5
        postgresql/acid-a: requests of each new member: none
        postgresql/acid-a: limits of each new member: none
        postgresql/acid-a: volumes of each new member: none
        resourcequotas: count a new member: none
        ");
    }

    #[test]
    fn unreadable_inputs_are_shown_with_the_reason() {
        let blind = healthy(5, 2)
            .without_sight_of_members()
            .without_sight_of_the_lock()
            .without_sight_of_the_set();
        let policies = Policies::unreadable("scalepolicies is forbidden");
        insta::assert_snapshot!(looked_at("will-not-progress", &blind, &policies), @"
        statefulset/acid-a: could not be read: statefulsets is forbidden
        pods: could not be read: pods is forbidden
        endpoints/acid-a: could not be read: configmaps is forbidden
        postgresql/acid-a: characters of the name: 6
        ");
        insta::assert_snapshot!(looked_at("below-min", &blind, &policies), @"
        postgresql/acid-a: numberOfInstances: 5 -> 2
        scalepolicies: could not be read: scalepolicies is forbidden
        built-in defaults: instances.min: 1
        configmap default/postgres-operator: min_instances: -1
        configmap default/postgres-operator: max_instances: -1
        ");
    }

    #[test]
    fn only_the_first_of_many_members_are_shown() {
        let all = looked_at("restart-pending", &healthy(25, 24), &Policies::default());
        assert_eq!((all.lines().count(), all.lines().last()), (21, Some("pods: not shown: 5")));
    }
}
