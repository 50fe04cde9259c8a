//! The received messages that the application has not taken yet: one bounded queue, which outlives connections.

use std::sync::Arc;

use longwire_connection::Message;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::Gap;

/// An item yielded by [`Reconnecting::next_event`](super::Reconnecting::next_event).
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// The peer sent a message.
    Message(Message),
    /// The connection was lost and re-established: messages may have been missed. All messages before this event came
    /// over earlier connections, all messages after it over this one or later ones.
    Reconnected(Gap),
}

/// An event and the space that it occupies.
struct Item {
    event: Event,
    _room: Option<OwnedSemaphorePermit>,
}

/// The end of the inbox that connections fill.
pub(super) struct Filling {
    items: mpsc::Sender<Item>,
    bytes: Arc<Semaphore>,
}

/// The end of the inbox from which the application receives.
pub(super) struct Taking {
    items: mpsc::Receiver<Item>,
}

/// A reserved place for one event.
pub(super) struct Slot<'a> {
    place: mpsc::Permit<'a, Item>,
    bytes: &'a Arc<Semaphore>,
}

/// A reserved place for one message, with space for its bytes.
pub(super) struct MessageSlot<'a> {
    place: mpsc::Permit<'a, Item>,
    room: Option<OwnedSemaphorePermit>,
}

/// Creates an empty inbox.
pub(super) fn inbox() -> (Filling, Taking) {
    let (filling, taking) = mpsc::channel(MAX_EVENTS);
    let bytes = Arc::new(Semaphore::new(MAX_BYTES));
    (Filling { items: filling, bytes }, Taking { items: taking })
}

impl Filling {
    /// Waits for a free place; returns `None` if the application will not receive anymore.
    pub(super) async fn slot(&self) -> Option<Slot<'_>> {
        let place = self.items.reserve().await.ok()?;
        Some(Slot { place, bytes: &self.bytes })
    }

    /// Returns whether the inbox waits for the application.
    pub(super) fn is_full(&self) -> bool {
        !self.items.is_closed() && (self.items.capacity() == 0 || self.bytes.available_permits() == 0)
    }
}

impl<'a> Slot<'a> {
    /// Waits for space for the bytes of a message; an empty inbox accepts a message of any size.
    pub(super) async fn room(self, len: usize) -> MessageSlot<'a> {
        let cost = u32::try_from(len.min(MAX_BYTES)).expect("the limit fits");
        // The semaphore is never closed.
        let room = Arc::clone(self.bytes).acquire_many_owned(cost).await.ok();
        MessageSlot { place: self.place, room }
    }

    /// Adds a notice that messages may be missing.
    pub(super) fn gap(self, gap: Gap) {
        self.place.send(Item { event: Event::Reconnected(gap), _room: None });
    }
}

impl MessageSlot<'_> {
    /// Adds the message.
    pub(super) fn message(self, message: Message) {
        self.place.send(Item { event: Event::Message(message), _room: self.room });
    }
}

impl Taking {
    /// Waits for the next event; returns `None` after the last.
    pub(super) async fn next(&mut self) -> Option<Event> {
        self.items.recv().await.map(|item| item.event)
    }
}

/// The amount that may wait for the application before the peer must wait: enough for the time between two calls, and
/// no more than a socket's own buffer holds.
const MAX_EVENTS: usize = 256;
const MAX_BYTES: usize = 1024 * 1024;
