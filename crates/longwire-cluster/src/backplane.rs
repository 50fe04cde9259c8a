//! The interface to a broker, and the inbox for the messages that its client receives.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use longwire_connection::BoxError;
use tokio::sync::Notify;

use crate::appends::Append;
use crate::channel::{Channel, NodeId};
use crate::envelope::count;
use crate::history::{History, Past, Position, Record};

/// A future that a [`Backplane`] returns.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A broker that connects the nodes of a cluster, or its client.
///
/// Implement it for a broker that this crate does not know. What an implementation promises:
///
/// - Messages of one node on one channel reach each subscriber in the order in which they were published, each at most
///   once. A message that is lost is either reported by [`Inbox::dropped`], or lies between [`Inbox::lost`] and
///   [`Inbox::restored`], or the publishing call failed, or [`Inbox::lost`] was called before another
///   [`probe`](Self::probe) returned that was begun after the message was published.
/// - Each [`Inbox::lost`] is followed by an [`Inbox::restored`], once the connection is there again with all its
///   subscriptions. The node waits for that, whatever [`probe`](Self::probe) returns.
/// - Calls take effect in the order in which they were made, even if a caller drops their futures: it does so after
///   five seconds, and with [`probe`](Self::probe) after a third of its lease if that is less.
/// - A node may or may not receive what it publishes itself.
/// - Dropping the value ends the connection.
pub trait Backplane: Send + Sync + 'static {
    /// Begins to receive. Called once, before all others.
    fn start(&self, node: NodeId, inbox: Inbox) -> BoxFuture<'_, Result<(), BackplaneError>>;

    /// Subscribes to channels. When it returns, messages that are published from then on arrive. A channel may be
    /// subscribed to already.
    fn subscribe<'a>(&'a self, channels: &'a [Channel]) -> BoxFuture<'a, Result<(), BackplaneError>>;

    /// Ends subscriptions.
    fn unsubscribe<'a>(&'a self, channels: &'a [Channel]) -> BoxFuture<'a, Result<(), BackplaneError>>;

    /// Publishes messages, in their order. If it fails, any number of them may have been published.
    fn publish<'a>(&'a self, messages: &'a [(Channel, Bytes)]) -> BoxFuture<'a, Result<(), BackplaneError>>;

    /// Prepares to keep the history of rooms within these bounds. Called once, after [`start`](Self::start), if the
    /// node is to have it. Default: an error.
    fn keep<'a>(&'a self, history: &'a History) -> BoxFuture<'a, Result<(), BackplaneError>> {
        let _ = history;
        Box::pin(async { Err(BackplaneError::new("this broker keeps no history")) })
    }

    /// Appends messages to the history of their rooms, those of one room in their order, and passes each to the nodes
    /// that have subscribed to [`Channel::Room`], this one included, by [`Inbox::record`].
    ///
    /// If it fails, any number of them may have been appended, and the node calls it again with the same messages. A
    /// message is appended once, whatever the number of calls within the shorter of two minutes and [`History::age`]:
    /// if the broker has one of the same node with this number or, in the same room, a larger one, it is ignored.
    /// Default: an error.
    fn append<'a>(&'a self, messages: &'a [Append]) -> BoxFuture<'a, Result<(), BackplaneError>> {
        let _ = messages;
        Box::pin(async { Err(BackplaneError::new("this broker keeps no history")) })
    }

    /// Returns at most `most` messages of a room after a position, and fewer if they have more than about 64 KiB: they
    /// are delivered at once, and a client's queue has to take them. With `None` as the
    /// position, only [`Past::last`] is of interest, and there are no messages. Default: an error.
    fn history<'a>(
        &'a self,
        room: &'a Arc<str>,
        after: Option<Position>,
        most: usize,
    ) -> BoxFuture<'a, Result<Past, BackplaneError>> {
        let _ = (room, after, most);
        Box::pin(async { Err(BackplaneError::new("this broker keeps no history")) })
    }

    /// Returns the largest payload that can be published, in bytes. Default: no limit.
    fn max_payload(&self) -> usize {
        usize::MAX
    }

    /// Checks that the broker answers, on each connection that is used: also on one that only receives. It succeeds
    /// only if what was published before has reached the broker, or [`Inbox::lost`] was called since.
    fn probe(&self) -> BoxFuture<'_, Result<(), BackplaneError>>;

    /// Ends the connection to the broker, after what was published before.
    fn stop(&self) -> BoxFuture<'_, ()>;
}

/// The error of a broker or of the connection to it.
#[derive(Clone)]
pub struct BackplaneError {
    error: Arc<BoxError>,
    /// The number of the message that the broker refuses, each time.
    refused: Option<u64>,
    /// The numbers of the last messages of rooms that the broker has, although not all of a call.
    stored: Option<Arc<HashMap<Arc<str>, u64>>>,
}

impl BackplaneError {
    /// Wraps an error, or a text.
    pub fn new(error: impl Into<BoxError>) -> Self {
        Self { error: Arc::new(error.into()), refused: None, stored: None }
    }

    /// Wraps the reason for which a broker refuses the message with this number, and would do so again.
    #[cfg(feature = "nats")]
    pub(crate) fn refusing(number: u64, error: impl Into<BoxError>) -> Self {
        Self { refused: Some(number), ..Self::new(error) }
    }

    /// Adds which messages the broker has, although the call has failed: of each room, those up to a number.
    #[cfg(any(feature = "nats", test))]
    pub(crate) fn with_stored(mut self, stored: HashMap<Arc<str>, u64>) -> Self {
        self.stored = Some(Arc::new(stored));
        self
    }

    /// Returns whether the broker is known to have a message of the call that has failed.
    pub(crate) fn has_stored(&self, append: &Append) -> bool {
        let last = self.stored.as_ref().and_then(|stored| stored.get(&append.room));
        last.is_some_and(|last| append.number <= *last)
    }

    /// Returns the number of the message that the broker refuses each time, if it is that.
    pub(crate) fn refused(&self) -> Option<u64> {
        self.refused
    }
}

impl fmt::Display for BackplaneError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

/// As [`Display`](fmt::Display).
impl fmt::Debug for BackplaneError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for BackplaneError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}

/// The place in which a [`Backplane`] leaves what arrives for a node. Clones are handles to the same inbox.
///
/// It holds at most [`ClusterOptions::inbox`](crate::ClusterOptions::inbox) bytes of messages for clients, and as many
/// of what nodes tell each other. What does not fit is dropped, and reported as a gap.
#[derive(Clone)]
pub struct Inbox {
    shared: Arc<Shared>,
}

struct Shared {
    queues: Mutex<Queues>,
    arrived: Notify,
    limit: usize,
}

#[derive(Default)]
struct Queues {
    /// News of the broker and of the nodes, which do not wait behind messages for clients.
    urgent: Lane,
    messages: Lane,
    /// The number of the last item that has arrived.
    last: u64,
    overflowed: u64,
    /// The number of times that the broker was lost.
    losses: u64,
}

#[derive(Default)]
struct Lane {
    items: VecDeque<Item>,
    bytes: usize,
    /// The channels of which the last thing that is queued is that messages were dropped.
    gaps: HashSet<Channel>,
    /// The same for the history of rooms.
    behind: HashSet<Arc<str>>,
}

/// Something that has arrived.
#[derive(Debug)]
pub(crate) enum Item {
    Message {
        channel: Channel,
        payload: Bytes,
        number: u64,
    },
    /// A message of a room's history.
    Record {
        room: Arc<str>,
        record: Record,
    },
    /// Messages of the history of this room were dropped.
    Behind(Arc<str>),
    /// Messages of this channel were lost before what follows; `None`: of any channel.
    Dropped(Option<Channel>),
    Lost(BackplaneError),
    Restored,
}

impl Inbox {
    pub(crate) fn new(limit: usize) -> Self {
        Self { shared: Arc::new(Shared { queues: Mutex::default(), arrived: Notify::new(), limit }) }
    }

    /// Adds a message that has arrived on a channel.
    pub fn message(&self, channel: Channel, payload: Bytes) {
        let mut queues = self.lock();
        queues.last += 1;
        let number = queues.last;
        let too_many = queues.lane(&channel).message(channel, payload, number, self.shared.limit).err();
        queues.overflowed += too_many.map_or(0, |payload| count(&payload));
        drop(queues);
        self.shared.arrived.notify_one();
    }

    /// Adds a message of a room's history that has arrived: see [`Backplane::append`].
    pub fn record(&self, room: Arc<str>, record: Record) {
        let mut queues = self.lock();
        let fits = queues.messages.record(room, record, self.shared.limit);
        queues.overflowed += u64::from(!fits);
        drop(queues);
        self.shared.arrived.notify_one();
    }

    /// Reports that messages of a channel were lost, or of any channel, before what arrives from now on.
    pub fn dropped(&self, channel: Option<Channel>) {
        let mut queues = self.lock();
        match channel {
            Some(channel) => queues.lane(&channel).note_gap(channel),
            None if matches!(queues.urgent.items.back(), Some(Item::Dropped(None))) => {}
            None => queues.urgent.items.push_back(Item::Dropped(None)),
        }
        drop(queues);
        self.shared.arrived.notify_one();
    }

    /// Reports that the connection to the broker is lost.
    pub fn lost(&self, error: BackplaneError) {
        let mut queues = self.lock();
        queues.losses += 1;
        queues.urgent.items.push_back(Item::Lost(error));
        drop(queues);
        self.shared.arrived.notify_one();
    }

    /// Reports that the connection is there again, with all subscriptions.
    pub fn restored(&self) {
        self.lock().urgent.items.push_back(Item::Restored);
        self.shared.arrived.notify_one();
    }

    /// Waits until something is here, and takes it.
    pub(crate) async fn take(&self) -> Item {
        loop {
            if let Some(item) = self.try_take() {
                return item;
            }
            self.shared.arrived.notified().await;
        }
    }

    fn try_take(&self) -> Option<Item> {
        let mut queues = self.lock();
        queues.urgent.take().or_else(|| queues.messages.take())
    }

    /// Returns the number of the last item that has arrived.
    pub(crate) fn last(&self) -> u64 {
        self.lock().last
    }

    /// Returns the number of times that the broker was lost, also if this was not taken yet.
    pub(crate) fn losses(&self) -> u64 {
        self.lock().losses
    }

    /// Returns the number of messages that did not fit.
    pub(crate) fn overflowed(&self) -> u64 {
        self.lock().overflowed
    }

    fn lock(&self) -> MutexGuard<'_, Queues> {
        // No panic can leave it half changed.
        self.shared.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queues {
    fn lane(&mut self, channel: &Channel) -> &mut Lane {
        if channel.is_for_clients() { &mut self.messages } else { &mut self.urgent }
    }
}

impl Lane {
    /// Adds a message if it fits, or gives it back.
    fn message(&mut self, channel: Channel, payload: Bytes, number: u64, limit: usize) -> Result<(), Bytes> {
        if !self.make_room(cost(&channel, &payload), limit) {
            self.note_gap(channel);
            return Err(payload);
        }
        self.gaps.remove(&channel);
        self.items.push_back(Item::Message { channel, payload, number });
        Ok(())
    }

    /// Queues that messages of a channel were dropped. It takes its turn with what fits, so that a channel without
    /// further messages does not wait until nothing else arrives.
    fn note_gap(&mut self, channel: Channel) {
        if self.gaps.insert(channel.clone()) {
            self.items.push_back(Item::Dropped(Some(channel)));
        }
    }

    /// Adds a message of a room's history if it fits.
    fn record(&mut self, room: Arc<str>, record: Record, limit: usize) -> bool {
        let fits = self.make_room(room.len() + record.payload.len() + OVERHEAD, limit);
        if fits {
            self.behind.remove(&room);
            self.items.push_back(Item::Record { room, record });
        } else if self.behind.insert(Arc::clone(&room)) {
            self.items.push_back(Item::Behind(room));
        }
        fits
    }

    /// Counts the bytes of a message if it fits.
    fn make_room(&mut self, cost: usize, limit: usize) -> bool {
        let fits = self.bytes + cost <= limit || self.bytes == 0;
        if fits {
            self.bytes += cost;
        }
        fits
    }

    fn take(&mut self) -> Option<Item> {
        let item = self.items.pop_front()?;
        match &item {
            Item::Message { channel, payload, .. } => self.bytes -= cost(channel, payload),
            Item::Record { room, record } => self.bytes -= room.len() + record.payload.len() + OVERHEAD,
            // The next loss is queued anew.
            Item::Dropped(Some(channel)) => drop(self.gaps.remove(channel)),
            Item::Behind(room) => drop(self.behind.remove(room)),
            Item::Dropped(None) | Item::Lost(_) | Item::Restored => {}
        }
        Some(item)
    }
}

/// Returns the memory that a message takes.
fn cost(channel: &Channel, payload: &Bytes) -> usize {
    channel.cost() + payload.len() + OVERHEAD
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox").field("waiting", &self.lock().messages.items.len()).finish_non_exhaustive()
    }
}

/// The memory that a message takes beyond its payload and the name of its channel.
const OVERHEAD: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn room(name: &str) -> Channel {
        Channel::Room(name.into())
    }

    /// Returns the contents of an inbox: the names of rooms, with an exclamation mark for a gap.
    fn taken(inbox: &Inbox) -> Vec<String> {
        let name = |item| match item {
            Item::Message { channel, .. } => channel.subject(""),
            Item::Dropped(Some(channel)) => format!("{}!", channel.subject("")),
            other => format!("{other:?}"),
        };
        std::iter::from_fn(|| inbox.try_take()).map(name).collect()
    }

    #[test]
    fn an_inbox_is_bounded_and_reports_what_did_not_fit() {
        let inbox = Inbox::new(2 * (OVERHEAD + 11));
        let payload = || Bytes::from_static(b"0123456789");
        for name in ["a", "a", "a", "b"] {
            inbox.message(room(name), payload());
        }
        assert_eq!(inbox.overflowed(), 2);
        assert!(inbox.try_take().is_some());
        inbox.message(room("a"), payload());
        assert_eq!(taken(&inbox), [".r.a", ".r.a!", ".r.b!", ".r.a"]);
        inbox.dropped(Some(room("c")));
        inbox.dropped(Some(room("c")));
        inbox.message(room("c"), payload());
        assert_eq!(taken(&inbox), [".r.c!", ".r.c"]);
    }

    #[test]
    fn a_gap_does_not_wait_until_nothing_else_arrives() {
        let inbox = Inbox::new(2 * (OVERHEAD + 1));
        for name in ["busy", "busy", "quiet", "busy"] {
            inbox.message(room(name), Bytes::new());
        }
        let mut seen = Vec::new();
        for _ in 0..6 {
            seen.push(inbox.try_take());
            // There is always something.
            inbox.message(room("busy"), Bytes::new());
            inbox.message(room("busy"), Bytes::new());
        }
        let quiet = room("quiet");
        let is_told =
            |item: &Option<Item>| matches!(item, Some(Item::Dropped(Some(channel))) if *channel == quiet);
        assert_eq!(seen.iter().filter(|item| is_told(item)).count(), 1, "{seen:?}");
    }

    #[test]
    fn what_was_dropped_of_a_history_is_told_before_what_follows() {
        let inbox = Inbox::new(OVERHEAD + 1);
        let record =
            |offset| Record { position: Position::new(1, offset), previous: 0, payload: Bytes::new() };
        inbox.record("a".into(), record(1));
        inbox.record("a".into(), record(2));
        inbox.record("a".into(), record(3));
        inbox.try_take().expect("the first one");
        inbox.record("a".into(), record(4));
        let rest: Vec<_> = std::iter::from_fn(|| inbox.try_take()).collect();
        let [Item::Behind(room), Item::Record { record, .. }] = &rest[..] else { panic!("{rest:?}") };
        assert_eq!((&**room, record.position.offset()), ("a", 4));
    }

    #[test]
    fn news_of_nodes_and_of_the_broker_do_not_wait_behind_messages() {
        let inbox = Inbox::new(100);
        for _ in 0..10 {
            inbox.message(room("a"), Bytes::from_static(b"0123456789"));
        }
        inbox.message(Channel::Control, Bytes::new());
        inbox.restored();
        inbox.dropped(None);
        inbox.dropped(None);
        assert_eq!(taken(&inbox), [".control", "Restored", "Dropped(None)", ".r.a", ".r.a!"]);
    }

    #[test]
    fn one_message_of_any_size_fits() {
        let inbox = Inbox::new(1);
        inbox.message(room("a"), Bytes::from_static(&[0; 100]));
        assert_eq!(taken(&inbox), [".r.a"]);
    }
}
