//! What a server cannot do.

use std::io;

use longwire_handshake::origin::InvalidOrigin;
use longwire_handshake::subprotocol::InvalidSubprotocol;

/// Why a server could not be set up, or goes on no longer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The address cannot be listened on.
    #[error("cannot listen: {0}")]
    Bind(#[source] io::Error),
    /// The certificates or the key cannot be used.
    #[cfg(feature = "tls")]
    #[error(transparent)]
    Tls(#[from] crate::TlsError),
    /// The server was shut down, or its listener handed over: no more clients will be accepted.
    #[error("the server was shut down")]
    ShutDown,
    /// What the server listens on cannot be given away.
    #[error("the listener cannot be handed over: {0}")]
    HandOver(#[source] io::Error),
    /// A worker's thread or its runtime cannot be made.
    #[error("a worker cannot be started: {0}")]
    Worker(#[source] io::Error),
    /// A path for [`Server::route`](crate::Server::route) is malformed, or leads where another one does.
    #[error("invalid route {path}: {reason}")]
    Route {
        /// The path.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A subprotocol's name is not a token (RFC 6455 §4.1).
    #[error(transparent)]
    Subprotocol(#[from] InvalidSubprotocol),
    /// An origin is not a scheme, a host and an optional port (RFC 6454).
    #[error(transparent)]
    Origin(#[from] InvalidOrigin),
}
