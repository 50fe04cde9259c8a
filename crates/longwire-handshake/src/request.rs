//! The head of a request as the checks see it, from any HTTP library and in either form of the handshake.

use http::header::HOST;
use http::{HeaderMap, Method, Request, Uri, Version, request};

/// The head of a request, borrowed from its owner.
#[derive(Debug, Clone, Copy)]
pub struct RequestView<'a> {
    /// The method.
    pub method: &'a Method,
    /// The target.
    pub uri: &'a Uri,
    /// The version of HTTP.
    pub version: Version,
    /// The header fields.
    pub headers: &'a HeaderMap,
    /// The pseudo-header `:protocol` of an extended CONNECT over HTTP/2 or 3 (RFC 8441 §4). The types of `http`
    /// have no place for it, so it is `None` in a view of them: see [`protocol`](Self::protocol).
    pub protocol: Option<&'a str>,
}

impl<'a> RequestView<'a> {
    /// Sets the pseudo-header `:protocol`, which each HTTP server stores in its own way.
    #[must_use]
    pub fn protocol(mut self, protocol: Option<&'a str>) -> Self {
        self.protocol = protocol;
        self
    }

    /// Returns the host that the request is for, with its port: `:authority` in HTTP/2 and 3, the host of an absolute
    /// target in HTTP/1.1, beside which `Host` must be ignored (RFC 9112 §3.2.2), otherwise `Host`.
    pub(crate) fn host(&self) -> Option<&'a str> {
        match self.uri.authority() {
            Some(authority) => Some(authority.as_str()),
            None => self.headers.get(HOST).and_then(|host| host.to_str().ok()),
        }
    }

    /// Returns whether the request is one of many streams of a connection. Such a connection cannot be taken over.
    pub(crate) fn is_multiplexed(&self) -> bool {
        self.version >= Version::HTTP_2
    }
}

impl<'a> From<&'a request::Parts> for RequestView<'a> {
    fn from(parts: &'a request::Parts) -> Self {
        Self {
            method: &parts.method,
            uri: &parts.uri,
            version: parts.version,
            headers: &parts.headers,
            protocol: None,
        }
    }
}

impl<'a, B> From<&'a Request<B>> for RequestView<'a> {
    fn from(request: &'a Request<B>) -> Self {
        Self {
            method: request.method(),
            uri: request.uri(),
            version: request.version(),
            headers: request.headers(),
            protocol: None,
        }
    }
}
