//! Changes that a `ScaleOverride` allows in spite of the rules, and the record of its use.

use pgscale_guard::overrides::LONGEST;

use super::*;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

/// Returns a stored override that allows the cluster's change to 9.
pub(super) fn granted(expires: SignedDuration, rules: &[&str]) -> Value {
    let now = Timestamp::now();
    json!({
        "apiVersion": "pgscale.dev/v1alpha1", "kind": "ScaleOverride",
        "metadata": {"namespace": "db", "name": "sale", "uid": "o1", "creationTimestamp": now},
        "spec": {"cluster": "acid-a", "clusterUid": "c1", "to": 9, "rules": rules,
            "reason": "the sale begins", "expiresAt": now + expires},
    })
}

fn allowing(rules: &[&str]) -> FakeApiServer {
    let overrides = vec![granted(SignedDuration::from_hours(1), rules)];
    FakeApiServer { overrides, ..three_to_seven() }
}

fn used(admission: &Admission) -> bool {
    admission.metrics.text().contains("pgscale_admission_overrides_total 1\n")
}

#[tokio::test]
async fn override_lets_one_change_pass_and_every_record_says_so() {
    let api_server = allowing(&["above-max"]);
    let admission = api_server.admission();
    let answer = ask(&admission, &update(&object(3), &object(9))).await;
    assert_eq!(answer["allowed"], true);
    let warnings = answer["warnings"].as_array().unwrap();
    let warnings: Vec<&str> = warnings.iter().filter_map(Value::as_str).collect();
    let all = warnings.join(" ");
    for part in ["above-max: 9 instances asked for", "scaleoverride/sale", "the sale begins"] {
        assert!(all.contains(part), "{part}: {all}");
    }
    assert!(warnings.iter().all(|line| line.chars().count() <= 120), "{warnings:?}");
    let audit = &answer["auditAnnotations"];
    assert_eq!(audit["verdict"], "warned");
    assert!(audit["rules"].as_str().unwrap().contains("above-max=overridden"), "{audit}");
    assert!(audit["override"].as_str().unwrap().contains("scaleoverride/sale"), "{audit}");
    assert!(used(&admission));
    let metrics = admission.metrics.text();
    let found = "pgscale_admission_findings_total{rule=\"above-max\",effect=\"overridden\"} 1";
    assert!(metrics.contains(found), "{metrics}");

    admission.events.flush(Duration::from_secs(5)).await;
    let events = api_server.requested("/namespaces/db/events");
    assert_eq!(events.len(), 1);
    assert_eq!(
        (&events[0]["reason"], &events[0]["action"]),
        (&json!("ScaleOverridden"), &json!("above-max"))
    );
    assert_eq!(events[0]["regarding"]["uid"], "c1");
    let note = events[0]["note"].as_str().unwrap();
    assert!(note.starts_with("dba scaled db/acid-a, 3 -> 9: above-max: "), "{note}");
    assert!(note.contains("scaleoverride/sale allows it until"), "{note}");
}

#[tokio::test]
async fn dry_run_does_not_count_as_a_use_of_an_override() {
    let api_server = allowing(&["above-max"]);
    let admission = api_server.admission();
    let mut review = update(&object(3), &object(9));
    review["request"]["dryRun"] = json!(true);
    assert_eq!(ask(&admission, &review).await["allowed"], true);
    admission.events.flush(Duration::from_secs(5)).await;
    assert_eq!(api_server.requested("/events").len(), 0);
    assert!(!used(&admission));
}

#[tokio::test]
async fn override_holds_for_the_scale_subresource_too() {
    let mut api_server = allowing(&["above-max"]);
    api_server.stored = Some(object(3));
    let answer = ask(&api_server.admission(), &scale(Some(3), Some(9))).await;
    assert_eq!(answer["allowed"], true);
}

#[tokio::test]
async fn override_that_does_not_fit_lifts_nothing_and_the_refusal_says_why() {
    let beyond = LONGEST + SignedDuration::from_mins(5);
    let hour = SignedDuration::from_hours(1);
    for (name, expires, rules, to, want) in [
        (
            "another count",
            hour,
            &["above-max"][..],
            8,
            "it allows 9 instances, and 8 are asked for",
        ),
        ("no such rule", hour, &["above-max", "x"], 9, "it names \"x\", which is no rule"),
        ("over", -hour, &["above-max"], 9, "it ended at "),
        ("for ever", beyond, &["above-max"], 9, "more than 4h after its creation"),
    ] {
        let api_server =
            FakeApiServer { overrides: vec![granted(expires, rules)], ..three_to_seven() };
        let admission = api_server.admission();
        let answer = ask(&admission, &update(&object(3), &object(to))).await;
        assert_eq!(answer["allowed"], false, "{name}");
        let message = answer["status"]["message"].as_str().unwrap();
        let line = "scaleoverride/sale: does not apply: ";
        assert!(message.contains(line) && message.contains(want), "{name}: {message}");
        assert!(!used(&admission), "{name}");
    }
    // The refusal does not mention an override of other rules.
    let answer = ask(&allowing(&["paused"]).admission(), &update(&object(3), &object(9))).await;
    let message = answer["status"]["message"].as_str().unwrap();
    assert!(answer["allowed"] == false && !message.contains("scaleoverride"), "{message}");
}

#[tokio::test]
async fn undecodable_override_lifts_nothing_and_hides_no_other() {
    let mut strange = granted(SignedDuration::from_hours(1), &["above-max"]);
    strange["metadata"]["name"] = json!("strange");
    strange["spec"]["to"] = json!("as many as it takes");
    let mut api_server = allowing(&["above-max"]);
    api_server.overrides.insert(0, strange.clone());
    let answer = ask(&api_server.admission(), &update(&object(3), &object(9))).await;
    assert_eq!(answer["allowed"], true, "{answer}");
    api_server.overrides = vec![strange];
    let answer = ask(&api_server.admission(), &update(&object(3), &object(9))).await;
    assert_eq!(answer["allowed"], false);
    let message = answer["status"]["message"].as_str().unwrap();
    assert!(message.contains("scaleoverride/strange: does not apply: pgscale "), "{message}");
}

#[tokio::test]
async fn overrides_are_read_only_for_a_change_that_would_be_refused() {
    for (to, reads) in [(5, 0), (9, 1)] {
        let api_server = allowing(&["above-max"]);
        ask(&api_server.admission(), &update(&object(3), &object(to))).await;
        assert_eq!(api_server.requested("/scaleoverrides").len(), reads, "to {to}");
    }
}

#[tokio::test]
async fn override_never_applies_to_a_cluster_that_was_created_again() {
    let api_server = allowing(&["above-max"]);
    let refused = ask(&api_server.admission(), &create(&object(9))).await;
    assert_eq!(refused["allowed"], false);
    let message = refused["status"]["message"].as_str().unwrap();
    assert!(message.contains("this one is being created"), "{message}");
    let again = |count| {
        let mut again = object(count);
        again["metadata"]["uid"] = json!("c2");
        again
    };
    let refused = ask(&api_server.admission(), &update(&again(3), &again(9))).await;
    assert_eq!(refused["allowed"], false);
    let message = refused["status"]["message"].as_str().unwrap();
    assert!(message.contains("uid c1, and this one has c2"), "{message}");
}
