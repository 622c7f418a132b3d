//! The review path in one process: the router, an API server in memory, and members that follow a
//! script.

use std::convert::Infallible;
use std::sync::Mutex;
use std::time::Duration;

use axum::http::{Method, Request, Response as HttpResponse};
use futures::future::BoxFuture;
use kube::client::Body as ClientBody;
use kube::core::admission::{META_API_VERSION_V1, META_KIND};
use pgscale_guard::read::{Address, RestRequest, RestResponse};
use proptest::prelude::*;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::decision::CANNOT_BE_JUDGED;
use super::testing::{create, object, scale, update};
use super::*;

mod after_switchover;
mod budget;
mod busy;
mod decoding;
mod early;
mod fake;
mod growth;
mod hostile;
mod malformed;
mod overrides;
mod watched;
mod whole;
mod writes;

use fake::{FakeApiServer, Panic};

fn policy(instances: &Value) -> Value {
    json!({
        "apiVersion": "pgscale.dev/v1alpha1", "kind": "ScalePolicy",
        "metadata": {"namespace": "db", "name": "production"},
        "spec": {"instances": instances},
    })
}

fn three_to_seven() -> FakeApiServer {
    FakeApiServer {
        policies: vec![policy(&json!({"min": 3, "max": 7}))],
        ..FakeApiServer::default()
    }
}

async fn post(router: Router, uri: &str, body: impl Into<Body>) -> (u16, String) {
    let request = Request::post(uri).body(body.into()).unwrap();
    let response = router.oneshot(request).await.unwrap();
    let status = response.status().as_u16();
    let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

/// Sends a review and returns its answer.
async fn ask(admission: &Admission, review: &Value) -> Value {
    let uri = "/validate?timeout=5s";
    let (status, body) = post(router(admission.clone()), uri, review.to_string()).await;
    assert_eq!(status, 200, "{body}");
    let answer: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(answer["apiVersion"], META_API_VERSION_V1);
    assert_eq!(answer["kind"], META_KIND);
    assert_eq!(answer["response"]["uid"], review["request"]["uid"]);
    answer["response"].clone()
}

fn count(admission: &Admission, operation: &str, verdict: &str, dry_run: bool) -> String {
    let name = format!(
        "pgscale_admission_requests_total{{operation=\"{operation}\",verdict=\"{verdict}\",dry_run=\"{dry_run}\"}} "
    );
    let text = admission.metrics.text();
    let line = text.lines().find_map(|line| line.strip_prefix(&name));
    line.unwrap_or("not there").to_owned()
}

#[tokio::test]
async fn refusal_that_a_trial_suppressed_is_counted_unless_it_was_a_dry_run() {
    for (mode, allowed) in [("Warn", true), ("Audit", true), ("Enforce", false)] {
        let mut trial = policy(&json!({"max": 7}));
        trial["spec"]["mode"] = json!(mode);
        let admission =
            FakeApiServer { policies: vec![trial], ..FakeApiServer::default() }.admission();
        let mut review = update(&object(3), &object(9));
        assert_eq!(ask(&admission, &review).await["allowed"], allowed, "{mode}");
        review["request"]["dryRun"] = json!(true);
        ask(&admission, &review).await;
        let counted = format!(
            "pgscale_admission_would_deny_total{{namespace=\"db\",rule=\"above-max\",mode=\"{mode}\"}} 1\n"
        );
        assert_eq!(admission.metrics.text().contains(&counted), allowed, "{mode}");
    }
}

#[tokio::test]
async fn growth_past_the_maximum_is_refused_with_limit_source_and_command() {
    let api_server = three_to_seven();
    let admission = api_server.admission();
    let answer = ask(&admission, &update(&object(3), &object(9))).await;
    assert_eq!(answer["allowed"], false);
    let status = &answer["status"];
    assert_eq!((&status["code"], &status["reason"]), (&json!(403), &json!("Forbidden")));
    insta::assert_snapshot!(status["message"].as_str().unwrap(), @"
    pgscale refuses to scale db/acid-a from 3 to 9 instances:
    - above-max: 9 instances asked for, 7 is the maximum
        scalepolicy/production: instances.max: 7
        Try:
            kubectl pgscale plan acid-a --to 7 -n db
    The live state of the cluster was not looked at: it cannot change this.
    Everything the guard sees:
        kubectl pgscale plan acid-a --to 9 -n db
    ");
    let causes = status["details"]["causes"].as_array().unwrap();
    assert_eq!(causes.len(), 1, "{causes:?}");
    assert_eq!(causes[0]["reason"], "above-max");
    assert_eq!(causes[0]["field"], "spec.numberOfInstances");
    assert_eq!(answer["auditAnnotations"]["verdict"], "denied");
    assert_eq!(answer["auditAnnotations"]["policy"], "scalepolicy/production");
    assert_eq!(count(&admission, "UPDATE", "denied", false), "1");

    admission.events.flush(Duration::from_secs(5)).await;
    let events = api_server.requested("/namespaces/db/events");
    assert_eq!(events.len(), 1);
    assert_eq!(events[0]["reason"], "ScaleDenied");
    assert_eq!(events[0]["action"], "above-max");
    assert_eq!(events[0]["regarding"]["name"], "acid-a");
    assert_eq!(events[0]["regarding"]["uid"], "c1");
    assert!(events[0]["note"].as_str().unwrap().contains("- above-max: "));
}

#[tokio::test]
async fn dry_run_gets_the_same_answer_and_writes_nothing() {
    let api_server = three_to_seven();
    let admission = api_server.admission();
    let real = ask(&admission, &update(&object(3), &object(9))).await;
    admission.events.flush(Duration::from_secs(5)).await;
    assert_eq!(api_server.requested("/events").len(), 1);

    let mut review = update(&object(3), &object(9));
    review["request"]["dryRun"] = json!(true);
    assert_eq!(ask(&admission, &review).await, real);
    admission.events.flush(Duration::from_secs(5)).await;
    assert_eq!(api_server.requested("/events").len(), 1, "no Event for a dry run");
    assert_eq!(count(&admission, "UPDATE", "denied", true), "1");
    let requests = api_server.requests.lock().unwrap();
    assert!(
        requests.iter().all(|(method, path, _)| method == Method::GET || path.ends_with("/events"))
    );
}

#[tokio::test]
async fn creation_is_judged_by_the_bounds() {
    let admission = three_to_seven().admission();
    assert_eq!(ask(&admission, &create(&object(3))).await["allowed"], true);
    let refused = ask(&admission, &create(&object(8))).await;
    assert_eq!(refused["allowed"], false);
    let message = refused["status"]["message"].as_str().unwrap();
    assert!(
        message.starts_with("pgscale refuses to create db/acid-a with 8 instances:"),
        "{message}"
    );
    assert!(!message.contains("pgscale plan"), "a new cluster has no plan: {message}");
    assert_eq!(count(&admission, "CREATE", "denied", false), "1");
}

#[tokio::test]
async fn write_that_leaves_the_count_is_allowed_without_a_read() {
    let api_server = three_to_seven();
    let admission = api_server.admission();
    let mut labelled = object(9);
    labelled["metadata"]["labels"] = json!({"a": "b"});
    let mut terminating = object(1);
    terminating["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    for (old, new) in [(object(9), labelled), (object(9), terminating)] {
        let answer = ask(&admission, &update(&old, &new)).await;
        assert_eq!((&answer["allowed"], &answer["warnings"]), (&json!(true), &Value::Null));
    }
    let mut deleted = update(&object(3), &Value::Null);
    deleted["request"]["operation"] = json!("DELETE");
    assert_eq!(ask(&admission, &deleted).await["allowed"], true);
    assert_eq!(api_server.requested("").len(), 0, "nothing was read");
}

#[tokio::test]
async fn scale_is_judged_like_the_write_that_it_stands_for() {
    let mut api_server = three_to_seven();
    api_server.stored = Some(object(5));
    let admission = api_server.admission();
    let over = ask(&admission, &scale(Some(5), Some(9))).await;
    assert_eq!(over["allowed"], false);
    let causes = over["status"]["details"]["causes"].as_array().unwrap();
    assert_eq!(causes[0]["reason"], "above-max");
    assert_eq!(causes[0]["field"], "spec.replicas");
    // An omitted count is 0: a full outage, which no policy allows.
    let omitted = ask(&admission, &scale(Some(5), None)).await;
    assert_eq!(omitted["allowed"], false);
    let rules = omitted["auditAnnotations"]["rules"].as_str().unwrap();
    assert!(rules.contains("scale-to-zero=deny"), "{rules}");
    assert_eq!(count(&admission, "SCALE", "denied", false), "2");

    api_server.stored = None;
    let admission = api_server.admission();
    let gone = ask(&admission, &scale(Some(5), Some(4))).await;
    assert_eq!(gone["allowed"], false, "a shrink of a cluster that cannot be read");
    let grown = ask(&admission, &scale(Some(5), Some(6))).await;
    assert_eq!(grown["allowed"], true);
    let warning = grown["warnings"][0].as_str().unwrap();
    assert!(warning.starts_with("cannot-be-judged: "), "{warning}");
}

#[tokio::test]
async fn review_of_another_resource_is_refused() {
    let api_server = FakeApiServer::default();
    let admission = api_server.admission();
    let mut deployment = update(&object(3), &object(5));
    deployment["request"]["resource"] =
        json!({"group": "apps", "version": "v1", "resource": "deployments"});
    deployment["request"]["kind"] = json!({"group": "apps", "version": "v1", "kind": "Deployment"});
    let answer = ask(&admission, &deployment).await;
    assert_eq!((&answer["allowed"], &answer["status"]["code"]), (&json!(false), &json!(403)));
    assert_eq!(answer["status"]["details"]["causes"][0]["reason"], CANNOT_BE_JUDGED);
    insta::assert_snapshot!(answer["status"]["message"].as_str().unwrap(), @"pgscale cannot judge this change: pgscale does not judge deployments.apps/v1 as kind Deployment. It judges postgresqls.acid.zalan.do v1, statefulsets.apps v1 and the scale subresource of both. Correct the rules of the ValidatingWebhookConfiguration");
    admission.events.flush(Duration::from_secs(5)).await;
    assert_eq!(api_server.requested("/events").len(), 0, "there is no cluster to put an Event on");
}

#[tokio::test]
async fn partition_refuses_a_shrink_in_time_and_warns_about_growth() {
    let api_server = FakeApiServer { silent: true, ..FakeApiServer::default() };
    let admission = api_server.admission();
    tokio::time::pause();
    let started = Instant::now();
    let shrink = ask(&admission, &update(&object(5), &object(2))).await;
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert_eq!((&shrink["allowed"], &shrink["status"]["code"]), (&json!(false), &json!(403)));
    let growth = ask(&admission, &update(&object(2), &object(5))).await;
    assert_eq!(growth["allowed"], true);
    assert_ne!(growth["warnings"], Value::Null, "growth never passes without a warning");
}

#[tokio::test]
async fn panic_in_a_review_is_answered_by_a_refusal() {
    // The cluster has one member, and a question to it panics.
    let member = json!({
        "metadata": {"namespace": "db", "name": "acid-a-0",
            "labels": {"cluster-name": "acid-a", "application": "spilo", "spilo-role": "master"}},
        "spec": {"containers": [{"name": "postgres"}], "nodeName": "n"},
        "status": {"phase": "Running", "podIP": "10.0.0.1"},
    });
    let service = tower::service_fn(move |request: Request<ClientBody>| {
        let pods = request.uri().path().ends_with("/pods");
        let items = if pods { vec![member.clone()] } else { Vec::new() };
        let (status, answer) = if request.uri().path().ends_with('s') {
            (200, json!({"kind": "List", "apiVersion": "v1", "metadata": {}, "items": items}))
        } else {
            (404, json!({"kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404}))
        };
        let body = ClientBody::from(answer.to_string().into_bytes());
        async move { Ok::<_, Infallible>(HttpResponse::builder().status(status).body(body).unwrap()) }
    });
    let client = Client::new(service, "default");
    let metrics = Arc::new(Metrics::new());
    let events = Events::new(client.clone(), Arc::clone(&metrics));
    let growth = FailurePolicy::default();
    let watch = Watch::new(Arc::clone(&metrics));
    let (operators, ask_whom) = (KnownOperators::default(), Arc::new(Panic));
    let admission = Admission {
        limits: Limits::new(Arc::clone(&metrics)),
        ledgers: Ledgers::new(
            client.clone(),
            ask_whom.clone(),
            operators.clone(),
            Arc::clone(&metrics),
        ),
        operators,
        shared: Shared::new(client.clone(), metrics.reads()),
        client,
        ask: ask_whom,
        events,
        metrics,
        watch,
        growth,
    };
    let answer = ask(&admission, &update(&object(5), &object(2))).await;
    assert_eq!((&answer["allowed"], &answer["status"]["code"]), (&json!(false), &json!(403)));
    insta::assert_snapshot!(answer["status"]["message"].as_str().unwrap(), @"pgscale cannot judge this change: pgscale itself failed (staged). Please report it");
}

/// Returns any JSON, a few levels deep.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        "[A-Z]{4,8}|scale|status|v1|db".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-zA-Z]{1,10}", inner, 0..4)
                .prop_map(|map| map.into_iter().collect()),
        ]
    })
}
