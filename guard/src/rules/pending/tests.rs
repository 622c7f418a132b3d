//! Work in progress is seen, and a state that only resembles it is not mistaken for it.

use super::*;
use crate::facts::Facts;
use crate::rules::testing::{Want, healthy, table, text};

pub(super) fn switchover_pending() {
    let pending = |to, candidate: Option<&str>, scheduled: Option<&str>| {
        let mut facts = healthy(5, to);
        facts.failover = Seen::Known(PendingFailover {
            leader: Some("acid-a-0".into()),
            candidate: candidate.map(str::to_owned),
            scheduled: scheduled.map(str::to_owned),
        });
        facts
    };
    let time = Some("2026-11-25T03:00:00+00:00");
    let mut hidden = healthy(5, 3);
    hidden.failover = Seen::Unreadable("timed out".into());
    let mut growing = pending(3, Some("acid-a-1"), None);
    growing = growing.with_count(5, 6);
    table(
        "switchover-pending",
        vec![
            ("none", healthy(5, 3), Want::Pass),
            ("now", pending(3, Some("acid-a-1"), None), Want::Deny),
            ("now, to anyone", pending(3, None, None), Want::Deny),
            ("later, to one that stays", pending(3, Some("acid-a-2"), time), Want::Warn),
            ("later, to a removed one", pending(3, Some("acid-a-3"), time), Want::Deny),
            ("later, to anyone", pending(3, None, time), Want::Deny),
            ("later, to a stranger", pending(3, Some("acid-a-1-0"), time), Want::Deny),
            ("hidden", hidden, Want::Unknown),
            ("zero has its own rule", pending(0, None, None), Want::NotApplicable),
            ("growing", growing, Want::NotApplicable),
        ],
    );
    let id = "switchover-pending";
    insta::assert_snapshot!(text(id, &pending(3, Some("acid-a-1"), None)), @"
    switchover-pending: a switchover of db/acid-a is pending, and it is to happen now
      configmap/acid-a-failover: leader: acid-a-0; member: acid-a-1
      Try: run it again in some seconds: the leader does this switchover or drops it within a loop
        if it stays, no leader is there to act on it:
          kubectl pgscale status acid-a -n db
        then remove it:
          kubectl annotate configmap/acid-a-failover leader- member- -n db
        last resort: rows that the chosen member has not received are lost:
          kubectl exec -it acid-a-0 -n db -c postgres -- patronictl failover acid-a
    ");
    insta::assert_snapshot!(text(id, &pending(3, Some("acid-a-4"), time)), @"
    switchover-pending: a switchover of db/acid-a is pending, and its candidate would be deleted
      configmap/acid-a-failover: leader: acid-a-0; member: acid-a-4
      configmap/acid-a-failover: scheduled_at: 2026-11-25T03:00:00+00:00
      Try: wait until it is done, or withdraw it:
          kubectl exec acid-a-0 -n db -c postgres -- patronictl flush acid-a switchover --force
    ");
}

pub(super) fn restart_pending() {
    let waiting = |from, to| {
        healthy(from, to)
            .with_answer(0, |answer| answer.pending_restart = true)
            .with_answer(1, |answer| answer.pending_restart = true)
    };
    let reported = healthy(3, 5).with_member(2, |member| {
        member.live = Live::NotAsked;
        if let Seen::Known(report) = &mut member.report {
            report.pending_restart = true;
        }
    });
    let unreadable = |facts: Facts| {
        facts.with_member(1, |member| {
            member.live = Live::Silent("no answer in 1s".into());
            member.report = Seen::Unreadable("not JSON".into());
        })
    };
    let printed = text("restart-pending", &reported);
    assert!(
        printed.contains("\n  pod/acid-a-2: annotation status.pending_restart: true\n"),
        "{printed}"
    );
    table(
        "restart-pending",
        vec![
            ("nobody waits", healthy(5, 3), Want::Pass),
            ("nobody waits, growing", healthy(3, 5), Want::Pass),
            ("two wait", waiting(5, 3), Want::Warn),
            ("two wait, growing", waiting(3, 5), Want::Warn),
            ("one reported so, and was not asked", reported, Want::Warn),
            ("one has not reported yet", healthy(5, 3).pending(2), Want::Pass),
            ("one cannot be heard", unreadable(healthy(5, 3)), Want::Unknown),
            ("two wait and one cannot be heard", unreadable(waiting(5, 3)), Want::Warn),
            ("pods unreadable", healthy(5, 3).without_sight_of_members(), Want::Unknown),
            ("zero has its own rule", waiting(5, 0), Want::NotApplicable),
            ("the count stays", waiting(3, 3), Want::NotApplicable),
        ],
    );
    insta::assert_snapshot!(text("restart-pending", &waiting(3, 5)), @"
    restart-pending: 2 of the members of db/acid-a wait for a restart of PostgreSQL, which the operator does with any change
      http://10.244.0.10:8008/patroni: acid-a-0: pending_restart: true
      http://10.244.0.11:8008/patroni: acid-a-1: pending_restart: true
      Try: at a time when connections may be cut (the leader restarts too):
          kubectl exec -it acid-a-0 -n db -c postgres -- patronictl restart acid-a --pending
    ");
}

#[test]
fn first_phase_of_a_major_upgrade_is_recognised() {
    let marked = |from: i64, to, version: &str| {
        let mut facts = healthy(from, to);
        if let Some(old) = &mut facts.change.old {
            old.spec["postgresql"]["version"] = serde_json::json!(version);
        }
        (0..from).fold(facts, |facts, ordinal| {
            facts.with_member(ordinal, |member| member.pod.critical_operation = true)
        })
    };
    let mut lockless = marked(5, 3, "16");
    lockless.leader = Seen::Absent;
    let answering =
        |change: fn(&mut crate::patroni::Answer)| marked(5, 3, "16").with_answer(0, change);
    table(
        "major-upgrade",
        vec![
            ("all are marked, an older version runs", marked(5, 3, "16"), Want::Deny),
            ("the same, growing", marked(3, 5, "16"), Want::Deny),
            ("the same, to zero", marked(3, 0, "16"), Want::Deny),
            ("a person marked them", marked(5, 3, "15"), Want::Pass),
            ("no number is declared", marked(5, 3, "next"), Want::Pass),
            ("one member", marked(1, 3, "16"), Want::Pass),
            (
                "one is not marked",
                marked(5, 3, "16").with_member(1, |it| it.pod.critical_operation = false),
                Want::Pass,
            ),
            ("nobody leads yet", lockless, Want::Pass),
            (
                "the first leader is made",
                answering(|answer| answer.state = State::Bootstrapping),
                Want::Pass,
            ),
            (
                "the version is not told",
                answering(|answer| answer.server_version = None),
                Want::Unknown,
            ),
            ("the leader is silent", marked(5, 3, "16").frozen(0), Want::Unknown),
            ("who leads is hidden", marked(5, 3, "16").without_sight_of_the_lock(), Want::Unknown),
        ],
    );
    insta::assert_snapshot!(text("major-upgrade", &marked(3, 2, "16")), @"
    major-upgrade: db/acid-a is about to be upgraded to another major version, which counts its members
      pod/acid-a-0, pod/acid-a-1, pod/acid-a-2: label critical-operation: true
      postgresql/acid-a: spec.postgresql.version: 16
      http://10.244.0.10:8008/patroni: acid-a-0: server_version: 150004
      Try: wait until no pod is marked:
          kubectl get pods -l application=spilo,cluster-name=acid-a -L critical-operation -w -n db
        if they stay, and the operator's log shows no upgrade that runs, they are left over: remove them:
          kubectl label pods -l application=spilo,cluster-name=acid-a critical-operation- -n db
    ");
}

pub(super) fn major_upgrade() {
    let marked = |from: i64, to| {
        (0..from).fold(healthy(from, to), |facts, ordinal| {
            facts.with_member(ordinal, |member| member.pod.critical_operation = true)
        })
    };
    let failed = |mut facts: Facts| {
        facts.change.new.annotations.insert(UPGRADE_FAILED.into(), "2026-11-20".into());
        facts
    };
    let unconfigured = |mut facts: Facts, configuration| {
        facts.configuration = configuration;
        facts
    };
    let hidden = || Seen::Unreadable("timed out".into());
    table(
        "major-upgrade",
        vec![
            ("none", healthy(5, 3), Want::Pass),
            ("it runs", marked(5, 3).pause(), Want::Deny),
            ("it runs, growing", marked(3, 5).pause(), Want::Deny),
            ("it runs, to zero", marked(3, 0).pause(), Want::Deny),
            ("paused by a person", healthy(5, 3).pause(), Want::Pass),
            ("all are marked, not paused, the version declared runs", marked(5, 3), Want::Pass),
            (
                "paused, one is cloned",
                healthy(5, 3).pause().with_member(2, |it| it.pod.critical_operation = true),
                Want::Pass,
            ),
            ("the last one failed", failed(healthy(5, 3)), Want::Warn),
            ("the last one failed, growing", failed(healthy(3, 5)), Want::Warn),
            ("the last one failed, another runs", failed(marked(5, 3).pause()), Want::Deny),
            ("configuration unreadable", unconfigured(healthy(5, 3), hidden()), Want::Pass),
            (
                "all are marked, configuration unreadable",
                unconfigured(marked(5, 3), hidden()),
                Want::Unknown,
            ),
            (
                "all are marked, configuration gone",
                unconfigured(marked(5, 3), Seen::Absent),
                Want::Unknown,
            ),
            ("pods unreadable", healthy(5, 3).without_sight_of_members(), Want::Unknown),
            ("the count stays", marked(3, 3).pause(), Want::NotApplicable),
        ],
    );
    insta::assert_snapshot!(text("major-upgrade", &marked(3, 5).pause()), @"
    major-upgrade: db/acid-a is being upgraded to another major version, which counts its members
      pod/acid-a-0, pod/acid-a-1, pod/acid-a-2: label critical-operation: true
      configmap/acid-a-config: pause: true
      Try: wait until no pod is marked:
          kubectl get pods -l application=spilo,cluster-name=acid-a -L critical-operation -w -n db
        if they stay, and the operator's log shows no upgrade that runs, they are left over: remove them:
          kubectl label pods -l application=spilo,cluster-name=acid-a critical-operation- -n db
    ");
    insta::assert_snapshot!(text("major-upgrade", &failed(healthy(5, 3))), @"
    major-upgrade: the last major upgrade of db/acid-a failed: members may be on two versions
      postgresql/acid-a: annotation last-major-upgrade-failure: 2026-11-20
      Try: find the cause in the operator's log and mend it. Only then remove the mark, after which the operator may try the upgrade again:
          kubectl annotate postgresql acid-a last-major-upgrade-failure- -n db
    ");
}

/// Marks that a stopped operator left, while the manifest is ahead, had no way out.
#[test]
fn marks_that_are_left_over_have_a_way_out() {
    let marked = (0..3).fold(healthy(3, 2), |facts, ordinal| {
        facts.with_member(ordinal, |member| member.pod.critical_operation = true)
    });
    let mut ahead = marked.clone();
    for cluster in ahead.change.old.iter_mut().chain([&mut ahead.change.new]) {
        cluster.spec["postgresql"]["version"] = serde_json::json!("17");
    }
    let way_out =
        "  kubectl label pods -l application=spilo,cluster-name=acid-a critical-operation- -n db";
    for (rule, facts) in [
        ("major-upgrade", &ahead),
        ("major-upgrade", &marked.clone().pause()),
        ("paused", &marked.pause()),
    ] {
        let found = text(rule, facts);
        assert!(found.lines().any(|line| line.ends_with(way_out)), "{rule}: {found}");
    }
}
