//! End-to-end tests on a real stack: one program, run by `cargo test`.
//!
//! Outside of the sandbox, the program provisions what the tests need and runs the tests of the
//! sandbox itself. Then it runs itself again inside of two sandboxes, where all other tests share
//! two beds. It takes the arguments of any Rust test program.
#![expect(
    clippy::indexing_slicing,
    reason = "all of this is test code, which clippy cannot recognise without the usual harness"
)]

mod admission;
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
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use futures::{StreamExt as _, stream};
use libtest_mimic::{Arguments, Trial};
use pgscale_tests::progress::say;
use pgscale_tests::proof::{random_walk, with_plugin};
use pgscale_tests::sandbox::{
    Ended, Role, directory as sandbox_directory, init, launch, prepare, role,
};
use pgscale_tests::supplies::Supplies;
use pgscale_tests::{guarding, suggested, trial, writing};
use tokio::runtime::Runtime;

use trial::{Case, SharedBed, save_logs};

/// One of the two beds: all that waits on one overlaps with all that waits on the other.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lane {
    /// For tests that may run beside others.
    Beside,
    /// For tests that change what all tests of a bed share.
    Alone,
}

impl Lane {
    /// The file of the sandbox's directory that names the lane.
    const FILE: &str = "lane";

    fn name(self) -> &'static str {
        match self {
            Self::Beside => "beside",
            Self::Alone => "alone",
        }
    }

    /// Returns the lane of the sandbox that this process runs in.
    fn here() -> Result<Self> {
        let name = fs::read_to_string(sandbox_directory()?.join(Self::FILE));
        match name.context("failed to read the lane")?.as_str() {
            "beside" => Ok(Self::Beside),
            "alone" => Ok(Self::Alone),
            other => bail!("there is no lane {other:?}"),
        }
    }

    /// The number of concurrent tests. They mostly wait.
    fn threads(self) -> usize {
        match self {
            Self::Beside => 3,
            // One of them waits for its turn. With a single thread the runner would begin a line
            // that the other bed writes into.
            Self::Alone => 2,
        }
    }

    fn has(self, case: &Case) -> bool {
        case.beside == (self == Self::Beside)
    }
}

/// Returns all tests that share a bed, in the order of each lane.
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
        interruptions::cases(),
        losses::cases(),
        hand_over::cases(),
        lost_answer::cases(),
        input::cases(),
        random_walk::cases(),
        ways_out::cases(),
        // It takes the webhook away, and puts it back.
        installation::cases(),
    ];
    // The stages share a cluster, and the situations another one: only one of each runs at a time.
    let groups = [stages::cases(), situations::cases(), modules.into_iter().flatten().collect()];
    in_turn(groups)
}

/// Returns the cases of all lists in turn.
fn in_turn<const N: usize>(lists: [Vec<Case>; N]) -> Vec<Case> {
    let mut lists = lists.map(Vec::into_iter);
    let mut cases = Vec::new();
    loop {
        let before = cases.len();
        cases.extend(lists.iter_mut().filter_map(Iterator::next));
        if cases.len() == before {
            return cases;
        }
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
    if let Some(supplies) = supplies {
        let lanes = [Lane::Beside, Lane::Alone];
        let lanes = lanes.into_iter().filter(|lane| selection.iter().any(|case| lane.has(case)));
        let runtime = Runtime::new().context("failed to start a runtime")?;
        let together = args.test_threads.is_none_or(|threads| threads > 1);
        let ended = runtime.block_on(on_beds(lanes.collect(), &supplies, together))?;
        if let Some(failed) = ended.into_iter().find(|&failed| failed != 0) {
            code = ExitCode::from(failed);
        }
    }
    Ok(code)
}

/// Runs the tests of each lane on a bed of its own, all `together` or one after another. Returns
/// their exit codes.
async fn on_beds(lanes: Vec<Lane>, supplies: &Supplies, together: bool) -> Result<Vec<u8>> {
    let inner: Vec<_> = env::args_os().skip(1).collect();
    let on_bed = async |lane: Lane| {
        let directory = prepare()?;
        supplies.write(&directory)?;
        fs::write(directory.join(Lane::FILE), lane.name()).context("failed to name the lane")?;
        Ok(match launch(&directory, &inner).await? {
            Ended::Exited(code) => code,
            Ended::Kept(_) => 0,
        })
    };
    stream::iter(lanes)
        .map(on_bed)
        .buffered(if together { 2 } else { 1 })
        .collect::<Vec<_>>()
        .await
        .into_iter()
        .collect()
}

fn inside() -> Result<ExitCode> {
    let lane = Lane::here()?;
    let args = arguments(lane.threads());
    let bed = SharedBed::new()?;
    let cases = cases().into_iter().filter(|case| lane.has(case));
    let trials = cases.map(|case| case.on(&bed)).collect();
    let conclusion = libtest_mimic::run(&args, trials);
    bed.print_slowest();
    suggested::print();
    if conclusion.has_failed() {
        let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join("e2e-logs").join(lane.name());
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
