//! The present leader, the possible leaders, and the effect of a pause on them.

use k8s_openapi::jiff::SignedDuration;

use super::*;
use crate::facts::Claim;
use crate::facts::Facts;
use crate::rules::testing::{Want, healthy, led_by_the_last, lock, now, table, text};

fn locked(from: i64, to: i64, change: impl FnOnce(&mut crate::patroni::LeaderLock)) -> Facts {
    let mut facts = healthy(from, to);
    let mut lock = lock("acid-a-0");
    change(&mut lock);
    facts.leader = Seen::Known(lock);
    facts
}

fn expired(from: i64, to: i64) -> Facts {
    locked(from, to, |lock| lock.renewed = Some(now() - SignedDuration::from_secs(36)))
}

fn silence() -> Live {
    Live::Silent("no answer in 1s".into())
}

fn replica_report() -> Seen<crate::patroni::Report> {
    healthy(2, 2).member("acid-a-1").unwrap().report.clone()
}

fn two_masters() -> Facts {
    healthy(5, 3).with_member(4, |member| member.pod.role = Some("master".into()))
}

pub(super) fn no_leader() {
    let mut lockless = healthy(5, 3);
    lockless.leader = Seen::Absent;
    let mut empty = healthy(0, 3);
    empty.leader = Seen::Absent;
    table(
        "no-leader",
        vec![
            ("one leads", healthy(5, 3), Want::Pass),
            (
                "renewed 34 s ago, by a clock that may differ",
                locked(5, 3, |lock| {
                    lock.renewed = Some(now() - SignedDuration::from_secs(34));
                }),
                Want::Pass,
            ),
            (
                "renewed in our future",
                locked(5, 3, |lock| {
                    lock.renewed = Some(now() + SignedDuration::from_secs(60));
                }),
                Want::Pass,
            ),
            ("no lock", lockless, Want::Deny),
            ("released", locked(5, 3, |lock| lock.holder = None), Want::Deny),
            ("never renewed", locked(5, 3, |lock| lock.renewed = None), Want::Deny),
            ("expired", expired(5, 3), Want::Deny),
            ("expired, growing", expired(3, 5), Want::Warn),
            (
                "held by a stranger",
                locked(5, 3, |lock| {
                    lock.holder = Some("acid-b-0".into());
                }),
                Want::Deny,
            ),
            ("held by a pod that is gone", healthy(5, 3).without(0), Want::Deny),
            ("two masters", two_masters(), Want::Deny),
            (
                "two leaders under another name",
                two_masters().with_member(0, |it| it.pod.role = Some("primary".into())),
                Want::Deny,
            ),
            (
                "a removed one was promoted by hand",
                healthy(5, 3).with_answer(4, |it| it.role = crate::patroni::Role::Primary),
                Want::Deny,
            ),
            (
                "the holder of the lock does not lead",
                healthy(5, 3).with_answer(0, |it| it.role = crate::patroni::Role::Replica),
                Want::Deny,
            ),
            (
                "the holder of the lock does not lead, growing",
                healthy(3, 5).with_answer(0, |it| it.role = crate::patroni::Role::Replica),
                Want::Warn,
            ),
            (
                "the holder is silent and last reported that it leads",
                healthy(5, 3).with_member(0, |it| it.live = silence()),
                Want::Pass,
            ),
            (
                "the holder is silent and last reported a replica",
                healthy(5, 3).with_member(0, |it| {
                    it.live = silence();
                    it.report = replica_report();
                }),
                Want::Deny,
            ),
            (
                "a removed one is silent and last reported that it leads",
                healthy(5, 3).with_member(4, |it| {
                    it.live = silence();
                    it.report = healthy(1, 1).member("acid-a-0").unwrap().report.clone();
                }),
                Want::Deny,
            ),
            (
                "the holder is silent and never reported",
                healthy(5, 3).with_member(0, |it| {
                    it.live = silence();
                    it.report = Seen::Absent;
                }),
                Want::Unknown,
            ),
            (
                "a silent member's report cannot be read",
                healthy(5, 3).with_member(4, |it| {
                    it.live = silence();
                    it.report = Seen::Unreadable("not JSON".into());
                }),
                Want::Unknown,
            ),
            ("lock unreadable", healthy(5, 3).without_sight_of_the_lock(), Want::Unknown),
            ("pods unreadable", healthy(5, 3).without_sight_of_members(), Want::Unknown),
            ("from zero nobody can lead", empty, Want::NotApplicable),
            ("zero has its own rule", expired(3, 0), Want::NotApplicable),
            ("the count stays", expired(3, 3), Want::NotApplicable),
        ],
    );
    insta::assert_snapshot!(text("no-leader", &expired(5, 3)), @"
    no-leader: no member leads db/acid-a: the leader lock has expired
      configmap/acid-a-leader: leader: acid-a-0; renewTime: 2026-11-24T09:59:24Z; ttl: 30
      Try: ask again when one member leads; their state:
          kubectl pgscale status acid-a -n db
    ");
    insta::assert_snapshot!(text("no-leader", &two_masters()), @"
    no-leader: 2 pods of db/acid-a are labelled as leaders, acid-a-0 holds the lock
      pod/acid-a-0, pod/acid-a-4: role label: master
      Try: ask again when one member leads; their state:
          kubectl pgscale status acid-a -n db
    ");
    insta::assert_snapshot!(
        text("no-leader", &locked(3, 5, |lock| lock.holder = Some("acid-b-0".into()))), @"
    no-leader: the leader lock is held by acid-b-0, which is not a pod of db/acid-a
      configmap/acid-a-leader: leader: acid-b-0
      Try: ask again when one member leads; their state:
          kubectl pgscale status acid-a -n db
    ");
}

/// Returns a cluster of five whose last member led, died, and left its label and its report behind.
/// Now -0 leads.
fn dead_leader(change: impl FnOnce(&mut Member)) -> Facts {
    two_masters().with_member(4, |it| {
        it.live = silence();
        it.report = healthy(1, 1).member("acid-a-0").unwrap().report.clone();
        change(it);
    })
}

#[test]
fn dead_leader_never_blocks_changes_for_ever() {
    let lost = dead_leader(|it| it.pod.node_ready = Some(false));
    insta::assert_snapshot!(text("no-leader", &lost), @"
    no-leader: 2 pods of db/acid-a are labelled as leaders, acid-a-0 holds the lock
      pod/acid-a-0, pod/acid-a-4: role label: master
      Try: only once node-4 is sure to be powered off:
          kubectl delete pod acid-a-4 --force --grace-period=0 -n db
    ");
    let mut stopped = dead_leader(|it| it.pod.containers_running = false);
    insta::assert_snapshot!(text("no-leader", &stopped), @"
    no-leader: 2 pods of db/acid-a are labelled as leaders, acid-a-0 holds the lock
      pod/acid-a-0, pod/acid-a-4: role label: master
      Try: acid-a-4 runs no PostgreSQL, and another member leads: remove its old pod:
          kubectl delete pod acid-a-4 -n db
    ");
    stopped = stopped.with_member(4, |it| it.pod.role = None);
    insta::assert_snapshot!(text("no-leader", &stopped), @"
    no-leader: acid-a-0 holds the leader lock, but not every member agrees
      configmap/acid-a-leader: leader: acid-a-0
      pod/acid-a-4: annotation status.role (last report, no answer now): leader, without the lock
      Try: acid-a-4 runs no PostgreSQL, and another member leads: remove its old pod:
          kubectl delete pod acid-a-4 -n db
    ");
    // A member that may be alive is left alone, and so is every member while no other one is known
    // to lead.
    let status = "      kubectl pgscale status acid-a -n db";
    let frozen = dead_leader(|_| {});
    let headless =
        dead_leader(|it| it.pod.node_ready = Some(false)).with_member(0, |it| it.live = silence());
    for facts in [frozen, headless] {
        let text = text("no-leader", &facts);
        assert!(text.contains(status), "{text}");
    }
}

#[test]
fn patroni_is_resumed_where_it_runs() {
    let gone = expired(5, 3).pause().with_member(0, |it| {
        it.live = silence();
        it.pod.containers_running = false;
    });
    insta::assert_snapshot!(text("paused", &gone), @"
    paused: no member leads, and Patroni is paused: none takes over
      configmap/acid-a-config: pause: true
      Try: be sure that no major upgrade runs, then resume it:
          kubectl exec acid-a-1 -n db -c postgres -- patronictl resume
    ");
}

#[test]
fn resume_is_never_suggested_during_a_major_upgrade() {
    // The script has paused Patroni and stopped the primary.
    let upgrade = (0..3).fold(expired(3, 2).pause(), |facts, ordinal| {
        facts.with_member(ordinal, |it| it.pod.critical_operation = true)
    });
    insta::assert_snapshot!(text("paused", &upgrade), @"
    paused: no member leads, and Patroni is paused: none takes over
      configmap/acid-a-config: pause: true
      pod/acid-a-0, pod/acid-a-1, pod/acid-a-2: label critical-operation: true
      Try: wait until no pod is marked:
          kubectl get pods -l application=spilo,cluster-name=acid-a -L critical-operation -w -n db
        if they stay, and the operator's log shows no upgrade that runs, they are left over: remove them:
          kubectl label pods -l application=spilo,cluster-name=acid-a critical-operation- -n db
    ");
    // One mark is enough to be unsure.
    let one = healthy(5, 3).pause().with_member(2, |it| it.pod.critical_operation = true);
    let printed = text("paused", &one);
    assert!(
        printed.contains("Try: wait until no pod is marked:\n      kubectl get pods -l ")
            && !printed.contains("resume"),
        "{printed}"
    );
}

/// Returns a cluster at zero, paused, with the volumes of three members kept.
fn asleep(to: i64) -> Facts {
    let mut facts = healthy(0, to).pause();
    facts.leader = Seen::Absent;
    let claim =
        |ordinal| Claim { name: format!("pgdata-acid-a-{ordinal}"), ordinal, ..Claim::default() };
    facts.claims = Seen::Known((0..3).map(claim).collect());
    facts
}

fn created(mut facts: Facts) -> Facts {
    facts.change.old = None;
    facts
}

fn no_configuration(mut facts: Facts) -> Facts {
    facts.configuration = Seen::Absent;
    facts
}

pub(super) fn paused() {
    let mut unreadable = healthy(5, 3);
    unreadable.configuration = Seen::Unreadable("configmaps is forbidden".into());
    let mut absent = healthy(5, 3);
    absent.configuration = Seen::Absent;
    table(
        "paused",
        vec![
            ("not paused", led_by_the_last(3), Want::Pass),
            ("paused, the leader is kept", healthy(5, 3).pause(), Want::Warn),
            ("paused, the leader is removed", led_by_the_last(3).pause(), Want::Deny),
            ("paused, nobody leads", expired(5, 3).pause(), Want::Deny),
            (
                "paused, who leads is hidden",
                healthy(5, 3).pause().without_sight_of_the_lock(),
                Want::Deny,
            ),
            ("configuration unreadable", unreadable, Want::Unknown),
            ("no configuration", absent, Want::Unknown),
            ("growing", healthy(3, 5).pause(), Want::Warn),
            ("from zero", asleep(3), Want::Deny),
            ("created over what is left", created(asleep(3)), Want::Deny),
            ("created, and never ran", created(no_configuration(asleep(3))), Want::Pass),
            ("from zero, and pods are left", healthy(3, 3).pause().with_count(0, 3), Want::Warn),
            ("from zero, pods unreadable", asleep(3).without_sight_of_members(), Want::Unknown),
            ("the count stays", healthy(3, 3).pause(), Want::NotApplicable),
            ("zero has its own rule", led_by_the_last(0).pause(), Want::NotApplicable),
        ],
    );
    insta::assert_snapshot!(text("paused", &asleep(3)), @r#"
    paused: Patroni is paused and no member runs: none of the new ones would ever take the lead
      endpoints/acid-a-config: pause: true
      Try: resume it first:
          kubectl get endpoints/acid-a-config -o json -n db | sed 's/\\"pause\\": *true/\\"pause\\":false/' | kubectl replace -f -
    "#);
    insta::assert_snapshot!(text("paused", &healthy(3, 5).pause()), @"
    paused: Patroni is paused: a new member does not start before it is resumed
      configmap/acid-a-config: pause: true
      Try:
          kubectl exec acid-a-0 -n db -c postgres -- patronictl resume
    ");
    // There is no member to judge, and yet no repair excuses it.
    let mut mounted = asleep(3);
    mounted.last_leader = Seen::Known("acid-a-0".into());
    assert!(mounted.assess().repair().is_some());
    assert!(!crate::evaluate(&mounted, &Policies::default()).allows());
    insta::assert_snapshot!(text("paused", &healthy(5, 3).pause()), @"
    paused: Patroni is paused: should acid-a-0 fail, no member takes over
      configmap/acid-a-config: pause: true
      Try:
          kubectl exec acid-a-0 -n db -c postgres -- patronictl resume
    ");
    insta::assert_snapshot!(text("paused", &led_by_the_last(3).pause()), @"
    paused: acid-a-4 leads and would be deleted while Patroni is paused: no member takes over
      configmap/acid-a-config: pause: true
      Try: this moves the leader to acid-a-0 first:
          kubectl pgscale down acid-a --to 3 -n db
    ");
    insta::assert_snapshot!(text("paused", &led_by_the_last(2).pause().nofailover(0).nofailover(1)), @"
    paused: acid-a-4 leads and would be deleted while Patroni is paused: no member takes over
      configmap/acid-a-config: pause: true
      Try: not 2, but 4; this moves the leader to acid-a-2 first:
          kubectl pgscale down acid-a --to 4 -n db
    ");
}

/// A paused cluster was admitted from zero without a word, and stayed down.
#[test]
fn paused_cluster_never_comes_back_from_zero_unseen() {
    let denied = |facts: &Facts| {
        let verdict = crate::evaluate(facts, &Policies::default());
        verdict.denials().map(|finding| finding.rule).collect::<Vec<_>>()
    };
    let led_by_0 = |mut facts: Facts| {
        facts.last_leader = Seen::Known("acid-a-0".into());
        facts
    };
    assert_eq!(denied(&led_by_0(asleep(3))), ["paused"]);
    assert_eq!(denied(&led_by_0(created(asleep(3)))), ["paused"]);
    let running = crate::evaluate(&healthy(3, 5).pause(), &Policies::default());
    assert!(running.allows() && running.finding("paused").is_some(), "growth is warned of");
}
