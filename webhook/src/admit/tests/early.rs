//! Refusals before anything live is read, and reads that reviews share.

use pgscale_guard::overrides::ScaleOverride;
use pgscale_guard::policy::{ClusterScalePolicy, ScalePolicy};

use super::after_switchover::{Scripted, led_by};
use super::overrides::granted;
use super::*;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::jiff::SignedDuration;
use kube::Resource as _;

/// An API server whose objects change while reviews arrive.
#[derive(Clone)]
struct Changing(Arc<Mutex<FakeApiServer>>);

impl Changing {
    fn new(server: FakeApiServer) -> Self {
        Self(Arc::new(Mutex::new(server)))
    }

    fn edit(&self, edit: impl FnOnce(&mut FakeApiServer)) {
        edit(&mut self.0.lock().unwrap());
    }

    fn admission(&self) -> Admission {
        let server = self.clone();
        let service = tower::service_fn(move |request| {
            // What is there when the request begins.
            let now = server.0.lock().unwrap().clone();
            async move { Ok::<_, Infallible>(now.answer(request).await) }
        });
        let client = Client::new(service, "default");
        let admission = self.0.lock().unwrap().admission();
        let shared = Shared::new(client.clone(), admission.metrics.reads());
        let events = Events::new(client.clone(), Arc::clone(&admission.metrics));
        Admission { client, shared, events, ..admission }
    }

    /// Returns the paths of all requests since the last call.
    fn asked(&self) -> Vec<String> {
        let requests = Arc::clone(&self.0.lock().unwrap().requests);
        let requests = std::mem::take(&mut *requests.lock().unwrap());
        requests.into_iter().map(|(_, path, _)| path).collect()
    }
}

/// Lets watches announce every change of what early refusals rest on.
fn watched(admission: &Admission) {
    for root in roots() {
        admission.shared.announced(&root);
    }
}

fn roots() -> [String; 4] {
    [
        ScalePolicy::url_path(&(), None),
        ClusterScalePolicy::url_path(&(), None),
        ScaleOverride::url_path(&(), None),
        Namespace::url_path(&(), None),
    ]
}

/// Lets watches announce every change of the objects of the operators that the last look found.
fn operators_watched(admission: &Admission) {
    for source in admission.operators.sources().borrow().iter() {
        admission.shared.announced(&source.path());
    }
}

/// Returns a server whose operator runs 6 instances at most, beside policies that allow zero or 7.
fn limited() -> Changing {
    // One pod serves as the operator's and as the cluster's: nothing looks at its name.
    let pod = json!({"metadata": {"namespace": "default", "name": "postgres-operator-x"},
        "status": {"startTime": "2026-11-02T00:00:00Z"}});
    Changing::new(FakeApiServer {
        operator: Some(json!({"max_instances": "6", "watched_namespace": "*"})),
        policies: vec![policy(&json!({"max": 7}))],
        pods: vec![pod],
        ..FakeApiServer::default()
    })
}

fn counted(admission: &Admission, name: &str) -> u64 {
    let text = admission.metrics.text();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{name} is not there: {text}")).parse().unwrap()
}

/// Returns a review that the API server will not store.
fn dry(from: i64, to: i64) -> Value {
    let mut review = update(&object(from), &object(to));
    review["request"]["dryRun"] = json!(true);
    review
}

#[tokio::test(start_paused = true)]
async fn early_refusal_asks_nothing_live() {
    let server = Changing::new(FakeApiServer {
        operator: Some(json!({"max_instances": "6", "watched_namespace": "*"})),
        ..three_to_seven()
    });
    for (from, to, rule, operator) in [
        (3, 9, "above-max", false),
        (5, 2, "below-min", false),
        (5, 0, "scale-to-zero", true),
        (3, 7, "operator-limits", true),
    ] {
        let admission = server.admission();
        let answer = ask(&admission, &dry(from, to)).await;
        assert_eq!(answer["allowed"], false, "{rule}");
        let causes = answer["status"]["details"]["causes"].as_array().unwrap();
        let causes: Vec<_> = causes.iter().map(|cause| cause["reason"].as_str().unwrap()).collect();
        assert_eq!(causes, [rule]);
        assert_eq!(answer["auditAnnotations"]["live-state"], "not looked at");
        let asked = server.asked();
        let group = "/apis/pgscale.dev/v1alpha1";
        let mut allowed = vec![
            format!("{group}/namespaces/db/scalepolicies"),
            format!("{group}/clusterscalepolicies"),
            format!("{group}/namespaces/db/scaleoverrides"),
        ];
        if operator {
            allowed.extend([
                "/api/v1/namespaces/kube-public/configmaps/pgscale-operators".to_owned(),
                "/apis/apps/v1/deployments".to_owned(),
                "/api/v1/namespaces/default/configmaps/postgres-operator".to_owned(),
                "/api/v1/namespaces/default/pods".to_owned(),
            ]);
        }
        let mut want = allowed;
        want.sort_unstable();
        let mut got = asked;
        got.sort_unstable();
        assert_eq!(got, want, "{rule}: each once, and nothing of the cluster");
        assert_eq!(counted(&admission, "pgscale_admission_refused_early_total"), 1);
        // A real write gets the same answer.
        let real = ask(&admission, &update(&object(from), &object(to))).await;
        assert_eq!(real, answer, "{rule}");
        admission.events.flush(Duration::from_secs(5)).await;
        server.asked();
    }
}

#[tokio::test(start_paused = true)]
async fn early_refusal_says_that_it_did_not_look_and_offers_plans_only() {
    let answer = ask(&three_to_seven().admission(), &dry(5, 2)).await;
    insta::assert_snapshot!(answer["status"]["message"].as_str().unwrap(), @"
    pgscale refuses to scale db/acid-a from 5 to 2 instances:
    - below-min: 2 instances asked for, 3 is the minimum
        scalepolicy/production: instances.min: 3
        Try:
            kubectl pgscale plan acid-a --to 3 -n db
    The live state of the cluster was not looked at: it cannot change this.
    Everything the guard sees:
        kubectl pgscale plan acid-a --to 2 -n db
    ");
}

#[tokio::test(start_paused = true)]
async fn early_refusals_cost_a_tenth_of_a_request_at_50_a_second() {
    let server = Changing::new(three_to_seven());
    let admission = server.admission();
    watched(&admission);
    let review = update(&object(3), &object(9));
    for _ in 0..250 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(ask(&admission, &review).await["allowed"], false);
    }
    admission.events.flush(Duration::from_secs(5)).await;
    let asked = server.asked();
    assert!(asked.len() <= 25, "{}", asked.len());
    assert_eq!(counted(&admission, "pgscale_admission_refused_early_total"), 250);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(admission.shared.kept_bytes(), 0, "nothing stays while nothing is asked");
}

/// These rest on the operator, too: its settings, its Deployment, and the list of accounts.
#[tokio::test(start_paused = true)]
async fn refusals_by_the_operator_cost_a_tenth_of_a_request_at_50_a_second() {
    for (from, to) in [(5, 0), (3, 7)] {
        let server = limited();
        let admission = server.admission();
        watched(&admission);
        let review = dry(from, to);
        // The first look finds the objects that are to be watched.
        assert_eq!(ask(&admission, &review).await["allowed"], false);
        operators_watched(&admission);
        tokio::time::sleep(Duration::from_secs(2)).await;
        server.asked();
        for _ in 0..500 {
            tokio::time::sleep(Duration::from_millis(20)).await;
            assert_eq!(ask(&admission, &review).await["allowed"], false);
        }
        let asked = server.asked();
        assert!(asked.len() <= 50, "{to}: {} {asked:?}", asked.len());
        assert_eq!(counted(&admission, "pgscale_admission_refused_early_total"), 501);
    }
}

/// Reviews that are worked on at the same time. More would wait for their turn, and then ask again.
const TOGETHER: u64 = 16;
/// Requests for the operators: the list of accounts, Deployments, settings and pods. What they found
/// is shared, and not each answer.
const OPERATORS: u64 = 4;

#[tokio::test(start_paused = true)]
async fn concurrent_reviews_share_reads() {
    let server = Changing::new(FakeApiServer {
        operator: Some(json!({"watched_namespace": "*"})),
        slow: Duration::from_millis(20),
        ..three_to_seven()
    });
    let growth = dry(3, 5);
    let alone = server.admission();
    assert_eq!(ask(&alone, &growth).await["allowed"], true);
    let one = server.asked();
    let admission = server.admission();
    let answers = futures::future::join_all((0..TOGETHER).map(|_| ask(&admission, &growth))).await;
    assert!(answers.iter().all(|answer| answer["allowed"] == true));
    let all = server.asked();
    assert_eq!(all.len(), one.len(), "{all:?}");
    let asked = counted(&admission, "pgscale_api_server_reads_total{result=\"asked\"}");
    assert_eq!(asked, u64::try_from(one.len()).unwrap());
    assert!(
        counted(&admission, "pgscale_api_server_reads_total{result=\"shared\"}")
            >= (TOGETHER - 1) * (asked - OPERATORS)
    );
    // A review that arrives later asks again for what it is admitted by.
    assert_eq!(ask(&admission, &growth).await["allowed"], true);
    let later = server.asked();
    let mut again = later.clone();
    again.sort_unstable();
    again.dedup();
    // The Deployments of operators may be a second old, and so may the list of their accounts.
    let live = one.len() - 2;
    assert_eq!((again.len(), later.len()), (live, live), "each once: {later:?}");
}

/// The freeze is created between two reviews, and no watch has announced it yet.
#[tokio::test(start_paused = true)]
async fn freeze_holds_at_once() {
    for with_watch in [false, true] {
        let server = Changing::new(led_by(0));
        let ask_members = Arc::new(Scripted { leader: 0, stalled: &[], late: &[] });
        let admission = Admission { ask: ask_members, ..server.admission() };
        if with_watch {
            watched(&admission);
        }
        let shrink = dry(5, 3);
        assert_eq!(ask(&admission, &shrink).await["allowed"], true);
        server.edit(|server| {
            let mut freeze = policy(&json!({}));
            freeze["spec"] = json!({"freeze": {"reason": "the sale"}});
            server.policies.push(freeze);
        });
        let answer = ask(&admission, &shrink).await;
        assert_eq!(answer["allowed"], false, "{with_watch}");
        assert_eq!(answer["status"]["details"]["causes"][0]["reason"], "change-freeze");
    }
}

/// Refuses the growth to 9 early, then edits the API server, and returns the next answer.
async fn after(with_watch: bool, edit: fn(&mut FakeApiServer)) -> Value {
    let server = Changing::new(FakeApiServer {
        operator: Some(json!({"watched_namespace": "*"})),
        ..three_to_seven()
    });
    let admission = server.admission();
    if with_watch {
        watched(&admission);
    }
    let growth = dry(3, 9);
    for _ in 0..2 {
        assert_eq!(ask(&admission, &growth).await["allowed"], false);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(counted(&admission, "pgscale_admission_refused_early_total"), 2);
    server.edit(edit);
    if with_watch {
        for root in roots() {
            admission.shared.changed(&root);
        }
    }
    ask(&admission, &growth).await
}

#[tokio::test(start_paused = true)]
async fn override_written_a_moment_ago_is_seen() {
    for with_watch in [false, true] {
        let answer = after(with_watch, |server| {
            server.overrides = vec![granted(SignedDuration::from_hours(1), &["above-max"])];
        })
        .await;
        assert_eq!(answer["allowed"], true, "{answer}");
        assert!(answer["auditAnnotations"]["override"].as_str().unwrap().contains("the sale"));
    }
}

#[tokio::test(start_paused = true)]
async fn policy_relaxed_a_moment_ago_is_seen() {
    for with_watch in [false, true] {
        let answer =
            after(with_watch, |server| server.policies = vec![policy(&json!({"max": 9}))]).await;
        assert_eq!(answer["allowed"], true, "{answer}");
        let answer = after(with_watch, |server| server.policies.clear()).await;
        assert_eq!(answer["allowed"], true, "{answer}");
    }
}

/// Without a watch, a read of a second ago only raises the suspicion, and the refusal rests on a later
/// one. With watches it is refused until one of them announces the change.
#[tokio::test(start_paused = true)]
async fn operators_limit_raised_a_moment_ago_is_seen() {
    let limits = |max: &str| Some(json!({"max_instances": max, "watched_namespace": "*"}));
    for with_watch in [false, true] {
        let server = Changing::new(FakeApiServer { operator: limits("4"), ..three_to_seven() });
        let admission = server.admission();
        watched(&admission);
        for round in 0..5 {
            assert_eq!(ask(&admission, &dry(3, 5)).await["allowed"], false);
            if with_watch && round == 0 {
                operators_watched(&admission);
            }
            tokio::time::sleep(Duration::from_millis(400)).await;
        }
        server.edit(|server| server.operator = limits("9"));
        if with_watch {
            for source in admission.operators.sources().borrow().iter() {
                admission.shared.changed(&source.path());
            }
        }
        assert_eq!(ask(&admission, &dry(3, 5)).await["allowed"], true, "{with_watch}");
    }
}

/// The settings that another review read half a second ago are good for a guess. What admits a change is
/// read after its review has arrived, whatever the guess was.
#[tokio::test(start_paused = true)]
async fn guess_by_an_earlier_answer_never_admits() {
    let limits = |max: &str| Some(json!({"max_instances": max, "watched_namespace": "*"}));
    let server = Changing::new(FakeApiServer { operator: limits("9"), ..three_to_seven() });
    let admission = server.admission();
    watched(&admission);
    for _ in 0..2 {
        assert_eq!(ask(&admission, &dry(3, 5)).await["allowed"], true);
        tokio::time::sleep(Duration::from_millis(600)).await;
    }
    // The last look at the Deployments is more than a second old, and that at the settings is not.
    server.edit(|server| server.operator = limits("4"));
    let answer = ask(&admission, &dry(3, 5)).await;
    assert_eq!(answer["allowed"], false, "{answer}");
    assert!(answer["auditAnnotations"]["rules"].to_string().contains("operator-limits=deny"));
}

/// The settings, the Deployment and the list of accounts are each watched by name.
#[tokio::test(start_paused = true)]
async fn objects_of_the_operator_are_watched_once_they_are_known() {
    let server = limited();
    let admission = server.admission();
    let watches = Arc::new(Mutex::new(Vec::new()));
    let service = tower::service_fn({
        let watches = Arc::clone(&watches);
        move |request: Request<ClientBody>| {
            let body = if request.uri().query().unwrap_or_default().contains("watch=true") {
                watches.lock().unwrap().push(request.uri().to_string());
                Body::from_stream(futures::stream::pending::<Result<Vec<u8>, Infallible>>())
            } else {
                let list = json!({"kind": "PartialObjectMetadataList", "items": [],
                    "apiVersion": "meta.k8s.io/v1", "metadata": {"resourceVersion": "7"}});
                Body::from(list.to_string())
            };
            async move { Ok::<_, Infallible>(HttpResponse::new(body)) }
        }
    });
    let client = Client::new(service, "default");
    let (shared, operators) = (admission.shared.clone(), admission.operators.clone());
    let watching = tokio::spawn(announce(client, shared, operators));
    ask(&admission, &dry(3, 7)).await;
    tokio::time::sleep(Duration::from_millis(10)).await;
    let sources = admission.operators.sources().borrow().clone();
    assert_eq!(sources.len(), 3, "{sources:?}");
    for source in &sources {
        assert!(admission.shared.unchanged_since(&source.path()).is_some(), "{source:?}");
        let name = format!("fieldSelector=metadata.name%3D{}", source.name);
        let uris = watches.lock().unwrap();
        let by_name = |uri: &&String| uri.starts_with(&source.collection) && uri.contains(&name);
        assert_eq!(uris.iter().filter(by_name).count(), 1, "{source:?}: {uris:?}");
    }
    watching.abort();
}

#[tokio::test(start_paused = true)]
async fn early_look_that_hangs_leaves_the_decision_to_the_look_at_everything() {
    let server = FakeApiServer { slow: Duration::from_millis(900), ..three_to_seven() };
    let admission = server.admission();
    let answer = ask(&admission, &dry(3, 9)).await;
    assert_eq!(answer["allowed"], false, "{answer}");
    assert_eq!(counted(&admission, "pgscale_admission_refused_early_total"), 0);
    let requests = server.requests.lock().unwrap().len();
    let policies = server.requested("/scalepolicies").len();
    assert_eq!(policies, 1, "what the early look asked for serves the other: {requests} requests");
}
