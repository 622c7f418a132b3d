//! The project's own programs, built from this workspace.

use std::env;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::progress::Step;

/// The paths of the project's own programs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Programs {
    /// `kubectl pgscale`.
    pub plugin: PathBuf,
    /// The admission webhook.
    pub webhook: PathBuf,
}

impl Programs {
    /// Builds the programs from the present sources, with the profile of this program itself. Must
    /// run outside of the sandbox: a first build downloads crates.
    ///
    /// # Errors
    /// Fails when they do not compile.
    pub fn build() -> Result<Self> {
        let step = Step::begin("building kubectl-pgscale and pgscale-webhook");
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        // A change of these makes cargo build everything above `ring` again, whose build script
        // reads them: here, and then in the next build of the tests.
        for (name, _) in env::vars_os().filter(|(name, _)| name.to_str().is_some_and(of_a_package))
        {
            command.env_remove(name);
        }
        let mut build = command
            .args(["build", "--quiet", "--package", "kubectl-pgscale", "--package"])
            .args(["pgscale-webhook", "--message-format", "json-render-diagnostics"])
            .args(["--manifest-path", concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml")])
            .args((!cfg!(debug_assertions)).then_some("--release"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("failed to run cargo; install Rust from https://rustup.rs")?;
        let stdout = build.stdout.take().context("cargo has no stdout")?;
        let messages: Vec<_> = BufReader::new(stdout).lines().map_while(Result::ok).collect();
        let status = build.wait().context("failed to wait for cargo")?;
        ensure!(status.success(), "`cargo build` of the project's own programs failed ({status})");
        step.done();
        let executable = |name: &str| {
            messages
                .iter()
                .find_map(|message| artifact(message, name))
                .with_context(|| format!("cargo built no program called {name}"))
        };
        Ok(Self { plugin: executable("kubectl-pgscale")?, webhook: executable("pgscale-webhook")? })
    }

    /// Returns the directory to put into `PATH` so that `kubectl pgscale` finds the plugin.
    pub fn directory(&self) -> Option<&Path> {
        self.plugin.parent()
    }
}

/// Returns whether cargo sets the environment variable `name` for the tests of one package.
fn of_a_package(name: &str) -> bool {
    ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|prefix| name.starts_with(prefix))
}

/// Returns the executable that a line of cargo's JSON reports for the program `name`.
fn artifact(message: &str, name: &str) -> Option<PathBuf> {
    #[derive(Deserialize)]
    struct Message {
        executable: Option<PathBuf>,
    }
    let Message { executable } = serde_json::from_str(message).ok()?;
    executable.filter(|path| path.file_name().is_some_and(|file| file == name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_of_this_package_are_not_passed_to_another_build() {
        for (name, passed) in [
            ("CARGO_PKG_NAME", false),
            ("CARGO_MANIFEST_DIR", false),
            ("CARGO_TARGET_DIR", true),
            ("CARGO_HOME", true),
            ("PATH", true),
        ] {
            assert_eq!(!of_a_package(name), passed, "{name}");
        }
    }

    #[test]
    fn executables_are_read_from_the_messages_of_cargo() {
        let built = r#"{"reason":"compiler-artifact","executable":"/t/debug/pgscale-webhook"}"#;
        let library = r#"{"reason":"compiler-artifact","executable":null}"#;
        let finished = r#"{"reason":"build-finished","success":true}"#;
        assert_eq!(artifact(built, "pgscale-webhook"), Some("/t/debug/pgscale-webhook".into()));
        assert_eq!(artifact(built, "kubectl-pgscale"), None);
        assert_eq!(artifact(library, "pgscale-webhook"), None);
        assert_eq!(artifact(finished, "pgscale-webhook"), None);
    }
}
