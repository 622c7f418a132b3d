//! Values as texts and addresses.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use pgscale_guard::remedy;

use super::model::{Command, Health, Metadata};

/// What may be part of a path as it is.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Returns `text` as one segment of a path.
pub(super) fn segment(text: &str) -> String {
    match text {
        // These would be steps in the path.
        "." | ".." => text.replace('.', "%2E"),
        _ => utf8_percent_encode(text, SEGMENT).to_string(),
    }
}

/// Returns the address of a cluster's page.
pub(super) fn cluster(cluster: &Metadata) -> String {
    format!("/cluster/{}/{}", segment(&cluster.namespace), segment(&cluster.name))
}

/// Returns an amount of bytes as people read it.
pub(super) fn bytes(amount: u64) -> String {
    let mut whole = amount;
    let mut rest = 0;
    let mut unit = "B";
    for larger in ["KiB", "MiB", "GiB", "TiB", "PiB"] {
        if whole < 1024 {
            break;
        }
        rest = whole % 1024;
        whole /= 1024;
        unit = larger;
    }
    match rest * 10 / 1024 {
        0 => format!("{whole} {unit}"),
        tenths => format!("{whole}.{tenths} {unit}"),
    }
}

/// Returns the lag, or that it is not known.
pub(super) fn lag(amount: Option<u64>) -> String {
    amount.map_or_else(|| "not known".to_owned(), bytes)
}

/// Returns a count, or that it is not known.
pub(super) fn count(count: Option<impl ToString>) -> String {
    count.map_or_else(|| "?".to_owned(), |count| count.to_string())
}

/// Returns the time of day of an RFC 3339 time, or the whole text where it is none.
pub(super) fn clock(time: &str) -> String {
    time.parse::<k8s_openapi::jiff::Timestamp>()
        .map_or_else(|_| time.to_owned(), |time| time.strftime("%H:%M:%S UTC").to_string())
}

/// Returns the word of a health and the class that colours it.
pub(super) fn health(health: Health) -> (&'static str, &'static str) {
    match health {
        Health::Down => ("Down", "bad"),
        Health::Degraded => ("Degraded", "warn"),
        Health::Unknown => ("Unknown", "unknown"),
        Health::Stopped => ("Stopped", "unknown"),
        Health::Healthy => ("Healthy", "good"),
    }
}

/// Returns a command as it can be pasted.
pub(super) fn command(command: &Command) -> String {
    let first = remedy::Command::program(&command.argv);
    let all = command.piped_into.iter().fold(first, remedy::Command::piped_into);
    all.to_string()
}
