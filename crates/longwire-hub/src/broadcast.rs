//! Fan-out: one frame for many clients, and the handling of clients that do not keep up.
//!
//! Nothing here waits; the waiting variants are in [`crate::waiting`]. The call queues the frame for every client, so
//! its outcome is known and later messages follow it. The time and the task of the write belong to [`crate::turn`]. If
//! a client's transport does not take all, the client's own task writes the rest.

use longwire_connection::{CloseCode, Error, IfFull, Message, PreparedMessage};

use crate::config::{HubConfig, SlowPolicy};
use crate::entry::ClientHandle;
use crate::id::ClientId;
use crate::leaving::drop_after;
use crate::members::Snapshot;
use crate::metrics;
use crate::publication::{Published, Target};
use crate::registry::Hub;
use crate::sync::Ordering;
use crate::turn::Publication;

/// The outcome of a broadcast.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Delivery {
    /// The number of clients to which the message was written or for which it was queued.
    pub accepted: usize,
    /// The number of messages that slow clients lost because of this one: itself or, with
    /// [`SlowPolicy::DropOldest`], older ones.
    pub dropped: usize,
    /// Older values that this one replaced before they were sent: see [`Hub::publish_latest`]. A value that another
    /// thread is sending at the same time may be included.
    pub replaced: usize,
}

impl Hub {
    /// Sends a message to every client.
    ///
    /// The message is framed once and shared by all clients. Clients whose connection is closing do not get it.
    ///
    /// When the call returns, the message is queued for every client, in the order of the calls, and sent even if the
    /// caller panics or is canceled. In a handler that the hub runs, it is written at the end of the handler's turn,
    /// together with the turn's other messages: see "Turns" in the crate's documentation. Elsewhere the call writes it.
    ///
    /// The call holds its thread until it has gone over all clients: see "Many clients" in the crate's
    /// documentation. [`broadcast_waiting`](Self::broadcast_waiting) yields instead.
    pub fn broadcast(&self, message: impl Into<Message>) -> Delivery {
        self.broadcast_to(message.into(), None)
    }

    /// Sends a message to every client but one, usually the one that it came from.
    pub fn broadcast_except(&self, id: ClientId, message: impl Into<Message>) -> Delivery {
        self.broadcast_to(message.into(), Some(id))
    }

    fn broadcast_to(&self, message: Message, except: Option<ClientId>) -> Delivery {
        if self.is_relayed(Published::new(Target::All, &message).except(except)) {
            return Delivery::default();
        }
        self.broadcast_prepared(&PreparedMessage::new(message), |client| Some(client.id()) != except)
    }

    /// Sends a message to the clients that are connected to this node, and not to those of other nodes.
    ///
    /// Without a cluster it is the same as [`broadcast`](Self::broadcast).
    pub fn broadcast_local(&self, message: impl Into<Message>) -> Delivery {
        self.broadcast_prepared(&PreparedMessage::new(message), |_| true)
    }

    /// Sends an already framed message to the clients that `to` selects. In a cluster, it reaches no other node.
    pub fn broadcast_prepared(
        &self,
        prepared: &PreparedMessage,
        to: impl FnMut(&ClientHandle) -> bool,
    ) -> Delivery {
        self.deliver_to(&self.snapshot(), prepared, to)
    }

    /// Sends a framed message to the clients among `clients` that `to` selects.
    pub(crate) fn deliver_to(
        &self,
        clients: &Snapshot<ClientHandle>,
        prepared: &PreparedMessage,
        mut to: impl FnMut(&ClientHandle) -> bool,
    ) -> Delivery {
        self.warn_without_mount();
        let config = self.config();
        let mut delivery = Delivery::default();
        let mut publication = Publication::begin();
        for client in clients.iter().filter(|client| to(client)) {
            self.deliver(client, prepared, &config, &mut publication, &mut delivery);
        }
        drop(publication);
        self.count(prepared, delivery);
        delivery
    }

    /// Sends a framed message to one client, or applies the client's policy.
    pub(crate) fn deliver(
        &self,
        client: &ClientHandle,
        prepared: &PreparedMessage,
        config: &HubConfig,
        publication: &mut Publication,
        delivery: &mut Delivery,
    ) {
        let sender = client.sender();
        let policy = client.policy(config);
        let queue = client.entry.queue(config.queue);
        let if_full = if policy == SlowPolicy::DropOldest { IfFull::DropOldest } else { IfFull::Refuse };
        let sent = sender.publish(prepared, queue, if_full, publication.by());
        let dropped = match sent {
            Ok(queued) => {
                delivery.accepted += 1;
                publication.add(client, queued)
            }
            Err(Error::QueueFull) => {
                if policy == SlowPolicy::Close {
                    self.close_slow(client, config);
                }
                1
            }
            // The client is leaving, and its handler will learn how.
            Err(_) => 0,
        };
        delivery.dropped += dropped;
        client.entry.count_dropped(dropped);
    }

    /// Adds one message to the hub's counters.
    pub(crate) fn count(&self, prepared: &PreparedMessage, delivery: Delivery) {
        let counters = &self.inner.counters;
        counters.broadcasts.add(1);
        counters.broadcast_bytes.add(prepared.message_len() as u64);
        counters.delivered.add(delivery.accepted as u64);
        counters.dropped.add(delivery.dropped as u64);
        counters.replaced.add(delivery.replaced as u64);
        metrics::dropped(delivery.dropped as u64);
    }

    /// Closes a client that does not keep up, and drops it if it does not leave in time.
    pub(crate) fn close_slow(&self, client: &ClientHandle, config: &HubConfig) {
        if client.entry.too_slow.swap(true, Ordering::Relaxed) {
            return;
        }
        self.inner.counters.closed_slow.add(1);
        metrics::closed_slow();
        // The close frame follows the queued messages, so the messages that the client does get have no gap.
        let _ = client.sender().start_close(CloseCode::TRY_AGAIN_LATER, "too slow");
        // A handler that is receiving notices the close; this is for a handler that waits for something else.
        drop_after(client, config.leave_timeout);
    }
}

/// Returns how to send to a client whose policy is `policy` if another than the queue is to keep what does not fit.
pub(crate) fn refusing(policy: SlowPolicy) -> IfFull {
    if policy == SlowPolicy::DropOldest { IfFull::RefuseDroppable } else { IfFull::Refuse }
}
