use pgscale_guard::RuleId;
use pgscale_guard::verdict::Finding;
use serde_json::{Value, json};

use super::*;

/// Returns a report with one refusal, one warning and one error.
fn report() -> Report {
    let place = Place { file: "./db/a b.yaml".to_owned(), line: Some(7), column: Some(22) };
    let checked = Checked {
        namespace: "db".to_owned(),
        name: "acid-a".to_owned(),
        place,
        from: Some(3),
        to: Some(2),
        basis: Basis::Stored,
        said: Said::Refused,
        findings: vec![
            Finding::deny(RuleId::BELOW_MIN, "2 is fewer than 3"),
            Finding::warn(RuleId::PAUSED, "Patroni is paused"),
        ],
        certain: vec![RuleId::BELOW_MIN],
        not_judged: vec![(RuleId::NO_LEADER, "the cluster was not read".to_owned())],
        notes: Vec::new(),
    };
    Report {
        clusters: vec![checked],
        problems: vec![Problem::new(Place::file("/abs/x.yaml"), "it is not UTF-8 text")],
        ..Report::default()
    }
}

#[test]
fn sarif_has_every_field_that_code_scanning_needs() {
    let log = Sarif::of(&report());
    assert_eq!(log["version"], "2.1.0");
    assert!(log["$schema"].as_str().unwrap().contains("sarif-2.1.0"));
    let run = &log["runs"][0];
    let rules = run["tool"]["driver"]["rules"].as_array().unwrap();
    assert_eq!(run["tool"]["driver"]["name"], "pgscale");
    for rule in rules {
        for field in ["shortDescription", "fullDescription", "help"] {
            assert!(!rule[field]["text"].as_str().unwrap().is_empty(), "{rule}");
        }
    }
    let results = run["results"].as_array().unwrap();
    assert_eq!(results.len(), 3);
    for result in results {
        let index = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
        assert_eq!(rules[index]["id"], result["ruleId"]);
        assert!(["error", "warning", "note"].contains(&result["level"].as_str().unwrap()));
        assert!(!result["message"]["text"].as_str().unwrap().is_empty());
        let physical = &result["locations"][0]["physicalLocation"];
        assert!(physical["region"]["startLine"].as_u64().unwrap() >= 1);
        assert!(physical["artifactLocation"]["uri"].is_string());
        assert!(result["partialFingerprints"]["pgscale/v1"].as_str().unwrap().len() == 32);
    }
    let uri =
        |at: usize| &results[at]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"];
    assert_eq!((uri(0), uri(2)), (&json!("db/a%20b.yaml"), &json!("file:///abs/x.yaml")));
    assert_eq!(
        results[0]["locations"][0]["physicalLocation"]["region"],
        json!({"startLine": 7, "startColumn": 22})
    );
    assert_eq!(run["invocations"][0]["executionSuccessful"], false);
    let note =
        run["invocations"][0]["toolExecutionNotifications"][0]["message"]["text"].as_str().unwrap();
    assert!(note.contains("no-leader"), "{note}");
}

#[test]
fn fingerprint_does_not_depend_on_the_line() {
    let moved = |line| {
        let mut report = report();
        report.clusters[0].place.line = Some(line);
        Sarif::of(&report)["runs"][0]["results"][0]["partialFingerprints"].clone()
    };
    assert_eq!(moved(7), moved(70));
}

#[test]
fn check_of_nothing_is_an_empty_log() {
    let log = Sarif::of(&Report::default());
    assert_eq!(log["runs"][0]["results"], json!([]));
    assert_eq!(log["runs"][0]["invocations"][0]["executionSuccessful"], true);
    let result: Value = serde_json::to_value(LintReport::of(&Report::default())).unwrap();
    assert_eq!(result["result"], "Allowed");
}
