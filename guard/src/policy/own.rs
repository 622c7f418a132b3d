//! The limits of one policy, on their way into those of all.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::{Limit, Mode, Weight};
use crate::object_ref::ObjectRef;
use crate::quantity::Amount;
use crate::rule_id::RuleId;

/// The policy whose limits are being added. Its own limits take the weights of its own `rules` from
/// the start. No other policy's limit is touched by them.
pub(super) struct Own<'a> {
    pub(super) source: &'a ObjectRef,
    pub(super) mode: Mode,
    pub(super) weights: &'a BTreeMap<String, Weight>,
}

impl Own<'_> {
    pub(super) fn opinion<T>(&self, value: Option<T>) -> Option<Limit<T>> {
        Some(Limit { value: value?, source: self.source.clone(), mode: self.mode })
    }

    /// Returns a limit that neither the mode nor the rules of the policy weaken.
    pub(super) fn held<T>(&self, value: Option<T>) -> Option<Limit<T>> {
        Some(Limit { mode: Mode::Enforce, ..self.opinion(value)? })
    }

    /// Returns a limit by which `rule` judges.
    pub(super) fn limit<T>(&self, rule: RuleId, value: Option<T>) -> Option<Limit<T>> {
        let mode = match self.weights.get(rule.as_str()) {
            Some(Weight::Ignore) => return None,
            Some(Weight::Warn) => self.mode.min(Mode::Warn),
            Some(Weight::Deny) | None => self.mode,
        };
        Some(Limit { mode, ..self.opinion(value)? })
    }
}

/// Returns a number of bytes, such as 16Mi.
///
/// # Errors
/// It is none.
pub(super) fn bytes(text: &str) -> Result<u64, String> {
    Amount::of(&Quantity(text.to_owned()))
        .filter(|amount| *amount >= Amount::default())
        .map(Amount::units)
        .ok_or_else(|| format!("survivors.maxLag: {text:?} is no number of bytes such as 16Mi"))
}

/// Returns an age, such as 26h.
///
/// # Errors
/// It is none.
pub(super) fn age(text: &str) -> Result<SignedDuration, String> {
    text.parse()
        .ok()
        .filter(|age| *age > SignedDuration::ZERO)
        .ok_or_else(|| format!("backup.maxAge: {text:?} is no duration such as 26h"))
}
