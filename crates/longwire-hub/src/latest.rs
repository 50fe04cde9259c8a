//! Latest values: a client that does not keep up gets the newest value of each key, and not those in between.
//!
//! Values wait here, outside of the client's send queue, for as long as they can still be replaced. A task moves them
//! to the queue one by one, as there is room; it exists while values wait.

use std::sync::Arc;

use longwire_connection::{Error, Message, PreparedMessage};
use tokio::runtime::Handle;

use crate::broadcast::{Delivery, refusing};
use crate::config::{HubConfig, SlowPolicy};
use crate::conflate::Added;
use crate::entry::ClientHandle;
use crate::members::Snapshot;
use crate::metrics;
use crate::publication::{Published, Target};
use crate::registry::{Hub, is_same};
use crate::room::Room;
use crate::turn::Publication;

/// The bytes that may wait in a client's send queue before further values wait outside of it: enough to keep a
/// connection busy, and little that can be outdated.
const AHEAD: usize = 16 * 1024;

impl Hub {
    /// Sends the latest value of `key` to every client in a room. A client that has not been sent the previous value
    /// of the same key does not get it any more: the new one replaces it.
    ///
    /// Use it for values of which only the newest matters, such as prices and positions. A value that does not fit
    /// into 16 KiB of the client's send queue waits, one for each key, and the keys are served in turn. Other messages
    /// to the client may overtake a value that waits. A client whose waiting values exceed
    /// [`HubConfig::queue`](crate::HubConfig::queue) bytes meets its [`SlowPolicy`](crate::SlowPolicy): closed, or the
    /// newest or the oldest value dropped. Otherwise as [`publish`](Self::publish).
    ///
    /// The values that wait are dropped if the connection is closed, by whichever side; those in the send queue precede
    /// the close frame. Like a broadcast, a value in the send queue is dropped if a later broadcast needs its place and
    /// the client's policy is [`SlowPolicy::DropOldest`](crate::SlowPolicy::DropOldest).
    ///
    /// **Without smaller buffers of the operating system, a slow client first receives some megabytes of old values.**
    /// Set `ListenOptions::send_buffer` and `unsent_low_water` of longwire's server to 16 KiB, for example.
    ///
    /// # Examples
    ///
    /// ```
    /// # let hub = longwire_hub::Hub::default();
    /// let delivery = hub.publish_latest("prices", "ACME", "ACME 12.34");
    /// println!("{} clients, {} skipped the previous price", delivery.accepted, delivery.replaced);
    /// ```
    pub fn publish_latest(
        &self,
        room: impl AsRef<str>,
        key: impl AsRef<str>,
        message: impl Into<Message>,
    ) -> Delivery {
        let (room, key, message) = (room.as_ref(), key.as_ref(), message.into());
        if self.is_relayed(Published::new(Target::Room(room), &message).latest(key)) {
            return Delivery::default();
        }
        match self.members_of(room) {
            Some(members) => self.deliver_latest(&members, key, message),
            None => Delivery::default(),
        }
    }

    /// Sends the latest value of `key` to every client, as [`publish_latest`](Self::publish_latest) does in a room.
    pub fn broadcast_latest(&self, key: impl AsRef<str>, message: impl Into<Message>) -> Delivery {
        let (key, message) = (key.as_ref(), message.into());
        if self.is_relayed(Published::new(Target::All, &message).latest(key)) {
            return Delivery::default();
        }
        self.deliver_latest(&self.snapshot(), key, message)
    }

    pub(crate) fn deliver_latest(
        &self,
        clients: &Snapshot<ClientHandle>,
        key: &str,
        message: Message,
    ) -> Delivery {
        self.warn_without_mount();
        let (config, key, prepared) = (self.config(), Arc::from(key), PreparedMessage::new(message));
        let mut delivery = Delivery::default();
        let mut publication = Publication::begin();
        for client in clients.iter() {
            self.deliver_value(client, &key, &prepared, &config, &mut publication, &mut delivery);
        }
        drop(publication);
        self.count(&prepared, delivery);
        delivery
    }

    fn deliver_value(
        &self,
        client: &ClientHandle,
        key: &Arc<str>,
        prepared: &PreparedMessage,
        config: &HubConfig,
        publication: &mut Publication,
        delivery: &mut Delivery,
    ) {
        let policy = client.policy(config);
        let is_moving = client.entry.latest_if_any().is_some_and(|latest| latest.is_moving);
        if !is_moving {
            let sender = client.sender();
            match sender.publish(prepared, AHEAD, refusing(policy), publication.by()) {
                Ok(queued) => {
                    publication.add(client, queued);
                    delivery.accepted += 1;
                    return;
                }
                Err(Error::QueueFull) => {}
                // A client that is leaving counts as neither.
                Err(_) => return,
            }
        }
        let limit = client.entry.queue(config.queue);
        let Some(mut latest) = client.entry.latest() else {
            return;
        };
        let mut added = latest.add(key, prepared, limit);
        let mut dropped = 0;
        while added == Added::Full && policy == SlowPolicy::DropOldest {
            latest.remove_first();
            dropped += 1;
            added = latest.add(key, prepared, limit);
        }
        let starts = !std::mem::replace(&mut latest.is_moving, true);
        drop(latest);
        if starts {
            start_moving(client);
        }
        match added {
            Added::New => delivery.accepted += 1,
            Added::Replaced => {
                delivery.accepted += 1;
                delivery.replaced += 1;
                client.entry.count_replaced(1);
            }
            Added::Full => {
                dropped += 1;
                if policy == SlowPolicy::Close {
                    self.close_slow(client, config);
                }
            }
        }
        delivery.dropped += dropped;
        client.entry.count_dropped(dropped);
    }
}

/// Starts the task that moves a client's values to its send queue.
fn start_moving(client: &ClientHandle) {
    let own = client.entry.home.runtime.clone();
    let here = Handle::try_current().ok().filter(|here| !is_same(Some(here), own.as_ref()));
    let (runtime, next) = match (own, here) {
        (None, None) => (client.entry.hub().any_runtime(), None),
        (None, here) => (here, None),
        both => both,
    };
    let moving = Moving { client: client.clone(), is_done: false, next };
    if let Some(runtime) = runtime {
        runtime.spawn(moving.run());
    }
    // Without any runtime, nothing can wait: dropping `moving` drops the values.
}

impl Room {
    /// Sends the latest value of `key` to every client in the room, as [`Hub::publish_latest`] does.
    pub fn publish_latest(&self, key: impl AsRef<str>, message: impl Into<Message>) -> Delivery {
        self.hub().publish_latest(self.name(), key, message)
    }
}

/// The task that moves a client's values to its send queue.
struct Moving {
    client: ClientHandle,
    is_done: bool,
    /// The runtime in which it runs if the first one has ended before it began.
    next: Option<Handle>,
}

impl Moving {
    async fn run(mut self) {
        self.next = None;
        let entry = &self.client.entry;
        let first = || entry.latest_if_any().and_then(|latest| latest.first());
        // It ends when the connection does, because nothing can be sent then.
        while let Ok(Some(sent)) = entry.sender.send_prepared_with(AHEAD, first).await {
            if !entry.latest_if_any().is_some_and(|mut latest| latest.sent(&sent)) {
                self.is_done = true;
                return;
            }
        }
    }
}

impl Drop for Moving {
    fn drop(&mut self) {
        if let Some(next) = self.next.take() {
            next.spawn(Self { client: self.client.clone(), is_done: false, next: None }.run());
        } else if !self.is_done {
            // The connection or the runtime has ended.
            let dropped = self.client.entry.latest_if_any().map_or(0, |mut latest| latest.give_up());
            self.client.entry.count_dropped(dropped);
            self.client.entry.hub().inner.counters.dropped.add(dropped as u64);
            metrics::dropped(dropped as u64);
        }
    }
}
