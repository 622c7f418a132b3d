//! TLS, and what the command line allows.

use std::path::PathBuf;

use pgscale_guard::remedy::Line;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;

use super::super::operations::Operations;
use super::*;
use crate::cli::{Cli, Verb};
use crate::connect::Flags;
use crate::error::Kind;
use crate::session::Interruption;

/// Writes a certificate for localhost and its key, and returns both files and the certificate.
fn files(directory: &std::path::Path) -> (PathBuf, PathBuf, rcgen::Certificate) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate, key) = (directory.join("tls.crt"), directory.join("tls.key"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    (certificate, key, made.cert)
}

#[tokio::test(flavor = "multi_thread")]
async fn port_with_a_certificate_speaks_tls_alone() {
    rustls::crypto::ring::default_provider().install_default().ok();
    let directory = tempfile::tempdir().unwrap();
    let (certificate, key, authority) = files(directory.path());
    let out = Arc::new(Screen::default().output(None));
    let tls = Tls::of(certificate, key, out).unwrap();
    let (world, limits) = (World::new(3, 0), Limits::default());
    let server = Server::served(&world, |_| {}, limits, Some(Arc::new(tls))).await;

    let mut roots = RootCertStore::empty();
    roots.add(authority.der().clone()).unwrap();
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let stream = TcpStream::connect(server.address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
    let line = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(line).await.unwrap();
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap().ok();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("ok\n"), "{answer}");
    // Without TLS there is no answer.
    assert_eq!(server.get("/healthz").await.status, 0);
}

#[test]
fn files_that_are_no_certificate_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let (certificate, key, _) = files(directory.path());
    let empty = directory.path().join("empty");
    std::fs::write(&empty, "").unwrap();
    let missing = directory.path().join("missing");
    for (certificate, key, part) in [
        (missing.clone(), key.clone(), "--tls-cert-file="),
        (certificate.clone(), missing, "--tls-private-key-file="),
        (certificate.clone(), empty.clone(), "--tls-private-key-file="),
        (empty, key, "tls.key"),
    ] {
        let out = Arc::new(Screen::default().output(None));
        let failure = Tls::of(certificate, key, out).map(|_| ()).unwrap_err();
        assert!(failure.to_string().contains(part), "{failure}");
    }
}

#[tokio::test]
async fn address_that_others_reach_needs_tokens_and_tls() {
    for line in [
        "serve --address=0.0.0.0",
        "serve --address=0.0.0.0 --pass-token",
        "serve --address=10.0.0.7 --tls-cert-file=a --tls-private-key-file=b",
        "serve --address=:: --pass-token",
    ] {
        let cli = Cli::of(format!("kubectl-pgscale {line}").split_whitespace()).unwrap();
        let out = Arc::new(Screen::default().output(None));
        let Verb::Serve(args) = cli.verb else { unreachable!("{line}") };
        let (flags, interruption) = (Flags::default(), Interruption::default());
        let served = super::super::run(args, flags, None, &out, interruption);
        let failure = served.await.unwrap_err();
        assert_eq!(failure.kind.code(), 2, "{line}: {failure}");
        assert!(failure.to_string().contains("--pass-token"), "{failure}");
    }
}

#[test]
fn server_that_ends_too_early_says_what_it_leaves_and_how_to_look() {
    let operations = Operations::default();
    for (name, chance) in [("acid-a", 1), ("acid-b", 2)] {
        let about = About { namespace: "db", name, from: 3, to: 5 };
        operations.begin(&about, server_time, chance).unwrap();
    }
    let running: Vec<_> = operations.running().iter().map(|act| act.operation()).collect();
    let failure = super::super::left(Kind::Interrupted, &running);
    assert_eq!(failure.kind.code(), 130);
    let hints = failure.hint_lines("hint:").into_iter();
    let hints = hints.map(|(Line::Text(line) | Line::Command(line))| line);
    insta::assert_snapshot!([failure.text()].into_iter().chain(hints).collect::<Vec<_>>().join("\n"), @"
    db/acid-b, db/acid-a: left in the middle of a change, and what was written stays
    hint: see where db/acid-b is:
        kubectl pgscale status acid-b --why -n db
    hint: see where db/acid-a is:
        kubectl pgscale status acid-a --why -n db
    ");
}
