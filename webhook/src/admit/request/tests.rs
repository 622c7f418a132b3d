//! The question that each review asks, and the reviews that are refused.

use serde_json::{Value, json};

use super::super::testing::{create, object, scale, stateful_set, update};
use super::*;

fn read(review: &Value) -> Result<Question, Unjudgeable> {
    let body = review.to_string();
    Question::of(&Received::of(body.as_bytes()).unwrap())
}

fn change(review: &Value) -> Change {
    let Question::Write(change) = read(review).unwrap() else { panic!("no write: {review}") };
    *change
}

#[test]
fn update_is_read_with_both_objects() {
    let read = change(&update(&object(3), &object(5)));
    assert_eq!((read.old.unwrap().instances, read.new.instances), (Some(3), Some(5)));
    assert_eq!((read.new.namespace.as_str(), read.new.name.as_str()), ("db", "acid-a"));
    assert_eq!((read.dry_run, read.user.as_deref()), (false, Some("dba")));
    assert_eq!(change(&create(&object(3))).old, None);
}

#[test]
fn omitted_count_of_a_scale_is_zero() {
    let counts = |review: &Value| {
        let Question::Scale(write) = read(review).unwrap() else { panic!("no scale: {review}") };
        (write.from, write.to)
    };
    assert_eq!(counts(&scale(Some(3), Some(5))), (3, 5));
    assert_eq!(counts(&scale(Some(3), None)), (3, 0));
    let mut no_spec = scale(Some(3), None);
    no_spec["request"]["object"]["spec"] = Value::Null;
    assert_eq!(counts(&no_spec), (3, 0));
}

#[test]
fn stateful_set_is_read_by_its_replicas_and_never_refused() {
    for by_scale in [false, true] {
        let Ok(Question::PastTheOperator(write)) = read(&stateful_set(3, 5, by_scale)) else {
            panic!("no write of a StatefulSet")
        };
        assert_eq!((write.from, write.to, write.name.as_str()), (3, 5, "acid-a"));
        assert!(matches!(read(&stateful_set(3, 3, by_scale)), Ok(Question::Nothing(_))));
        let mut odd = stateful_set(3, 5, by_scale);
        odd["request"]["object"]["spec"]["replicas"] = json!("five");
        assert!(matches!(read(&odd), Ok(Question::Nothing(_))));
        odd["request"]["object"] = Value::Null;
        assert!(matches!(read(&odd), Ok(Question::Nothing(_))));
    }
    let mut status = stateful_set(3, 5, false);
    status["request"]["subResource"] = json!("status");
    assert!(matches!(read(&status), Ok(Question::Nothing(_))));
}

#[test]
fn write_without_a_count_asks_nothing() {
    for operation in ["DELETE", "CONNECT"] {
        let mut review = update(&object(3), &Value::Null);
        review["request"]["operation"] = json!(operation);
        assert!(matches!(read(&review), Ok(Question::Nothing(_))), "{operation}");
    }
    let mut status = update(&object(3), &object(5));
    status["request"]["subResource"] = json!("status");
    assert!(matches!(read(&status), Ok(Question::Nothing(_))));
}

#[test]
fn review_of_an_unknown_shape_is_refused() {
    let change = |path: &str, value: Value| {
        let mut review = update(&object(3), &object(5));
        *review.pointer_mut(path).unwrap() = value;
        review
    };
    let mut exec = update(&object(3), &object(5));
    exec["request"]["subResource"] = json!("exec");
    let mut text = scale(Some(3), Some(5));
    text["request"]["object"]["spec"]["replicas"] = json!("five");
    for (review, want) in [
        (
            change("/request/kind/kind", json!("Postgresql")),
            "pgscale does not judge postgresqls.acid.zalan.do/v1 as kind Postgresql",
        ),
        (
            change("/request/resource/version", json!("v2")),
            "does not judge postgresqls.acid.zalan.do/v2",
        ),
        (
            change("/request/resource/group", json!("apps")),
            "pgscale does not judge postgresqls.apps/v1",
        ),
        (exec, "subresource exec"),
        (change("/request/object", Value::Null), "the review has no object"),
        (change("/request/oldObject", Value::Null), "the review has no oldObject"),
        (change("/request/object/spec/numberOfInstances", json!(2.5)), "not a whole number"),
        (change("/request/object/spec/numberOfInstances", json!("5")), "object is malformed"),
        (text, "object is malformed"),
    ] {
        let error = read(&review).unwrap_err().to_string();
        assert!(error.contains(want), "{error}");
    }
}

#[test]
fn only_a_change_of_the_effective_count_needs_a_verdict() {
    let terminating = |count| {
        let mut object = object(count);
        object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        object
    };
    let annotated = |count| {
        let mut object = object(count);
        object["metadata"]["annotations"] = json!({"acid.zalan.do/controller": "other"});
        object
    };
    let promoted = {
        let mut object = object(1);
        object["spec"]["standby"] = json!({"standby_host": "elsewhere"});
        object
    };
    for (name, old, new, want) in [
        ("the same count", object(3), object(3), true),
        ("it falls", object(3), object(2), false),
        ("it rises", object(3), object(4), false),
        ("another operator takes over", object(3), annotated(3), false),
        ("a standby is promoted", promoted, object(1), false),
        ("being deleted", object(3), terminating(3), true),
        ("being deleted and shrinking", object(3), terminating(0), true),
        ("being deleted and growing", object(3), terminating(4), false),
    ] {
        let question = read(&update(&old, &new)).unwrap();
        assert_eq!(matches!(question, Question::Nothing(_)), want, "{name}: {question:?}");
    }
    assert!(matches!(read(&create(&object(3))), Ok(Question::Write(_))));
}

#[test]
fn only_a_dry_run_under_the_field_manager_asks_for_after_a_switchover() {
    for (dry_run, options, want) in [
        (true, json!({"fieldManager": "pgscale-after-switchover"}), true),
        (false, json!({"fieldManager": "pgscale-after-switchover"}), false),
        // The request says whether it is a dry run. The options do not count.
        (false, json!({"fieldManager": "pgscale-after-switchover", "dryRun": ["All"]}), false),
        (true, json!({"fieldManager": "kubectl-pgscale"}), false),
        (true, json!({"fieldManager": "pgscale-after-switchover "}), false),
        (true, json!({}), false),
        (true, Value::Null, false),
    ] {
        let mut review = update(&object(5), &object(3));
        review["request"]["dryRun"] = json!(dry_run);
        review["request"]["options"] = options.clone();
        let body = review.to_string();
        let asks = asks_after_switchover(&Received::of(body.as_bytes()).unwrap().review);
        assert_eq!(asks, want, "{dry_run} {options}");
    }
}

#[test]
fn only_certain_growth_counts_as_growth() {
    let mut annotated = object(5);
    annotated["metadata"]["annotations"] = json!({"x": "y"});
    for (review, want) in [
        (update(&object(3), &object(5)), true),
        (update(&object(3), &annotated), false),
        (update(&object(5), &object(3)), false),
        (create(&object(3)), true),
        (scale(Some(3), Some(5)), true),
        (scale(Some(3), None), false),
    ] {
        assert_eq!(read(&review).unwrap().grows(), want, "{review}");
    }
}
