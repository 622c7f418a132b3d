//! The time of the API server, by the `Date` headers of its answers.
//!
//! Locks, overrides and calendars are judged by the time. The clock of a person's machine may be
//! wrong by hours, as in a virtual machine that slept. The clocks of the cluster agree with each
//! other.

use std::sync::atomic::{AtomicI64, Ordering};

use http::HeaderMap;
use k8s_openapi::jiff::fmt::rfc2822;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use pgscale_guard::read::machine_time;

/// The difference in milliseconds that counts. The header has whole seconds, and an answer takes
/// time.
const TOLERANCE: i64 = 2_000;

/// The milliseconds by which the API server is ahead of this machine. A process talks to one API
/// server.
static AHEAD: AtomicI64 = AtomicI64::new(0);

/// Returns the time of the API server that answered last, or this machine's before any answer.
pub(crate) fn server_time() -> Timestamp {
    let ahead = SignedDuration::from_millis(AHEAD.load(Ordering::Relaxed));
    let now = machine_time();
    now.checked_add(ahead).unwrap_or(now)
}

/// Records the time in an answer of the API server.
pub(super) fn note(headers: &HeaderMap) {
    if let Some(ahead) = ahead(headers, machine_time()) {
        AHEAD.store(ahead, Ordering::Relaxed);
    }
}

/// Returns the milliseconds by which the answer that arrived at `now` is ahead. Zero where that is
/// within the tolerance, and `None` where the answer has no time.
fn ahead(headers: &HeaderMap, now: Timestamp) -> Option<i64> {
    let date = headers.get(http::header::DATE)?.to_str().ok()?;
    let server = rfc2822::parse(date).ok()?.timestamp();
    let ahead = server.as_millisecond().saturating_sub(now.as_millisecond());
    Some(if ahead.abs() <= TOLERANCE { 0 } else { ahead })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clock_of_the_machine_is_corrected_by_the_servers() {
        let now: Timestamp = "2026-11-30T03:00:00.5Z".parse().unwrap();
        for (date, want) in [
            (Some("Mon, 30 Nov 2026 03:00:00 GMT"), Some(0)),
            (Some("Mon, 30 Nov 2026 03:00:02 GMT"), Some(0)),
            (Some("Mon, 30 Nov 2026 02:57:00 GMT"), Some(-180_500)),
            (Some("Mon, 30 Nov 2026 04:00:00 GMT"), Some(3_599_500)),
            (Some("yesterday"), None),
            (None, None),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(date) = date {
                headers.insert("date", date.parse().unwrap());
            }
            assert_eq!(ahead(&headers, now), want, "{date:?}");
        }
    }
}
