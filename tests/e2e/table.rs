//! What the bare operator and `kubectl pgscale` make of the same stages, side by side, as the run saw it.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use pgscale_tests::progress::say;

use crate::writing::Record;

static ROWS: Mutex<Vec<Row>> = Mutex::new(Vec::new());

/// One stage.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// What is wrong before the change, in words.
    pub(crate) stage: &'static str,
    /// What the bare operator makes of it.
    pub(crate) operator_only: Outcome,
    /// What `kubectl pgscale down` makes of it.
    pub(crate) with_plugin: Outcome,
}

/// What came of a change.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    /// In words.
    pub(crate) what: String,
    /// What became of a writer's rows.
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

/// Prints what was collected, in Markdown; nothing where nothing was.
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
