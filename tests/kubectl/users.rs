//! As which user the API server is asked.

use crate::row::{Stage, base64, kubeconfig};

/// Where there are no credentials at all, kubectl asks for a user name on stdin. We ask for nothing, and the
/// API server decides about a user without a name.
#[test]
fn user_is_the_one_of_kubectl() {
    let stage = Stage::new();
    let cluster = stage.cluster("127.0.0.1");
    let client = stage.authority.client("eve");
    stage.file("me.crt", &client.certificate);
    stage.file("me.key", &client.key);
    stage.file("token", "from-file\n");
    let (certificate, key) = (base64(&client.certificate), base64(&client.key));
    let pair = format!("client-certificate-data: {certificate}, client-key-data: {key}");
    for (row, works, user) in [
        ("token", true, "token: t"),
        ("file with a line break", true, "tokenFile: token"),
        ("token and file", true, "token: t, tokenFile: token"),
        ("missing file", false, "tokenFile: gone"),
        ("token and missing file", true, "token: t, tokenFile: gone"),
        ("user and password", true, "username: eve, password: s3cret"),
        ("user without password", true, "username: eve"),
        ("token and user", false, "token: t, username: eve, password: s3cret"),
        ("certificate", true, &pair),
        ("certificate and token", true, &format!("{pair}, token: t")),
        ("files", true, "client-certificate: me.crt, client-key: me.key"),
        ("certificate without key", false, "client-certificate: me.crt"),
        ("key without certificate", true, "client-key: me.key, token: t"),
        ("missing certificate", false, "client-certificate: gone, client-key: me.key"),
        ("missing key", false, "client-certificate: me.crt, client-key: gone"),
        (
            "certificate twice",
            false,
            &format!("client-certificate: me.crt, client-key: me.key, {pair}"),
        ),
        ("mixed", true, &format!("client-certificate: me.crt, client-key-data: {key}")),
        ("as another", true, "token: t, as: eve"),
        ("as another with all", true, "token: t, as: eve, as-uid: '7', as-groups: [a, b]"),
        ("with extra", true, "token: t, as: eve, as-user-extra: {reason: [on call]}"),
        ("groups without a user", false, "token: t, as-groups: [a]"),
        ("uid without a user", false, "token: t, as-uid: '7'"),
    ] {
        stage.with(row, works, &kubeconfig(&cluster, user));
    }
    let (token, basic) = ("token: t", "username: eve, password: s3cret");
    for (row, works, user, flags) in [
        ("token by flag", true, token, &["--token=flag"][..]),
        ("token by flag, beside a certificate", true, &pair, &["--token=flag"]),
        ("token by flag, beside a user", false, basic, &["--token=flag"]),
        (
            "certificate by flags",
            true,
            token,
            &["--client-certificate=me.crt", "--client-key=me.key"],
        ),
        (
            "certificate by flags, beside data",
            true,
            &pair,
            &["--client-certificate=me.crt", "--client-key=me.key"],
        ),
        ("as by flag", true, token, &["--as=ann", "--as-group=x", "--as-group=y", "--as-uid=8"]),
        ("as by flag over the entry", true, "token: t, as: eve", &["--as=ann"]),
        ("group by flag, user in the entry", true, "token: t, as: eve", &["--as-group=x"]),
        ("group by flag without a user", false, token, &["--as-group=x"]),
    ] {
        stage.flags(row, works, &kubeconfig(&cluster, user), flags);
    }
}

/// Returns a credential program as a user's entry.
fn program(command: &str, rest: &str) -> String {
    format!(
        "exec: {{apiVersion: client.authentication.k8s.io/v1, command: {command}, \
         interactiveMode: IfAvailable{rest}}}"
    )
}

/// Writes a program that prints this status, after `before`.
#[cfg(unix)]
fn script(stage: &Stage, name: &str, before: &str, version: &str, status: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    let answer = format!(
        "{{\"apiVersion\":\"client.authentication.k8s.io/{version}\",\"kind\":\"ExecCredential\",\"status\":{status}}}"
    );
    let path = stage.file(name, &format!("#!/bin/sh\n{before}\ncat <<'END'\n{answer}\nEND\n"));
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[cfg(unix)]
#[test]
fn credential_programs_are_run_as_by_kubectl() {
    let stage = Stage::new();
    let cluster = stage.cluster("127.0.0.1");
    let client = stage.authority.client("eve");
    let line = |pem: &str| pem.replace('\n', "\\n");
    let pair = format!(
        "{{\"clientCertificateData\":\"{}\",\"clientKeyData\":\"{}\"}}",
        line(&client.certificate),
        line(&client.key)
    );
    let token = "{\"token\":\"t\"}";
    script(&stage, "login", "", "v1", token);
    script(&stage, "certificate", "", "v1", &pair);
    script(&stage, "fails", "echo go away >&2; exit 3", "v1", token);
    script(&stage, "beta", "", "v1beta1", token);
    script(&stage, "nothing", "", "v1", "{}");
    script(&stage, "half", "", "v1", "{\"clientKeyData\":\"x\"}");
    script(&stage, "asks", "cat >/dev/null", "v1", token);
    script(&stage, "wants", "[ \"$1$A\" = yb ] || exit 4", "v1", token);
    script(
        &stage,
        "informed",
        "case $KUBERNETES_EXEC_INFO in *'\"interactive\":false'*) ;; *) exit 5;; esac\n\
         case $KUBERNETES_EXEC_INFO in *https://127.0.0.1*) ;; *) exit 6;; esac",
        "v1",
        token,
    );
    let expired = "{\"token\":\"t\",\"expirationTimestamp\":\"2020-01-01T00:00:00Z\"}";
    script(&stage, "expired", "", "v1", expired);
    let beta = "exec: {apiVersion: client.authentication.k8s.io/v1beta1, command: ./beta}";
    let alpha = "exec: {apiVersion: client.authentication.k8s.io/v1alpha1, command: ./beta}";
    let silent = "exec: {apiVersion: client.authentication.k8s.io/v1, command: ./login}";
    let always = "exec: {apiVersion: client.authentication.k8s.io/v1, command: ./login, interactiveMode: Always}";
    for (row, works, user) in [
        ("token", true, program("./login", "")),
        ("never interactive", true, program("./login", "").replace("IfAvailable", "Never")),
        ("always interactive, without a terminal", false, always.into()),
        ("certificate", true, program("./certificate", "")),
        ("fails", false, program("./fails", "")),
        ("is missing", false, program("./gone", "")),
        ("is not in PATH", false, program("no-such-login", "")),
        ("beta", true, beta.into()),
        ("alpha", false, alpha.into()),
        ("another version than asked for", false, program("./beta", "")),
        ("no mode", false, silent.into()),
        ("no status", false, program("./nothing", "")),
        ("half a pair", false, program("./half", "")),
        ("reads stdin", true, program("./asks", "")),
        (
            "argument and variable",
            true,
            program("./wants", ", args: ['y'], env: [{name: A, value: b}]"),
        ),
        ("cluster information", true, program("./informed", ", provideClusterInfo: true")),
        ("expired at once", true, program("./expired", "")),
        ("with a token", true, format!("{}, token: own", program("./login", ""))),
    ] {
        stage.with(row, works, &kubeconfig(&cluster, &user));
    }
    let text = kubeconfig(&cluster, &program("./login", ""));
    stage.flags("a token by flag", true, &text, &["--token=flag"]);
}
