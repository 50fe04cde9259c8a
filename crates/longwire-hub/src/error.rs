//! Why a client was not admitted, and how a run ended other than well.

use longwire_connection::FrameError;

/// What a hub refuses.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// The hub is shutting down and takes no more clients.
    #[error("the hub is shutting down")]
    ShuttingDown,
    /// The close code or reason for a shutdown cannot be sent (RFC 6455 §5.5, §7.4).
    #[error(transparent)]
    InvalidClose(#[from] FrameError),
}

/// Why [`Hub::run`](crate::Hub::run) or [`Socket::run`](crate::Socket::run) did not end with its handler's success.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError<E> {
    /// The hub is shutting down: the handler was not called, and the client was told with the shutdown's close code.
    #[error("the hub is shutting down")]
    Refused,
    /// The hub's shutdown passed its deadline: the connection and the handler were dropped.
    #[error("the handler was dropped at the deadline of the shutdown")]
    Aborted,
    /// The handler failed.
    #[error("the handler failed: {0}")]
    Handler(E),
}
