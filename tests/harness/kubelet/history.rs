//! What happened to a pod's container so far, and what that means for its next start (pure).

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;

use super::status::Termination;

/// A kubelet's back-off between restarts: this, doubled each time, up to the limit.
const FIRST_BACK_OFF: Duration = Duration::from_secs(10);
const LONGEST_BACK_OFF: Duration = Duration::from_secs(300);

/// How long a container must have run for its earlier failures to be forgotten.
const FORGET: Duration = Duration::from_secs(600);

/// What happened to the pod's container so far.
#[derive(Debug, Default)]
pub(super) struct History {
    pub(super) restarts: i32,
    /// How often it failed in a row.
    pub(super) failures: u32,
    pub(super) last: Option<Termination>,
}

impl History {
    /// Adds an end that happened just now.
    pub(super) fn record(&mut self, exit_code: i32, started: Timestamp) {
        let finished = Timestamp::now();
        let life = finished.duration_since(started);
        let forgotten = Duration::try_from(life).is_ok_and(|life| life >= FORGET);
        self.failures = if forgotten { 0 } else { self.failures + 1 };
        self.last = Some(Termination { exit_code, started, finished });
    }
}

/// How long to wait before the next start, after so many failures in a row: the first restart is
/// immediate.
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
    fn a_long_life_makes_up_for_earlier_failures() {
        let mut history = History { failures: 5, ..History::default() };
        history.record(1, Timestamp::now());
        assert_eq!(history.failures, 6);
        history.record(1, Timestamp::from_second(0).unwrap());
        assert_eq!(history.failures, 0);
        assert_eq!(history.last.map(|last| last.exit_code), Some(1));
    }
}
