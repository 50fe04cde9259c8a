//! The error of any part of the library.

use crate::{CloseCode, connection};

/// An error of any part of this library, for functions that connect, send, receive and serve: `?` converts the error of
/// each part.
///
/// `Display` and `Debug` differ as for all errors of this library: `Debug` adds the causes, so that an error that
/// `main` returns reads as a sentence.
///
/// Handlers of a server return `HandlerResult` instead, into which `?` converts this error too.
///
/// # Examples
///
/// ```no_run
/// # #[cfg(feature = "client")]
/// #[tokio::main]
/// async fn main() -> Result<(), longwire::Error> {
///     let mut ws = longwire::connect("wss://example.com/chat").await?;
///     ws.send("something").await?;
///     while let Some(message) = ws.recv().await? {
///         println!("{message}");
///     }
///     Ok(())
/// }
/// # #[cfg(not(feature = "client"))]
/// # fn main() {}
/// ```
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A message could not be received or sent.
    #[error("the WebSocket connection failed")]
    Connection(#[from] connection::Error),
    /// A client could not connect.
    #[cfg(feature = "client")]
    #[error(transparent)]
    Client(#[from] crate::client::Error),
    /// A reconnecting client has given up.
    #[cfg(feature = "client")]
    #[error(transparent)]
    Outage(#[from] crate::reconnect::Outage),
    /// A server could not start or continue.
    #[cfg(feature = "server")]
    #[error(transparent)]
    Server(#[from] crate::server::Error),
    /// A hub refused a client, a room or a shutdown.
    #[cfg(any(feature = "server", feature = "hyper"))]
    #[error(transparent)]
    Hub(#[from] crate::hub::HubError),
    /// A client could not connect over HTTP/2.
    #[cfg(feature = "http2")]
    #[error(transparent)]
    Http2(#[from] crate::http2::Error),
}

longwire_connection::debug_with_causes!(Error);

impl Error {
    /// Returns whether this error ended a connection that had been established: see
    /// [`connection::Error::is_disconnect`].
    pub fn is_disconnect(&self) -> bool {
        self.connection().is_some_and(connection::Error::is_disconnect) || self.closed_by_peer().is_some()
    }

    /// Returns the close code with which the connection ended: see [`connection::Error::close_code`].
    pub fn close_code(&self) -> Option<CloseCode> {
        self.closed_by_peer().or_else(|| self.connection()?.close_code())
    }

    /// Returns the error of an established connection.
    fn connection(&self) -> Option<&connection::Error> {
        match self {
            Self::Connection(error) => Some(error),
            #[cfg(feature = "client")]
            Self::Outage(crate::reconnect::Outage::Lost(error)) => Some(error),
            #[allow(unreachable_patterns, reason = "without features, there are no other errors")]
            _ => None,
        }
    }

    /// Returns the code of a clean close, after which a reconnecting client gave up.
    #[cfg_attr(
        not(feature = "client"),
        allow(clippy::unused_self, reason = "only a client has such an error")
    )]
    fn closed_by_peer(&self) -> Option<CloseCode> {
        #[cfg(feature = "client")]
        if let Self::Outage(crate::reconnect::Outage::Closed(frame)) = self {
            return Some(frame.code);
        }
        None
    }
}

#[cfg(all(feature = "client", feature = "tls"))]
impl From<crate::client::TlsError> for Error {
    fn from(error: crate::client::TlsError) -> Self {
        Self::Client(error.into())
    }
}

#[cfg(all(feature = "server", feature = "tls"))]
impl From<crate::server::TlsError> for Error {
    fn from(error: crate::server::TlsError) -> Self {
        Self::Server(error.into())
    }
}
