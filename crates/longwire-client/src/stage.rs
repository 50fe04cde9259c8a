//! The steps of a connection attempt.

use std::fmt;

/// A step of a connection attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stage {
    /// The host's name is resolved.
    Resolve,
    /// The host's addresses, or its Unix socket, are dialed.
    Connect,
    /// The proxy is reached, and connects to the host.
    Proxy,
    /// The TLS handshake.
    Tls,
    /// The request is sent, and the response is awaited.
    Response,
}

/// Formats as the middle of a sentence, before the name of a host.
impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Resolve => "resolving the name of",
            Self::Connect => "connecting to",
            Self::Proxy => "connecting through a proxy to",
            Self::Tls => "negotiating TLS with",
            Self::Response => "waiting for the response of",
        })
    }
}
