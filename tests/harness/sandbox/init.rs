//! Process 1 of the sandbox: it makes the network, starts the program, and reaps orphans.

use std::env;
use std::ffi::{CString, OsString};
use std::fs::{self, File};
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::mount::{MountFlags, mount};
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, setsid, wait};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep_until};

use super::diagnosis::find;
use super::{CONTROL, DIRECTORY, LOCK, POD_NETWORK, ROLE, directory};

/// The time that the program may take to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(30);
/// The time that the kernel may take to end killed processes.
const REAPING: Duration = Duration::from_secs(10);
/// Variables that would send the bed's own traffic to a proxy that is not reachable here.
const PROXIES: [&str; 6] =
    ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"];

/// Runs as the init of the sandbox until the program has ended or the owner is gone.
///
/// It waits for children only by its own `wait`: an init reaps all orphans, and a library that
/// waits for its own child would lose the race.
///
/// # Errors
/// Fails when the sandbox cannot be set up.
pub fn init() -> Result<ExitCode> {
    let directory = directory()?;
    let lock = File::open(directory.join(LOCK)).context("failed to open the lock file")?;
    lock.lock_shared().context("failed to lock the sandbox's directory")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = runtime.block_on(live(&directory));
    kill_others();
    _ = fs::remove_dir_all(&directory);
    drop(lock);
    ended.map(ExitCode::from)
}

async fn live(directory: &Path) -> Result<u8> {
    let mut children = signal(SignalKind::child()).context("failed to watch signals")?;
    let mut terminations = signal(SignalKind::terminate()).context("failed to watch signals")?;
    // An interrupt of a terminal reaches the program by itself. Here it must only not kill the
    // init.
    let _interrupts = signal(SignalKind::interrupt()).context("failed to watch signals")?;
    let _hangups = signal(SignalKind::hangup()).context("failed to watch signals")?;
    let mut owner = UnixStream::connect(directory.join(CONTROL))
        .await
        .context("failed to reach the sandbox's owner")?;
    owner.write_all(b"init 1\n").await.context("failed to greet the sandbox's owner")?;
    set_up()?;
    let program = start()?;
    let (receiver, _answers) = owner.into_split();
    let mut commands = BufReader::new(receiver).lines();
    let mut bound = true;
    let mut deadline: Option<Instant> = None;
    loop {
        // A signal that came before its stream was polled is not lost, but several become one.
        if let Some(code) = reap(program) {
            return Ok(code);
        }
        let mut stop = false;
        tokio::select! {
            _ = children.recv() => {}
            _ = terminations.recv() => stop = true,
            command = commands.next_line(), if bound => match command.ok().flatten().as_deref() {
                Some("keep") => {
                    bound = false;
                    leave_terminal()?;
                }
                Some(_) => stop = true,
                None => return Ok(137),
            },
            () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                return Ok(143);
            }
        }
        if stop && deadline.is_none() {
            _ = kill_process(program, Signal::TERM);
            deadline = Some(Instant::now() + GRACE);
        }
    }
}

/// Sets up the loopback interface, local pod addresses, and shared memory that disappears with the
/// sandbox (PostgreSQL leaves its segments in /dev/shm when it is killed).
fn set_up() -> Result<()> {
    let ip = find("ip")?;
    for args in
        [&["link", "set", "lo", "up"][..], &["route", "add", "local", POD_NETWORK, "dev", "lo"][..]]
    {
        let run = Command::new(&ip).args(args).output().context("failed to run ip")?;
        let stderr = String::from_utf8_lossy(&run.stderr);
        ensure!(run.status.success(), "`ip {}` failed: {}", args.join(" "), stderr.trim());
    }
    let mode = CString::new("mode=1777").context("failed to spell a mount option")?;
    mount("tmpfs", "/dev/shm", "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, &*mode)
        .context("failed to mount private shared memory on /dev/shm")
}

/// Starts the program proper: this file, with the same arguments.
fn start() -> Result<Pid> {
    let mut program =
        Command::new(env::current_exe().context("failed to find this program's file")?);
    program.args(env::args_os().skip(1)).env(ROLE, "inside").env("PATH", path_with_sbin());
    for proxy in PROXIES {
        program.env_remove(proxy);
    }
    let child = program.spawn().context("failed to start the program inside the sandbox")?;
    i32::try_from(child.id()).ok().and_then(Pid::from_raw).context("the program has no process id")
}

/// Reaps every ended child. Returns the program's exit code if it was among them.
fn reap(program: Pid) -> Option<u8> {
    let mut code = None;
    while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
        if pid == program {
            code = Some(exit_code(status));
        }
    }
    code
}

/// Returns a wait status as a shell reports it.
fn exit_code(status: WaitStatus) -> u8 {
    let code = status.exit_status().or_else(|| Some(128 + status.terminating_signal()?));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

/// Kills all processes of this PID namespace except for the init, and waits until they are gone, so
/// that the directory to which they write can be removed.
fn kill_others() {
    let start = Instant::now();
    loop {
        let others: Vec<_> = processes().into_iter().filter(|pid| !pid.is_init()).collect();
        for pid in &others {
            _ = kill_process(*pid, Signal::KILL);
        }
        while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
        if others.is_empty() || start.elapsed() > REAPING {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Lists the processes of this PID namespace, from its own /proc.
fn processes() -> Vec<Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?)).collect()
}

/// Returns `PATH` with the directories that Debian leaves out for ordinary users (`ip` is there).
pub fn path_with_sbin() -> OsString {
    let path = env::var_os("PATH").unwrap_or_default();
    let sbin = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    env::join_paths(env::split_paths(&path).chain(sbin)).unwrap_or(path)
}

/// Asks the owner, from inside, to leave this sandbox running without it. Returns once the owner
/// has agreed.
///
/// `entry` is the description that [`super::kept`] returns later.
pub(super) fn ask_to_keep(entry: &str) -> Result<()> {
    use std::io::{Read as _, Write as _};
    let directory = env::var_os(DIRECTORY).map(PathBuf::from);
    let directory = directory.context("this program runs outside of the sandbox")?;
    let mut owner = BlockingStream::connect(directory.join(CONTROL))
        .context("failed to reach the sandbox's owner")?;
    writeln!(owner, "keep {entry}").context("failed to ask the sandbox's owner")?;
    let mut answer = String::new();
    owner
        .read_to_string(&mut answer)
        .context("failed to read the answer of the sandbox's owner")?;
    ensure!(answer == "kept\n", "the sandbox's owner did not agree to keep it: {answer:?}");
    leave_terminal()
}

/// Detaches from the terminal, so that it cannot end this process, and from the owner's streams.
fn leave_terminal() -> Result<()> {
    // It fails only if it is done already.
    _ = setsid();
    let nothing = File::options().read(true).write(true).open("/dev/null");
    let nothing = nothing.context("failed to open /dev/null")?;
    dup2_stdin(&nothing)
        .and_then(|()| dup2_stdout(&nothing))
        .and_then(|()| dup2_stderr(&nothing))
        .context("failed to detach from the owner's streams")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_keeps_its_order_and_gains_sbin() {
        let path = path_with_sbin();
        let directories: Vec<_> = env::split_paths(&path).collect();
        let own: Vec<_> = env::split_paths(&env::var_os("PATH").unwrap()).collect();
        assert!(directories.starts_with(&own));
        assert!(directories.contains(&PathBuf::from("/usr/sbin")));
    }

    #[test]
    fn this_process_is_among_the_processes() {
        assert!(processes().contains(&rustix::process::getpid()));
    }
}
