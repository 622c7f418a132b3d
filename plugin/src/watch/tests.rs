//! What counts as converged, and what is said of what is missing.

use std::collections::BTreeSet;

use pgscale_guard::facts::{Facts, Live};
use pgscale_guard::patroni::{Role, State};
use pgscale_guard::postgresql::Postgresql;

use super::*;
use crate::testing::{World, facts, object, run, stalled, with};

fn addresses(ordinals: impl IntoIterator<Item = i64>) -> Seen<BTreeSet<String>> {
    Seen::Known(ordinals.into_iter().map(|ordinal| format!("10.244.0.{}", 10 + ordinal)).collect())
}

/// A cluster of `count`, led by 0, and Services that agree.
fn snapshot(facts: Facts, count: i64) -> Snapshot {
    Snapshot { facts, services: Services { leader: addresses([0]), replicas: addresses(1..count) } }
}

fn goal(asked: i64) -> Goal {
    Goal { asked, ..Goal::of_cluster(&Postgresql::of(&object(asked)).unwrap()) }
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
    for (broken, says) in [
        (not_acted, "the StatefulSet still asks for 2 and not 3"),
        (unlabelled, "the leader's label is on nobody"),
        (leaderless, "nobody holds a valid leader lock"),
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
fn of_very_many_pods_that_are_not_there_a_few_are_named() {
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
    let reverted = superseded(&goal, &cluster).unwrap();
    assert_eq!(reverted.kind, Kind::Reverted);
    insta::assert_snapshot!(reverted, @r"
    error: numberOfInstances of postgresql db/acid-a was set back to 3 by argocd-controller; 5 was asked for
    hint: change it where argocd-controller takes it from: spec.numberOfInstances: 5
    ");
    cluster.instances = Some(7);
    assert!(superseded(&goal, &cluster).unwrap().message.contains("was changed to 7"));
    cluster.instances = Some(5);
    assert_eq!(superseded(&goal, &cluster), None);
    cluster.uid = "u2".into();
    assert_eq!(superseded(&goal, &cluster).unwrap().kind, Kind::NotAsPlanned);
}

#[tokio::test]
async fn wait_looks_once_where_told_so() {
    let (screen, code, why) = run(&World::new(3, 0), "wait acid-a --timeout 0", None).await;
    assert_eq!((code, why.as_str()), (0, ""));
    assert_eq!(screen.stdout(), "postgresql/acid-a has converged on 3 instances\n");
    let (_, code, why) =
        run(&World::new(3, 0).stalled(&[2]), "wait acid-a --timeout 0", None).await;
    assert_eq!(code, 4);
    assert!(why.contains("acid-a-2: "), "{why}");
}
