//! The files, the command line and the environment of a Spilo container.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::net::Ipv4Addr;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use tokio::process::Command;

use super::addresses::NETWORK;
use super::faults::base_backup_script;
use super::identity::replace;
use super::{ApiServer, PodName};
use crate::patroni::{self, POSTGRES_PORT, Placement, RuntimeSettings};
use crate::python::Environment;
use crate::stage::Faults;
use crate::streaming::Target;

/// The private run directory of a container.
const RUN_DIR: &str = "/var/run/postgresql";

/// The programs that people execute in a Spilo container and that the machine's own `PATH` may not
/// have.
const EXECUTABLE: [&str; 7] =
    ["patronictl", "pg_controldata", "pg_dump", "pg_isready", "pg_waldump", "pgbench", "psql"];

/// A container that is ready to start.
#[derive(Clone, Debug)]
pub(super) struct Launch {
    pub(super) pod: PodName,
    pub(super) address: Ipv4Addr,
    /// The container's environment, with every reference resolved.
    pub(super) env: BTreeMap<String, String>,
    /// The directory of the container's files, outside the volume.
    pub(super) directory: PathBuf,
    /// The mounted volume.
    pub(super) volume: PathBuf,
    /// The programs.
    pub(super) python: Environment,
    /// The program that becomes process 1.
    pub(super) init: PathBuf,
    pub(super) api_server: ApiServer,
}

impl Launch {
    /// Writes the container's files.
    ///
    /// # Errors
    /// Fails when the environment makes no configuration, or a file cannot be written.
    pub(super) async fn lay_out(&self, faults: &Faults) -> Result<()> {
        self.write_configuration(faults.runtime_settings()).await?;
        replace(&self.base_backup_stage(), &faults.base_backup()).await?;
        let script = base_backup_script(&self.base_backup_stage(), &self.python.pg_bindir);
        replace(&self.base_backup(), &script).await?;
        make_executable(&self.base_backup())?;
        tokio::fs::create_dir_all(self.programs()).await?;
        let patronictl = self.programs().join("patronictl");
        replace(&patronictl, &self.patronictl_script()).await?;
        make_executable(&patronictl)
    }

    /// Stores the container's first process, for programs that must run in its namespaces.
    ///
    /// # Errors
    /// Fails when the file cannot be written.
    pub(super) async fn remember(&self, first: i32) -> Result<()> {
        replace(&self.first_process(), &first.to_string()).await
    }

    /// Writes Patroni's configuration.
    ///
    /// # Errors
    /// Fails like [`Self::lay_out`].
    pub(super) async fn write_configuration(&self, settings: RuntimeSettings) -> Result<()> {
        let base_backup = self.base_backup();
        let place = Placement {
            pod: &self.pod.name,
            namespace: &self.pod.namespace,
            address: self.address,
            network: NETWORK,
            volume: &self.volume,
            bin_dir: &self.python.pg_bindir,
            base_backup: &base_backup,
            run_dir: Path::new(RUN_DIR),
        };
        let config = patroni::configuration(&self.env, &place, settings)?;
        replace(&self.configuration(), &format!("{config:#}")).await
    }

    /// Returns the container's command, environment and working directory.
    pub(super) fn command(&self) -> Command {
        let mut command = Command::new(&self.python.python);
        command
            .arg(&self.init)
            .arg(&self.pod.name)
            .arg(self.service_account())
            .arg(&self.python.python)
            .arg(&self.python.patroni)
            .arg(self.configuration())
            .envs(&self.env)
            .env("HOME", &self.directory)
            .env("LANG", "C.UTF-8")
            .env("PATH", &self.python.path)
            .env("PYTHONUNBUFFERED", "1")
            .env("KUBERNETES_SERVICE_HOST", &self.api_server.host)
            .env("KUBERNETES_SERVICE_PORT", self.api_server.port.to_string())
            .current_dir(&self.directory);
        command
    }

    /// Returns the target of `kubectl exec` and `kubectl port-forward`. Commands run beside the
    /// container, not in its namespaces. They find PostgreSQL by its address.
    pub(super) fn streams(&self) -> Target {
        let mut environment = self.env.clone();
        environment.extend(
            [
                ("HOME", self.directory.display().to_string()),
                ("PATH", format!("{}:{}", self.programs().display(), self.python.path)),
                ("PGHOST", self.address.to_string()),
                ("PGPORT", POSTGRES_PORT.to_string()),
                ("PGUSER", self.superuser().to_owned()),
            ]
            .map(|(name, value)| (name.to_owned(), value)),
        );
        Target {
            namespace: self.pod.namespace.clone(),
            pod: self.pod.name.clone(),
            address: self.address,
            directory: self.directory.clone(),
            environment,
        }
    }

    /// Returns the directory of the service account's token.
    pub(super) fn service_account(&self) -> PathBuf {
        self.directory.join("serviceaccount")
    }

    /// Returns the file with the instruction for the next base backup.
    pub(super) fn base_backup_stage(&self) -> PathBuf {
        self.directory.join("base-backup-stage")
    }

    /// Returns whether a command line is one of Patroni's processes.
    pub(super) fn is_patroni(&self, command: &str) -> bool {
        self.configuration().to_str().is_some_and(|path| command.ends_with(path))
    }

    /// Returns the name of the member's cluster.
    pub(super) fn scope(&self) -> Option<&str> {
        self.env.get("SCOPE").map(String::as_str)
    }

    /// Returns the name of PostgreSQL's superuser.
    pub(super) fn superuser(&self) -> &str {
        self.env.get("PGUSER_SUPERUSER").map_or("postgres", String::as_str)
    }

    /// Returns the script that runs `patronictl` in the mount namespace of Patroni: it needs the
    /// pod's token, which only the container's own mounts show.
    fn patronictl_script(&self) -> String {
        format!(
            "#!/bin/sh\n\
             export KUBERNETES_SERVICE_HOST='{host}' KUBERNETES_SERVICE_PORT='{port}'\n\
             exec nsenter --target \"$(cat '{first}')\" --mount -- '{python}' '{patronictl}' \\\n  \
             -c '{config}' \"$@\"\n",
            host = self.api_server.host,
            port = self.api_server.port,
            first = self.first_process().display(),
            python = self.python.python.display(),
            patronictl = self.python.patroni.with_file_name("patronictl").display(),
            config = self.configuration().display(),
        )
    }

    /// Returns the directory of programs that stand in for those of the image.
    fn programs(&self) -> PathBuf {
        self.directory.join("bin")
    }

    fn first_process(&self) -> PathBuf {
        self.directory.join("first-process")
    }

    fn base_backup(&self) -> PathBuf {
        self.directory.join("pg_basebackup")
    }

    fn configuration(&self) -> PathBuf {
        self.directory.join("patroni.json")
    }
}

/// Writes the programs of [`super::Kubelet::programs`].
///
/// # Errors
/// Fails when the directory cannot be written.
pub(super) fn lay_out_programs(directory: &Path) -> Result<()> {
    fs::create_dir_all(directory)?;
    let pick = directory.join("pick-by-path");
    fs::write(&pick, "#!/bin/sh\nexec \"${0##*/}\" \"$@\"\n")?;
    make_executable(&pick)?;
    for name in EXECUTABLE {
        let link = directory.join(name);
        if !link.is_symlink() {
            symlink(&pick, &link).with_context(|| format!("failed to make {}", link.display()))?;
        }
    }
    Ok(())
}

fn make_executable(program: &Path) -> Result<()> {
    fs::set_permissions(program, Permissions::from_mode(0o755))
        .with_context(|| format!("failed to make {} executable", program.display()))
}
