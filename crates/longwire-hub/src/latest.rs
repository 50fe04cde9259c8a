//! Latest values: a client that does not keep up gets the newest value of each key, and not those in between.
//!
//! Values wait here, outside of the client's send queue, for as long as they can still be replaced. A task moves them
//! to the queue one by one, as there is room; it exists while values wait.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use longwire_connection::{Error, Message, PreparedMessage};
use tokio::runtime::Handle;

use crate::broadcast::Delivery;
use crate::config::{HubConfig, SlowPolicy};
use crate::entry::ClientHandle;
use crate::metrics;
use crate::registry::Hub;
use crate::room::Room;

/// The bytes that may wait in a client's send queue before further values wait outside of it: enough to keep a
/// connection busy, and little that can be outdated.
const AHEAD: usize = 16 * 1024;

/// The values that wait for one client.
#[derive(Default)]
pub(crate) struct Latest {
    /// In the order in which their keys began to wait.
    waiting: VecDeque<Value>,
    /// The number of each key's value, counted over all values that have begun to wait.
    numbers: HashMap<Arc<str>, usize>,
    /// The values that have left `waiting`, which is the number of its first.
    gone: usize,
    /// The bytes of these values.
    bytes: usize,
    /// Set while a task moves values to the send queue.
    is_moving: bool,
}

struct Value {
    key: Arc<str>,
    prepared: PreparedMessage,
}

impl Value {
    /// Returns the value's share of the bytes that may wait.
    fn cost(&self) -> usize {
        self.key.len() + self.prepared.server_frame().len() + size_of::<Self>()
    }
}

/// The result of adding a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Added {
    New,
    Replaced,
    /// As many bytes wait as may wait.
    Full,
}

impl Latest {
    fn add(&mut self, key: &Arc<str>, prepared: &PreparedMessage, limit: usize) -> Added {
        let value = Value { key: Arc::clone(key), prepared: prepared.clone() };
        let cost = value.cost();
        if let Some(number) = self.numbers.get(key) {
            let known = &mut self.waiting[number - self.gone];
            let bytes = (self.bytes - known.cost()).saturating_add(cost);
            if bytes > limit && self.numbers.len() > 1 {
                return Added::Full;
            }
            self.bytes = bytes;
            *known = value;
            return Added::Replaced;
        }
        if self.bytes.saturating_add(cost) > limit && !self.waiting.is_empty() {
            return Added::Full;
        }
        self.bytes += cost;
        self.numbers.insert(Arc::clone(key), self.gone + self.waiting.len());
        self.waiting.push_back(value);
        Added::New
    }

    fn first(&self) -> Option<PreparedMessage> {
        self.waiting.front().map(|value| value.prepared.clone())
    }

    fn remove_first(&mut self) {
        if let Some(value) = self.waiting.pop_front() {
            self.bytes -= value.cost();
            self.numbers.remove(&value.key);
            self.gone += 1;
        }
    }

    /// Removes the first value, which was sent; if a newer one has replaced it, that waits behind all others. Returns
    /// whether values wait; otherwise nothing is left to move.
    fn sent(&mut self, prepared: &PreparedMessage) -> bool {
        // Both are alive, so their frames are at one address only if they are the same.
        let of = |prepared: &PreparedMessage| prepared.server_frame().as_ptr();
        let newer = self.waiting.front().filter(|value| of(&value.prepared) != of(prepared));
        let newer = newer.map(|value| (Arc::clone(&value.key), value.prepared.clone()));
        self.remove_first();
        if let Some((key, newer)) = newer {
            self.add(&key, &newer, usize::MAX);
        }
        if self.waiting.is_empty() {
            *self = Self::default();
        }
        self.is_moving
    }

    /// Drops all values; returns their number.
    fn give_up(&mut self) -> usize {
        std::mem::take(self).waiting.len()
    }
}

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
    /// The operating system buffers up to some megabytes for a connection. For values that are to be fresh, limit
    /// that too: see `ListenOptions::send_buffer` and `unsent_low_water` of longwire's server.
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
        match self.members_of(room.as_ref()) {
            Some(members) => self.deliver_latest(&members, key.as_ref(), message.into()),
            None => Delivery::default(),
        }
    }

    /// Sends the latest value of `key` to every client, as [`publish_latest`](Self::publish_latest) does in a room.
    pub fn broadcast_latest(&self, key: impl AsRef<str>, message: impl Into<Message>) -> Delivery {
        self.deliver_latest(&self.clients(), key.as_ref(), message.into())
    }

    fn deliver_latest(&self, clients: &[ClientHandle], key: &str, message: Message) -> Delivery {
        self.warn_without_mount();
        let (config, key, prepared) = (self.config(), Arc::from(key), PreparedMessage::new(message));
        let mut delivery = Delivery::default();
        for client in clients {
            self.deliver_value(client, &key, &prepared, &config, &mut delivery);
        }
        self.count(&prepared, delivery);
        delivery
    }

    fn deliver_value(
        &self,
        client: &ClientHandle,
        key: &Arc<str>,
        prepared: &PreparedMessage,
        config: &HubConfig,
        delivery: &mut Delivery,
    ) {
        let is_moving = client.entry.latest_if_any().is_some_and(|latest| latest.is_moving);
        if !is_moving {
            match client.sender().try_send_prepared(prepared, AHEAD) {
                Err(Error::QueueFull) => {}
                sent => {
                    // A client that is leaving counts as neither.
                    delivery.accepted += usize::from(sent.is_ok());
                    return;
                }
            }
        }
        let limit = client.entry.queue(config.queue);
        let policy = client.slow_policy().unwrap_or(config.slow);
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
    let runtime = own.or_else(|| Handle::try_current().ok()).or_else(|| client.entry.hub().any_runtime());
    let moving = Moving { client: client.clone(), is_done: false };
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
}

impl Moving {
    async fn run(mut self) {
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
        if !self.is_done {
            // The connection or the runtime has ended.
            let dropped = self.client.entry.latest_if_any().map_or(0, |mut latest| latest.give_up());
            self.client.entry.count_dropped(dropped);
            self.client.entry.hub().inner.counters.dropped.add(dropped as u64);
            metrics::dropped(dropped as u64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_wait_in_the_order_of_their_keys_and_are_replaced_in_place() {
        let mut latest = Latest::default();
        let keys: Vec<Arc<str>> = ["a", "b", "c"].into_iter().map(Arc::from).collect();
        let value = |text: &str| PreparedMessage::new(text);
        for key in &keys {
            assert_eq!(latest.add(key, &value("old"), usize::MAX), Added::New);
        }
        let (old, new) = (latest.first().unwrap(), value("new"));
        assert_eq!(latest.add(&keys[0], &new, usize::MAX), Added::Replaced);
        latest.is_moving = true;
        assert!(latest.sent(&old), "the value that was sent has been replaced, and the new one waits");
        assert_eq!(latest.first().unwrap().message(), "new".into());
        assert!(latest.sent(&new));
        assert_eq!(latest.add(&keys[2], &value("newer"), usize::MAX), Added::Replaced);
        assert_eq!(latest.add(&keys[0], &value("again"), usize::MAX), Added::New);
        let mut texts = Vec::new();
        while let Some(first) = latest.first() {
            texts.push(first.message().to_string());
            latest.sent(&first);
        }
        assert_eq!(texts, ["old", "newer", "again"]);
        assert!(!latest.is_moving && latest.bytes == 0 && latest.numbers.is_empty());
    }

    #[test]
    fn the_bytes_that_wait_are_limited() {
        let mut latest = Latest::default();
        let value = PreparedMessage::new(vec![0; 1000]);
        let key = |n: usize| Arc::from(n.to_string());
        assert_eq!(latest.add(&key(0), &value, 10), Added::New, "one value may always wait");
        assert_eq!(latest.add(&key(1), &value, 2000), Added::Full);
        assert_eq!(latest.add(&key(1), &value, 3000), Added::New);
        assert_eq!(latest.give_up(), 2);
        assert_eq!(latest.bytes, 0);
        // Keys cost memory, too.
        let tiny = PreparedMessage::new("");
        let added = (0..1000).filter(|&n| latest.add(&key(n), &tiny, 10_000) == Added::New).count();
        assert!(added < 300, "{added}");
    }
}
