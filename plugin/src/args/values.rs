//! Counts and durations as a command line spells them.

use std::time::Duration;

use k8s_openapi::jiff::SignedDuration;

/// Reads a number of instances: a value that the field `numberOfInstances` (int32) can hold and
/// that means something.
pub(crate) fn count(word: &str) -> Result<i64, String> {
    const MOST: i64 = i32::MAX as i64;
    let (negative, digits) = match word.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, word.strip_prefix('+').unwrap_or(word)),
    };
    if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return Err("it is not a whole number of instances".to_owned());
    }
    if negative {
        return Err("it is negative; 0 is the fewest instances there can be".to_owned());
    }
    digits.parse().ok().filter(|number| *number <= MOST).ok_or_else(|| {
        format!("it is above {MOST}, the most the field numberOfInstances (int32) can hold")
    })
}

/// Reads a number of instances to add or remove: at least one.
pub(crate) fn step(word: &str) -> Result<i64, String> {
    match count(word)? {
        0 => Err("it is 0: nothing would change".to_owned()),
        step => Ok(step),
    }
}

/// A week, which kubectl takes a negative `--timeout` to mean.
const WEEK: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Reads `--timeout`: a duration, kubectl's way.
pub(crate) fn timeout(word: &str) -> Result<Duration, String> {
    let duration = duration(word)?;
    Ok(if duration.is_negative() { WEEK } else { duration.unsigned_abs() })
}

/// Reads a length of time that ends in the future.
pub(crate) fn positive(word: &str) -> Result<Duration, String> {
    let duration = duration(word)?;
    if duration.is_positive() {
        Ok(duration.unsigned_abs())
    } else {
        Err("it is over at once".to_owned())
    }
}

/// Reads a length of time, of either sign.
pub(super) fn duration(word: &str) -> Result<SignedDuration, String> {
    if word == "0" {
        return Ok(SignedDuration::ZERO);
    }
    word.parse().map_err(|_| "it is not a duration such as 5s, 2m, 1h30m".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_mean_the_same_as_in_kubectl() {
        for (word, seconds) in [
            ("5s", 5),
            ("2m", 120),
            ("3h", 10_800),
            ("1h30m", 5400),
            ("0", 0),
            ("-1s", WEEK.as_secs()),
        ] {
            assert_eq!(timeout(word), Ok(Duration::from_secs(seconds)), "{word}");
        }
        assert!(timeout("5").is_err());
    }
}
