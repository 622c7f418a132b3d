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
    let mut lockless = released(Seen::Known("acid-a-2".into()));
    lockless.leader = Seen::Absent;
    let mut stranger = ending(1);
    stranger.leader = Seen::Known(crate::rules::testing::lock("acid-b-0"));
    table(
        "return-from-zero",
        vec![
            ("the leader's pod ends", ending(1), Want::Deny),
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
