//! Which addresses may talk to the container face.

use std::net::{IpAddr, Ipv4Addr};

/// An IPv4 network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subnet {
    network: Ipv4Addr,
    prefix: u8,
}

impl Subnet {
    /// The addresses of this host that only itself reaches.
    pub const LOOPBACK: Self = Self { network: Ipv4Addr::LOCALHOST, prefix: 8 };

    /// Reads `172.18.0.0/16`; `None` when it is something else.
    pub fn parse(text: &str) -> Option<Self> {
        let (network, prefix) = text.split_once('/')?;
        let (network, prefix) = (network.parse().ok()?, prefix.parse().ok()?);
        (prefix <= 32).then_some(Self { network, prefix })
    }

    /// Whether an address belongs to it.
    pub fn contains(&self, address: IpAddr) -> bool {
        let IpAddr::V4(address) = address.to_canonical() else { return false };
        let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0);
        address.to_bits() & mask == self.network.to_bits() & mask
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn case(subnet: &str, address: &str, inside: bool) {
        assert_eq!(Subnet::parse(subnet).unwrap().contains(address.parse().unwrap()), inside);
    }

    #[test]
    fn tells_inside_from_outside() {
        case("172.18.0.0/16", "172.18.255.1", true);
        case("172.18.0.1/16", "172.18.0.0", true);
        case("172.18.0.0/16", "172.19.0.1", false);
        case("10.0.0.8/32", "10.0.0.8", true);
        case("10.0.0.8/32", "10.0.0.9", false);
        case("0.0.0.0/0", "8.8.8.8", true);
        case("10.0.0.0/8", "::ffff:10.1.2.3", true);
        case("10.0.0.0/8", "::1", false);
        assert!(Subnet::LOOPBACK.contains([127, 0, 0, 9].into()));
        for bad in ["", "10.0.0.0", "10.0.0.0/33", "10.0.0/8", "fd00::/8"] {
            assert_eq!(Subnet::parse(bad), None, "{bad}");
        }
    }
}
