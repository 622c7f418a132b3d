//! What this server counts, for Prometheus. No name of a cluster is in it: it is read without a
//! token.

use std::sync::atomic::AtomicI64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    method: &'static str,
    route: String,
    code: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    result: String,
}

/// The counters.
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<Answered, Counter>,
    operations: Family<Ended, Counter>,
    running: Gauge<i64, AtomicI64>,
}

impl Metrics {
    /// Returns counters at zero.
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("pgscale_api");
        let requests = Family::<Answered, Counter>::default();
        let operations = Family::<Ended, Counter>::default();
        let running = Gauge::<i64, AtomicI64>::default();
        registry.register("requests", "Answered requests", requests.clone());
        registry.register("operations", "Ended operations by their result", operations.clone());
        registry.register("operations_running", "Operations that go on", running.clone());
        Self { registry, requests, operations, running }
    }

    /// Counts an answer. `route` is the pattern of the path: paths of strangers make no series.
    pub(crate) fn answered(&self, method: &'static str, route: &str, code: u16) {
        let labels = Answered { method, route: route.to_owned(), code };
        self.requests.get_or_create(&labels).inc();
    }

    /// Counts the beginning of an operation.
    pub(crate) fn begun(&self) {
        self.running.inc();
    }

    /// Counts the end of an operation.
    pub(crate) fn ended(&self, result: &str) {
        self.running.dec();
        self.operations.get_or_create(&Ended { result: result.to_owned() }).inc();
    }

    /// Returns the text for Prometheus.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a text does not fail.
        encode(&mut text, &self.registry).ok();
        text
    }
}
