//! The watch after admission: what it reads, what it writes, and what it never watches.

use super::after_switchover::{Scripted, led_by};
use super::*;

/// Returns a cluster that declares and runs these counts, with this leader.
fn world(leader: i64, declared: i64, runs: i64) -> FakeApiServer {
    let mut world = led_by(leader);
    world.stored = Some(object(declared));
    for (end, object) in &mut world.others {
        if end.contains("statefulsets") {
            object["spec"]["replicas"] = json!(runs);
        }
    }
    world
}

fn admission(world: &FakeApiServer, leader: i64) -> Admission {
    let ask = Arc::new(Scripted { leader, stalled: &[], late: &[] });
    Admission { ask, ..world.admission() }
}

/// Looks at the changes that `watch` holds in another state of the cluster. Returns the Events.
async fn look(watch: &Watch, world: &FakeApiServer) -> Vec<Value> {
    let admission = world.admission();
    watch.look(&admission).await;
    admission.events.flush(Duration::from_secs(5)).await;
    world.requested("/events")
}

fn counted(admission: &Admission, line: &str) -> bool {
    admission.metrics.text().lines().any(|it| it == line)
}

#[tokio::test]
async fn cluster_that_never_ran_is_not_watched() {
    let mut world = world(0, 5, 5);
    world.pods.clear();
    world.others.clear();
    let admission = admission(&world, 0);
    let answer = ask(&admission, &update(&object(5), &object(3))).await;
    assert_eq!(answer["allowed"], true, "{answer}");
    assert!(counted(&admission, "pgscale_watched_changes 0"), "{}", admission.metrics.text());
}

#[tokio::test]
async fn leader_that_lands_on_a_removed_member_after_admission_is_reported() {
    let admission = admission(&world(0, 5, 5), 0);
    let answer = ask(&admission, &update(&object(5), &object(3))).await;
    assert_eq!(answer["allowed"], true, "{answer}");
    assert!(counted(&admission, "pgscale_watched_changes 1"));
    // The write may be stored a moment after the answer.
    assert_eq!(look(&admission.watch, &world(0, 5, 5)).await.len(), 0);
    assert_eq!(look(&admission.watch, &world(0, 3, 5)).await.len(), 0);

    let failed_over = world(4, 3, 5);
    let events = look(&admission.watch, &failed_over).await;
    assert_eq!(events.len(), 1, "{events:?}");
    let event = &events[0];
    assert_eq!((&event["reason"], &event["type"]), (&json!("LeaderCondemned"), &json!("Warning")));
    assert_eq!(event["action"], "leader-condemned,acid-a-4");
    assert_eq!(
        (&event["regarding"]["uid"], &event["regarding"]["name"]),
        (&json!("c1"), &json!("acid-a"))
    );
    let note = event["note"].as_str().unwrap();
    for part in [
        "acid-a-4 leads",
        "kubectl pgscale switchover acid-a --for 3 -n db",
        "kubectl pgscale set acid-a 5 -n db",
    ] {
        assert!(note.contains(part), "{part}: {note}");
    }
    assert_eq!(look(&admission.watch, &failed_over).await.len(), 1, "once for each occurrence");
    assert!(counted(&admission, "pgscale_leader_condemned_after_admission_total 1"));

    let mut done = world(0, 3, 3);
    done.pods.truncate(3);
    assert_eq!(look(&admission.watch, &done).await.len(), 0);
    assert!(counted(&admission, "pgscale_watched_changes 0"));
    let ended = "pgscale_watched_changes_ended_total{result=\"carried-out\"} 1";
    assert!(counted(&admission, ended), "{}", admission.metrics.text());
}

#[tokio::test]
async fn scale_is_watched_like_the_write_that_it_stands_for() {
    let admission = admission(&world(0, 5, 5), 0);
    assert_eq!(ask(&admission, &scale(Some(5), Some(3))).await["allowed"], true);
    assert_eq!(look(&admission.watch, &world(3, 3, 5)).await.len(), 1);
}

#[tokio::test]
async fn hand_over_that_was_left_to_the_operator_is_reported_when_it_did_not_happen() {
    let lowered = json!({
        "apiVersion": "pgscale.dev/v1alpha1", "kind": "ClusterScalePolicy",
        "metadata": {"name": "platform"}, "spec": {"rules": {"leader-condemned": "Warn"}},
    });
    let list = json!({"kind": "List", "apiVersion": "v1", "metadata": {}, "items": [lowered]});
    let hour =
        k8s_openapi::jiff::Timestamp::now() + k8s_openapi::jiff::SignedDuration::from_hours(1);
    let granted = json!({
        "apiVersion": "pgscale.dev/v1alpha1", "kind": "ScaleOverride",
        "metadata": {"namespace": "db", "name": "night", "uid": "o1",
            "creationTimestamp": k8s_openapi::jiff::Timestamp::now()},
        "spec": {"cluster": "acid-a", "clusterUid": "c1", "to": 3, "rules": ["leader-condemned"],
            "reason": "night", "expiresAt": hour},
    });
    let mut by_policy = world(4, 5, 5);
    by_policy.others.push(("/clusterscalepolicies", list));
    let mut by_override = world(4, 5, 5);
    by_override.overrides.push(granted);
    for (name, api_server) in [("policy", by_policy), ("override", by_override)] {
        let admission = admission(&api_server, 4);
        let answer = ask(&admission, &update(&object(5), &object(3))).await;
        assert_eq!(answer["allowed"], true, "{name}: {answer}");
        let warnings = answer["warnings"].to_string();
        assert!(warnings.contains("acid-a-4 is the leader"), "{name}: {warnings}");
        // The answer said so, and the operator has not acted yet.
        assert_eq!(look(&admission.watch, &world(4, 3, 5)).await.len(), 0, "{name}");
        let events = look(&admission.watch, &world(4, 3, 3)).await;
        assert_eq!(events.len(), 1, "{name}");
        let note = events[0]["note"].as_str().unwrap();
        assert!(note.contains("The StatefulSet has the new count"), "{name}: {note}");
    }
}

#[tokio::test]
async fn nothing_is_watched_that_is_not_stored_or_removes_no_member() {
    let mut dry_run = update(&object(5), &object(3));
    dry_run["request"]["dryRun"] = json!(true);
    let mut outage = three_to_seven();
    outage.pods = led_by(0).pods;
    for (name, api_server, leader, review) in [
        ("a dry run", world(0, 5, 5), 0, dry_run),
        ("a refusal", world(4, 5, 5), 4, update(&object(5), &object(3))),
        ("growth", world(0, 5, 5), 0, update(&object(5), &object(6))),
        ("a new cluster", world(0, 5, 5), 0, create(&object(3))),
        ("an outage", outage, 0, update(&object(5), &object(0))),
        ("the count stays", world(0, 5, 5), 0, update(&object(5), &object(5))),
    ] {
        let admission = admission(&api_server, leader);
        ask(&admission, &review).await;
        assert!(counted(&admission, "pgscale_watched_changes 0"), "{name}");
        let before = api_server.requested("").len();
        look(&admission.watch, &api_server).await;
        assert_eq!(api_server.requested("").len(), before, "{name}");
    }
}

#[tokio::test]
async fn api_server_that_does_not_answer_ends_no_watch_and_delays_no_review() {
    let admission = admission(&world(0, 5, 5), 0);
    ask(&admission, &update(&object(5), &object(3))).await;
    let silent = FakeApiServer { silent: true, ..FakeApiServer::default() };
    tokio::time::pause();
    let looking = tokio::spawn({
        let (watch, silent) = (admission.watch.clone(), silent.admission());
        async move { watch.look(&silent).await }
    });
    let started = Instant::now();
    let answer = ask(&admission, &update(&object(5), &object(3))).await;
    assert_eq!(answer["allowed"], true, "{answer}");
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    looking.await.unwrap();
    assert!(counted(&admission, "pgscale_watched_changes 1"));
}

#[tokio::test(start_paused = true)]
async fn watch_looks_every_few_seconds_until_it_is_ended() {
    let api_server = world(0, 3, 5);
    let admission = admission(&api_server, 0);
    ask(&admission, &update(&object(5), &object(3))).await;
    let looks = || api_server.requested("/postgresqls/acid-a").len();
    let running = tokio::spawn(admission.watch.clone().run(admission.clone()));
    tokio::time::sleep(Duration::from_secs(22)).await;
    assert_eq!(looks(), 5);
    running.abort();
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!(looks(), 5);
    assert!(counted(&admission, "pgscale_watched_changes 1"));
}

/// The interface answers GET, and refuses the operator's POST.
#[tokio::test]
async fn leader_is_not_left_to_an_operator_that_patroni_refuses() {
    let lowered = json!({
        "apiVersion": "pgscale.dev/v1alpha1", "kind": "ClusterScalePolicy",
        "metadata": {"name": "platform"}, "spec": {"rules": {"leader-condemned": "Warn"}},
    });
    let list = json!({"kind": "List", "apiVersion": "v1", "metadata": {}, "items": [lowered]});
    let secret = json!({"secretKeyRef": {"name": "pod-env", "key": "k"}});
    let spilo = json!({"restapi": {"authentication": {"username": "u", "password": "p"}}});
    for (env, want) in [
        (json!([]), "leader-condemned=warn"),
        (
            json!([{"name": "PATRONI_RESTAPI_USERNAME", "valueFrom": secret}]),
            "leader-cannot-move=deny",
        ),
        (
            json!([{"name": "SPILO_CONFIGURATION", "value": spilo.to_string()}]),
            "leader-cannot-move=deny",
        ),
    ] {
        let mut api_server = world(4, 5, 5);
        api_server.others.push(("/clusterscalepolicies", list.clone()));
        for pod in &mut api_server.pods {
            pod["spec"]["containers"][0]["env"] = env.clone();
        }
        let admission = admission(&api_server, 4);
        let answer = ask(&admission, &update(&object(5), &object(3))).await;
        let rules = answer["auditAnnotations"]["rules"].as_str().unwrap();
        assert!(rules.contains(want), "{env}: {rules}");
        assert_eq!(answer["allowed"], !want.ends_with("deny"), "{env}: {answer}");
        let message = answer["status"]["message"].as_str().unwrap_or_default();
        assert!(!message.contains("\"p\""), "a password is never printed: {message}");
    }
}
