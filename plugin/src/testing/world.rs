//! An API server, an operator and members in memory: enough of them to act on, and to go wrong in every way that
//! cannot be produced for real.

use std::io::{self, BufRead, Cursor, Read};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::{Method, Request, Response};
use k8s_openapi::jiff::Timestamp;
use kube::client::Body;
use pgscale_guard::read::{Address, Ask, Breadth, Reader, RestRequest, RestResponse};
use serde_json::{Value, json};
use tower::service_fn;

use super::growth::{Growth, Stage};
use super::{answer, furnished, object, report};
use crate::args::Cli;
use crate::connect::{Connection, Warnings};
use crate::inside::Inside;
use crate::output::testing::Screen;
use crate::session::{Interruption, Pace, Session};

/// What goes wrong, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mishap {
    /// Somebody else writes the object just before our write.
    Conflict,
    /// The webhook refuses the write.
    Denial,
    /// The write is lost on its way.
    LostBefore,
    /// The answer to the write is lost on its way.
    LostAfter,
    /// Patroni refuses to switch over.
    SwitchoverRefused,
    /// Patroni's answer to a switchover that works is lost.
    SwitchoverAnswerLost,
    /// The switchover works, and the standbys do not follow the new leader.
    NobodyFollows,
    /// Another writer sets the count back as soon as it is written.
    Reverted,
    /// The new member never starts.
    Pending,
    /// Somebody else writes the same count just before our write, and the new member never starts.
    PendingAndCounted,
    /// The last member takes the lead while the question is open.
    FailoverAtPrompt,
    /// The same, and the first two stall.
    FailoverAndStallAtPrompt,
    /// The last member but one takes the lead while the checkpoint is written.
    FailoverAtCheckpoint,
    /// The switchover works, and member 1 leads, whoever was asked for.
    AnotherTakesOver,
    /// The switchover works, and somebody else sets the count to 7 meanwhile.
    CountedDuringSwitchover,
    /// Somebody else has asked for a switchover.
    SwitchoverPending,
    /// The object that tells of switchovers cannot be read.
    SwitchoversHidden,
    /// Everything is deleted and created again just before our write.
    Recreated,
    /// The switchover works, and the API server cannot be reached for the first looks after it.
    AwayAfterSwitchover,
    /// Stalled receivers work for a moment after the switchover, and stall again.
    StallsAgain,
}

/// The cluster `db/acid-a`.
#[derive(Clone)]
pub(crate) struct World(Arc<Mutex<State>>);

#[expect(clippy::struct_excessive_bools, reason = "independent switches of one test cluster")]
struct State {
    declared: i64,
    replicas: i64,
    members: i64,
    leader: i64,
    timeline: u64,
    version: u64,
    uid: String,
    managers: Vec<&'static str>,
    stalled: Vec<i64>,
    followers_stuck: bool,
    silent: bool,
    furnished: bool,
    hidden: Vec<&'static str>,
    zero: bool,
    quota_spent: bool,
    standby_cluster: bool,
    limits: Option<(i64, i64)>,
    denied: Vec<&'static str>,
    mishap: Option<Mishap>,
    printed: Vec<(i64, &'static str, Result<String, String>)>,
    writes: Vec<Value>,
    switchovers: Vec<Value>,
    /// The ConfigMap with the history, its version counted in it.
    history: Option<Value>,
    history_conflicts: u32,
    events: Vec<Value>,
    second: bool,
    growth: Option<Growth>,
    /// How many looks fail while the API server is away.
    away: u32,
}

impl World {
    /// A healthy cluster of `members`, led by `leader`.
    pub(crate) fn new(members: i64, leader: i64) -> Self {
        Self(Arc::new(Mutex::new(State {
            declared: members,
            replicas: members,
            members,
            leader,
            timeline: 1,
            version: 7,
            uid: "u1".to_owned(),
            managers: Vec::new(),
            stalled: Vec::new(),
            followers_stuck: false,
            silent: false,
            furnished: false,
            hidden: Vec::new(),
            zero: false,
            quota_spent: false,
            standby_cluster: false,
            limits: None,
            denied: Vec::new(),
            mishap: None,
            printed: Vec::new(),
            writes: Vec::new(),
            switchovers: Vec::new(),
            history: None,
            history_conflicts: 0,
            events: Vec::new(),
            second: false,
            growth: None,
            away: 3,
        })))
    }

    /// Lets something go wrong, once.
    pub(crate) fn with(self, mishap: Mishap) -> Self {
        self.0.lock().unwrap().mishap = Some(mishap);
        self
    }

    /// Lets the receivers of these members stall.
    pub(crate) fn stalled(self, ordinals: &[i64]) -> Self {
        self.0.lock().unwrap().stalled = ordinals.to_vec();
        self
    }

    /// Gives its pods sizes, its members volumes (and one more of an earlier life), its namespace quotas.
    pub(crate) fn furnished(self) -> Self {
        self.0.lock().unwrap().furnished = true;
        self
    }

    /// Nobody may read these resources.
    pub(crate) fn hiding(self, resources: &[&'static str]) -> Self {
        self.0.lock().unwrap().hidden = resources.to_vec();
        self
    }

    /// Another program writes the count too.
    pub(crate) fn managed_by(self, manager: &'static str) -> Self {
        self.0.lock().unwrap().managers = vec![manager];
        self
    }

    /// Lets nobody answer over REST.
    pub(crate) fn silent(self) -> Self {
        self.0.lock().unwrap().silent = true;
        self
    }

    /// Lets a command that holds `part` print this in the member with `ordinal`, or fail.
    pub(crate) fn printing(
        self,
        ordinal: i64,
        part: &'static str,
        said: Result<&str, &str>,
    ) -> Self {
        let said = said.map(str::to_owned).map_err(str::to_owned);
        self.0.lock().unwrap().printed.insert(0, (ordinal, part, said));
        self
    }

    /// Makes it a standby cluster: its leader follows a remote primary, and nobody is ever promoted.
    pub(crate) fn standby_cluster(self) -> Self {
        self.0.lock().unwrap().standby_cluster = true;
        self
    }

    /// Adds a cluster `acid-b` that is being deleted.
    pub(crate) fn with_another(self) -> Self {
        self.0.lock().unwrap().second = true;
        self
    }

    /// Lets so many writes of the history conflict with somebody else's.
    pub(crate) fn history_conflicts(self, times: u32) -> Self {
        self.0.lock().unwrap().history_conflicts = times;
        self
    }

    /// The changes that are recorded, oldest first.
    pub(crate) fn recorded(&self) -> Vec<Value> {
        let state = self.0.lock().unwrap();
        let text = state.history.as_ref().and_then(|map| map["data"]["changes"].as_str());
        text.unwrap_or_default().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The ConfigMap they are in.
    pub(crate) fn history(&self) -> Option<Value> {
        self.0.lock().unwrap().history.clone()
    }

    /// The notes of the Events that were written.
    pub(crate) fn events(&self) -> Vec<String> {
        let state = self.0.lock().unwrap();
        state.events.iter().map(|event| event["note"].as_str().unwrap().to_owned()).collect()
    }

    /// Lets a policy allow zero instances.
    pub(crate) fn zero_allowed(self) -> Self {
        self.0.lock().unwrap().zero = true;
        self
    }

    /// Asks for one member more than the namespace's quota leaves room for.
    pub(crate) fn quota_spent(self) -> Self {
        {
            let mut state = self.0.lock().unwrap();
            state.quota_spent = true;
            state.declared += 1;
            state.replicas += 1;
        }
        self
    }

    /// Gives the cluster an operator with these limits, under which this count was declared.
    pub(crate) fn limited(self, min: i64, max: i64, declared: i64) -> Self {
        {
            let mut state = self.0.lock().unwrap();
            state.limits = Some((min, max));
            state.declared = declared;
        }
        self
    }

    /// Takes rights away, as in "patch postgresqls"; "review" lets nobody learn what they may do.
    pub(crate) fn denied(self, rights: &[&'static str]) -> Self {
        self.0.lock().unwrap().denied = rights.to_vec();
        self
    }

    /// Lets members that come get on like this, each stage for so many looks.
    pub(crate) fn growing(self, script: &[(Stage, u32)]) -> Self {
        {
            let mut state = self.0.lock().unwrap();
            let (from, script) = (state.members, script.to_vec());
            state.growth = Some(Growth {
                from,
                script,
                since: now(),
                looks: 0,
                asked: (0, 0),
                forbidden: false,
            });
        }
        self
    }

    /// Forbids Events, logs and exec.
    pub(crate) fn without_rights(self) -> Self {
        self.0.lock().unwrap().growth.as_mut().unwrap().forbidden = true;
        self
    }

    /// Requests for Events and for logs.
    pub(crate) fn asked(&self) -> (u32, u32) {
        self.0.lock().unwrap().growth.as_ref().unwrap().asked
    }

    /// The declared count.
    pub(crate) fn declared(&self) -> i64 {
        self.0.lock().unwrap().declared
    }

    /// The ordinal that leads.
    pub(crate) fn leader(&self) -> i64 {
        self.0.lock().unwrap().leader
    }

    /// Lets this ordinal lead from now on.
    pub(crate) fn lead(&self, ordinal: i64) {
        let mut state = self.0.lock().unwrap();
        state.leader = ordinal;
        state.timeline += 1;
    }

    /// The writes that reached the API server.
    pub(crate) fn writes(&self) -> Vec<Value> {
        self.0.lock().unwrap().writes.clone()
    }

    /// The switchovers that reached Patroni.
    pub(crate) fn switchovers(&self) -> Vec<Value> {
        self.0.lock().unwrap().switchovers.clone()
    }

    /// A session on this cluster, whose person types `lines`.
    pub(crate) fn session(&self, screen: &Screen, lines: Option<&str>) -> Session {
        let state = Arc::clone(&self.0);
        let service = service_fn(move |request: Request<Body>| {
            let state = Arc::clone(&state);
            async move { serve(&state, request).await }
        });
        let client = kube::Client::new(service, "db");
        let connection = Connection {
            client: client.clone(),
            namespace: "db".to_owned(),
            flags: String::new(),
            warnings: Warnings::default(),
        };
        let person = lines.map(|lines| {
            Box::new(Person { world: self.clone(), lines: Cursor::new(lines.to_owned()) })
                as Box<dyn BufRead + Send>
        });
        let out = Arc::new(screen.output_for(person));
        let mut session = Session::new(connection, out, Interruption::default());
        session.ask = Arc::new(self.clone());
        session.inside = Arc::new(self.clone());
        session.reader = Reader {
            client,
            ask: Arc::new(self.clone()),
            deadline: Duration::from_secs(3),
            breadth: Breadth::Whole,
        };
        session.pace = Pace {
            poll: Duration::from_millis(5),
            stable: Duration::from_millis(20),
            switchover: Duration::from_secs(1),
            confirm: Duration::from_secs(2),
            follow: Duration::from_millis(300),
            lost_answer: Duration::from_millis(50),
            sample: Duration::from_millis(1),
            outlook: Duration::from_millis(200),
        };
        session
    }
}

/// Runs a command line on `world`; what it says, and how it ends.
pub(crate) async fn run(world: &World, line: &str, person: Option<&str>) -> (Screen, u8, String) {
    let screen = Screen::default();
    let session = world.session(&screen, person);
    let cli = Cli::of(format!("kubectl-pgscale {line}").split_whitespace()).unwrap();
    session.out.print_by(cli.expression);
    let ended = Box::pin(crate::commands::in_session(cli.verb, &session)).await;
    match ended {
        Ok(()) => (screen, 0, String::new()),
        Err(failure) => (screen, failure.kind.code(), failure.to_string()),
    }
}

/// One request to the API server.
async fn serve(
    state: &Mutex<State>,
    request: Request<Body>,
) -> Result<Response<Body>, tower::BoxError> {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    let query = parts.uri.query().unwrap_or_default().to_owned();
    let body = body.collect_bytes().await?;
    let mut state = state.lock().unwrap();
    if state.is_away(&path) {
        return Err("connection refused".into());
    }
    if parts.method == Method::PATCH {
        let wish: Value = serde_json::from_slice(&body)?;
        if path.contains("/configmaps/") {
            let mut map = state.history.clone().unwrap_or_default();
            map["metadata"]["resourceVersion"] = wish["metadata"]["resourceVersion"].clone();
            map["data"] = wish["data"].clone();
            return Ok(state.store(&path, map));
        }
        return state.write(&wish, query.contains("dryRun=All"));
    }
    if path.ends_with("/selfsubjectaccessreviews") {
        return Ok(state.review(serde_json::from_slice(&body)?));
    }
    if parts.method == Method::POST {
        let object = serde_json::from_slice(&body)?;
        return Ok(state.store(&path, object));
    }
    Ok(state.read(&path, &query))
}

fn respond(code: u16, body: &Value) -> Response<Body> {
    Response::builder().status(code).body(Body::from(body.to_string().into_bytes())).unwrap()
}

fn failure(code: u16, reason: &str, message: &str) -> Response<Body> {
    let causes = json!([{"reason": "below-min", "message": "2 instances asked, 3 is the minimum",
        "field": "spec.numberOfInstances"}]);
    let details =
        if code == 403 { json!({"causes": causes}) } else { json!({"name": "what was asked for"}) };
    respond(
        code,
        &json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code,
            "reason": reason, "message": message, "details": details}),
    )
}

fn list(items: &[Value]) -> Response<Body> {
    respond(200, &json!({"kind": "List", "apiVersion": "v1", "metadata": {}, "items": items}))
}

impl State {
    /// A look at the cluster's object that fails, as the first ones after a switchover may.
    fn is_away(&mut self, path: &str) -> bool {
        let looks = path.ends_with("/postgresqls/acid-a") && !self.switchovers.is_empty();
        let away = looks && self.away > 0 && self.mishap == Some(Mishap::AwayAfterSwitchover);
        self.away -= u32::from(away);
        away
    }

    fn object(&self) -> Value {
        let mut object = object(self.declared);
        object["metadata"]["uid"] = json!(self.uid);
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let time = self.growth.as_ref().map(|growth| growth.since.clone());
        object["metadata"]["managedFields"] = self
            .managers
            .iter()
            .map(|manager| {
                json!({"manager": manager, "operation": "Update", "time": time,
                    "fieldsV1": {"f:spec": {"f:numberOfInstances": {}}}})
            })
            .collect();
        object
    }

    fn another(&self) -> Value {
        let mut object = self.object();
        object["metadata"]["name"] = json!("acid-b");
        object["metadata"]["deletionTimestamp"] = json!("2026-11-24T09:00:00Z");
        object
    }

    fn write(&mut self, patch: &Value, dry_run: bool) -> Result<Response<Body>, tower::BoxError> {
        self.writes.push(patch.clone());
        let mishap = self.mishap;
        match mishap {
            Some(Mishap::Conflict) => self.version += 1,
            Some(Mishap::PendingAndCounted) => {
                self.version += 1;
                self.declared = patch["spec"]["numberOfInstances"].as_i64().unwrap();
                self.replicas = self.declared;
                self.members = self.declared;
            }
            Some(Mishap::Recreated) => {
                self.version += 1;
                self.uid = "u2".to_owned();
            }
            Some(Mishap::Denial) => {
                let text = "admission webhook \"shrink.pgscale.dev\" denied the request: below-min: \
                            2 instances asked, 3 is the minimum";
                return Ok(failure(403, "Forbidden", text));
            }
            Some(Mishap::LostBefore) => return Err("connection reset by peer".into()),
            Some(
                Mishap::LostAfter
                | Mishap::FailoverAtPrompt
                | Mishap::FailoverAndStallAtPrompt
                | Mishap::FailoverAtCheckpoint
                | Mishap::AnotherTakesOver
                | Mishap::CountedDuringSwitchover
                | Mishap::SwitchoverPending
                | Mishap::SwitchoversHidden
                | Mishap::SwitchoverRefused
                | Mishap::SwitchoverAnswerLost
                | Mishap::NobodyFollows
                | Mishap::Reverted
                | Mishap::AwayAfterSwitchover
                | Mishap::StallsAgain
                | Mishap::Pending,
            )
            | None => {}
        }
        if matches!(mishap, Some(Mishap::Conflict | Mishap::Recreated)) {
            self.mishap = None;
        }
        if patch["metadata"]["resourceVersion"] != json!(self.version.to_string()) {
            return Ok(failure(409, "Conflict", "the object has been modified"));
        }
        if dry_run {
            return Ok(respond(200, &self.object()));
        }
        self.version += 1;
        self.declared = patch["spec"]["numberOfInstances"].as_i64().unwrap();
        self.managers = vec!["kubectl-pgscale"];
        if let Some(growth) = &mut self.growth {
            growth.since = now();
        }
        self.replicas = self.declared;
        self.members = self.declared;
        match mishap {
            Some(Mishap::LostAfter) => return Err("connection reset by peer".into()),
            Some(Mishap::StallsAgain) => self.stalled = vec![0],
            Some(Mishap::Reverted) => {
                self.version += 1;
                self.declared = 3;
                self.managers = vec!["argocd-controller"];
            }
            _ => {}
        }
        Ok(respond(200, &self.object()))
    }

    /// Stores what is not the cluster: the history, Events, and who asks.
    fn store(&mut self, path: &str, object: Value) -> Response<Body> {
        match path.rsplit('/').next().unwrap_or_default() {
            "selfsubjectreviews" => respond(
                201,
                &json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview",
                    "metadata": {}, "status": {"userInfo": {"username": "dba"}}}),
            ),
            "events" => {
                self.events.push(object.clone());
                respond(201, &object)
            }
            "configmaps" | "pgscale-history-acid-a" => {
                let there = self.history.as_ref().map(|map| &map["metadata"]["resourceVersion"]);
                if self.history_conflicts > 0
                    || there
                        .is_some_and(|version| *version != object["metadata"]["resourceVersion"])
                {
                    self.history_conflicts = self.history_conflicts.saturating_sub(1);
                    return failure(409, "Conflict", "the object has been modified");
                }
                let version = there
                    .and_then(Value::as_str)
                    .map_or(1, |version| version.parse::<u64>().unwrap() + 1);
                let mut object = object;
                object["metadata"]["resourceVersion"] = json!(version.to_string());
                self.history = Some(object.clone());
                respond(200, &object)
            }
            _ => failure(404, "NotFound", &format!("{path} not found")),
        }
    }

    fn review(&self, mut review: Value) -> Response<Body> {
        if self.denied.contains(&"review") {
            return failure(403, "Forbidden", "nobody may ask");
        }
        let of = &review["spec"]["resourceAttributes"];
        let word = |name: &str| of[name].as_str().unwrap_or_default();
        let sub = word("subresource");
        let slash = if sub.is_empty() { "" } else { "/" };
        let asked = format!("{} {}{slash}{sub}", word("verb"), word("resource"));
        review["status"] = json!({"allowed": !self.denied.contains(&asked.as_str())});
        respond(201, &review)
    }

    fn read(&mut self, path: &str, query: &str) -> Response<Body> {
        let last = path.rsplit('/').next().unwrap_or_default();
        if let Some(hidden) = self.hidden.iter().find(|it| path.split('/').any(|part| part == **it))
        {
            return failure(403, "Forbidden", &format!("{hidden} is forbidden"));
        }
        match last {
            "postgresqls" if self.second => list(&[self.object(), self.another()]),
            "resourcequotas" if self.furnished => list(&furnished::quotas(self.members)),
            "persistentvolumeclaims" if self.furnished => {
                list(&furnished::claims(self.members + 1))
            }
            "namespaces" => list(&["db", "default"].map(|name| {
                json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
                    "metadata": {"name": name}})
            })),
            "postgresqls" => list(&[self.object()]),
            "acid-b" if self.second && path.contains("/postgresqls/") => {
                respond(200, &self.another())
            }
            "pgscale-history-acid-a" if self.history.is_some() => {
                respond(200, self.history.as_ref().unwrap())
            }
            "events" if self.quota_spent && query.contains("involvedObject.name%3Dacid-a%2C") => {
                list(&[json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e"},
                    "involvedObject": {"kind": "StatefulSet", "name": "acid-a"},
                    "type": "Warning", "reason": "FailedCreate", "lastTimestamp": now(),
                    "message": "pods \"acid-a-3\" is forbidden: exceeded quota: team"})])
            }
            "events" | "log" if self.growth.is_some() => self.tell(last, query),
            "acid-a" if path.contains("/postgresqls/") => {
                // Every look begins here.
                if let Some(growth) = self.growth.as_mut().filter(|it| self.members > it.from) {
                    growth.looks += 1;
                }
                respond(200, &self.object())
            }
            "acid-a" if path.contains("/statefulsets/") => respond(200, &self.stateful_set()),
            "pods" => {
                let ordinals =
                    (0..self.members).filter(|ordinal| self.stage(*ordinal) != Some(Stage::Absent));
                let pods: Vec<Value> = ordinals.map(|ordinal| self.pod(ordinal)).collect();
                list(&pods)
            }
            "acid-a-leader" => self.annotated(
                last,
                &json!({"leader": format!("acid-a-{}", self.leader), "ttl": "30",
                    "renewTime": now(), "optime": "1000", "transitions": "0"}),
            ),
            "acid-a-config" => {
                let mut config = json!({"maximum_lag_on_failover": 1_000_000});
                if self.standby_cluster {
                    config["standby_cluster"] = json!({"host": "remote"});
                }
                self.annotated(last, &json!({"config": config.to_string()}))
            }
            "acid-a-failover" if self.mishap == Some(Mishap::SwitchoverPending) => {
                self.annotated(last, &json!({"leader": "acid-a-4", "member": "acid-a-1"}))
            }
            "acid-a-failover" if self.mishap == Some(Mishap::SwitchoversHidden) => {
                failure(403, "Forbidden", "configmaps \"acid-a-failover\" is forbidden")
            }
            "endpointslices" => list(&[self.slice(query.contains("repl"))]),
            "deployments" if self.limits.is_some() => list(&[operator()]),
            "events"
            | "persistentvolumeclaims"
            | "deployments"
            | "resourcequotas"
            | "limitranges"
            | "poddisruptionbudgets"
            | "nodes" => list(&[]),
            "postgres-operator" => {
                let (min, max) = self.limits.unwrap();
                respond(
                    200,
                    &json!({"apiVersion": "v1", "kind": "ConfigMap",
                        "metadata": {"namespace": "default", "name": last},
                        "data": {"watched_namespace": "*", "min_instances": min.to_string(),
                            "max_instances": max.to_string(), "kubernetes_use_configmaps": "true"}}),
                )
            }
            _ if path.contains("/nodes/") => {
                let mut node = json!({"apiVersion": "v1", "kind": "Node",
                    "metadata": {"name": last, "labels": {}},
                    "status": {"conditions": [{"type": "Ready", "status": "True"}]}});
                if self.furnished {
                    node["metadata"]["labels"]["topology.kubernetes.io/zone"] =
                        json!(furnished::zone(last));
                }
                respond(200, &node)
            }
            "scalepolicies" if self.zero => list(&[json!({"apiVersion": "pgscale.dev/v1alpha1",
                "kind": "ScalePolicy", "metadata": {"name": "dev", "namespace": "db"},
                "spec": {"instances": {"zero": "Allow"}}})]),
            _ => failure(404, "NotFound", &format!("{path} not found")),
        }
    }

    /// How a member that came gets on.
    fn stage(&self, ordinal: i64) -> Option<Stage> {
        let growth = self.growth.as_ref().filter(|growth| ordinal >= growth.from)?;
        Some(growth.stage())
    }

    /// Events and logs.
    fn tell(&mut self, what: &str, query: &str) -> Response<Body> {
        let Some(growth) = &mut self.growth else { return list(&[]) };
        let asked = if what == "log" { &mut growth.asked.1 } else { &mut growth.asked.0 };
        *asked += 1;
        if growth.forbidden {
            return failure(403, "Forbidden", "events is forbidden");
        }
        if what == "log" {
            let log = "pg_basebackup: error: connection to server failed: FATAL: no pg_hba.conf entry\n\
                       INFO: Lock owner: acid-a-0; I am acid-a-3\n";
            return Response::new(Body::from(log.as_bytes().to_vec()));
        }
        let name = query.split("involvedObject.name%3D").nth(1).unwrap_or_default();
        list(&growth.events(name.split('&').next().unwrap_or_default()))
    }

    fn annotated(&self, name: &str, annotations: &Value) -> Response<Body> {
        respond(
            200,
            &json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
                "metadata": {"namespace": "db", "name": name, "annotations": annotations,
                    "resourceVersion": self.version.to_string()}}),
        )
    }

    fn stateful_set(&self) -> Value {
        let mut set = json!({"apiVersion": "apps/v1", "kind": "StatefulSet",
            "metadata": {"namespace": "db", "name": "acid-a", "generation": 1},
            "spec": {"replicas": self.replicas, "serviceName": "acid-a",
                "selector": {"matchLabels": {"cluster-name": "acid-a"}},
                "template": {"metadata": {}, "spec": {"containers": [{"name": "postgres",
                    "env": [{"name": "KUBERNETES_USE_CONFIGMAPS", "value": "true"}]}]}}},
            "status": {"replicas": self.replicas, "observedGeneration": 1}});
        if self.furnished {
            set["spec"]["template"]["spec"] = furnished::pod_spec();
            set["spec"]["volumeClaimTemplates"] = furnished::claim_templates();
        }
        set
    }

    fn pod(&self, ordinal: i64) -> Value {
        let leads = ordinal == self.leader;
        let came = match self.mishap {
            Some(Mishap::Pending) => self.managers == ["kubectl-pgscale"],
            Some(Mishap::PendingAndCounted) => !self.writes.is_empty(),
            _ => false,
        };
        let pending = came && ordinal == self.members - 1;
        let status = if pending {
            json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False",
                "reason": "Unschedulable", "message": "0/3 nodes are available"}]})
        } else {
            json!({"phase": "Running", "podIP": address(ordinal),
                "conditions": [{"type": "Ready", "status": "True"}],
                "containerStatuses": [{"name": "postgres", "ready": true, "restartCount": 0,
                    "image": "spilo", "imageID": "", "started": true,
                    "state": {"running": {"startedAt": "2026-11-24T08:00:00Z"}}}]})
        };
        let stage = self.stage(ordinal);
        let since = self.growth.as_ref().map_or_else(String::new, |growth| growth.since.clone());
        let status = stage.map_or(status, |stage| stage.status(ordinal, &since));
        let pending = pending || stage == Some(Stage::Unscheduled);
        let mut said = report(leads, self.timeline);
        if let Some(state) = stage.and_then(Stage::says) {
            said["state"] = json!(state);
            said["role"] = json!("uninitialized");
        }
        let silent = stage.is_some_and(|stage| !stage.runs() || matches!(stage, Stage::Started(_)));
        let annotations =
            if pending || silent { json!({}) } else { json!({"status": said.to_string()}) };
        let created = if stage.is_some() { since.as_str() } else { "2026-11-24T08:00:00Z" };
        json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"namespace": "db", "name": format!("acid-a-{ordinal}"),
                "creationTimestamp": created, "annotations": annotations,
                "labels": {"cluster-name": "acid-a",
                    "spilo-role": if leads { "master" } else { "replica" }}},
            "spec": {"nodeName": if pending { Value::Null } else { json!(format!("node-{ordinal}")) },
                "containers": [{"name": "postgres"}]},
            "status": status})
    }

    fn slice(&self, replicas: bool) -> Value {
        let endpoints: Vec<Value> = (0..self.members)
            .filter(|ordinal| (*ordinal == self.leader) != replicas)
            .filter(|ordinal| self.stage(*ordinal).is_none_or(|stage| stage == Stage::Serving))
            .map(|ordinal| json!({"addresses": [address(ordinal)], "conditions": {"ready": true}}))
            .collect();
        json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"namespace": "db", "name": "s"}, "endpoints": endpoints, "ports": []})
    }

    fn say(&mut self, pod: &str, request: &RestRequest) -> Result<RestResponse, String> {
        let ordinal: i64 = pod.rsplit('-').next().unwrap().parse().unwrap();
        if request.method == Method::POST && request.path == "/switchover" {
            return self.switch_over(request.body.clone().unwrap());
        }
        if self.silent {
            return Err("neither pods/portforward nor pods/exec is permitted".to_owned());
        }
        let leads = ordinal == self.leader;
        let mut said = answer(leads, self.timeline);
        if let Some(stage) = self.stage(ordinal) {
            if !stage.runs() || matches!(stage, Stage::Started(_)) {
                return Err("connection refused".to_owned());
            }
            if let Some(state) = stage.says() {
                said["state"] = json!(state);
                said["role"] = json!("uninitialized");
            }
        }
        if leads && self.standby_cluster {
            said["role"] = json!("standby_leader");
            said["replication_state"] = json!("streaming");
            said["xlog"] = json!({"received_location": 1000, "replayed_location": 1000});
        }
        let stuck = self.followers_stuck && !leads;
        if self.stalled.contains(&ordinal) || stuck {
            said["xlog"] = json!({"received_location": 10, "replayed_location": 10});
        }
        Ok(RestResponse { status: 200, body: said.to_string() })
    }

    /// Runs a command inside a member: a checkpoint, a question about base backups, and what a test lets it print.
    fn run(&mut self, pod: &str, command: &[String]) -> Result<String, String> {
        let words = command.join(" ");
        let here = |ordinal: i64| pod.ends_with(&format!("-{ordinal}"));
        let told =
            self.printed.iter().find(|(ordinal, part, _)| here(*ordinal) && words.contains(part));
        if let Some((.., said)) = told {
            return said.clone();
        }
        if words.ends_with("CHECKPOINT") {
            if self.mishap == Some(Mishap::FailoverAtCheckpoint) {
                self.leader = self.members - 2;
                self.timeline += 1;
            }
            return Ok(String::new());
        }
        if let Some(growth) = &self.growth
            && words.contains("pg_stat_progress_basebackup")
        {
            return if growth.forbidden {
                Err("pods/exec is not permitted".to_owned())
            } else {
                Ok(growth.backups())
            };
        }
        Err(format!("{} is not installed", command.first().map_or("nothing", String::as_str)))
    }

    fn switch_over(&mut self, wish: Value) -> Result<RestResponse, String> {
        let candidate = wish["candidate"].as_str().unwrap().rsplit('-').next().unwrap().to_owned();
        self.switchovers.push(wish);
        if self.mishap == Some(Mishap::SwitchoverRefused) {
            let body = "candidate name does not match with sync_standby".to_owned();
            return Ok(RestResponse { status: 412, body });
        }
        self.leader = match self.mishap {
            Some(Mishap::AnotherTakesOver) => 1,
            _ => candidate.parse().unwrap(),
        };
        self.timeline += u64::from(!self.standby_cluster);
        if self.mishap == Some(Mishap::CountedDuringSwitchover) {
            self.declared = 7;
            self.version += 1;
        }
        self.followers_stuck = self.mishap == Some(Mishap::NobodyFollows);
        if self.mishap == Some(Mishap::StallsAgain) {
            self.stalled.clear();
        }
        if self.mishap == Some(Mishap::SwitchoverAnswerLost) {
            return Err("timed out after 40 s".to_owned());
        }
        Ok(RestResponse { status: 200, body: "Successfully switched over".to_owned() })
    }
}

/// The Deployment of an operator that keeps its settings in a ConfigMap.
fn operator() -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"namespace": "default", "name": "postgres-operator"},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"name": "postgres-operator"}},
            "template": {"spec": {"containers": [{"name": "postgres-operator",
                "env": [{"name": "CONFIG_MAP_NAME", "value": "postgres-operator"}]}]}}},
        "status": {"replicas": 1, "availableReplicas": 1}})
}

pub(super) fn address(ordinal: i64) -> String {
    format!("10.244.0.{}", 10 + ordinal)
}

fn now() -> String {
    Timestamp::now().to_string()
}

/// Somebody at the terminal, who takes their time.
struct Person {
    world: World,
    lines: Cursor<String>,
}

impl Read for Person {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.lines.read(into)
    }
}

impl BufRead for Person {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let mut state = self.world.0.lock().unwrap();
        let stalls = state.mishap == Some(Mishap::FailoverAndStallAtPrompt);
        if stalls || state.mishap == Some(Mishap::FailoverAtPrompt) {
            state.leader = state.members - 1;
            state.timeline += 1;
        }
        if stalls {
            state.stalled = vec![0, 1];
        }
        self.lines.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        self.lines.consume(amount);
    }
}

impl Ask for World {
    fn exchange<'a>(
        &'a self,
        pod: &'a Address,
        request: RestRequest,
    ) -> BoxFuture<'a, Result<RestResponse, String>> {
        async move { self.0.lock().unwrap().say(&pod.pod, &request) }.boxed()
    }
}

impl Inside for World {
    fn run<'a>(
        &'a self,
        pod: &'a Address,
        command: Vec<String>,
        _: Duration,
    ) -> BoxFuture<'a, Result<String, String>> {
        async move { self.0.lock().unwrap().run(&pod.pod, &command) }.boxed()
    }
}
