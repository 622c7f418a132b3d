//! A client from kubectl's connection flags.
//!
//! The kubeconfig is loaded as in kubectl. kube's own inference is not used, because it knows no
//! `--context` and honours debugging variables that impersonate. Retries are off: kube would resend
//! a PATCH that may have been applied, and keep a person waiting for minutes on a final refusal.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kube::client::{ClientBuilder, DynBody};
use kube::config::{AuthInfo, ExecInteractiveMode, KubeConfigOptions, Kubeconfig, KubeconfigError};
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

use crate::error::{Failure, chain};

pub(crate) mod access;
pub(crate) mod clock;
mod flags;
pub(crate) mod kubeconfig;
mod leaf;
mod proxy;

use access::Source;
pub(crate) use flags::{Deployment, Flags};

/// The time limit of one request without `--request-timeout`.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

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
        let (config, source) = configuration(flags).await?;
        Self::to(config, &source, flags)
    }

    /// Connects without any question for credentials and without output of a credential program.
    pub(crate) async fn unattended(flags: &Flags) -> Result<Self, Failure> {
        let (mut config, source) = configuration(flags).await?;
        if let Some(program) = &mut config.auth_info.exec {
            program.interactive_mode = Some(ExecInteractiveMode::Never);
        }
        Self::to(config, &source, flags)
    }

    fn to(mut config: Config, source: &Source, flags: &Flags) -> Result<Self, Failure> {
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
        let listen = MapResponseLayer::new(move |answer: http::Response<Box<DynBody>>| {
            collector.note(answer.headers());
            clock::note(answer.headers());
            answer
        });
        let server = config.cluster_url.clone();
        let kubeconfig = access::kubeconfig(source, flags, &server.to_string());
        let leaf = leaf::any(config.root_cert.as_ref());
        let builder = ClientBuilder::try_from(config).map_err(|error| unusable(&error, &server))?;
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

/// Names the server in an error on the way to it. kube's own errors stay recognisable.
fn named(error: BoxError, server: &http::Uri, leaf: bool) -> BoxError {
    if error.is::<kube::Error>() {
        return error;
    }
    let why =
        if error.is::<Elapsed>() { "no answer in time".to_owned() } else { chain(error.as_ref()) };
    let why = if leaf && leaf::is_untrusted(error.as_ref()) {
        format!("{why}; {}", leaf::REASON)
    } else {
        why
    };
    format!("{server}: {why}").into()
}

fn unusable(error: &kube::Error, server: &http::Uri) -> Failure {
    Failure::of_kube(error, &format!("connect to {server}"))
}

/// Reads the kubeconfig, or the service account inside a pod where there is no kubeconfig at all.
async fn configuration(flags: &Flags) -> Result<(Config, Source), Failure> {
    let options = KubeConfigOptions {
        context: flags.context.clone(),
        cluster: flags.cluster.clone(),
        user: flags.user.clone(),
    };
    let kubeconfig = kubeconfig::read(flags.kubeconfig.as_ref());
    let named = flags.kubeconfig.is_some()
        || std::env::var_os("KUBECONFIG").is_some_and(|paths| !paths.is_empty())
        || options.context.is_some();
    let kubeconfig = match kubeconfig {
        Ok(kubeconfig) => kubeconfig,
        Err(error) if !named && is_missing(&error) => return without_kubeconfig(flags),
        Err(error) => return Err(bad_kubeconfig(&error, None)),
    };
    if kubeconfig.contexts.is_empty() && !named {
        return without_kubeconfig(flags);
    }
    let proxy_url = proxy_url(&kubeconfig, &options)
        .map(|url| proxy::spelled(url).parse())
        .transpose()
        .map_err(|error| bad_kubeconfig(&KubeconfigError::ParseProxyUrl(error), None))?;
    let contexts: Vec<String> =
        kubeconfig.contexts.iter().map(|context| context.name.clone()).collect();
    let source = Source::Kubeconfig(Box::new(kubeconfig.clone()));
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &options)
        .await
        .map_err(|error| bad_kubeconfig(&error, Some(&contexts)))?;
    // kube's choice is replaced: it also applies `NO_PROXY` to the proxy's own address.
    config.proxy_url = proxy_url;
    Ok((config, source))
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

fn without_kubeconfig(flags: &Flags) -> Result<(Config, Source), Failure> {
    match (Config::incluster(), &flags.server) {
        (Ok(config), _) => Ok((config, Source::Pod)),
        (Err(_), Some(server)) => Ok((Config::new(parse_server(server)?), Source::Flags)),
        (Err(_), None) => Err(Failure::error("no kubeconfig found, and this is not a pod")
            .hint("name one with --kubeconfig or $KUBECONFIG, or create ~/.kube/config")),
    }
}

fn is_missing(error: &KubeconfigError) -> bool {
    if let KubeconfigError::ReadConfig(error, _) = error {
        return error.kind() == std::io::ErrorKind::NotFound;
    }
    matches!(error, KubeconfigError::FindPath)
}

/// Returns the `proxy-url` of the cluster entry in use.
fn proxy_url<'a>(kubeconfig: &'a Kubeconfig, options: &'a KubeConfigOptions) -> Option<&'a str> {
    let context = options.context.as_ref().or(kubeconfig.current_context.as_ref());
    let of_context = kubeconfig
        .contexts
        .iter()
        .find(|named| Some(&named.name) == context)
        .and_then(|named| named.context.as_ref())
        .map(|context| &context.cluster);
    let cluster = options.cluster.as_ref().or(of_context);
    kubeconfig
        .clusters
        .iter()
        .find(|named| Some(&named.name) == cluster)
        .and_then(|named| named.cluster.as_ref())
        .and_then(|cluster| cluster.proxy_url.as_deref())
        .filter(|url| !url.is_empty())
}

fn bad_kubeconfig(error: &KubeconfigError, contexts: Option<&[String]>) -> Failure {
    if let KubeconfigError::LoadContext(name) = error {
        let known = match contexts {
            Some(names) if !names.is_empty() => names.join(", "),
            Some(_) | None => "none".to_owned(),
        };
        return Failure::error(format!(
            "there is no context {name:?} in the kubeconfig (it has: {known})"
        ))
        .hint_to("see them", Command::kubectl(["config", "get-contexts"]));
    }
    if let KubeconfigError::LoadClusterOfContext(name) = error {
        return Failure::error(format!("the kubeconfig describes no cluster {name:?}"))
            .hint_to("see them", Command::kubectl(["config", "get-clusters"]));
    }
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
    let failure = Failure::error(format!("the kubeconfig cannot be used: {}", chain(error)));
    if matches!(error, KubeconfigError::ParseNoProxy(_)) {
        return failure.hint(
            "$NO_PROXY must be host names, addresses or networks, separated by commas, without an \
             empty entry",
        );
    }
    if matches!(error, KubeconfigError::ParseProxyUrl(_)) {
        return failure
            .hint("check `proxy-url` of the cluster in the kubeconfig, and $HTTPS_PROXY");
    }
    failure.hint("check --kubeconfig or $KUBECONFIG")
}

fn parse_server(server: &str) -> Result<http::Uri, Failure> {
    // kubectl also accepts `host:port`, which means http.
    let full = if server.contains("://") { server.to_owned() } else { format!("http://{server}") };
    match full.parse::<http::Uri>() {
        Ok(uri) if uri.host().is_some() => Ok(uri),
        Ok(_) => Err(Failure::usage(format!("--server {server:?} names no host"))),
        Err(error) => Err(Failure::usage(format!("--server {server:?} is not a URL: {error}"))),
    }
}

fn override_by_flags(config: &mut Config, flags: &Flags) -> Result<(), Failure> {
    if let Some(server) = &flags.server {
        config.cluster_url = parse_server(server)?;
    }
    if let Some(token) = &flags.token {
        // The secret's type belongs to a crate that is no dependency: its own deserializer makes
        // one.
        let given: AuthInfo = serde_json::from_value(json!({"token": token}))
            .map_err(|_| Failure::usage("--token is not a token"))?;
        config.auth_info = AuthInfo {
            token: given.token,
            impersonate: config.auth_info.impersonate.take(),
            impersonate_uid: config.auth_info.impersonate_uid.take(),
            impersonate_groups: config.auth_info.impersonate_groups.take(),
            ..AuthInfo::default()
        };
    }
    if let (Some(certificate), Some(key)) = (&flags.client_certificate, &flags.client_key) {
        config.auth_info.client_certificate = Some(certificate.display().to_string());
        config.auth_info.client_certificate_data = None;
        config.auth_info.client_key = Some(key.display().to_string());
        config.auth_info.client_key_data = None;
    }
    if let Some(file) = &flags.certificate_authority {
        config.root_cert = Some(authorities(file)?);
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

/// Reads the certificates in a PEM file.
fn authorities(file: &Path) -> Result<Vec<Vec<u8>>, Failure> {
    let unusable = |why: String| {
        Failure::error(format!("--certificate-authority={}: {why}", file.display()))
            .hint("name a file with the PEM certificates of the API server's authorities")
    };
    let read: Result<Vec<_>, _> = CertificateDer::pem_file_iter(file)
        .map_err(|error| unusable(error.to_string()))?
        .map(|certificate| certificate.map(|der| der.to_vec()))
        .collect();
    let read = read.map_err(|error| unusable(error.to_string()))?;
    if read.is_empty() { Err(unusable("it holds no certificate".to_owned())) } else { Ok(read) }
}

#[cfg(test)]
mod tests;
