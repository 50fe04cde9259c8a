//! A node: its state, the task that publishes, and the reports of gaps.
//!
//! Its other tasks are in files of their own: one keeps its subscriptions, one receives, one watches over the broker
//! and the other nodes. Those for the history of rooms are in [`crate::catch_up`].

use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use longwire_hub::Hub;
use tokio::sync::{Notify, broadcast, oneshot, watch};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, warn};

use crate::backplane::{Backplane, BackplaneError, Inbox};
use crate::bundle::bundled;
use crate::catch_up::{Joiner, Rooms};
use crate::channel::{Channel, NodeId};
use crate::cluster::{ClusterError, ClusterEvent, ClusterState, Gap, Member, NodeInfo};
use crate::envelope;
use crate::history::History;
use crate::interest::Interest;
use crate::link::Link;
use crate::metrics::Reported;
use crate::options::ClusterOptions;
use crate::order::Seen;
use crate::outbox::Batch;
use crate::presence::{Change, Out, Presence};
use crate::stats::ClusterStats;

mod receiving;
mod subscribing;
mod watching;

/// The state that a node's tasks share.
pub(crate) struct Node {
    pub(crate) id: NodeId,
    name: Arc<str>,
    pub(crate) hub: Hub,
    pub(crate) link: Arc<Link>,
    inbox: Inbox,
    pub(crate) backplane: Arc<dyn Backplane>,
    pub(crate) options: ClusterOptions,
    /// The rooms whose history this node follows; `None` if there is none.
    pub(crate) rooms: Option<Rooms>,
    /// The time from which on the node knows the others.
    pub(crate) introduced_at: Instant,
    pub(crate) state: watch::Sender<ClusterState>,
    /// `None` once the node has left.
    events: Mutex<Option<broadcast::Sender<ClusterEvent>>>,
    inner: Mutex<Inner>,
    /// Set while the broker's client has reported a loss and not yet that it is over.
    is_disconnected: AtomicBool,
    /// The number of losses that the broker's client has reported, and this node has noted.
    losses: AtomicU64,
    /// Set when the broker's client has connected again, until that is checked.
    is_back_soon: AtomicBool,
    /// Held while the broker is declared to be away, or there: one after the other.
    turning: Mutex<()>,
    /// Notified when a subscription may have to be tried again.
    pub(crate) retry: Notify,
    /// Notified when the broker should be checked.
    pub(crate) check: Notify,
    /// Notified when something has to be asked sooner than was planned.
    sooner: Notify,
    /// Notified when rooms were subscribed to.
    subscribed: Notify,
    reported: Reported,
}

pub(crate) struct Inner {
    pub(crate) interest: Interest,
    presence: Presence,
    seen: Seen,
    /// The rooms and keys whose messages arrive.
    since: HashMap<Channel, Since>,
    /// Channels that were wanted and not subscribed to for a while, in which something may have been missed.
    late: HashSet<Channel>,
    /// Rooms that clients are about to join, and the number of these clients.
    pub(crate) held: HashMap<Arc<str>, usize>,
    questions: HashMap<u64, oneshot::Sender<Vec<Member>>>,
}

/// The beginning of a subscription.
#[derive(Clone, Copy)]
struct Since {
    /// The time from which on the node knows who is there, a moment later.
    at: Instant,
    /// The number of the last item in the inbox before it.
    after: u64,
}

impl Node {
    pub(crate) fn new(
        id: NodeId,
        hub: Hub,
        link: Arc<Link>,
        inbox: Inbox,
        backplane: Arc<dyn Backplane>,
        options: ClusterOptions,
    ) -> Self {
        let now = Instant::now();
        let name: Arc<str> = match &options.name {
            Some(name) => cut(name, MAX_NAME).into(),
            None => id.to_string().into(),
        };
        let mut interest = Interest::new(options.linger);
        for channel in [Channel::All, Channel::Control, Channel::Node(id)] {
            interest.occupy(channel);
        }
        // They are subscribed to already.
        interest.take_new(usize::MAX);
        let inner = Inner {
            interest,
            presence: Presence::new(id, Arc::clone(&name), options.lease(), now)
                .with_history(options.history.map(History::clamped)),
            seen: Seen::default(),
            since: HashMap::new(),
            late: HashSet::new(),
            held: HashMap::new(),
            questions: HashMap::new(),
        };
        Self {
            id,
            name,
            hub,
            link,
            inbox,
            backplane,
            introduced_at: now + INTRODUCTION,
            state: watch::Sender::new(ClusterState::Connected),
            events: Mutex::new(Some(broadcast::Sender::new(EVENTS))),
            inner: Mutex::new(inner),
            is_disconnected: AtomicBool::new(false),
            losses: AtomicU64::new(0),
            is_back_soon: AtomicBool::new(false),
            turning: Mutex::default(),
            retry: Notify::new(),
            check: Notify::new(),
            sooner: Notify::new(),
            subscribed: Notify::new(),
            reported: Reported::default(),
            rooms: options.history.map(|_| Rooms::default()),
            options,
        }
    }

    pub(crate) fn inner(&self) -> MutexGuard<'_, Inner> {
        // No panic can leave it half changed: what the application provides is not called under the lock.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state, and does what follows from that.
    fn change<R>(&self, change: impl FnOnce(&mut Inner) -> R) -> R {
        let mut differing = Vec::new();
        let mut inner = self.inner();
        let due_before = inner.presence.next_question();
        let result = change(&mut inner);
        let due = inner.presence.next_question();
        let mut is_sooner = due.is_some_and(|due| due_before.is_none_or(|before| due < before));
        // Under the lock, so that everything leaves in its order. None of this waits or calls the application.
        for out in inner.presence.take() {
            match out {
                Out::Send(channel, body) => is_sooner |= !self.link.outbox.tell(channel, body),
                // What it has published may arrive after its goodbye.
                Out::Forget(node) => inner.seen.forget_node(node),
                Out::Differs(name, history) => differing.push((name, history)),
                Out::Tell(change) => {
                    if let Change::NodeWent { node, .. } = change {
                        inner.seen.forget_node(node);
                    }
                    self.tell(event(change));
                }
                Out::Answered(query, members) => {
                    if let Some(asker) = inner.questions.remove(&query) {
                        // Whoever has asked may have gone.
                        let _ = asker.send(members.into_iter().map(member).collect());
                    }
                }
            }
        }
        drop(inner);
        if is_sooner {
            self.sooner.notify_one();
        }
        for (node, history) in differing {
            let own = self.options.history.map(History::clamped);
            warn!(%node, ?history, ?own, "a node has another history: all must have the same bounds, or none");
        }
        result
    }

    fn turning(&self) -> MutexGuard<'_, ()> {
        self.turning.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, event: ClusterEvent) {
        let events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(events) = &*events {
            // Nobody may be listening.
            let _ = events.send(event);
        }
    }

    pub(crate) fn events(&self) -> broadcast::Receiver<ClusterEvent> {
        let events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        match &*events {
            Some(events) => events.subscribe(),
            None => broadcast::channel(1).1,
        }
    }

    /// Ends the node: nothing more happens. Does nothing if it has ended.
    pub(crate) fn leave(&self) {
        self.link.stop(None);
        self.state.send_replace(ClusterState::Left);
        drop(self.events.lock().unwrap_or_else(PoisonError::into_inner).take());
        let questions = std::mem::take(&mut self.inner().questions);
        drop(questions);
        self.subscribed.notify_waiters();
    }

    /// Returns an error if the broker is not reached.
    pub(crate) fn check(&self) -> Result<(), ClusterError> {
        match &*self.state.borrow() {
            ClusterState::Connected => Ok(()),
            ClusterState::Lost { error, .. } => Err(ClusterError::Broker(error.clone())),
            ClusterState::Left => Err(ClusterError::Left),
        }
    }

    pub(crate) fn nodes(&self) -> Vec<NodeInfo> {
        let mut others = self.inner().presence.nodes();
        others.sort();
        let own = (self.id, Arc::clone(&self.name));
        std::iter::once(own).chain(others).map(|(id, name)| NodeInfo { id, name }).collect()
    }

    pub(crate) fn stats(&self) -> ClusterStats {
        let counters = &self.link.counters;
        let inner = self.inner();
        ClusterStats {
            published: counters.published.value(),
            published_bytes: counters.published_bytes.value(),
            lost: counters.lost.value(),
            received: counters.received.value(),
            received_bytes: counters.received_bytes.value(),
            overflowed: self.inbox.overflowed(),
            gaps: counters.gaps.value(),
            malformed: counters.malformed.value(),
            outages: counters.outages.value(),
            nodes: inner.presence.nodes().len(),
            subscriptions: inner.since.len(),
        }
    }

    /// Reports the counts to the recorder of metrics.
    pub(crate) fn report_stats(&self) {
        self.reported.report(|| {
            let stats = self.stats();
            let has_left = matches!(*self.state.borrow(), ClusterState::Left);
            if has_left { ClusterStats { nodes: 0, subscriptions: 0, ..stats } } else { stats }
        });
    }

    pub(crate) async fn subscribed(&self, room: &str) -> Result<(), ClusterError> {
        let channel = Channel::Room(room.into());
        loop {
            let notified = self.subscribed.notified();
            match &*self.state.borrow() {
                ClusterState::Left => return Err(ClusterError::Left),
                ClusterState::Connected if self.hears(&channel) => return Ok(()),
                ClusterState::Connected | ClusterState::Lost { .. } => {}
            }
            notified.await;
        }
    }

    /// Returns whether what is published on a channel from now on is delivered.
    pub(crate) fn hears(&self, channel: &Channel) -> bool {
        let is_live = match (&self.rooms, channel) {
            (Some(rooms), Channel::Room(room)) => rooms.is_live(room),
            _ => true,
        };
        is_live && self.inner().since.contains_key(channel)
    }

    /// Wakes those who wait until this node hears what is published.
    pub(crate) fn notify_subscribed(&self) {
        self.subscribed.notify_waiters();
    }

    /// Waits until a room may have become live, from the time on at which this was called.
    pub(crate) fn wait_subscribed(&self) -> tokio::sync::futures::Notified<'_> {
        self.subscribed.notified()
    }

    /// Returns who is in a room, if this node knows.
    pub(crate) fn known_members(&self, room: &Arc<str>) -> Option<Vec<Member>> {
        let inner = self.inner();
        let members = inner.is_settled(room).then(|| inner.presence.members(room))?;
        Some(members?.into_iter().map(member).collect())
    }

    pub(crate) fn known_count(&self, room: &str) -> Option<usize> {
        let inner = self.inner();
        if Instant::now() < self.introduced_at || !inner.is_settled(&room.into()) {
            return None;
        }
        inner.presence.count(room)
    }

    /// Asks all nodes who is in a room.
    pub(crate) fn ask(&self, room: &Arc<str>) -> (u64, oneshot::Receiver<Vec<Member>>) {
        let (asker, answer) = oneshot::channel();
        let query = self.change(|inner| {
            let query = inner.presence.query(room);
            inner.questions.insert(query, asker);
            query
        });
        (query, answer)
    }

    pub(crate) fn forget(&self, query: u64) {
        let mut inner = self.inner();
        inner.presence.forget_query(query);
        inner.questions.remove(&query);
    }

    /// Publishes what waits in the outbox, until the node leaves and the broker has it.
    pub(crate) async fn publish_all(self: Arc<Self>) {
        // If it leaves, the others still run.
        let guard = Guard::new(&self);
        let outbox = &self.link.outbox;
        loop {
            while let Some(batch) = outbox.take().await {
                self.publish(batch).await;
            }
            let settled = outbox.settled();
            // Without its other tasks, nothing settles any more.
            if outbox.is_settled() || matches!(*self.state.borrow(), ClusterState::Left) {
                break;
            }
            self.check.notify_one();
            // If the broker goes away and comes back, losses are to be told.
            let _ = timeout(RETRY, settled).await;
        }
        guard.release();
    }

    async fn publish(&self, mut batch: Batch) {
        let Link { outbox, counters, .. } = &*self.link;
        let posts = batch.messages.split_off(batch.news);
        batch.messages.extend(bundled(self.id, posts, self.backplane.max_payload()));
        match within_limit(self.backplane.publish(&batch.messages)).await {
            Ok(()) => {
                outbox.succeed();
                counters.published.add(batch.posts);
                counters.published_bytes.add(batch.bytes);
            }
            Err(error) => {
                debug!(%error, "messages could not be published");
                counters.lost.add(batch.posts);
                outbox.fail(batch.messages);
                // It may have been one message, or the broker.
                self.check.notify_one();
                sleep(RETRY).await;
            }
        }
    }

    /// Reports a gap in everything that arrives here. What is missing in a history shows there.
    async fn report_all_gaps(&self) {
        let has_history = self.rooms.is_some();
        let channels: Vec<_> = {
            let mut inner = self.inner();
            inner.seen.clear();
            let channels = inner.since.keys();
            channels.filter(|channel| !has_history || channel.room().is_none()).cloned().collect()
        };
        self.report_gap(&Channel::All);
        for (count, channel) in (1_u64..).zip(&channels) {
            self.report_gap(channel);
            if count.is_multiple_of(TURN) {
                yield_now().await;
            }
        }
    }

    /// Reports a gap in all rooms with a history, and has the other nodes do so: this node has lost messages, and does
    /// not know in which rooms.
    pub(crate) async fn tell_lost_rooms(&self) {
        warn!("messages for rooms are lost: more were published than may wait");
        self.change(|inner| inner.presence.lost_rooms());
        self.report_room_gaps().await;
    }

    async fn report_room_gaps(&self) {
        let rooms = self.rooms.as_ref().map(Rooms::names).unwrap_or_default();
        for (count, room) in (1_u64..).zip(rooms) {
            self.report_gap(&Channel::Room(room));
            if count.is_multiple_of(TURN) {
                yield_now().await;
            }
        }
    }

    /// Reports that messages of a channel were lost.
    pub(crate) fn report_gap(&self, channel: &Channel) {
        let room = match (&self.rooms, channel) {
            (Some(rooms), Channel::Room(room)) => rooms.get(room),
            _ => None,
        };
        match room {
            Some(room) => self.report_gap_to(channel, room.lock().joiners()),
            None => self.report_gap_to(channel, &[]),
        }
    }

    /// Does the same, also to clients that are about to join the room.
    pub(crate) fn report_gap_to(&self, channel: &Channel, joiners: &[Arc<Joiner>]) {
        let gap = match channel {
            Channel::All => Gap::All,
            Channel::Room(room) => Gap::Room(Arc::clone(room)),
            Channel::Key(key) => Gap::Key(Arc::clone(key)),
            Channel::Control | Channel::Node(_) => return,
        };
        self.link.counters.gaps.add(1);
        debug!(?gap, "messages were lost");
        if let (Gap::Room(room), Some(make)) = (&gap, &self.options.gap_message)
            && let Some(Some(message)) = call(|| make(room))
        {
            for joiner in joiners {
                joiner.add(message.clone(), None);
            }
            // A client's transport may panic.
            call(|| self.hub.publish_local(room, message));
        }
        self.tell(ClusterEvent::Gap(gap));
    }

    pub(crate) fn is_connected(&self) -> bool {
        matches!(*self.state.borrow(), ClusterState::Connected)
    }
}

/// Ends the node with the task that has it: without one of its tasks, a node is none.
pub(crate) struct Guard(Option<Arc<Node>>);

impl Guard {
    pub(crate) fn new(node: &Arc<Node>) -> Self {
        Self(Some(Arc::clone(node)))
    }

    /// Lets the task end without the node.
    pub(crate) fn release(mut self) {
        self.0 = None;
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // A node that leaves by itself ends its tasks, and then tells what its clients may miss.
        if let Some(node) = self.0.as_ref().filter(|node| !node.link.is_stopped()) {
            node.leave();
        }
    }
}

/// Lets other tasks have their turn now and then.
async fn give_way(count: &mut u64) {
    *count += 1;
    if count.is_multiple_of(TURN) {
        yield_now().await;
    }
}

impl Inner {
    /// Returns whether this node has received what happens in a room for long enough to know who is in it.
    fn is_settled(&self, room: &Arc<str>) -> bool {
        let since = self.since.get(&Channel::Room(Arc::clone(room)));
        since.is_some_and(|since| since.at.elapsed() >= INTRODUCTION)
    }

    /// Notes that this node may not know who is where, until the others have answered.
    fn unsettle(&mut self) {
        let now = Instant::now();
        for since in self.since.values_mut() {
            since.at = now;
        }
    }
}

fn member((node, member): (NodeId, envelope::Member)) -> Member {
    Member { node, client: member.id.into(), data: member.data }
}

fn event(change: Change) -> ClusterEvent {
    match change {
        Change::NodeCame { node: id, name } => ClusterEvent::NodeCame(NodeInfo { id, name }),
        Change::NodeWent { node: id, name } => ClusterEvent::NodeWent(NodeInfo { id, name }),
        Change::Entered { room, node, member: it } => {
            ClusterEvent::Entered { room, member: member((node, it)) }
        }
        Change::Left { room, node, member: it } => ClusterEvent::Left { room, member: member((node, it)) },
    }
}

/// Limits the time of a call of the broker's client.
pub(crate) async fn within_limit<R>(
    call: impl Future<Output = Result<R, BackplaneError>>,
) -> Result<R, BackplaneError> {
    timeout(CALL, call).await.unwrap_or_else(|_| Err(BackplaneError::new("it does not answer")))
}

/// Calls a function of the application. `None` if it panics.
pub(crate) fn call<R>(function: impl FnOnce() -> R) -> Option<R> {
    // What it has left half changed is its own.
    catch_unwind(AssertUnwindSafe(function)).ok()
}

/// Returns between half of a time and all of it.
pub(crate) fn jittered(wait: Duration) -> Duration {
    // Without random bytes, all nodes try at the same time.
    let random = getrandom::u32().unwrap_or(u32::MAX);
    wait / 2 + (wait / 2).mul_f64(f64::from(random) / f64::from(u32::MAX))
}

/// Returns the longest beginning of a text that has at most `most` bytes.
fn cut(text: &str, most: usize) -> &str {
    let end = (0..=most.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or_default()]
}

/// The time in which nodes learn of each other.
const INTRODUCTION: Duration = Duration::from_secs(1);

/// The time limit of a call of the broker's client.
const CALL: Duration = Duration::from_secs(5);

/// The first wait before something that has failed is tried again.
pub(crate) const RETRY: Duration = Duration::from_millis(100);

/// The small steps after which other tasks have their turn.
const TURN: u64 = 256;

/// The events that are kept for a receiver that is slow.
const EVENTS: usize = 1024;

/// The bytes of a node's name that are used.
const MAX_NAME: usize = 1024;
