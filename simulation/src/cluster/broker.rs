//! A broker in virtual time: each node has a connection to it, with delays in both directions, which stalls, breaks,
//! and loses messages.
//!
//! It keeps what a [`Backplane`] promises, and no more than that: order in one connection, and each loss reported, but
//! for those that are silent on purpose.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use longwire::cluster::{Backplane, BackplaneError, BoxFuture, Channel, Inbox, NodeId};
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, timeout_at};

use super::plan::Loss;

/// The broker; clones are the same one.
#[derive(Clone)]
pub(crate) struct Broker {
    bus: Arc<Mutex<Bus>>,
    /// Notified when something is on its way.
    sent: Arc<Notify>,
    character: Character,
}

/// The properties of a broker that stay the same.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Character {
    /// The longest delay of a connection, in each direction.
    pub(crate) latency: Duration,
    /// Whether a node learns that its messages have arrived. Otherwise it only learns that they were sent.
    pub(crate) confirms: bool,
    /// Whether a node receives its own messages.
    pub(crate) echoes: bool,
    pub(crate) max_payload: usize,
}

struct Bus {
    rng: Rng,
    echoes: bool,
    lines: BTreeMap<NodeId, Line>,
    is_down: bool,
}

/// The connection of a node.
struct Line {
    inbox: Inbox,
    channels: HashSet<Channel>,
    latency: Duration,
    up: Way<Call>,
    down: Way<News>,
    is_cut: bool,
    /// Whether nothing arrives, in both directions.
    is_stalled: bool,
    /// The fate of publications until a time.
    refuses_until: Option<Instant>,
    loses_until: Option<(Instant, Loss)>,
    /// The messages for clients that have reached the node's inbox.
    arrived: u64,
}

/// One direction: what is on its way, with the time of its arrival.
struct Way<T> {
    items: VecDeque<(Instant, T)>,
    last: Instant,
}

/// A request of a node, and the place where it waits for the end.
enum Call {
    Publish(Vec<(Channel, Bytes)>, Option<Reply>),
    Subscribe(Vec<Channel>, Reply),
    Unsubscribe(Vec<Channel>, Reply),
    Probe(Reply),
}

type Reply = oneshot::Sender<Result<(), BackplaneError>>;

/// An arrival at a node.
enum News {
    Message(Channel, Bytes),
    Dropped(Option<Channel>),
    Reply(Reply, Result<(), BackplaneError>),
}

fn error(text: &'static str) -> BackplaneError {
    BackplaneError::new(text)
}

/// Returns the number of messages of clients in a payload, which may be one of the nodes' own.
fn posts(payload: &[u8]) -> usize {
    payload.windows(MARK.len()).filter(|part| *part == MARK).count()
}

/// The first word of every message.
const MARK: &[u8] = b"post ";

impl<T> Way<T> {
    fn new() -> Self {
        Self { items: VecDeque::new(), last: Instant::now() }
    }

    fn push(&mut self, delay: Duration, item: T) {
        self.last = self.last.max(Instant::now() + delay);
        self.items.push_back((self.last, item));
    }

    fn next(&self) -> Option<Instant> {
        self.items.front().map(|(due, _)| *due)
    }

    fn pop(&mut self, now: Instant) -> Option<T> {
        let is_here = self.next().is_some_and(|due| due <= now);
        is_here.then(|| self.items.pop_front()).flatten().map(|(_, item)| item)
    }
}

impl Line {
    fn is_working(&self) -> bool {
        !self.is_cut && !self.is_stalled
    }

    fn next(&self) -> Option<Instant> {
        [self.up.next(), self.down.next()].into_iter().flatten().min().filter(|_| self.is_working())
    }

    /// Loses what is on its way.
    fn empty(&mut self) {
        (self.up, self.down) = (Way::new(), Way::new());
    }

    fn reply(&mut self, reply: Reply, result: Result<(), BackplaneError>) {
        self.down.push(self.latency, News::Reply(reply, result));
    }

    /// Sends a message to the node, unless it is lost.
    fn send(&mut self, rng: &mut Rng, channel: &Channel, payload: &Bytes) {
        let loss = self.loses_until.filter(|(until, _)| Instant::now() < *until && rng.u8(..4) == 0);
        let item = match loss {
            Some((_, Loss::OfChannel)) => News::Dropped(Some(channel.clone())),
            Some((_, Loss::OfAny)) => News::Dropped(None),
            Some((_, Loss::Silent)) if posts(payload) > 0 => return,
            _ => News::Message(channel.clone(), payload.clone()),
        };
        self.down.push(self.latency, item);
    }
}

impl Broker {
    pub(crate) fn new(rng: Rng, character: Character) -> Self {
        let bus = Bus { rng, echoes: character.echoes, lines: BTreeMap::new(), is_down: false };
        Self { bus: Arc::new(Mutex::new(bus)), sent: Arc::default(), character }
    }

    fn lock(&self) -> MutexGuard<'_, Bus> {
        self.bus.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a connection for one node.
    pub(crate) fn connection(&self) -> Connection {
        Connection { broker: self.clone(), node: OnceLock::new() }
    }

    /// Moves what is on its way, until it is aborted.
    pub(crate) async fn run(self) {
        loop {
            let next = self.lock().work();
            match next {
                Some(next) => drop(timeout_at(next, self.sent.notified()).await),
                None => self.sent.notified().await,
            }
        }
    }

    fn with(&self, node: NodeId, change: impl FnOnce(&mut Line)) {
        if let Some(line) = self.lock().lines.get_mut(&node) {
            change(line);
        }
        self.sent.notify_one();
    }

    /// Breaks a connection. What is on its way is lost.
    pub(crate) fn cut(&self, node: NodeId) {
        self.with(node, Line::cut);
    }

    /// Breaks all connections, and takes no new ones.
    pub(crate) fn stop(&self) {
        let mut bus = self.lock();
        bus.is_down = true;
        bus.lines.values_mut().for_each(Line::cut);
    }

    /// Takes connections again. Those that were broken stay so until they are healed.
    pub(crate) fn start(&self) {
        self.lock().is_down = false;
    }

    /// Connects a node again, with its subscriptions.
    pub(crate) fn heal(&self, node: NodeId) {
        if self.lock().is_down {
            return;
        }
        self.with(node, |line| {
            line.is_stalled = false;
            if std::mem::take(&mut line.is_cut) {
                line.empty();
                line.inbox.restored();
            }
        });
    }

    /// Connects all nodes again, and ends all that is wrong.
    pub(crate) fn heal_all(&self) {
        self.start();
        let nodes: Vec<_> = self.lock().lines.keys().copied().collect();
        for node in nodes {
            self.heal(node);
            self.with(node, |line| (line.refuses_until, line.loses_until) = (None, None));
        }
    }

    /// Lets nothing arrive, in both directions, and tells nobody.
    pub(crate) fn stall(&self, node: NodeId) {
        self.with(node, |line| line.is_stalled = true);
    }

    /// Ends a stall: what was on its way arrives.
    pub(crate) fn resume(&self, node: NodeId) {
        self.with(node, |line| line.is_stalled = false);
    }

    /// Ends a stall: the connection is a new one, and what was on its way is lost.
    pub(crate) fn reset(&self, node: NodeId) {
        self.with(node, |line| {
            if std::mem::take(&mut line.is_stalled) && !line.is_cut {
                line.empty();
                line.inbox.lost(error("the connection was reset"));
                line.inbox.restored();
            }
        });
    }

    /// Refuses what a node publishes until a time.
    pub(crate) fn refuse(&self, node: NodeId, until: Instant) {
        self.with(node, |line| line.refuses_until = Some(until));
    }

    /// Loses some of what is sent to a node until a time.
    pub(crate) fn lose(&self, node: NodeId, until: Instant, loss: Loss) {
        self.with(node, |line| line.loses_until = Some((until, loss)));
    }

    /// Ends a connection as if its node had lost power.
    pub(crate) fn kill(&self, node: NodeId) {
        self.lock().lines.remove(&node);
    }

    /// Returns the number of messages for clients that have reached a node's inbox.
    pub(crate) fn arrived(&self, node: NodeId) -> u64 {
        self.lock().lines.get(&node).map_or(0, |line| line.arrived)
    }

    /// Returns the nodes that have subscribed to a channel.
    pub(crate) fn subscribers(&self, channel: &Channel) -> Vec<NodeId> {
        let bus = self.lock();
        let lines = bus.lines.iter().filter(|(_, line)| line.channels.contains(channel));
        lines.map(|(node, _)| *node).collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lock().lines.is_empty()
    }
}

impl Line {
    fn cut(&mut self) {
        if !self.is_cut {
            self.is_cut = true;
            self.empty();
            self.inbox.lost(error("the connection is lost"));
        }
    }
}

impl Bus {
    /// Moves what has arrived, and returns the time at which something arrives next.
    fn work(&mut self) -> Option<Instant> {
        let now = Instant::now();
        let nodes: Vec<_> = self.lines.keys().copied().collect();
        for node in &nodes {
            while let Some(line) = self.lines.get_mut(node).filter(|line| line.is_working())
                && let Some(call) = line.up.pop(now)
            {
                self.answer(*node, call);
            }
        }
        for line in self.lines.values_mut().filter(|line| line.is_working()) {
            while let Some(news) = line.down.pop(now) {
                match news {
                    News::Message(channel, payload) => {
                        line.arrived += posts(&payload) as u64;
                        line.inbox.message(channel, payload);
                    }
                    News::Dropped(channel) => line.inbox.dropped(channel),
                    News::Reply(reply, result) => drop(reply.send(result)),
                }
            }
        }
        self.lines.values().filter_map(Line::next).min()
    }

    fn answer(&mut self, node: NodeId, call: Call) {
        if let Call::Publish(messages, reply) = call {
            let Some(line) = self.lines.get_mut(&node) else { return };
            let mut count = messages.len();
            let is_refused = reply.is_some() && line.refuses();
            if is_refused {
                // A part of them may have been published.
                count = self.rng.usize(..=count);
            }
            for (channel, payload) in &messages[..count] {
                self.publish(node, channel, payload);
            }
            if let (Some(reply), Some(line)) = (reply, self.lines.get_mut(&node)) {
                let result = if is_refused { Err(error("refused")) } else { Ok(()) };
                line.reply(reply, result);
            }
            return;
        }
        let Some(line) = self.lines.get_mut(&node) else { return };
        let reply = match call {
            Call::Subscribe(channels, reply) => {
                line.channels.extend(channels);
                reply
            }
            Call::Unsubscribe(channels, reply) => {
                line.channels.retain(|channel| !channels.contains(channel));
                reply
            }
            Call::Probe(reply) => reply,
            Call::Publish(..) => unreachable!("it was answered"),
        };
        line.reply(reply, Ok(()));
    }

    fn publish(&mut self, from: NodeId, channel: &Channel, payload: &Bytes) {
        for (node, line) in &mut self.lines {
            if line.channels.contains(channel) && !line.is_cut && (*node != from || self.echoes) {
                line.send(&mut self.rng, channel, payload);
            }
        }
    }
}

impl Line {
    fn refuses(&self) -> bool {
        self.refuses_until.is_some_and(|until| Instant::now() < until)
    }
}

/// The connection of a node to a [`Broker`].
pub(crate) struct Connection {
    broker: Broker,
    node: OnceLock<NodeId>,
}

impl Connection {
    /// Sends a call. What it leads to happens also if the returned future is dropped.
    fn send(&self, call: impl FnOnce(Reply) -> Call) -> BoxFuture<'static, Result<(), BackplaneError>> {
        let (reply, answer) = oneshot::channel();
        let sent = self.push(call(reply));
        Box::pin(async move {
            sent?;
            answer.await.unwrap_or_else(|_| Err(error("the connection is lost")))
        })
    }

    fn push(&self, call: Call) -> Result<(), BackplaneError> {
        let node = self.node.get().ok_or_else(|| error("not started"))?;
        let mut bus = self.broker.lock();
        let line = bus.lines.get_mut(node).ok_or_else(|| error("ended"))?;
        if line.is_cut {
            return Err(error("not connected"));
        }
        line.up.push(line.latency, call);
        drop(bus);
        self.broker.sent.notify_one();
        Ok(())
    }

    fn end(&self) {
        if let Some(node) = self.node.get() {
            self.broker.kill(*node);
        }
    }
}

impl Backplane for Connection {
    fn start(&self, node: NodeId, inbox: Inbox) -> BoxFuture<'_, Result<(), BackplaneError>> {
        Box::pin(async move {
            let latency = self.broker.character.latency;
            let mut bus = self.broker.lock();
            if bus.is_down {
                return Err(error("the broker is down"));
            }
            self.node.set(node).map_err(|_| error("started twice"))?;
            let latency = latency.mul_f64(bus.rng.f64());
            let line = Line {
                inbox,
                channels: HashSet::new(),
                latency,
                up: Way::new(),
                down: Way::new(),
                is_cut: false,
                is_stalled: false,
                refuses_until: None,
                loses_until: None,
                arrived: 0,
            };
            bus.lines.insert(node, line);
            Ok(())
        })
    }

    fn subscribe<'a>(&'a self, channels: &'a [Channel]) -> BoxFuture<'a, Result<(), BackplaneError>> {
        self.send(|reply| Call::Subscribe(channels.to_vec(), reply))
    }

    fn unsubscribe<'a>(&'a self, channels: &'a [Channel]) -> BoxFuture<'a, Result<(), BackplaneError>> {
        self.send(|reply| Call::Unsubscribe(channels.to_vec(), reply))
    }

    fn publish<'a>(&'a self, messages: &'a [(Channel, Bytes)]) -> BoxFuture<'a, Result<(), BackplaneError>> {
        if self.broker.character.confirms {
            return self.send(|reply| Call::Publish(messages.to_vec(), Some(reply)));
        }
        let node = self.node.get().copied();
        let refuses = node.is_some_and(|node| self.broker.lock().lines.get(&node).is_some_and(Line::refuses));
        let sent =
            if refuses { Err(error("refused")) } else { self.push(Call::Publish(messages.to_vec(), None)) };
        Box::pin(async move { sent })
    }

    fn max_payload(&self) -> usize {
        self.broker.character.max_payload
    }

    fn probe(&self) -> BoxFuture<'_, Result<(), BackplaneError>> {
        self.send(Call::Probe)
    }

    fn stop(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            // After what was published before.
            let _ = self.send(Call::Probe).await;
            self.end();
        })
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.end();
    }
}
