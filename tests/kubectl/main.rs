//! The same inputs through kubectl and through us: whom they ask, as which user, and whether they
//! succeed.
//!
//! The API servers and the proxies are real listeners in this process. 0.0.0.0 is an address of
//! this machine that Go does not take for this machine, so the proxies of the environment apply.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails at the place where its stage is wrong"
)]

mod files;
mod hang_up;
mod proxies;
mod proxy;
mod row;
mod server;
mod trust;
mod users;
