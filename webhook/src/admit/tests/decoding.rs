//! Only the judged parts of a review are decoded.

use super::super::budget::{Refusal, VALUES};
use super::super::request::Unjudgeable;
use super::super::testing::stateful_set;
use super::*;

fn received(body: &str) -> Received<'_> {
    Received::of(body.as_bytes()).unwrap()
}

fn asks(review: &Value) -> Result<Question, Unjudgeable> {
    let body = review.to_string();
    Question::of(&received(&body))
}

fn change(review: &Value) -> Change {
    let Question::Write(change) = asks(review).unwrap() else { panic!("no write: {review}") };
    *change
}

/// Returns a list beyond the budget.
fn endless() -> Value {
    json!(vec![0; VALUES])
}

fn too_large(question: &Result<Question, Unjudgeable>) -> bool {
    question.as_ref().is_err_and(Unjudgeable::is_too_large)
}

#[test]
fn unchanged_part_that_no_rule_reads_is_never_decoded() {
    let with_users = |count, users: Value| {
        let mut object = object(count);
        object["spec"]["users"] = users;
        object["metadata"]["managedFields"] = endless();
        object["status"] = json!({"PostgresClusterStatus": "Running", "conditions": endless()});
        object
    };
    let read = change(&update(&with_users(3, endless()), &with_users(5, endless())));
    assert_eq!(read.new.spec.get("users"), None);
    assert_eq!(read.new.status.as_deref(), Some("Running"));
    assert_eq!(read.other_edits(), []);
    // The same part is decoded where it differs.
    let read = change(&update(&with_users(3, json!({})), &with_users(5, json!({"a": []}))));
    assert_eq!(read.other_edits().len(), 1);
    let question = asks(&update(&with_users(3, json!({})), &with_users(5, endless())));
    assert!(too_large(&question), "{question:?}");
    let created = change(&create(&with_users(3, endless())));
    assert_eq!(created.new.spec.get("users"), None, "there is no other object to compare it with");
}

#[test]
fn write_that_needs_no_verdict_passes_however_large_the_object_is() {
    let large = |count: i64| {
        let mut object = object(count);
        object["spec"]["env"] = endless();
        object["spec"]["initContainers"] = endless();
        object["metadata"]["annotations"] = json!({"a": "x".repeat(2 << 20)});
        object
    };
    let mut labelled = large(3);
    labelled["metadata"]["labels"] = json!({"a": "b"});
    let mut smaller = large(3);
    smaller["spec"]["initContainers"] = json!([]);
    let mut terminating = large(0);
    terminating["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    for (name, new) in [("labels", labelled), ("repaired", smaller), ("deleted", terminating)] {
        let question = asks(&update(&large(3), &new));
        assert!(matches!(question, Ok(Question::Nothing(_))), "{name}: {question:?}");
    }
    for count in [2, 4] {
        assert!(too_large(&asks(&update(&large(3), &large(count)))), "to {count}");
    }
}

#[test]
fn direct_scale_is_read_by_its_replicas_alone() {
    for by_scale in [false, true] {
        let mut review = stateful_set(5, 1, by_scale);
        for side in ["object", "oldObject"] {
            review["request"][side]["metadata"]["labels"] = endless();
            review["request"][side]["spec"]["template"] = endless();
        }
        let Ok(Question::PastTheOperator(write)) = asks(&review) else { panic!("not read") };
        assert_eq!((write.from, write.to), (5, 1));
    }
    let mut review = scale(Some(5), Some(1));
    review["request"]["object"]["metadata"]["labels"] = endless();
    assert!(matches!(asks(&review), Ok(Question::Scale(_))));
    review["request"]["object"]["spec"]["replicas"] = endless();
    assert!(too_large(&asks(&review)));
}

#[test]
fn count_that_readers_could_take_differently_is_refused() {
    let body = update(&object(3), &object(5)).to_string();
    let five = r#""numberOfInstances":5"#;
    for (name, text) in [
        ("a number", format!("{five},\"numberOfInstances\":2")),
        ("escaped", format!("{five},\"\\u006eumberOfInstances\":2")),
        ("before", format!("\"numberOfInstances\":2,{five}")),
        ("with other values between", format!("{five},\"a\":{{}},\"numberOfInstances\":5")),
    ] {
        let body = body.replacen(five, &text, 1);
        let error = Question::of(&received(&body)).unwrap_err().to_string();
        assert_eq!(
            error,
            "spec of the new object is malformed: the key \"numberOfInstances\" is there twice",
            "{name}"
        );
    }
    let escaped = body.replacen("spec", "\\u0073pec", 2).replacen("object", "\\u006fbject", 1);
    assert_ne!(escaped, body);
    let Ok(Question::Write(change)) = Question::of(&received(&escaped)) else { panic!("not read") };
    assert_eq!(change.new.instances, Some(5));
}

#[test]
fn uid_is_found_wherever_it_is() {
    let plain = update(&object(3), &object(5)).to_string();
    let moved = plain.replacen(r#""uid":"r1","#, "", 1);
    let last = format!("{},\"uid\":\"r1\"}}}}", moved.strip_suffix("}}").unwrap());
    let unknown = r#""unknown":0,"#.repeat(2 * VALUES);
    let endless = last.replacen(r#""request":{"#, &format!("\"request\":{{{unknown}"), 1);
    let twice = last.replacen(r#""request":{"#, "\"request\":{\"object\":1,\"object\":2,", 1);
    for (body, want) in [
        (&plain, None),
        (&last, None),
        (&endless, Some("request is too large to judge")),
        (&twice, Some("request is malformed: the key \"object\" is there twice")),
    ] {
        match (Received::of(body.as_bytes()).err(), want) {
            (None, None) => {}
            (Some(Undecodable::Review { uid, why }), Some(want)) => {
                assert_eq!(uid, "r1");
                assert!(why.starts_with(want), "{why}");
            }
            (error, _) => panic!("{error:?}"),
        }
    }
    for uid in ["", r#""uid":"","#, r#""uid":null,"#, r#""uid":7,"#, r#""uid":"r1","uid":7,"#] {
        let body = moved.replacen(r#""request":{"#, &format!("\"request\":{{{uid}"), 1);
        let error = Received::of(body.as_bytes()).err();
        assert!(matches!(error, Some(Undecodable::Request(_))), "{uid}: {error:?}");
    }
}

#[test]
fn body_that_is_no_json_is_no_review() {
    let body = update(&object(3), &object(5)).to_string().into_bytes();
    let mut broken = body.clone();
    *broken.iter_mut().find(|byte| **byte == b'd').unwrap() = 0xff;
    for (name, body, want) in [
        (
            "bytes after it",
            [&body[..], b"{}"].concat(),
            "the body is not JSON (trailing characters",
        ),
        ("no UTF-8", broken, "the body is not JSON (invalid utf-8"),
        ("cut off", body[..body.len() - 1].to_vec(), "the body is not JSON (EOF"),
        ("a list", b"[]".to_vec(), "the body is no review (invalid type: sequence"),
        ("levels", vec![b'['; 1 << 20], "the body is no review (invalid type: sequence"),
        (
            "levels in a field",
            [&b"{\"a\":"[..], &vec![b'['; 1 << 20]].concat(),
            "the body is not JSON",
        ),
        ("a text for the request", b"{\"request\":\"x\"}".to_vec(), "the body is no review"),
    ] {
        match Received::of(&body) {
            Err(Undecodable::Request(why)) => assert!(why.starts_with(want), "{name}: {why}"),
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn fields_beside_the_objects_are_read_and_checked() {
    let mut review = update(&object(3), &object(5));
    review["request"]["options"]["fieldManager"] = json!("kubectl-edit");
    review["request"]["dryRun"] = json!(true);
    review["request"]["subResource"] = json!("");
    let body = review.to_string();
    let Received { review: read, .. } = received(&body);
    assert_eq!((read.field_manager.as_deref(), read.dry_run), (Some("kubectl-edit"), true));
    assert_eq!((read.user.as_deref(), read.sub_resource), (Some("dba"), None));
    assert_eq!(
        (read.object_name.as_deref(), read.object_uid.as_deref()),
        (Some("acid-a"), Some("c1"))
    );
    for (place, value, want) in [
        ("/request/operation", json!("RENAME"), "request.operation is malformed"),
        ("/request/operation", Value::Null, "request.operation is malformed: it is missing"),
        ("/request/kind", json!({"group": "a"}), "request.kind is malformed"),
        ("/request/name", json!(7), "request.name is malformed: it is no text"),
        ("/request/name", json!("x".repeat(2000)), "request.name is malformed: it has more than"),
        (
            "/request/operation",
            json!("x".repeat(100_000)),
            "request.operation is malformed: unknown",
        ),
        ("/request/dryRun", json!("yes"), "request.dryRun is malformed"),
        ("/request/userInfo", json!([]), "request.userInfo is malformed"),
        ("/request/userInfo/groups", endless(), "request.userInfo is too large to judge"),
        ("/request/userInfo/username", json!({"a": 1}), "request.userInfo is malformed"),
        ("/request/options/kind", endless(), "request.options is too large to judge"),
    ] {
        let mut odd = review.clone();
        *odd.pointer_mut(place).unwrap() = value;
        match Received::of(odd.to_string().as_bytes()).err() {
            Some(Undecodable::Review { uid, why }) => {
                assert_eq!(uid, "r1");
                assert!(why.starts_with(want) && why.len() < 512, "{place}: {why}");
            }
            other => panic!("{place}: {other:?}"),
        }
    }
}

#[test]
fn refusal_names_part_limit_and_remedy() {
    let with = |count, part: &str, value: Value| {
        let mut object = object(count);
        *object
            .pointer_mut("/spec")
            .unwrap()
            .as_object_mut()
            .unwrap()
            .entry(part)
            .or_insert(Value::Null) = value;
        object
    };
    let large = |count| with(count, "initContainers", endless());
    let mut deep = json!(0);
    for _ in 0..100 {
        deep = json!([deep]);
    }
    let texts: Vec<_> = [
        update(&object(3), &large(9)),
        update(&large(3), &large(9)),
        create(&large(9)),
        update(&object(3), &with(9, "tls", deep)),
        update(&object(3), &with(9, "users", json!({"k".repeat(2000): []}))),
    ]
    .iter()
    .map(|review| asks(review).unwrap_err().to_string())
    .collect();
    insta::assert_snapshot!(texts.join("\n---\n"), @"
    spec.initContainers of the new object is too large to judge (limit: 5000 JSON values in one write). Leave spec.initContainers as it is and change only the count:
        kubectl pgscale set acid-a 9 -n db
    ---
    spec.initContainers of the stored object is too large to judge (limit: 5000 JSON values in one write). First remove from spec.initContainers what is not needed: a write that leaves numberOfInstances as it is passes unjudged. Then change the count:
        kubectl pgscale set acid-a 9 -n db
    ---
    spec.initContainers of the new object is too large to judge (limit: 5000 JSON values in one write). Create the cluster with less in spec.initContainers
    ---
    spec.tls of the new object is too large to judge (limit: 64 levels of arrays and objects). Leave spec.tls as it is and change only the count:
        kubectl pgscale set acid-a 9 -n db
    ---
    spec.users of the new object is too large to judge (limit: 1024 bytes of keys on the way to one value). Leave spec.users as it is and change only the count:
        kubectl pgscale set acid-a 9 -n db
    ");
    let error = change_of_scale(
        &CountWrite {
            namespace: "db".to_owned(),
            name: "acid-a".to_owned(),
            from: 3,
            to: 9,
            dry_run: false,
            user: None,
        },
        &large(3).to_string(),
    )
    .unwrap_err();
    assert!(matches!(error, Unjudgeable::Undecoded { refusal: Refusal::TooLarge { .. }, .. }));
    insta::assert_snapshot!(error.to_string(), @"
    spec.initContainers of the stored object is too large to judge (limit: 5000 JSON values in one write). First remove from spec.initContainers what is not needed: a write that leaves numberOfInstances as it is passes unjudged. Then change the count:
        kubectl pgscale set acid-a 9 -n db
    ");
}

#[test]
fn times_of_the_last_writes_are_read_of_the_stored_object_only() {
    let time = |second: u32| format!("2026-11-24T10:00:0{second}Z");
    let written = |count, second: u32| {
        let mut object = object(count);
        object["metadata"]["managedFields"] = json!([
            {"manager": "kubectl-patch", "operation": "Update", "time": time(second),
             "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:tolerations": {}}}},
            {"manager": "postgres-operator", "operation": "Update", "time": time(1),
             "subresource": "status", "fieldsType": "FieldsV1",
             "fieldsV1": {"f:status": {"f:PostgresClusterStatus": {}}}},
            {"a": 0}, 7]);
        object
    };
    let read = change(&update(&written(3, 2), &written(2, 4)));
    let stored = read.old.unwrap().writes;
    let parsed = |second| time(second).parse().ok();
    assert_eq!((stored.spec, stored.status), (parsed(2), parsed(1)));
    assert_eq!(read.new.writes, pgscale_guard::postgresql::Writes::default());
}
