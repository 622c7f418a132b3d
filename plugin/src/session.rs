//! What every command works with: the API server, the way to the members, the terminal, the clock.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind};
use pgscale_guard::facts::Facts;
use pgscale_guard::postgresql::{GROUP, KIND, PLURAL, Postgresql, VERSION};
use pgscale_guard::read::{
    Address, AskWhom, MemberClient, ReadError, ReadScope, Reader, machine_time,
};
use pgscale_guard::remedy::{Command, Reach, spelled};
use pgscale_guard::{Change, Policies};

use crate::connect::{Connection, Warnings};
use crate::error::Failure;
use crate::exec::Exec;
use crate::forward::Forward;
use crate::terminal::Output;

/// How long reading one cluster may take as a whole.
const READ_DEADLINE: Duration = Duration::from_secs(15);

/// What every command works with. A clone is the same session.
#[derive(Clone)]
pub(crate) struct Session {
    /// The API server; it never retries.
    pub(crate) client: Client,
    /// Reads clusters.
    pub(crate) reader: Reader,
    /// Asks members, and tells them to switch over.
    pub(crate) ask: Arc<dyn MemberClient>,
    /// Runs commands and SQL inside members.
    pub(crate) exec: Arc<dyn Exec>,
    /// The namespace of `-n` or of the context.
    pub(crate) namespace: String,
    /// The connection flags, for commands shown to people.
    pub(crate) reach: Reach,
    /// Stdout, stderr and the person at the terminal.
    pub(crate) out: Arc<Output>,
    /// How fast things are looked at.
    pub(crate) pace: Pace,
    /// A number that tells one record from another of the same second.
    pub(crate) chance: fn() -> u32,
    /// What an interruption now would mean.
    pub(crate) interruption: Interruption,
    /// What the API server warned of.
    pub(crate) warnings: Warnings,
}

/// How fast things are looked at again, and how long each may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Between two looks.
    pub(crate) poll: Duration,
    /// Between two lines that say what is waited for.
    pub(crate) tell: Duration,
    /// How long a cluster must look converged before it counts as such.
    pub(crate) stable: Duration,
    /// How long Patroni's answer to a switchover may take: it waits for twice its loop itself
    /// (`poll_failover_result`, patroni/api.py).
    pub(crate) switchover: Duration,
    /// How long a switchover may take to show in lock, label and the new leader's own word.
    pub(crate) confirm: Duration,
    /// How long the standbys may take to follow a new leader.
    pub(crate) follow: Duration,
    /// How long a write whose answer was lost is looked for.
    pub(crate) lost_answer: Duration,
    /// Between two samples of a leader during a switchover.
    pub(crate) sample: Duration,
    /// How long everything that is read only to be shown with a plan may take together.
    pub(crate) impact: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            poll: Duration::from_secs(1),
            tell: Duration::from_secs(5),
            stable: Duration::from_secs(3),
            switchover: Duration::from_secs(40),
            confirm: Duration::from_secs(60),
            follow: Duration::from_secs(60),
            lost_answer: Duration::from_secs(15),
            sample: Duration::from_millis(100),
            impact: Duration::from_secs(3),
        }
    }
}

/// What an interruption now would leave behind, kept up to date by whoever acts.
#[derive(Clone, Default)]
pub(crate) struct Interruption(Arc<Mutex<Option<String>>>);

impl Interruption {
    /// From now on an interruption leaves this behind.
    pub(crate) fn means(&self, what: impl Into<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(what.into());
    }

    /// What it would leave behind now; nothing unless somebody said otherwise.
    pub(crate) fn meaning(&self) -> String {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
            .unwrap_or_else(|| "interrupted; nothing was changed".to_owned())
    }
}

impl Session {
    /// The session of one run of the program.
    pub(crate) fn new(
        connection: Connection,
        out: Arc<Output>,
        interruption: Interruption,
    ) -> Self {
        let Connection { client, namespace, reach, operators, warnings } = connection;
        let forward = Arc::new(Forward::new(client.clone()));
        Self {
            reader: Reader {
                client: client.clone(),
                ask: forward.clone(),
                deadline: READ_DEADLINE,
                breadth: ReadScope::Whole,
                operators,
                clock: machine_time,
            },
            client,
            ask: forward.clone(),
            exec: forward,
            namespace,
            reach,
            out,
            pace: Pace::default(),
            chance,
            interruption,
            warnings,
        }
    }

    /// Returns the connection flags of our own commands: empty, or with a space in front.
    pub(crate) fn flags(&self) -> String {
        spelled(self.reach.kubectl.iter().chain(&self.reach.pgscale))
    }

    /// Returns one of our own commands in our namespace, for a hint: the connection flags are added where it is shown.
    pub(crate) fn suggest(&self, words: &[&str]) -> Command {
        let words = ["pgscale"].into_iter().chain(words.iter().copied());
        Command::kubectl(words.chain(["-n", self.namespace.as_str()]))
    }

    /// The same session for one cluster of several, in its own namespace; what it says begins with the cluster's name.
    pub(crate) fn of(&self, namespace: &str, name: &str) -> Self {
        Self {
            client: self.client.clone(),
            reader: self.reader.clone(),
            ask: Arc::clone(&self.ask),
            exec: Arc::clone(&self.exec),
            namespace: namespace.to_owned(),
            reach: self.reach.clone(),
            out: Arc::new(self.out.about(&format!("{namespace}/{name}"))),
            pace: self.pace,
            chance: self.chance,
            // What an interruption of all means is told by whoever works on all.
            interruption: Interruption::default(),
            warnings: self.warnings.clone(),
        }
    }

    /// What time it is.
    pub(crate) fn now(&self) -> Timestamp {
        (self.reader.clock)()
    }

    /// Reads one cluster of our namespace.
    pub(crate) async fn cluster(&self, name: &str) -> Result<Postgresql, Failure> {
        let cluster = self.reader.cluster(&self.namespace, name).await;
        self.show_warnings();
        cluster.map_err(|error| {
            if error.is_not_found() && !is_unknown_kind(&error) {
                return Failure::error(format!(
                    "postgresql {name} not found in namespace {}",
                    self.namespace
                ))
                .hint_to("see what is there", self.suggest(&["status"]));
            }
            unreadable(&error, &format!("read postgresql {}/{name}", self.namespace))
        })
    }

    /// Reads the clusters of our namespace, or of all, with these labels.
    pub(crate) async fn clusters_of(
        &self,
        everywhere: bool,
        labels: Option<&str>,
    ) -> Result<Vec<Postgresql>, Failure> {
        let namespace = (!everywhere).then_some(self.namespace.as_str());
        let clusters = self.reader.clusters(namespace, labels).await;
        self.show_warnings();
        clusters.map_err(|error| {
            let asked = format!("list postgresql clusters in {}", self.place(everywhere));
            unreadable(&error, &asked)
        })
    }

    /// Our namespace, or all, in words.
    pub(crate) fn place(&self, everywhere: bool) -> String {
        if everywhere {
            "all namespaces".to_owned()
        } else {
            format!("namespace {}", self.namespace)
        }
    }

    /// Reads what the rules look at, the policies, and what somebody allowed in spite of them.
    pub(crate) async fn facts(&self, change: Change, whom: AskWhom) -> (Facts, Policies) {
        self.facts_by(&self.reader, change, whom).await
    }

    /// The same, and what one instance less and one more would meet.
    pub(crate) async fn facts_around(&self, change: Change, whom: AskWhom) -> (Facts, Policies) {
        self.facts_by(&self.around(), change, whom).await
    }

    /// A reader that also reads what one instance less and one more would meet.
    pub(crate) fn around(&self) -> Reader {
        Reader { breadth: ReadScope::Around, ..self.reader.clone() }
    }

    async fn facts_by(&self, reader: &Reader, change: Change, whom: AskWhom) -> (Facts, Policies) {
        let asked = change.clone();
        let (facts, mut policies, overrides) = futures::join!(
            reader.facts(change, whom),
            // Boxed: what is kept between all these answers would make every caller's future large.
            self.reader.policies(&asked).boxed(),
            self.reader.overrides(&asked.new).boxed()
        );
        policies.overrides = overrides;
        (facts, policies)
    }

    /// The `postgresql` objects of a namespace, untyped: what we do not know stays as it is.
    pub(crate) fn clusters(&self, namespace: &str) -> Api<DynamicObject> {
        let kind = GroupVersionKind::gvk(GROUP, VERSION, KIND);
        let resource = ApiResource::from_gvk_with_plural(&kind, PLURAL);
        Api::namespaced_with(self.client.clone(), namespace, &resource)
    }

    /// Passes the API server's warnings on.
    pub(crate) fn show_warnings(&self) {
        for warning in self.warnings.take() {
            self.out.warning(&warning);
        }
    }

    /// A command for a person to copy: ours, in the same place.
    pub(crate) fn command(&self, words: &str) -> String {
        format!("kubectl pgscale {words} -n {}{}", self.namespace, self.flags())
    }
}

/// Returns a number that no other record has, most likely.
fn chance() -> u32 {
    let [one, two, three, four, ..] = RandomState::new().hash_one(()).to_be_bytes();
    u32::from_be_bytes([one, two, three, four])
}

/// Where a member is.
pub(crate) fn address(facts: &Facts, member: &str) -> Address {
    Address {
        namespace: facts.change.new.namespace.clone(),
        pod: member.to_owned(),
        ip: facts.member(member).and_then(|member| member.pod.ip.clone()),
    }
}

/// Why something could not be read, as a failure.
pub(crate) fn unreadable(error: &ReadError, asked: &str) -> Failure {
    match error {
        ReadError::Kube { source, .. } => Failure::of_kube(source, asked),
        ReadError::Malformed { .. } => Failure::error(error.to_string()),
        ReadError::Deadline { .. } => Failure::error(error.to_string()).hint_to(
            "check that the API server can be reached",
            Command::kubectl(["cluster-info"]),
        ),
    }
}

/// Not the object is missing, but its kind.
fn is_unknown_kind(error: &ReadError) -> bool {
    matches!(error.kube(), Some(kube::Error::Api(status))
        if status.details.as_ref().is_none_or(|details| details.name.is_empty()))
}
