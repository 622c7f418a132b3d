use std::sync::{Arc, Mutex};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use pgscale_guard::Assessment;
use pgscale_guard::Seen;
use pgscale_guard::read::{Address, MemberClient, RestRequest, RestResponse};
use serde_json::{Value, json};

use super::settle::late;
use super::*;
use crate::exec::{Exec, ExecError};
use crate::plan::unfit;
use crate::terminal::testing::Screen;
use crate::testing::{Mishap, World, facts, give, run, stalled};

#[test]
fn an_unseen_member_does_not_follow() {
    assert_eq!(late(&Assessment::new(&facts(3, 3, 0), None), &[]), [""; 0]);
    let behind = stalled(facts(3, 3, 0), 2);
    let behind = Assessment::new(&behind, None);
    assert_eq!(late(&behind, &[]).len(), 1);
    assert_eq!(late(&behind, &unfit(&behind)), [""; 0], "it was so before");
    let mut hidden = facts(3, 3, 0);
    hidden.members = Seen::Unreadable("timed out".to_owned());
    let said = late(&Assessment::new(&hidden, None), &[]);
    assert!(said.contains(&"the members cannot be listed: timed out".to_owned()), "{said:?}");
    let mut leaderless = facts(3, 3, 0);
    leaderless.leader = Seen::Absent;
    let said = late(&Assessment::new(&leaderless, None), &[]);
    assert!(said.contains(&"no member holds a valid leader lock".to_owned()), "{said:?}");
}

#[tokio::test]
async fn every_end_of_a_switchover_has_its_document_and_its_record() {
    let healthy = || World::new(3, 2);
    for (world, result, code, leads, recorded) in [
        (healthy(), "Converged", 0, json!("acid-a-0"), true),
        (healthy().denied(&["get postgresqls"]), "Failed", 1, json!(null), false),
        (healthy().with(Mishap::SwitchoverPending), "Refused", 3, json!(null), false),
        (healthy().with(Mishap::FailoverAtCheckpoint), "Refused", 3, json!(null), true),
        (healthy().with(Mishap::SwitchoverRefused), "Refused", 3, json!(null), true),
        (healthy().with(Mishap::AnotherTakesOver), "NotAsPlanned", 5, json!("acid-a-1"), true),
        (healthy().with(Mishap::NobodyFollows), "TimedOut", 4, json!("acid-a-0"), true),
    ] {
        let line = "switchover acid-a --to acid-a-0 --timeout 50ms -o json";
        let (screen, exit, why) = run(&world, line, None).await;
        assert_eq!(exit, code, "{result}: {why}");
        let report: Value = serde_json::from_str(&screen.stdout()).unwrap();
        assert_eq!((&report["result"], &report["exitCode"]), (&json!(result), &json!(code)));
        assert_eq!(report["leaderMoved"]["to"], leads, "{report}");
        assert_eq!(report["message"].is_string(), code != 0, "{report}");
        let kept = world.recorded();
        assert_eq!(kept.len(), usize::from(recorded), "{result}: {kept:?}");
        for entry in kept {
            assert_eq!(report["record"], entry);
            assert_eq!((&entry["result"], &entry["leaderTo"]), (&json!(result), &leads), "{entry}");
            assert_eq!(entry["message"].is_string(), code != 0, "{entry}");
        }
    }
}

#[tokio::test]
async fn standby_cluster_moves_its_leader_whatever_its_synchronous_mode() {
    for line in
        ["down acid-a --to 2 --yes", "switchover acid-a --to acid-a-0", "switchover acid-a --for 2"]
    {
        let world = World::new(3, 2).standby_cluster();
        let (screen, code, why) = run(&world, line, None).await;
        assert_eq!((code, world.leader()), (0, 0), "{line}: {why}{}", screen.stderr());
    }
}

#[tokio::test]
async fn a_switchover_for_a_count_ends_well_only_when_that_count_is_admitted() {
    let world = World::new(5, 4).with(Mishap::BusyAfterSwitchover(4));
    let (screen, code, why) = run(&world, "switchover acid-a --for 3", None).await;
    assert_eq!((code, why.as_str()), (0, ""));
    assert_eq!((world.leader(), world.declared(), world.writes().len()), (0, 5, 0));
    assert_eq!(
        screen.stdout(),
        "postgresql/acid-a: leader moved from acid-a-4 to acid-a-0\n\
         3 is admitted now:\n    kubectl pgscale set acid-a 3 -n db\n\
         where Git sets the count: commit 3 there, or synchronise again\n"
    );
    let said = screen.stderr();
    assert!(said.contains("s: operation-in-progress: "), "{said}");
    // A machine gets the same, and the command that it names works.
    let world = World::new(5, 4);
    let (screen, ..) = run(&world, "switchover acid-a --for 3 -o json", None).await;
    let report: Value = serde_json::from_str(&screen.stdout()).unwrap();
    let argv = ["kubectl", "pgscale", "set", "acid-a", "3", "-n", "db"];
    let next = json!({"commands": [{"argv": argv}]});
    assert_eq!(report["admitted"], json!({"instances": 3, "next": next}));
    assert_eq!(report["result"], "Converged");
    let (_, code, why) = run(&world, "set acid-a 3 --yes", None).await;
    assert_eq!((code, world.declared(), world.switchovers().len()), (0, 3, 1), "{why}");
}

#[tokio::test]
async fn a_switchover_for_a_count_that_stays_refused_touches_nothing() {
    let three = || World::new(5, 4).policy("production", &json!({"instances": {"min": 3}}));
    for (world, rule, hint) in [
        (three(), "below-min: 2 instances asked for, 3 is the minimum", Some(3)),
        (
            World::new(5, 4).stalled(&[0]),
            "too-few-healthy-survivors: acid-a-2, acid-a-3, acid-a-4 would be removed",
            Some(3),
        ),
        (World::new(5, 4).with(Mishap::Busy(5)), "operation-in-progress: ", None),
        (World::new(5, 4).hiding(&["scalepolicies"]), "below-min: cannot be judged", None),
    ] {
        for flags in ["", "--dry-run=client"] {
            let line = format!("switchover acid-a --for 2 {flags}");
            let (screen, code, why) = run(&world, &line, None).await;
            assert_eq!((code, world.leader(), world.switchovers().len()), (3, 4, 0), "{why}");
            assert!(!screen.stderr().contains("CHECKPOINT"), "{}", screen.stderr());
            assert!(why.contains(rule) && why.contains("Try:"), "{rule}: {why}");
            assert!(why.contains("nothing was changed"), "{why}");
            assert_eq!(world.recorded(), [json!(null); 0]);
            if let Some(count) = hint {
                let command = format!("kubectl pgscale switchover acid-a --for {count} -n db");
                assert!(why.contains(&command), "{why}");
                let line = command.strip_prefix("kubectl pgscale ").unwrap().replace("-n db", "");
                assert_eq!(run(&world, &format!("{line} --dry-run=client"), None).await.1, 0);
            }
        }
    }
    // An override lifts the bound.
    let world = three();
    let allow = "override acid-a --to 2 --rules below-min --reason night --yes";
    assert_eq!(run(&world, allow, None).await.1, 0);
    let (_, code, why) = run(&world, "switchover acid-a --for 2", None).await;
    assert_eq!((code, world.leader()), (0, 0), "{why}");
}

#[tokio::test(start_paused = true)]
async fn at_the_deadline_a_switchover_for_a_count_names_the_obstacles() {
    let world = World::new(5, 4).with(Mishap::FrozenDuringSwitchover);
    let line = "switchover acid-a --for 3 --timeout 3s";
    let (screen, code, why) = run(&world, line, None).await;
    assert_eq!((code, world.leader(), world.declared()), (4, 0, 5), "{why}");
    insta::assert_snapshot!(why, @"
    error: NOT DONE: the leader has moved, and a change to 3 instances is not admitted yet:
    change-freeze: db/acid-a is frozen until 2099-01-01T00:00:00Z (audit)
      scalepolicy/audit: freeze.until: 2099-01-01T00:00:00Z
      Try: ask again at 2099-01-01T00:00:00Z, or change scalepolicy/audit
        for this one change, if it cannot wait:
          kubectl pgscale override acid-a --to 3 --rules change-freeze --reason TEXT -n db
    hint: when that is mended, wait again:
        kubectl pgscale switchover acid-a --for 3 -n db
    NOT DONE: the leader has moved, and a change to 3 instances is not admitted yet
    ");
    assert_eq!(screen.stdout(), "");
    assert!(screen.stderr().contains("s: change-freeze: "), "{}", screen.stderr());
    assert_eq!(world.recorded()[0]["result"], "TimedOut");

    let world = World::new(5, 4).with(Mishap::NobodyFollows);
    let (screen, code, why) = run(&world, line, None).await;
    assert_eq!((code, world.leader(), world.declared()), (4, 0, 5), "{why}");
    assert!(why.contains("\n  acid-a-1: 990 bytes behind the leader"), "{why}");
    assert!(screen.stderr().contains("s: acid-a-1: 990 bytes"), "{}", screen.stderr());
}

#[tokio::test(start_paused = true)]
async fn a_plain_switchover_says_what_it_waits_for_and_what_to_do() {
    let world = World::new(3, 2).with(Mishap::NobodyFollows);
    let line = "switchover acid-a --to acid-a-0 --timeout 3s";
    let (screen, code, why) = run(&world, line, None).await;
    assert_eq!((code, world.leader()), (4, 0), "{why}");
    insta::assert_snapshot!(why, @"
    error: NOT DONE: the leader has moved, and not every member follows it yet:
      acid-a-1: 990 bytes behind the leader after a second
      acid-a-2: 990 bytes behind the leader after a second
    hint: to see why these members lag:
        kubectl pgscale status acid-a --why -n db
    NOT DONE: the leader has moved, and not every member follows it yet
    ");
    let said = screen.stderr();
    assert!(said.contains("s: acid-a-1: 990 bytes"), "{said}");
}

#[tokio::test]
async fn a_leader_that_stays_is_not_moved_and_the_count_is_waited_for() {
    let world = World::new(5, 0);
    let (screen, code, why) = run(&world, "switchover acid-a --for 3", None).await;
    assert_eq!((code, why.as_str()), (0, ""));
    assert_eq!(
        screen.stdout(),
        "nothing to do: acid-a-0 leads, and stays at 3 instances\n\
         3 is admitted now:\n    kubectl pgscale set acid-a 3 -n db\n\
         where Git sets the count: commit 3 there, or synchronise again\n"
    );
    let busy = || World::new(5, 0).with(Mishap::Busy(5));
    let world = busy();
    let (screen, code, why) = run(&world, "switchover acid-a --for 3 -o json", None).await;
    assert_eq!((code, why.as_str()), (0, ""));
    let said = screen.stderr();
    assert!(said.contains("s: operation-in-progress: "), "{said}");
    let report: Value = serde_json::from_str(&screen.stdout()).unwrap();
    assert_eq!(
        (&report["result"], &report["admitted"]["instances"]),
        (&json!("Nothing"), &json!(3))
    );
    for (flags, want) in [("--timeout 0", 4), ("--dry-run=client", 3)] {
        let line = format!("switchover acid-a --for 3 {flags}");
        let (_, code, why) = run(&busy(), &line, None).await;
        assert_eq!(code, want, "{why}");
        assert!(why.contains("\noperation-in-progress: "), "{why}");
    }
    // No wait mends a bound.
    let bounded = World::new(5, 0).policy("production", &json!({"instances": {"min": 4}}));
    let (_, code, why) = run(&bounded, "switchover acid-a --for 3", None).await;
    assert_eq!((code, bounded.switchovers().len()), (3, 0), "{why}");
    assert!(why.contains("\nbelow-min: "), "{why}");
}

#[tokio::test]
async fn a_count_that_is_no_shrink_is_not_waited_for() {
    for (world, count) in [
        (World::new(3, 2), 3),
        (World::new(3, 2), 5),
        // A growth that no rule would admit: the leader is kept all the same.
        (World::new(3, 2).policy("production", &json!({"instances": {"max": 4}})), 9),
    ] {
        let line = format!("switchover acid-a --for {count}");
        let (screen, code, why) = run(&world, &line, None).await;
        assert_eq!((code, world.switchovers().len()), (0, 0), "{why}");
        let said = format!("nothing to do: acid-a-2 leads, and stays at {count} instances\n");
        assert_eq!(screen.stdout(), said);
    }
    let world = World::new(3, 2);
    let (_, code, why) = run(&world, "switchover acid-a --for 0", None).await;
    assert_eq!((code, world.switchovers().len()), (3, 0), "{why}");
}

#[tokio::test]
async fn a_count_that_another_writer_set_during_the_switchover_ends_the_wait() {
    // The count itself, one that it is still a shrink of, and one that it is not.
    for (count, want, said) in [
        (
            3,
            0,
            "numberOfInstances is 3 already; to wait for it:\n    kubectl pgscale wait acid-a -n db\n",
        ),
        (4, 4, "change-not-applied: the operator has not applied the last change"),
        (2, 6, "another writer set numberOfInstances of postgresql db/acid-a to 2 meanwhile"),
    ] {
        let world = World::new(5, 4).with(Mishap::CountedDuringSwitchover(count));
        let line = "switchover acid-a --for 3 --timeout 1s";
        let (screen, code, why) = run(&world, line, None).await;
        assert_eq!((code, world.leader(), world.writes().len()), (want, 0, 0), "{count}: {why}");
        let all = format!("{}{why}", screen.stdout());
        assert!(all.contains(said), "{count}: {all}");
    }
}

#[tokio::test]
async fn a_switchover_for_a_count_takes_any_leader_that_stays() {
    let world = World::new(5, 4).with(Mishap::AnotherTakesOver);
    let (screen, code, why) = run(&world, "switchover acid-a --for 3", None).await;
    assert_eq!((code, world.leader()), (0, 1), "{why}");
    assert!(screen.stdout().contains("leader moved from acid-a-4 to acid-a-1"));
    // Another member that goes is no valid leader.
    let world = World::new(5, 4).with(Mishap::AnotherTakesOver);
    let (_, code, why) = run(&world, "switchover acid-a --for 1", None).await;
    assert_eq!((code, world.leader()), (5, 1), "{why}");
}

/// A world, and the entries on record at each command inside a member.
struct Witness(World, Arc<Mutex<Vec<Value>>>);

impl Exec for Witness {
    fn run<'a>(
        &'a self,
        _: &'a Address,
        _: Vec<String>,
        _: Duration,
    ) -> BoxFuture<'a, Result<String, ExecError>> {
        let results = self.0.recorded().into_iter().map(|entry| entry["result"].clone());
        self.1.lock().unwrap().extend(results);
        async { Ok(String::new()) }.boxed()
    }
}

#[tokio::test]
async fn a_switchover_is_on_record_before_its_checkpoint() {
    let (world, seen) = (World::new(3, 2), Arc::default());
    let mut session = world.session(&Screen::default(), None);
    session.exec = Arc::new(Witness(world.clone(), Arc::clone(&seen)));
    give(&session, "switchover acid-a").await.unwrap();
    let seen = seen.lock().unwrap();
    assert!(!seen.is_empty() && seen.iter().all(|result| result == "Begun"), "{seen:?}");
}

/// A world that reports a switchover as done, and does not do it.
struct Liar(World);

impl MemberClient for Liar {
    fn exchange<'a>(
        &'a self,
        pod: &'a Address,
        request: RestRequest,
    ) -> BoxFuture<'a, Result<RestResponse, String>> {
        if request.path == "/switchover" {
            return async { Ok(RestResponse { status: 200, body: String::new() }) }.boxed();
        }
        self.0.exchange(pod, request)
    }
}

#[tokio::test]
async fn a_lead_in_doubt_is_neither_recorded_as_moved_nor_as_kept() {
    for line in ["switchover acid-a -o json", "down acid-a --yes -o json"] {
        let (world, screen) = (World::new(3, 2), Screen::default());
        let mut session = world.session(&screen, None);
        session.ask = Arc::new(Liar(world.clone()));
        session.pace.confirm = Duration::from_millis(500);
        let failure = give(&session, line).await.unwrap_err();
        assert_eq!(failure.kind, Kind::NotAsPlanned, "{failure}");
        let entry = &world.recorded()[0];
        for (key, want) in [
            ("result", json!("NotAsPlanned")),
            ("written", json!(false)),
            ("leaderFrom", json!("acid-a-2")),
            ("leaderTo", json!(null)),
        ] {
            assert_eq!(entry[key], want, "{key} of {entry}");
        }
        assert!(world.events()[0].contains("leader acid-a-2 -> ?"), "{:?}", world.events());
        let waits =
            "still waiting after 0s: lock, label and the new leader itself do not agree yet";
        assert!(screen.stderr().contains(waits), "{}", screen.stderr());
        let report: Value = serde_json::from_str(&screen.stdout()).unwrap();
        assert_eq!((&report["leaderMoved"], &report["record"]), (&json!(null), entry));
    }
}
