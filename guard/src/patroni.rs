//! Decoders for Patroni: the annotations of its Kubernetes objects, and its answers over REST.
//!
//! Patroni 2, 3 and 4 use different words. This module brings them to one vocabulary. Sources:
//! `patroni/dcs/kubernetes.py`, `patroni/ha.py` (`touch_member`), `patroni/api.py`
//! (`get_postgresql_status`), `patroni/postgresql/misc.py`.

#![expect(
    clippy::indexing_slicing,
    reason = "only JSON values are indexed: a missing value reads as null"
)]

pub(crate) mod bounded;
mod member;
mod sync_names;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::object_ref::ObjectRef;

pub use member::{
    Answer, ApiUrl, PATRONI_PORT, Report, Role, Sender, State, Tags, given_by_another,
};
pub use sync_names::{SyncNames, slot_of};

/// The DCS store, which holds what all members share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Store {
    /// ConfigMaps: `<cluster>-leader`, `-config`, `-failover`, `-sync`.
    ConfigMaps,
    /// Endpoints: `<cluster>`, `<cluster>-config`, `-failover`, `-sync`.
    Endpoints,
    /// An etcd of its own, which the guard cannot see.
    Etcd,
    /// `ZooKeeper`, Exhibitor, Consul, or etcd by its third interface. The guard cannot see them.
    Other,
    /// Not known: Endpoints with operators 1.x, ConfigMaps with 2.x.
    Unknown,
}

impl std::fmt::Display for Store {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self {
            Self::ConfigMaps => "ConfigMaps",
            Self::Endpoints => "Endpoints",
            Self::Etcd => "etcd",
            Self::Other => "neither Kubernetes nor etcd",
            Self::Unknown => "not known",
        })
    }
}

/// Patroni's dynamic configuration, as far as it bears on scaling (`config` in `<cluster>-config`).
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Configuration {
    /// Maintenance mode: no member takes over.
    pub paused: bool,
    /// The seconds for which a leader lock is valid without renewal.
    pub ttl: i64,
    /// Seconds between two loops of a member. Annotations may be that old.
    pub loop_wait: i64,
    /// The bytes by which a member may lag behind and still take over.
    pub maximum_lag_on_failover: u64,
    /// `synchronous_mode`, as it is written. [`Configuration::synchrony`] says what holds.
    pub synchronous: Synchronous,
    /// `synchronous_mode_strict`: without a standby, commits wait for ever.
    pub synchronous_strict: bool,
    /// `synchronous_node_count`, 1 when unset.
    pub synchronous_node_count: u64,
    /// The cluster is a standby cluster.
    pub standby_cluster: bool,
    /// `max_wal_senders`, 10 when unset.
    pub max_wal_senders: u64,
    /// `max_replication_slots`, 10 when unset.
    pub max_replication_slots: u64,
    /// The whole document. The operator compares more of this than the fields above.
    #[serde(serialize_with = "whole", deserialize_with = "shared")]
    pub document: Arc<Value>,
}

/// Encodes a shared document as the document.
fn whole<S: serde::Serializer>(document: &Arc<Value>, encoder: S) -> Result<S::Ok, S::Error> {
    serde::Serialize::serialize(&**document, encoder)
}

/// Decodes a document to be shared.
fn shared<'de, D: serde::Deserializer<'de>>(decoder: D) -> Result<Arc<Value>, D::Error> {
    serde::Deserialize::deserialize(decoder).map(Arc::new)
}

/// Patroni's `synchronous_mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Synchronous {
    /// Asynchronous replication.
    Off,
    /// Only the members in `-sync` may take over.
    On,
    /// Quorum commit: any member with a majority's confirmation may take over.
    Quorum,
}

impl Default for Configuration {
    fn default() -> Self {
        Self {
            paused: false,
            ttl: 30,
            loop_wait: 10,
            maximum_lag_on_failover: 1_048_576,
            synchronous: Synchronous::Off,
            synchronous_strict: false,
            synchronous_node_count: 1,
            standby_cluster: false,
            max_wal_senders: 10,
            max_replication_slots: 10,
            document: Arc::default(),
        }
    }
}

impl Configuration {
    /// Reads the JSON of the `config` annotation. Unset keys take Patroni's defaults
    /// (`patroni/global_config.py`).
    pub fn of(text: &str) -> Result<Self, serde_json::Error> {
        let config: Value = bounded::decode(text, bounded::VALUES)?;
        let default = Self::default();
        let number = |value: &Value, default: u64| {
            value.as_u64().or_else(|| value.as_str()?.trim().parse().ok()).unwrap_or(default)
        };
        let seconds = |value: &Value, default: i64| {
            value.as_i64().or_else(|| value.as_str()?.trim().parse().ok()).unwrap_or(default)
        };
        let parameters = &config["postgresql"]["parameters"];
        Ok(Self {
            paused: truthy(&config["pause"]),
            ttl: seconds(&config["ttl"], default.ttl),
            loop_wait: seconds(&config["loop_wait"], default.loop_wait),
            maximum_lag_on_failover: number(
                &config["maximum_lag_on_failover"],
                default.maximum_lag_on_failover,
            ),
            synchronous: synchronous(&config["synchronous_mode"]),
            synchronous_strict: truthy(&config["synchronous_mode_strict"]),
            synchronous_node_count: number(&config["synchronous_node_count"], 1).max(1),
            standby_cluster: follows_another(&config["standby_cluster"]),
            max_wal_senders: number(&parameters["max_wal_senders"], default.max_wal_senders),
            max_replication_slots: number(
                &parameters["max_replication_slots"],
                default.max_replication_slots,
            ),
            document: Arc::new(config),
        })
    }

    /// Returns the names of the logical replication slots that Patroni keeps on the leader and
    /// copies to replicas (`permanent_slots`, `patroni/global_config.py`; `is_logical_slot` and
    /// `_get_permanent_slots`, `patroni/dcs/__init__.py`).
    ///
    /// In a standby cluster it keeps none.
    pub fn logical_slots(&self) -> BTreeSet<&str> {
        let document = &*self.document;
        let switch = &document["postgresql"]["use_slots"];
        if self.standby_cluster || (!switch.is_null() && !truthy(switch)) {
            return BTreeSet::new();
        }
        let keys = ["permanent_replication_slots", "permanent_slots", "slots"];
        let slots = keys.iter().map(|key| &document[*key]).find(|slots| python_true(slots));
        logical(slots.unwrap_or(&Value::Null)).collect()
    }

    /// Returns the synchronous replication that Patroni does: none in a standby cluster, whatever
    /// is written (`is_synchronous_mode`, `patroni/global_config.py`).
    pub fn synchrony(&self) -> Synchronous {
        if self.standby_cluster { Synchronous::Off } else { self.synchronous }
    }
}

/// Returns the names of the logical ones among slots by name, as in `slots` of the configuration
/// and in `spec.patroni.slots` of a manifest.
pub fn logical(slots: &Value) -> impl Iterator<Item = &str> {
    let all = slots.as_object().into_iter().flatten();
    let is_logical = |slot: &Value| {
        let kind = slot.get("type").is_none_or(|kind| kind == "logical");
        kind && python_true(&slot["database"]) && python_true(&slot["plugin"])
    };
    all.filter(move |(_, slot)| slot.is_object() && is_logical(slot)).map(|(name, _)| name.as_str())
}

/// Returns whether the section `standby_cluster` makes a standby cluster (`is_standby_cluster`,
/// `patroni/global_config.py`). It may be left over with none of these keys set.
fn follows_another(section: &Value) -> bool {
    ["host", "port", "restore_command"].iter().any(|key| python_true(&section[*key]))
}

fn synchronous(mode: &Value) -> Synchronous {
    if mode.as_str().is_some_and(|mode| mode.eq_ignore_ascii_case("quorum")) {
        Synchronous::Quorum
    } else if truthy(mode) {
        Synchronous::On
    } else {
        Synchronous::Off
    }
}

/// Returns whether Patroni reads a value of its configuration as true (`parse_bool`,
/// patroni/utils.py).
fn truthy(value: &Value) -> bool {
    match value {
        Value::Bool(yes) => *yes,
        Value::String(word) => {
            matches!(word.to_ascii_lowercase().as_str(), "true" | "on" | "yes" | "1")
        }
        Value::Number(number) => number.as_i64() == Some(1),
        Value::Null | Value::Array(_) | Value::Object(_) => false,
    }
}

/// Returns whether Python's `bool` makes a value true, as Patroni does with most tags: `"false"`
/// is true, because it is a text that is not empty.
fn python_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(yes) => *yes,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
    }
}

/// Reads a number as Patroni does (`parse_int`, patroni/utils.py): a text in decimal, octal or
/// hexadecimal notation counts too. `None` where it is no number, or has a unit.
fn whole_number(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64().or_else(|| rounded(number.as_f64()?)),
        Value::String(text) => {
            let text = text.trim();
            let (sign, digits) = match text.strip_prefix('-') {
                Some(digits) => (-1, digits),
                None => (1, text.strip_prefix('+').unwrap_or(text)),
            };
            if digits.is_empty() || digits.starts_with(['-', '+']) {
                return None;
            }
            let lower = digits.to_ascii_lowercase();
            let found = match (lower.strip_prefix("0x"), lower.strip_prefix('0')) {
                (Some(hexadecimal), _) => i64::from_str_radix(hexadecimal, 16).ok(),
                (None, Some(octal)) if !octal.is_empty() && !lower.contains(['.', 'e']) => {
                    i64::from_str_radix(octal, 8).ok()
                }
                (None, _) => lower.parse().ok().or_else(|| rounded(lower.parse().ok()?)),
            };
            found.map(|number: i64| number.saturating_mul(sign))
        }
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Returns a fraction as the nearest whole number.
#[expect(clippy::cast_possible_truncation, reason = "the number is checked to be small")]
fn rounded(number: f64) -> Option<i64> {
    (number.abs() < 1e15).then(|| number.round_ties_even() as i64)
}

/// The leader lock: annotations of the Endpoints `<cluster>` or the ConfigMap `<cluster>-leader`.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct LeaderLock {
    /// The object that it was read from.
    pub source: ObjectRef,
    /// The pod that holds it. `None` after a release.
    pub holder: Option<String>,
    /// The time of the last renewal.
    pub renewed: Option<Timestamp>,
    /// The time at which its holder took it. Patroni writes it with the holder
    /// (`attempt_to_acquire_leader`, patroni/dcs/kubernetes.py).
    pub acquired: Option<Timestamp>,
    /// The seconds for which it stays valid after a renewal.
    pub ttl: i64,
    /// The number of times that the lock changed hands.
    pub transitions: Option<i64>,
    /// Write-ahead log position of the leader at its last loop, in bytes.
    pub optime: Option<u64>,
}

impl LeaderLock {
    /// Reads the annotations of the leader object.
    pub fn of(source: ObjectRef, annotations: &BTreeMap<String, String>) -> Self {
        let text = |key: &str| annotations.get(key).filter(|text| !text.is_empty());
        Self {
            source,
            holder: text("leader").cloned(),
            renewed: text("renewTime").and_then(|time| time.parse().ok()),
            acquired: text("acquireTime").and_then(|time| time.parse().ok()),
            ttl: text("ttl").and_then(|ttl| ttl.parse().ok()).unwrap_or(30),
            transitions: text("transitions").and_then(|count| count.parse().ok()),
            optime: text("optime").and_then(|position| position.parse().ok()),
        }
    }

    /// Returns the holder, if the lock is still valid at `now`. `grace` allows for clocks that
    /// differ.
    pub fn valid_holder(&self, now: Timestamp, grace: SignedDuration) -> Option<&str> {
        let valid = SignedDuration::from_secs(self.ttl).saturating_add(grace);
        // Any writer may set an annotation: a time or a ttl beyond all bounds is no valid lock.
        let until = self.renewed?.checked_add(valid).ok()?;
        self.holder.as_deref().filter(|_| now <= until)
    }
}

/// A switchover or failover that was requested and not carried out yet (`<cluster>-failover`).
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PendingFailover {
    /// The leader that gives up the lead.
    pub leader: Option<String>,
    /// The member that is to take over.
    pub candidate: Option<String>,
    /// The scheduled time, if any.
    pub scheduled: Option<String>,
}

impl PendingFailover {
    /// Reads the annotations of `<cluster>-failover`. The object remains when nothing is pending.
    pub fn of(annotations: &BTreeMap<String, String>) -> Option<Self> {
        let text = |key: &str| annotations.get(key).filter(|text| !text.is_empty()).cloned();
        let pending = Self {
            leader: text("leader"),
            candidate: text("member"),
            scheduled: text("scheduled_at"),
        };
        (pending != Self { leader: None, candidate: None, scheduled: None }).then_some(pending)
    }
}

/// Returns the member that took the lead last, from the JSON of the annotation `history` of
/// `<cluster>-config`.
///
/// Its rows hold timeline, position, reason, time and new leader. `None` where no member ever took
/// over, or where the Patroni of the last row did not name the leader yet (before 2.0).
pub fn last_leader(text: &str) -> Result<Option<String>, serde_json::Error> {
    let rows: Vec<Value> = bounded::decode(text, bounded::HISTORY_VALUES)?;
    let name = rows.last().and_then(|row| row[4].as_str());
    Ok(name.filter(|name| !name.is_empty()).map(str::to_owned))
}

/// The synchronous standbys (`<cluster>-sync`).
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SyncState {
    /// The leader that wrote it. Only trusted while it is still the leader.
    pub leader: Option<String>,
    /// Names of the standbys, as written.
    pub standbys: Vec<String>,
}

impl SyncState {
    /// Reads the annotations of `<cluster>-sync`.
    pub fn of(annotations: &BTreeMap<String, String>) -> Self {
        let text = |key: &str| annotations.get(key).filter(|text| !text.is_empty()).cloned();
        let standbys = text("sync_standby").unwrap_or_default();
        Self {
            leader: text("leader"),
            standbys: standbys
                .split(',')
                .map(str::trim)
                .filter(|name| !name.is_empty())
                .map(str::to_owned)
                .collect(),
        }
    }

    /// Returns whether `member` may take over from `leader`.
    ///
    /// Names compare without case, as PostgreSQL does (`SyncState.matches`,
    /// patroni/dcs/__init__.py).
    pub fn contains(&self, leader: &str, member: &str) -> bool {
        self.leader.as_deref() == Some(leader)
            && self.standbys.iter().any(|standby| standby.eq_ignore_ascii_case(member))
    }
}

#[cfg(test)]
mod tests;
