//! `up`, `down` and `set` on the clusters that labels choose.

use pgscale_guard::{Policies, Seen};

use super::super::agreement::question;
use super::super::conclude::worst;
use crate::error::{Failure, Kind};
use crate::plan::Plan;
use crate::testing::{Mishap, World, facts, run};

#[tokio::test]
async fn one_table_one_question_one_code() {
    let world = World::new(3, 2).with_another();
    let (screen, code, failure) = run(&world, "down -l team=acid", Some("y\n")).await;
    assert_eq!(code, 1, "{failure}");
    // The duration of a move in memory, and the sight of its pause, differ from run to run.
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
    db/acid-a: acid-a-0 leads (lock, label and Patroni agree), 0.0s after the request; writes stopped for 0.0s at most
    db/acid-a: numberOfInstances is 2
    ");
    let reported = screen.stdout();
    assert!(reported.contains("acid-a   3 -> 2   Converged"), "{reported}");
    assert!(reported.contains("acid-b   -        Failed"), "{reported}");
    assert_eq!(world.writes().len(), 1);
    assert_eq!(world.leader(), 0);
}

#[tokio::test]
async fn nothing_begins_where_one_is_refused_and_errors_stop() {
    let world = World::new(3, 0).with_another();
    let (screen, code, _) =
        run(&world, "down -l team=acid -A --yes --stop-on-error -o json", None).await;
    assert_eq!((code, world.writes().len()), (1, 0));
    let list: serde_json::Value = serde_json::from_str(&screen.stdout()).unwrap();
    assert_eq!(list["kind"], "ScaleReportList");
    assert_eq!(list["items"][0]["result"], "Declined");
    assert_eq!(list["items"][1]["result"], "Failed");
}

#[tokio::test]
async fn a_failure_of_one_is_named_and_does_not_stop_another() {
    // acid-a is refused by the webhook, and acid-b is being deleted.
    let world = World::new(3, 0).with_another().with(Mishap::Denial);
    let (screen, code, failure) =
        run(&world, "up -l team=acid -A --max-parallel 2 --yes", None).await;
    assert_ne!(code, 0);
    assert!(failure.contains("2 of 2 clusters are not what was asked for"), "{failure}");
    assert!(screen.stdout().contains("acid-a   3 -> 4"), "{}", screen.stdout());
}

#[tokio::test]
async fn zero_is_confirmed_one_at_a_time() {
    let world = World::new(3, 0).zero_allowed();
    let (screen, code, _) = run(&world, "down -l team=acid -A --to 0 --yes", None).await;
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
    let (_, code, failure) = run(&world, "set -l team=acid -A --to 2", None).await;
    assert_eq!((code, world.writes().len()), (7, 0), "{failure}");
}

#[tokio::test]
async fn an_answer_that_is_no_is_reported_for_every_cluster() {
    let world = World::new(3, 0).with_another();
    let (screen, code, failure) = run(&world, "up -l team=acid -A -o json", None).await;
    assert_eq!((code, world.writes().len()), (7, 0), "{failure}");
    let list: serde_json::Value = serde_json::from_str(&screen.stdout()).unwrap();
    let ends = ["Declined", "Failed"];
    assert_eq!([&list["items"][0]["result"], &list["items"][1]["result"]], ends);
    for format in ["text", "name"] {
        let line = format!("up -l team=acid -A -o {format}");
        let (screen, code, _) = run(&world, &line, None).await;
        assert_eq!((code, screen.stdout().as_str()), (7, ""), "{format}");
    }
}

#[tokio::test]
async fn several_clusters_are_always_asked_about_growth_included() {
    for (line, person, want) in [
        ("up -l team=acid", None, 7),
        ("up -l team=acid -A", None, 7),
        ("set -l team=acid --to 4", None, 7),
        ("up -l team=acid", Some("n\n"), 7),
        // One of the two cannot be changed at all.
        ("up -l team=acid", Some("y\n"), 1),
        ("up -l team=acid --yes", None, 1),
    ] {
        let world = World::new(3, 0).with_another();
        let (screen, code, failure) = run(&world, line, person).await;
        assert_eq!((code, world.writes().len()), (want, usize::from(want != 7)), "{line}");
        let asked = screen.stderr().contains("Add 1 instance to 1 cluster? [y/N]");
        assert_eq!(asked, person.is_some(), "{line}: {}", screen.stderr());
        if want == 7 && person.is_none() {
            insta::allow_duplicates! {
                insta::assert_snapshot!(failure, @"
                error: 1 cluster would be changed, and there is no terminal to ask on; nothing was changed
                hint: add --yes
                ");
            }
        }
    }
    // Dry runs change nothing, and ask nothing.
    let world = World::new(3, 0).with_another();
    let (_, code, _) = run(&world, "up -l team=acid --dry-run=client", None).await;
    assert_eq!((code, world.writes().len()), (1, 0));
}

#[tokio::test]
async fn labels_that_find_one_cluster_ask_what_its_name_would() {
    let judged = World::new(3, 0);
    let (_, code, failure) = run(&judged, "up -l team=acid --wait=false", None).await;
    assert_eq!((code, judged.declared()), (0, 4), "{failure}");
    let unjudged = World::new(3, 0).hiding(&["persistentvolumeclaims"]);
    let (_, code, failure) = run(&unjudged, "up -l team=acid --wait=false", None).await;
    assert_eq!((code, unjudged.declared()), (7, 3), "{failure}");
}

#[tokio::test]
async fn growth_judged_when_shown_and_not_since_is_not_carried_out() {
    for (flags, want) in [("", 3), ("--yes", 4)] {
        let world = World::new(3, 0).with_another().with(Mishap::HiddenClaimsAtPrompt);
        let line = format!("up -l team=acid --wait=false {flags}");
        let (screen, ..) = run(&world, &line, Some("y\n")).await;
        assert_eq!(world.declared(), want, "{flags}: {}", screen.stderr());
        let refused = screen.stderr().contains("volume-resizing could be judged then, and not now");
        assert_eq!(refused, flags.is_empty(), "{}", screen.stderr());
    }
}

/// `--yes` answers the question, and not the number of clusters.
#[tokio::test]
async fn more_than_three_clusters_are_confirmed_by_their_number() {
    for (flags, person, want) in [
        ("", None, 7),
        ("--yes", None, 7),
        ("--yes", Some("y\n"), 7),
        ("", Some("4\n"), 7),
        ("--confirm=4-clusters", None, 7),
        ("--yes --confirm=all", None, 7),
        ("", Some("5\n"), 0),
        ("--confirm=5-clusters", None, 0),
        ("--yes --confirm=5-clusters", None, 0),
        ("--dry-run=client", None, 0),
    ] {
        for verb in ["up", "set --to 4"] {
            let world = World::new(3, 0).with_fleet(5);
            let line = format!("{verb} --all -A --wait=false {flags}");
            let (screen, code, failure) = run(&world, &line, person).await;
            // The clusters share one object. After the first write the others are as asked for,
            // or not as they were shown.
            assert_eq!(code == 7, want == 7, "{line} {person:?}: {failure}");
            let written = want == 0 && !flags.contains("dry-run");
            assert_eq!(!world.writes().is_empty(), written, "{line} {person:?}");
            if person == Some("5\n") {
                let question = "Add 5 instances to 5 clusters? Type 5 to confirm:";
                assert!(screen.stderr().contains(question), "{}", screen.stderr());
            }
            if (flags, person) == ("--yes", None) {
                insta::allow_duplicates! {
                    insta::assert_snapshot!(failure, @"
                    error: 5 clusters would be changed, and that must be confirmed by their number; nothing was changed
                    hint: add --confirm=5-clusters
                    ");
                }
            }
        }
    }
    let three = World::new(3, 0).with_fleet(3);
    let (_, code, failure) = run(&three, "up --all -A --wait=false --yes", None).await;
    assert_eq!((code == 7, three.writes().len()), (false, 1), "{failure}");
}

#[test]
fn the_question_counts_what_is_added_removed_and_not_judged() {
    let plan = |from, to| Plan::of(&facts(from, to, 0), &Policies::default());
    let mut blind = facts(3, 4, 0);
    blind.claims = Seen::Unreadable("forbidden".to_owned());
    let blind = Plan::of(&blind, &Policies::default());
    let plans = [plan(3, 5), plan(3, 4), plan(5, 4), plan(3, 3), blind];
    let plans: Vec<&Plan> = plans.iter().collect();
    assert_eq!(
        question(&plans),
        "Add 4 instances to 3 clusters and remove 1 instance from 1 cluster and write \
         numberOfInstances of 1 cluster, although not every rule could be judged for 1 cluster?"
    );
    assert_eq!(question(&plans[..1]), "Add 2 instances to 1 cluster?");
}

#[test]
fn the_failure_that_needs_a_person_most_decides_the_code() {
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
