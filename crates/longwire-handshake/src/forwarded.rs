//! The client's address behind proxies: `X-Forwarded-For` and `Forwarded` (RFC 7239).
//!
//! Owns the grammar of both headers and which of their entries can be believed. Anybody can send them: without a
//! configured proxy they say nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use http::header::{FORWARDED, HeaderMap};

use crate::field::trim;

/// Which proxies stand before a server, and where they say whom they speak for.
///
/// Each proxy appends the address that it was connected from. So the chain is read from its end, as long as the one who
/// wrote an entry is trusted; what stands before that can be made up.
///
/// # Examples
///
/// ```
/// use http::HeaderMap;
/// use longwire_handshake::TrustedProxies;
///
/// let mut headers = HeaderMap::new();
/// headers.insert("x-forwarded-for", "203.0.113.9, 10.0.0.7".parse()?);
/// let peer = "10.0.0.1".parse()?;
/// assert_eq!(TrustedProxies::default().client(&headers, peer), peer);
/// assert_eq!(TrustedProxies::hops(1).client(&headers, peer).to_string(), "10.0.0.7");
/// let inside = TrustedProxies::networks(["10.0.0.0/8"])?;
/// assert_eq!(inside.client(&headers, peer).to_string(), "203.0.113.9");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustedProxies {
    trust: Trust,
    header: Header,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
enum Trust {
    #[default]
    Nobody,
    Hops(usize),
    Networks(Vec<Network>),
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Header {
    #[default]
    XForwardedFor,
    Forwarded,
}

/// Addresses that begin with the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Network {
    bits: u128,
    prefix: u32,
}

impl TrustedProxies {
    /// Trusts so many proxies in a row, whatever their addresses: the peer is the first of them.
    pub fn hops(hops: usize) -> Self {
        Self { trust: Trust::Hops(hops), header: Header::default() }
    }

    /// Trusts proxies with these addresses or in these networks, such as `127.0.0.1`, `10.0.0.0/8` or `fd00::/8`.
    ///
    /// # Errors
    ///
    /// [`InvalidNetwork`] for what is neither an address nor an address with a prefix length.
    pub fn networks<'a>(networks: impl IntoIterator<Item = &'a str>) -> Result<Self, InvalidNetwork> {
        let networks = networks.into_iter().map(str::parse).collect::<Result<_, _>>()?;
        Ok(Self { trust: Trust::Networks(networks), header: Header::default() })
    }

    /// Reads `Forwarded` (RFC 7239) in place of `X-Forwarded-For`: the one of the two that the proxies write. They may pass
    /// on the other as the client made it up.
    #[must_use]
    pub fn forwarded(mut self) -> Self {
        self.header = Header::Forwarded;
        self
    }

    /// Whether a peer with this address is one of the proxies; `None` where it has none, such as on a Unix socket: there
    /// it is one if proxies are [counted](Self::hops).
    pub fn trusts(&self, peer: Option<IpAddr>) -> bool {
        match &self.trust {
            Trust::Nobody => false,
            Trust::Hops(hops) => *hops > 0,
            Trust::Networks(networks) => {
                peer.is_some_and(|peer| networks.iter().any(|network| network.contains(peer)))
            }
        }
    }

    /// Returns the address of the client: the last in the chain that no trusted proxy speaks for.
    ///
    /// An entry that is no address ends the chain: whoever wrote it counts as the client.
    pub fn client(&self, headers: &HeaderMap, peer: IpAddr) -> IpAddr {
        let mut client = peer.to_canonical();
        let mut entries = self.entries(headers).into_iter().rev();
        for hop in 0.. {
            let is_trusted = match &self.trust {
                Trust::Nobody => false,
                Trust::Hops(hops) => hop < *hops,
                Trust::Networks(networks) => networks.iter().any(|network| network.contains(client)),
            };
            match entries.next() {
                Some(Some(entry)) if is_trusted => client = entry.to_canonical(),
                _ => break,
            }
        }
        client
    }

    /// The entries, the client's own first; `None` for one that is no address.
    fn entries(&self, headers: &HeaderMap) -> Vec<Option<IpAddr>> {
        match (&self.trust, self.header) {
            (Trust::Nobody, _) => Vec::new(),
            (_, Header::XForwardedFor) => list(headers, "x-forwarded-for").map(node).collect(),
            (_, Header::Forwarded) => list(headers, FORWARDED.as_str()).map(forwarded_for).collect(),
        }
    }
}

/// The elements of all fields of this name, in their order. No address has a comma, quoted or not.
fn list<'a>(headers: &'a HeaderMap, name: &'static str) -> impl Iterator<Item = &'a [u8]> {
    headers.get_all(name).into_iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
}

/// The `for` of one element: `for="[2001:db8::1]:4711";proto=https`.
fn forwarded_for(element: &[u8]) -> Option<IpAddr> {
    element.split(|byte| *byte == b';').find_map(|pair| {
        let pair = trim(pair);
        let (name, value) = pair.split_at_checked(4)?;
        if !name.eq_ignore_ascii_case(b"for=") {
            return None;
        }
        let value = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value);
        node(value)
    })
}

/// An address, bare or in brackets, with or without a port.
fn node(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(trim(text)).ok()?;
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    bare.parse().ok().or_else(|| text.parse().ok().map(|addr: SocketAddr| addr.ip()))
}

impl Network {
    fn contains(self, addr: IpAddr) -> bool {
        match 128 - self.prefix {
            128 => true,
            rest => (self.bits ^ bits(addr)) >> rest == 0,
        }
    }
}

/// IPv4 as the IPv6 addresses that stand for it.
fn bits(addr: IpAddr) -> u128 {
    match addr {
        IpAddr::V4(addr) => addr.to_ipv6_mapped().to_bits(),
        IpAddr::V6(addr) => addr.to_bits(),
    }
}

impl FromStr for Network {
    type Err = InvalidNetwork;

    fn from_str(text: &str) -> Result<Self, InvalidNetwork> {
        let invalid = || InvalidNetwork { network: text.to_owned() };
        let (addr, prefix) = text.split_once('/').map_or((text, None), |(addr, prefix)| (addr, Some(prefix)));
        let addr: IpAddr = addr.parse().map_err(|_| invalid())?;
        let most = if addr.is_ipv4() { Ipv4Addr::BITS } else { Ipv6Addr::BITS };
        let prefix = match prefix {
            None => most,
            Some(prefix) => prefix.parse().ok().filter(|prefix| *prefix <= most).ok_or_else(invalid)?,
        };
        Ok(Self { bits: bits(addr), prefix: prefix + Ipv6Addr::BITS - most })
    }
}

/// What is not a network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{network:?} is neither an address nor an address with a prefix length")]
pub struct InvalidNetwork {
    /// The text.
    pub network: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(proxies: &TrustedProxies, fields: &[(&'static str, &str)], peer: &str) -> String {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, value.parse().unwrap());
        }
        proxies.client(&headers, peer.parse().unwrap()).to_string()
    }

    #[test]
    fn the_chain_is_believed_as_far_as_its_writers_are() {
        let networks = |list: &[&str]| TrustedProxies::networks(list.iter().copied()).unwrap();
        let chain = &[("x-forwarded-for", "1.1.1.1, 2.2.2.2"), ("x-forwarded-for", "3.3.3.3")][..];
        for (case, proxies, expected) in [
            ("nobody", TrustedProxies::default(), "4.4.4.4"),
            ("no hop", TrustedProxies::hops(0), "4.4.4.4"),
            ("one hop", TrustedProxies::hops(1), "3.3.3.3"),
            ("two hops", TrustedProxies::hops(2), "2.2.2.2"),
            ("more hops than entries", TrustedProxies::hops(9), "1.1.1.1"),
            ("the peer's address", networks(&["4.4.4.4"]), "3.3.3.3"),
            ("its network, and the next", networks(&["4.4.0.0/16", "3.3.3.3/32"]), "2.2.2.2"),
            ("another one's", networks(&["3.3.3.3"]), "4.4.4.4"),
            ("one that is not the last", networks(&["4.4.4.4", "2.2.2.2"]), "3.3.3.3"),
            ("everybody", networks(&["0.0.0.0/0"]), "1.1.1.1"),
        ] {
            assert_eq!(client(&proxies, chain, "4.4.4.4"), expected, "{case}");
        }
    }

    #[test]
    fn entries_have_the_forms_that_proxies_write() {
        for (value, expected) in [
            ("1.2.3.4", "1.2.3.4"),
            (" 1.2.3.4:5678 ", "1.2.3.4"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]:80", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("::ffff:1.2.3.4", "1.2.3.4"),
            ("unknown", "9.9.9.9"),
            ("", "9.9.9.9"),
            ("1.2.3.4, ", "9.9.9.9"),
            ("1.2.3", "9.9.9.9"),
        ] {
            let found = client(&TrustedProxies::hops(1), &[("x-forwarded-for", value)], "9.9.9.9");
            assert_eq!(found, expected, "{value:?}");
        }
        for (value, expected) in [
            ("for=1.2.3.4", "1.2.3.4"),
            ("For=\"[2001:db8:cafe::17]:4711\"", "2001:db8:cafe::17"),
            ("proto=http; for=1.2.3.4 ;by=5.6.7.8", "1.2.3.4"),
            ("for=9.9.9.8, for=1.2.3.4", "1.2.3.4"),
            ("for=_hidden", "9.9.9.9"),
            ("by=1.2.3.4", "9.9.9.9"),
            ("for", "9.9.9.9"),
        ] {
            let found = client(&TrustedProxies::hops(1).forwarded(), &[("forwarded", value)], "9.9.9.9");
            assert_eq!(found, expected, "{value:?}");
        }
    }

    #[test]
    fn the_header_that_is_not_read_says_nothing() {
        let both = &[("x-forwarded-for", "1.1.1.1"), ("forwarded", "for=2.2.2.2")];
        assert_eq!(client(&TrustedProxies::hops(1), both, "9.9.9.9"), "1.1.1.1");
        assert_eq!(client(&TrustedProxies::hops(1).forwarded(), both, "9.9.9.9"), "2.2.2.2");
    }

    #[test]
    fn networks_are_addresses_with_a_length() {
        for (network, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.0"),
            ("10.1.2.3/8", "10.9.9.9", "9.255.255.255"),
            ("192.168.1.0/25", "192.168.1.127", "192.168.1.128"),
            ("fd00::/8", "fdff::1", "fe00::1"),
            ("::1", "::1", "::2"),
            ("10.0.0.0/8", "::ffff:10.0.0.1", "::10.0.0.1"),
        ] {
            let network: Network = network.parse().unwrap();
            assert!(network.contains(inside.parse().unwrap()), "{inside}");
            assert!(!network.contains(outside.parse().unwrap()), "{outside}");
        }
        for text in ["", "10.0.0.0/33", "::/129", "10.0.0.0/", "10.0.0/8", "10.0.0.0/-1", "example.com"] {
            assert!(text.parse::<Network>().is_err(), "{text:?}");
        }
    }
}
