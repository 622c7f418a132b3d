//! The progress of members that are added to a cluster in memory, read by read, from a script.

use serde_json::{Value, json};

use super::world::address;

/// The state of a new member in one read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// No pod, because a quota forbids it.
    Absent,
    /// A pod that fits no node.
    Unscheduled,
    /// Its container starts, or starts again.
    Waiting(&'static str),
    /// The container runs, for the n-th time, and Patroni has reported nothing.
    Started(i64),
    /// It has no data.
    Empty,
    /// It is being cloned: the process on the leader, bytes sent, bytes to send.
    Cloning(u64, u64, Option<u64>),
    /// It streams, and no Service routes to it.
    Streaming,
    /// It has arrived.
    Serving,
}

impl Stage {
    pub(super) fn runs(self) -> bool {
        !matches!(self, Self::Absent | Self::Unscheduled | Self::Waiting(_))
    }

    /// Returns Patroni's word, where Patroni runs and the member is not ready.
    pub(super) fn says(self) -> Option<&'static str> {
        match self {
            Self::Empty => Some("stopped"),
            Self::Cloning(..) => Some("creating replica"),
            Self::Absent
            | Self::Unscheduled
            | Self::Waiting(_)
            | Self::Started(_)
            | Self::Streaming
            | Self::Serving => None,
        }
    }

    /// Returns the status of its pod.
    pub(super) fn status(self, ordinal: i64, since: &str) -> Value {
        let container = |state: &Value, restarts: i64| {
            json!({"phase": if self.runs() { "Running" } else { "Pending" },
                "podIP": if self.runs() { json!(address(ordinal)) } else { Value::Null },
                "conditions": [{"type": "PodScheduled", "status": "True",
                    "lastTransitionTime": since}],
                "containerStatuses": [{"name": "postgres", "ready": true, "restartCount": restarts,
                    "image": "spilo", "imageID": "", "state": state}]})
        };
        match self {
            Self::Absent | Self::Unscheduled => json!({"phase": "Pending", "conditions": [
                {"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
                    "message": "0/3 nodes are available: 3 Insufficient cpu"}]}),
            Self::Waiting(why) => container(&json!({"waiting": {"reason": why}}), 0),
            Self::Started(restarts) => {
                container(&json!({"running": {"startedAt": since}}), restarts)
            }
            Self::Empty | Self::Cloning(..) | Self::Streaming | Self::Serving => {
                container(&json!({"running": {"startedAt": since}}), 0)
            }
        }
    }
}

/// The script of a growth.
#[derive(Clone, Debug)]
pub(super) struct Growth {
    /// The first new ordinal.
    pub(super) from: i64,
    /// Each stage, with the number of reads for which it lasts. The last one remains.
    pub(super) script: Vec<(Stage, u32)>,
    /// The time of the write of the count, and of everything else in the objects.
    pub(super) since: String,
    /// The reads so far.
    pub(super) looks: u32,
    /// Requests for Events and for logs.
    pub(super) asked: (u32, u32),
    /// Events, logs and exec are forbidden.
    pub(super) forbidden: bool,
}

impl Growth {
    /// Returns the present stage of all new members.
    pub(super) fn stage(&self) -> Stage {
        let mut left = self.looks.saturating_sub(1);
        for (stage, looks) in &self.script {
            if left < *looks {
                return *stage;
            }
            left -= looks;
        }
        self.script.last().unwrap().0
    }

    /// Returns the leader's report on base backups.
    pub(super) fn backups(&self) -> String {
        let Stage::Cloning(pid, streamed, total) = self.stage() else { return String::new() };
        let total = total.map_or(String::new(), |total| total.to_string());
        let address = address(self.from);
        [
            &pid.to_string(),
            "pg_basebackup",
            &address,
            "streaming database files",
            &total,
            &streamed.to_string(),
        ]
        .join("\u{1f}")
    }

    /// Returns the Events about `name`.
    pub(super) fn events(&self, name: &str) -> Vec<Value> {
        let event = |kind: &str, type_: &str, reason: &str, message: &str| {
            json!({"apiVersion": "v1", "kind": "Event", "metadata": {"namespace": "db", "name": "e"},
                "involvedObject": {"kind": kind, "name": name}, "type": type_, "reason": reason,
                "lastTimestamp": self.since, "source": {"component": "postgres-operator"},
                "message": message})
        };
        let stage = self.stage();
        if name == "acid-a" && stage == Stage::Absent {
            return vec![
                event(
                    "StatefulSet",
                    "Warning",
                    "FailedCreate",
                    "create Pod acid-a-3 in StatefulSet acid-a failed error: pods \"acid-a-3\" is \
                     forbidden: exceeded quota: small",
                ),
                event("postgresql", "Normal", "Update", "Scaling the StatefulSet"),
            ];
        }
        if name != "acid-a" && stage == Stage::Unscheduled {
            let words = "0/3 nodes are available: 3 Insufficient cpu";
            return vec![
                event("Pod", "Warning", "FailedScheduling", words),
                event("Pod", "Warning", "FailedBinding", "no volume fits the claim"),
            ];
        }
        Vec::new()
    }
}
