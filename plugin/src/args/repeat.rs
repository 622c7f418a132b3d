//! The connection flags once more, for commands that people copy into their shell.

use std::borrow::Cow;

use pgscale_guard::duration::exact;

use super::ConnectionFlags;

/// Stands for the token: a secret is not shown, and without any token the command would act as somebody else.
const TOKEN: &str = "TOKEN";
/// What a command begins with.
const KUBECTL: &str = "kubectl ";
/// What its namespace follows.
const NAMESPACE: &str = " -n ";

impl ConnectionFlags {
    /// The flags that lead to the same API server again, as the same user, each with a space in front: no secrets, and
    /// no namespace, which is always shown.
    pub(crate) fn to_repeat(&self) -> String {
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
            ("--operator", operator.as_ref().map(|it| format!("{}/{}", it.namespace, it.name))),
            ("--token", token.as_ref().map(|_| TOKEN.to_owned())),
            ("--certificate-authority", certificate_authority.as_ref().map(file)),
            ("--client-certificate", client_certificate.as_ref().map(file)),
            ("--client-key", client_key.as_ref().map(file)),
            ("--tls-server-name", tls_server_name.clone()),
            ("--request-timeout", request_timeout.map(exact)),
        ]);
        let mut text: String = named
            .into_iter()
            .filter_map(|(flag, value)| Some(format!(" {flag}={}", quoted(&value?))))
            .collect();
        if *insecure_skip_tls_verify {
            text.push_str(" --insecure-skip-tls-verify");
        }
        text
    }
}

/// A word as a shell takes it: in quotes where it holds anything that means something to the shell.
pub(crate) fn quoted(word: &str) -> Cow<'_, str> {
    // What cannot be quoted holds a NUL, which no command line can.
    shlex::try_quote(word).unwrap_or(Cow::Borrowed(word))
}

/// A text with the connection flags in each of its commands, after the namespace: the cluster's, or its operator's.
pub(crate) fn with_flags(text: &str, flags: &str) -> String {
    let mut parts = text.split(KUBECTL);
    let mut told = parts.next().unwrap_or_default().to_owned();
    for command in parts {
        told.push_str(KUBECTL);
        match command.split_once(NAMESPACE) {
            None => told.push_str(command),
            Some((before, after)) => {
                let ends = after.find(|it: char| it != '-' && !it.is_ascii_alphanumeric());
                let (namespace, rest) = after.split_at(ends.unwrap_or(after.len()));
                told.extend([before, NAMESPACE, namespace, flags, rest]);
            }
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use super::with_flags;
    use crate::args::Cli;

    fn repeated(words: &[&str]) -> String {
        let words = ["kubectl-pgscale", "version"].iter().chain(words);
        Cli::of(words.copied()).unwrap().connection.to_repeat()
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
    fn flags_were_put_into_the_middle_of_a_longer_namespace_or_left_out_for_another() {
        let flags = " --context=c";
        for (text, want) in [
            (
                "see: kubectl get pods -n postgres-operator, or kubectl pgscale set a 2 -n postgres; ask again",
                "see: kubectl get pods -n postgres-operator --context=c, or kubectl pgscale set a 2 -n postgres \
                 --context=c; ask again",
            ),
            (
                "(kubectl exec -it a-0 -n postgres -c postgres -- patronictl list -n 1)",
                "(kubectl exec -it a-0 -n postgres --context=c -c postgres -- patronictl list -n 1)",
            ),
            ("kubectl get pods -n db. Then wait", "kubectl get pods -n db --context=c. Then wait"),
            ("wait, or use -n db", "wait, or use -n db"),
            ("kubectl get nodes", "kubectl get nodes"),
        ] {
            assert_eq!(with_flags(text, flags), want);
        }
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
            ("it's", "\"it's\""),
            ("", "''"),
        ] {
            let flags = repeated(&["--context", word]);
            assert_eq!(flags, format!(" --context={want}"));
            // The shell gives back what was given.
            assert_eq!(shlex::split(&flags).unwrap(), [format!("--context={word}")]);
        }
    }
}
