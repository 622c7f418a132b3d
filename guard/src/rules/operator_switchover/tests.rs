//! The tables of the two rules and their texts.

use super::*;
use crate::facts::Facts;
use crate::facts::RestRefusal;
use crate::rules::testing::{Want, healthy, led_by_the_last, table, text};

/// Returns a cluster of which 5 run, led by the last. The operator's limit is `max` and is not
/// carried out yet, and 6 are written as `max`.
fn limited(max: i64) -> Facts {
    led_by_the_last(3).with_settings(|settings| settings.max_instances = max).with_count(6, max)
}

/// Returns a shrink that is left to the operator, with a setting of one member.
fn refusing(ordinal: i64, certain: bool) -> Facts {
    led_by_the_last(3).with_member(ordinal, |member| {
        member.pod.rest_refusals = vec![RestRefusal {
            field: "env PATRONI_RESTAPI_USERNAME".into(),
            value: "set".into(),
            certain,
        }];
    })
}

pub(super) fn leader_condemned() {
    let mut leaderless = led_by_the_last(2);
    leaderless.leader = Seen::Absent;
    table(
        "leader-condemned",
        vec![
            ("the leader is kept", healthy(5, 2), Want::Pass),
            ("the leader is removed", led_by_the_last(2), Want::Deny),
            ("the leader is removed, one stays", led_by_the_last(1), Want::Deny),
            ("-0 cannot take over", led_by_the_last(2).frozen(0), Want::Deny),
            ("no member can take over", led_by_the_last(2).stalled([0, 1]), Want::Deny),
            ("no member leads", leaderless, Want::Pass),
            ("lock unreadable", led_by_the_last(2).without_sight_of_the_lock(), Want::Unknown),
            ("pods unreadable", led_by_the_last(2).without_sight_of_members(), Want::Unknown),
            ("zero has its own rule", led_by_the_last(0), Want::NotApplicable),
            ("growing", healthy(3, 5), Want::Pass),
            (
                "growing, and the leader is left out",
                led_by_the_last(0).with_count(2, 3),
                Want::Deny,
            ),
            ("growing, and the leader is kept", led_by_the_last(0).with_count(2, 5), Want::Pass),
            ("as many as the operator's limit, and the leader is left out", limited(3), Want::Deny),
            ("as many as the operator's limit, which keeps the leader", limited(5), Want::Pass),
            ("growing from zero", led_by_the_last(0).with_count(0, 3), Want::NotApplicable),
        ],
    );
    insta::assert_snapshot!(text("leader-condemned", &led_by_the_last(2)), @"
    leader-condemned: acid-a-4 is the leader, and its pod would be deleted: acid-a-0 to acid-a-1 are kept
      configmap/acid-a-leader: leader: acid-a-4
      Try: move the leader first, then repeat the change:
          kubectl pgscale switchover acid-a --for 2 -n db
        without the plugin:
          kubectl exec -it acid-a-0 -n db -c postgres -- patronictl switchover acid-a --candidate acid-a-0
    ");
    insta::assert_snapshot!(text("leader-condemned", &led_by_the_last(2).stalled([0, 1])), @"
    leader-condemned: acid-a-4 is the leader, and its pod would be deleted: acid-a-0 to acid-a-1 are kept
      configmap/acid-a-leader: leader: acid-a-4
      http://10.244.0.10:8008/patroni: acid-a-0: WAL not received after 1s: 600 bytes
      http://10.244.0.11:8008/patroni: acid-a-1: WAL not received after 1s: 600 bytes
      Try: not 2, but 4; this moves the leader to acid-a-2 first:
          kubectl pgscale down acid-a --to 4 -n db
    ");
    insta::assert_snapshot!(text("leader-condemned", &led_by_the_last(1).stalled([0, 1, 2, 3])), @"
    leader-condemned: acid-a-4 is the leader, and its pod would be deleted: only acid-a-0 is kept
      configmap/acid-a-leader: leader: acid-a-4
      http://10.244.0.10:8008/patroni: acid-a-0: WAL not received after 1s: 600 bytes
      Try: no kept member can take over: mend one; their state:
          kubectl pgscale status acid-a -n db
    ");
}

pub(super) fn leader_cannot_move() {
    let last = led_by_the_last;
    let mut unconfigured = last(3);
    unconfigured.configuration = Seen::Unreadable("timed out".into());
    let mut asynchronous = last(3).synchronous(&[]);
    asynchronous.sync = Seen::Absent;
    let mut hidden_standbys = last(3).synchronous(&[]);
    hidden_standbys.sync = Seen::Unreadable("timed out".into());
    let mut no_set = last(3);
    no_set.stateful_set = Seen::Absent;
    let silent = (0..5).fold(last(3), Facts::frozen);
    table(
        "leader-cannot-move",
        vec![
            ("the leader is kept", healthy(5, 2).frozen(1), Want::Pass),
            ("-0 can take over", last(3), Want::Pass),
            ("-0 has no pod", last(3).without(0), Want::Deny),
            ("-0 is behind", last(3).stalled([0]), Want::Deny),
            ("-0 does not answer", last(3).frozen(0), Want::Deny),
            ("-0 is tagged", last(3).nofailover(0), Want::Deny),
            ("-0 is being cloned", last(3).cloning(0), Want::Deny),
            ("-0 is Pending", last(3).pending(0), Want::Deny),
            (
                "-0 is on an old timeline",
                last(3).with_answer(0, |a| a.timeline = Some(0)),
                Want::Deny,
            ),
            ("-0 has no timeline", last(3).with_answer(0, |a| a.timeline = None), Want::Unknown),
            (
                "the node of -0 is lost",
                last(3).with_member(0, |member| {
                    member.pod.node_ready = Some(false);
                }),
                Want::Deny,
            ),
            (
                "-0 was not asked",
                last(3).with_member(0, |member| {
                    member.live = Live::NotAsked;
                }),
                Want::Unknown,
            ),
            ("no member answers", silent, Want::Unknown),
            ("-0 is a synchronous standby", last(3).synchronous(&["ACID-A-0"]), Want::Pass),
            ("-0 is none", last(3).synchronous(&["acid-a-1"]), Want::Deny),
            ("there is none", asynchronous, Want::Deny),
            (
                "quorum asks for none",
                last(3).synchronous(&["acid-a-1"]).with_configuration(|c| {
                    c.synchronous = crate::patroni::Synchronous::Quorum;
                }),
                Want::Pass,
            ),
            ("standbys unreadable", hidden_standbys, Want::Unknown),
            ("configuration unreadable", unconfigured, Want::Unknown),
            (
                "the leader is not labelled",
                last(3).with_member(4, |member| {
                    member.pod.role = None;
                }),
                Want::Deny,
            ),
            (
                "the leader is labelled by a name that the operator does not know",
                last(3).with_member(4, |member| member.pod.role = Some("primary".into())),
                Want::Deny,
            ),
            (
                "the leader has no address",
                last(3).with_member(4, |member| {
                    member.pod.ip = None;
                }),
                Want::Deny,
            ),
            ("the leader does not answer", last(3).frozen(4), Want::Deny),
            ("the leader's interface speaks TLS", refusing(4, true), Want::Deny),
            ("the leader's interface may refuse the operator", refusing(4, false), Want::Unknown),
            ("the interface of another member may", refusing(0, false), Want::Pass),
            (
                "the StatefulSet will be replaced",
                last(3).with_annotation("kubectl.kubernetes.io/restartedAt", "kubectl"),
                Want::Deny,
            ),
            ("the StatefulSet is gone", no_set, Want::Deny),
            ("StatefulSet unreadable", last(3).without_sight_of_the_set(), Want::Unknown),
            ("pods unreadable", last(3).without_sight_of_members(), Want::Unknown),
            ("zero has its own rule", last(0).frozen(0), Want::NotApplicable),
            ("growing", healthy(3, 5).frozen(0), Want::NotApplicable),
            ("growing, and the leader is left out", last(0).with_count(2, 3), Want::Pass),
            (
                "growing, the leader is left out, and -0 is behind",
                last(0).with_count(2, 3).stalled([0]),
                Want::Deny,
            ),
            (
                "growing, the leader is left out, and -0 was not asked",
                last(0).with_count(2, 3).with_member(0, |it| it.live = Live::NotAsked),
                Want::Deny,
            ),
            (
                "as many as the operator's limit, and -0 is behind",
                limited(3).stalled([0]),
                Want::Deny,
            ),
            (
                "as many as the operator's limit, which keeps the leader",
                limited(5),
                Want::NotApplicable,
            ),
        ],
    );
    insta::assert_snapshot!(text("leader-cannot-move", &last(3).frozen(0)), @"
    leader-cannot-move: acid-a-4 leads and would be deleted, but the operator hands over to acid-a-0 only, and that would fail
      configmap/acid-a-leader: leader: acid-a-4
      http://10.244.0.10:8008/patroni: acid-a-0: does not answer: no answer in 1s
      Try: this moves the leader to acid-a-1 first:
          kubectl pgscale down acid-a --to 3 -n db
    ");
    insta::assert_snapshot!(text("leader-cannot-move", &last(2).stalled([0, 1])), @"
    leader-cannot-move: acid-a-4 leads and would be deleted, but the operator hands over to acid-a-0 only, and that would fail
      configmap/acid-a-leader: leader: acid-a-4
      http://10.244.0.10:8008/patroni: acid-a-0: WAL not received after 1s: 600 bytes
      Try: not 2, but 4; this moves the leader to acid-a-2 first:
          kubectl pgscale down acid-a --to 4 -n db
    ");
    insta::assert_snapshot!(text("leader-cannot-move", &last(2).stalled([0, 1, 2, 3])), @"
    leader-cannot-move: acid-a-4 leads and would be deleted, but the operator hands over to acid-a-0 only, and that would fail
      configmap/acid-a-leader: leader: acid-a-4
      http://10.244.0.10:8008/patroni: acid-a-0: WAL not received after 1s: 600 bytes
      Try: no kept member can take over: mend one; their state:
          kubectl pgscale status acid-a -n db
    ");
    insta::assert_snapshot!(text("leader-cannot-move", &last(3).synchronous(&["acid-a-1"])), @"
    leader-cannot-move: acid-a-4 leads and would be deleted, but the operator hands over to acid-a-0 only, and that would fail
      configmap/acid-a-leader: leader: acid-a-4
      configmap/acid-a-config: synchronous_mode: true
      configmap/acid-a-sync: sync_standby: acid-a-1
      Try: this moves the leader to acid-a-1 first:
          kubectl pgscale down acid-a --to 3 -n db
    ");
    insta::assert_snapshot!(text("leader-cannot-move", &last(3).synchronous(&[]).with_member(4, |member| {
        member.pod.role = None;
    })), @"
    leader-cannot-move: acid-a-4 leads and would be deleted, but the operator hands over to acid-a-0 only, and that would fail
      configmap/acid-a-leader: leader: acid-a-4
      pod/acid-a-4: role label: none
      configmap/acid-a-config: synchronous_mode: true
      configmap/acid-a-sync: sync_standby: none
      Try: no kept member can take over: mend one; their state:
          kubectl pgscale status acid-a -n db
    ");
}

/// One cause has one finding and one remedy.
#[test]
fn dangers_to_a_removed_leader_are_evidence_of_one_denial() {
    let facts =
        led_by_the_last(2).frozen(0).pause().with_annotation("a/b", "kubectl").in_parallel();
    let verdict = crate::evaluate(&facts, &Policies::default());
    let denials: Vec<_> = verdict.denials().map(|it| it.rule).collect();
    assert_eq!(denials, ["leader-condemned", "too-few-healthy-survivors"]);
    let folded: Vec<_> = verdict.folded.iter().map(|it| it.rule).collect();
    assert_eq!(folded, ["leader-cannot-move", "paused", "replace-pending", "parallel-shrink"]);
    insta::assert_snapshot!(verdict.finding("leader-condemned").unwrap(), @"
    leader-condemned: acid-a-4 is the leader, and its pod would be deleted: acid-a-0 to acid-a-1 are kept
      configmap/acid-a-leader: leader: acid-a-4
      http://10.244.0.10:8008/patroni: acid-a-0: does not answer: no answer in 1s (leader-cannot-move)
      statefulset/acid-a: annotation a/b: written by kubectl (leader-cannot-move)
      configmap/acid-a-config: pause: true (paused)
      statefulset/acid-a: spec.podManagementPolicy: Parallel; spec.replicas: 5 (parallel-shrink)
      Try: not 2, but 3; this moves the leader to acid-a-1 first:
          kubectl pgscale down acid-a --to 3 -n db
    ");
    // An override lifts the rules that it names, and hides nothing else.
    let lifted = crate::evaluate(&facts, &crate::rules::testing::lowered());
    let denials: Vec<_> = lifted.denials().map(|it| it.rule).collect();
    assert_eq!(denials.len(), 5, "{denials:?}");
}

#[test]
fn operator_switchover_is_judged_where_the_leader_is_removed() {
    let found = |facts: &Facts| {
        ["leader-condemned", "leader-cannot-move"].map(|id| {
            matches!(
                crate::rules::rule(id).unwrap().judge(&facts.assess(), &Policies::default()),
                Outcome::Found(_)
            )
        })
    };
    for to in 1..5 {
        assert_eq!(found(&led_by_the_last(to)), [true, false], "{to}");
        assert_eq!(found(&led_by_the_last(to).stalled([0])), [true, true], "{to}");
        assert_eq!(found(&healthy(5, to)), [false, false], "{to}");
    }
}
