//! What a hub refuses and why, and how a run ended other than well.

use longwire_connection::FrameError;

/// What a hub refuses.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// The hub is shutting down and takes no more clients.
    #[error("the hub is shutting down")]
    ShuttingDown,
    /// There are as many clients as there may be: [`HubConfig::max_clients`](crate::HubConfig::max_clients).
    #[error("there are {limit} clients already, which is all there may be")]
    Full {
        /// How many there may be.
        limit: usize,
    },
    /// From the client's address come as many as may:
    /// [`HubConfig::max_clients_per_address`](crate::HubConfig::max_clients_per_address).
    #[error("there are {limit} clients from this address already, which is all there may be")]
    FullForAddress {
        /// How many there may be.
        limit: usize,
    },
    /// The client is in as many rooms as it may be:
    /// [`HubConfig::max_rooms_per_client`](crate::HubConfig::max_rooms_per_client).
    #[error("the client is in {limit} rooms already, which is all it may be in")]
    TooManyRooms {
        /// How many it may be in.
        limit: usize,
    },
    /// The name of a room is longer than [`Room::MAX_NAME`](crate::Room::MAX_NAME).
    #[error("the name of a room has {len} bytes, at most {max} are allowed", max = crate::Room::MAX_NAME)]
    RoomName {
        /// How many bytes it has.
        len: usize,
    },
    /// The client is registered with the hub no more.
    #[error("the client is connected no more")]
    NotConnected,
    /// The close code or reason for a shutdown cannot be sent (RFC 6455 §5.5, §7.4).
    #[error(transparent)]
    InvalidClose(#[from] FrameError),
}

/// Why [`Hub::run`](crate::Hub::run) or [`Socket::run`](crate::Socket::run) did not end with its handler's success.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError<E> {
    /// The hub did not admit the client, as [`Hub::admit`](crate::Hub::admit) says: the handler was not called.
    #[error("the client was not admitted: {0}")]
    Refused(HubError),
    /// The hub's shutdown passed its deadline: the connection and the handler were dropped.
    #[error("the handler was dropped at the deadline of the shutdown")]
    Aborted,
    /// The handler failed.
    #[error("the handler failed: {0}")]
    Handler(E),
}
