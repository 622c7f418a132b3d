//! Lengths of time as Go writes them: in flags, and in the query of a review.

use std::time::Duration;

use k8s_openapi::jiff::SignedDuration;

/// Reads a length of time: `10s`, `500ms`, `1m30s`.
///
/// # Errors
/// Fails when `text` is no length of time, or is below zero.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    text.parse::<SignedDuration>()
        .ok()
        .and_then(|duration| Duration::try_from(duration).ok())
        .ok_or_else(|| format!("{text:?} is not a length of time such as 10s or 500ms"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_of_time_is_read_as_go_writes_it() {
        for (text, want) in [
            ("5s", Some(5000)),
            ("1m0s", Some(60_000)),
            ("1.5s", Some(1500)),
            ("500ms", Some(500)),
            ("-5s", None),
            ("5", None),
            ("", None),
        ] {
            let want = want.map(Duration::from_millis);
            assert_eq!(parse(text).ok(), want, "{text}");
        }
    }
}
