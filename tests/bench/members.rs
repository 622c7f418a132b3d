//! Members without PostgreSQL: one server that answers `GET /patroni` for every pod address.
//!
//! Every pod address is local in the sandbox, so the address that a caller reached names the
//! member. The answer is that of `get_postgresql_status` (patroni/api.py, 4.1.4): HTTP/1.0, no
//! length, and the end of the connection ends the body.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use anyhow::{Context as _, Result};
use k8s_openapi::jiff::Timestamp;
use pgscale_tests::patroni::REST_PORT;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// The position of every member: nothing is written while the load runs.
pub(crate) const POSITION: u64 = 67_108_960;
/// The identifier of every database.
pub(crate) const SYSTEM: &str = "7310000000000000000";
/// The time for which a silent member keeps a connection open.
const SILENCE: Duration = Duration::from_secs(20);

/// One member.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    /// The name of its cluster.
    pub(crate) cluster: String,
    /// The name of its pod.
    pub(crate) pod: String,
    /// Whether it leads.
    pub(crate) leads: bool,
    /// Whether it accepts connections and never answers.
    pub(crate) silent: bool,
}

/// The members of all clusters.
#[derive(Clone, Default)]
pub(crate) struct Members {
    known: Arc<RwLock<HashMap<Ipv4Addr, Member>>>,
    asked: Arc<AtomicU64>,
}

impl Members {
    /// Starts to answer at every local address.
    ///
    /// # Errors
    /// Fails when it cannot listen.
    pub(crate) async fn start() -> Result<Self> {
        let members = Self::default();
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, REST_PORT)).await;
        let listener = listener.context("failed to listen for the members")?;
        let server = members.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(server.clone().answer(stream));
            }
        });
        Ok(members)
    }

    /// Adds a member.
    pub(crate) fn add(&self, address: Ipv4Addr, member: Member) {
        self.known.write().unwrap_or_else(PoisonError::into_inner).insert(address, member);
    }

    /// Returns the number of requests so far.
    pub(crate) fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    /// Answers one request. A caller that ends early is none of the member's concern.
    async fn answer(self, mut stream: TcpStream) {
        let Ok(IpAddr::V4(address)) = stream.local_addr().map(|address| address.ip()) else {
            return;
        };
        let known =
            self.known.read().unwrap_or_else(PoisonError::into_inner).get(&address).cloned();
        let Some(member) = known else { return };
        let mut head = Vec::new();
        while !head.windows(4).any(|end| end == b"\r\n\r\n") {
            let mut part = [0; 1024];
            match stream.read(&mut part).await {
                Ok(0) | Err(_) => return,
                Ok(length) => head.extend(part.into_iter().take(length)),
            }
        }
        self.asked.fetch_add(1, Ordering::Relaxed);
        if member.silent {
            tokio::time::sleep(SILENCE).await;
            return;
        }
        let body = report(&member);
        let answer = format!(
            "HTTP/1.0 200 OK\r\nServer: BaseHTTP/0.6 Python/3.12\r\n\
             Content-Type: application/json\r\n\r\n{body}"
        );
        _ = stream.write_all(answer.as_bytes()).await;
        _ = stream.shutdown().await;
    }
}

fn report(member: &Member) -> Value {
    let mut said = json!({
        "state": "running", "postmaster_start_time": "2026-11-20 10:00:05.000001+00:00",
        "role": if member.leads { "primary" } else { "replica" },
        "server_version": 170_004, "timeline": 1, "dcs_last_seen": Timestamp::now().as_second(),
        "database_system_identifier": SYSTEM,
        "patroni": {"version": "4.1.4", "scope": member.cluster, "name": member.pod},
    });
    if let Some(fields) = said.as_object_mut() {
        if member.leads {
            fields.insert("xlog".into(), json!({"location": POSITION}));
        } else {
            let xlog = json!({
                "received_location": POSITION, "replayed_location": POSITION,
                "replayed_timestamp": "2026-11-20 10:00:06.000001+00:00", "paused": false,
            });
            fields.insert("xlog".into(), xlog);
            fields.insert("replication_state".into(), json!("streaming"));
        }
    }
    said
}
