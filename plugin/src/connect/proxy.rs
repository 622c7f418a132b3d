//! The proxy of the environment on the way to an API server.
//!
//! kube 5.0 matches `NO_PROXY` against the proxy's own address instead of the API server's, and
//! before `--server` is known, so the choice is made here. The rules are those of Go's
//! `golang.org/x/net/http/httpproxy` (`config.useProxy`, `config.init`), which kubectl follows.

use std::net::IpAddr;

use http::Uri;
use ipnet::IpNet;
use percent_encoding::percent_decode_str;

use crate::error::Failure;

/// Returns the proxy that the environment names for `server`. `None` where the server is reached
/// directly.
///
/// `variable` returns the value of a variable of the environment.
///
/// # Errors
///
/// Returns an error if the variable that applies holds no URL.
pub(crate) fn of_environment(
    server: &Uri,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Option<Uri>, Failure> {
    let first = |names: [&'static str; 2]| {
        let mut values = names.into_iter().filter_map(|name| Some((name, variable(name)?)));
        values.find(|(_, value)| !value.is_empty())
    };
    let names = match server.scheme_str() {
        Some("http") => ["HTTP_PROXY", "http_proxy"],
        Some(_) | None => ["HTTPS_PROXY", "https_proxy"],
    };
    let Some((name, value)) = first(names) else { return Ok(None) };
    let list = first(["NO_PROXY", "no_proxy"]).map_or(String::new(), |(_, list)| list);
    if is_local(server) || is_exempt(&list, server) {
        return Ok(None);
    }
    let url = spelled(&value);
    // Go takes every scheme that it does not know for HTTP here.
    let url = match url.split_once("://") {
        Some(("http" | "https" | "socks5", _)) | None => url,
        Some((_, rest)) => format!("http://{rest}"),
    };
    // The value is not shown: it may hold a password.
    url.parse().map(Some).map_err(|error| {
        Failure::error(format!("${name} is not the URL of a proxy: {error}"))
            .hint("set it to a URL such as http://proxy.example.com:3128")
    })
}

/// Returns the URL of a proxy as kube reads it: with a scheme.
///
/// For kube, and for Go, a SOCKS proxy looks up the name of the server either way.
pub(super) fn spelled(url: &str) -> String {
    match url.split_once("://") {
        Some(("socks5h", rest)) => format!("socks5://{rest}"),
        Some(_) => url.to_owned(),
        None => format!("http://{url}"),
    }
}

/// A user of a proxy.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Login {
    pub(super) user: String,
    pub(super) password: String,
}

impl Login {
    /// Returns the value of the header `Proxy-Authorization`.
    pub(super) fn basic(&self) -> String {
        format!("Basic {}", super::base64(format!("{}:{}", self.user, self.password).as_bytes()))
    }
}

/// Returns the user in the URL of a proxy, if there is one.
pub(super) fn login(url: &Uri) -> Option<Login> {
    let (login, _) = url.authority()?.as_str().rsplit_once('@')?;
    let (user, password) = login.split_once(':').unwrap_or((login, ""));
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    Some(Login { user: decoded(user), password: decoded(password) })
}

/// Returns whether the server runs on this machine. Go never sends such requests through a proxy.
fn is_local(server: &Uri) -> bool {
    let host = bare(server.host().unwrap_or_default());
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

/// Returns whether an entry of `NO_PROXY` exempts `server` (`config.init`, `ipMatch`, `cidrMatch` and
/// `domainMatch` of `golang.org/x/net/http/httpproxy`).
fn is_exempt(list: &str, server: &Uri) -> bool {
    let host = bare(server.host().unwrap_or_default()).to_ascii_lowercase();
    let address = host.parse::<IpAddr>().ok().map(|address| address.to_canonical());
    let default = if server.scheme_str() == Some("http") { 80 } else { 443 };
    let port = server.port_u16().unwrap_or(default).to_string();
    list.split(',').map(|entry| entry.trim().to_ascii_lowercase()).any(|entry| {
        if entry == "*" {
            return true;
        }
        if let Ok(network) = entry.parse::<IpNet>() {
            return address.is_some_and(|address| network.contains(&address));
        }
        let (name, wanted) = with_port(&entry);
        if name.is_empty() || wanted.is_some_and(|wanted| wanted != port) {
            return false;
        }
        if let Ok(exempt) = name.parse::<IpAddr>() {
            return address == Some(exempt.to_canonical());
        }
        // An address has no domain (`domainMatch.match`).
        if address.is_some() {
            return false;
        }
        let name = name.strip_prefix('*').filter(|rest| rest.starts_with('.')).unwrap_or(name);
        let below = name.strip_prefix('.').unwrap_or(name);
        (host == name) || host.strip_suffix(below).is_some_and(|rest| rest.ends_with('.'))
    })
}

/// Splits `host:port`. Anything else is a host.
fn with_port(entry: &str) -> (&str, Option<&str>) {
    match entry.rsplit_once(':') {
        Some((host, port)) if host.starts_with('[') && host.ends_with(']') => {
            (bare(host), Some(port))
        }
        // More colons without brackets are an IPv6 address without a port.
        Some((host, port)) if !host.contains([':', '[', ']']) => (host, Some(port)),
        Some(_) | None => (entry, None),
    }
}

/// Returns a host without the brackets of an IPv6 address.
fn bare(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the proxy of `server` where the environment holds these variables.
    fn proxy(environment: &[(&str, &str)], server: &str) -> Result<Option<String>, String> {
        let variable = |name: &str| {
            let found = environment.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let found = of_environment(&server.parse().unwrap(), variable);
        found
            .map(|url| url.map(|url| url.to_string().trim_end_matches('/').to_owned()))
            .map_err(|failure| failure.to_string())
    }

    #[test]
    fn no_proxy_is_matched_as_by_kubectl() {
        for (list, server, want) in [
            ("10.0.0.5", "https://10.0.0.5:6443", true),
            ("10.0.0.5,", "https://10.0.0.5:6443", true),
            ("10.0.0.0/8", "https://10.200.0.1", true),
            ("10.0.0.0/8", "https://11.0.0.1", false),
            ("0.0.0.0/0", "https://11.0.0.1", true),
            ("10.0.0.0/99", "https://10.0.0.1", false),
            ("fd00::/8", "https://[fd00::1]:6443", true),
            ("example.com", "https://api.example.com", true),
            ("example.com", "https://example.com", true),
            (".example.com", "https://example.com", false),
            ("*.example.com", "https://api.example.com", true),
            ("ample.com", "https://api.example.com", false),
            ("*", "https://11.0.0.1", true),
            ("", "https://127.0.0.1:6443", true),
            ("", "https://11.0.0.1", false),
            // Only names below the domain.
            (".example.com", "https://api.example.com", true),
            ("*.example.com", "https://example.com", false),
            ("EXAMPLE.com", "https://API.Example.COM", true),
            ("corp.example, 10.0.0.5", "https://10.0.0.5", true),
            // A port must be the server's. Without one, every port matches.
            ("10.0.0.5:6443", "https://10.0.0.5:6443", true),
            ("10.0.0.5:443", "https://10.0.0.5:6443", false),
            ("fd00::1", "https://[fd00::1]:6443", true),
            ("[fd00::1]:6443", "https://[fd00::1]:6443", true),
            ("[fd00::1]:443", "https://[fd00::1]:6443", false),
            ("example.com:443", "https://api.example.com", true),
            ("example.com:443", "https://api.example.com:6443", false),
            // Every server, whatever else is listed.
            ("corp.example,*", "https://[fd00::1]", true),
            ("*", "https://api.example.com", true),
            // This machine.
            ("", "https://localhost:6443", true),
            ("", "https://[::1]:6443", true),
        ] {
            let environment = [("HTTPS_PROXY", "http://proxy:3128"), ("NO_PROXY", list)];
            let found = proxy(&environment, server).unwrap();
            assert_eq!(found.is_none(), want, "{list} {server}");
        }
    }

    #[test]
    fn scheme_of_the_server_chooses_the_variable() {
        let both = [("HTTPS_PROXY", "http://secure:3128"), ("HTTP_PROXY", "http://plain:3128")];
        for (environment, server, want) in [
            (&both[..], "https://10.0.0.5", Some("http://secure:3128")),
            (&both[..], "http://10.0.0.5", Some("http://plain:3128")),
            (&both[..1], "http://10.0.0.5", None),
            (
                &[("https_proxy", "http://lower:3128")],
                "https://10.0.0.5",
                Some("http://lower:3128"),
            ),
            // An empty variable is none.
            (
                &[("HTTPS_PROXY", ""), ("https_proxy", "http://lower:3128")],
                "https://10.0.0.5",
                Some("http://lower:3128"),
            ),
            (
                &[("https_proxy", "http://lower:3128"), ("no_proxy", "10.0.0.5")],
                "https://10.0.0.5",
                None,
            ),
            // kubectl does not know it.
            (&[("ALL_PROXY", "http://all:3128")], "https://10.0.0.5", None),
        ] {
            let want = want.map(str::to_owned);
            assert_eq!(proxy(environment, server), Ok(want), "{environment:?} {server}");
        }
    }

    #[test]
    fn proxy_keeps_its_credentials_and_gets_the_scheme_it_lacks() {
        for (value, want) in [
            ("http://eve:s3cret@proxy:3128", "http://eve:s3cret@proxy:3128"),
            ("eve:s3cret@proxy:3128", "http://eve:s3cret@proxy:3128"),
            ("https://proxy", "https://proxy"),
            ("socks5://proxy:1080", "socks5://proxy:1080"),
            ("socks5h://proxy:1080", "socks5://proxy:1080"),
        ] {
            let found = proxy(&[("HTTPS_PROXY", value)], "https://10.0.0.5");
            assert_eq!(found, Ok(Some(want.to_owned())), "{value}");
        }
    }

    #[test]
    fn user_of_a_proxy_is_read_without_its_escapes() {
        let login = |url: &str| login(&url.parse().unwrap());
        assert_eq!(login("socks5://proxy:1080"), None);
        let Login { user, password } = login("socks5://eve:p%40ss%3Aword@proxy:1080").unwrap();
        assert_eq!((user.as_str(), password.as_str()), ("eve", "p@ss:word"));
        assert_eq!(login("http://eve@proxy").unwrap().basic(), "Basic ZXZlOg==");
    }

    #[test]
    fn variable_without_a_url_is_named_and_not_shown() {
        let message = proxy(&[("HTTPS_PROXY", "eve:s3cret@pro xy")], "https://10.0.0.5");
        insta::assert_snapshot!(message.unwrap_err(), @"
        error: $HTTPS_PROXY is not the URL of a proxy: invalid uri character
        hint: set it to a URL such as http://proxy.example.com:3128
        ");
    }
}
