//! Errors of a hub, and of a run of a handler.

use std::fmt;

use longwire_connection::FrameError;

use crate::config::MAX_ROOM_NAME;

/// An error of a hub.
#[derive(Clone, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// The hub is shutting down and admits no more clients.
    #[error("the hub is shutting down")]
    ShuttingDown,
    /// The hub has as many clients as [`HubConfig::max_clients`](crate::HubConfig::max_clients) allows.
    #[error("the limit of {limit} clients is reached")]
    Full {
        /// The maximum number of clients.
        limit: usize,
    },
    /// The hub has as many clients from this address as
    /// [`HubConfig::max_clients_per_address`](crate::HubConfig::max_clients_per_address) allows.
    #[error("the limit of {limit} clients from this address is reached")]
    FullForAddress {
        /// The maximum number of clients from one address.
        limit: usize,
    },
    /// The client is in as many rooms as
    /// [`HubConfig::max_rooms_per_client`](crate::HubConfig::max_rooms_per_client) allows.
    #[error("the limit of {limit} rooms for one client is reached")]
    TooManyRooms {
        /// The maximum number of rooms.
        limit: usize,
    },
    /// The name of a room is longer than [`Room::MAX_NAME`](crate::Room::MAX_NAME).
    #[error("room name has {len} bytes, at most {max} are allowed", max = MAX_ROOM_NAME)]
    RoomName {
        /// The length of the name in bytes.
        len: usize,
    },
    /// The key of a client is longer than 1024 bytes.
    #[error("the client's key has {len} bytes, at most {max} are allowed", max = MAX_ROOM_NAME)]
    Key {
        /// The length of the key in bytes.
        len: usize,
    },
    /// The client is no longer registered with the hub.
    #[error("the client is no longer connected")]
    NotConnected,
    /// The close code or reason for a shutdown cannot be sent (RFC 6455 §5.5, §7.4).
    #[error(transparent)]
    InvalidClose(#[from] FrameError),
}

longwire_connection::debug_with_causes!(HubError);

/// An error of [`Hub::run`](crate::Hub::run) or [`Socket::run`](crate::Socket::run).
#[derive(Clone, thiserror::Error)]
#[non_exhaustive]
pub enum RunError<E> {
    /// The hub did not admit the client, for a reason listed at [`Hub::admit`](crate::Hub::admit). The handler
    /// was not called.
    #[error("the client was not admitted: {0}")]
    Refused(HubError),
    /// The client had not left by the deadline of the hub's shutdown: the connection and the handler were dropped.
    #[error("the handler was dropped at the shutdown deadline")]
    Aborted,
    /// The handler failed.
    #[error("the handler failed: {0}")]
    Handler(E),
}

impl<E: fmt::Debug> fmt::Debug for RunError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(error) => write!(f, "the client was not admitted: {error:?}"),
            Self::Aborted => f.write_str("the handler was dropped at the shutdown deadline"),
            Self::Handler(error) => write!(f, "the handler failed: {error:?}"),
        }
    }
}
