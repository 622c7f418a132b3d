//! The acts that callers began: what each one says, and how it ended.
//!
//! An act goes on when its caller leaves. What was done survives this process where it always is:
//! in the cluster's own history, and in the object itself.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::watch;

use super::problem::Problem;
use crate::error::Failure;
use crate::history::to_the_second;

/// The most operations that are remembered. The oldest that has ended is forgotten first.
const REMEMBERED: usize = 200;
/// The most operations at a time.
pub(crate) const AT_ONCE: usize = 16;
/// The most events that are kept of one operation. The oldest go first.
const EVENTS: usize = 500;
/// The longest text of an event, in bytes.
const TEXT: usize = 4096;

/// What points at an operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema, serde::Deserialize))]
pub(crate) struct Link {
    /// Its id.
    pub(crate) id: String,
    /// The path of its state.
    pub(crate) href: String,
    /// The path of its events, as they come (`text/event-stream`).
    pub(crate) events: String,
}

impl Link {
    fn to(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            href: format!("/operations/{id}"),
            events: format!("/operations/{id}/events"),
        }
    }
}

/// One line of an operation's progress.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema, serde::Deserialize))]
pub(crate) struct Event {
    /// Its number: the first one is 1, and each next one more.
    pub(crate) seq: u64,
    /// Its time.
    pub(crate) at: String,
    /// The line.
    pub(crate) text: String,
}

/// The state of an operation.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema, serde::Deserialize))]
#[serde(rename_all = "camelCase")]
pub(crate) struct Operation {
    #[serde(flatten)]
    pub(crate) link: Link,
    /// Namespace of the cluster.
    pub(crate) namespace: String,
    /// Its name.
    pub(crate) name: String,
    /// Instances before it.
    pub(crate) from: i64,
    /// Instances that were asked for.
    pub(crate) to: i64,
    /// Its beginning.
    pub(crate) begun: String,
    /// `Running`, or the word for its end, as in the history: `Converged`, `Refused`, `TimedOut`,
    /// `NotAsPlanned`, `Reverted`, `Failed` or another one.
    pub(crate) result: String,
    /// Why it did not end as asked.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) message: Option<String>,
    /// What to do next.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub(crate) hints: Vec<String>,
    /// The report of its end: `kind: ScaleReport`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) report: Option<Value>,
}

/// The word for an operation that goes on.
pub(crate) const RUNNING: &str = "Running";

/// An operation that may go on.
pub(crate) struct Act {
    state: Mutex<State>,
    /// The number of the last event, one more at the end.
    changed: watch::Sender<u64>,
    clock: fn() -> Timestamp,
}

struct State {
    operation: Operation,
    events: VecDeque<Event>,
    last: u64,
}

/// The operations of this process.
#[derive(Default)]
pub(crate) struct Operations {
    all: Mutex<BTreeMap<String, Arc<Act>>>,
}

/// Why an operation cannot begin.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Busy {
    /// Another one works on the same cluster.
    With(Link),
    /// Too many run.
    Full,
}

/// What an operation is about.
pub(crate) struct About<'a> {
    /// Namespace of the cluster.
    pub(crate) namespace: &'a str,
    /// Its name.
    pub(crate) name: &'a str,
    /// Instances before it.
    pub(crate) from: i64,
    /// Instances that were asked for.
    pub(crate) to: i64,
}

impl Operations {
    /// Begins an operation, unless another one works on the same cluster, or too many run.
    /// `chance` distinguishes those of one second.
    pub(crate) fn begin(
        &self,
        about: &About<'_>,
        clock: fn() -> Timestamp,
        chance: u32,
    ) -> Result<Arc<Act>, Busy> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let running = || all.values().filter(|act| act.runs());
        if let Some(other) = running().find_map(|act| act.link_about(about)) {
            return Err(Busy::With(other));
        }
        if running().count() >= AT_ONCE {
            return Err(Busy::Full);
        }
        let begun = clock();
        // Sorts by time: the first key is the oldest.
        let id = format!("{}-{chance:08x}", begun.strftime("%Y%m%dT%H%M%SZ"));
        while all.len() >= REMEMBERED {
            let ended = all.iter().find(|(_, act)| !act.runs());
            let Some(oldest) = ended.map(|(id, _)| id.clone()) else { break };
            all.remove(&oldest);
        }
        let operation = Operation {
            link: Link::to(&id),
            namespace: about.namespace.to_owned(),
            name: about.name.to_owned(),
            from: about.from,
            to: about.to,
            begun: to_the_second(begun),
            result: RUNNING.to_owned(),
            message: None,
            hints: Vec::new(),
            report: None,
        };
        let state = Mutex::new(State { operation, events: VecDeque::new(), last: 0 });
        let act = Arc::new(Act { state, changed: watch::Sender::new(0), clock });
        all.insert(id, Arc::clone(&act));
        Ok(act)
    }

    /// Returns the operation with this id.
    pub(crate) fn get(&self, id: &str) -> Option<Arc<Act>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    /// Returns all operations, the newest first.
    pub(crate) fn all(&self) -> Vec<Operation> {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.values().rev().map(|act| act.operation()).collect()
    }

    /// Returns those that go on, the newest first.
    pub(crate) fn running(&self) -> Vec<Arc<Act>> {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.values().rev().filter(|act| act.runs()).cloned().collect()
    }
}

impl Act {
    /// Returns its state.
    pub(crate) fn operation(&self) -> Operation {
        self.state().operation.clone()
    }

    /// Returns whether it goes on.
    fn runs(&self) -> bool {
        self.state().operation.result == RUNNING
    }

    /// Returns what points at it, where it is about the same cluster.
    fn link_about(&self, about: &About<'_>) -> Option<Link> {
        let state = self.state();
        let Operation { link, namespace, name, .. } = &state.operation;
        (namespace == about.namespace && name == about.name).then(|| link.clone())
    }

    /// Returns when it has ended.
    pub(crate) async fn ended(&self) {
        let mut changes = self.changes();
        while self.runs() && changes.changed().await.is_ok() {}
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the events after the one with this number, and whether it has ended.
    pub(crate) fn since(&self, seq: u64) -> (Vec<Event>, bool) {
        let state = self.state();
        let events = state.events.iter().filter(|event| event.seq > seq).cloned().collect();
        (events, state.operation.result != RUNNING)
    }

    /// Returns a receiver that is notified at each event and at the end.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Adds a line of its progress.
    pub(crate) fn say(&self, line: &str) {
        let mut state = self.state();
        state.last += 1;
        let text = cut(line.trim_end());
        let event = Event { seq: state.last, at: to_the_second((self.clock)()), text };
        state.events.push_back(event);
        while state.events.len() > EVENTS {
            state.events.pop_front();
        }
        let last = state.last;
        drop(state);
        self.changed.send_replace(last);
    }

    /// Ends it. `report` is the text of its report, if one was made.
    pub(crate) fn end(&self, ended: &Result<(), Failure>, report: &[u8]) {
        let report: Option<Value> = serde_json::from_slice(report).ok();
        let mut state = self.state();
        let reported = report.as_ref().and_then(|it| it.get("result")?.as_str());
        let operation = &mut state.operation;
        operation.result = match ended {
            Ok(()) => reported.unwrap_or("Done").to_owned(),
            Err(failure) => failure.kind.word().to_owned(),
        };
        if let Err(failure) = ended {
            let problem = Problem::of_failure(failure);
            operation.message = Some(problem.message().to_owned());
            operation.hints = problem.hints().to_vec();
        }
        operation.report = report;
        let last = state.last + 1;
        drop(state);
        self.changed.send_replace(last);
    }
}

/// Returns as much of a line as an event holds.
fn cut(line: &str) -> String {
    let end = line.char_indices().map(|(at, _)| at).take_while(|at| *at <= TEXT).last();
    match end {
        Some(end) if line.len() > TEXT => format!("{}...", line.get(..end).unwrap_or_default()),
        _ => line.to_owned(),
    }
}

/// Writes the lines of an act's output into its events.
pub(crate) struct Lines {
    act: Arc<Act>,
    rest: Vec<u8>,
}

impl Lines {
    /// Returns a writer for this act.
    pub(crate) fn of(act: Arc<Act>) -> Self {
        Self { act, rest: Vec::new() }
    }
}

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for byte in bytes {
            if *byte == b'\n' {
                let line = std::mem::take(&mut self.rest);
                self.act.say(&String::from_utf8_lossy(&line));
            } else if self.rest.len() <= TEXT {
                self.rest.push(*byte);
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Keeps what an act prints as its result.
#[derive(Clone, Default)]
pub(crate) struct Printed(Arc<Mutex<Vec<u8>>>);

/// The most bytes of a result that are kept. What is beyond makes the whole unreadable, which is
/// reported.
const PRINTED: usize = 8 << 20;

impl Printed {
    /// Returns the bytes.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl io::Write for Printed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() + bytes.len() > PRINTED {
            return Err(io::Error::other("the result is larger than 8 MiB"));
        }
        kept.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn clock() -> Timestamp {
        "2026-12-01T03:00:00Z".parse().unwrap()
    }

    fn about(name: &str) -> About<'_> {
        About { namespace: "db", name, from: 3, to: 5 }
    }

    #[test]
    fn one_operation_at_a_time_works_on_a_cluster() {
        let operations = Operations::default();
        let first = operations.begin(&about("acid-a"), clock, 1).unwrap();
        let link = first.operation().link;
        assert_eq!(operations.begin(&about("acid-a"), clock, 2).err(), Some(Busy::With(link)));
        assert!(operations.begin(&about("acid-b"), clock, 3).is_ok());
        first.end(&Ok(()), b"");
        assert!(operations.begin(&about("acid-a"), clock, 4).is_ok());
        assert_eq!(operations.running().len(), 2);
    }

    #[test]
    fn too_many_at_once_are_refused_and_the_oldest_that_ended_is_forgotten() {
        let operations = Operations::default();
        let mut chance = 0;
        let mut begin = |name: &str| {
            chance += 1;
            operations.begin(&about(name), clock, chance)
        };
        let long = begin("long").unwrap();
        for number in 0..2 * REMEMBERED {
            begin(&format!("c{number}")).unwrap().end(&Ok(()), b"");
        }
        assert_eq!(operations.all().len(), REMEMBERED);
        assert!(operations.get(&long.operation().link.id).is_some());
        for number in 1..AT_ONCE {
            begin(&format!("d{number}")).unwrap();
        }
        assert_eq!(begin("one-more").err(), Some(Busy::Full));
    }

    #[test]
    fn events_are_numbered_cut_and_bounded() {
        let act = Operations::default().begin(&about("acid-a"), clock, 1).unwrap();
        let mut lines = Lines::of(Arc::clone(&act));
        lines.write_all(b"one\ntwo is ").unwrap();
        lines.write_all("long\n".as_bytes()).unwrap();
        let (events, ended) = act.since(0);
        let said: Vec<_> = events.iter().map(|it| (it.seq, it.text.as_str())).collect();
        assert_eq!((said, ended), (vec![(1, "one"), (2, "two is long")], false));
        assert_eq!(act.since(1).0.len(), 1);
        act.say(&"é".repeat(TEXT));
        assert!(act.since(2).0[0].text.len() <= TEXT + 3);
        for number in 0..2 * EVENTS {
            act.say(&number.to_string());
        }
        assert_eq!(act.since(0).0.len(), EVENTS);
    }

    #[test]
    fn end_is_noticed_and_says_what_to_do() {
        let act = Operations::default().begin(&about("acid-a"), clock, 1).unwrap();
        let mut changes = act.changes();
        changes.mark_unchanged();
        act.end(&Err(Failure::refused("no").hint("wait")), b"{\"result\": \"Failed\"}");
        assert!(changes.has_changed().unwrap());
        let operation = act.operation();
        assert_eq!(operation.result, "Refused");
        assert_eq!(operation.message.as_deref(), Some("no"));
        assert_eq!(operation.hints, ["wait"]);
        assert!(act.since(0).1);
    }
}
