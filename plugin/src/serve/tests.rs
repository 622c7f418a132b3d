//! The API over a real socket, on a cluster in memory.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;

use super::app::App;
use super::callers::{Caller, Callers};
use super::listen::{Limits, Port, Tls};
use super::names::Naming;
use super::operations::About;
use super::routes::router;
use crate::connect::clock::server_time;
use crate::error::Failure;
use crate::session::Session;
use crate::terminal::Output;
use crate::terminal::testing::Screen;
use crate::testing::World;

mod browser;
mod hostile;
mod ports;
mod tokens;

/// The longest time that a test waits for an answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// The API over one cluster, or over one of another caller.
#[derive(Clone)]
struct Cluster {
    world: World,
    /// The tokens that came, and the one that sees nothing.
    tokens: Arc<Mutex<Vec<String>>>,
}

/// The token of a caller who may read nothing.
const STRANGER: &str = "stranger";

impl Callers for Cluster {
    fn session(
        &self,
        caller: Caller,
        out: Arc<Output>,
    ) -> BoxFuture<'static, Result<Session, Failure>> {
        let mut world = self.world.clone();
        if let Caller::Bearer(token) = caller {
            self.tokens.lock().unwrap().push(token.to_string());
            if &*token == STRANGER {
                world = World::new(3, 0).hiding(&["postgresqls"]);
            }
        }
        let mut session = world.session(&Screen::default(), None);
        session.out = out;
        Box::pin(async { Ok(session) })
    }
}

/// A server on a port of its own.
struct Server {
    address: SocketAddr,
    app: Arc<App>,
    tokens: Arc<Mutex<Vec<String>>>,
    _stop: watch::Sender<bool>,
}

/// An answer, as a client sees it.
#[derive(Debug)]
struct Got {
    status: u16,
    head: String,
    body: String,
}

impl Got {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

impl Server {
    async fn of(world: &World) -> Self {
        Self::with(world, |_| {}, Limits::default()).await
    }

    async fn with(world: &World, shape: impl FnOnce(&mut App), limits: Limits) -> Self {
        Self::served(world, shape, limits, None).await
    }

    async fn served(
        world: &World,
        shape: impl FnOnce(&mut App),
        limits: Limits,
        tls: Option<Arc<Tls>>,
    ) -> Self {
        let tokens = Arc::default();
        let callers = Cluster { world: world.clone(), tokens: Arc::clone(&tokens) };
        let naming = Naming { cluster: "{name}-a".to_owned(), namespace: "db".to_owned() };
        let mut app = App::new(Arc::new(callers), naming, server_time, crate::session::chance);
        shape(&mut app);
        let app = Arc::new(app);
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopping) = watch::channel(false);
        let router = router(Arc::clone(&app));
        tokio::spawn(Port { listener, router, tls, limits, stopping }.run());
        Self { address, app, tokens, _stop: stop }
    }

    /// Sends these bytes, and reads until the server closes the connection.
    async fn raw(&self, bytes: &[u8]) -> Got {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        // A server that refuses early may close before all was sent.
        stream.write_all(bytes).await.ok();
        let mut answer = Vec::new();
        timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("an end").ok();
        let text = String::from_utf8_lossy(&answer).into_owned();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
        let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
        let body = if chunked { unchunked(body) } else { body.to_owned() };
        Got { status, head: head.to_owned(), body }
    }

    async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Got {
        let mut lines = vec![format!("{method} {path} HTTP/1.1"), "Connection: close".to_owned()];
        if !headers.iter().any(|(name, _)| *name == "Host") {
            lines.push("Host: localhost".to_owned());
        }
        lines.extend(headers.iter().map(|(name, value)| format!("{name}: {value}")));
        if !body.is_empty() {
            lines.push(format!("Content-Length: {}", body.len()));
        }
        let text = format!("{}\r\n\r\n{body}", lines.join("\r\n"));
        self.raw(text.as_bytes()).await
    }

    async fn get(&self, path: &str) -> Got {
        self.ask("GET", path, &[], "").await
    }

    async fn patch(&self, path: &str, body: &Value) -> Got {
        let json = [("Content-Type", "application/json")];
        self.ask("PATCH", path, &json, &body.to_string()).await
    }

    /// Follows the events of the operation that an answer names, until its end, and returns both.
    async fn followed(&self, started: &Got) -> (String, Value) {
        let path = started.json()["operation"]["events"].as_str().unwrap().to_owned();
        let events = self.get(&path).await.body;
        let end = events.split("event: end\ndata: ").nth(1).expect(&events);
        (events.clone(), serde_json::from_str(end.lines().next().unwrap()).unwrap())
    }
}

/// Returns the body that came in chunks.
fn unchunked(mut rest: &str) -> String {
    let mut body = String::new();
    while let Some((size, more)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap_or(0);
        if size == 0 {
            break;
        }
        body.push_str(&more[..size]);
        rest = &more[size + 2..];
    }
    body
}

const SCALE: &str = "/namespaces/db/clusters/acid-a/scale";

#[tokio::test(flavor = "multi_thread")]
async fn the_guides_request_is_answered_as_the_guide_says_and_carried_out() {
    let world = World::new(3, 0);
    let server = Server::of(&world).await;
    let got = server.patch("/ha-clusters/acid/scale", &json!({"replicas": 4})).await;
    assert_eq!(got.status, 202, "{got:?}");
    let answer = got.json();
    assert_eq!(answer["success"], true);
    assert_eq!(answer["message"], "Cluster scaling started");
    assert_eq!(answer["data"], json!({"name": "acid", "namespace": "db", "replicas": 4}));
    let (events, end) = server.followed(&got).await;
    assert_eq!((end["result"].as_str(), world.declared()), (Some("Converged"), 4), "{events}");
    assert_eq!(end["report"]["kind"], "ScaleReport", "{end}");
    let href = answer["operation"]["href"].as_str().unwrap();
    assert_eq!(server.get(href).await.json(), end);
    assert_eq!(server.get("/operations").await.json()["items"], json!([end]));
    let head = got.head.to_ascii_lowercase();
    assert!(head.contains(&format!("location: {}", href.to_ascii_lowercase())), "{head}");
}

#[tokio::test(flavor = "multi_thread")]
async fn shrink_moves_the_leader_first() {
    let world = World::new(3, 2);
    let server = Server::of(&world).await;
    let got = server.patch(SCALE, &json!({"replicas": 2, "reason": "less load"})).await;
    let (events, end) = server.followed(&got).await;
    assert_eq!(end["result"], "Converged", "{events}");
    assert!(world.leader() < 2 && world.declared() == 2 && world.switchovers().len() == 1);
    assert_eq!(events.matches("event: progress").count(), events.matches("\nid: ").count());
    let history = server.get("/namespaces/db/clusters/acid-a/history").await.json();
    assert_eq!(history["items"][0]["reason"], "less load", "{history}");
}

#[tokio::test(flavor = "multi_thread")]
async fn events_go_on_after_the_last_one_that_was_seen() {
    let server = Server::of(&World::new(3, 2)).await;
    let got = server.patch(SCALE, &json!({"replicas": 2})).await;
    let (all, _) = server.followed(&got).await;
    let path = got.json()["operation"]["events"].as_str().unwrap().to_owned();
    let last = all.matches("event: progress").count();
    assert!(last > 2, "{all}");
    let seen = (last - 1).to_string();
    let rest = server.ask("GET", &path, &[("Last-Event-ID", &seen)], "").await.body;
    assert_eq!(rest.matches("event: progress").count(), 1, "{rest}");
    assert!(all.ends_with(rest.trim_start()), "{rest}");
}

#[tokio::test(flavor = "multi_thread")]
async fn refusal_names_its_rules_and_changes_nothing() {
    let world = World::new(3, 0).policy("small", &json!({"instances": {"max": 4}}));
    let server = Server::of(&world).await;
    let got = server.patch(SCALE, &json!({"replicas": 9})).await;
    let answer = got.json();
    assert_eq!((got.status, &answer["success"]), (403, &json!(false)), "{answer}");
    assert_eq!(answer["causes"][0]["rule"], "above-max", "{answer}");
    let hints = answer["hints"].to_string();
    assert!(hints.contains("\"kubectl pgscale up acid-a --to 4 -n db\"]"), "{hints}");
    // Each is a sentence or a command, and no rest of a screen.
    assert!(!hints.contains("\"4\""), "{hints}");
    assert!(got.head.contains("application/problem+json"), "{}", got.head);
    assert_eq!((world.declared(), server.app.operations.all().len()), (3, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn same_count_begins_nothing() {
    let server = Server::of(&World::new(3, 0)).await;
    let got = server.patch(SCALE, &json!({"replicas": 3})).await;
    assert_eq!((got.status, got.json().get("operation")), (200, None), "{got:?}");
    assert!(server.app.operations.all().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn plan_that_has_moved_on_changes_nothing() {
    let world = World::new(3, 0);
    let server = Server::of(&world).await;
    let plan = server.get("/namespaces/db/clusters/acid-a/plan?to=4").await.json();
    let hash = plan["hash"].as_str().unwrap().to_owned();
    world.lead(1);
    let got = server.patch(SCALE, &json!({"replicas": 4, "expectPlan": hash})).await;
    assert_eq!((got.status, world.declared()), (409, 3), "{got:?}");
    let plan = server.get("/namespaces/db/clusters/acid-a/plan?to=4").await.json();
    let got = server.patch(SCALE, &json!({"replicas": 4, "expectPlan": plan["hash"]})).await;
    assert_eq!(server.followed(&got).await.1["result"], "Converged");
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_plan_is_an_answer() {
    let world = World::new(3, 0).policy("small", &json!({"instances": {"max": 4}}));
    let got = Server::of(&world).await.get("/namespaces/db/clusters/acid-a/plan?to=9").await;
    assert_eq!((got.status, &got.json()["outcome"]), (200, &json!("Refused")), "{got:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_operation_at_a_time_works_on_a_cluster() {
    let server = Server::of(&World::new(3, 0)).await;
    let about = About { namespace: "db", name: "acid-a", from: 3, to: 5 };
    let act = server.app.operations.begin(&about, server_time, 1).unwrap();
    let got = server.patch(SCALE, &json!({"replicas": 4})).await;
    let link = serde_json::to_value(&act.operation().link).unwrap();
    assert_eq!((got.status, &got.json()["operation"]), (409, &link), "{got:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn server_that_stops_begins_nothing() {
    let world = World::new(3, 0);
    let server = Server::of(&world).await;
    server.app.stopping.store(true, std::sync::atomic::Ordering::Release);
    let got = server.patch(SCALE, &json!({"replicas": 4})).await;
    assert_eq!((got.status, world.declared()), (503, 3), "{got:?}");
    assert!(got.head.to_ascii_lowercase().contains("retry-after: 1"), "{}", got.head);
}

#[tokio::test(flavor = "multi_thread")]
async fn states_are_those_of_the_command_line() {
    let server = Server::of(&World::new(3, 0)).await;
    let summary = server.get("/ha-clusters/acid").await.json();
    let of = |field: &str| summary[field].clone();
    assert_eq!(
        (of("name"), of("namespace"), of("status"), of("replicas"), of("ready"), of("verdict")),
        (json!("acid-a"), json!("db"), json!("Running"), json!(3), json!(3), json!("HEALTHY"))
    );
    for (path, kind) in [
        ("/clusters", "ScaleStatusList"),
        ("/namespaces/db/clusters", "ScaleStatusList"),
        ("/namespaces/db/clusters/acid-a", "ScaleStatus"),
        ("/namespaces/db/clusters/acid-a/history", "ScaleHistory"),
        ("/namespaces/db/clusters/acid-a/plan?to=2", "ScalePlan"),
    ] {
        let got = server.get(path).await;
        assert_eq!((got.status, &got.json()["kind"]), (200, &json!(kind)), "{path}");
    }
    // Not what the object says, but the members that answer.
    let silent = Server::of(&World::new(3, 0).silent()).await;
    assert_eq!(silent.get("/ha-clusters/acid").await.json()["ready"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn counters_name_no_cluster() {
    let server = Server::of(&World::new(3, 0)).await;
    server.followed(&server.patch(SCALE, &json!({"replicas": 4})).await).await;
    server.get("/nothing/here").await;
    let text = server.get("/metrics").await.body;
    for line in [
        "pgscale_api_requests_total{method=\"GET\",route=\"none\",code=\"404\"} 1",
        "pgscale_api_operations_total{result=\"Converged\"} 1",
        "pgscale_api_operations_running 0",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    assert!(!text.contains("acid"), "{text}");
    assert_eq!(server.get("/healthz").await.body, "ok\n");
    assert_eq!(server.get("/openapi.json").await.json()["openapi"], "3.1.0");
}
