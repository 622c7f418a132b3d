//! The tables of the rules and their texts.

use super::*;
use crate::facts::Facts;
use crate::rules::testing::{Want, created, healthy, led_by_the_last, table, text};

fn gone(mut facts: Facts) -> Facts {
    facts.stateful_set = Seen::Absent;
    facts
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
            ("by one more than was applied", parallel(healthy(5, 5).with_count(4, 3)), Want::Warn),
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

/// 0 to 3, where -0 and -1 may not lead and are not Ready, and -2 was never made.
fn barred(replicas: i64) -> Facts {
    let mut facts = healthy(3, 3).without(2).with_count(0, 3).nofailover(0).nofailover(1);
    facts.leader = Seen::Absent;
    (0..2)
        .fold(facts, |facts, ordinal| facts.with_member(ordinal, |it| it.pod.ready = false))
        .with_stateful_set(|set| set.replicas = replicas)
}

/// Returns the cluster with a name of this length.
fn named(mut facts: Facts, length: usize) -> Facts {
    facts.change.new.name = "a".repeat(length);
    facts
}

/// Returns growth by one of a cluster whose revision has a name of this length.
fn revised(from: i64, length: usize) -> Facts {
    healthy(from, from + 1).with_stateful_set(|set| set.revision = Some("a".repeat(length)))
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
                "Parallel waits for no member",
                unready(led_by_the_last(3), 1).with_stateful_set(|set| set.parallel = true),
                Want::Pass,
            ),
            ("nothing is left to do", unready(healthy(3, 3).with_count(5, 3), 1), Want::Pass),
            ("no StatefulSet", gone(unready(healthy(5, 3), 1)), Want::NotApplicable),
            ("StatefulSet unreadable", healthy(5, 3).without_sight_of_the_set(), Want::Unknown),
            ("pods unreadable", healthy(5, 3).without_sight_of_members(), Want::Unknown),
            ("zero has its own rule", unready(healthy(5, 0), 1), Want::NotApplicable),
            ("the count stays", unready(healthy(3, 3), 1), Want::NotApplicable),
            ("from zero, and what is left is not Ready", barred(0), Want::Warn),
            ("from zero, and it was written before", barred(3), Want::Warn),
            ("from zero, and all are Ready", healthy(2, 2).with_count(0, 3), Want::Pass),
            ("created with a short name", named(created(3), 52), Want::Pass),
            ("created with a name that is too long", named(created(3), 53), Want::Warn),
            ("growing, and its revision is too long", revised(3, 64), Want::Warn),
            ("growing, and its revision fits", revised(3, 63), Want::Pass),
            ("from zero, and its revision is too long", revised(0, 64), Want::Warn),
        ],
    );
    insta::assert_snapshot!(text("will-not-progress", &barred(3)), @"
    will-not-progress: the StatefulSet waits for acid-a-0, acid-a-1, acid-a-2 and would grow later, unchecked
      pod/acid-a-0: condition Ready: no
      http://10.244.0.10:8008/patroni: acid-a-0: tags.nofailover: true
      pod/acid-a-1: condition Ready: no
      http://10.244.0.11:8008/patroni: acid-a-1: tags.nofailover: true
      pod/acid-a-2: not there
      Try: remove the tag nofailover: no member leads, and one with the tag never does
        mend what is named first:
          kubectl pgscale status acid-a -n db
    ");
    insta::assert_snapshot!(text("will-not-progress", &named(created(3), 53)), @"
    will-not-progress: the name has 53 characters: with more than 52 Kubernetes refuses most revisions of its pods
      postgresql/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa: label controller-revision-hash: up to 64 characters, 63 are allowed
      Try: choose a name of 52 characters or fewer
    ");
    insta::assert_snapshot!(text("will-not-progress", &revised(0, 64)), @"
    will-not-progress: Kubernetes refuses every new pod: the cluster's name is too long for its labels
      statefulset/acid-a: status.updateRevision: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa: 64 characters, 63 are allowed
      Try: clone it (spec.clone) into a cluster whose name has 52 characters or fewer
    ");
    insta::assert_snapshot!(text("will-not-progress", &led_by_the_last(3).pending(1)), @"
    will-not-progress: the StatefulSet waits for acid-a-1 and would delete the leader later, unchecked
      pod/acid-a-1: condition Ready: no; status: 0/3 nodes are available
      Try: acid-a-1 does not start (0/3 nodes are available); see why:
          kubectl describe pod acid-a-1 -n db
        mend what is named first:
          kubectl pgscale status acid-a -n db
    ");
    insta::assert_snapshot!(text("will-not-progress", &healthy(3, 5).without(2)), @"
    will-not-progress: the StatefulSet waits for acid-a-2 and would grow later, unchecked
      pod/acid-a-2: not there
      Try: mend what is named first:
          kubectl pgscale status acid-a -n db
    ");
}
