//! The history of changes beside their cluster: the writer, the change, the time, the reason and
//! the result. It is bounded.
//!
//! It lives in a `ConfigMap` of its own, never on the `postgresql` object: there even an annotation
//! is an update for the operator. An entry is written before anything is done and completed
//! afterwards, so that a change of a client that died is there as well. A failure to write the
//! history never stops a change.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::execute::switchover::Lead;
use crate::plan::{LeaderMove, Plan};
use crate::terminal::text::tenths;

mod store;

pub(crate) use store::{Recording, read};

/// The number of changes that are kept of one cluster.
const KEPT: usize = 50;

/// The number of characters that are kept of a message.
const MESSAGE: usize = 500;

/// The result of an entry that was never completed.
pub(crate) const BEGUN: &str = "Begun";

/// The action that moves the leader and nothing else.
const SWITCHOVER: &str = "Switchover";

/// One change.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Entry {
    /// Identifies it within the history of its cluster.
    pub(crate) id: String,
    /// Identity of the cluster. A cluster that was created again has another one.
    pub(crate) uid: String,
    /// `Scale` or `Switchover`.
    pub(crate) action: String,
    /// The user, as the API server reports it. Empty where the API server does not report it.
    pub(crate) who: String,
    /// The time of its beginning, RFC 3339.
    pub(crate) started: String,
    /// The reason, in the words of `--reason`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    /// The entry that it took back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) undoes: Option<String>,
    /// `numberOfInstances` before. Null where the field was missing.
    pub(crate) from: Option<i64>,
    /// The requested `numberOfInstances`.
    pub(crate) to: Option<i64>,
    /// The leader before, where the leader moved or may have moved. In an entry that was never
    /// completed, where it was to move.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) leader_from: Option<String>,
    /// The leader since. Absent where it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) leader_to: Option<String>,
    /// The longest time for which the move of the leader may have stopped writes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pause_seconds: Option<f64>,
    /// `Begun` until it is completed, then the word of the report.
    pub(crate) result: String,
    /// The count was written, or was not. Null where this is not known.
    pub(crate) written: Option<bool>,
    /// The message of the failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) message: Option<String>,
    /// The duration of the change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) seconds: Option<f64>,
    /// The number of times that the lead went to another member while it was watched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) leader_changes: Option<u32>,
    /// The greatest lag, in bytes, of the replica that was furthest behind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) worst_lag_bytes: Option<u64>,
    /// Seconds without a valid leader lock, as far as polling can measure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) leaderless_seconds: Option<f64>,
}

impl Entry {
    /// Returns the intent to carry `plan` out. `chance` distinguishes it from others of the same
    /// second.
    pub(crate) fn of_plan(plan: &Plan, now: Timestamp, chance: u32, reason: Option<&str>) -> Self {
        Self {
            action: "Scale".to_owned(),
            from: plan.declared,
            to: Some(plan.count),
            leader_from: plan.leader_move.as_ref().map(|wanted| wanted.from.clone()),
            leader_to: plan.leader_move.as_ref().map(|wanted| wanted.to.clone()),
            ..Self::begun(&plan.uid, now, chance, reason)
        }
    }

    /// Returns the intent to move only the leader of a cluster. `chance` distinguishes it from
    /// others of the same second.
    pub(crate) fn of_switchover(
        cluster: &pgscale_guard::postgresql::Postgresql,
        wanted: &LeaderMove,
        now: Timestamp,
        chance: u32,
        reason: Option<&str>,
    ) -> Self {
        Self {
            action: SWITCHOVER.to_owned(),
            from: cluster.instances,
            to: cluster.instances,
            leader_from: Some(wanted.from.clone()),
            leader_to: Some(wanted.to.clone()),
            written: Some(false),
            ..Self::begun(&cluster.uid, now, chance, reason)
        }
    }

    fn begun(uid: &str, now: Timestamp, chance: u32, reason: Option<&str>) -> Self {
        let started = to_the_second(now);
        Self {
            id: format!("{started}-{chance:08x}"),
            uid: uid.to_owned(),
            started,
            reason: reason.map(str::to_owned),
            result: BEGUN.to_owned(),
            ..Self::default()
        }
    }

    /// Returns the time of its beginning.
    pub(crate) fn time(&self) -> Option<Timestamp> {
        self.started.parse().ok()
    }

    /// Replaces the intended move of the leader by the actual one.
    pub(crate) fn led(&mut self, lead: &Lead) {
        match lead {
            Lead::Kept => (self.leader_from, self.leader_to) = (None, None),
            Lead::Moved(leader_move, moved) => {
                self.leader_from = Some(leader_move.from.clone());
                self.leader_to = Some(leader_move.to.clone());
                self.pause_seconds = moved.pause.map(seconds);
            }
            Lead::InDoubt => self.leader_to = None,
        }
    }

    /// Describes the result for the count. `None` where it was not to change.
    pub(crate) fn count(&self) -> Option<String> {
        let count =
            |count: Option<i64>| count.map_or("unset".to_owned(), |count| count.to_string());
        let change = format!("{} -> {}", count(self.from), count(self.to));
        (self.from != self.to).then(|| match self.written {
            Some(true) => change,
            Some(false) => format!("not changed ({change} asked)"),
            // The result already says that the end is not known.
            None if self.result == BEGUN => change,
            None => format!("{change} (not certain)"),
        })
    }

    /// Describes the result for the lead. `None` where the lead was not the purpose, and did not
    /// move.
    pub(crate) fn lead(&self) -> Option<String> {
        match (&self.leader_from, &self.leader_to) {
            (Some(from), Some(to)) => Some(format!("{from} -> {to}")),
            (Some(from), None) => Some(format!("{from} -> ?")),
            (None, _) => (self.action == SWITCHOVER).then(|| "not moved".to_owned()),
        }
    }

    /// Returns whether it requested another count, and may have written it.
    pub(crate) fn changed_the_count(&self) -> bool {
        self.from != self.to && self.written != Some(false)
    }

    /// Records a message in one line of limited length.
    pub(crate) fn failed(&mut self, message: &str) {
        let line: String = message.lines().map(str::trim).collect::<Vec<_>>().join("; ");
        self.message = Some(match line.char_indices().nth(MESSAGE) {
            Some((end, _)) => format!("{}...", line.get(..end).unwrap_or_default()),
            None => line,
        });
    }
}

/// Returns a time without fractions of a second, as Kubernetes writes it.
pub(crate) fn to_the_second(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Returns seconds in the precision of the history.
pub(crate) fn seconds(took: Duration) -> f64 {
    tenths(took.as_secs_f64())
}

/// The history of one cluster, oldest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct History {
    /// One JSON object per line. A line that this version cannot read is kept.
    lines: Vec<String>,
}

impl History {
    /// Reads the stored text.
    pub(crate) fn of(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.trim().is_empty());
        Self { lines: lines.map(str::to_owned).collect() }
    }

    /// Returns the entries of the cluster with this identity, oldest first.
    pub(crate) fn entries(&self, uid: &str) -> Vec<Entry> {
        self.lines.iter().filter_map(|line| entry(line)).filter(|it| it.uid == uid).collect()
    }

    /// Adds an entry, or completes the one with its id, and drops the oldest.
    pub(crate) fn put(&mut self, new: &Entry) {
        let Ok(line) = serde_json::to_string(new) else { return };
        let same = |known: &&mut String| entry(known).is_some_and(|known| known.id == new.id);
        match self.lines.iter_mut().find(same) {
            Some(known) => *known = line,
            None => self.lines.push(line),
        }
        let surplus = self.lines.len().saturating_sub(KEPT);
        self.lines.drain(..surplus);
    }

    /// Returns the text to store.
    pub(crate) fn text(&self) -> String {
        self.lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect()
    }
}

fn entry(line: &str) -> Option<Entry> {
    serde_json::from_str(line).ok()
}

/// Returns the last change, and the count that its undo would set, where the object now requests
/// `declared`.
///
/// # Errors
/// The reason for which there is nothing to undo: no change is recorded, or another writer changed
/// the count since.
pub(crate) fn undo(entries: &[Entry], declared: Option<i64>) -> Result<(&Entry, i64), String> {
    let last = entries
        .iter()
        .rev()
        .find(|entry| entry.changed_the_count())
        .ok_or("no change of the count is recorded")?;
    let shown = |count: Option<i64>| count.map_or("nothing".to_owned(), |count| count.to_string());
    if declared != last.to {
        return Err(format!(
            "the last recorded change ({} -> {}, {}) does not match the present count: numberOfInstances is {}",
            shown(last.from),
            shown(last.to),
            last.started,
            shown(declared)
        ));
    }
    let from = last.from.ok_or("before the last change the field was not set at all")?;
    Ok((last, from))
}

#[cfg(test)]
mod tests;
