//! How much findings weigh, and what policies make of that.

use serde::{Deserialize, Serialize};

/// How much a finding weighs.
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
    /// The change goes on; the writer is told.
    Warn,
    /// The change is refused.
    Deny,
}

/// What becomes of a violation.
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
    /// The writer is told, the change passes.
    Warn,
    /// The change is refused.
    #[default]
    Enforce,
}

/// What a rule weighs.
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
    /// Nothing: what it finds is not told.
    Ignore,
    /// The writer is told.
    Warn,
    /// The change is refused.
    Deny,
}
