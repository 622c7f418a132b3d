//! What the webhook tells about itself: `/metrics`, `/healthz` and `/readyz`, over plain HTTP on a port of
//! their own, so that neither a probe nor a scraper needs a certificate.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use k8s_openapi::jiff::Timestamp;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, text::encode};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use tokio::sync::watch;

use crate::certs::Certificates;
use crate::server::Phase;

/// How a review ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "label values are written as they are spelled here")]
pub(crate) enum Outcome {
    /// The write passes.
    allowed,
    /// It is refused.
    denied,
    /// The request was no review at all, and was answered with an HTTP error.
    malformed,
    /// It passes, and the writer reads warnings.
    warned,
}

/// What a finding did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "label values are written as they are spelled here")]
pub(crate) enum Effect {
    /// It was only recorded.
    audit,
    /// It refused the write.
    deny,
    /// It would have refused the write, and a `ScaleOverride` allowed it.
    overridden,
    /// It warned the writer.
    warn,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    operation: &'static str,
    verdict: Outcome,
    dry_run: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Finding {
    rule: String,
    effect: Effect,
}

/// A refusal that a policy on trial did not make.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Trial {
    namespace: String,
    rule: String,
    mode: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Result {
    result: &'static str,
}

/// The operations that are counted; what is not one of them is `unknown`.
pub(crate) const OPERATIONS: [&str; 7] =
    ["CREATE", "UPDATE", "SCALE", "STATEFULSET", "DELETE", "CONNECT", "unknown"];

/// Everything that is counted and measured.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<Request, Counter>,
    findings: Family<Finding, Counter>,
    overrides: Counter,
    trials: Family<Trial, Counter>,
    duration: Histogram,
    connections: Gauge,
    refused: Family<Result, Counter>,
    events: Family<Result, Counter>,
    not_after: Gauge<f64, AtomicU64>,
    reloads: Family<Result, Counter>,
}

impl Metrics {
    /// All at zero, and all visible: a counter that is missing cannot be told from one that was never
    /// asked for.
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("pgscale");
        let requests = Family::<Request, Counter>::default();
        for operation in OPERATIONS {
            for verdict in [Outcome::allowed, Outcome::denied, Outcome::malformed, Outcome::warned]
            {
                for dry_run in ["false", "true"] {
                    drop(requests.get_or_create(&Request { operation, verdict, dry_run }));
                }
            }
        }
        registry.register("admission_requests", "Reviews answered", requests.clone());
        let findings = Family::<Finding, Counter>::default();
        registry.register(
            "admission_findings",
            "What the rules found in reviews",
            findings.clone(),
        );
        let overrides = Counter::default();
        registry.register(
            "admission_overrides",
            "Changes that rules refused and a ScaleOverride let through",
            overrides.clone(),
        );
        let trials = Family::<Trial, Counter>::default();
        registry.register(
            "admission_would_deny",
            "Changes that a rule would have refused, were its policy not in mode Warn or Audit",
            trials.clone(),
        );
        // From 50 µs, the floor of a review that reads nothing, to 6.5 s, beyond the API server's timeout.
        let duration = Histogram::new(exponential_buckets(50e-6, 2.0, 18));
        registry.register_with_unit(
            "admission_review_duration",
            "From the end of the request's headers to the answer",
            Unit::Seconds,
            duration.clone(),
        );
        let connections = Gauge::default();
        registry.register("connections", "Open TLS connections", connections.clone());
        let refused = Family::<Result, Counter>::default();
        registry.register("connections_dropped", "Connections ended by us", refused.clone());
        let events = Family::<Result, Counter>::default();
        registry.register(
            "events",
            "Events about changes that were refused, overridden or made past the operator",
            events.clone(),
        );
        let not_after = Gauge::default();
        registry.register_with_unit(
            "certificate_not_after_timestamp",
            "When the serving certificate ends",
            Unit::Seconds,
            not_after.clone(),
        );
        let reloads = Family::<Result, Counter>::default();
        for result in ["ok", "failed"] {
            drop(reloads.get_or_create(&Result { result }));
        }
        registry.register(
            "certificate_reloads",
            "Reloads of the serving certificate",
            reloads.clone(),
        );
        registry.register(
            "build",
            "The running version",
            Info::new([("version", env!("CARGO_PKG_VERSION"))]),
        );
        Self {
            registry,
            requests,
            findings,
            overrides,
            trials,
            duration,
            connections,
            refused,
            events,
            not_after,
            reloads,
        }
    }

    /// One request was answered. `operation` is one of [`OPERATIONS`].
    pub(crate) fn answered(
        &self,
        operation: &'static str,
        verdict: Outcome,
        dry_run: bool,
        took: Duration,
    ) {
        let dry_run = if dry_run { "true" } else { "false" };
        self.requests.get_or_create(&Request { operation, verdict, dry_run }).inc();
        self.duration.observe(took.as_secs_f64());
    }

    /// A rule found something.
    pub(crate) fn found(&self, rule: &str, effect: Effect) {
        self.findings.get_or_create(&Finding { rule: rule.to_owned(), effect }).inc();
    }

    /// A change passed that would have been refused but for an override.
    pub(crate) fn overridden(&self) {
        self.overrides.inc();
    }

    /// A rule would have refused a change in `namespace`, but its policy is in `mode`.
    pub(crate) fn would_deny(&self, namespace: &str, rule: &str, mode: &'static str) {
        let (namespace, rule) = (namespace.to_owned(), rule.to_owned());
        self.trials.get_or_create(&Trial { namespace, rule, mode }).inc();
    }

    /// A connection is open until the guard is dropped.
    pub(crate) fn connection(self: &Arc<Self>) -> OpenConnection {
        self.connections.inc();
        OpenConnection(Arc::clone(self))
    }

    /// A connection was ended because of `why`: a few fixed words.
    pub(crate) fn connection_dropped(&self, why: &'static str) {
        self.refused.get_or_create(&Result { result: why }).inc();
    }

    /// An Event was written, dropped or refused: a few fixed words.
    pub(crate) fn event(&self, result: &'static str) {
        self.events.get_or_create(&Result { result }).inc();
    }

    /// The certificate in use ends at `not_after`.
    #[expect(
        clippy::cast_precision_loss,
        reason = "seconds are exact in a double until the year 285 million"
    )]
    pub(crate) fn certificate_ends(&self, not_after: Timestamp) {
        self.not_after.set(not_after.as_second() as f64);
    }

    /// A new certificate is in use.
    pub(crate) fn certificate_reloaded(&self, not_after: Timestamp) {
        self.certificate_ends(not_after);
        self.reloads.get_or_create(&Result { result: "ok" }).inc();
    }

    /// The files do not hold a usable pair.
    pub(crate) fn certificate_reload_failed(&self) {
        self.reloads.get_or_create(&Result { result: "failed" }).inc();
    }

    /// All of it in the `OpenMetrics` text format.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail; what was written so far is still worth scraping.
        let written = encode(&mut text, &self.registry);
        debug_assert!(written.is_ok(), "encoding metrics: {written:?}");
        text
    }
}

/// Counts a connection as open while it lives.
#[derive(Debug)]
pub(crate) struct OpenConnection(Arc<Metrics>);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.connections.dec();
    }
}

/// What the probes look at.
#[derive(Clone, Debug)]
pub(crate) struct Vitals {
    /// Where the server is in its life.
    pub(crate) phase: watch::Receiver<Phase>,
    /// The serving certificate.
    pub(crate) certificates: Arc<Certificates>,
    /// The numbers.
    pub(crate) metrics: Arc<Metrics>,
}

impl Vitals {
    /// Each condition of readiness with its name: fine, or why not.
    fn readiness(&self) -> [(&'static str, std::result::Result<(), String>); 2] {
        let phase = *self.phase.borrow();
        let serving = match phase {
            Phase::Serving => Ok(()),
            Phase::Leaving | Phase::Stopping => Err("shutting down".to_owned()),
        };
        let ends = self.certificates.not_after();
        let valid = if ends > Timestamp::now() { Ok(()) } else { Err(format!("ended at {ends}")) };
        [("serving", serving), ("certificate", valid)]
    }
}

/// The routes of the plain port.
pub(crate) fn router(vitals: Vitals) -> Router {
    Router::new()
        // Answering at all proves what liveness is about: the runtime that answers reviews turns.
        .route("/healthz", get(async || "ok"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(vitals)
}

async fn readyz(State(vitals): State<Vitals>) -> impl IntoResponse {
    let mut text = String::new();
    let mut status = StatusCode::OK;
    for (name, condition) in vitals.readiness() {
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

async fn metrics(State(vitals): State<Vitals>) -> impl IntoResponse {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], vitals.metrics.text())
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use tempfile::TempDir;
    use tower::ServiceExt as _;

    use super::*;
    use crate::certs::tests::{issue, lay_down, load};

    async fn get(router: &Router, path: &str) -> (u16, String) {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = router.clone().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    fn vitals() -> (watch::Sender<Phase>, Vitals) {
        let directory = TempDir::new().unwrap();
        let certificates = load(&lay_down(directory.path(), &issue()));
        let (sender, phase) = watch::channel(Phase::Serving);
        (sender, Vitals { phase, certificates, metrics: Arc::new(Metrics::new()) })
    }

    #[tokio::test]
    async fn counters_are_there_before_anything_happened() {
        let (_phase, vitals) = vitals();
        let router = router(vitals.clone());
        let name = "pgscale_admission_requests_total{operation=\"UPDATE\",verdict=\"denied\",dry_run=\"false\"}";
        let (status, text) = get(&router, "/metrics").await;
        assert_eq!(status, 200);
        assert!(text.contains(&format!("{name} 0\n")), "{text}");

        vitals.metrics.answered("UPDATE", Outcome::denied, false, Duration::from_micros(60));
        vitals.metrics.found("above-max", Effect::deny);
        vitals.metrics.would_deny("db", "below-min", "Warn");
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
    async fn readiness_ends_with_the_first_sign_of_leaving_and_liveness_does_not() {
        let (phase, vitals) = vitals();
        let router = router(vitals);
        assert_eq!(
            get(&router, "/readyz").await,
            (200, "[+]serving ok\n[+]certificate ok\n".into())
        );
        phase.send_replace(Phase::Leaving);
        let (status, text) = get(&router, "/readyz").await;
        assert_eq!(status, 503);
        assert!(text.starts_with("[-]serving failed: shutting down\n"), "{text}");
        assert_eq!(get(&router, "/healthz").await, (200, "ok".into()));
    }
}
