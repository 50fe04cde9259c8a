//! Results of handlers, and how their end is logged.

use longwire_connection::{BoxError, Error};
use tracing::{debug, warn};

use crate::entry::ClientHandle;
use crate::error::RunError;

/// The result of a handler: `?` converts any error to [`BoxError`].
///
/// The connection is closed with 1000 after `Ok` and with 1011 after `Err`, unless it was closed before. Errors
/// are logged with `tracing`: errors that end a connection at level debug, others as warnings.
pub type HandlerResult = Result<(), BoxError>;

impl RunError<BoxError> {
    /// Returns whether the handler ended because its connection did: [`Error::is_disconnect`] is true for its error.
    pub fn is_disconnect(&self) -> bool {
        match self {
            Self::Handler(error) => error.downcast_ref::<Error>().is_some_and(Error::is_disconnect),
            Self::Refused(_) | Self::Aborted => false,
        }
    }
}

impl ClientHandle {
    /// Logs the end of this client's handler with `tracing`, as servers and mounts do: at level debug if the client
    /// has left, as a warning if the handler failed.
    pub fn log_end(&self, ended: Result<(), RunError<BoxError>>) {
        let (id, peer_addr) = (self.id().value(), self.peer_addr());
        match ended {
            Ok(()) => debug!(id, ?peer_addr, "a client disconnected"),
            Err(error) if error.is_disconnect() => debug!(id, ?peer_addr, %error, "a client disconnected"),
            Err(error) => warn!(id, ?peer_addr, %error, "a handler failed"),
        }
    }
}
