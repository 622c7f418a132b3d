//! The tools of every command: the API server, the way to the members, the terminal, the clock.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind};
use pgscale_guard::facts::Facts;
use pgscale_guard::patroni::PATRONI_PORT;
use pgscale_guard::postgresql::{GROUP, KIND, PLURAL, Postgresql, VERSION};
use pgscale_guard::read::{Address, AskWhom, MemberClient, ReadError, ReadScope, Reader};
use pgscale_guard::remedy::{Command, Reach, Remedy};
use pgscale_guard::{Change, Policies};
use tokio::time::Instant;

use crate::connect::clock::server_time;
use crate::connect::{Connection, Warnings};
use crate::error::{Failure, Kind};
use crate::exec::Exec;
use crate::forward::Forward;
use crate::helm::{Helm, OnPath};
use crate::plan::FIELD_MANAGER;
use crate::terminal::Output;

mod interruption;
mod server;

pub(crate) use interruption::Interruption;

/// The time limit of one read of a whole cluster.
const READ_DEADLINE: Duration = Duration::from_secs(15);

/// The tools of every command. A clone is the same session.
#[derive(Clone)]
pub(crate) struct Session {
    /// The API server. The client never retries.
    pub(crate) client: Client,
    /// The reader of clusters.
    pub(crate) reader: Reader,
    /// The way to ask members, and to request a switchover.
    pub(crate) ask: Arc<dyn MemberClient>,
    /// The way to run commands and SQL inside members.
    pub(crate) exec: Arc<dyn Exec>,
    /// The helm on the path, for the same API server.
    pub(crate) helm: Arc<dyn Helm>,
    /// The namespace of `-n` or of the context.
    pub(crate) namespace: String,
    /// The namespace of `-n` alone.
    pub(crate) named_namespace: Option<String>,
    /// The connection flags, for commands shown to people.
    pub(crate) reach: Reach,
    /// Stdout, stderr and the person at the terminal.
    pub(crate) out: Arc<Output>,
    /// The intervals and time limits.
    pub(crate) pace: Pace,
    /// A source of numbers that distinguish records of the same second.
    pub(crate) chance: fn() -> u32,
    /// The meaning of an interruption now.
    pub(crate) interruption: Interruption,
    /// Warnings of the API server that were not shown yet.
    pub(crate) warnings: Warnings,
    /// The field manager of the writes of the count.
    pub(crate) manager: Arc<str>,
}

/// Intervals between repeated reads, and time limits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// The interval between two reads.
    pub(crate) poll: Duration,
    /// The interval between two progress lines.
    pub(crate) tell: Duration,
    /// The time after which an operator that has not acted is explained.
    pub(crate) stuck: Duration,
    /// The time for which a cluster must look converged before it counts as such.
    pub(crate) stable: Duration,
    /// The time limit of Patroni's answer to a switchover. Patroni itself waits for two loops
    /// (`poll_failover_result`, patroni/api.py).
    pub(crate) switchover: Duration,
    /// The time limit until lock, label and the new leader's own answer show a switchover.
    pub(crate) confirm: Duration,
    /// The time limit until a candidate holds the leader's logical slots. Patroni copies them in
    /// some loops, with a restart of the candidate.
    pub(crate) slots: Duration,
    /// The time limit until the replicas follow a new leader.
    pub(crate) follow: Duration,
    /// The time for which a write with a lost answer is looked for.
    pub(crate) lost_answer: Duration,
    /// The interval between two samples of a leader during a switchover.
    pub(crate) sample: Duration,
    /// The interval between two samples of what a member has read.
    pub(crate) rate: Duration,
    /// The time after a change in which caches and clients settle, where a person gives none.
    pub(crate) settle: Duration,
    /// The end of the time that a person gave for the whole act.
    pub(crate) until: Option<Instant>,
    /// The common time limit of all reads that only serve a plan's view.
    pub(crate) impact: Duration,
}

impl Pace {
    /// Returns the time in so long, or the end of the whole act where that is sooner.
    pub(crate) fn by(&self, limit: Duration) -> Instant {
        let limit = Instant::now() + limit;
        self.until.map_or(limit, |until| limit.min(until))
    }

    /// Returns so long, or the rest of the time for the whole act where that is shorter.
    pub(crate) fn at_most(&self, limit: Duration) -> Duration {
        self.by(limit).saturating_duration_since(Instant::now())
    }
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            poll: Duration::from_secs(1),
            tell: Duration::from_secs(5),
            stuck: Duration::from_secs(20),
            stable: Duration::from_secs(3),
            switchover: Duration::from_secs(40),
            confirm: Duration::from_secs(60),
            slots: Duration::from_secs(120),
            follow: Duration::from_secs(60),
            lost_answer: Duration::from_secs(15),
            sample: Duration::from_millis(100),
            rate: Duration::from_secs(2),
            settle: Duration::from_secs(60),
            until: None,
            impact: Duration::from_secs(3),
        }
    }
}

impl Session {
    /// Returns the session of one run of the program.
    pub(crate) fn new(
        connection: Connection,
        out: Arc<Output>,
        interruption: Interruption,
    ) -> Self {
        let Connection {
            client,
            namespace,
            named_namespace,
            kubeconfig,
            reach,
            operators,
            warnings,
        } = connection;
        let forward = Arc::new(Forward::new(client.clone()));
        Self {
            reader: Reader {
                client: client.clone(),
                ask: forward.clone(),
                deadline: READ_DEADLINE,
                breadth: ReadScope::Whole,
                operators,
                clock: server_time,
                sharing: None,
            },
            client,
            ask: forward.clone(),
            exec: forward,
            helm: Arc::new(OnPath::new(Some(kubeconfig))),
            namespace,
            named_namespace,
            reach,
            out,
            pace: Pace::default(),
            chance,
            interruption,
            warnings,
            manager: FIELD_MANAGER.into(),
        }
    }

    /// The same session, whose writes of the count have another field manager.
    pub(crate) fn writing_as(self, manager: Option<&str>) -> Self {
        Self { manager: manager.unwrap_or(FIELD_MANAGER).into(), ..self }
    }

    /// Returns one of our own commands in our namespace, for a hint: the connection flags are added where it is shown.
    pub(crate) fn suggest(&self, words: &[&str]) -> Command {
        let words = ["pgscale"].into_iter().chain(words.iter().copied());
        Command::kubectl(words.chain(["-n", self.namespace.as_str()]))
    }

    /// Records that an interruption leaves `what` behind from now on, and why the person then runs `command`.
    pub(crate) fn interrupted_means(&self, what: impl Into<String>, why: &str, command: Command) {
        let failure = Failure::new(Kind::Interrupted, what).hint_to(why, command);
        self.interruption.is(failure.reached_by(&self.reach));
    }

    /// Tells the person what to do, behind `title`; the connection flags are added.
    pub(crate) fn advise(&self, title: &str, remedy: Remedy) {
        self.out.advice(title, &remedy.reached_by(&self.reach));
    }

    /// The same session, whose act ends within `limit`. Zero, which stands for one look, sets no end.
    pub(crate) fn ending_within(&self, limit: Duration) -> Self {
        let until = (!limit.is_zero()).then(|| Instant::now() + limit);
        Self { pace: Pace { until, ..self.pace }, ..self.clone() }
    }

    /// The same session in another namespace.
    pub(crate) fn in_namespace(&self, namespace: &str) -> Self {
        Self { namespace: namespace.to_owned(), ..self.clone() }
    }

    /// The same session for one cluster of several, in its own namespace; what it says begins with the cluster's name.
    pub(crate) fn of(&self, namespace: &str, name: &str) -> Self {
        Self {
            out: Arc::new(self.out.about(&format!("{namespace}/{name}"))),
            // The command that works on all clusters sets the meaning of an interruption.
            interruption: self.interruption.beside(),
            ..self.in_namespace(namespace)
        }
    }

    /// Returns the present time.
    pub(crate) fn now(&self) -> Timestamp {
        (self.reader.clock)()
    }

    /// Reads one cluster of the present namespace.
    pub(crate) async fn cluster(&self, name: &str) -> Result<Postgresql, Failure> {
        self.cluster_if_there(name).await?.ok_or_else(|| self.missing(name))
    }

    /// Returns the failure about a cluster that is not there.
    pub(crate) fn missing(&self, name: &str) -> Failure {
        Failure::error(format!("postgresql {name} not found in namespace {}", self.namespace))
            .answered(404)
            .hint_to("see what is there", self.suggest(&["status"]))
    }

    /// Reads one cluster of the present namespace. `None` where it is not there.
    pub(crate) async fn cluster_if_there(&self, name: &str) -> Result<Option<Postgresql>, Failure> {
        let cluster = self.reader.cluster(&self.namespace, name).await;
        self.show_warnings();
        let error = match cluster {
            Ok(cluster) => return Ok(Some(cluster)),
            Err(error) => error,
        };
        if error.is_not_found() && !is_unknown_kind(&error) {
            return Ok(None);
        }
        let asked = format!("read postgresql {}/{name}", self.namespace);
        Err(self.failure_of(&error, &asked).await)
    }

    /// Reads the clusters of the present namespace, or of all, with these labels.
    pub(crate) async fn clusters_of(
        &self,
        everywhere: bool,
        labels: Option<&str>,
    ) -> Result<Vec<Postgresql>, Failure> {
        let namespace = (!everywhere).then_some(self.namespace.as_str());
        let clusters = self.reader.clusters(namespace, labels).await;
        self.show_warnings();
        match clusters {
            Ok(clusters) => Ok(clusters),
            Err(error) => {
                let asked = format!("list postgresql clusters in {}", self.place(everywhere));
                Err(self.failure_of(&error, &asked).await)
            }
        }
    }

    /// Returns the present namespace, or all, in words.
    pub(crate) fn place(&self, everywhere: bool) -> String {
        if everywhere {
            "all namespaces".to_owned()
        } else {
            format!("namespace {}", self.namespace)
        }
    }

    /// Reads the facts of the rules, the policies and the overrides.
    pub(crate) async fn facts(&self, change: Change, whom: AskWhom) -> (Facts, Policies) {
        self.facts_by(&self.reader, change, whom).await
    }

    /// Reads the same, and the facts for one instance less and one more.
    pub(crate) async fn facts_around(&self, change: Change, whom: AskWhom) -> (Facts, Policies) {
        self.facts_by(&self.around(), change, whom).await
    }

    /// Returns a reader that also reads the facts for one instance less and one more.
    pub(crate) fn around(&self) -> Reader {
        Reader { breadth: ReadScope::Around, ..self.reader.clone() }
    }

    /// Returns a reader that reads the facts for any change.
    pub(crate) fn recording(&self) -> Reader {
        Reader { breadth: ReadScope::Everything, ..self.reader.clone() }
    }

    async fn facts_by(&self, reader: &Reader, change: Change, whom: AskWhom) -> (Facts, Policies) {
        let asked = change.clone();
        let (facts, mut policies, overrides) = futures::join!(
            reader.facts(change, whom),
            // Boxed: the state between all these answers would make every caller's future large.
            self.reader.policies(&asked).boxed(),
            self.reader.overrides(&asked.new).boxed()
        );
        policies.overrides = overrides;
        (facts, policies)
    }

    /// Returns the API for the `postgresql` objects of a namespace, untyped: unknown fields are
    /// kept.
    pub(crate) fn clusters(&self, namespace: &str) -> Api<DynamicObject> {
        let kind = GroupVersionKind::gvk(GROUP, VERSION, KIND);
        let resource = ApiResource::from_gvk_with_plural(&kind, PLURAL);
        Api::namespaced_with(self.client.clone(), namespace, &resource)
    }

    /// Shows the API server's warnings.
    pub(crate) fn show_warnings(&self) {
        for warning in self.warnings.take() {
            self.out.warning(&warning);
        }
    }
}

/// Returns a number that no other record has, most likely.
pub(crate) fn chance() -> u32 {
    let [one, two, three, four, ..] = RandomState::new().hash_one(()).to_be_bytes();
    u32::from_be_bytes([one, two, three, four])
}

/// Returns the address of a member.
pub(crate) fn address(facts: &Facts, member: &str) -> Address {
    let namespace = &facts.change.new.namespace;
    match facts.member(member) {
        Some(member) => Address::of(namespace, member),
        None => Address {
            namespace: namespace.clone(),
            pod: member.to_owned(),
            ip: None,
            port: Ok(PATRONI_PORT),
        },
    }
}

/// Returns a failed read as a failure.
pub(crate) fn unreadable(error: &ReadError, asked: &str) -> Failure {
    match error {
        ReadError::Kube { source, .. } => Failure::of_kube(source, asked),
        ReadError::Malformed { .. } => Failure::error(error.to_string()),
        ReadError::Deadline { .. } => Failure::error(error.to_string()).answered(504).hint_to(
            "check that the API server can be reached",
            Command::kubectl(["cluster-info"]),
        ),
    }
}

/// Returns whether the kind is missing, and not the object.
fn is_unknown_kind(error: &ReadError) -> bool {
    matches!(error.kube(), Some(kube::Error::Api(status))
        if status.details.as_ref().is_none_or(|details| details.name.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::terminal::testing::Screen;
    use crate::testing::World;

    #[tokio::test]
    async fn interruption_names_the_next_command_with_the_flags_of_the_caller() {
        let screen = Screen::default();
        let mut session = World::new(3, 0).session(&screen, None);
        session.reach.kubectl.push("--context=c".to_owned());
        let meaning = || session.interruption.failure();
        assert_eq!(meaning().text(), "interrupted; nothing was changed");
        let wait = session.suggest(&["wait", "acid-a"]);
        session.interrupted_means("interrupted; the change continues", "resume", wait);
        session.out.failure(&meaning());
        assert_eq!(meaning().kind, Kind::Interrupted);
        insta::assert_snapshot!(screen.stderr(), @"
        interrupted; the change continues
        hint: resume:
            kubectl pgscale wait acid-a -n db --context=c
        ");
    }
}
