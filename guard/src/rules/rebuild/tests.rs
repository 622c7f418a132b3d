//! The table of the rule and its texts.

use k8s_openapi::jiff::SignedDuration;

use super::*;
use crate::facts::{Claim, Facts};
use crate::rules::testing::{Want, healthy, now, table, text};

/// Lets a member start since its container did, these hours ago.
fn aged(facts: Facts, ordinal: i64, hours: i64) -> Facts {
    facts
        .with_answer(ordinal, |it| it.state = State::Starting)
        .with_member(ordinal, |it| it.pod.started = Some(now() - SignedDuration::from_hours(hours)))
}

/// Leaves the last member's pod Pending for these hours.
fn waiting(facts: Facts, hours: i64) -> Facts {
    let created = Some(now() - SignedDuration::from_hours(hours));
    facts.pending(2).with_member(2, |it| it.pod.created = created)
}

/// Growth, while -2 starts on a claim that is older than the cluster, with this system identifier.
fn foreign(identifier: Option<&str>) -> Facts {
    let mut facts = aged(healthy(3, 4), 2, 0);
    for cluster in facts.change.old.iter_mut().chain([&mut facts.change.new]) {
        cluster.created = Some(now() - SignedDuration::from_hours(48));
    }
    let claim = |ordinal, hours| Claim {
        ordinal,
        created: Some(now() - SignedDuration::from_hours(hours)),
        ..Claim::default()
    };
    facts.claims = Seen::Known(vec![claim(0, 47), claim(1, 47), claim(2, 700)]);
    facts.with_answer(2, |it| it.system_identifier = identifier.and_then(|it| it.parse().ok()))
}

/// Three members without a leader, of which -1 starts. Its volume and -0's are from before the
/// cluster.
fn led_last(ordinal: Option<i64>) -> Facts {
    let mut facts = healthy(3, 4).with_answer(1, |it| it.state = State::Starting);
    facts.leader = Seen::Absent;
    facts.last_leader = ordinal.map_or(Seen::Absent, |it| Seen::Known(format!("acid-a-{it}")));
    let ago = |days: i64| Some(now() - SignedDuration::from_hours(24 * days));
    for cluster in facts.change.old.iter_mut().chain([&mut facts.change.new]) {
        cluster.created = ago(10);
    }
    let claim = |ordinal: i64| Claim {
        name: format!("pgdata-acid-a-{ordinal}"),
        ordinal,
        created: ago(if ordinal < 2 { 90 } else { 9 }),
        capacity: Some(1 << 30),
        ..Claim::default()
    };
    facts.claims = Seen::Known((0..3).map(claim).collect());
    facts
}

pub(super) fn rebuild_in_progress() {
    let unread = |facts: Facts, ordinal| {
        facts
            .frozen(ordinal)
            .with_member(ordinal, |it| it.report = Seen::Unreadable("not JSON".into()))
    };
    let mute = |facts: Facts, ordinal| {
        facts.frozen(ordinal).with_member(ordinal, |it| {
            if let Seen::Known(report) = &mut it.report {
                report.replication_state = None;
            }
        })
    };
    let stopped = |facts: Facts, ordinal| {
        mute(facts, ordinal).with_member(ordinal, |it| {
            it.pod.ready = false;
            it.pod.containers_running = false;
            it.pod.waiting = Some("container postgres: Completed, exit code 0".into());
        })
    };
    let unreported = |facts: Facts, ordinal| {
        facts.frozen(ordinal).with_member(ordinal, |it| it.report = Seen::Absent)
    };
    table(
        "rebuild-in-progress",
        vec![
            ("nothing is built, shrinking", healthy(5, 3), Want::Pass),
            ("nothing is built, growing", healthy(3, 5), Want::Pass),
            ("a survivor is cloned, a healthy one goes", healthy(5, 3).cloning(1), Want::Deny),
            (
                "a survivor is cloned, a silent one goes",
                healthy(3, 2).cloning(1).frozen(2),
                Want::Deny,
            ),
            (
                "a survivor is cloned, and a stalled one, the only other copy, goes",
                healthy(3, 2).cloning(1).stalled([2]),
                Want::Deny,
            ),
            (
                "a survivor is cloned, one whose PostgreSQL is down goes",
                healthy(3, 2).cloning(1).with_answer(2, |it| it.state = State::Failed),
                Want::Warn,
            ),
            ("the removed one is cloned", healthy(4, 3).cloning(3), Want::Warn),
            (
                "the leader of before starts again and is removed",
                healthy(4, 3).with_answer(3, |it| {
                    it.state = State::Starting;
                    it.role = Role::Demoted;
                }),
                Want::Pass,
            ),
            (
                "the leader of before is stopped and is removed",
                healthy(4, 3).with_answer(3, |it| {
                    it.state = State::Stopped;
                    it.role = Role::Demoted;
                }),
                Want::Pass,
            ),
            (
                "a kept member starts again, a healthy one goes",
                healthy(5, 3).with_answer(1, |it| {
                    it.state = State::Starting;
                    it.role = Role::Replica;
                }),
                Want::Deny,
            ),
            ("a healthy one goes with it", healthy(5, 3).cloning(4), Want::Warn),
            ("a survivor has not reported yet", unreported(healthy(5, 3), 1), Want::Deny),
            ("a survivor has no pod yet", healthy(5, 3).without(1), Want::Deny),
            ("a survivor is Pending", healthy(5, 3).pending(1), Want::Deny),
            ("growing while one is cloned", healthy(4, 5).cloning(3), Want::Deny),
            ("growing while one is Pending", healthy(4, 5).pending(3), Want::Deny),
            ("growing while one has no pod", healthy(4, 5).without(3), Want::Deny),
            ("growing while one has not reported", unreported(healthy(4, 5), 3), Want::Deny),
            (
                "growing, labelled as busy",
                healthy(4, 5).frozen(3).with_member(3, |it| {
                    it.pod.critical_operation = true;
                }),
                Want::Deny,
            ),
            ("growing while the only standby is cloned", healthy(2, 3).cloning(1), Want::Warn),
            (
                "growing, the others are no standbys",
                healthy(4, 5).stalled([1, 2]).cloning(3),
                Want::Warn,
            ),
            (
                "growing, the other standbys are not known",
                healthy(4, 5).frozen(1).frozen(2).cloning(3),
                Want::Deny,
            ),
            (
                "growing while one that is cloned ends",
                healthy(4, 5).cloning(3).with_member(3, |it| it.pod.terminating = true),
                Want::Deny,
            ),
            (
                "growing while one ends",
                healthy(4, 5).with_member(3, |it| it.pod.terminating = true),
                Want::Pass,
            ),
            (
                "who answers is believed before an old word",
                healthy(4, 5).cloning(3).with_member(3, |it| {
                    it.live = crate::rules::testing::member(3, false).live;
                }),
                Want::Pass,
            ),
            ("a frozen one said that it runs", healthy(5, 3).frozen(1), Want::Pass),
            (
                "it is silent, and did not say that it streams",
                mute(healthy(5, 3), 1),
                Want::Unknown,
            ),
            ("it is stopped, and did not say so", stopped(healthy(5, 3), 1), Want::Deny),
            (
                "it is stopped, and only one that is down goes",
                stopped(healthy(3, 2), 1).with_answer(2, |it| it.state = State::Failed),
                Want::Warn,
            ),
            (
                "one is stopped, another is not known",
                mute(stopped(healthy(5, 3), 1), 2),
                Want::Unknown,
            ),
            ("a removed one is stopped", stopped(healthy(5, 3), 4), Want::Pass),
            ("growing while one is stopped", stopped(healthy(4, 5), 3), Want::Warn),
            (
                "growing while one is stopped and one is cloned",
                stopped(healthy(4, 5), 3).cloning(2),
                Want::Deny,
            ),
            ("what it said is unreadable", unread(healthy(5, 3), 1), Want::Unknown),
            ("what a removed one said is unreadable", unread(healthy(5, 3), 4), Want::Pass),
            ("StatefulSet unreadable", healthy(5, 3).without_sight_of_the_set(), Want::Unknown),
            ("pods unreadable", healthy(5, 3).without_sight_of_members(), Want::Unknown),
            ("growing while one starts for days", aged(healthy(3, 4), 2, 72), Want::Warn),
            ("growing while one starts for minutes", aged(healthy(3, 4), 2, 0), Want::Deny),
            (
                "growing while one starts for days and another for minutes",
                aged(aged(healthy(4, 5), 2, 72), 3, 0),
                Want::Deny,
            ),
            (
                "growing while one that ran for days starts since minutes",
                aged(healthy(3, 4), 2, 72).with_member(2, |it| it.pod.unready = Some(now())),
                Want::Deny,
            ),
            ("growing while one is Pending for days", waiting(healthy(3, 4), 72), Want::Warn),
            ("growing while one is Pending for minutes", waiting(healthy(3, 4), 0), Want::Deny),
            ("a survivor starts for days", aged(healthy(3, 2), 1, 72), Want::Deny),
            ("growing while the volume of one is of another cluster", foreign(None), Want::Warn),
            (
                "growing while the volume of one is old, and the cluster's",
                foreign(Some("7401122334455667788")),
                Want::Deny,
            ),
            (
                "growing while one has an old volume, and another led last",
                led_last(Some(2)),
                Want::Warn,
            ),
            ("growing while one and the founder have old volumes", led_last(None), Want::Deny),
            ("zero has its own rule", healthy(5, 0).cloning(1), Want::NotApplicable),
            ("the count stays", healthy(5, 5).cloning(1), Want::NotApplicable),
        ],
    );
    let id = "rebuild-in-progress";
    insta::assert_snapshot!(text(id, &healthy(5, 3).cloning(1)), @"
    rebuild-in-progress: still being built: acid-a-1; a healthy member would be removed meanwhile
      http://10.244.0.11:8008/patroni: acid-a-1: state: being rebuilt (creating replica)
      Try:
          kubectl pgscale wait acid-a -n db
    ");
    insta::assert_snapshot!(text(id, &aged(healthy(3, 4), 2, 72)), @"
    rebuild-in-progress: still being built: acid-a-2 (for 3d)
      http://10.244.0.12:8008/patroni: acid-a-2: state: being rebuilt (starting)
      Try: its log says why it does not end:
          kubectl logs acid-a-2 -c postgres --tail=100 -n db
        have it copied again:
          kubectl exec -it acid-a-0 -n db -c postgres -- patronictl reinit acid-a acid-a-2
        or give it up:
          kubectl pgscale set acid-a 2 -n db
    ");
    insta::assert_snapshot!(text(id, &foreign(None)), @"
    rebuild-in-progress: still being built: acid-a-2 (its volume is of another cluster)
      http://10.244.0.12:8008/patroni: acid-a-2: state: being rebuilt (starting)
      Try: its log says why it does not end:
          kubectl logs acid-a-2 -c postgres --tail=100 -n db
        or give it up:
          kubectl pgscale set acid-a 2 -n db
    ");
    insta::assert_snapshot!(text(id, &healthy(4, 3).cloning(3)), @"
    rebuild-in-progress: still being built: acid-a-3; to remove it ends that
      http://10.244.0.13:8008/patroni: acid-a-3: state: being rebuilt (creating replica)
      Try:
          kubectl pgscale wait acid-a -n db
    ");
    insta::assert_snapshot!(text(id, &healthy(5, 6).pending(3).without(4)), @"
    rebuild-in-progress: still being built: acid-a-3, acid-a-4
      pod/acid-a-3: status: Pending (0/3 nodes are available)
      statefulset/acid-a: spec.replicas: 5, and acid-a-4 has no pod yet
      Try: acid-a-3 does not start (0/3 nodes are available); see why:
          kubectl describe pod acid-a-3 -n db
        then:
          kubectl pgscale wait acid-a -n db
        or give it up:
          kubectl pgscale set acid-a 3 -n db
    ");
    insta::assert_snapshot!(text(id, &stopped(healthy(5, 2).with_leader(4), 0).cloning(1)), @"
    rebuild-in-progress: still being built: acid-a-1; stopped, and perhaps no copy yet: acid-a-0; a healthy member would be removed meanwhile
      pod/acid-a-0: status: not running (container postgres: Completed, exit code 0)
      http://10.244.0.11:8008/patroni: acid-a-1: state: being rebuilt (creating replica)
      Try: start acid-a-0, or have it made again:
          kubectl delete pod acid-a-0 -n db
          kubectl pgscale wait acid-a -n db
    ");
    insta::assert_snapshot!(text(id, &stopped(healthy(5, 2).with_leader(4), 0)), @"
    rebuild-in-progress: stopped, and perhaps no copy yet: acid-a-0; a healthy member would be removed meanwhile
      pod/acid-a-0: status: not running (container postgres: Completed, exit code 0)
      Try: start acid-a-0, or have it made again:
          kubectl delete pod acid-a-0 -n db
          kubectl pgscale wait acid-a -n db
    ");
    insta::assert_snapshot!(text(id, &healthy(2, 3).cloning(1)), @"
    rebuild-in-progress: still being built: acid-a-1; no healthy standby exists yet
      http://10.244.0.11:8008/patroni: acid-a-1: state: being rebuilt (creating replica)
      Try:
          kubectl pgscale wait acid-a -n db
        or give it up:
          kubectl pgscale set acid-a 1 -n db
    ");
}

/// A member that has been "starting" for days blocked growth for ever.
#[test]
fn member_that_starts_for_days_blocks_no_growth() {
    let facts = aged(healthy(3, 4), 2, 24 * 300);
    let verdict = crate::evaluate(&facts, &Policies::default());
    assert!(verdict.allows(), "{verdict:?}");
    for finding in verdict.warnings() {
        assert!(!finding.to_string().contains("pgscale wait"), "{finding}");
    }
    // A leader that is about to be deleted comes first.
    let doomed = aged(healthy(5, 5).with_leader(4), 0, 72).with_count(2, 3);
    let doomed = text("rebuild-in-progress", &doomed.with_stateful_set(|set| set.replicas = 2));
    assert!(doomed.contains("do not wait, the leader acid-a-4 is about to be deleted"), "{doomed}");
}

/// A pod that Kubernetes refuses to make is named, and one that has waited for an hour warns.
#[test]
fn pod_that_cannot_be_made_has_another_way_out_than_to_wait() {
    let missing = healthy(3, 4).without(1).in_parallel();
    let first = |facts: &Facts| {
        let verdict = crate::evaluate(facts, &Policies::default());
        let finding = verdict.finding("rebuild-in-progress").unwrap();
        (verdict.allows(), finding.remedy.as_ref().unwrap().commands[0].command.to_string())
    };
    let describe = "kubectl describe statefulset/acid-a -n db".to_owned();
    assert_eq!(first(&missing), (false, describe.clone()));
    let mut old = missing.clone();
    let claim = |capacity| Claim {
        name: "pgdata-acid-a-1".into(),
        ordinal: 1,
        created: Some(now() - SignedDuration::from_hours(3)),
        capacity,
        ..Claim::default()
    };
    old.claims = Seen::Known(vec![claim(None)]);
    assert_eq!(first(&old), (true, describe.clone()));
    // Its pod may only be recreated.
    old.claims = Seen::Known(vec![claim(Some(1 << 30))]);
    assert_eq!(first(&old), (false, describe));
}
