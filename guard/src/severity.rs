//! The weight of findings, and the effect of policies on it.

use serde::{Deserialize, Serialize};

/// The weight of a finding.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
pub enum Severity {
    /// The change passes, with a warning for the writer.
    Warn,
    /// The change is refused.
    Deny,
}

/// The effect of a violation.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
pub enum Mode {
    /// It is only recorded.
    Audit,
    /// The change passes, with a warning for the writer.
    Warn,
    /// The change is refused.
    #[default]
    Enforce,
}

/// The weight of a rule.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
pub enum Weight {
    /// Nothing: its findings are not shown.
    Ignore,
    /// The writer reads a warning.
    Warn,
    /// The change is refused.
    Deny,
}
