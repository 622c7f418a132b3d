//! A program of the bed: its log file, its unexpected end, and its end with a grace period.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// The number of last lines of the log in an error.
const TAIL: usize = 25;

/// A running program whose output goes to a log file.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command` with its output appended to `logs`/`name`.log.
    ///
    /// The process group is its own, so that a Ctrl-C in the terminal does not reach the program
    /// before the bed.
    ///
    /// # Errors
    /// Fails when the log cannot be opened or the program cannot be started.
    pub fn spawn(name: &str, mut command: Command, logs: &Path) -> Result<Self> {
        let path = logs.join(format!("{name}.log"));
        let log = File::options()
            .create(true)
            .append(true)
            .open(&path)
            .with_context(|| format!("failed to open the log {}", path.display()))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("failed to share a log between two streams")?)
            .stderr(log)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("failed to start {name} ({:?})", command.as_std()))?;
        Ok(Self { name: name.to_owned(), child, log: path })
    }

    /// Returns its process id, while it runs.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Returns its log file.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Fails when the program has ended: no program of the bed ends by itself.
    ///
    /// # Errors
    /// Fails with the exit status and the last lines of the log.
    pub fn ensure_alive(&mut self) -> Result<()> {
        match self.child.try_wait().with_context(|| format!("failed to look at {}", self.name))? {
            None => Ok(()),
            Some(status) => bail!("{}", self.early_end(status)),
        }
    }

    /// Sends a signal to the program alone. A program that has ended needs none.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = self.pid() {
            _ = kill_process(pid, signal);
        }
    }

    /// Sends SIGTERM, and kills the whole process group after `grace`.
    ///
    /// # Errors
    /// Fails when the end cannot be observed.
    pub async fn stop(&mut self, grace: Duration) -> Result<()> {
        let Some(pid) = self.pid() else { return Ok(()) };
        // The program may end between the look and the signal. That is no error, because `wait`
        // reports it.
        _ = kill_process(pid, Signal::TERM);
        if let Ok(ended) = timeout(grace, self.child.wait()).await {
            ended.with_context(|| format!("failed to wait for {}", self.name))?;
        }
        self.kill_group(pid).await
    }

    /// Kills the program and its children without SIGTERM, like a crash.
    ///
    /// # Errors
    /// Fails when the end cannot be observed.
    pub async fn kill(&mut self) -> Result<()> {
        match self.pid() {
            Some(pid) => self.kill_group(pid).await,
            None => Ok(()),
        }
    }

    async fn kill_group(&mut self, pid: Pid) -> Result<()> {
        // A group without a process is the goal, not an error.
        _ = kill_process_group(pid, Signal::KILL);
        self.child.wait().await.with_context(|| format!("failed to wait for {}", self.name))?;
        Ok(())
    }

    fn pid(&self) -> Option<Pid> {
        self.child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?))
    }

    fn early_end(&self, status: ExitStatus) -> String {
        let mut text = format!("{} ended early ({status}); the end of its log:", self.name);
        for line in tail(&fs::read_to_string(&self.log).unwrap_or_default()) {
            _ = write!(text, "\n  {line}");
        }
        text
    }
}

/// Returns the last lines of a log, oldest first.
fn tail(log: &str) -> Vec<&str> {
    let mut lines: Vec<_> = log.lines().rev().take(TAIL).collect();
    lines.reverse();
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wait::{Attempt, until};

    #[tokio::test]
    async fn a_stopped_program_continues_when_it_is_asked_to() {
        let logs = tempfile::tempdir().unwrap();
        let mut command = Command::new("sleep");
        command.arg("60");
        let mut program = Process::spawn("sleeper", command, logs.path()).unwrap();
        let status = format!("/proc/{}/status", program.id().unwrap());
        for (signal, state) in [(Signal::STOP, "T (stopped)"), (Signal::CONT, "S (sleeping)")] {
            program.signal(signal);
            until(state, Duration::from_secs(10), async || {
                let seen = fs::read_to_string(&status)?;
                let done = seen.contains(&format!("State:\t{state}"));
                Ok(if done { Attempt::Done(()) } else { Attempt::NotYet(seen) })
            })
            .await
            .unwrap();
        }
        program.kill().await.unwrap();
    }

    #[tokio::test]
    async fn an_early_end_is_reported_with_the_log() {
        let logs = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo no such flag; exit 3"]);
        let mut process = Process::spawn("etcd", command, logs.path()).unwrap();
        let error = until("the end", Duration::from_secs(10), async || {
            Ok(match process.ensure_alive() {
                Ok(()) => Attempt::NotYet("alive".into()),
                Err(error) => Attempt::Done(error.to_string()),
            })
        });
        assert_eq!(
            error.await.unwrap(),
            "etcd ended early (exit status: 3); the end of its log:\n  no such flag"
        );
    }

    #[tokio::test]
    async fn a_program_that_ignores_sigterm_is_killed_after_its_grace() {
        let logs = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "trap '' TERM; echo deaf; while :; do sleep 1; done"]);
        let mut process = Process::spawn("deaf", command, logs.path()).unwrap();
        let log = process.log().to_owned();
        until("the trap", Duration::from_secs(10), async || {
            let deaf = fs::read_to_string(&log).is_ok_and(|text| text.contains("deaf"));
            Ok(if deaf { Attempt::Done(()) } else { Attempt::NotYet("nothing".into()) })
        })
        .await
        .unwrap();
        process.stop(Duration::from_millis(50)).await.unwrap();
        assert!(process.ensure_alive().unwrap_err().to_string().contains("signal: 9"));
    }

    #[test]
    fn only_the_end_of_a_log_is_shown() {
        let log = (0..100).map(|line| line.to_string()).collect::<Vec<_>>().join("\n");
        assert_eq!(tail(&log).first(), Some(&"75"));
        assert_eq!(tail(&log).last(), Some(&"99"));
    }
}
