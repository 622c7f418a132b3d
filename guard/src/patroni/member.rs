//! The reports of one member: its pod's annotation, and its answer over REST.

use std::num::{NonZeroU32, NonZeroU64};

use serde::Serialize;
use serde_json::Value;

use super::{bounded, python_true, truthy, whole_number};

/// The state of a member's PostgreSQL, in one vocabulary for all Patroni versions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
pub enum State {
    /// It accepts connections. This proves nothing about replication.
    Running,
    /// It is being built from another member: base backup or restore.
    CreatingReplica,
    /// A first leader is being made: initdb or a custom bootstrap.
    Bootstrapping,
    /// It is starting.
    Starting,
    /// It is down, or going down.
    Stopped,
    /// It failed: crashed, start failed, initdb failed …
    Failed,
    /// A word that the guard does not know. Never taken as fine.
    Unknown(String),
}

impl State {
    /// Reads Patroni's word (`PostgresqlState`, patroni/postgresql/misc.py). Versions up to 3.0
    /// misspell one.
    pub fn of(word: &str) -> Self {
        match word {
            "running" | "streaming" | "in archive recovery" => Self::Running,
            "creating replica" => Self::CreatingReplica,
            "initializing new cluster"
            | "initalizing new cluster"
            | "running custom bootstrap script"
            | "starting after custom bootstrap" => Self::Bootstrapping,
            "starting" | "restarting" => Self::Starting,
            "stopped" | "stopping" => Self::Stopped,
            "crashed"
            | "start failed"
            | "stop failed"
            | "initdb failed"
            | "custom bootstrap failed" => Self::Failed,
            word if word.starts_with("restart failed") => Self::Failed,
            word => Self::Unknown(word.to_owned()),
        }
    }

    /// Returns the word for people.
    pub fn word(&self) -> &str {
        match self {
            Self::Running => "running",
            Self::CreatingReplica => "creating replica",
            Self::Bootstrapping => "bootstrapping",
            Self::Starting => "starting",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
            Self::Unknown(word) => word,
        }
    }
}

/// The role a member claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
pub enum Role {
    /// The leader: `primary` since Patroni 4, `master` before.
    Primary,
    /// The leader of a standby cluster.
    StandbyLeader,
    /// A replica.
    Replica,
    /// A former leader that gave up the lead.
    Demoted,
    /// A member without a data directory (yet, or any more).
    Uninitialized,
    /// Any other word.
    Other,
}

impl Role {
    /// Reads Patroni's word, in the spelling of any version.
    pub fn of(word: &str) -> Self {
        match word {
            "primary" | "master" | "promoted" => Self::Primary,
            "standby_leader" => Self::StandbyLeader,
            "replica" => Self::Replica,
            "demoted" => Self::Demoted,
            "uninitialized" => Self::Uninitialized,
            _ => Self::Other,
        }
    }

    /// Returns whether it leads, or claims to.
    pub fn leads(self) -> bool {
        matches!(self, Self::Primary | Self::StandbyLeader)
    }
}

/// The port of Patroni's REST interface in every Spilo pod that does not set `APIPORT`
/// (`scripts/configure_spilo.py`). The operator knows no other (`apiPort`,
/// pkg/util/patroni/patroni.go).
pub const PATRONI_PORT: u16 = 8008;

/// The tags of a member that bear on scaling (`patroni/tags.py`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct Tags {
    /// It must not take over: `nofailover`, or `failover_priority` of 0 or less.
    pub nofailover: bool,
    /// It is never a synchronous standby: `nosync`, or `sync_priority` of 0 or less.
    pub nosync: bool,
    /// The member from which it replicates instead of the leader.
    pub replicate_from: Option<String>,
}

impl Tags {
    /// Reads the `tags` object of an annotation or a REST answer of Patroni's `version`.
    ///
    /// A text such as `"false"` is true for Patroni, and a priority may be written as a text. A
    /// version that does not know a priority ignores it (3.2 brought `failover_priority`, 4.1
    /// `sync_priority`). A version that is not known may be any.
    pub fn of(tags: &Value, version: Option<&str>) -> Self {
        Self {
            nofailover: barred(tags, "nofailover", "failover_priority", since(version, (3, 2, 0))),
            nosync: barred(tags, "nosync", "sync_priority", since(version, (4, 1, 0))),
            replicate_from: tags["replicatefrom"]
                .as_str()
                .filter(|source| !source.is_empty())
                .map(str::to_owned),
        }
    }
}

/// Returns whether a member is barred by a tag, or by the priority that counts where the tag is
/// unset (`_bool_tag`, patroni/tags.py).
fn barred(tags: &Value, name: &str, priority: &str, prioritised: bool) -> bool {
    if !tags[name].is_null() {
        return python_true(&tags[name]);
    }
    prioritised && whole_number(&tags[priority]).is_some_and(|priority| priority <= 0)
}

/// Returns whether a Patroni of this version has what came with `least`. A version that is not
/// known counts as one.
fn since(version: Option<&str>, least: (u64, u64, u64)) -> bool {
    let numbers = version.map(numbers);
    numbers.is_none_or(|numbers| numbers == (0, 0, 0) || numbers >= least)
}

/// The address of a member's REST interface, as the member reports it (`connection_string`,
/// patroni/api.py): the protocol and `restapi.connect_address`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct ApiUrl {
    /// It is served over TLS (`restapi.certfile`).
    pub tls: bool,
    /// An address, without the brackets of IPv6, or a name.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl ApiUrl {
    /// Reads `http://HOST:PORT/patroni`. `None` where the text is no such URL.
    pub fn of(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let tls = match scheme {
            "http" => false,
            "https" => true,
            _ => return None,
        };
        let place = rest.split('/').next()?;
        let (host, port) = match place.rsplit_once(':') {
            // The colons of an IPv6 address stand in brackets.
            Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
            Some(_) | None => (place, PATRONI_PORT),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        (!host.is_empty() && port != 0).then(|| Self { tls, host: host.to_owned(), port })
    }
}

/// The pod annotation `status`, which a member writes when its state changes.
///
/// It can be any age: a frozen member says "running" for ever.
#[derive(Clone, Debug, PartialEq, Serialize, serde::Deserialize)]
pub struct Report {
    /// State of its PostgreSQL.
    pub state: State,
    /// The role it claims.
    pub role: Role,
    /// Its timeline.
    pub timeline: Option<u64>,
    /// WAL position in bytes: replayed or received, whichever is further.
    pub position: Option<u64>,
    /// It streams, or replays the archive. `None` where it says neither (or Patroni is older than
    /// 3.0.4).
    pub replication_state: Option<String>,
    /// Patroni's version.
    pub version: Option<String>,
    /// Its tags.
    pub tags: Tags,
    /// A restart is pending.
    pub pending_restart: bool,
    /// The address of its REST interface. `None` where it reports none.
    pub api_url: Option<ApiUrl>,
}

impl Report {
    /// Reads the JSON of the annotation.
    pub fn of(text: &str) -> Result<Self, serde_json::Error> {
        let report: Value = bounded::decode(text, bounded::VALUES)?;
        Ok(Self {
            state: State::of(report["state"].as_str().unwrap_or("")),
            role: Role::of(report["role"].as_str().unwrap_or("")),
            timeline: report["timeline"].as_u64(),
            position: report["xlog_location"].as_u64(),
            replication_state: report["replication_state"].as_str().map(str::to_owned),
            version: report["version"].as_str().map(str::to_owned),
            tags: Tags::of(&report["tags"], report["version"].as_str()),
            pending_restart: truthy(&report["pending_restart"]),
            api_url: report["api_url"].as_str().and_then(ApiUrl::of),
        })
    }

    /// Returns whether this Patroni writes `replication_state` (3.0.4 and later), so that its
    /// absence means "not replicating".
    pub fn tells_replication_state(&self) -> bool {
        tells_replication_state(self.version.as_deref())
    }
}

/// A member's answer to `GET /patroni`. For it, Patroni ran a query in PostgreSQL.
#[derive(Clone, Debug, PartialEq, Serialize, serde::Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts as Patroni reports them")]
pub struct Answer {
    /// State of its PostgreSQL.
    pub state: State,
    /// The role it claims.
    pub role: Role,
    /// Its timeline, where PostgreSQL runs.
    pub timeline: Option<u64>,
    /// `server_version`, such as 150004.
    pub server_version: Option<u32>,
    /// Leader: flushed WAL position, in bytes.
    pub location: Option<u64>,
    /// Replica: received position, in bytes. Patroni before 4.1, and any with PostgreSQL before 13,
    /// reports what is flushed. Since then it is what is written, and the disk may not have it yet
    /// (`get_postgresql_status`, patroni/api.py).
    pub received: Option<u64>,
    /// Replica: replayed position, in bytes.
    pub replayed: Option<u64>,
    /// Replica: replay is paused.
    pub replay_paused: bool,
    /// `streaming`, `in archive recovery`, or nothing.
    pub replication_state: Option<String>,
    /// Leader: the replicas that stream from it.
    pub replication: Vec<Sender>,
    /// Patroni is in maintenance mode.
    pub paused: bool,
    /// The last time at which Patroni reached its store, in seconds of its own clock; 1 for never.
    /// `None` before Patroni 2.1.3, which does not report it.
    pub dcs_last_seen: Option<NonZeroU32>,
    /// It needs a watchdog and has none: Patroni will not let it take over (`failover_limitation`,
    /// patroni/ha.py).
    pub watchdog_failed: bool,
    /// Its tags.
    pub tags: Tags,
    /// A restart is pending.
    pub pending_restart: bool,
    /// Patroni's version.
    pub version: Option<String>,
    /// The system identifier of its data (`database_system_identifier`), which is never 0.
    pub system_identifier: Option<NonZeroU64>,
}

/// One row of the leader's `replication[]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct Sender {
    /// The replica's name.
    pub name: String,
    /// `streaming`, `catchup`, `backup` …
    pub state: String,
    /// `async`, `sync`, `potential`, `quorum`.
    pub sync_state: String,
}

/// Returns the member that gave the answer `body`, where that is not `member` of `cluster`.
///
/// The address of a pod that is gone is given to another pod, perhaps of another cluster. Patroni
/// before 3.2 does not say its name, and its `scope` is the cluster.
pub fn given_by_another(body: &Value, cluster: &str, member: &str) -> Option<String> {
    let said = |key: &str| body["patroni"][key].as_str();
    let (scope, name) = (said("scope").unwrap_or(cluster), said("name"));
    let foreign = scope != cluster || name.is_some_and(|name| name != member);
    foreign.then(|| format!("{} of {scope}", name.unwrap_or("a member")))
}

impl Answer {
    /// Reads the body. A replica that restarts answers 503 with a body of the same shape.
    pub fn of(body: &Value) -> Option<Self> {
        let state = body["state"].as_str()?;
        let xlog = &body["xlog"];
        let location = xlog["location"].as_u64();
        Some(Self {
            state: State::of(state),
            role: Role::of(body["role"].as_str().unwrap_or("")),
            timeline: body["timeline"].as_u64(),
            server_version: body["server_version"].as_u64().and_then(|it| it.try_into().ok()),
            location,
            received: xlog["received_location"].as_u64(),
            replayed: xlog["replayed_location"].as_u64(),
            replay_paused: truthy(&xlog["paused"]),
            replication_state: body["replication_state"].as_str().map(str::to_owned),
            replication: body["replication"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|row| Sender {
                    name: row["application_name"].as_str().unwrap_or("").to_owned(),
                    state: row["state"].as_str().unwrap_or("").to_owned(),
                    sync_state: row["sync_state"].as_str().unwrap_or("").to_owned(),
                })
                .collect(),
            paused: truthy(&body["pause"]),
            dcs_last_seen: body["dcs_last_seen"]
                .as_u64()
                .and_then(|seconds| NonZeroU32::new(u32::try_from(seconds.max(1)).ok()?)),
            watchdog_failed: truthy(&body["watchdog_failed"]),
            tags: Tags::of(&body["tags"], body["patroni"]["version"].as_str()),
            pending_restart: truthy(&body["pending_restart"]),
            version: body["patroni"]["version"].as_str().map(str::to_owned),
            system_identifier: body["database_system_identifier"]
                .as_str()
                .and_then(|identifier| identifier.parse().ok()),
        })
    }

    /// Returns whether this Patroni reports `replication_state` (3.0.4 and later).
    pub fn tells_replication_state(&self) -> bool {
        tells_replication_state(self.version.as_deref())
    }

    /// Returns whether it streams, or its Patroni is too old (before 3.0.4) to report it.
    ///
    /// A replica that lost its WAL receiver looks caught up until the next write.
    pub fn streams(&self) -> bool {
        !tells_replication_state(self.version.as_deref())
            || self.replication_state.as_deref() == Some("streaming")
    }

    /// Returns the furthest position that it holds: flushed on a leader, received on a replica.
    ///
    /// What a replica has received survives its own process, and not always its node: see
    /// [`Answer::received`].
    pub fn position(&self) -> Option<u64> {
        self.location.or_else(|| self.received.max(self.replayed))
    }
}

fn tells_replication_state(version: Option<&str>) -> bool {
    version.is_some_and(|version| numbers(version) >= (3, 0, 4))
}

/// Returns the first three numbers of a version. What is no number is 0.
fn numbers(version: &str) -> (u64, u64, u64) {
    let mut parts = version.split('.').map(|part| {
        part.chars().take_while(char::is_ascii_digit).collect::<String>().parse::<u64>().ok()
    });
    let mut next = || parts.next().flatten().unwrap_or(0);
    (next(), next(), next())
}
