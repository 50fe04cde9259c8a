//! The messages that were not delivered yet: one bounded queue, which outlives connections.
//!
//! This module owns their order, the free space, and the waiting tasks. [`super::serve`] sends them over a
//! connection.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use longwire_connection::{Error, Message};
use tokio::time::{Instant, sleep_until};

use crate::sync::{Mutex, MutexGuard, Notify, OwnedSemaphorePermit, Semaphore, oneshot, watch};

/// The queue. Entries leave it in order at the front, or anywhere when they are withdrawn.
pub(super) struct Outbox {
    messages: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    max_bytes: u32,
    queue: Mutex<Queue>,
    /// Notified when a message is queued.
    queued: Notify,
    /// Notified when a message is handed over.
    handed: Notify,
    settled: watch::Sender<Settled>,
}

#[derive(Default)]
struct Queue {
    entries: VecDeque<Entry>,
    /// The number of entries, from the front, that were handed over to the current connection.
    handed: usize,
    /// The number of the next entry. Numbers increase along the queue.
    next: u64,
    /// Set once messages are no longer accepted.
    closed: bool,
    /// Set once the queue was also emptied for good.
    stopped: bool,
}

/// One message.
struct Entry {
    number: u64,
    message: Message,
    /// The time at which the message was handed over to the current connection.
    handed: Option<Instant>,
    /// Signals the delivery to a waiting call. `None` if no call ever waited for it.
    delivered: Option<oneshot::Sender<()>>,
    /// The space that the message occupies, freed when the entry is dropped.
    _room: Room,
}

/// The space for one message.
pub(super) struct Room {
    _message: OwnedSemaphorePermit,
    _bytes: OwnedSemaphorePermit,
}

/// The progress of deliveries.
#[derive(Clone, Copy, Default)]
struct Settled {
    /// Every message with a smaller number was delivered or withdrawn.
    below: u64,
    stopped: bool,
}

impl Outbox {
    pub(super) fn new(max_messages: usize, max_bytes: usize) -> Self {
        let max_bytes = u32::try_from(max_bytes).unwrap_or(u32::MAX).max(1);
        // A semaphore's own limit exceeds any possible memory on 64 bits; on 32 bits, `max_bytes` can exceed the
        // limit.
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

    /// Waits, in turn, for space for a message of this many bytes. A message above the limit waits for all the space.
    pub(super) async fn room(&self, len: usize) -> Result<Room, Error> {
        let message = Arc::clone(&self.messages).acquire_owned().await.map_err(|_| Error::Closed)?;
        let bytes = Arc::clone(&self.bytes).acquire_many_owned(self.cost(len)).await;
        Ok(Room { _message: message, _bytes: bytes.map_err(|_| Error::Closed)? })
    }

    /// Reserves space if there is enough now.
    pub(super) fn try_room(&self, len: usize) -> Result<Room, Error> {
        let refused = || if self.messages.is_closed() { Error::Closed } else { Error::QueueFull };
        let message = Arc::clone(&self.messages).try_acquire_owned().map_err(|_| refused())?;
        let bytes = Arc::clone(&self.bytes).try_acquire_many_owned(self.cost(len));
        Ok(Room { _message: message, _bytes: bytes.map_err(|_| refused())? })
    }

    fn cost(&self, len: usize) -> u32 {
        u32::try_from(len).unwrap_or(u32::MAX).min(self.max_bytes)
    }

    /// Queues a message and returns its number.
    pub(super) fn push(
        &self,
        message: Message,
        room: Room,
        delivered: Option<oneshot::Sender<()>>,
    ) -> Result<u64, Error> {
        let mut queue = self.lock();
        if queue.closed {
            // The space was reserved before the close, but a message queued now might never be sent.
            return Err(Error::Closed);
        }
        let number = queue.next;
        queue.next += 1;
        queue.entries.push_back(Entry { number, message, handed: None, delivered, _room: room });
        drop(queue);
        self.queued.notify_one();
        Ok(number)
    }

    /// Withdraws a message for which no call waits anymore. If it was handed over, it stays but is not sent again.
    pub(super) fn withdraw(&self, number: u64) {
        let mut queue = self.lock();
        if let Ok(at) = queue.entries.binary_search_by_key(&number, |entry| entry.number)
            && at >= queue.handed
        {
            queue.entries.remove(at);
            self.settle(&queue);
        }
    }

    /// Hands the next message over to the current connection, with its number. It stays queued until it is delivered.
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

    /// Records that the messages handed over are delivered, up to this number.
    pub(super) fn delivered(&self, number: u64) {
        let mut queue = self.lock();
        while queue.handed > 0 && queue.entries.front().is_some_and(|entry| entry.number <= number) {
            queue.handed -= 1;
            if let Some(waiting) = queue.entries.pop_front().and_then(|entry| entry.delivered) {
                // The waiting call may have been dropped.
                let _ = waiting.send(());
            }
        }
        self.settle(&queue);
    }

    /// Records that the connection is gone: messages handed over to it are sent again in the same order, unless
    /// withdrawn.
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

    /// Returns the oldest message handed over to the current connection, and the time at which that was.
    fn oldest_handed(&self) -> Option<(u64, Instant)> {
        self.lock().entries.front().and_then(|entry| Some((entry.number, entry.handed?)))
    }

    /// Waits until a message is still undelivered this long after it was handed over.
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

    /// Waits until all messages queued so far are delivered or withdrawn. Fails if the queue is stopped first.
    pub(super) async fn wait_settled(&self) -> Result<(), Error> {
        let next = self.lock().next;
        let mut settled = self.settled.subscribe();
        let reached = settled.wait_for(|settled| settled.below >= next || settled.stopped).await;
        match reached {
            Ok(settled) if settled.below >= next => Ok(()),
            _ => Err(Error::Closed),
        }
    }

    /// Returns the number of queued messages and their total size in bytes.
    pub(super) fn waiting(&self) -> (usize, usize) {
        let queue = self.lock();
        (queue.entries.len(), queue.entries.iter().map(|entry| entry.message.len()).sum())
    }

    pub(super) fn is_closed(&self) -> bool {
        self.messages.is_closed()
    }

    /// Stops accepting messages.
    pub(super) fn close(&self) {
        self.messages.close();
        self.bytes.close();
        self.lock().closed = true;
    }

    /// Drops all queued messages. Calls that wait for one learn that it was not delivered.
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
        // Nothing panics while the lock is held.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(all(test, longwire_loom))]
mod models;

#[cfg(test)]
mod tests {
    use super::*;

    /// Another thread may close the queue between the two steps of queueing.
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
