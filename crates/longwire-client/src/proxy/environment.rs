//! The proxies that the environment names: `http_proxy`, `https_proxy`, `all_proxy` and `no_proxy`.
//!
//! There is no standard; what is read is what curl and most others agree on.

use std::net::{IpAddr, Ipv6Addr};

use longwire_handshake::{ProxyUri, UriError, WebSocketUri};

/// What the environment said about proxies.
#[derive(Debug)]
pub(crate) struct Environment {
    plain: Option<ProxyUri>,
    secure: Option<ProxyUri>,
    exceptions: Vec<Exception>,
}

/// An entry of `no_proxy`.
#[derive(Debug)]
struct Exception {
    hosts: Hosts,
    /// All, if none.
    port: Option<u16>,
}

#[derive(Debug)]
enum Hosts {
    All,
    /// A name, and all names that end in a dot and it.
    Domain(String),
    /// The addresses that share the first bits of one.
    Network(IpAddr, u32),
}

impl Environment {
    /// Reads the variables that `lookup` knows: in small letters first, then in capitals; an empty one is none.
    ///
    /// # Errors
    ///
    /// The URL of a proxy is invalid. What in `no_proxy` is no name and no address excepts nothing.
    pub(crate) fn read(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, UriError> {
        let get = |name: &str| {
            let found =
                |name: &str| lookup(name).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
            found(name).or_else(|| {
                // In a CGI program HTTP_PROXY is the header "Proxy" of whoever sent the request.
                let by_request = name == "http_proxy" && lookup("REQUEST_METHOD").is_some();
                if by_request { None } else { found(&name.to_ascii_uppercase()) }
            })
        };
        let proxy = |name| {
            let text = get(name).or_else(|| get("all_proxy"));
            text.map(|text| ProxyUri::parse(&text)).transpose()
        };
        let listed = get("no_proxy").unwrap_or_default();
        let entries = listed.split(|at: char| at == ',' || at.is_ascii_whitespace());
        Ok(Self {
            plain: proxy("http_proxy")?,
            secure: proxy("https_proxy")?,
            exceptions: entries.filter_map(Exception::parse).collect(),
        })
    }

    /// Returns the proxy for a server.
    pub(crate) fn find(&self, uri: &WebSocketUri) -> Option<&ProxyUri> {
        if self.exceptions.iter().any(|exception| exception.covers(uri.host(), uri.port())) {
            return None;
        }
        if uri.is_secure() { self.secure.as_ref() } else { self.plain.as_ref() }
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

    /// `host` is in small letters.
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
    // All bits are away where none counts.
    value.checked_shr(len - bits).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &[(&str, &str)]) -> Result<Environment, UriError> {
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
            let environment = environment(variables).expect(case);
            for (url, expected) in [("ws://h/", plain), ("wss://h/", secure)] {
                let found = environment.find(&url.parse().unwrap()).map(ToString::to_string);
                assert_eq!(found.as_deref(), expected, "{case}: {url}");
            }
        }
        assert!(environment(&[("http_proxy", "ftp://a")]).is_err());
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
            let environment = environment(&[("http_proxy", "p"), ("no_proxy", list)]).unwrap();
            let uri = format!("ws://{host}/").parse().unwrap();
            assert_eq!(environment.find(&uri).is_none(), excepted, "{list:?} and {host}");
        }
    }
}
