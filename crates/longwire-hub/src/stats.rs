//! The counters of a hub.
//!
//! Each call that sends adds to the counters once, not once for each client.

use std::time::Duration;

use longwire_connection::Stats;

use crate::sync::{AtomicU64, Ordering};

/// The counts of a hub since its creation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HubStats {
    /// Clients that are connected now.
    pub clients: usize,
    /// The largest number of clients that were connected at once.
    pub peak: usize,
    /// Rooms that have members now.
    pub rooms: usize,
    /// Clients admitted so far.
    pub admitted: u64,
    /// Clients and [reservations](crate::Reservation) refused because a limit on the number of clients was reached.
    pub refused: u64,
    /// Messages above [`Config::rate_limit`](longwire_connection::Config::rate_limit) from clients that have
    /// left. For a client that is still connected, see [`ClientHandle::stats`](crate::ClientHandle::stats).
    pub rate_limited: u64,
    /// Messages that were broadcast or published. Each counts once, for any number of recipients.
    pub broadcasts: u64,
    /// Bytes of these messages, before compression and without headers. Each message counts once.
    pub broadcast_bytes: u64,
    /// Copies of these messages that were written or queued for a client.
    pub delivered: u64,
    /// Copies of these messages that were dropped because a client was slow.
    pub dropped: u64,
    /// Copies of [latest values](crate::Hub::publish_latest) that were replaced by newer ones before they were sent.
    pub replaced: u64,
    /// Clients that were closed for being slow.
    pub closed_slow: u64,
}

/// The counts of one client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientStats {
    /// The time since the client was admitted.
    pub connected_for: Duration,
    /// Broadcast and published messages that were dropped because the client was slow.
    pub dropped: u64,
    /// Latest values for this client that were replaced by newer ones before they were sent.
    pub replaced: u64,
    /// Traffic of its connection.
    pub connection: Stats,
}

/// The counters that many tasks add to.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) refused: Counter,
    pub(crate) rate_limited: Counter,
    pub(crate) broadcasts: Counter,
    pub(crate) broadcast_bytes: Counter,
    pub(crate) delivered: Counter,
    pub(crate) dropped: Counter,
    pub(crate) replaced: Counter,
    pub(crate) closed_slow: Counter,
}

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: u64) {
        if n > 0 {
            // Relaxed, because each counter is read by itself and orders nothing.
            self.0.fetch_add(n, Ordering::Relaxed);
        }
    }

    pub(crate) fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
