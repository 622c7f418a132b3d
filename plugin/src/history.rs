//! Who changed what, when and why, and what came of it: a bounded history beside the cluster.
//!
//! It lives in a `ConfigMap` of our own, never on the `postgresql` object, where even an annotation is an update to the
//! operator. An entry is written before anything is done and completed afterwards, so that a change whose client
//! died is there as well. A history that cannot be written never stops a change.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::execute::switchover::Lead;
use crate::plan::{LeaderMove, Plan};
use crate::terminal::text::tenths;

mod store;

pub(crate) use store::{Recording, read};

/// How many changes are kept of one cluster.
const KEPT: usize = 50;

/// How many characters of a message are kept.
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
    /// Identity of the cluster; a cluster that was created again has another.
    pub(crate) uid: String,
    /// `Scale` or `Switchover`.
    pub(crate) action: String,
    /// Who, as the API server knows them; empty where it did not say.
    pub(crate) who: String,
    /// When it began, RFC 3339.
    pub(crate) started: String,
    /// Why, in the words of `--reason`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    /// The entry that it took back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) undoes: Option<String>,
    /// `numberOfInstances` before; nothing where the field was missing.
    pub(crate) from: Option<i64>,
    /// `numberOfInstances` that was asked for.
    pub(crate) to: Option<i64>,
    /// Who led before, where the leader moved, or may have; in an entry that was never completed, was to move.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) leader_from: Option<String>,
    /// Who leads since; nothing where nobody knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) leader_to: Option<String>,
    /// How long writes stopped for that at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pause_seconds: Option<f64>,
    /// `Begun` until it is completed; then the word of the report.
    pub(crate) result: String,
    /// The count was written, or was not; nothing where nobody knows.
    pub(crate) written: Option<bool>,
    /// What went wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) message: Option<String>,
    /// How long it took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) seconds: Option<f64>,
    /// How often the lead went to another member while it was watched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) leader_changes: Option<u32>,
    /// Bytes the standby that was furthest behind lacked at the worst look.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) worst_lag_bytes: Option<u64>,
    /// Seconds without a valid leader lock, as far as the looks can tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) leaderless_seconds: Option<f64>,
}

impl Entry {
    /// The intent to carry `plan` out; `chance` tells it from others of the same second.
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

    /// The intent to move the leader of a cluster and nothing else; `chance` as above.
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
        let started = now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        Self {
            id: format!("{started}-{chance:08x}"),
            uid: uid.to_owned(),
            started,
            reason: reason.map(str::to_owned),
            result: BEGUN.to_owned(),
            ..Self::default()
        }
    }

    /// When it began.
    pub(crate) fn time(&self) -> Option<Timestamp> {
        self.started.parse().ok()
    }

    /// What was intended with the lead gives way to what is.
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

    /// What became of the count, in words; nothing where it was not to change.
    pub(crate) fn count(&self) -> Option<String> {
        let count =
            |count: Option<i64>| count.map_or("unset".to_owned(), |count| count.to_string());
        let change = format!("{} -> {}", count(self.from), count(self.to));
        (self.from != self.to).then(|| match self.written {
            Some(true) => change,
            Some(false) => format!("not changed ({change} asked)"),
            // The result says that nobody knows how it ended.
            None if self.result == BEGUN => change,
            None => format!("{change} (not certain)"),
        })
    }

    /// What became of the lead, in words; nothing where it was not to move alone, and did not.
    pub(crate) fn lead(&self) -> Option<String> {
        match (&self.leader_from, &self.leader_to) {
            (Some(from), Some(to)) => Some(format!("{from} -> {to}")),
            (Some(from), None) => Some(format!("{from} -> ?")),
            (None, _) => (self.action == SWITCHOVER).then(|| "not moved".to_owned()),
        }
    }

    /// It asked for another count than there was, and may have been written.
    pub(crate) fn changed_the_count(&self) -> bool {
        self.from != self.to && self.written != Some(false)
    }

    /// A message is kept in one line of bearable length.
    pub(crate) fn failed(&mut self, message: &str) {
        let line: String = message.lines().map(str::trim).collect::<Vec<_>>().join("; ");
        self.message = Some(match line.char_indices().nth(MESSAGE) {
            Some((end, _)) => format!("{}...", line.get(..end).unwrap_or_default()),
            None => line,
        });
    }
}

/// Seconds, as exactly as they are kept.
pub(crate) fn seconds(took: Duration) -> f64 {
    tenths(took.as_secs_f64())
}

/// The history of one cluster, oldest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct History {
    /// One JSON object per line. A line that this version cannot read stays as it is.
    lines: Vec<String>,
}

impl History {
    /// Reads what is kept.
    pub(crate) fn of(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.trim().is_empty());
        Self { lines: lines.map(str::to_owned).collect() }
    }

    /// The entries of the cluster with this identity, oldest first.
    pub(crate) fn entries(&self, uid: &str) -> Vec<Entry> {
        self.lines.iter().filter_map(|line| entry(line)).filter(|it| it.uid == uid).collect()
    }

    /// Adds an entry, or completes the one with its id; the oldest give way.
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

    /// What is kept of it.
    pub(crate) fn text(&self) -> String {
        self.lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect()
    }
}

fn entry(line: &str) -> Option<Entry> {
    serde_json::from_str(line).ok()
}

/// What an undo of the last change would set, where `declared` is asked for now.
///
/// # Errors
/// Why there is nothing to undo: nothing is recorded, or somebody changed the count since.
pub(crate) fn undo(entries: &[Entry], declared: Option<i64>) -> Result<(&Entry, i64), String> {
    let last = entries
        .iter()
        .rev()
        .find(|entry| entry.changed_the_count())
        .ok_or("no change of the count is recorded")?;
    let told = |count: Option<i64>| count.map_or("nothing".to_owned(), |count| count.to_string());
    if declared != last.to {
        return Err(format!(
            "the last recorded change ({} -> {}, {}) is not what is there now: numberOfInstances is {}",
            told(last.from),
            told(last.to),
            last.started,
            told(declared)
        ));
    }
    let from = last.from.ok_or("before the last change the field was not set at all")?;
    Ok((last, from))
}

#[cfg(test)]
mod tests;
