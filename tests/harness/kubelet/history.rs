//! The history of a pod's container, and the delay of its next start (pure).

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;

use super::status::Termination;

/// A kubelet's back-off between restarts: the first one, doubled each time, up to the longest one.
const FIRST_BACK_OFF: Duration = Duration::from_secs(10);
const LONGEST_BACK_OFF: Duration = Duration::from_secs(300);

/// The time that a container must run until its earlier failures are forgotten.
const FORGET: Duration = Duration::from_secs(600);

/// The history of the pod's container.
#[derive(Debug, Default)]
pub(super) struct History {
    pub(super) restarts: i32,
    /// The number of consecutive failures.
    pub(super) failures: u32,
    pub(super) last: Option<Termination>,
}

impl History {
    /// Records an end that happened now.
    pub(super) fn record(&mut self, exit_code: i32, started: Timestamp) {
        let finished = Timestamp::now();
        let life = finished.duration_since(started);
        let forgotten = Duration::try_from(life).is_ok_and(|life| life >= FORGET);
        self.failures = if forgotten { 0 } else { self.failures + 1 };
        self.last = Some(Termination { exit_code, started, finished });
    }
}

/// Returns the delay before the next start, after this number of consecutive failures. The first
/// restart is immediate.
pub(super) fn back_off(failures: u32) -> Duration {
    match failures {
        0 | 1 => Duration::ZERO,
        more => {
            let factor = 2_u32.saturating_pow(more - 2);
            FIRST_BACK_OFF.saturating_mul(factor).min(LONGEST_BACK_OFF)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restarts_slow_down() {
        let pauses: Vec<_> = (0..9).map(|failures| back_off(failures).as_secs()).collect();
        assert_eq!(pauses, [0, 0, 10, 20, 40, 80, 160, 300, 300]);
    }

    #[test]
    fn earlier_failures_are_forgotten_after_a_long_run() {
        let mut history = History { failures: 5, ..History::default() };
        history.record(1, Timestamp::now());
        assert_eq!(history.failures, 6);
        history.record(1, Timestamp::from_second(0).unwrap());
        assert_eq!(history.failures, 0);
        assert_eq!(history.last.map(|last| last.exit_code), Some(1));
    }
}
