//! The command line of `pgscale-webhook`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::builder::PossibleValue;
use clap::{Args, Parser, Subcommand, ValueEnum};
use pgscale_guard::operator::Account;
use tracing_subscriber::EnvFilter;

use crate::certs::read_tokens;
use crate::duration;
use crate::registration::{FailurePolicy, Registration, Target};

/// Validating admission webhook: holds every writer of a PostgreSQL cluster's instance count to
/// pgscale's rules
#[derive(Debug, Parser)]
#[command(version)]
pub(crate) struct Arguments {
    /// The subcommand.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// A subcommand with its arguments.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Answer admission reviews until SIGTERM
    Serve(Box<Serve>),
    /// Print the registration at the API server
    Configuration(Configure),
    /// Print the service account with its permissions, the break-glass roles that pass the webhook
    /// in an emergency, and the policy that reports their use
    Rbac(Rbac),
    /// Print the definitions of pgscale's own resources: scale policies and overrides
    Crd,
}

/// The arguments of `serve`.
#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// Address to answer reviews on, over TLS; the default serves IPv6 and IPv4
    #[arg(long, value_name = "ADDRESS", default_value = "[::]:9443")]
    pub(crate) listen: SocketAddr,
    /// Address for /healthz, /readyz and /metrics, over plain HTTP
    #[arg(long, value_name = "ADDRESS", default_value = "[::]:9090")]
    pub(crate) metrics_listen: SocketAddr,
    /// The source of the serving certificate.
    #[command(flatten)]
    pub(crate) certificate: CertificateArguments,
    /// The peers that may send reviews.
    #[command(flatten)]
    pub(crate) clients: ClientArguments,
    /// Kubeconfig for the API server; without it, the pod's service account is used
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// The registration's choice for growth and for new clusters that cannot be judged
    #[arg(long, value_enum, value_name = "POLICY", default_value_t)]
    pub(crate) grow_failure_policy: FailurePolicy,
    /// Time between two looks for a new certificate
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration::parse)]
    pub(crate) reload_interval: Duration,
    /// The most connections that may be open; further ones take the places of idle ones
    #[arg(
        long,
        value_name = "COUNT",
        default_value_t = 1024,
        value_parser = clap::value_parser!(u32).range(1..=65536)
    )]
    pub(crate) max_connections: u32,
    /// Time to accept connections after SIGTERM: longer than API servers take to stop sending
    /// reviews to this pod
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration::parse)]
    pub(crate) drain_delay: Duration,
    /// Time to wait after that for reviews that have not been answered
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration::parse)]
    pub(crate) drain_timeout: Duration,
    /// Namespace of the webhook: when it is deleted, the API server deletes the registration, too
    #[arg(long, value_name = "NAME")]
    pub(crate) namespace: Option<String>,
    /// Lines to log on stderr: a level, or a level by module (info,hyper=warn)
    #[arg(long, value_name = "FILTER", env = "PGSCALE_LOG", default_value = "info")]
    pub(crate) log: EnvFilter,
    /// Form of the log lines
    #[arg(long, value_name = "FORM", default_value = "json")]
    pub(crate) log_format: LogFormat,
}

/// The source of the serving certificate and of the secret path.
#[derive(Debug, Args)]
pub(crate) struct CertificateArguments {
    /// Certificate chain, PEM; read again when it changes
    #[arg(
        long,
        value_name = "FILE",
        requires = "tls_key",
        required_unless_present = "certificate_secret",
        conflicts_with = "certificate_secret"
    )]
    pub(crate) tls_cert: Option<PathBuf>,
    /// Its private key, PEM; read again when it changes
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,
    /// Instead of files: a Secret for authorities and a secret path that the webhook makes, renews
    /// and publishes in its registration; it signs certificates by these authorities
    #[arg(long, value_name = "NAMESPACE/NAME", requires = "server_name", value_parser = namespaced)]
    pub(crate) certificate_secret: Option<(String, String)>,
    /// DNS name by which the API server calls; may be repeated
    #[arg(long, value_name = "NAME", requires = "certificate_secret")]
    pub(crate) server_name: Vec<String>,
    /// With files: a Secret for a secret path that the webhook makes, renews and publishes in its
    /// registration; only requests under this path are answered
    #[arg(
        long,
        value_name = "NAMESPACE/NAME",
        requires = "tls_cert",
        conflicts_with_all = ["certificate_secret", "path_file"],
        value_parser = namespaced
    )]
    pub(crate) path_secret: Option<(String, String)>,
    /// Secret paths that another program publishes, one a line; read again when it changes. With
    /// --tls-cert and neither this nor --path-secret, every caller is answered
    #[arg(long, value_name = "FILE")]
    pub(crate) path_file: Option<PathBuf>,
}

/// The peers that may send reviews: all, or those with a client certificate.
#[derive(Debug, Args)]
pub(crate) struct ClientArguments {
    /// Authority of client certificates, PEM; read again when it changes. A peer without one of its
    /// certificates gets no connection
    #[arg(long, value_name = "FILE")]
    pub(crate) client_ca: Option<PathBuf>,
    /// Name that a client certificate must have: its common name or an alternative one; may be
    /// repeated, and then one of them is enough
    #[arg(long, value_name = "NAME", requires = "client_ca")]
    pub(crate) client_name: Vec<String>,
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// One JSON object a line.
    Json,
    /// Text for a terminal.
    Text,
}

/// The arguments of `configuration`.
#[derive(Debug, Args)]
pub(crate) struct Configure {
    #[command(flatten)]
    target: TargetArguments,
    /// Authority that signed the webhook's certificate, PEM; left out if not given
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// File with the secret path, as for `serve`, of which the first line counts; left out if not
    /// given
    #[arg(long, value_name = "FILE")]
    path_file: Option<PathBuf>,
    /// Service account of an operator: it may scale its StatefulSets without a review; may be
    /// repeated
    #[arg(long, value_name = "NAMESPACE/NAME")]
    operator_account: Vec<Account>,
    /// Answer of the API server to growth and new clusters while the webhook does not answer
    #[arg(long, value_enum, value_name = "POLICY", default_value_t)]
    grow_failure_policy: FailurePolicy,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct TargetArguments {
    /// URL by which the API server reaches the webhook: https://HOST:PORT
    #[arg(long, value_name = "URL", value_parser = Target::url)]
    url: Option<Target>,
    /// The Service in front of the webhook
    #[arg(long, value_name = "NAMESPACE/NAME[:PORT]", value_parser = Target::service)]
    service: Option<Target>,
}

/// The arguments of `rbac`.
#[derive(Debug, Args)]
pub(crate) struct Rbac {
    /// Namespace of the webhook
    #[arg(long, short)]
    pub(crate) namespace: String,
    /// Secret in which the webhook keeps its authorities and its secret path; without it, the
    /// webhook may write no Secret and not its registration
    #[arg(long, value_name = "NAME")]
    pub(crate) certificate_secret: Option<String>,
    /// User who may act in the group pgscale:break-glass, which may patch every postgresql of the
    /// cluster; may be repeated
    #[arg(long, value_name = "USER")]
    pub(crate) break_glass_user: Vec<String>,
}

impl Configure {
    /// Returns the registration that the arguments describe.
    ///
    /// # Errors
    /// Fails when the authority or the secret path cannot be read.
    pub(crate) fn registration(self) -> Result<Registration> {
        let target =
            self.target.url.or(self.target.service).context("neither --url nor --service")?;
        let read = |file: PathBuf| {
            std::fs::read(&file).with_context(|| format!("failed to read {}", file.display()))
        };
        Ok(Registration {
            target,
            authority: self.ca_file.map(read).transpose()?,
            token: match self.path_file {
                Some(file) => read_tokens(&file)?.into_iter().next(),
                None => None,
            },
            operator_accounts: self.operator_account,
            growth: self.grow_failure_policy,
        })
    }
}

impl ValueEnum for FailurePolicy {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::Fail, Self::Ignore]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let help = match self {
            Self::Fail => "Refuse the write",
            Self::Ignore => "Let the write pass",
        };
        Some(PossibleValue::new(self.as_str()).help(help))
    }
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

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn failure_policy_is_spelled_as_in_a_registration() {
        for policy in FailurePolicy::value_variants() {
            assert_eq!(FailurePolicy::from_str(policy.as_str(), false), Ok(*policy));
        }
        assert!(FailurePolicy::from_str("fail", false).is_err());
    }

    #[test]
    fn certificate_comes_from_one_place() {
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
        let (secret, file) = (["--path-secret", "ns/name"], ["--path-file", "path"]);
        assert_eq!(parse(&[&files[..], &secret].concat()), Ok(()));
        assert_eq!(parse(&[&files[..], &file].concat()), Ok(()));
        assert_eq!(parse(&[&own[..], &file].concat()), Ok(()));
        for wrong in [[&own[..], &secret].concat(), [&files[..], &secret, &file].concat()] {
            assert_eq!(parse(&wrong), Err(clap::error::ErrorKind::ArgumentConflict), "{wrong:?}");
        }
        for wrong in ["name", "/name", "ns/", "a/b/c"] {
            assert!(namespaced(wrong).is_err(), "{wrong}");
        }
    }
}
