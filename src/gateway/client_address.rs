//! Who sent a request, when it came through a proxy (gateway.md §6).

use std::net::{IpAddr, SocketAddr};

use crate::base::subnet::AddressRange;
use crate::http::Headers;

/// Proxies whose forwarding headers are believed.
pub(super) struct TrustedProxies(pub(super) Vec<AddressRange>);

impl TrustedProxies {
    fn contain(&self, address: IpAddr) -> bool {
        self.0.iter().any(|range| range.contains(address))
    }

    /// The client that a request comes from: the peer itself unless it is a trusted proxy.
    pub(super) fn client(&self, peer: IpAddr, headers: &Headers) -> IpAddr {
        if !self.contain(peer) {
            return peer;
        }
        let forwarded = headers.all("X-Forwarded-For").rev().flat_map(|value| value.rsplit(','));
        // What is not an address was not written by a proxy, so nothing left of it counts either.
        let hops = forwarded.map_while(address);
        let first_other = hops.into_iter().find(|address| !self.contain(*address));
        first_other.or_else(|| address(headers.get("X-Real-IP")?)).unwrap_or(peer)
    }

    /// Whether the client speaks HTTPS with the proxy in front of us.
    pub(super) fn is_https(&self, peer: IpAddr, headers: &Headers) -> bool {
        self.contain(peer) && headers.get("X-Forwarded-Proto").is_some_and(|proto| proto.eq_ignore_ascii_case("https"))
    }
}

/// An address as proxies write it, some of them with the port.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let address = text.parse::<IpAddr>().ok().or_else(|| Some(text.parse::<SocketAddr>().ok()?.ip()))?;
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn case(peer: &str, fields: &[(&str, &str)], client: &str) {
        let ranges = ["127.0.0.1", "::1/128", "10.0.0.0/8"];
        let proxies = TrustedProxies(ranges.iter().map(|range| AddressRange::parse(range).unwrap()).collect());
        let headers = Headers(fields.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect());
        let found = proxies.client(peer.parse().unwrap(), &headers);
        assert_eq!(found, client.parse::<IpAddr>().unwrap(), "{peer} {fields:?}");
    }

    #[test]
    fn only_trusted_proxies_speak_for_others() {
        let forwarded = |value| [("X-Forwarded-For", value)];
        case("192.0.2.1", &forwarded("198.51.100.7"), "192.0.2.1");
        case("127.0.0.1", &[], "127.0.0.1");
        case("127.0.0.1", &forwarded("198.51.100.7"), "198.51.100.7");
        case("127.0.0.1", &forwarded("1.1.1.1, 198.51.100.7, 10.0.0.3"), "198.51.100.7");
        case("127.0.0.1", &forwarded("10.0.0.3, 127.0.0.1"), "127.0.0.1");
        case("::1", &forwarded("2001:db8::7"), "2001:db8::7");
        case("127.0.0.1", &forwarded("198.51.100.7:4711"), "198.51.100.7");
        case("127.0.0.1", &forwarded("[2001:db8::7]:4711"), "2001:db8::7");
        case("127.0.0.1", &forwarded("198.51.100.7, unknown"), "127.0.0.1");
        case("127.0.0.1", &[("X-Forwarded-For", "1.1.1.1"), ("x-forwarded-for", "2.2.2.2, 10.1.1.1")], "2.2.2.2");
        case("127.0.0.1", &[("X-Real-IP", "198.51.100.7")], "198.51.100.7");
        case("127.0.0.1", &[("X-Forwarded-For", "10.0.0.3"), ("X-Real-IP", "198.51.100.7")], "198.51.100.7");
        case("192.0.2.1", &[("X-Real-IP", "198.51.100.7")], "192.0.2.1");
        case("::ffff:127.0.0.1", &forwarded("198.51.100.7"), "198.51.100.7");
    }
}
