//! A dry run that asks for the verdict after a switchover, and a write that only uses its field
//! manager.

use k8s_openapi::jiff::Timestamp;
use pgscale_guard::postgresql::Postgresql;
use pgscale_guard::rules::{AFTER_SWITCHOVER, refused_unseen};

use super::*;

/// Returns a cluster of five members, of which the last leads.
pub(super) fn led_by_the_last() -> FakeApiServer {
    led_by(4)
}

/// Returns a cluster of five members, of which this one leads.
pub(super) fn led_by(leader: i64) -> FakeApiServer {
    let role = |leads: bool| if leads { "primary" } else { "replica" };
    let pod = |ordinal: i64| {
        let leads = ordinal == leader;
        let mut said = json!({"state": "running", "role": role(leads), "version": "4.1.4",
            "timeline": 1, "xlog_location": 1000});
        if !leads {
            said["replication_state"] = json!("streaming");
        }
        json!({
            "metadata": {"namespace": "db", "name": format!("acid-a-{ordinal}"),
                "creationTimestamp": "2026-01-01T00:00:00Z",
                "annotations": {"status": said.to_string()},
                "labels": {"cluster-name": "acid-a", "application": "spilo",
                    "spilo-role": if leads { "master" } else { "replica" }}},
            "spec": {"containers": [{"name": "postgres"}]},
            "status": {"phase": "Running", "podIP": format!("10.244.0.{}", 10 + ordinal),
                "conditions": [{"type": "Ready", "status": "True"}],
                "containerStatuses": [{"name": "postgres", "ready": true, "restartCount": 0,
                    "image": "spilo", "imageID": "",
                    "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}]},
        })
    };
    let annotated = |annotations: Value| {
        json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
            "metadata": {"namespace": "db", "name": "kept", "annotations": annotations}})
    };
    let config = json!({"config": "{\"maximum_lag_on_failover\": 1000000}"});
    let leader = json!({"leader": format!("acid-a-{leader}"), "ttl": "30", "renewTime": Timestamp::now(),
        "optime": "1000", "transitions": "0"});
    let set = json!({"apiVersion": "apps/v1", "kind": "StatefulSet",
        "metadata": {"namespace": "db", "name": "acid-a", "generation": 1},
        "spec": {"replicas": 5, "serviceName": "acid-a", "selector": {},
            "template": {"spec": {"containers": [{"name": "postgres",
                "env": [{"name": "KUBERNETES_USE_CONFIGMAPS", "value": "true"}]}]}}},
        "status": {"replicas": 5, "observedGeneration": 1}});
    FakeApiServer {
        operator: Some(json!({"watched_namespace": "*", "kubernetes_use_configmaps": "true"})),
        stored: Some(object(5)),
        pods: (0..5).map(pod).collect(),
        others: vec![
            ("/configmaps/acid-a-leader", annotated(leader)),
            ("/configmaps/acid-a-config", annotated(config)),
            ("/statefulsets/acid-a", set),
        ],
        ..FakeApiServer::default()
    }
}

/// The members of that cluster.
pub(super) struct Scripted {
    /// The member that leads.
    pub(super) leader: i64,
    /// These receive nothing any more.
    pub(super) stalled: &'static [i64],
    /// These receive everything, and replay it late.
    pub(super) late: &'static [i64],
}

impl MemberClient for Scripted {
    fn exchange<'a>(
        &'a self,
        pod: &'a Address,
        _: RestRequest,
    ) -> BoxFuture<'a, Result<RestResponse, String>> {
        let ordinal: i64 = pod.pod.rsplit('-').next().unwrap().parse().unwrap();
        let received = if self.stalled.contains(&ordinal) { 10 } else { 1000 };
        let replayed = if self.late.contains(&ordinal) { 850.min(received) } else { received };
        let mut said = json!({"state": "running", "role": "replica", "timeline": 1,
            "server_version": 150_004, "replication_state": "streaming",
            "xlog": {"received_location": received, "replayed_location": replayed},
            "patroni": {"version": "4.1.4"}});
        if ordinal == self.leader {
            said["role"] = json!("primary");
            said["xlog"] = json!({"location": 1000});
            said["replication_state"] = Value::Null;
        }
        Box::pin(async move { Ok(RestResponse { status: 200, body: said.to_string() }) })
    }
}

fn admission(stalled: &'static [i64]) -> Admission {
    Admission {
        ask: Arc::new(Scripted { leader: 4, stalled, late: &[] }),
        ..led_by_the_last().admission()
    }
}

/// Returns `review` under this field manager, as a dry run or not.
fn under(manager: &str, dry_run: bool, mut review: Value) -> Value {
    review["request"]["dryRun"] = json!(dry_run);
    review["request"]["options"]["fieldManager"] = json!(manager);
    review
}

fn rules(answer: &Value) -> &str {
    answer["auditAnnotations"]["rules"].as_str().unwrap_or_default()
}

#[tokio::test]
async fn dry_run_after_a_switchover_takes_the_best_survivor_for_the_leader() {
    // The operator would switch over to -0, which lags. -1 can lead.
    let admission = admission(&[0]);
    for review in [update(&object(5), &object(3)), scale(Some(5), Some(3))] {
        let answer = ask(&admission, &under(AFTER_SWITCHOVER, true, review)).await;
        assert_eq!(answer["allowed"], true, "{answer}");
        assert!(!rules(&answer).contains("leader-"), "{answer}");
        assert_eq!(answer["auditAnnotations"]["assumed-leader"], "acid-a-1");
    }
}

#[tokio::test]
async fn stored_write_is_never_judged_with_another_leader() {
    let admission = admission(&[0]);
    for (manager, dry_run) in
        [(AFTER_SWITCHOVER, false), ("kubectl-pgscale", true), ("kubectl-edit", false)]
    {
        for review in [update(&object(5), &object(3)), scale(Some(5), Some(3))] {
            let answer = ask(&admission, &under(manager, dry_run, review)).await;
            assert_eq!(answer["allowed"], false, "{manager} {dry_run}: {answer}");
            assert!(rules(&answer).contains("leader-condemned=deny"), "{manager}: {answer}");
            assert_eq!(answer["auditAnnotations"]["assumed-leader"], Value::Null);
        }
    }
}

#[tokio::test]
async fn problem_that_a_switchover_leaves_refuses_the_dry_run_too() {
    let review = || under(AFTER_SWITCHOVER, true, update(&object(5), &object(3)));
    let answer = ask(&admission(&[0, 1]), &review()).await;
    assert_eq!(answer["allowed"], false, "{answer}");
    let message = answer["status"]["message"].as_str().unwrap();
    assert!(
        message.starts_with(
            "pgscale refuses to scale db/acid-a from 5 to 3 instances, even after a switchover to acid-a-2:"
        ),
        "{message}"
    );
    // No survivor can lead, so the change is judged with the leader that it would delete.
    let answer = ask(&admission(&[0, 1, 2]), &review()).await;
    assert_eq!(answer["allowed"], false, "{answer}");
    assert!(rules(&answer).contains("leader-condemned=deny"), "{answer}");
    assert_eq!(answer["auditAnnotations"]["assumed-leader"], Value::Null);
}

/// Equal facts and policies come to equal findings here and in the guard, and nothing else enters. The same holds where a policy
/// allows less lag than Patroni.
///
/// The clock stands still while anything is worked on: on a busy machine the early look would end by its
/// time, and leave the refusal to the look at everything.
#[tokio::test(start_paused = true)]
async fn findings_are_byte_equal_to_those_of_the_guard() {
    let mut lags = Vec::new();
    for max_lag in [None, Some("50")] {
        for (stalled, late) in [(&[][..], &[][..]), (&[1], &[0, 2]), (&[], &[0, 1, 2])] {
            for (to, moved) in [(3, false), (3, true), (7, false)] {
                let mut world = led_by_the_last();
                let mut strict = policy(&json!({"max": 6}));
                strict["spec"]["survivors"] = json!({"maxLag": max_lag});
                world.policies = vec![strict];
                let members = Arc::new(Scripted { leader: 4, stalled, late });
                let admission = Admission { ask: members, ..world.admission() };
                let deadlines = Deadlines::of(None, Instant::now());
                let cluster = Postgresql::of(&object(5)).unwrap();
                let change = Change { dry_run: moved, ..Change::of_count(cluster, to) };
                let question = Question::Write(Box::new(change.clone()));
                let place = admission.limits.place(deadlines.start).await.unwrap();
                let budgeted = Budgeted::default();
                let decided = admission.judge(question, moved, deadlines, place, &budgeted).await;
                let Decision::Judged(decided) = decided else { panic!("{to}: nothing is judged") };
                let reader = admission.reader(deadlines);
                let policies = reader.policies(&change).await;
                let facts = reader.facts(change, AskWhom::AsNeeded).await;
                let facts =
                    if moved { after_switchover(&facts, &policies) } else { Cow::Borrowed(&facts) };
                let findings =
                    serde_json::to_string(&evaluate(&facts, &policies).findings).unwrap();
                // What is refused early suggests plans only.
                let early = refused_unseen(&facts.change, facts.now, &policies, None);
                assert_eq!((decided.unseen, early.is_some()), (to == 7, to == 7));
                let findings = match early {
                    Some((_, verdict)) => serde_json::to_string(&verdict.findings).unwrap(),
                    None => findings,
                };
                assert_eq!(serde_json::to_string(&decided.verdict.findings).unwrap(), findings);
                let denials: Vec<(String, String)> = decided
                    .verdict
                    .denials()
                    .map(|denial| (denial.rule.to_string(), denial.message.clone()))
                    .collect();
                let review = update(&object(5), &object(to)).to_string();
                let review = Received::of(review.as_bytes()).unwrap().review;
                let response = Decision::Judged(decided).respond(&review);
                let details = response.result.details.into_iter();
                let causes: Vec<(String, String)> = details
                    .flat_map(|details| details.causes)
                    .map(|cause| (cause.reason, cause.message))
                    .collect();
                assert_eq!(causes, denials);
                lags.push((max_lag.is_some(), findings.contains("survivors.maxLag")));
            }
        }
    }
    assert!(lags.contains(&(true, true)) && !lags.contains(&(false, true)), "{lags:?}");
}
