//! Which API servers are reached without the proxy of the environment.
//!
//! kube 5.0 matches `NO_PROXY` against the proxy's own address instead of the API server's, so an API server in
//! `NO_PROXY` would still be reached through the proxy. The rules are those of Go's
//! `golang.org/x/net/http/httpproxy`, which kubectl follows.

use std::net::IpAddr;

/// `server` is exempt by `list`, the value of `NO_PROXY`.
pub(crate) fn matches(list: &str, server: &http::Uri) -> bool {
    let Some(host) = server.host() else { return false };
    let host = host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
    let address = host.parse::<IpAddr>().ok();
    // Go never sends loopback through a proxy.
    if host == "localhost" || address.is_some_and(|address| address.is_loopback()) {
        return true;
    }
    list.split(',').map(|entry| entry.trim().to_ascii_lowercase()).any(|entry| {
        if entry.is_empty() {
            return false;
        }
        if entry == "*" {
            return true;
        }
        match address {
            Some(address) => in_network(address, &entry),
            None => is_domain(&host, &entry),
        }
    })
}

/// `entry` is the address itself or a network (`10.0.0.0/8`) around it.
fn in_network(address: IpAddr, entry: &str) -> bool {
    let (network, length) = entry.split_once('/').unwrap_or((entry, ""));
    let Ok(network) = network.parse::<IpAddr>() else { return false };
    let (address, network, bits) = match (address, network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => {
            (u128::from(address.to_bits()), u128::from(network.to_bits()), 32)
        }
        (IpAddr::V6(address), IpAddr::V6(network)) => (address.to_bits(), network.to_bits(), 128),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return false,
    };
    let length = if entry.contains('/') { length.parse().ok() } else { Some(bits) };
    let host_bits = length.and_then(|length: u32| bits.checked_sub(length));
    // A shift by all 128 bits leaves nothing to compare: the network of everything.
    host_bits.is_some_and(|shift| address.checked_shr(shift) == network.checked_shr(shift))
}

/// `example.com` covers itself and what lies below; `.example.com` only what lies below.
fn is_domain(host: &str, entry: &str) -> bool {
    let entry = entry.trim_start_matches('*');
    match entry.strip_prefix('.') {
        Some(below) => host.strip_suffix(below).is_some_and(|rest| rest.ends_with('.')),
        None => host == entry || host.strip_suffix(entry).is_some_and(|rest| rest.ends_with('.')),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_api_server_is_matched_as_kubectl_does() {
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
        ] {
            assert_eq!(matches(list, &server.parse().unwrap()), want, "{list} {server}");
        }
    }
}
