//! A model of what happens around a change of the count: the operator, the StatefulSet controller,
//! Patroni, clients, one writer and mishaps. The guard's decision is the real one, on facts that
//! the model makes.
//!
//! The search looks for a change that the guard admits and that deletes the leader, loses a commit
//! or leaves no way back. `docs/reliability.md` says what is modelled and what is not.

#![expect(clippy::indexing_slicing, reason = "every array has one entry for each ordinal")]
#![allow(clippy::trivially_copy_pass_by_ref, reason = "bounds grow, and are passed as setups are")]

pub mod check;
pub mod explore;
pub mod judge;
mod kubernetes;
pub mod ledger;
pub mod limits;
mod patroni;
pub mod run;
pub mod seen;
pub mod setup;
pub mod state;
pub mod step;
pub mod walk;

pub use run::{Extent, Summary, run, run_with};

#[cfg(test)]
mod tests;
