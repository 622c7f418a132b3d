//! Flags, the kubeconfig and the environment, as kubectl reads them.

use super::*;

#[test]
fn certificate_flags_win_over_the_kubeconfig() {
    let mut config = Config::new("https://a.example:6443".parse().unwrap());
    let flags = Flags {
        server: Some("https://b.example:6443".into()),
        client_certificate: Some("me.crt".into()),
        client_key: Some("me.key".into()),
        tls_server_name: Some("inner".into()),
        ..Flags::default()
    };
    override_by_flags(&mut config, &flags).unwrap();
    assert_eq!(config.cluster_url.host(), Some("b.example"));
    assert_eq!(config.auth_info.client_certificate.as_deref(), Some("me.crt"));
    assert_eq!(config.auth_info.client_key.as_deref(), Some("me.key"));
    assert_eq!(config.tls_server_name.as_deref(), Some("inner"));
}

#[test]
fn unusable_authority_file_is_named() {
    let nowhere = authorities(Path::new("nowhere.crt")).unwrap_err();
    assert!(nowhere.to_string().contains("--certificate-authority=nowhere.crt"), "{nowhere}");
    let no_pem = authorities(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")));
    assert!(no_pem.unwrap_err().to_string().contains("holds no certificate"));
}

fn file(text: &str) -> (tempfile::NamedTempFile, Flags) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    let flags = Flags { kubeconfig: Some(file.path().to_owned()), ..Flags::default() };
    (file, flags)
}

const TWO_CONTEXTS: &str = r"
apiVersion: v1
kind: Config
current-context: here
clusters:
- {name: c, cluster: {server: 'https://10.0.0.5:6443'}}
contexts:
- {name: here, context: {cluster: c, user: u, namespace: db}}
- {name: there, context: {cluster: c, user: u}}
- {name: torn, context: {cluster: gone, user: u}}
users:
- {name: u, user: {token: t}}
";

fn message(flags: &Flags) -> String {
    match configuration(flags) {
        Ok(_) => "no error".to_owned(),
        Err(failure) => failure.to_string(),
    }
}

#[test]
fn context_decides_the_namespace() {
    let (_file, mut flags) = file(TWO_CONTEXTS);
    assert_eq!(configuration(&flags).unwrap().0.default_namespace, "db");
    flags.context = Some("there".into());
    assert_eq!(configuration(&flags).unwrap().0.default_namespace, "default");
}

#[test]
fn unknown_context_lists_the_known_ones() {
    let (_file, mut flags) = file(TWO_CONTEXTS);
    flags.context = Some("nowhere".into());
    insta::assert_snapshot!(message(&flags), @r#"
        error: there is no context "nowhere" in the kubeconfig (it has: here, there, torn)
        hint: see them:
            kubectl config get-contexts
        "#);
    flags.context = Some("torn".into());
    insta::assert_snapshot!(message(&flags), @r#"
        error: the kubeconfig describes no cluster "gone"
        hint: see them:
            kubectl config get-clusters
        "#);
}

#[test]
fn credentials_never_cross_plain_http_however_it_is_spelled() {
    let (_file, mut flags) = file(TWO_CONTEXTS);
    for server in ["http://10.0.0.9", "HTTP://10.0.0.9", "10.0.0.9"] {
        flags.server = Some(server.into());
        let config = configuration(&flags).unwrap().0;
        assert!(config.auth_info.token.is_none(), "{server}");
    }
}

#[test]
fn flags_win_over_the_kubeconfig_and_nothing_is_retried() {
    let (_file, mut flags) = file(TWO_CONTEXTS);
    flags.as_user = Some("eve".into());
    flags.as_group = vec!["dba".into()];
    flags.server = Some("https://10.0.0.9".into());
    let mut config = configuration(&flags).unwrap().0;
    override_by_flags(&mut config, &flags).unwrap();
    assert_eq!(config.cluster_url, "https://10.0.0.9");
    assert_eq!(config.auth_info.impersonate.as_deref(), Some("eve"));
    assert_eq!(config.auth_info.impersonate_groups, Some(vec!["dba".to_owned()]));
    assert!(config.auth_info.token.is_some(), "the user of the context is kept");
    assert!(!config.default_retry);
}

#[test]
fn no_proxy_is_matched_against_the_server_of_the_flag() {
    let (_file, mut flags) = file(TWO_CONTEXTS);
    let variable = |name: &str| match name {
        "HTTPS_PROXY" => Some("http://proxy.corp.example:3128".to_owned()),
        "NO_PROXY" => Some("10.0.0.9,.corp.example".to_owned()),
        _ => None,
    };
    for (server, proxied) in [(None, true), (Some("https://10.0.0.9"), false)] {
        flags.server = server.map(str::to_owned);
        let mut config = configuration(&flags).unwrap().0;
        override_by_flags(&mut config, &flags).unwrap();
        choose_proxy(&mut config, variable).unwrap();
        assert_eq!(config.proxy_url.is_some(), proxied, "{server:?}");
    }
}

#[test]
fn no_proxy_never_applies_to_the_proxy_of_the_cluster_entry() {
    let entry = "{server: 'https://10.0.0.5:6443', proxy-url: 'http://proxy.corp.example:3128'}";
    let (_file, flags) = file(&TWO_CONTEXTS.replace("{server: 'https://10.0.0.5:6443'}", entry));
    let mut config = configuration(&flags).unwrap().0;
    let variable = |name: &str| (name == "NO_PROXY").then(|| "*".to_owned());
    choose_proxy(&mut config, variable).unwrap();
    assert_eq!(config.proxy_url.unwrap(), "http://proxy.corp.example:3128");
}

#[test]
fn proxy_of_the_cluster_entry_is_read_in_every_spelling() {
    for (url, want) in [
        ("socks5h://127.0.0.1:1080", "socks5://127.0.0.1:1080/"),
        ("socks5://127.0.0.1:1080", "socks5://127.0.0.1:1080/"),
        ("127.0.0.1:8888", "http://127.0.0.1:8888/"),
    ] {
        let entry = format!("{{server: 'https://10.0.0.5:6443', proxy-url: '{url}'}}");
        let (_file, flags) =
            file(&TWO_CONTEXTS.replace("{server: 'https://10.0.0.5:6443'}", &entry));
        let config = configuration(&flags).unwrap().0;
        assert_eq!(config.proxy_url.unwrap().to_string(), want, "{url}");
    }
}

#[test]
fn group_without_a_user_is_a_usage_error() {
    let (_file, mut flags) = file(TWO_CONTEXTS);
    flags.as_group = vec!["pgscale:break-glass".into()];
    let mut config = configuration(&flags).unwrap().0;
    let failure = override_by_flags(&mut config, &flags).unwrap_err();
    assert_eq!(failure.kind.code(), 2);
}

#[test]
fn warning_is_shown_once() {
    let warnings = Warnings::default();
    let mut headers = http::HeaderMap::new();
    headers.append("warning", r#"299 - "leader-condemned: say \"hm\"""#.parse().unwrap());
    warnings.note(&headers);
    warnings.note(&headers);
    assert_eq!(warnings.take(), [r#"leader-condemned: say "hm""#]);
    assert_eq!(warnings.take(), [""; 0]);
    assert_eq!(warnings.as_error().unwrap_err().to_string(), "error: 1 warning received");
    assert!(Warnings::default().as_error().is_ok());
}

#[tokio::test]
async fn way_leads_to_the_same_server_when_another_context_is_chosen() {
    let servers = [0, 1].map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    let text = |server: &std::net::TcpListener| {
        let server = format!("http://{}", server.local_addr().unwrap());
        TWO_CONTEXTS.replace("https://10.0.0.5:6443", &server)
    };
    let (file, flags) = file(&text(&servers[0]));
    let way = Way::of(flags).unwrap();
    std::fs::write(file.path(), text(&servers[1])).unwrap();
    let connection = way.connect().await.unwrap();
    tokio::spawn(async move { connection.client.apiserver_version().await });
    let [first, second] = servers.map(|server| {
        server.set_nonblocking(true).unwrap();
        tokio::net::TcpListener::from_std(server).unwrap()
    });
    let asked = tokio::select! {
        _ = first.accept() => "first",
        _ = second.accept() => "second",
        () = tokio::time::sleep(Duration::from_secs(20)) => "none",
    };
    assert_eq!(asked, "first");
}
