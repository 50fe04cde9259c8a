//! The `tracing` spans of clients.

use std::fmt;

use longwire_handshake::WebSocketUri;
use tracing::{Span, info_span};

/// Returns the span of one connection attempt; `attempt` is its number if a reconnecting client makes it.
pub(crate) fn attempt_span(uri: &WebSocketUri, attempt: Option<u32>) -> Span {
    info_span!("connect", url = %Logged(uri), attempt)
}

/// Returns the span of a reconnecting client, in which its attempts have their own.
pub(crate) fn reconnecting_span(url: Option<&str>) -> Span {
    let uri = url.and_then(|url| WebSocketUri::parse(url).ok());
    info_span!("reconnecting", url = uri.as_ref().map(Logged).map(tracing::field::display))
}

/// A URL without user, password and query, which may be secret.
pub(crate) struct Logged<'a>(pub(crate) &'a WebSocketUri);

impl fmt::Display for Logged<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(uri) = self;
        let scheme = if uri.is_secure() { "wss" } else { "ws" };
        let host = uri.host_header();
        write!(f, "{scheme}://{}{}", host.to_str().unwrap_or_default(), uri.target().path())
    }
}
