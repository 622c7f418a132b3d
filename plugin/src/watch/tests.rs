//! The conditions of convergence, and the texts about missing ones.

use std::collections::BTreeSet;

use pgscale_guard::facts::{Facts, Live};
use pgscale_guard::patroni::{Role, State};
use pgscale_guard::postgresql::Postgresql;

use super::*;
use crate::plan::FIELD_MANAGER;
use crate::testing::{Stage, World, facts, give, object, run, stalled, with};

fn addresses(ordinals: impl IntoIterator<Item = i64>) -> Seen<BTreeSet<String>> {
    Seen::Known(ordinals.into_iter().map(|ordinal| format!("10.244.0.{}", 10 + ordinal)).collect())
}

/// Returns a cluster of `count`, led by 0, and Services that agree.
fn snapshot(facts: Facts, count: i64) -> Snapshot {
    Snapshot {
        facts: facts.into(),
        services: Services { leader: addresses([0]), replicas: addresses(1..count) },
    }
}

fn goal(count: i64) -> Goal {
    Goal { count, ..Goal::of_cluster(&Postgresql::of(&object(count)).unwrap()) }
}

#[test]
fn a_healthy_cluster_lacks_nothing_and_one_broken_thing_is_named() {
    assert_eq!(missing(&goal(3), &snapshot(facts(3, 3, 0), 3)), [""; 0]);

    let mut not_acted = facts(3, 3, 0);
    if let Seen::Known(set) = &mut not_acted.stateful_set {
        set.replicas = 2;
    }
    let mut unlabelled = facts(3, 3, 0);
    if let Seen::Known(members) = &mut unlabelled.members {
        members[0].pod.role = Some("replica".into());
    }
    let mut leaderless = facts(3, 3, 0);
    leaderless.leader = Seen::Absent;
    let cloning = with(facts(3, 3, 0), 2, |member| {
        if let Live::Answered(answer) = &mut member.live {
            answer.state = State::CreatingReplica;
            answer.role = Role::Uninitialized;
        }
    });
    let archive = with(facts(3, 3, 0), 2, |member| {
        if let Live::Answered(answer) = &mut member.live {
            answer.replication_state = Some("in archive recovery".into());
        }
    });
    let pending = with(facts(3, 3, 0), 2, |member| {
        member.pod.phase = "Pending".into();
        member.pod.containers_running = false;
        member.pod.waiting = Some("0/3 nodes are available".into());
        member.live = Live::Silent("its pod is Pending".into());
    });
    let flagged = with(facts(3, 3, 0), 1, |member| member.pod.rolling_update_required = true);
    for (broken, says) in [
        (flagged, "acid-a-1: the operator will recreate its pod"),
        (not_acted, "the StatefulSet still asks for 2 and not 3"),
        (unlabelled, "the leader's label is on no member"),
        (leaderless, "no member holds a valid leader lock"),
        (cloning, "acid-a-2: being rebuilt"),
        (archive, "acid-a-2: "),
        (pending, "acid-a-2: 0/3 nodes are available"),
        (stalled(facts(3, 3, 0), 1), "acid-a-1: "),
    ] {
        let missing = missing(&goal(3), &snapshot(broken, 3));
        assert!(
            missing.iter().any(|line| line.starts_with(says) || line.contains(says)),
            "{missing:?}"
        );
    }
}

#[test]
fn pods_and_services_must_match_exactly() {
    let gone = missing(&goal(3), &snapshot(facts(2, 3, 0), 2));
    assert!(gone.contains(&"acid-a-2: no pod yet".to_owned()), "{gone:?}");
    let surplus = missing(&goal(2), &snapshot(facts(3, 2, 0), 3));
    assert!(surplus.contains(&"acid-a-2: still there".to_owned()), "{surplus:?}");
    assert!(
        surplus.contains(&"service acid-a-repl still leads to acid-a-2".to_owned()),
        "{surplus:?}"
    );
    let mut late = snapshot(facts(3, 3, 0), 3);
    late.services.replicas = addresses([1]);
    assert_eq!(missing(&goal(3), &late), ["service acid-a-repl does not lead to acid-a-2 yet"]);
    late.services.replicas = Seen::Unreadable("may not read endpointslices".into());
    assert_eq!(missing(&goal(3), &late), [""; 0]);
}

#[test]
fn only_a_few_of_many_missing_pods_are_named() {
    let most = i64::from(i32::MAX);
    let mut goal = goal(most);
    goal.unfit.insert("acid-a-5".into());
    let missing = missing(&goal, &snapshot(facts(2, most, 0), 2));
    let absent: Vec<&String> = missing.iter().filter(|line| line.contains("pod")).collect();
    assert_eq!(absent.len(), 11, "{absent:?}");
    assert_eq!(
        (absent[0].as_str(), absent[9].as_str()),
        ("acid-a-2: no pod yet", "acid-a-12: no pod yet")
    );
    assert_eq!(absent[10], "and 2147483634 more without a pod");
}

#[test]
fn members_unfit_before_are_not_waited_for() {
    let broken = snapshot(stalled(facts(3, 3, 0), 2), 3);
    let mut goal = goal(3);
    assert_eq!(missing(&goal, &broken).len(), 1);
    goal.unfit.insert("acid-a-2".into());
    assert_eq!(missing(&goal, &broken), [""; 0]);
}

#[test]
fn a_revert_names_the_last_writer() {
    let mut goal = goal(5);
    goal.before = Some(3);
    let mut cluster = Postgresql::of(&object(3)).unwrap();
    cluster.count_managers = vec![
        (FIELD_MANAGER.into(), "Update".into(), None),
        ("argocd-controller".into(), "Apply".into(), None),
    ];
    let reverted = superseded(&goal, &cluster, FIELD_MANAGER).unwrap();
    assert_eq!(reverted.kind, Kind::Reverted);
    insta::assert_snapshot!(reverted, @r"
    error: numberOfInstances of postgresql db/acid-a was set back to 3 by argocd-controller; 5 was asked for
    hint: change it where argocd-controller takes it from: spec.numberOfInstances: 5
    ");
    cluster.instances = Some(7);
    assert!(
        superseded(&goal, &cluster, FIELD_MANAGER).unwrap().message.contains("was changed to 7")
    );
    cluster.instances = Some(5);
    assert_eq!(superseded(&goal, &cluster, FIELD_MANAGER), None);
    cluster.uid = "u2".into();
    assert_eq!(superseded(&goal, &cluster, FIELD_MANAGER).unwrap().kind, Kind::NotAsPlanned);
}

#[tokio::test]
async fn wait_without_a_timeout_looks_once() {
    let (screen, code, why) = run(&World::new(3, 0), "wait acid-a --timeout 0", None).await;
    assert_eq!((code, why.as_str()), (0, ""));
    assert_eq!(screen.stdout(), "postgresql/acid-a has converged on 3 instances\n");
    let (_, code, why) =
        run(&World::new(3, 0).stalled(&[2]), "wait acid-a --timeout 0", None).await;
    assert_eq!(code, 4);
    assert!(why.contains("acid-a-2: "), "{why}");
}

/// Returns the text for the person after the plan, without durations.
fn said(stderr: &str) -> String {
    let lines = stderr.lines().skip_while(|line| !line.starts_with("numberOfInstances"));
    let plain = lines.map(|line| {
        let line =
            line.split_once("s] ").filter(|_| line.starts_with('[')).map_or(line, |(_, what)| what);
        let line = line.split_once(", about ").map_or(line, |(before, _)| before);
        if line.starts_with("acid-a-3 ") {
            // A row of the timeline.
            let cells = line.split_whitespace();
            return cells
                .map(|cell| if cell.parse::<f64>().is_ok() { "#" } else { cell })
                .collect::<Vec<_>>()
                .join(" ");
        }
        line.to_owned()
    });
    plain.collect::<Vec<_>>().join("\n")
}

const MIB: u64 = 1 << 20;

#[tokio::test]
async fn timeline_is_printed_line_by_line_without_live_lines() {
    let world = World::new(3, 0).growing(&[
        (Stage::Absent, 1),
        (Stage::Unscheduled, 3),
        (Stage::Waiting("ContainerCreating"), 2),
        (Stage::Started(0), 2),
        (Stage::Empty, 2),
        (Stage::Cloning(71, 5 * MIB, Some(100 * MIB)), 5),
        (Stage::Cloning(71, 55 * MIB, Some(100 * MIB)), 5),
        (Stage::Cloning(72, 0, Some(100 * MIB)), 5),
        (Stage::Cloning(72, 98 * MIB, Some(100 * MIB)), 5),
        (Stage::Streaming, 2),
        (Stage::Serving, 1),
    ]);
    let (screen, code, why) = run(&world, "up acid-a", None).await;
    assert_eq!((code, why.as_str()), (0, ""));
    insta::assert_snapshot!(said(&screen.stderr()), @r"
    numberOfInstances is 4
    acid-a-3: pod created, waiting: 0/3 nodes are available: 3 Insufficient cpu
    acid-a-3: pod created, waiting: container postgres: ContainerCreating
    acid-a-3: container started
    acid-a-3: replication configured
    acid-a-3: base backup
    acid-a-3: base backup, 5 % of 100.0 MiB
    acid-a-3: base backup, 55 % of 100.0 MiB
    acid-a-3: base backup started again, attempt 2
    acid-a-3: its log says: pg_basebackup: error: connection to server failed: FATAL: no pg_hba.conf entry
    acid-a-3: base backup, 0 % of 100.0 MiB
    acid-a-3: base backup, 98 % of 100.0 MiB
    acid-a-3: streaming
    acid-a-3: in service as replica
    Timeline, in seconds since the count was written:
    MEMBER     CREATED   SCHEDULED   STARTED   CONFIGURED   BASE BACKUP   STREAMING   IN SERVICE
    acid-a-3 # # # # # # #
    ");
    assert_eq!(world.requested(), (0, 1), "Events of a growth that gets on were read");
}

#[tokio::test]
async fn timeline_is_drawn_on_a_terminal_and_the_table_stays() {
    let world = World::new(3, 0).growing(&[
        (Stage::Unscheduled, 3),
        (Stage::Cloning(71, 55 * MIB, Some(100 * MIB)), 5),
        (Stage::Serving, 1),
    ]);
    let screen = crate::terminal::testing::Screen::default();
    let mut session = world.session(&screen, None);
    session.out = std::sync::Arc::new(screen.terminal(120));
    give(&session, "up acid-a -o json").await.unwrap();
    let drawn = anstream::adapter::strip_str(&screen.stderr()).to_string();
    let lines: Vec<&str> = drawn.lines().collect();
    let has =
        |words: &[&str]| lines.iter().any(|line| words.iter().all(|word| line.contains(word)));
    assert!(has(&["acid-a-3  base backup", " 55 %", "of 100.0 MiB"]), "{drawn}");
    assert!(has(&["] acid-a-3: pod created, waiting: 0/3 nodes"]), "{drawn}");
    assert!(!has(&["] acid-a-3: base backup"]), "said twice: {drawn}");
    let table = drawn.rsplit("<up 1>").next().unwrap().rsplit("<clear>").next().unwrap();
    assert!(table.starts_with("Timeline") && table.lines().count() == 3, "{drawn}");
    // The report holds everything that was only drawn.
    let report: serde_json::Value = serde_json::from_str(&screen.stdout()).unwrap();
    let events: Vec<_> =
        report["events"].as_array().unwrap().iter().map(|it| &it["what"]).collect();
    assert!(events.contains(&&serde_json::json!("acid-a-3: base backup")), "{events:?}");
}

#[tokio::test]
async fn a_member_that_never_comes_is_explained_when_time_is_up() {
    let world = World::new(3, 0).growing(&[(Stage::Absent, 30), (Stage::Unscheduled, 1)]);
    let (screen, code, why) = run(&world, "up acid-a --timeout 3s", None).await;
    assert_eq!(code, 4);
    insta::assert_snapshot!(said(&screen.stderr()), @r#"
    numberOfInstances is 4
    acid-a: FailedCreate: create Pod acid-a-3 in StatefulSet acid-a failed error: pods "acid-a-3" is forbidden: exceeded quota: small
    acid-a: Update: Scaling the StatefulSet
    acid-a-3: pod created, waiting: 0/3 nodes are available: 3 Insufficient cpu
    acid-a-3: FailedBinding: no volume fits the claim
    Timeline, in seconds since the count was written:
    MEMBER     CREATED   SCHEDULED   STARTED   CONFIGURED   BASE BACKUP   STREAMING   IN SERVICE
    acid-a-3 # - - - - - -
    "#);
    insta::assert_snapshot!(without_spans(&why), @"
    error: NOT DONE 3 -> 4: postgresql db/acid-a has not converged within 3s; the change continues
    Missing:
      acid-a-3: 0/3 nodes are available: 3 Insufficient cpu
      acid-a-3: FailedBinding: no volume fits the claim
    Where it stands, and where to look:
      acid-a-3: pod created, waiting: 0/3 nodes are available: 3 Insufficient cpu, for ...
        kubectl describe pod acid-a-3 -n db
    hint: first see why:
        kubectl pgscale status acid-a --why -n db
    hint: then wait on:
        kubectl pgscale wait acid-a -n db
    NOT DONE 3 -> 4: postgresql db/acid-a has not converged within 3s; the change continues
    ");
}

#[tokio::test]
async fn a_base_backup_that_fails_is_explained_by_its_log() {
    let world = World::new(3, 0).growing(&[
        (Stage::Cloning(0, 0, None), 3),
        (Stage::Started(1), 2),
        (Stage::Waiting("CrashLoopBackOff"), 1),
    ]);
    let (screen, code, why) = run(&world, "up acid-a --timeout 1s", None).await;
    assert_eq!(code, 4);
    insta::assert_snapshot!(said(&screen.stderr()), @r"
    numberOfInstances is 4
    acid-a-3: base backup
    acid-a-3: base backup, streaming database files
    acid-a-3: container started
    acid-a-3: its container was restarted (1 so far)
    acid-a-3: its log says: pg_basebackup: error: connection to server failed: FATAL: no pg_hba.conf entry
    acid-a-3: pod created, waiting: container postgres: CrashLoopBackOff
    Timeline, in seconds since the count was written:
    MEMBER     CREATED   SCHEDULED   STARTED   CONFIGURED   BASE BACKUP   STREAMING   IN SERVICE
    acid-a-3 # # # - - - -
    ");
    insta::assert_snapshot!(without_spans(&why), @"
    error: NOT DONE 3 -> 4: postgresql db/acid-a has not converged within 1s; the change continues
    Missing:
      acid-a-3: container postgres: CrashLoopBackOff
      acid-a-3: its log says: pg_basebackup: error: connection to server failed: FATAL: no pg_hba.conf entry
    Where it stands, and where to look:
      acid-a-3: pod created, waiting: container postgres: CrashLoopBackOff, for ...
        kubectl logs acid-a-3 -c postgres --previous --tail=50 -n db
    hint: first see why:
        kubectl pgscale status acid-a --why -n db
    hint: then wait on:
        kubectl pgscale wait acid-a -n db
    NOT DONE 3 -> 4: postgresql db/acid-a has not converged within 1s; the change continues
    ");
}

#[tokio::test]
async fn missing_permission_shows_fewer_details_and_one_message() {
    let world = World::new(3, 0)
        .growing(&[
            (Stage::Unscheduled, 25),
            (Stage::Cloning(71, 0, None), 12),
            (Stage::Started(1), 1),
            (Stage::Serving, 1),
        ])
        .without_permissions();
    let (screen, code, why) = run(&world, "up acid-a", None).await;
    assert_eq!((code, why.as_str()), (0, ""));
    insta::assert_snapshot!(said(&screen.stderr()), @r"
    numberOfInstances is 4
    acid-a-3: pod created, waiting: 0/3 nodes are available: 3 Insufficient cpu
    acid-a-3: base backup
    note: the progress of base backups cannot be seen: pods/exec is not permitted
    acid-a-3: container started
    acid-a-3: its container was restarted (1 so far)
    acid-a-3: in service as replica
    Timeline, in seconds since the count was written:
    MEMBER     CREATED   SCHEDULED   STARTED   CONFIGURED   BASE BACKUP   STREAMING   IN SERVICE
    acid-a-3 # # # # # # #
    ");
    assert_eq!(world.requested(), (1, 1), "asked again after a no");
}

#[tokio::test]
async fn the_report_for_machines_holds_the_timeline() {
    let world =
        World::new(3, 0).growing(&[(Stage::Absent, 2), (Stage::Empty, 2), (Stage::Serving, 1)]);
    let (screen, code, _) = run(&world, "up acid-a -o json", None).await;
    assert_eq!(code, 0);
    let report: serde_json::Value = serde_json::from_str(&screen.stdout()).unwrap();
    let timeline = &report["timeline"][0];
    assert_eq!(timeline["member"], "acid-a-3");
    let phases: Vec<_> =
        timeline["phases"].as_array().unwrap().iter().map(|it| &it["phase"]).collect();
    assert_eq!(
        phases,
        [
            "PodCreated",
            "Scheduled",
            "ContainerStarted",
            "ReplicationConfigured",
            "Streaming",
            "InService"
        ]
    );
}

/// Removes durations, which differ from run to run.
fn without_spans(text: &str) -> String {
    text.split(", for ")
        .enumerate()
        .map(|(part, text)| {
            let rest = if part == 0 {
                text
            } else {
                text.trim_start_matches(|it: char| it.is_ascii_digit())
            };
            rest.strip_prefix('s').filter(|_| part > 0).unwrap_or(rest)
        })
        .collect::<Vec<_>>()
        .join(", for ...")
}
