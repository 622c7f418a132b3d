//! The way to the API server: proxy, TLS and credentials.
//!
//! kube's own stack (`ClientBuilder::try_from`) logs in to no SOCKS proxy, trusts no server's own
//! certificate, runs a credential program several times, and keeps the line break behind a token.

use std::io::{self, Write as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::HeaderValue;
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper::rt::{Read, Write};
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::proxy::{SocksV5, Tunnel};
use hyper_util::client::legacy::connect::{Connection, HttpConnector};
use hyper_util::rt::TokioExecutor;
use kube::Config;
use kube::client::{Body, ConfigExt as _};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tower::filter::AsyncFilterLayer;
use tower::util::{BoxCloneService, BoxService, MapRequestLayer};
use tower::{BoxError, Service, ServiceBuilder, ServiceExt as _};

use super::program::{Program, Tokens};
use super::proxy::{self, Login};
use super::token::TokenFile;
use super::trust::Verifier;
use crate::error::{Failure, chain};

/// The time limit of a connection, before any request.
const CONNECT: Duration = Duration::from_secs(30);

/// Requests to whichever server their address names.
type Client = BoxCloneService<Request<Body>, Response<Incoming>, legacy::Error>;

/// Requests to the API server, with everything that they need.
pub(super) type Transport = BoxService<Request<Body>, Response<Incoming>, BoxError>;

/// The manner in which the API server is asked.
#[derive(Clone, Copy)]
pub(super) struct Manner {
    /// A person is there, who may answer a credential program.
    pub(super) attended: bool,
    /// Each request is shown.
    pub(super) traced: bool,
}

/// Builds the way to the API server of `config`.
pub(super) fn build(mut config: Config, manner: Manner) -> Result<Transport, Failure> {
    let server = config.cluster_url.clone();
    let unusable = |error: &kube::Error| Failure::of_kube(error, &format!("connect to {server}"));
    let program = match config.auth_info.exec.take() {
        Some(exec) => Some(
            Program::run(exec, manner.attended)
                .map_err(|error| error.failure(&format!("connect to {server}")))?,
        ),
        None => None,
    };
    if let Some(given) = program.as_ref().and_then(Program::certificate) {
        let given = super::choice::parsed::<kube::config::AuthInfo>(serde_json::json!({
            "client-certificate-data": super::base64(given.certificate.as_bytes()),
            "client-key-data": super::base64(given.key.as_bytes()),
        }))?;
        config.auth_info.client_certificate_data = given.client_certificate_data;
        config.auth_info.client_key_data = given.client_key_data;
    }
    let file = config.auth_info.token_file.take();
    let file = file.map(|path| TokenFile::read(path.as_ref()));
    let file = match file.transpose() {
        // The token in the kubeconfig serves as well.
        Err(_) if config.auth_info.token.is_some() => None,
        file => file?,
    };
    if file.is_some() {
        // The file is the newer one of the two.
        config.auth_info.token = None;
    }
    let tls = Tls::of(&config)?;
    let client = match &config.proxy_url {
        None => tls.client(direct()),
        Some(url) => match url.scheme_str() {
            Some("socks5") => {
                let socks = SocksV5::new(url.clone(), direct());
                tls.client(match proxy::login(url) {
                    Some(Login { user, password }) => socks.with_auth(user, password),
                    None => socks,
                })
            }
            Some("http") => tls.client(tunnel(url, direct())),
            Some("https") => tls.client(tunnel(url, tls.https(direct()))),
            Some(_) | None => {
                return Err(Failure::error(
                    "the proxy of the cluster has an unknown scheme, and not http, https or socks5",
                )
                .hint("check `proxy-url` of the cluster in the kubeconfig, and $HTTPS_PROXY"));
            }
        },
    };
    let client = if manner.traced { traced(client) } else { client };
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer().map_err(|error| unusable(&error))?)
        .option_layer(program.map(|program| AsyncFilterLayer::new(Tokens::of(program))))
        .option_layer(
            file.map(|file| MapRequestLayer::new(move |request: Request<Body>| file.add(request))),
        )
        .layer(config.extra_headers_layer().map_err(|error| unusable(&error))?)
        .map_err(BoxError::from)
        .service(client);
    Ok(service.boxed())
}

/// Returns what connects to an address itself.
fn direct() -> HttpConnector {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_connect_timeout(Some(CONNECT));
    connector
}

/// Returns what connects through the HTTP proxy at `url`.
fn tunnel<C>(url: &Uri, connector: C) -> Tunnel<C> {
    let tunnel = Tunnel::new(url.clone(), connector);
    match proxy::login(url).and_then(|login| HeaderValue::try_from(login.basic()).ok()) {
        Some(mut header) => {
            header.set_sensitive(true);
            tunnel.with_auth(header)
        }
        None => tunnel,
    }
}

/// Shows each request with its result and its time, in the words of kubectl (`debuggingRoundTripper`,
/// client-go, `transport/round_trippers.go`).
fn traced(client: Client) -> Client {
    tower::service_fn(move |request: Request<Body>| {
        let client = client.clone();
        async move {
            let asked = format!("{} {}", request.method(), request.uri());
            let begun = Instant::now();
            let answer = client.oneshot(request).await;
            let result = match &answer {
                Ok(answer) => answer.status().to_string(),
                Err(error) => chain(error),
            };
            let time = begun.elapsed().as_millis();
            // A failure to write ends nothing.
            writeln!(io::stderr().lock(), "{asked} {result} in {time} milliseconds").ok();
            answer
        }
    })
    .boxed_clone()
}

/// TLS on the way to the API server, and to a proxy that wants it.
struct Tls {
    config: ClientConfig,
    name: Option<ServerName<'static>>,
}

impl Tls {
    fn of(config: &Config) -> Result<Self, Failure> {
        let server = &config.cluster_url;
        let mut tls = config
            .rustls_client_config()
            .map_err(|error| Failure::of_kube(&error, &format!("connect to {server}")))?;
        // The file of a pod's service account is read again by kube's own verifier.
        if let (Some(certificates), None, false) =
            (&config.root_cert, &config.root_cert_file, config.accept_invalid_certs)
            && let Some(verifier) = Verifier::of(certificates)
        {
            tls.dangerous().set_certificate_verifier(Arc::new(verifier));
        }
        let name = config.tls_server_name.clone().map(ServerName::try_from).transpose();
        let name = name.map_err(|_| {
            Failure::error("the name to check the API server's certificate against is no host name")
                .hint(
                    "check --tls-server-name, or tls-server-name of the cluster in the kubeconfig",
                )
        })?;
        Ok(Self { config: tls, name })
    }

    /// Adds TLS to a connector.
    fn https<C>(&self, connector: C) -> HttpsConnector<C> {
        let builder =
            HttpsConnectorBuilder::new().with_tls_config(self.config.clone()).https_or_http();
        let builder = match &self.name {
            Some(name) => {
                builder.with_server_name_resolver(FixedServerNameResolver::new(name.clone()))
            }
            None => builder,
        };
        builder.enable_http1().wrap_connector(connector)
    }

    /// Returns the HTTP client on top of a connector.
    fn client<C>(&self, connector: C) -> Client
    where
        C: Service<Uri> + Clone + Send + Sync + 'static,
        C::Response: Connection + Read + Write + Send + Unpin + 'static,
        C::Future: Send + 'static,
        C::Error: Into<BoxError> + Send + Sync + 'static,
    {
        let client = legacy::Client::builder(TokioExecutor::new()).build(self.https(connector));
        client.boxed_clone()
    }
}
