//! The client's address behind proxies: `X-Forwarded-For` and `Forwarded` (RFC 7239).
//!
//! Owns the grammar of both headers, and decides which of their entries to trust. Any client can send these
//! headers, so they are ignored unless proxies are configured.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use http::header::{FORWARDED, HeaderMap};

/// The proxies in front of a server, and the header in which they name the client.
///
/// Each proxy appends the address that connected to it. So the chain is read from its end, for as long as the
/// writer of an entry is trusted; all entries before that can be forged.
///
/// # Examples
///
/// ```
/// use http::HeaderMap;
/// use longwire_server::TrustedProxies;
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
    /// Trusts this many proxies in a row, whatever their addresses. The peer is the first of them.
    pub fn hops(hops: usize) -> Self {
        Self { trust: Trust::Hops(hops), header: Header::default() }
    }

    /// Trusts proxies with these addresses or in these networks, such as `127.0.0.1`, `10.0.0.0/8` or `fd00::/8`.
    ///
    /// # Errors
    ///
    /// [`InvalidNetwork`] for text that is neither an address nor an address with a prefix length.
    pub fn networks<'a>(networks: impl IntoIterator<Item = &'a str>) -> Result<Self, InvalidNetwork> {
        let networks = networks.into_iter().map(str::parse).collect::<Result<_, _>>()?;
        Ok(Self { trust: Trust::Networks(networks), header: Header::default() })
    }

    /// Reads `Forwarded` (RFC 7239) instead of `X-Forwarded-For`. Choose the one that the proxies write: they may
    /// pass on the other unchanged, as the client forged it.
    #[must_use]
    pub fn forwarded(mut self) -> Self {
        self.header = Header::Forwarded;
        self
    }

    /// Returns whether a peer with this address is one of the proxies. A peer without an address, such as one on a
    /// Unix socket, is `None`; it is one of the proxies if these are [counted](Self::hops).
    pub fn trusts(&self, peer: Option<IpAddr>) -> bool {
        match &self.trust {
            Trust::Nobody => false,
            Trust::Hops(hops) => *hops > 0,
            Trust::Networks(networks) => {
                peer.is_some_and(|peer| networks.iter().any(|network| network.contains(peer)))
            }
        }
    }

    /// Returns the client's address: the last one in the chain that is not a trusted proxy's, or the first one if
    /// all are.
    ///
    /// An entry that is not an address ends the chain: its writer counts as the client.
    pub fn client(&self, headers: &HeaderMap, peer: IpAddr) -> IpAddr {
        self.find_client(headers, Some(peer)).unwrap_or(peer)
    }

    /// Returns the client's address, as [`client`](Self::client) does, for a peer that may have no address.
    ///
    /// A peer without an address, such as one on a Unix socket, is a trusted proxy if proxies are
    /// [counted](Self::hops). Returns `None` if it is not trusted, or if the header names no address.
    pub fn find_client(&self, headers: &HeaderMap, peer: Option<IpAddr>) -> Option<IpAddr> {
        let mut client = peer.map(|peer| peer.to_canonical());
        let mut entries = self.entries(headers).into_iter().rev();
        for hop in 0.. {
            let is_trusted = match &self.trust {
                Trust::Hops(hops) => hop < *hops,
                Trust::Nobody | Trust::Networks(_) => self.trusts(client),
            };
            match entries.next() {
                Some(Some(entry)) if is_trusted => client = Some(entry.to_canonical()),
                _ => break,
            }
        }
        client
    }

    /// Returns the entries, the client's own first; `None` for one that is not an address.
    fn entries(&self, headers: &HeaderMap) -> Vec<Option<IpAddr>> {
        match (&self.trust, self.header) {
            (Trust::Nobody, _) => Vec::new(),
            (_, Header::XForwardedFor) => fields(headers, "x-forwarded-for")
                .flat_map(|field| field.split(|byte| *byte == b','))
                .map(node)
                .collect(),
            (_, Header::Forwarded) => {
                fields(headers, FORWARDED.as_str()).flat_map(forwarded_entries).collect()
            }
        }
    }
}

/// Returns the values of all fields with this name, in order.
fn fields<'a>(headers: &'a HeaderMap, name: &'static str) -> impl Iterator<Item = &'a [u8]> {
    headers.get_all(name).into_iter().map(http::HeaderValue::as_bytes)
}

/// Returns the entries of one `Forwarded` field: `for="[2001:db8::1]:4711";proto=https, for=192.0.2.43`.
///
/// A field with malformed quoting has a single entry, which is not an address: the ends of its elements are
/// unknown, and the writer of the unbalanced quote may have intended another's text to be parsed as an element.
fn forwarded_entries(field: &[u8]) -> Vec<Option<IpAddr>> {
    let Some(elements) = split_unquoted(field, b',') else { return vec![None] };
    elements.into_iter().map(forwarded_for).collect()
}

/// Returns the address in one element's `for`, or `None` if there are several: "Each parameter MUST NOT occur more
/// than once per field-value" (RFC 7239 §4).
fn forwarded_for(element: &[u8]) -> Option<IpAddr> {
    let pairs = split_unquoted(element, b';')?;
    let mut nodes = pairs.into_iter().filter_map(|pair| {
        let (name, value) = pair.trim_ascii().split_at_checked(4)?;
        name.eq_ignore_ascii_case(b"for=").then_some(value)
    });
    match (nodes.next(), nodes.next()) {
        (Some(value), None) => node(&unquoted(value)),
        _ => None,
    }
}

/// Splits at each `separator` outside of quoted strings (RFC 9110 §5.6.4).
///
/// Returns `None` if a quoted string does not end, or is not the whole value of a parameter: it must follow `=` and
/// precede a comma, a semicolon or the end of the field.
fn split_unquoted(text: &[u8], separator: u8) -> Option<Vec<&[u8]>> {
    #[derive(PartialEq)]
    enum State {
        Unquoted,
        Quoted,
        Escaped,
        AfterQuote,
    }
    let (mut parts, mut start, mut previous, mut state) = (Vec::new(), 0, 0, State::Unquoted);
    for (at, &byte) in text.iter().enumerate() {
        state = match state {
            State::Quoted => match byte {
                b'"' => State::AfterQuote,
                b'\\' => State::Escaped,
                _ => State::Quoted,
            },
            State::Escaped => State::Quoted,
            State::Unquoted | State::AfterQuote if matches!(byte, b',' | b';') => {
                if byte == separator {
                    parts.push(&text[start..at]);
                    start = at + 1;
                }
                State::Unquoted
            }
            State::Unquoted => match byte {
                b'"' if previous == b'=' => State::Quoted,
                b'"' => return None,
                _ => State::Unquoted,
            },
            State::AfterQuote if matches!(byte, b' ' | b'\t') => State::AfterQuote,
            State::AfterQuote => return None,
        };
        if !matches!(byte, b' ' | b'\t') {
            previous = byte;
        }
    }
    parts.push(&text[start..]);
    (state == State::Unquoted || state == State::AfterQuote).then_some(parts)
}

/// Returns the text of a value, without the quotes and escapes of a quoted string (RFC 9110 §5.6.4).
fn unquoted(value: &[u8]) -> Cow<'_, [u8]> {
    let quoted = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
    let Some(quoted) = quoted else { return Cow::Borrowed(value) };
    let mut text = Vec::with_capacity(quoted.len());
    let mut bytes = quoted.iter();
    while let Some(&byte) = bytes.next() {
        text.push(if byte == b'\\' { *bytes.next().unwrap_or(&byte) } else { byte });
    }
    Cow::Owned(text)
}

/// Parses an address, bare or in brackets, with or without a port.
fn node(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text.trim_ascii()).ok()?;
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

/// Returns the bits of an address; IPv4 as the IPv4-mapped IPv6 address.
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

/// Text that is not a network.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("{network:?} is neither an address nor an address with a prefix length")]
pub struct InvalidNetwork {
    /// The text.
    pub network: String,
}

longwire_connection::debug_with_causes!(InvalidNetwork);

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
    fn a_peer_without_an_address_is_trusted_if_proxies_are_counted() {
        let mut headers = HeaderMap::new();
        headers.insert("x-forwarded-for", "1.1.1.1, 2.2.2.2".parse().unwrap());
        let everybody = TrustedProxies::networks(["0.0.0.0/0", "::/0"]).unwrap();
        for (case, proxies, expected) in [
            ("nobody", TrustedProxies::default(), None),
            ("no hop", TrustedProxies::hops(0), None),
            ("one hop", TrustedProxies::hops(1), Some("2.2.2.2")),
            ("two hops", TrustedProxies::hops(2), Some("1.1.1.1")),
            ("networks", everybody, None),
        ] {
            let found = proxies.find_client(&headers, None);
            assert_eq!(found.map(|ip| ip.to_string()).as_deref(), expected, "{case}");
            assert_eq!(proxies.find_client(&HeaderMap::new(), None), None, "{case}, no header");
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
            ("for=[2001:db8::1]", "2001:db8::1"),
            ("for=1.2.3.4:80", "1.2.3.4"),
            ("for=1.2.3.4;for=6.6.6.6", "9.9.9.9"),
            ("for=_hidden;for=6.6.6.6", "9.9.9.9"),
        ] {
            let found = client(&TrustedProxies::hops(1).forwarded(), &[("forwarded", value)], "9.9.9.9");
            assert_eq!(found, expected, "{value:?}");
        }
    }

    #[test]
    fn quoted_strings_are_not_interpreted() {
        for (value, expected) in [
            ("for=203.0.113.9;host=x", "203.0.113.9"),
            (r#"for=203.0.113.9;host="x""#, "203.0.113.9"),
            (r#"for=203.0.113.9;host="x,y""#, "203.0.113.9"),
            (r#"for=203.0.113.9;host="x,for=6.6.6.6;""#, "203.0.113.9"),
            (r#"host="x;for=6.6.6.6;y";for=203.0.113.9"#, "203.0.113.9"),
            (r#"host="a\",for=6.6.6.6;b";for=203.0.113.9"#, "203.0.113.9"),
            (r#"host="a\\";for=203.0.113.9"#, "203.0.113.9"),
            (r#"for="203.0.113\.9""#, "203.0.113.9"),
            (r#"for="\[2001:db8::1\]:47\11" ; host = "x""#, "2001:db8::1"),
            (r#"for=6.6.6.6;host=",", for=203.0.113.9;host="\"""#, "203.0.113.9"),
        ] {
            let found = client(&TrustedProxies::hops(1).forwarded(), &[("forwarded", value)], "9.9.9.9");
            assert_eq!(found, expected, "{value}");
        }
    }

    #[test]
    fn a_field_with_malformed_quoting_is_not_trusted() {
        for value in [
            r#"for=203.0.113.9;host="x"#,
            r#"for=6.6.6.6;host=", for=203.0.113.9"#,
            r#"for=203.0.113.9;host="x\""#,
            r#"for=203.0.113.9;host="x\"#,
            r#"for="203.0.113.9"#,
            r#"host="x"y,for=6.6.6.6"#,
            r#"host=x"y",for=6.6.6.6"#,
            r#""x",for=6.6.6.6"#,
            r#"for=6.6.6.6;host="x""y""#,
        ] {
            let alone = client(&TrustedProxies::hops(1).forwarded(), &[("forwarded", value)], "9.9.9.9");
            assert_eq!(alone, "9.9.9.9", "{value}");
            let others = &[("forwarded", value), ("forwarded", "for=203.0.113.9")];
            let behind = client(&TrustedProxies::hops(9).forwarded(), others, "9.9.9.9");
            assert_eq!(behind, "203.0.113.9", "{value}, then a field that a proxy added");
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
