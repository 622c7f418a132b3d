//! Sandboxes that outlive their owner: how to find, enter and stop them.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use super::diagnosis::find;
use super::init::{ask_to_keep, path_with_sbin};

/// The limit for a kept sandbox to end.
const ENDING: Duration = Duration::from_secs(60);

/// The description that a program sends with its request to be kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Entry {
    kubeconfig: PathBuf,
    path: Vec<PathBuf>,
}

/// A sandbox that runs without an owner.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Kept {
    /// The process id of its init, in the PID namespace of its former owner.
    pub pid: i32,
    /// The start of the init, in the kernel's ticks: it distinguishes the init from a later process
    /// of the same id.
    started: u64,
    /// The administrator's kubeconfig.
    pub kubeconfig: PathBuf,
    /// Directories with the programs of the bed, for `PATH`.
    pub path: Vec<PathBuf>,
}

/// Asks, from inside, to outlive the owner. [`enter`] offers `kubeconfig` and `path` later.
///
/// # Errors
/// Fails when the owner is gone or refuses.
pub fn keep(kubeconfig: PathBuf, path: Vec<PathBuf>) -> Result<()> {
    let entry = serde_json::to_string(&Entry { kubeconfig, path }).context("failed to encode")?;
    ask_to_keep(&entry)
}

impl Kept {
    /// Records a sandbox whose init is `pid`.
    pub(super) fn new(pid: i32, entry: &str) -> Result<Self> {
        let Entry { kubeconfig, path } = serde_json::from_str(entry).context("unknown entry")?;
        let started = started(pid).with_context(|| format!("the init {pid} is gone already"))?;
        let kept = Self { pid, started, kubeconfig, path };
        let record = kept.record()?;
        if let Some(directory) = record.parent() {
            fs::create_dir_all(directory)
                .with_context(|| format!("failed to make {}", directory.display()))?;
        }
        fs::write(&record, serde_json::to_vec(&kept).context("failed to encode")?)
            .with_context(|| format!("failed to write {}", record.display()))?;
        Ok(kept)
    }

    /// Returns whether its init still runs.
    fn runs(&self) -> bool {
        started(self.pid) == Some(self.started)
    }

    fn record(&self) -> Result<PathBuf> {
        Ok(records()?.join(format!("{}.json", self.pid)))
    }
}

/// Returns the kept sandboxes that still run, and removes the records of others.
///
/// # Errors
/// Fails when the records cannot be found.
pub fn kept() -> Result<Vec<Kept>> {
    let mut running = Vec::new();
    for entry in fs::read_dir(records()?).into_iter().flatten().flatten() {
        let bytes = fs::read(entry.path()).unwrap_or_default();
        match serde_json::from_slice::<Kept>(&bytes) {
            Ok(kept) if kept.runs() => running.push(kept),
            Ok(_) | Err(_) => _ = fs::remove_file(entry.path()),
        }
    }
    running.sort_by_key(|kept| kept.started);
    Ok(running)
}

/// Becomes `command` (or a shell) inside the newest kept sandbox. Returns only if that fails.
///
/// # Errors
/// Fails when nothing is kept, or it cannot be entered.
pub fn enter(command: &[OsString]) -> Result<()> {
    let Some(kept) = kept()?.pop() else {
        bail!("no bed is kept; start one with `cargo demo --keep`")
    };
    let shell = env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into());
    let command = if command.is_empty() { std::slice::from_ref(&shell) } else { command };
    let path =
        env::join_paths(kept.path.iter().cloned().chain(env::split_paths(&path_with_sbin())))
            .context("a directory of the bed has a colon in its name")?;
    // A process that enters a mount namespace gets its root directory as working directory.
    let mut stay = OsString::from("--wd=");
    stay.push(env::current_dir().context("failed to find the working directory")?);
    let failed = Command::new(find("nsenter")?)
        .arg(format!("--target={}", kept.pid))
        .args(["--user", "--net", "--pid", "--ipc", "--mount", "--preserve-credentials"])
        .arg(stay)
        .arg("--")
        .args(command)
        .env("PATH", path)
        .env("KUBECONFIG", &kept.kubeconfig)
        // The user's own cache may describe another bed at the same address.
        .env("KUBECACHEDIR", kept.kubeconfig.with_file_name("kubectl-cache"))
        .exec();
    Err(failed).context("failed to run nsenter")
}

/// Ends all kept sandboxes and returns their number.
///
/// # Errors
/// Fails when one does not end.
pub fn stop() -> Result<usize> {
    let running = kept()?;
    for kept in &running {
        let pid = Pid::from_raw(kept.pid).context("a record names no process")?;
        kill_process(pid, Signal::TERM)
            .with_context(|| format!("failed to end the bed of process {}", kept.pid))?;
        let start = Instant::now();
        while kept.runs() {
            if start.elapsed() > ENDING {
                // The kernel ends the whole sandbox with its init.
                _ = kill_process(pid, Signal::KILL);
                bail!("the bed of process {} took over a minute to end; it was killed", kept.pid);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        _ = fs::remove_file(kept.record()?);
    }
    Ok(running.len())
}

/// Returns the directory of the records: in `$XDG_STATE_HOME` or `~/.local/state`.
fn records() -> Result<PathBuf> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let state = set("XDG_STATE_HOME").or_else(|| Some(set("HOME")?.join(".local/state")));
    Ok(state.context("no place for a record: set HOME")?.join("pgscale/kept"))
}

/// Returns the start of process `pid` in ticks since boot. `None` if it does not exist.
fn started(pid: i32) -> Option<u64> {
    start_time(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Returns field 22 of /proc/PID/stat. The second field is the program's name in parentheses and
/// may itself contain spaces and parentheses.
fn start_time(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(") ")?;
    after_name.split(' ').nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_time_is_found_behind_an_odd_name() {
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20 21";
        assert_eq!(start_time(stat), Some(4711));
        assert_eq!(start_time("7 (a"), None);
    }

    #[test]
    fn only_a_live_process_has_a_start_time() {
        assert!(started(rustix::process::getpid().as_raw_nonzero().get()).is_some());
        assert_eq!(started(i32::MAX), None);
    }
}
