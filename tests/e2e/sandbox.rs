//! The properties of the sandbox, seen from outside: it needs no root, is isolated from other
//! sandboxes, and leaves nothing behind, however its owner ends.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use libtest_mimic::{Failed, Trial};
use pgscale_tests::progress::{brief, say};
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use serde_json::json;
use tempfile::TempDir;

/// The program that brings up a bed for these tests.
const PROGRAM: &str = env!("CARGO_BIN_EXE_pgscale-demo");
/// The limit for a sandbox to disappear.
const GONE: Duration = Duration::from_secs(90);
/// The limit for one PostgreSQL to come up.
const MEMBER: Duration = Duration::from_secs(240);
/// The pause between two looks at a condition.
const PAUSE: Duration = Duration::from_millis(100);

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("sandbox::two_beds_are_isolated", two_beds_are_isolated),
        trial(
            "sandbox::a_killed_owner_leaves_nothing_behind",
            a_killed_owner_leaves_nothing_behind,
        ),
        trial("sandbox::a_closed_stdin_ends_the_bed", a_closed_stdin_ends_the_bed),
        trial("sandbox::an_ordinary_user_gets_a_bed", an_ordinary_user_gets_a_bed),
        trial("sandbox::a_kept_bed_outlives_its_owner", a_kept_bed_outlives_its_owner),
        trial("sandbox::a_termination_ends_the_bed", a_termination_ends_the_bed),
    ]
}

/// Returns a test that runs outside of the sandbox.
pub(crate) fn trial(name: &'static str, run: fn() -> Result<()>) -> Trial {
    Trial::test(name, move || {
        let start = Instant::now();
        let result = run();
        say(&format!("{name} took {}", brief(start.elapsed())));
        result.map_err(|error| Failed::from(format!("{error:#}")))
    })
}

fn two_beds_are_isolated() -> Result<()> {
    let [first, second] = [StartingBed::start()?, StartingBed::start()?];
    let (first, second) = (first.ready()?, second.ready()?);
    ensure!(first.about.namespaces.pid != second.about.namespaces.pid, "the sandbox is shared");
    first.kubectl(&["create", "namespace", "only-here"])?;
    let here = first.kubectl(&["get", "namespaces", "--output=name"])?;
    ensure!(here.contains("namespace/only-here"), "{here}");
    let there = second.kubectl(&["get", "namespaces", "--output=name"])?;
    ensure!(there.contains("namespace/default") && !there.contains("only-here"), "{there}");
    first.end()?;
    second.end()
}

fn a_killed_owner_leaves_nothing_behind() -> Result<()> {
    let mut bed = StartingBed::start()?.ready()?;
    let running = bed.about.processes()?;
    ensure!(running.len() > 5, "only {} processes are in the sandbox", running.len());
    bed.owner.kill().context("failed to kill the owner")?;
    bed.owner.wait().context("failed to wait for the owner")?;
    bed.about.gone()
}

fn a_closed_stdin_ends_the_bed() -> Result<()> {
    StartingBed::start()?.ready()?.end()
}

fn a_termination_ends_the_bed() -> Result<()> {
    let mut bed = StartingBed::start()?.ready()?;
    let owner = i32::try_from(bed.owner.id()).ok().and_then(Pid::from_raw);
    kill_process(owner.context("the owner has no id")?, Signal::TERM)
        .context("failed to signal")?;
    let status = bed.owner.wait().context("failed to wait for the owner")?;
    ensure!(status.success(), "the owner of the bed ended with {status}");
    bed.about.gone()
}

fn a_kept_bed_outlives_its_owner() -> Result<()> {
    let state = tempfile::tempdir().context("failed to make a directory")?;
    let program = |args: &[&str]| {
        let mut command = Command::new(PROGRAM);
        command.env("XDG_STATE_HOME", state.path()).args(args);
        command
    };
    let mut bed = StartingBed::spawn(program(&["--keep"]), None)?.ready()?;
    let status = bed.owner.wait().context("failed to wait for the owner")?;
    ensure!(status.success(), "the owner of the kept bed ended with {status}");
    let enter = ["enter", "--", "kubectl", "get", "--raw", "/readyz"];
    let inside = program(&enter).output().context("failed to enter the kept bed")?;
    ensure!(inside.stdout == b"ok", "{inside:?}");
    let stop = program(&["stop"]).output().context("failed to stop the kept bed")?;
    ensure!(stop.stderr.starts_with(b"1 "), "{stop:?}");
    bed.about.gone()?;
    let again = program(&enter).output().context("failed to run the program")?;
    let stderr = String::from_utf8_lossy(&again.stderr);
    ensure!(!again.status.success() && stderr.contains("`cargo demo --keep`"), "{stderr}");
    Ok(())
}

fn an_ordinary_user_gets_a_bed() -> Result<()> {
    let bed = StartingBed::unprivileged()?.ready()?;
    for process in bed.about.processes()? {
        let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
        let real = status.lines().find_map(|line| line.strip_prefix("Uid:"));
        let root = real.is_some_and(|ids| ids.split_whitespace().any(|id| id == "0"));
        ensure!(!root, "process {process} runs as root:\n{status}");
    }
    let version = bed.kubectl(&["version"])?;
    ensure!(version.contains("Server Version: v1.36.3"), "{version}");
    let cluster = json!({
        "apiVersion": "acid.zalan.do/v1",
        "kind": "postgresql",
        "metadata": { "name": "acid-u" },
        "spec": {
            "teamId": "acid", "numberOfInstances": 1,
            "postgresql": { "version": bed.about.postgres }, "volume": { "size": "1Gi" },
        },
    });
    let manifests = tempfile::tempdir().context("failed to make a directory")?;
    let manifest = manifests.path().join("acid-u.json");
    fs::write(&manifest, cluster.to_string()).context("failed to write a manifest")?;
    let readable = fs::Permissions::from_mode(0o755);
    fs::set_permissions(manifests.path(), readable).context("failed to open a directory")?;
    bed.kubectl(&["create", "--filename", &manifest.display().to_string()])?;
    let start = Instant::now();
    let query = ["exec", "acid-u-0", "--", "psql", "-XAtc", "select 'up'"];
    loop {
        match bed.kubectl(&query) {
            Ok(answer) if answer == "up\n" => break,
            Ok(_) | Err(_) if start.elapsed() < MEMBER => thread::sleep(PAUSE),
            Ok(answer) => bail!("PostgreSQL answered {answer:?}"),
            Err(error) => return Err(error.context("PostgreSQL did not come up")),
        }
    }
    bed.end()
}

/// A bed of another process that is not up yet.
struct StartingBed {
    owner: Child,
    /// The directory with the program for an unprivileged owner: our own file may be readable by
    /// root only.
    home: Option<TempDir>,
}

impl StartingBed {
    fn start() -> Result<Self> {
        Self::spawn(Command::new(PROGRAM), None)
    }

    /// Starts a bed that a user without any permissions owns, or this user, if this user is not
    /// root.
    fn unprivileged() -> Result<Self> {
        if !rustix::process::geteuid().is_root() {
            return Self::start();
        }
        let home = tempfile::tempdir().context("failed to make a directory")?;
        let program = home.path().join("pgscale-demo");
        fs::copy(PROGRAM, &program).context("failed to copy the program")?;
        // World-writable, because it is the home of the unprivileged user.
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o777))?;
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid=nobody", "--regid=65534", "--clear-groups", "--"])
            .arg(program)
            .env("HOME", home.path())
            .current_dir(home.path());
        Self::spawn(command, Some(home))
    }

    fn spawn(mut command: Command, home: Option<TempDir>) -> Result<Self> {
        let owner = command
            .arg("bed")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("failed to start another bed")?;
        Ok(Self { owner, home })
    }

    /// Waits until the bed is up.
    fn ready(mut self) -> Result<Bed> {
        let stdin = self.owner.stdin.take().context("the owner has no stdin")?;
        let stdout = self.owner.stdout.take().context("the owner has no stdout")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).context("failed to read about the bed")?;
        let about = serde_json::from_str(&line)
            .with_context(|| format!("the other bed did not come up; it said {line:?}"))?;
        Ok(Bed { owner: self.owner, stdin, about, _home: self.home })
    }
}

/// The line that a bed prints about itself.
#[derive(Debug, Deserialize)]
struct About {
    directory: PathBuf,
    kubeconfig: PathBuf,
    path: Vec<PathBuf>,
    postgres: String,
    namespaces: Namespaces,
}

#[derive(Debug, Deserialize)]
struct Namespaces {
    pid: PathBuf,
    mnt: PathBuf,
}

/// A bed of another process.
struct Bed {
    owner: Child,
    stdin: ChildStdin,
    about: About,
    _home: Option<TempDir>,
}

impl Bed {
    /// Runs the `kubectl` of the bed inside it.
    fn kubectl(&self, args: &[&str]) -> Result<String> {
        let processes = self.about.processes()?;
        let inside = processes.first().context("nothing runs in the other bed")?;
        let kubectl = self.about.path.first().context("the other bed has no programs")?;
        let run = Command::new("nsenter")
            .arg(format!("--target={inside}"))
            .args(["--user", "--net", "--mount", "--preserve-credentials", "--"])
            .arg(kubectl.join("kubectl"))
            .arg(format!("--kubeconfig={}", self.about.kubeconfig.display()))
            .arg(format!("--cache-dir={}", self.about.directory.join("kube-cache").display()))
            .args(args)
            .output()
            .context("failed to run nsenter")?;
        let stderr = String::from_utf8_lossy(&run.stderr);
        ensure!(run.status.success(), "kubectl in the other bed: {stderr}");
        String::from_utf8(run.stdout).context("kubectl's output is not UTF-8")
    }

    /// Closes the stdin of the owner, and expects a successful end.
    fn end(self) -> Result<()> {
        let Self { mut owner, stdin, about, .. } = self;
        drop(stdin);
        let status = owner.wait().context("failed to wait for the owner")?;
        ensure!(status.success(), "the owner of the bed ended with {status}");
        about.gone()
    }
}

impl About {
    /// Returns all processes of this machine that are in one of the bed's namespaces.
    fn processes(&self) -> Result<BTreeSet<u32>> {
        let Namespaces { pid, mnt } = &self.namespaces;
        let mut found = BTreeSet::new();
        for entry in fs::read_dir("/proc").context("failed to list processes")?.flatten() {
            let member = [("pid", pid), ("mnt", mnt)].into_iter().any(|(kind, namespace)| {
                fs::read_link(entry.path().join("ns").join(kind)).is_ok_and(|of| of == *namespace)
            });
            if let (true, Ok(id)) = (member, entry.file_name().to_string_lossy().parse()) {
                found.insert(id);
            }
        }
        Ok(found)
    }

    /// Expects that no process, and so no mount, and no file is left.
    fn gone(&self) -> Result<()> {
        let start = Instant::now();
        loop {
            let processes = self.processes()?;
            if processes.is_empty() && !self.directory.exists() {
                break;
            }
            if start.elapsed() > GONE {
                bail!("left behind: processes {processes:?}, {}", self.directory.display());
            }
            thread::sleep(PAUSE);
        }
        let mounts = fs::read_to_string("/proc/self/mounts").context("failed to list mounts")?;
        let directory = self.directory.display().to_string();
        ensure!(!mounts.contains(&directory), "a mount is left behind:\n{mounts}");
        Ok(())
    }
}
