//! Tests of the texts on the state of clusters.

use pgscale_guard::Policies;
use pgscale_guard::facts::Claim;
use pgscale_guard::object_ref::ObjectRef;
use pgscale_guard::patroni::SyncState;
use pgscale_guard::policy::{Limit, Mode};
use pgscale_guard::remedy::Reach;
use serde_json::Value;

use super::*;
use crate::diagnosis::{Clues, causes};
use crate::document::ScaleStatus;
use crate::services::Services;
use crate::status::{Archive, Detail};
use crate::testing::{World, facts, run, stalled, with};
use crate::watch::Snapshot;

mod document;
mod list;
mod wide;

fn policies() -> Policies {
    let limit =
        |value, source: &str, mode| Limit { value, source: ObjectRef::policy(source), mode };
    Policies {
        min: vec![limit(3, "production", Mode::Enforce), limit(5, "trial", Mode::Warn)],
        max: vec![limit(7, "production", Mode::Enforce)],
        ..Policies::default()
    }
}

/// Returns the answers of a leader whose replicas follow closely.
fn vitals() -> Vitals {
    let delays = |replay| Delays { write: Some(0.0012), flush: Some(0.04), replay: Some(replay) };
    let delays = [("acid-a-1", delays(75.3)), ("acid-a-2", delays(0.26))];
    let archive =
        Archive { on: true, last: Some("2026-11-24T09:59:48Z".parse().unwrap()), failed: None };
    Vitals {
        data: Ok(13_213_121_536),
        flow: Ok(Flow {
            delays: delays.map(|(name, delays)| (name.to_owned(), delays)).into(),
            archive,
        }),
    }
}

/// Returns a status with the slots and the volume of a member that is gone.
fn status(mut facts: Facts, missing: &[&str]) -> Status {
    facts.claims = Seen::Known(
        [0, 1, 2, 4]
            .map(|ordinal| Claim {
                name: format!("pgdata-acid-a-{ordinal}"),
                ordinal,
                created: Some("2026-08-22T10:00:00Z".parse().unwrap()),
                capacity: Some(40 << 30),
                ..Claim::default()
            })
            .into(),
    );
    let slots = [("acid_a_0", 1000), ("acid_a_1", 1000), ("acid_a_2", 900), ("acid_a_4", 10)];
    let slots = slots.map(|(name, position)| (name.to_owned(), position)).into();
    let detail = Detail::of(&facts, &policies(), Seen::Known(slots), vitals());
    let addresses = |ordinals: &[i64]| {
        Seen::Known(ordinals.iter().map(|ordinal| format!("10.244.0.{}", 10 + ordinal)).collect())
    };
    let services = Services { leader: addresses(&[0]), replicas: addresses(&[1, 2]) };
    let snapshot = Snapshot { facts: facts.into(), services };
    let missing: Vec<String> = missing.iter().map(|line| (*line).to_owned()).collect();
    let events = Seen::Absent;
    let reach = Reach::default();
    let clues = Clues {
        snapshot: &snapshot,
        missing: &missing,
        events: &events,
        nodes: &[],
        reach: &reach,
    };
    let why = causes(&clues);
    Status {
        why,
        snapshot,
        missing,
        unread: Vec::new(),
        detail: Some(detail),
        events_unread: Some("may not list events".to_owned()),
        more: None,
    }
}

fn plain(text: &str) -> String {
    anstream::adapter::strip_str(text).to_string()
}

/// Returns a synchronous cluster in maintenance mode, one member stalled, one Pending.
fn troubled() -> Status {
    let mut facts = with(stalled(facts(3, 3, 0), 1), 2, |member| {
        member.pod.phase = "Pending".into();
        member.pod.containers_running = false;
        member.pod.waiting = Some("Unschedulable".into());
        member.pod.node = None;
        member.live = Live::Silent("its pod is Pending".into());
        member.report = Seen::Absent;
    });
    if let Seen::Known(configuration) = &mut facts.configuration {
        configuration.paused = true;
        configuration.synchronous = Synchronous::On;
    }
    facts.sync = Seen::Known(SyncState {
        leader: Some("acid-a-0".into()),
        standbys: vec!["acid-a-1".into()],
    });
    status(
        facts,
        &["acid-a-1: 990 bytes behind the leader after a second", "acid-a-2: Unschedulable"],
    )
}

#[test]
fn a_healthy_cluster() {
    let healthy = status(facts(3, 3, 0), &[]);
    insta::assert_snapshot!(plain(&detail(&healthy, false, false, Some(80))), @"
    HEALTHY: db/acid-a has converged on 3 instances
    postgresql db/acid-a
      Version:   PostgreSQL 15.4, 12.3 GiB of data
      Instances: 3
      Leader:    acid-a-0, timeline 1, lock renewed 0s ago
      Patroni:   asynchronous replication
      Operator:  default/postgres-operator, available; it says Running
      Services:  acid-a -> acid-a-0; acid-a-repl -> acid-a-1, acid-a-2
      Backup:    logical not read; WAL last archived 12s ago
      Policy:    min 3 (scalepolicy/production), min 5 (scalepolicy/trial, only
                 warns), max 7 (scalepolicy/production); 4 more may be added, 0 may
                 be removed

    MEMBER     ROLE      HEALTH    STATE       TL   LAG   W/F/R SEC     NODE     AGE
    acid-a-0   leader    healthy   running     1    -     -             node-0   90m
    acid-a-1   replica   healthy   streaming   1    0 B   0.0/0.0/75    node-1   90m
    acid-a-2   replica   healthy   streaming   1    0 B   0.0/0.0/0.3   node-2   90m
    W/F/R SEC: seconds until a replica has written, flushed and replayed WAL

    SLOT       MEMBER             WAL HELD
    acid_a_1   acid-a-1           0 B
    acid_a_2   acid-a-2           100 B
    acid_a_4   acid-a-4, no pod   990 B

    VOLUME            SIZE       MEMBER     STATE          AGE
    pgdata-acid-a-0   40.0 GiB   acid-a-0   in use         94d
    pgdata-acid-a-1   40.0 GiB   acid-a-1   in use         94d
    pgdata-acid-a-2   40.0 GiB   acid-a-2   in use         94d
    pgdata-acid-a-4   40.0 GiB   acid-a-4   kept, no pod   94d

    IF SET TO   VERDICT   RULES
    2           refused   below-min
    4           allowed   -

    HEALTHY: db/acid-a has converged on 3 instances
    ");
    insta::assert_snapshot!(plain(&detail(&healthy, false, true, Some(160))), @"
    HEALTHY: db/acid-a has converged on 3 instances
    postgresql db/acid-a
      Version:   PostgreSQL 15.4, 12.3 GiB of data
      Instances: 3
      Leader:    acid-a-0, timeline 1, lock renewed 0s ago
      Patroni:   asynchronous replication
      Operator:  default/postgres-operator, available; it says Running
      Services:  acid-a -> acid-a-0; acid-a-repl -> acid-a-1, acid-a-2
      Backup:    logical not read; WAL last archived 12s ago
      Policy:    min 3 (scalepolicy/production), min 5 (scalepolicy/trial, only warns), max 7 (scalepolicy/production); 4 more may be added, 0 may be removed

    MEMBER     ROLE      HEALTH    STATE       TL   LAG   W/F/R SEC     SYNC   RECEIVED   REPLAYED   ADDRESS       RESTARTS   NODE     AGE   ZONE
    acid-a-0   leader    healthy   running     1    -     -             -      0/3E8      -          10.244.0.10   0          node-0   90m   -
    acid-a-1   replica   healthy   streaming   1    0 B   0.0/0.0/75    -      0/3E8      0/3E8      10.244.0.11   0          node-1   90m   -
    acid-a-2   replica   healthy   streaming   1    0 B   0.0/0.0/0.3   -      0/3E8      0/3E8      10.244.0.12   0          node-2   90m   -
    W/F/R SEC: seconds until a replica has written, flushed and replayed WAL

    SLOT       MEMBER             WAL HELD   OLDEST NEEDED
    acid_a_1   acid-a-1           0 B        0/3E8
    acid_a_2   acid-a-2           100 B      0/384
    acid_a_4   acid-a-4, no pod   990 B      0/A

    VOLUME            SIZE       MEMBER     STATE          AGE   CREATED
    pgdata-acid-a-0   40.0 GiB   acid-a-0   in use         94d   2026-08-22T10:00:00Z
    pgdata-acid-a-1   40.0 GiB   acid-a-1   in use         94d   2026-08-22T10:00:00Z
    pgdata-acid-a-2   40.0 GiB   acid-a-2   in use         94d   2026-08-22T10:00:00Z
    pgdata-acid-a-4   40.0 GiB   acid-a-4   kept, no pod   94d   2026-08-22T10:00:00Z

    IF SET TO   VERDICT   RULES       LEADER MOVES TO   MESSAGE
    2           refused   below-min   -                 2 instances asked for, 3 is the minimum
    4           allowed   -           -                 -

    HEALTHY: db/acid-a has converged on 3 instances
    ");
}

#[test]
fn a_cluster_in_trouble() {
    insta::assert_snapshot!(plain(&detail(&troubled(), false, false, Some(80))), @"
    DEGRADED: acid-a-2 cannot be scheduled; acid-a-1 does not receive: it lacks
      990 B; and 2 more
    postgresql db/acid-a
      Version:   PostgreSQL 15.4, 12.3 GiB of data
      Instances: 3 declared, 3 effective, 3 in the StatefulSet, 2 running
      Leader:    acid-a-0, timeline 1, lock renewed 0s ago
      Patroni:   synchronous replication, synchronous standbys: acid-a-1, paused: no
                 member takes over
      Operator:  default/postgres-operator, available; it says Running
      Services:  acid-a -> acid-a-0; acid-a-repl -> acid-a-1, acid-a-2
      Backup:    logical not read; WAL last archived 12s ago
      Policy:    min 3 (scalepolicy/production), min 5 (scalepolicy/trial, only
                 warns), max 7 (scalepolicy/production); 4 more may be added, 0 may
                 be removed

    MEMBER    ROLE          HEALTH     STATE          TL  LAG    W/F/R SEC    NODE
    acid-a-0  leader        healthy    running        1   -      -            node-0
    acid-a-1  sync standby  unhealthy  streaming      1   990 B  0.0/0.0/75   node-1
    acid-a-2  replica       unhealthy  Unschedulable  -   -      0.0/0.0/0.3  -
    W/F/R SEC: seconds until a replica has written, flushed and replayed WAL

    SLOT       MEMBER             WAL HELD
    acid_a_1   acid-a-1           0 B
    acid_a_2   acid-a-2           100 B
    acid_a_4   acid-a-4, no pod   990 B

    VOLUME            SIZE       MEMBER     STATE          AGE
    pgdata-acid-a-0   40.0 GiB   acid-a-0   in use         94d
    pgdata-acid-a-1   40.0 GiB   acid-a-1   in use         94d
    pgdata-acid-a-2   40.0 GiB   acid-a-2   in use         94d
    pgdata-acid-a-4   40.0 GiB   acid-a-4   kept, no pod   94d

    IF SET TO   VERDICT               RULES
    2           refused               below-min
    4           allowed, 2 warnings   paused, rebuild-in-progress

    Not converged:
      acid-a-1: 990 bytes behind the leader after a second
      acid-a-2: Unschedulable
    Why, the likeliest first:
      1. acid-a-2 cannot be scheduled
         pod/acid-a-2: status: Unschedulable
         next:
             kubectl describe pod acid-a-2 -n db
      2. acid-a-1 does not receive: it lacks 990 B
         http://10.244.0.11:8008/patroni: acid-a-1: WAL not received after 1s: 990
           bytes
         next:
             kubectl exec acid-a-1 -c postgres -n db -- psql -U postgres -xc 'select * from pg_stat_wal_receiver'
      3. Patroni is paused: it neither starts nor rebuilds a member, and no member
         takes over
         configmap/acid-a-config: pause: true
         next, once it is sure that the pause is not needed any more:
             kubectl exec acid-a-0 -c postgres -n db -- patronictl resume --wait acid-a
      Events cannot be read: may not list events
    DEGRADED: acid-a-2 cannot be scheduled; acid-a-1 does not receive: it lacks
      990 B; and 2 more
    ");
}

#[test]
fn reasons_of_a_cluster_that_has_not_converged() {
    insta::assert_snapshot!(plain(&reasons(&troubled(), true, Some(80))), @"
    Why, the likeliest first:
      1. acid-a-2 cannot be scheduled
         pod/acid-a-2: status: Unschedulable
         next:
             kubectl describe pod acid-a-2 -n db
      2. acid-a-1 does not receive: it lacks 990 B
         http://10.244.0.11:8008/patroni: acid-a-1: WAL not received after 1s: 990
           bytes
         next:
             kubectl exec acid-a-1 -c postgres -n db -- psql -U postgres -xc 'select * from pg_stat_wal_receiver'
      3. Patroni is paused: it neither starts nor rebuilds a member, and no member
         takes over
         configmap/acid-a-config: pause: true
         next, once it is sure that the pause is not needed any more:
             kubectl exec acid-a-0 -c postgres -n db -- patronictl resume --wait acid-a
      Events cannot be read: may not list events
    ");
    let mut healthy = status(facts(3, 3, 0), &[]);
    healthy.events_unread = None;
    insta::assert_snapshot!(plain(&reasons(&healthy, true, Some(80))), @"Nothing keeps it from converging");
}

/// Returns the text with escape codes that a person can read.
fn coloured(text: &str) -> String {
    text.replace('\u{1b}', "^")
}

#[test]
fn colours_mark_values_that_deserve_a_look() {
    insta::assert_snapshot!(coloured(&detail(&troubled(), false, false, Some(80))), @"
    ^[31mDEGRADED^[0m: acid-a-2 cannot be scheduled; acid-a-1 does not receive: it lacks
      990 B; and 2 more
    ^[1mpostgresql db/acid-a^[0m
      Version:   PostgreSQL 15.4, 12.3 GiB of data
      Instances: 3 declared, 3 effective, 3 in the StatefulSet, ^[33m2 running^[0m
      Leader:    acid-a-0, timeline 1, lock renewed 0s ago
      Patroni:   synchronous replication, synchronous standbys: acid-a-1, ^[31mpaused^[0m: no
                 member takes over
      Operator:  default/postgres-operator, available; it says Running
      Services:  acid-a -> acid-a-0; acid-a-repl -> acid-a-1, acid-a-2
      Backup:    logical not read; WAL last archived 12s ago
      Policy:    min 3 (scalepolicy/production), min 5 (scalepolicy/trial, only
                 warns), max 7 (scalepolicy/production); 4 more may be added, 0 may
                 be removed

    MEMBER    ROLE          HEALTH     STATE          TL  LAG    W/F/R SEC    NODE
    acid-a-0  leader        ^[32mhealthy^[0m    running        1   -      -            node-0
    acid-a-1  sync standby  ^[31munhealthy^[0m  streaming      1   990 B  0.0/0.0/75   node-1
    acid-a-2  replica       ^[31munhealthy^[0m  Unschedulable  -   -      0.0/0.0/0.3  -
    W/F/R SEC: seconds until a replica has written, flushed and replayed WAL

    SLOT       MEMBER             WAL HELD
    acid_a_1   acid-a-1           0 B
    acid_a_2   acid-a-2           100 B
    acid_a_4   ^[33macid-a-4, no pod^[0m   990 B

    VOLUME            SIZE       MEMBER     STATE          AGE
    pgdata-acid-a-0   40.0 GiB   acid-a-0   in use         94d
    pgdata-acid-a-1   40.0 GiB   acid-a-1   in use         94d
    pgdata-acid-a-2   40.0 GiB   acid-a-2   in use         94d
    pgdata-acid-a-4   40.0 GiB   acid-a-4   ^[33mkept, no pod^[0m   94d

    IF SET TO   VERDICT               RULES
    2           ^[31mrefused^[0m               below-min
    4           ^[33mallowed, 2 warnings^[0m   paused, rebuild-in-progress

    ^[33mNot converged:^[0m
      acid-a-1: 990 bytes behind the leader after a second
      acid-a-2: Unschedulable
    ^[1mWhy, the likeliest first:^[0m
      1. ^[33macid-a-2 cannot be scheduled^[0m
         pod/acid-a-2: status: Unschedulable
         next:
             kubectl describe pod acid-a-2 -n db
      2. ^[33macid-a-1 does not receive: it lacks 990 B^[0m
         http://10.244.0.11:8008/patroni: acid-a-1: WAL not received after 1s: 990
           bytes
         next:
             kubectl exec acid-a-1 -c postgres -n db -- psql -U postgres -xc 'select * from pg_stat_wal_receiver'
      3. ^[33mPatroni is paused: it neither starts nor rebuilds a member, and no member
         takes over^[0m
         configmap/acid-a-config: pause: true
         next, once it is sure that the pause is not needed any more:
             kubectl exec acid-a-0 -c postgres -n db -- patronictl resume --wait acid-a
      ^[33mEvents cannot be read:^[0m may not list events
    ^[31mDEGRADED^[0m: acid-a-2 cannot be scheduled; acid-a-1 does not receive: it lacks
      990 B; and 2 more
    ");
    insta::assert_snapshot!(coloured(&reasons(&troubled(), true, Some(160))), @"
    ^[1mWhy, the likeliest first:^[0m
      1. ^[33macid-a-2 cannot be scheduled^[0m
         pod/acid-a-2: status: Unschedulable
         next:
             kubectl describe pod acid-a-2 -n db
      2. ^[33macid-a-1 does not receive: it lacks 990 B^[0m
         http://10.244.0.11:8008/patroni: acid-a-1: WAL not received after 1s: 990 bytes
         next:
             kubectl exec acid-a-1 -c postgres -n db -- psql -U postgres -xc 'select * from pg_stat_wal_receiver'
      3. ^[33mPatroni is paused: it neither starts nor rebuilds a member, and no member takes over^[0m
         configmap/acid-a-config: pause: true
         next, once it is sure that the pause is not needed any more:
             kubectl exec acid-a-0 -c postgres -n db -- patronictl resume --wait acid-a
      ^[33mEvents cannot be read:^[0m may not list events
    ");
}

#[test]
fn an_unreadable_cluster_is_named_as_such_and_briefly() {
    let mut blind = facts(3, 3, 0);
    let why = || "forbidden".to_owned();
    blind.members = Seen::Unreadable(why());
    blind.leader = Seen::Unreadable(why());
    blind.operator = Seen::Unreadable(why());
    blind.stateful_set = Seen::Unreadable(why());
    insta::assert_snapshot!(plain(&detail(&status(blind, &["unseen"]), false, false, Some(80))), @"
    DEGRADED: the pods could not be listed, so most causes cannot be found; the
      leader is not known: its lock could not be read; and 1 more
    postgresql db/acid-a
      Version:   PostgreSQL 15 declared, no member answered, 12.3 GiB of data
      Instances: 3 declared, 3 effective, unknown in the StatefulSet, unknown
                 running
      Leader:    unknown: forbidden
      Patroni:   asynchronous replication
      Operator:  cannot be read: forbidden; the cluster says Running
      Services:  acid-a -> 10.244.0.10; acid-a-repl -> 10.244.0.11, 10.244.0.12
      Backup:    logical not read; WAL last archived 12s ago
      Policy:    min 3 (scalepolicy/production), min 5 (scalepolicy/trial, only
                 warns), max 7 (scalepolicy/production); 4 more may be added, 0 may
                 be removed; the operator's own limits cannot be read

    members cannot be listed: forbidden

    SLOT       MEMBER     WAL HELD
    acid_a_0   acid-a-0   -
    acid_a_1   acid-a-1   -
    acid_a_2   acid-a-2   -
    acid_a_4   acid-a-4   -

    VOLUME            SIZE       MEMBER     STATE     AGE
    pgdata-acid-a-0   40.0 GiB   acid-a-0   unknown   94d
    pgdata-acid-a-1   40.0 GiB   acid-a-1   unknown   94d
    pgdata-acid-a-2   40.0 GiB   acid-a-2   unknown   94d
    pgdata-acid-a-4   40.0 GiB   acid-a-4   unknown   94d

    IF SET TO   VERDICT               RULES
    2           refused               below-min, operator-limits,
                                      dcs-store-changing, and 18 more
    4           allowed, not judged   13 rules without facts: forbidden

    Not converged:
      unseen
    Why, the likeliest first:
      1. the pods could not be listed, so most causes cannot be found
         pods: could not be read: forbidden
         next:
             kubectl auth can-i list pods -n db
      2. the leader is not known: its lock could not be read
         configmap/acid-a-leader: could not be read: forbidden
         next:
             kubectl get pods -n db
      3. the StatefulSet cannot be read
         statefulset/acid-a: could not be read: forbidden
         next:
             kubectl auth can-i get statefulsets -n db
      Events cannot be read: may not list events
    DEGRADED: the pods could not be listed, so most causes cannot be found; the
      leader is not known: its lock could not be read; and 1 more
    ");
}

#[tokio::test]
async fn the_verb_reads_one_or_all() {
    let world = World::new(3, 0);
    let (screen, code, why) = run(&world, "status acid-a -o json", None).await;
    assert_eq!((code, why.as_str()), (0, ""));
    let document: Value = serde_json::from_str(&screen.stdout()).unwrap();
    assert_eq!(document["converged"], true);
    assert_eq!(document["members"][1]["state"], "streaming");
    assert_eq!(document["wouldSay"][1]["to"], 4);
    assert_eq!(document["services"]["acid-a-repl"], serde_json::json!(["acid-a-1", "acid-a-2"]));

    let (screen, code, _) = run(&world, "status -A -o json", None).await;
    let document: Value = serde_json::from_str(&screen.stdout()).unwrap();
    assert_eq!((code, &document["kind"]), (0, &Value::from("ScaleStatusList")));
    assert_eq!(document["items"][0]["declared"], 3);
    let (screen, ..) = run(&world, "status -A -o jsonpath={.items[*].members[*].name}", None).await;
    assert_eq!(screen.stdout(), "acid-a-0 acid-a-1 acid-a-2\n");
    let columns = "custom-columns=NAME:.metadata.name,LEADER:.leader,WHY:.why[0].what";
    let (screen, ..) = run(&world, &format!("status acid-a -o {columns}"), None).await;
    assert_eq!(screen.stdout(), "NAME     LEADER     WHY\nacid-a   acid-a-0   <none>\n");
    let (screen, ..) = run(&world, "rules below-min -o jsonpath={.items[0].id}", None).await;
    assert_eq!(screen.stdout(), "below-min\n");
    let (screen, ..) = run(&world, "status -o name", None).await;
    assert_eq!(screen.stdout(), "postgresql.acid.zalan.do/acid-a\n");
}

#[tokio::test]
async fn status_without_reasons_names_the_flag_that_shows_them() {
    let (screen, ..) = run(&World::new(3, 0).quota_spent(), "status acid-a", None).await;
    assert_eq!(screen.stderr(), "");
    let said = screen.stdout();
    assert!(
        said.contains("With Events:\n      kubectl pgscale status acid-a --why -n db\n"),
        "{said}"
    );
}
