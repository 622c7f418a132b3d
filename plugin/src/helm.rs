//! The `helm` on the path: the chart inside this program goes in, and what helm says comes out.
//!
//! Helm is run with a list of words, never through a shell. It gets the cluster and user that this
//! program is connected with ([`connect::access`](crate::connect::access)), and none of its own
//! variables that choose another cluster (`pkg/cli/environment.go` of helm).

use std::fmt;
use std::io::{self, Write as _};
use std::process::Stdio;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use pgscale_guard::duration::exact;
use pgscale_guard::printable::printable;
use pgscale_guard::remedy::{Command, Line};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Child;
use tokio::time::timeout;

use crate::connect::access::CONTEXT;
use crate::error::{Failure, Kind};

pub(crate) mod chart;

/// Stands for the chart among the words of a call.
pub(crate) const CHART: &str = "charts/pgscale";

/// The most bytes of an answer. The chart and its manifest together have 0.3 MB.
const MOST: usize = 16 << 20;
/// The most bytes of a message: its end, which has the reason.
const MOST_SAID: usize = 16 << 10;

/// Variables by which helm would come to another cluster, user or namespace.
const VARIABLES: [&str; 11] = [
    "HELM_KUBEAPISERVER",
    "HELM_KUBEASGROUPS",
    "HELM_KUBEASUSER",
    "HELM_KUBECAFILE",
    "HELM_KUBECONTEXT",
    "HELM_KUBEINSECURE_SKIP_TLS_VERIFY",
    "HELM_KUBETLS_SERVER_NAME",
    "HELM_KUBETOKEN",
    "HELM_NAMESPACE",
    "HELM_DEBUG",
    "KUBECONFIG",
];

/// One run of helm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    /// The words behind `helm`. [`CHART`] among them stands for the chart.
    pub(crate) words: Vec<String>,
    /// The time limit.
    pub(crate) patience: Duration,
    /// The part of the world that the run touches.
    pub(crate) reach: Touch,
}

/// The part of the world that a run of helm touches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Touch {
    /// No API server is asked.
    Nothing,
    /// The API server is asked.
    Reads,
    /// Objects are written. An interruption of this program does not kill it half-way.
    Writes,
}

impl Call {
    /// Returns a call with these words.
    pub(crate) fn new<W: Into<String>>(
        words: impl IntoIterator<Item = W>,
        reach: Touch,
        patience: Duration,
    ) -> Self {
        Self { words: words.into_iter().map(Into::into).collect(), patience, reach }
    }

    /// Returns the command as a person can run it beside a checkout of the chart.
    pub(crate) fn command(&self) -> Command {
        Command::program(std::iter::once("helm").chain(self.words.iter().map(String::as_str)))
    }
}

/// The reason for which helm gave no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HelmError {
    /// There is no helm on the path.
    Missing,
    /// It ended with this message.
    Failed(String),
    /// It gave no answer within this time, and was ended.
    Late(Duration),
    /// It could not be run, or its answer is not understood.
    Unusable(String),
}

impl HelmError {
    /// Returns the failure of the attempt to `asked` ("list the Helm releases") by `call`.
    pub(crate) fn failure(&self, asked: &str, call: &Call) -> Failure {
        // The flags of the connection are added to a hint, so that it leads to no other cluster.
        let ran = "it ran this, with the chart in this program";
        match self {
            Self::Missing => Failure::error(format!("failed to {asked}: helm is not on the path"))
                .hint("get Helm 3.14 or later from https://helm.sh/docs/intro/install"),
            Self::Failed(said) => Failure::error(format!("failed to {asked}: helm says:"))
                .with(said.lines().map(|line| Line::Command(format!("  {}", printable(line)))))
                .hint_to(ran, call.command()),
            Self::Late(limit) => Failure::new(
                Kind::Timeout,
                format!("failed to {asked}: helm did not end within {}", exact(*limit)),
            )
            .hint_to(ran, call.command()),
            Self::Unusable(why) => Failure::error(format!("failed to {asked}: {why}")),
        }
    }
}

impl fmt::Display for HelmError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => out.write_str("helm is not on the path"),
            Self::Failed(said) => out.write_str(said),
            Self::Late(limit) => write!(out, "helm did not end within {}", exact(*limit)),
            Self::Unusable(why) => out.write_str(why),
        }
    }
}

/// A way to run helm.
pub(crate) trait Helm: Send + Sync {
    /// Runs helm, and returns its output.
    fn run(&self, call: Call) -> BoxFuture<'_, Result<String, HelmError>>;
}

/// The `helm` on the path.
pub(crate) struct OnPath {
    /// The kubeconfig that it gets; `None` where no API server is to be asked.
    kubeconfig: Option<Value>,
    /// The program.
    program: &'static str,
}

impl OnPath {
    /// Returns helm with this kubeconfig.
    pub(crate) fn new(kubeconfig: Option<Value>) -> Self {
        Self { kubeconfig, program: "helm" }
    }

    async fn answer(&self, call: Call) -> Result<String, HelmError> {
        let unusable =
            |what: &str, error: &io::Error| HelmError::Unusable(format!("{what}: {error}"));
        let place = self.prepared(&call).map_err(|error| unusable("no files for helm", &error))?;
        let mut command = tokio::process::Command::new(self.program);
        let chart = place.path().join("chart");
        for word in &call.words {
            if word == CHART {
                command.arg(&chart)
            } else {
                command.arg(word)
            };
        }
        for variable in VARIABLES {
            command.env_remove(variable);
        }
        if call.reach != Touch::Nothing {
            let mut flag = std::ffi::OsString::from("--kubeconfig=");
            flag.push(place.path().join("kubeconfig"));
            command.arg(flag).arg(format!("--kube-context={CONTEXT}"));
        }
        if call.reach == Touch::Writes {
            // An interruption of the terminal reaches this program alone, and helm ends its work.
            #[cfg(unix)]
            command.process_group(0);
        }
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(call.reach != Touch::Writes)
            .spawn()
            .map_err(|error| {
                if error.kind() == io::ErrorKind::NotFound {
                    HelmError::Missing
                } else {
                    unusable("helm cannot be run", &error)
                }
            })?;
        if let Ok(answer) = timeout(call.patience, ended(&mut child)).await {
            return answer.map_err(|error| unusable("helm cannot be run", &error))?;
        }
        child.kill().await.ok();
        Err(HelmError::Late(call.patience))
    }

    /// Returns a directory that only this user reads, with the files that the call needs.
    fn prepared(&self, call: &Call) -> io::Result<TempDir> {
        let mut place = tempfile::Builder::new();
        #[cfg(unix)]
        place.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700));
        let place = place.tempdir()?;
        if call.words.iter().any(|word| word == CHART) {
            let chart = place.path().join("chart");
            std::fs::create_dir(&chart)?;
            chart::write(&chart)?;
        }
        if call.reach != Touch::Nothing {
            // It may hold a token.
            let mut file = tempfile::NamedTempFile::new_in(place.path())?;
            let text = self.kubeconfig.as_ref().map(ToString::to_string).unwrap_or_default();
            file.write_all(text.as_bytes())?;
            file.persist(place.path().join("kubeconfig"))?;
        }
        Ok(place)
    }
}

impl Helm for OnPath {
    fn run(&self, call: Call) -> BoxFuture<'_, Result<String, HelmError>> {
        self.answer(call).boxed()
    }
}

/// Waits for the end, and reads everything meanwhile: a full pipe would stop the program.
async fn ended(child: &mut Child) -> io::Result<Result<String, HelmError>> {
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (answer, said, status) =
        futures::join!(head(stdout, MOST), tail(stderr, MOST_SAID), child.wait());
    let (answer, said, status) = (answer?, said?, status?);
    if !status.success() {
        let said = String::from_utf8_lossy(&said).trim().to_owned();
        let said = if said.is_empty() { status.to_string() } else { said };
        return Ok(Err(HelmError::Failed(said)));
    }
    Ok(match answer {
        None => Err(HelmError::Unusable(format!("helm's answer has more than {} MiB", MOST >> 20))),
        Some(answer) => String::from_utf8(answer)
            .map_err(|_| HelmError::Unusable("helm's answer is not UTF-8".to_owned())),
    })
}

/// Reads to the end. `None` where there is more than `most`.
async fn head(from: Option<impl AsyncRead + Unpin>, most: usize) -> io::Result<Option<Vec<u8>>> {
    let Some(mut from) = from else { return Ok(Some(Vec::new())) };
    let (mut kept, mut chunk, mut whole) = (Vec::new(), vec![0; 64 << 10], true);
    loop {
        let read = from.read(&mut chunk).await?;
        if read == 0 {
            return Ok(whole.then_some(kept));
        }
        whole &= kept.len() + read <= most;
        if whole {
            kept.extend(chunk.iter().take(read));
        }
    }
}

/// Reads to the end, and returns the last `most` bytes.
async fn tail(from: Option<impl AsyncRead + Unpin>, most: usize) -> io::Result<Vec<u8>> {
    let Some(mut from) = from else { return Ok(Vec::new()) };
    let (mut kept, mut chunk) = (Vec::new(), vec![0; 4 << 10]);
    loop {
        let read = from.read(&mut chunk).await?;
        if read == 0 {
            return Ok(kept);
        }
        kept.extend(chunk.iter().take(read));
        let excess = kept.len().saturating_sub(most);
        kept.drain(..excess);
    }
}

#[cfg(all(test, unix))]
mod tests;
