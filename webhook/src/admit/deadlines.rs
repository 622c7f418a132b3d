//! The time that each part of a review may take.

use std::time::Duration;

use pgscale_guard::read::Moment;
use tokio::time::Instant;

use crate::duration;

/// The API server's own default, where it does not say how long it waits.
const DEFAULT_TIME: Duration = Duration::from_secs(10);

/// The time that live reads need on a busy machine, one silent member left out.
const SHORTEST: Duration = Duration::from_secs(1);

/// The ends of the parts of a review, so that the webhook answers before the API server gives up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadlines {
    /// The latest time at which the live reads may begin. From then on they would be cut off.
    pub(super) start: Instant,
    /// The arrival of the review. A read that began before it may be older than what its writer knows.
    pub(super) arrived: Moment,
    /// The end of the live reads.
    pub(super) reads: Instant,
    /// The end of the wait for a verdict.
    pub(super) verdict: Instant,
}

impl Deadlines {
    /// Reads the query of a review that has just arrived, in which the API server says how long it waits: `?timeout=5s`.
    pub(super) fn of(query: Option<&str>, started: Instant) -> Self {
        let time = query
            .into_iter()
            .flat_map(|query| query.split('&'))
            .find_map(|pair| pair.strip_prefix("timeout="))
            .and_then(|text| duration::parse(text).ok())
            .unwrap_or(DEFAULT_TIME);
        // A fifth is left for the way to the API server and back, and for a machine that is busy
        // with other work.
        let margin = (time / 5).clamp(Duration::from_millis(50), Duration::from_secs(1));
        let to_read = time.saturating_sub(margin);
        let reads = started + to_read;
        let (start, verdict) = (reads - SHORTEST.min(to_read / 2), reads + margin / 2);
        Self { arrived: Moment::now(), start, reads, verdict }
    }

    /// Returns the deadlines of reads that end within `time` from now.
    pub(super) fn within(time: Duration) -> Self {
        let start = Instant::now();
        Self { arrived: Moment::now(), start, reads: start + time, verdict: start + time }
    }

    /// Returns the time that is left for live reads.
    pub(super) fn time_to_read(self) -> Duration {
        self.reads.saturating_duration_since(Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answer_comes_before_the_api_server_stops_waiting() {
        let now = Instant::now();
        let times = |query: Option<&str>| {
            let Deadlines { start, reads, verdict, .. } = Deadlines::of(query, now);
            [start, reads, verdict].map(|time| (time - now).as_millis())
        };
        assert_eq!(times(Some("timeout=5s")), [3000, 4000, 4500]);
        assert_eq!(times(Some("a=b&timeout=1s")), [400, 800, 900]);
        assert_eq!(times(Some("timeout=30s")), [28_000, 29_000, 29_500]);
        assert_eq!(times(Some("timeout=soon")), [8000, 9000, 9500]);
        assert_eq!(times(None), [8000, 9000, 9500]);
    }
}
