//! `pgscale-webhook`: the validating admission webhook that holds every writer of a `postgresql`'s
//! instance count to the rules of [`pgscale_guard`]: kubectl, Argo CD, Flux, an autoscaler, a UI.
//!
//! `serve` answers reviews. `configuration`, `rbac` and `crd` print the objects that a cluster
//! needs for that.

// The fuzz target `review` is this program, with the way of a review alone (fuzz/README.md).
#![cfg_attr(fuzzing, no_main, allow(dead_code, reason = "nothing else runs there"))]

use std::num::NonZero;
use std::process::ExitCode;

use anyhow::{Context as _, Result, anyhow};
use clap::Parser as _;

use crate::args::{Arguments, Command, Rbac};

mod admit;
mod api_policy;
mod args;
mod break_glass;
mod caller;
mod certs;
mod cluster_fence;
mod duration;
mod events;
mod fence;
mod floor;
#[cfg(test)]
#[path = "../../guard/tests/generated/mod.rs"]
mod generated;
mod listen;
mod look_alikes;
mod manifests;
mod metrics;
mod ownership;
mod probes;
mod rbac;
mod registration;
mod secret_fence;
mod serve;
mod server;

fn main() -> ExitCode {
    // Before anything else: rustls panics at its first use when the dependencies bring two
    // providers and none is installed.
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        return failed(&anyhow!("another cryptography provider is installed already"));
    }
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

/// Returns the number of threads that judge: as many as there are cores, and few on a large node. Each
/// takes memory of its own, and the API server is the bound of the reviews before these are.
fn workers() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get).min(4)
}

#[expect(clippy::print_stderr, reason = "the last message of the process")]
fn failed(error: &anyhow::Error) -> ExitCode {
    eprintln!("error: {error:#}");
    ExitCode::FAILURE
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Serve(arguments) => tokio::runtime::Builder::new_multi_thread()
            .worker_threads(workers())
            .enable_all()
            .build()
            .context("failed to start the runtime")?
            .block_on(serve::run(*arguments)),
        Command::Configuration(arguments) => {
            let configuration = registration::configuration(&arguments.registration()?);
            print(&manifests::yaml(&configuration)?)
        }
        Command::Rbac(Rbac { namespace, certificate_secret, break_glass_user }) => {
            let secret = certificate_secret.as_deref();
            let objects = rbac::manifest(&namespace, secret, &break_glass_user);
            print(&manifests::documents(&objects)?)
        }
        Command::Crd => print(&manifests::documents(&manifests::definitions())?),
    }
}

fn print(text: &str) -> Result<()> {
    use std::io::Write as _;
    std::io::stdout().write_all(text.as_bytes()).context("failed to write to standard output")
}
