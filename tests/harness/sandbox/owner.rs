//! The process outside: it prepares the directory, starts the sandbox and waits for its end.

use std::ffi::OsString;
use std::fs::{self, File, Permissions, TryLockError};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, anyhow, bail};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use super::diagnosis::{explain, find};
use super::{CONTROL, DIRECTORY, Kept, LOCK, ROLE};

/// The prefix of all sandbox directories.
const PREFIX: &str = "pgscale-";
/// The accounts as which root may appear inside, best first: PostgreSQL names its superuser after
/// it.
const ACCOUNTS: [&str; 3] = ["postgres", "daemon", "nobody"];

/// The end of a sandbox for its owner.
#[derive(Debug)]
pub enum Ended {
    /// The program ended with this code (128 + n when signal n killed it). Nothing is left.
    Exited(u8),
    /// The program asked to be kept: it runs without an owner.
    Kept(Kept),
}

/// Makes the directory of a new sandbox below the temporary directory, and removes directories of
/// sandboxes that were killed before they could do so.
///
/// # Errors
/// Fails when the directory cannot be made.
pub fn prepare() -> Result<PathBuf> {
    let parent = std::env::temp_dir();
    sweep(&parent);
    let directory = tempfile::Builder::new()
        .prefix(PREFIX)
        // Programs of the bed may run under another account than its owner.
        .permissions(Permissions::from_mode(0o755))
        .tempdir_in(&parent)
        .with_context(|| format!("failed to make a directory in {}", parent.display()))?;
    Ok(directory.keep())
}

/// Runs this program again, with `args`, inside a new sandbox whose directory is `directory` (from
/// [`prepare`]), and waits until it has ended or asks to be kept.
///
/// An interrupt or a termination of the owner is forwarded. A second one ends everything at once.
///
/// # Errors
/// Fails when this machine does not allow the sandbox, or it cannot be watched. The error names the
/// command that helps.
pub async fn launch(directory: &Path, args: &[OsString]) -> Result<Ended> {
    let ended = run(directory, args).await;
    if !matches!(ended, Ok(Ended::Kept(_))) {
        // The init removes the directory. This is for an init that never started or was killed.
        _ = fs::remove_dir_all(directory);
    }
    ended
}

async fn run(directory: &Path, args: &[OsString]) -> Result<Ended> {
    let (user, group) = identity()?;
    let mut unshare = Command::new(find("unshare")?);
    unshare
        .args(["--user", "--net", "--pid", "--ipc", "--mount"])
        .args(["--fork", "--mount-proc", "--keep-caps"])
        .args([format!("--map-user={user}"), format!("--map-group={group}"), "--".into()]);
    let mut trial = clone(&unshare);
    trial.arg(find("ip")?).args(["link", "set", "lo", "up"]);
    let tried = trial.output().context("failed to run unshare")?;
    if !tried.status.success() {
        return Err(explain(&String::from_utf8_lossy(&tried.stderr)));
    }

    let lock = File::create(directory.join(LOCK)).context("failed to create the lock file")?;
    lock.lock_shared().context("failed to lock the sandbox's directory")?;
    let listener = UnixListener::bind(directory.join(CONTROL))
        .with_context(|| format!("failed to listen in {}", directory.display()))?;
    unshare
        .arg(std::env::current_exe().context("failed to find this program's own file")?)
        .args(args)
        .env(ROLE, "init")
        .env(DIRECTORY, directory);
    watch(unshare, &listener).await
}

/// Starts the sandbox and answers its two connections until it has [`Ended`].
async fn watch(unshare: Command, listener: &UnixListener) -> Result<Ended> {
    let mut interrupts = signal(SignalKind::interrupt()).context("failed to watch signals")?;
    let mut terminations = signal(SignalKind::terminate()).context("failed to watch signals")?;
    let mut sandbox =
        tokio::process::Command::from(unshare).spawn().context("failed to start unshare")?;
    let (sender, mut messages) = mpsc::channel(8);
    let mut init: Option<(i32, OwnedWriteHalf)> = None;
    let mut signals = 0;
    loop {
        tokio::select! {
            ended = sandbox.wait() => {
                return Ok(Ended::Exited(code(ended.context("failed to wait for unshare")?)));
            }
            connection = listener.accept() => {
                let (stream, _) = connection.context("failed to accept from the sandbox")?;
                listen(stream, sender.clone());
            }
            Some(message) = messages.recv() => match message {
                Message::Hello { pid, answers } => init = Some((pid, answers)),
                Message::Keep { entry, mut answers } => {
                    let (pid, init) = init.as_mut().context("the program came before its init")?;
                    init.write_all(b"keep\n").await.context("failed to reach the init")?;
                    let kept = Kept::new(*pid, &entry)?;
                    answers.write_all(b"kept\n").await.context("failed to reach the program")?;
                    // `unshare` only waits, and meanwhile holds the output of this program open.
                    sandbox.start_kill().context("failed to end unshare")?;
                    return Ok(Ended::Kept(kept));
                }
            },
            () = either(&mut interrupts, &mut terminations) => {
                signals += 1;
                match &mut init {
                    Some((_, init)) if signals == 1 => {
                        init.write_all(b"stop\n").await.context("failed to reach the init")?;
                    }
                    // The return closes the init's connection, and that ends everything.
                    Some(_) | None => return Ok(Ended::Exited(130)),
                }
            }
        }
    }
}

/// A message from the sandbox.
enum Message {
    /// The init is up. `answers` keeps its connection open.
    Hello { pid: i32, answers: OwnedWriteHalf },
    /// The program asks to outlive its owner.
    Keep { entry: String, answers: OwnedWriteHalf },
}

/// Reads one connection until its end.
fn listen(stream: UnixStream, sender: mpsc::Sender<Message>) {
    // The kernel translates the peer's id into this process's PID namespace.
    let pid = stream.peer_cred().ok().and_then(|peer| peer.pid());
    let (reads, answers) = stream.into_split();
    tokio::spawn(async move {
        let mut lines = BufReader::new(reads).lines();
        let line = lines.next_line().await.ok().flatten();
        let message = match (line.as_deref().and_then(|line| line.split_once(' ')), pid) {
            (Some(("init", _)), Some(pid)) => Message::Hello { pid, answers },
            (Some(("keep", entry)), _) => Message::Keep { entry: entry.to_owned(), answers },
            (Some(_) | None, _) => return,
        };
        // A send fails only when the owner has stopped listening.
        _ = sender.send(message).await;
    });
}

async fn either(first: &mut Signal, second: &mut Signal) {
    tokio::select! {
        _ = first.recv() => {}
        _ = second.recv() => {}
    }
}

/// Returns the user and group as which this process appears inside.
fn identity() -> Result<(u32, u32)> {
    let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
    if !user.is_root() {
        return Ok((user.as_raw(), group.as_raw()));
    }
    let passwd = fs::read_to_string("/etc/passwd").context("failed to read /etc/passwd")?;
    unprivileged(&passwd).ok_or_else(|| {
        anyhow!(
            "PostgreSQL refuses to run as root, and /etc/passwd has none of {}; \
             add one with `useradd --system postgres`",
            ACCOUNTS.join(", ")
        )
    })
}

/// Returns user and group id of the first of [`ACCOUNTS`] that exists.
fn unprivileged(passwd: &str) -> Option<(u32, u32)> {
    ACCOUNTS.iter().find_map(|account| {
        passwd.lines().find_map(|line| {
            let mut fields = line.strip_prefix(account)?.strip_prefix(':')?.split(':').skip(1);
            Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
        })
    })
}

/// Removes the directories of sandboxes whose processes were all killed at once.
fn sweep(parent: &Path) {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    for entry in
        entries.filter(|entry| entry.file_name().as_encoded_bytes().starts_with(PREFIX.as_bytes()))
    {
        if abandoned(&entry.path()).unwrap_or(false) {
            _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Returns whether no process holds the directory's lock. A directory that is younger than a minute
/// may be about to be locked.
fn abandoned(directory: &Path) -> Result<bool> {
    let path = directory.join(LOCK);
    let age = SystemTime::now().duration_since(path.metadata()?.modified()?).unwrap_or_default();
    if age < Duration::from_secs(60) {
        return Ok(false);
    }
    match File::open(path)?.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => bail!(error),
    }
}

/// Returns a copy of a command's program and arguments.
fn clone(command: &Command) -> Command {
    let mut copy = Command::new(command.get_program());
    copy.args(command.get_args());
    copy
}

/// Returns an exit status as a shell reports it.
fn code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| Some(128 + status.signal()?)).unwrap_or(1);
    u8::try_from(code).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\n\
                          daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin\n\
                          postgresql:x:7:7::/:/bin/false\n";

    #[test]
    fn root_appears_as_the_first_account_that_exists() {
        assert_eq!(unprivileged(PASSWD), Some((1, 1)));
        assert_eq!(
            unprivileged(&format!("{PASSWD}postgres:x:101:104::/:/bin/sh\n")),
            Some((101, 104))
        );
        assert_eq!(unprivileged("root:x:0:0:root:/root:/bin/bash\n"), None);
    }

    #[test]
    fn exit_codes_are_those_of_a_shell() {
        assert_eq!(code(ExitStatus::from_raw(3 << 8)), 3);
        assert_eq!(code(ExitStatus::from_raw(9)), 137);
    }

    #[test]
    fn only_an_old_directory_without_a_lock_is_abandoned() {
        let directory = tempfile::tempdir().unwrap();
        let lock = File::create(directory.path().join(LOCK)).unwrap();
        assert!(!abandoned(directory.path()).unwrap(), "young");
        lock.set_modified(SystemTime::now() - Duration::from_secs(3600)).unwrap();
        assert!(abandoned(directory.path()).unwrap(), "old and free");
        lock.lock_shared().unwrap();
        assert!(!abandoned(directory.path()).unwrap(), "old and held");
    }
}
