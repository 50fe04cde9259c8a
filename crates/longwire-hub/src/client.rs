//! One client as the others see it: who it is, and how to reach it.

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use longwire_connection::Sender;

use crate::rooms::Joined;
use crate::{Hub, HubError};

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
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ClientInfo {
    /// The address at the other end; `None` where there is none, such as behind a Unix socket.
    pub peer_addr: Option<SocketAddr>,
}

impl ClientInfo {
    /// Sets the address at the other end. Default: none.
    #[must_use]
    pub fn peer_addr(mut self, peer_addr: impl Into<Option<SocketAddr>>) -> Self {
        self.peer_addr = peer_addr.into();
        self
    }
}

/// A handle to one client of a hub, cheap to clone. It does not keep the client connected.
#[derive(Clone)]
pub struct Client {
    pub(crate) entry: Arc<Entry>,
}

/// What the hub keeps for a client: one allocation of some 150 bytes.
pub(crate) struct Entry {
    pub(crate) id: ClientId,
    pub(crate) sender: Sender,
    pub(crate) info: ClientInfo,
    /// The registry holds this entry and this entry the registry, until the client leaves.
    pub(crate) hub: Hub,
    pub(crate) dropped: AtomicU64,
    /// How many [`Member`](crate::socket::Member)s there are; the last one takes the client out of the registry.
    pub(crate) holders: AtomicU32,
    /// Whether the client was closed for being slow.
    pub(crate) too_slow: AtomicBool,
    /// Whether the handler has to be dropped. Set before `task` is woken.
    killed: AtomicBool,
    presence: Mutex<Presence>,
}

/// What ties a client to the hub while it is connected, behind one lock for changes that are rare.
#[derive(Default)]
pub(crate) struct Presence {
    /// The task that runs the handler: it may wait for anything, so the connection alone could not wake it.
    task: Option<Waker>,
    /// The rooms it is in, if it is in any.
    pub(crate) rooms: Option<Box<Joined>>,
    /// Whether it is registered no more: it is in no room, and comes into none.
    pub(crate) has_left: bool,
}

impl Entry {
    pub(crate) fn new(id: ClientId, sender: Sender, info: ClientInfo, hub: Hub) -> Self {
        Self {
            id,
            sender,
            info,
            hub,
            dropped: AtomicU64::new(0),
            holders: AtomicU32::new(1),
            too_slow: AtomicBool::new(false),
            killed: AtomicBool::new(false),
            presence: Mutex::default(),
        }
    }

    /// Drops the connection, and the handler that is run on it.
    pub(crate) fn kill(&self) {
        self.killed.store(true, Ordering::Release);
        self.sender.abort();
        let task = self.presence().task.take();
        if let Some(task) = task {
            task.wake();
        }
    }

    /// Notes which task a kill has to wake; ask [`is_killed`](Self::is_killed) after that.
    pub(crate) fn set_task(&self, task: Option<Waker>) {
        let mut presence = self.presence();
        let before = std::mem::replace(&mut presence.task, task);
        drop(presence);
        drop(before);
    }

    pub(crate) fn presence(&self) -> MutexGuard<'_, Presence> {
        // Nothing that can panic leaves it half changed.
        self.presence.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[inline]
    pub(crate) fn is_killed(&self) -> bool {
        self.killed.load(Ordering::Acquire)
    }
}

impl Client {
    /// The client's name within its hub.
    pub fn id(&self) -> ClientId {
        self.entry.id
    }

    /// The address at the other end, where there is one.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.entry.info.peer_addr
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
    /// A room is there for its first member and gone with its last one; see [`Hub::publish`] for sending to it.
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

    /// How many broadcast messages this client did not get because it was slow.
    pub fn dropped(&self) -> u64 {
        self.entry.dropped.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("id", &self.entry.id)
            .field("peer_addr", &self.entry.info.peer_addr)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registered_client_costs_little() {
        assert!(size_of::<Entry>() <= 136, "{}", size_of::<Entry>());
    }
}
