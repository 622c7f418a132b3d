//! `serve`: puts the parts of the webhook together, and takes them out of service after SIGTERM in
//! an order that loses no review.

use std::io::IsTerminal as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use kube::client::ClientBuilder;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use pgscale_guard::read::{Direct, KnownOperators, MemberClient, Shared};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tower::limit::ConcurrencyLimitLayer;

use crate::admit::{self, Admission, Ledgers, Watch};
use crate::args::{LogFormat, Serve};
use crate::caller::{self, Caller};
use crate::certs::kept::Kept;
use crate::certs::{Certificates, Files, Source};
use crate::events::Events;
use crate::metrics::Metrics;
use crate::ownership::Ownership;
use crate::probes::{self, Probes};
use crate::server::clients::Clients;
use crate::server::{Limiter, Limits, Phase, Port, Server};
use crate::{listen, look_alikes};

/// The most requests that reviews make to the API server at the same time. Each of them takes a
/// connection, because HTTP/1.1 has one request at a time on each.
const REQUESTS: usize = 64;

/// Answers reviews until SIGTERM.
///
/// # Errors
/// Fails when the webhook cannot start: wrong arguments, an address in use. An API server that is
/// away is no such reason, nor a certificate that is not there yet.
pub(crate) async fn run(arguments: Serve) -> Result<()> {
    start_log(&arguments);
    let mut signals = Signals::new()?;
    let metrics = Arc::new(Metrics::new());
    let config = config(&arguments).await?;
    let client = client(config.clone(), None)?;
    let (source, caller) = source(&arguments, &config, &client)?;
    let certificates = Certificates::none();
    let events = Events::new(client.clone(), Arc::clone(&metrics));
    let listener = listen::on(arguments.listen)?;
    let plain = listen::on(arguments.metrics_listen)?;
    let (phase, phases) = watch::channel(Phase::Serving);

    tokio::spawn(Arc::clone(&certificates).keep_fresh(
        source,
        Arc::clone(&caller),
        arguments.reload_interval,
        Arc::clone(&metrics),
    ));
    let namespace = arguments.namespace.clone();
    tokio::spawn(Ownership::new(client.clone(), namespace, Arc::clone(&metrics)).keep());
    tokio::spawn(look_alikes::count(client.clone(), Arc::clone(&metrics)));
    let clients = clients(&arguments)?;
    let limiter = Limiter::new(arguments.max_connections as usize);
    let probes = Probes {
        phase: phases.clone(),
        certificates: Arc::clone(&certificates),
        limiter: Arc::clone(&limiter),
        metrics: Arc::clone(&metrics),
    };
    // Probes are answered until the process ends.
    let (_answering, always) = watch::channel(Phase::Serving);
    let probes = Server {
        listener: plain,
        router: probes::router(probes),
        port: Port::Probes,
        limits: Limits::default(),
        limiter: Arc::clone(&limiter),
        phase: always,
        metrics: Arc::clone(&metrics),
    };
    tokio::spawn(probes.run());
    let operators = KnownOperators::default();
    tokio::spawn(operators.clone().keep_searching(client.clone()));
    let judging = self::client(config, Some(REQUESTS))?;
    let shared = Shared::new(judging.clone(), metrics.reads());
    let ask: Arc<dyn MemberClient> = Arc::new(Direct);
    let ledgers =
        Ledgers::new(client.clone(), Arc::clone(&ask), operators.clone(), Arc::clone(&metrics));
    tokio::spawn(ledgers.clone().keep());
    tokio::spawn(admit::announce(client, shared.clone(), operators.clone()));
    let admission = Admission {
        client: judging,
        shared,
        limits: admit::Limits::new(Arc::clone(&metrics)),
        operators,
        ask,
        events: events.clone(),
        metrics: Arc::clone(&metrics),
        watch: Watch::new(Arc::clone(&metrics)),
        ledgers,
        growth: arguments.grow_failure_policy,
    };
    let watching = tokio::spawn(admission.watch.clone().run(admission.clone()));
    let server = Server {
        listener,
        router: caller::router(caller, Arc::clone(&metrics), admit::router(admission)),
        port: Port::Reviews { certificates, clients },
        limits: Limits::default(),
        limiter,
        phase: phases,
        metrics,
    };
    let server = tokio::spawn(server.run());
    tracing::info!(listen = %arguments.listen, metrics = %arguments.metrics_listen, "serving");

    signals.wait().await;
    tracing::info!(delay = ?arguments.drain_delay, "draining: not ready, still accepting");
    phase.send_replace(Phase::Draining);
    tokio::select! {
        () = tokio::time::sleep(arguments.drain_delay) => {}
        () = signals.wait() => tracing::info!("a second signal: accepting no more"),
    }
    phase.send_replace(Phase::Stopping);
    let drained = async {
        if let Err(error) = server.await {
            tracing::error!(%error, "the server failed");
        }
    };
    if tokio::time::timeout(arguments.drain_timeout, drained).await.is_err() {
        tracing::warn!("stopped while connections were open");
    }
    watching.abort();
    events.flush(arguments.drain_timeout).await;
    tracing::info!("stopped");
    Ok(())
}

fn start_log(arguments: &Serve) {
    let filter = arguments.log.clone();
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match arguments.log_format {
        LogFormat::Json => lines.json().flatten_event(true).init(),
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).init(),
    }
}

/// Returns the way to the API server.
async fn config(arguments: &Serve) -> Result<Config> {
    let mut config = match &arguments.kubeconfig {
        Some(file) => {
            let kubeconfig = Kubeconfig::read_from(file)
                .with_context(|| format!("failed to read the kubeconfig {}", file.display()))?;
            Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
                .await
                .with_context(|| format!("failed to use the kubeconfig {}", file.display()))?
        }
        None => {
            Config::incluster().context("not in a pod with a service account: give --kubeconfig")?
        }
    };
    // Reviews have deadlines of their own. These bound Events and certificates.
    config.connect_timeout = Some(Duration::from_secs(5));
    config.read_timeout = Some(Duration::from_secs(30));
    Ok(config)
}

/// Returns a client of the API server that makes at most this number of requests at the same time.
fn client(config: Config, most: Option<usize>) -> Result<Client> {
    let client =
        ClientBuilder::try_from(config).context("failed to make a client of the API server")?;
    Ok(match most {
        Some(most) => client.with_layer(&ConcurrencyLimitLayer::new(most)).build(),
        None => client.build(),
    })
}

/// Returns the rule by which client certificates are accepted, and keeps it fresh; `None` where
/// every peer may send reviews.
fn clients(arguments: &Serve) -> Result<Option<Arc<Clients>>> {
    let Some(file) = arguments.clients.client_ca.clone() else { return Ok(None) };
    let clients = Clients::new(file, arguments.clients.client_name.clone())
        .context("no authority of client certificates")?;
    tokio::spawn(Arc::clone(&clients).keep_fresh(arguments.reload_interval));
    Ok(Some(clients))
}

/// Returns the places where certificate and secret path come from, and the callers to answer.
fn source(arguments: &Serve, config: &Config, client: &Client) -> Result<(Source, Arc<Caller>)> {
    let given = &arguments.certificate;
    let kept = |secret: &(String, String), names: Option<Vec<String>>| {
        let own_path = given.path_file.is_none();
        let config = config.clone();
        Kept::new(client.clone(), secret.clone(), names, own_path, arguments.reload_interval)
            .with_others(move || self::client(config.clone(), None))
    };
    if let Some(secret) = &given.certificate_secret {
        let kept = Some(kept(secret, Some(given.server_name.clone())));
        let path_file = given.path_file.clone();
        return Ok((Source { path_file, kept, ..Source::default() }, Caller::authenticated()));
    }
    let certificate = given.tls_cert.clone().context("no --tls-cert")?;
    let key = given.tls_key.clone().context("no --tls-key")?;
    let source = Source {
        files: Some(Files { certificate, key }),
        path_file: given.path_file.clone(),
        kept: given.path_secret.as_ref().map(|secret| kept(secret, None)),
    };
    if source.path_file.is_none() && source.kept.is_none() {
        if arguments.clients.client_ca.is_none() {
            tracing::warn!("every caller is answered: give --path-secret or --path-file");
        }
        return Ok((source, Caller::unauthenticated()));
    }
    Ok((source, Caller::authenticated()))
}

/// The signals that ask a process to end.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
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
