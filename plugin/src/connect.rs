//! A client from kubectl's connection flags.
//!
//! The kubeconfig is loaded as in kubectl. kube's own inference is not used, because it knows no
//! `--context` and honours debugging variables that impersonate. Retries are off: kube would resend
//! a PATCH that may have been applied, and keep a person waiting for minutes on a final refusal.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::body::Incoming;
use kube::client::ClientBuilder;
use kube::config::{AuthInfo, Kubeconfig, KubeconfigError};
use kube::{Client, Config};
use pgscale_guard::read::Operators;
use pgscale_guard::remedy::{Command, Reach};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};
use tower::BoxError;
use tower::timeout::TimeoutLayer;
use tower::timeout::error::Elapsed;
use tower::util::{MapErrLayer, MapResponseLayer};

use choice::Chosen;

use crate::error::{Failure, NoCredentials, chain};

pub(crate) mod access;
mod choice;
pub(crate) mod clock;
mod flags;
pub(crate) mod kubeconfig;
mod program;
mod proxy;
mod token;
mod transport;
mod trust;

use access::Source;
pub(crate) use flags::{Deployment, Flags};

/// The time limit of one request without `--request-timeout`.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// The verbosity from which on kubectl shows each request.
const TRACED: u8 = 6;

/// The beginning of a warning that no user can act on: a Patroni that keeps its state in Endpoints
/// can be read in no other way.
const PATRONIS: &str = "v1 Endpoints is deprecated";

/// A connection to one API server in the name of one user.
pub(crate) struct Connection {
    /// The client. It never retries.
    pub(crate) client: Client,
    /// The namespace of `-n`, of the context, or `default`.
    pub(crate) namespace: String,
    /// The namespace of `-n` alone.
    pub(crate) named_namespace: Option<String>,
    /// The same way to the API server, as a kubeconfig for another program.
    pub(crate) kubeconfig: Value,
    /// The flags that lead to the same API server, for commands shown to people.
    pub(crate) reach: Reach,
    /// The source of the operators.
    pub(crate) operators: Operators,
    /// Warnings of the API server that were not shown yet.
    pub(crate) warnings: Warnings,
}

/// `Warning:` headers of the API server's answers, each text once.
#[derive(Clone, Default)]
pub(crate) struct Warnings(Arc<Mutex<Vec<(String, bool)>>>);

impl Warnings {
    /// Records the `Warning` headers of one answer: `299 - "text"` (RFC 7234, section 5.5).
    fn note(&self, headers: &http::HeaderMap) {
        for header in headers.get_all(http::header::WARNING) {
            let Ok(header) = header.to_str() else { continue };
            let text = header
                .split_once('"')
                .and_then(|(_, rest)| rest.rsplit_once('"'))
                .map_or(header, |(text, _)| text)
                .replace("\\\"", "\"");
            if text.starts_with(PATRONIS) {
                continue;
            }
            let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if !seen.iter().any(|(known, _)| *known == text) {
                seen.push((text, false));
            }
        }
    }

    /// Returns a failure where there was any warning, as kubectl's `--warnings-as-errors` does.
    pub(crate) fn as_error(&self) -> Result<(), Failure> {
        match self.0.lock().unwrap_or_else(PoisonError::into_inner).len() {
            0 => Ok(()),
            1 => Err(Failure::error("1 warning received")),
            many => Err(Failure::error(format!("{many} warnings received"))),
        }
    }

    /// Returns the warnings that were not shown yet, and marks them as shown.
    pub(crate) fn take(&self) -> Vec<String> {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.iter_mut()
            .filter(|(_, shown)| !shown)
            .map(|(text, shown)| {
                *shown = true;
                text.clone()
            })
            .collect()
    }
}

impl Connection {
    /// Connects by the flags, the environment and the kubeconfig.
    pub(crate) async fn open(flags: &Flags) -> Result<Self, Failure> {
        let (config, source) = configuration(flags)?;
        Self::to(config, &source, flags, true).await
    }

    async fn to(
        mut config: Config,
        source: &Source,
        flags: &Flags,
        attended: bool,
    ) -> Result<Self, Failure> {
        override_by_flags(&mut config, flags)?;
        choose_proxy(&mut config, |name| std::env::var(name).ok())?;
        let namespace = flags.namespace.clone().unwrap_or(config.default_namespace.clone());
        let limit = match flags.request_timeout {
            Some(limit) if limit.is_zero() => None,
            Some(limit) => Some(limit),
            None => Some(REQUEST_TIMEOUT),
        };
        let warnings = Warnings::default();
        let collector = warnings.clone();
        let listen = MapResponseLayer::new(move |answer: http::Response<Incoming>| {
            collector.note(answer.headers());
            clock::note(answer.headers());
            answer
        });
        let server = config.cluster_url.clone();
        let kubeconfig = access::kubeconfig(source, flags, &server.to_string());
        let leaf = trust::any_of_server(config.root_cert.as_ref());
        let default = config.default_namespace.clone();
        let manner = transport::Manner { attended, traced: flags.verbosity >= TRACED };
        // It may run a program that waits for a person, and blocks until then.
        let transport = tokio::task::spawn_blocking(move || transport::build(config, manner))
            .await
            .map_err(|error| Failure::error(format!("failed to connect to {server}: {error}")))?
            .map_err(|failure| failure.reached_by(&flags.to_repeat()))?;
        let builder = ClientBuilder::new(transport, default);
        // The limit is on the answer, not on the socket: a port-forward may be idle.
        let builder = builder.with_layer(&listen);
        let name = MapErrLayer::new(move |error| named(error, &server, leaf));
        let client = match limit {
            Some(limit) => builder.with_layer(&TimeoutLayer::new(limit)).with_layer(&name).build(),
            None => builder.with_layer(&name).build(),
        };
        let operators = match flags.operator.clone() {
            Some(Deployment { namespace, name }) => Operators::Named { namespace, name },
            None => Operators::Listed,
        };
        Ok(Self {
            client,
            namespace,
            named_namespace: flags.namespace.clone(),
            kubeconfig,
            reach: flags.to_repeat(),
            operators,
            warnings,
        })
    }
}

/// The way to one API server, as the flags, the environment and the kubeconfig said at one time: a
/// program that runs long does not follow when a person chooses another context.
pub(crate) struct Way {
    config: Config,
    source: Source,
    flags: Flags,
}

impl Way {
    /// Finds it.
    ///
    /// # Errors
    /// There is none, or the kubeconfig cannot be used.
    pub(crate) fn of(flags: Flags) -> Result<Self, Failure> {
        let (config, source) = configuration(&flags)?;
        Ok(Self { config, source, flags })
    }

    /// Connects without any question for credentials and without output of a credential program.
    pub(crate) async fn connect(&self) -> Result<Connection, Failure> {
        Connection::to(self.config.clone(), &self.source, &self.flags, false).await
    }

    /// Connects in the name of the bearer of `token`: no other credential of the flags, the
    /// kubeconfig or the pod is shown.
    ///
    /// # Errors
    /// The API server is reached without TLS, where a token could be read on the way.
    pub(crate) async fn connect_as(&self, token: &str) -> Result<Connection, Failure> {
        let alone = Flags {
            token: Some(token.to_owned()),
            client_certificate: None,
            client_key: None,
            as_user: None,
            as_group: Vec::new(),
            as_uid: None,
            ..self.flags.clone()
        };
        let mut config = self.config.clone();
        config.auth_info = AuthInfo::default();
        let server = alone.server.as_deref().map(parse_server).transpose()?;
        if server.as_ref().unwrap_or(&config.cluster_url).scheme_str() == Some("http") {
            return Err(Failure::usage("a token is passed on to an https:// API server only"));
        }
        let mut connection = Connection::to(config, &self.source, &alone, false).await?;
        // Commands that are shown are for the caller, who has a connection of their own.
        connection.reach = Reach::default();
        // For helm alone, and with the credential of the pod in it.
        connection.kubeconfig = Value::Null;
        Ok(connection)
    }
}

/// Names the server in an error on the way to it. kube's own errors stay recognisable.
fn named(error: BoxError, server: &http::Uri, leaf: bool) -> BoxError {
    if error.is::<kube::Error>() || error.is::<NoCredentials>() {
        return error;
    }
    let why =
        if error.is::<Elapsed>() { "no answer in time".to_owned() } else { chain(error.as_ref()) };
    let why = if leaf && trust::is_untrusted(error.as_ref()) {
        format!("{why}; {}", trust::REASON)
    } else {
        why
    };
    format!("{server}: {why}").into()
}

/// Reads the kubeconfig, or the service account inside a pod where the kubeconfig leads nowhere.
fn configuration(flags: &Flags) -> Result<(Config, Source), Failure> {
    let named = flags.kubeconfig.is_some()
        || std::env::var_os("KUBECONFIG").is_some_and(|paths| !paths.is_empty())
        || flags.context.is_some();
    let (kubeconfig, missing) = match kubeconfig::read(flags.kubeconfig.as_ref()) {
        Ok(kubeconfig) => (kubeconfig, None),
        // A file of the flag must be there.
        Err(error) if is_missing(&error) && flags.kubeconfig.is_none() => {
            (Kubeconfig::default(), Some(error))
        }
        Err(error) => return Err(bad_kubeconfig(&error)),
    };
    let Some(chosen) = choice::chosen(&kubeconfig, flags)? else {
        return Config::incluster().map(|config| (config, Source::Pod)).map_err(
            |_| match missing {
                Some(error) if named => bad_kubeconfig(&error),
                None if !kubeconfig.contexts.is_empty() => {
                    bad_kubeconfig(&KubeconfigError::CurrentContextNotSet)
                }
                Some(_) | None => Failure::error("no kubeconfig found, and this is not a pod")
                    .hint("name one with --kubeconfig or $KUBECONFIG, or create ~/.kube/config"),
            },
        );
    };
    let source = Source::Entries(Box::new((chosen.cluster.clone(), chosen.user.clone())));
    Ok((configured(chosen)?, source))
}

/// Returns the configuration for one cluster and one user.
///
/// kube's own loader is not used: it reads the variables of proxies, and fails for those that Go
/// takes no notice of.
fn configured(chosen: Chosen) -> Result<Config, Failure> {
    let Chosen { cluster, user, namespace } = chosen;
    let mut config = Config::new(parse_server(cluster.server.as_deref().unwrap_or_default())?);
    config.default_namespace = namespace.unwrap_or_else(|| "default".to_owned());
    config.accept_invalid_certs = cluster.insecure_skip_tls_verify.unwrap_or_default();
    config.tls_server_name = cluster.tls_server_name;
    config.auth_info = user;
    config.root_cert = match (&cluster.certificate_authority_data, &cluster.certificate_authority) {
        (Some(data), _) => Some(certificates(data).map_err(|why| {
            Failure::error(format!("certificate-authority-data in the kubeconfig: {why}"))
                .hint_to("look at it", Command::kubectl(["config", "view", "--minify", "--raw"]))
        })?),
        (None, Some(file)) => Some(read_pem(Path::new(file)).map_err(|why| {
            Failure::error(format!("certificate-authority in the kubeconfig: {file}: {why}"))
                .hint("name a file with the PEM certificates of the API server's authorities")
        })?),
        (None, None) => None,
    };
    config.proxy_url = match cluster.proxy_url {
        Some(url) => Some(proxy::spelled(&url).parse::<http::Uri>().map_err(|error| {
            Failure::error(format!(
                "proxy-url in the kubeconfig is not the URL of a proxy: {error}"
            ))
            .hint("set it to a URL such as http://proxy.example.com:3128")
        })?),
        None => None,
    };
    Ok(config)
}

/// Chooses the proxy of the environment, unless the cluster entry names one.
///
/// An entry's proxy applies to every server (client-go, `tools/clientcmd/client_config.go`). To be
/// called once the server is known.
fn choose_proxy(
    config: &mut Config,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<(), Failure> {
    if config.proxy_url.is_none() {
        config.proxy_url = proxy::of_environment(&config.cluster_url, variable)?;
    }
    Ok(())
}

fn is_missing(error: &KubeconfigError) -> bool {
    if let KubeconfigError::ReadConfig(error, _) = error {
        return error.kind() == std::io::ErrorKind::NotFound;
    }
    matches!(error, KubeconfigError::FindPath)
}

/// Returns bytes as Base64.
fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

fn bad_kubeconfig(error: &KubeconfigError) -> Failure {
    if matches!(error, KubeconfigError::CurrentContextNotSet) {
        return Failure::error("the kubeconfig has no current context").hint_to(
            "choose one with --context, or for good",
            Command::kubectl(["config", "use-context", "NAME"]),
        );
    }
    if let KubeconfigError::ReadConfig(source, path) = error {
        return Failure::error(format!(
            "the kubeconfig {} cannot be read: {source}",
            path.display()
        ))
        .hint("check --kubeconfig or $KUBECONFIG");
    }
    Failure::error(format!("the kubeconfig cannot be used: {}", chain(error)))
        .hint("check --kubeconfig or $KUBECONFIG")
}

fn parse_server(server: &str) -> Result<http::Uri, Failure> {
    match choice::spelled(server).parse::<http::Uri>() {
        Ok(uri) if uri.host().is_some() => Ok(uri),
        Ok(_) => Err(Failure::usage(format!("--server {server:?} names no host"))),
        Err(error) => Err(Failure::usage(format!("--server {server:?} is not a URL: {error}"))),
    }
}

fn override_by_flags(config: &mut Config, flags: &Flags) -> Result<(), Failure> {
    if let Some(server) = &flags.server {
        config.cluster_url = parse_server(server)?;
    }
    let encrypted = config.cluster_url.scheme_str() != Some("http");
    if let Some(token) = flags.token.as_ref().filter(|_| encrypted) {
        // The secret's type belongs to a crate that is no dependency: its own deserializer makes
        // one. A client certificate of the kubeconfig stays, as in kubectl.
        let given: AuthInfo = choice::parsed(json!({"token": token}))?;
        config.auth_info.token = given.token;
    }
    if let (Some(certificate), Some(key)) = (&flags.client_certificate, &flags.client_key) {
        config.auth_info.client_certificate = Some(certificate.display().to_string());
        config.auth_info.client_certificate_data = None;
        config.auth_info.client_key = Some(key.display().to_string());
        config.auth_info.client_key_data = None;
    }
    if let Some(file) = flags.certificate_authority.as_ref().filter(|_| encrypted) {
        config.root_cert = Some(authorities(file)?);
        config.root_cert_file = None;
        config.accept_invalid_certs = false;
    }
    if let Some(user) = &flags.as_user {
        config.auth_info.impersonate = Some(user.clone());
    }
    if let Some(uid) = &flags.as_uid {
        config.auth_info.impersonate_uid = Some(uid.clone());
    }
    if !flags.as_group.is_empty() {
        config.auth_info.impersonate_groups = Some(flags.as_group.clone());
    }
    if config.auth_info.impersonate.is_none()
        && (config.auth_info.impersonate_groups.is_some()
            || config.auth_info.impersonate_uid.is_some())
    {
        return Err(Failure::usage("--as-group and --as-uid need --as, the user to act as")
            .hint("add --as=USER"));
    }
    if let Some(name) = &flags.tls_server_name {
        config.tls_server_name = Some(name.clone());
    }
    if flags.insecure_skip_tls_verify {
        config.accept_invalid_certs = true;
        config.root_cert = None;
    }
    config.default_retry = false;
    Ok(())
}

/// Reads the certificates in the PEM file of the flag.
fn authorities(file: &Path) -> Result<Vec<Vec<u8>>, Failure> {
    read_pem(file).map_err(|why| {
        Failure::error(format!("--certificate-authority={}: {why}", file.display()))
            .hint("name a file with the PEM certificates of the API server's authorities")
    })
}

fn read_pem(file: &Path) -> Result<Vec<Vec<u8>>, String> {
    of_pem(&std::fs::read(file).map_err(|error| error.to_string())?)
}

/// Reads the certificates in Base64 of PEM.
fn certificates(data: &str) -> Result<Vec<Vec<u8>>, String> {
    let pem = STANDARD.decode(data).map_err(|error| format!("it is no Base64: {error}"))?;
    of_pem(&pem)
}

fn of_pem(pem: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem)
        .map(|certificate| certificate.map(|der| der.to_vec()))
        .collect();
    let read = read.map_err(|error| error.to_string())?;
    if read.is_empty() { Err("it holds no certificate".to_owned()) } else { Ok(read) }
}

#[cfg(test)]
mod tests;
