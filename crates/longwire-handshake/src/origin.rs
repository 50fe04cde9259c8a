//! The web pages that may connect (RFC 6455 §10.2).
//!
//! A browser lets any page open a WebSocket to any server and sends the user's cookies along. Only the `Origin`
//! field tells the server which site the page belongs to. A server that trusts cookies must check it; otherwise
//! another site can act in its users' name.

use http::HeaderValue;
use http::uri::Authority;

use crate::text::PeerText;

/// The values of `Origin` that a server accepts. Others are refused with 403 before the handshake completes.
///
/// The default is [`Any`](Self::Any), because a server without cookies has nothing to protect, and the origins of
/// its pages cannot be guessed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OriginPolicy {
    /// Every origin, and requests without one. Suitable for servers that rely neither on cookies nor on being
    /// unreachable.
    #[default]
    Any,
    /// Pages whose host and port equal those of the request's own `Host` (`:authority` in HTTP/2, the target's in a
    /// request with an absolute one), and requests without an origin, which no browser sends.
    SameHost,
    /// The origins in a list.
    Only(AllowedOrigins),
}

impl OriginPolicy {
    /// Allows only the named origins, such as `https://example.com`.
    ///
    /// `null` and `file://` can be listed too: browsers send them for pages from files, and some browsers for pages
    /// of packaged applications. Neither identifies the owner of the page, and any site can make a page that sends
    /// `null` (a sandboxed frame), so a server that trusts cookies should list neither.
    ///
    /// Requests without `Origin` are refused; [`AllowedOrigins::or_missing`] admits them.
    ///
    /// # Errors
    ///
    /// [`InvalidOrigin`] if one is neither of these two nor a scheme, a host and an optional port.
    pub fn only(origins: impl IntoIterator<Item: AsRef<str>>) -> Result<Self, InvalidOrigin> {
        AllowedOrigins::new(origins).map(Self::Only)
    }

    /// Returns whether a request to this host may connect.
    pub(crate) fn allows(&self, origin: Option<&HeaderValue>, host: Option<&str>) -> bool {
        let parsed = origin.map(|value| value.to_str().ok().and_then(|text| Listed::parse(text).ok()));
        match (self, parsed) {
            (Self::Any, _) | (Self::SameHost, None) => true,
            (Self::SameHost, Some(Some(Listed::At(origin)))) => origin.is_at(host),
            (Self::Only(allowed), None) => allowed.missing,
            (Self::Only(allowed), Some(Some(origin))) => allowed.origins.contains(&origin),
            // The value is not an origin, or is one that names no host.
            (Self::SameHost | Self::Only(_), Some(_)) => false,
        }
    }
}

/// A list of origins that may connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowedOrigins {
    origins: Vec<Listed>,
    missing: bool,
}

/// A value of `Origin` that can be allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Listed {
    At(Origin),
    /// An opaque origin (RFC 6454 §6.1).
    Null,
    /// The value that Chromium and Android's `WebView` send for pages from files.
    File,
}

impl Listed {
    fn parse(text: &str) -> Result<Self, InvalidOrigin> {
        match text {
            "null" => Ok(Self::Null),
            "file://" => Ok(Self::File),
            _ => Origin::parse(text).map(Self::At),
        }
    }
}

impl AllowedOrigins {
    /// Creates a list of origins such as `https://example.com`; see [`OriginPolicy::only`].
    pub fn new(origins: impl IntoIterator<Item: AsRef<str>>) -> Result<Self, InvalidOrigin> {
        let origins = origins.into_iter().map(|origin| Listed::parse(origin.as_ref()));
        let origins = origins.collect::<Result<_, _>>()?;
        Ok(Self { origins, missing: false })
    }

    /// Also admits requests without `Origin`, which come from programs other than browsers.
    #[must_use]
    pub fn or_missing(mut self) -> Self {
        self.missing = true;
        self
    }
}

/// The origin of a page: a scheme, a host and a port (RFC 6454).
///
/// Scheme and host are compared case-insensitively, and a scheme's default port equals an absent port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    scheme: String,
    host: String,
    port: Option<u16>,
}

impl Origin {
    /// Reads `scheme://host` or `scheme://host:port`.
    ///
    /// # Errors
    ///
    /// [`InvalidOrigin`] for anything else, including `null`, a path, a trailing slash and a pattern such as
    /// `https://*.example.com`.
    pub fn parse(text: &str) -> Result<Self, InvalidOrigin> {
        let invalid = || InvalidOrigin { origin: PeerText::new(text) };
        let (scheme, authority) = text.split_once("://").ok_or_else(invalid)?;
        let scheme_is_valid = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
        if !scheme_is_valid {
            return Err(invalid());
        }
        let scheme = scheme.to_ascii_lowercase();
        let (host, port) = split_authority(authority).ok_or_else(invalid)?;
        // Origins are compared as a whole, so a pattern would silently match no page.
        if host.contains('*') {
            return Err(invalid());
        }
        Ok(Self { port: port.or_else(|| default_port(&scheme)), host, scheme })
    }

    /// Returns whether `host`, such as a `Host` field, names this origin's host and port.
    fn is_at(&self, host: Option<&str>) -> bool {
        let Some((host, port)) = host.and_then(split_authority) else {
            return false;
        };
        // Behind a proxy that terminates TLS, the server's own scheme is unknown: the page's scheme determines the
        // default port.
        host == self.host && port.or_else(|| default_port(&self.scheme)) == self.port
    }
}

/// An origin that is not a scheme, a host and an optional port.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("{origin} is not an origin such as https://example.com")]
pub struct InvalidOrigin {
    origin: PeerText,
}

longwire_frame::debug_with_causes!(InvalidOrigin);

/// Splits `host` or `host:port`. The host is returned in lower case.
pub(crate) fn split_authority(text: &str) -> Option<(String, Option<u16>)> {
    let authority: Authority = text.parse().ok()?;
    let host = authority.host();
    let port = match text.strip_prefix(host)? {
        // "port = *DIGIT" (RFC 3986 §3.2.3): it may be empty.
        "" | ":" => None,
        rest => Some(rest.strip_prefix(':').and_then(parse_port)?),
    };
    (!host.is_empty()).then(|| (host.to_ascii_lowercase(), port))
}

/// Reads a port from 1 to 65535 that consists only of digits.
pub(crate) fn parse_port(text: &str) -> Option<u16> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok().filter(|&port| port != 0)
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" | "ws" => Some(80),
        "https" | "wss" => Some(443),
        _ => None,
    }
}
