//! `cargo demo`: the whole product on a real stack, on this machine.

mod bed;
mod narrator;
mod story;

use std::env;
use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use pgscale_tests::progress::say;
use pgscale_tests::sandbox::{self, Ended, Role};
use pgscale_tests::supplies::Supplies;
use tokio::runtime::Runtime;

/// Brings up a real control plane, the real operator and a real PostgreSQL cluster, and scales it.
#[derive(Debug, Parser)]
#[command(name = "cargo demo")]
struct Args {
    /// Leave everything running at the end
    #[arg(long)]
    keep: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a command, or a shell, where a kept demo runs
    Enter {
        /// The command and its arguments
        #[arg(last = true)]
        command: Vec<OsString>,
    },
    /// End all kept demos and remove what they used
    Stop,
    /// Bring up an empty bed, describe it in one line of JSON, and run until stdin is closed
    #[command(hide = true)]
    Bed,
}

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<ExitCode> {
    let args = Args::parse();
    match (sandbox::role(), args.command) {
        (Role::Init, _) => sandbox::init(),
        (_, Some(Command::Enter { command })) => {
            sandbox::enter(&command).map(|()| ExitCode::SUCCESS)
        }
        (_, Some(Command::Stop)) => {
            say(&format!("{} kept demos ended", sandbox::stop()?));
            Ok(ExitCode::SUCCESS)
        }
        (Role::Outside, Some(Command::Bed)) => launch(&Supplies::without_programs()?),
        (Role::Outside, None) => launch(&Supplies::provision()?),
        (Role::Inside, command) => {
            let runtime = Runtime::new().context("failed to start a runtime")?;
            runtime.block_on(async {
                match command {
                    Some(_) => bed::run(args.keep).await,
                    None => story::run(args.keep).await,
                }
            })?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Runs this program again inside a sandbox, and waits for it.
fn launch(supplies: &Supplies) -> Result<ExitCode> {
    let directory = sandbox::prepare()?;
    supplies.write(&directory)?;
    let args: Vec<_> = env::args_os().skip(1).collect();
    let runtime = Runtime::new().context("failed to start a runtime")?;
    match runtime.block_on(sandbox::launch(&directory, &args))? {
        Ended::Exited(code) => Ok(ExitCode::from(code)),
        Ended::Kept(_) => {
            say(
                "everything keeps running; look around with `cargo demo enter -- kubectl get pods -A`",
            );
            say("end it with `cargo demo stop`");
            Ok(ExitCode::SUCCESS)
        }
    }
}
