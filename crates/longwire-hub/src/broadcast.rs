//! Fan-out: one frame for many clients, and what happens where one does not keep up.
//!
//! Nothing here waits; who may wait is [`crate::waiting`]'s. A frame is written from the caller's task where the client's
//! transport takes it, and queued where it does not; the client's own task writes the queue. The caller's task writes to as
//! many as tokio's cooperative budget lets it, which is some hundred: the rest are queued too, and others run in between.

use std::sync::atomic::Ordering;

use longwire_connection::{CloseCode, Error, Message, PreparedMessage};

use crate::leaving::drop_after;
use crate::{Client, ClientId, Hub, HubConfig, SlowPolicy, metrics};

/// What became of a broadcast.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Delivery {
    /// Clients to which the message was written or for which it is queued.
    pub accepted: usize,
    /// Messages that slow clients lost by this one: this one or, with [`SlowPolicy::DropOldest`], older ones.
    pub dropped: usize,
}

impl Hub {
    /// Sends a message to every client.
    ///
    /// It is framed once, and shared by all. Clients whose connection is closing do not get it.
    ///
    /// The call holds its thread until it has gone over all clients: see "Many clients" in the crate's documentation, and
    /// [`broadcast_waiting`](Self::broadcast_waiting) for one that yields.
    pub fn broadcast(&self, message: impl Into<Message>) -> Delivery {
        self.broadcast_prepared(&PreparedMessage::new(message), |_| true)
    }

    /// Sends a message to every client but one: usually the one that it came from.
    pub fn broadcast_except(&self, id: ClientId, message: impl Into<Message>) -> Delivery {
        self.broadcast_prepared(&PreparedMessage::new(message), |client| client.id() != id)
    }

    /// Sends a message that was framed before to those clients that `to` picks.
    pub fn broadcast_prepared(
        &self,
        prepared: &PreparedMessage,
        to: impl FnMut(&Client) -> bool,
    ) -> Delivery {
        self.deliver_to(&self.clients(), prepared, to)
    }

    /// Sends a framed message to those of `clients` that `to` picks.
    pub(crate) fn deliver_to(
        &self,
        clients: &[Client],
        prepared: &PreparedMessage,
        mut to: impl FnMut(&Client) -> bool,
    ) -> Delivery {
        let config = self.config();
        let mut delivery = Delivery::default();
        for client in clients.iter().filter(|client| to(client)) {
            self.deliver(client, prepared, &config, &mut delivery);
        }
        self.count(prepared, delivery);
        delivery
    }

    /// Sends a framed message to one client, or does what its policy says.
    pub(crate) fn deliver(
        &self,
        client: &Client,
        prepared: &PreparedMessage,
        config: &HubConfig,
        delivery: &mut Delivery,
    ) {
        let sender = client.sender();
        let policy = client.slow_policy().unwrap_or(config.slow);
        let queue = client.entry.queue(config.queue);
        let sent = match policy {
            SlowPolicy::DropOldest => sender.send_prepared_dropping(prepared, queue),
            SlowPolicy::DropNewest | SlowPolicy::Close => {
                sender.try_send_prepared(prepared, queue).map(|()| 0)
            }
        };
        let dropped = match sent {
            Ok(dropped) => {
                delivery.accepted += 1;
                dropped
            }
            Err(Error::QueueFull) => {
                if policy == SlowPolicy::Close {
                    self.close_slow(client, config);
                }
                1
            }
            // It is leaving, and its handler will be told how.
            Err(_) => 0,
        };
        if dropped > 0 {
            delivery.dropped += dropped;
            client.entry.dropped.fetch_add(dropped as u64, Ordering::Relaxed);
        }
    }

    /// Adds one message to the hub's counts.
    pub(crate) fn count(&self, prepared: &PreparedMessage, delivery: Delivery) {
        let counters = &self.inner.counters;
        counters.broadcasts.add(1);
        counters.broadcast_bytes.add(prepared.message().len() as u64);
        counters.delivered.add(delivery.accepted as u64);
        counters.dropped.add(delivery.dropped as u64);
        metrics::dropped(delivery.dropped as u64);
    }

    /// Closes a client that does not keep up, and drops it if it does not take even that.
    fn close_slow(&self, client: &Client, config: &HubConfig) {
        if client.entry.too_slow.swap(true, Ordering::Relaxed) {
            return;
        }
        self.inner.counters.closed_slow.add(1);
        metrics::closed_slow();
        // Behind what is queued, so that what the client does get has no gap.
        let _ = client.sender().close(CloseCode::TRY_AGAIN_LATER, "too slow");
        // A handler that receives notices the close by itself; this is for one that waits for something else.
        drop_after(client, config.leave_timeout);
    }
}
