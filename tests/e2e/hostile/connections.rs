//! Peers that hold connections, headers and bodies without an end, at both ports.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// The time for which the peers of a row try to send what they have.
const SEND: Duration = Duration::from_secs(10);
/// The bytes of the largest body that the webhook reads.
const BODY: usize = 7 << 20;

/// The conduct of a peer on its connection.
#[derive(Clone, Copy, Debug)]
pub(super) enum Conduct {
    /// It sends this many bytes of headers that have no end.
    Headers(usize),
    /// It sends a body without its last byte.
    Body,
    /// It asks once, and keeps the connection.
    Idle,
    /// It sends nothing.
    Silent,
}

/// A port of the webhook.
#[derive(Clone, Copy, Debug)]
pub(super) enum Port {
    /// Reviews over TLS.
    Reviews,
    /// Probes and metrics.
    Metrics,
}

/// Many peers with the same conduct.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) port: Port,
    pub(super) peers: usize,
    pub(super) conduct: Conduct,
}

/// Returns all rows in the order in which they are sent.
pub(super) fn rows() -> Vec<Row> {
    let row = |name, port, peers, conduct| Row { name, port, peers, conduct };
    vec![
        row("300 times 400 kB of headers", Port::Reviews, 300, Conduct::Headers(400_000)),
        row("300 times 30 kB of headers", Port::Reviews, 300, Conduct::Headers(30_000)),
        row("40 unfinished bodies", Port::Reviews, 40, Conduct::Body),
        row("1,500 connections without a handshake", Port::Reviews, 1_500, Conduct::Silent),
        row("1,100 connections that asked once", Port::Reviews, 1_100, Conduct::Idle),
        row(
            "300 times 400 kB of headers for metrics",
            Port::Metrics,
            300,
            Conduct::Headers(400_000),
        ),
        row("4,000 connections for metrics", Port::Metrics, 4_000, Conduct::Idle),
    ]
}

/// A way to both ports.
#[derive(Clone)]
pub(super) struct Way {
    reviews: String,
    metrics: String,
    tls: TlsConnector,
}

impl Way {
    /// Returns the way to a webhook whose certificate `authority` has signed.
    pub(super) fn new(reviews: &str, metrics: &str, authority: &str) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(authority.as_bytes())?)?;
        let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let tls = TlsConnector::from(Arc::new(config));
        Ok(Self { reviews: reviews.to_owned(), metrics: metrics.to_owned(), tls })
    }

    async fn tcp(&self, port: Port) -> Result<TcpStream> {
        let address = match port {
            Port::Reviews => &self.reviews,
            Port::Metrics => &self.metrics,
        };
        TcpStream::connect(address).await.context("no connection")
    }

    async fn tls(&self) -> Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from("127.0.0.1")?;
        Ok(self.tls.connect(name, self.tcp(Port::Reviews).await?).await?)
    }
}

/// The peers of a row. Their connections end when this is dropped.
pub(super) struct Peers(Vec<JoinHandle<()>>);

impl Peers {
    /// Connects all peers, and returns once each has sent what it has, or was cut off, or time is
    /// over.
    pub(super) async fn connect(way: &Way, row: &Row) -> Self {
        let (port, conduct) = (row.port, row.conduct);
        let (sent, mut all_sent) = tokio::sync::mpsc::channel::<()>(1);
        let mut peers = Vec::new();
        for _ in 0..row.peers {
            let (way, sent) = (way.clone(), sent.clone());
            peers.push(tokio::spawn(async move {
                // A connection that the webhook refuses or cuts off is what these are for.
                let Ok(mut stream) = open(&way, port, conduct).await else { return };
                _ = stream.send(conduct).await;
                drop(sent);
                stream.stay().await;
            }));
        }
        drop(sent);
        _ = timeout(SEND, all_sent.recv()).await;
        Self(peers)
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        for peer in &self.0 {
            peer.abort();
        }
    }
}

/// A connection of a peer.
enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

async fn open(way: &Way, port: Port, conduct: Conduct) -> Result<Stream> {
    Ok(match (port, conduct) {
        (Port::Metrics, _) | (_, Conduct::Silent) => Stream::Plain(way.tcp(port).await?),
        (Port::Reviews, _) => Stream::Tls(Box::new(way.tls().await?)),
    })
}

impl Stream {
    async fn send(&mut self, conduct: Conduct) -> Result<()> {
        match conduct {
            Conduct::Silent => {}
            Conduct::Idle => {
                self.write(b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n").await?;
                self.read(&mut [0; 1024]).await?;
            }
            Conduct::Headers(bytes) => {
                self.write(b"GET /healthz HTTP/1.1\r\nhost: a\r\nx: ").await?;
                self.write(&vec![b'a'; bytes]).await?;
            }
            Conduct::Body => {
                let head = "POST /validate HTTP/1.1\r\nhost: a\r\ncontent-length: ";
                self.write(format!("{head}{BODY}\r\n\r\n").as_bytes()).await?;
                self.write(&vec![b' '; BODY - 1]).await?;
            }
        }
        Ok(())
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        match self {
            Self::Plain(stream) => stream.write_all(bytes).await?,
            Self::Tls(stream) => stream.write_all(bytes).await?,
        }
        Ok(())
    }

    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        Ok(match self {
            Self::Plain(stream) => stream.read(buffer).await?,
            Self::Tls(stream) => stream.read(buffer).await?,
        })
    }

    /// Keeps the connection until the webhook ends it.
    async fn stay(mut self) {
        while let Ok(1..) = self.read(&mut [0; 1024]).await {
            sleep(Duration::from_millis(1)).await;
        }
    }
}
