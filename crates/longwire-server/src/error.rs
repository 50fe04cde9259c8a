//! The errors of a server.

use std::fmt;
use std::io;

use longwire_handshake::origin::InvalidOrigin;
use longwire_handshake::subprotocol::InvalidSubprotocol;

/// An error that prevents a server from starting or continuing.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The server cannot listen on the address.
    #[error("cannot listen{}", On(.address.as_deref()))]
    Bind {
        /// The address or path; `None` if the listener was made elsewhere. An address that has not been resolved is in
        /// its `Debug` form, such as `"example.com"`, with the quotes.
        address: Option<String>,
        /// The system's error.
        source: io::Error,
    },
    /// The certificates or the key cannot be used.
    #[cfg(feature = "tls")]
    #[error(transparent)]
    Tls(#[from] crate::TlsError),
    /// The server was shut down, or its listener handed over: no more clients will be accepted.
    #[error("the server was shut down")]
    ShutDown,
    /// A listener cannot be handed over.
    #[error("the listener cannot be handed over")]
    HandOver(#[source] io::Error),
    /// A worker's thread or its runtime cannot be created.
    #[error("a worker cannot be started")]
    Worker(#[source] io::Error),
    /// A path for [`Server::route`](crate::Server::route) is malformed or conflicts with an existing route.
    #[error("invalid route {path}: {reason}")]
    Route {
        /// The path.
        path: String,
        /// The reason it is invalid.
        reason: String,
    },
    /// A subprotocol's name is not a token (RFC 6455 §4.1).
    #[error(transparent)]
    Subprotocol(#[from] InvalidSubprotocol),
    /// An origin is not a scheme, a host and an optional port (RFC 6454).
    #[error(transparent)]
    Origin(#[from] InvalidOrigin),
}

longwire_connection::debug_with_causes!(Error);

impl Error {
    /// Returns the function that turns an error of the system into the error of listening on `address`.
    pub(crate) fn bind(address: impl fmt::Display) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Bind { address: Some(address.to_string()), source }
    }

    /// Returns the error of listening on an address that is not known.
    pub(crate) fn bind_any(source: io::Error) -> Self {
        Self::Bind { address: None, source }
    }
}

/// An address, formatted as the end of a sentence.
struct On<'a>(Option<&'a str>);

impl fmt::Display for On<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |address| write!(f, " on {address}"))
    }
}
