//! One client as the others see it: who it is, and how to reach it. What the hub keeps for it is [`crate::entry`]'s.

use std::any::Any;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use longwire_connection::{Error, Message, Sender};

use crate::entry::{Data, Entry};
use crate::stats::ClientStats;
use crate::{HubError, Place, SlowPolicy};

/// The name of a client within its hub: counted from 1, never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(pub(crate) u64);

impl ClientId {
    /// The number.
    pub const fn value(self) -> u64 {
        self.0
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a hub is told about a client that it admits.
#[derive(Default)]
#[non_exhaustive]
pub struct ClientInfo {
    /// The address at the other end; `None` where there is none, such as behind a Unix socket.
    pub peer_addr: Option<SocketAddr>,
    /// What happens to this client if it does not keep up; `None` for what the hub does with all.
    pub slow_policy: Option<SlowPolicy>,
    /// How many bytes may wait for this client before a broadcast counts it as slow; `None` for
    /// [`HubConfig::queue`](crate::HubConfig::queue).
    pub queue: Option<usize>,
    /// How many rooms this client may be in; `None` for
    /// [`HubConfig::max_rooms_per_client`](crate::HubConfig::max_rooms_per_client).
    pub max_rooms: Option<usize>,
    pub(crate) data: Option<Data>,
    pub(crate) place: Option<Place>,
}

impl ClientInfo {
    /// Sets the address at the other end. Default: none.
    #[must_use]
    pub fn peer_addr(mut self, peer_addr: impl Into<Option<SocketAddr>>) -> Self {
        self.peer_addr = peer_addr.into();
        self
    }

    /// Sets what happens to this client if it does not keep up. Default: what the hub does with all.
    #[must_use]
    pub fn slow_policy(mut self, slow_policy: impl Into<Option<SlowPolicy>>) -> Self {
        self.slow_policy = slow_policy.into();
        self
    }

    /// Sets how many bytes may wait for this client before a broadcast counts it as slow. Default: what the hub does with
    /// all.
    #[must_use]
    pub fn queue(mut self, queue: impl Into<Option<usize>>) -> Self {
        self.queue = queue.into();
        self
    }

    /// Sets how many rooms this client may be in. Default: what the hub does with all.
    #[must_use]
    pub fn max_rooms(mut self, max_rooms: impl Into<Option<usize>>) -> Self {
        self.max_rooms = max_rooms.into();
        self
    }

    /// Sets the place that was [reserved](crate::Hub::reserve) for this client, which is then admitted whatever the limits
    /// say. Default: none; there has to be one when it is admitted.
    ///
    /// A place of another hub, or for another address, is given back and not used. One that was reserved without an address
    /// counts for the client's from then on, if as many from there may be.
    #[must_use]
    pub fn place(mut self, place: Place) -> Self {
        self.place = Some(place);
        self
    }

    /// Sets what the application keeps for this client: [`Client::data`] gives it to everybody. Default: nothing.
    #[must_use]
    pub fn data(mut self, data: impl Any + Send + Sync) -> Self {
        self.data = Some(Box::new(data));
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

/// A handle to one client of a hub, cheap to clone. It does not keep the client connected.
#[derive(Clone)]
pub struct Client {
    pub(crate) entry: Arc<Entry>,
}

impl Client {
    /// The client's name within its hub.
    pub fn id(&self) -> ClientId {
        self.entry.id
    }

    /// The address at the other end, where there is one. Of a client of longwire's server that came by a trusted proxy it is
    /// the address that the proxy tells, with port 0 where the proxy tells none.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.entry.peer_addr
    }

    /// What the application keeps for this client, if that is a `T`.
    pub fn data<T: Any + Send + Sync>(&self) -> Option<&T> {
        self.entry.data()
    }

    /// Sets what the application keeps for this client, once.
    ///
    /// Everybody reads it by reference, so what changes in it needs a lock or an atomic of its own. It is dropped with the
    /// last handle to this client.
    ///
    /// # Errors
    ///
    /// What was given, if there is something already.
    pub fn set_data<T: Any + Send + Sync>(&self, data: T) -> Result<(), T> {
        self.entry.set_data(data)
    }

    /// What happens to this client if it does not keep up; `None` for what the hub does with all.
    pub fn slow_policy(&self) -> Option<SlowPolicy> {
        self.entry.slow_policy()
    }

    /// Changes what happens to this client if it does not keep up, from the next broadcast on. `None` for
    /// [`HubConfig::slow`](crate::HubConfig::slow).
    pub fn set_slow_policy(&self, slow_policy: impl Into<Option<SlowPolicy>>) {
        self.entry.set_slow_policy(slow_policy.into());
    }

    /// Sends one message to this client alone, and waits until the transport has taken it, or has failed to.
    ///
    /// It waits for room as [`Sender::send`] does, whatever the [`SlowPolicy`]. That the transport has taken a message does
    /// not say that the peer has received it.
    ///
    /// # Errors
    ///
    /// Why the message did not reach the transport: [`Error::Closed`] if the connection was closing, or ended before
    /// it was the message's turn, [`Error::Io`] if the transport failed.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the message is sent whole or not at all; which of both is not known.
    pub async fn send(&self, message: impl Into<Message>) -> Result<(), Error> {
        self.entry.sender.send_flushed(message).await
    }

    /// How to send to this client, or to close it, from any task.
    ///
    /// What is sent this way is not subject to the [`SlowPolicy`](crate::SlowPolicy): `send` waits for room, `try_send`
    /// refuses.
    pub fn sender(&self) -> &Sender {
        &self.entry.sender
    }

    /// Lets this client into a room, until it [leaves](Self::leave) or is connected no more. Returns whether it was not in
    /// there before.
    ///
    /// A room is there for its first member and gone with its last one; [`Hub::publish`](crate::Hub::publish) sends to it.
    ///
    /// # Errors
    ///
    /// [`HubError::TooManyRooms`] above [`HubConfig::max_rooms_per_client`](crate::HubConfig::max_rooms_per_client),
    /// [`HubError::RoomName`] for a name above [`Room::MAX_NAME`](crate::Room::MAX_NAME) bytes, and
    /// [`HubError::NotConnected`] for a client that is registered no more.
    pub fn join(&self, room: impl AsRef<str>) -> Result<bool, HubError> {
        self.entry.join(room.as_ref())
    }

    /// Lets this client out of a room. Returns whether it was in there.
    ///
    /// What is published after this call does not reach it; what is being published meanwhile may.
    pub fn leave(&self, room: impl AsRef<str>) -> bool {
        self.entry.leave(room.as_ref())
    }

    /// The names of the rooms that this client is in, in no order.
    pub fn rooms(&self) -> Vec<Arc<str>> {
        self.entry.room_names()
    }

    /// Counts of this client since it was admitted.
    pub fn stats(&self) -> ClientStats {
        let Entry { home, since, sender, .. } = &*self.entry;
        ClientStats {
            connected_for: home.hub.inner.age().saturating_sub(Duration::from_nanos(*since)),
            dropped: self.dropped(),
            connection: sender.stats(),
        }
    }

    /// How many broadcast messages this client did not get because it was slow.
    pub fn dropped(&self) -> u64 {
        self.entry.dropped.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("id", &self.entry.id)
            .field("peer_addr", &self.entry.peer_addr)
            .finish_non_exhaustive()
    }
}
