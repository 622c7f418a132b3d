use super::*;
use crate::testing::{Mishap, World, run};

#[tokio::test]
async fn one_table_one_question_one_code() {
    let world = World::new(3, 2).with_another();
    let (screen, code, failure) = run(&world, "down -l team=acid", Some("y\n")).await;
    assert_eq!(code, 1, "{failure}");
    // How long a move in memory takes, and whether its pause is seen, differs from run to run.
    let said = screen.stderr();
    let lines = said.lines().take(12).filter(|line| !line.contains("leads, by lock"));
    insta::assert_snapshot!(lines.collect::<Vec<_>>().join("\n"), @"
    NAMESPACE   NAME     CHANGE   LEADER     MOVES TO   VERDICT
    db          acid-a   3 -> 2   acid-a-2   acid-a-0   allowed
    db          acid-b   -        -          -          failed
    db/acid-b:
      postgresql db/acid-b is being deleted
    Remove 1 instance from 1 cluster? [y/N] db/acid-a: CHECKPOINT on acid-a-2 ...
    db/acid-a: switching over from acid-a-2 to acid-a-0 ...
    db/acid-a: numberOfInstances is 2
    ");
    let told = screen.stdout();
    assert!(told.contains("acid-a   3 -> 2   Converged"), "{told}");
    assert!(told.contains("acid-b   -        Failed"), "{told}");
    assert_eq!(world.writes().len(), 1);
    assert_eq!(world.leader(), 0);
}

#[tokio::test]
async fn nothing_begins_where_one_is_refused_and_errors_stop() {
    let world = World::new(3, 0).with_another();
    let (screen, code, _) = run(&world, "down -A --yes --stop-on-error -o json", None).await;
    assert_eq!((code, world.writes().len()), (1, 0));
    let list: serde_json::Value = serde_json::from_str(&screen.stdout()).unwrap();
    assert_eq!(list["kind"], "ScaleReportList");
    assert_eq!(list["items"][0]["result"], "Declined");
    assert_eq!(list["items"][1]["result"], "Failed");
}

#[tokio::test]
async fn a_failure_of_one_is_told_with_its_name_and_does_not_stop_another() {
    // acid-a is refused by the webhook, and acid-b is being deleted.
    let world = World::new(3, 0).with_another().with(Mishap::Denial);
    let (screen, code, failure) = run(&world, "up -A --max-parallel 2", None).await;
    assert_ne!(code, 0);
    assert!(failure.contains("2 of 2 clusters are not what was asked for"), "{failure}");
    assert!(screen.stdout().contains("acid-a   3 -> 4"), "{}", screen.stdout());
}

#[tokio::test]
async fn zero_is_confirmed_one_at_a_time() {
    let world = World::new(3, 0).zero_allowed();
    let (screen, code, _) = run(&world, "down -A --to 0 --yes", None).await;
    assert_eq!((code, world.writes().len()), (3, 0));
    assert!(
        screen.stderr().contains("a change to 0 is confirmed one cluster at a time"),
        "{}",
        screen.stderr()
    );
}

#[tokio::test]
async fn without_a_terminal_nothing_is_removed() {
    let world = World::new(3, 0);
    let (_, code, failure) = run(&world, "set -A --to 2", None).await;
    assert_eq!((code, world.writes().len()), (7, 0), "{failure}");
}

#[test]
fn what_needs_a_person_most_decides_the_code() {
    let of = |kinds: &[Kind]| {
        let failures: Vec<Failure> =
            kinds.iter().map(|kind| Failure::new(*kind, "it failed")).collect();
        worst(&failures.iter().collect::<Vec<_>>())
    };
    assert_eq!(of(&[]), None);
    assert_eq!(of(&[Kind::Declined, Kind::Refused]), Some(Kind::Refused));
    assert_eq!(of(&[Kind::Timeout, Kind::Error, Kind::Refused]), Some(Kind::Error));
    assert_eq!(of(&[Kind::Reverted, Kind::NotAsPlanned]), Some(Kind::NotAsPlanned));
}
