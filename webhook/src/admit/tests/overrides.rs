//! What somebody allowed in spite of the rules, and what is told of its use.

use pgscale_guard::overrides::LONGEST;

use super::*;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

/// An override of the cluster's change to 9, as it is stored.
fn granted(expires: SignedDuration, rules: &[&str]) -> Value {
    let now = Timestamp::now();
    json!({
        "apiVersion": "pgscale.dev/v1alpha1", "kind": "ScaleOverride",
        "metadata": {"namespace": "db", "name": "sale", "uid": "o1", "creationTimestamp": now},
        "spec": {"cluster": "acid-a", "clusterUid": "c1", "to": 9, "rules": rules,
            "reason": "the sale begins", "expiresAt": now + expires},
    })
}

fn allowing(rules: &[&str]) -> World {
    let overrides = vec![granted(SignedDuration::from_hours(1), rules)];
    World { overrides, ..three_to_seven() }
}

fn used(admission: &Admission) -> bool {
    admission.metrics.text().contains("pgscale_admission_overrides_total 1\n")
}

#[tokio::test]
async fn what_somebody_allowed_passes_and_everybody_is_told() {
    let world = allowing(&["above-max"]);
    let admission = world.admission();
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
    let events = world.requested("/namespaces/db/events");
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
async fn a_dry_run_uses_it_up_nowhere() {
    let world = allowing(&["above-max"]);
    let admission = world.admission();
    let mut review = update(&object(3), &object(9));
    review["request"]["dryRun"] = json!(true);
    assert_eq!(ask(&admission, &review).await["allowed"], true);
    admission.events.flush(Duration::from_secs(5)).await;
    assert_eq!(world.requested("/events").len(), 0);
    assert!(!used(&admission));
}

#[tokio::test]
async fn it_holds_for_the_scale_subresource_too() {
    let mut world = allowing(&["above-max"]);
    world.stored = Some(object(3));
    let answer = ask(&world.admission(), &scale(Some(3), Some(9))).await;
    assert_eq!(answer["allowed"], true);
}

#[tokio::test]
async fn what_does_not_fit_lifts_nothing_and_says_why() {
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
        let world = World { overrides: vec![granted(expires, rules)], ..three_to_seven() };
        let admission = world.admission();
        let answer = ask(&admission, &update(&object(3), &object(to))).await;
        assert_eq!(answer["allowed"], false, "{name}");
        let message = answer["status"]["message"].as_str().unwrap();
        let line = "scaleoverride/sale: does not apply: ";
        assert!(message.contains(line) && message.contains(want), "{name}: {message}");
        assert!(!used(&admission), "{name}");
    }
    // It does not even mention an override of other rules.
    let answer = ask(&allowing(&["paused"]).admission(), &update(&object(3), &object(9))).await;
    let message = answer["status"]["message"].as_str().unwrap();
    assert!(answer["allowed"] == false && !message.contains("scaleoverride"), "{message}");
}

#[tokio::test]
async fn an_override_that_cannot_be_decoded_grants_nothing_and_hides_no_other() {
    let mut strange = granted(SignedDuration::from_hours(1), &["above-max"]);
    strange["metadata"]["name"] = json!("strange");
    strange["spec"]["to"] = json!("as many as it takes");
    let mut world = allowing(&["above-max"]);
    world.overrides.insert(0, strange.clone());
    let answer = ask(&world.admission(), &update(&object(3), &object(9))).await;
    assert_eq!(answer["allowed"], true, "{answer}");
    world.overrides = vec![strange];
    let answer = ask(&world.admission(), &update(&object(3), &object(9))).await;
    assert_eq!(answer["allowed"], false);
    let message = answer["status"]["message"].as_str().unwrap();
    assert!(message.contains("scaleoverride/strange: does not apply: pgscale "), "{message}");
}

#[tokio::test]
async fn overrides_are_read_only_where_something_would_be_refused() {
    for (to, reads) in [(5, 0), (9, 1)] {
        let world = allowing(&["above-max"]);
        ask(&world.admission(), &update(&object(3), &object(to))).await;
        assert_eq!(world.requested("/scaleoverrides").len(), reads, "to {to}");
    }
}

#[tokio::test]
async fn a_cluster_created_again_is_another_one() {
    let world = allowing(&["above-max"]);
    let refused = ask(&world.admission(), &create(&object(9))).await;
    assert_eq!(refused["allowed"], false);
    let message = refused["status"]["message"].as_str().unwrap();
    assert!(message.contains("this one is being created"), "{message}");
    let again = |count| {
        let mut again = object(count);
        again["metadata"]["uid"] = json!("c2");
        again
    };
    let refused = ask(&world.admission(), &update(&again(3), &again(9))).await;
    assert_eq!(refused["allowed"], false);
    let message = refused["status"]["message"].as_str().unwrap();
    assert!(message.contains("uid c1, and this one has c2"), "{message}");
}
