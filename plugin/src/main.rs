//! `kubectl pgscale`: every scale change of a PostgreSQL cluster as a planned, verified act.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

use crate::cli::{Cli, Verb};
use crate::error::{Failure, Kind};
use crate::session::Interruption;
use crate::terminal::Output;

mod args;
mod autoscale;
mod cli;
mod commands;
mod completion;
mod connect;
mod diagnosis;
mod doctor;
mod document;
mod effect;
mod error;
mod events;
mod exec;
mod execute;
mod forward;
#[cfg(test)]
#[path = "../../guard/tests/generated/mod.rs"]
mod generated;
mod helm;
mod history;
mod impact;
mod install;
mod lint;
mod members;
mod nodes;
mod outcome;
mod page;
mod patience;
mod permissions;
mod plan;
mod policy;
mod reads;
#[cfg(test)]
mod screens;
mod serve;
mod services;
mod session;
mod status;
mod steady;
mod terminal;
#[cfg(test)]
mod testing;
mod top;
mod usage;
mod verify;
mod versions;
mod view;
#[cfg(test)]
mod walk;
mod watch;

fn main() -> ExitCode {
    if let Some(answer) = completion::answer(std::env::args_os().collect()) {
        // A failure to write the answer is not reported: the shell has closed its end.
        std::io::stdout().write_all(&answer).ok();
        return ExitCode::SUCCESS;
    }
    let cli = match Cli::of(std::env::args_os()) {
        Ok(cli) => cli,
        Err(error) => {
            // Help goes to stdout and wrong usage to stderr. clap chooses.
            error.print().ok();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let out = Arc::new(Output::of_process(cli.color));
    out.print_by(cli.expression.clone());
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        return fail(&out, &Failure::error("another TLS provider is installed already"));
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&out, &Failure::error(format!("failed to start: {error}"))),
    };
    let interruption = Interruption::default();
    let code = runtime.block_on(async {
        let work = Box::pin(run(cli, &out, interruption.clone()));
        match unless(interrupted, work, &interruption).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => fail(&out, &failure),
        }
    });
    // A pending read of the terminal must not delay the end.
    runtime.shutdown_background();
    code
}

/// Runs the verb of `cli`. The server stands apart: it runs all others.
async fn run(cli: Cli, out: &Arc<Output>, interruption: Interruption) -> Result<(), Failure> {
    if let Verb::Serve(args) = cli.verb {
        let manager = cli.connection.field_manager.clone();
        return Box::pin(serve::run(args, cli.connection.into(), manager, out, interruption)).await;
    }
    Box::pin(cli::run(cli, out, interruption)).await
}

fn fail(out: &Output, failure: &Failure) -> ExitCode {
    // The code says it all, and nothing has failed.
    if failure.kind != Kind::Differs {
        out.failure(failure);
    }
    ExitCode::from(failure.kind.code())
}

/// Returns the result of `work`, or an interruption that comes first and ends more than a wait.
async fn unless(
    mut interrupted: impl AsyncFnMut(),
    work: impl Future<Output = Result<(), Failure>>,
    interruption: &Interruption,
) -> Result<(), Failure> {
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            result = &mut work => return result,
            () = interrupted() => {
                if !interruption.ended_a_wait() {
                    return Err(interruption.failure());
                }
            }
        }
    }
}

/// Resolves when a person or the system asks the program to end, or its terminal is gone.
async fn interrupted() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let (Ok(mut interrupt), Ok(mut terminate)) =
            (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
        else {
            return std::future::pending().await;
        };
        // A program that is killed removes no kubeconfig that it wrote for helm.
        let hang_up = async {
            match heeds_hang_up().then(|| signal(SignalKind::hangup())) {
                Some(Ok(mut hang_up)) => hang_up.recv().await,
                Some(Err(_)) | None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hang_up => {}
        }
    }
    #[cfg(not(unix))]
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Returns whether a hang-up ends this program. Under `nohup` it does not, and a handler would change
/// that.
///
/// Only Linux says so without a call that is unsafe (`SigIgn` in proc(5)). Elsewhere the system ends the
/// program, as it does without a handler.
#[cfg(unix)]
fn heeds_hang_up() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    ignored(&status).is_some_and(|ignored| ignored & 1 == 0)
}

/// Returns the mask of the signals that are ignored: the lowest bit is a hang-up.
#[cfg(unix)]
fn ignored(status: &str) -> Option<u64> {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"))?;
    u64::from_str_radix(mask.trim(), 16).ok()
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn hang_up_is_ignored_where_the_process_says_so() {
        let status = |mask: &str| format!("Name:\tx\nSigBlk:\t0000000000000001\nSigIgn:\t{mask}\n");
        for (text, found) in [
            (status("0000000000000000"), Some(0)),
            (status("0000000000001001"), Some(0x1001)),
            (status("x"), None),
            ("Name:\tx\n".to_owned(), None),
        ] {
            assert_eq!(ignored(&text), found, "{text}");
        }
    }
}
