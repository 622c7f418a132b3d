//! Which servers are trusted.

use crate::row::{Stage, base64, kubeconfig};
use crate::server::{Authority, Log, NAMES, Pair, api_server, signed_by_itself, tls};

/// Starts another API server that shows this certificate, and returns its port.
fn server(stage: &Stage, pair: &Pair) -> u16 {
    api_server("server", Some(tls(pair, None)), Log::clone(&stage.log)).port()
}

fn trusting(port: u16, certificate: &str) -> String {
    let data = base64(certificate);
    kubeconfig(
        &format!("server: 'https://127.0.0.1:{port}', certificate-authority-data: {data}"),
        "token: t",
    )
}

#[test]
fn own_certificate_of_a_server_is_trusted_as_by_kubectl() {
    let stage = Stage::new();
    let unknown = Authority::new("unknown");
    let leaf = unknown.server(&NAMES);
    let itself = signed_by_itself(&NAMES);
    let expired = unknown.expired(&NAMES);
    let elsewhere = unknown.server(&["elsewhere.example.net"]);
    let alone = signed_by_itself(&["elsewhere.example.net"]);
    for (row, works, pair) in [
        ("signed by an unknown authority", true, &leaf),
        ("signed by itself", true, &itself),
        ("expired", false, &expired),
        ("of another name", false, &elsewhere),
        ("signed by itself, of another name", false, &alone),
    ] {
        let port = server(&stage, pair);
        stage.with(row, works, &trusting(port, &pair.certificate));
        let beside = format!("{}{}", stage.authority.certificate, pair.certificate);
        stage.with(&format!("{row}, beside an authority"), works, &trusting(port, &beside));
        let stranger = trusting(port, &stage.authority.certificate);
        stage.with(&format!("{row}, not trusted"), false, &stranger);
    }
    let port = server(&stage, &elsewhere);
    let text = trusting(port, &elsewhere.certificate);
    stage.flags("its name by flag", true, &text, &["--tls-server-name=elsewhere.example.net"]);
    let other = unknown.server(&NAMES);
    stage.with("another one of the authority", false, &trusting(port, &other.certificate));
}

#[test]
fn authorities_are_taken_from_where_kubectl_takes_them() {
    let stage = Stage::new();
    let port = stage.server.port();
    let good = base64(&stage.authority.certificate);
    let bad = base64(&Authority::new("unknown").certificate);
    stage.file("ca.pem", &stage.authority.certificate);
    stage.file("bad.pem", &Authority::new("unknown").certificate);
    let host = format!("server: 'https://127.0.0.1:{port}'");
    let text = |words: &str| kubeconfig(&format!("{host}, {words}"), "token: t");
    for (row, works, words) in [
        ("data", true, format!("certificate-authority-data: {good}")),
        ("file", true, "certificate-authority: ca.pem".into()),
        ("missing file", false, "certificate-authority: gone.pem".into()),
        (
            "both",
            false,
            format!("certificate-authority: ca.pem, certificate-authority-data: {good}"),
        ),
        ("none", false, "disable-compression: true".into()),
        ("empty data", false, "certificate-authority-data: ''".into()),
        ("not checked", true, "insecure-skip-tls-verify: true".into()),
        (
            "not checked, and an authority",
            false,
            format!("insecure-skip-tls-verify: true, certificate-authority-data: {good}"),
        ),
        ("an empty name", true, format!("tls-server-name: '', certificate-authority-data: {good}")),
        (
            "a right name",
            true,
            format!("tls-server-name: k8s-api.example.net, certificate-authority-data: {good}"),
        ),
        (
            "a wrong name",
            false,
            format!("tls-server-name: elsewhere.example.net, certificate-authority-data: {good}"),
        ),
    ] {
        stage.with(row, works, &text(&words));
    }
    let unsure = text(&format!("certificate-authority-data: {bad}"));
    let named = text(&format!(
        "tls-server-name: elsewhere.example.net, certificate-authority-data: {good}"
    ));
    let address = format!("--server=https://127.0.0.1:{port}");
    for (row, works, text, flags) in [
        ("wrong authority", false, &unsure, &[][..]),
        ("flag wins over it", true, &unsure, &["--certificate-authority=ca.pem"]),
        ("no check by flag", true, &unsure, &["--insecure-skip-tls-verify"]),
        (
            "flag brings the check back",
            false,
            &text("insecure-skip-tls-verify: true"),
            &["--certificate-authority=bad.pem"],
        ),
        ("name by flag", true, &named, &["--tls-server-name=localhost"]),
        ("server by flag clears the name", true, &named, &[&address]),
    ] {
        stage.flags(row, works, text, flags);
    }
}
