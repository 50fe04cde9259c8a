//! Fan-out that waits: for those who do not keep up, and for each of them by itself.
//!
//! Who has room gets the message at once. Each of the others is waited for in a task of its own, so that none delays
//! another; one timer ends it for all.

use std::sync::Arc;
use std::time::Duration;

use longwire_connection::{Error, Message, PreparedMessage};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::{Client, Delivery, Hub, HubConfig};

impl Hub {
    /// Sends a message to every client, and waits up to `wait` for those whose queue is full.
    ///
    /// Clients that have room get it at once, the others as soon as they have: no client delays another. One that has no
    /// room when `wait` is over meets its [`SlowPolicy`](crate::SlowPolicy). Two calls at the same time may reach a client that
    /// was waited for in either order.
    ///
    /// Without a tokio runtime it does not wait.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, clients that were still waited for do not get the message. Nothing is counted then.
    pub async fn broadcast_waiting(&self, message: impl Into<Message>, wait: Duration) -> Delivery {
        let prepared = PreparedMessage::new(message);
        self.deliver_waiting(&self.clients(), &prepared, wait).await
    }

    /// Sends a message to everybody in a room, and waits up to `wait` for those whose queue is full, as
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
        let Some(members) = self.members_of(room.as_ref()) else {
            return Delivery::default();
        };
        self.deliver_waiting(&members, &PreparedMessage::new(message), wait).await
    }

    async fn deliver_waiting(
        &self,
        clients: &Arc<[Client]>,
        prepared: &PreparedMessage,
        wait: Duration,
    ) -> Delivery {
        // Beyond what the clock can count, nobody waits for the end.
        let deadline = Instant::now().checked_add(wait);
        let config = self.config();
        let mut delivery = Delivery::default();
        let mut blocked = Vec::new();
        for client in clients.iter() {
            match client.sender().try_send_prepared(prepared, client.entry.queue(config.queue)) {
                Ok(()) => delivery.accepted += 1,
                Err(Error::QueueFull) => blocked.push(Some(client)),
                // It is leaving, and its handler will be told how.
                Err(_) => {}
            }
        }
        if !blocked.is_empty() {
            delivery.accepted += self.wait_for(&mut blocked, prepared, &config, deadline).await;
        }
        for client in blocked.into_iter().flatten() {
            self.deliver(client, prepared, &config, &mut delivery);
        }
        self.count(prepared, delivery);
        delivery
    }

    /// Sends to each of `blocked` when it has room. Leaves those there that have none at the deadline, and returns how many
    /// of the others got the message.
    async fn wait_for(
        &self,
        blocked: &mut [Option<&Client>],
        prepared: &PreparedMessage,
        config: &HubConfig,
        deadline: Option<Instant>,
    ) -> usize {
        let Some(runtime) = self.inner.runtime.get() else {
            return 0;
        };
        let mut accepted = 0;
        let mut tasks = JoinSet::new();
        for (index, client) in blocked.iter().enumerate() {
            let Some(client) = client else { continue };
            let (sender, prepared, queue) =
                (client.sender().clone(), prepared.clone(), client.entry.queue(config.queue));
            let send = async move { (index, sender.send_prepared(&prepared, queue).await.is_ok()) };
            tasks.spawn_on(send, runtime);
        }
        let mut done = async |tasks: &mut JoinSet<(usize, bool)>| {
            while let Some(joined) = tasks.join_next().await {
                // A task that was aborted has not sent: it is left as one that waits.
                if let Ok((index, sent)) = joined {
                    blocked[index] = None;
                    accepted += usize::from(sent);
                }
            }
        };
        match deadline {
            None => done(&mut tasks).await,
            Some(deadline) => {
                if timeout_at(deadline, done(&mut tasks)).await.is_err() {
                    tasks.abort_all();
                    // Some may have sent before they were reached: their results say so.
                    done(&mut tasks).await;
                }
            }
        }
        accepted
    }
}
