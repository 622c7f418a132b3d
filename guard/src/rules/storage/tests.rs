//! Volumes, backups, drains.

use k8s_openapi::jiff::SignedDuration;

use super::*;
use crate::facts::Facts;
use crate::facts::{Backup, StatefulSet};
use crate::policy::{Limit, Mode, Zero};
use crate::rules::testing::{Want, healthy, judged, now, table, table_with, text};

fn claim(ordinal: i64) -> Claim {
    Claim {
        name: format!("pgdata-acid-a-{ordinal}"),
        ordinal,
        created: Some("2026-10-01T08:00:00Z".parse().unwrap()),
        capacity: Some(1 << 30),
        requested: Some(1 << 30),
        ..Claim::default()
    }
}

/// Returns the cluster with claims of the ordinals below `claims`.
fn claimed(from: i64, to: i64, claims: i64) -> Facts {
    let mut facts = healthy(from, to);
    facts.claims = Seen::Known((0..claims).map(claim).collect());
    facts
}

fn with(mut facts: Facts, change: impl FnOnce(&mut Facts)) -> Facts {
    change(&mut facts);
    facts
}

/// Lets the claims of these ordinals be deleted as soon as their pods stop.
fn ending(facts: Facts, ordinals: &[i64]) -> Facts {
    with(facts, |facts| {
        if let Seen::Known(claims) = &mut facts.claims {
            for claim in claims.iter_mut().filter(|claim| ordinals.contains(&claim.ordinal)) {
                claim.terminating = true;
            }
        }
    })
}

fn unseen(facts: Facts) -> Facts {
    with(facts, |facts| facts.claims = Seen::Unreadable("forbidden".to_owned()))
}

pub(super) fn volumes_deleted() {
    let deleting =
        |facts: Facts| facts.with_stateful_set(|set: &mut StatefulSet| set.deletes_volumes = true);
    let by_setting = |facts: Facts| facts.with_settings(|settings| settings.deletes_volumes = true);
    table(
        "volumes-deleted",
        vec![
            ("kept", claimed(5, 3, 5), Want::Pass),
            ("deleted", deleting(claimed(5, 3, 5)), Want::Warn),
            ("all of them", deleting(claimed(2, 0, 2)), Want::Deny),
            ("the leader's", deleting(claimed(5, 3, 5)).with_leader(4), Want::Deny),
            (
                "no healthy member is kept",
                deleting(claimed(5, 3, 5)).pending(0).pending(1).pending(2),
                Want::Deny,
            ),
            (
                "whether a healthy one stays is not known",
                (0..5).fold(deleting(claimed(5, 3, 5)), Facts::frozen),
                Want::Unknown,
            ),
            ("by the operator's setting", by_setting(claimed(5, 3, 5)), Want::Warn),
            ("all of them, by the operator's setting", by_setting(claimed(2, 0, 2)), Want::Deny),
            ("none is there to delete", deleting(claimed(5, 3, 3)), Want::Pass),
            ("which ones is not known", deleting(unseen(healthy(5, 3))), Want::Warn),
            ("growth", deleting(claimed(3, 5, 3)), Want::NotApplicable),
            ("the kept claim ends", ending(claimed(3, 1, 3), &[0]), Want::Deny),
            ("one of two kept claims ends", ending(claimed(3, 2, 3), &[0]), Want::Pass),
            ("every kept claim ends", ending(claimed(3, 2, 3), &[0, 1]), Want::Deny),
            ("a removed claim ends", ending(claimed(3, 1, 3), &[2]), Want::Pass),
            ("all claims end, to zero", ending(claimed(3, 0, 3), &[0, 1, 2]), Want::Deny),
            ("the leader's ends, to zero", ending(claimed(3, 0, 3), &[0]), Want::Deny),
            (
                "that of ordinal 0 ends, to zero, and another leads",
                ending(claimed(3, 0, 3).with_leader(2), &[0]),
                Want::Deny,
            ),
            ("a replica's ends, to zero", ending(claimed(3, 0, 3), &[1]), Want::Pass),
            (
                "the only healthy copy that is kept ends",
                deleting(ending(claimed(5, 3, 5), &[0])).stalled([1, 2]),
                Want::Deny,
            ),
            (
                "no StatefulSet",
                with(healthy(5, 3), |facts| facts.stateful_set = Seen::Absent),
                Want::Pass,
            ),
            ("unreadable", healthy(5, 3).without_sight_of_the_set(), Want::Unknown),
            ("claims unreadable", unseen(healthy(5, 3)), Want::Pass),
            ("claims unreadable, to zero", unseen(healthy(3, 0)), Want::Unknown),
        ],
    );
    insta::assert_snapshot!(text("volumes-deleted", &deleting(claimed(5, 3, 5))), @"
    volumes-deleted: this shrink deletes the volumes of the members that are removed, with all data (pgdata-acid-a-3, pgdata-acid-a-4)
      statefulset/acid-a: spec.persistentVolumeClaimRetentionPolicy.whenScaled: Delete
      Try: to keep them: persistent_volume_claim_retention_policy when_scaled: retain in configmap default/postgres-operator, restart the operator
        shrink only once this says Retain:
          kubectl get statefulset acid-a -o jsonpath='{.spec.persistentVolumeClaimRetentionPolicy.whenScaled}' -n db
    ");
    insta::assert_snapshot!(text("volumes-deleted", &ending(claimed(3, 1, 3), &[0])), @"
    volumes-deleted: no volume that lasts is kept: pgdata-acid-a-0 is being deleted
      persistentvolumeclaim/pgdata-acid-a-0: metadata.deletionTimestamp: set
      Try: move the leader to a member whose volume lasts:
          kubectl pgscale switchover acid-a --to acid-a-1 -n db
        let acid-a-0 be made again with a new volume, and shrink when it streams:
          kubectl delete pod acid-a-0 -n db
    ");
    let printed = text("volumes-deleted", &deleting(unseen(healthy(5, 3))));
    let first = "volumes-deleted: this shrink deletes the volumes of the members from ordinal 3 on, with all data";
    assert_eq!(printed.lines().next(), Some(first));
}

/// After 3 to 0 every claim was gone in seconds, and no member ever started again.
#[test]
fn policies_never_admit_a_shrink_to_zero_that_deletes_the_last_volumes() {
    let allow = Limit { value: Zero::Allow, source: ObjectRef::policy("dev"), mode: Mode::Enforce };
    let policies = Policies { zero: vec![allow], ..Policies::default() };
    let zero = claimed(3, 0, 3).with_stateful_set(|set| set.deletes_volumes = true);
    let denied = |facts: &Facts| {
        let verdict = crate::evaluate(facts, &policies);
        verdict.denials().map(|finding| finding.rule).collect::<Vec<_>>()
    };
    assert_eq!(denied(&claimed(3, 0, 3)), Vec::<&str>::new(), "volumes are kept");
    assert_eq!(denied(&zero), ["volumes-deleted"]);
    // The StatefulSet was scaled to 0 by another writer: no repair excuses it.
    let by_others = zero.clone().with_stateful_set(|set| set.replicas = 0);
    assert_eq!(denied(&by_others), ["volumes-deleted"]);
    assert_eq!(denied(&zero.without_sight_of_the_set()), ["volumes-deleted"]);
    insta::assert_snapshot!(text("volumes-deleted", &by_others), @"
    volumes-deleted: no member could ever start again: this shrink deletes the volumes of the members that are removed, with all data (pgdata-acid-a-0, pgdata-acid-a-1, pgdata-acid-a-2)
      statefulset/acid-a: spec.persistentVolumeClaimRetentionPolicy.whenScaled: Delete
      Try: to keep them: persistent_volume_claim_retention_policy when_scaled: retain in configmap default/postgres-operator, restart the operator
        shrink only once this says Retain:
          kubectl get statefulset acid-a -o jsonpath='{.spec.persistentVolumeClaimRetentionPolicy.whenScaled}' -n db
    ");
}

/// Returns one member that no longer leads, with the volume of `acid-a-3` kept, where the count is
/// to become 4 and `ordinal` took the lead last.
fn last_led(ordinal: i64) -> Facts {
    with(claimed(3, 4, 4), |facts| {
        facts.leader = Seen::Absent;
        facts.last_leader = Seen::Known(format!("acid-a-{ordinal}"));
    })
}

/// Where a hand-over fails, the only copy is deleted with the leader's pod.
#[test]
fn leader_never_goes_where_its_volume_is_deleted() {
    let denied = |facts: &Facts| {
        let verdict = crate::evaluate(facts, &crate::rules::testing::lowered());
        verdict.denials().map(|finding| finding.rule).collect::<Vec<_>>()
    };
    let deleting = |facts: Facts| {
        let facts = facts.with_stateful_set(|set| set.deletes_volumes = true);
        facts.with_settings(|settings| settings.deletes_volumes = true)
    };
    let led_by_4 = || claimed(5, 3, 5).with_leader(4);
    assert_eq!(denied(&led_by_4()), Vec::<&str>::new(), "the operator moves it, and volumes stay");
    assert_eq!(denied(&deleting(led_by_4())), ["volumes-deleted"]);
    let by_setting = led_by_4().with_settings(|settings| settings.deletes_volumes = true);
    // Another setting than at the last write also replaces the StatefulSet.
    assert!(denied(&by_setting).contains(&RuleId::VOLUMES_DELETED));
    // The object asked for 3 already, and the operator has not acted.
    assert!(denied(&deleting(led_by_4()).with_count(3, 4)).contains(&RuleId::VOLUMES_DELETED));
}

pub(super) fn stale_volume() {
    table(
        "stale-volume",
        vec![
            ("fresh ones", claimed(3, 5, 3), Want::Pass),
            ("one of an earlier life", claimed(3, 5, 4), Want::Warn),
            (
                "beyond what comes",
                with(claimed(3, 4, 0), |facts| {
                    facts.claims = Seen::Known(vec![claim(7)]);
                }),
                Want::Pass,
            ),
            (
                "on its way out",
                with(claimed(3, 4, 3), |facts| {
                    facts.claims = Seen::Known(vec![Claim { terminating: true, ..claim(3) }]);
                }),
                Want::Pass,
            ),
            ("its pod is there already", claimed(4, 3, 4).with_count(3, 4), Want::Pass),
            ("a shrink", claimed(5, 3, 5), Want::NotApplicable),
            ("back from zero", claimed(0, 3, 3), Want::NotApplicable),
            ("no member leads, the last leader has its pod", last_led(0), Want::Deny),
            ("no member leads, the last leader comes back", last_led(3), Want::Warn),
            ("no member leads, the last leader is left out", last_led(4), Want::Deny),
            (
                "no member leads, the expired lock names one that comes back",
                with(last_led(0), |facts| {
                    let mut expired = crate::rules::testing::lock("acid-a-3");
                    expired.renewed = None;
                    facts.leader = Seen::Known(expired);
                }),
                Want::Warn,
            ),
            (
                "no member leads, and the history is hidden",
                with(last_led(3), |facts| {
                    facts.last_leader = Seen::Unreadable("forbidden".to_owned());
                }),
                Want::Deny,
            ),
            ("claims unreadable", unseen(healthy(3, 5)), Want::Unknown),
            ("pods unreadable", claimed(3, 5, 4).without_sight_of_members(), Want::Unknown),
        ],
    );
    insta::assert_snapshot!(text("stale-volume", &last_led(3)), @"
    stale-volume: no member leads, and acid-a-3, which led last, comes back with its volume: pgdata-acid-a-3 is kept from an earlier life
      endpoints/acid-a-config: last leader in history: acid-a-3
      persistentvolumeclaim/pgdata-acid-a-3: created: 54d ago
      Try: keep them, no leader is well enough to be copied from:
          kubectl pgscale status acid-a -n db
    ");
    insta::assert_snapshot!(text("stale-volume", &claimed(3, 5, 4)), @"
    stale-volume: kept from an earlier life, and attached again: pgdata-acid-a-3
      persistentvolumeclaim/pgdata-acid-a-3: created: 54d ago
      Try: for a fresh copy, delete first:
          kubectl delete pvc pgdata-acid-a-3 -n db
    ");
}

#[test]
fn the_only_copies_of_the_data_are_never_named_for_deletion() {
    let silent = |facts: Facts| facts.frozen(0).with_member(0, |it| it.report = Seen::Absent);
    let leaderless = with(claimed(3, 5, 4), |facts| facts.leader = Seen::Absent);
    let deletes = |facts: &Facts| text("stale-volume", facts).contains("delete");
    assert_eq!(text("stale-volume", &claimed(0, 3, 3)), "nothing found");
    for facts in [
        &leaderless,
        &claimed(3, 5, 4).without_sight_of_the_lock(),
        &claimed(3, 5, 4).frozen(0),
        &silent(claimed(3, 5, 4)),
        &claimed(3, 5, 4).without(0),
        &claimed(3, 5, 4).with_answer(0, |it| it.role = crate::patroni::Role::Replica),
        &claimed(5, 5, 5).without(4).with_leader(3).with_count(2, 5),
    ] {
        assert!(!deletes(facts), "{}", text("stale-volume", facts));
    }
    assert!(deletes(&claimed(3, 5, 4)));
    assert!(deletes(&claimed(3, 5, 4).with_member(0, |it| it.live = crate::facts::Live::NotAsked)));
    insta::assert_snapshot!(text("stale-volume", &leaderless), @"
    stale-volume: no member leads, and a new member may take the lead with older data: pgdata-acid-a-3 is kept from an earlier life
      persistentvolumeclaim/pgdata-acid-a-3: created: 54d ago
      Try: keep them, no leader is well enough to be copied from:
          kubectl pgscale status acid-a -n db
    ");
}

/// A member that led an earlier timeline may hold rows that no other one has.
#[test]
fn volume_of_a_former_leader_is_never_named_for_deletion() {
    let moved = |created: &str| {
        with(claimed(3, 5, 4), |facts| {
            facts.last_leader = Seen::Known("acid-a-0".into());
            if let Seen::Known(claims) = &mut facts.claims {
                claims[3].created = Some(created.parse().unwrap());
            }
        })
    };
    let before = text("stale-volume", &moved("2026-10-01T08:00:00Z"));
    assert!(before.contains("copy or snapshot") && !before.contains("delete"), "{before}");
    // It was made under the present leader.
    let since = text("stale-volume", &moved("2026-11-24T09:30:00Z"));
    assert!(since.contains("kubectl delete pvc pgdata-acid-a-3"), "{since}");
    let hidden = with(claimed(3, 5, 4), |facts| {
        facts.last_leader = Seen::Unreadable("forbidden".into());
    });
    assert!(!text("stale-volume", &hidden).contains("delete"));
}

pub(super) fn volume_resizing() {
    let resized = |from, to, ordinal: usize, change: fn(&mut Claim)| {
        with(claimed(from, to, 5), |facts| {
            if let Seen::Known(claims) = &mut facts.claims {
                change(&mut claims[ordinal]);
            }
        })
    };
    let waits: fn(&mut Claim) = |claim| claim.resizing = Some("FileSystemResizePending".to_owned());
    let small: fn(&mut Claim) = |claim| claim.requested = Some(2 << 30);
    table(
        "volume-resizing",
        vec![
            ("as large as asked for", claimed(5, 3, 5), Want::Pass),
            ("a condition says so", resized(5, 3, 1, waits), Want::Warn),
            ("smaller than asked for", resized(5, 3, 4, small), Want::Warn),
            ("while it grows", resized(3, 5, 0, waits), Want::Warn),
            ("of no member", resized(3, 2, 4, waits), Want::Pass),
            ("the count stays", resized(3, 3, 0, waits), Want::NotApplicable),
            ("unreadable", unseen(healthy(5, 3)), Want::Unknown),
        ],
    );
    // The finding is reported, and refuses nothing: the rule itself never would.
    assert!(crate::evaluate(&unseen(healthy(5, 3)), &Policies::default()).allows());
    insta::assert_snapshot!(text("volume-resizing", &resized(5, 3, 1, small)), @"
    volume-resizing: not resized yet: pgdata-acid-a-1
      persistentvolumeclaim/pgdata-acid-a-1: capacity: 1Gi of the requested 2Gi
      Try: wait for it:
          kubectl get pvc -n db
    ");
}

pub(super) fn pdb_blocks_drain() {
    let budget = |least: Option<IntOrString>, most: Option<IntOrString>| DisruptionBudget {
        name: "postgres-acid-a-pdb".to_owned(),
        min_available: least,
        max_unavailable: most,
        expected: Some(1),
        leader_only: true,
    };
    let under = |from, to, budget: DisruptionBudget| {
        with(healthy(from, to), |facts| {
            facts.capacity.disruption_budgets = Some(Seen::Known(vec![budget]));
        })
    };
    let int = |count| Some(IntOrString::Int(count));
    let percent = |text: &str| Some(IntOrString::String(text.to_owned()));
    let all = |expected, least| DisruptionBudget {
        expected: Some(expected),
        leader_only: false,
        ..budget(int(least), None)
    };
    table(
        "pdb-blocks-drain",
        vec![
            ("nobody looks", healthy(2, 1), Want::NotApplicable),
            ("one must stay", under(2, 1, budget(int(1), None)), Want::Warn),
            ("none must stay", under(2, 1, budget(int(0), None)), Want::Pass),
            ("a part must stay", under(2, 1, budget(percent("50%"), None)), Want::Warn),
            ("none may go", under(2, 1, budget(None, int(0))), Want::Warn),
            ("one may go", under(2, 1, budget(None, int(1))), Want::Pass),
            ("a part may go, rounded up", under(2, 1, budget(None, percent("10%"))), Want::Pass),
            ("pods of others stay beside it", under(2, 1, all(5, 2)), Want::Pass),
            ("its own are all there is", under(2, 1, all(2, 1)), Want::Warn),
            ("neither", under(2, 1, budget(None, None)), Want::Pass),
            ("two stay", under(3, 2, budget(int(1), None)), Want::NotApplicable),
            (
                "unreadable",
                with(healthy(2, 1), |facts| {
                    facts.capacity.disruption_budgets =
                        Some(Seen::Unreadable("forbidden".to_owned()));
                }),
                Want::Unknown,
            ),
        ],
    );
    insta::assert_snapshot!(text("pdb-blocks-drain", &under(2, 1, budget(int(1), None))), @"
    pdb-blocks-drain: with one member no node it runs on can be drained: a disruption budget forbids to evict it
      poddisruptionbudget/postgres-acid-a-pdb: spec.minAvailable: 1
      Try: keep 2 members
        or delete the pod by hand when its node is drained:
          kubectl delete pod acid-a-0 -n db
    ");
}

pub(super) fn no_recent_backup() {
    let policies = Policies {
        backup_max_age: Some(Limit {
            value: SignedDuration::from_hours(26),
            source: ObjectRef::policy("production"),
            mode: Mode::Enforce,
        }),
        ..Policies::default()
    };
    let backed_up = |from, to, hours: i64| {
        with(healthy(from, to), |facts| {
            facts.capacity.backup = Some(Seen::Known(Backup {
                name: "logical-backup-acid-a".to_owned(),
                succeeded: Some(now() - SignedDuration::from_hours(hours)),
                suspended: false,
            }));
        })
    };
    let job =
        |seen: Option<Seen<Backup>>| with(healthy(3, 2), |facts| facts.capacity.backup = seen);
    let never = with(backed_up(3, 2, 0), |facts| {
        if let Some(Seen::Known(backup)) = &mut facts.capacity.backup {
            backup.succeeded = None;
        }
    });
    table_with(
        "no-recent-backup",
        &policies,
        vec![
            ("young enough", backed_up(3, 2, 26), Want::Pass),
            ("too old", backed_up(3, 2, 27), Want::Deny),
            ("never", never, Want::Deny),
            ("no job", job(Some(Seen::Absent)), Want::Deny),
            ("growth", backed_up(2, 3, 99), Want::NotApplicable),
            ("to zero, which has a rule of its own", backed_up(3, 0, 99), Want::NotApplicable),
            ("unreadable", job(Some(Seen::Unreadable("forbidden".to_owned()))), Want::Unknown),
            ("not read", job(None), Want::Unknown),
        ],
    );
    table("no-recent-backup", vec![("no policy asks", backed_up(3, 2, 99), Want::NotApplicable)]);
    let text =
        |facts: &Facts| judged(facts, &policies).finding("no-recent-backup").unwrap().to_string();
    insta::assert_snapshot!(text(&backed_up(3, 2, 50)), @"
    no-recent-backup: the last logical backup is 2d2h old; archives of the log are not visible here
      scalepolicy/production: backup.maxAge: 26h
      cronjob/logical-backup-acid-a: status.lastSuccessfulTime: 2026-11-22T08:00:00Z
      Try:
          kubectl create job logical-backup-acid-a-now --from=cronjob/logical-backup-acid-a -n db
    ");
    insta::assert_snapshot!(text(&job(Some(Seen::Absent))), @"
    no-recent-backup: there is no logical backup job; archives of the log are not visible here
      scalepolicy/production: backup.maxAge: 26h
      Try: set enableLogicalBackup: true, and let it run once
    ");
}
