//! Fan-out that waits for clients that do not keep up, for each of them independently.
//!
//! A client with space in its queue gets the message at once. The calling task waits for the others, for each by
//! itself, so that none delays another; one timer ends the wait for all. No other task takes part, because its
//! runtime could be busy or gone.

use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use longwire_connection::{Error, Message, PreparedMessage};
use tokio::runtime::Handle;
use tokio::task::yield_now;
use tokio::time::{Instant, timeout_at};

use crate::broadcast::{Delivery, refusing};
use crate::config::HubConfig;
use crate::entry::ClientHandle;
use crate::members::{CHUNK, Snapshot};
use crate::publication::{Published, Target};
use crate::registry::Hub;
use crate::turn::Publication;

impl Hub {
    /// Sends a message to every client, and waits up to `wait` for those whose queue is full.
    ///
    /// Clients with space in their queue get it at once, the others as soon as they have space: no client delays
    /// another. A client that has no space when `wait` is over is handled by its
    /// [`SlowPolicy`](crate::SlowPolicy). If two calls run at the same time, a client that was waited for may get
    /// their messages in either order.
    ///
    /// The call ends in time whatever other runtimes do. If it is made outside of a tokio runtime, it does not wait.
    ///
    /// After each 256 clients, the call yields to other tasks of its thread. In a handler that the hub runs, the
    /// handler's turn ends there, so these clients are written to. With a `wait` of zero, it therefore
    /// suits callers that send to very many clients from a thread with other work: [`broadcast`](Self::broadcast)
    /// goes over all clients at once.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, clients that were not yet reached, or were still waited for, do not get the
    /// message. Nothing is counted then.
    pub async fn broadcast_waiting(&self, message: impl Into<Message>, wait: Duration) -> Delivery {
        let message = message.into();
        if self.is_relayed(Published::new(Target::All, &message)) {
            return Delivery::default();
        }
        self.deliver_waiting(&self.snapshot(), &PreparedMessage::new(message), wait).await
    }

    /// Sends a message to every client in a room, and waits up to `wait` for those whose queue is full, as
    /// [`broadcast_waiting`](Self::broadcast_waiting) does.
    ///
    /// # Cancel safety
    ///
    /// As for [`broadcast_waiting`](Self::broadcast_waiting).
    pub async fn publish_waiting(
        &self,
        room: impl AsRef<str>,
        message: impl Into<Message>,
        wait: Duration,
    ) -> Delivery {
        let (room, message) = (room.as_ref(), message.into());
        if self.is_relayed(Published::new(Target::Room(room), &message)) {
            return Delivery::default();
        }
        let Some(members) = self.members_of(room) else {
            return Delivery::default();
        };
        self.deliver_waiting(&members, &PreparedMessage::new(message), wait).await
    }

    async fn deliver_waiting(
        &self,
        clients: &Snapshot<ClientHandle>,
        prepared: &PreparedMessage,
        wait: Duration,
    ) -> Delivery {
        self.warn_without_mount();
        // `None` if it is beyond the range of the clock: then the wait has no limit.
        let deadline = Instant::now().checked_add(wait);
        let config = self.config();
        let mut delivery = Delivery::default();
        let mut blocked = Vec::new();
        let mut publication = None;
        for (index, client) in clients.iter().enumerate() {
            if index.is_multiple_of(CHUNK) {
                // The turn ends: the clients so far are written to.
                publication = None;
            }
            give_way(index).await;
            let publication = publication.get_or_insert_with(Publication::begin);
            let sender = client.sender();
            let (queue, if_full) = (client.entry.queue(config.queue), refusing(client.policy(&config)));
            match sender.publish(prepared, queue, if_full, publication.by()) {
                Ok(queued) => {
                    delivery.accepted += 1;
                    publication.add(client, queued);
                }
                Err(Error::QueueFull) => blocked.push(Some(client)),
                // The client is leaving, and its handler will learn how.
                Err(_) => {}
            }
        }
        drop(publication);
        if !wait.is_zero() && !blocked.is_empty() && Handle::try_current().is_ok() {
            delivery.accepted += self.wait_for(&mut blocked, prepared, &config, deadline).await;
        }
        for (index, client) in blocked.into_iter().flatten().enumerate() {
            give_way(index).await;
            self.deliver(client, prepared, &config, &mut Publication::begin(), &mut delivery);
        }
        self.count(prepared, delivery);
        delivery
    }

    /// Sends to each of `blocked` as soon as it has space. Clients that have none at the deadline stay in
    /// `blocked`. Returns the number of the others that got the message.
    async fn wait_for(
        &self,
        blocked: &mut [Option<&ClientHandle>],
        prepared: &PreparedMessage,
        config: &HubConfig,
        deadline: Option<Instant>,
    ) -> usize {
        let mut accepted = 0;
        let begin = async |slot: &mut Option<&ClientHandle>| {
            let Some(client) = slot else { return 0 };
            let sent = client.sender().send_prepared(prepared, client.entry.queue(config.queue)).await;
            *slot = None;
            usize::from(sent.is_ok())
        };
        let all = async {
            let mut waiting = FuturesUnordered::new();
            for (index, slot) in blocked.iter_mut().enumerate() {
                give_way(index).await;
                waiting.push(begin(slot));
                // Each client is polled once when it is added, instead of all of them in one poll.
                while let Some(Some(sent)) = waiting.next().now_or_never() {
                    accepted += sent;
                }
            }
            while let Some(sent) = waiting.next().await {
                accepted += sent;
            }
        };
        match deadline {
            None => all.await,
            // All messages that were sent have been counted: nothing is sent while this is not polled.
            Some(deadline) => drop(timeout_at(deadline, all).await),
        }
        accepted
    }
}

/// Yields to other tasks before each [`CHUNK`] of clients except the first.
pub(crate) async fn give_way(index: usize) {
    if index > 0 && index.is_multiple_of(CHUNK) {
        yield_now().await;
    }
}
