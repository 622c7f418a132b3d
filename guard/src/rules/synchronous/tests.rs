//! Changes that leave, or do not leave, enough members for a commit to wait for.

use serde_json::{Value, json};

use super::*;
use crate::rules::testing::{Want, healthy, led_by_the_last, table, text};

fn unconfigured(mut facts: Facts) -> Facts {
    facts.configuration = Seen::Unreadable("timed out".into());
    facts
}

pub(super) fn sync_standbys_condemned() {
    let last = &["acid-a-3", "acid-a-4"][..];
    let quorum = |facts: Facts| {
        facts.with_configuration(|configuration| {
            configuration.synchronous = Synchronous::Quorum;
        })
    };
    let mut unseen = healthy(5, 3).synchronous(last);
    unseen.sync = Seen::Unreadable("timed out".into());
    let mut nobody = healthy(5, 3).synchronous(&[]);
    nobody.sync = Seen::Absent;
    let mut gone = healthy(5, 3);
    gone.configuration = Seen::Absent;
    let mut old = healthy(5, 3).synchronous(last);
    if let Seen::Known(sync) = &mut old.sync {
        sync.leader = Some("acid-a-1".into());
    }
    table(
        "sync-standbys-condemned",
        vec![
            ("asynchronous", healthy(5, 3), Want::Pass),
            ("one stays", healthy(5, 3).synchronous(&["ACID-A-1", "acid-a-4"]), Want::Pass),
            ("all go, others are caught up", healthy(5, 3).synchronous(last), Want::Warn),
            ("all go, quorum", quorum(healthy(5, 3).synchronous(last)), Want::Warn),
            (
                "all go, no other is caught up",
                healthy(5, 3).synchronous(last).stalled([1, 2]),
                Want::Deny,
            ),
            (
                "all go, nobody can tell whether another is caught up",
                (1..3).fold(healthy(5, 3).synchronous(last), |facts, ordinal| {
                    facts.with_answer(ordinal, |answer| answer.timeline = None)
                }),
                Want::Unknown,
            ),
            ("all go, to one", healthy(5, 1).synchronous(last), Want::Warn),
            ("all go, the leader too", led_by_the_last(3).synchronous(&["acid-a-3"]), Want::Deny),
            (
                "all go, the leader too, quorum",
                quorum(led_by_the_last(3).synchronous(&["acid-a-3"])),
                Want::Deny,
            ),
            ("written by an earlier leader", old, Want::Pass),
            ("there is none", healthy(5, 3).synchronous(&[]), Want::Pass),
            ("there is none, by its absence", nobody, Want::Pass),
            ("standbys unreadable", unseen, Want::Unknown),
            ("configuration unreadable", unconfigured(healthy(5, 3)), Want::Unknown),
            ("configuration gone", gone, Want::Unknown),
            (
                "pods unreadable",
                healthy(5, 3).synchronous(last).without_sight_of_members(),
                Want::Unknown,
            ),
            ("zero has its own rule", healthy(5, 0).synchronous(last), Want::NotApplicable),
            ("growing", healthy(3, 5).synchronous(&["acid-a-2"]), Want::NotApplicable),
            (
                "a standby cluster, whatever its mode",
                led_by_the_last(3)
                    .synchronous(&["acid-a-3"])
                    .with_configuration(|configuration| configuration.standby_cluster = true),
                Want::Pass,
            ),
        ],
    );
    let id = "sync-standbys-condemned";
    insta::assert_snapshot!(text(id, &healthy(5, 3).synchronous(last)), @"
    sync-standbys-condemned: every synchronous standby (acid-a-3, acid-a-4) would be deleted: commits wait until Patroni has chosen another
      configmap/acid-a-sync: sync_standby: acid-a-3, acid-a-4
      configmap/acid-a-config: synchronous_mode: true
      Try: keep one:
          kubectl pgscale down acid-a --to 4 -n db
    ");
    insta::assert_snapshot!(text(id, &led_by_the_last(3).synchronous(&["acid-a-3"])), @"
    sync-standbys-condemned: every synchronous standby (acid-a-3) would be deleted together with the leader
      configmap/acid-a-sync: sync_standby: acid-a-3
      configmap/acid-a-config: synchronous_mode: true
      Try: not 3, but 4; this moves the leader to acid-a-3 first:
          kubectl pgscale down acid-a --to 4 -n db
    ");
}

#[test]
fn survivor_tagged_nosync_or_cascading_is_no_next_synchronous_standby() {
    let strict = || {
        healthy(3, 2).synchronous(&["acid-a-2"]).with_configuration(|configuration| {
            configuration.synchronous_strict = true;
        })
    };
    let nosync = || strict().with_answer(1, |answer| answer.tags.nosync = true);
    let cascading = |facts: Facts, ordinal| {
        facts.with_answer(ordinal, |answer| {
            answer.tags.replicate_from = Some("acid-a-2".to_owned());
        })
    };
    let four = |to| healthy(4, to).synchronous(&["acid-a-3"]);
    table(
        "sync-standbys-condemned",
        vec![
            ("no tags", strict(), Want::Warn),
            ("the only survivor is tagged nosync", nosync(), Want::Deny),
            ("the only survivor cascades", cascading(strict(), 1), Want::Deny),
            ("one of two cascades", cascading(four(3), 1), Want::Warn),
            ("one cascades, the other stalls", cascading(four(3), 1).stalled([2]), Want::Deny),
        ],
    );
    insta::assert_snapshot!(text("sync-standbys-condemned", &nosync()), @"
    sync-standbys-condemned: every synchronous standby (acid-a-2) would be deleted, and no kept member is caught up and may become one
      configmap/acid-a-sync: sync_standby: acid-a-2
      configmap/acid-a-config: synchronous_mode: true
      http://10.244.0.11:8008/patroni: acid-a-1: tags.nosync or tags.sync_priority: never synchronous
      Try: remove the tag, then wait until a kept member has become a synchronous standby
    ");
}

#[test]
fn member_that_is_never_synchronous_alone_beside_the_next_leader_is_refused() {
    // The plugin judges with the leader where it puts it: the old one is then the only standby.
    let moved = |facts: Facts| facts.with_leader(2).synchronous(&["acid-a-1"]);
    let barred = |facts: Facts| facts.with_answer(0, |answer| answer.tags.nosync = true);
    let followed = |facts: Facts| {
        facts.with_configuration(|configuration| configuration.standby_cluster = true)
    };
    table(
        "sync-standbys-condemned",
        vec![
            ("it may be chosen", moved(healthy(3, 2)).led_by("acid-a-1"), Want::Warn),
            ("it is barred", barred(moved(healthy(3, 2))).led_by("acid-a-1"), Want::Deny),
            (
                "a standby cluster",
                followed(barred(moved(healthy(3, 2)))).led_by("acid-a-1"),
                Want::Pass,
            ),
        ],
    );
}

pub(super) fn strict_sync_floor() {
    let strict = |from, to| {
        healthy(from, to).synchronous(&["acid-a-1"]).with_configuration(|configuration| {
            configuration.synchronous_strict = true;
        })
    };
    let declared = |facts: Facts| {
        facts.editing(|spec| {
            spec["patroni"] = json!({"synchronous_mode": true, "synchronous_mode_strict": true});
        })
    };
    let switched_off = |facts: Facts| {
        let mut facts = declared(facts).with_configuration(|configuration| {
            configuration.synchronous_strict = false;
        });
        if let Some(old) = &mut facts.change.old {
            old.spec = facts.change.new.spec.clone();
        }
        facts
    };
    let created = |mut facts: Facts| {
        facts.change.old = None;
        facts.configuration = Seen::Absent;
        facts
    };
    let standby =
        |facts: Facts| facts.editing(|spec| spec["standby"] = json!({"standby_host": "h"}));
    let gone = |mut facts: Facts| {
        facts.configuration = Seen::Absent;
        facts
    };
    let parameters = |facts: Facts, parameters: Value| {
        let document = json!({"postgresql": {"parameters": parameters}});
        facts.with_configuration(|it| *it = Configuration::of(&document.to_string()).unwrap())
    };
    let named = |from, to, names: &str| {
        parameters(healthy(from, to), json!({"synchronous_standby_names": names}))
    };
    let receiver = |facts: Facts| {
        facts.with_answer(0, |leader| {
            leader.replication = vec![crate::patroni::Sender {
                name: "barman".into(),
                state: "streaming".into(),
                sync_state: "sync".into(),
            }];
        })
    };
    table(
        "strict-sync-floor",
        vec![
            ("any standby by hand, none stays", named(2, 1, "ANY 1 (*)"), Want::Deny),
            ("any standby by hand, one stays", named(3, 2, "*"), Want::Pass),
            ("two by hand, one stays", named(3, 2, "FIRST 2 (*)"), Want::Deny),
            ("two by hand, there was one", named(2, 1, "FIRST 2 (*)"), Want::Pass),
            ("another receiver stays", receiver(named(2, 1, "*")), Want::Pass),
            ("another receiver is not named", receiver(named(2, 1, "\"acid-a-1\"")), Want::Deny),
            ("the named standby goes", named(3, 2, "\"acid-a-2\""), Want::Deny),
            ("the named standby stays", named(3, 2, "\"acid-a-1\", \"acid-a-2\""), Want::Pass),
            (
                "the named one leads",
                named(3, 2, "\"acid-a-1\", \"acid-a-2\"").with_leader(1),
                Want::Deny,
            ),
            ("by hand, from zero to one", named(0, 1, "*"), Want::Deny),
            ("by hand, from zero", named(0, 3, "*"), Want::Pass),
            (
                "by hand, no commit waits",
                parameters(
                    healthy(2, 1),
                    json!({"synchronous_standby_names": "*", "synchronous_commit": "local"}),
                ),
                Want::Pass,
            ),
            (
                "by hand, and Patroni chooses",
                named(2, 1, "*").with_configuration(|it| it.synchronous = Synchronous::On),
                Want::Pass,
            ),
            (
                "by hand in the manifest",
                healthy(2, 1).editing(|spec| {
                    spec["postgresql"]["parameters"] = json!({"synchronous_standby_names": "*"});
                }),
                Want::Deny,
            ),
            ("asynchronous", healthy(5, 1), Want::Pass),
            ("synchronous", healthy(5, 1).synchronous(&["acid-a-1"]), Want::Pass),
            ("strict", strict(5, 1), Want::Deny),
            ("strict, from zero", strict(0, 1), Want::Deny),
            ("strict, two stay", strict(5, 2), Want::Pass),
            ("growth from some", strict(2, 3), Want::NotApplicable),
            (
                "strict alone binds nobody",
                healthy(5, 1).with_configuration(|config| config.synchronous_strict = true),
                Want::Pass,
            ),
            ("declared by the same write", declared(healthy(5, 1)), Want::Deny),
            ("off by hand, and on in the manifest", switched_off(strict(5, 1)), Want::Deny),
            (
                "the whole mode is off by hand, and on in the manifest",
                switched_off(strict(5, 1)).with_configuration(|configuration| {
                    configuration.synchronous = Synchronous::Off;
                }),
                Want::Deny,
            ),
            ("a standby cluster", standby(strict(2, 1)), Want::Pass),
            (
                "a standby cluster by its configuration",
                strict(2, 1).with_configuration(|config| config.standby_cluster = true),
                Want::Pass,
            ),
            ("created", created(declared(healthy(1, 1))), Want::Deny),
            ("created, not strict", created(healthy(1, 1)), Want::Pass),
            ("created with two", created(declared(healthy(2, 2))), Want::Pass),
            ("from zero, never ran", gone(healthy(0, 1)), Want::Pass),
            ("configuration gone", gone(healthy(5, 1)), Want::Unknown),
            ("configuration unreadable", unconfigured(healthy(5, 1)), Want::Unknown),
            ("the count stays", strict(1, 1), Want::NotApplicable),
        ],
    );
    insta::assert_snapshot!(text("strict-sync-floor", &named(3, 1, "\"acid-a-1\"")), @r#"
    strict-sync-floor: commits of db/acid-a wait for 1 of the standbys that synchronous_standby_names names, and 0 of them would be kept: every commit would hang
      configmap/acid-a-config: postgresql.parameters.synchronous_standby_names: "acid-a-1"
      Try: take them out of synchronous_standby_names first
        or keep more:
          kubectl pgscale set acid-a 2 -n db
    "#);
    insta::assert_snapshot!(text("strict-sync-floor", &named(0, 1, "*")), @"
    strict-sync-floor: commits of db/acid-a wait for 1 of the standbys that synchronous_standby_names names, and 0 of them would be kept: every commit would hang
      configmap/acid-a-config: postgresql.parameters.synchronous_standby_names: *
      Try: take them out of synchronous_standby_names first
    ");
    insta::assert_snapshot!(text("strict-sync-floor", &strict(5, 1)), @"
    strict-sync-floor: db/acid-a replicates in strict synchronous mode: with 1 instance every commit would hang
      configmap/acid-a-config: synchronous_mode_strict: true
      Try: switch synchronous_mode_strict off first
        or keep 2:
          kubectl pgscale set acid-a 2 -n db
    ");
    insta::assert_snapshot!(
        text("strict-sync-floor", &created(declared(healthy(1, 1)))), @"
    strict-sync-floor: db/acid-a replicates in strict synchronous mode: with 1 instance every commit would hang
      postgresql/acid-a: spec.patroni.synchronous_mode_strict: true
      Try: no synchronous_mode_strict; or keep 2: numberOfInstances: 2 in the manifest
    ");
}

pub(super) fn sync_count_floor() {
    let wanting = |count, to| {
        healthy(5, to).synchronous(&["acid-a-1"]).with_configuration(|configuration| {
            configuration.synchronous_node_count = count;
        })
    };
    let nosync = |facts: Facts| facts.with_answer(2, |answer| answer.tags.nosync = true);
    let standby = |facts: Facts| facts.with_configuration(|config| config.standby_cluster = true);
    table(
        "sync-count-floor",
        vec![
            ("asynchronous", healthy(5, 2), Want::Pass),
            ("enough stay", wanting(2, 3), Want::Pass),
            ("one too few stays", wanting(2, 2), Want::Warn),
            ("none stays", wanting(1, 1), Want::Warn),
            ("one that stays is tagged nosync", nosync(wanting(2, 3)), Want::Warn),
            ("one that stays is tagged, enough others do", nosync(wanting(1, 3)), Want::Pass),
            ("one that goes is tagged", nosync(wanting(1, 2)), Want::Pass),
            (
                "one that stays is tagged by its last report",
                wanting(2, 3).with_member(2, |member| {
                    member.live = Live::Silent("no answer in 1s".into());
                    let tagged = json!({"state": "running", "version": "4.1.4",
                        "tags": {"sync_priority": "0"}});
                    member.report =
                        Seen::Known(crate::patroni::Report::of(&tagged.to_string()).unwrap());
                }),
                Want::Warn,
            ),
            ("a standby cluster", standby(wanting(2, 2)), Want::Pass),
            ("pods unreadable", wanting(2, 2).without_sight_of_members(), Want::Unknown),
            ("more than there ever were", wanting(u64::MAX, 4), Want::Warn),
            ("configuration unreadable", unconfigured(healthy(5, 2)), Want::Unknown),
            ("zero has its own rule", wanting(2, 0), Want::NotApplicable),
            ("growing", healthy(1, 2).synchronous(&[]), Want::NotApplicable),
        ],
    );
    insta::assert_snapshot!(text("sync-count-floor", &wanting(2, 2)), @"
    sync-count-floor: 1 standbys would be kept, and 2 are to be synchronous
      configmap/acid-a-config: synchronous_mode: true; synchronous_node_count: 2
      Try: lower synchronous_node_count first
        or keep more:
          kubectl pgscale down acid-a --to 3 -n db
    ");
}

#[test]
fn repair_never_excuses_strict_commits_without_a_standby() {
    let strict = |facts: Facts| {
        facts.synchronous(&["acid-a-1"]).with_configuration(|it| it.synchronous_strict = true)
    };
    for facts in [strict(healthy(0, 1)), strict(healthy(2, 1).pending(1))] {
        assert!(facts.assess().repair().is_some());
        let verdict = crate::evaluate(&facts, &Policies::default());
        assert!(verdict.denials().any(|it| it.rule == "strict-sync-floor"), "{verdict:?}");
    }
}
