//! Messages that wait to be appended to the history of rooms, in order and within a bound.
//!
//! Unlike what is in [`crate::outbox`], it waits while the broker is away, and is handed over again if it may not have
//! arrived. The broker recognizes repetitions by the node and the number.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use crate::channel::NodeId;
use crate::envelope::{Body, Envelope, Post};

/// A message for the history of a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Append {
    /// The name of the room.
    pub room: Arc<str>,
    /// The number of the message among those that its node appends to any room: each is larger than the ones before.
    pub number: u64,
    /// The payload.
    pub payload: Bytes,
}

/// The messages that wait for the history.
pub(crate) struct Appends {
    me: NodeId,
    limit: usize,
    /// The largest payload that the broker takes.
    max_payload: usize,
    queue: Mutex<Queue>,
    added: Notify,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Append>,
    /// The bytes of those that wait, and of those that were taken and are not done.
    bytes: usize,
    last: u64,
    /// The rooms in which messages were refused since that was told there.
    refused: BTreeSet<Arc<str>>,
    is_stopped: bool,
}

impl Appends {
    pub(crate) fn new(me: NodeId, limit: usize, max_payload: usize) -> Self {
        Self { me, limit, max_payload, queue: Mutex::default(), added: Notify::new() }
    }

    /// Adds a message. Returns whether it will be handed to the broker; `None` once the node has left.
    pub(crate) fn post(&self, room: Arc<str>, post: Post) -> Option<bool> {
        if self.lock().is_stopped {
            return None;
        }
        // Before the lock, because it copies the message.
        let envelope = Envelope::unnumbered(self.me, post);
        let mut queue = self.lock();
        if queue.is_stopped {
            return None;
        }
        let cost = room.len() + envelope.len() + OVERHEAD;
        let has_room = queue.bytes == 0 || queue.bytes + cost <= self.limit;
        if !has_room || envelope.len() > self.max_payload {
            return Some(false);
        }
        if queue.refused.remove(&room) {
            queue.tell_loss(self.me, Arc::clone(&room));
        }
        queue.add(room, |number| envelope.numbered(number, 0));
        drop(queue);
        self.added.notify_one();
        Some(true)
    }

    /// Notes that a message for a room is lost. That becomes a part of the history: whoever gets what follows gets that
    /// as well. Returns whether there is room to note it.
    pub(crate) fn refuse(&self, room: Arc<str>) -> bool {
        let mut queue = self.lock();
        let fits = queue.refused.len() < MOST || queue.refused.contains(&room);
        if fits {
            queue.refused.insert(room);
        }
        drop(queue);
        self.added.notify_one();
        fits
    }

    /// Waits until something is here, and takes it: about [`BATCH`] bytes at most, and at least one message. It counts
    /// until it is [done](Self::done). `None` once the node has left and everything was taken.
    pub(crate) async fn take(&self) -> Option<Vec<Append>> {
        loop {
            {
                let mut queue = self.lock();
                let mut batch = Vec::new();
                let mut taken = 0;
                while taken < BATCH
                    && let Some(append) = queue.waiting.pop_front()
                {
                    taken += append.cost();
                    batch.push(append);
                }
                if !batch.is_empty() {
                    return Some(batch);
                }
                if let Some(room) = queue.refused.pop_first() {
                    queue.tell_loss(self.me, room);
                    continue;
                }
                if queue.is_stopped {
                    return None;
                }
            }
            self.added.notified().await;
        }
    }

    /// Notes that the broker has a batch, or that it was given up.
    pub(crate) fn done(&self, batch: &[Append]) {
        self.lock().bytes -= batch.iter().map(Append::cost).sum::<usize>();
    }

    /// Adds nothing more. [`take`](Self::take) ends once everything was taken.
    pub(crate) fn stop(&self) {
        self.lock().is_stopped = true;
        self.added.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // No panic can leave it half changed.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn add(&mut self, room: Arc<str>, payload: impl FnOnce(u64) -> Bytes) {
        self.last += 1;
        let append = Append { room, number: self.last, payload: payload(self.last) };
        self.bytes += append.cost();
        self.waiting.push_back(append);
    }

    /// Adds the news that messages for a room were lost.
    fn tell_loss(&mut self, from: NodeId, room: Arc<str>) {
        self.add(room, |seq| Envelope { from, body: Body::Lost { seq } }.encode());
    }
}

impl Append {
    fn cost(&self) -> usize {
        self.room.len() + self.payload.len() + OVERHEAD
    }
}

/// The bytes that are handed to the broker at once.
const BATCH: usize = 256 * 1024;

/// The memory that a message takes beyond its payload and the name of its room.
const OVERHEAD: usize = 64;

/// The rooms of refused messages that are remembered.
const MOST: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use longwire_connection::Message;

    use super::*;

    fn post(text: &str) -> Post {
        Post { seq: 0, previous: 0, except: None, latest: None, message: Message::text(text.to_owned()) }
    }

    fn texts(batch: &[Append]) -> Vec<String> {
        let text = |append: &Append| match Envelope::decode(append.payload.clone()).map(|it| it.body) {
            Ok(Body::Message(Post { message: Message::Text(text), seq, .. })) => format!("{seq} {text}"),
            Ok(Body::Lost { seq }) => format!("{seq} lost in {}", append.room),
            other => panic!("{other:?}"),
        };
        batch.iter().map(text).collect()
    }

    #[tokio::test]
    async fn what_does_not_fit_is_refused_and_that_is_told_before_what_follows() {
        // Two fit, with what precedes the payload.
        let appends = Appends::new(NodeId(1), 210, 1000);
        let add = |text: &str| {
            let added = appends.post("a".into(), post(text));
            if added == Some(false) {
                assert!(appends.refuse("a".into()));
            }
            added
        };
        assert_eq!((add("x"), add("y"), add("z")), (Some(true), Some(true), Some(false)));
        let batch = appends.take().await.expect("there are two");
        assert_eq!(texts(&batch), ["1 x", "2 y"]);
        // It may have to be handed over again.
        assert_eq!(add("z"), Some(false));
        appends.done(&batch);
        assert_eq!((add("w"), add(&"x".repeat(1000))), (Some(true), Some(false)));
        assert!(appends.refuse("b".into()));
        let batch = appends.take().await.expect("there are two");
        assert_eq!(texts(&batch), ["3 lost in a", "4 w"]);
        appends.done(&batch);
        assert_eq!(texts(&appends.take().await.expect("it is told")), ["5 lost in a"]);
        appends.stop();
        assert_eq!(add("late"), None);
        assert_eq!(texts(&appends.take().await.expect("it is told")), ["6 lost in b"]);
        assert_eq!(appends.take().await, None);
    }

    #[tokio::test]
    async fn one_message_of_any_size_waits() {
        let appends = Appends::new(NodeId(1), 1, 10_000);
        assert_eq!(appends.post("a".into(), post(&"x".repeat(5000))), Some(true));
        assert_eq!(appends.post("a".into(), post("x")), Some(false));
    }
}
