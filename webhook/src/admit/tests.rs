//! The review path in process: the router, a small API server, members that speak from a script.

use std::convert::Infallible;
use std::sync::Mutex;

use axum::http::{Method, Request, Response as HttpResponse};
use futures::future::BoxFuture;
use kube::client::Body as ClientBody;
use kube::core::admission::{META_API_VERSION_V1, META_KIND};
use pgscale_guard::read::{Address, RestRequest, RestResponse};
use proptest::prelude::*;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::request::tests::{create, object, scale, update};
use super::*;

mod after_switchover;
mod decoding;
mod growth;
mod hostile;
mod overrides;
mod whole;
mod writes;

/// An API server: what it answers by path, and what it was asked.
#[derive(Clone, Default)]
struct World {
    policies: Vec<Value>,
    overrides: Vec<Value>,
    claims: Vec<Value>,
    pods: Vec<Value>,
    /// The settings of an operator, where there is one.
    operator: Option<Value>,
    stored: Option<Value>,
    /// Other objects, by the end of their path.
    others: Vec<(&'static str, Value)>,
    /// Every request hangs, as in a partition.
    silent: bool,
    /// How long every answer takes.
    slow: Duration,
    /// The installation's choice for growth that cannot be judged.
    growth: FailurePolicy,
    asked: Arc<Mutex<Vec<(Method, String, Value)>>>,
}

impl World {
    async fn answer(&self, request: Request<ClientBody>) -> HttpResponse<ClientBody> {
        let (parts, body) = request.into_parts();
        let body = body.collect_bytes().await.unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
        let path = parts.uri.path().to_owned();
        self.asked.lock().unwrap().push((parts.method.clone(), path.clone(), body.clone()));
        if self.silent {
            return futures::future::pending().await;
        }
        tokio::time::sleep(self.slow).await;
        let list = |items: &[Value]| json!({"kind": "List", "apiVersion": "v1", "metadata": {}, "items": items});
        let (status, answer) = match path.rsplit('/').next().unwrap_or_default() {
            "events" => (201, body),
            "scalepolicies" => (200, list(&self.policies)),
            "scaleoverrides" => (200, list(&self.overrides)),
            "persistentvolumeclaims" => (200, list(&self.claims)),
            "deployments" if self.operator.is_some() => (200, list(&[deployment()])),
            "postgres-operator" if path.contains("/configmaps/") && self.operator.is_some() => {
                let metadata = json!({"namespace": "default", "name": "postgres-operator"});
                (200, json!({"metadata": metadata, "data": self.operator}))
            }
            "pods" => (200, list(&self.pods)),
            "deployments" => (200, list(&[])),
            "acid-a" if path.contains("/postgresqls/") && self.stored.is_some() => {
                (200, self.stored.clone().unwrap())
            }
            _ => match self.others.iter().find(|(end, _)| path.ends_with(end)) {
                Some((_, object)) => (200, object.clone()),
                None => (
                    404,
                    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure",
                    "reason": "NotFound", "message": format!("{path} not found"), "code": 404}),
                ),
            },
        };
        HttpResponse::builder()
            .status(status)
            .body(ClientBody::from(answer.to_string().into_bytes()))
            .unwrap()
    }

    fn admission(&self) -> Admission {
        let world = self.clone();
        let service = tower::service_fn(move |request| {
            let world = world.clone();
            async move { Ok::<_, Infallible>(world.answer(request).await) }
        });
        let client = Client::new(service, "default");
        let metrics = Arc::new(Metrics::new());
        let events = Events::new(client.clone(), Arc::clone(&metrics));
        Admission { client, ask: Arc::new(Silence), events, metrics, growth: self.growth }
    }

    /// What was asked of one kind, as its bodies.
    fn requested(&self, suffix: &str) -> Vec<Value> {
        let asked = self.asked.lock().unwrap();
        let asked = asked.iter().filter(|(_, path, _)| path.ends_with(suffix));
        asked.map(|(.., body)| body.clone()).collect()
    }
}

/// An operator as its own manifests install it.
fn deployment() -> Value {
    json!({
        "metadata": {"namespace": "default", "name": "postgres-operator"},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"name": "postgres-operator"}},
            "template": {"spec": {"serviceAccountName": "postgres-operator", "containers": [{"name": "postgres-operator",
                "env": [{"name": "CONFIG_MAP_NAME", "value": "postgres-operator"}]}]}}},
        "status": {"replicas": 1, "availableReplicas": 1},
    })
}

/// Members that do not answer.
struct Silence;

impl MemberClient for Silence {
    fn exchange<'a>(
        &'a self,
        _: &'a Address,
        _: RestRequest,
    ) -> BoxFuture<'a, Result<RestResponse, String>> {
        Box::pin(async { Err("connection refused".to_owned()) })
    }
}

/// Members whose mere question brings us down.
struct Panic;

impl MemberClient for Panic {
    fn exchange<'a>(
        &'a self,
        _: &'a Address,
        _: RestRequest,
    ) -> BoxFuture<'a, Result<RestResponse, String>> {
        panic!("staged")
    }
}

fn policy(instances: &Value) -> Value {
    json!({
        "apiVersion": "pgscale.dev/v1alpha1", "kind": "ScalePolicy",
        "metadata": {"namespace": "db", "name": "production"},
        "spec": {"instances": instances},
    })
}

fn three_to_seven() -> World {
    World { policies: vec![policy(&json!({"min": 3, "max": 7}))], ..World::default() }
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
async fn what_a_trial_would_have_refused_is_counted_once_it_was_meant() {
    for (mode, allowed) in [("Warn", true), ("Audit", true), ("Enforce", false)] {
        let mut trial = policy(&json!({"max": 7}));
        trial["spec"]["mode"] = json!(mode);
        let admission = World { policies: vec![trial], ..World::default() }.admission();
        let mut asked = update(&object(3), &object(9));
        assert_eq!(ask(&admission, &asked).await["allowed"], allowed, "{mode}");
        asked["request"]["dryRun"] = json!(true);
        ask(&admission, &asked).await;
        let counted = format!(
            "pgscale_admission_would_deny_total{{namespace=\"db\",rule=\"above-max\",mode=\"{mode}\"}} 1\n"
        );
        assert_eq!(admission.metrics.text().contains(&counted), allowed, "{mode}");
    }
}

#[tokio::test]
async fn growth_past_the_maximum_is_refused_with_everything_a_writer_needs() {
    let world = three_to_seven();
    let admission = world.admission();
    let answer = ask(&admission, &update(&object(3), &object(9))).await;
    assert_eq!(answer["allowed"], false);
    let status = &answer["status"];
    assert_eq!((&status["code"], &status["reason"]), (&json!(403), &json!("Forbidden")));
    insta::assert_snapshot!(status["message"].as_str().unwrap(), @"
    pgscale refuses to scale db/acid-a from 3 to 9 instances:
    - above-max: 9 instances asked for, 7 is the maximum
        scalepolicy/production: instances.max: 7
        Try:
            kubectl pgscale set acid-a 7 -n db
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
    let events = world.requested("/namespaces/db/events");
    assert_eq!(events.len(), 1);
    assert_eq!(events[0]["reason"], "ScaleDenied");
    assert_eq!(events[0]["action"], "above-max");
    assert_eq!(events[0]["regarding"]["name"], "acid-a");
    assert_eq!(events[0]["regarding"]["uid"], "c1");
    assert!(events[0]["note"].as_str().unwrap().contains("- above-max: "));
}

#[tokio::test]
async fn a_dry_run_is_judged_alike_and_writes_nothing() {
    let world = three_to_seven();
    let admission = world.admission();
    let real = ask(&admission, &update(&object(3), &object(9))).await;
    admission.events.flush(Duration::from_secs(5)).await;
    assert_eq!(world.requested("/events").len(), 1);

    let mut review = update(&object(3), &object(9));
    review["request"]["dryRun"] = json!(true);
    assert_eq!(ask(&admission, &review).await, real);
    admission.events.flush(Duration::from_secs(5)).await;
    assert_eq!(world.requested("/events").len(), 1, "no Event for a dry run");
    assert_eq!(count(&admission, "UPDATE", "denied", true), "1");
    let asked = world.asked.lock().unwrap();
    assert!(
        asked.iter().all(|(method, path, _)| method == Method::GET || path.ends_with("/events"))
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
    assert!(!message.contains("pgscale plan"), "there is nothing yet to plan for: {message}");
    assert_eq!(count(&admission, "CREATE", "denied", false), "1");
}

#[tokio::test]
async fn what_changes_no_count_is_allowed_without_a_read() {
    let world = three_to_seven();
    let admission = world.admission();
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
    assert_eq!(world.requested("").len(), 0, "nothing was read");
}

#[tokio::test]
async fn a_scale_is_judged_like_the_write_it_stands_for() {
    let mut world = three_to_seven();
    world.stored = Some(object(5));
    let admission = world.admission();
    let over = ask(&admission, &scale(Some(5), Some(9))).await;
    assert_eq!(over["allowed"], false);
    let causes = over["status"]["details"]["causes"].as_array().unwrap();
    assert_eq!(causes[0]["reason"], "above-max");
    assert_eq!(causes[0]["field"], "spec.replicas");
    // Omitted is 0: a full outage, which no policy allows.
    let omitted = ask(&admission, &scale(Some(5), None)).await;
    assert_eq!(omitted["allowed"], false);
    let rules = omitted["auditAnnotations"]["rules"].as_str().unwrap();
    assert!(rules.contains("scale-to-zero=deny"), "{rules}");
    assert_eq!(count(&admission, "SCALE", "denied", false), "2");

    world.stored = None;
    let admission = world.admission();
    let gone = ask(&admission, &scale(Some(5), Some(4))).await;
    assert_eq!(gone["allowed"], false, "a shrink of what cannot be read");
    let grown = ask(&admission, &scale(Some(5), Some(6))).await;
    assert_eq!(grown["allowed"], true);
    let warning = grown["warnings"][0].as_str().unwrap();
    assert!(warning.starts_with("cannot-be-judged: "), "{warning}");
}

#[tokio::test]
async fn what_is_not_known_to_us_is_refused() {
    let world = World::default();
    let admission = world.admission();
    let mut deployment = update(&object(3), &object(5));
    deployment["request"]["resource"] =
        json!({"group": "apps", "version": "v1", "resource": "deployments"});
    deployment["request"]["kind"] = json!({"group": "apps", "version": "v1", "kind": "Deployment"});
    let answer = ask(&admission, &deployment).await;
    assert_eq!((&answer["allowed"], &answer["status"]["code"]), (&json!(false), &json!(403)));
    assert_eq!(answer["status"]["details"]["causes"][0]["reason"], CANNOT_BE_JUDGED);
    insta::assert_snapshot!(answer["status"]["message"].as_str().unwrap(), @"pgscale cannot judge this change: deployments.apps/v1 as kind Deployment is nothing pgscale judges: it knows postgresqls.acid.zalan.do v1, statefulsets.apps v1 and the scale subresource of both; correct the rules of the ValidatingWebhookConfiguration");
    admission.events.flush(Duration::from_secs(5)).await;
    assert_eq!(world.requested("/events").len(), 0, "there is no cluster to put an Event on");
}

#[tokio::test]
async fn a_partition_refuses_a_shrink_in_time_and_warns_growth() {
    let world = World { silent: true, ..World::default() };
    let admission = world.admission();
    tokio::time::pause();
    let started = Instant::now();
    let shrink = ask(&admission, &update(&object(5), &object(2))).await;
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert_eq!((&shrink["allowed"], &shrink["status"]["code"]), (&json!(false), &json!(403)));
    let growth = ask(&admission, &update(&object(2), &object(5))).await;
    assert_eq!(growth["allowed"], true);
    assert_ne!(growth["warnings"], Value::Null, "never silently");
}

#[tokio::test]
async fn an_error_of_ours_is_an_answer_too() {
    // The review of a cluster with one member, who is asked and brings the review down.
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
    let admission = Admission { client, ask: Arc::new(Panic), events, metrics, growth };
    let answer = ask(&admission, &update(&object(5), &object(2))).await;
    assert_eq!((&answer["allowed"], &answer["status"]["code"]), (&json!(false), &json!(403)));
    insta::assert_snapshot!(answer["status"]["message"].as_str().unwrap(), @"pgscale cannot judge this change: an error of pgscale itself (staged); please report it");
}

#[tokio::test]
async fn what_is_no_review_gets_a_plain_answer() {
    let admission = World::default().admission();
    let router = || router(admission.clone());
    let (status, text) = post(router(), "/validate", "not JSON").await;
    assert_eq!(status, 400);
    assert!(text.starts_with("the body is not JSON"), "{text}");
    let (status, text) =
        post(router(), "/validate", r#"{"kind": "Pod", "apiVersion": "v1"}"#).await;
    assert_eq!(status, 400);
    assert_eq!(text, "the body is Pod of v1: send an AdmissionReview of admission.k8s.io/v1\n");
    let empty = json!({"kind": META_KIND, "apiVersion": META_API_VERSION_V1}).to_string();
    assert_eq!(post(router(), "/validate", empty).await.0, 400);
    let (status, text) = post(router(), "/validate", vec![b' '; 20 << 20]).await;
    assert_eq!(status, 413);
    assert!(text.contains("7 MiB"), "{text}");
    let request = Request::get("/validate").body(Body::empty()).unwrap();
    assert_eq!(router().oneshot(request).await.unwrap().status(), 405);
    assert_eq!(post(router(), "/mutate", "{}").await.0, 404);
    assert_eq!(count(&admission, "unknown", "malformed", false), "4");
}

#[tokio::test]
async fn a_review_of_an_unknown_shape_is_refused_under_its_uid() {
    let admission = World::default().admission();
    let mut old = update(&object(3), &object(5));
    old["apiVersion"] = json!("admission.k8s.io/v1beta1");
    let mut operation = update(&object(3), &object(5));
    operation["request"]["operation"] = json!("RENAME");
    let mut metadata = update(&object(3), &object(5));
    metadata["request"]["object"]["metadata"]["annotations"] = json!("none");
    for review in [old, operation, metadata] {
        let answer = ask(&admission, &review).await;
        assert_eq!((&answer["allowed"], &answer["status"]["code"]), (&json!(false), &json!(403)));
    }
}

#[tokio::test]
async fn a_body_that_never_ends_is_not_waited_for() {
    tokio::time::pause();
    let drip = futures::stream::pending::<Result<Vec<u8>, Infallible>>();
    let admission = World::default().admission();
    let (status, _) = post(router(admission), "/validate", Body::from_stream(drip)).await;
    assert_eq!(status, 408);
}

#[test]
fn the_api_server_says_how_long_it_waits() {
    let now = Instant::now();
    let times = |query: Option<&str>| {
        let deadlines = Deadlines::of(query, now);
        ((deadlines.reads - now).as_millis(), (deadlines.verdict - now).as_millis())
    };
    assert_eq!(times(Some("timeout=5s")), (4000, 4500));
    assert_eq!(times(Some("a=b&timeout=1s")), (800, 900));
    assert_eq!(times(Some("timeout=30s")), (29_000, 29_500));
    assert_eq!(times(Some("timeout=soon")), (9000, 9500));
    assert_eq!(times(None), (9000, 9500));
}

/// Any JSON, a few levels deep.
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

/// Where a review may be odd.
const PLACES: [&str; 16] = [
    "",
    "/request",
    "/request/uid",
    "/request/kind",
    "/request/resource",
    "/request/subResource",
    "/request/operation",
    "/request/userInfo",
    "/request/name",
    "/request/namespace",
    "/request/object",
    "/request/oldObject",
    "/request/object/metadata",
    "/request/object/spec",
    "/request/object/spec/numberOfInstances",
    "/request/oldObject/spec",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn whatever_arrives_is_answered(
        places in prop::collection::vec((prop::sample::select(&PLACES[..]), any_json()), 1..4),
        by_scale in any::<bool>(),
    ) {
        let mut review =
            if by_scale { scale(Some(3), Some(2)) } else { update(&object(3), &object(2)) };
        for (place, value) in places {
            if let Some(found) = review.pointer_mut(place) {
                *found = value;
            }
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (status, body) = runtime.block_on(async {
            let admission = three_to_seven().admission();
            let answer = post(router(admission), "/validate?timeout=1s", review.to_string()).await;
            prop_assert!(answer.0 == 200 || answer.0 == 400, "{answer:?}");
            Ok(answer)
        })?;
        if status == 200 {
            let answer: Value = serde_json::from_str(&body).unwrap();
            prop_assert_eq!(&answer["response"]["uid"], &review["request"]["uid"]);
            let refused = answer["response"]["allowed"] == json!(false);
            prop_assert_eq!(refused, answer["response"]["status"]["code"] == json!(403));
        }
    }
}
