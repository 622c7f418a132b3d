//! Addresses for pods: every incarnation of a pod gets a new one, as in a real cluster.

use std::net::Ipv4Addr;

/// The network of pods. All its addresses are local in the sandbox.
pub(crate) const NETWORK: &str = "10.244.0.0/16";

/// The first and last host numbers for pods. Higher ones belong to the control plane.
const FIRST: u16 = 10;
const LAST: u16 = 0xfefe;

/// The addresses of [`NETWORK`], given to pods one after the other.
#[derive(Debug)]
pub(super) struct Addresses {
    next: u16,
}

impl Addresses {
    pub(super) fn new() -> Self {
        Self { next: FIRST }
    }

    /// Returns the next address. After some 65,000 pods the first ones are used again.
    pub(super) fn take(&mut self) -> Ipv4Addr {
        let [third, fourth] = self.next.to_be_bytes();
        self.next = match self.next {
            LAST.. => FIRST,
            // Addresses that end in 0 or 255 are valid here but look like mistakes in a log.
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
