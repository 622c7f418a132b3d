//! The obstacles of stalled members: Events about the cluster and its pods, and the last error in a
//! member's log.
//!
//! Nothing is read while every member makes progress: Events and logs are large, and say nothing
//! then. A user without permission to read them gets fewer details, and no message about that.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Event, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, ListParams, LogParams};
use pgscale_guard::facts::Facts;
use tokio::time::timeout;

use super::phase::{Phase, steady};
use super::progress::{Progress, Stands};
use super::{Goal, Snapshot};
use crate::events::last_seen;
use crate::session::Session;

/// The number of looks without a move after which the Events are read, and read again after as
/// many more. Ten seconds are longer than an operator, a StatefulSet controller or a scheduler
/// without trouble takes for its next step.
const EVENTS_AFTER: u32 = 10;

/// The number of looks after which the log of a member that runs and makes no progress is read.
/// Patroni and Spilo wait for ten and twenty seconds between attempts, so that within a minute
/// there was one.
const LOG_AFTER: u32 = 60;

/// The number of pods that do not start whose Events are read. They mostly share one cause.
const PODS: usize = 3;

/// The time limit of one read.
const PATIENCE: Duration = Duration::from_secs(3);

/// The number of lines of a log that are read.
const LINES: i64 = 200;

/// The number of characters of a line that are repeated.
const LENGTH: usize = 300;

/// The beginning of the operator's name as a reporter of Events; the id of one of several operators
/// follows (`NewController`, pkg/controller/controller.go).
const OPERATOR: &str = "postgres-operator";

/// The container whose log is read.
const CONTAINER: &str = "postgres";

/// The known obstacles.
#[derive(Default)]
pub(crate) struct Blockers {
    /// The obstacles of each subject, as read last.
    now: BTreeMap<String, BTreeSet<Blocker>>,
    reported: BTreeSet<(String, Blocker)>,
    restarts: BTreeMap<String, i64>,
    attempts: BTreeMap<String, u32>,
    cloned: BTreeSet<String>,
    looks: u32,
    /// The time of the first look.
    began: Option<Timestamp>,
    no_events: bool,
    no_logs: bool,
}

/// One obstacle.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Blocker {
    /// An obstacle that an Event reports.
    Event {
        /// The reason in one word.
        reason: String,
        /// The message of the Event.
        message: String,
    },
    /// An obstacle that a log reports.
    Log(String),
}

impl fmt::Display for Blocker {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Event { reason, message } => write!(out, "{reason}: {message}"),
            Self::Log(line) => write!(out, "its log says: {line}"),
        }
    }
}

impl Blockers {
    /// Looks for obstacles, and returns the lines that were not printed before. `again` are the
    /// members whose base backup began again, as the leader reports.
    pub(crate) async fn look(
        &mut self,
        session: &Session,
        goal: &Goal,
        snapshot: &Snapshot,
        phases: &BTreeMap<String, Phase>,
        stands: &Stands,
        again: &[String],
    ) -> Vec<String> {
        let facts = &snapshot.facts;
        self.began.get_or_insert(facts.now);
        let mut lines = Vec::new();
        let mut logs = BTreeMap::new();
        for (member, count) in self.restarted(goal, facts) {
            lines.push(format!("{member}: its container was restarted ({count} so far)"));
            logs.insert(member, true);
        }
        for (member, attempt) in self.begun_anew(phases, again) {
            lines.push(format!("{member}: base backup started again, attempt {attempt}"));
            logs.insert(member, false);
        }
        for (subject, stand) in stands.iter() {
            if let Progress::At(phase) = &stand.progress
                && let Some(previous) = log_of(phase)
                && stand.looks > 0
                && stand.looks.is_multiple_of(LOG_AFTER)
            {
                logs.entry(subject.clone()).or_insert(previous);
            }
        }
        self.forget(goal, stands);
        self.looks = self.looks.saturating_add(1);
        let stuck = stands.iter().any(|(_, stand)| stand.looks >= EVENTS_AFTER);
        if stuck && self.looks >= EVENTS_AFTER {
            self.looks = 0;
            lines.extend(self.read_events(session, goal, facts, stands).await);
        }
        for (member, previous) in logs {
            lines.extend(self.read_log(session, goal, &member, previous).await);
        }
        lines
    }

    /// Forgets the obstacles of subjects that make progress. A log's report on one attempt stands
    /// until the next succeeds.
    fn forget(&mut self, goal: &Goal, stands: &Stands) {
        self.now.retain(|subject, all| {
            if *subject == goal.name {
                return stands.iter().any(|(_, stand)| stand.looks > 0);
            }
            let Some(stand) = stands.get(subject) else { return false };
            if !matches!(stand.progress, Progress::At(Phase::Created(_))) || stand.looks == 0 {
                all.retain(|blocker| matches!(blocker, Blocker::Log(_)));
            }
            !all.is_empty()
        });
    }

    /// Returns all present obstacles, by subject.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&String, &Blocker)> {
        self.now.iter().flat_map(|(subject, all)| all.iter().map(move |it| (subject, it)))
    }

    /// Returns the first obstacle of `subject`.
    pub(crate) fn of(&self, subject: &str) -> Option<&Blocker> {
        self.now.get(subject)?.first()
    }

    /// Returns members whose container was restarted since the last look, each with the number of
    /// all its restarts.
    fn restarted(&mut self, goal: &Goal, facts: &Facts) -> Vec<(String, i64)> {
        let mut restarted = Vec::new();
        for member in facts.survivors().filter(|member| !goal.unfit.contains(&member.name)) {
            let count = member.pod.restarts;
            let before = self.restarts.insert(member.name.clone(), count);
            if before.is_some_and(|before| count > before) {
                restarted.push((member.name.clone(), count));
            }
        }
        restarted
    }

    /// Returns members whose base backup began again since the last look, each with the number of
    /// this attempt.
    ///
    /// A failing one alternates between `creating replica` and no data at all. Spilo's script tries
    /// again silently, and then only the leader reports it.
    fn begun_anew(
        &mut self,
        phases: &BTreeMap<String, Phase>,
        again: &[String],
    ) -> Vec<(String, u32)> {
        let mut begun = Vec::new();
        for (member, phase) in phases {
            match phase {
                Phase::Cloning => {
                    let first = self.cloned.insert(member.clone());
                    let attempt = self.attempts.entry(member.clone()).or_insert(0);
                    if first || again.contains(member) {
                        *attempt += 1;
                        if *attempt > 1 {
                            begun.push((member.clone(), *attempt));
                        }
                    }
                }
                Phase::Configured | Phase::Created(_) | Phase::Started => {
                    self.cloned.remove(member);
                }
                Phase::Behind(_)
                | Phase::InService(_)
                | Phase::Leaving(_)
                | Phase::Stopping
                | Phase::Streaming => {
                    self.cloned.remove(member);
                    // A later rebuild counts from the beginning.
                    self.attempts.remove(member);
                }
            }
        }
        begun
    }

    async fn read_events(
        &mut self,
        session: &Session,
        goal: &Goal,
        facts: &Facts,
        stands: &Stands,
    ) -> Vec<String> {
        if self.no_events {
            return Vec::new();
        }
        let api: Api<Event> = Api::namespaced(session.client.clone(), &goal.namespace);
        let waiting = stands
            .iter()
            .filter(|(_, stand)| stand.looks >= EVENTS_AFTER)
            .filter(|(_, stand)| matches!(stand.progress, Progress::At(Phase::Created(_))))
            .map(|(subject, _)| subject)
            .take(PODS);
        let since = since(facts).or(self.began);
        let uid = goal.uid.as_str();
        let mut lines = Vec::new();
        // One request brings the Events of the postgresql object and of its StatefulSet: they share
        // a name.
        for name in std::iter::once(&goal.name).chain(waiting) {
            let about =
                ListParams::default().fields(&format!("involvedObject.name={name}")).limit(500);
            match timeout(PATIENCE, api.list(&about)).await {
                Ok(Ok(list)) => {
                    // The scheduler's words are in its Event and in the pod.
                    let known = stands.get(name).and_then(|stand| match &stand.progress {
                        Progress::At(Phase::Created(Some(why))) => why.message.as_deref(),
                        Progress::At(_) | Progress::Cluster(_) | Progress::NoPod => None,
                    });
                    let blockers = telling(&list.items, since, uid, known);
                    lines.extend(self.news(name, &blockers));
                    let now = self.now.entry(name.clone()).or_default();
                    now.retain(|blocker| matches!(blocker, Blocker::Log(_)));
                    now.extend(blockers);
                }
                Ok(Err(kube::Error::Api(status))) if status.is_forbidden() => {
                    self.no_events = true;
                    break;
                }
                // The next read comes after some looks.
                Ok(Err(_)) | Err(_) => {}
            }
        }
        lines
    }

    async fn read_log(
        &mut self,
        session: &Session,
        goal: &Goal,
        member: &str,
        previous: bool,
    ) -> Vec<String> {
        if self.no_logs {
            return Vec::new();
        }
        let api: Api<Pod> = Api::namespaced(session.client.clone(), &goal.namespace);
        let which = LogParams {
            container: Some(CONTAINER.to_owned()),
            previous,
            tail_lines: Some(LINES),
            ..LogParams::default()
        };
        let log = match timeout(PATIENCE, api.logs(member, &which)).await {
            Ok(Ok(log)) => log,
            Ok(Err(kube::Error::Api(status))) if status.is_forbidden() => {
                self.no_logs = true;
                return Vec::new();
            }
            Ok(Err(_)) | Err(_) => return Vec::new(),
        };
        let Some(error) = last_error(&log) else { return Vec::new() };
        let blockers = BTreeSet::from([Blocker::Log(error)]);
        let news = self.news(member, &blockers);
        self.now.entry(member.to_owned()).or_default().extend(blockers);
        news
    }

    /// Returns a line for each of `blockers` that was not printed before.
    fn news(&mut self, subject: &str, blockers: &BTreeSet<Blocker>) -> Vec<String> {
        blockers
            .iter()
            .filter(|blocker| self.reported.insert((subject.to_owned(), (*blocker).clone())))
            .map(|blocker| format!("{subject}: {blocker}"))
            .collect()
    }
}

/// Returns whether the log to read for a phase is that of the previous container: one that is down
/// has no other. `None` where no log explains the phase.
fn log_of(phase: &Phase) -> Option<bool> {
    match phase {
        Phase::Behind(_) | Phase::Cloning | Phase::Configured | Phase::Started => Some(false),
        Phase::Created(Some(why)) if why.reason.as_deref() == Some("CrashLoopBackOff") => {
            Some(true)
        }
        Phase::Created(_)
        | Phase::InService(_)
        | Phase::Leaving(_)
        | Phase::Stopping
        | Phase::Streaming => None,
    }
}

/// Returns the time since which Events matter: the write of the count, as far as the API server
/// noted that.
fn since(facts: &Facts) -> Option<Timestamp> {
    facts.change.new.count_managers.iter().filter_map(|(.., time)| *time).max()
}

/// Returns the Events since then that explain an obstacle: warnings about the cluster's objects, and
/// the operator's Events about the object with this `uid`. The text in `known`, the pod's own
/// message, is left out.
///
/// Events of this program and of the webhook are about other writes, or about this very one.
fn telling(
    events: &[Event],
    since: Option<Timestamp>,
    uid: &str,
    known: Option<&str>,
) -> BTreeSet<Blocker> {
    let since_then = |event: &Event| {
        let created = event.metadata.creation_timestamp.as_ref().map(|time| time.0);
        let seen = last_seen(event).or(created);
        since.zip(seen).is_some_and(|(since, seen)| seen >= since)
    };
    let about = |event: &Event| match event.involved_object.kind.as_deref() {
        Some("postgresql") => {
            let of = event.involved_object.uid.as_deref();
            of.is_none_or(|of| uid.is_empty() || of == uid) && by(event).starts_with(OPERATOR)
        }
        Some("PersistentVolumeClaim" | "Pod" | "StatefulSet") => {
            event.type_.as_deref() == Some("Warning")
        }
        Some(_) | None => false,
    };
    events
        .iter()
        .filter(|event| about(event))
        .filter(|event| since_then(event))
        .filter_map(|event| {
            let message = event.message.as_deref().map(str::trim).filter(|it| !it.is_empty())?;
            let message = steady(message);
            if known.is_some_and(|known| known.contains(&message)) {
                return None;
            }
            let reason = short(event.reason.as_deref().unwrap_or("Event"));
            Some(Blocker::Event { reason, message: short(&message) })
        })
        .collect()
}

/// Returns the name of the program that reported an Event.
fn by(event: &Event) -> &str {
    let component = event.source.as_ref().and_then(|source| source.component.as_deref());
    component.or(event.reporting_component.as_deref()).unwrap_or_default()
}

/// Returns the last line of a log that reports an error: `pg_basebackup`'s own line, or else that
/// of any program.
fn last_error(log: &str) -> Option<String> {
    let own = |line: &&str| {
        line.contains("pg_basebackup: ") && !line.contains("pg_basebackup: initiating")
    };
    let any = |line: &&str| {
        let words = ["ERROR", "FATAL", "PANIC", "CRITICAL", "error:"];
        words.iter().any(|word| line.contains(word))
    };
    let found = log.lines().rev().find(own).or_else(|| log.lines().rev().find(any))?;
    Some(short(found))
}

/// Returns one line of readable length, without characters that move a cursor.
fn short(text: &str) -> String {
    let plain = anstream::adapter::strip_str(text).to_string();
    let line: Vec<&str> =
        plain.split(|letter: char| letter.is_control() || letter == ' ').collect();
    let line = line.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    if line.chars().count() <= LENGTH {
        return line;
    }
    let cut: String = line.chars().take(LENGTH).collect();
    format!("{cut} ...")
}

#[cfg(test)]
mod tests;
