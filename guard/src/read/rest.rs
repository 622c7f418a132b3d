//! One exchange with one member's Patroni over REST.

use std::error::Error as _;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::{self, BoxFuture, Either};
use http::header::{CONNECTION, CONTENT_TYPE, HOST};
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Body as _;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::duration::exact;
use crate::facts::Member;
use crate::read::json_end::JsonEnd;
use crate::read::member_address::of_a_member;

/// The time that a member has to report its position.
const PATIENCE: Duration = Duration::from_secs(1);

/// The most bytes of an answer that are read. Patroni's own answers have a few hundred, and on a
/// leader two hundred more for each replica.
const LONGEST_ANSWER: usize = 64 << 10;

/// The way to ask members over REST: directly where pods can be reached, else through a
/// port-forward.
pub trait MemberClient: Send + Sync {
    /// Makes one HTTP exchange with the Patroni of `pod`.
    ///
    /// The error is one line for people: "connection refused", "timed out after 1s".
    fn exchange<'a>(
        &'a self,
        pod: &'a Address,
        request: RestRequest,
    ) -> BoxFuture<'a, Result<RestResponse, String>>;
}

/// The address of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Namespace of its pod.
    pub namespace: String,
    /// Name of its pod.
    pub pod: String,
    /// Address of its pod. `None` until it has one.
    pub ip: Option<String>,
    /// Port of its REST interface, or the reason for not asking there.
    pub port: Result<u16, String>,
}

impl Address {
    /// Returns the address of `member`.
    pub fn of(namespace: &str, member: &Member) -> Self {
        Self {
            namespace: namespace.to_owned(),
            pod: member.name.clone(),
            ip: member.pod.ip.clone(),
            port: member.rest_port(),
        }
    }
}

/// A request to a member.
#[derive(Clone, Debug, PartialEq)]
pub struct RestRequest {
    /// HTTP method.
    pub method: Method,
    /// Path, from the slash on.
    pub path: String,
    /// JSON to send. `None` sends no body.
    pub body: Option<Value>,
    /// The time limit of the whole exchange, connecting included.
    pub timeout: Duration,
}

impl RestRequest {
    /// Returns `GET path` with a time limit of a second.
    pub fn get(path: impl Into<String>) -> Self {
        Self { method: Method::GET, path: path.into(), body: None, timeout: PATIENCE }
    }

    /// Returns `POST path` with `body`.
    pub fn post(path: impl Into<String>, body: Value, timeout: Duration) -> Self {
        Self { method: Method::POST, path: path.into(), body: Some(body), timeout }
    }

    /// Returns `PATCH path` with `body`.
    pub fn patch(path: impl Into<String>, body: Value, timeout: Duration) -> Self {
        Self { method: Method::PATCH, path: path.into(), body: Some(body), timeout }
    }
}

/// A member's answer, whatever its status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestResponse {
    /// HTTP status.
    pub status: u16,
    /// Body, as text.
    pub body: String,
}

/// `http://POD_IP:PORT`, straight from this process, where a pod can be.
#[derive(Clone, Copy, Debug, Default)]
pub struct Direct;

/// The pause after which a body without a declared length counts as complete.
const QUIET: Duration = Duration::from_millis(300);

impl MemberClient for Direct {
    fn exchange<'a>(
        &'a self,
        pod: &'a Address,
        request: RestRequest,
    ) -> BoxFuture<'a, Result<RestResponse, String>> {
        exchange_with(pod, request, of_a_member).boxed()
    }
}

/// Makes one exchange with `pod`, if its address `may` be asked.
async fn exchange_with(
    pod: &Address,
    request: RestRequest,
    may: fn(IpAddr) -> Result<(), String>,
) -> Result<RestResponse, String> {
    let Some(ip) = &pod.ip else { return Err("has no address".to_owned()) };
    let ip: IpAddr = ip.parse().map_err(|_| format!("{ip:?} is not an IP address"))?;
    may(ip)?;
    let address = SocketAddr::new(ip, pod.port.clone()?);
    within(request.timeout, async {
        let stream = TcpStream::connect(address).await.map_err(|error| io_words(&error))?;
        exchange_over(stream, &address.to_string(), &request).await
    })
    .await
}

/// Makes one HTTP/1.1 exchange over a connected stream, within the request's timeout. `host` is the
/// value of the `Host` header.
///
/// The error is one line for people.
pub async fn exchange_over<S>(
    stream: S,
    host: &str,
    request: &RestRequest,
) -> Result<RestResponse, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    within(request.timeout, exchange(stream, host, request)).await
}

async fn exchange<S>(stream: S, host: &str, request: &RestRequest) -> Result<RestResponse, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let outgoing = Request::builder()
        .method(request.method.clone())
        .uri(request.path.as_str())
        .header(HOST, host)
        .header(CONTENT_TYPE, "application/json")
        .header(CONNECTION, "close")
        .body(Full::new(match &request.body {
            Some(body) => Bytes::from(body.to_string()),
            None => Bytes::new(),
        }))
        .map_err(|error| format!("the request could not be made: {error}"))?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| hyper_words(&error))?;
    let answer = async move {
        let response = sender.send_request(outgoing).await.map_err(|error| hyper_words(&error))?;
        let status = response.status().as_u16();
        let body = whole(response.into_body()).await?;
        Ok(RestResponse { status, body: String::from_utf8_lossy(&body).into_owned() })
    };
    // The connection makes progress only while it is polled. Its end is no answer: `answer` reads
    // the rest of its data, and its error reaches `answer` as well.
    let connection = connection.then(|_| future::pending::<std::convert::Infallible>());
    match future::select(Box::pin(answer), Box::pin(connection)).await {
        Either::Left((answer, _)) => answer,
        Either::Right((never, _)) => match never {},
    }
}

/// Reads the whole body.
///
/// Patroni declares no length and closes the connection instead, and not every kubelet's
/// port-forward passes that close on. So a body without a length also ends at the end of its JSON.
/// The plain words of Patroni's answer to a switchover end at the first pause.
async fn whole(body: hyper::body::Incoming) -> Result<Vec<u8>, String> {
    let declared = body.size_hint().exact().is_some();
    let mut body = Limited::new(body, LONGEST_ANSWER);
    let mut whole = Vec::new();
    let mut end = JsonEnd::default();
    loop {
        let frame = if declared || whole.is_empty() {
            body.frame().await
        } else {
            tokio::time::timeout(QUIET, body.frame()).await.unwrap_or_default()
        };
        let Some(frame) = frame else { return Ok(whole) };
        let frame = frame.map_err(|error| {
            if error.is::<LengthLimitError>() {
                format!("answered more than {LONGEST_ANSWER} bytes")
            } else {
                format!("stopped in the middle of its answer: {error}")
            }
        })?;
        let Some(data) = frame.data_ref() else { continue };
        whole.extend_from_slice(data);
        // Not parsed: a member that sends byte by byte would have it parsed as often.
        if end.reached(data) && !declared {
            return Ok(whole);
        }
    }
}

async fn within<T>(
    timeout: Duration,
    work: impl Future<Output = Result<T, String>>,
) -> Result<T, String> {
    tokio::time::timeout(timeout, work)
        .await
        .unwrap_or_else(|_| Err(format!("timed out after {}", exact(timeout))))
}

fn io_words(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::ConnectionRefused {
        "connection refused".to_owned()
    } else {
        error.to_string()
    }
}

/// Returns the cause of a failure on the wire.
///
/// A Patroni with TLS closes a plain connection, or answers it with an alert that is no HTTP. From
/// here nothing else tells the two apart.
fn hyper_words(error: &hyper::Error) -> String {
    if error.is_incomplete_message() {
        return "closed the connection without an answer (does its Patroni demand TLS?)".to_owned();
    }
    if error.is_parse() {
        return "answered something that is not HTTP (does its Patroni demand TLS?)".to_owned();
    }
    let io = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    io.map_or_else(|| error.to_string(), io_words)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;
    use crate::patroni::PATRONI_PORT;

    /// Starts a server on its own loopback address, on Patroni's port, and passes its request to
    /// `serve`.
    async fn serve<F>(
        ip: &str,
        serve: impl FnOnce(TcpStream, String) -> F + Send + 'static,
    ) -> Address
    where
        F: Future<Output = ()> + Send,
    {
        let listener = TcpListener::bind((ip, PATRONI_PORT)).await.unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 4096];
            let length = stream.read(&mut request).await.unwrap();
            request.truncate(length);
            serve(stream, String::from_utf8(request).unwrap()).await;
        });
        address(ip)
    }

    fn address(ip: &str) -> Address {
        Address {
            namespace: "db".into(),
            pod: "acid-a-0".into(),
            ip: Some(ip.into()),
            port: Ok(PATRONI_PORT),
        }
    }

    /// Asks as [`Direct`] does, also on this machine.
    async fn ask(pod: &Address, request: RestRequest) -> Result<RestResponse, String> {
        exchange_with(pod, request, |_| Ok(())).await
    }

    #[tokio::test]
    async fn server_of_this_machine_is_never_asked_for_a_member() {
        let pod = serve("127.0.83.10", async move |mut stream, _| {
            stream.write_all(b"HTTP/1.0 200 OK\r\n\r\n{}").await.unwrap();
        })
        .await;
        let mapped = Address { ip: Some("::ffff:127.0.83.10".into()), ..pod.clone() };
        for address in [&pod, &mapped] {
            let refused = Direct.exchange(address, soon()).await.unwrap_err();
            assert!(refused.ends_with("(loopback), where no pod can be"), "{refused}");
        }
        assert!(ask(&pod, soon()).await.is_ok(), "the server waits");
    }

    fn soon() -> RestRequest {
        RestRequest { timeout: Duration::from_millis(250), ..RestRequest::get("/patroni") }
    }

    #[tokio::test]
    async fn answer_of_any_status_is_returned() {
        for (ip, status, line) in [
            ("127.0.83.1", 200, "HTTP/1.0 200 OK"),
            ("127.0.83.2", 503, "HTTP/1.0 503 Unavailable"),
        ] {
            // As Patroni's server does: HTTP/1.0, no length, the end of the connection ends the
            // body.
            let pod = serve(ip, async move |mut stream, request| {
                assert!(request.starts_with("GET /patroni HTTP/1.1\r\n"), "{request}");
                assert!(request.contains(&format!("host: {ip}:8008\r\n")), "{request}");
                let answer =
                    format!("{line}\r\nContent-Type: application/json\r\n\r\n{{\"state\": 1}}");
                stream.write_all(answer.as_bytes()).await.unwrap();
            })
            .await;
            let response = ask(&pod, RestRequest::get("/patroni")).await.unwrap();
            assert_eq!(response, RestResponse { status, body: "{\"state\": 1}".into() });
        }
    }

    #[tokio::test]
    async fn member_is_asked_on_the_port_that_it_reports() {
        let pod = serve("127.0.83.9", async move |mut stream, _| {
            stream.write_all(b"HTTP/1.0 200 OK\r\n\r\n{}").await.unwrap();
        })
        .await;
        let other = Address { port: Ok(8009), ..pod.clone() };
        let refused = ask(&other, soon()).await;
        assert_eq!(refused, Err("connection refused".to_owned()));
        let tls = Address { port: Err("it answers over TLS only".into()), ..pod.clone() };
        let silent = ask(&tls, soon()).await;
        assert_eq!(silent, Err("it answers over TLS only".to_owned()));
        assert!(ask(&pod, soon()).await.is_ok());
    }

    #[tokio::test]
    async fn port_forward_that_never_passes_the_end_on_delays_no_answer() {
        for body in ["{\"state\": \"running\"}", "Successfully switched over to \"acid-a-1\""] {
            let (mine, mut theirs) = tokio::io::duplex(1 << 16);
            let server = tokio::spawn(async move {
                assert_ne!(theirs.read(&mut [0; 4096]).await.unwrap(), 0);
                let answer = format!("HTTP/1.0 200 OK\r\nContent-Type: text/html\r\n\r\n{body}");
                theirs.write_all(answer.as_bytes()).await.unwrap();
                theirs
            });
            let response = exchange_over(mine, "acid-a-0", &RestRequest::get("/patroni")).await;
            assert_eq!(response, Ok(RestResponse { status: 200, body: body.to_owned() }));
            // Only now may the server's end of the stream close.
            drop(server.await.unwrap());
        }
    }

    #[tokio::test]
    async fn answer_that_comes_byte_by_byte_is_read_once() {
        let (mine, mut theirs) = tokio::io::duplex(16);
        let text = format!("{{\"x\": [{}]}}", vec!["{}"; 20_000].join(","));
        let sent = text.clone();
        let server = tokio::spawn(async move {
            assert_ne!(theirs.read(&mut [0; 4096]).await.unwrap(), 0);
            theirs.write_all(b"HTTP/1.0 200 OK\r\n\r\n").await.unwrap();
            theirs.write_all(sent.as_bytes()).await.unwrap();
            theirs
        });
        let request = RestRequest { timeout: Duration::from_secs(60), ..soon() };
        let answer = exchange_over(mine, "acid-a-0", &request).await.unwrap();
        assert_eq!(answer.body.len(), text.len());
        drop(server.await.unwrap());
    }

    #[tokio::test]
    async fn body_is_sent_as_json() {
        let (mine, mut theirs) = tokio::io::duplex(1 << 16);
        let server = tokio::spawn(async move {
            let mut request = String::new();
            while !request.ends_with('}') {
                let mut part = [0; 512];
                let length = theirs.read(&mut part).await.unwrap();
                request.push_str(std::str::from_utf8(&part[..length]).unwrap());
            }
            theirs
                .write_all(b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\nok")
                .await
                .unwrap();
            request
        });
        let body = json!({"leader": "acid-a-4", "candidate": "acid-a-1"});
        let request = RestRequest::post("/switchover", body, Duration::from_secs(5));
        let response = exchange_over(mine, "acid-a-4", &request).await.unwrap();
        assert_eq!((response.status, response.body.as_str()), (202, "ok"));
        let sent = server.await.unwrap();
        assert!(sent.starts_with("POST /switchover HTTP/1.1\r\n"), "{sent}");
        assert!(sent.ends_with(r#"{"candidate":"acid-a-1","leader":"acid-a-4"}"#), "{sent}");
    }

    #[tokio::test]
    async fn error_is_one_line() {
        let refused = ask(&address("127.0.83.3"), soon()).await;
        assert_eq!(refused, Err("connection refused".into()));

        let hanging = serve("127.0.83.4", |stream, _| async move {
            tokio::time::sleep(Duration::from_secs(60)).await;
            drop(stream);
        })
        .await;
        assert_eq!(ask(&hanging, soon()).await, Err("timed out after 0.25s".into()));

        let closing = serve("127.0.83.5", async |stream, _| drop(stream)).await;
        assert_eq!(
            ask(&closing, soon()).await,
            Err("closed the connection without an answer (does its Patroni demand TLS?)".into())
        );

        // The alert of a TLS server to a request without TLS.
        let tls = serve("127.0.83.6", async |mut stream, _| {
            stream.write_all(&[0x15, 0x03, 0x01, 0x00, 0x02, 0x02, 0x46]).await.unwrap();
        })
        .await;
        assert_eq!(
            ask(&tls, soon()).await,
            Err("answered something that is not HTTP (does its Patroni demand TLS?)".into())
        );

        let nowhere = Address { ip: None, ..address("127.0.83.7") };
        assert_eq!(ask(&nowhere, soon()).await, Err("has no address".into()));
        let nonsense = address("acid-a-0.acid-a");
        let why = ask(&nonsense, soon()).await;
        assert_eq!(why, Err("\"acid-a-0.acid-a\" is not an IP address".into()));
    }

    #[tokio::test]
    async fn reader_stops_at_the_longest_answer() {
        let giant = serve("127.0.83.8", async |mut stream, _| {
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n")
                .await
                .unwrap();
            // Until the reader has had enough and closes the connection.
            let block = vec![b'x'; 1 << 16];
            while stream.write_all(&block).await.is_ok() {}
        })
        .await;
        let request =
            RestRequest { timeout: Duration::from_secs(10), ..RestRequest::get("/patroni") };
        assert_eq!(ask(&giant, request).await, Err("answered more than 65536 bytes".into()));
    }
}
