//! A running container: a program as process 1 of its own PID, mount, IPC and UTS namespaces.
//!
//! Its children end with it: the kernel kills a PID namespace with its process 1, and private
//! mounts and shared memory disappear with the last process.

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use k8s_openapi::jiff::Timestamp;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

/// The limit for a container to get its namespaces.
const START: Duration = Duration::from_secs(60);

/// The pause between two looks at them.
const LOOK: Duration = Duration::from_millis(2);

/// The unit of CPU time in `/proc/PID/stat`: `USER_HZ` is 100 on all machines that the bed runs on.
const TICK: Duration = Duration::from_millis(10);

/// A container, killed when dropped.
#[derive(Debug)]
pub(super) struct Container {
    /// `unshare`, the parent of the container's first process. It ends together with that process.
    unshare: Child,
    processes: Processes,
    started: Timestamp,
}

impl Container {
    /// Starts `program` in namespaces of its own, with its output appended to `log`.
    pub(super) async fn start(program: &Command, log: &Path) -> Result<Self> {
        let output = File::options().create(true).append(true).open(log);
        let output = output.with_context(|| format!("failed to open {}", log.display()))?;
        let program = program.as_std();
        let mut unshare = Command::new("unshare");
        unshare
            .args(["--pid", "--mount", "--ipc", "--uts", "--fork", "--mount-proc"])
            .args(["--kill-child=SIGKILL", "--"])
            .arg(program.get_program())
            .args(program.get_args())
            .env_clear()
            .stdin(Stdio::null())
            .stdout(output.try_clone().context("failed to share a log between two streams")?)
            .stderr(output)
            .process_group(0)
            .kill_on_drop(true);
        for (name, value) in program.get_envs() {
            unshare.env(name, value.unwrap_or_default());
        }
        if let Some(directory) = program.get_current_dir() {
            unshare.current_dir(directory);
        }
        let mut unshare = unshare
            .spawn()
            .context("failed to start unshare; get it with: apt-get install util-linux")?;
        let parent = unshare.id().context("unshare ended at once")?;
        let first = timeout(START, async {
            loop {
                if let Some(status) = unshare.try_wait()? {
                    bail!("unshare ended with {status}; see {}", log.display());
                }
                match first_child(parent) {
                    Some(first) => break Ok(first),
                    None => sleep(LOOK).await,
                }
            }
        });
        let first = first.await.context("unshare started no process in time")??;
        let processes = Processes::of(first)?;
        Ok(Self { unshare, processes, started: Timestamp::now() })
    }

    /// Returns the time of its start.
    pub(super) fn started(&self) -> Timestamp {
        self.started
    }

    /// Returns its processes.
    pub(super) fn processes(&self) -> &Processes {
        &self.processes
    }

    /// Waits until its first process, and so every process, has ended.
    pub(super) async fn ended(&mut self) -> Result<ExitStatus> {
        self.unshare.wait().await.context("failed to wait for a container")
    }

    /// Kills the container and waits until it is gone.
    pub(super) async fn kill(&mut self) -> Result<ExitStatus> {
        if self.unshare.id().is_some() {
            self.processes.signal_first(Signal::KILL);
        }
        self.ended().await
    }
}

/// Returns the first child of a process.
fn first_child(parent: u32) -> Option<Pid> {
    let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).ok()?;
    Pid::from_raw(children.split_whitespace().next()?.parse().ok()?)
}

/// Returns the exit code that a kubelet reports for `status`.
pub(super) fn exit_code(status: ExitStatus) -> i32 {
    status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(-1)
}

/// The processes of one container, seen from outside.
#[derive(Clone, Debug)]
pub(super) struct Processes {
    first: Pid,
    /// The link target of `/proc/PID/ns/pid`: the same for all processes of the container and for
    /// no other.
    namespace: PathBuf,
}

impl Processes {
    fn of(first: Pid) -> Result<Self> {
        let link = format!("/proc/{}/ns/pid", first.as_raw_nonzero());
        let namespace = fs::read_link(&link).with_context(|| format!("failed to read {link}"))?;
        Ok(Self { first, namespace })
    }

    /// Returns the id of the first process, seen from outside.
    pub(super) fn first(&self) -> i32 {
        self.first.as_raw_nonzero().get()
    }

    /// Signals the first process, which forwards the signal (Patroni's does).
    pub(super) fn signal_first(&self, signal: Signal) {
        // A process that is gone needs no signal.
        _ = kill_process(self.first, signal);
    }

    /// Returns whether the first process has a handler for SIGTERM. Without one it ignores the signal.
    pub(super) fn first_catches_term(&self) -> bool {
        let status = fs::read_to_string(format!("/proc/{}/status", self.first()));
        status.is_ok_and(|status| field(&status, "SigCgt:").is_some_and(has_term))
    }

    /// Lists all live processes, in no particular order.
    pub(super) fn list(&self) -> Vec<Process> {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter_map(Pid::from_raw)
            .filter(|pid| {
                fs::read_link(format!("/proc/{}/ns/pid", pid.as_raw_nonzero()))
                    .is_ok_and(|namespace| namespace == self.namespace)
            })
            .filter_map(Process::read)
            .collect()
    }

    /// Returns what all processes use together.
    pub(super) fn used(&self) -> Used {
        self.list().iter().filter_map(Process::used).fold(Used::default(), Used::plus)
    }
}

/// What processes use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Used {
    /// CPU time since the start, that of ended children included.
    pub(super) cpu: Duration,
    /// Bytes of memory that is not shared.
    pub(super) memory: u64,
}

impl Used {
    fn plus(self, other: Self) -> Self {
        Self { cpu: self.cpu + other.cpu, memory: self.memory.saturating_add(other.memory) }
    }
}

/// One process of a container.
#[derive(Debug)]
pub(super) struct Process {
    pid: Pid,
    /// The command line, its words separated by spaces.
    pub(super) command: String,
    /// True if it is stopped, as by SIGSTOP.
    pub(super) stopped: bool,
    /// True if a SIGTERM is pending.
    pub(super) asked_to_end: bool,
}

impl Process {
    fn read(pid: Pid) -> Option<Self> {
        let number = pid.as_raw_nonzero();
        let command = fs::read(format!("/proc/{number}/cmdline")).ok()?;
        let status = fs::read_to_string(format!("/proc/{number}/status")).ok()?;
        Some(Self {
            pid,
            command: String::from_utf8_lossy(&command).replace('\0', " ").trim_end().to_owned(),
            stopped: field(&status, "State:").is_some_and(|state| state.starts_with('T')),
            asked_to_end: field(&status, "ShdPnd:").is_some_and(has_term),
        })
    }

    /// Returns what it uses. `None` once it is gone.
    fn used(&self) -> Option<Used> {
        let number = self.pid.as_raw_nonzero();
        let stat = fs::read_to_string(format!("/proc/{number}/stat")).ok()?;
        let status = fs::read_to_string(format!("/proc/{number}/status")).ok()?;
        let anonymous = field(&status, "RssAnon:").and_then(|it| it.strip_suffix(" kB"));
        let memory = anonymous.and_then(|it| it.trim().parse::<u64>().ok()).unwrap_or(0) * 1024;
        Some(Used { cpu: cpu_time(&stat)?, memory })
    }

    /// Signals this process alone.
    pub(super) fn signal(&self, signal: Signal) {
        _ = kill_process(self.pid, signal);
    }
}

/// Returns the value of a line of `/proc/PID/status`.
fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

/// Returns the CPU time in `/proc/PID/stat` (fields 14 to 17 in its manual page): its own, and that
/// of children that have ended and were waited for. The name of the program may contain anything.
fn cpu_time(stat: &str) -> Option<Duration> {
    let (_, fields) = stat.rsplit_once(')')?;
    let times = fields.split_whitespace().skip(11).take(4).map(str::parse::<u64>);
    let ticks: u64 = times.collect::<Result<Vec<_>, _>>().ok()?.iter().sum();
    Some(TICK * u32::try_from(ticks).ok()?)
}

/// Returns whether SIGTERM (15) is in a set of signals written as hexadecimal digits.
fn has_term(signals: &str) -> bool {
    u64::from_str_radix(signals, 16).is_ok_and(|signals| signals & (1 << 14) != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_a_status_file_are_read() {
        let status = "Name:\tpostgres\nState:\tT (stopped)\nShdPnd:\t0000000000004000\n";
        assert_eq!(field(status, "State:"), Some("T (stopped)"));
        assert!(field(status, "ShdPnd:").is_some_and(has_term));
        assert!(!has_term("0000000000000000"));
        assert!(!has_term("not hexadecimal"));
        assert_eq!(field(status, "Threads:"), None);
    }

    #[test]
    fn cpu_time_is_that_of_a_process_and_of_its_ended_children() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194560 500 9000 0 1 20 3 400 5 20 0 1 0 50 9 9";
        assert_eq!(cpu_time(stat), Some(Duration::from_millis(4280)));
        assert_eq!(cpu_time("7 (a"), None);
        let own = Process::read(rustix::process::getpid()).unwrap();
        assert!(own.used().unwrap().memory > 0);
    }

    #[test]
    fn this_process_is_read_from_the_system() {
        let own = Process::read(rustix::process::getpid()).unwrap();
        assert!(!own.stopped && !own.asked_to_end);
        assert!(!own.command.is_empty());
    }

    #[test]
    fn exit_codes_are_those_of_a_shell() {
        assert_eq!(exit_code(ExitStatus::from_raw(0)), 0);
        assert_eq!(exit_code(ExitStatus::from_raw(3 << 8)), 3);
        assert_eq!(exit_code(ExitStatus::from_raw(9)), 137);
    }
}
