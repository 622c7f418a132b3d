//! `bench`: what a review costs, beside a webhook that allows everything and a
//! `ValidatingAdmissionPolicy`, on a real API server.
//!
//! It brings up etcd, the API server, our webhook and a no-op webhook, and clusters whose members
//! only answer `GET /patroni`. It prints each figure with its target, and `--write` puts the table
//! into `docs/performance.md`. No figure is worth anything on a machine that does other work.

mod answer;
mod clusters;
mod https;
mod load;
mod members;
mod meter;
mod noop;
mod report;
mod rig;
mod rows;
mod shots;
mod window;

use std::env;
use std::ffi::OsString;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::{Parser, ValueEnum as _};
use pgscale_tests::page;
use pgscale_tests::progress::{brief, say};
use pgscale_tests::sandbox::{self, Ended, Role};
use pgscale_tests::supplies::Supplies;
use pgscale_tests::trial::save_logs;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::runtime::Runtime;
use tokio::time::{timeout, timeout_at};

use crate::report::{MARKERS, Report, machine};
use crate::rig::Rig;
use crate::rows::{Extent, Found, What};

/// The time for the whole run, from the first program to the last row.
const WHOLE: Duration = Duration::from_secs(14 * 60 + 30);
/// The time to bring everything up.
const SET_UP: Duration = Duration::from_secs(240);
/// The time to end everything.
const ENDING: Duration = Duration::from_secs(20);

/// Measures what a review costs, and compares it with a no-op webhook and a policy of the API server.
#[derive(Debug, Parser)]
#[command(name = "bench")]
struct Args {
    /// The loads to run; all when none is named
    #[arg(value_enum, value_name = "WHAT")]
    what: Vec<What>,
    /// The number of times that each load is repeated
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=50))]
    repeats: Option<u32>,
    /// Show only that everything works: one repeat, short and small loads
    #[arg(long)]
    quick: bool,
    /// Write the table into FILE; only for a whole run of a release build
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
    /// The commit to name in the table.
    #[arg(long, hide = true)]
    commit: Option<String>,
    /// Run as the no-op webhook on this address.
    #[arg(long, hide = true, requires = "directory")]
    serve_noop: Option<SocketAddr>,
    /// The directory with the certificate of the no-op webhook.
    #[arg(long, hide = true)]
    directory: Option<PathBuf>,
}

fn main() -> ExitCode {
    run().unwrap_or_else(|error| {
        say(&format!("error: {error:#}"));
        ExitCode::FAILURE
    })
}

fn run() -> Result<ExitCode> {
    let args = Args::parse();
    if let (Some(address), Some(directory)) = (args.serve_noop, &args.directory) {
        let runtime = Runtime::new().context("failed to start a runtime")?;
        return runtime.block_on(noop::serve(address, directory)).map(|()| ExitCode::SUCCESS);
    }
    match sandbox::role() {
        Role::Init => sandbox::init(),
        Role::Inside => inside(&args),
        Role::Outside => outside(&args),
    }
}

fn outside(args: &Args) -> Result<ExitCode> {
    if args.write.is_some() {
        let whole = args.what.is_empty() && !args.quick && args.repeats.is_none_or(|it| it >= 5);
        ensure!(whole, "--write needs a whole run: no WHAT, no --quick, and at least 5 repeats");
        ensure!(!cfg!(debug_assertions), "--write needs a release build: cargo run --release");
    }
    let supplies = Supplies::provision()?;
    let directory = sandbox::prepare()?;
    supplies.write(&directory)?;
    let runtime = Runtime::new().context("failed to start a runtime")?;
    let mut inner: Vec<_> = env::args_os().skip(1).collect();
    inner.extend(["--commit".into(), OsString::from(page::commit())]);
    match runtime.block_on(sandbox::launch(&directory, &inner))? {
        Ended::Exited(code) => Ok(ExitCode::from(code)),
        Ended::Kept(_) => Ok(ExitCode::SUCCESS),
    }
}

/// Raises the limit of open files as far as this user may: the usual 1,024 are too few for 1,000
/// reviews at once.
fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    // A run with fewer connections counts the missing answers.
    _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

fn inside(args: &Args) -> Result<ExitCode> {
    raise_limit();
    let repeats = args.repeats.unwrap_or(if args.quick { 1 } else { 5 });
    let extent = Extent { repeats, quick: args.quick };
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').take(3).collect::<Vec<_>>().join(" ");
    let what = if args.what.is_empty() { What::value_variants() } else { &args.what };
    let runtime = Runtime::new().context("failed to start a runtime")?;
    let measured = runtime.block_on(measure(what, extent));
    if !measured.as_ref().is_ok_and(Report::passes) {
        let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tmp/bench-logs");
        save_logs(&kept)?;
        say(&format!("the logs of the programs are in {}", kept.display()));
    }
    let report = measured?;
    let commit = args.commit.as_deref().unwrap_or("unknown");
    let text = format!("{}\n{}", machine(repeats, commit, &load), report.text());
    say(&format!("\n{text}"));
    if let Some(file) = &args.write {
        ensure!(report.failed.is_empty(), "nothing was written, because rows are missing");
        page::write(file, MARKERS, &text)?;
        say(&format!("{} is written", file.display()));
    }
    Ok(if report.passes() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs the loads. One that fails is noted, and the others follow.
async fn measure(what: &[What], extent: Extent) -> Result<Report> {
    let start = Instant::now();
    let end = tokio::time::Instant::now() + WHOLE;
    let rig = timeout(SET_UP, Rig::start(extent.quick)).await;
    let rig = rig.context("the rig did not come up in time")??;
    let mut report = Report::default();
    for (number, part) in what.iter().enumerate() {
        let name = part.to_possible_value().map(|value| value.get_name().to_owned());
        let name = name.unwrap_or_default();
        let elapsed = brief(start.elapsed());
        say(&format!("[{} of {}, {elapsed}] {name}", number + 1, what.len()));
        let limit = end.min(tokio::time::Instant::now() + part.limit());
        match timeout_at(limit, part.run(&rig, extent)).await {
            Ok(Ok(Found { lines, notes })) => {
                report.lines.extend(lines);
                report.notes.extend(notes);
            }
            Ok(Err(error)) => report.failed.push(format!("{name}: {error:#}")),
            Err(_) => report.failed.push(format!("{name}: not finished in time")),
        }
        // A load that was cut off may have left the webhook stopped.
        if let Err(error) = rig.webhook.run().await {
            report.failed.push(format!("{name}: the webhook did not come back: {error:#}"));
        }
    }
    say(&format!("all loads took {}", brief(start.elapsed())));
    // What does not end in time ends with the sandbox.
    if !matches!(timeout(ENDING, rig.stop()).await, Ok(Ok(()))) {
        say("some programs did not end in time, and are killed");
    }
    Ok(report)
}
