//! End-to-end tests on a real stack: one program, run by `cargo test`.
//!
//! Outside of the sandbox it provisions what the tests need and runs the tests of the sandbox itself;
//! then it runs itself again inside, where all other tests share one bed. It takes the arguments of
//! any Rust test program.
#![expect(
    clippy::indexing_slicing,
    reason = "all of it is test code, which clippy cannot tell without the usual harness"
)]

mod admission;
mod bed;
mod chart;
mod cloning;
mod config_maps;
mod guarding;
mod history;
mod hostile;
mod input;
mod interruptions;
mod losses;
mod lost_answer;
mod members;
mod operator_only;
mod random_walk;
mod repairs;
mod sandbox;
mod scale;
mod situations;
mod suggested;
mod table;
mod trial;
mod verify;
mod ways_out;
mod with_plugin;
mod with_webhook;
mod writing;

use std::env;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use libtest_mimic::{Arguments, Trial};
use pgscale_tests::progress::say;
use pgscale_tests::sandbox::{Ended, Role, init, own, prepare, role};
use pgscale_tests::supplies::Supplies;
use tokio::runtime::Runtime;

use trial::{Case, Stage, save_logs};

/// All tests that share the bed.
fn cases() -> Vec<Case> {
    let modules = [
        bed::cases(),
        members::cases(),
        admission::cases(),
        operator_only::cases(),
        with_webhook::cases(),
        config_maps::cases(),
        repairs::cases(),
        scale::cases(),
        verify::cases(),
        history::cases(),
        interruptions::cases(),
        losses::cases(),
        lost_answer::cases(),
        input::cases(),
        random_walk::cases(),
        ways_out::cases(),
        // Last: the cluster that they share runs on.
        situations::cases(),
    ];
    modules.into_iter().flatten().collect()
}

/// All tests that need no bed, or beds of their own.
fn outsiders() -> Vec<Trial> {
    [chart::trials(), hostile::trials(), sandbox::trials()].into_iter().flatten().collect()
}

fn main() -> ExitCode {
    let ended = match role() {
        Role::Init => init(),
        Role::Inside => inside(),
        Role::Outside => outside(),
    };
    ended.unwrap_or_else(|error| {
        say(&format!("error: {error:#}"));
        ExitCode::FAILURE
    })
}

/// How many tests of the sandbox run at a time: each has a bed of its own, and mostly waits for it.
const OUTSIDE: usize = 2;
/// How many of the others: the bed is shared, and so are the cores.
const INSIDE: usize = 1;

fn outside() -> Result<ExitCode> {
    let args = arguments(OUTSIDE);
    if args.list {
        let names = cases().into_iter().map(|case| case.name);
        let inner = names.map(|name| Trial::test(name, || Ok(())));
        let all = inner.chain(outsiders()).collect();
        return Ok(libtest_mimic::run(&args, all).exit_code());
    }
    let selection: Vec<_> = cases().into_iter().filter(|case| selected(&args, case.name)).collect();
    let trials = outsiders();
    let mut asked_for = trials.iter().filter(|trial| selected(&args, trial.name())).peekable();
    let any = asked_for.peek().is_some();
    // These need nothing but our own programs. A run of nothing else does not wait for the supplies
    // of a bed.
    let own_only = selection.is_empty() && asked_for.all(|trial| hostile::has(trial.name()));
    let supplies = if own_only {
        None
    } else if selection.iter().any(|case| case.programs) {
        Some(Supplies::provision()?)
    } else {
        Some(Supplies::without_programs()?)
    };
    let mut code = ExitCode::SUCCESS;
    if any {
        code = libtest_mimic::run(&args, trials).exit_code();
    }
    if let Some(supplies) = supplies.filter(|_| !selection.is_empty()) {
        let directory = prepare()?;
        supplies.leave(&directory)?;
        let runtime = Runtime::new().context("failed to start a runtime")?;
        let inner: Vec<_> = env::args_os().skip(1).collect();
        match runtime.block_on(own(&directory, &inner))? {
            Ended::Exited(failed @ 1..) => code = ExitCode::from(failed),
            Ended::Exited(0) | Ended::Kept(_) => {}
        }
    }
    Ok(code)
}

fn inside() -> Result<ExitCode> {
    let args = arguments(INSIDE);
    let stage = Stage::new()?;
    let trials = cases().into_iter().map(|case| case.on(&stage)).collect();
    let conclusion = libtest_mimic::run(&args, trials);
    table::print();
    suggested::print();
    if conclusion.has_failed() {
        let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join("e2e-logs");
        save_logs(&kept)?;
        say(&format!("the logs of the bed are in {}", kept.display()));
    }
    Ok(conclusion.exit_code())
}

/// What this program was told, with so many tests at a time unless that was told, too.
fn arguments(threads: usize) -> Arguments {
    let mut args = Arguments::from_args();
    args.test_threads.get_or_insert(threads);
    args
}

/// Whether the arguments ask for the test `name`; libtest-mimic decides likewise.
fn selected(args: &Arguments, name: &str) -> bool {
    let matches =
        |pattern: &String| if args.exact { name == pattern } else { name.contains(pattern) };
    args.filter.as_ref().is_none_or(matches) && !args.skip.iter().any(matches)
}
