//! Addresses for pods: every incarnation of a pod gets a new one, as it would in a cluster.

use std::net::Ipv4Addr;

/// The network pods live in. The sandbox makes all of it local.
pub(crate) const NETWORK: &str = "10.244.0.0/16";

/// The first and last host numbers given out; what is above belongs to the control plane.
const FIRST: u16 = 10;
const LAST: u16 = 0xfefe;

/// Hands out the addresses of [`NETWORK`] one after the other.
#[derive(Debug)]
pub(super) struct Addresses {
    next: u16,
}

impl Addresses {
    pub(super) fn new() -> Self {
        Self { next: FIRST }
    }

    /// The next address; after some 65,000 pods the first ones are given out again.
    pub(super) fn take(&mut self) -> Ipv4Addr {
        let [third, fourth] = self.next.to_be_bytes();
        self.next = match self.next {
            LAST.. => FIRST,
            // Addresses that end in 0 or 255 are lawful here but look like mistakes in a log.
            current if current & 0xff == 0xfe => current + 3,
            current => current + 1,
        };
        Ipv4Addr::new(10, 244, third, fourth)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_address_is_given_twice_or_looks_like_a_network() {
        let mut addresses = Addresses::new();
        let taken: Vec<_> = (0..60_000).map(|_| addresses.take()).collect();
        assert_eq!(taken.first(), Some(&Ipv4Addr::new(10, 244, 0, 10)));
        assert_eq!(taken.iter().collect::<BTreeSet<_>>().len(), taken.len());
        assert!(taken.iter().all(|address| !matches!(address.octets()[3], 0 | 255)));
        assert!(taken.iter().all(|address| address.octets()[2] != 255));
    }

    #[test]
    fn the_range_wraps_around() {
        let mut addresses = Addresses { next: LAST };
        assert_eq!(addresses.take(), Ipv4Addr::new(10, 244, 254, 254));
        assert_eq!(addresses.take(), Ipv4Addr::new(10, 244, 0, 10));
    }
}
