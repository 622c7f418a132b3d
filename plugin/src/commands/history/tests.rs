use std::time::Duration;

use serde_json::json;
use tokio::time::sleep;

use crate::testing::{Mishap, World, run};

/// Returns `text` without times, delays and numbers of looks, which differ from run to run.
fn timeless(text: &str) -> String {
    let varies = |word: &str| {
        let number = word.trim_end_matches(',');
        let time = word.strip_suffix('s').is_some_and(|time| time.parse::<f64>().is_ok());
        time || word.ends_with('Z')
            || word.contains("Z-")
            || number.contains('.') && number.parse::<f64>().is_ok()
    };
    let line = |line: &str| {
        let words = line.split(' ').map(|word| if varies(word) { "N" } else { word });
        words.collect::<Vec<_>>().join(" ")
    };
    let switchover = |text: String| match text.split_once("after the request; ") {
        Some((before, _)) => format!("{before}after the request; ... |"),
        None => text,
    };
    text.lines().map(|text| switchover(line(text))).collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn a_change_is_recorded_with_its_reason_and_taken_back() {
    let world = World::new(5, 4);
    let line = "down acid-a --to 3 --yes --reason night";
    assert_eq!(run(&world, line, None).await.1, 0);
    let recorded = world.recorded();
    assert_eq!(recorded.len(), 1, "intent and outcome are one entry");
    let entry = &recorded[0];
    for (key, want) in [
        ("who", json!("dba")),
        ("reason", json!("night")),
        ("from", json!(5)),
        ("to", json!(3)),
        ("leaderFrom", json!("acid-a-4")),
        ("leaderTo", json!("acid-a-0")),
        ("result", json!("Converged")),
        ("written", json!(true)),
        ("leaderlessSeconds", json!(0.0)),
    ] {
        assert_eq!(entry[key], want, "{key} of {entry}");
    }
    let owner = &world.history().unwrap()["metadata"]["ownerReferences"][0];
    assert_eq!((&owner["kind"], &owner["uid"]), (&json!("postgresql"), &json!("u1")));
    assert!(world.events()[0].starts_with("numberOfInstances 5 -> 3, leader acid-a-4 -> acid-a-0"));

    let (screen, code, failure) = run(&world, "undo acid-a", None).await;
    assert_eq!((code, world.declared()), (0, 5), "{failure}");
    assert!(screen.stderr().contains("taking back the change of "), "{}", screen.stderr());
    assert_eq!(world.recorded()[1]["undoes"], entry["id"]);

    let (screen, ..) = run(&world, "history acid-a -o json", None).await;
    let list: serde_json::Value = serde_json::from_str(&screen.stdout()).unwrap();
    assert_eq!((&list["kind"], &list["items"][1]["to"]), (&json!("ScaleHistory"), &json!(3)));
}

#[tokio::test]
async fn refusals_and_failures_are_recorded_as_such() {
    let world = World::new(3, 0).with(Mishap::Denial);
    assert_eq!(run(&world, "up acid-a", None).await.1, 3);
    let entry = &world.recorded()[0];
    assert_eq!((&entry["result"], &entry["written"]), (&json!("Refused"), &json!(false)));
    let world = World::new(3, 0).with(Mishap::LostBefore);
    assert_eq!(run(&world, "up acid-a", None).await.1, 1);
    assert_eq!(world.recorded()[0]["written"], json!(null), "it may arrive later");
    // A refused plan, a declined question and a dry run changed nothing and leave no entry.
    let world = World::new(3, 0).stalled(&[1]);
    assert_eq!(run(&world, "down acid-a --yes", None).await.1, 3);
    assert_eq!(run(&World::new(3, 0), "down acid-a", None).await.1, 7);
    assert_eq!(world.recorded(), [json!(null); 0]);
}

#[tokio::test]
async fn a_record_follows_the_acts_and_not_the_exit_code() {
    let moved = || (json!("acid-a-4"), json!("acid-a-0"));
    let kept = || (json!(null), json!(null));
    for (mishap, result, written, lead) in [
        // Nothing was done.
        (Mishap::FailoverAtCheckpoint, "Refused", json!(false), kept()),
        (Mishap::SwitchoverRefused, "Refused", json!(false), kept()),
        (Mishap::Denial, "Refused", json!(false), kept()),
        (Mishap::DryRunUnsupported, "Failed", json!(false), kept()),
        (Mishap::Recreated, "Failed", json!(false), kept()),
        // The leader moved, and then something stopped the count.
        (Mishap::NobodyFollows, "NotAsPlanned", json!(false), moved()),
        (Mishap::CountedDuringSwitchover(7), "NotAsPlanned", json!(false), moved()),
        (Mishap::DenialAfterDryRun, "NotAsPlanned", json!(false), moved()),
        (Mishap::RecreatedAfterDryRun, "NotAsPlanned", json!(false), moved()),
        (Mishap::LostBefore, "NotAsPlanned", json!(null), moved()),
    ] {
        let world = World::new(5, 4).with(mishap);
        let (screen, ..) = run(&world, "down acid-a --to 3 --yes -o json", None).await;
        let entry = &world.recorded()[0];
        assert_eq!(entry["result"], result, "{mishap:?}: {entry}");
        assert_eq!(entry["written"], written, "{mishap:?}: {entry}");
        assert_eq!((entry["leaderFrom"].clone(), entry["leaderTo"].clone()), lead, "{mishap:?}");
        let report: serde_json::Value = serde_json::from_str(&screen.stdout()).unwrap();
        assert_eq!(report["leaderMoved"]["to"], lead.1, "{mishap:?}");
    }
}

#[tokio::test]
async fn a_failed_act_is_not_shown_as_done() {
    let world = World::new(5, 4).with(Mishap::SwitchoverRefused);
    assert_eq!(run(&world, "down acid-a --to 3 --yes", None).await.1, 3);
    let world = world.with(Mishap::NobodyFollows);
    assert_eq!(run(&world, "down acid-a --to 3 --yes", None).await.1, 5);
    let (screen, ..) = run(&world, "history acid-a", None).await;
    insta::assert_snapshot!(timeless(&screen.stdout()), @"
    AGE   WHO   CHANGE                       LEADER                 RESULT         TOOK   REASON
    N    dba   not changed (5 -> 3 asked)   acid-a-4 -> acid-a-0   NotAsPlanned   N   -
    N    dba   not changed (5 -> 3 asked)   -                      Refused        N   -
    ");
    let reported: Vec<String> = world
        .events()
        .iter()
        .map(|note| note.split(" by dba").next().unwrap().to_owned())
        .collect();
    insta::assert_snapshot!(reported.join("\n"), @"
    numberOfInstances not changed (5 -> 3 asked)
    numberOfInstances not changed (5 -> 3 asked), leader acid-a-4 -> acid-a-0
    ");
}

#[tokio::test]
async fn a_report_of_a_failure_after_the_move_names_the_move() {
    let world = World::new(5, 4).with(Mishap::NobodyFollows);
    let (screen, code, _) = run(&world, "down acid-a --to 3 --yes --report md", None).await;
    assert_eq!(code, 5);
    let page = timeless(&screen.stdout());
    assert!(page.contains("| Leader | acid-a-4 -> acid-a-0 |"), "{page}");
    assert!(page.contains("| numberOfInstances | not changed (5 -> 3 asked) |"), "{page}");
    let world = World::new(5, 4).with(Mishap::FailoverAtCheckpoint);
    let (screen, ..) = run(&world, "down acid-a --to 3 --yes --report md", None).await;
    let page = screen.stdout();
    assert!(
        page.contains("| Leader | acid-a-4 when planned; not moved by this change |"),
        "{page}"
    );
}

#[tokio::test]
async fn entries_that_wrote_nothing_do_not_block_an_undo() {
    let world = World::new(3, 0);
    assert_eq!(run(&world, "up acid-a --to 5", None).await.1, 0);
    // An error of the API server after which nothing can still arrive, and a refusal after a move.
    let forbidden = world.clone().denied(&["review", "patch postgresqls"]);
    assert_eq!(run(&forbidden, "up acid-a --to 6", None).await.1, 1);
    world.clone().denied(&[]).lead(4);
    let unfollowed = world.clone().with(Mishap::DenialAfterDryRun);
    assert_eq!(run(&unfollowed, "down acid-a --yes", None).await.1, 5);
    assert_eq!(run(&world, "switchover acid-a", None).await.1, 0);
    let written: Vec<_> = world.recorded().iter().map(|it| it["written"].clone()).collect();
    assert_eq!(written, [true, false, false, false]);
    // The undo succeeds in spite of this mishap.
    let (_, code, why) =
        run(&world.clone().with(Mishap::Conflict), "undo acid-a --yes", None).await;
    assert_eq!((code, world.declared()), (0, 3), "{why}");
}

#[tokio::test]
async fn entries_of_others_survive_and_no_change_waits_for_its_record() {
    let world = World::new(3, 0).history_conflicts(2);
    assert_eq!(run(&world, "up acid-a", None).await.1, 0);
    assert_eq!(world.recorded()[0]["result"], "Converged");
    let world = World::new(3, 0).history_conflicts(1000);
    let (screen, code, _) = run(&world, "up acid-a", None).await;
    assert_eq!((code, world.declared()), (0, 4));
    let said = screen.stderr();
    assert!(
        said.contains("Warning: the change will not be in the history of postgresql db/acid-a: "),
        "{said}"
    );
    assert!(!said.contains("the result of the change"), "said twice: {said}");
}

#[tokio::test]
async fn an_unrecorded_end_is_reported() {
    let world = World::new(3, 0);
    let spoil = async {
        while world.recorded().is_empty() {
            sleep(Duration::from_millis(1)).await;
        }
        world.clone().history_conflicts(1000);
    };
    let ((screen, code, _), ()) = futures::join!(run(&world, "up acid-a", None), spoil);
    assert_eq!((code, world.declared(), &world.recorded()[0]["result"]), (0, 4, &json!("Begun")));
    let said = screen.stderr();
    assert!(said.contains("Warning: the result of the change is not in the history of"), "{said}");
    assert!(!said.contains("will not be in the history"), "{said}");
}

#[tokio::test]
async fn undo_with_nothing_to_undo_is_no_rules_refusal() {
    let world = World::new(3, 0);
    let (_, code, failure) = run(&world, "undo acid-a", None).await;
    assert_eq!(code, 1, "{failure}");
    assert!(failure.contains("no change of the count is recorded"), "{failure}");
    assert!(!failure.contains("refused"), "{failure}");
    // Another writer has changed the count since.
    assert_eq!(run(&world, "up acid-a", None).await.1, 0);
    let world = world.limited(-1, -1, 6);
    let (_, code, failure) = run(&world, "undo acid-a", None).await;
    assert_eq!(code, 1, "{failure}");
    assert!(failure.contains("does not match the present count"), "{failure}");
}

#[tokio::test]
async fn only_a_change_that_still_holds_is_undone() {
    let world = World::new(3, 0);
    assert_eq!(run(&world, "up acid-a", None).await.1, 0);
    assert_eq!(run(&world, "switchover acid-a --to acid-a-1 --reason patch", None).await.1, 0);
    assert_eq!(world.recorded()[1]["action"], "Switchover");
    // The rules judge the undo like any shrink.
    let stalled = world.clone().stalled(&[0, 2]);
    assert_eq!(run(&stalled, "undo acid-a --yes", None).await.1, 3);
    world.clone().stalled(&[]);
    assert_eq!(run(&world, "undo acid-a --yes", None).await.1, 0);
    assert_eq!(world.declared(), 3);
}

#[tokio::test]
async fn a_report_is_a_page_for_a_ticket() {
    let world = World::new(5, 4);
    let line = "down acid-a --to 3 --yes --reason night --report md";
    let (screen, code, _) = run(&world, line, None).await;
    assert_eq!(code, 0);
    insta::assert_snapshot!(timeless(&screen.stdout()), @"
    # postgresql db/acid-a: 5 -> 3 instances

    | | |
    |---|---|
    | Result | Converged |
    | Asked by | dba, N |
    | Reason | night |
    | numberOfInstances | 5 -> 3 |
    | Leader | acid-a-4 -> acid-a-0 |
    | Switchover | acid-a-0 leads (lock, label and Patroni agree), N after the request; ... |
    | Took | N |
    | Leader changes while watched | 0 |
    | Without a leader while watched | N |
    | Worst lag while watched | 0 B |

    ## Plan

    - CHECKPOINT on acid-a-4
    - switch over from acid-a-4 to acid-a-0, and see it done
    - set numberOfInstances to 3
    - wait until 3 instances have converged

    ## Removed members

    - acid-a-3 (replica, healthy)
    - acid-a-4 (leader, healthy)

    ## Did it help?

    Before the change, and N after it converged.

    | MEMBER | CPU | MEMORY | LAG | ROWS/S |
    |---|---|---|---|---|
    | acid-a-0 (leader) | - | - | 0 B -> - | - |
    | acid-a-1 | - | - | 0 B -> 0 B | - |
    | acid-a-2 | - | - | 0 B -> 0 B | - |
    | acid-a-3 | - | - | 0 B -> - | - |
    | acid-a-4 | - | - | - | - |

    - Not known: CPU and memory: metrics.k8s.io is not served here (metrics-server does that)
    - Not known: what acid-a-0 and 4 more members read: psql left rows out
    - Not known: what acid-a-0 and 2 more members read: psql left rows out
    ");
}
