//! An API server, an operator and members in memory. They can fail in every way that a real stack
//! cannot be made to.

use std::io::{BufRead, Cursor};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::Request;
use kube::client::Body;
use pgscale_guard::read::{Clock, Operators, ReadScope, Reader, machine_time};
use pgscale_guard::remedy::Reach;
use serde_json::{Value, json};
use tower::service_fn;

use super::growth::{Growth, Stage};
use crate::cli::{Cli, in_session};
use crate::connect::{Connection, Warnings};
use crate::error::Failure;
use crate::session::{Interruption, Pace, Session};
use crate::terminal::testing::Screen;

mod edges;
mod ledgers;
mod members;
mod metered;
mod mishap;
mod misplaced;
mod objects;
mod person;
mod server;

pub(crate) use mishap::Mishap;
use person::Person;
use server::serve;

/// The scripted error of a command that never ends.
pub(crate) const HANGS: &str = "hangs";

/// The output of commands that contain `part`.
struct Printed {
    ordinal: i64,
    part: &'static str,
    output: Result<String, String>,
    once: bool,
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
    /// Members that have received everything and replayed 400 of 1000 bytes.
    replaying_slowly: Vec<i64>,
    followers_stuck: bool,
    /// The member that does not answer.
    frozen: Option<i64>,
    silent: bool,
    with_resources: bool,
    /// metrics.k8s.io is served.
    metered: bool,
    /// What the `postgres` container of each replica uses of one core, and the age of the value.
    using: Option<(&'static str, i64)>,
    hidden: Vec<&'static str>,
    policies: Vec<Value>,
    quota_spent: bool,
    standby_cluster: bool,
    /// The logical slot in Patroni's configuration.
    logical_slot: Option<&'static str>,
    paused: bool,
    /// The operator's limits. -1 means none.
    limits: (i64, i64),
    denied: Vec<&'static str>,
    mishap: Option<Mishap>,
    printed: Vec<Printed>,
    writes: Vec<Value>,
    /// Dry runs of writes, each with its field manager.
    dry_runs: Vec<(String, Value)>,
    switchovers: Vec<Value>,
    /// The ConfigMap with the history and its version.
    history: Option<Value>,
    history_conflicts: u32,
    events: Vec<Value>,
    overrides: Vec<Value>,
    ledger: Option<Value>,
    second: bool,
    fleet: usize,
    growth: Option<Growth>,
    /// The number of reads that fail while the API server is away.
    away: u32,
    /// Something else than an API server answers.
    another: bool,
    /// The API server knows neither the operator's kinds nor ours.
    bare: bool,
    clock: Clock,
}

impl World {
    /// Returns a healthy cluster of `members`, led by `leader`.
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
            replaying_slowly: Vec::new(),
            followers_stuck: false,
            frozen: None,
            silent: false,
            with_resources: false,
            metered: false,
            using: None,
            hidden: Vec::new(),
            policies: Vec::new(),
            quota_spent: false,
            standby_cluster: false,
            logical_slot: None,
            paused: false,
            limits: (-1, -1),
            denied: Vec::new(),
            mishap: None,
            printed: Vec::new(),
            writes: Vec::new(),
            dry_runs: Vec::new(),
            switchovers: Vec::new(),
            history: None,
            history_conflicts: 0,
            events: Vec::new(),
            overrides: Vec::new(),
            ledger: None,
            second: false,
            fleet: 0,
            growth: None,
            away: 3,
            another: false,
            bare: false,
            clock: machine_time,
        })))
    }

    /// Sets the clock of everything in it.
    pub(crate) fn timed_by(self, clock: Clock) -> Self {
        self.0.lock().unwrap().clock = clock;
        self
    }

    /// Lets one thing fail, once.
    pub(crate) fn with(self, mishap: Mishap) -> Self {
        self.0.lock().unwrap().mishap = Some(mishap);
        self
    }

    /// Lets these members replay 400 of the 1000 bytes that they have received.
    pub(crate) fn replaying_slowly(self, ordinals: &[i64]) -> Self {
        self.0.lock().unwrap().replaying_slowly = ordinals.to_vec();
        self
    }

    /// Lets the receivers of these members stall.
    pub(crate) fn stalled(self, ordinals: &[i64]) -> Self {
        self.0.lock().unwrap().stalled = ordinals.to_vec();
        self
    }

    /// Gives its pods sizes, its members volumes (and one more kept claim), its namespace quotas.
    pub(crate) fn with_resources(self) -> Self {
        self.0.lock().unwrap().with_resources = true;
        self
    }

    /// Forbids reads of these resources.
    pub(crate) fn hiding(self, resources: &[&'static str]) -> Self {
        self.0.lock().unwrap().hidden = resources.to_vec();
        self
    }

    /// Adds another program that writes the count.
    pub(crate) fn managed_by(self, manager: &'static str) -> Self {
        self.0.lock().unwrap().managers = vec![manager];
        self
    }

    /// Lets no member answer over REST.
    pub(crate) fn silent(self) -> Self {
        self.0.lock().unwrap().silent = true;
        self
    }

    /// Scripts a command that contains `part` in the member with `ordinal`: its output, or its
    /// failure.
    pub(crate) fn printing(
        self,
        ordinal: i64,
        part: &'static str,
        output: Result<&str, &str>,
    ) -> Self {
        self.prints(ordinal, part, output, false)
    }

    /// Scripts only the first such command.
    pub(crate) fn printing_once(
        self,
        ordinal: i64,
        part: &'static str,
        output: Result<&str, &str>,
    ) -> Self {
        self.prints(ordinal, part, output, true)
    }

    fn prints(
        self,
        ordinal: i64,
        part: &'static str,
        output: Result<&str, &str>,
        once: bool,
    ) -> Self {
        let output = output.map(str::to_owned).map_err(str::to_owned);
        self.0.lock().unwrap().printed.insert(0, Printed { ordinal, part, output, once });
        self
    }

    /// Makes it a standby cluster: its leader follows a remote primary, and no member is ever
    /// promoted.
    pub(crate) fn standby_cluster(self) -> Self {
        self.0.lock().unwrap().standby_cluster = true;
        self
    }

    /// Pauses its Patroni.
    pub(crate) fn paused(self) -> Self {
        self.0.lock().unwrap().paused = true;
        self
    }

    /// Adds a cluster `acid-b` that is being deleted.
    pub(crate) fn with_another(self) -> Self {
        self.0.lock().unwrap().second = true;
        self
    }

    /// Lists this number of clusters, in a namespace each. They share their name and state.
    pub(crate) fn with_fleet(self, clusters: usize) -> Self {
        self.0.lock().unwrap().fleet = clusters;
        self
    }

    /// Lets this number of writes of the history conflict with another writer's.
    pub(crate) fn history_conflicts(self, times: u32) -> Self {
        self.0.lock().unwrap().history_conflicts = times;
        self
    }

    /// Returns the recorded changes, oldest first.
    pub(crate) fn recorded(&self) -> Vec<Value> {
        let state = self.0.lock().unwrap();
        let text = state.history.as_ref().and_then(|map| map["data"]["changes"].as_str());
        text.unwrap_or_default().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Returns the ConfigMap with the recorded changes.
    pub(crate) fn history(&self) -> Option<Value> {
        self.0.lock().unwrap().history.clone()
    }

    /// Returns the notes of the Events that were written.
    pub(crate) fn events(&self) -> Vec<String> {
        let state = self.0.lock().unwrap();
        state.events.iter().map(|event| event["note"].as_str().unwrap().to_owned()).collect()
    }

    /// Lets a policy allow zero instances.
    pub(crate) fn zero_allowed(self) -> Self {
        self.policy("dev", &json!({"instances": {"zero": "Allow"}}))
    }

    /// Adds a policy of the namespace.
    pub(crate) fn policy(self, name: &str, spec: &Value) -> Self {
        self.0.lock().unwrap().policies.push(policy(name, spec));
        self
    }

    /// Adds a policy of the platform.
    pub(crate) fn platform_policy(self, name: &str, spec: &Value) -> Self {
        self.0.lock().unwrap().policies.push(json!({"apiVersion": "pgscale.dev/v1alpha1",
            "kind": "ClusterScalePolicy", "metadata": {"name": name}, "spec": spec}));
        self
    }

    /// Requests one member more than the namespace's quota has room for.
    pub(crate) fn quota_spent(self) -> Self {
        {
            let mut state = self.0.lock().unwrap();
            state.quota_spent = true;
            state.declared += 1;
            state.replicas += 1;
        }
        self
    }

    /// Gives the operator these limits, under which this count was declared.
    pub(crate) fn limited(self, min: i64, max: i64, declared: i64) -> Self {
        {
            let mut state = self.0.lock().unwrap();
            state.limits = (min, max);
            state.declared = declared;
        }
        self
    }

    /// Denies permissions, as in "patch postgresqls". "review" denies the check of permissions.
    pub(crate) fn denied(self, permissions: &[&'static str]) -> Self {
        self.0.lock().unwrap().denied = permissions.to_vec();
        self
    }

    /// Scripts the progress of added members, each stage with its number of reads.
    pub(crate) fn growing(self, script: &[(Stage, u32)]) -> Self {
        {
            let mut state = self.0.lock().unwrap();
            let (from, script) = (state.members, script.to_vec());
            state.growth = Some(Growth {
                from,
                script,
                since: state.now(),
                looks: 0,
                asked: (0, 0),
                forbidden: false,
            });
        }
        self
    }

    /// Forbids Events, logs and exec.
    pub(crate) fn without_permissions(self) -> Self {
        self.0.lock().unwrap().growth.as_mut().unwrap().forbidden = true;
        self
    }

    /// Returns the number of requests for Events and for logs.
    pub(crate) fn requested(&self) -> (u32, u32) {
        self.0.lock().unwrap().growth.as_ref().unwrap().asked
    }

    /// Returns the declared count.
    pub(crate) fn declared(&self) -> i64 {
        self.0.lock().unwrap().declared
    }

    /// Returns the ordinal of the leader.
    pub(crate) fn leader(&self) -> i64 {
        self.0.lock().unwrap().leader
    }

    /// Makes this ordinal the leader from now on.
    pub(crate) fn lead(&self, ordinal: i64) {
        let mut state = self.0.lock().unwrap();
        state.leader = ordinal;
        state.timeline += 1;
    }

    /// Returns the writes that reached the API server and were to be stored.
    pub(crate) fn writes(&self) -> Vec<Value> {
        self.0.lock().unwrap().writes.clone()
    }

    /// Returns the dry runs that reached the API server, each with its field manager.
    pub(crate) fn dry_runs(&self) -> Vec<(String, Value)> {
        self.0.lock().unwrap().dry_runs.clone()
    }

    /// Returns the switchovers that reached Patroni.
    pub(crate) fn switchovers(&self) -> Vec<Value> {
        self.0.lock().unwrap().switchovers.clone()
    }

    /// Returns the overrides that were written.
    pub(crate) fn overrides(&self) -> Vec<Value> {
        self.0.lock().unwrap().overrides.clone()
    }

    /// Returns a session on this cluster. Its person types `lines`.
    pub(crate) fn session(&self, screen: &Screen, lines: Option<&str>) -> Session {
        let state = Arc::clone(&self.0);
        let service = service_fn(move |request: Request<Body>| {
            let state = Arc::clone(&state);
            async move { serve(&state, request).await }
        });
        let client = kube::Client::new(service, "db");
        let connection = Connection {
            operators: Operators::Listed,
            client: client.clone(),
            namespace: "db".to_owned(),
            named_namespace: None,
            kubeconfig: Value::Null,
            reach: Reach::default(),
            warnings: Warnings::default(),
        };
        let person = lines.map(|lines| {
            Box::new(Person { world: self.clone(), lines: Cursor::new(lines.to_owned()) })
                as Box<dyn BufRead + Send>
        });
        let out = Arc::new(screen.output_for(person));
        let mut session = Session::new(connection, out, Interruption::default());
        session.ask = Arc::new(self.clone());
        session.exec = Arc::new(self.clone());
        session.helm = Arc::new(self.clone());
        session.reader = Reader {
            client,
            ask: Arc::new(self.clone()),
            deadline: Duration::from_secs(3),
            breadth: ReadScope::Whole,
            operators: Operators::default(),
            clock: self.0.lock().unwrap().clock,
            sharing: None,
        };
        session.pace = Pace {
            poll: Duration::from_millis(5),
            tell: Duration::from_millis(5),
            stuck: Duration::from_millis(50),
            stable: Duration::from_millis(20),
            switchover: Duration::from_secs(1),
            confirm: Duration::from_secs(2),
            // Longer than any test takes: the tests of this wait give a time of their own.
            slots: Duration::from_secs(20),
            follow: Duration::from_millis(300),
            lost_answer: Duration::from_millis(50),
            sample: Duration::from_millis(1),
            rate: Duration::from_millis(1),
            settle: Duration::from_millis(5),
            until: None,
            impact: Duration::from_millis(200),
        };
        session
    }
}

/// Runs a command line on `world`, and returns the screen, the exit code and the error.
pub(crate) async fn run(world: &World, line: &str, person: Option<&str>) -> (Screen, u8, String) {
    let screen = Screen::default();
    match give(&world.session(&screen, person), line).await {
        Ok(()) => (screen, 0, String::new()),
        Err(failure) => (screen, failure.kind.code(), failure.to_string()),
    }
}

/// Runs a command line in a session of the test.
pub(crate) async fn give(session: &Session, line: &str) -> Result<(), Failure> {
    let cli = Cli::of(format!("kubectl-pgscale {line}").split_whitespace()).unwrap();
    session.out.print_by(cli.expression);
    Box::pin(in_session(cli.verb, session)).await
}

pub(super) fn address(ordinal: i64) -> String {
    format!("10.244.0.{}", 10 + ordinal)
}

/// Returns a policy of the namespace.
fn policy(name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "pgscale.dev/v1alpha1", "kind": "ScalePolicy",
        "metadata": {"name": name, "namespace": "db"}, "spec": spec})
}
