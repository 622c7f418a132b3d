//! A whole bed: it starts every part in the right order, and stops them again.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Client;
use kube::api::Api;
use kube::runtime::conditions::is_crd_established;
use kube::runtime::wait::Condition as _;
use tokio::process::Command;
use tokio::sync::Mutex;

use crate::control_plane::{self, ControlPlane};
use crate::kubelet::{Kubelet, KubeletOptions};
use crate::operator::{self, Operator, Settings};
use crate::pki::write;
use crate::programs::Programs;
use crate::streaming::{self, Streaming};
use crate::supplies::Supplies;
use crate::tools::Tools;
use crate::wait::{Attempt, until};

/// The CRDs that must be served before programs that use them start.
const CRDS: [&str; 5] = [
    "postgresqls.acid.zalan.do",
    "operatorconfigurations.acid.zalan.do",
    "postgresteams.acid.zalan.do",
    "execs.kwok.x-k8s.io",
    "portforwards.kwok.x-k8s.io",
];
const ESTABLISHED: Duration = Duration::from_secs(120);

/// The parts and the settings of a bed.
#[derive(Clone, Debug)]
pub struct BedOptions {
    /// The directory of the bed. It is made if it does not exist.
    pub directory: PathBuf,
    /// Its programs and environments.
    pub supplies: Supplies,
    /// The settings with which the operator starts.
    pub operator: Settings,
}

/// A running bed. It must be inside a [`crate::sandbox`].
pub struct Bed {
    options: BedOptions,
    client: Client,
    control_plane: Mutex<ControlPlane>,
    operator: Mutex<Operator>,
    streaming: Mutex<Streaming>,
    kubelet: Kubelet,
    kubeconfig: PathBuf,
}

/// The output of a program and its exit code.
#[derive(Clone, Debug)]
pub struct Said {
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
    /// Its exit code. `None` if a signal ended it.
    pub code: Option<i32>,
}

impl Bed {
    /// Starts everything: control plane, CRDs, kubelet, streams, operator.
    ///
    /// # Errors
    /// Fails when a part does not start. The error quotes its log.
    pub async fn start(options: BedOptions) -> Result<Self> {
        let directory = options.directory.clone();
        let logs = directory.join("logs");
        fs::create_dir_all(&logs).with_context(|| format!("failed to make {}", logs.display()))?;
        let Supplies { tools, python, .. } = &options.supplies;
        let control_plane =
            ControlPlane::start(tools, &directory.join("control-plane"), &logs).await?;
        let kubeconfig = control_plane.kubeconfig().to_owned();
        let client = control_plane::client(&kubeconfig).await?;
        apply_manifests(tools, &kubeconfig).await?;
        established(&client).await?;
        let kubelet = Kubelet::start(KubeletOptions {
            client: client.clone(),
            api_server: control_plane::url(),
            ca_pem: control_plane.authority().certificate().to_owned(),
            dir: directory.join("kubelet"),
            python: python.clone(),
            streaming_port: streaming::PORT,
        })
        .await?;
        let (certificate, key) = control_plane.serving_files();
        let streaming = Streaming::start(
            &tools.kwok,
            &kubeconfig,
            (&certificate, &key),
            &kubelet.programs(),
            &directory.join("streaming"),
            &logs,
        )
        .await?;
        let mut operator = Operator::install(
            client.clone(),
            control_plane.authority(),
            &tools.operator,
            &tools.operator_manifests,
            &directory.join("operator"),
            &logs,
        )
        .await?;
        operator.start(&options.operator).await?;
        Ok(Self {
            client,
            control_plane: Mutex::new(control_plane),
            operator: Mutex::new(operator),
            streaming: Mutex::new(streaming),
            kubelet,
            kubeconfig,
            options,
        })
    }

    /// Returns a client with all permissions.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Returns the administrator's kubeconfig.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Returns the directory of the bed.
    pub fn directory(&self) -> &Path {
        &self.options.directory
    }

    /// Returns the directory with one log per program.
    pub fn logs(&self) -> PathBuf {
        self.options.directory.join("logs")
    }

    /// Returns the programs of other projects that the bed uses.
    pub fn tools(&self) -> &Tools {
        &self.options.supplies.tools
    }

    /// Returns the project's own programs.
    ///
    /// # Errors
    /// Fails when the bed was started without them.
    pub fn programs(&self) -> Result<&Programs> {
        self.options
            .supplies
            .programs
            .as_ref()
            .context("this bed was started without the project's programs")
    }

    /// Returns the control plane, to restart the API server.
    pub fn control_plane(&self) -> &Mutex<ControlPlane> {
        &self.control_plane
    }

    /// Returns the operator, to stop it or to start it with other settings.
    pub fn operator(&self) -> &Mutex<Operator> {
        &self.operator
    }

    /// Returns the kubelet, to stage faults and to find members.
    pub fn kubelet(&self) -> &Kubelet {
        &self.kubelet
    }

    /// Returns the major version of the PostgreSQL that pods run, in the form of
    /// `spec.postgresql.version`. With any other version the operator tries an upgrade.
    ///
    /// # Errors
    /// Fails when the server does not report its version.
    pub async fn postgres_major(&self) -> Result<String> {
        let server = self.options.supplies.python.pg_bindir.join("postgres");
        let version = Command::new(&server).arg("--version").output().await;
        let version = said(version.context("failed to run postgres")?)?.ok()?;
        major(&version).with_context(|| format!("no version in {version:?}"))
    }

    /// Returns the directories to put before `PATH`, so that `kubectl` and `kubectl pgscale` are
    /// those of the bed.
    pub fn path(&self) -> Vec<PathBuf> {
        let programs = self.options.supplies.programs.iter().filter_map(Programs::directory);
        let tools = self.options.supplies.tools.kubectl.parent();
        tools.into_iter().chain(programs).map(Path::to_owned).collect()
    }

    /// Runs the real `kubectl` as administrator.
    ///
    /// # Errors
    /// Fails when it cannot be run. An exit code other than 0 is not an error.
    pub async fn kubectl<A: AsRef<OsStr>>(&self, args: &[A]) -> Result<Said> {
        self.kubectl_as(&self.kubeconfig, args).await
    }

    /// Runs the real `kubectl` with the permissions of the user in `kubeconfig`.
    ///
    /// # Errors
    /// Fails when it cannot be run. An exit code other than 0 is not an error.
    pub async fn kubectl_as<A: AsRef<OsStr>>(&self, kubeconfig: &Path, args: &[A]) -> Result<Said> {
        let mut command = self.command(&self.options.supplies.tools.kubectl, kubeconfig)?;
        said(command.args(args).output().await.context("failed to run kubectl")?)
    }

    /// Runs a command line in a shell, as a user does who pastes it.
    ///
    /// # Errors
    /// Fails when the shell cannot be run. An exit code other than 0 is not an error.
    pub async fn paste(&self, line: &str) -> Result<Said> {
        let mut shell = self.command(Path::new("sh"), &self.kubeconfig)?;
        said(shell.args(["-c", line]).output().await.context("failed to run sh")?)
    }

    /// Returns a command with the environment of a user: kubeconfig, `PATH` and a home of its own.
    ///
    /// # Errors
    /// Fails when a directory of the bed cannot be part of `PATH`.
    pub fn command(&self, program: &Path, kubeconfig: &Path) -> Result<Command> {
        let mut command = Command::new(program);
        command
            .env("PATH", self.search_path()?)
            .env("KUBECONFIG", kubeconfig)
            // kubectl caches discovery below its home, and the cache of another bed would mislead
            // it.
            .env("HOME", self.directory())
            .kill_on_drop(true);
        Ok(command)
    }

    /// Makes a kubeconfig for the user `name`, member of up to two `groups`, with no permissions
    /// but those of roles.
    ///
    /// # Errors
    /// Fails when it cannot be made or written.
    pub async fn user_kubeconfig(&self, name: &str, groups: &[&str]) -> Result<PathBuf> {
        let control_plane = self.control_plane.lock().await;
        let text = control_plane.authority().kubeconfig(&control_plane::url(), name, groups)?;
        let users = self.directory().join("users");
        fs::create_dir_all(&users)
            .with_context(|| format!("failed to make {}", users.display()))?;
        write(&users, &format!("{}.kubeconfig", name.replace(['/', ':'], "_")), &text)
    }

    /// Fails when a program of the bed has ended by itself.
    ///
    /// # Errors
    /// Fails with the end of that program's log.
    pub async fn ensure_alive(&self) -> Result<()> {
        self.control_plane.lock().await.ensure_alive()?;
        self.streaming.lock().await.ensure_alive()?;
        self.operator.lock().await.ensure_alive()
    }

    /// Stops everything, in the reverse order.
    ///
    /// # Errors
    /// Fails when an end cannot be observed.
    pub async fn stop(self) -> Result<()> {
        self.operator.into_inner().stop().await?;
        self.kubelet.stop().await;
        self.streaming.into_inner().stop().await?;
        self.control_plane.into_inner().stop().await
    }

    fn search_path(&self) -> Result<OsString> {
        let inherited = env::var_os("PATH").unwrap_or_default();
        let directories = self.path().into_iter().chain(env::split_paths(&inherited));
        env::join_paths(directories).context("a directory of the bed has a colon in its name")
    }
}

impl Said {
    /// Returns the standard output of a program that succeeded.
    ///
    /// # Errors
    /// Fails with the whole output when the program did not succeed.
    pub fn ok(self) -> Result<String> {
        let Self { stdout, stderr, code } = self;
        ensure!(code == Some(0), "exit code {code:?}\nstdout: {stdout}\nstderr: {stderr}");
        Ok(stdout)
    }
}

fn said(output: Output) -> Result<Said> {
    let text = |bytes| String::from_utf8(bytes).context("the output is not UTF-8");
    let Output { status, stdout, stderr } = output;
    Ok(Said { stdout: text(stdout)?, stderr: text(stderr)?, code: status.code() })
}

/// Returns the `15` of `postgres (PostgreSQL) 15.9 (Debian 15.9-1)`.
fn major(version: &str) -> Option<String> {
    let number = version.split_once("(PostgreSQL) ")?.1;
    let digits: String = number.chars().take_while(char::is_ascii_digit).collect();
    (!digits.is_empty()).then_some(digits)
}

/// Applies the operator's and kwok's manifests as a person does.
async fn apply_manifests(tools: &Tools, kubeconfig: &Path) -> Result<()> {
    let operator = operator::CRDS.iter().chain([&operator::RBAC]);
    let operator = operator.map(|file| tools.operator_manifests.join(file));
    let streaming = streaming::CRDS.iter().map(|file| tools.kwok_manifests.join(file));
    let mut kubectl = Command::new(&tools.kubectl);
    kubectl.arg("--kubeconfig").arg(kubeconfig).args([
        "apply",
        "--server-side",
        "--validate=false",
    ]);
    for file in operator.chain(streaming) {
        kubectl.arg("--filename").arg(file);
    }
    let applied = kubectl.output().await.context("failed to run kubectl")?;
    said(applied)?.ok().context("failed to apply the operator's and kwok's manifests")?;
    Ok(())
}

/// Waits until all of [`CRDS`] are served.
async fn established(client: &Client) -> Result<()> {
    let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
    for name in CRDS {
        until(&format!("the CRD {name} to be served"), ESTABLISHED, async || {
            let crd = crds.get_opt(name).await.context("failed to read a CRD")?;
            let served = is_crd_established().matches_object(crd.as_ref());
            Ok(if served { Attempt::Done(()) } else { Attempt::NotYet("not established".into()) })
        })
        .await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_major_version_is_read_from_every_build() {
        for (version, expected) in [
            ("postgres (PostgreSQL) 15.9 (Debian 15.9-0+deb12u1)\n", Some("15")),
            ("postgres (PostgreSQL) 18beta2\n", Some("18")),
            ("postgres (PostgreSQL) devel\n", None),
            ("", None),
        ] {
            assert_eq!(major(version).as_deref(), expected, "{version}");
        }
    }

    #[test]
    fn a_failure_shows_the_whole_output() {
        let said = Said { stdout: "out".into(), stderr: "no such cluster".into(), code: Some(1) };
        let error = said.ok().unwrap_err().to_string();
        assert_eq!(error, "exit code Some(1)\nstdout: out\nstderr: no such cluster");
    }
}
