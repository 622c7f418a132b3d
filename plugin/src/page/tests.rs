//! Tests of the pages as text.

use std::sync::LazyLock;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::testing::{World, run};

mod browser;

/// Returns the document that a command prints.
async fn document(world: &World, line: &str) -> Value {
    let (screen, ..) = run(world, line, None).await;
    serde_json::from_str(&screen.stdout()).expect(line)
}

/// Returns a status with this text wherever a stranger may write one.
pub(super) fn status(text: &str, verdict: &str) -> Status {
    serde_json::from_value(json!({
        "metadata": {"namespace": text, "name": text}, "time": "2026-11-24T12:00:00Z",
        "verdict": verdict, "reasons": [text], "warnings": [text], "declared": 3, "effective": 3,
        "running": 3, "healthyMembers": 2, "leader": text, "worstLagBytes": null,
        "members": [{"name": text, "role": text, "state": text, "health": text, "healthy": null,
                     "lagBytes": null, "node": text, "zone": text}],
        "wouldSay": [{"to": 2, "by": "Command", "allowed": false, "rules": [text],
                      "leaderMovesTo": text, "message": text}],
        "why": [{"what": text, "next": {"note": text, "commands": [{"argv": ["echo", text], "why": text}]}}],
    }))
    .unwrap()
}

/// Returns a plan with this text wherever a stranger may write one.
fn stranger_plan(text: &str, asked: i64) -> Plan {
    serde_json::from_value(json!({
        "metadata": {"namespace": text, "name": text}, "outcome": "Ready", "hash": text,
        "asked": asked, "from": 3, "to": asked, "leader": text,
        "leaderMove": {"from": text, "to": text, "why": text},
        "leaving": [{"pod": text, "role": text, "claim": text}], "coming": [{"pod": text, "claim": text}],
        "comingBesides": 1, "unfit": {text: text},
        "steps": [{"action": "Checkpoint", "member": text}, {"action": "MoveLeader", "from": text, "to": text}],
        "findings": [{"rule": text, "severity": "Warn", "message": text, "remedy": null}],
        "nearestAllowed": [], "otherWriters": [text],
    }))
    .unwrap()
}

fn stranger_operation(text: &str) -> Operation {
    Operation {
        id: text.to_owned(),
        metadata: Metadata { namespace: text.to_owned(), name: text.to_owned() },
        title: text.to_owned(),
        lines: vec![Line { seq: 1, at: text.to_owned(), text: text.to_owned() }],
        result: Some(text.to_owned()),
        message: Some(text.to_owned()),
        hints: vec![text.to_owned()],
    }
}

/// Returns every page with this text in it.
fn pages(text: &str) -> [String; 6] {
    let all = Fleet {
        items: vec![status(text, "DOWN")],
        budgets: vec![model::Budget {
            namespace: text.to_owned(),
            instances: 3,
            used: None,
            free: None,
            unreadable: Some(text.to_owned()),
        }],
    };
    [
        fleet(&all),
        cluster(&status(text, "DOWN")),
        plan(&stranger_plan(text, 2)),
        plan(&stranger_plan(text, 0)),
        operation(&stranger_operation(text)),
        failure(500, text, text, &[text.to_owned()]),
    ]
    .map(maud::PreEscaped::into_string)
}

/// Returns the page without texts and values: the tags and the names of their attributes.
fn skeleton(page: &str) -> String {
    let (mut kept, mut tag, mut quoted) = (String::new(), false, false);
    for c in page.chars() {
        match c {
            '"' if tag => quoted = !quoted,
            '<' if !quoted => tag = true,
            _ => {}
        }
        if tag && !quoted {
            kept.push(c);
        }
        if c == '>' && !quoted {
            tag = false;
        }
    }
    kept
}

static PLAIN: LazyLock<[String; 6]> = LazyLock::new(|| pages("a").map(|page| skeleton(&page)));

proptest! {
    #[test]
    fn no_text_breaks_out_of_text_or_attribute(text in "([<>&\"'`=/ ]|-->|</script>|javascript:|\\PC){1,40}") {
        // A NUL has no place in a command, which is left out then; no other text changes the tags.
        for (page, plain) in pages(&text).iter().zip(&*PLAIN) {
            prop_assert_eq!(&skeleton(page), plain);
        }
    }

    #[test]
    fn an_address_has_the_segments_it_should(text in "\\PC{1,20}") {
        let address = words::cluster(&Metadata { namespace: text.clone(), name: text });
        prop_assert_eq!(address.matches('/').count(), 3);
        prop_assert!(!address.contains(['?', '#', '\\', '"']));
        prop_assert!(!address.split('/').any(|it| it == "." || it == ".."));
    }
}

#[test]
fn nothing_inline_is_left_to_the_policy() {
    for page in pages("a") {
        assert!(!page.contains(" style=") && !page.contains("<style"), "{page}");
        assert!(!page.contains(" onclick") && !page.contains("javascript:"), "{page}");
        assert_eq!(page.matches("<script").count(), 1);
        assert!(page.contains("<main") && page.matches("<h1").count() == 1);
    }
}

#[test]
fn pages_load_assets_that_are_there() {
    for page in pages("a") {
        let paths: Vec<&str> = page.split('"').filter(|it| it.starts_with("/assets/")).collect();
        assert_eq!(paths.len(), 2);
        assert!(paths.iter().all(|path| asset(path).is_some()), "{paths:?}");
    }
    let missing = asset("/assets/app.js");
    assert_eq!(missing, None);
    assert!(asset(&assets::STYLE.path).unwrap().cache.contains("immutable"));
    assert_eq!(PAGE_CACHE, "no-store");
}

#[test]
fn the_worst_cluster_comes_first() {
    let items = ["HEALTHY", "STOPPED", "UNKNOWN", "DEGRADED", "DOWN"]
        .map(|verdict| status(&verdict.to_lowercase(), verdict));
    let page = fleet(&Fleet { items: items.into(), budgets: vec![] }).into_string();
    let places = ["down", "degraded", "unknown", "stopped", "healthy"]
        .map(|name| page.find(&format!("/cluster/{name}/")).unwrap());
    assert!(places.is_sorted(), "{places:?}");
}

#[test]
fn what_is_not_known_is_called_so() {
    let page = cluster(&status("a", "UNKNOWN")).into_string();
    assert!(page.contains("Not known"));
}

#[tokio::test]
async fn the_documents_are_shown_as_they_are() {
    let world = World::new(3, 2);
    let all: Fleet = serde_json::from_value(document(&world, "status -A -o json").await).unwrap();
    assert!(fleet(&all).into_string().contains("/cluster/db/acid-a"));
    let one: Status =
        serde_json::from_value(document(&world, "status acid-a -o json").await).unwrap();
    let page = cluster(&one).into_string();
    assert!(page.contains("acid-a-2") && page.contains("Another count"), "{page}");
    assert!(page.contains("/cluster/db/acid-a/plan?to=2"), "{page}");
    let ready: Plan =
        serde_json::from_value(document(&world, "plan acid-a --to 2 -o json").await).unwrap();
    let page = plan(&ready).into_string();
    assert!(page.contains(&format!("--expect-plan {}", ready.hash)), "{page}");
    let next = &ready.leader_move.as_ref().unwrap().to;
    assert_eq!(
        plan::sentence(&ready),
        format!("Run 2 instead of 3: acid-a-2 goes; leader moves from acid-a-2 to {next}")
    );
}

#[tokio::test]
async fn a_refused_plan_has_rules_and_no_button() {
    let world = World::new(3, 0).policy("small", &json!({"instances": {"max": 4}}));
    let refused: Plan =
        serde_json::from_value(document(&world, "plan acid-a --to 9 -o json").await).unwrap();
    let page = plan(&refused).into_string();
    assert!(page.contains("Refused") && page.contains("<code>above-max</code>"), "{page}");
    assert!(!page.contains("id=\"send\""), "{page}");
}

#[test]
fn zero_asks_for_the_name_and_the_button_waits_for_the_script() {
    let page = plan(&stranger_plan("a", 0)).into_string();
    assert!(page.contains("data-confirm=\"a/a\"") && page.contains("--confirm a/a"), "{page}");
    assert!(page.contains("type=\"submit\" disabled"), "{page}");
    assert!(!plan(&stranger_plan("a", 2)).into_string().contains("data-confirm"));
}

#[test]
fn amounts_have_units() {
    for (amount, text) in [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (1 << 30, "1 GiB")] {
        assert_eq!(words::bytes(amount), text);
    }
}
