//! The meaning of facts for a change, derived with the lag that the policies allow.

mod copies;
mod health;
mod operator_switchover;
mod repair;
mod replacement;

use std::ops::Deref;

pub use replacement::Replacement;

use crate::facts::{Facts, LagLimit, Seen};
use crate::policy::Policies;

/// The facts of a change, with everything that is derived from them and from the allowed lag.
///
/// Facts hold only the values that were read. The limit of a policy stays beside them, so that
/// evidence quotes the objects as they are.
#[derive(Clone, Copy, Debug)]
pub struct Assessment<'a> {
    facts: &'a Facts,
    max_lag: Option<u64>,
}

impl<'a> Assessment<'a> {
    /// Assesses `facts` with a limit on the lag.
    ///
    /// A replica whose replay is more than `max_lag` bytes behind the leader does not count.
    /// Patroni's `maximum_lag_on_failover` decides alone where it is smaller, or where `max_lag` is
    /// `None`.
    pub fn new(facts: &'a Facts, max_lag: Option<u64>) -> Self {
        Self { facts, max_lag }
    }

    /// Assesses `facts` with the smallest lag that the enforced policies allow.
    pub fn of(facts: &'a Facts, policies: &Policies) -> Self {
        Self::new(facts, max_lag(policies))
    }

    /// Assesses other facts with the same limit on the lag.
    #[must_use]
    pub fn of_others<'b>(&self, facts: &'b Facts) -> Assessment<'b> {
        Assessment::new(facts, self.max_lag)
    }

    /// Returns the facts. They live longer than this view.
    pub fn facts(&self) -> &'a Facts {
        self.facts
    }

    /// Returns the limit that a replica exceeds whose replay is `behind` bytes behind, if it exceeds one.
    ///
    /// # Errors
    /// Patroni's own limit could not be read.
    fn exceeded_by(&self, behind: u64) -> Result<Option<LagLimit>, UnknownLag> {
        let by_patroni = match &self.facts.configuration {
            Seen::Known(configuration) => configuration.maximum_lag_on_failover,
            Seen::Absent | Seen::Unreadable(_) => return Err(UnknownLag),
        };
        if behind > by_patroni {
            return Ok(Some(LagLimit::Patroni));
        }
        Ok(self.max_lag.filter(|limit| behind > *limit).map(|_| LagLimit::Policy))
    }
}

/// Patroni's limit on the lag could not be read, so it is not known what is allowed.
#[derive(Clone, Copy, Debug)]
struct UnknownLag;

impl Deref for Assessment<'_> {
    type Target = Facts;

    fn deref(&self) -> &Facts {
        self.facts
    }
}

/// Facts, kept together with the lag that the policies allowed at the time of reading.
#[derive(Clone, Debug)]
pub struct Assessed {
    facts: Facts,
    max_lag: Option<u64>,
}

impl Assessed {
    /// Keeps `facts` with the smallest lag that the enforced policies allow.
    pub fn of(facts: Facts, policies: &Policies) -> Self {
        let max_lag = max_lag(policies);
        Self { facts, max_lag }
    }

    /// Returns the assessment of these facts.
    pub fn assessment(&self) -> Assessment<'_> {
        Assessment::new(&self.facts, self.max_lag)
    }
}

/// Keeps facts without a policy: Patroni's own limit on the lag decides alone.
impl From<Facts> for Assessed {
    fn from(facts: Facts) -> Self {
        Self { facts, max_lag: None }
    }
}

impl Deref for Assessed {
    type Target = Facts;

    fn deref(&self) -> &Facts {
        &self.facts
    }
}

/// Returns the smallest lag, in bytes, that the enforced policies allow.
fn max_lag(policies: &Policies) -> Option<u64> {
    policies.enforced_lag().map(|limit| limit.value)
}
