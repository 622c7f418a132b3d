//! The table of the rule and its texts.

use super::*;
use crate::facts::{Claim, Facts};
use crate::rules::testing::{Want, healthy, table, text};

/// A cluster at zero with these ordinals' volumes kept, led last by `last`.
fn asleep(to: i64, kept: &[i64], last: Option<&str>) -> Facts {
    let mut facts = healthy(0, to);
    facts.leader = Seen::Absent;
    facts.initialize = Seen::Absent;
    facts.last_leader = last.map_or(Seen::Absent, |last| Seen::Known(last.to_owned()));
    facts.claims = Seen::Known(
        kept.iter()
            .map(|ordinal| Claim {
                name: format!("pgdata-acid-a-{ordinal}"),
                ordinal: *ordinal,
                ..Claim::default()
            })
            .collect(),
    );
    facts
}

/// Patroni knows the cluster.
fn known(mut facts: Facts) -> Facts {
    facts.initialize = Seen::Known("7401122334455667788".to_owned());
    facts
}

fn ending(mut facts: Facts) -> Facts {
    if let Seen::Known(claims) = &mut facts.claims {
        for claim in claims {
            claim.terminating = true;
        }
    }
    facts
}

fn claims_hidden(mut facts: Facts) -> Facts {
    facts.claims = Seen::Unreadable("timed out".into());
    facts
}

/// No member leads that lacks a row of the last leader.
fn closed(facts: Facts) -> Facts {
    let mut facts = facts.with_configuration(|it| it.maximum_lag_on_failover = 0);
    facts.leader = Seen::Known(released());
    facts
}

/// The lock after its holder let go of it, with the last position.
fn released() -> crate::patroni::LeaderLock {
    crate::patroni::LeaderLock { holder: None, ..crate::rules::testing::lock("acid-a-2") }
}

/// Three volumes at zero, led last by -2, with these synchronous standbys.
fn synced(standbys: &[&str]) -> Facts {
    let facts = asleep(3, &[0, 1, 2], Some("acid-a-2")).synchronous(standbys);
    let mut facts = known(facts);
    if let Seen::Known(sync) = &mut facts.sync {
        sync.leader = Some("acid-a-2".to_owned());
    }
    facts
}

/// The StatefulSet starts a member once the one before is Ready by a probe.
fn probed(facts: Facts) -> Facts {
    facts.with_stateful_set(|set| set.probed = true)
}

fn in_etcd(mut facts: Facts) -> Facts {
    fn hide<T>(seen: &mut Seen<T>) {
        *seen = Seen::Unreadable("Patroni keeps its state in etcd".to_owned());
    }
    hide(&mut facts.leader);
    hide(&mut facts.configuration);
    hide(&mut facts.sync);
    hide(&mut facts.last_leader);
    hide(&mut facts.initialize);
    if facts.change.old.is_none() {
        facts.stateful_set = Seen::Absent;
    }
    facts
        .with_stateful_set(|set| set.store = Some(Store::Etcd))
        .with_settings(|it| it.etcd_host = Some("etcd:2379".into()))
}

/// The same write mounts another directory of the volumes.
fn moved(facts: Facts) -> Facts {
    facts.editing(|spec| spec["volume"]["subPath"] = serde_json::json!("other"))
}

/// A new cluster, of whose name nothing is left.
fn unborn() -> Facts {
    let mut facts = crate::rules::testing::created(3);
    facts.leader = Seen::Absent;
    facts
}

/// Zero was asked for, and three members still run, led by `leader`.
fn running(leader: i64, to: i64) -> Facts {
    healthy(3, 3).with_leader(leader).with_count(0, to)
}

fn created(mut facts: Facts) -> Facts {
    facts.change.old = None;
    facts
}

pub(super) fn return_from_zero() {
    let three = &[0, 1, 2][..];
    let last = Some("acid-a-2");
    let mut hidden = asleep(2, three, last);
    hidden.last_leader = Seen::Unreadable("timed out".into());
    let mut blind = asleep(2, three, last);
    blind.claims = Seen::Unreadable("timed out".into());
    table(
        "return-from-zero",
        vec![
            ("its volume is mounted", asleep(3, three, Some("acid-a-0")), Want::Pass),
            ("its volume is mounted, and -0 starts first", asleep(3, three, last), Want::Warn),
            ("its volume is the only one", asleep(1, &[0], Some("acid-a-0")), Want::Pass),
            ("its volume is left out", asleep(2, three, last), Want::Deny),
            ("its volume is left out, of whatever is kept", blind, Want::Deny),
            ("nothing is kept", asleep(2, &[], last), Want::Warn),
            ("its volume is gone", asleep(3, &[0, 1], last), Want::Warn),
            ("not known, and one is left out", asleep(2, three, None), Want::Deny),
            ("not known, and all are mounted", asleep(3, three, None), Want::Unknown),
            ("a stranger led, and one is left out", asleep(2, three, Some("acid-b-0")), Want::Deny),
            ("a stranger led, all are mounted", asleep(3, three, Some("acid-b-0")), Want::Unknown),
            ("history unreadable", hidden, Want::Deny),
            ("-0 has none, and would found an empty cluster", asleep(3, &[1, 2], last), Want::Deny),
            ("-0 has none, created", created(asleep(3, &[1, 2], last)), Want::Deny),
            ("-0 has none, and waits for -1", known(asleep(3, &[1, 2], last)), Want::Warn),
            (
                "-0 has none, and waits for the last leader",
                known(asleep(3, &[1, 2], Some("acid-a-1"))),
                Want::Pass,
            ),
            ("all are being deleted", known(ending(asleep(3, three, last))), Want::Deny),
            ("new, and the claims are hidden", claims_hidden(unborn()), Want::Unknown),
            (
                "created over a key, and the claims are hidden",
                claims_hidden(known(created(asleep(3, three, None)))),
                Want::Deny,
            ),
            ("created over it", created(asleep(2, three, last)), Want::Deny),
            ("created over nothing", created(asleep(2, &[], None)), Want::Pass),
            ("created over volumes of unknown rank", created(asleep(2, three, None)), Want::Deny),
            ("pods unreadable", asleep(2, three, last).without_sight_of_members(), Want::Deny),
            ("members still run, the leader is kept", running(0, 1), Want::Pass),
            ("members still run, the leader is removed", running(2, 2), Want::Deny),
            (
                "members still run, created, the leader is removed",
                created(running(2, 2)),
                Want::Deny,
            ),
            (
                "members still run, created, the leader is kept",
                created(running(1, 2)).with_settings(|it| it.deletes_with_cluster = None),
                Want::Pass,
            ),
            (
                "members still run, created, and the operator deletes their volumes",
                created(running(1, 2)),
                Want::Warn,
            ),
            (
                "-0 starts first, and leads only with every row",
                closed(asleep(3, three, last)),
                Want::Pass,
            ),
            ("-0 starts first, and is a synchronous standby", synced(&["acid-a-0"]), Want::Pass),
            ("-0 starts first, and may not lead", synced(&["acid-a-1"]), Want::Pass),
            ("-0 may not lead, and is awaited", probed(synced(&["acid-a-1"])), Want::Deny),
            (
                "-0 is a synchronous standby, and is awaited",
                probed(synced(&["acid-a-0"])),
                Want::Pass,
            ),
            ("-0 starts first, and is awaited", probed(asleep(3, three, last)), Want::Warn),
            (
                "-0 leads only with every row, and is awaited",
                probed(closed(asleep(3, three, last))),
                Want::Warn,
            ),
            ("-0 led last, and is awaited", probed(asleep(3, three, Some("acid-a-0"))), Want::Pass),
            ("-0 has none, and is awaited", probed(known(asleep(3, &[1, 2], last))), Want::Deny),
            (
                "-0 has none, and all start at once",
                probed(known(asleep(3, &[1, 2], last))).in_parallel(),
                Want::Warn,
            ),
            ("in etcd, all are mounted", in_etcd(asleep(3, three, last)), Want::Unknown),
            ("in etcd, one is left out", in_etcd(asleep(2, three, last)), Want::Deny),
            ("in etcd, -0 has none", in_etcd(asleep(3, &[1, 2], last)), Want::Deny),
            ("in etcd, created over all", in_etcd(created(asleep(3, three, last))), Want::Unknown),
            ("another directory is mounted", moved(asleep(3, three, Some("acid-a-0"))), Want::Deny),
            ("another directory is mounted, of nothing", moved(asleep(3, &[], None)), Want::Warn),
            ("stays at zero", asleep(0, three, last), Want::NotApplicable),
            ("from more than zero", healthy(3, 5), Want::NotApplicable),
        ],
    );
    insta::assert_snapshot!(text("return-from-zero", &asleep(2, three, last)), @"
    return-from-zero: acid-a-2 led last, and 2 instances leave its volume out: the cluster would start from older data
      endpoints/acid-a-config: last leader in history: acid-a-2
      persistentvolumeclaim/pgdata-acid-a-2: holds: the newest data
      Try: to mount it:
          kubectl pgscale set acid-a 3 -n db
    ");
    insta::assert_snapshot!(text("return-from-zero", &created(asleep(1, three, None))), @"
    return-from-zero: what is left does not say who led last: neither the leader lock nor Patroni's history names a member, and a count of 1 leaves a volume out that may hold the newest data
      persistentvolumeclaim/pgdata-acid-a-1: still there: not mounted with a count of 1
      persistentvolumeclaim/pgdata-acid-a-2: still there: not mounted with a count of 1
      Try: mount every kept volume: numberOfInstances: 3 in the manifest
        or, once you have seen that they hold nothing newer (pg_controldata, Latest checkpoint location), delete them for good:
          kubectl delete pvc pgdata-acid-a-1 pgdata-acid-a-2 -n db
    ");
    let remedy = |facts: &Facts| {
        let verdict = crate::evaluate(facts, &Policies::default());
        verdict.finding("return-from-zero").unwrap().remedy.clone().unwrap().to_string()
    };
    for last in [None, Some("acid-b-0")] {
        assert_eq!(
            remedy(&asleep(2, three, last)),
            "mount every kept volume:\n  kubectl pgscale set acid-a 3 -n db\nor, once you have seen that they hold \
             nothing newer (pg_controldata, Latest checkpoint location), delete them for good:\n  kubectl delete \
             pvc pgdata-acid-a-2 -n db"
        );
        assert_eq!(
            remedy(&asleep(3, three, last)),
            "every kept volume is mounted, but acid-a-0 starts first and may take the lead with older data. Compare \
             them before (pg_controldata, Latest checkpoint location)\nor see what each member has before clients \
             write again:\n  kubectl pgscale status acid-a -n db"
        );
    }
}

#[test]
fn a_pod_that_is_left_does_not_hide_who_led_last() {
    // The pods of a shrink to zero end, the leader last.
    let ending = |to| {
        running(2, to)
            .stalled([0])
            .without(1)
            .with_stateful_set(|set| set.replicas = 0)
            .with_member(2, |it| it.pod.terminating = true)
    };
    let released = |last: Seen<String>| {
        let mut facts = ending(1);
        if let Seen::Known(lock) = &mut facts.leader {
            lock.holder = None;
        }
        facts.last_leader = last;
        facts
    };
    let mut expired = ending(1);
    if let Seen::Known(lock) = &mut expired.leader {
        lock.renewed = None;
    }
    expired.last_leader = Seen::Known("acid-a-0".into());
    // None leads, the last leader has no pod, and one that would be left out runs.
    let mut next = running(0, 1).without(0).without(2).with_stateful_set(|set| set.replicas = 0);
    let held = next.clone();
    if let Seen::Known(lock) = &mut next.leader {
        lock.renewed = None;
    }
    next.last_leader = Seen::Known("acid-a-0".into());
    let mut lockless = released(Seen::Known("acid-a-2".into()));
    lockless.leader = Seen::Absent;
    let mut stranger = ending(1);
    stranger.leader = Seen::Known(crate::rules::testing::lock("acid-b-0"));
    table(
        "return-from-zero",
        vec![
            ("the leader's pod ends", ending(1), Want::Deny),
            ("one that may lead next is left out", next.clone(), Want::Deny),
            ("one that may lead next is left out, the lock is held yet", held, Want::Deny),
            (
                "one that may lead next is left out, the leader's node is lost",
                running(0, 1).without(2).with_member(0, |it| it.pod.ready = false),
                Want::Deny,
            ),
            ("one that may lead next is kept", next.with_count(0, 2), Want::Pass),
            ("it comes back", ending(3), Want::Pass),
            ("its lock has expired", expired, Want::Deny),
            ("it let go of the lock", released(Seen::Known("acid-a-2".into())), Want::Deny),
            ("the lock is gone", lockless, Want::Deny),
            ("another led last", released(Seen::Known("acid-a-0".into())), Want::Pass),
            ("not known, and a pod is left out", released(Seen::Absent), Want::Deny),
            ("history unreadable", released(Seen::Unreadable("x".into())), Want::Deny),
            ("lock unreadable", ending(1).without_sight_of_the_lock(), Want::Deny),
            ("a stranger leads, and a pod is left out", stranger, Want::Deny),
            // The StatefulSet still runs three: it is a shrink to one.
            ("zero was never carried out", running(2, 1), Want::Deny),
        ],
    );
    let printed = text("return-from-zero", &released(Seen::Absent));
    let way = "Try: mount every kept volume:\n      kubectl pgscale set acid-a 3 -n db";
    assert!(printed.ends_with(way), "{printed}");
    for facts in [ending(1), running(2, 1)] {
        assert!(!crate::evaluate(&facts, &Policies::default()).allows());
    }
    insta::assert_snapshot!(text("return-from-zero", &ending(1)), @"
    return-from-zero: acid-a-2 led last, and a count of 1 leaves its pod and its volume out: the cluster would go on from older data
      configmap/acid-a-leader: leader: acid-a-2
      postgresql/acid-a: numberOfInstances: 0
      pods: left: acid-a-0, acid-a-2
      Try: to keep it:
          kubectl pgscale set acid-a 3 -n db
    ");
}

#[test]
fn one_kept_volume_is_kept_and_several_are() {
    let says = |claims: &[i64]| {
        let mut facts = asleep(3, claims, None);
        facts.initialize = Seen::Absent;
        text("return-from-zero", &facts)
    };
    assert!(says(&[1]).contains("while pgdata-acid-a-1 is kept"), "{}", says(&[1]));
    let several = says(&[1, 2]);
    assert!(several.contains("while pgdata-acid-a-1, pgdata-acid-a-2 are kept"), "{several}");
}

#[test]
fn no_repair_excuses_it() {
    let facts = asleep(2, &[0, 1, 2], Some("acid-a-2"));
    assert!(facts.assess().repair().is_some());
    assert!(!crate::evaluate(&facts, &Policies::default()).allows());
    assert!(crate::evaluate(&facts.with_count(0, 3), &Policies::default()).allows());
}

/// All volumes were deleted at zero, and the key `initialize` outlived them. No member
/// ever started again.
#[test]
fn nothing_starts_without_a_volume_while_the_key_is_left() {
    for facts in [known(asleep(3, &[], None)), known(created(asleep(3, &[], None)))] {
        let verdict = crate::evaluate(&facts, &Policies::default());
        let denial = verdict.denials().find(|it| it.rule == "return-from-zero").unwrap();
        let printed = denial.to_string();
        assert!(printed.contains("annotate") && printed.contains("initialize-"), "{printed}");
        assert!(printed.contains("restore"), "{printed}");
    }
}

/// A bound on what is lost is printed, with the edit that closes it and the edit back.
#[test]
fn warning_of_an_older_first_member_prints_how_to_close_it_and_back() {
    let mut facts = known(asleep(3, &[0, 1, 2], Some("acid-a-2"))).with_configuration(|it| {
        it.document = std::sync::Arc::new(
            serde_json::json!({"ttl": 30, "maximum_lag_on_failover": 33_554_432}),
        );
    });
    facts.leader = Seen::Known(released());
    assert!(crate::evaluate(&facts, &Policies::default()).allows());
    insta::assert_snapshot!(text("return-from-zero", &facts), @r#"
    return-from-zero: acid-a-2 led last, and acid-a-0 starts first: it may take the lead without the last rows of acid-a-2, up to maximum_lag_on_failover (33554432 bytes)
      configmap/acid-a-config: last leader in history: acid-a-2; maximum_lag_on_failover: 33554432
      Try: so that only a member with every row of acid-a-2 leads, before the change:
          kubectl get configmap/acid-a-config -o json -n db | sed 's/\\"maximum_lag_on_failover\\": *33554432/\\"maximum_lag_on_failover\\":0/' | kubectl replace -n db -f -
        and back, once acid-a-2 leads or all members stream:
          kubectl get configmap/acid-a-config -o json -n db | sed 's/\\"maximum_lag_on_failover\\": *0/\\"maximum_lag_on_failover\\":33554432/' | kubectl replace -n db -f -
        or see what each member has before clients write again:
          kubectl pgscale status acid-a -n db
    "#);
    // The operator would write the manifest's value back.
    let by_manifest = facts.clone().editing(|spec| {
        spec["patroni"]["maximum_lag_on_failover"] = serde_json::json!(33_554_432);
    });
    let printed = text("return-from-zero", &by_manifest);
    assert!(printed.contains(r#""maximum_lag_on_failover":null"#), "{printed}");
    // Without a record of the last position no bound holds.
    facts.leader = Seen::Absent;
    let printed = text("return-from-zero", &facts);
    assert!(printed.contains("however many those are") && !printed.contains("sed"), "{printed}");
    insta::assert_snapshot!(text("return-from-zero", &probed(known(asleep(3, &[1, 2], None)))), @"
    return-from-zero: acid-a-0 has no volume and waits for a leader to copy from: it is never Ready, and no other member is ever started
      statefulset/acid-a: readiness probe: set; spec.podManagementPolicy: OrderedReady
      endpoints/acid-a-config: initialize: 7401122334455667788
      persistentvolumeclaim/pgdata-acid-a-0: not there
      Try: set enable_readiness_probe: false in configmap default/postgres-operator, restart the operator, and wait for its sync
        ask again once this prints nothing:
          kubectl get statefulset acid-a -o jsonpath='{.spec.template.spec.containers[*].readinessProbe}' -n db
    ");
    insta::assert_snapshot!(text("return-from-zero", &moved(asleep(3, &[0], Some("acid-a-0")))), @"
    return-from-zero: the same write mounts another directory of the volumes: every member would start without data
      postgresql/acid-a: volume.subPath: unset to other
      Try: start it from its data: write the count alone:
          kubectl pgscale set acid-a 3 -n db
    ");
}

/// Facts in etcd never become readable: each refusal says how one change passes all the same.
#[test]
fn refusal_in_etcd_has_a_way_out() {
    let waits = in_etcd(asleep(3, &[1, 2], None));
    let printed = text("return-from-zero", &waits);
    assert!(printed.contains("kubectl pgscale override acid-a --to 3"), "{printed}");
    let printed = text("return-from-zero", &in_etcd(created(asleep(3, &[1, 2], None))));
    assert!(printed.contains("--as-group=pgscale:break-glass"), "{printed}");
    let whole = in_etcd(asleep(3, &[0, 1, 2], None));
    assert!(crate::evaluate(&whole, &Policies::default()).allows());
    let whole = in_etcd(created(asleep(3, &[0, 1, 2], None)));
    assert!(crate::evaluate(&whole, &Policies::default()).allows());
}
