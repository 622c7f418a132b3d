//! For the tests of every crate: a healthy cluster, and the situations that the tests of the rules show.
//!
//! It is there with the feature `testing`.

pub mod prose;

pub use crate::rules::testing::{
    Situation, answer, by_chance, created, healthy, led_by_the_last, lock, lowered, member, now,
    of_scenarios, of_tables, report,
};
