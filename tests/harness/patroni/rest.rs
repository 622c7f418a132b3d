//! Calls to Patroni's REST API with one connection each: no connection stays open to a member that
//! may freeze or disappear.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::REST_PORT;

/// The limit for a call. A healthy member answers within milliseconds.
const TIMEOUT: Duration = Duration::from_secs(2);

/// The answer of a member about itself.
#[derive(Clone, Debug, Deserialize)]
pub struct Member {
    /// The state of its PostgreSQL, such as `running` or `creating replica`.
    pub state: String,
    /// Its role, such as `primary` or `replica`.
    pub role: String,
    /// `streaming` or `in archive recovery`, if it is a replica that replicates.
    #[serde(default)]
    pub replication_state: Option<String>,
    /// The timeline it is on, if PostgreSQL runs.
    #[serde(default)]
    pub timeline: Option<u32>,
    /// The start time of its PostgreSQL, as text, if it runs.
    #[serde(default)]
    pub postmaster_start_time: Option<String>,
    /// True if the cluster is in maintenance mode, as far as this member knows.
    #[serde(default)]
    pub pause: bool,
    /// Its tags. Boolean tags are present only when true.
    #[serde(default)]
    pub tags: Map<String, Value>,
}

impl Member {
    /// Returns whether the member must not take over.
    pub fn nofailover(&self) -> bool {
        self.tags.get("nofailover") == Some(&Value::Bool(true))
    }
}

/// Returns the answer to `GET /patroni` for any status code: a member that is not running answers
/// 503 with the same body.
///
/// # Errors
/// Fails when the member does not answer with JSON within two seconds.
pub async fn member(address: Ipv4Addr) -> Result<Member> {
    let (_, body) = call(address, Method::GET, "/patroni", None).await?;
    serde_json::from_slice(&body).with_context(|| {
        format!("{address} answered GET /patroni with {:?}", String::from_utf8_lossy(&body))
    })
}

/// Sends `body` and expects a 2xx answer.
///
/// # Errors
/// Fails when the member does not answer within two seconds, or refuses. The error quotes the
/// refusal.
pub async fn send(address: Ipv4Addr, method: Method, path: &str, body: &Value) -> Result<()> {
    let what = format!("{method} {path}");
    let (status, answer) = call(address, method, path, Some(body)).await?;
    if !status.is_success() {
        bail!("{address} answered {what} with {status}: {}", String::from_utf8_lossy(&answer));
    }
    Ok(())
}

/// Returns the status code of a GET.
///
/// # Errors
/// Fails when there is no answer within `limit`.
pub async fn probe(address: SocketAddr, path: &str, limit: Duration) -> Result<StatusCode> {
    let call = exchange(address, Method::GET, path, None);
    let (status, _) = timeout(limit, call)
        .await
        .with_context(|| format!("no answer from {address} within {limit:?}"))??;
    Ok(status)
}

/// Returns the body of a GET, as text.
///
/// # Errors
/// Fails when there is no answer within two seconds, or it is not a 2xx.
pub async fn text(address: SocketAddr, path: &str) -> Result<String> {
    let call = exchange(address, Method::GET, path, None);
    let (status, body) = timeout(TIMEOUT, call)
        .await
        .with_context(|| format!("no answer from {address} within {TIMEOUT:?}"))??;
    let text = String::from_utf8_lossy(&body).into_owned();
    if !status.is_success() {
        bail!("{address} answered GET {path} with {status}: {text}");
    }
    Ok(text)
}

async fn call(
    address: Ipv4Addr,
    method: Method,
    path: &str,
    body: Option<&Value>,
) -> Result<(StatusCode, Bytes)> {
    let what = format!("{method} http://{address}:{REST_PORT}{path}");
    timeout(TIMEOUT, exchange((address, REST_PORT).into(), method, path, body))
        .await
        .with_context(|| format!("no answer to {what} within {} s", TIMEOUT.as_secs()))?
        .with_context(|| format!("failed to {what}"))
}

async fn exchange(
    address: SocketAddr,
    method: Method,
    path: &str,
    body: Option<&Value>,
) -> Result<(StatusCode, Bytes)> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let body = body.map(Value::to_string).unwrap_or_default();
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", address.to_string())
        .header("content-type", "application/json")
        .header("connection", "close")
        .body(Full::new(Bytes::from(body)))?;
    let answer = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        anyhow::Ok((status, response.into_body().collect().await?.to_bytes()))
    };
    // The connection must be driven while the answer is awaited. Both end together.
    let (answer, _) = futures::join!(answer, connection);
    answer
}
