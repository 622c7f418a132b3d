//! `prove`: what the operator alone does where `kubectl pgscale` and the webhook are asked first,
//! on a real stack.
//!
//! The end-to-end tests assert everything about `kubectl pgscale` and the webhook. This program
//! also records what is not asserted: the operator alone, and walks of many steps. It writes
//! `docs/proof.md`.

mod acts;
mod alone;
mod budget;
mod document;
mod floor;
mod losses;
mod screens;
mod searched;
mod stages;

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use pgscale_tests::page;
use pgscale_tests::progress::{brief, say};
use pgscale_tests::proof::random_walk;
use pgscale_tests::sandbox::{self, Ended, Role};
use pgscale_tests::supplies::Supplies;
use pgscale_tests::trial::{Case, SharedBed, case};
use tokio::runtime::Runtime;

use crate::document::Proof;

/// Stages every danger on a real stack, once for the operator alone, and writes docs/proof.md.
#[derive(Debug, Parser)]
#[command(name = "prove")]
struct Args {
    /// Run only the parts whose name contains FILTER, and print what they show
    #[arg(long, value_name = "FILTER")]
    only: Option<String>,
    /// Write to FILE. Without this option, a whole run writes docs/proof.md
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Replace what --only shows in docs/proof.md, and leave the rest; only for whole tables
    #[arg(long, requires = "only", conflicts_with = "out")]
    update: bool,
    /// The commit to name in the tables.
    #[arg(long, hide = true)]
    commit: Option<String>,
    /// The steps of each random walk
    #[arg(long, value_name = "N", default_value_t = 40)]
    steps: u32,
    /// The seed of the random walks
    #[arg(long, value_name = "N", default_value_t = 4393)]
    seed: u64,
    /// List the names of the parts
    #[arg(long)]
    list: bool,
}

/// The words by which `--only` selects all parts of a table.
const TABLES: [&str; 6] = ["stages::", "losses::", "acts::", "walk::", "budget::", "model::"];

fn main() -> ExitCode {
    run().unwrap_or_else(|error| {
        say(&format!("error: {error:#}"));
        ExitCode::FAILURE
    })
}

fn run() -> Result<ExitCode> {
    let args = Args::parse();
    match sandbox::role() {
        Role::Init => sandbox::init(),
        Role::Inside => inside(&args),
        Role::Outside => outside(&args),
    }
}

fn outside(args: &Args) -> Result<ExitCode> {
    let parts = selected(args, &Arc::default());
    let model = wanted(args, searched::NAME).then_some(searched::NAME);
    let table = |name: &String| TABLES.contains(&name.as_str());
    ensure!(
        !args.update || args.only.as_ref().is_some_and(table),
        "--update needs the name of a table: --only with one of {}",
        TABLES.join(", ")
    );
    let names: Vec<_> = model.into_iter().chain(parts.iter().map(|case| case.name)).collect();
    ensure!(!names.is_empty(), "no part is called like this; --list shows their names");
    if args.list {
        names.into_iter().for_each(say);
        return Ok(ExitCode::SUCCESS);
    }
    if parts.is_empty() {
        // The model alone needs no bed.
        let proof = Proof::default();
        searched::search(&proof)?;
        conclude(args, &proof, &page::commit())?;
        return Ok(ExitCode::SUCCESS);
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

fn inside(args: &Args) -> Result<ExitCode> {
    let proof = Arc::<Proof>::default();
    let bed = SharedBed::new()?;
    let parts = selected(args, &proof);
    let all = parts.len();
    let start = Instant::now();
    let mut failures = Vec::new();
    if wanted(args, searched::NAME) {
        say(&format!("[beside {all}, {}] {}", brief(start.elapsed()), searched::NAME));
        if let Err(error) = searched::search(&proof) {
            say(&format!("  failed: {error:#}"));
            failures.push(searched::NAME);
        }
    }
    for (number, part) in parts.into_iter().enumerate() {
        let name = part.name;
        say(&format!("[{} of {all}, {}] {name}", number + 1, brief(start.elapsed())));
        if let Err(error) = bed.run(part) {
            say(&format!("  failed: {error:#}"));
            failures.push(name);
        }
    }
    if !failures.is_empty() {
        say(&format!("\n{}", proof.text("unknown")));
    }
    ensure!(failures.is_empty(), "nothing is written, because these failed: {failures:?}");
    conclude(args, &proof, args.commit.as_deref().unwrap_or("unknown"))?;
    Ok(ExitCode::SUCCESS)
}

/// Prints what was shown, and writes it where the arguments say so.
fn conclude(args: &Args, proof: &Proof, commit: &str) -> Result<()> {
    let text = proof.text(commit);
    say(&format!("\n{text}"));
    let whole = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/proof.md");
    if args.update {
        page::update(&whole, document::MARKERS, &text)?;
        say(&format!("{} is updated", whole.display()));
        return Ok(());
    }
    let file = match (&args.out, &args.only) {
        (Some(file), _) => Some(file.clone()),
        (None, None) => Some(whole),
        (None, Some(_)) => None,
    };
    if let Some(file) = file {
        page::write(&file, document::MARKERS, &text)?;
        say(&format!("{} is written", file.display()));
    }
    Ok(())
}

/// Returns whether the arguments select the part with this name.
fn wanted(args: &Args, name: &str) -> bool {
    args.only.as_ref().is_none_or(|filter| name.contains(filter))
}

/// Returns the parts that the arguments select. They enter their outcomes into `proof`.
fn selected(args: &Args, proof: &Arc<Proof>) -> Vec<Case> {
    let mut parts = stages::parts(proof);
    parts.extend(losses::parts(proof));
    parts.extend(acts::parts(proof));
    parts.extend(walks(args, proof));
    parts.extend(floor::parts(args.seed));
    parts.extend(budget::parts(proof, args.seed));
    // What a person reads is looked at, and is no part of the page.
    if args.only.is_some() || args.list {
        parts.extend(screens::parts());
    }
    parts.retain(|part| wanted(args, part.name));
    parts
}

fn walks(args: &Args, proof: &Arc<Proof>) -> Vec<Case> {
    let (seed, steps) = (args.seed, args.steps);
    [
        ("walk::asynchronous", "an asynchronous cluster", false),
        ("walk::synchronous", "a synchronous cluster", true),
    ]
    .map(|(name, words, synchronous)| {
        let proof = Arc::clone(proof);
        let run = move |ctx| async move {
            proof.walked(words, random_walk::walk(ctx, synchronous, seed, steps).await?);
            Ok(())
        };
        case(name, run).within(random_walk::limit(steps))
    })
    .into()
}
