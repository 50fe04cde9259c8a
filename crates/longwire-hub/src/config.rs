//! Configuration of a hub: limits on its clients, and the policy for clients that do not keep up.

use std::time::Duration;

/// The configuration of a [`Hub`](crate::Hub).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HubConfig {
    /// The policy for a client whose queue is full. Default [`SlowPolicy::Close`].
    pub slow: SlowPolicy,
    /// The number of bytes that may wait for one client before a broadcast counts it as slow. Default 256 KiB.
    /// Each waiting message counts as some tens of bytes more than its length, because it takes that much memory.
    ///
    /// Messages of a handler's turn that are not written yet do not make a client slow: before the limit is applied,
    /// its transport is offered all that waits. A client with an empty queue accepts a broadcast of any size. Clients
    /// that have the same broadcast in their queues share its bytes.
    pub queue: usize,
    /// The time that a client closed for being slow has to leave before its connection is dropped. Default 5 s.
    pub leave_timeout: Duration,
    /// The maximum number of clients, including those whose handshake is being answered. Default: no limit. A
    /// change applies to clients that come after it.
    pub max_clients: Option<usize>,
    /// The maximum number of clients from one address; an IPv6 network of 64 bits counts as one
    /// address. Default: no limit.
    ///
    /// Clients without an address are not counted. Behind a proxy that is not transparent, all clients have the
    /// proxy's address.
    pub max_clients_per_address: Option<usize>,
    /// The maximum number of rooms that one client may be in. Default 1024: if peers choose the rooms, a single
    /// peer must not be able to fill the memory.
    pub max_rooms_per_client: Option<usize>,
}

impl Default for HubConfig {
    fn default() -> Self {
        Self {
            slow: SlowPolicy::Close,
            queue: 256 * 1024,
            leave_timeout: Duration::from_secs(5),
            max_clients: None,
            max_clients_per_address: None,
            max_rooms_per_client: Some(1024),
        }
    }
}

impl HubConfig {
    /// Sets [`slow`](Self::slow).
    #[must_use]
    pub fn with_slow(mut self, slow: SlowPolicy) -> Self {
        self.slow = slow;
        self
    }

    /// Sets [`queue`](Self::queue).
    #[must_use]
    pub fn with_queue(mut self, queue: usize) -> Self {
        self.queue = queue;
        self
    }

    /// Sets [`leave_timeout`](Self::leave_timeout).
    #[must_use]
    pub fn with_leave_timeout(mut self, leave_timeout: Duration) -> Self {
        self.leave_timeout = leave_timeout;
        self
    }

    /// Sets [`max_clients`](Self::max_clients).
    #[must_use]
    pub fn with_max_clients(mut self, max_clients: impl Into<Option<usize>>) -> Self {
        self.max_clients = max_clients.into();
        self
    }

    /// Sets [`max_clients_per_address`](Self::max_clients_per_address).
    #[must_use]
    pub fn with_max_clients_per_address(mut self, max_clients_per_address: impl Into<Option<usize>>) -> Self {
        self.max_clients_per_address = max_clients_per_address.into();
        self
    }

    /// Sets [`max_rooms_per_client`](Self::max_rooms_per_client).
    #[must_use]
    pub fn with_max_rooms_per_client(mut self, max_rooms_per_client: impl Into<Option<usize>>) -> Self {
        self.max_rooms_per_client = max_rooms_per_client.into();
        self
    }
}

/// The policy of a broadcast for a client whose queue has no space.
///
/// With any policy, the broadcast does not wait, and the other clients get the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SlowPolicy {
    /// The client does not get this message. Suits messages that are independent and of which the first ones matter.
    DropNewest,
    /// The oldest broadcasts that wait for the client are dropped to make space. Suits applications where the
    /// newest state matters.
    ///
    /// Messages sent to this client only are not dropped; if no other messages are waiting, the new one is dropped.
    DropOldest,
    /// The client is closed with code 1013 (try again later), and dropped if it does not leave. This is the
    /// default because a client that missed something then knows it. If neither the hub nor the caller has a
    /// tokio runtime, the client is dropped at once, because nothing keeps the time.
    Close,
}

/// The maximum length of a room's name, and of a client's key, in bytes. Names may come from peers, and each room
/// keeps its own.
pub(crate) const MAX_ROOM_NAME: usize = 1024;
