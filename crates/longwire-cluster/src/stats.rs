//! The counts of a node in a cluster.

use std::sync::atomic::{AtomicU64, Ordering};

/// The counts of a node since it joined its cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClusterStats {
    /// Messages for clients that were handed to the broker. If it goes away before it has confirmed them, they may be
    /// lost nevertheless: they stay counted here, and their rooms have a gap on the other nodes.
    pub published: u64,
    /// Bytes of these messages, with what precedes them on the way.
    pub published_bytes: u64,
    /// Messages that were published on this node, and lost on their way to others: the broker was away or slow. With a
    /// history, those for rooms that did not fit into [`ClusterOptions::outbox`](crate::ClusterOptions::outbox). Once
    /// the node has left, also those that were handed over in the last seconds and that the broker has not confirmed,
    /// unless its loss was noted before.
    pub lost: u64,
    /// Messages for clients that arrived from other nodes.
    pub received: u64,
    /// Bytes of these messages, with what precedes them on the way. Short messages of a room that are handed over
    /// together travel as one, so that fewer bytes precede each.
    pub received_bytes: u64,
    /// Messages that arrived and were dropped because [`ClusterOptions::inbox`](crate::ClusterOptions::inbox) was full.
    pub overflowed: u64,
    /// Gaps: times that messages of a room, a key or all were lost on their way to this node.
    pub gaps: u64,
    /// Messages that could not be read. Something else uses the same channels, or a node of another version.
    pub malformed: u64,
    /// Times that the broker was lost.
    pub outages: u64,
    /// Other nodes that are alive now.
    pub nodes: usize,
    /// Rooms and keys whose messages this node receives now.
    pub subscriptions: usize,
}

#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) published: Counter,
    pub(crate) published_bytes: Counter,
    pub(crate) lost: Counter,
    pub(crate) received: Counter,
    pub(crate) received_bytes: Counter,
    pub(crate) gaps: Counter,
    pub(crate) malformed: Counter,
    pub(crate) outages: Counter,
}

#[derive(Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: u64) {
        // Relaxed, because each counter is read by itself and orders nothing.
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
