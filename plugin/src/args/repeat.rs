//! The connection flags once more, for commands that people copy into their shell.

use pgscale_guard::duration::exact;
use pgscale_guard::remedy::Reach;

use super::ConnectionFlags;

/// Stands for the token: a secret is not shown, and without any token the command would act as somebody else.
const TOKEN: &str = "TOKEN";

impl ConnectionFlags {
    /// Returns the flags that lead to the same API server again, as the same user: no secrets, and no namespace, which is
    /// always shown.
    pub(crate) fn to_repeat(&self) -> Reach {
        // Each by name, so that none that is added later is forgotten here.
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
        } = self;
        let file = |path: &std::path::PathBuf| path.to_string_lossy().into_owned();
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

#[cfg(test)]
mod tests {
    use pgscale_guard::remedy::{Reach, spelled};

    use crate::args::Cli;

    fn repeated(words: &[&str]) -> String {
        let words = ["kubectl-pgscale", "version"].iter().chain(words);
        let Reach { kubectl, pgscale } = Cli::of(words.copied()).unwrap().connection.to_repeat();
        spelled(kubectl.iter().chain(&pgscale))
    }

    #[test]
    fn suggested_commands_forgot_the_flags_that_say_how_to_trust_the_server() {
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
    fn suggested_commands_were_not_quoted_for_the_shell() {
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
            // The shell gives back what was given.
            assert_eq!(shlex::split(&flags).unwrap(), [format!("--context={word}")]);
        }
    }
}
