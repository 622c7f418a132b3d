//! Changes that only improve a bad state, and changes that only resemble them.

use k8s_openapi::jiff::SignedDuration;

use super::{bound, denials, verdict, warnings};
use crate::change::Direction;
use crate::facts::{Facts, Repair, Seen};
use crate::patroni::{PendingFailover, State};
use crate::rules::testing::{healthy, led_by_the_last, now, text};

scenarios![
    repairs_pass_whatever_the_operator_and_others_are_doing,
    a_pod_pending_for_ever_does_not_block_the_way_back,
    a_change_that_a_stopped_operator_never_applied_can_be_cancelled,
    stateful_set_scaled_by_another_writer_permits_no_shrink,
    a_leader_whose_pod_ends_keeps_no_cluster,
    a_leader_without_a_sign_of_life_leaves_the_lead_to_a_removed_member,
    a_member_that_is_about_to_follow_the_new_leader_is_missed,
    the_way_back_from_a_stuck_shrink_is_never_refused,
    no_remedy_is_to_wait_where_waiting_deletes_the_leader,
    changes_that_are_no_repair,
    changes_that_are_a_repair,
    tempered_denial_names_the_reason,
];

fn repairs_pass_whatever_the_operator_and_others_are_doing() {
    let mut facts = healthy(5, 4).stalled([4]).with_annotation("a", "b");
    facts = facts.with_member(1, |member| member.pod.ready = false);
    facts.failover = Seen::Known(PendingFailover {
        leader: Some("acid-a-0".into()),
        candidate: None,
        scheduled: None,
    });
    facts.operator = Seen::Absent;
    let facts = (0..5).fold(facts.pause(), |facts, ordinal| {
        facts.with_member(ordinal, |member| member.pod.critical_operation = true)
    });
    assert_eq!(facts.assess().repair(), Some(Repair::RemovesUnhealthyOnly));
    assert!(verdict(&facts).allows(), "{:?}", denials(&facts));
    for rule in ["switchover-pending", "major-upgrade"] {
        let found = verdict(&facts).finding(rule).cloned().unwrap();
        assert!(found.severity_reason.is_some(), "{rule} would refuse it otherwise");
    }
}

fn a_pod_pending_for_ever_does_not_block_the_way_back() {
    // OrderedReady: the pod after it was never created.
    let stuck = healthy(5, 3).pending(3).without(4);
    assert_eq!(stuck.assess().repair(), Some(Repair::RemovesUnhealthyOnly));
    assert!(verdict(&stuck).allows());
    // The same holds with a member that is behind, which the way back does not touch.
    assert!(verdict(&stuck.stalled([1, 2])).allows());
}

fn a_change_that_a_stopped_operator_never_applied_can_be_cancelled() {
    // 5 to 2 was written while the operator was down. The StatefulSet still runs 5.
    let back = healthy(5, 5).with_count(2, 5);
    assert_eq!((back.direction(), back.assess().repair()), (Direction::Up, Some(Repair::Cancels)));
    assert!(verdict(&back).allows());
    assert!(verdict(&back.clone().cloning(3).pause()).allows());
    // 5 to 7 was written. The way back to 5 is a shrink that removes no pod.
    let down = healthy(5, 5).with_count(7, 5).cloning(3).stalled([1, 2]);
    assert_eq!(
        (down.direction(), down.assess().repair()),
        (Direction::Down, Some(Repair::Cancels))
    );
    assert!(verdict(&down).allows());
    // A further shrink is no repair.
    assert!(denials(&healthy(5, 5).with_count(3, 2)).contains(&"change-not-applied"));
}

/// A StatefulSet that another writer scaled is no permission to delete living pods.
fn stateful_set_scaled_by_another_writer_permits_no_shrink() {
    // -0 is away, so the StatefulSet, scaled to 1, has deleted nothing yet.
    let scaled = |facts: Facts| facts.with_stateful_set(|set| set.replicas = 1);
    let led_by_2 = scaled(healthy(3, 1).with_leader(2).without(0));
    assert_eq!(led_by_2.assess().repair(), None);
    assert!(denials(&led_by_2).contains(&"leader-condemned"), "{:?}", denials(&led_by_2));
    let led_by_1 = scaled(healthy(3, 1).with_leader(1).without(0));
    assert!(!verdict(&led_by_1).allows());
    let lives = healthy(4, 2).stalled([1]).with_stateful_set(|set| set.replicas = 2);
    assert_eq!(lives.assess().repair(), None, "-2 and -3 live");
    assert_eq!(denials(&lives), ["too-few-healthy-survivors"]);
    let hidden = scaled(healthy(3, 1)).without_sight_of_members();
    assert_eq!(hidden.assess().repair(), None, "pods that cannot be listed may live");
    assert!(!verdict(&hidden).allows());
    // Once all of them terminate, the count decides nothing any more.
    let ends = |facts: Facts, ordinal| facts.with_member(ordinal, |it| it.pod.terminating = true);
    let ending = ends(ends(lives, 2), 3);
    assert_eq!(ending.assess().repair(), Some(Repair::Cancels));
    assert!(verdict(&ending).allows());
}

/// Another writer scaled the StatefulSet to 1, and the pod of the leader -1 ends. -2 is back on an old
/// timeline, and would take over before it is deleted.
fn a_leader_whose_pod_ends_keeps_no_cluster() {
    let ending = healthy(3, 2)
        .in_parallel()
        .with_leader(1)
        .with_member(1, |member| member.pod.terminating = true)
        .with_answer(2, |answer| answer.timeline = Some(0))
        .with_stateful_set(|set| set.replicas = 1);
    assert_eq!(ending.assess().repair(), None);
    assert!(!verdict(&ending).allows(), "{:?}", warnings(&ending));
}

/// The node of the leader -0 is lost, and -2 runs on an old timeline. Once the lock has expired, -2
/// leads, and the count deletes it.
fn a_leader_without_a_sign_of_life_leaves_the_lead_to_a_removed_member() {
    let old_timeline = |facts: Facts| {
        facts.with_answer(2, |answer| {
            (answer.timeline, answer.replication_state) = (Some(0), None);
        })
    };
    let lost_node = |facts: Facts| facts.with_member(0, |it| it.pod.node_ready = Some(false));
    let alone = || old_timeline(healthy(3, 2).without(1));
    for facts in [alone().frozen(0), lost_node(alone()), lost_node(alone().frozen(0))] {
        assert_eq!(facts.assess().repair(), None);
        assert!(!verdict(&facts).allows(), "{:?}", warnings(&facts));
    }
    // A member that cannot lead is removed all the same.
    let barred = alone().frozen(0).with_answer(2, |answer| answer.tags.nofailover = true);
    let down = healthy(3, 2).without(1).frozen(0).with_answer(2, |it| it.state = State::Failed);
    for facts in [alone(), barred, down] {
        assert_eq!(facts.assess().repair(), Some(Repair::RemovesUnhealthyOnly));
        assert!(verdict(&facts).allows(), "{:?}", denials(&facts));
    }
}

/// 5 to 2 is stuck because -0 is gone, and the leader on -4 waits to be deleted. The
/// way back was refused with the remedy to wait, and waiting deletes the leader.
fn the_way_back_from_a_stuck_shrink_is_never_refused() {
    let stuck =
        || healthy(5, 5).with_leader(4).without(0).with_stateful_set(|set| set.replicas = 2);
    let back = stuck().with_count(2, 5);
    assert_eq!(back.assess().repair(), Some(Repair::KeepsLeader));
    assert!(verdict(&back).allows(), "{:?}", denials(&back));
    assert!(warnings(&back).contains(&"rebuild-in-progress"));
    // The leader is safe, and the other removed members still live.
    let led_by_1 = healthy(5, 5).with_leader(1).without(0);
    let back = led_by_1.with_stateful_set(|set| set.replicas = 2).with_count(2, 5);
    assert_eq!(back.assess().repair(), Some(Repair::AddsNothingNew));
    assert!(verdict(&back).allows());
    // -3 is gone already: the count recreates it, and still keeps the leader.
    let back = stuck().without(3).with_count(2, 5);
    assert_eq!(back.assess().repair(), Some(Repair::KeepsLeader));
    assert!(verdict(&back).allows());
    // Without a leader to keep, a recreated member is no repair.
    let back = healthy(5, 5).without(0).without(3).with_stateful_set(|set| set.replicas = 2);
    assert_eq!(back.with_count(2, 5).assess().repair(), None);
    // A count above any earlier one is no way back.
    assert_eq!(stuck().with_count(2, 6).assess().repair(), None);
    assert_eq!(healthy(5, 6).cloning(4).assess().repair(), None);
}

fn no_remedy_is_to_wait_where_waiting_deletes_the_leader() {
    // 3 does not keep the leader on -4, and is refused for that alone: every pod that it adds is
    // there.
    let stuck = healthy(5, 5).with_leader(4).without(0).with_stateful_set(|set| set.replicas = 2);
    let too_few = stuck.with_count(2, 3);
    assert_eq!(denials(&too_few), ["leader-condemned"]);
    insta::assert_snapshot!(text("leader-condemned", &too_few), @"
    leader-condemned: acid-a-4 is the leader, and a count of 3 leaves its pod out: the operator deletes it with this write
      configmap/acid-a-leader: leader: acid-a-4
      statefulset/acid-a: spec.replicas: 2
      pod/acid-a-0: not there (leader-cannot-move)
      Try: move the leader first, then repeat the change:
          kubectl pgscale switchover acid-a --for 3 -n db
        without the plugin:
          kubectl exec -it acid-a-1 -n db -c postgres -- patronictl switchover acid-a --candidate acid-a-1
    ");
    insta::assert_snapshot!(text("rebuild-in-progress", &too_few.clone().without(2)), @"
    rebuild-in-progress: still being built: acid-a-0
      statefulset/acid-a: spec.replicas: 2, and acid-a-0 has no pod yet
      Try: do not wait, the leader acid-a-4 is about to be deleted
        keep it:
          kubectl pgscale set acid-a 5 -n db
    ");
    let remedies = verdict(&too_few.without(2)).findings.into_iter().filter_map(|it| it.remedy);
    for remedy in remedies.collect::<Vec<_>>() {
        assert!(!remedy.to_string().contains("pgscale wait"), "{remedy}");
    }
}

/// Returns the facts with a leader that took the lock so many seconds ago.
fn led_for(mut facts: Facts, seconds: i64) -> Facts {
    if let Seen::Known(lock) = &mut facts.leader {
        lock.acquired = Some(now() - SignedDuration::from_secs(seconds));
    }
    facts
}

/// A shrink passed in the seconds after a switchover, while the members that it removes did not
/// follow the new leader yet, and a kept member was frozen.
fn a_member_that_is_about_to_follow_the_new_leader_is_missed() {
    let shrink = |seconds| {
        let facts = healthy(3, 2).frozen(1).with_answer(2, |it| it.timeline = Some(0));
        led_for(facts, seconds)
    };
    assert_eq!(denials(&shrink(5)), ["too-few-healthy-survivors"]);
    // Later it has had its time.
    assert_eq!(shrink(41).assess().repair(), Some(Repair::RemovesUnhealthyOnly));
    assert!(verdict(&shrink(41)).allows());
    // One that fails does not follow by itself, nor one whose node is lost.
    let failed = healthy(3, 2).frozen(1).with_answer(2, |it| it.state = State::Failed);
    let lost = healthy(3, 2).frozen(1).stalled([2]);
    let lost = lost.with_member(2, |it| it.pod.node_ready = Some(false));
    for facts in [failed, lost] {
        let facts = led_for(facts, 5);
        assert_eq!(facts.assess().repair(), Some(Repair::RemovesUnhealthyOnly));
        assert!(verdict(&facts).allows(), "{:?}", denials(&facts));
    }
}

fn changes_that_are_no_repair() {
    for (name, facts) in vec![
        ("the leader is removed, unhealthy as it is", led_by_the_last(4).frozen(4)),
        ("one of the removed ones is healthy", healthy(5, 3).stalled([4])),
        ("one of the removed ones is only silent", healthy(5, 4).frozen(4)),
        (
            "one of the removed ones is only silent, and another container of its pod is not there",
            healthy(5, 4).frozen(4).with_member(4, |it| it.pod.phase = "Pending".into()),
        ),
        (
            "one of the removed ones claims to lead",
            healthy(5, 4).with_member(4, |it| {
                it.pod.role = Some("master".into());
                it.pod.node_ready = Some(false);
            }),
        ),
        (
            "one of the removed ones is on a newer timeline",
            healthy(5, 4).with_answer(4, |it| it.timeline = Some(2)),
        ),
        ("one of the removed ones had no time to follow the new leader", {
            let old = healthy(5, 4).with_answer(4, |it| it.timeline = Some(0));
            led_for(old, 39)
        }),
        ("one of the removed ones starts again since the leader moved", {
            led_for(healthy(5, 4).with_answer(4, |it| it.state = State::Starting), 5)
        }),
        ("nobody leads", {
            let mut facts = healthy(5, 4).stalled([4]);
            facts.leader = Seen::Absent;
            facts
        }),
        ("who leads is hidden", healthy(5, 4).stalled([4]).without_sight_of_the_lock()),
        ("a stranger leads", healthy(5, 4).stalled([4]).without(0)),
        ("the pods are hidden", healthy(5, 4).without_sight_of_members()),
        ("the allowed lag is hidden", {
            let mut facts = healthy(5, 4)
                .with_answer(4, |it| {
                    it.received = Some(4_000_000);
                    it.replayed = Some(1000);
                })
                .with_answer(0, |it| it.location = Some(4_000_000));
            facts.configuration = Seen::Unreadable("timed out".into());
            facts
        }),
        ("to zero", healthy(5, 5).with_count(2, 0).with_stateful_set(|set| set.replicas = 0)),
        ("growth is none by itself", healthy(3, 5)),
    ] {
        assert_eq!(facts.assess().repair(), None, "{name}");
    }
}

fn changes_that_are_a_repair() {
    let mut empty = (0..3).fold(healthy(3, 2), Facts::without);
    assert_eq!(empty.assess().repair(), Some(Repair::NothingRuns));
    empty = empty.with_stateful_set(|set| set.replicas = 0);
    assert_eq!(empty.clone().with_count(0, 3).assess().repair(), Some(Repair::NothingRuns));
    empty.claims = Seen::Unreadable("timed out".into());
    assert_eq!(empty.clone().with_count(0, 3).assess().repair(), Some(Repair::ReturnsFromZero));
    assert!(verdict(&empty.with_count(0, 3)).allows());
    for (name, facts) in [
        ("behind", healthy(5, 4).stalled([4])),
        (
            "on a lost node",
            healthy(5, 4).frozen(4).with_member(4, |it| it.pod.node_ready = Some(false)),
        ),
        (
            "ending already, and not asked for any more",
            healthy(5, 3)
                .stalled([3])
                .with_member(4, |it| it.pod.terminating = true)
                .with_stateful_set(|set| set.replicas = 4),
        ),
        (
            "ending on a lost node, for ever",
            healthy(5, 4).frozen(4).with_member(4, |it| {
                (it.pod.terminating, it.pod.node_ready) = (true, Some(false));
            }),
        ),
        ("never created", healthy(5, 4).without(4)),
        ("never created, and nobody else is fit", healthy(5, 4).without(4).stalled([1, 2, 3])),
        (
            "never created, its claim not bound, and nobody else is fit",
            bound(healthy(5, 4).without(4).stalled([1, 2, 3]), None),
        ),
        ("kept from being created, and others are fit", bound(healthy(5, 4).without(4), Some(1))),
    ] {
        assert_eq!(facts.assess().repair(), Some(Repair::RemovesUnhealthyOnly), "{name}");
        assert!(verdict(&facts.pause()).allows(), "{name}");
    }
}

fn tempered_denial_names_the_reason() {
    let facts = healthy(4, 3).stalled([3]).with_stateful_set(|set| set.observed_generation = 3);
    insta::assert_snapshot!(text("operation-in-progress", &facts), @"
    operation-in-progress: an operation on db/acid-a is not finished
      statefulset/acid-a: metadata.generation: 4; status.observedGeneration: 3
      (not refused: it removes only members that are not healthy, and not the leader)
      Try:
          kubectl pgscale wait acid-a -n db
    ");
}
