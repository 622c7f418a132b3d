//! Runs the search and prints what it found: `model`, or `model large`. `model large 'parallel: true'`
//! searches only the runs with that setting. `model ledger`, or `model ledger large`, searches the
//! ledger of the budget.

#![expect(clippy::print_stdout, reason = "it is a program")]

use std::process::ExitCode;
use std::time::Instant;

use pgscale_model::check::Found;
use pgscale_model::ledger::check::check;
use pgscale_model::ledger::setup::{Mistake, Setup};
use pgscale_model::{Extent, ledger, run_with};

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1).peekable();
    if arguments.next_if(|argument| argument == "ledger").is_some() {
        let large = arguments.next().as_deref() == Some("large");
        return of_the_ledger(if large { Extent::Large } else { Extent::Small });
    }
    let large = arguments.next().as_deref() == Some("large");
    let filter = arguments.next().unwrap_or_default();
    let begun = Instant::now();
    let extent = if large { Extent::Large } else { Extent::Small };
    let summary = run_with(extent, &filter, &|setup, found| {
        let Found { states, verdicts, broken, .. } = found;
        println!("{states} states, {verdicts} verdicts, broken: {broken:?}: {setup:?}");
    });
    println!("{summary}");
    ended(begun, summary.holds())
}

fn of_the_ledger(extent: Extent) -> ExitCode {
    let begun = Instant::now();
    let found = ledger::check::run(extent, &|setup, found| {
        let took = begun.elapsed().as_secs();
        println!("{took} s, {} states, broken: {:?}: {setup:?}", found.states, found.broken);
    });
    println!("{found}");
    let naive = Setup { mistake: Some(Mistake::LiveList), ..Setup::of_updates(2, 3) };
    let naive = check(&naive).overshoot;
    println!(
        "the budget is passed by {} at most, and by {naive} with a live list in place of the ledger",
        found.overshoot
    );
    ended(begun, found.holds())
}

fn ended(begun: Instant, holds: bool) -> ExitCode {
    println!("{} s, {} MiB at most", begun.elapsed().as_secs(), most_memory().unwrap_or(0) / 1024);
    if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Returns the most memory that this process has held, in KiB, where Linux says so.
fn most_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches(" kB").trim().parse().ok()
}
