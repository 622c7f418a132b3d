//! The connection flags of the command line.

use std::path::PathBuf;
use std::time::Duration;

use pgscale_guard::duration::exact;
use pgscale_guard::remedy::Reach;

/// Stands for the token: a secret is not shown, and without any token the command would act as
/// another user.
const TOKEN: &str = "TOKEN";

/// The way to the API server and the user on it.
///
/// Each field has kubectl's meaning. `None` where the kubeconfig decides.
#[derive(Clone, Debug, Default)]
pub(crate) struct Flags {
    /// Namespace of the cluster.
    pub(crate) namespace: Option<String>,
    /// Context of the kubeconfig.
    pub(crate) context: Option<String>,
    /// The kubeconfig file.
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Cluster entry of the kubeconfig.
    pub(crate) cluster: Option<String>,
    /// User entry of the kubeconfig.
    pub(crate) user: Option<String>,
    /// User to act as.
    pub(crate) as_user: Option<String>,
    /// Groups to act as.
    pub(crate) as_group: Vec<String>,
    /// UID to act as.
    pub(crate) as_uid: Option<String>,
    /// Address of the API server.
    pub(crate) server: Option<String>,
    /// The operator that owns the cluster.
    pub(crate) operator: Option<Deployment>,
    /// Bearer token.
    pub(crate) token: Option<String>,
    /// File with the authorities of the API server's certificate, PEM.
    pub(crate) certificate_authority: Option<PathBuf>,
    /// File with the certificate to show the API server, PEM.
    pub(crate) client_certificate: Option<PathBuf>,
    /// File with the key of that certificate, PEM.
    pub(crate) client_key: Option<PathBuf>,
    /// Name that the API server's certificate is checked against.
    pub(crate) tls_server_name: Option<String>,
    /// Disables the check of the API server's certificate.
    pub(crate) insecure_skip_tls_verify: bool,
    /// The time limit of one request. Zero for no limit.
    pub(crate) request_timeout: Option<Duration>,
    /// How much is shown of the requests: from 6 on, each one.
    pub(crate) verbosity: u8,
}

/// A Deployment that a person names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Deployment {
    /// Its namespace.
    pub(crate) namespace: String,
    /// Its name.
    pub(crate) name: String,
}

impl Flags {
    /// Returns the flags that lead to the same API server again, as the same user.
    ///
    /// Secrets are left out, and so is the namespace, which is always shown.
    pub(crate) fn to_repeat(&self) -> Reach {
        // Each by name, so that a new field is not forgotten here.
        let Self {
            namespace: _,
            context,
            kubeconfig,
            cluster,
            user,
            as_user,
            as_group,
            as_uid,
            server,
            operator,
            token,
            certificate_authority,
            client_certificate,
            client_key,
            tls_server_name,
            insecure_skip_tls_verify,
            request_timeout,
            verbosity: _,
        } = self;
        let file = |path: &PathBuf| path.to_string_lossy().into_owned();
        let mut named = vec![
            ("--context", context.clone()),
            ("--kubeconfig", kubeconfig.as_ref().map(file)),
            ("--cluster", cluster.clone()),
            ("--user", user.clone()),
            ("--as", as_user.clone()),
        ];
        named.extend(as_group.iter().map(|group| ("--as-group", Some(group.clone()))));
        named.extend([
            ("--as-uid", as_uid.clone()),
            ("--server", server.clone()),
            ("--token", token.as_ref().map(|_| TOKEN.to_owned())),
            ("--certificate-authority", certificate_authority.as_ref().map(file)),
            ("--client-certificate", client_certificate.as_ref().map(file)),
            ("--client-key", client_key.as_ref().map(file)),
            ("--tls-server-name", tls_server_name.clone()),
            ("--request-timeout", request_timeout.map(exact)),
        ]);
        let mut kubectl: Vec<String> = named
            .into_iter()
            .filter_map(|(flag, value)| Some(format!("{flag}={}", value?)))
            .collect();
        if *insecure_skip_tls_verify {
            kubectl.push("--insecure-skip-tls-verify".to_owned());
        }
        let operator = operator.iter().map(|it| format!("--operator={}/{}", it.namespace, it.name));
        Reach { kubectl, pgscale: operator.collect() }
    }
}
