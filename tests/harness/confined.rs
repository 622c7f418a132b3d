//! A program under a hard limit of memory, like that of a container.
//!
//! The limit is a memory cgroup where one can be made, as for a container: the kernel kills a
//! program that exceeds it. The cgroup is made below that of this process (version 2: beside it),
//! so the limits above hold as well.
//!
//! Without a cgroup, `prlimit` (util-linux) bounds the private memory that the program may request
//! (`RLIMIT_DATA`), and its allocator ends it at the limit. That is stricter, because requested
//! memory counts even if it is never touched.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use tokio::process::Command;

use crate::process::Process;

/// The time that a cgroup may stay busy after its last process was killed.
const EMPTIED: Duration = Duration::from_secs(5);
/// A shell command that enters the cgroup of its first argument and becomes the program in the
/// others.
const ENTER: &str = "echo $$ > \"$0\" && exec \"$@\"";
/// The pause between two attempts to remove the cgroup.
const PAUSE: Duration = Duration::from_millis(20);

/// A limit of memory.
#[derive(Debug)]
pub enum Limit {
    /// A memory cgroup of its own.
    Cgroup(Cgroup),
    /// `RLIMIT_DATA`, and the reason why there is no cgroup.
    Rlimit {
        /// The limit in bytes.
        bytes: u64,
        /// The reason why no cgroup could be made.
        instead: String,
    },
}

impl Limit {
    /// Returns a limit of `bytes` by a cgroup named `name`, or by `prlimit` where no cgroup can be
    /// made.
    pub fn new(name: &str, bytes: u64) -> Self {
        match Cgroup::new(name, bytes) {
            Ok(cgroup) => Self::Cgroup(cgroup),
            Err(error) => Self::Rlimit { bytes, instead: format!("{error:#}") },
        }
    }

    /// Starts `program` under the limit, with these variables, and with its output in `logs`/`name`.log.
    ///
    /// # Errors
    /// Fails when the program cannot be started.
    pub fn spawn(
        &self,
        name: &str,
        program: &Path,
        args: &[OsString],
        variables: &[(&str, &str)],
        logs: &Path,
    ) -> Result<Process> {
        let mut command = match self {
            Self::Cgroup(cgroup) => {
                // The shell enters the cgroup and then becomes the program, which never runs
                // outside of the cgroup.
                let mut command = Command::new("sh");
                command.args(["-c", ENTER]).arg(cgroup.entrance());
                command
            }
            Self::Rlimit { bytes, .. } => {
                let mut command = Command::new("prlimit");
                command.args([format!("--data={bytes}:{bytes}"), "--".to_owned()]);
                command
            }
        };
        command.arg(program).args(args).envs(variables.iter().copied());
        Process::spawn(name, command, logs)
    }

    /// Returns how the limit is enforced, for a report.
    pub fn enforced_by(&self) -> String {
        match self {
            Self::Cgroup(cgroup) => format!("the memory cgroup {}", cgroup.directory.display()),
            Self::Rlimit { instead, .. } => format!("RLIMIT_DATA ({instead})"),
        }
    }
}

/// A memory cgroup, removed when dropped.
#[derive(Debug)]
pub struct Cgroup {
    directory: PathBuf,
}

impl Cgroup {
    /// Makes a cgroup that allows `bytes` of memory and no swap.
    ///
    /// # Errors
    /// Fails when no cgroup can be made here: no memory controller, or no permission.
    fn new(name: &str, bytes: u64) -> Result<Self> {
        let own = fs::read_to_string("/proc/self/cgroup").context("failed to read our cgroups")?;
        let mounts = fs::read_to_string("/proc/self/mountinfo").context("failed to read mounts")?;
        let mut reasons = Vec::new();
        for (parent, files) in places(&own, &mounts) {
            match Self::at(parent.join(name), files, bytes) {
                Ok(cgroup) => return Ok(cgroup),
                Err(error) => reasons.push(format!("{error:#}")),
            }
        }
        if reasons.is_empty() {
            bail!("no memory controller is mounted");
        }
        bail!("{}", reasons.join("; "))
    }

    fn at(directory: PathBuf, files: Files, bytes: u64) -> Result<Self> {
        fs::create_dir(&directory).with_context(|| format!("no {}", directory.display()))?;
        let cgroup = Self { directory };
        let limit = cgroup.directory.join(files.limit);
        fs::write(&limit, bytes.to_string())
            .with_context(|| format!("no limit in {}", limit.display()))?;
        let swap = cgroup.directory.join(files.swap);
        if swap.exists() {
            let none = if files.swap_included { bytes.to_string() } else { "0".to_owned() };
            fs::write(&swap, none).with_context(|| format!("no limit in {}", swap.display()))?;
        }
        // The permission to make a cgroup does not include the permission to move a process into
        // it.
        let enter = process::Command::new("sh")
            .args(["-c", ENTER])
            .args([cgroup.entrance().as_os_str(), "true".as_ref()])
            .output()
            .context("failed to run sh")?;
        let said = String::from_utf8_lossy(&enter.stderr);
        ensure!(enter.status.success(), "no way into {}: {said}", cgroup.directory.display());
        Ok(cgroup)
    }

    fn entrance(&self) -> PathBuf {
        self.directory.join("cgroup.procs")
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let start = Instant::now();
        // The cgroup is busy until the kernel has removed its last process.
        while self.directory.exists() && start.elapsed() < EMPTIED {
            if fs::remove_dir(&self.directory).is_err() {
                thread::sleep(PAUSE);
            }
        }
    }
}

/// The files of a cgroup that hold its limits.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Files {
    limit: &'static str,
    swap: &'static str,
    /// True if the limit of swap covers memory and swap together.
    swap_included: bool,
}

const VERSION_1: Files = Files {
    limit: "memory.limit_in_bytes",
    swap: "memory.memsw.limit_in_bytes",
    swap_included: true,
};
const VERSION_2: Files =
    Files { limit: "memory.max", swap: "memory.swap.max", swap_included: false };

/// Returns the places for a memory cgroup, from `/proc/self/cgroup` and `/proc/self/mountinfo`.
///
/// Version 2 allows no controller below a cgroup that has processes, so the parent of our cgroup
/// comes first.
fn places(own: &str, mounts: &str) -> Vec<(PathBuf, Files)> {
    let mut found = Vec::new();
    for line in own.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let path = path.trim_start_matches('/');
        if controllers.split(',').any(|controller| controller == "memory") {
            let mount = mount(mounts, "cgroup", Some("memory"));
            found.extend(mount.map(|mount| (mount.join(path), VERSION_1)));
        } else if controllers.is_empty() {
            let Some(mount) = mount(mounts, "cgroup2", None) else { continue };
            let own = mount.join(path);
            let parent = own.parent().filter(|parent| parent.starts_with(&mount));
            found.extend(parent.map(|parent| (parent.to_owned(), VERSION_2)));
            found.push((own, VERSION_2));
        }
    }
    found
}

/// Returns the mount point of a file system of this kind with this option.
fn mount(mounts: &str, kind: &str, option: Option<&str>) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let (mount, about) = line.split_once(" - ")?;
        let mut about = about.split(' ');
        let fits = about.next() == Some(kind)
            && option.is_none_or(|option| {
                about.nth(1).is_some_and(|all| all.split(',').any(|one| one == option))
            });
        fits.then(|| mount.split(' ').nth(4).map(PathBuf::from)).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wait::{Attempt, until};

    const MOUNTS: &str = "\
30 25 0:26 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
31 25 0:27 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate";

    #[test]
    fn cgroup_is_made_below_or_beside_our_own() {
        let first = places("4:memory:/a/b\n1:cpu:/\n", MOUNTS);
        assert_eq!(first, [("/sys/fs/cgroup/memory/a/b".into(), VERSION_1)]);
        let second = places("0::/a/b\n", MOUNTS);
        assert_eq!(
            second,
            [
                ("/sys/fs/cgroup/unified/a".into(), VERSION_2),
                ("/sys/fs/cgroup/unified/a/b".into(), VERSION_2)
            ]
        );
        assert_eq!(places("0::/\n", MOUNTS).len(), 1, "nothing above the mount");
        assert_eq!(places("4:memory:/\n", ""), []);
    }

    /// Runs a program that keeps the 300 MiB that it reads, and returns its output.
    async fn greedy(limit: &Limit) -> String {
        let logs = tempfile::tempdir().unwrap();
        let args = ["-c", "head -c 314572800 /dev/zero | tail; echo survived"].map(OsString::from);
        let mut process = limit.spawn("greedy", Path::new("sh"), &args, &[], logs.path()).unwrap();
        let log = process.log().to_owned();
        until("the end", Duration::from_secs(60), async || {
            Ok(match process.ensure_alive() {
                Ok(()) => Attempt::NotYet("it runs".into()),
                Err(_) => Attempt::Done(()),
            })
        })
        .await
        .unwrap();
        let log = fs::read(log).unwrap();
        assert!(log.len() < 4096, "{limit:?}: {} bytes came through", log.len());
        String::from_utf8_lossy(&log).into_owned()
    }

    #[tokio::test]
    async fn program_beyond_its_limit_does_not_get_the_memory() {
        let bytes = 64 << 20;
        let rlimit = Limit::Rlimit { bytes, instead: "the test requests it".into() };
        let by_allocator = greedy(&rlimit).await;
        assert!(by_allocator.contains("memory exhausted"), "{by_allocator}");
        let name = format!("pgscale-greedy-{}", process::id());
        greedy(&Limit::new(&name, bytes)).await;
    }
}
