//! Peers with and without client certificates.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::super::*;
use super::peers::{ASK, HERE, Options, Running, SOON, running};
use crate::certs::tests::issue;

/// Returns an authority, PEM, and a function that signs a client certificate for a name.
fn authority() -> (String, impl Fn(&str) -> (String, String)) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    let pem = params.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(params, key);
    let sign = move |name: &str| {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        (params.signed_by(&key, &issuer).unwrap().pem(), key.serialize_pem())
    };
    (pem, sign)
}

/// Returns whether a peer with this certificate gets an answer.
async fn serves(server: &Running, pair: Option<&(String, String)>) -> bool {
    // In TLS 1.3 a refused client learns of it at its first read.
    let Ok(mut stream) = server.connect_as(HERE, pair).await else { return false };
    if stream.write_all(ASK).await.is_err() {
        return false;
    }
    last_or_answer(&mut stream).await.contains("here")
}

async fn last_or_answer(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut text = String::new();
    let mut buffer = [0; 1024];
    while let Ok(read @ 1..) = timeout(SOON, stream.read(&mut buffer)).await.unwrap() {
        text.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
        if text.ends_with("here") {
            break;
        }
    }
    text
}

#[tokio::test]
async fn peer_without_a_valid_client_certificate_is_never_answered() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("ca.crt");
    let ((ours, sign), (others, sign_other)) = (authority(), authority());
    std::fs::write(&file, &ours).unwrap();
    let clients = Clients::new(file.clone(), vec!["kube-apiserver".to_owned()]).unwrap();
    let options = Options { clients: Some(Arc::clone(&clients)), ..Options::default() };
    let server = running(options).await;
    let api_server = sign("kube-apiserver");
    assert!(serves(&server, Some(&api_server)).await);
    assert!(!serves(&server, None).await, "no certificate");
    assert!(!serves(&server, Some(&sign("someone-else"))).await, "another name");
    let foreign = sign_other("kube-apiserver");
    assert!(!serves(&server, Some(&foreign)).await, "another authority");
    assert!(!serves(&server, Some(&issue())).await, "its own authority");

    // Another file that cannot be used changes nothing, and the next good one is taken.
    std::fs::write(&file, "half a wr").unwrap();
    assert!(clients.reload().is_err());
    assert!(serves(&server, Some(&api_server)).await);
    std::fs::write(&file, &others).unwrap();
    assert!(clients.reload().unwrap());
    assert!(serves(&server, Some(&foreign)).await);
    assert!(!serves(&server, Some(&api_server)).await, "a former authority");
}
