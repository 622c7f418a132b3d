//! `plan` on a cluster in memory: its impact, and its text where no member answers.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::timeout;

use crate::terminal::testing::Screen;
use crate::testing::{HANGS, World, give, run};

mod rules;
mod verdict;

/// Returns the text of `plan LINE` on a terminal of this width.
async fn shown(world: &World, line: &str, width: Option<usize>) -> String {
    let screen = Screen::of(width, false);
    give(&world.session(&screen, None), &format!("plan {line}")).await.ok();
    screen.stdout()
}

/// Returns a cluster of three whose leader reports the amount to copy.
fn growing() -> World {
    World::new(3, 0)
        .with_resources()
        .printing(0, "pg_database_size", Ok("44040192000\n"))
        .printing(0, "data_directory", Ok("/data\u{1f}acid_a_2\u{1f}1610612736\n"))
        .printing(0, "pg_stat_progress_basebackup", Ok("\n"))
        .printing(0, "df -B1 --output=avail /data/pg_wal", Ok("     Avail\n53687091200\n"))
}

/// Returns a cluster of five with clients on the last two.
fn shrinking() -> World {
    World::new(5, 0).with_resources().printing(3, "pg_stat_activity", Ok("\n")).printing(
        4,
        "pg_stat_activity",
        Ok("app\u{1f}web\u{1f}10\u{1e}app\u{1f}\u{1f}2\n"),
    )
}

#[tokio::test]
async fn growth_shows_what_must_be_copied_and_what_the_namespace_has() {
    insta::assert_snapshot!(shown(&growing(), "acid-a --to 5", Some(80)).await, @"
    REFUSED 3 -> 5: quota-headroom
    postgresql db/acid-a: 3 -> 5 instances
    MEMBER     CHANGE   ROLE      STATE   VOLUME
    acid-a-3   added    replica   -       pgdata-acid-a-3 returns (100.0 GiB, 12d)
    acid-a-4   added    replica   -       new, 100.0 GiB
    Impact:
      Requests:           cpu 3.3 -> 5.5, memory 12.3 GiB -> 20.6 GiB, storage
                          400.0 GiB -> 500.0 GiB
      Quota:              compute: pods 3 -> 5 of 20, 15 left
                          compute: requests.cpu 3.3 -> 5.5 of 5, exceeded by 0.5
                          compute: requests.memory 12.3 GiB -> 20.6 GiB of 64.0 GiB,
                            43.3 GiB left
      Readers:            2 -> 4 behind acid-a-repl
      Failures tolerated: 2 -> 4
      Base backups:       1 x 41.0 GiB; ETA unknown: no base backup of this cluster
                          was measured yet; 1 on the volume of an earlier life:
                          catches up, or copies all where it cannot
      Leader disk:        acid-a-0: 50.0 GiB free; slots hold back 1.5 GiB of WAL
                          (most: acid_a_2)
      DENY quota-headroom: no room for 5 instances: a limit would be passed
           resourcequota/compute: requests.cpu: 3.3 of 5 used, 2.2 needed: 0.5 too
             many
           Try: ask for fewer:
               kubectl pgscale up acid-a --to 4 -n db
             or have the quota raised:
               kubectl describe resourcequota -n db
      WARN stale-volume: kept from an earlier life, and attached again:
           pgdata-acid-a-3
           persistentvolumeclaim/pgdata-acid-a-3: created: 12d ago
           Try: for a fresh copy, delete first:
               kubectl delete pvc pgdata-acid-a-3 -n db
    Nearest count that would be allowed now: 4
        kubectl pgscale up acid-a --to 4 -n db
    REFUSED 3 -> 5: quota-headroom
    ");
    insta::assert_snapshot!(shown(&growing(), "acid-a --to 5", Some(160)).await, @"
    REFUSED 3 -> 5: quota-headroom
    postgresql db/acid-a: 3 -> 5 instances
    MEMBER     CHANGE   ROLE      STATE   VOLUME
    acid-a-3   added    replica   -       pgdata-acid-a-3 returns (100.0 GiB, 12d)
    acid-a-4   added    replica   -       new, 100.0 GiB
    Impact:
      Requests:           cpu 3.3 -> 5.5, memory 12.3 GiB -> 20.6 GiB, storage 400.0 GiB -> 500.0 GiB
      Quota:              compute: pods 3 -> 5 of 20, 15 left
                          compute: requests.cpu 3.3 -> 5.5 of 5, exceeded by 0.5
                          compute: requests.memory 12.3 GiB -> 20.6 GiB of 64.0 GiB, 43.3 GiB left
      Readers:            2 -> 4 behind acid-a-repl
      Failures tolerated: 2 -> 4
      Base backups:       1 x 41.0 GiB; ETA unknown: no base backup of this cluster was measured yet; 1 on the volume of an earlier life: catches up, or copies all
                          where it cannot
      Leader disk:        acid-a-0: 50.0 GiB free; slots hold back 1.5 GiB of WAL (most: acid_a_2)
      DENY quota-headroom: no room for 5 instances: a limit would be passed
           resourcequota/compute: requests.cpu: 3.3 of 5 used, 2.2 needed: 0.5 too many
           Try: ask for fewer:
               kubectl pgscale up acid-a --to 4 -n db
             or have the quota raised:
               kubectl describe resourcequota -n db
      WARN stale-volume: kept from an earlier life, and attached again: pgdata-acid-a-3
           persistentvolumeclaim/pgdata-acid-a-3: created: 12d ago
           Try: for a fresh copy, delete first:
               kubectl delete pvc pgdata-acid-a-3 -n db
    Nearest count that would be allowed now: 4
        kubectl pgscale up acid-a --to 4 -n db
    REFUSED 3 -> 5: quota-headroom
    ");
}

#[tokio::test]
async fn a_shrink_shows_the_clients_that_it_cuts_off() {
    insta::assert_snapshot!(shown(&shrinking(), "acid-a --to 3", Some(80)).await, @"
    ALLOWED 5 -> 3, 1 warning: survivors-one-zone
    postgresql db/acid-a: 5 -> 3 instances
    MEMBER    CHANGE   ROLE     STATE    VOLUME
    acid-a-3  removed  replica  healthy  pgdata-acid-a-3 is kept (100.0 GiB, 12d)
    acid-a-4  removed  replica  healthy  pgdata-acid-a-4 is kept (100.0 GiB, 12d)
    Impact:
      Requests:           cpu 5.5 -> 3.3, memory 20.6 GiB -> 12.3 GiB, storage
                          600.0 GiB as before
      Readers:            4 -> 2 behind acid-a-repl
      Failures tolerated: 4 -> 2
      Zones:              zone-a x 3, zone-b x 2 -> zone-a x 3; all kept members are
                          in zone-a
      Clients:            acid-a-3: none
                          acid-a-4: 12 clients (web as app x 10, app x 2)
                          connections end when their member is removed
    Steps:
      1. set numberOfInstances to 3
      2. wait until 3 instances have converged
      WARN survivors-one-zone: all kept members are in zone zone-a; those in zone-b
           are removed
           node/node-0: zone of acid-a-0: zone-a
           node/node-1: zone of acid-a-1: zone-a
           and 3 more lines: -o wide shows all
           Try: to keep a second zone:
               kubectl pgscale down acid-a --to 4 -n db
    ALLOWED 5 -> 3, 1 warning: survivors-one-zone
    ");
    insta::assert_snapshot!(shown(&shrinking(), "acid-a --to 3", Some(160)).await, @"
    ALLOWED 5 -> 3, 1 warning: survivors-one-zone
    postgresql db/acid-a: 5 -> 3 instances
    MEMBER     CHANGE    ROLE      STATE     VOLUME
    acid-a-3   removed   replica   healthy   pgdata-acid-a-3 is kept (100.0 GiB, 12d)
    acid-a-4   removed   replica   healthy   pgdata-acid-a-4 is kept (100.0 GiB, 12d)
    Impact:
      Requests:           cpu 5.5 -> 3.3, memory 20.6 GiB -> 12.3 GiB, storage 600.0 GiB as before
      Readers:            4 -> 2 behind acid-a-repl
      Failures tolerated: 4 -> 2
      Zones:              zone-a x 3, zone-b x 2 -> zone-a x 3; all kept members are in zone-a
      Clients:            acid-a-3: none
                          acid-a-4: 12 clients (web as app x 10, app x 2)
                          connections end when their member is removed
    Steps:
      1. set numberOfInstances to 3
      2. wait until 3 instances have converged
      WARN survivors-one-zone: all kept members are in zone zone-a; those in zone-b are removed
           node/node-0: zone of acid-a-0: zone-a
           node/node-1: zone of acid-a-1: zone-a
           and 3 more lines: -o wide shows all
           Try: to keep a second zone:
               kubectl pgscale down acid-a --to 4 -n db
    ALLOWED 5 -> 3, 1 warning: survivors-one-zone
    ");
}

#[tokio::test]
async fn unreadable_details_are_named_and_refuse_nothing() {
    let refused = Err("pods/exec is not permitted");
    let growing =
        World::new(3, 0).with_resources().hiding(&["resourcequotas", "persistentvolumeclaims"]);
    let growing = ["pg_database_size", "data_directory", "pg_stat_progress_basebackup"]
        .into_iter()
        .fold(growing, |world, statement| world.printing(0, statement, refused));
    insta::assert_snapshot!(shown(&growing, "acid-a --to 4", Some(80)).await, @"
    ALLOWED 3 -> 4, but 4 rules could not be judged: list persistentvolumeclaims in
      db: forbidden; list resourcequotas in db: forbidden
    postgresql db/acid-a: 3 -> 4 instances
    MEMBER     CHANGE   ROLE      STATE   VOLUME
    acid-a-3   added    replica   -       new, 100.0 GiB; or an earlier one
    Impact:
      Requests:           cpu 3.3 -> 4.4, memory 12.3 GiB -> 16.5 GiB, storage
                          unknown: list persistentvolumeclaims in db: forbidden
      Quota:              unknown: list resourcequotas in db: forbidden
      Readers:            2 -> 3 behind acid-a-repl
      Failures tolerated: 2 -> 3
      Base backups:       up to 1 of unknown size: pods/exec is not permitted; ETA
                          unknown: no base backup of this cluster was measured yet;
                          volumes of an earlier life are unknown: list
                          persistentvolumeclaims in db: forbidden
      Leader disk:        acid-a-0: unknown: pods/exec is not permitted
    Steps:
      1. set numberOfInstances to 4
      2. wait until 4 instances have converged
      WARN 4 rules cannot be judged:
           list persistentvolumeclaims in db: forbidden
             hides quota-headroom, stale-volume, foreign-volume, volume-resizing
             Try:
                 kubectl auth can-i list persistentvolumeclaims -n db
           list resourcequotas in db: forbidden
             hides quota-headroom
             Try:
                 kubectl auth can-i list resourcequotas -n db
    ALLOWED 3 -> 4, but 4 rules could not be judged: list persistentvolumeclaims in
      db: forbidden; list resourcequotas in db: forbidden
    ");
    insta::assert_snapshot!(shown(&growing, "acid-a --to 4", Some(160)).await, @"
    ALLOWED 3 -> 4, but 4 rules could not be judged: list persistentvolumeclaims in db: forbidden; list resourcequotas in db: forbidden
    postgresql db/acid-a: 3 -> 4 instances
    MEMBER     CHANGE   ROLE      STATE   VOLUME
    acid-a-3   added    replica   -       new, 100.0 GiB; or an earlier one
    Impact:
      Requests:           cpu 3.3 -> 4.4, memory 12.3 GiB -> 16.5 GiB, storage unknown: list persistentvolumeclaims in db: forbidden
      Quota:              unknown: list resourcequotas in db: forbidden
      Readers:            2 -> 3 behind acid-a-repl
      Failures tolerated: 2 -> 3
      Base backups:       up to 1 of unknown size: pods/exec is not permitted; ETA unknown: no base backup of this cluster was measured yet; volumes of an earlier
                          life are unknown: list persistentvolumeclaims in db: forbidden
      Leader disk:        acid-a-0: unknown: pods/exec is not permitted
    Steps:
      1. set numberOfInstances to 4
      2. wait until 4 instances have converged
      WARN 4 rules cannot be judged:
           list persistentvolumeclaims in db: forbidden
             hides quota-headroom, stale-volume, foreign-volume, volume-resizing
             Try:
                 kubectl auth can-i list persistentvolumeclaims -n db
           list resourcequotas in db: forbidden
             hides quota-headroom
             Try:
                 kubectl auth can-i list resourcequotas -n db
    ALLOWED 3 -> 4, but 4 rules could not be judged: list persistentvolumeclaims in db: forbidden; list resourcequotas in db: forbidden
    ");
    let shrinking = World::new(3, 0).with_resources().printing(2, "pg_stat_activity", refused);
    insta::assert_snapshot!(shown(&shrinking, "acid-a --to 2", Some(80)).await, @"
    ALLOWED 3 -> 2
    postgresql db/acid-a: 3 -> 2 instances
    MEMBER    CHANGE   ROLE     STATE    VOLUME
    acid-a-2  removed  replica  healthy  pgdata-acid-a-2 is kept (100.0 GiB, 12d)
    Impact:
      Requests:           cpu 3.3 -> 2.2, memory 12.3 GiB -> 8.2 GiB, storage
                          400.0 GiB as before
      Readers:            2 -> 1 behind acid-a-repl
      Failures tolerated: 2 -> 1
      Zones:              zone-a x 3 -> zone-a x 2; all kept members are in zone-a
      Clients:            acid-a-2: unknown: pods/exec is not permitted
    Steps:
      1. set numberOfInstances to 2
      2. wait until 2 instances have converged
    ALLOWED 3 -> 2
    ");
}

#[tokio::test]
async fn a_member_that_hangs_delays_no_command_for_long() {
    for line in ["plan acid-a --to 2", "down acid-a --to 2 --yes", "up acid-a --to 4"] {
        // No command in any member ends, not even in the member that comes. The test is that ours
        // ends.
        let world = (0..4).fold(World::new(3, 0).with_resources(), |world, ordinal| {
            world.printing(ordinal, "", Err(HANGS))
        });
        let line = format!("{line} -o json");
        let ended = timeout(Duration::from_secs(20), run(&world, &line, None)).await;
        let (screen, code, why) = ended.unwrap();
        assert_eq!((code, &*why), (0, ""), "{line}");
        let document: Value = serde_json::from_str(&screen.stdout()).unwrap();
        let plan = if document["kind"] == "ScalePlan" { &document } else { &document["plan"] };
        let unread = plan["impact"]["unread"].as_object().unwrap();
        assert!(!unread.is_empty() && unread.values().all(|why| why == "no answer within 0.2s"));
        assert_eq!(plan["impact"]["readers"]["before"], 2, "{line}: what was read is there");
    }
}

#[tokio::test]
async fn acting_commands_show_the_same_and_the_report_keeps_it() {
    let world =
        World::new(5, 4).with_resources().printing(4, "pg_stat_activity", Ok("app\u{1f}\u{1f}2\n"));
    let (screen, code, why) = run(&world, "down acid-a --to 3 --dry-run=client", None).await;
    assert_eq!(code, 0, "{why}");
    assert!(screen.stderr().contains("acid-a-4: 2 clients (app x 2)"), "{}", screen.stderr());
    let (screen, code, why) = run(&world, "down acid-a --to 3 --yes -o json", None).await;
    assert_eq!((code, world.leader()), (0, 0), "{why}");
    let report: Value = serde_json::from_str(&screen.stdout()).unwrap();
    assert_eq!(report["plan"]["impact"]["clients"]["acid-a-4"][0]["count"], 2);
}

#[tokio::test]
async fn a_running_base_backup_gives_the_time_of_the_next() {
    let world = growing().printing(0, "pg_stat_progress_basebackup", Ok("104857600\n"));
    let text = shown(&world, "acid-a --to 5", None).await;
    assert!(text.contains("about 7m each at the 100.0 MiB/s of the one that runs now"), "{text}");
}

#[tokio::test]
async fn the_document_holds_the_outlook_and_every_rule() {
    let (screen, ..) = run(&growing(), "plan acid-a --to 5 -o json", None).await;
    let mut document: Value = serde_json::from_str(&screen.stdout()).unwrap();
    let rules = document["rules"].as_array().unwrap().iter();
    let denying: Vec<&Value> = rules.filter(|rule| rule["verdict"] == "Deny").collect();
    assert_eq!(denying.len(), 1, "{denying:?}");
    assert_eq!(denying[0]["rule"], "quota-headroom");
    insta::assert_snapshot!(serde_json::to_string_pretty(denying[0]).unwrap(), @r#"
    {
      "lookedAt": [
        {
          "field": "numberOfInstances",
          "object": {
            "kind": "postgresql",
            "name": "acid-a"
          },
          "value": "3 -> 5"
        },
        {
          "field": "requests of each new member",
          "object": {
            "kind": "postgresql",
            "name": "acid-a"
          },
          "value": "cpu 1.1, memory 4224Mi"
        },
        {
          "field": "limits of each new member",
          "object": {
            "kind": "postgresql",
            "name": "acid-a"
          },
          "value": "cpu 4, memory 4224Mi"
        },
        {
          "field": "volumes of each new member",
          "object": {
            "kind": "postgresql",
            "name": "acid-a"
          },
          "value": "100Gi"
        },
        {
          "field": "pods",
          "object": {
            "kind": "resourcequota",
            "name": "compute"
          },
          "value": "3 of 20 used, 5 afterwards"
        },
        {
          "field": "requests.cpu",
          "object": {
            "kind": "resourcequota",
            "name": "compute"
          },
          "value": "3.3 of 5 used, 5.5 afterwards"
        },
        {
          "field": "requests.memory",
          "object": {
            "kind": "resourcequota",
            "name": "compute"
          },
          "value": "12672Mi of 64Gi used, 21120Mi afterwards"
        }
      ],
      "message": "no room for 5 instances: a limit would be passed",
      "remedy": {
        "commands": [
          {
            "argv": [
              "kubectl",
              "pgscale",
              "up",
              "acid-a",
              "--to",
              "4",
              "-n",
              "db"
            ],
            "why": "ask for fewer"
          },
          {
            "argv": [
              "kubectl",
              "describe",
              "resourcequota",
              "-n",
              "db"
            ],
            "why": "or have the quota raised"
          }
        ]
      },
      "rule": "quota-headroom",
      "severity": "Deny",
      "verdict": "Deny"
    }
    "#);
    assert_eq!((&document["alternative"], &document["nearestAllowed"]), (&json!(4), &json!([4])));
    let impact = document["impact"].take();
    assert!(impact["volumes"]["pgdata-acid-a-3"]["created"].is_string());
    insta::assert_snapshot!(serde_json::to_string_pretty(&impact["baseBackups"]).unwrap(), @r#"
    {
      "bytesEach": 44040192000,
      "count": 1,
      "leader": "acid-a-0",
      "leaderFreeBytes": 53687091200,
      "parallel": true,
      "retainedBytes": 1610612736,
      "retainingSlot": "acid_a_2",
      "returning": 1,
      "secondsEach": null
    }
    "#);
    insta::assert_snapshot!(serde_json::to_string(&impact["quotas"][1]).unwrap(), @r#"{"exceededBy":"500m","hard":"5","quota":"compute","resource":"requests.cpu","used":{"after":"5500m","before":"3300m"}}"#);
    insta::assert_snapshot!(serde_json::to_string(&impact["requests"]).unwrap(), @r#"{"cpu":{"after":"5500m","before":"3300m"},"memory":{"after":"22145925120","before":"13287555072"}}"#);

    let (screen, ..) = run(&shrinking(), "plan acid-a --to 3 -o json", None).await;
    let document: Value = serde_json::from_str(&screen.stdout()).unwrap();
    insta::assert_snapshot!(serde_json::to_string_pretty(&document["impact"]["clients"]).unwrap(), @r#"
    {
      "acid-a-3": [],
      "acid-a-4": [
        {
          "application": "web",
          "count": 10,
          "user": "app"
        },
        {
          "application": "",
          "count": 2,
          "user": "app"
        }
      ]
    }
    "#);
    assert_eq!(document["impact"]["claimsOfLeaving"], "Kept");
}

#[tokio::test]
async fn nothing_is_read_where_there_is_nothing_to_do() {
    let (screen, code, _) = run(&World::new(3, 0), "plan acid-a --to 3", None).await;
    assert_eq!(code, 0);
    assert!(!screen.stdout().contains("Outlook"), "{}", screen.stdout());
}
