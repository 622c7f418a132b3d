//! The edge: what is asked of the API server, and that the same facts come back.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use http::{Method, Request, Response};
use kube::client::Body;
use pgscale_guard::Seen;
use serde::Serialize;
use serde_json::{Value, json};
use tower::service_fn;

use super::healthy::{HOME, healthy};
use super::{diagnose, ids};
use crate::doctor::facts::Facts;
use crate::doctor::read;
use crate::session::Session;
use crate::terminal::testing::Screen;
use crate::testing::{World, give, object};

/// The requests that arrived: method, path and query.
type Asked = Arc<Mutex<Vec<(Method, String, String)>>>;

fn items<T: Serialize>(seen: &Seen<Vec<T>>) -> Option<Value> {
    match seen {
        Seen::Known(all) => Some(json!({"metadata": {}, "items": all})),
        Seen::Absent => None,
        Seen::Unreadable(_) => Some(json!(403)),
    }
}

fn one<T: Serialize>(seen: &Seen<T>) -> Option<Value> {
    match seen {
        Seen::Known(one) => Some(json!(one)),
        Seen::Absent => None,
        Seen::Unreadable(_) => Some(json!(403)),
    }
}

/// A change of the facts by an object.
type Change = fn(&mut Facts, Value);

/// Returns what an API server with these facts answers.
fn stored(facts: &Facts, path: &str) -> Option<Value> {
    let last = path.rsplit('/').next().unwrap_or_default();
    match last {
        "pgscale.dev" => one(&facts.registration),
        "validatingadmissionpolicies" => items(&facts.fences),
        "validatingadmissionpolicybindings" => items(&facts.bindings),
        "deployments" => items(&facts.deployments),
        "namespaces" => items(&facts.namespaces),
        "pods" if path.contains(HOME) => items(&facts.pods),
        "pgscale-webhook" => one(&facts.service),
        "endpointslices" if path.contains(HOME) => items(&facts.slices),
        "endpointslices" => items(&facts.api_server),
        "poddisruptionbudgets" => items(&facts.budgets),
        "resourcequotas" => items(&facts.quotas),
        "priorityclasses" => items(&facts.priority_classes),
        "networkpolicies" => items(&facts.network),
        "pgscale-operators" => one(&facts.operator_list),
        "horizontalpodautoscalers" => items(&facts.autoscalers),
        "scaledobjects" => items(&facts.scaled_objects),
        "scalepolicies" => items(&facts.policies),
        "clusterscalepolicies" => items(&facts.platform),
        "scaleoverrides" => items(&facts.overrides),
        "clusterroles" => items(&facts.cluster_roles),
        "clusterrolebindings" => items(&facts.cluster_role_bindings),
        "roles" => items(&facts.roles),
        "rolebindings" => items(&facts.role_bindings),
        "postgresqls" => Some(json!({"metadata": {}, "items": [object(3)]})),
        "postgres-operator" if path.contains("configmaps") => {
            Some(json!({"metadata": {"name": last, "namespace": "default"},
                "data": {"watched_namespace": "*"}}))
        }
        name => facts.definitions.get(name).and_then(one),
    }
}

/// Returns a session with an API server that holds these facts, and the requests to it.
fn session(facts: Facts, screen: &Screen) -> (Session, Asked) {
    let asked = Asked::default();
    let log = Arc::clone(&asked);
    let service = service_fn(move |request: Request<Body>| {
        let (path, method) = (request.uri().path().to_owned(), request.method().clone());
        let query = request.uri().query().unwrap_or_default().to_owned();
        log.lock().unwrap().push((method.clone(), path.clone(), query));
        let status = |code: u16, reasons: &[&str]| {
            let causes: Vec<Value> = reasons.iter().map(|it| json!({"reason": it})).collect();
            let body = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code":
                code,
                "reason": "x", "message": "no", "details": {"causes": causes}});
            (code, body)
        };
        let (code, body) = match stored(&facts, &path) {
            _ if method == Method::PATCH => status(403, &["scale-to-zero"]),
            None => status(404, &[]),
            Some(Value::Number(_)) => status(403, &[]),
            Some(found) => (200, found),
        };
        async move {
            let body = Body::from(body.to_string().into_bytes());
            Ok::<_, Infallible>(Response::builder().status(code).body(body).unwrap())
        }
    });
    let client = kube::Client::new(service, "db");
    let mut session = World::new(3, 0).session(screen, None);
    session.reader.client = client.clone();
    session.reader.clock = crate::testing::now;
    session.client = client;
    (session, asked)
}

#[tokio::test(start_paused = true)]
async fn nothing_is_written_but_one_dry_run() {
    let (session, asked) = session(healthy(), &Screen::default());
    Box::pin(read::facts(&session, true)).await.unwrap();
    let asked = asked.lock().unwrap();
    let writes: Vec<_> = asked.iter().filter(|(method, ..)| method != Method::GET).collect();
    assert_eq!(writes.len(), 1, "{writes:?}");
    let (method, path, query) = writes[0];
    assert_eq!(method, Method::PATCH);
    assert!(path.ends_with("/namespaces/db/postgresqls/acid-a"), "{path}");
    assert!(query.contains("dryRun=All"), "{query}");
    assert!(!asked.iter().any(|(_, path, _)| path.contains("/secrets")), "{asked:?}");
}

#[tokio::test(start_paused = true)]
async fn no_canary_is_sent_where_none_is_wanted() {
    let (session, asked) = session(healthy(), &Screen::default());
    give(&session, "doctor --no-canary -o json").await.unwrap_err();
    let asked = asked.lock().unwrap();
    assert!(asked.iter().all(|(method, ..)| method == Method::GET), "{asked:?}");
}

#[tokio::test(start_paused = true)]
async fn the_facts_that_are_read_lead_to_the_same_findings() {
    let (session, _) = session(healthy(), &Screen::default());
    let facts = Box::pin(read::facts(&session, true)).await.unwrap();
    assert_eq!(facts.home.as_deref(), Some(HOME));
    assert_eq!(facts.canary, healthy().canary);
    let found = diagnose(&facts).unwrap();
    // The server of this test upgrades no connection.
    assert_eq!(
        ids(&found),
        ["certificate-unread", "who-breaks-glass"].into(),
        "{:#?}",
        found.findings
    );
}

#[tokio::test(start_paused = true)]
async fn no_canary_is_sent_where_a_refusal_is_not_certain() {
    let zero = json!({"metadata": {"name": "zero", "namespace": "db"}, "spec": {"instances":
        {"zero": "Allow"}}});
    let night =
        json!({"metadata": {"name": "night", "namespace": "db"}, "spec": {"cluster": "acid-a"}});
    let cases: [(&str, Change); 4] = [
        ("a policy allows zero", |facts, zero| facts.policies = Seen::Known(vec![zero])),
        ("an override is written", |facts, night| facts.overrides = Seen::Known(vec![night])),
        ("the overrides are unknown", |facts, _| facts.overrides = Seen::Unreadable("no".into())),
        ("the policies are unknown", |facts, _| facts.policies = Seen::Unreadable("no".into())),
    ];
    for (name, change) in cases {
        let mut facts = healthy();
        change(&mut facts, if name.contains("override") { night.clone() } else { zero.clone() });
        let (session, asked) = session(facts, &Screen::default());
        Box::pin(read::facts(&session, true)).await.unwrap();
        let asked = asked.lock().unwrap();
        assert!(asked.iter().all(|(method, ..)| method == Method::GET), "{name}: {asked:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_exit_code_says_whether_the_guard_holds() {
    let mut broken = healthy();
    broken.registration = Seen::Absent;
    for (facts, code, words) in [
        (broken, 5, "the guard DOES NOT HOLD: registration-missing"),
        // The certificates cannot be looked at here.
        (healthy(), 1, "the guard CANNOT BE JUDGED: certificate-unread"),
    ] {
        let screen = Screen::default();
        let (session, _) = session(facts, &screen);
        let failure = give(&session, "doctor").await.unwrap_err();
        assert_eq!(failure.kind.code(), code, "{}", failure.text());
        let shown = screen.stdout();
        assert!(shown.starts_with(words), "{shown}");
        assert!(shown.trim_end().lines().next_back().unwrap().starts_with(words), "{shown}");
    }
}
