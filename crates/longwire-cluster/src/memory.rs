//! A broker within the process: for several hubs in one process, and for tests.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;

use crate::appends::Append;
use crate::backplane::{Backplane, BackplaneError, BoxFuture, Inbox};
use crate::channel::{Channel, NodeId};
use crate::history::{History, Past, Position};

mod past;

use past::Pasts;

/// A broker within the process. Each clone is a connection to it, for one node.
///
/// Messages arrive at once. With [`ClusterOptions::with_history`](crate::ClusterOptions::with_history), it keeps a
/// history in memory, with the bounds of the first node. For tests, the broker can be [paused](Self::pause), and single
/// nodes can be [cut off](Self::cut).
pub struct Memory {
    bus: Arc<Mutex<Bus>>,
    /// The node that uses this connection.
    node: OnceLock<NodeId>,
}

#[derive(Default)]
struct Bus {
    nodes: HashMap<NodeId, Connection>,
    by_channel: HashMap<Channel, HashSet<NodeId>>,
    is_paused: bool,
    published: u64,
    delivered: HashMap<NodeId, u64>,
    pasts: Option<Pasts>,
}

struct Connection {
    inbox: Inbox,
    channels: HashSet<Channel>,
    is_cut: bool,
}

impl Memory {
    /// Makes a broker without nodes.
    pub fn new() -> Self {
        Self { bus: Arc::default(), node: OnceLock::new() }
    }

    /// Stops the broker: each node loses it, until it is [resumed](Self::resume).
    pub fn pause(&self) {
        let mut bus = self.lock();
        bus.is_paused = true;
        bus.nodes.values().for_each(|node| node.inbox.lost(BackplaneError::new("the broker is paused")));
    }

    /// Lets the broker go on, with the subscriptions that it had.
    pub fn resume(&self) {
        let mut bus = self.lock();
        bus.is_paused = false;
        bus.nodes.values().for_each(|node| node.inbox.restored());
    }

    /// Cuts a node off from the broker, until it is [healed](Self::heal). Does nothing for a node that is not there.
    pub fn cut(&self, node: NodeId) {
        if let Some(node) = self.lock().nodes.get_mut(&node) {
            node.is_cut = true;
            node.inbox.lost(BackplaneError::new("the node is cut off"));
        }
    }

    /// Cuts a node off without telling it, as a network does that swallows everything.
    pub fn cut_silently(&self, node: NodeId) {
        if let Some(node) = self.lock().nodes.get_mut(&node) {
            node.is_cut = true;
        }
    }

    /// Connects a node again that was cut off.
    pub fn heal(&self, node: NodeId) {
        if let Some(node) = self.lock().nodes.get_mut(&node) {
            node.is_cut = false;
            node.inbox.restored();
        }
    }

    /// Drops the history of all rooms, as a broker does that starts again without its files.
    pub fn forget_history(&self) {
        let mut bus = self.lock();
        let bounds = bus.pasts.as_ref().map(Pasts::bounds);
        bus.pasts = bounds.map(Pasts::new);
    }

    /// Returns the number of messages that were published, those among nodes included.
    pub fn published(&self) -> u64 {
        self.lock().published
    }

    /// Returns the number of messages that have reached a node, those among nodes included.
    pub fn delivered_to(&self, node: NodeId) -> u64 {
        self.lock().delivered.get(&node).copied().unwrap_or_default()
    }

    /// Returns the number of nodes that have subscribed to a channel.
    pub fn subscribers(&self, channel: &Channel) -> usize {
        self.lock().by_channel.get(channel).map_or(0, HashSet::len)
    }

    fn lock(&self) -> MutexGuard<'_, Bus> {
        // No panic can leave it half changed.
        self.bus.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the connection.
    fn end(&self) {
        let mut bus = self.lock();
        if let Some(node) = self.node.get()
            && let Some(connection) = bus.nodes.remove(node)
        {
            for channel in &connection.channels {
                bus.unsubscribe(*node, channel);
            }
            if let Some(pasts) = &mut bus.pasts {
                pasts.forget_node(*node);
            }
        }
    }

    /// Runs a call of this connection's node.
    fn with<R>(&self, call: impl FnOnce(&mut Bus, NodeId) -> R) -> Result<R, BackplaneError> {
        let mut bus = self.lock();
        let node = self.node.get().copied().ok_or_else(|| BackplaneError::new("not started"))?;
        let connection = bus.nodes.get(&node).ok_or_else(|| BackplaneError::new("stopped"))?;
        if bus.is_paused || connection.is_cut {
            return Err(BackplaneError::new("the broker does not answer"));
        }
        Ok(call(&mut bus, node))
    }
}

impl Bus {
    fn subscribe(&mut self, node: NodeId, channel: &Channel) {
        if let Some(connection) = self.nodes.get_mut(&node) {
            connection.channels.insert(channel.clone());
            self.by_channel.entry(channel.clone()).or_default().insert(node);
        }
    }

    fn unsubscribe(&mut self, node: NodeId, channel: &Channel) {
        if let Some(nodes) = self.by_channel.get_mut(channel) {
            nodes.remove(&node);
            if nodes.is_empty() {
                self.by_channel.remove(channel);
            }
        }
        if let Some(connection) = self.nodes.get_mut(&node) {
            connection.channels.remove(channel);
        }
    }

    fn append(&mut self, from: NodeId, append: &Append) {
        let Some(record) = self.pasts.as_mut().and_then(|pasts| pasts.append(from, append)) else { return };
        self.published += 1;
        let channel = Channel::Room(Arc::clone(&append.room));
        for node in self.by_channel.get(&channel).into_iter().flatten() {
            if let Some(connection) = self.nodes.get(node)
                && !connection.is_cut
            {
                *self.delivered.entry(*node).or_default() += 1;
                connection.inbox.record(Arc::clone(&append.room), record.clone());
            }
        }
    }

    fn publish(&mut self, from: NodeId, channel: &Channel, payload: &Bytes) {
        self.published += 1;
        for node in self.by_channel.get(channel).into_iter().flatten().filter(|node| **node != from) {
            if let Some(connection) = self.nodes.get(node)
                && !connection.is_cut
            {
                *self.delivered.entry(*node).or_default() += 1;
                connection.inbox.message(channel.clone(), payload.clone());
            }
        }
    }
}

impl Backplane for Memory {
    fn start(&self, node: NodeId, inbox: Inbox) -> BoxFuture<'_, Result<(), BackplaneError>> {
        Box::pin(async move {
            self.node.set(node).map_err(|_| BackplaneError::new("this connection has a node already"))?;
            let mut bus = self.lock();
            if bus.is_paused {
                return Err(BackplaneError::new("the broker is paused"));
            }
            bus.nodes.insert(node, Connection { inbox, channels: HashSet::new(), is_cut: false });
            Ok(())
        })
    }

    fn subscribe<'a>(&'a self, channels: &'a [Channel]) -> BoxFuture<'a, Result<(), BackplaneError>> {
        Box::pin(async move {
            self.with(|bus, node| channels.iter().for_each(|channel| bus.subscribe(node, channel)))
        })
    }

    fn unsubscribe<'a>(&'a self, channels: &'a [Channel]) -> BoxFuture<'a, Result<(), BackplaneError>> {
        Box::pin(async move {
            self.with(|bus, node| channels.iter().for_each(|channel| bus.unsubscribe(node, channel)))
        })
    }

    fn publish<'a>(&'a self, messages: &'a [(Channel, Bytes)]) -> BoxFuture<'a, Result<(), BackplaneError>> {
        Box::pin(async move {
            self.with(|bus, node| {
                for (channel, payload) in messages {
                    bus.publish(node, channel, payload);
                }
            })
        })
    }

    fn keep<'a>(&'a self, history: &'a History) -> BoxFuture<'a, Result<(), BackplaneError>> {
        Box::pin(async move {
            self.with(|bus, _| {
                bus.pasts.get_or_insert_with(|| Pasts::new(*history));
            })
        })
    }

    fn append<'a>(&'a self, messages: &'a [Append]) -> BoxFuture<'a, Result<(), BackplaneError>> {
        Box::pin(
            async move { self.with(|bus, node| messages.iter().for_each(|append| bus.append(node, append))) },
        )
    }

    fn history<'a>(
        &'a self,
        room: &'a Arc<str>,
        after: Option<Position>,
        most: usize,
    ) -> BoxFuture<'a, Result<Past, BackplaneError>> {
        Box::pin(async move {
            let past = self.with(|bus, _| bus.pasts.as_mut().map(|pasts| pasts.read(room, after, most)))?;
            past.ok_or_else(|| BackplaneError::new("no history is kept"))
        })
    }

    fn probe(&self) -> BoxFuture<'_, Result<(), BackplaneError>> {
        Box::pin(async move { self.with(|_, _| ()) })
    }

    fn stop(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move { self.end() })
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.end();
    }
}

/// A further connection to the same broker.
impl Clone for Memory {
    fn clone(&self) -> Self {
        Self { bus: Arc::clone(&self.bus), node: OnceLock::new() }
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").field("nodes", &self.lock().nodes.len()).finish_non_exhaustive()
    }
}
