//! Which requests are answered at all: no page of another origin may act in the name of the person
//! at this machine.
//!
//! A browser sends a form or a script's request of any page to an address on loopback. What it
//! cannot do: leave out `Origin` on a write, choose `Host`, or send JSON to another origin without a
//! question before (CORS), which is never answered here.

use axum::http::{HeaderMap, Method, StatusCode, header};

use super::problem::Problem;

/// The names of loopback, as a browser writes them in `Host`.
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

/// Checks where a request comes from. `hosts` are further names of this server; `own` says that it
/// would act in the name of the person at this machine, and not in that of a token's bearer.
///
/// # Errors
/// 403, where another origin may be behind it.
pub(crate) fn check(
    method: &Method,
    headers: &HeaderMap,
    hosts: &[String],
    own: bool,
) -> Result<(), Problem> {
    let forbidden = |message: String| Problem::new(StatusCode::FORBIDDEN, message);
    let host = one(headers, header::HOST.as_str()).unwrap_or_default();
    if own {
        let name = without_port(host);
        let known =
            LOOPBACK.contains(&name) || hosts.iter().any(|it| it.eq_ignore_ascii_case(name));
        if !known {
            return Err(forbidden(format!(
                "the request is for the host {host:?}, which is not this server"
            ))
            .hint("name it with --accept-hosts, if it is"));
        }
    }
    if let Some(site) = one(headers, "sec-fetch-site")
        && !matches!(site, "same-origin" | "none")
    {
        return Err(forbidden("the request comes from a page of another origin".to_owned()));
    }
    let Some(origin) = one(headers, header::ORIGIN.as_str()) else { return Ok(()) };
    let writes = !matches!(*method, Method::GET | Method::HEAD);
    let same = origin.split_once("://").is_some_and(|(_, authority)| authority == host);
    if writes && !same {
        return Err(forbidden(format!("the request comes from {origin:?}, another origin")));
    }
    Ok(())
}

/// Returns the value of a header that may be there once.
fn one<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut all = headers.get_all(name).iter();
    let first = all.next()?;
    // Two would be read in two ways: neither is known.
    if all.next().is_some() { Some("") } else { Some(first.to_str().unwrap_or_default()) }
}

/// Returns a host without its port.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        // Of an IPv6 address, the last part is no port.
        Some((name, port)) if !port.contains(']') => name,
        Some(_) | None => host,
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    fn passes(method: &Method, own: bool, headers: &[(&str, &str)]) -> bool {
        let pairs = headers.iter().map(|(name, value)| {
            (
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_str(value).unwrap(),
            )
        });
        let mut all = HeaderMap::new();
        for (name, value) in pairs {
            all.append(name, value);
        }
        check(method, &all, &["pgscale.test".to_owned()], own).is_ok()
    }

    #[test]
    fn only_this_server_is_asked_and_only_by_itself() {
        let here = ("host", "127.0.0.1:8090");
        let (get, patch) = (&Method::GET, &Method::PATCH);
        for (method, own, headers, want) in [
            (get, true, &[here][..], true),
            (get, true, &[("host", "localhost")], true),
            (get, true, &[("host", "[::1]:8090")], true),
            (get, true, &[("host", "PGSCALE.test:8090")], true),
            // A name that an attacker's DNS leads to loopback.
            (get, true, &[("host", "evil.test:8090")], false),
            (get, true, &[("host", "127.0.0.1.evil.test")], false),
            (get, true, &[], false),
            (get, true, &[here, here], false),
            // A token is not sent by a browser on its own.
            (get, false, &[("host", "api.db.svc")], true),
            (patch, true, &[here], true),
            (patch, true, &[here, ("origin", "http://127.0.0.1:8090")], true),
            (patch, true, &[here, ("origin", "http://127.0.0.1:8091")], false),
            (patch, true, &[here, ("origin", "null")], false),
            (patch, true, &[here, ("origin", "http://evil.test")], false),
            (patch, false, &[here, ("origin", "http://evil.test")], false),
            (get, true, &[here, ("sec-fetch-site", "same-origin")], true),
            (get, true, &[here, ("sec-fetch-site", "none")], true),
            (get, true, &[here, ("sec-fetch-site", "cross-site")], false),
            (get, true, &[here, ("sec-fetch-site", "same-site")], false),
            (get, true, &[here, ("sec-fetch-site", "none"), ("sec-fetch-site", "none")], false),
        ] {
            assert_eq!(passes(method, own, headers), want, "{method} {own} {headers:?}");
        }
    }
}
