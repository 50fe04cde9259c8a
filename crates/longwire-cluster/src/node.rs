//! The tasks of a node: one keeps its subscriptions, one publishes, one receives, one watches over the broker and the
//! other nodes. Those for the history of rooms are in [`crate::catch_up`].

use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use longwire_connection::race;
use longwire_hub::{ClientId, Hub, Published, Target};
use tokio::sync::{Notify, broadcast, oneshot, watch};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::{debug, info, warn};

use crate::backplane::{Backplane, BackplaneError, Inbox, Item};
use crate::bundle::bundled;
use crate::catch_up::{Joiner, Rooms};
use crate::channel::{Channel, NodeId};
use crate::cluster::{ClusterError, ClusterEvent, ClusterState, Gap, Member, NodeInfo};
use crate::envelope::{self, Body, Envelope, Post};
use crate::interest::Interest;
use crate::link::{Link, Move};
use crate::metrics::Reported;
use crate::options::ClusterOptions;
use crate::order::Seen;
use crate::presence::{Change, Out, Presence};
use crate::stats::ClusterStats;

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
    /// Set when the broker's client has connected again, until that is checked.
    is_back_soon: AtomicBool,
    /// Held while the broker is declared to be away, or there: one after the other.
    turning: Mutex<()>,
    /// Notified when a subscription may have to be tried again.
    pub(crate) retry: Notify,
    /// Notified when the broker should be checked.
    pub(crate) check: Notify,
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
            presence: Presence::new(id, Arc::clone(&name), options.lease(), now),
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
            is_back_soon: AtomicBool::new(false),
            turning: Mutex::default(),
            retry: Notify::new(),
            check: Notify::new(),
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
        let mut inner = self.inner();
        let result = change(&mut inner);
        // Under the lock, so that everything leaves in its order. None of this waits or calls the application.
        for out in inner.presence.take() {
            match out {
                Out::Send(channel, body) => self.link.outbox.tell(channel, body),
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

    /// Publishes what waits in the outbox, until the node leaves.
    pub(crate) async fn publish_all(self: Arc<Self>) {
        // If it leaves, the others still run.
        let guard = Guard::new(&self);
        while let Some(mut batch) = self.link.outbox.take().await {
            let counters = &self.link.counters;
            let posts = batch.messages.split_off(batch.news);
            batch.messages.extend(bundled(self.id, posts, self.backplane.max_payload()));
            match within_limit(self.backplane.publish(&batch.messages)).await {
                Ok(()) => {
                    self.link.outbox.succeed();
                    counters.published.add(batch.posts);
                    counters.published_bytes.add(batch.bytes);
                }
                Err(error) => {
                    debug!(%error, "messages could not be published");
                    counters.lost.add(batch.posts);
                    self.link.outbox.fail(batch.messages);
                    // It may have been one message, or the broker.
                    self.check.notify_one();
                    sleep(RETRY).await;
                }
            }
        }
        guard.release();
    }

    /// Notes that the broker is away.
    fn lose(&self, error: BackplaneError) {
        let _turning = self.turning();
        let is_news = self.state.send_if_modified(|state| {
            let was_connected = matches!(state, ClusterState::Connected);
            if was_connected {
                *state = ClusterState::Lost { since: Instant::now(), error: error.clone() };
            }
            was_connected
        });
        if is_news {
            warn!(%error, "the broker is away");
            let counters = &self.link.counters;
            counters.outages.add(1);
            counters.lost.add(self.link.outbox.set_away(true));
            self.change(|inner| inner.presence.lost(Instant::now()));
            if let Some(rooms) = &self.rooms {
                // What arrives before they are fetched may not be the next message.
                rooms.doubt_all();
            }
            self.tell(ClusterEvent::Lost(error));
        }
    }

    /// Notes that the broker is there.
    async fn restore(&self) {
        if !self.is_back() {
            return;
        }
        self.miss_all().await;
        {
            let _turning = self.turning();
            // Unless it is away again, which was told.
            if self.is_connected() {
                self.tell(ClusterEvent::Restored);
            }
        }
        self.retry.notify_one();
        self.subscribed.notify_waiters();
    }

    /// Ends the outage, if there is one.
    fn is_back(&self) -> bool {
        let _turning = self.turning();
        if self.is_disconnected.load(Ordering::Relaxed) {
            return false;
        }
        let mut away = None;
        self.state.send_if_modified(|state| {
            if let ClusterState::Lost { since, .. } = state {
                away = Some(since.elapsed());
                *state = ClusterState::Connected;
            }
            away.is_some()
        });
        let Some(away) = away else { return false };
        info!(?away, "the broker is there again");
        self.link.outbox.set_away(false);
        self.change(|inner| {
            inner.presence.restored(Instant::now());
            inner.unsettle();
            // What these rooms have missed is told once they are subscribed to.
            inner.late.extend(inner.interest.waiting().cloned());
        });
        true
    }

    /// Notes that anything may have been lost on its way here, and asks anew who is where.
    async fn miss_anything(&self) {
        self.change(|inner| {
            inner.presence.missed_anything(Instant::now());
            inner.unsettle();
        });
        self.miss_all().await;
    }

    /// Fetches what may be missing in rooms with a history, and reports a gap in everything else.
    async fn miss_all(&self) {
        let Some(rooms) = &self.rooms else { return self.report_all_gaps().await };
        let channels: Vec<_> = {
            let mut inner = self.inner();
            inner.seen.clear();
            inner.since.keys().cloned().collect()
        };
        self.report_gap(&Channel::All);
        for (count, channel) in (1_u64..).zip(&channels) {
            match channel {
                Channel::Room(room) => rooms.fall_behind(room),
                channel => self.report_gap(channel),
            }
            if count.is_multiple_of(TURN) {
                yield_now().await;
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
            self.hub.publish_local(room, message);
        }
        self.tell(ClusterEvent::Gap(gap));
    }

    /// Subscribes to the channels that this node's clients want, until it is aborted.
    pub(crate) async fn keep_subscriptions(self: Arc<Self>) {
        let _guard = Guard::new(&self);
        self.look_at_all().await;
        let mut wait = RETRY;
        loop {
            self.follow_moves().await;
            self.inner().interest.expire(Instant::now());
            let mut is_done = self.give_up_old().await;
            // While the broker is away, its return is waited for.
            is_done &= !self.is_connected() || self.subscribe_new().await;
            wait = if is_done { RETRY } else { (2 * wait).min(CALL) };
            let deadline = self.inner().interest.next_end();
            let retry = (!is_done).then(|| Instant::now() + wait);
            let wake = [deadline, retry].into_iter().flatten().min();
            // Either is followed by a look at everything.
            let changed = race(self.link.moved.notified(), self.retry.notified());
            match wake {
                Some(wake) => drop(timeout_at(wake, changed).await),
                None => changed.await,
            }
        }
    }

    pub(crate) fn is_connected(&self) -> bool {
        matches!(*self.state.borrow(), ClusterState::Connected)
    }

    /// Follows the moves of clients since the last time.
    async fn follow_moves(&self) {
        let Some(moves) = self.link.take_moves() else { return self.look_at_all().await };
        for (count, moved) in (1_u64..).zip(moves) {
            match moved {
                Move::Entered(room, client) => self.enter(&room, client),
                Move::Left(room, client) => self.leave_room(&room, client.value()),
                Move::Taken(key) => self.inner().interest.occupy(Channel::Key(key)),
                Move::GivenUp(key) => self.inner().interest.vacate(&Channel::Key(key), Instant::now()),
            }
            if count.is_multiple_of(TURN) {
                yield_now().await;
            }
        }
    }

    fn enter(&self, room: &Arc<str>, client: ClientId) {
        let data = self.data_of(client);
        self.change(|inner| {
            inner.interest.occupy(Channel::Room(Arc::clone(room)));
            inner.presence.entered(room, envelope::Member { id: client.value(), data });
        });
    }

    fn leave_room(&self, room: &Arc<str>, client: u64) {
        self.change(|inner| {
            inner.presence.left(room, client);
            if inner.presence.own(room).next().is_none() && !inner.held.contains_key(room) {
                inner.interest.vacate(&Channel::Room(Arc::clone(room)), Instant::now());
            }
        });
    }

    /// Returns what other nodes are told of a client.
    fn data_of(&self, client: ClientId) -> Bytes {
        let Some(make) = &self.options.member_data else { return Bytes::new() };
        // It may have left meanwhile.
        let Some(client) = self.hub.get(client) else { return Bytes::new() };
        let mut data = call(|| make(&client)).unwrap_or_default();
        data.truncate(MAX_DATA);
        data
    }

    /// Compares what this node knows of its clients with the hub. Moves from now on come after it.
    async fn look_at_all(&self) {
        let mut count = 0_u64;
        let rooms_before = self.inner().presence.own_rooms();
        for room in rooms_before {
            let known: Vec<_> = self.inner().presence.own(&room).collect();
            let state = self.hub.room(&room);
            for client in known.into_iter().filter(|client| !state.contains((*client).into())) {
                self.leave_room(&room, client);
                give_way(&mut count).await;
            }
        }
        for room in self.hub.rooms() {
            for client in self.hub.room(&room).members().iter() {
                self.enter(&room, client.id());
                give_way(&mut count).await;
            }
        }
        let keys: HashSet<_> = self.hub.keys().into_iter().map(Channel::Key).collect();
        let mut inner = self.inner();
        let is_stale = |channel: &&Channel| matches!(channel, Channel::Key(_)) && !keys.contains(*channel);
        let stale: Vec<_> = inner.interest.occupied().filter(is_stale).cloned().collect();
        for channel in stale {
            inner.interest.vacate(&channel, Instant::now());
        }
        for key in keys {
            inner.interest.occupy(key);
        }
    }

    /// Returns whether the hub has a client for a channel.
    pub(crate) fn is_occupied(&self, channel: &Channel) -> bool {
        match channel {
            Channel::Room(room) => !self.hub.room(room).is_empty() || self.inner().held.contains_key(room),
            Channel::Key(key) => !self.hub.clients_of(key).is_empty(),
            Channel::All | Channel::Control | Channel::Node(_) => true,
        }
    }

    /// Ends subscriptions that are not wanted any more. Returns whether all of them have ended.
    async fn give_up_old(&self) -> bool {
        loop {
            let channels = self.inner().interest.take_old(SUBSCRIBE);
            // A client may have come a moment ago.
            let (kept, given_up): (Vec<_>, Vec<_>) =
                channels.into_iter().partition(|channel| self.is_occupied(channel));
            let missed: Vec<_> = self.change(|inner| {
                // What has arrived since it was given up was not delivered.
                let missed =
                    kept.iter().filter(|channel| inner.since.contains_key(*channel)).cloned().collect();
                for channel in kept {
                    // Of one that was never subscribed to, nothing is known.
                    let is_subscribed = inner.since.contains_key(&channel);
                    if is_subscribed { inner.interest.keep(channel) } else { inner.interest.occupy(channel) }
                }
                inner.seen.forget(&given_up);
                for channel in &given_up {
                    inner.since.remove(channel);
                    inner.late.remove(channel);
                    if let Some(room) = channel.room() {
                        inner.presence.unsubscribed(room);
                    }
                }
                missed
            });
            for channel in missed {
                // With a history, what has arrived was delivered.
                if self.rooms.is_none() || channel.room().is_none() {
                    self.report_gap(&channel);
                }
            }
            if let Some(rooms) = &self.rooms {
                given_up.iter().filter_map(Channel::room).for_each(|room| rooms.end(room));
            }
            if given_up.is_empty() {
                return true;
            }
            let ended = within_limit(self.backplane.unsubscribe(&given_up)).await;
            // What was published between this and the next subscription has not arrived.
            let again: Vec<_> =
                given_up.iter().filter(|channel| self.is_occupied(channel)).cloned().collect();
            self.inner().late.extend(again);
            if let Err(error) = ended {
                debug!(%error, "subscriptions could not be ended");
                self.inner().interest.retry_end(given_up);
                return false;
            }
        }
    }

    /// Returns whether everything that is wanted is subscribed to.
    async fn subscribe_new(&self) -> bool {
        let mut most = SUBSCRIBE;
        let mut refused = Vec::new();
        loop {
            let channels = self.inner().interest.take_new(most);
            if channels.is_empty() {
                break;
            }
            let after = self.inbox.last();
            if let Err(error) = within_limit(self.backplane.subscribe(&channels)).await {
                debug!(%error, count = channels.len(), "subscribing failed");
                self.inner().late.extend(channels.iter().cloned());
                // It may be one of them, or the broker.
                self.check.notify_one();
                if channels.len() == 1 {
                    refused.extend(channels);
                } else {
                    most = channels.len().div_ceil(2);
                    self.inner().interest.retry(channels);
                }
                if refused.len() >= REFUSED || !self.is_connected() {
                    break;
                }
                continue;
            }
            most = (2 * most).min(SUBSCRIBE);
            let since = Since { at: Instant::now(), after };
            if let Some(rooms) = &self.rooms {
                channels.iter().filter_map(Channel::room).for_each(|room| rooms.begin(room));
            }
            let late = self.change(|inner| {
                let late: Vec<_> =
                    channels.iter().filter(|channel| inner.late.remove(*channel)).cloned().collect();
                for channel in channels {
                    if let Some(room) = channel.room() {
                        inner.presence.subscribed(room);
                    }
                    inner.since.insert(channel, since);
                }
                late
            });
            for channel in late {
                let has_missed = match (&self.rooms, channel.room()) {
                    // Who joins by position begins now.
                    (Some(_), Some(room)) => !self.hub.room(room).is_empty(),
                    _ => true,
                };
                if has_missed {
                    self.report_gap(&channel);
                }
            }
            self.subscribed.notify_waiters();
        }
        let is_done = refused.is_empty() && self.inner().interest.waiting().next().is_none();
        self.inner().interest.retry(refused);
        is_done
    }

    /// Receives what arrives, until it is aborted.
    pub(crate) async fn receive_all(self: Arc<Self>) {
        let _guard = Guard::new(&self);
        let mut work = 0;
        loop {
            let done = match self.inbox.take().await {
                Item::Message { channel, payload, number } => self.receive(&channel, payload, number).await,
                Item::Record { room, record } => self.receive_record(&room, record),
                Item::Behind(room) => {
                    if let Some(rooms) = &self.rooms {
                        rooms.fall_behind(&room);
                    }
                    1
                }
                Item::Dropped(Some(channel)) => self.miss(&channel).await,
                Item::Dropped(None) => {
                    self.miss_anything().await;
                    1
                }
                Item::Lost(error) => {
                    self.is_disconnected.store(true, Ordering::Relaxed);
                    self.lose(error);
                    1
                }
                Item::Restored => {
                    self.is_disconnected.store(false, Ordering::Relaxed);
                    if self.is_connected() {
                        // It was back before anybody noticed that it was away.
                        self.miss_anything().await;
                    }
                    self.is_back_soon.store(true, Ordering::Relaxed);
                    self.check.notify_one();
                    1
                }
            };
            work += done.max(LEAST);
            if work >= WORK {
                // Other tasks of this thread have their turn.
                work = 0;
                yield_now().await;
            }
        }
    }

    /// Returns the work that it was, in messages to clients.
    async fn receive(&self, channel: &Channel, payload: Bytes, number: u64) -> usize {
        let len = payload.len() as u64;
        let Envelope { from, body } = match Envelope::decode(payload) {
            Ok(envelope) => envelope,
            Err(error) => {
                self.link.counters.malformed.add(1);
                debug!(%error, ?channel, "something that is no envelope has arrived");
                return 1;
            }
        };
        let is_old = || self.inner().since.get(channel).is_some_and(|since| number <= since.after);
        if from == self.id || is_old() {
            return 1;
        }
        if matches!(body, Body::Message(_) | Body::Bundle(_)) {
            self.link.counters.received_bytes.add(len);
        }
        let Body::Bundle(bodies) = body else { return self.receive_body(channel, from, body).await };
        let mut work = 0;
        for body in bodies {
            work += self.receive_body(channel, from, body).await.max(LEAST);
            if work >= WORK {
                work = 0;
                yield_now().await;
            }
        }
        1 + work
    }

    /// Returns the work that it was, in messages to clients.
    async fn receive_body(&self, channel: &Channel, from: NodeId, body: Body) -> usize {
        match body {
            Body::Message(post) => {
                self.link.counters.received.add(1);
                1 + self.deliver(channel, from, &post)
            }
            Body::Lost { .. } if *channel == Channel::All => {
                self.report_all_gaps().await;
                WORK
            }
            Body::Lost { seq } => {
                self.miss_from(channel, from, seq);
                1
            }
            body => {
                let has_lost_rooms = self.change(|inner| {
                    inner.presence.receive(from, channel, body, Instant::now());
                    inner.presence.take_lost_rooms()
                });
                if has_lost_rooms {
                    self.report_room_gaps().await;
                    return WORK;
                }
                1
            }
        }
    }

    /// Returns the number of clients.
    fn deliver(&self, channel: &Channel, from: NodeId, post: &Post) -> usize {
        let target = match channel {
            Channel::All => Target::All,
            Channel::Room(room) => Target::Room(room),
            Channel::Key(key) => Target::Key(key),
            Channel::Control | Channel::Node(_) => return 0,
        };
        let mut inner = self.inner();
        inner.presence.heard(from);
        if !inner.interest.wants(channel) {
            return 0;
        }
        if inner.seen.is_late(channel, from, post.seq) {
            // It counts as missing.
            return 0;
        }
        let has_gap = inner.seen.note(channel, from, post.seq, post.previous);
        drop(inner);
        if has_gap {
            self.report_gap(channel);
        }
        let published = Published::new(target, &post.message);
        let published = match &post.latest {
            Some(key) => published.latest(key),
            None => published,
        };
        self.hub.deliver_incoming(published).accepted
    }

    /// Notes that another node has lost messages, which it told.
    fn miss_from(&self, channel: &Channel, from: NodeId, seq: u64) {
        let mut inner = self.inner();
        if inner.interest.wants(channel) {
            inner.seen.note_lost(channel, from, seq);
            drop(inner);
            self.report_gap(channel);
        }
    }

    /// Notes that messages of a channel did not arrive. Returns the work that it was.
    async fn miss(&self, channel: &Channel) -> usize {
        let now = Instant::now();
        let is_wanted = self.change(|inner| {
            inner.seen.forget(std::slice::from_ref(channel));
            match channel {
                Channel::Room(room) => inner.presence.missed(room),
                Channel::Control | Channel::Node(_) => inner.presence.missed_anything(now),
                Channel::All | Channel::Key(_) => {}
            }
            inner.interest.wants(channel)
        });
        if is_wanted && *channel == Channel::All {
            // Word of losses on any channel may have been among them.
            self.report_all_gaps().await;
            return WORK;
        }
        match (&self.rooms, channel.room()) {
            // Only news of nodes are sent by themselves.
            (Some(rooms), Some(room)) => rooms.fall_behind(room),
            _ if is_wanted => self.report_gap(channel),
            _ => {}
        }
        1
    }

    /// Watches over the broker and the other nodes, until it is aborted.
    pub(crate) async fn keep_alive(self: Arc<Self>) {
        let _guard = Guard::new(&self);
        let interval = self.options.lease() / 3;
        let (mut next_probe, mut wait) = (Instant::now() + interval, RETRY);
        let (mut next_resend, mut resend_wait) = (Instant::now(), RESEND);
        loop {
            let next_tick = self.change(|inner| {
                let now = Instant::now();
                if next_resend <= now && self.link.outbox.has_lost_news() {
                    inner.presence.missed_anything(now);
                    // If the answers are what does not fit, asking more often would not help.
                    next_resend = now + resend_wait;
                    resend_wait = (2 * resend_wait).min(RESEND_AT_LAST);
                } else if next_resend + RESEND_AT_LAST <= now {
                    resend_wait = RESEND;
                }
                inner.presence.tick(Instant::now());
                inner.presence.next_tick()
            });
            let wake = next_tick.min(next_probe);
            // While the broker is away, it is checked less and less often.
            let is_asked = timeout_at(wake, self.check.notified()).await.is_ok();
            let may_hurry = self.is_back_soon.load(Ordering::Relaxed) || self.is_connected();
            if Instant::now() < next_probe && !(is_asked && may_hurry) {
                continue;
            }
            self.is_back_soon.store(false, Ordering::Relaxed);
            let begun = Instant::now();
            self.link.outbox.ask();
            let answered = match timeout(interval.min(CALL), self.backplane.probe()).await {
                Ok(answered) => answered,
                Err(_) => Err(BackplaneError::new("it does not answer")),
            };
            match answered {
                Ok(()) => {
                    self.link.outbox.confirm();
                    self.restore().await;
                    wait = RETRY;
                    next_probe = begun + interval;
                }
                Err(error) => {
                    self.lose(error);
                    next_probe = Instant::now() + jittered(wait);
                    wait = (wait * 2).min(interval.clamp(RETRY, CALL));
                }
            }
        }
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
        if let Some(node) = &self.0 {
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

/// The subscriptions that are asked for at once.
const SUBSCRIBE: usize = 1024;

/// The small steps after which other tasks have their turn.
const TURN: u64 = 256;

/// The messages to clients after which other tasks have their turn.
const WORK: usize = 4096;

/// The work that something counts as at least: clients take what they have got between two turns, so that a burst in a
/// small room does not fill their queues.
const LEAST: usize = 16;

/// The wait before the others are told again to ask anew, and the longest.
const RESEND: Duration = Duration::from_secs(2);
const RESEND_AT_LAST: Duration = Duration::from_secs(300);

/// The channels that the broker may refuse before the others wait for the next attempt.
const REFUSED: usize = 16;

/// The events that are kept for a receiver that is slow.
const EVENTS: usize = 1024;

/// The bytes of a node's name that are used.
const MAX_NAME: usize = 1024;

/// The bytes of a member's data that are used.
const MAX_DATA: usize = 4096;
