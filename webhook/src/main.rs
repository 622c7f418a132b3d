//! `pgscale-webhook`: the validating admission webhook that holds every writer of a `postgresql`'s instance
//! count to the rules of [`pgscale_guard`], whoever it is: kubectl, Argo CD, Flux, an autoscaler, a UI.
//!
//! `serve` answers reviews; `configuration`, `rbac` and `crd` print what has to be in the cluster for that.

use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use clap::{Args, Parser, Subcommand, ValueEnum};
use k8s_openapi::jiff::SignedDuration;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use pgscale_guard::operator::Account;
use pgscale_guard::read::Direct;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing_subscriber::EnvFilter;

use crate::admit::Admission;
use crate::certs::self_signed::SelfSigned;
use crate::certs::{Certificates, Files, Source};
use crate::configuration::{FailurePolicy, Registration, Target};
use crate::events::Events;
use crate::metrics::{Metrics, Vitals};
use crate::server::{Limits, Phase, Server};

mod admit;
mod certs;
mod configuration;
mod events;
#[cfg(test)]
#[path = "../../guard/tests/generated/mod.rs"]
mod generated;
mod metrics;
mod rbac;
mod server;
mod witness;

/// Validating admission webhook: holds every writer of a PostgreSQL cluster's instance count to pgscale's
/// rules
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Answer admission reviews until SIGTERM
    Serve(Box<Serve>),
    /// Print the registration at the API server
    Configuration(Configure),
    /// Print the service account, its rights, the right to pass the webhook in an emergency, and the policy that reports its use
    Rbac(Rbac),
    /// Print the definitions of our resources: scale policies and overrides
    Crd,
}

#[derive(Debug, Args)]
struct Serve {
    /// Address to answer reviews on, over TLS
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:9443")]
    listen: SocketAddr,
    /// Address for /healthz, /readyz and /metrics, over plain HTTP
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:9090")]
    metrics_listen: SocketAddr,
    #[command(flatten)]
    certificate: CertificateArguments,
    /// How to reach the API server; as the pod's service account if not given
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// The registration's choice for growth and for new clusters that cannot be judged
    #[arg(long, value_enum, value_name = "POLICY", default_value_t)]
    grow_failure_policy: FailurePolicy,
    /// How often to look for a new certificate
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    reload_interval: Duration,
    /// Open connections at most; further ones wait
    #[arg(long, value_name = "COUNT", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=65536))]
    max_connections: u32,
    /// How long to go on accepting after SIGTERM: longer than it takes until nobody is sent here any more
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    drain_delay: Duration,
    /// How long to wait after that for what is under way
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    drain_timeout: Duration,
    /// What to log on stderr: a level, or a level by module (info,hyper=warn)
    #[arg(long, value_name = "FILTER", env = "PGSCALE_LOG", default_value = "info")]
    log: EnvFilter,
    /// Form of the log lines
    #[arg(long, value_name = "FORM", default_value = "json")]
    log_format: LogFormat,
}

/// Where the serving certificate comes from: one of two places.
#[derive(Debug, Args)]
struct CertificateArguments {
    /// Certificate chain, PEM; read again when it changes
    #[arg(
        long,
        value_name = "FILE",
        requires = "tls_key",
        required_unless_present = "certificate_secret",
        conflicts_with = "certificate_secret"
    )]
    tls_cert: Option<PathBuf>,
    /// Its private key, PEM; read again when it changes
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Instead: a Secret to keep an authority and a certificate in, made and renewed by the webhook itself
    /// and published in its registration
    #[arg(long, value_name = "NAMESPACE/NAME", requires = "server_name", value_parser = namespaced)]
    certificate_secret: Option<(String, String)>,
    /// DNS name by which the API server calls; may be repeated
    #[arg(long, value_name = "NAME", requires = "certificate_secret")]
    server_name: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    Json,
    Text,
}

#[derive(Debug, Args)]
struct Configure {
    #[command(flatten)]
    target: TargetArguments,
    /// Authority behind the webhook's certificate, PEM; left out if not given
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// Service account of an operator: it may scale its StatefulSets without a review; may be repeated
    #[arg(long, value_name = "NAMESPACE/NAME")]
    operator_account: Vec<Account>,
    /// What becomes of growth and of new clusters while the webhook does not answer
    #[arg(long, value_enum, value_name = "POLICY", default_value_t)]
    grow_failure_policy: FailurePolicy,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct TargetArguments {
    /// Where the API server reaches the webhook: https://HOST:PORT
    #[arg(long, value_name = "URL", value_parser = Target::url)]
    url: Option<Target>,
    /// The Service in front of the webhook
    #[arg(long, value_name = "NAMESPACE/NAME[:PORT]", value_parser = Target::service)]
    service: Option<Target>,
}

#[derive(Debug, Args)]
struct Rbac {
    /// Namespace of the webhook
    #[arg(long, short)]
    namespace: String,
    /// Secret in which the webhook keeps its certificates; without, it may touch none, nor its registration
    #[arg(long, value_name = "NAME")]
    certificate_secret: Option<String>,
    /// User who may act in the group pgscale:break-glass, which may patch every postgresql of the cluster; may be
    /// repeated
    #[arg(long, value_name = "USER")]
    break_glass_user: Vec<String>,
}

fn main() -> ExitCode {
    // Before anything else: with a second provider somewhere in the graph rustls would panic at first use.
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        return failed(&anyhow!("another cryptography provider is installed already"));
    }
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

#[expect(clippy::print_stderr, reason = "the last words of the process")]
fn failed(error: &anyhow::Error) -> ExitCode {
    eprintln!("error: {error:#}");
    ExitCode::FAILURE
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Serve(serve) => tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .context("failed to start the runtime")?
            .block_on(serve.run()),
        Command::Configuration(configure) => print(&yaml(&configure.configuration()?)?),
        Command::Rbac(Rbac { namespace, certificate_secret, break_glass_user }) => {
            let secret = certificate_secret.as_deref();
            print(&documents(&rbac::manifest(&namespace, secret, &break_glass_user))?)
        }
        Command::Crd => print(&documents(&configuration::definitions())?),
    }
}

fn print(text: &str) -> Result<()> {
    use std::io::Write as _;
    std::io::stdout().write_all(text.as_bytes()).context("failed to write to standard output")
}

/// One YAML document.
fn yaml(object: &impl Serialize) -> Result<String> {
    serde_saphyr::to_string(object).context("failed to write YAML")
}

/// Several YAML documents.
fn documents(objects: &[impl Serialize]) -> Result<String> {
    let documents = objects.iter().map(yaml).collect::<Result<Vec<_>>>()?;
    Ok(documents.join("---\n"))
}

/// A length of time: `10s`, `500ms`, `1m30s`.
fn duration(text: &str) -> Result<Duration, String> {
    text.parse::<SignedDuration>()
        .ok()
        .and_then(|duration| Duration::try_from(duration).ok())
        .ok_or_else(|| format!("{text:?} is not a length of time such as 10s or 500ms"))
}

/// Reads `NAMESPACE/NAME`.
fn namespaced(text: &str) -> Result<(String, String), String> {
    match text.split_once('/') {
        Some((namespace, name))
            if !namespace.is_empty() && !name.is_empty() && !name.contains('/') =>
        {
            Ok((namespace.to_owned(), name.to_owned()))
        }
        Some(_) | None => Err(format!("{text:?} is not NAMESPACE/NAME")),
    }
}

impl Configure {
    fn configuration(
        self,
    ) -> Result<k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration> {
        let target =
            self.target.url.or(self.target.service).context("neither --url nor --service")?;
        let read = |file: PathBuf| {
            std::fs::read(&file).with_context(|| format!("failed to read {}", file.display()))
        };
        Ok(configuration::configuration(&Registration {
            target,
            authority: self.ca_file.map(read).transpose()?,
            operator_accounts: self.operator_account,
            growth: self.grow_failure_policy,
        }))
    }
}

impl Serve {
    async fn run(self) -> Result<()> {
        self.log_lines();
        let mut asked_to_leave = Signals::new()?;
        let metrics = Arc::new(Metrics::new());
        let client = self.client().await?;
        let source = self.certificate.source(&client)?;
        let first = source.offer().await.context("no certificate to serve")?;
        let certificates = Certificates::new(first).context("no certificate to serve")?;
        metrics.certificate_ends(certificates.not_after());
        let events = Events::new(client.clone(), Arc::clone(&metrics));
        let listener = bind(self.listen).await?;
        let plain = bind(self.metrics_listen).await?;
        let (phase, phases) = watch::channel(Phase::Serving);

        tokio::spawn(Arc::clone(&certificates).keep_fresh(
            source,
            self.reload_interval,
            Arc::clone(&metrics),
        ));
        let vitals = Vitals {
            phase: phases.clone(),
            certificates: Arc::clone(&certificates),
            metrics: Arc::clone(&metrics),
        };
        tokio::spawn(axum::serve(plain, metrics::router(vitals)).into_future());
        let admission = Admission {
            client,
            ask: Arc::new(Direct),
            events: events.clone(),
            metrics: Arc::clone(&metrics),
            growth: self.grow_failure_policy,
        };
        let server = Server {
            listener,
            router: admit::router(admission),
            certificates,
            limits: Limits { connections: self.max_connections, ..Limits::default() },
            phase: phases,
            metrics,
        };
        let server = tokio::spawn(server.run());
        tracing::info!(listen = %self.listen, metrics = %self.metrics_listen, "serving");

        asked_to_leave.wait().await;
        tracing::info!(delay = ?self.drain_delay, "leaving: not ready any more, still accepting");
        phase.send_replace(Phase::Leaving);
        tokio::select! {
            () = tokio::time::sleep(self.drain_delay) => {}
            () = asked_to_leave.wait() => tracing::info!("asked a second time"),
        }
        phase.send_replace(Phase::Stopping);
        let drained = async {
            if let Err(error) = server.await {
                tracing::error!(%error, "the server failed");
            }
        };
        if tokio::time::timeout(self.drain_timeout, drained).await.is_err() {
            tracing::warn!("left with connections open");
        }
        events.flush(self.drain_timeout).await;
        tracing::info!("left");
        Ok(())
    }

    fn log_lines(&self) {
        let filter = self.log.clone();
        let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
        match self.log_format {
            LogFormat::Json => lines.json().flatten_event(true).init(),
            LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).init(),
        }
    }

    async fn client(&self) -> Result<Client> {
        let mut config = match &self.kubeconfig {
            Some(file) => {
                let kubeconfig = Kubeconfig::read_from(file)
                    .with_context(|| format!("failed to read the kubeconfig {}", file.display()))?;
                Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
                    .await
                    .with_context(|| format!("failed to use the kubeconfig {}", file.display()))?
            }
            None => Config::incluster()
                .context("not in a pod with a service account: give --kubeconfig")?,
        };
        // Reviews have deadlines of their own; this bounds what runs beside them.
        config.connect_timeout = Some(Duration::from_secs(5));
        config.read_timeout = Some(Duration::from_secs(30));
        Client::try_from(config).context("failed to make a client of the API server")
    }
}

impl CertificateArguments {
    fn source(&self, client: &Client) -> Result<Source> {
        if let Some(secret) = &self.certificate_secret {
            let names = self.server_name.clone();
            let self_signed = SelfSigned::new(client.clone(), secret.clone(), names);
            return Ok(Source::Own(Box::new(self_signed)));
        }
        let certificate = self.tls_cert.clone().context("no --tls-cert")?;
        let key = self.tls_key.clone().context("no --tls-key")?;
        Ok(Source::Files(Files { certificate, key }))
    }
}

async fn bind(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("failed to listen on {address}"))
}

/// The signals that ask a process to end.
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> Result<Self> {
        let listen = |kind| signal(kind).context("failed to listen for signals");
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::generated;

    #[test]
    fn the_arguments_are_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_certificate_comes_from_one_place() {
        let parse = |rest: &[&str]| {
            let all = ["pgscale-webhook", "serve"].iter().chain(rest);
            Arguments::try_parse_from(all).map(|_| ()).map_err(|error| error.kind())
        };
        let own = ["--certificate-secret", "ns/name", "--server-name", "name.ns.svc"];
        let files = ["--tls-cert", "tls.crt", "--tls-key", "tls.key"];
        assert_eq!(parse(&own), Ok(()));
        assert_eq!(parse(&files), Ok(()));
        for wrong in [&[][..], &own[..2], &own[2..], &files[..2], &files[2..]] {
            let missing = Err(clap::error::ErrorKind::MissingRequiredArgument);
            assert_eq!(parse(wrong), missing, "{wrong:?}");
        }
        let both = [&own[..], &files[..]].concat();
        assert_eq!(parse(&both), Err(clap::error::ErrorKind::ArgumentConflict));
        for wrong in ["name", "/name", "ns/", "a/b/c"] {
            assert!(namespaced(wrong).is_err(), "{wrong}");
        }
    }

    /// What the chart fills in is spelled in capitals here and replaced there.
    #[test]
    fn the_chart_carries_the_present_rights_and_entries() {
        let registration = Registration {
            target: Target::service("NAMESPACE/pgscale-webhook").unwrap(),
            authority: None,
            operator_accounts: vec![Account {
                namespace: "OPERATOR-NAMESPACE".into(),
                name: "OPERATOR-ACCOUNT".into(),
            }],
            growth: FailurePolicy::default(),
        };
        let users = ["BREAK-GLASS-USER".to_owned()];
        let rights = rbac::manifest("NAMESPACE", Some("pgscale-webhook-certificates"), &users);
        for (name, present) in [
            ("configuration", yaml(&configuration::configuration(&registration)).unwrap()),
            ("rbac", documents(&rights).unwrap()),
        ] {
            let path = format!("charts/pgscale/files/{name}.yaml");
            generated::check(&path, &present, |stored, present| stored == present);
        }
    }

    #[test]
    fn times_are_read_as_go_writes_them() {
        for (text, want) in [
            ("5s", Some(5000)),
            ("1m0s", Some(60_000)),
            ("1.5s", Some(1500)),
            ("500ms", Some(500)),
            ("-5s", None),
            ("5", None),
            ("", None),
        ] {
            let want = want.map(Duration::from_millis);
            assert_eq!(duration(text).ok(), want, "{text}");
        }
    }
}
