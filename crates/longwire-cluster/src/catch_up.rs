//! The tasks of a node for rooms with a history: one appends what is published, one fetches what is missing.
//!
//! All that a node delivers of a room's history is delivered under the lock of the room, so that it has one order for
//! every client, also for those that are about to join. What is the next message is decided by [`crate::timeline`].

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use longwire_connection::Message;
use longwire_hub::{ClientId, Published, Target};
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tracing::{debug, warn};

use crate::appends::{Append, Task};
use crate::channel::Channel;
use crate::cluster::ClusterState;
use crate::envelope::{Body, Envelope, Post, is_post};
use crate::history::{History, Position, Record};
use crate::node::{Guard, Node, RETRY, call, jittered, within_limit};
use crate::timeline::{Arrival, Timeline};

/// The rooms whose history a node follows: those to which it has subscribed.
#[derive(Default)]
pub(crate) struct Rooms {
    by_name: Mutex<HashMap<Arc<str>, Arc<Room>>>,
    /// The rooms of whose history something has to be fetched.
    due: Mutex<BTreeSet<Arc<str>>>,
    added: Notify,
}

/// A room whose history a node follows.
pub(crate) struct Room(Mutex<RoomState>);

pub(crate) struct RoomState {
    pub(crate) timeline: Timeline,
    /// The clients that are about to join.
    joiners: Vec<Arc<Joiner>>,
    /// Set once the node follows the room no longer.
    pub(crate) is_over: bool,
}

/// A client that is about to join a room. What is delivered in the room is kept for it.
pub(crate) struct Joiner {
    client: ClientId,
    queue: Mutex<JoinQueue>,
    pub(crate) added: Notify,
}

#[derive(Default)]
struct JoinQueue {
    messages: VecDeque<(Message, Option<Position>)>,
    bytes: usize,
    has_overflowed: bool,
}

/// The form in which clients get a message of the history.
pub(crate) enum Content {
    Message {
        message: Message,
        /// The client of this node that does not get it.
        except: Option<ClientId>,
        latest: Option<Arc<str>>,
    },
    /// Messages were lost before they came into the history.
    Gap,
}

/// The outcome of a batch, by the numbers of its messages.
struct Appended {
    /// Those that the broker refuses.
    refused: BTreeSet<u64>,
    /// Those of which nobody knows whether the broker has them.
    unknown: BTreeSet<u64>,
}

impl Rooms {
    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Arc<Room>>> {
        // No panic can leave it half changed.
        self.by_name.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn get(&self, room: &str) -> Option<Arc<Room>> {
        self.lock().get(room).cloned()
    }

    /// Returns the names of all rooms.
    pub(crate) fn names(&self) -> Vec<Arc<str>> {
        self.lock().keys().cloned().collect()
    }

    /// Returns whether everything that arrives of a room is delivered.
    pub(crate) fn is_live(&self, room: &str) -> bool {
        self.get(room).is_some_and(|room| room.lock().timeline.live().is_some())
    }

    /// Follows the history of a room from now on.
    pub(crate) fn begin(&self, name: &Arc<str>) {
        self.lock().entry(Arc::clone(name)).or_insert_with(|| {
            let (timeline, joiners) = (Timeline::new(), Vec::new());
            Arc::new(Room(Mutex::new(RoomState { timeline, joiners, is_over: false })))
        });
        self.fall_behind(name);
    }

    /// Follows the history of a room no longer.
    pub(crate) fn end(&self, name: &str) {
        let room = self.lock().remove(name);
        if let Some(room) = room {
            room.lock().is_over = true;
        }
    }

    /// Notes that anything of a room's history may be missing.
    pub(crate) fn fall_behind(&self, name: &Arc<str>) {
        let must_fetch = self.get(name).is_some_and(|room| room.lock().timeline.fall_behind());
        if must_fetch {
            self.fetch_soon(name);
        }
    }

    /// Notes that anything may be missing in all rooms that cannot be fetched yet.
    pub(crate) fn doubt_all(&self) {
        let rooms: Vec<_> = self.lock().values().cloned().collect();
        for room in rooms {
            room.lock().timeline.doubt();
        }
    }

    fn due(&self) -> MutexGuard<'_, BTreeSet<Arc<str>>> {
        // No panic can leave it half changed.
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fetch_soon(&self, name: &Arc<str>) {
        self.due().insert(Arc::clone(name));
        self.added.notify_one();
    }

    /// Waits until something of a room has to be fetched.
    async fn next_due(&self) -> Arc<str> {
        loop {
            let next = self.due().pop_first();
            if let Some(name) = next {
                return name;
            }
            self.added.notified().await;
        }
    }
}

impl Room {
    pub(crate) fn lock(&self) -> MutexGuard<'_, RoomState> {
        // No panic can leave it half changed: what the application provides is caught.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RoomState {
    pub(crate) fn joiners(&self) -> &[Arc<Joiner>] {
        &self.joiners
    }

    /// Keeps what is delivered from now on for a client.
    pub(crate) fn admit(&mut self, client: ClientId) -> Arc<Joiner> {
        let joiner = Arc::new(Joiner { client, queue: Mutex::default(), added: Notify::new() });
        self.joiners.push(Arc::clone(&joiner));
        joiner
    }

    pub(crate) fn dismiss(&mut self, joiner: &Arc<Joiner>) {
        self.joiners.retain(|other| !Arc::ptr_eq(other, joiner));
    }
}

impl Joiner {
    /// Adds a message that is delivered in the room.
    pub(crate) fn add(&self, message: Message, position: Option<Position>) {
        let mut queue = self.lock();
        let bytes = message.len() + OVERHEAD;
        if queue.bytes + bytes > KEPT && queue.bytes > 0 {
            queue.has_overflowed = true;
            queue.messages = VecDeque::new();
        }
        if !queue.has_overflowed {
            queue.bytes += bytes;
            queue.messages.push_back((message, position));
        }
        drop(queue);
        self.added.notify_one();
    }

    /// Takes the first message.
    pub(crate) fn take(&self) -> Option<(Message, Option<Position>)> {
        let mut queue = self.lock();
        let first = queue.messages.pop_front()?;
        queue.bytes -= first.0.len() + OVERHEAD;
        Some(first)
    }

    /// Returns whether messages are missing, because the client did not take them in time.
    pub(crate) fn has_overflowed(&self) -> bool {
        self.lock().has_overflowed
    }

    fn lock(&self) -> MutexGuard<'_, JoinQueue> {
        // No panic can leave it half changed.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Node {
    /// Appends what is published in rooms to their history, until the node leaves.
    pub(crate) async fn append_all(self: Arc<Self>, bounds: History) {
        let guard = Guard::new(&self);
        let Some(appends) = &self.link.appends else { return };
        // Before the broker forgets the first attempt.
        let patience = bounds.repetition().mul_f64(0.8);
        let counters = &self.link.counters;
        while let Some(task) = appends.take().await {
            let batch = match task {
                Task::Append(batch) => batch,
                Task::TellAll => {
                    self.tell_lost_rooms().await;
                    continue;
                }
            };
            let Appended { refused, unknown } = self.append(&batch, patience).await;
            for append in batch.iter().filter(|append| is_post(&append.payload)) {
                if refused.contains(&append.number) || unknown.contains(&append.number) {
                    counters.lost.add(1);
                } else {
                    counters.published.add(1);
                    counters.published_bytes.add(append.payload.len() as u64);
                }
            }
            if unknown.is_empty() {
                appends.done(&batch);
            } else {
                // The next attempt could repeat them.
                appends.give_up(&batch, batch.iter().filter(|append| unknown.contains(&append.number)));
            }
        }
        guard.release();
    }

    /// Hands a batch to the broker until it has all messages, or in their place the news that they are lost; or until
    /// it may not recognize repetitions any more.
    async fn append(&self, all: &[Append], patience: Duration) -> Appended {
        let (mut batch, mut refused, mut stored) = (Cow::Borrowed(all), BTreeSet::new(), BTreeSet::new());
        let mut first_attempt = None;
        let mut wait = RETRY;
        loop {
            if first_attempt.is_none() {
                // Nothing was handed over, so that it can wait for any time.
                let mut state = self.state.subscribe();
                let is_over = |state: &ClusterState| !matches!(state, ClusterState::Lost { .. });
                drop(state.wait_for(is_over).await);
            }
            let attempt = Instant::now();
            let begun = *first_attempt.get_or_insert(attempt);
            if begun.elapsed() >= patience {
                warn!(messages = batch.len(), "messages for rooms are lost: the broker does not take them");
                let unknown =
                    all.iter().map(|append| append.number).filter(|number| !stored.contains(number));
                return Appended { refused, unknown: unknown.collect() };
            }
            let Err(error) = within_limit(self.backplane.append(&batch)).await else {
                return Appended { refused, unknown: BTreeSet::new() };
            };
            let mut rooms = BTreeSet::new();
            for append in batch.iter().filter(|append| error.has_stored(append)) {
                stored.insert(append.number);
                rooms.insert(Arc::clone(&append.room));
            }
            if !rooms.is_empty() {
                batch.to_mut().retain(|append| !error.has_stored(append));
                if batch.iter().all(|append| rooms.contains(&append.room)) {
                    // What is left was not handed over before this attempt: one of its room was before it.
                    first_attempt = Some(attempt);
                }
            }
            if let Some(number) = error.refused() {
                warn!(%error, number, "a message for a room is lost");
                if refused.insert(number) {
                    let refused = batch.to_mut().iter_mut().filter(|append| append.number == number);
                    let news = Envelope { from: self.id, body: Body::Lost { seq: number } }.encode();
                    refused.for_each(|append| append.payload = news.clone());
                } else {
                    // Not even the news.
                    batch.to_mut().retain(|append| append.number != number);
                }
                continue;
            }
            debug!(%error, "messages could not be appended");
            self.check.notify_one();
            sleep(jittered(wait)).await;
            wait = (2 * wait).min(Duration::from_secs(1));
        }
    }

    /// Fetches what is missing in rooms, until it is aborted.
    pub(crate) async fn catch_up_all(self: Arc<Self>) {
        let _guard = Guard::new(&self);
        let permits = Arc::new(Semaphore::new(FETCHES));
        let mut fetches = JoinSet::new();
        let Some(rooms) = &self.rooms else { return };
        loop {
            // It is never closed.
            let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
            let name = rooms.next_due().await;
            while fetches.try_join_next().is_some() {}
            let Some(room) = rooms.get(&name) else { continue };
            let node = Arc::clone(&self);
            fetches.spawn(async move {
                // If it panics, nobody else would fetch what is missing in the room.
                let guard = Guard::new(&node);
                node.catch_up(&name, &room).await;
                guard.release();
                drop(permit);
            });
        }
    }

    /// Fetches what is missing in a room, and delivers it.
    async fn catch_up(&self, name: &Arc<str>, room: &Room) {
        let mut after = {
            let mut state = room.lock();
            if !state.timeline.begin() {
                return;
            }
            state.timeline.last()
        };
        loop {
            let fetched = within_limit(self.backplane.history(name, after, PAGE)).await;
            let failed = match fetched {
                Ok(past) => {
                    let mut state = room.lock();
                    if state.is_over {
                        return;
                    }
                    let is_lost = after.is_some_and(|after| past.has_lost(after));
                    let fetched = state.timeline.fetched(past);
                    if let Some(appends) = self.link.appends.as_ref().filter(|it| is_lost && !it.is_stopped())
                    {
                        // Others may not have got what this node has got, and would not know of it.
                        appends.refuse(Arc::clone(name));
                    }
                    if fetched.has_gap {
                        self.report_gap_to(&Channel::Room(Arc::clone(name)), &state.joiners);
                    }
                    for record in fetched.deliver {
                        self.deliver_record(name, &state, record);
                    }
                    if state.timeline.live().is_some() {
                        drop(state);
                        self.notify_subscribed();
                        return;
                    }
                    after = state.timeline.last();
                    None
                }
                Err(error) => Some(error),
            };
            if let Some(error) = failed {
                debug!(%error, %name, "the history of a room could not be fetched");
                self.check.notify_one();
                sleep(jittered(5 * RETRY)).await;
                // Afterwards: if the broker comes back between the two, that is noted in the timeline.
                let is_connected = self.is_connected();
                let mut state = room.lock();
                if state.is_over {
                    return;
                }
                if !state.timeline.failed(false) {
                    drop(state);
                    if is_connected && let Some(rooms) = &self.rooms {
                        // Others have their turn before.
                        rooms.fetch_soon(name);
                    }
                    return;
                }
                after = state.timeline.last();
            }
            // Clients take what was delivered before they get more.
            sleep(PAUSE).await;
        }
    }

    /// Takes a message of a room's history that has arrived. Returns the work that it was, in messages to clients.
    pub(crate) fn receive_record(&self, name: &Arc<str>, record: Record) -> usize {
        let Some(rooms) = &self.rooms else { return 1 };
        let Some(room) = rooms.get(name) else { return 1 };
        let mut state = room.lock();
        match state.timeline.arrive(record) {
            Arrival::Deliver(record) => 1 + self.deliver_record(name, &state, record),
            Arrival::Nothing => 1,
            Arrival::Missing => {
                drop(state);
                rooms.fetch_soon(name);
                1
            }
        }
    }

    /// Delivers the next message of a room. Returns the number of clients.
    fn deliver_record(&self, name: &Arc<str>, state: &RoomState, record: Record) -> usize {
        let position = record.position;
        if is_post(&record.payload) && !Envelope::is_from(&record.payload, self.id) {
            self.link.counters.received.add(1);
            self.link.counters.received_bytes.add(record.payload.len() as u64);
        }
        match self.content(record) {
            Some(Content::Message { message, except, latest }) => {
                for joiner in &state.joiners {
                    if Some(joiner.client) != except {
                        joiner.add(message.clone(), Some(position));
                    }
                }
                let published = Published::new(Target::Room(name), &message).except(except);
                let published = match &latest {
                    Some(key) => published.latest(key),
                    None => published,
                };
                self.deliver_here(&Channel::Room(Arc::clone(name)), published)
            }
            Some(Content::Gap) => {
                self.report_gap_to(&Channel::Room(Arc::clone(name)), &state.joiners);
                0
            }
            None => 0,
        }
    }

    /// Reads a message of the history. `None` if it is not for clients.
    pub(crate) fn content(&self, record: Record) -> Option<Content> {
        let Record { position, payload, .. } = record;
        let Envelope { from, body } = match Envelope::decode(payload) {
            Ok(envelope) => envelope,
            Err(error) => {
                self.link.counters.malformed.add(1);
                debug!(%error, "something that is no envelope is in a history");
                return None;
            }
        };
        let Post { except, latest, message, .. } = match body {
            Body::Message(post) => post,
            Body::Lost { .. } => return Some(Content::Gap),
            _ => return None,
        };
        let message = match &self.options.history_message {
            None => message,
            Some(make) => call(|| make(position, &message)).or_else(|| {
                warn!("the function for messages of the history has panicked");
                None
            })?,
        };
        let except = except.filter(|_| from == self.id).map(ClientId::from);
        Some(Content::Message { message, except, latest })
    }
}

/// The messages that are fetched at once.
pub(crate) const PAGE: usize = 256;

/// The wait between two of these.
const PAUSE: Duration = Duration::from_millis(5);

/// The rooms of which messages are fetched at the same time.
const FETCHES: usize = 64;

/// The bytes of messages that are kept for a client that is about to join a room.
const KEPT: usize = 1024 * 1024;

/// The memory that a message takes beyond its payload.
const OVERHEAD: usize = 64;

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use longwire_hub::Hub;

    use super::*;
    use crate::backplane::{Backplane, BackplaneError, BoxFuture, Inbox};
    use crate::channel::NodeId;
    use crate::history::Past;
    use crate::{Cluster, ClusterOptions, Memory};

    /// A broker that stores one message in each call, after a while, and none of the room "stuck".
    struct Slow(Arc<Memory>);

    impl Backplane for Slow {
        fn start(&self, node: NodeId, inbox: Inbox) -> BoxFuture<'_, Result<(), BackplaneError>> {
            self.0.start(node, inbox)
        }

        fn subscribe<'a>(&'a self, channels: &'a [Channel]) -> BoxFuture<'a, Result<(), BackplaneError>> {
            self.0.subscribe(channels)
        }

        fn unsubscribe<'a>(&'a self, channels: &'a [Channel]) -> BoxFuture<'a, Result<(), BackplaneError>> {
            self.0.unsubscribe(channels)
        }

        fn publish<'a>(
            &'a self,
            messages: &'a [(Channel, Bytes)],
        ) -> BoxFuture<'a, Result<(), BackplaneError>> {
            self.0.publish(messages)
        }

        fn keep<'a>(&'a self, history: &'a History) -> BoxFuture<'a, Result<(), BackplaneError>> {
            self.0.keep(history)
        }

        fn append<'a>(&'a self, messages: &'a [Append]) -> BoxFuture<'a, Result<(), BackplaneError>> {
            Box::pin(async move {
                sleep(Duration::from_secs(4)).await;
                let is_post = |append: &&Append| is_post(&append.payload);
                let Some(first) = messages.iter().find(|append| &*append.room != "stuck" || !is_post(append))
                else {
                    return if messages.is_empty() { Ok(()) } else { Err(BackplaneError::new("stuck")) };
                };
                self.0.append(std::slice::from_ref(first)).await?;
                if messages.len() == 1 {
                    return Ok(());
                }
                let stored = HashMap::from([(Arc::clone(&first.room), first.number)]);
                Err(BackplaneError::new("slow").with_stored(stored))
            })
        }

        fn history<'a>(
            &'a self,
            room: &'a Arc<str>,
            after: Option<Position>,
            most: usize,
        ) -> BoxFuture<'a, Result<Past, BackplaneError>> {
            self.0.history(room, after, most)
        }

        fn probe(&self) -> BoxFuture<'_, Result<(), BackplaneError>> {
            self.0.probe()
        }

        fn stop(&self) -> BoxFuture<'_, ()> {
            self.0.stop()
        }
    }

    async fn slow() -> (Hub, Cluster, Arc<Memory>) {
        let (hub, memory) = (Hub::default(), Arc::new(Memory::new()));
        let options = ClusterOptions::default().with_history(History::default());
        let cluster = Cluster::join(&hub, Slow(Arc::clone(&memory)), options).await.expect("it is there");
        (hub, cluster, memory)
    }

    async fn kept(memory: &Memory, room: &str) -> Vec<Body> {
        let before = Position::new(0, 0);
        let past = memory.history(&room.into(), Some(before), 1000).await.expect("it is there");
        let body = |record: Record| Envelope::decode(record.payload).expect("it was written here").body;
        past.records.into_iter().map(body).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_is_not_given_up_while_it_makes_progress() {
        let (hub, cluster, memory) = slow().await;
        for number in 0..50 {
            hub.publish("tea", number.to_string());
        }
        sleep(Duration::from_secs(300)).await;
        assert_eq!((cluster.stats().published, cluster.stats().lost), (50, 0));
        let kept = kept(&memory, "tea").await;
        assert!(kept.len() == 50 && kept.iter().all(|body| matches!(body, Body::Message(_))), "{kept:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_that_is_given_up_is_lost_only_in_part() {
        let (hub, cluster, memory) = slow().await;
        hub.publish("tea", "stored");
        hub.publish("stuck", "lost");
        sleep(Duration::from_secs(300)).await;
        assert_eq!((cluster.stats().published, cluster.stats().lost), (1, 1));
        assert!(matches!(kept(&memory, "tea").await[..], [Body::Message(_)]));
        assert!(matches!(kept(&memory, "stuck").await[..], [Body::Lost { .. }]));
    }
}
