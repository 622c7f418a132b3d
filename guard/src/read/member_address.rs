//! The addresses at which a member can be.
//!
//! A user who may write the status of a pod chooses its address, and every review asks there. An
//! address of the asking machine itself, or of its link, is no address of a pod: services that
//! trust their neighbours answer there, such as the metadata service of a cloud.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Addresses of metadata services that are neither loopback nor link-local: AWS, Google and Oracle,
/// and the wire server of Azure.
const METADATA: [IpAddr; 4] = [
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
];

/// Returns whether a member can be at `ip`.
///
/// # Errors
/// It cannot, with the reason in a few words.
pub(super) fn of_a_member(ip: IpAddr) -> Result<(), String> {
    let kind = match ip {
        _ if METADATA.contains(&ip) => Some("metadata service"),
        IpAddr::V4(ip) => kind_of_v4(ip),
        IpAddr::V6(ip) => kind_of_v6(ip),
    };
    match kind {
        None => Ok(()),
        Some(kind) => Err(format!("has the address {ip} ({kind}), where no pod can be")),
    }
}

fn kind_of_v4(ip: Ipv4Addr) -> Option<&'static str> {
    // Linux takes a connection to 0.0.0.0 for one to itself.
    if ip.is_loopback() || ip.octets()[0] == 0 {
        Some("loopback")
    } else if ip.is_link_local() {
        Some("link-local")
    } else if ip.is_multicast() || ip.is_broadcast() {
        Some("multicast")
    } else {
        METADATA.contains(&ip.into()).then_some("metadata service")
    }
}

fn kind_of_v6(ip: Ipv6Addr) -> Option<&'static str> {
    if ip.is_loopback() || ip.is_unspecified() {
        Some("loopback")
    } else if ip.is_unicast_link_local() {
        Some("link-local")
    } else if ip.is_multicast() {
        Some("multicast")
    } else {
        embedded(ip).and_then(kind_of_v4)
    }
}

/// Returns the IPv4 address in an IPv6 address that leads there: mapped (`::ffff:0:0/96`), the older
/// compatible form (`::/96`), translated (`64:ff9b::/96`, `::ffff:0:0:0/96`), or 6to4 (`2002::/16`).
fn embedded(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let four = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match ip.segments() {
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x2002, high, low, ..] => Some(four(high, low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_member_is_asked_on_the_machine_itself_its_link_or_a_metadata_service() {
        for (address, kind) in [
            ("127.0.0.1", "loopback"),
            ("127.255.1.2", "loopback"),
            ("0.0.0.0", "loopback"),
            ("0.0.0.1", "loopback"),
            ("::1", "loopback"),
            ("::", "loopback"),
            ("::ffff:127.0.0.1", "loopback"),
            ("::ffff:7f00:1", "loopback"),
            ("::ffff:0.0.0.0", "loopback"),
            ("::127.0.0.1", "loopback"),
            ("::ffff:0:127.0.0.1", "loopback"),
            ("64:ff9b::7f00:1", "loopback"),
            ("2002:7f00:1::", "loopback"),
            ("169.254.169.254", "link-local"),
            ("169.254.0.1", "link-local"),
            ("::ffff:169.254.169.254", "link-local"),
            ("64:ff9b::a9fe:a9fe", "link-local"),
            ("fe80::1", "link-local"),
            ("febf:ffff::1", "link-local"),
            ("224.0.0.1", "multicast"),
            ("255.255.255.255", "multicast"),
            ("ff02::1", "multicast"),
            ("fd00:ec2::254", "metadata service"),
            ("fd20:ce::254", "metadata service"),
            ("192.0.0.192", "metadata service"),
            ("168.63.129.16", "metadata service"),
            ("::ffff:168.63.129.16", "metadata service"),
        ] {
            let ip: IpAddr = address.parse().unwrap();
            let want = format!("has the address {ip} ({kind}), where no pod can be");
            assert_eq!(of_a_member(ip), Err(want), "{address}");
        }
    }

    #[test]
    fn member_is_asked_on_every_address_that_pods_have() {
        for address in [
            "10.244.0.10",
            "172.17.0.2",
            "192.168.1.1",
            "100.64.3.4",
            "198.18.0.1",
            "203.0.113.7",
            "fd00:10:244::a",
            "fc00::1",
            "2001:db8::1",
            "::ffff:10.244.0.10",
            "64:ff9b::af4:a",
        ] {
            assert_eq!(of_a_member(address.parse().unwrap()), Ok(()), "{address}");
        }
    }
}
