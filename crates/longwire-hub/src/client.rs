//! The methods of [`ClientHandle`]: a client's identity, and how to reach it.

use std::any::Any;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use longwire_connection::{Error, Message, Sender};

use crate::config::{HubConfig, SlowPolicy};
use crate::entry::{ClientHandle, Entry};
use crate::error::HubError;
use crate::id::ClientId;
use crate::stats::ClientStats;
use crate::sync::Ordering;

impl ClientHandle {
    /// Returns the client's ID.
    pub fn id(&self) -> ClientId {
        self.entry.id
    }

    /// Returns the peer's address, if it has one. For a client that reached longwire's server through a trusted
    /// proxy, it is the address that the proxy reports, with port 0 if the proxy reports no port.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.entry.peer_addr
    }

    /// Returns the application's data for this client, if it is a `T`.
    pub fn data<T: Any + Send + Sync>(&self) -> Option<&T> {
        self.entry.data()
    }

    /// Sets the application's data of this type for this client, once.
    ///
    /// All tasks read it by reference, so anything in it that changes needs its own lock or atomic. It is dropped
    /// with the last handle to this client.
    ///
    /// # Errors
    ///
    /// The data that was passed in, if the client already has data of this type.
    pub fn set_data<T: Any + Send + Sync>(&self, data: T) -> Result<(), T> {
        self.entry.set_data(data)
    }

    /// Returns this client's key, if it has one.
    pub fn key(&self) -> Option<Arc<str>> {
        self.entry.key()
    }

    /// Sets this client's key, such as the ID of its user, instead of an earlier one.
    ///
    /// Several clients may have the same key, like the windows in which one user is logged in.
    /// [`Hub::send_to`](crate::Hub::send_to) sends to all clients with a key, and
    /// [`Hub::clients_of`](crate::Hub::clients_of) returns them.
    ///
    /// # Errors
    ///
    /// [`HubError::Key`] for a key of more than 1024 bytes, [`HubError::NotConnected`] if the client has left.
    pub fn set_key(&self, key: impl AsRef<str>) -> Result<(), HubError> {
        self.entry.set_key(key.as_ref())
    }

    /// Removes this client's key. Does nothing if it has none.
    pub fn remove_key(&self) {
        self.entry.remove_key();
    }

    /// Returns this client's own policy; `None` if the hub's policy applies.
    pub fn slow_policy(&self) -> Option<SlowPolicy> {
        self.entry.slow_policy()
    }

    /// Returns the policy that applies to this client.
    pub(crate) fn policy(&self, config: &HubConfig) -> SlowPolicy {
        self.slow_policy().unwrap_or(config.slow)
    }

    /// Changes the policy for this client if it does not keep up, from the next broadcast on. `None` selects the
    /// hub's, [`HubConfig::slow`](crate::HubConfig::slow).
    pub fn set_slow_policy(&self, slow_policy: impl Into<Option<SlowPolicy>>) {
        self.entry.set_slow_policy(slow_policy.into());
    }

    /// Sends one message to this client, and waits until the transport has taken it or has failed.
    ///
    /// It waits for space in the queue as [`Sender::send`] does, whatever the [`SlowPolicy`]. A message that the
    /// transport has taken has not necessarily reached the peer.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`] if the connection was closing, or ended before the message was written; [`Error::Io`] if
    /// the transport failed. Either way, the message did not reach the transport.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the message is sent whole or not at all, and the caller cannot tell which.
    pub async fn send(&self, message: impl Into<Message>) -> Result<(), Error> {
        self.entry.sender.send_flushed(message).await
    }

    /// Returns a handle to send to this client, or to close it, from any task.
    ///
    /// Messages sent this way are not subject to the [`SlowPolicy`]: if the queue is full,
    /// `send` waits and `try_send` refuses.
    pub fn sender(&self) -> &Sender {
        &self.entry.sender
    }

    /// Adds this client to a room until it [leaves](Self::leave) the room or disconnects. Returns whether it was
    /// not in the room before.
    ///
    /// A room is created for its first member and removed with its last one;
    /// [`Hub::publish`](crate::Hub::publish) sends to it.
    ///
    /// # Errors
    ///
    /// [`HubError::TooManyRooms`] above
    /// [`HubConfig::max_rooms_per_client`](crate::HubConfig::max_rooms_per_client), [`HubError::RoomName`] for a
    /// name above [`Room::MAX_NAME`](crate::Room::MAX_NAME) bytes, and [`HubError::NotConnected`] for a client
    /// that is no longer registered.
    pub fn join(&self, room: impl AsRef<str>) -> Result<bool, HubError> {
        self.entry.join(room.as_ref())
    }

    /// Removes this client from a room. Returns whether it was in the room.
    ///
    /// Messages published after this call do not reach it; a message that is being published during the call may.
    pub fn leave(&self, room: impl AsRef<str>) -> bool {
        self.entry.leave(room.as_ref())
    }

    /// Returns the names of the rooms that this client is in, in no particular order.
    pub fn rooms(&self) -> Vec<Arc<str>> {
        self.entry.room_names()
    }

    /// Returns the counts of this client since it was admitted.
    pub fn stats(&self) -> ClientStats {
        let Entry { home, since, sender, .. } = &*self.entry;
        ClientStats {
            connected_for: home.hub.inner.age().saturating_sub(Duration::from_nanos(*since)),
            dropped: self.dropped(),
            replaced: self.entry.replaced(),
            connection: sender.stats(),
        }
    }

    /// Returns the number of broadcast messages that this client did not get because it was slow.
    pub fn dropped(&self) -> u64 {
        self.entry.dropped.load(Ordering::Relaxed)
    }
}
