//! The proxies that the environment names: `http_proxy`, `https_proxy`, `all_proxy` and `no_proxy`.
//!
//! No standard exists; this follows the rules that curl and most other programs agree on.
//!
//! The matcher of `hyper-util` would lose some of them. It connects without a proxy if the URL in a variable is
//! invalid, knows neither ports nor `*.example.com` in `no_proxy`, does not apply `*` to addresses, prefers uppercase
//! names, and ignores every variable in a CGI program instead of `HTTP_PROXY` only. It would also add hyper to the
//! client.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use longwire_handshake::WebSocketUri;

use super::ProxyUri;
use crate::InvalidOption;

/// The proxy settings read from the environment.
#[derive(Debug)]
pub(crate) struct Environment {
    plain: Option<Named>,
    secure: Option<Named>,
    exceptions: Vec<Exception>,
}

/// A proxy, or the error in its URL, which matters only if a connection needs it.
type Named = Result<ProxyUri, InvalidOption>;

/// An entry of `no_proxy`.
#[derive(Debug)]
struct Exception {
    hosts: Hosts,
    /// All ports if `None`.
    port: Option<u16>,
}

#[derive(Debug)]
enum Hosts {
    All,
    /// A name and all its subdomains.
    Domain(String),
    /// All addresses that share this many leading bits with this one.
    Network(IpAddr, u32),
}

impl Environment {
    /// Reads the variables through `lookup`, lowercase names first, then uppercase. An empty variable counts as
    /// unset. An entry of `no_proxy` that is neither a name nor an address is ignored.
    pub(crate) fn read(lookup: impl Fn(&str) -> Option<String>) -> Self {
        let get = |name: &str| {
            let found = |name: &str| {
                let text = lookup(name)?.trim().to_owned();
                (!text.is_empty()).then(|| (name.to_owned(), text))
            };
            found(name).or_else(|| {
                // In a CGI program, HTTP_PROXY is the "Proxy" header of the request, chosen by its sender.
                let by_request = name == "http_proxy" && lookup("REQUEST_METHOD").is_some();
                if by_request { None } else { found(&name.to_ascii_uppercase()) }
            })
        };
        let proxy = |name| {
            let (name, url) = get(name).or_else(|| get("all_proxy"))?;
            let proxy = ProxyUri::parse(&url);
            Some(proxy.map_err(|error| InvalidOption::ProxyVariable { name, error: Arc::new(error) }))
        };
        let listed = get("no_proxy").map(|(_, listed)| listed).unwrap_or_default();
        let entries = listed.split(|at: char| at == ',' || at.is_ascii_whitespace());
        Self {
            plain: proxy("http_proxy"),
            secure: proxy("https_proxy"),
            exceptions: entries.filter_map(Exception::parse).collect(),
        }
    }

    /// Returns the proxy for a server, if one is named.
    ///
    /// # Errors
    ///
    /// [`InvalidOption::ProxyVariable`] if its URL is invalid.
    pub(crate) fn find(&self, uri: &WebSocketUri) -> Result<Option<&ProxyUri>, InvalidOption> {
        if self.exceptions.iter().any(|exception| exception.covers(uri.host(), uri.port())) {
            return Ok(None);
        }
        let named = if uri.is_secure() { &self.secure } else { &self.plain };
        named.as_ref().map(|named| named.as_ref().map_err(Clone::clone)).transpose()
    }
}

impl Exception {
    fn parse(entry: &str) -> Option<Self> {
        let entry = entry.to_ascii_lowercase();
        if let Some(hosts) = Hosts::parse(&entry) {
            return Some(Self { hosts, port: None });
        }
        let (host, port) = entry.rsplit_once(':')?;
        Some(Self { hosts: Hosts::parse(host)?, port: Some(port.parse().ok()?) })
    }

    fn covers(&self, host: &str, port: u16) -> bool {
        self.port.is_none_or(|only| only == port) && self.hosts.cover(host)
    }
}

impl Hosts {
    fn parse(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self::All);
        }
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
        if let Ok(ip) = bare.parse::<IpAddr>() {
            let most = if ip.is_ipv4() { 32 } else { 128 };
            let bits = bits.map_or(Some(most), |bits| bits.parse().ok())?;
            return (bits <= most).then_some(Self::Network(ip, bits));
        }
        let domain = text.strip_prefix('*').unwrap_or(text).trim_matches('.');
        let is_name = !domain.is_empty() && !domain.contains([':', '/', '*']);
        is_name.then(|| Self::Domain(domain.to_owned()))
    }

    /// Returns whether `host`, which must be in lowercase, is one of these.
    fn cover(&self, host: &str) -> bool {
        match self {
            Self::All => true,
            Self::Domain(domain) => {
                let host = host.strip_suffix('.').unwrap_or(host);
                host.strip_suffix(domain.as_str())
                    .is_some_and(|front| front.is_empty() || front.ends_with('.'))
            }
            Self::Network(network, bits) => host.parse::<IpAddr>().is_ok_and(|ip| {
                ip.is_ipv4() == network.is_ipv4() && first_bits(ip, *bits) == first_bits(*network, *bits)
            }),
        }
    }
}

fn first_bits(ip: IpAddr, bits: u32) -> u128 {
    let (value, len) = match ip {
        IpAddr::V4(ip) => (u128::from(ip.to_bits()), 32),
        IpAddr::V6(ip) => (Ipv6Addr::to_bits(ip), 128),
    };
    // With 0 bits, the shift is by the full width, which `checked_shr` refuses for IPv6.
    value.checked_shr(len - bits).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &[(&str, &str)]) -> Environment {
        Environment::read(|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn finds_the_proxy_for_a_scheme() {
        let cgi = ("REQUEST_METHOD", "GET");
        for (case, variables, plain, secure) in [
            ("nothing", &[][..], None, None),
            ("plain", &[("http_proxy", "http://a")], Some("http://a:80"), None),
            ("secure", &[("https_proxy", "http://a")], None, Some("http://a:80")),
            ("all", &[("all_proxy", "socks5://a")], Some("socks5://a:1080"), Some("socks5://a:1080")),
            (
                "capitals",
                &[("ALL_PROXY", "a:1"), ("HTTPS_PROXY", "b:2")],
                Some("http://a:1"),
                Some("http://b:2"),
            ),
            (
                "small letters first",
                &[("http_proxy", "a:1"), ("HTTP_PROXY", "b:2")],
                Some("http://a:1"),
                None,
            ),
            ("empty", &[("http_proxy", ""), ("HTTP_PROXY", " ")], None, None),
            ("CGI", &[("HTTP_PROXY", "http://evil"), cgi], None, None),
            ("CGI, small letters", &[("http_proxy", "a:1"), cgi], Some("http://a:1"), None),
        ] {
            let environment = environment(variables);
            for (url, expected) in [("ws://h/", plain), ("wss://h/", secure)] {
                let found = environment.find(&url.parse().unwrap()).expect(case).map(ToString::to_string);
                assert_eq!(found.as_deref(), expected, "{case}: {url}");
            }
        }
    }

    #[test]
    fn a_variable_is_an_error_only_where_it_is_needed() {
        for (case, variables, url, fault) in [
            ("needed", &[("http_proxy", "ftp://a")][..], "ws://h/", Some("http_proxy")),
            ("in capitals", &[("HTTP_PROXY", "http://a:1/path")], "ws://h/", Some("HTTP_PROXY")),
            ("for all", &[("ALL_PROXY", "socks4a://a")], "wss://h/", Some("ALL_PROXY")),
            ("for another scheme", &[("https_proxy", "socks4://a")], "ws://h/", None),
            ("beside a better one", &[("all_proxy", "socks4://a"), ("http_proxy", "a")], "ws://h/", None),
            ("excepted", &[("ALL_PROXY", "socks4a://a"), ("no_proxy", "h")], "ws://h/", None),
            ("all excepted", &[("ALL_PROXY", "socks://a"), ("no_proxy", "*")], "ws://h/", None),
        ] {
            let environment = environment(variables);
            let uri = url.parse().unwrap();
            let found = environment.find(&uri).map(drop).map_err(|error| error.to_string());
            let named = found.as_ref().err().map(|text| text.split(':').next().unwrap_or_default());
            let expected = fault.map(|name| format!("invalid proxy URL in environment variable {name}"));
            assert_eq!(named, expected.as_deref(), "{case}");
        }
    }

    #[test]
    fn goes_without_where_it_is_told_to() {
        for (list, host, excepted) in [
            ("*", "h", true),
            ("example.com", "example.com", true),
            ("example.com", "EXAMPLE.com", true),
            ("Example.Com", "www.example.com", true),
            (".example.com", "example.com", true),
            ("*.example.com", "a.example.com", true),
            ("example.com", "badexample.com", false),
            ("example.com", "example.com.evil", false),
            ("example.com", "example.com.", true),
            ("a, b c", "c", true),
            ("a,,b", "h", false),
            ("h:8080", "h:8080", true),
            ("h:8080", "h:8081", false),
            ("127.0.0.1", "127.0.0.1:99", true),
            ("127.0.0.1:98", "127.0.0.1:99", false),
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.0.0.0/0", "11.0.0.1", true),
            ("10.0.0.0/33", "10.0.0.0", false),
            ("10.0.0.0/8", "10.example", false),
            ("::1", "[::1]", true),
            ("[::1]:80", "[::1]", true),
            ("[::1]:81", "[::1]", false),
            ("fd00::/8", "[fdff::1]", true),
            ("fd00::/8", "[fe00::1]", false),
            ("::/0", "1.2.3.4", false),
            ("", "h", false),
            (".", "h", false),
        ] {
            let environment = environment(&[("http_proxy", "p"), ("no_proxy", list)]);
            let uri = format!("ws://{host}/").parse().unwrap();
            assert_eq!(environment.find(&uri).unwrap().is_none(), excepted, "{list:?} and {host}");
        }
    }
}
