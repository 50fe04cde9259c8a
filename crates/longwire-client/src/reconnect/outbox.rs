//! The messages that were not delivered yet: one bounded queue, which outlives connections.
//!
//! Owns their order, the room there is, and who waits for what. Sending them over a connection is [`super::serve`]'s.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use longwire_connection::{Error, Message};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio::time::{Instant, sleep_until};

/// The queue. Entries leave it at the front, in order, or anywhere when they are withdrawn.
pub(super) struct Outbox {
    messages: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    max_bytes: u32,
    queue: Mutex<Queue>,
    /// Something was queued.
    queued: Notify,
    /// Something was handed over.
    handed: Notify,
    settled: watch::Sender<Settled>,
}

#[derive(Default)]
struct Queue {
    entries: VecDeque<Entry>,
    /// How many of them, from the front, the present connection was given.
    handed: usize,
    /// The number that the next entry gets. They rise along the queue.
    next: u64,
    /// Nothing is taken any more.
    closed: bool,
    /// And nothing is there.
    stopped: bool,
}

/// One message.
struct Entry {
    number: u64,
    message: Message,
    /// When the present connection was given it.
    handed: Option<Instant>,
    /// Who waits for its delivery. `None` if nobody ever did.
    delivered: Option<oneshot::Sender<()>>,
    /// What it takes, given back when the entry is dropped.
    _room: Room,
}

/// Room for one message.
pub(super) struct Room {
    _message: OwnedSemaphorePermit,
    _bytes: OwnedSemaphorePermit,
}

/// How far deliveries have come.
#[derive(Clone, Copy, Default)]
struct Settled {
    /// Every message with a smaller number was delivered or withdrawn.
    below: u64,
    stopped: bool,
}

impl Outbox {
    pub(super) fn new(max_messages: usize, max_bytes: usize) -> Self {
        let max_bytes = u32::try_from(max_bytes).unwrap_or(u32::MAX).max(1);
        // A semaphore's own limit is beyond what can be held on 64 bits; on 32 bits it is not beyond `max_bytes`.
        let permits = |wanted: usize| Arc::new(Semaphore::new(wanted.clamp(1, Semaphore::MAX_PERMITS)));
        let bytes = permits(usize::try_from(max_bytes).unwrap_or(usize::MAX));
        let max_bytes = u32::try_from(bytes.available_permits()).unwrap_or(u32::MAX);
        Self {
            messages: permits(max_messages),
            bytes,
            max_bytes,
            queue: Mutex::default(),
            queued: Notify::new(),
            handed: Notify::new(),
            settled: watch::Sender::default(),
        }
    }

    /// Waits for room for a message of this many bytes, in turn. A message above the limit waits for all there is.
    pub(super) async fn room(&self, len: usize) -> Result<Room, Error> {
        let message = Arc::clone(&self.messages).acquire_owned().await.map_err(|_| Error::Closed)?;
        let bytes = Arc::clone(&self.bytes).acquire_many_owned(self.cost(len)).await;
        Ok(Room { _message: message, _bytes: bytes.map_err(|_| Error::Closed)? })
    }

    /// Takes room if there is some now.
    pub(super) fn try_room(&self, len: usize) -> Result<Room, Error> {
        let refused = || if self.messages.is_closed() { Error::Closed } else { Error::QueueFull };
        let message = Arc::clone(&self.messages).try_acquire_owned().map_err(|_| refused())?;
        let bytes = Arc::clone(&self.bytes).try_acquire_many_owned(self.cost(len));
        Ok(Room { _message: message, _bytes: bytes.map_err(|_| refused())? })
    }

    fn cost(&self, len: usize) -> u32 {
        u32::try_from(len).unwrap_or(u32::MAX).min(self.max_bytes)
    }

    /// Queues a message; yields its number.
    pub(super) fn push(
        &self,
        message: Message,
        room: Room,
        delivered: Option<oneshot::Sender<()>>,
    ) -> Result<u64, Error> {
        let mut queue = self.lock();
        if queue.closed {
            // The room was there before, but what is taken now might not be sent any more.
            return Err(Error::Closed);
        }
        let number = queue.next;
        queue.next += 1;
        queue.entries.push_back(Entry { number, message, handed: None, delivered, _room: room });
        drop(queue);
        self.queued.notify_one();
        Ok(number)
    }

    /// Takes a message back for which nobody waits any more. One that was handed over stays, but is not sent again.
    pub(super) fn withdraw(&self, number: u64) {
        let mut queue = self.lock();
        if let Ok(at) = queue.entries.binary_search_by_key(&number, |entry| entry.number)
            && at >= queue.handed
        {
            queue.entries.remove(at);
            self.settle(&queue);
        }
    }

    /// Gives the present connection the next message, with its number. It stays here until it is delivered.
    pub(super) fn hand_over(&self) -> Option<(u64, Message)> {
        let mut queue = self.lock();
        let at = queue.handed;
        let entry = queue.entries.get_mut(at)?;
        entry.handed = Some(Instant::now());
        let handed = (entry.number, entry.message.clone());
        queue.handed += 1;
        drop(queue);
        self.handed.notify_one();
        Some(handed)
    }

    /// Notes that what was handed over is delivered, up to this number.
    pub(super) fn delivered(&self, number: u64) {
        let mut queue = self.lock();
        while queue.handed > 0 && queue.entries.front().is_some_and(|entry| entry.number <= number) {
            queue.handed -= 1;
            if let Some(waiting) = queue.entries.pop_front().and_then(|entry| entry.delivered) {
                // Whoever waited may have gone.
                let _ = waiting.send(());
            }
        }
        self.settle(&queue);
    }

    /// Notes that the connection is gone: what it was given and nobody gave up is sent again, in the same order.
    pub(super) fn lose(&self) {
        let mut queue = self.lock();
        queue.handed = 0;
        queue.entries.retain(|entry| !entry.delivered.as_ref().is_some_and(oneshot::Sender::is_closed));
        for entry in &mut queue.entries {
            entry.handed = None;
        }
        self.settle(&queue);
    }

    /// Waits until there is a message to hand over.
    pub(super) async fn wait_queued(&self) {
        while !self.has_more() {
            self.queued.notified().await;
        }
    }

    fn has_more(&self) -> bool {
        let queue = self.lock();
        queue.entries.len() > queue.handed
    }

    /// The oldest message that the present connection was given, and when.
    fn oldest_handed(&self) -> Option<(u64, Instant)> {
        self.lock().entries.front().and_then(|entry| Some((entry.number, entry.handed?)))
    }

    /// Waits until a message has been handed over for this long.
    pub(super) async fn wait_overdue(&self, limit: Duration) {
        loop {
            let Some((number, handed)) = self.oldest_handed() else {
                self.handed.notified().await;
                continue;
            };
            let Some(due) = handed.checked_add(limit) else {
                return std::future::pending().await;
            };
            sleep_until(due).await;
            if self.oldest_handed().is_some_and(|(oldest, _)| oldest == number) {
                return;
            }
        }
    }

    /// Waits until all that is queued now is delivered or withdrawn; fails if it stops first.
    pub(super) async fn wait_settled(&self) -> Result<(), Error> {
        let next = self.lock().next;
        let mut settled = self.settled.subscribe();
        let reached = settled.wait_for(|settled| settled.below >= next || settled.stopped).await;
        match reached {
            Ok(settled) if settled.below >= next => Ok(()),
            _ => Err(Error::Closed),
        }
    }

    /// How many messages wait, and how many bytes they have.
    pub(super) fn waiting(&self) -> (usize, usize) {
        let queue = self.lock();
        (queue.entries.len(), queue.entries.iter().map(|entry| entry.message.len()).sum())
    }

    pub(super) fn is_closed(&self) -> bool {
        self.messages.is_closed()
    }

    /// Takes nothing more.
    pub(super) fn close(&self) {
        self.messages.close();
        self.bytes.close();
        self.lock().closed = true;
    }

    /// Drops all that is there: who waits is told that it was not delivered.
    pub(super) fn stop(&self) {
        self.close();
        let mut queue = self.lock();
        self.settle(&queue);
        queue.stopped = true;
        queue.handed = 0;
        queue.entries.clear();
        drop(queue);
        self.settled.send_modify(|settled| settled.stopped = true);
    }

    fn settle(&self, queue: &Queue) {
        if queue.stopped {
            return;
        }
        let below = queue.entries.front().map_or(queue.next, |entry| entry.number);
        self.settled.send_if_modified(|settled| {
            let moved = settled.below != below;
            settled.below = below;
            moved
        });
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing panics while it is held.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Another thread may close between the two steps of queueing.
    #[tokio::test]
    async fn nothing_is_taken_behind_the_close() {
        let outbox = Outbox::new(10, 10);
        let room = outbox.room(1).await.unwrap();
        let late = outbox.room(1).await.unwrap();
        outbox.push(Message::text("a"), room, None).unwrap();
        outbox.close();
        assert!(matches!(outbox.push(Message::text("b"), late, None), Err(Error::Closed)));
        assert_eq!(outbox.waiting(), (1, 1), "what was taken is still sent");
    }
}
