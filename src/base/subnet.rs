//! Networks: IPv4 ones, as Docker names them and as listeners let peers in, and ranges of addresses of either kind.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};

/// An IPv4 network in CIDR notation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subnet {
    address: Ipv4Addr,
    prefix: u8,
}

impl Subnet {
    /// The addresses of this host that only itself reaches.
    pub const LOOPBACK: Self = Self { address: Ipv4Addr::LOCALHOST, prefix: 8 };

    /// Parses `172.18.0.0/16`; `None` when it is something else.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/')?;
        let prefix = prefix.parse().ok().filter(|prefix| *prefix <= 32)?;
        Some(Self { address: address.parse().ok()?, prefix })
    }

    /// Whether an address belongs to it; an IPv4 address in IPv6 form counts as what it is.
    pub fn contains(&self, address: impl Into<IpAddr>) -> bool {
        let IpAddr::V4(address) = address.into().to_canonical() else { return false };
        (address.to_bits() ^ self.address.to_bits()) & self.mask() == 0
    }

    /// The address after the network's own; Docker gives it to the bridge when nobody asked for another.
    pub fn first_host(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits((self.address.to_bits() & self.mask()).saturating_add(1))
    }

    fn mask(&self) -> u32 {
        u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0)
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// An address or a network of either kind, such as `10.0.0.8`, `10.0.0.0/8`, `::1/128`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressRange {
    address: IpAddr,
    prefix: u8,
}

impl AddressRange {
    /// Parses an address or a network; `None` when it is something else.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let address: IpAddr = address.parse().ok()?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Some(longest), |prefix| prefix.parse().ok()).filter(|prefix| *prefix <= longest)?;
        Some(Self { address, prefix })
    }

    /// Whether an address belongs to it; an IPv4 address in IPv6 form counts as what it is.
    pub fn contains(&self, address: IpAddr) -> bool {
        let differing = match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => u128::from(own.to_bits() ^ other.to_bits()) << 96,
            (IpAddr::V6(own), IpAddr::V6(other)) => own.to_bits() ^ other.to_bits(),
            _ => return false,
        };
        differing.leading_zeros() >= u32::from(self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_hold_addresses_of_their_kind() {
        #[track_caller]
        fn case(range: &str, address: &str, inside: bool) {
            assert_eq!(AddressRange::parse(range).unwrap().contains(address.parse().unwrap()), inside, "{range}");
        }
        case("127.0.0.1/32", "127.0.0.1", true);
        case("127.0.0.1", "127.0.0.2", false);
        case("10.0.0.0/8", "10.255.0.1", true);
        case("10.0.0.0/8", "11.0.0.1", false);
        case("10.0.0.0/8", "::ffff:10.1.2.3", true);
        case("0.0.0.0/0", "8.8.8.8", true);
        case("0.0.0.0/0", "::1", false);
        case("::1/128", "::1", true);
        case("fd00::/8", "fdff::7", true);
        case("fd00::/8", "fe00::7", false);
        for bad in ["", "x", "10.0.0.0/33", "::/129", "10.0.0.0/", "10.0.0.0/-1", "1.2.3.4:80"] {
            assert_eq!(AddressRange::parse(bad), None, "{bad}");
        }
    }

    #[track_caller]
    fn case(subnet: &str, address: &str, inside: bool) {
        let address: IpAddr = address.parse().unwrap();
        assert_eq!(Subnet::parse(subnet).unwrap().contains(address), inside);
    }

    #[test]
    fn tells_inside_from_outside() {
        case("172.18.0.0/16", "172.18.255.1", true);
        case("172.18.0.1/16", "172.18.0.0", true);
        case("172.18.0.0/16", "172.19.0.1", false);
        case("172.18.128.0/17", "172.18.100.7", false);
        case("10.0.0.8/32", "10.0.0.8", true);
        case("10.0.0.8/32", "10.0.0.9", false);
        case("0.0.0.0/0", "8.8.8.8", true);
        case("10.0.0.0/8", "::ffff:10.1.2.3", true);
        case("10.0.0.0/8", "::1", false);
        assert!(Subnet::LOOPBACK.contains(Ipv4Addr::new(127, 0, 0, 9)));
        assert_eq!(Subnet::parse("172.18.0.7/16").unwrap().first_host(), Ipv4Addr::new(172, 18, 0, 1));
        for bad in ["", "10.0.0.0", "10.0.0.0/33", "10.0.0/8", "fd00::/8", "x/8"] {
            assert_eq!(Subnet::parse(bad), None, "{bad}");
        }
    }
}
