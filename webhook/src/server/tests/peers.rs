//! A server on a real socket, and peers that connect to it.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::routing::{get, post};
use futures::StreamExt as _;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream as ClientStream;

use super::super::*;
use crate::certs::Files;
use crate::certs::tests::{issue, load, write};

/// The time for what takes milliseconds on an idle machine.
pub(super) const SOON: Duration = Duration::from_secs(20);
/// The address of most peers.
pub(super) const HERE: u8 = 1;
pub(super) const ASK: &[u8] = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";

pub(super) struct Running {
    pub(super) address: SocketAddr,
    pub(super) phase: watch::Sender<Phase>,
    pub(super) certificates: Arc<Certificates>,
    pub(super) limiter: Arc<Limiter>,
    /// A permit for each request of `/slow` that may end.
    pub(super) answers: Arc<Semaphore>,
    /// The bytes that `/eat` has consumed.
    pub(super) eaten: Arc<AtomicUsize>,
    pub(super) directory: TempDir,
    pub(super) files: Files,
    pub(super) issued: (String, String),
    pub(super) task: JoinHandle<()>,
}

/// The settings of a server under test.
pub(super) struct Options {
    pub(super) limits: Limits,
    pub(super) connections: usize,
    pub(super) room: RoomLimits,
    pub(super) tls: bool,
    pub(super) clients: Option<Arc<Clients>>,
}

impl Default for Options {
    fn default() -> Self {
        Self { limits: Limits::default(), connections: 1024, room: ROOM, tls: true, clients: None }
    }
}

pub(super) async fn running(options: Options) -> Running {
    // A second test of the same process finds it installed already.
    rustls::crypto::ring::default_provider().install_default().ok();
    let directory = TempDir::new().unwrap();
    let issued = issue();
    let files = write(directory.path(), &issued);
    let certificates = load(&files);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, phase) = watch::channel(Phase::Serving);
    let Options { limits, connections, room, tls, clients } = options;
    let limiter = Limiter::with(Table::new(connections), Table::new(connections), room);
    let answers = Arc::new(Semaphore::new(0));
    let eaten = Arc::new(AtomicUsize::new(0));
    let slow = {
        let answers = Arc::clone(&answers);
        async move || {
            answers.acquire().await.unwrap().forget();
            "here"
        }
    };
    let eat = {
        let eaten = Arc::clone(&eaten);
        async move |body: Body| {
            let mut chunks = body.into_data_stream();
            while let Some(Ok(chunk)) = chunks.next().await {
                eaten.fetch_add(chunk.len(), Ordering::Relaxed);
            }
            "here"
        }
    };
    let router = Router::new()
        .route("/", get(async || "here"))
        .route("/slow", get(slow))
        .route("/eat", post(eat));
    let port = if tls {
        Port::Reviews { certificates: Arc::clone(&certificates), clients }
    } else {
        Port::Probes
    };
    let metrics = Arc::new(Metrics::new());
    let server =
        Server { listener, router, port, limits, limiter: Arc::clone(&limiter), phase, metrics };
    let task = tokio::spawn(server.run());
    Running {
        address,
        phase: sender,
        certificates,
        limiter,
        answers,
        eaten,
        directory,
        files,
        issued,
        task,
    }
}

impl Running {
    /// Opens a TCP connection from 127.0.0.`from`.
    pub(super) async fn tcp(&self, from: u8) -> io::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from((Ipv4Addr::new(127, 0, 0, from), 0)))?;
        socket.connect(self.address).await
    }

    pub(super) async fn connect(&self) -> io::Result<ClientStream<TcpStream>> {
        self.connect_from(HERE).await
    }

    pub(super) async fn connect_from(&self, from: u8) -> io::Result<ClientStream<TcpStream>> {
        self.connect_as(from, None).await
    }

    /// Opens a TLS connection with a client certificate.
    pub(super) async fn connect_as(
        &self,
        from: u8,
        pair: Option<&(String, String)>,
    ) -> io::Result<ClientStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.issued.0.as_bytes()).unwrap()).unwrap();
        let config = ClientConfig::builder().with_root_certificates(roots);
        let mut config = match pair {
            None => config.with_no_client_auth(),
            Some((certificate, key)) => {
                let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
                config.with_client_auth_cert(vec![certificate], key).unwrap()
            }
        };
        // As a client that prefers HTTP/2.
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let stream = self.tcp(from).await?;
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }

    /// Opens a connection whose request stays in flight until it is answered.
    pub(super) async fn ask_slowly(&self, from: u8) -> ClientStream<TcpStream> {
        let mut stream = self.connect_from(from).await.unwrap();
        let before = self.asked();
        stream.write_all(b"GET /slow HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
        until(async || self.asked() > before).await;
        stream
    }

    /// Returns the number of requests in flight.
    pub(super) fn asked(&self) -> usize {
        let table = &self.limiter.reviews;
        table.len() - table.silent()
    }
}

pub(super) async fn until(mut holds: impl AsyncFnMut() -> bool) {
    let poll = async {
        while !holds().await {
            sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(SOON, poll).await.expect("it takes too long");
}

/// Sends one request and reads one answer, whose end is known.
pub(super) async fn ask(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> String {
    stream.write_all(ASK).await.unwrap();
    answered(stream).await
}

/// Reads one answer.
pub(super) async fn answered(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut text = String::new();
    while !text.ends_with("here") {
        let mut buffer = [0; 1024];
        let read = timeout(SOON, stream.read(&mut buffer)).await.unwrap().unwrap();
        assert_ne!(read, 0, "closed after {text:?}");
        text.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
    }
    text
}

/// Returns the answer with which the server closes the connection.
pub(super) async fn last_words(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut rest = Vec::new();
    // With or without a TLS close.
    _ = timeout(SOON, stream.read_to_end(&mut rest)).await.expect("still open");
    String::from_utf8(rest).unwrap()
}

pub(super) async fn closed(stream: &mut (impl AsyncRead + Unpin)) -> bool {
    last_words(stream).await.is_empty()
}

/// Returns whether the connection is open and nothing arrives.
pub(super) async fn open(stream: &mut (impl AsyncRead + Unpin)) -> bool {
    timeout(Duration::from_millis(20), stream.read(&mut [0])).await.is_err()
}
