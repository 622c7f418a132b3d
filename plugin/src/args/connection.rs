//! kubectl's connection flags.

use std::path::PathBuf;
use std::time::Duration;

use super::duration;
use crate::connect::{Deployment, Flags};

/// kubectl's connection flags, with kubectl's meaning, and the choice of the operator.
#[derive(clap::Args, Clone, Debug, Default)]
#[command(next_help_heading = "Connection, as in kubectl")]
pub(crate) struct ConnectionFlags {
    /// Namespace of the cluster; the context's when unset.
    #[arg(short, long, global = true, value_name = "NAMESPACE")]
    pub(crate) namespace: Option<String>,
    /// Context of the kubeconfig to use.
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) context: Option<String>,
    /// The kubeconfig file; $KUBECONFIG or ~/.kube/config when unset.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Cluster entry of the kubeconfig to use.
    #[arg(long, global = true, value_name = "NAME", hide_short_help = true)]
    pub(crate) cluster: Option<String>,
    /// User entry of the kubeconfig to use.
    #[arg(long, global = true, value_name = "NAME", hide_short_help = true)]
    pub(crate) user: Option<String>,
    /// User to act as.
    #[arg(long = "as", global = true, value_name = "USER", hide_short_help = true)]
    pub(crate) as_user: Option<String>,
    /// Group to act as; may be repeated.
    #[arg(long, global = true, value_name = "GROUP", hide_short_help = true)]
    pub(crate) as_group: Vec<String>,
    /// UID to act as.
    #[arg(long, global = true, value_name = "UID", hide_short_help = true)]
    pub(crate) as_uid: Option<String>,
    /// Address of the API server.
    #[arg(short, long, global = true, value_name = "URL", hide_short_help = true)]
    pub(crate) server: Option<String>,
    /// Deployment of the operator that owns the cluster, for this command only.
    #[arg(long, global = true, value_name = "NAMESPACE/NAME", env = "PGSCALE_OPERATOR",
        value_parser = operator, hide_short_help = true)]
    pub(crate) operator: Option<Deployment>,
    /// Bearer token for the API server.
    #[arg(long, global = true, value_name = "TOKEN", hide_short_help = true)]
    pub(crate) token: Option<String>,
    /// File with the authorities of the API server's certificate, PEM.
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        hide_short_help = true,
        conflicts_with = "insecure_skip_tls_verify"
    )]
    pub(crate) certificate_authority: Option<PathBuf>,
    /// File with the certificate to show the API server, PEM; needs --client-key.
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        hide_short_help = true,
        requires = "client_key"
    )]
    pub(crate) client_certificate: Option<PathBuf>,
    /// File with the key of that certificate, PEM.
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        hide_short_help = true,
        requires = "client_certificate"
    )]
    pub(crate) client_key: Option<PathBuf>,
    /// Name the API server's certificate is checked against.
    #[arg(long, global = true, value_name = "NAME", hide_short_help = true)]
    pub(crate) tls_server_name: Option<String>,
    /// Do not check the API server's certificate.
    #[arg(long, global = true, hide_short_help = true)]
    pub(crate) insecure_skip_tls_verify: bool,
    /// Time limit of one request, such as 10s; 0 for no limit. 30s when unset.
    #[arg(long, global = true, value_name = "DURATION", hide_short_help = true,
        value_parser = request_timeout)]
    pub(crate) request_timeout: Option<Duration>,
    /// Show each request on stderr, from 6 on.
    #[arg(
        short = 'v',
        long = "v",
        global = true,
        value_name = "LEVEL",
        hide_short_help = true,
        default_value_t,
        hide_default_value = true
    )]
    pub(crate) verbosity: u8,
    /// End with 1 where the API server sent a warning.
    #[arg(long, global = true, hide_short_help = true)]
    pub(crate) warnings_as_errors: bool,
    /// Name of the writer of the count in managedFields.
    #[arg(long, global = true, value_name = "NAME", hide_short_help = true,
        value_parser = manager)]
    pub(crate) field_manager: Option<String>,
    #[command(flatten)]
    pub(crate) without_effect: WithoutEffect,
}

/// Flags of kubectl that change nothing here, and are taken so that a line for kubectl works.
#[derive(clap::Args, Clone, Debug, Default)]
pub(crate) struct WithoutEffect {
    /// Directory of kubectl's cache. Nothing is cached here.
    #[arg(long, global = true, value_name = "DIRECTORY", hide = true)]
    cache_dir: Option<PathBuf>,
    /// Answers are never compressed here.
    #[arg(long, global = true, value_name = "BOOL", hide = true, num_args = 0..=1,
        require_equals = true, default_missing_value = "true")]
    disable_compression: Option<bool>,
    /// The version of the API server does not matter here.
    #[arg(long, global = true, value_name = "BOOL", hide = true, num_args = 0..=1,
        require_equals = true, default_missing_value = "true")]
    match_server_version: Option<bool>,
    /// The file with kubectl's own preferences.
    #[arg(long, global = true, value_name = "FILE", hide = true)]
    kuberc: Option<PathBuf>,
    /// The interval between two writes of kubectl's log.
    #[arg(long, global = true, value_name = "DURATION", hide = true)]
    log_flush_frequency: Option<String>,
    /// The profile that kubectl records of itself.
    #[arg(long, global = true, value_name = "NAME", hide = true)]
    profile: Option<String>,
    /// The file of that profile.
    #[arg(long, global = true, value_name = "FILE", hide = true)]
    profile_output: Option<PathBuf>,
    /// The verbosity of kubectl's source files.
    #[arg(long, global = true, value_name = "PATTERNS", hide = true)]
    vmodule: Option<String>,
}

impl From<ConnectionFlags> for Flags {
    fn from(flags: ConnectionFlags) -> Self {
        // Each flag by name, so that none that is added later is forgotten here.
        let ConnectionFlags {
            namespace,
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
            verbosity,
            // Of the command, and not of the connection.
            warnings_as_errors: _,
            field_manager: _,
            without_effect: _,
        } = flags;
        Self {
            namespace,
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
            verbosity,
        }
    }
}

/// The longest name of a field manager (`ValidateFieldManager`, apimachinery/pkg/apis/meta/v1/
/// validation/validation.go).
const MANAGER: usize = 128;

fn manager(word: &str) -> Result<String, String> {
    let printable = word.chars().all(|character| character == ' ' || character.is_ascii_graphic());
    match word {
        "" => Err("it is empty".to_owned()),
        word if word.len() > MANAGER => Err(format!("it is longer than {MANAGER} bytes")),
        _ if !printable => Err("it holds more than printable characters".to_owned()),
        word => Ok(word.to_owned()),
    }
}

/// Reads `NAMESPACE/NAME`.
fn operator(text: &str) -> Result<Deployment, String> {
    match text.split_once('/') {
        Some((namespace, name))
            if !namespace.is_empty() && !name.is_empty() && !name.contains('/') =>
        {
            Ok(Deployment { namespace: namespace.to_owned(), name: name.to_owned() })
        }
        Some(_) | None => Err("a Deployment is named as NAMESPACE/NAME".to_owned()),
    }
}

fn request_timeout(word: &str) -> Result<Duration, String> {
    // kubectl reads a bare number as seconds here.
    if let Ok(seconds) = word.parse::<u64>() {
        return Ok(Duration::from_secs(seconds));
    }
    let duration = duration(word)?;
    if duration.is_negative() {
        Err("it is negative".to_owned())
    } else {
        Ok(duration.unsigned_abs())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pgscale_guard::remedy::{Reach, spelled};

    use super::request_timeout;
    use crate::cli::Cli;
    use crate::connect::Flags;

    #[test]
    fn a_bare_number_of_seconds_is_taken_as_kubectl_takes_it() {
        assert_eq!(request_timeout("5"), Ok(Duration::from_secs(5)));
    }

    #[test]
    fn flags_of_kubectl_without_a_meaning_here_are_accepted() {
        for flags in [
            "--cache-dir=/tmp/x --disable-compression --match-server-version",
            "--cache-dir /tmp/x --disable-compression=true --match-server-version=false",
            "--kuberc=off --profile=none --profile-output=p --vmodule=a=1 --log-flush-frequency=5s",
            "-v 6 --warnings-as-errors --field-manager=me",
            "-v=6",
            "-v6",
            "--v=6",
        ] {
            for line in [
                format!("kubectl-pgscale {flags} status"),
                format!("kubectl-pgscale status {flags}"),
            ] {
                Cli::of(line.split_whitespace()).expect(&line);
            }
        }
        let cli = Cli::of(["kubectl-pgscale", "status", "-v=8", "--field-manager", "me"]).unwrap();
        assert_eq!(cli.connection.field_manager.as_deref(), Some("me"));
        assert_eq!(Flags::from(cli.connection).verbosity, 8);
        for word in ["", "a\tb", &"x".repeat(129)] {
            let words = ["kubectl-pgscale", "status", "--field-manager", word];
            assert_eq!(Cli::of(words).unwrap_err().exit_code(), 2, "{word:?}");
        }
    }

    fn repeated(words: &[&str]) -> String {
        let words = ["kubectl-pgscale", "version"].iter().chain(words);
        let Reach { kubectl, pgscale } =
            Flags::from(Cli::of(words.copied()).unwrap().connection).to_repeat();
        spelled(kubectl.iter().chain(&pgscale))
    }

    #[test]
    fn suggested_commands_carry_the_flags_that_trust_the_server() {
        for flags in [
            &["--certificate-authority=/etc/ca.pem", "--tls-server-name=api.example"][..],
            &["--insecure-skip-tls-verify"],
            &["--client-certificate=c.pem", "--client-key=k.pem"],
            &["--as=eve", "--as-group=a", "--as-group=b", "--server=https://10.0.0.1:6443"],
            &["--as=eve", "--as-uid=7", "--request-timeout=1m30s"],
            &["--request-timeout=1.5s"],
            &["--context=c", "--kubeconfig=k", "--cluster=c", "--user=u"],
        ] {
            assert_eq!(repeated(flags), format!(" {}", flags.join(" ")));
        }
        assert_eq!(repeated(&["-n", "db"]), "");
    }

    #[test]
    fn suggested_commands_show_no_token_and_say_that_one_is_needed() {
        assert_eq!(repeated(&["--token", "s3cret"]), " --token=TOKEN");
    }

    #[test]
    fn suggested_commands_are_quoted_for_the_shell() {
        for (word, want) in [
            ("gke_p_eu-west1_c", "gke_p_eu-west1_c"),
            ("system:serviceaccount:db:dba", "system:serviceaccount:db:dba"),
            ("my cluster", "'my cluster'"),
            ("a;reboot", "'a;reboot'"),
            ("$(id)", "'$(id)'"),
            ("it's", r"'it'\''s'"),
            ("", ""),
        ] {
            let flags = repeated(&["--context", word]);
            assert_eq!(flags, format!(" --context={want}"));
            // The shell gives the same words back.
            assert_eq!(shlex::split(&flags).unwrap(), [format!("--context={word}")]);
        }
    }
}
