//! What hinders those who do not get on: Events about the cluster and its pods, the last error in a member's log.
//!
//! None of it is read while everybody gets on: Events and logs are large, and tell nothing then. Whoever may not
//! read them is told less, and not that.

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

/// After so many looks without a move, and again after as many, the Events are read: ten seconds are longer than
/// an operator, a StatefulSet controller or a scheduler that has no trouble takes for its next step.
const EVENTS_AFTER: u32 = 10;

/// After so many looks the log of a member that runs and does not get on is read: Patroni and Spilo wait for ten
/// and twenty seconds between attempts, so that within a minute there was one.
const LOG_AFTER: u32 = 60;

/// Of so many pods that do not start the Events are read: they mostly suffer from one thing.
const PODS: usize = 3;

/// How long one read may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// How much of a log is read.
const LINES: i64 = 200;

/// How much of a line is repeated.
const LENGTH: usize = 300;

/// The container whose log tells.
const CONTAINER: &str = "postgres";

/// What hinders, as far as it is known.
#[derive(Default)]
pub(crate) struct Blockers {
    /// By whom it hinders: what was read last.
    now: BTreeMap<String, BTreeSet<Blocker>>,
    told: BTreeSet<(String, Blocker)>,
    restarts: BTreeMap<String, i64>,
    attempts: BTreeMap<String, u32>,
    cloned: BTreeSet<String>,
    looks: u32,
    no_events: bool,
    no_logs: bool,
}

/// One thing that hinders.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Blocker {
    /// An Event says so.
    Event {
        /// One word for it.
        reason: String,
        /// What happened.
        message: String,
    },
    /// A log says so.
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
    /// Looks for what hinders; returns what was not said before. `again` are members whose base backup was begun
    /// anew, by the leader's word.
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
        let mut lines = Vec::new();
        let mut logs = BTreeMap::new();
        for (member, count) in self.restarted(goal, facts) {
            lines.push(format!("{member}: its container was restarted ({count} so far)"));
            logs.insert(member, true);
        }
        for (member, attempt) in self.begun_anew(phases, again) {
            lines.push(format!("{member}: base backup begun anew, attempt {attempt}"));
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

    /// Whoever gets on is not hindered any more. What a log said of one attempt stands until the next succeeds.
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

    /// All that hinders now, by whom.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&String, &Blocker)> {
        self.now.iter().flat_map(|(subject, all)| all.iter().map(move |it| (subject, it)))
    }

    /// The first thing that hinders `subject`.
    pub(crate) fn of(&self, subject: &str) -> Option<&Blocker> {
        self.now.get(subject)?.first()
    }

    /// Members whose container was restarted since the last look, and how often it was in all.
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

    /// Members whose base backup was begun anew since the last look, and which attempt this is. A failing one
    /// alternates between `creating replica` and no data at all; Spilo's script tries again without a word, and
    /// then only the leader tells.
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
                Phase::Behind(_) | Phase::InService(_) | Phase::Stopping | Phase::Streaming => {
                    self.cloned.remove(member);
                    // A later rebuild is another story.
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
        let since = since(facts);
        let mut lines = Vec::new();
        // One request brings what happened to the postgresql object and to its StatefulSet: they share a name.
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
                    let blockers = telling(&list.items, since, known);
                    lines.extend(self.news(name, &blockers));
                    let now = self.now.entry(name.clone()).or_default();
                    now.retain(|blocker| matches!(blocker, Blocker::Log(_)));
                    now.extend(blockers);
                }
                Ok(Err(kube::Error::Api(status))) if status.is_forbidden() => {
                    self.no_events = true;
                    break;
                }
                // They are asked for again after some looks.
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

    /// Returns a line for each of `blockers` that was not said before.
    fn news(&mut self, subject: &str, blockers: &BTreeSet<Blocker>) -> Vec<String> {
        blockers
            .iter()
            .filter(|blocker| self.told.insert((subject.to_owned(), (*blocker).clone())))
            .map(|blocker| format!("{subject}: {blocker}"))
            .collect()
    }
}

/// Whose log tells why it does not get on, and whether that of the container before: one that is down has no other.
fn log_of(phase: &Phase) -> Option<bool> {
    match phase {
        Phase::Behind(_) | Phase::Cloning | Phase::Configured | Phase::Started => Some(false),
        Phase::Created(Some(why)) if why.reason.as_deref() == Some("CrashLoopBackOff") => {
            Some(true)
        }
        Phase::Created(_) | Phase::InService(_) | Phase::Stopping | Phase::Streaming => None,
    }
}

/// Since when Events matter: since the count was written, as far as the API server noted that.
fn since(facts: &Facts) -> Option<Timestamp> {
    facts.change.new.count_managers.iter().filter_map(|(.., time)| *time).max()
}

/// What Events since then tell: warnings about anything, and what the operator says of its own object. What is in
/// `known`, the pod's own words, is left out.
fn telling(events: &[Event], since: Option<Timestamp>, known: Option<&str>) -> BTreeSet<Blocker> {
    events
        .iter()
        .filter(|event| {
            event.type_.as_deref() == Some("Warning")
                || event.involved_object.kind.as_deref() == Some("postgresql")
        })
        .filter(|event| since.is_none_or(|since| last_seen(event).is_none_or(|seen| seen >= since)))
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

/// The last line of a log that tells of an error: `pg_basebackup`'s own words, or else anybody's.
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

/// One line, of a length a person reads, without what moves a cursor.
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
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn event(kind: &str, type_: &str, reason: &str, message: &str, more: &Value) -> Event {
        let mut event = json!({"metadata": {}, "involvedObject": {"kind": kind, "name": "acid-a"},
            "type": type_, "reason": reason, "message": message});
        json_merge(&mut event, more);
        serde_json::from_value(event).unwrap()
    }

    fn json_merge(into: &mut Value, more: &Value) {
        for (key, value) in more.as_object().unwrap() {
            into[key] = value.clone();
        }
    }

    #[test]
    fn warnings_and_the_operators_own_words_tell() {
        let quota = "create Pod acid-a-3 in StatefulSet acid-a failed error: pods \"acid-a-3\" is forbidden: \
                     exceeded quota: small, requested: cpu=1, used: cpu=3, limited: cpu=3";
        let at = |time: &str| json!({"lastTimestamp": time});
        let micro = json!({"eventTime": "2026-11-24T10:00:02.000000Z", "lastTimestamp": null});
        let events = [
            event("StatefulSet", "Warning", "FailedCreate", quota, &at("2026-11-24T10:00:01Z")),
            event(
                "StatefulSet",
                "Normal",
                "SuccessfulCreate",
                "create Pod",
                &at("2026-11-24T10:00:01Z"),
            ),
            event(
                "StatefulSet",
                "Warning",
                "FailedCreate",
                "of long ago",
                &at("2026-11-24T09:00:00Z"),
            ),
            event("postgresql", "Normal", "Update", "Rolling update\n  postponed", &micro),
            event(
                "Pod",
                "Warning",
                "BackOff",
                "back-off 10s restarting failed container",
                &json!({}),
            ),
            event("Pod", "Warning", "Empty", " ", &json!({})),
        ];
        let since = "2026-11-24T10:00:00Z".parse().ok();
        let told = |known| -> Vec<String> {
            telling(&events, since, known).iter().map(ToString::to_string).collect()
        };
        let all = told(None);
        assert_eq!(
            all,
            [
                "BackOff: back-off restarting failed container".to_owned(),
                format!("FailedCreate: {quota}"),
                "Update: Rolling update postponed".to_owned(),
            ]
        );
        // The kubelet's words are in the pod as well.
        assert_eq!(told(Some("back-off restarting failed container postgres")), all[1..]);
    }

    #[test]
    fn the_last_error_of_a_log_is_found() {
        for (log, want) in [
            ("", None),
            ("2026-11-24 10:00:00,1 INFO: trying to bootstrap from leader 'acid-a-0'\n", None),
            (
                "pg_basebackup: initiating base backup, waiting for checkpoint to complete\n\
                 pg_basebackup: error: could not write to file: No space left on device\n\
                 2026-11-24 10:00:01 ERROR: Error when fetching backup: pg_basebackup exited with code=1\n\
                 2026-11-24 10:00:01 INFO: Lock owner: acid-a-0; I am acid-a-3\n",
                Some("pg_basebackup: error: could not write to file: No space left on device"),
            ),
            (
                "FATAL:  \u{1b}[31mno pg_hba.conf entry\u{1b}[0m\u{7}\nINFO: waiting\n",
                Some("FATAL: no pg_hba.conf entry"),
            ),
        ] {
            assert_eq!(last_error(log).as_deref(), want);
        }
        assert_eq!(short(&"x".repeat(400)).chars().count(), LENGTH + 4);
    }

    #[test]
    fn what_was_said_is_not_said_again() {
        let mut blockers = Blockers::default();
        let (reason, message) = ("FailedCreate".to_owned(), "quota".to_owned());
        let one = BTreeSet::from([Blocker::Event { reason, message }]);
        assert_eq!(blockers.news("acid-a", &one), ["acid-a: FailedCreate: quota"]);
        assert_eq!(blockers.news("acid-a", &one), [""; 0]);
        assert_eq!(blockers.news("acid-b", &one).len(), 1);
    }

    #[test]
    fn attempts_are_counted_by_state_and_by_the_leaders_word() {
        let mut blockers = Blockers::default();
        let at = |phase: Phase| BTreeMap::from([("acid-a-3".to_owned(), phase)]);
        let again = ["acid-a-3".to_owned()];
        let mut seen = Vec::new();
        for (phase, again) in [
            (Phase::Cloning, &[][..]),
            (Phase::Cloning, &[]),
            (Phase::Configured, &[]),
            (Phase::Cloning, &again),
            (Phase::Cloning, &again),
            (Phase::Streaming, &[]),
            (Phase::Cloning, &[]),
        ] {
            let begun = blockers.begun_anew(&at(phase), again);
            seen.push(begun.first().map(|(_, attempt)| *attempt));
        }
        assert_eq!(seen, [None, None, None, Some(2), Some(3), None, None]);
    }
}
