//! What waits to be handed to the broker, in order and within a bound.

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use crate::channel::{Channel, NodeId};
use crate::envelope::{Body, Envelope, Post, is_post};
use crate::order::Numbers;

/// What waits for the broker.
pub(crate) struct Outbox {
    me: NodeId,
    limit: usize,
    /// The largest payload that the broker takes.
    max_payload: usize,
    /// Set if messages for rooms go another way: then what is here for a room is news.
    rooms_have_history: bool,
    queues: Mutex<Queues>,
    added: Notify,
    /// Notified when the broker is known to have what was handed over, or to be away.
    settled: Notify,
}

#[derive(Default)]
struct Queues {
    numbers: Numbers,
    /// What nodes tell each other, which does not wait behind messages for clients.
    news: Lane,
    posts: Lane,
    lost: Channels,
    /// The time from which on losses may be told again, and the wait after that.
    tell_losses_at: Option<Instant>,
    wait: Duration,
    /// The batch that is on its way to the broker.
    taken: HandedOver,
    /// The batches that were handed over since the last probe began.
    unconfirmed: HandedOver,
    /// The batches before these that no probe has confirmed.
    asked: HandedOver,
    /// Set if news were lost.
    has_lost_news: bool,
    /// Set while the broker is away. What is added then is lost.
    is_away: bool,
    is_stopped: bool,
}

#[derive(Default)]
struct Lane {
    items: VecDeque<(Channel, Bytes)>,
    bytes: usize,
}

/// A set of channels within a bound: beyond it, all are in it.
#[derive(Default)]
struct Channels {
    some: HashSet<Channel>,
    are_all: bool,
}

/// Messages that the broker may not have.
#[derive(Default)]
struct HandedOver {
    channels: Channels,
    /// The number of messages for clients.
    posts: u64,
    /// Whether the last words of this node are among it.
    has_farewell: bool,
}

/// Messages for the broker.
pub(crate) struct Batch {
    /// News, and then messages for clients.
    pub(crate) messages: Vec<(Channel, Bytes)>,
    /// The number of news.
    pub(crate) news: usize,
    /// The number of those for clients, and their bytes.
    pub(crate) posts: u64,
    pub(crate) bytes: u64,
}

impl Outbox {
    pub(crate) fn new(me: NodeId, limit: usize, max_payload: usize) -> Self {
        Self {
            me,
            limit,
            max_payload,
            rooms_have_history: false,
            queues: Mutex::default(),
            added: Notify::new(),
            settled: Notify::new(),
        }
    }

    /// Leaves messages for rooms to [`crate::appends`].
    pub(crate) fn without_rooms(mut self) -> Self {
        self.rooms_have_history = true;
        self
    }

    /// Adds a message for clients. Returns whether it will be handed to the broker; `None` once the node has left.
    pub(crate) fn post(&self, channel: Channel, post: Post) -> Option<bool> {
        if self.lock().is_stopped {
            return None;
        }
        // Before the lock, because it copies the message.
        let envelope = Envelope::unnumbered(self.me, post);
        let mut queues = self.lock();
        if queues.is_stopped {
            return None;
        }
        let (seq, previous) = queues.numbers.next(&channel);
        let cost = channel.cost() + envelope.len() + OVERHEAD;
        let has_room = queues.posts.bytes == 0 || queues.posts.bytes + cost <= self.limit;
        let fits = !queues.is_away && has_room && envelope.len() <= self.max_payload;
        if fits {
            self.tell_loss_on(&mut queues, &channel, seq);
            queues.posts.add(channel, envelope.numbered(seq, previous));
        } else {
            queues.lost.insert(channel);
        }
        drop(queues);
        self.added.notify_one();
        Some(fits)
    }

    /// Notes that a message on a channel is lost before it could be added.
    pub(crate) fn lose(&self, channel: Channel) {
        let mut queues = self.lock();
        queues.numbers.next(&channel);
        queues.lost.insert(channel);
        drop(queues);
        self.added.notify_one();
    }

    /// Adds what nodes tell each other, and returns whether there was room for it. While the broker is away it is
    /// dropped: nodes ask anew afterwards.
    pub(crate) fn tell(&self, channel: Channel, body: Body) -> bool {
        let mut queues = self.lock();
        if queues.is_away || queues.is_stopped {
            return true;
        }
        queues.tell(channel, self.me, body);
        let fits = queues.news.bytes <= self.limit;
        if !fits {
            queues.news = Lane::default();
            queues.has_lost_news = true;
        }
        drop(queues);
        self.added.notify_one();
        fits
    }

    /// Returns whether [`has_lost_news`](Self::has_lost_news) would.
    pub(crate) fn must_repeat_news(&self) -> bool {
        self.lock().has_lost_news
    }

    /// Returns whether news were lost since the last call, and all nodes must ask anew.
    pub(crate) fn has_lost_news(&self) -> bool {
        std::mem::take(&mut self.lock().has_lost_news)
    }

    /// Queues the news that messages on a channel before this number were lost, if they were.
    fn tell_loss_on(&self, queues: &mut Queues, channel: &Channel, seq: u64) {
        if queues.lost.some.remove(channel) {
            let body = Body::Lost { seq: seq - 1 };
            queues.posts.add(channel.clone(), Envelope { from: self.me, body }.encode());
        }
    }

    fn tell_losses(&self, queues: &mut Queues) {
        if queues.lost.is_empty() {
            return;
        }
        // Soon again if the broker takes it, and later and later if it refuses.
        let wait = queues.wait.max(TELL);
        queues.tell_losses_at = Some(Instant::now() + wait);
        queues.wait = wait;
        let mut lost = std::mem::take(&mut queues.lost);
        if lost.are_all {
            lost.some = [Channel::All].into();
        }
        for channel in lost.some {
            let body = Body::Lost { seq: queues.numbers.last() };
            queues.posts.add(channel, Envelope { from: self.me, body }.encode());
        }
    }

    /// Waits until there is something to hand over, and takes it: about [`BATCH`] bytes at most, and at least one
    /// message. `None` once the node has left and everything was taken.
    pub(crate) async fn take(&self) -> Option<Batch> {
        loop {
            {
                let mut queues = self.lock();
                let now = Instant::now();
                // A node that leaves has no later time for it.
                let is_due = queues.is_stopped || queues.tell_losses_at.is_none_or(|at| at <= now);
                if !queues.is_away && is_due {
                    self.tell_losses(&mut queues);
                }
                if let Some(batch) = queues.take() {
                    return Some(batch);
                }
                if queues.is_stopped {
                    return None;
                }
            }
            let due = self.lock().loss_is_due_at();
            match due {
                Some(at) => drop(timeout_at(at, self.added.notified()).await),
                None => self.added.notified().await,
            }
        }
    }

    /// Notes that the broker has taken a batch.
    pub(crate) fn succeed(&self) {
        let mut queues = self.lock();
        let taken = std::mem::take(&mut queues.taken);
        queues.unconfirmed.add(taken);
        queues.wait = TELL;
    }

    /// Notes that the broker may not have got these messages.
    pub(crate) fn fail(&self, messages: Vec<(Channel, Bytes)>) {
        let mut queues = self.lock();
        queues.taken = HandedOver::default();
        queues.wait = (2 * queues.wait).clamp(TELL, TELL_AT_LAST);
        for (channel, _) in messages {
            // A room's news are among its messages.
            queues.has_lost_news |= !matches!(channel, Channel::All | Channel::Key(_));
            let is_news = self.rooms_have_history && matches!(channel, Channel::Room(_));
            if channel.is_for_clients() && !is_news {
                queues.lost.insert(channel);
            }
        }
    }

    /// Notes that the broker is asked whether it is there.
    pub(crate) fn ask(&self) {
        let mut queues = self.lock();
        let handed_over = std::mem::take(&mut queues.unconfirmed);
        queues.asked.add(handed_over);
    }

    /// Notes that the broker has answered: what was handed over before it was asked is there.
    pub(crate) fn confirm(&self) {
        self.lock().asked = HandedOver::default();
        self.settled.notify_waiters();
    }

    /// Returns whether the broker has every message that was taken, or the other nodes were told of its loss.
    pub(crate) fn is_settled(&self) -> bool {
        let queues = self.lock();
        queues.lost.is_empty() && queues.unconfirmed.is_empty() && queues.asked.is_empty()
    }

    /// Waits until [`is_settled`](Self::is_settled) may have changed, from the time on at which this was called.
    pub(crate) fn settled(&self) -> tokio::sync::futures::Notified<'_> {
        self.settled.notified()
    }

    /// Notes whether the broker is away. What waits is lost then, and so may be what was handed over a moment ago.
    /// Returns the number of messages for clients that waited.
    pub(crate) fn set_away(&self, is_away: bool) -> u64 {
        let mut queues = self.lock();
        queues.is_away = is_away;
        let mut lost = 0;
        if is_away {
            queues.news = Lane::default();
            for (channel, payload) in std::mem::take(&mut queues.posts).items {
                lost += u64::from(is_post(&payload));
                queues.lost.insert(channel);
            }
            let mut all = std::mem::take(&mut queues.asked);
            all.add(std::mem::take(&mut queues.unconfirmed));
            if queues.is_stopped {
                // Nobody will learn whether they are lost.
                lost += all.posts;
            }
            queues.lost.extend(all.channels);
            // Whether it fails is known later.
            let taken = std::mem::take(&mut queues.taken.channels);
            queues.lost.extend(taken);
        }
        drop(queues);
        self.added.notify_one();
        self.settled.notify_waiters();
        lost
    }

    /// Ends with a last word: nothing more is added, and [`take`](Self::take) ends once everything was taken.
    pub(crate) fn stop(&self, last: Option<(Channel, Body)>) {
        let mut queues = self.lock();
        if let Some((channel, body)) = last
            && !queues.is_stopped
        {
            queues.tell(channel, self.me, body);
        }
        queues.is_stopped = true;
        drop(queues);
        self.added.notify_one();
    }

    /// Returns the number of messages for clients that the broker may not have, each of them once.
    pub(crate) fn take_left(&self) -> u64 {
        let mut queues = self.lock();
        let waiting: u64 = queues.posts.items.iter().map(|(_, payload)| u64::from(is_post(payload))).sum();
        let Queues { taken, unconfirmed, asked, .. } = &mut *queues;
        waiting + [taken, unconfirmed, asked].map(|it| std::mem::take(&mut it.posts)).iter().sum::<u64>()
    }

    fn lock(&self) -> MutexGuard<'_, Queues> {
        // No panic can leave it half changed.
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queues {
    /// Returns the time at which losses are to be told, if there are any.
    fn loss_is_due_at(&self) -> Option<Instant> {
        self.tell_losses_at.filter(|_| !self.lost.is_empty() && !self.is_away && !self.is_stopped)
    }

    fn tell(&mut self, channel: Channel, from: NodeId, body: Body) {
        self.news.add(channel, Envelope { from, body }.encode());
    }

    fn take(&mut self) -> Option<Batch> {
        let mut batch = Batch { messages: Vec::new(), news: 0, posts: 0, bytes: 0 };
        let taken = self.news.take_into(&mut batch.messages, 0);
        batch.news = batch.messages.len();
        self.posts.take_into(&mut batch.messages, taken);
        for (channel, payload) in &batch.messages[batch.news..] {
            if is_post(payload) {
                batch.posts += 1;
                batch.bytes += payload.len() as u64;
            }
            self.taken.channels.insert(channel.clone());
        }
        self.taken.posts += batch.posts;
        self.taken.has_farewell |= self.is_stopped && batch.news > 0;
        (!batch.messages.is_empty()).then_some(batch)
    }
}

impl Lane {
    fn add(&mut self, channel: Channel, payload: Bytes) {
        self.bytes += channel.cost() + payload.len() + OVERHEAD;
        self.items.push_back((channel, payload));
    }

    /// Moves items to a batch of which `taken` bytes are used. Returns the new number of used bytes.
    fn take_into(&mut self, batch: &mut Vec<(Channel, Bytes)>, mut taken: usize) -> usize {
        while taken < BATCH
            && let Some((channel, payload)) = self.items.pop_front()
        {
            let cost = channel.cost() + payload.len() + OVERHEAD;
            self.bytes -= cost;
            taken += cost;
            batch.push((channel, payload));
        }
        taken
    }
}

impl HandedOver {
    fn add(&mut self, other: Self) {
        self.channels.extend(other.channels);
        self.posts += other.posts;
        self.has_farewell |= other.has_farewell;
    }

    fn is_empty(&self) -> bool {
        self.channels.is_empty() && !self.has_farewell
    }
}

impl Channels {
    fn is_empty(&self) -> bool {
        self.some.is_empty() && !self.are_all
    }

    fn insert(&mut self, channel: Channel) {
        if self.some.len() < MOST {
            self.some.insert(channel);
        } else if !self.some.contains(&channel) {
            self.are_all = true;
        }
    }

    fn extend(&mut self, others: Self) {
        self.are_all |= others.are_all;
        others.some.into_iter().for_each(|channel| self.insert(channel));
    }
}

/// The bytes that are handed to the broker at once.
const BATCH: usize = 256 * 1024;

/// The time between two reports of losses on channels on which nothing else is sent, and the longest if the broker
/// takes nothing.
const TELL: Duration = Duration::from_millis(100);
const TELL_AT_LAST: Duration = Duration::from_secs(30);

/// The memory that a message takes beyond its payload and the name of its channel.
const OVERHEAD: usize = 64;

/// The channels that are remembered. Beyond that, losses are told on the channel for all.
const MOST: usize = if cfg!(test) { 100 } else { 16 * 1024 };

#[cfg(test)]
mod tests {
    use longwire_connection::Message;

    use super::*;

    fn outbox(limit: usize) -> Outbox {
        Outbox::new(NodeId(1), limit, 1000)
    }

    fn post(text: &str) -> Post {
        Post { seq: 0, previous: 0, except: None, latest: None, message: Message::text(text.to_owned()) }
    }

    fn room(name: &str) -> Channel {
        Channel::Room(name.into())
    }

    fn lost(name: &str, seq: u64) -> (Channel, Body) {
        (room(name), Body::Lost { seq })
    }

    async fn taken(outbox: &Outbox) -> Vec<(Channel, Body)> {
        let decode = |bytes| Envelope::decode(bytes).expect("it was written here").body;
        let messages = outbox.take().await.map(|batch| batch.messages).unwrap_or_default();
        let mut messages: Vec<_> =
            messages.into_iter().map(|(channel, bytes)| (channel, decode(bytes))).collect();
        messages.sort_by_key(|(channel, _)| channel.subject(""));
        messages
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_fit_is_lost_and_told_before_what_follows() {
        // Two fit, with what precedes the payload.
        let outbox = outbox(200);
        assert_eq!(outbox.post(room("a"), post("1")), Some(true));
        assert_eq!(outbox.post(room("a"), post("2")), Some(true));
        assert_eq!(outbox.post(room("a"), post("3")), Some(false));
        assert_eq!(outbox.post(room("b"), post("4")), Some(false));
        // In the room "b" nothing follows.
        let first = taken(&outbox).await;
        assert_eq!((first.len(), &first[2..]), (4, &[lost("a", 4), lost("b", 4)][..]));
        // Soon after that, only before what follows.
        for text in ["5", "6", "7"] {
            outbox.post(room("a"), post(text));
        }
        assert_eq!(taken(&outbox).await.len(), 2);
        assert_eq!(outbox.post(room("a"), post("8")), Some(true));
        let next = taken(&outbox).await;
        let [(_, Body::Lost { seq: 7 }), (channel, Body::Message(last))] = &next[..] else {
            panic!("{next:?}")
        };
        assert_eq!((channel, last.seq, last.previous), (&room("a"), 8, 7), "7 is missing");
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_that_no_broker_takes_is_lost_alone() {
        let outbox = outbox(1 << 20);
        assert_eq!(outbox.post(room("a"), post(&"x".repeat(1000))), Some(false));
        assert_eq!(outbox.post(room("b"), post("1")), Some(true));
        let taken = taken(&outbox).await;
        assert!(matches!(&taken[..], [(_, Body::Lost { seq: 2 }), (_, Body::Message(_))]), "{taken:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn while_the_broker_is_away_everything_is_lost_and_told_afterwards() {
        let outbox = outbox(1024);
        assert_eq!(outbox.post(room("gone"), post("0")), Some(true));
        outbox.take().await;
        outbox.succeed();
        outbox.ask();
        outbox.confirm();
        assert_eq!(outbox.post(room("handed over"), post("1")), Some(true));
        outbox.take().await;
        assert_eq!(outbox.post(room("waits"), post("1")), Some(true));
        outbox.tell(room("news"), Body::Bye);
        assert_eq!(outbox.set_away(true), 1);
        assert_eq!(outbox.post(room("later"), post("2")), Some(false));
        outbox.tell(Channel::Control, Body::Bye);
        assert_eq!(outbox.set_away(false), 0);
        assert_eq!(taken(&outbox).await, [lost("handed over", 4), lost("later", 4), lost("waits", 4)]);
        outbox.stop(Some((Channel::Control, Body::Bye)));
        assert_eq!(taken(&outbox).await, [(Channel::Control, Body::Bye)]);
        assert!(outbox.take().await.is_none());
        assert_eq!(outbox.post(room("a"), post("3")), None);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_confirms_what_was_handed_over_before_the_question() {
        let outbox = outbox(1024);
        for name in ["before", "after"] {
            assert_eq!(outbox.post(room(name), post("1")), Some(true));
            outbox.take().await;
            outbox.succeed();
            if name == "before" {
                outbox.ask();
            }
        }
        outbox.confirm();
        outbox.set_away(true);
        outbox.set_away(false);
        assert_eq!(taken(&outbox).await, [lost("after", 2)]);
        // A question without an answer confirms nothing.
        outbox.post(room("asked"), post("2"));
        outbox.take().await;
        outbox.succeed();
        outbox.ask();
        outbox.ask();
        outbox.set_away(true);
        outbox.set_away(false);
        assert!(taken(&outbox).await.contains(&lost("asked", 3)));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_does_not_confirm_what_is_being_handed_over() {
        let outbox = outbox(1024);
        outbox.post(room("a"), post("1"));
        outbox.take().await;
        outbox.ask();
        outbox.succeed();
        outbox.confirm();
        assert_eq!((outbox.take_left(), outbox.is_settled()), (1, false));
        outbox.set_away(true);
        outbox.set_away(false);
        assert_eq!(taken(&outbox).await, [lost("a", 1)]);
        outbox.succeed();
        outbox.ask();
        outbox.confirm();
        assert_eq!((outbox.take_left(), outbox.is_settled()), (0, true));
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_leaves_waits_until_its_last_words_are_confirmed() {
        let outbox = outbox(1024);
        outbox.stop(Some((Channel::Control, Body::Bye)));
        assert_eq!(taken(&outbox).await, [(Channel::Control, Body::Bye)]);
        outbox.succeed();
        assert!(!outbox.is_settled());
        outbox.ask();
        outbox.confirm();
        assert!(outbox.is_settled());
    }

    #[tokio::test(start_paused = true)]
    async fn news_do_not_wait_behind_messages_and_are_bounded() {
        let outbox = outbox(10_000);
        for _ in 0..100 {
            outbox.post(room("a"), post("x"));
        }
        outbox.tell(Channel::Control, Body::Bye);
        let batch = outbox.take().await.expect("there is something");
        assert_eq!(batch.messages[0].0, Channel::Control);
        assert!(!outbox.has_lost_news());
        for _ in 0..200 {
            outbox.tell(Channel::Control, Body::Bye);
        }
        assert!(outbox.lock().news.bytes <= 10_000);
        assert!(outbox.has_lost_news() && !outbox.has_lost_news());
        outbox.fail(vec![(room("a"), Bytes::new())]);
        assert!(outbox.has_lost_news());
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_leaves_tells_what_it_has_lost_since_it_told_the_last_time() {
        let outbox = outbox(1 << 20);
        let too_long = || post(&"x".repeat(1000));
        outbox.post(room("a"), too_long());
        assert_eq!(taken(&outbox).await, [lost("a", 1)]);
        outbox.post(room("a"), too_long());
        outbox.stop(None);
        assert_eq!(taken(&outbox).await, [lost("a", 2)]);
        assert!(outbox.take().await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn losses_on_very_many_channels_are_told_to_all() {
        let outbox = outbox(1024);
        outbox.set_away(true);
        for n in 0..=MOST {
            assert_eq!(outbox.post(room(&n.to_string()), post("x")), Some(false));
        }
        outbox.set_away(false);
        assert_eq!(taken(&outbox).await, [(Channel::All, Body::Lost { seq: MOST as u64 + 1 })]);
    }
}
