//! Why a count is wanted, or stays.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;

use super::ROUNDS;
use crate::duration::human;

/// Why a count is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The cluster has not converged on the count that it asks for.
    NotConverged(String),
    /// A replica has no value.
    MetricMissing {
        /// The replica.
        member: String,
        /// Why it has none.
        why: String,
    },
    /// The value of a replica is too old, or from the future.
    MetricStale {
        /// The replica.
        member: String,
        /// The age of the value.
        age: Duration,
    },
    /// The value of a replica is no number.
    MetricNotANumber {
        /// The replica.
        member: String,
        /// The value.
        value: String,
    },
    /// A replica requests no CPU, of which a percentage could be taken.
    NoRequest(String),
    /// The load is close to the target, and asks for the present count.
    WithinTolerance,
    /// More are wanted, not yet for long enough.
    StabilisingUp {
        /// The earliest time of the step.
        until: Timestamp,
    },
    /// Fewer are wanted, not yet for long enough.
    StabilisingDown {
        /// The earliest time of the step.
        until: Timestamp,
    },
    /// More are wanted than may be.
    AtMax(i64),
    /// Fewer are wanted than may be.
    AtMin(i64),
    /// A change, or a failure, was a short while ago.
    Cooldown {
        /// The earliest time of the next step.
        until: Timestamp,
    },
    /// Another writer took the last step back.
    Undone {
        /// The other writer.
        by: String,
        /// The number of times that it did.
        round: u32,
    },
    /// Another writer took too many steps back. Nothing is done until it is started again, or what
    /// is wanted changes.
    GaveUp {
        /// The other writer.
        by: String,
    },
    /// The load asks for one more.
    StepUp,
    /// The load asks for one less.
    StepDown,
    /// The schedule asks for another count.
    Scheduled(i64),
    /// The count is outside of its bounds.
    OutOfBounds {
        /// The fewest.
        min: i64,
        /// The most.
        max: i64,
    },
    /// The schedule asks for the present count.
    OnSchedule,
}

impl Reason {
    /// Returns the word for it, for metrics and Events.
    pub fn word(&self) -> &'static str {
        match self {
            Self::NotConverged(_) => "NotConverged",
            Self::MetricMissing { .. } => "MetricMissing",
            Self::MetricStale { .. } => "MetricStale",
            Self::MetricNotANumber { .. } => "MetricNotANumber",
            Self::NoRequest(_) => "NoRequest",
            Self::WithinTolerance => "WithinTolerance",
            Self::StabilisingUp { .. } => "StabilisingUp",
            Self::StabilisingDown { .. } => "StabilisingDown",
            Self::AtMax(_) => "AtMax",
            Self::AtMin(_) => "AtMin",
            Self::Cooldown { .. } => "Cooldown",
            Self::Undone { .. } => "Undone",
            Self::GaveUp { .. } => "GaveUp",
            Self::StepUp => "StepUp",
            Self::StepDown => "StepDown",
            Self::Scheduled(_) => "Scheduled",
            Self::OutOfBounds { .. } => "OutOfBounds",
            Self::OnSchedule => "OnSchedule",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let clock = |time: &Timestamp| time.strftime("%H:%M:%SZ").to_string();
        match self {
            Self::NotConverged(lacks) => write!(out, "not converged: {lacks}"),
            Self::MetricMissing { member, why } => write!(out, "no CPU value of {member}: {why}"),
            Self::MetricStale { member, age } => {
                write!(out, "the CPU value of {member} is {} old", human(*age))
            }
            Self::MetricNotANumber { member, value } => {
                write!(out, "the CPU value of {member} is no number: {value:?}")
            }
            Self::NoRequest(member) => write!(
                out,
                "{member} requests no CPU to take a percentage of: set spec.resources.requests.cpu"
            ),
            Self::WithinTolerance => write!(out, "close enough to the target"),
            Self::StabilisingUp { until } => {
                write!(out, "more are wanted; not before {}", clock(until))
            }
            Self::StabilisingDown { until } => {
                write!(out, "fewer are wanted; not before {}", clock(until))
            }
            Self::AtMax(max) => write!(out, "more are wanted, and {max} is the most"),
            Self::AtMin(min) => write!(out, "fewer are wanted, and {min} is the fewest"),
            Self::Cooldown { until } => {
                write!(out, "at rest after the last change until {}", clock(until))
            }
            Self::Undone { by, round } => {
                write!(out, "{by} took the last step back ({round} of {ROUNDS} times)")
            }
            Self::GaveUp { by } => write!(
                out,
                "{by} takes every step back; it stops here, so let one of the two write the count"
            ),
            Self::StepUp => write!(out, "the load asks for one more"),
            Self::StepDown => write!(out, "the load asks for one less"),
            Self::Scheduled(count) => write!(out, "the schedule asks for {count}"),
            Self::OutOfBounds { min, max } => {
                write!(out, "the count is outside of {min} to {max}")
            }
            Self::OnSchedule => write!(out, "as the schedule asks"),
        }
    }
}
