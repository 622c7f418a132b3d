//! The table of this run: the same stages with the operator alone and with `kubectl pgscale`.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use pgscale_tests::progress::say;

use crate::writing::Record;

static ROWS: Mutex<Vec<Row>> = Mutex::new(Vec::new());

/// One stage and its two outcomes.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// The fault before the change, in words.
    pub(crate) stage: &'static str,
    /// The outcome of a plain patch, by the operator alone.
    pub(crate) operator_only: Outcome,
    /// The outcome of `kubectl pgscale down`.
    pub(crate) with_plugin: Outcome,
}

/// The outcome of a change.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    /// A description in words.
    pub(crate) what: String,
    /// The writer's rows.
    pub(crate) record: Record,
}

impl fmt::Display for Outcome {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Record { acknowledged, missing, longest_gap } = self.record;
        let emphasis = if missing > 0 { "**" } else { "" };
        write!(
            out,
            "{} | {emphasis}{missing} of {acknowledged}{emphasis} | {:.1} s",
            self.what,
            longest_gap.as_secs_f64()
        )
    }
}

/// Adds a row.
pub(crate) fn add(row: Row) {
    ROWS.lock().unwrap_or_else(PoisonError::into_inner).push(row);
}

/// Prints the rows in Markdown. Prints nothing if there are none.
pub(crate) fn print() {
    let rows = ROWS.lock().unwrap_or_else(PoisonError::into_inner);
    if rows.is_empty() {
        return;
    }
    say(
        "\n| stage | operator only | rows lost | writes stopped | with kubectl pgscale | rows lost | writes stopped |",
    );
    say("|---|---|---|---|---|---|---|");
    for Row { stage, operator_only, with_plugin } in rows.iter() {
        say(&format!("| {stage} | {operator_only} | {with_plugin} |"));
    }
    say("");
}
