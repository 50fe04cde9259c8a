//! The link of a hub to the hubs of other nodes: what it hears of, and what it delivers.
//!
//! Without the feature `cluster`, `no_uplink.rs` takes this file's place.

use std::sync::{Arc, OnceLock};

use longwire_connection::PreparedMessage;

use crate::broadcast::Delivery;
use crate::id::ClientId;
use crate::publication::{Published, Target};
use crate::registry::Hub;

/// The link of a hub to others.
///
/// The hub calls these methods from any thread, some of them while it holds a lock: they must return at once, and must
/// not call the hub.
pub trait Uplink: Send + Sync + 'static {
    /// Takes a message that was published on the hub. Returns whether the link also delivers it to the hub's own
    /// clients, by [`Hub::deliver_incoming`]; otherwise the hub does.
    fn publish(&self, published: Published<'_>) -> bool;

    /// Notes that a client has entered or left a room. For one room, the calls are in the order of the changes.
    fn moved(&self, room: &Arc<str>, client: ClientId, has_entered: bool);

    /// Notes that the first client has taken a key, or that the last one has given it up.
    fn keyed(&self, key: &Arc<str>, is_taken: bool);
}

/// A hub's link, once it has one.
pub(crate) type Slot = OnceLock<Arc<dyn Uplink>>;

impl Hub {
    /// Links the hub to others, for good. Returns `false` if it is linked already.
    ///
    /// The link hears of clients that enter a room or take a key from now on. Those that have done so before are found
    /// by [`rooms`](Self::rooms) and [`keys`](Self::keys).
    #[doc(hidden)]
    pub fn link(&self, uplink: &Arc<dyn Uplink>) -> bool {
        let inner = &self.inner;
        if inner.uplink.set(Arc::clone(uplink)).is_err() {
            return false;
        }
        let rooms = Arc::clone(uplink);
        inner.rooms.watch(Box::new(move |room, id, change| rooms.moved(room, id, change.has_entered)));
        let keys = Arc::clone(uplink);
        inner.keys.watch(Box::new(move |key, _, change| {
            if change.is_first_or_last {
                keys.keyed(key, change.has_entered);
            }
        }));
        true
    }

    /// Delivers a message from another hub to the clients of this one.
    #[doc(hidden)]
    pub fn deliver_incoming(&self, published: Published<'_>) -> Delivery {
        let Published { target, latest, except, message } = published;
        let clients = match target {
            Target::All => Some(self.snapshot()),
            Target::Room(room) => self.members_of(room),
            Target::Key(key) => self.members_by_key(key),
        };
        match (clients, latest) {
            (None, _) => Delivery::default(),
            (Some(clients), Some(key)) => self.deliver_latest(&clients, key, message.clone()),
            (Some(clients), None) => {
                let prepared = PreparedMessage::new(message.clone());
                self.deliver_to(&clients, &prepared, |client| Some(client.id()) != except)
            }
        }
    }

    /// Returns the keys that clients have, in no particular order.
    #[doc(hidden)]
    pub fn keys(&self) -> Vec<Arc<str>> {
        self.inner.keys.names()
    }

    /// Passes a message on to the link, if there is one. Returns whether the link delivers it here as well.
    #[inline]
    pub(crate) fn is_relayed(&self, published: Published<'_>) -> bool {
        self.inner.uplink.get().is_some_and(|uplink| uplink.publish(published))
    }
}
