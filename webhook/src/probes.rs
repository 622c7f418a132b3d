//! The plain HTTP port: `/healthz`, `/readyz` and `/metrics`.
//!
//! It is a port of its own, so that neither a probe nor a scraper needs a certificate.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::sync::watch;

use crate::certs::Certificates;
use crate::metrics::Metrics;
use crate::server::{Limiter, Phase};

/// The facts that probes and scrapers ask for.
#[derive(Clone, Debug)]
pub(crate) struct Probes {
    /// The phase of the server's life.
    pub(crate) phase: watch::Receiver<Phase>,
    /// The serving certificate.
    pub(crate) certificates: Arc<Certificates>,
    /// The limiter of connections.
    pub(crate) limiter: Arc<Limiter>,
    /// The metrics.
    pub(crate) metrics: Arc<Metrics>,
}

impl Probes {
    /// Returns each condition of readiness with its name, and the reason where it does not hold.
    fn readiness(&self) -> [(&'static str, Result<(), String>); 3] {
        let phase = *self.phase.borrow();
        let serving = match phase {
            Phase::Serving => Ok(()),
            Phase::Draining | Phase::Stopping => Err("shutting down".to_owned()),
        };
        let places = if self.limiter.reviews.is_full() {
            Err("every connection has a request in flight".to_owned())
        } else {
            Ok(())
        };
        [("serving", serving), ("certificate", self.certificates.ready()), ("connections", places)]
    }
}

/// Returns the routes of the plain port.
pub(crate) fn router(probes: Probes) -> Router {
    Router::new()
        // Any answer proves liveness: the runtime that answers reviews is running.
        .route("/healthz", get(async || "ok"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(probes)
}

async fn readyz(State(probes): State<Probes>) -> impl IntoResponse {
    let mut text = String::new();
    let mut status = StatusCode::OK;
    for (name, condition) in probes.readiness() {
        let written = match condition {
            Ok(()) => writeln!(text, "[+]{name} ok"),
            Err(why) => {
                status = StatusCode::SERVICE_UNAVAILABLE;
                writeln!(text, "[-]{name} failed: {why}")
            }
        };
        debug_assert!(written.is_ok(), "writing to a String");
    }
    (status, text)
}

async fn metrics(State(probes): State<Probes>) -> impl IntoResponse {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], probes.metrics.text())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use tempfile::TempDir;
    use tower::ServiceExt as _;

    use super::*;
    use crate::certs::tests::{issue, load, write};

    async fn get(router: &Router, path: &str) -> (u16, String) {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = router.clone().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    fn probes() -> (watch::Sender<Phase>, Probes) {
        let directory = TempDir::new().unwrap();
        let certificates = load(&write(directory.path(), &issue()));
        let (sender, phase) = watch::channel(Phase::Serving);
        let (limiter, metrics) = (Limiter::new(1), Arc::new(Metrics::new()));
        (sender, Probes { phase, certificates, limiter, metrics })
    }

    #[tokio::test]
    async fn counters_are_at_zero_before_the_first_review() {
        let (_phase, probes) = probes();
        let router = router(probes.clone());
        let name = "pgscale_admission_requests_total{operation=\"UPDATE\",verdict=\"denied\",dry_run=\"false\"}";
        let (status, text) = get(&router, "/metrics").await;
        assert_eq!(status, 200);
        assert!(text.contains(&format!("{name} 0\n")), "{text}");

        probes.metrics.answered("UPDATE", "denied", false, Duration::from_micros(60));
        probes.metrics.found("above-max", "deny");
        probes.metrics.would_deny("db", "below-min", "Warn");
        let (_, text) = get(&router, "/metrics").await;
        for line in [
            &format!("{name} 1"),
            "pgscale_admission_findings_total{rule=\"above-max\",effect=\"deny\"} 1",
            "pgscale_admission_would_deny_total{namespace=\"db\",rule=\"below-min\",mode=\"Warn\"} 1",
            "pgscale_admission_review_duration_seconds_bucket{le=\"0.0001\"} 1",
            "pgscale_connections 0",
        ] {
            assert!(text.contains(&format!("{line}\n")), "{line} is not in {text}");
        }
    }

    #[tokio::test]
    async fn readiness_ends_when_the_server_drains_and_liveness_does_not() {
        let (phase, probes) = probes();
        let router = router(probes);
        assert_eq!(
            get(&router, "/readyz").await,
            (200, "[+]serving ok\n[+]certificate ok\n[+]connections ok\n".into())
        );
        phase.send_replace(Phase::Draining);
        let (status, text) = get(&router, "/readyz").await;
        assert_eq!(status, 503);
        assert!(text.starts_with("[-]serving failed: shutting down\n"), "{text}");
        assert_eq!(get(&router, "/healthz").await, (200, "ok".into()));
    }
}
