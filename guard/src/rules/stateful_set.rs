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

pub(super) const REPLACE_PENDING: Rule = Rule {
    id: RuleId::REPLACE_PENDING,
    title: "the operator would replace the StatefulSet instead of updating it",
    applies: Applies::on(&[UP, DOWN.to_at_least(1)]),
    default: "down: deny if the leader is removed, else warn; up: warn",
    kind: Kind::Live,
    page: "\
The StatefulSet carries annotations that the operator did not write. The operator compares them. Because of one
that it does not know it deletes the StatefulSet and creates it again, with the next change or synchronisation.
On that path it does not try to move the leader at all: a leader on an ordinal that goes is deleted.

Signals: annotation keys of the StatefulSet and of its pod template (`kubectl rollout restart`) whose
manager in managedFields is not the operator; those that it is configured to ignore (`ignored_annotations`)
are left out. Denied where the leader is not known to stay; leader-cannot-move then says the same of the
leader.

Blind spots: other reasons to replace it, such as operator settings that changed since, show only when the
operator compares. Managers can be given any name.

Way out: remove the annotation, or let the operator's next synchronisation replace the StatefulSet at the
present count (within 30 minutes), then ask again. `kubectl pgscale down NAME --to N` moves the leader first.

Upstream: compareStatefulSetWith, pkg/cluster/cluster.go; replaceStatefulSet, pkg/cluster/resources.go.",
    reads: &[inputs::foreign_annotations, inputs::leader],
    needs: reads::COUNT.and(&[Read::StatefulSet, Read::Pods, Read::Leader]),
    check: replace_pending,
    #[cfg(any(test, feature = "testing"))]
    table: tests::replace_pending,
};

fn replace_pending(facts: &Assessment<'_>, _: &Policies) -> Outcome {
    let severity = match facts.direction() {
        Direction::Down if !facts.leader_stays() => Severity::Deny,
        Direction::Create | Direction::Down | Direction::Same | Direction::Up => Severity::Warn,
    };
    let set = match &facts.stateful_set {
        Seen::Known(set) => set,
        // Without a StatefulSet beside pods an operation is under way, which has its own rule.
        Seen::Absent => return Outcome::NotApplicable,
        Seen::Unreadable(why) => return unread("the StatefulSet", why),
    };
    if set.foreign_annotations.is_empty() {
        return Outcome::Pass;
    }
    let consequence = match severity {
        Severity::Deny => "and not move the leader, which would be deleted",
        Severity::Warn => "with whatever else has piled up",
    };
    let mut finding = Finding::new(
        REPLACE_PENDING.id,
        severity,
        format!(
            "the operator would replace the StatefulSet of {} instead of updating it, {consequence}",
            facts.change.cluster()
        ),
    )
    .if_leader_goes(facts.leader_condemned());
    for (key, manager) in &set.foreign_annotations {
        finding = finding.because_of(facts.foreign_annotation(key, manager));
    }
    Outcome::Found(finding.remedy(
        "remove the annotation, or let the operator's next synchronisation replace it, then ask again",
    ))
}

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

    pub(super) fn replace_pending() {
        let annotated = |facts: Facts| {
            facts.with_stateful_set(|set| {
                let key = "kubectl.kubernetes.io/restartedAt";
                set.foreign_annotations.push((key.into(), "kubectl-rollout".into()));
            })
        };
        table(
            "replace-pending",
            vec![
                ("its own annotations", healthy(5, 3), Want::Pass),
                ("a stranger's, the leader is kept", annotated(healthy(5, 3)), Want::Warn),
                ("a stranger's, the leader is removed", annotated(led_by_the_last(3)), Want::Deny),
                (
                    "a stranger's, the leader is hidden",
                    annotated(healthy(5, 3)).without_sight_of_the_lock(),
                    Want::Deny,
                ),
                ("a stranger's, growing", annotated(healthy(3, 5)), Want::Warn),
                ("no StatefulSet", gone(healthy(5, 3)), Want::NotApplicable),
                ("StatefulSet unreadable", healthy(5, 3).without_sight_of_the_set(), Want::Unknown),
                ("zero has its own rule", annotated(led_by_the_last(0)), Want::NotApplicable),
                ("the count stays", annotated(healthy(3, 3)), Want::NotApplicable),
            ],
        );
        insta::assert_snapshot!(text("replace-pending", &annotated(led_by_the_last(3))), @"
        replace-pending: the operator would replace the StatefulSet of db/acid-a instead of updating it, and not move the leader, which would be deleted
          statefulset/acid-a: annotation kubectl.kubernetes.io/restartedAt: written by kubectl-rollout
          Try: this moves the leader to acid-a-0 first:
              kubectl pgscale down acid-a --to 3 -n db
        ");
        insta::assert_snapshot!(text("replace-pending", &annotated(healthy(3, 5))), @"
        replace-pending: the operator would replace the StatefulSet of db/acid-a instead of updating it, with whatever else has piled up
          statefulset/acid-a: annotation kubectl.kubernetes.io/restartedAt: written by kubectl-rollout
          Try: remove the annotation, or let the operator's next synchronisation replace it, then ask again
        ");
    }

    pub(super) fn parallel_shrink() {
        let parallel = |facts: Facts| facts.with_stateful_set(|set| set.parallel = true);
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
                    unready(led_by_the_last(3), 1).with_stateful_set(|set| set.parallel = true),
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
