//! The choice of the Python for the environment.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

/// The variable that names the interpreter.
const CHOICE: &str = "PGSCALE_PYTHON";

/// The oldest version for which the pinned packages have wheels.
const OLDEST: (u32, u32) = (3, 9);

/// The script that an interpreter runs to describe itself. `_base_executable` leads out of virtual
/// environments and version managers' shims, to the file that will still exist tomorrow.
const QUESTION: &str = "
import importlib.util, json, os, platform, sys
has = lambda name: getattr(importlib.util.find_spec(name), 'origin', None) is not None
print(json.dumps({
    'executable': os.path.realpath(getattr(sys, '_base_executable', None) or sys.executable),
    'version': platform.python_version(),
    'major': sys.version_info[0], 'minor': sys.version_info[1],
    'venv': has('venv'), 'ensurepip': has('ensurepip'), 'pip': has('pip'),
}))
";

/// The description of an interpreter.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Interpreter {
    pub(super) executable: PathBuf,
    pub(super) version: String,
    major: u32,
    minor: u32,
    venv: bool,
    /// True if it can put pip into a new environment.
    pub(super) ensurepip: bool,
    /// True if it has a pip of its own that can install into another environment.
    pip: bool,
}

impl Interpreter {
    /// Returns the interpreter of the environment variable, or the best one of this machine.
    ///
    /// # Errors
    /// Fails when no interpreter can make an environment, with the reason for each and the command
    /// that helps.
    pub(super) fn find() -> Result<Self> {
        let chosen = env::var_os(CHOICE).filter(|choice| !choice.is_empty()).map(PathBuf::from);
        let candidates = chosen.map_or_else(installed, |choice| vec![choice]);
        let asked: Vec<_> = candidates.iter().map(|path| (path.as_path(), ask(path))).collect();
        choose(asked, rustix::process::geteuid().is_root(), is_public)
    }

    /// Returns the reason why the interpreter cannot be used.
    fn objection(&self) -> Option<String> {
        let Self { version, .. } = self;
        if (self.major, self.minor) < OLDEST {
            return Some(format!("it is {version}, older than {}.{}", OLDEST.0, OLDEST.1));
        }
        if !self.venv || !self.ensurepip && !self.pip {
            return Some(format!("its venv module is incomplete ({version})"));
        }
        None
    }
}

/// Returns the usual paths, in the order of a shell.
fn installed() -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut found: Vec<_> =
        env::split_paths(&path).map(|directory| directory.join("python3")).collect();
    found.push("/usr/bin/python3".into());
    found.push("/usr/local/bin/python3".into());
    found.retain(|path| path.is_file());
    found.dedup();
    found
}

fn ask(path: &Path) -> Result<Interpreter> {
    let output = Command::new(path)
        .args(["-c", QUESTION])
        .env_remove("PYTHONPATH")
        .output()
        .context("it cannot be run")?;
    if !output.status.success() {
        bail!("it ended with {}", output.status);
    }
    serde_json::from_slice(&output.stdout).context("it does not describe itself")
}

/// Returns the first interpreter that works. For root it is the first that other users can read, so
/// that the bed of an ordinary user can share what root has built.
fn choose(
    asked: Vec<(&Path, Result<Interpreter>)>,
    root: bool,
    public: impl Fn(&Path) -> bool,
) -> Result<Interpreter> {
    let mut objections = String::new();
    let mut usable = Vec::new();
    for (path, answer) in asked {
        let objection = match answer {
            Ok(interpreter) => match interpreter.objection() {
                None => {
                    usable.push(interpreter);
                    continue;
                }
                Some(objection) => objection,
            },
            Err(error) => format!("{error:#}"),
        };
        _ = write!(objections, "\n  {}: {objection}", path.display());
    }
    let readable = usable.iter().position(|found| root && public(&found.executable));
    if usable.is_empty() {
        bail!(
            "no Python {}.{} or newer with a working venv module was found; \
             get one with: apt-get install python3-venv\n\
             or name another with {CHOICE}=/path/to/python3{objections}",
            OLDEST.0,
            OLDEST.1,
        );
    }
    Ok(usable.swap_remove(readable.unwrap_or(0)))
}

/// Returns whether every user may enter every directory on the way to `path`.
fn is_public(path: &Path) -> bool {
    path.ancestors().skip(1).all(|directory| {
        fs::metadata(directory).is_ok_and(|found| found.permissions().mode() & 0o001 != 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn python(path: &str) -> Interpreter {
        Interpreter {
            executable: path.into(),
            version: "3.11.2".into(),
            major: 3,
            minor: 11,
            venv: true,
            ensurepip: true,
            pip: true,
        }
    }

    fn chosen(found: Vec<Interpreter>, root: bool) -> Result<PathBuf> {
        let asked = found.into_iter().map(|found| (Path::new("/asked"), Ok(found))).collect();
        let public = |path: &Path| !path.starts_with("/hidden");
        choose(asked, root, public).map(|interpreter| interpreter.executable)
    }

    #[test]
    fn root_prefers_an_interpreter_that_others_can_read() {
        let both = || vec![python("/hidden/python"), python("/usr/bin/python3")];
        assert_eq!(chosen(both(), false).unwrap(), Path::new("/hidden/python"));
        assert_eq!(chosen(both(), true).unwrap(), Path::new("/usr/bin/python3"));
        let hidden = vec![python("/hidden/python")];
        assert_eq!(chosen(hidden, true).unwrap(), Path::new("/hidden/python"));
    }

    #[test]
    fn pip_may_come_from_outside_the_environment() {
        let mut limited = python("/usr/bin/python3");
        limited.ensurepip = false;
        assert!(chosen(vec![limited.clone()], false).is_ok());
        limited.pip = false;
        assert!(
            chosen(vec![limited, python("/other")], false)
                .is_ok_and(|path| path.ends_with("other"))
        );
    }

    #[test]
    fn an_error_names_the_reason_and_the_command_that_helps() {
        let mut old = python("/usr/bin/python3");
        (old.minor, old.version) = (7, "3.7.3".into());
        let error = chosen(vec![old], false).unwrap_err().to_string();
        assert!(error.contains("apt-get install python3-venv"), "{error}");
        assert!(error.contains("PGSCALE_PYTHON=/path/to/python3"), "{error}");
        assert!(error.ends_with("/asked: it is 3.7.3, older than 3.9"), "{error}");
    }

    #[test]
    fn an_interpreter_of_this_machine_answers() {
        let shell = ask(Path::new("/bin/sh")).unwrap_err();
        assert!(!format!("{shell:#}").is_empty());
        let found = Interpreter::find().unwrap();
        assert!(found.executable.is_absolute() && found.objection().is_none());
    }
}
