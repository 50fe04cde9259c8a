//! Rooms as applications see them: a name, and sending to the clients in the room.

use std::fmt;
use std::sync::Arc;

use longwire_connection::{Message, PreparedMessage};

use crate::broadcast::Delivery;
use crate::config::MAX_ROOM_NAME;
use crate::entry::ClientHandle;
use crate::id::ClientId;
use crate::members::Snapshot;
use crate::publication::{Published, Target};
use crate::registry::Hub;

/// A handle to the room with a given name; cheap to clone.
///
/// It holds the name and not the room, which exists while a client is in it and otherwise costs nothing. The cost
/// of sending to a room depends on the number of clients in it, not on the number of connected clients.
#[derive(Clone)]
pub struct Room {
    hub: Hub,
    name: Arc<str>,
}

impl Hub {
    /// Returns a handle to the room with this name, whether or not a client is in it.
    pub fn room(&self, name: impl AsRef<str>) -> Room {
        Room { hub: self.clone(), name: name.as_ref().into() }
    }

    /// Returns the names of the rooms that have members, in no particular order.
    ///
    /// No client can join or leave a room while the names are copied. With very many rooms, do not call this for
    /// each message.
    pub fn rooms(&self) -> Vec<Arc<str>> {
        self.inner.rooms.names()
    }

    /// Sends a message to every client in a room.
    ///
    /// As with [`broadcast`](Self::broadcast), the message is framed once and compressed once for each window
    /// size that a client needs, nothing waits, and the messages of a handler's turn are written together. If the
    /// room is empty, the message is not even framed. A client that leaves meanwhile may still get the message; a
    /// client whose [`leave`](ClientHandle::leave) has already returned does not.
    pub fn publish(&self, room: impl AsRef<str>, message: impl Into<Message>) -> Delivery {
        self.publish_to(room.as_ref(), message.into(), None)
    }

    /// Sends a message to every client in a room but one, usually the one that it came from. That client need not
    /// be in the room.
    pub fn publish_except(
        &self,
        room: impl AsRef<str>,
        id: ClientId,
        message: impl Into<Message>,
    ) -> Delivery {
        self.publish_to(room.as_ref(), message.into(), Some(id))
    }

    /// Sends a message to the clients in a room that are connected to this node, and not to those of other nodes.
    ///
    /// Without a cluster it is the same as [`publish`](Self::publish).
    pub fn publish_local(&self, room: impl AsRef<str>, message: impl Into<Message>) -> Delivery {
        self.publish_here(room.as_ref(), message.into(), None)
    }

    fn publish_to(&self, room: &str, message: Message, except: Option<ClientId>) -> Delivery {
        if self.is_relayed(Published::new(Target::Room(room), &message).except(except)) {
            return Delivery::default();
        }
        self.publish_here(room, message, except)
    }

    fn publish_here(&self, room: &str, message: Message, except: Option<ClientId>) -> Delivery {
        match self.members_of(room) {
            Some(members) => self
                .deliver_to(&members, &PreparedMessage::new(message), |client| Some(client.id()) != except),
            None => Delivery::default(),
        }
    }

    /// Returns the clients in a room; `None` if there is no such room.
    pub(crate) fn members_of(&self, room: &str) -> Option<Snapshot<ClientHandle>> {
        self.inner.rooms.find(room).map(|room| room.snapshot())
    }
}

impl Room {
    /// The maximum length of a room's name, in bytes: 1024. Names may come from peers, and each room keeps its own.
    pub const MAX_NAME: usize = MAX_ROOM_NAME;

    /// Returns the name.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn hub(&self) -> &Hub {
        &self.hub
    }

    /// Returns the clients that are in the room now, in the order in which they connected.
    pub fn members(&self) -> Arc<[ClientHandle]> {
        self.hub.inner.rooms.find(&self.name).map(|room| room.members()).unwrap_or_default()
    }

    /// Returns the number of clients in the room.
    pub fn len(&self) -> usize {
        self.hub.inner.rooms.find(&self.name).map_or(0, |room| room.len())
    }

    /// Returns whether the room is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns whether this client is in the room.
    pub fn contains(&self, id: ClientId) -> bool {
        self.hub.inner.rooms.find(&self.name).is_some_and(|room| room.contains(id))
    }

    /// Sends a message to every client in the room, as [`Hub::publish`] does.
    pub fn publish(&self, message: impl Into<Message>) -> Delivery {
        self.hub.publish(&self.name, message)
    }

    /// Sends a message to every client in the room but one, as [`Hub::publish_except`] does.
    pub fn publish_except(&self, id: ClientId, message: impl Into<Message>) -> Delivery {
        self.hub.publish_except(&self.name, id, message)
    }

    /// Sends a message to the clients in the room that are connected to this node, as [`Hub::publish_local`] does.
    pub fn publish_local(&self, message: impl Into<Message>) -> Delivery {
        self.hub.publish_local(&self.name, message)
    }

    /// Sends an already framed message to the clients in the room that `to` selects. In a cluster, it reaches no other
    /// node.
    pub fn publish_prepared(
        &self,
        prepared: &PreparedMessage,
        to: impl FnMut(&ClientHandle) -> bool,
    ) -> Delivery {
        let members = self.hub.members_of(&self.name).unwrap_or_default();
        self.hub.deliver_to(&members, prepared, to)
    }
}

impl fmt::Debug for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Room").field("name", &self.name).field("members", &self.len()).finish_non_exhaustive()
    }
}
