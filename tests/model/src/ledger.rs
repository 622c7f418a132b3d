//! A model of the budget's ledger: the API server with its way of storing, three replicas of the
//! webhook, writers, a reconciler with old answers, and mishaps. Every transition of the ledger is
//! the guard's own (`guard/src/ledger`).
//!
//! The search looks for a sum that passes the budget, for an edit that is refused for nothing, and
//! for a reservation that stays. `docs/reliability.md` says what is modelled and what is not.

mod around;
pub mod check;
mod replica;
pub mod setup;
pub mod state;
pub mod step;
mod stored;

#[cfg(test)]
mod tests;
