//! Rooms as applications see them: a name, and sending to those who are there.

use std::fmt;
use std::sync::Arc;

use longwire_connection::{Message, PreparedMessage};

use crate::{Client, ClientId, Delivery, Hub};

/// A handle to the room of one name, cheap to clone.
///
/// It is the name that it keeps, not the room: that is there while somebody is in it, and costs nothing otherwise. What
/// a room costs to send to depends on how many are in it, not on how many are connected.
#[derive(Clone)]
pub struct Room {
    hub: Hub,
    name: Arc<str>,
}

impl Hub {
    /// The room of this name, whether somebody is in it or not.
    pub fn room(&self, name: impl AsRef<str>) -> Room {
        Room { hub: self.clone(), name: name.as_ref().into() }
    }

    /// The names of the rooms that somebody is in, in no order.
    ///
    /// Nobody joins or leaves a room while they are copied. With very many rooms, do not call it for each message.
    pub fn rooms(&self) -> Vec<Arc<str>> {
        self.inner.rooms.names()
    }

    /// Sends a message to everybody in a room.
    ///
    /// As [`broadcast`](Self::broadcast): it is framed once, compressed once for each window size that somebody needs, and
    /// nothing waits. Where nobody is in the room, it is not even framed. A client that leaves meanwhile may still get
    /// the message; one whose [`leave`](Client::leave) has returned before gets none.
    pub fn publish(&self, room: impl AsRef<str>, message: impl Into<Message>) -> Delivery {
        self.publish_to(room.as_ref(), message.into(), |_| true)
    }

    /// Sends a message to everybody in a room but one: usually the one that it came from, who may be there or not.
    pub fn publish_except(
        &self,
        room: impl AsRef<str>,
        id: ClientId,
        message: impl Into<Message>,
    ) -> Delivery {
        self.publish_to(room.as_ref(), message.into(), |client| client.id() != id)
    }

    fn publish_to(&self, room: &str, message: Message, to: impl FnMut(&Client) -> bool) -> Delivery {
        match self.members_of(room) {
            Some(members) => self.deliver_to(&members, &PreparedMessage::new(message), to),
            None => Delivery::default(),
        }
    }

    /// Who is in a room; `None` if there is no such room.
    pub(crate) fn members_of(&self, room: &str) -> Option<Arc<[Client]>> {
        self.inner.rooms.find(room).map(|room| room.members())
    }
}

impl Room {
    /// How many bytes the name of a room has at most: 1024. Names may come from peers, and each room keeps its own.
    pub const MAX_NAME: usize = 1024;

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Who is in the room now, in the order in which they connected.
    pub fn members(&self) -> Arc<[Client]> {
        self.hub.members_of(&self.name).unwrap_or_default()
    }

    /// How many are in the room.
    pub fn len(&self) -> usize {
        self.hub.inner.rooms.find(&self.name).map_or(0, |room| room.len())
    }

    /// Whether nobody is in the room.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether this client is in the room.
    pub fn contains(&self, id: ClientId) -> bool {
        self.hub.inner.rooms.find(&self.name).is_some_and(|room| room.contains(id))
    }

    /// Sends a message to everybody in the room, as [`Hub::publish`] does.
    pub fn publish(&self, message: impl Into<Message>) -> Delivery {
        self.hub.publish(&self.name, message)
    }

    /// Sends a message to everybody in the room but one, as [`Hub::publish_except`] does.
    pub fn publish_except(&self, id: ClientId, message: impl Into<Message>) -> Delivery {
        self.hub.publish_except(&self.name, id, message)
    }

    /// Sends a message that was framed before to those in the room that `to` picks.
    pub fn publish_prepared(&self, prepared: &PreparedMessage, to: impl FnMut(&Client) -> bool) -> Delivery {
        self.hub.deliver_to(&self.members(), prepared, to)
    }
}

impl fmt::Debug for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Room").field("name", &self.name).field("members", &self.len()).finish_non_exhaustive()
    }
}
