//! WebSocket URIs: the address and resource that a client connects to (RFC 6455 §3).

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use http::uri::PathAndQuery;
use http::{HeaderValue, Uri};

use crate::credentials::{InvalidLogin, Login};
use crate::field::ascii_value;
use crate::origin::parse_port;
use crate::text::PeerText;

mod reference;

/// A `ws`, `wss`, `http` or `https` URI, parsed and checked.
///
/// `http` means `ws` and `https` means `wss`. `Display` and `Debug` omit the credentials.
#[derive(Clone, PartialEq, Eq)]
pub struct WebSocketUri {
    secure: bool,
    /// A name, an IPv4 address, or an IPv6 address without brackets and zone, in lower case.
    host: String,
    /// The zone of an IPv6 address, not empty.
    zone: Option<String>,
    port: u16,
    target: PathAndQuery,
    credentials: Option<HeaderValue>,
}

impl WebSocketUri {
    /// Reads a URI such as `ws://user:secret@example.com:8080/chat?room=1`.
    ///
    /// An IPv6 address may have a zone, as in `ws://[fe80::1%25eth0]/` (RFC 6874); `%eth0` means the same. Zones
    /// consist of letters, digits and `-._~`.
    ///
    /// # Errors
    ///
    /// [`UriError`] names the invalid part. A fragment is an error: "Fragment identifiers are meaningless in the
    /// context of WebSocket URIs and MUST NOT be used" (RFC 6455 §3).
    pub fn parse(text: &str) -> Result<Self, UriError> {
        // `http::Uri` would silently drop it.
        if text.contains('#') {
            return Err(UriError::Fragment);
        }
        // Without a scheme, `http::Uri` takes a host and port alone, and calls anything longer malformed.
        match scheme(text) {
            None if !text.is_empty() => return Err(UriError::NoScheme { meant: meant(text) }),
            Some(other) if !SCHEMES.iter().any(|known| known.eq_ignore_ascii_case(other)) => {
                return Err(UriError::Scheme { scheme: PeerText::new(other) });
            }
            _ => {}
        }
        Self::from_uri(&text.parse().map_err(UriError::Syntax)?)
    }

    /// Takes a parsed URI. A fragment was already dropped when it was parsed.
    pub fn from_uri(uri: &Uri) -> Result<Self, UriError> {
        let secure = match uri.scheme_str() {
            Some("ws" | "http") => false,
            Some("wss" | "https") => true,
            Some(other) if other.eq_ignore_ascii_case("ws") => false,
            Some(other) if other.eq_ignore_ascii_case("wss") => true,
            Some(other) => return Err(UriError::Scheme { scheme: PeerText::new(other) }),
            None => return Err(UriError::NoScheme { meant: meant(&uri.to_string()) }),
        };
        let Authority { host, zone, port, login } = Authority::of(uri)?;
        Ok(Self {
            secure,
            host,
            zone,
            port: port.unwrap_or_else(|| default_port(secure)),
            target: target(uri)?,
            credentials: login?.map(|login| login.basic()).transpose()?,
        })
    }

    /// Returns whether the connection uses TLS.
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    /// Returns the name or address to dial, without the brackets and the [zone](Self::zone) of an IPv6 address.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Returns the zone of an IPv6 address: the name or number of the network interface to dial it on, such as `eth0`.
    ///
    /// The zone has a meaning only on this host, so no server, proxy or certificate ever sees it (RFC 6874 §4).
    pub fn zone(&self) -> Option<&str> {
        self.zone.as_deref()
    }

    /// Returns the port to dial, from 1 to 65535; 80 or 443 unless the URI names one.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the path and query to request. The path is `/` if the URI has none.
    pub fn target(&self) -> &PathAndQuery {
        &self.target
    }

    /// Returns the value of `Host`: the port only if it is not the default one, an IPv6 address in brackets and
    /// without its zone.
    pub fn host_header(&self) -> HeaderValue {
        ascii_value(&self.with_port(bracketed(&self.host)))
    }

    /// Returns the `Basic` credentials of the URI's user and password, percent-decoded, as a value of `Authorization`.
    ///
    /// It is marked sensitive, so that its `Debug` form hides it.
    pub fn credentials(&self) -> Option<&HeaderValue> {
        self.credentials.as_ref()
    }

    /// Returns host and port as written in the URI.
    fn authority(&self) -> String {
        self.with_port(match &self.zone {
            Some(zone) => format!("[{}%25{zone}]", self.host),
            None => bracketed(&self.host),
        })
    }

    fn with_port(&self, host: String) -> String {
        if self.port == default_port(self.secure) { host } else { format!("{host}:{}", self.port) }
    }
}

impl FromStr for WebSocketUri {
    type Err = UriError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl fmt::Display for WebSocketUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.secure { "wss" } else { "ws" };
        write!(f, "{scheme}://{}{}", self.authority(), self.target)
    }
}

impl fmt::Debug for WebSocketUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WebSocketUri({self})")
    }
}

/// The authority of a URI, parsed and checked: user and password, host and port (RFC 3986 §3.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    /// The name or address in lower case, without the brackets and the zone of an IPv6 address.
    pub host: String,
    /// The zone of an IPv6 address, as in [`WebSocketUri::zone`].
    pub zone: Option<String>,
    /// The port, from 1 to 65535; `None` if it is absent or empty.
    pub port: Option<u16>,
    /// The user and password, percent-decoded; `None` if they are absent or empty.
    pub login: Result<Option<Login>, InvalidLogin>,
}

impl Authority {
    /// Reads the authority of a URI.
    ///
    /// # Errors
    ///
    /// [`UriError::Host`] and [`UriError::Port`].
    pub fn of(uri: &Uri) -> Result<Self, UriError> {
        let authority = uri.authority().ok_or(UriError::Host)?.as_str();
        let (userinfo, host_and_port) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (host, zone, port) = split_host(host_and_port)?;
        let port = match port {
            // "The port component is OPTIONAL" and may be empty as well (RFC 3986 §3.2.3).
            None | Some("") => None,
            Some(digits) => Some(parse_port(digits).ok_or(UriError::Port)?),
        };
        Ok(Self { host, zone, port, login: Login::from_userinfo(userinfo) })
    }
}

/// A URI that does not name a WebSocket.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum UriError {
    /// The text is not a URI.
    #[error("malformed URL: {0}")]
    Syntax(http::uri::InvalidUri),
    /// The scheme is absent.
    #[error("URL has no scheme{}", Meant(.meant.as_deref()))]
    NoScheme {
        /// The URL that was probably meant, without user, password and query.
        meant: Option<String>,
    },
    /// The scheme is not one of `ws`, `wss`, `http`, `https`.
    #[error("URL scheme {scheme} is not one of ws, wss, http, https")]
    Scheme {
        /// The scheme.
        scheme: PeerText,
    },
    /// The scheme of a proxy's URL is not one of `http`, `https`, `socks`, `socks5`, `socks5h`.
    #[error("scheme {scheme} is not one of http, https, socks, socks5, socks5h")]
    ProxyScheme {
        /// The scheme.
        scheme: PeerText,
    },
    /// The host is absent, or is neither a name nor an address.
    #[error("missing or invalid host in the URL")]
    Host,
    /// The port is not a number from 1 to 65535.
    #[error("port in the URL is not a number from 1 to 65535")]
    Port,
    /// The URI has a fragment (RFC 6455 §3).
    #[error("URL has a fragment, which a WebSocket URL must not have")]
    Fragment,
    /// The path or query contains characters that a request cannot carry unescaped.
    #[error("path or query of the URL has characters that need percent-encoding")]
    Target,
    /// The user or password cannot be sent as `Basic` (RFC 7617 §2).
    #[error("user name or password in the URL contains control characters, or the user name a colon")]
    Credentials,
}

longwire_frame::debug_with_causes!(UriError);

impl From<InvalidLogin> for UriError {
    fn from(_: InvalidLogin) -> Self {
        Self::Credentials
    }
}

/// The end of the sentence about a missing scheme.
struct Meant<'a>(Option<&'a str>);

impl fmt::Display for Meant<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |meant| write!(f, ", did you mean {meant}?"))
    }
}

/// The schemes of a [`WebSocketUri`].
const SCHEMES: [&str; 4] = ["ws", "wss", "http", "https"];

/// Returns the scheme of a URI; `None` if the text starts with a host instead, as in `localhost:8080/chat`.
fn scheme(text: &str) -> Option<&str> {
    let (scheme, rest) = text.split_once(':')?;
    let is_scheme = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let is_port = !authority.is_empty() && authority.bytes().all(|byte| byte.is_ascii_digit());
    let is_host = !rest.starts_with("//") && (is_port || authority.contains('@'));
    (is_scheme && !is_host).then_some(scheme)
}

/// Returns the URL that a text without a scheme may have been meant to be: without user, password and query, which are
/// not for a log.
fn meant(text: &str) -> Option<String> {
    let rest = text.strip_prefix("//").unwrap_or(text);
    if rest.starts_with('/') {
        return None;
    }
    let uri = WebSocketUri::parse(&format!("ws://{rest}")).ok()?;
    let uri = if uri.port == 443 { WebSocketUri { secure: true, ..uri } } else { uri };
    let (scheme, path) = (if uri.secure { "wss" } else { "ws" }, uri.target.path());
    Some(format!("{scheme}://{}{}", uri.authority(), if path == "/" { "" } else { path }))
}

fn default_port(secure: bool) -> u16 {
    if secure { 443 } else { 80 }
}

/// Splits a host and a port into the name or address, the zone and the port.
fn split_host(text: &str) -> Result<(String, Option<String>, Option<&str>), UriError> {
    let is_unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    if let Some(rest) = text.strip_prefix('[') {
        let (address, rest) = rest.split_once(']').ok_or(UriError::Host)?;
        let (address, zone) = match address.split_once('%') {
            // `"%25" ZoneID` (RFC 6874 §2). Users copy a bare "%" from their tools, and §3 suggests accepting it.
            Some((address, zone)) => (address, Some(zone.strip_prefix("25").unwrap_or(zone))),
            None => (address, None),
        };
        address.parse::<Ipv6Addr>().map_err(|_| UriError::Host)?;
        if zone.is_some_and(|zone| zone.is_empty() || !zone.bytes().all(is_unreserved)) {
            return Err(UriError::Host);
        }
        let port = match rest {
            "" => None,
            rest => Some(rest.strip_prefix(':').ok_or(UriError::Host)?),
        };
        // The names of interfaces are case-sensitive.
        return Ok((address.to_ascii_lowercase(), zone.map(str::to_owned), port));
    }
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    if host.is_empty() || !host.bytes().all(is_unreserved) {
        return Err(UriError::Host);
    }
    Ok((host.to_ascii_lowercase(), None, port))
}

/// Returns the path and query in origin form (RFC 9112 §3.2.1).
fn target(uri: &Uri) -> Result<PathAndQuery, UriError> {
    let text = uri.path_and_query().map_or("", PathAndQuery::as_str);
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(UriError::Target);
    }
    let slash = if text.starts_with('/') { "" } else { "/" };
    PathAndQuery::from_maybe_shared(format!("{slash}{text}")).map_err(|_| UriError::Target)
}

/// Returns a host as written before a port: an IPv6 address in brackets.
fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}
