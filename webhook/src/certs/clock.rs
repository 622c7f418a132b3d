//! The time by which certificates are made: the API server's, from the header `Date` of its answer.
//!
//! A replica whose own clock is wrong would sign certificates that nothing accepts yet, or no
//! longer. It also could not tell whether the one that it serves is valid. So it signs and writes
//! nothing until its clock is right, and is not ready. Where one of several API servers has the wrong
//! clock, another one that agrees with this machine decides (`Kept::time`).

use k8s_openapi::jiff::fmt::rfc2822::DateTimeParser;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

/// The most by which the clock of this machine may differ.
const SKEW: SignedDuration = SignedDuration::from_mins(2);
/// The part of a second that `Date` leaves out.
const ROUNDED: SignedDuration = SignedDuration::from_secs(1);

/// The reason why there is no time to make certificates by.
#[derive(Debug, thiserror::Error)]
pub(super) enum Clock {
    /// The API server's answer has no readable `Date`.
    #[error("the API server's answer has no readable header Date, so the clock cannot be checked")]
    Unread,
    /// The clock of this machine is wrong, or the API server's is.
    #[error(
        "the clock of this node says {own}, and the API server's says {theirs}: correct the clock"
    )]
    Wrong {
        /// The time here.
        own: Timestamp,
        /// The time there.
        theirs: Timestamp,
    },
}

/// Returns the API server's time by the header `date` of an answer that has arrived at `own`.
///
/// # Errors
/// Fails when the header is not there or no date (RFC 9110, 5.6.7), and when the two clocks differ
/// by more than two minutes.
pub(super) fn agreed(date: Option<&str>, own: Timestamp) -> Result<Timestamp, Clock> {
    let theirs = date.and_then(|date| DateTimeParser::new().parse_timestamp(date).ok());
    let theirs = theirs.ok_or(Clock::Unread)?;
    let ahead = own.duration_since(theirs);
    if ahead > SKEW + ROUNDED || ahead < -SKEW {
        return Err(Clock::Wrong { own, theirs });
    }
    Ok(theirs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_may_differ_by_two_minutes() {
        let own: Timestamp = "2026-11-30T07:38:29Z".parse().unwrap();
        for (date, fits) in [
            ("Mon, 30 Nov 2026 07:38:29 GMT", true),
            ("Mon, 30 Nov 2026 07:36:30 GMT", true),
            ("Mon, 30 Nov 2026 07:40:29 GMT", true),
            ("Mon, 30 Nov 2026 07:36:20 GMT", false),
            ("Mon, 30 Nov 2026 07:40:30 GMT", false),
            ("Wed, 30 Sep 2026 07:38:29 GMT", false),
        ] {
            let agreed = agreed(Some(date), own);
            assert_eq!(agreed.is_ok(), fits, "{date}: {agreed:?}");
        }
    }

    #[test]
    fn answer_without_a_date_is_no_time() {
        for date in [None, Some(""), Some("today"), Some("2026-11-30T07:38:29Z")] {
            assert!(matches!(agreed(date, Timestamp::now()), Err(Clock::Unread)), "{date:?}");
        }
    }
}
