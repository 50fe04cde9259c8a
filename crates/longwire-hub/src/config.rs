//! How a hub treats its clients: how many there may be of what, and what becomes of those that do not keep up.

use std::time::Duration;

/// How a [`Hub`](crate::Hub) treats its clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HubConfig {
    /// What happens to a client whose queue is full. Default [`SlowPolicy::Close`].
    pub slow: SlowPolicy,
    /// How many bytes may wait for one client before a broadcast counts it as slow. Default 256 KiB. Each waiting
    /// message counts for some tens of bytes more than it has, as it takes them in memory.
    ///
    /// A client for which nothing waits takes a broadcast of any size. The bytes of one broadcast are shared by all the
    /// clients that it waits for.
    pub queue: usize,
    /// How long a client that was closed for being slow has to leave before its connection is dropped. Default 5 s.
    pub leave_timeout: Duration,
    /// How many clients there may be, with those whose handshake is being answered. Default: any number. A change holds for
    /// those who come after it.
    pub max_clients: Option<usize>,
    /// How many of them may come from one address, where an IPv6 network of 64 bits counts as one. Default: any number.
    ///
    /// Clients without an address are not counted. Behind a proxy that is not transparent all have the proxy's.
    pub max_clients_per_address: Option<usize>,
    /// How many rooms one client may be in. Default 1024: where peers choose the rooms, one must not fill the memory.
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

/// What a broadcast does where a client's queue has no room.
///
/// Whatever it is, the broadcast does not wait and the other clients get the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SlowPolicy {
    /// The client does not get this message. Fits where messages are independent and the first ones matter.
    DropNewest,
    /// The oldest broadcasts that still wait for the client make room. Fits where the newest state matters.
    ///
    /// Messages that were sent to this client alone are not dropped; where nothing but those waits, the new one is.
    DropOldest,
    /// The client is closed with code 1013 (try again later), and dropped if it does not leave. The default: a client
    /// that missed something knows it. Where neither the hub nor the caller has a tokio runtime, it is dropped at once, as
    /// nothing keeps the time.
    Close,
}
