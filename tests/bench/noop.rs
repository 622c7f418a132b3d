//! A webhook that allows everything: what a review costs without any judgement.
//!
//! It is a process of its own with the TLS and HTTP libraries of the real one. It decodes the uid
//! of a review and nothing else.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context as _, Result};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{Response, StatusCode};
use pgscale_tests::reviewer::{self, Answer, reviewed};
use serde::Deserialize;
use serde_json::json;
use tokio::net::TcpListener;

/// The file with its certificate, in its directory.
pub(crate) const CERTIFICATE: &str = "noop.crt";
/// The file with its key.
pub(crate) const KEY: &str = "noop.key";

/// The part of a review that an answer needs.
#[derive(Deserialize)]
struct Review {
    request: Asked,
}

#[derive(Deserialize)]
struct Asked {
    uid: String,
}

/// Answers reviews on `address` until the process is killed, with the certificate in `directory`.
///
/// # Errors
/// Fails when it cannot listen.
pub(crate) async fn serve(address: SocketAddr, directory: &Path) -> Result<()> {
    let tls = reviewer::acceptor(&directory.join(CERTIFICATE), &directory.join(KEY))?;
    let listener = TcpListener::bind(address).await.context("failed to listen")?;
    reviewer::serve(listener, tls, |body| std::future::ready(answer(body))).await
}

fn answer(body: hyper::Result<Bytes>) -> Answer {
    let body = match body {
        Ok(body) => body,
        Err(error) => return refusal(&error.to_string()),
    };
    match serde_json::from_slice::<Review>(&body) {
        Ok(Review { request: Asked { uid } }) => reviewed(&json!({
            "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "response": {"uid": uid, "allowed": true},
        })),
        Err(error) => refusal(&error.to_string()),
    }
}

fn refusal(why: &str) -> Answer {
    let mut response = Response::new(Full::new(Bytes::from(why.to_owned())));
    *response.status_mut() = StatusCode::BAD_REQUEST;
    response
}
