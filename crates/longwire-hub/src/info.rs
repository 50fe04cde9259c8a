//! The information about a client that its admission needs.

use std::any::Any;
use std::fmt;
use std::net::SocketAddr;

use crate::config::SlowPolicy;
use crate::data::ClientData;
use crate::reservation::Reservation;

/// The information about a client that a hub needs to admit it.
#[derive(Default)]
#[non_exhaustive]
pub struct ClientInfo {
    /// The peer's address; `None` if it has none, as over a Unix socket.
    pub peer_addr: Option<SocketAddr>,
    /// The policy for this client if it does not keep up; `None` for the hub's,
    /// [`HubConfig::slow`](crate::HubConfig::slow).
    pub slow_policy: Option<SlowPolicy>,
    /// The number of bytes that may wait for this client before a broadcast counts it as slow; `None` for
    /// [`HubConfig::queue`](crate::HubConfig::queue).
    pub queue: Option<usize>,
    /// The maximum number of rooms that this client may be in; `None` for
    /// [`HubConfig::max_rooms_per_client`](crate::HubConfig::max_rooms_per_client).
    pub max_rooms: Option<usize>,
    pub(crate) data: ClientData,
    pub(crate) key: Option<String>,
    pub(crate) reservation: Option<Reservation>,
}

impl ClientInfo {
    /// Sets the peer's address. Default: none.
    #[must_use]
    pub fn peer_addr(mut self, peer_addr: impl Into<Option<SocketAddr>>) -> Self {
        self.peer_addr = peer_addr.into();
        self
    }

    /// Sets the policy for this client if it does not keep up. Default: the hub's policy.
    #[must_use]
    pub fn slow_policy(mut self, slow_policy: impl Into<Option<SlowPolicy>>) -> Self {
        self.slow_policy = slow_policy.into();
        self
    }

    /// Sets the number of bytes that may wait for this client before a broadcast counts it as slow.
    /// Default: the hub's limit.
    #[must_use]
    pub fn queue(mut self, queue: impl Into<Option<usize>>) -> Self {
        self.queue = queue.into();
        self
    }

    /// Sets the maximum number of rooms that this client may be in. Default: the hub's limit.
    #[must_use]
    pub fn max_rooms(mut self, max_rooms: impl Into<Option<usize>>) -> Self {
        self.max_rooms = max_rooms.into();
        self
    }

    /// Sets the place that was [reserved](crate::Hub::reserve) for this client, which is then admitted regardless
    /// of the limits. Default: none; then a place must be free when the client is admitted.
    ///
    /// A place that was reserved with another hub, or for another address, is given back and not used. A place
    /// that was reserved without an address is counted for the client's address from then on, if the limit for
    /// that address allows it.
    #[must_use]
    pub fn reservation(mut self, reservation: Reservation) -> Self {
        self.reservation = Some(reservation);
        self
    }

    /// Sets the application's data of this type for the client, which every task can read with
    /// [`ClientHandle::data`](crate::ClientHandle::data). It takes the place of an earlier value of the same type.
    /// Default: none.
    #[must_use]
    pub fn data(self, data: impl Any + Send + Sync) -> Self {
        self.data.replace(data);
        self
    }

    /// Sets all the application's data for the client, which shares it with the request.
    #[doc(hidden)]
    #[must_use]
    pub fn all_data(mut self, data: ClientData) -> Self {
        self.data = data;
        self
    }

    /// Returns the application's data for the client.
    #[doc(hidden)]
    pub fn client_data(&self) -> &ClientData {
        &self.data
    }

    /// Sets the client's key, such as the ID of its user; see [`ClientHandle::set_key`](crate::ClientHandle::set_key).
    /// Default: none.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }
}

impl fmt::Debug for ClientInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientInfo")
            .field("peer_addr", &self.peer_addr)
            .field("slow_policy", &self.slow_policy)
            .field("queue", &self.queue)
            .field("max_rooms", &self.max_rooms)
            .finish_non_exhaustive()
    }
}
