//! The errors of a server.

use std::io;

use longwire_handshake::origin::InvalidOrigin;
use longwire_handshake::subprotocol::InvalidSubprotocol;

/// An error that prevents a server from starting or continuing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The server cannot listen on the address.
    #[error("cannot listen: {0}")]
    Bind(#[source] io::Error),
    /// The certificates or the key cannot be used.
    #[cfg(feature = "tls")]
    #[error(transparent)]
    Tls(#[from] crate::TlsError),
    /// The server was shut down, or its listener handed over: no more clients will be accepted.
    #[error("the server was shut down")]
    ShutDown,
    /// A listener cannot be handed over.
    #[error("the listener cannot be handed over: {0}")]
    HandOver(#[source] io::Error),
    /// A worker's thread or its runtime cannot be created.
    #[error("a worker cannot be started: {0}")]
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
