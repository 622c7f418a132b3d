//! End-to-end tests on a real stack: one program, run by `cargo test`.
//!
//! Outside of the sandbox, the program provisions what the tests need and runs the tests of the
//! sandbox itself. Then it runs itself again inside, where all other tests share one bed. It takes
//! the arguments of any Rust test program.
#![expect(
    clippy::indexing_slicing,
    reason = "all of this is test code, which clippy cannot recognise without the usual harness"
)]

mod admission;
mod api;
mod autoscale;
mod bed;
mod chart;
mod cloning;
mod config_maps;
mod hand_over;
mod history;
mod hostile;
mod input;
mod installation;
mod interruptions;
mod losses;
mod lost_answer;
mod members;
mod pool;
mod repairs;
mod replicas;
mod sandbox;
mod scale;
mod situations;
mod slots;
mod stages;
mod verify;
mod ways_out;
mod with_webhook;

use std::env;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use libtest_mimic::{Arguments, Trial};
use pgscale_tests::progress::say;
use pgscale_tests::proof::{random_walk, with_plugin};
use pgscale_tests::sandbox::{Ended, Role, init, launch, prepare, role};
use pgscale_tests::supplies::Supplies;
use pgscale_tests::{guarding, suggested, trial, writing};
use tokio::runtime::Runtime;

use trial::{Case, SharedBed, save_logs};

/// Returns all tests that share the bed. Those that may run beside others come first.
fn cases() -> Vec<Case> {
    let modules = [
        bed::cases(),
        members::cases(),
        admission::cases(),
        with_webhook::cases(),
        config_maps::cases(),
        repairs::cases(),
        replicas::cases(),
        scale::cases(),
        verify::cases(),
        slots::cases(),
        history::cases(),
        api::cases(),
        interruptions::cases(),
        losses::cases(),
        hand_over::cases(),
        lost_answer::cases(),
        input::cases(),
        random_walk::cases(),
        ways_out::cases(),
        autoscale::cases(),
        // It takes the webhook away, and puts it back.
        installation::cases(),
        // Last, because the cluster that they share keeps running.
        situations::cases(),
    ];
    let all = modules.into_iter().flatten();
    let (beside, alone): (Vec<_>, Vec<_>) = all.partition(|case| case.beside);
    // The stages share a cluster, so that only one of them runs at a time.
    alternating(stages::cases(), beside).into_iter().chain(alone).collect()
}

/// Returns the cases of both lists in turn.
fn alternating(one: Vec<Case>, other: Vec<Case>) -> Vec<Case> {
    let (mut one, mut other) = (one.into_iter(), other.into_iter());
    let mut cases = Vec::new();
    loop {
        let pair = [one.next(), other.next()];
        if pair.iter().all(Option::is_none) {
            return cases;
        }
        cases.extend(pair.into_iter().flatten());
    }
}

/// Returns all tests that need no bed, or have beds of their own.
fn own_trials() -> Vec<Trial> {
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

/// The number of concurrent tests of the sandbox. Each has a bed of its own, and mostly waits for
/// it.
const OUTSIDE: usize = 2;
/// The number of concurrent tests inside, of those that may run beside others.
const INSIDE: usize = 2;

fn outside() -> Result<ExitCode> {
    let args = arguments(OUTSIDE);
    if args.list {
        let names = cases().into_iter().map(|case| case.name);
        let inner = names.map(|name| Trial::test(name, || Ok(())));
        let all = inner.chain(own_trials()).collect();
        return Ok(libtest_mimic::run(&args, all).exit_code());
    }
    let selection: Vec<_> = cases().into_iter().filter(|case| selected(&args, case.name)).collect();
    let trials = own_trials();
    let mut selected_trials =
        trials.iter().filter(|trial| selected(&args, trial.name())).peekable();
    let any = selected_trials.peek().is_some();
    // These tests need nothing but our own programs. A run of nothing else does not wait for the
    // supplies of a bed.
    let programs_only =
        selection.is_empty() && selected_trials.all(|trial| hostile::has(trial.name()));
    let supplies = if programs_only {
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
        supplies.write(&directory)?;
        let runtime = Runtime::new().context("failed to start a runtime")?;
        let inner: Vec<_> = env::args_os().skip(1).collect();
        match runtime.block_on(launch(&directory, &inner))? {
            Ended::Exited(failed @ 1..) => code = ExitCode::from(failed),
            Ended::Exited(0) | Ended::Kept(_) => {}
        }
    }
    Ok(code)
}

fn inside() -> Result<ExitCode> {
    let args = arguments(INSIDE);
    let bed = SharedBed::new()?;
    let trials = cases().into_iter().map(|case| case.on(&bed)).collect();
    let conclusion = libtest_mimic::run(&args, trials);
    bed.print_slowest();
    suggested::print();
    if conclusion.has_failed() {
        let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join("e2e-logs");
        save_logs(&kept)?;
        say(&format!("the logs of the bed are in {}", kept.display()));
    }
    Ok(conclusion.exit_code())
}

/// Returns the arguments of this program, with `threads` concurrent tests unless they say
/// otherwise.
fn arguments(threads: usize) -> Arguments {
    let mut args = Arguments::from_args();
    args.test_threads.get_or_insert(threads);
    args
}

/// Returns whether the arguments select the test `name`, as libtest-mimic decides it.
fn selected(args: &Arguments, name: &str) -> bool {
    let matches =
        |pattern: &String| if args.exact { name == pattern } else { name.contains(pattern) };
    args.filter.as_ref().is_none_or(matches) && !args.skip.iter().any(matches)
}
