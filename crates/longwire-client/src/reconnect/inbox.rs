//! What has been received and was not taken yet: one bounded queue, which outlives connections.

use std::sync::Arc;

use longwire_connection::Message;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::Gap;

/// What [`Reconnecting::next_event`](super::Reconnecting::next_event) yields.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// The peer sent a message.
    Message(Message),
    /// The connection was lost and made again: messages may have been missed. All messages before it came over earlier
    /// connections, all behind it over this one or later ones.
    Reconnected(Gap),
}

/// An event and the room that it takes.
struct Item {
    event: Event,
    _room: Option<OwnedSemaphorePermit>,
}

/// The end that the connections fill.
pub(super) struct Filling {
    items: mpsc::Sender<Item>,
    bytes: Arc<Semaphore>,
}

/// The end that the application takes from.
pub(super) struct Taking {
    items: mpsc::Receiver<Item>,
}

/// A place for one event.
pub(super) struct Slot<'a> {
    place: mpsc::Permit<'a, Item>,
    bytes: &'a Arc<Semaphore>,
}

/// Makes an empty inbox.
pub(super) fn inbox() -> (Filling, Taking) {
    let (filling, taking) = mpsc::channel(MAX_EVENTS);
    let bytes = Arc::new(Semaphore::new(MAX_BYTES));
    (Filling { items: filling, bytes }, Taking { items: taking })
}

impl Filling {
    /// Waits for a place; `None` if nobody will take anything any more.
    pub(super) async fn slot(&self) -> Option<Slot<'_>> {
        let place = self.items.reserve().await.ok()?;
        Some(Slot { place, bytes: &self.bytes })
    }

    /// Whether it is the application that is waited for.
    pub(super) fn is_full(&self) -> bool {
        !self.items.is_closed() && (self.items.capacity() == 0 || self.bytes.available_permits() == 0)
    }
}

impl Slot<'_> {
    /// Puts a message in as soon as its bytes have room; an empty inbox takes any.
    pub(super) async fn message(self, message: Message) {
        let cost = u32::try_from(message.len().min(MAX_BYTES)).expect("the limit fits");
        // It is never closed.
        let room = Arc::clone(self.bytes).acquire_many_owned(cost).await.ok();
        self.place.send(Item { event: Event::Message(message), _room: room });
    }

    /// Puts in that something may be missing.
    pub(super) fn gap(self, gap: Gap) {
        self.place.send(Item { event: Event::Reconnected(gap), _room: None });
    }
}

impl Taking {
    /// Waits for the next event; `None` behind the last.
    pub(super) async fn next(&mut self) -> Option<Event> {
        self.items.recv().await.map(|item| item.event)
    }
}

/// How much waits for the application before the peer has to wait: enough for the time between two looks, and no more than a
/// socket's own buffer comes to.
const MAX_EVENTS: usize = 256;
const MAX_BYTES: usize = 1024 * 1024;
