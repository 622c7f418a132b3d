//! API servers that answer every request and keep whom it came from.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

/// What a listener saw, one line for each request.
pub(crate) type Log = Arc<Mutex<Vec<String>>>;

/// A certificate and its key, PEM.
#[derive(Clone)]
pub(crate) struct Pair {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// An authority, and what it signs.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) certificate: String,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let certificate = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), certificate }
    }

    /// Signs the certificate of a server with these names.
    pub(crate) fn server(&self, names: &[&str]) -> Pair {
        self.sign(server_of(names))
    }

    /// Signs the certificate of a server whose time is over.
    pub(crate) fn expired(&self, names: &[&str]) -> Pair {
        let mut params = server_of(names);
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 1, 1);
        self.sign(params)
    }

    /// Signs the certificate of a user.
    pub(crate) fn client(&self, name: &str) -> Pair {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(params)
    }

    fn sign(&self, mut params: CertificateParams) -> Pair {
        params.is_ca = IsCa::ExplicitNoCa;
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        Pair { certificate, key: key.serialize_pem() }
    }
}

/// Makes the certificate of a server that signs itself, and is an authority, as `openssl req -x509`
/// makes it.
pub(crate) fn signed_by_itself(names: &[&str]) -> Pair {
    let key = KeyPair::generate().unwrap();
    let mut params = server_of(names);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let certificate = params.self_signed(&key).unwrap().pem();
    Pair { certificate, key: key.serialize_pem() }
}

fn server_of(names: &[&str]) -> CertificateParams {
    let names: Vec<_> = names.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name.push(DnType::CommonName, "server");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params
}

/// The names of the usual server.
pub(crate) const NAMES: [&str; 4] = ["localhost", "127.0.0.1", "0.0.0.0", "k8s-api.example.net"];

/// Returns the TLS of a server that takes client certificates of `clients`.
pub(crate) fn tls(pair: &Pair, clients: Option<&Authority>) -> Arc<ServerConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(clients) => {
            let mut store = RootCertStore::empty();
            let der = CertificateDer::from_pem_slice(clients.certificate.as_bytes()).unwrap();
            store.add(der).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(store), provider)
                .allow_unauthenticated()
                .build()
                .unwrap();
            builder.with_client_cert_verifier(verifier)
        }
    };
    let chain = vec![CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
    Arc::new(builder.with_single_cert(chain, key).unwrap())
}

/// Calls `serve` for every connection to a new port of this machine.
pub(crate) fn listen(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let serve = Arc::new(serve);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            stream.set_read_timeout(Some(Duration::from_secs(10))).ok();
            let serve = Arc::clone(&serve);
            std::thread::spawn(move || serve(stream));
        }
    });
    address
}

/// Starts an API server, with TLS where `tls` is given, that is called `name` in the log.
pub(crate) fn api_server(
    name: &'static str,
    tls: Option<Arc<ServerConfig>>,
    log: Log,
) -> SocketAddr {
    listen(move |stream| match &tls {
        None => answer(name, stream, "", &log),
        Some(tls) => {
            let connection = ServerConnection::new(Arc::clone(tls)).unwrap();
            let mut stream = StreamOwned::new(connection, stream);
            while stream.conn.is_handshaking() {
                if stream.conn.complete_io(&mut stream.sock).is_err() {
                    return;
                }
            }
            let shown = stream.conn.peer_certificates().is_some_and(|chain| !chain.is_empty());
            answer(name, stream, if shown { " certificate" } else { "" }, &log);
        }
    })
}

/// Reads the head of a request: its first line, and its headers in lower case.
pub(crate) fn head(stream: &mut impl Read) -> Option<(String, Vec<(String, String)>)> {
    let mut reader = BufReader::with_capacity(1, stream);
    let mut line = || {
        let mut line = String::new();
        let read = reader.read_line(&mut line).ok()?;
        (read > 0).then(|| line.trim_end().to_owned())
    };
    let first = line()?;
    let mut headers = Vec::new();
    loop {
        let line = line()?;
        let Some((name, value)) = line.split_once(':') else { return Some((first, headers)) };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
}

fn answer(name: &str, mut stream: impl Read + Write, certificate: &str, log: &Log) {
    let Some((first, headers)) = head(&mut stream) else { return };
    let path = first.split(' ').nth(1).unwrap_or_default();
    let path = path.split('?').next().unwrap_or_default();
    let prefix = path.split("/apis/").next().unwrap_or_default();
    let mut who: Vec<String> = headers
        .iter()
        .filter(|(name, _)| name == "authorization" || name.starts_with("impersonate-"))
        .map(|(name, value)| format!(" {name}={value}"))
        .collect();
    who.sort();
    if path.contains("/apis/") {
        log.lock().unwrap().push(format!("{name}{prefix}{certificate}{}", who.concat()));
    }
    let body =
        r#"{"apiVersion":"acid.zalan.do/v1","kind":"postgresqlList","metadata":{},"items":[]}"#;
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n";
    let answer = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
    stream.write_all(answer.as_bytes()).ok();
    stream.flush().ok();
}
