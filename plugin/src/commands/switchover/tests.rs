use std::sync::{Arc, Mutex};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use pgscale_guard::Seen;
use pgscale_guard::read::{Address, Ask, RestRequest, RestResponse};
use serde_json::{Value, json};

use super::*;
use crate::inside::Inside;
use crate::output::testing::Screen;
use crate::testing::{Mishap, World, facts, give, run, stalled};

#[test]
fn what_cannot_be_seen_does_not_follow() {
    assert_eq!(late(&facts(3, 3, 0), &[]), [""; 0]);
    let behind = stalled(facts(3, 3, 0), 2);
    assert_eq!(late(&behind, &[]).len(), 1);
    assert_eq!(late(&behind, &unfit(&behind)), [""; 0], "it was so before");
    let mut hidden = facts(3, 3, 0);
    hidden.members = Seen::Unreadable("timed out".to_owned());
    let said = late(&hidden, &[]);
    assert!(said.contains(&"the members cannot be listed: timed out".to_owned()), "{said:?}");
    let mut leaderless = facts(3, 3, 0);
    leaderless.leader = Seen::Absent;
    let said = late(&leaderless, &[]);
    assert!(said.contains(&"nobody holds a valid leader lock".to_owned()), "{said:?}");
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

/// What was on record whenever something was done inside a member.
struct Witness(World, Arc<Mutex<Vec<Value>>>);

impl Inside for Witness {
    fn run<'a>(
        &'a self,
        _: &'a Address,
        _: Vec<String>,
        _: Duration,
    ) -> BoxFuture<'a, Result<String, String>> {
        let results = self.0.recorded().into_iter().map(|entry| entry["result"].clone());
        self.1.lock().unwrap().extend(results);
        async { Ok(String::new()) }.boxed()
    }
}

#[tokio::test]
async fn a_switchover_is_on_record_before_its_checkpoint() {
    let (world, seen) = (World::new(3, 2), Arc::default());
    let mut session = world.session(&Screen::default(), None);
    session.inside = Arc::new(Witness(world.clone(), Arc::clone(&seen)));
    give(&session, "switchover acid-a").await.unwrap();
    assert_eq!(*seen.lock().unwrap(), ["Begun"]);
}

/// Says that a switchover is done, and does not do it.
struct Liar(World);

impl Ask for Liar {
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
        session.pace.confirm = Duration::from_millis(30);
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
        let report: Value = serde_json::from_str(&screen.stdout()).unwrap();
        assert_eq!((&report["leaderMoved"], &report["record"]), (&json!(null), entry));
    }
}
