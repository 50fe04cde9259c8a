//! Messages that wait to be appended to the history of rooms, in order and within a bound.
//!
//! Unlike what is in [`crate::outbox`], it waits while the broker is away, and is handed over again if it may not have
//! arrived. The broker recognizes repetitions by the node and the number.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use crate::channel::NodeId;
use crate::envelope::{Body, Envelope, Post, is_post};

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

/// The next thing to do for the history.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Task {
    /// Messages are to be appended.
    Append(Vec<Append>),
    /// Messages were refused in more rooms than are remembered, which has to be told in all of them.
    TellAll,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Append>,
    /// The bytes of those that wait, and of those that were taken and are not done.
    bytes: usize,
    /// The messages for clients that were taken and are not done.
    posts_taken: u64,
    last: u64,
    refused: Refused,
    is_stopped: bool,
}

/// The rooms in which messages were refused since that was told there.
#[derive(Default)]
struct Refused {
    some: BTreeSet<Arc<str>>,
    /// Set if these may be any, except those in `told`.
    are_all: bool,
    told: BTreeSet<Arc<str>>,
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
        if queue.refused.take(&room) {
            queue.tell_loss(self.me, Arc::clone(&room));
        }
        queue.add(room, |number| envelope.numbered(number, 0));
        drop(queue);
        self.added.notify_one();
        Some(true)
    }

    /// Notes that a message for a room is lost. That becomes a part of the history: whoever gets what follows gets that
    /// as well.
    pub(crate) fn refuse(&self, room: Arc<str>) {
        self.lock().refused.add(room);
        self.added.notify_one();
    }

    /// Waits until something is to be done, and takes it. Messages are about [`BATCH`] bytes at most, and at least one,
    /// [`EACH`] of one room at most; they count until they are [done](Self::done). `None` once the node has left and
    /// everything was taken.
    pub(crate) async fn take(&self) -> Option<Task> {
        loop {
            {
                let mut queue = self.lock();
                let batch = queue.take();
                if !batch.is_empty() {
                    if !queue.waiting.is_empty() {
                        // The backlog may stay, and nothing else may ever follow in these rooms.
                        queue.tell_losses(self.me, LOSSES);
                    }
                    queue.posts_taken = posts(&batch);
                    return Some(Task::Append(batch));
                }
                if queue.tell_losses(self.me, 1) {
                    continue;
                }
                if queue.refused.are_all {
                    queue.refused = Refused::default();
                    return Some(Task::TellAll);
                }
                if queue.is_stopped {
                    return None;
                }
            }
            self.added.notified().await;
        }
    }

    /// Notes that the broker has a batch.
    pub(crate) fn done(&self, batch: &[Append]) {
        self.lock().done(batch);
    }

    /// Notes that nobody knows whether the broker has some messages of a batch. That becomes a part of the history of
    /// their rooms, before all that waits.
    pub(crate) fn give_up<'a>(&self, batch: &[Append], unknown: impl IntoIterator<Item = &'a Append>) {
        let mut queue = self.lock();
        queue.done(batch);
        let last: BTreeMap<_, _> = unknown.into_iter().map(|append| (&append.room, append.number)).collect();
        for (room, number) in last {
            // Free for this, and if it is news of a loss that may be there, that is enough.
            let number = number | 1;
            let payload = Envelope { from: self.me, body: Body::Lost { seq: number } }.encode();
            queue.put_first(Append { room: Arc::clone(room), number, payload });
        }
    }

    /// Returns the number of messages for clients that the broker may not have.
    pub(crate) fn left(&self) -> u64 {
        let queue = self.lock();
        queue.posts_taken + posts(queue.waiting.iter())
    }

    /// Returns whether there is anything that the broker may not have: messages, or news of losses.
    pub(crate) fn has_left(&self) -> bool {
        let queue = self.lock();
        // Also what was taken and is not done.
        queue.bytes > 0 || !queue.refused.some.is_empty() || queue.refused.are_all
    }

    /// Returns whether nothing more is added.
    pub(crate) fn is_stopped(&self) -> bool {
        self.lock().is_stopped
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
        // The one in between is for news of a loss: see `give_up`.
        self.last += 2;
        let append = Append { room, number: self.last, payload: payload(self.last) };
        self.bytes += append.cost();
        self.waiting.push_back(append);
    }

    /// Tells losses in so many rooms at most. Returns whether there was one.
    fn tell_losses(&mut self, me: NodeId, most: usize) -> bool {
        let rooms: Vec<_> = std::iter::from_fn(|| self.refused.some.pop_first()).take(most).collect();
        let is_any = !rooms.is_empty();
        for room in rooms {
            self.tell_loss(me, room);
        }
        is_any
    }

    fn put_first(&mut self, append: Append) {
        self.bytes += append.cost();
        self.waiting.push_front(append);
    }

    /// Takes a batch of what waits. What is beyond the share of its room stays, in its place.
    fn take(&mut self) -> Vec<Append> {
        let (mut batch, mut stay, mut taken) = (Vec::new(), Vec::new(), 0);
        let mut rooms: HashMap<Arc<str>, usize> = HashMap::new();
        while taken < BATCH
            && stay.len() < AHEAD
            && let Some(append) = self.waiting.pop_front()
        {
            let count = rooms.entry(Arc::clone(&append.room)).or_default();
            if *count == EACH {
                stay.push(append);
                continue;
            }
            *count += 1;
            taken += append.cost();
            batch.push(append);
        }
        for append in stay.into_iter().rev() {
            self.waiting.push_front(append);
        }
        batch
    }

    fn done(&mut self, batch: &[Append]) {
        self.posts_taken = 0;
        self.bytes -= batch.iter().map(Append::cost).sum::<usize>();
    }

    /// Adds the news that messages for a room were lost.
    fn tell_loss(&mut self, from: NodeId, room: Arc<str>) {
        self.add(room, |seq| Envelope { from, body: Body::Lost { seq } }.encode());
    }
}

impl Refused {
    fn add(&mut self, room: Arc<str>) {
        self.told.remove(&room);
        if self.are_all || self.some.contains(&room) {
            return;
        }
        if self.some.len() < MOST {
            self.some.insert(room);
        } else {
            self.some.clear();
            self.are_all = true;
        }
    }

    /// Returns whether a room is among them, and removes it: the caller reports the loss.
    fn take(&mut self, room: &Arc<str>) -> bool {
        // Beyond this number of rooms, the report to all rooms has to do.
        self.some.remove(room) || self.are_all && self.told.len() < MOST && self.told.insert(Arc::clone(room))
    }
}

/// Returns the number of messages for clients.
pub(crate) fn posts<'a>(appends: impl IntoIterator<Item = &'a Append>) -> u64 {
    appends.into_iter().map(|append| u64::from(is_post(&append.payload))).sum()
}

impl Append {
    fn cost(&self) -> usize {
        self.room.len() + self.payload.len() + OVERHEAD
    }
}

/// The bytes that are handed to the broker at once.
const BATCH: usize = 256 * 1024;

/// The messages of one room that are handed to the broker at once. One that confirms each of them before it takes the
/// next keeps other rooms waiting for as long.
const EACH: usize = 128;

/// The rooms in which losses are told with each batch.
const LOSSES: usize = 16;

/// The messages beyond the share of their rooms that are passed over in search of other rooms.
const AHEAD: usize = 8 * 1024;

/// The memory that a message takes beyond its payload and the name of its room.
const OVERHEAD: usize = 64;

/// The rooms of refused messages that are remembered. Beyond that, all rooms are told.
const MOST: usize = if cfg!(test) { 100 } else { 16 * 1024 };

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

    async fn taken(appends: &Appends) -> Vec<Append> {
        match appends.take().await {
            Some(Task::Append(batch)) => batch,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn what_does_not_fit_is_refused_and_that_is_told_before_what_follows() {
        // Two fit, with what precedes the payload.
        let appends = Appends::new(NodeId(1), 210, 1000);
        let add = |text: &str| {
            let added = appends.post("a".into(), post(text));
            if added == Some(false) {
                appends.refuse("a".into());
            }
            added
        };
        assert_eq!((add("x"), add("y"), add("z")), (Some(true), Some(true), Some(false)));
        let batch = taken(&appends).await;
        assert_eq!(texts(&batch), ["2 x", "4 y"]);
        // It may have to be handed over again.
        assert_eq!(add("z"), Some(false));
        appends.done(&batch);
        assert_eq!((add("w"), add(&"x".repeat(1000))), (Some(true), Some(false)));
        appends.refuse("b".into());
        let batch = taken(&appends).await;
        assert_eq!(texts(&batch), ["6 lost in a", "8 w"]);
        appends.done(&batch);
        assert_eq!(texts(&taken(&appends).await), ["10 lost in a"]);
        appends.stop();
        assert_eq!(add("late"), None);
        assert_eq!(texts(&taken(&appends).await), ["12 lost in b"]);
        assert_eq!(appends.take().await, None);
    }

    #[tokio::test]
    async fn a_loss_does_not_wait_until_nothing_else_does() {
        let appends = Appends::new(NodeId(1), 1 << 20, 1000);
        let add = || (0..2 * EACH).for_each(|_| assert_eq!(appends.post("a".into(), post("x")), Some(true)));
        add();
        appends.refuse("b".into());
        let mut all = Vec::new();
        for _ in 0..3 {
            let batch = taken(&appends).await;
            appends.done(&batch);
            all.extend(texts(&batch));
            add();
        }
        assert!(all.iter().any(|text| text.ends_with("lost in b")), "{all:?}");
    }

    #[tokio::test]
    async fn a_batch_that_is_given_up_is_told_before_what_waits() {
        let appends = Appends::new(NodeId(1), 10_000, 1000);
        for (room, text) in [("a", "x"), ("b", "y"), ("a", "z")] {
            assert_eq!(appends.post(room.into(), post(text)), Some(true));
        }
        let batch = taken(&appends).await;
        assert_eq!(appends.post("a".into(), post("waits")), Some(true));
        assert_eq!(appends.left(), 4);
        appends.give_up(&batch, &batch);
        assert_eq!(appends.left(), 1);
        let batch = taken(&appends).await;
        assert_eq!(texts(&batch), ["5 lost in b", "7 lost in a", "8 waits"]);
        // The same number for the same news, and one that is still free for the message.
        assert_eq!(appends.post("a".into(), post("waits, too")), Some(true));
        appends.give_up(&batch, &batch);
        let batch = taken(&appends).await;
        assert_eq!(texts(&batch), ["5 lost in b", "9 lost in a", "10 waits, too"]);
        assert!(appends.has_left());
        appends.done(&batch);
        assert_eq!((appends.left(), appends.has_left()), (0, false));
        assert_eq!(appends.lock().bytes, 0);
        appends.refuse("c".into());
        assert!(appends.has_left(), "nobody has been told");
    }

    #[tokio::test]
    async fn only_rooms_of_messages_that_may_be_lost_are_told() {
        let appends = Appends::new(NodeId(1), 10_000, 1000);
        for (room, text) in [("a", "x"), ("b", "y"), ("a", "z")] {
            assert_eq!(appends.post(room.into(), post(text)), Some(true));
        }
        let batch = taken(&appends).await;
        appends.give_up(&batch, &batch[2..]);
        assert_eq!(texts(&taken(&appends).await), ["7 lost in a"]);
    }

    #[tokio::test]
    async fn a_busy_room_leaves_a_place_for_others() {
        let appends = Appends::new(NodeId(1), 1 << 20, 1000);
        for number in 0..2 * EACH + 10 {
            assert_eq!(appends.post("busy".into(), post(&number.to_string())), Some(true));
        }
        assert_eq!(appends.post("quiet".into(), post("x")), Some(true));
        let mut busy = Vec::new();
        for (count, has_quiet) in [(EACH + 1, true), (EACH, false), (10, false)] {
            let batch = taken(&appends).await;
            assert_eq!(batch.len(), count);
            assert_eq!(batch.iter().any(|append| &*append.room == "quiet"), has_quiet);
            busy.extend(batch.iter().filter(|append| &*append.room == "busy").map(|append| append.number));
            appends.done(&batch);
        }
        assert!(busy.len() == 2 * EACH + 10 && busy.is_sorted());
        assert_eq!((appends.left(), appends.has_left()), (0, false));
    }

    #[tokio::test]
    async fn refusals_in_very_many_rooms_are_told_to_all() {
        let appends = Appends::new(NodeId(1), 10_000, 1000);
        for number in 0..=MOST {
            appends.refuse(number.to_string().into());
        }
        // Before what follows in a room, once, and again after another loss.
        for is_refused in [false, false, true] {
            if is_refused {
                appends.refuse("a".into());
            }
            assert_eq!(appends.post("a".into(), post("x")), Some(true));
        }
        let batch = taken(&appends).await;
        assert_eq!(texts(&batch), ["2 lost in a", "4 x", "6 x", "8 lost in a", "10 x"]);
        assert_eq!(appends.take().await, Some(Task::TellAll));
        appends.stop();
        assert_eq!(appends.take().await, None);
    }

    #[tokio::test]
    async fn one_message_of_any_size_waits() {
        let appends = Appends::new(NodeId(1), 1, 10_000);
        assert_eq!(appends.post("a".into(), post(&"x".repeat(5000))), Some(true));
        assert_eq!(appends.post("a".into(), post("x")), Some(false));
    }
}
