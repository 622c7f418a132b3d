//! The large searches of the model (`tests/model`), which need no bed.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use pgscale_model::check::Found;
use pgscale_model::{Extent, Summary, ledger, run_with};
use pgscale_tests::progress::{brief, say};

use crate::document::Proof;

/// The name of the part.
pub(crate) const NAME: &str = "model::large";

/// A search that has ended.
#[derive(Debug)]
pub(crate) struct Searched {
    /// What it found.
    pub(crate) summary: Summary,
    /// The time that it took.
    pub(crate) took: Duration,
    /// What the search of the budget's ledger found.
    pub(crate) ledger: ledger::check::Found,
    /// The time that that took.
    pub(crate) ledger_took: Duration,
}

/// Searches the model, and enters what it counted into `proof`.
pub(crate) fn search(proof: &Proof) -> Result<()> {
    let begun = Instant::now();
    let summary = run_with(Extent::Large, "", &|_, found| {
        let Found { states, broken, .. } = found;
        say(&format!("  {states} states, {}: broken {broken:?}", brief(begun.elapsed())));
    });
    say(&format!("{summary}"));
    ensure!(summary.holds(), "a rule of the check is broken, or a limit was not met: see above");
    let took = begun.elapsed();
    let begun = Instant::now();
    let ledger = ledger::check::run(Extent::Large, &|_, found| {
        let states = found.states;
        say(&format!(
            "  ledger: {states} states, {}: broken {:?}",
            brief(begun.elapsed()),
            found.broken
        ));
    });
    say(&format!("{ledger}"));
    ensure!(ledger.holds(), "a rule of the check of the ledger is broken: see above");
    proof.searched(Searched { summary, took, ledger, ledger_took: begun.elapsed() });
    Ok(())
}
