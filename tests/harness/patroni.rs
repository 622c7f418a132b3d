//! Patroni's configuration, made from a pod's environment as Spilo makes it before it starts
//! Patroni.
//!
//! The counterpart of Spilo's `configure_spilo.py`: the same defaults and the same precedence
//! (`SPILO_CONFIGURATION` overrides the image's template). Settings that only fit the image are
//! replaced: paths, addresses, TLS, `pg_hba` and preloaded extensions.

pub mod rest;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use serde_json::{Map, Value, json};

/// The port of PostgreSQL in every pod.
pub const POSTGRES_PORT: u16 = 5432;

/// The port of Patroni's REST API in every pod.
pub const REST_PORT: u16 = 8008;

/// The place of a member: facts that the pod's environment does not contain.
#[derive(Clone, Copy, Debug)]
pub struct Placement<'a> {
    /// The pod, which is also the member's name.
    pub pod: &'a str,
    /// The pod's namespace.
    pub namespace: &'a str,
    /// The pod's own address. Its programs listen at no other address.
    pub address: Ipv4Addr,
    /// The addresses of pods, in CIDR notation: clients there may connect without a password.
    pub network: &'a str,
    /// The mounted volume.
    pub volume: &'a Path,
    /// PostgreSQL's programs.
    pub bin_dir: &'a Path,
    /// The program that runs in the place of `pg_basebackup`.
    pub base_backup: &'a Path,
    /// A directory that exists as long as the container.
    pub run_dir: &'a Path,
}

/// The settings that may change while the member runs. They are written again and reloaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RuntimeSettings {
    /// True if the member has the `nofailover` tag, so that it is never a candidate.
    pub nofailover: bool,
    /// True if REST calls to the pod's address are refused.
    pub rest_refused: bool,
    /// A further tag of the member.
    pub tag: Option<(&'static str, TagValue)>,
}

/// The value of a tag, as it is spelled in Patroni's configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TagValue {
    /// Text, which Patroni takes for true wherever it is not empty.
    Text(&'static str),
    /// A number.
    Number(i64),
}

impl TagValue {
    /// Returns the value as Patroni reports it.
    pub fn as_json(self) -> Value {
        match self {
            Self::Text(text) => json!(text),
            Self::Number(number) => json!(number),
        }
    }
}

/// Returns Patroni's configuration for a Spilo container with this environment.
///
/// # Errors
/// Fails when the environment is not that of a Spilo pod whose Patroni keeps its state in
/// Kubernetes, or when a variable should hold JSON and does not.
pub fn configuration(
    env: &BTreeMap<String, String>,
    place: &Placement<'_>,
    settings: RuntimeSettings,
) -> Result<Value> {
    let scope = env.get("SCOPE").context("the container has no SCOPE variable: not a Spilo pod")?;
    if let Some(host) = env.get("ETCD_HOST") {
        bail!("Patroni should keep its state in etcd at {host}; the test bed has only Kubernetes");
    }
    let mut config = merge(json_of(env, "SPILO_CONFIGURATION")?, template(env, place));
    let wanted = config.pointer_mut("/bootstrap/initdb").map_or(Value::Null, Value::take);
    overlay(&mut config, &bed(env, scope, place, settings)?);
    overlay(&mut config, &json!({"bootstrap": {"initdb": initdb(&wanted)}}));
    Ok(config)
}

/// Returns the image's template. `SPILO_CONFIGURATION` overrides every value here.
fn template(env: &BTreeMap<String, String>, place: &Placement<'_>) -> Value {
    let word = |name: &str, or: &str| env.get(name).cloned().unwrap_or_else(|| or.to_owned());
    json!({
        "bootstrap": {"dcs": {
            "ttl": 30,
            "loop_wait": 10,
            "retry_timeout": 10,
            "maximum_lag_on_failover": 33_554_432,
            "postgresql": {
                "use_pg_rewind": true,
                "use_slots": true,
                "parameters": {
                    "wal_level": "hot_standby",
                    "wal_log_hints": "on",
                    "hot_standby": "on",
                    "max_wal_senders": 10,
                    "max_replication_slots": 10,
                    "max_connections": 50,
                    "checkpoint_completion_target": 0.9,
                },
            },
        }},
        "postgresql": {
            // The bed does not show durability after a power loss, which would cost seconds.
            "parameters": {
                "shared_buffers": "16MB",
                "fsync": "off",
                "wal_keep_size": "64MB",
                "log_line_prefix": "%t [%p]: %u %h ",
            },
            "pg_hba": [
                "local all all trust",
                format!("host all all {} trust", place.network),
                format!("host replication all {} trust", place.network),
            ],
            "authentication": {
                "superuser": {
                    "username": word("PGUSER_SUPERUSER", "postgres"),
                    "password": word("PGPASSWORD_SUPERUSER", "zalando"),
                },
                "replication": {
                    "username": word("PGUSER_STANDBY", "standby"),
                    "password": word("PGPASSWORD_STANDBY", "standby"),
                },
            },
        },
    })
}

/// Returns the settings of the bed, which override all others.
fn bed(
    env: &BTreeMap<String, String>,
    scope: &str,
    place: &Placement<'_>,
    settings: RuntimeSettings,
) -> Result<Value> {
    let word = |name: &str, or: &str| env.get(name).cloned().unwrap_or_else(|| or.to_owned());
    let labels = json_of(env, "KUBERNETES_LABELS")?;
    let labels = if labels.is_null() { json!({"application": "spilo"}) } else { labels };
    let leader = word("KUBERNETES_LEADER_LABEL_VALUE", "master");
    let rest = format!("{}:{REST_PORT}", place.address);
    let postgres = format!("{}:{POSTGRES_PORT}", place.address);
    // Port 0 is a free port of the loopback interface that no client knows.
    let listen = if settings.rest_refused { "127.0.0.1:0".to_owned() } else { rest.clone() };
    let mut config = json!({
        "scope": scope,
        "name": place.pod,
        "namespace": place.namespace,
        "kubernetes": {
            "namespace": place.namespace,
            "labels": labels,
            "scope_label": word("KUBERNETES_SCOPE_LABEL", "version"),
            "role_label": word("KUBERNETES_ROLE_LABEL", "spilo-role"),
            // As in Spilo, a standby leader carries the leader's value too.
            "standby_leader_label_value": &leader,
            "leader_label_value": leader,
            "use_endpoints": !flag(env, "KUBERNETES_USE_CONFIGMAPS"),
            "bypass_api_service": false,
            "pod_ip": place.address,
            "ports": [{"name": "postgresql", "port": POSTGRES_PORT}],
        },
        "restapi": {"listen": listen, "connect_address": rest},
        "postgresql": {
            "listen": &postgres,
            "connect_address": postgres,
            "data_dir": place.volume.join("pgroot/data"),
            "pgpass": place.run_dir.join("pgpass"),
            "bin_dir": place.bin_dir,
            "bin_name": {"pg_basebackup": place.base_backup},
            "create_replica_methods": ["basebackup"],
            "basebackup": [{"checkpoint": "fast"}, "no-sync"],
            "parameters": {"unix_socket_directories": place.run_dir},
        },
    });
    if settings.nofailover {
        overlay(&mut config, &json!({"tags": {"nofailover": true}}));
    }
    if let Some((tag, value)) = settings.tag {
        overlay(&mut config, &json!({"tags": {tag: value.as_json()}}));
    }
    let bootstrap = json_of(env, "KUBERNETES_BOOTSTRAP_LABELS")?;
    if bootstrap.is_object() {
        overlay(&mut config, &json!({"kubernetes": {"bootstrap_labels": bootstrap}}));
    }
    Ok(config)
}

/// Returns `initdb`'s options: the requested ones, then those of the image that were not requested.
fn initdb(wanted: &Value) -> Vec<Value> {
    let mut options = wanted.as_array().cloned().unwrap_or_default();
    for option in [json!({"encoding": "UTF8"}), json!({"locale": "C"}), json!("data-checksums")] {
        if !options.iter().any(|present| option_name(present) == option_name(&option)) {
            options.push(option);
        }
    }
    options
}

/// Returns the name of an `initdb` option, which is written as `name` or as `{name: value}`.
fn option_name(option: &Value) -> Option<&str> {
    match option {
        Value::Object(pair) => pair.keys().next().map(String::as_str),
        Value::String(name) => Some(name),
        Value::Array(_) | Value::Bool(_) | Value::Null | Value::Number(_) => None,
    }
}

/// Returns whether a variable is true in one of the spellings that Spilo accepts.
fn flag(env: &BTreeMap<String, String>, name: &str) -> bool {
    env.get(name).is_some_and(|value| {
        ["true", "on", "1", "yes"].contains(&value.to_ascii_lowercase().as_str())
    })
}

/// Returns the JSON of a variable. Null when it is unset or empty.
fn json_of(env: &BTreeMap<String, String>, name: &str) -> Result<Value> {
    match env.get(name).map(|text| text.trim()) {
        None | Some("") => Ok(Value::Null),
        Some(text) => {
            serde_json::from_str(text).with_context(|| format!("{name} is not JSON: {text}"))
        }
    }
}

/// Fills the gaps of `given` from `defaults` (Spilo's `deep_update`): objects are merged, every
/// other value of `given` stays.
fn merge(given: Value, defaults: Value) -> Value {
    match (given, defaults) {
        (Value::Object(given), Value::Object(defaults)) => Value::Object(fill(given, defaults)),
        (Value::Null, defaults) => defaults,
        (given, _) => given,
    }
}

fn fill(mut given: Map<String, Value>, defaults: Map<String, Value>) -> Map<String, Value> {
    for (key, default) in defaults {
        let value = given.remove(&key).unwrap_or(Value::Null);
        given.insert(key, merge(value, default));
    }
    given
}

/// Writes `top` over `config`: objects are merged, every other value is replaced.
pub(crate) fn overlay(config: &mut Value, top: &Value) {
    if let (Value::Object(config), Value::Object(top)) = (&mut *config, top) {
        for (key, value) in top {
            overlay(config.entry(key).or_insert(Value::Null), value);
        }
    } else {
        *config = top.clone();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the environment that the operator gives a pod of a cluster with `max_connections`
    /// and `work_mem` set and `synchronous_mode` on, in Endpoints mode.
    fn env() -> BTreeMap<String, String> {
        [
            ("SCOPE", "acid-a"),
            ("PGUSER_SUPERUSER", "postgres"),
            ("PGPASSWORD_SUPERUSER", "s3cret"),
            ("PGUSER_STANDBY", "standby"),
            ("PGPASSWORD_STANDBY", "r3plica"),
            ("KUBERNETES_SCOPE_LABEL", "cluster-name"),
            ("KUBERNETES_ROLE_LABEL", "spilo-role"),
            ("KUBERNETES_LABELS", r#"{"application":"spilo"}"#),
            ("KUBERNETES_BOOTSTRAP_LABELS", r#"{"critical-operation":"true"}"#),
            (
                "SPILO_CONFIGURATION",
                r#"{"bootstrap": {
                      "initdb": [{"auth-host": "md5"}, {"locale": "ko_KR.UTF-8"}],
                      "dcs": {"synchronous_mode": true, "ttl": 45,
                        "postgresql": {"parameters": {"max_connections": "100"}}}},
                    "postgresql": {"bin_dir": "/usr/lib/postgresql/17/bin",
                      "parameters": {"work_mem": "8MB"}}}"#,
            ),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
    }

    fn place() -> Placement<'static> {
        Placement {
            pod: "acid-a-1",
            namespace: "db",
            address: Ipv4Addr::new(10, 244, 0, 7),
            network: "10.244.0.0/16",
            volume: Path::new("/volume"),
            bin_dir: Path::new("/pg/bin"),
            base_backup: Path::new("/pod/pg_basebackup"),
            run_dir: Path::new("/run/postgresql"),
        }
    }

    fn of(env: &BTreeMap<String, String>) -> Value {
        configuration(env, &place(), RuntimeSettings::default()).unwrap()
    }

    fn at(config: &Value, pointer: &str) -> Value {
        config.pointer(pointer).cloned().unwrap_or_else(|| panic!("nothing at {pointer}"))
    }

    #[test]
    fn settings_of_the_cluster_override_the_image() {
        let config = of(&env());
        for (pointer, want) in [
            ("/bootstrap/dcs/ttl", json!(45)),
            ("/bootstrap/dcs/loop_wait", json!(10)),
            ("/bootstrap/dcs/maximum_lag_on_failover", json!(33_554_432)),
            ("/bootstrap/dcs/synchronous_mode", json!(true)),
            ("/bootstrap/dcs/postgresql/use_slots", json!(true)),
            ("/bootstrap/dcs/postgresql/parameters/max_connections", json!("100")),
            ("/bootstrap/dcs/postgresql/parameters/max_wal_senders", json!(10)),
            ("/postgresql/parameters/work_mem", json!("8MB")),
            ("/postgresql/parameters/shared_buffers", json!("16MB")),
            ("/postgresql/authentication/superuser/password", json!("s3cret")),
            ("/postgresql/authentication/replication/username", json!("standby")),
        ] {
            assert_eq!(at(&config, pointer), want, "{pointer}");
        }
        assert_eq!(
            at(&config, "/bootstrap/initdb"),
            json!([
                {"auth-host": "md5"}, {"locale": "ko_KR.UTF-8"}, {"encoding": "UTF8"},
                "data-checksums"
            ])
        );
    }

    #[test]
    fn settings_of_the_bed_override_the_cluster() {
        let config = of(&env());
        assert_eq!(at(&config, "/postgresql/bin_dir"), json!("/pg/bin"));
        assert_eq!(at(&config, "/postgresql/listen"), json!("10.244.0.7:5432"));
        assert_eq!(at(&config, "/postgresql/data_dir"), json!("/volume/pgroot/data"));
        assert_eq!(at(&config, "/restapi/listen"), json!("10.244.0.7:8008"));
    }

    #[test]
    fn kubernetes_settings_come_from_the_environment() {
        let mut env = env();
        let config = of(&env);
        assert_eq!(at(&config, "/kubernetes/use_endpoints"), json!(true));
        assert_eq!(at(&config, "/kubernetes/scope_label"), json!("cluster-name"));
        assert_eq!(at(&config, "/kubernetes/leader_label_value"), json!("master"));
        assert_eq!(at(&config, "/kubernetes/labels"), json!({"application": "spilo"}));
        assert_eq!(
            at(&config, "/kubernetes/bootstrap_labels"),
            json!({"critical-operation": "true"})
        );
        env.insert("KUBERNETES_USE_CONFIGMAPS".into(), "true".into());
        env.insert("KUBERNETES_LEADER_LABEL_VALUE".into(), "primary".into());
        env.remove("KUBERNETES_BOOTSTRAP_LABELS");
        let config = of(&env);
        assert_eq!(at(&config, "/kubernetes/use_endpoints"), json!(false));
        assert_eq!(at(&config, "/kubernetes/leader_label_value"), json!("primary"));
        assert_eq!(at(&config, "/kubernetes/standby_leader_label_value"), json!("primary"));
        assert_eq!(config.pointer("/kubernetes/bootstrap_labels"), None);
    }

    #[test]
    fn runtime_settings_show_in_tags_and_in_the_rest_address() {
        let tag = Some(("sync_priority", TagValue::Number(0)));
        let settings = RuntimeSettings { nofailover: true, rest_refused: true, tag };
        let config = configuration(&env(), &place(), settings).unwrap();
        assert_eq!(at(&config, "/tags/nofailover"), json!(true));
        assert_eq!(at(&config, "/tags/sync_priority"), json!(0));
        assert_eq!(at(&config, "/restapi/listen"), json!("127.0.0.1:0"));
        assert_eq!(at(&config, "/restapi/connect_address"), json!("10.244.0.7:8008"));
        assert_eq!(of(&env()).pointer("/tags"), None);
    }

    #[test]
    fn an_environment_that_cannot_work_is_refused_with_the_reason() {
        for (name, value, reason) in [
            ("ETCD_HOST", "etcd:2379", "Patroni should keep its state in etcd at etcd:2379"),
            ("SPILO_CONFIGURATION", "{", "SPILO_CONFIGURATION is not JSON: {"),
            ("KUBERNETES_LABELS", "a=b", "KUBERNETES_LABELS is not JSON: a=b"),
        ] {
            let mut env = env();
            env.insert(name.into(), value.into());
            let error = configuration(&env, &place(), RuntimeSettings::default()).unwrap_err();
            assert!(error.to_string().starts_with(reason), "{name}: {error}");
        }
        let error =
            configuration(&BTreeMap::new(), &place(), RuntimeSettings::default()).unwrap_err();
        assert!(error.to_string().contains("no SCOPE variable"), "{error}");
    }
}
