//! Through which proxy the API server is asked, if through one.

use crate::proxy::Manner;
use crate::row::{Stage, kubeconfig};
use crate::server::{Log, NAMES, api_server, tls};

const NAME: &str = "k8s-api.example.net";

#[test]
fn no_proxy_is_understood_as_by_kubectl() {
    let stage = Stage::new();
    let proxy = format!("http://{}", stage.proxy("proxy", Manner::Http));
    let port = stage.server.port();
    let by_address = kubeconfig(&stage.cluster("0.0.0.0"), "token: t");
    let by_name = kubeconfig(&stage.cluster(NAME), "token: t");
    let set = |list: &str| [("HTTPS_PROXY", proxy.clone()), ("NO_PROXY", list.to_owned())];
    for list in [
        "",
        "*",
        " * ",
        "corp.example,*",
        "0.0.0.0",
        " 0.0.0.0 ",
        "0.0.0.0,",
        ",,0.0.0.0",
        "0.0.0.0/8",
        "0.0.0.0/0",
        "0.0.0.0/99",
        "10.0.0.0/8",
        "0.0.0",
        "0.0.0.0:443",
        "0.0.0.0/8:443",
        "::/0",
        "::ffff:0.0.0.0",
        "[0.0.0.0]",
        ":443",
        "localhost",
        ".0",
        "0.0.0.0.",
    ] {
        stage.environment(&format!("address, NO_PROXY={list:?}"), true, &by_address, &set(list));
    }
    let right = format!("0.0.0.0:{port}");
    stage.environment("address with its port", true, &by_address, &set(&right));
    // Only the proxy knows the name, so a direct way leads nowhere.
    for (list, works) in [
        ("", true),
        ("*", false),
        ("*.*", true),
        ("k8s-api.example.net", false),
        ("K8S-API.Example.NET", false),
        ("k8s-api.example.net.", true),
        ("example.net", false),
        (".example.net", false),
        ("*.example.net", false),
        ("*example.net", true),
        ("ample.net", true),
        ("*.k8s-api.example.net", true),
        (".k8s-api.example.net", true),
        ("api.example.net", true),
        ("net", false),
        (".net", false),
        ("example.net:443", true),
        ("corp.example example.net", true),
        ("corp.example, example.net", false),
        ("10.0.0.0/8,example.net", false),
        ("127.0.0.0/8,10.0.0.0/8", true),
        ("proxy.corp.example:3128", true),
        (".", true),
    ] {
        stage.environment(&format!("name, NO_PROXY={list:?}"), works, &by_name, &set(list));
    }
    let right = format!("example.net:{port}");
    stage.environment("name with its port", false, &by_name, &set(&right));
    let lower = [("https_proxy", proxy.clone()), ("no_proxy", "example.net".to_owned())];
    stage.environment("lower case", false, &by_name, &lower);
    let both = [("NO_PROXY", "other.example".to_owned()), ("no_proxy", "example.net".to_owned())];
    let both = [vec![("HTTPS_PROXY", proxy.clone())], both.to_vec()].concat();
    stage.environment("upper case wins", true, &by_name, &both);
    let empty = [("NO_PROXY", String::new()), ("no_proxy", "example.net".to_owned())];
    let empty = [vec![("HTTPS_PROXY", proxy)], empty.to_vec()].concat();
    stage.environment("an empty variable is none", false, &by_name, &empty);
}

#[test]
fn proxy_of_the_environment_is_chosen_as_by_kubectl() {
    let stage = Stage::new();
    let http = stage.proxy("http", Manner::Http).to_string();
    let other = stage.proxy("other", Manner::Http).to_string();
    let socks = stage.proxy("socks", Manner::Socks(None)).to_string();
    let closed = stage.proxy("closed", Manner::Closed).to_string();
    let login = stage.proxy("login", Manner::Socks(Some(("eve", "p@ss:word")))).to_string();
    let certificate = stage.authority.server(&NAMES);
    let secure = stage.proxy("secure", Manner::Https(tls(&certificate, None))).to_string();
    let text = kubeconfig(&stage.cluster(NAME), "token: t");
    let named = |url: String| vec![("HTTPS_PROXY", url)];
    for (row, works, environment) in [
        ("with a scheme", true, named(format!("http://{http}"))),
        ("without a scheme", true, named(http.clone())),
        ("with a slash", true, named(format!("http://{http}/"))),
        ("with a user", true, named(format!("http://eve:p%40ss@{http}"))),
        ("with a user, without a scheme", true, named(format!("eve:s3cret@{http}"))),
        ("behind TLS", true, named(format!("https://{secure}"))),
        ("socks5", true, named(format!("socks5://{socks}"))),
        ("socks5h", true, named(format!("socks5h://{socks}"))),
        ("socks5 with a login", true, named(format!("socks5://eve:p%40ss%3Aword@{login}"))),
        ("socks5 with a wrong login", false, named(format!("socks5://eve:x@{login}"))),
        ("socks5 without a login", false, named(format!("socks5://{login}"))),
        ("lets none through", false, named(format!("http://{closed}"))),
        ("unknown scheme", true, named(format!("ftp://{http}"))),
        ("is down", false, named("http://127.0.0.1:1".into())),
        ("lower case", true, vec![("https_proxy", http.clone())]),
        (
            "upper case wins",
            true,
            vec![("https_proxy", other.clone()), ("HTTPS_PROXY", http.clone())],
        ),
        (
            "empty is none",
            true,
            vec![("https_proxy", other.clone()), ("HTTPS_PROXY", String::new())],
        ),
        ("for plain HTTP only", false, vec![("HTTP_PROXY", http.clone())]),
        ("for everything", false, vec![("ALL_PROXY", http.clone())]),
    ] {
        stage.environment(row, works, &text, &environment);
    }
    // A server of this machine is asked directly.
    for (host, works) in [
        ("127.0.0.1", true),
        ("localhost", true),
        // Asked directly, and nothing listens there.
        ("127.8.8.8", false),
        ("[::ffff:127.0.0.1]", true),
    ] {
        let port = stage.server.port();
        let cluster = format!("server: 'https://{host}:{port}', insecure-skip-tls-verify: true");
        let environment = named(format!("http://{http}"));
        stage.environment(host, works, &kubeconfig(&cluster, "token: t"), &environment);
    }
    let plain = api_server("plain", None, Log::clone(&stage.log));
    let ahead =
        crate::proxy::start("ahead", Manner::Http, plain, Log::clone(&stage.log)).to_string();
    let text = kubeconfig(&format!("server: 'http://0.0.0.0:{}'", plain.port()), "");
    for (row, name) in [("plain HTTP", "HTTP_PROXY"), ("the other variable", "HTTPS_PROXY")] {
        stage.environment(row, true, &text, &[(name, ahead.clone())]);
    }
}

#[test]
fn proxy_of_the_cluster_entry_is_used_as_by_kubectl() {
    let stage = Stage::new();
    let http = stage.proxy("http", Manner::Http).to_string();
    let other = stage.proxy("other", Manner::Http).to_string();
    let socks = stage.proxy("socks", Manner::Socks(None)).to_string();
    let through = |host: &str, url: &str| {
        kubeconfig(&format!("{}, proxy-url: '{url}'", stage.cluster(host)), "token: t")
    };
    let url = format!("http://{http}");
    for (row, works, text) in [
        ("http", true, through(NAME, &url)),
        ("socks5", true, through(NAME, &format!("socks5://{socks}"))),
        ("for a server of this machine", true, through("127.0.0.1", &url)),
        ("empty", true, through("127.0.0.1", "")),
        ("unknown scheme", false, through("127.0.0.1", &format!("ftp://{http}"))),
    ] {
        stage.with(row, works, &text);
        for list in ["*", "127.0.0.0/8", "localhost,127.0.0.1,.svc", "example.net"] {
            let environment = [("NO_PROXY", list.to_owned()), ("HTTPS_PROXY", other.clone())];
            stage.environment(&format!("{row}, NO_PROXY={list}"), works, &text, &environment);
        }
    }
    let address = format!("--server=https://127.0.0.1:{}", stage.server.port());
    stage.flags("for the server of a flag", true, &through(NAME, &url), &[&address]);
}
