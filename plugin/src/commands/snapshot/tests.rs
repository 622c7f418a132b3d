use pgscale_guard::evaluate;
use serde_json::Value;

use super::*;
use crate::terminal::testing::Screen;
use crate::testing::{World, give, now, run};

/// Returns the record that the command prints, in a file.
async fn record(world: &World, line: &str) -> tempfile::NamedTempFile {
    let (screen, code, why) = run(world, line, None).await;
    assert_eq!((code, why.as_str()), (0, ""), "{line}");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), screen.stdout()).unwrap();
    file
}

/// Returns the report of a replay, and the exit code.
async fn replay(file: &tempfile::NamedTempFile, more: &str) -> (Value, u8) {
    let line = format!("lint --facts {} {more} -o json", file.path().display());
    let screen = Screen::default();
    let session = World::new(1, 0).session(&screen, None);
    let code = give(&session, &line).await.err().map_or(0, |failure| failure.kind.code());
    (serde_json::from_str(&screen.stdout()).unwrap(), code)
}

#[tokio::test]
async fn replay_of_a_record_is_the_verdict_of_that_time() {
    for (world, to) in [
        (World::new(3, 2), 2),
        (World::new(3, 0), 2),
        (World::new(3, 0), 5),
        (World::new(5, 0).stalled(&[1, 2]), 3),
        (World::new(3, 0).silent(), 2),
        (World::new(3, 0).paused(), 2),
        (World::new(3, 0).quota_spent(), 5),
        (World::new(3, 0).limited(1, 3, 9), 5),
        (World::new(3, 0).with_resources(), 4),
        (World::new(3, 0).hiding(&["statefulsets"]), 2),
    ] {
        let world = world.timed_by(now);
        let screen = Screen::default();
        let session = world.session(&screen, None);
        let change = Change::of_count(session.cluster("acid-a").await.unwrap(), to);
        let (facts, policies) = session.facts(change, AskWhom::All).await;
        let live = evaluate(&facts, &policies);
        let want: Vec<Value> = live
            .findings
            .iter()
            .filter(|it| !it.audit_only)
            .map(|it| serde_json::to_value(it).unwrap())
            .collect();
        // The record for the change, and the one without any, judged for it.
        for (line, more) in [
            (format!("snapshot acid-a --to {to}"), String::new()),
            ("snapshot acid-a -o yaml".to_owned(), format!("--to {to}")),
        ] {
            let (report, code) = replay(&record(&world, &line).await, &more).await;
            let found = report["items"][0]["findings"].as_array().unwrap();
            assert_eq!(found, &want, "{line} {more}");
            assert_eq!(code, if live.allows() { 0 } else { 3 }, "{line} {more}");
        }
    }
}

#[tokio::test]
async fn manifest_is_judged_in_the_recorded_cluster() {
    let file = record(&World::new(3, 2), "snapshot acid-a").await;
    let manifest = tempfile::NamedTempFile::with_suffix(".yaml").unwrap();
    let text = "apiVersion: acid.zalan.do/v1\nkind: postgresql\nmetadata: {namespace: db, name: acid-a}\n\
                spec:\n  numberOfInstances: 2\n";
    std::fs::write(manifest.path(), text).unwrap();
    let (report, code) = replay(&file, &format!("-f {}", manifest.path().display())).await;
    assert_eq!(code, 3);
    let item = &report["items"][0];
    assert!(item["findings"].to_string().contains("leader-condemned"), "{item}");
    assert_eq!(
        (&item["at"]["line"], &item["comparedWith"]),
        (&Value::from(5), &Value::from("Record"))
    );
    assert!(item["recordedAt"].is_string());
}

#[tokio::test]
async fn record_that_is_none_or_of_another_version_is_named() {
    let file = tempfile::NamedTempFile::new().unwrap();
    for (text, words) in [
        ("{\"kind\": \"ScalePlan\"}", "is no ClusterSnapshot"),
        (
            "{\"kind\": \"ClusterSnapshot\", \"recordedBy\": \"9.9\", \"snapshot\": {}}",
            "record of pgscale 9.9",
        ),
    ] {
        std::fs::write(file.path(), text).unwrap();
        let (report, code) = replay(&file, "").await;
        let said = report["errors"][0]["message"].as_str().unwrap();
        assert!(code == 1 && said.contains(words), "{said}");
    }
}

#[tokio::test]
async fn snapshot_of_a_cluster_that_is_not_there_says_so() {
    let (_, code, why) = run(&World::new(3, 0), "snapshot acid-x", None).await;
    assert!(code == 1 && why.contains("not found"), "{why}");
}
