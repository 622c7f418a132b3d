//! Durations in one notation for people: `45s`, `3m5s`, `2h`, `12d`.
//!
//! A duration that was measured is rounded ([`human`], [`age`], [`measured`]). A duration that a
//! person sets is not ([`exact`]). Machines get seconds instead.

use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::friendly::{FractionalUnit, Spacing, SpanPrinter};

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
const YEAR: u64 = 365 * DAY;

/// Returns a duration in at most two units, as `kubectl get` prints AGE: `45s`, `3m5s`, `2h`.
///
/// The steps are those of `HumanDuration` (apimachinery, `pkg/util/duration/duration.go`).
pub fn human(length: Duration) -> String {
    let seconds = length.as_secs();
    if seconds < 2 * MINUTE {
        format!("{seconds}s")
    } else if seconds < 10 * MINUTE {
        units(seconds, (MINUTE, "m"), (1, "s"))
    } else if seconds < 3 * HOUR {
        format!("{}m", seconds / MINUTE)
    } else if seconds < 8 * HOUR {
        units(seconds, (HOUR, "h"), (MINUTE, "m"))
    } else if seconds < 2 * DAY {
        format!("{}h", seconds / HOUR)
    } else if seconds < 8 * DAY {
        units(seconds, (DAY, "d"), (HOUR, "h"))
    } else if seconds < 2 * YEAR {
        format!("{}d", seconds / DAY)
    } else if seconds < 8 * YEAR {
        units(seconds, (YEAR, "y"), (DAY, "d"))
    } else {
        format!("{}y", seconds / YEAR)
    }
}

/// Returns the time since `then`, in the notation of [`human`].
///
/// A time in the future is `0s`, because clocks differ.
pub fn age(then: Timestamp, now: Timestamp) -> String {
    human(Duration::try_from(now.duration_since(then)).unwrap_or_default())
}

/// Returns a measured duration: in tenths below 10 seconds (`1.6s`), and above as [`human`] prints
/// it.
///
/// An interruption of 0.4 seconds must not read like one of 1.4 seconds.
pub fn measured(length: Duration) -> String {
    let tenths = length.saturating_add(Duration::from_millis(50)).as_millis() / 100;
    if tenths < 100 {
        return format!("{}.{}s", tenths / 10, tenths % 10);
    }
    human(length.max(Duration::from_secs(10)))
}

/// Returns a duration to the millisecond: `0.25s`, `12s`, `1h30m`.
///
/// For time limits that a person sets, and for delays of a fraction of a second. Commands and
/// policies accept durations in this syntax.
pub fn exact(length: Duration) -> String {
    let millis = length.saturating_add(Duration::from_micros(500)).as_millis();
    let length = Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX));
    SpanPrinter::new()
        .spacing(Spacing::None)
        .fractional(Some(FractionalUnit::Second))
        .unsigned_duration_to_string(&length)
}

/// Returns seconds in two units, without the second one where it is zero.
fn units(seconds: u64, (large, name): (u64, &str), (small, rest): (u64, &str)) -> String {
    match seconds % large / small {
        0 => format!("{}{name}", seconds / large),
        left => format!("{}{name}{left}{rest}", seconds / large),
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn human_duration_is_that_of_kubectl() {
        // Both sides of every step of HumanDuration.
        for (seconds, want) in [
            (0, "0s"),
            (1, "1s"),
            (70, "70s"),
            (119, "119s"),
            (120, "2m"),
            (190, "3m10s"),
            (599, "9m59s"),
            (10 * 60 + 10, "10m"),
            (179 * 60, "179m"),
            (3 * HOUR, "3h"),
            (3 * HOUR + 59, "3h"),
            (8 * HOUR - 1, "7h59m"),
            (4 * HOUR + 100, "4h1m"),
            (8 * HOUR + 59 * MINUTE, "8h"),
            (47 * HOUR + 59 * MINUTE, "47h"),
            (2 * DAY, "2d"),
            (2 * DAY + 23 * HOUR, "2d23h"),
            (8 * DAY - 1, "7d23h"),
            (8 * DAY + 23 * HOUR, "8d"),
            (729 * DAY, "729d"),
            (2 * YEAR, "2y"),
            (2 * YEAR + 23 * HOUR, "2y"),
            (2 * YEAR + DAY, "2y1d"),
            (8 * YEAR - 1, "7y364d"),
            (8 * YEAR + DAY, "8y"),
        ] {
            assert_eq!(human(Duration::from_secs(seconds)), want);
        }
        assert_eq!(human(Duration::from_millis(1999)), "1s");
    }

    #[test]
    fn future_has_no_age() {
        let now: Timestamp = "2026-11-24T10:00:00Z".parse().unwrap();
        for (then, want) in [
            ("2026-11-24T09:59:18Z", "42s"),
            ("2026-11-24T09:30:00Z", "30m"),
            ("2026-11-12T10:00:00Z", "12d"),
            ("2026-11-24T10:00:01Z", "0s"),
        ] {
            assert_eq!(age(then.parse().unwrap(), now), want);
        }
    }

    #[test]
    fn interruption_is_measured_in_tenths() {
        for (millis, want) in [
            (0, "0.0s"),
            (49, "0.0s"),
            (50, "0.1s"),
            (1630, "1.6s"),
            (9949, "9.9s"),
            (9950, "10s"),
            (45_200, "45s"),
            (185_000, "3m5s"),
        ] {
            assert_eq!(measured(Duration::from_millis(millis)), want);
        }
    }

    #[test]
    fn exact_keeps_every_millisecond() {
        for (millis, want) in [
            (0, "0s"),
            (5, "0.005s"),
            (250, "0.25s"),
            (1000, "1s"),
            (2700, "2.7s"),
            (12_000, "12s"),
            (90_000, "1m30s"),
            (750_000, "12m30s"),
            (4 * 3_600_000, "4h"),
            (26 * 3_600_000, "26h"),
        ] {
            assert_eq!(exact(Duration::from_millis(millis)), want);
        }
        assert_eq!(exact(Duration::from_nanos(982_900_001)), "0.983s");
    }

    proptest! {
        /// Uses jiff's parser, as commands, policies and the webhook's flags do.
        #[test]
        fn exact_is_read_back(millis in 0..u64::from(u32::MAX)) {
            let length = Duration::from_millis(millis);
            let read: SignedDuration = exact(length).parse().unwrap();
            prop_assert_eq!(read.unsigned_abs(), length);
        }
    }
}
