//! The effect of a new count on the StatefulSet's controller.

use crate::assessment::Assessment;
use crate::change::Direction;
use crate::evidence::Evidence;
use crate::facts::Seen;
use crate::object_ref::ObjectRef;
use crate::policy::Policies;
use crate::remedy::Remedy;
use crate::rule_id::RuleId;
use crate::rules::applies::{Applies, DOWN, UP};
use crate::rules::reads::{self, Read};
use crate::rules::{Kind, NAMED, Rule, down, inputs, members_unseen, status, unread};
use crate::verdict::{Finding, Outcome, Severity};

pub(super) const PARALLEL_SHRINK: Rule = Rule {
    id: RuleId::PARALLEL_SHRINK,
    title: "several members would be deleted at the same moment",
    applies: Applies::on(&[DOWN.to_at_least(1)]).noted("by 2 or more"),
    default: "deny if the leader is removed, else warn",
    kind: Kind::Live,
    page: "\
With `podManagementPolicy: Parallel` the StatefulSet deletes all pods beyond the new count at once; with the
default, one after the other, each when the one before it is gone. A leader among them then shuts down
together with the standbys that would have received its last rows.

Signals: `spec.podManagementPolicy` of the StatefulSet, and its `spec.replicas` against the new count. Denied
where the leader is not known to stay.

Blind spots: the operator's setting `pod_management_policy` may have changed since; the StatefulSet is then
replaced first.

Way out: shrink by one at a time, or `kubectl pgscale down NAME --to N`, which moves the leader first.

Upstream: processCondemned, pkg/controller/statefulset/stateful_set_control.go of Kubernetes.",
    reads: &[inputs::pod_management, inputs::replicas, inputs::leader],
    needs: reads::COUNT.and(&[Read::StatefulSet, Read::Pods, Read::Leader]),
    check: parallel_shrink,
    #[cfg(any(test, feature = "testing"))]
    table: tests::parallel_shrink,
};

fn parallel_shrink(facts: &Assessment<'_>, _: &Policies) -> Outcome {
    let set = match &facts.stateful_set {
        Seen::Known(set) => set,
        Seen::Absent => return Outcome::NotApplicable,
        Seen::Unreadable(why) => return unread("the StatefulSet", why),
    };
    // Pods that live beyond `spec.replicas` are deleted as well, should another writer have scaled
    // it.
    let living = facts.condemned().filter(|member| !member.pod.terminating).count();
    let living = i64::try_from(living).unwrap_or(i64::MAX);
    let going = set.replicas.saturating_sub(facts.to()).max(living);
    if going < 2 {
        return Outcome::NotApplicable;
    }
    if !set.parallel {
        return Outcome::Pass;
    }
    let (severity, message) = if facts.leader_stays() {
        (Severity::Warn, format!("{going} members would be deleted at the same moment"))
    } else {
        (
            Severity::Deny,
            format!("{going} members would be deleted at the same moment, the leader among them"),
        )
    };
    Outcome::Found(
        Finding::new(PARALLEL_SHRINK.id, severity, message)
            .if_leader_goes(facts.leader_condemned())
            .because(facts.stateful_set_source(), "spec.podManagementPolicy", "Parallel")
            .because(facts.stateful_set_source(), "spec.replicas", set.replicas)
            .remedy(Remedy::to("one at a time", down(facts, set.replicas.saturating_sub(1)))),
    )
}

pub(super) const WILL_NOT_PROGRESS: Rule = Rule {
    id: RuleId::WILL_NOT_PROGRESS,
    title: "the StatefulSet waits for a pod that is not Ready, and would act later",
    applies: Applies::on(&[UP.to_at_least(1), DOWN.to_at_least(1)]),
    default: "down: deny if the leader is removed, else warn; up: warn",
    kind: Kind::Live,
    page: "\
With the default `podManagementPolicy: OrderedReady` the StatefulSet creates and deletes nothing before every
pod that stays is there, runs and is Ready. The new count is stored, nothing happens, and when that pod comes
back at some later time the shrink goes ahead: in a state that no rule has checked, and long after the operator
asked the leader to move.

Signals: `spec.podManagementPolicy`; the pods with ordinals below both counts: missing, not Ready, or being
deleted. Denied where the leader is not known to stay.

Blind spots: without a readiness probe (the operator's default) Ready only means that the containers run. An
unfit pod among the removed ones can hold up the ones above it, too.

Way out: mend the pod that is named (`kubectl describe pod MEMBER -n NAMESPACE`); a cluster that shrinks to
below it does not wait for it. `kubectl pgscale down NAME --to N` moves the leader first.

Upstream: updateStatefulSet, pkg/controller/statefulset/stateful_set_control.go of Kubernetes; #2190 of
zalando/postgres-operator.",
    reads: &[inputs::pod_management, inputs::replicas, inputs::pods, inputs::leader],
    needs: reads::COUNT.and(&[Read::StatefulSet, Read::Pods, Read::Leader]),
    check: will_not_progress,
    #[cfg(any(test, feature = "testing"))]
    table: tests::will_not_progress,
};

fn will_not_progress(facts: &Assessment<'_>, _: &Policies) -> Outcome {
    let direction = facts.direction();
    let set = match &facts.stateful_set {
        Seen::Known(set) => set,
        Seen::Absent => return Outcome::NotApplicable,
        Seen::Unreadable(why) => return unread("the StatefulSet", why),
    };
    // The controller also waits for pods beyond the count that still live, should another writer
    // have scaled the StatefulSet.
    let beyond = facts.condemned().any(|member| !member.pod.terminating);
    if set.parallel || (set.replicas == facts.to() && !beyond) {
        return Outcome::Pass;
    }
    let Seen::Known(members) = &facts.members else { return members_unseen(facts) };
    let stays = facts.to().min(set.replicas);
    let mut evidence = Vec::new();
    let mut names = Vec::new();
    for member in members.iter().filter(|member| member.ordinal < stays) {
        let pod = |field, value: &str| Evidence::new(ObjectRef::pod(&member.name), field, value);
        match (&member.pod.waiting, member.pod.terminating, member.pod.ready) {
            (_, true, _) => evidence.push(pod("metadata.deletionTimestamp", "set")),
            (why, false, false) => {
                evidence.push(pod("condition Ready", "no"));
                evidence.extend(why.as_ref().map(|why| pod("status", &why.to_string())));
            }
            (_, false, true) => continue,
        }
        names.push(member.name.clone());
    }
    for ordinal in facts.missing_survivors().take_while(|ordinal| *ordinal < stays).take(NAMED) {
        let name = facts.pod_name(ordinal);
        evidence.push(Evidence::absent(ObjectRef::pod(&name)));
        names.push(name);
    }
    if names.is_empty() {
        return Outcome::Pass;
    }
    let severity = if direction == Direction::Down && !facts.leader_stays() {
        Severity::Deny
    } else {
        Severity::Warn
    };
    let mut finding = Finding::new(
        WILL_NOT_PROGRESS.id,
        severity,
        format!(
            "the StatefulSet waits for {} and would {} later, unchecked",
            names.join(", "),
            match (direction, severity) {
                (Direction::Down, Severity::Deny) => "delete the leader",
                (Direction::Down, Severity::Warn) => "shrink",
                (Direction::Create | Direction::Same | Direction::Up, _) => "grow",
            }
        ),
    );
    finding.evidence = evidence;
    finding = finding.if_leader_goes(direction == Direction::Down && facts.leader_condemned());
    Outcome::Found(finding.remedy(Remedy::to("mend what is named first", status(facts))))
}

#[cfg(any(test, feature = "testing"))]
#[cfg_attr(not(test), allow(dead_code, unused_imports, reason = "only tables are used"))]
#[allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::wildcard_imports,
    reason = "a table is a test"
)]
mod tests {
    use super::*;
    use crate::facts::Facts;
    use crate::rules::testing::{Want, healthy, led_by_the_last, table, text};

    fn gone(mut facts: Facts) -> Facts {
        facts.stateful_set = Seen::Absent;
        facts
    }

    pub(super) fn parallel_shrink() {
        let parallel = Facts::in_parallel;
        table(
            "parallel-shrink",
            vec![
                ("one after the other", led_by_the_last(2), Want::Pass),
                ("all at once, the leader is kept", parallel(healthy(5, 3)), Want::Warn),
                ("all at once, the leader is removed", parallel(led_by_the_last(3)), Want::Deny),
                (
                    "all at once, the leader is hidden",
                    parallel(healthy(5, 3)).without_sight_of_the_lock(),
                    Want::Deny,
                ),
                ("by one", parallel(led_by_the_last(4)), Want::NotApplicable),
                (
                    "by one more than was applied",
                    parallel(healthy(5, 5).with_count(4, 3)),
                    Want::Warn,
                ),
                (
                    "all at once, another writer scaled the StatefulSet",
                    parallel(healthy(5, 3)).with_stateful_set(|set| set.replicas = 3),
                    Want::Warn,
                ),
                ("no StatefulSet", gone(parallel(healthy(5, 3))), Want::NotApplicable),
                ("StatefulSet unreadable", healthy(5, 3).without_sight_of_the_set(), Want::Unknown),
                ("zero has its own rule", parallel(led_by_the_last(0)), Want::NotApplicable),
                ("growing", parallel(healthy(3, 5)), Want::NotApplicable),
            ],
        );
        insta::assert_snapshot!(text("parallel-shrink", &parallel(healthy(5, 2))), @"
        parallel-shrink: 3 members would be deleted at the same moment
          statefulset/acid-a: spec.podManagementPolicy: Parallel; spec.replicas: 5
          Try: one at a time:
              kubectl pgscale down acid-a --to 4 -n db
        ");
        insta::assert_snapshot!(text("parallel-shrink", &parallel(led_by_the_last(2))), @"
        parallel-shrink: 3 members would be deleted at the same moment, the leader among them
          statefulset/acid-a: spec.podManagementPolicy: Parallel; spec.replicas: 5
          Try: this moves the leader to acid-a-0 first:
              kubectl pgscale down acid-a --to 2 -n db
        ");
    }

    pub(super) fn will_not_progress() {
        let unready =
            |facts: Facts, ordinal| facts.with_member(ordinal, |member| member.pod.ready = false);
        let ending = healthy(5, 3).with_member(1, |member| member.pod.terminating = true);
        table(
            "will-not-progress",
            vec![
                ("all are Ready", healthy(5, 3), Want::Pass),
                ("all are Ready, growing", healthy(3, 5), Want::Pass),
                ("a survivor is not", unready(healthy(5, 3), 1), Want::Warn),
                (
                    "a survivor is not, the leader is removed",
                    unready(led_by_the_last(3), 1),
                    Want::Deny,
                ),
                (
                    "a survivor is not, the leader is hidden",
                    unready(healthy(5, 3), 1).without_sight_of_the_lock(),
                    Want::Deny,
                ),
                ("a survivor ends", ending, Want::Warn),
                (
                    "a survivor is not, another writer scaled the StatefulSet, the leader is removed",
                    unready(led_by_the_last(3), 1).with_stateful_set(|set| set.replicas = 3),
                    Want::Deny,
                ),
                ("a survivor has no pod", healthy(5, 3).without(1), Want::Warn),
                ("one is not, growing", unready(healthy(3, 5), 1), Want::Warn),
                ("a removed one is not", unready(healthy(5, 3), 4), Want::Pass),
                (
                    "Parallel waits for nobody",
                    unready(led_by_the_last(3), 1).in_parallel(),
                    Want::Pass,
                ),
                ("nothing is left to do", unready(healthy(3, 3).with_count(5, 3), 1), Want::Pass),
                ("no StatefulSet", gone(unready(healthy(5, 3), 1)), Want::NotApplicable),
                ("StatefulSet unreadable", healthy(5, 3).without_sight_of_the_set(), Want::Unknown),
                ("pods unreadable", healthy(5, 3).without_sight_of_members(), Want::Unknown),
                ("zero has its own rule", unready(healthy(5, 0), 1), Want::NotApplicable),
                ("the count stays", unready(healthy(3, 3), 1), Want::NotApplicable),
            ],
        );
        insta::assert_snapshot!(text("will-not-progress", &led_by_the_last(3).pending(1)), @"
        will-not-progress: the StatefulSet waits for acid-a-1 and would delete the leader later, unchecked
          pod/acid-a-1: condition Ready: no; status: 0/3 nodes are available
          Try: mend what is named first:
              kubectl pgscale status acid-a -n db
        ");
        insta::assert_snapshot!(text("will-not-progress", &healthy(3, 5).without(2)), @"
        will-not-progress: the StatefulSet waits for acid-a-2 and would grow later, unchecked
          pod/acid-a-2: not there
          Try: mend what is named first:
              kubectl pgscale status acid-a -n db
        ");
    }
}
