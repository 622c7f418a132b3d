//! A process of its own for an answer, so that nothing that it starts outlives the answer.
//!
//! Credentials may come from a program that waits for a person. It reads from the terminal itself,
//! and cannot be ended from within the call that runs it. In a process group of its own it cannot
//! read what the person types for the shell, and it is ended with its group.

use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
#[cfg(target_os = "linux")]
use rustix::process::{WaitOptions, waitpgid};

/// Returns what `command` prints. `None` where it has not ended within `patience`. Whatever it
/// started is ended as well.
pub(super) fn printed(mut command: Command, patience: Duration) -> Option<Vec<u8>> {
    adopt();
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).process_group(0);
    let mut group = Group(command.spawn().ok()?);
    let mut stdout = group.0.stdout.take()?;
    let (done, ended) = mpsc::channel();
    std::thread::spawn(move || {
        let mut printed = Vec::new();
        let read = stdout.read_to_end(&mut printed);
        done.send(read.map(|_| printed).ok()).ok();
    });
    ended.recv_timeout(patience).ok().flatten()
}

/// A process and its group. Dropping it ends both.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        // Before the wait: until then the number of the group is not given to another one.
        let group = Pid::from_child(&self.0);
        kill_process_group(group, Signal::KILL).ok();
        self.0.wait().ok();
        collect(group);
    }
}

/// Makes this process the parent of what its children leave behind, so that it can collect that.
#[cfg(target_os = "linux")]
fn adopt() {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).ok();
}

#[cfg(not(target_os = "linux"))]
fn adopt() {}

/// Collects the rest of a group that was ended. Elsewhere than on Linux that is the work of the
/// system's first process.
#[cfg(target_os = "linux")]
fn collect(group: Pid) {
    while matches!(waitpgid(group, WaitOptions::empty()), Ok(Some(_))) {}
}

#[cfg(not(target_os = "linux"))]
fn collect(_: Pid) {}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn answer_is_what_the_process_prints() {
        let printed = printed(shell("echo acid-a; echo hidden >&2"), Duration::from_secs(20));
        assert_eq!(printed.as_deref(), Some(b"acid-a\n".as_slice()));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn process_that_never_ends_is_ended_with_everything_that_it_started() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let script = format!("sleep 600 & echo $! > {}; wait", file.path().display());
        let start = std::time::Instant::now();
        assert_eq!(printed(shell(&script), Duration::from_secs(2)), None);
        assert!(start.elapsed() < Duration::from_secs(30));
        let child = std::fs::read_to_string(file.path()).unwrap();
        let state = std::fs::read_to_string(format!("/proc/{}/stat", child.trim()));
        assert!(state.is_err(), "the child is there: {state:?}");
    }
}
