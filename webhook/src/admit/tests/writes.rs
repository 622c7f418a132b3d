//! Every write that can change a count, and the writes that must never be refused.

use super::super::testing::stateful_set;
use super::*;

fn rules(answer: &Value) -> &str {
    answer["auditAnnotations"]["rules"].as_str().unwrap_or_default()
}

fn annotated(count: i64, key: &str, value: &str) -> Value {
    let mut object = object(count);
    object["metadata"]["annotations"] = json!({key: value});
    object
}

#[tokio::test]
async fn annotation_that_switches_limits_is_a_change_of_the_count() {
    const IGNORE: &str = "acid.zalan.do/ignore-limits";
    let operator = json!({"watched_namespace": "*", "max_instances": "2", "ignore_instance_limits_annotation_key": IGNORE});
    let api_server = FakeApiServer { operator: Some(operator), ..three_to_seven() };
    let admission = api_server.admission();
    // The annotation lifts the limit: 6 instances run with it, and the operator runs 2 without.
    let lifted = annotated(6, IGNORE, "true");
    let answer = ask(&admission, &update(&lifted, &object(6))).await;
    assert_eq!(answer["allowed"], false);
    assert_eq!(answer["auditAnnotations"]["instances"], "6 -> 2");
    // The opposite write is growth.
    let answer = ask(&admission, &update(&object(6), &lifted)).await;
    assert_eq!(
        (&answer["allowed"], &answer["auditAnnotations"]["instances"]),
        (&json!(true), &json!("2 -> 6"))
    );
    // Another operator, whose limits are unknown, takes over.
    let before = api_server.requested("").len();
    let other = annotated(6, "acid.zalan.do/controller", "second");
    ask(&admission, &update(&object(6), &other)).await;
    assert!(api_server.requested("").len() > before, "it was judged");
}

#[tokio::test]
async fn creation_looks_for_the_volumes_of_an_earlier_cluster() {
    let claim = |ordinal| {
        let labels = json!({"application": "spilo", "cluster-name": "acid-a"});
        json!({"metadata": {"namespace": "db", "name": format!("pgdata-acid-a-{ordinal}"),
            "labels": labels, "creationTimestamp": "2026-01-01T00:00:00Z"}})
    };
    let api_server = FakeApiServer { claims: (0..5).map(claim).collect(), ..three_to_seven() };
    let admission = api_server.admission();
    let answer = ask(&admission, &create(&object(8))).await;
    assert_eq!(answer["allowed"], false);
    assert!(rules(&answer).contains("above-max=deny"), "{answer}");
    assert_eq!(
        api_server.requested("/persistentvolumeclaims").len(),
        1,
        "the webhook looks for kept volumes"
    );
}

#[tokio::test]
async fn generated_name_is_taken_from_the_object() {
    let mut review = create(&object(8));
    review["request"]["name"] = json!("");
    review["request"]["object"]["metadata"]["generateName"] = json!("acid-");
    review["request"]["object"]["metadata"]["name"] = json!("acid-x7k2p");
    let answer = ask(&three_to_seven().admission(), &review).await;
    let message = answer["status"]["message"].as_str().unwrap();
    assert!(message.starts_with("pgscale refuses to create db/acid-x7k2p with 8"), "{message}");
    // Some API servers generate the name later.
    review["request"]["object"]["metadata"].as_object_mut().unwrap().remove("name");
    assert_eq!(ask(&three_to_seven().admission(), &review).await["allowed"], false);
}

#[tokio::test]
async fn cluster_that_is_created_again_is_held_to_the_bounds() {
    let api_server = three_to_seven();
    let admission = api_server.admission();
    let mut deleted = update(&object(3), &Value::Null);
    deleted["request"]["operation"] = json!("DELETE");
    assert_eq!(ask(&admission, &deleted).await["allowed"], true);
    for (count, want) in [(9, "above-max=deny"), (2, "below-min=deny")] {
        let answer = ask(&admission, &create(&object(count))).await;
        assert!(rules(&answer).contains(want), "{count}: {answer}");
    }
    assert_eq!(ask(&admission, &create(&object(3))).await["allowed"], true);
}

#[tokio::test]
async fn result_of_two_appliers_is_judged() {
    // One applier no longer sets the count. To the operator a missing count is 0.
    let mut without = object(3);
    without["spec"].as_object_mut().unwrap().remove("numberOfInstances");
    let admission = three_to_seven().admission();
    let answer = ask(&admission, &update(&object(3), &without)).await;
    assert!(rules(&answer).contains("scale-to-zero=deny"), "{answer}");
    // The owners of fields do not matter.
    let managed = |count, manager: &str| {
        let mut object = object(count);
        object["metadata"]["managedFields"] = json!([{"manager": manager, "operation": "Apply",
            "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:numberOfInstances": {}}}}]);
        object
    };
    let api_server = three_to_seven();
    let answer =
        ask(&api_server.admission(), &update(&managed(3, "flux"), &managed(3, "argocd"))).await;
    assert_eq!((&answer["allowed"], api_server.requested("").len()), (&json!(true), 0));
    let answer = ask(&admission, &update(&managed(3, "flux"), &managed(9, "argocd"))).await;
    assert!(rules(&answer).contains("above-max=deny"), "{answer}");
}

#[tokio::test]
async fn undecodable_policy_refuses_only_where_it_selects() {
    let mut strange = policy(&json!({"min": 1}));
    strange["metadata"]["name"] = json!("strange");
    strange["spec"]["mode"] = json!("Quarantine");
    strange["spec"]["clusterSelector"] = json!({"matchLabels": {"tier": "gold"}});
    let policies = vec![strange, policy(&json!({"min": 3, "max": 7}))];
    let admission = FakeApiServer { policies, ..FakeApiServer::default() }.admission();
    let labelled = |count: i64, tier: &str| {
        let mut object = object(count);
        object["metadata"]["labels"] = json!({"tier": tier});
        object
    };
    let shrink = |tier: &str| update(&labelled(5, tier), &labelled(3, tier));
    let elsewhere = ask(&admission, &shrink("iron")).await;
    assert!(!elsewhere.to_string().contains("strange"), "{elsewhere}");
    let here = ask(&admission, &shrink("gold")).await;
    assert!(rules(&here).contains("below-min=deny,"), "{here}");
    let message = here["status"]["message"].as_str().unwrap();
    for part in [
        "scalepolicy/strange cannot be decoded",
        "spec.mode: unknown variant `Quarantine`",
        "Try:\n        kubectl edit scalepolicy/strange -n db",
    ] {
        assert!(message.contains(part), "{part}: {message}");
    }
    // The limits of the other policy refuse growth of both.
    for tier in ["iron", "gold"] {
        let growth = ask(&admission, &update(&labelled(5, tier), &labelled(9, tier))).await;
        assert!(rules(&growth).contains("above-max=deny"), "{growth}");
    }
}

#[tokio::test]
async fn write_that_changes_labels_is_judged_by_old_and_new_labels() {
    let labelled = |count: i64, tier: Option<&str>| {
        let mut object = object(count);
        object["metadata"]["labels"] = json!({"tier": tier});
        object["metadata"]["labels"].as_object_mut().unwrap().retain(|_, tier| !tier.is_null());
        object
    };
    let mut gold = policy(&json!({"min": 3, "max": 7}));
    gold["spec"]["clusterSelector"] = json!({"matchLabels": {"tier": "gold"}});
    let api_server = FakeApiServer { policies: vec![gold], ..FakeApiServer::default() };
    let admission = api_server.admission();
    for (from, to, want) in [(5, 9, "above-max=deny"), (5, 2, "below-min=deny")] {
        for (before, after) in
            [(Some("gold"), None), (Some("gold"), Some("x")), (None, Some("gold"))]
        {
            let review = update(&labelled(from, before), &labelled(to, after));
            let answer = ask(&admission, &review).await;
            assert!(rules(&answer).contains(want), "{before:?} -> {after:?}: {answer}");
            assert_eq!(answer["auditAnnotations"]["policy"], "scalepolicy/production");
        }
        let review = update(&labelled(from, None), &labelled(to, Some("x")));
        assert!(
            !rules(&ask(&admission, &review).await).contains(want),
            "the policy selected neither"
        );
    }
    let answer = ask(&admission, &update(&labelled(5, Some("gold")), &labelled(9, None))).await;
    let message = answer["status"]["message"].as_str().unwrap();
    assert!(message.contains("the labels before this write count, too"), "{message}");
    // A write of labels alone may leave the policy, and needs no read.
    let before = api_server.requested("").len();
    let answer = ask(&admission, &update(&labelled(5, Some("gold")), &labelled(5, None))).await;
    assert_eq!((&answer["allowed"], api_server.requested("").len()), (&json!(true), before));
    // A new cluster has only its own labels.
    let answer = ask(&admission, &create(&labelled(9, Some("gold")))).await;
    assert!(rules(&answer).contains("above-max=deny"), "{answer}");
    assert_eq!(ask(&admission, &create(&labelled(9, Some("x")))).await["allowed"], true);
}

#[tokio::test]
async fn cluster_outside_its_bounds_may_be_edited_and_may_improve() {
    let labelled = |count: i64| {
        let mut object = object(count);
        object["metadata"]["labels"] = json!({"team": "a"});
        object
    };
    let admission = three_to_seven().admission();
    for count in [1, 9] {
        let answer = ask(&admission, &update(&object(count), &labelled(count))).await;
        assert_eq!(answer["allowed"], true, "an unrelated edit at {count}");
    }
    // A step towards the bound, which does not reach it.
    let up = ask(&admission, &update(&object(1), &object(2))).await;
    assert_eq!(up["allowed"], true, "{up}");
    let down = ask(&admission, &update(&object(9), &object(8))).await;
    assert!(!rules(&down).contains("above-max=deny"), "{down}");
    // A step away from it.
    let away = ask(&admission, &update(&object(9), &object(10))).await;
    assert!(rules(&away).contains("above-max=deny"), "{away}");
}

#[tokio::test]
async fn writes_of_the_operator_always_pass() {
    let edited = |edit: fn(&mut Value)| {
        let mut object = object(9);
        edit(&mut object);
        object
    };
    let api_server = three_to_seven();
    let admission = api_server.admission();
    for (name, new) in [
        (
            "a finalizer",
            edited(|object| {
                object["metadata"]["finalizers"] = json!(["postgres-operator.acid.zalan.do"]);
            }),
        ),
        (
            "its status",
            edited(|object| object["status"] = json!({"PostgresClusterStatus": "Running"})),
        ),
        ("a label", edited(|object| object["metadata"]["labels"] = json!({"a": "b"}))),
    ] {
        for (old, new) in [(object(9), new.clone()), (new, object(9))] {
            let answer = ask(&admission, &update(&old, &new)).await;
            assert_eq!(
                (&answer["allowed"], &answer["warnings"]),
                (&json!(true), &Value::Null),
                "{name}"
            );
        }
    }
    assert_eq!(api_server.requested("").len(), 0, "nothing was read");
    // An annotation may switch limits, so the write is judged, and passes.
    let answer = ask(
        &admission,
        &update(&object(9), &annotated(9, "last-major-upgrade-success", "2026-01-01")),
    )
    .await;
    assert_eq!(answer["allowed"], true, "{answer}");
}

#[tokio::test]
async fn declaration_of_a_standby_is_a_change_of_the_count() {
    let mut standby = object(1);
    standby["spec"]["standby"] = json!({"standby_host": "elsewhere"});
    let api_server = FakeApiServer {
        operator: Some(json!({"watched_namespace": "*", "min_instances": "3"})),
        ..three_to_seven()
    };
    // The operator raises 1 to 3, but not for a standby cluster.
    let answer = ask(&api_server.admission(), &update(&object(1), &standby)).await;
    assert_eq!(answer["auditAnnotations"]["instances"], "3 -> 1");
    assert!(rules(&answer).contains("below-min=deny"), "{answer}");
}

#[tokio::test]
async fn direct_scale_of_a_stateful_set_warns_and_passes() {
    for by_scale in [false, true] {
        let api_server = three_to_seven();
        let admission = api_server.admission();
        let mut review = stateful_set(5, 1, by_scale);
        let answer = ask(&admission, &review).await;
        assert_eq!(answer["allowed"], true);
        let warnings = answer["warnings"].as_array().unwrap();
        let first = warnings[0].as_str().unwrap();
        assert!(
            first.starts_with("statefulset-scaled: statefulset db/acid-a goes from 5 to 1"),
            "{first}"
        );
        assert_eq!(rules(&answer), "statefulset-scaled=warn");
        assert_eq!(count(&admission, "STATEFULSET", "warned", false), "1");
        admission.events.flush(Duration::from_secs(5)).await;
        let events = api_server.requested("/namespaces/db/events");
        assert_eq!((events.len(), &events[0]["reason"]), (1, &json!("StatefulSetScaled")));
        assert_eq!(events[0]["regarding"]["kind"], "StatefulSet");
        let note = events[0]["note"].as_str().unwrap();
        assert!(note.starts_with("dba scaled db/acid-a, 5 -> 1: statefulset-scaled: "), "{note}");
        let requests = api_server.requested("");
        assert_eq!(requests.len(), 3, "two reads for the operator and one Event: {requests:?}");

        review["request"]["dryRun"] = json!(true);
        assert_eq!(ask(&admission, &review).await["warnings"], answer["warnings"]);
        admission.events.flush(Duration::from_secs(5)).await;
        assert_eq!(api_server.requested("/events").len(), 1, "no Event for a dry run");
    }
}

/// The registration leaves listed operators out. The webhook finds the others by itself.
#[tokio::test]
async fn operator_that_scales_its_stateful_set_gets_no_warning() {
    let admission = FakeApiServer { operator: Some(json!({})), ..three_to_seven() }.admission();
    let mut review = stateful_set(5, 3, false);
    for (user, warned) in [
        ("system:serviceaccount:default:postgres-operator", false),
        ("system:serviceaccount:a-tenant:postgres-operator", true),
    ] {
        review["request"]["userInfo"]["username"] = json!(user);
        let answer = ask(&admission, &review).await;
        assert_eq!(answer["warnings"].is_array(), warned, "{user}: {answer}");
    }
}

/// Case P04: after a DELETE, as `kubectl replace --force` does it, a refused CREATE leaves no
/// cluster.
#[tokio::test]
async fn refused_create_after_a_delete_says_how_to_bring_the_cluster_back() {
    let claim = |ordinal: i64| json!({"metadata": {"name": format!("pgdata-acid-a-{ordinal}")}});
    let api_server =
        FakeApiServer { claims: (0..3).map(claim).collect(), ..FakeApiServer::default() };
    let answer = ask(&api_server.admission(), &create(&object(1))).await;
    assert_eq!(answer["allowed"], false);
    insta::assert_snapshot!(answer["status"]["message"].as_str().unwrap(), @r#"
    pgscale refuses to create db/acid-a with 1 instance:
    - return-from-zero: what is left does not say who led last: neither the leader lock nor Patroni's history names a member, and a count of 1 leaves a volume out that may hold the newest data
        persistentvolumeclaim/pgdata-acid-a-1: still there: not mounted with a count of 1
        persistentvolumeclaim/pgdata-acid-a-2: still there: not mounted with a count of 1
        Try: mount every kept volume: numberOfInstances: 3 in the manifest
          or, once you have seen that they hold nothing newer (pg_controldata, Latest checkpoint location), delete them for good:
            kubectl delete pvc pgdata-acid-a-1 pgdata-acid-a-2 -n db
    postgresql db/acid-a was deleted, and it stays deleted while this write is refused. These objects are left: persistentvolumeclaim/pgdata-acid-a-0, persistentvolumeclaim/pgdata-acid-a-1, persistentvolumeclaim/pgdata-acid-a-2.
    To bring it back with 3:
        kubectl patch --local -f MANIFEST --type=merge -o yaml -p '{"spec":{"numberOfInstances":3}}' | kubectl create -n db -f -
    "#);
    let answer = ask(&FakeApiServer::default().admission(), &create(&object(1))).await;
    assert_eq!(answer["allowed"], true, "no earlier cluster left anything");
}
