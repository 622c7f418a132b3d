//! The numbers that the webhook publishes about itself.
//!
//! They are labels and counters only. [`crate::probes`] serves them, and [`crate::admit`] decides
//! what is counted.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use pgscale_guard::read::{Observe, Served};
use prometheus_client::encoding::{EncodeLabelSet, text::encode};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

mod budgets;
#[cfg(test)]
mod published;

use budgets::Budgets;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    operation: &'static str,
    verdict: &'static str,
    dry_run: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Finding {
    rule: String,
    effect: &'static str,
}

/// A change that only the mode of its policy saved from a refusal.
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

/// The operation of a request that is no readable review.
pub(crate) const UNKNOWN: &str = "unknown";
/// The verdict on a request that is no review, and was answered with an HTTP error.
pub(crate) const MALFORMED: &str = "malformed";
/// The operations that are counted.
pub(crate) const OPERATIONS: [&str; 7] =
    ["CREATE", "UPDATE", "SCALE", "STATEFULSET", "DELETE", "CONNECT", UNKNOWN];
/// The verdicts that are counted.
pub(crate) const VERDICTS: [&str; 4] = ["allowed", "denied", MALFORMED, "warned"];

/// The reasons why a change is watched no longer, that are counted.
pub(crate) const WATCH_ENDS: [&str; 5] =
    ["carried-out", "not-stored", "superseded", "time-over", "too-many"];

/// What may happen to an Event.
const EVENTS: [&str; 4] = ["written", "repeated", "dropped", "failed"];

/// The ways in which a review gets an object: by a request of its own, or by that of another review.
const READS: [&str; 2] = ["asked", "shared"];

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
    dropped: Family<Result, Counter>,
    events: Family<Result, Counter>,
    not_after: Gauge<f64, AtomicU64>,
    reloads: Family<Result, Counter>,
    look_alikes: Gauge,
    registered: Gauge,
    reviews: Gauge,
    reviews_waiting: Gauge,
    reviews_waited: Counter,
    reviews_busy: Counter,
    watches: Gauge,
    watches_ended: Family<Result, Counter>,
    leaders_condemned: Counter,
    unknown_paths: Counter,
    early: Counter,
    reads: Family<Result, Counter>,
    budgets: Budgets,
}

impl Metrics {
    /// Returns all counters at zero.
    ///
    /// They are visible at once: a missing counter looks like one that this version does not have.
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("pgscale");
        let requests = Family::<Request, Counter>::default();
        for operation in OPERATIONS {
            for verdict in VERDICTS {
                for dry_run in ["false", "true"] {
                    drop(requests.get_or_create(&Request { operation, verdict, dry_run }));
                }
            }
        }
        registry.register("admission_requests", "Answered reviews", requests.clone());
        let findings = Family::<Finding, Counter>::default();
        registry.register("admission_findings", "Findings of rules in reviews", findings.clone());
        let overrides = Counter::default();
        registry.register(
            "admission_overrides",
            "Changes that a rule refused and a ScaleOverride allowed",
            overrides.clone(),
        );
        let trials = Family::<Trial, Counter>::default();
        registry.register(
            "admission_would_deny",
            "Changes that a rule would have refused if its policy were in mode Enforce",
            trials.clone(),
        );
        // From 50 µs, the least that a review without reads takes, to 6.5 s, beyond the API
        // server's timeout.
        let duration = Histogram::new(exponential_buckets(50e-6, 2.0, 18));
        registry.register_with_unit(
            "admission_review_duration",
            "Time from the end of the request's headers to the answer",
            Unit::Seconds,
            duration.clone(),
        );
        let connections = Gauge::default();
        registry.register("connections", "Open TLS connections", connections.clone());
        let dropped = Family::<Result, Counter>::default();
        registry.register(
            "connections_dropped",
            "Connections that the webhook ended",
            dropped.clone(),
        );
        let events = Family::<Result, Counter>::default();
        for result in EVENTS {
            drop(events.get_or_create(&Result { result }));
        }
        registry.register(
            "events",
            "Events about changes that were refused, overridden or made past the operator",
            events.clone(),
        );
        let not_after = Gauge::default();
        registry.register_with_unit(
            "certificate_not_after_timestamp",
            "End of the serving certificate's validity",
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
        let look_alikes = Gauge::default();
        registry.register(
            "operator_look_alikes",
            "Deployments that look like an operator, and whose account is not listed as one",
            look_alikes.clone(),
        );
        let registered = Gauge::default();
        registry.register(
            "registration_present",
            "1 where the webhook's registration is there, 0 where it is missing or not looked at yet",
            registered.clone(),
        );
        let reviews = Gauge::default();
        registry.register(
            "reviews_in_flight",
            "Reviews that are worked on, or wait for members",
            reviews.clone(),
        );
        let reviews_waiting = Gauge::default();
        registry.register(
            "reviews_waiting",
            "Reviews that wait because too many are worked on",
            reviews_waiting.clone(),
        );
        let reviews_waited = Counter::default();
        registry.register(
            "reviews_waited",
            "Reviews that had to wait because too many were worked on",
            reviews_waited.clone(),
        );
        let reviews_busy = Counter::default();
        registry.register(
            "reviews_busy",
            "Reviews that waited in vain and were answered without a verdict",
            reviews_busy.clone(),
        );
        let watches = Gauge::default();
        registry.register(
            "watched_changes",
            "Admitted changes that are watched until the operator has carried them out",
            watches.clone(),
        );
        let watches_ended = Family::<Result, Counter>::default();
        for result in WATCH_ENDS {
            drop(watches_ended.get_or_create(&Result { result }));
        }
        registry.register(
            "watched_changes_ended",
            "Admitted changes that are watched no longer, by the reason",
            watches_ended.clone(),
        );
        let leaders_condemned = Counter::default();
        registry.register(
            "leader_condemned_after_admission",
            "Times that a watched change was about to delete the leader",
            leaders_condemned.clone(),
        );
        let unknown_paths = Counter::default();
        registry.register(
            "unknown_paths",
            "Requests that were not answered because their path is not the secret one",
            unknown_paths.clone(),
        );
        let early = Counter::default();
        registry.register(
            "admission_refused_early",
            "Changes that were refused before anything of the cluster was read",
            early.clone(),
        );
        let reads = Family::<Result, Counter>::default();
        for result in READS {
            drop(reads.get_or_create(&Result { result }));
        }
        registry.register(
            "api_server_reads",
            "Reads for reviews: by a request of their own, or by that of another review",
            reads.clone(),
        );
        let budgets = Budgets::new(&mut registry);
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
            dropped,
            events,
            not_after,
            reloads,
            look_alikes,
            registered,
            reviews,
            reviews_waiting,
            reviews_waited,
            reviews_busy,
            watches,
            watches_ended,
            leaders_condemned,
            unknown_paths,
            early,
            reads,
            budgets,
        }
    }

    /// Counts an answered request. `operation` is one of [`OPERATIONS`], `verdict` of [`VERDICTS`].
    pub(crate) fn answered(
        &self,
        operation: &'static str,
        verdict: &'static str,
        dry_run: bool,
        took: Duration,
    ) {
        let dry_run = if dry_run { "true" } else { "false" };
        self.requests.get_or_create(&Request { operation, verdict, dry_run }).inc();
        self.duration.observe(took.as_secs_f64());
    }

    /// Counts a finding of a rule by its effect on the write.
    pub(crate) fn found(&self, rule: &str, effect: &'static str) {
        self.findings.get_or_create(&Finding { rule: rule.to_owned(), effect }).inc();
    }

    /// Counts a change that passed only because of an override.
    pub(crate) fn overridden(&self) {
        self.overrides.inc();
    }

    /// Counts a change in `namespace` that a rule would have refused if its policy were not in
    /// `mode`.
    pub(crate) fn would_deny(&self, namespace: &str, rule: &str, mode: &'static str) {
        let (namespace, rule) = (namespace.to_owned(), rule.to_owned());
        self.trials.get_or_create(&Trial { namespace, rule, mode }).inc();
    }

    /// Counts an open connection until the guard is dropped.
    pub(crate) fn connection(self: &Arc<Self>) -> OpenConnection {
        self.connections.inc();
        OpenConnection(Arc::clone(self))
    }

    /// Counts a connection that the webhook ended because of `why`, a few fixed words.
    pub(crate) fn connection_dropped(&self, why: &'static str) {
        self.dropped.get_or_create(&Result { result: why }).inc();
    }

    /// Counts an Event. `result` is one of [`EVENTS`].
    pub(crate) fn event(&self, result: &'static str) {
        self.events.get_or_create(&Result { result }).inc();
    }

    /// Records the number of Deployments that look like an operator and are none.
    pub(crate) fn look_alikes(&self, count: usize) {
        self.look_alikes.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Records whether the API server has the webhook's registration.
    pub(crate) fn registered(&self, present: bool) {
        self.registered.set(i64::from(present));
    }

    /// Records the number of reviews that are in flight, and of those that wait.
    pub(crate) fn reviews(&self, in_flight: usize, waiting: usize) {
        self.reviews.set(i64::try_from(in_flight).unwrap_or(i64::MAX));
        self.reviews_waiting.set(i64::try_from(waiting).unwrap_or(i64::MAX));
    }

    /// Counts a review that has to wait.
    pub(crate) fn waited(&self) {
        self.reviews_waited.inc();
    }

    /// Counts a review that waited in vain.
    pub(crate) fn busy(&self) {
        self.reviews_busy.inc();
    }

    /// Records the number of changes that are watched.
    pub(crate) fn watches(&self, count: usize) {
        self.watches.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Counts a change that is watched no longer. `why` is one of [`WATCH_ENDS`].
    pub(crate) fn watch_ended(&self, why: &'static str) {
        self.watches_ended.get_or_create(&Result { result: why }).inc();
    }

    /// Counts a leader that a watched change is about to delete.
    pub(crate) fn leader_condemned(&self) {
        self.leaders_condemned.inc();
    }

    /// Counts a request of a caller that does not know the secret path.
    pub(crate) fn unknown_path(&self) {
        self.unknown_paths.inc();
    }

    /// Counts a change that was refused before anything of its cluster was read.
    pub(crate) fn refused_early(&self) {
        self.early.inc();
    }

    /// Returns the function that counts reads for reviews.
    pub(crate) fn reads(&self) -> Observe {
        let [asked, shared] = READS.map(|result| {
            let reads = self.reads.get_or_create(&Result { result });
            reads.clone()
        });
        Arc::new(move |served| {
            match served {
                Served::Asked => asked.inc(),
                Served::Shared => shared.inc(),
            };
        })
    }

    /// Records the end of the certificate in use.
    #[expect(
        clippy::cast_precision_loss,
        reason = "seconds are exact in a double until the year 285 million"
    )]
    pub(crate) fn certificate_ends(&self, not_after: Timestamp) {
        self.not_after.set(not_after.as_second() as f64);
    }

    /// Counts a new certificate in use, and records its end.
    pub(crate) fn certificate_reloaded(&self, not_after: Timestamp) {
        self.certificate_ends(not_after);
        self.reloads.get_or_create(&Result { result: "ok" }).inc();
    }

    /// Counts an attempt that found no usable certificate.
    pub(crate) fn certificate_reload_failed(&self) {
        self.reloads.get_or_create(&Result { result: "failed" }).inc();
    }

    /// Returns all metrics in the `OpenMetrics` text format.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail. If it did, the first part would still be worth scraping.
        let written = encode(&mut text, &self.registry);
        debug_assert!(written.is_ok(), "encoding metrics: {written:?}");
        text
    }
}

/// A guard that counts a connection as open while it lives.
#[derive(Debug)]
pub(crate) struct OpenConnection(Arc<Metrics>);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.connections.dec();
    }
}
