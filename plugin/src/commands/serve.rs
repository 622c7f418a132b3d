//! `serve`: the flags of the HTTP API. The API itself is in `serve`, because it runs all other verbs.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use crate::args::name_template;
use crate::error::Failure;

/// Serve the HTTP API, and a page for a browser: state, plans and changes.
///
/// Every change is judged and made as by up and down, and goes on when its caller leaves. On loopback
/// it acts in your name. Elsewhere it needs TLS and --pass-token: then each request acts in the name of
/// its own bearer token, and this server has no permissions. GET /openapi.json describes all paths.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  kubectl pgscale serve
  kubectl pgscale serve --port=0")]
pub(crate) struct Args {
    /// Address to listen on.
    #[arg(long, value_name = "IP", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    pub(crate) address: IpAddr,
    /// Port to listen on; 0 takes a free one.
    #[arg(long, value_name = "PORT", default_value_t = 8090)]
    pub(crate) port: u16,
    /// Act in the name of each request's bearer token.
    ///
    /// A request without Authorization: Bearer gets 401. The token replaces every other credential.
    #[arg(long)]
    pub(crate) pass_token: bool,
    /// Further name of this server in requests.
    ///
    /// Without --pass-token only requests for a name of loopback are answered, so that no web page
    /// reaches it by a name of its own. May be repeated.
    #[arg(long, value_name = "HOST", hide_short_help = true)]
    pub(crate) accept_hosts: Vec<String>,
    /// Cluster behind a name of /ha-clusters.
    #[arg(long, value_name = "TEMPLATE", default_value = "{name}-cluster",
        value_parser = name_template, hide_short_help = true)]
    pub(crate) cluster_template: String,
    /// Its namespace.
    #[arg(long, value_name = "TEMPLATE", default_value = "dbaas-{name}",
        value_parser = name_template, hide_short_help = true)]
    pub(crate) namespace_template: String,
    /// File with the certificate to serve with, PEM; read again each minute.
    #[arg(long, value_name = "FILE", requires = "tls_private_key_file")]
    pub(crate) tls_cert_file: Option<PathBuf>,
    /// File with the key of that certificate, PEM.
    #[arg(long, value_name = "FILE", requires = "tls_cert_file")]
    pub(crate) tls_private_key_file: Option<PathBuf>,
}

impl Args {
    /// Checks that strangers cannot act in the name of the person at this machine.
    ///
    /// # Errors
    /// `Usage`, where other machines reach the address and no token is asked for, or it could be
    /// read on the way.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        if self.address.is_loopback() || (self.pass_token && self.tls_cert_file.is_some()) {
            return Ok(());
        }
        Err(Failure::usage(format!(
            "--address={} can be reached from other machines: that needs --pass-token, --tls-cert-file and \
             --tls-private-key-file",
            self.address
        )))
    }
}
