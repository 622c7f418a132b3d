//! Patroni's dynamic configuration as the operator compares it with a manifest, and what it writes
//! back.
//!
//! With every update and every sync of a cluster the operator reads `GET /config` of a member and
//! sends `PATCH /config` with what differs from the manifest (`syncPatroniConfig` and
//! `checkAndSetGlobalPostgreSQLConfiguration`, pkg/cluster/sync.go). 1.15 and 2.0 do the same.

#![expect(
    clippy::indexing_slicing,
    reason = "only JSON values are indexed: a missing value reads as null"
)]

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::postgresql::Postgresql;
use crate::postgresql::shapes::LOCAL_PARAMETERS;

/// A setting that the operator would write over a different one.
#[derive(Clone, Debug, PartialEq)]
pub struct SetBack {
    /// Its place in the dynamic configuration.
    pub key: String,
    /// The value there. `None` where it is unset.
    pub live: Option<Value>,
    /// The value that the operator writes.
    pub wanted: Value,
    /// The place that says so.
    pub source: Source,
    /// PostgreSQL reads the setting at its start only, and the operator restarts it for that.
    pub restarts: bool,
}

/// The place that a written setting comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The same key of `spec.patroni`.
    Patroni,
    /// A parameter of `spec.postgresql.parameters`.
    Parameters,
    /// `spec.streams`, which needs logical WAL.
    Streams,
    /// `enable_patroni_failsafe_mode` of the operator.
    Operator,
}

impl SetBack {
    /// Returns the field of the postgresql object that the value comes from. `None` where the
    /// operator's own setting is the source.
    pub fn field(&self) -> Option<String> {
        let name = self.name();
        match self.source {
            Source::Patroni => Some(format!("spec.patroni.{name}")),
            Source::Parameters => Some(format!("spec.postgresql.parameters.{name}")),
            Source::Streams => Some("spec.streams".to_owned()),
            Source::Operator => None,
        }
    }

    /// Returns the key below its section.
    pub fn name(&self) -> &str {
        self.key.strip_prefix(PARAMETERS).unwrap_or(&self.key)
    }

    /// Adds to `patch`, a merge patch of the postgresql object, what keeps the live value.
    ///
    /// Settings that shape the pods as well are left out: the operator would replace the pods for
    /// them.
    pub fn keep(&self, patch: &mut Value) {
        let live = self.live.clone().unwrap_or(Value::Null);
        let section = match self.source {
            Source::Patroni | Source::Operator if self.key == PG_HBA => return,
            Source::Patroni | Source::Operator => &mut patch["spec"]["patroni"],
            Source::Parameters => &mut patch["spec"]["postgresql"]["parameters"],
            Source::Streams => return,
        };
        let slot = self.key.strip_prefix("slots.").filter(|_| self.source == Source::Patroni);
        if let Some(slot) = slot {
            section["slots"][slot] = live;
            return;
        }
        section[self.name()] = match live {
            // Parameters of a manifest are texts.
            live if self.source == Source::Parameters && !live.is_null() => json!(text(&live)),
            live => live,
        };
    }
}

/// The section of PostgreSQL's parameters in the dynamic configuration.
const PARAMETERS: &str = "postgresql.parameters.";
const PG_HBA: &str = "pg_hba";

/// Returns what the operator would write over the `live` configuration because of `cluster`.
///
/// `failsafe` is the operator's `enable_patroni_failsafe_mode`, `None` where it is not known.
/// Nothing where the operator cannot decode the configuration, as with `synchronous_mode: quorum`:
/// it then logs an error and writes nothing (`GetConfig`, pkg/util/patroni/patroni.go).
pub fn set_back(cluster: &Postgresql, live: &Value, failsafe: Option<bool>) -> Vec<SetBack> {
    let parameters = live["postgresql"]["parameters"].as_object();
    let (Some(parameters), true) = (parameters.filter(|it| !it.is_empty()), decodes(live)) else {
        return Vec::new();
    };
    let patroni = &cluster.spec["patroni"];
    let mut all = Vec::new();
    let mut differs = |key: &str, wanted: Value, source: Source| {
        let live = Some(live[key].clone()).filter(|live| !live.is_null());
        all.push(SetBack { key: key.to_owned(), live, wanted, source, restarts: false });
    };
    for key in ["loop_wait", "maximum_lag_on_failover", "retry_timeout", "ttl"] {
        if let Some(wanted) = patroni[key].as_i64().filter(|wanted| *wanted > 0)
            && live[key].as_f64() != patroni[key].as_f64()
        {
            differs(key, json!(wanted), Source::Patroni);
        }
    }
    // The operator compares these three also where the manifest does not have them.
    for key in ["synchronous_mode", "synchronous_mode_strict"] {
        let wanted = patroni[key].as_bool().unwrap_or(false);
        if live[key].as_bool().unwrap_or(false) != wanted {
            differs(key, json!(wanted), Source::Patroni);
        }
    }
    let key = "synchronous_node_count";
    let wanted = patroni[key].as_u64().unwrap_or(0);
    if live[key].as_u64().unwrap_or(0) != wanted {
        differs(key, json!(wanted), Source::Patroni);
    }
    let key = "failsafe_mode";
    let (wanted, source) = match patroni[key].as_bool() {
        Some(declared) => (Some(declared), Source::Patroni),
        None => (failsafe, Source::Operator),
    };
    // It is off where it is unset.
    if let Some(wanted) = wanted
        && live[key].as_bool().unwrap_or(false) != wanted
    {
        differs(key, json!(wanted), source);
    }
    // Patroni reads no `pg_hba` at this place, so one that is unset changes nothing.
    if patroni[PG_HBA].is_array() && live[PG_HBA].is_array() && live[PG_HBA] != patroni[PG_HBA] {
        differs(PG_HBA, patroni[PG_HBA].clone(), Source::Patroni);
    }
    all.extend(slots(&patroni["slots"], &live["slots"]));
    all.extend(of_parameters(cluster, parameters));
    all
}

/// Returns the declared slots that the live configuration lacks or has otherwise. The operator
/// leaves others as they are.
fn slots<'a>(declared: &'a Value, live: &'a Value) -> impl Iterator<Item = SetBack> + 'a {
    let declared = declared.as_object().into_iter().flatten();
    declared.filter(|(name, slot)| live[name.as_str()] != **slot).map(|(name, slot)| SetBack {
        key: format!("slots.{name}"),
        live: live.get(name).cloned(),
        wanted: slot.clone(),
        source: Source::Patroni,
        restarts: false,
    })
}

fn of_parameters(cluster: &Postgresql, live: &Map<String, Value>) -> Vec<SetBack> {
    let declared = cluster.spec["postgresql"]["parameters"].as_object().into_iter().flatten();
    let mut wanted: BTreeMap<&str, (String, Source)> =
        declared.map(|(name, value)| (name.as_str(), (text(value), Source::Parameters))).collect();
    if cluster.spec["streams"].as_array().is_some_and(|streams| !streams.is_empty()) {
        wanted.insert("wal_level", ("logical".to_owned(), Source::Streams));
    }
    wanted
        .into_iter()
        .filter(|(name, _)| !LOCAL_PARAMETERS.contains(name))
        .filter(|(name, (wanted, _))| live.get(*name).is_none_or(|live| !same(live, wanted)))
        .map(|(name, (wanted, source))| SetBack {
            key: format!("{PARAMETERS}{name}"),
            live: live.get(name).filter(|live| !live.is_null()).cloned(),
            wanted: Value::String(wanted),
            source,
            restarts: AT_START.contains(&name),
        })
        .collect()
}

/// Returns a parameter as the operator compares it, as text.
fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Returns whether two texts of a parameter are the same setting. Only the spelling of a switch may
/// differ.
fn same(live: &Value, wanted: &str) -> bool {
    let live = text(live);
    let switch = |text: &str| match text.to_ascii_lowercase().as_str() {
        "on" | "true" | "yes" => Some(true),
        "off" | "false" | "no" => Some(false),
        _ => None,
    };
    live == wanted || switch(&live).is_some() && switch(&live) == switch(wanted)
}

/// Returns whether the operator can decode the configuration into its own type (`Patroni` in
/// `pkg/apis/acid.zalan.do/v1/postgresql_type.go`).
fn decodes(live: &Value) -> bool {
    let every = |keys: &[&str], fits: fn(&Value) -> bool| {
        keys.iter().all(|key| live[*key].is_null() || fits(&live[*key]))
    };
    let texts = |value: &Value| {
        value.is_null()
            || value.as_object().is_some_and(|fields| {
                fields.values().all(|value| value.is_string() || value.is_null())
            })
    };
    every(&["synchronous_mode", "synchronous_mode_strict", "failsafe_mode"], Value::is_boolean)
        && every(&["ttl", "loop_wait", "retry_timeout", "synchronous_node_count"], Value::is_u64)
        && every(&["maximum_lag_on_failover"], Value::is_number)
        && every(&[PG_HBA], Value::is_array)
        && every(&["slots"], Value::is_object)
        && live["slots"].as_object().into_iter().flatten().all(|(_, slot)| texts(slot))
}

/// Parameters that PostgreSQL 13 to 18 reads at its start only (context `postmaster` of
/// `pg_settings`), without those in [`LOCAL_PARAMETERS`] and those that Patroni sets itself.
const AT_START: &[&str] = &[
    "archive_mode",
    "autovacuum_freeze_max_age",
    "autovacuum_max_workers",
    "autovacuum_multixact_freeze_max_age",
    "autovacuum_worker_slots",
    "bonjour",
    "commit_timestamp_buffers",
    "debug_io_direct",
    "dynamic_shared_memory_type",
    "event_source",
    "huge_page_size",
    "huge_pages",
    "io_max_concurrency",
    "io_method",
    "jit_provider",
    "max_active_replication_origins",
    "max_connections",
    "max_files_per_process",
    "max_locks_per_transaction",
    "max_logical_replication_workers",
    "max_notify_queue_pages",
    "max_pred_locks_per_transaction",
    "max_prepared_transactions",
    "max_replication_slots",
    "max_wal_senders",
    "max_worker_processes",
    "min_dynamic_shared_memory",
    "multixact_member_buffers",
    "multixact_offset_buffers",
    "notify_buffers",
    "old_snapshot_threshold",
    "pg_stat_statements.max",
    "reserved_connections",
    "serializable_buffers",
    "shared_memory_type",
    "subtransaction_buffers",
    "superuser_reserved_connections",
    "track_activity_query_size",
    "track_commit_timestamp",
    "transaction_buffers",
    "unix_socket_directories",
    "unix_socket_group",
    "unix_socket_permissions",
    "wal_buffers",
    "wal_decode_buffer_size",
    "wal_level",
    "wal_log_hints",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(patroni: &Value, parameters: &Value) -> Postgresql {
        Postgresql::of(&json!({
            "metadata": {"namespace": "db", "name": "acid-a"},
            "spec": {"patroni": patroni, "postgresql": {"parameters": parameters}},
        }))
        .unwrap()
    }

    fn keys(patroni: &Value, live: &Value) -> Vec<String> {
        let mut whole = json!({"ttl": 30, "postgresql": {"parameters": {"max_connections": 100}}});
        whole.as_object_mut().unwrap().extend(live.as_object().unwrap().clone());
        let found = set_back(&cluster(patroni, &json!({})), &whole, Some(false));
        found.into_iter().map(|it| it.key).collect()
    }

    #[test]
    fn manifest_is_compared_as_by_the_operator() {
        for (patroni, live, want) in [
            (json!(null), json!({}), &[][..]),
            // Unset numbers of a manifest leave the live ones alone, and unset modes do not.
            (json!({}), json!({"ttl": 60, "loop_wait": 5, "retry_timeout": 5}), &[]),
            (json!({"ttl": 30}), json!({}), &[]),
            (json!({"ttl": 0}), json!({}), &[]),
            (json!({"ttl": 60}), json!({}), &["ttl"]),
            (json!({"loop_wait": 5}), json!({}), &["loop_wait"]),
            (json!({"maximum_lag_on_failover": 5}), json!({"maximum_lag_on_failover": 5.0}), &[]),
            (json!({}), json!({"synchronous_mode": true}), &["synchronous_mode"]),
            (
                json!({"synchronous_mode": true, "synchronous_mode_strict": true}),
                json!({"synchronous_mode": true}),
                &["synchronous_mode_strict"],
            ),
            (json!({"synchronous_mode": false}), json!({}), &[]),
            (json!({}), json!({"synchronous_node_count": 2}), &["synchronous_node_count"]),
            (json!({}), json!({"failsafe_mode": true}), &["failsafe_mode"]),
            (json!({"failsafe_mode": true}), json!({"failsafe_mode": true}), &[]),
            (json!({}), json!({"failsafe_mode": false}), &[]),
            (json!({"pg_hba": ["local all all trust"]}), json!({}), &[]),
            (json!({"pg_hba": ["a"]}), json!({"pg_hba": ["b"]}), &["pg_hba"]),
            (
                json!({"slots": {"cdc": {"type": "logical"}}}),
                json!({"slots": {"other": {"type": "physical"}}}),
                &["slots.cdc"],
            ),
            (
                json!({"slots": {"cdc": {"type": "logical"}}}),
                json!({"slots": {"cdc": {"type": "logical"}}}),
                &[],
            ),
            // Where it cannot decode the configuration, the operator writes nothing.
            (json!({"ttl": 60}), json!({"synchronous_mode": "quorum"}), &[]),
            (json!({"ttl": 60}), json!({"slots": {"cdc": {"failover": true}}}), &[]),
            (json!({"ttl": 60}), json!({"postgresql": {"parameters": {}}}), &[]),
            (json!({"ttl": 60}), json!({"postgresql": null}), &[]),
        ] {
            assert_eq!(keys(&patroni, &live), want, "{patroni} {live}");
        }
    }

    #[test]
    fn operator_that_is_not_known_sets_no_failsafe_mode() {
        let live =
            json!({"failsafe_mode": true, "postgresql": {"parameters": {"max_connections": 100}}});
        let unset = cluster(&json!({}), &json!({}));
        assert_eq!(set_back(&unset, &live, None), []);
        assert_eq!(set_back(&unset, &live, Some(true)), []);
        assert_eq!(set_back(&unset, &live, Some(false))[0].source, Source::Operator);
        let declared = cluster(&json!({"failsafe_mode": false}), &json!({}));
        assert_eq!(set_back(&declared, &live, Some(true))[0].source, Source::Patroni);
    }

    #[test]
    fn parameters_are_compared_as_text_and_say_whether_they_restart() {
        let live = json!({"postgresql": {"parameters": {"max_connections": 200, "work_mem": "8MB",
            "track_commit_timestamp": "on", "wal_level": "replica"}}});
        let mut declared = cluster(
            &json!(null),
            &json!({"max_connections": "100", "work_mem": "4MB", "track_commit_timestamp": "true",
                "shared_buffers": "1GB", "statement_timeout": "1s"}),
        );
        declared.spec["streams"] = json!([{"applicationId": "a"}]);
        let found = set_back(&declared, &live, None);
        let said: Vec<_> = found
            .iter()
            .map(|it| (it.key.as_str(), it.live.clone(), text(&it.wanted), it.restarts))
            .collect();
        let key = |name: &str| format!("{PARAMETERS}{name}");
        assert_eq!(
            said,
            [
                (&*key("max_connections"), Some(json!(200)), "100".to_owned(), true),
                (&*key("statement_timeout"), None, "1s".to_owned(), false),
                (&*key("wal_level"), Some(json!("replica")), "logical".to_owned(), true),
                (&*key("work_mem"), Some(json!("8MB")), "4MB".to_owned(), false),
            ]
        );
    }

    #[test]
    fn patch_that_keeps_the_live_values_leaves_nothing_to_set_back() {
        let live = json!({"ttl": 60, "synchronous_mode": true, "failsafe_mode": true,
            "slots": {"cdc": {"type": "logical", "database": "a", "plugin": "pgoutput"}},
            "postgresql": {"parameters": {"max_connections": 200, "work_mem": "8MB"}}});
        let mut declared = cluster(
            &json!({"ttl": 30, "loop_wait": 5, "slots": {"cdc": {"type": "logical"},
                "gone": {"type": "physical"}}}),
            &json!({"max_connections": "100", "work_mem": "4MB", "statement_timeout": "1s"}),
        );
        let found = set_back(&declared, &live, Some(false));
        assert_eq!(found.len(), 9, "{found:#?}");
        let mut patch = json!({});
        for one in &found {
            one.keep(&mut patch);
        }
        json_patch::merge(&mut declared.spec, &patch["spec"]);
        assert_eq!(set_back(&declared, &live, Some(false)), [], "{patch}");
    }
}
