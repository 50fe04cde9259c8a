//! Proxies: their URLs, and the request to an HTTP proxy (RFC 9110 §9.3.6).
//!
//! Owns the grammar. Sockets, and the exchange with a SOCKS proxy, belong to the client.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use http::header::{HOST, PROXY_AUTHORIZATION};
use http::{HeaderMap, HeaderValue, Request, Uri};
use longwire_handshake::{
    Authority, Login, MAX_ADDED_HEADERS, OptionsError, PeerText, UriError, WebSocketUri, encode_request,
    is_reserved,
};

/// The protocol of a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProxyScheme {
    /// HTTP's CONNECT over plain TCP.
    Http,
    /// HTTP's CONNECT over TLS.
    Https,
    /// SOCKS version 5; the client resolves the server's name (RFC 1928).
    Socks5,
    /// SOCKS version 5; the proxy resolves the server's name.
    Socks5h,
}

/// The URL of a proxy, parsed and checked.
///
/// `Display` and `Debug` omit user and password.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct ProxyUri {
    scheme: ProxyScheme,
    host: String,
    zone: Option<String>,
    port: u16,
    login: Option<Login>,
    /// The value of `Proxy-Authorization`, for HTTP.
    basic: Option<HeaderValue>,
}

impl ProxyUri {
    /// Reads a URL such as `http://user:secret@proxy.example:3128`. Without a scheme, it is `http`.
    ///
    /// The schemes are `http`, `https`, `socks5` (or `socks`) and `socks5h`; their default ports are 80, 443, 1080
    /// and 1080. User and password are percent-decoded.
    ///
    /// # Errors
    ///
    /// [`UriError`] names the invalid part. Any path other than `/` is an error, because a proxy serves no
    /// resource. A SOCKS proxy takes users of 1 to 255 bytes and passwords of up to 255 (RFC 1929).
    pub(crate) fn parse(text: &str) -> Result<Self, UriError> {
        if text.contains('#') {
            return Err(UriError::Fragment);
        }
        let scheme = if text.contains("://") { "" } else { "http://" };
        let uri: Uri = format!("{scheme}{text}").parse().map_err(UriError::Syntax)?;
        let named = uri.scheme_str().unwrap_or_default();
        let (scheme, default_port) = match named.to_ascii_lowercase().as_str() {
            "http" => (ProxyScheme::Http, 80),
            "https" => (ProxyScheme::Https, 443),
            // Desktop settings write `socks`, without a version.
            "socks" | "socks5" => (ProxyScheme::Socks5, 1080),
            "socks5h" => (ProxyScheme::Socks5h, 1080),
            _ => return Err(UriError::ProxyScheme { scheme: PeerText::new(named) }),
        };
        let Authority { host, zone, port, login } = Authority::of(&uri)?;
        if uri.path_and_query().is_some_and(|target| !["", "/"].contains(&target.as_str())) {
            return Err(UriError::Target);
        }
        let login = login?;
        let basic = match (&login, scheme) {
            (Some(login), ProxyScheme::Http | ProxyScheme::Https) => Some(login.basic()?),
            (Some(login), _) if login.user().is_empty() || login.user().len() > 255 => {
                return Err(UriError::Credentials);
            }
            (Some(login), _) if login.password().len() > 255 => return Err(UriError::Credentials),
            _ => None,
        };
        Ok(Self { scheme, host, zone, port: port.unwrap_or(default_port), login, basic })
    }

    /// Returns the protocol of the proxy.
    pub(crate) fn scheme(&self) -> ProxyScheme {
        self.scheme
    }

    /// Returns the name or address to dial, without the brackets and the [zone](Self::zone) of an IPv6 address.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// Returns the zone of an IPv6 address, as in [`WebSocketUri::zone`].
    pub(crate) fn zone(&self) -> Option<&str> {
        self.zone.as_deref()
    }

    /// Returns the port to dial, from 1 to 65535.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Returns the user and password.
    pub(crate) fn login(&self) -> Option<&Login> {
        self.login.as_ref()
    }

    /// Returns the request that asks an HTTP proxy for a connection to the server of `uri`, as the bytes to send.
    ///
    /// It contains the credentials for the proxy and `headers`, such as `User-Agent`, but none of the headers for
    /// the server. A `Proxy-Authorization` in `headers` replaces the URL's user and password.
    ///
    /// # Errors
    ///
    /// [`OptionsError::ReservedHeader`] for `Host`, for headers of the handshake, and for headers that frame a
    /// message or apply to one connection only; [`OptionsError::TooManyHeaders`] above [`MAX_ADDED_HEADERS`].
    pub(crate) fn connect_request(
        &self,
        uri: &WebSocketUri,
        headers: &HeaderMap,
    ) -> Result<Bytes, OptionsError> {
        if headers.len() > MAX_ADDED_HEADERS {
            return Err(OptionsError::TooManyHeaders);
        }
        if let Some(name) = headers.keys().find(|name| **name == HOST || is_reserved(name)) {
            return Err(OptionsError::ReservedHeader { name: name.clone() });
        }
        // "host:port", and the port is always present (RFC 9112 §3.2.3).
        let target = format!("{}:{}", bracketed(uri.host()), uri.port());
        let host = HeaderValue::from_str(&target).map_err(|_| OptionsError::Host)?;
        let mut request = Request::connect(target).body(()).map_err(|_| OptionsError::Host)?;
        let fields = request.headers_mut();
        fields.insert(HOST, host);
        if let Some(basic) = self.basic.as_ref().filter(|_| !headers.contains_key(PROXY_AUTHORIZATION)) {
            fields.insert(PROXY_AUTHORIZATION, basic.clone());
        }
        for (name, value) in headers {
            fields.append(name, value.clone());
        }
        Ok(encode_request(&request))
    }
}

impl FromStr for ProxyUri {
    type Err = UriError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl fmt::Display for ProxyUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.scheme {
            ProxyScheme::Http => "http",
            ProxyScheme::Https => "https",
            ProxyScheme::Socks5 => "socks5",
            ProxyScheme::Socks5h => "socks5h",
        };
        match &self.zone {
            Some(zone) => write!(f, "{scheme}://[{}%25{zone}]:{}", self.host, self.port),
            None => write!(f, "{scheme}://{}:{}", bracketed(&self.host), self.port),
        }
    }
}

impl fmt::Debug for ProxyUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProxyUri({self})")
    }
}

/// Returns a host as written before a port: an IPv6 address in brackets.
fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

#[cfg(test)]
mod tests;
