//! The large search of the model (`tests/model`), which needs no bed.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use pgscale_model::check::Found;
use pgscale_model::{Extent, Summary, run_with};
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
    proof.searched(Searched { summary, took: begun.elapsed() });
    Ok(())
}
