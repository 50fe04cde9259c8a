//! The state that a hub keeps for one client, and the handle to it.
//!
//! The state is one allocation; state that few clients need is in a second one.

use std::any::Any;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock, PoisonError};
use std::task::Waker;

use longwire_connection::{CloseCode, Sender};

use crate::census::Source;
use crate::config::{MAX_ROOM_NAME, SlowPolicy};
use crate::conflate::Latest;
use crate::data::ClientData;
use crate::error::HubError;
use crate::id::ClientId;
use crate::metrics;
use crate::registry::{Home, Hub};
use crate::rooms::Joined;
use crate::sync::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Mutex, MutexGuard, Ordering};

/// A handle to one client of a hub; cheap to clone. It does not keep the client connected.
#[derive(Clone)]
pub struct ClientHandle {
    pub(crate) entry: Arc<Entry>,
}

/// One client.
///
/// The fields that a broadcast needs come first, next to each other.
#[repr(C)]
pub(crate) struct Entry {
    pub(crate) id: ClientId,
    pub(crate) sender: Sender,
    /// Through `home`, the entry holds the registry, which holds the entry until the client leaves.
    pub(crate) home: Arc<Home>,
    rare: OnceLock<Box<Rare>>,
    /// This client's own policy, as its index in [`POLICIES`] plus 1; 0 for none.
    slow_policy: AtomicU8,
    /// Set once the client was closed for being slow.
    pub(crate) too_slow: AtomicBool,
    /// Set, before `task` is woken, if the handler must be dropped.
    killed: AtomicBool,
    /// The number of [`Member`](crate::socket::Member)s; the last one removes the client from the registry.
    pub(crate) holders: AtomicU32,
    pub(crate) dropped: AtomicU64,
    pub(crate) peer_addr: Option<SocketAddr>,
    /// The time of admission, in nanoseconds of the hub's age: an `Instant` is twice as long.
    pub(crate) since: u64,
    /// The number of this client's departure, counted within the hub; 0 while it is registered. Changed under the
    /// lock of `task`.
    departure: AtomicU64,
    /// The task that runs the handler. The handler may wait for anything, so the connection alone could not wake it.
    task: Mutex<Option<Waker>>,
}

/// State that few clients need.
#[derive(Default)]
struct Rare {
    data: ClientData,
    /// This client's own limits.
    own: OwnLimits,
    rooms: Mutex<Joined<ClientHandle>>,
    /// The client's key, as a list of at most one.
    keys: Mutex<Joined<ClientHandle>>,
    latest: Mutex<Latest>,
    replaced: AtomicU64,
}

/// The properties with which a client is admitted.
pub(crate) struct Properties {
    pub(crate) peer_addr: Option<SocketAddr>,
    pub(crate) slow_policy: Option<SlowPolicy>,
    pub(crate) queue: Option<usize>,
    pub(crate) max_rooms: Option<usize>,
    pub(crate) data: ClientData,
}

/// Limits of one client that override the hub's.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct OwnLimits {
    queue: Option<usize>,
    max_rooms: Option<usize>,
}

impl Entry {
    pub(crate) fn new(id: ClientId, sender: Sender, home: Arc<Home>, properties: Properties) -> Self {
        let Properties { peer_addr, slow_policy, queue, max_rooms, data } = properties;
        let own = OwnLimits { queue, max_rooms };
        // Enough for 500 years.
        let since = u64::try_from(home.hub.inner.age().as_nanos()).unwrap_or(u64::MAX);
        let is_rare = !data.is_empty() || own != OwnLimits::default();
        let rare = is_rare.then(|| Box::new(Rare { data, own, ..Rare::default() }));
        let entry = Self {
            id,
            sender,
            peer_addr,
            home,
            since,
            dropped: AtomicU64::new(0),
            departure: AtomicU64::new(0),
            holders: AtomicU32::new(1),
            too_slow: AtomicBool::new(false),
            slow_policy: AtomicU8::new(0),
            killed: AtomicBool::new(false),
            task: Mutex::new(None),
            rare: rare.map(OnceLock::from).unwrap_or_default(),
        };
        entry.set_slow_policy(slow_policy);
        entry
    }

    pub(crate) fn hub(&self) -> &Hub {
        &self.home.hub
    }

    /// Drops the connection and the handler that runs on it.
    pub(crate) fn kill(&self) {
        self.killed.store(true, Ordering::Release);
        self.sender.kill();
        let task = self.task().take();
        if let Some(task) = task {
            task.wake();
        }
    }

    /// Stores the task that a kill must wake; ask for a kill after that.
    pub(crate) fn set_task(&self, task: Option<Waker>) {
        let before = std::mem::replace(&mut *self.task(), task);
        drop(before);
    }

    /// Returns whether the handler must be dropped. The connection may have been killed as a client of another hub.
    #[cold]
    pub(crate) fn is_killed(&self) -> bool {
        self.killed.load(Ordering::Acquire)
    }

    /// Returns the client's rare state, which is created if necessary; `None` once the client has left.
    fn rare_if_connected(&self) -> Option<&Rare> {
        let _unchanged = self.task();
        (self.departure() == 0).then(|| &**self.rare.get_or_init(Box::default))
    }

    /// Returns the client's rare state, if it was ever created.
    fn rare(&self) -> Option<&Rare> {
        self.rare.get().map(|rare| &**rare)
    }

    /// Records the departure, and releases everything that lasts as long as the connection.
    pub(crate) fn leave_hub(&self) {
        let hub = self.hub();
        // The connection may be locked by a thread that writes, and nobody else must wait for it.
        let traffic = self.sender.stats();
        let code = self.sender.close_sent().map_or(CloseCode::ABNORMAL_CLOSURE, |frame| frame.code);
        let mut departed = hub.departed();
        departed.add(traffic, code);
        let mut task = self.task();
        self.departure.store(departed.count(), Ordering::Relaxed);
        drop(departed);
        // A `ClientHandle` that is kept longer must not keep the task's memory.
        let task_before = task.take();
        drop(task);
        drop(task_before);
        metrics::closed(code);
        // A call that found the client connected created `rare` before the lock of `task` was acquired here, so
        // its rooms are seen.
        if let Some(rare) = self.rare() {
            hub.inner.rooms.leave_all(self.id, lock(&rare.rooms));
            hub.inner.keys.leave_all(self.id, lock(&rare.keys));
        }
        hub.inner.counters.rate_limited.add(traffic.messages_refused);
    }

    /// Returns the number of this client's departure, counted within the hub; 0 while it is registered.
    pub(crate) fn departure(&self) -> u64 {
        self.departure.load(Ordering::Relaxed)
    }

    pub(crate) fn source(&self) -> Option<Source> {
        self.peer_addr.map(Source::from)
    }

    pub(crate) fn data<T: Any>(&self) -> Option<&T> {
        self.rare()?.data.get()
    }

    pub(crate) fn set_data<T: Any + Send + Sync>(&self, data: T) -> Result<(), T> {
        self.rare.get_or_init(Box::default).data.set(data)
    }

    /// Returns the number of bytes that may wait for this client, where `of_all` is the hub's limit.
    #[inline]
    pub(crate) fn queue(&self, of_all: usize) -> usize {
        self.rare().and_then(|rare| rare.own.queue).unwrap_or(of_all)
    }

    /// Returns the maximum number of rooms for this client, where `of_all` is the hub's limit.
    fn max_rooms(&self, of_all: Option<usize>) -> Option<usize> {
        self.rare().and_then(|rare| rare.own.max_rooms).or(of_all)
    }

    pub(crate) fn slow_policy(&self) -> Option<SlowPolicy> {
        let number = usize::from(self.slow_policy.load(Ordering::Relaxed));
        number.checked_sub(1).and_then(|index| POLICIES.get(index)).copied()
    }

    pub(crate) fn set_slow_policy(&self, policy: Option<SlowPolicy>) {
        let index = policy.and_then(|policy| POLICIES.iter().position(|&known| known == policy));
        // There are only a few policies.
        #[allow(clippy::cast_possible_truncation)]
        self.slow_policy.store(index.map_or(0, |index| index as u8 + 1), Ordering::Relaxed);
    }

    /// Adds this client to a room; returns whether it was not in it before.
    pub(crate) fn join(self: &Arc<Self>, name: &str) -> Result<bool, HubError> {
        if name.len() > MAX_ROOM_NAME {
            return Err(HubError::RoomName { len: name.len() });
        }
        self.hub().warn_without_mount();
        let limit = self.max_rooms(self.hub().config().max_rooms_per_client);
        let rare = self.rare_if_connected().ok_or(HubError::NotConnected)?;
        let client = ClientHandle { entry: Arc::clone(self) };
        self.hub().inner.rooms.join(name, self.id, &client, limit, lock(&rare.rooms))
    }

    /// Removes this client from a room; returns whether it was in it.
    pub(crate) fn leave(&self, name: &str) -> bool {
        self.rare().is_some_and(|rare| self.hub().inner.rooms.leave(name, self.id, lock(&rare.rooms)))
    }

    pub(crate) fn room_names(&self) -> Vec<Arc<str>> {
        self.rare().map_or_else(Vec::new, |rare| lock(&rare.rooms).names())
    }

    pub(crate) fn set_key(self: &Arc<Self>, key: &str) -> Result<(), HubError> {
        check_key(Some(key))?;
        let rare = self.rare_if_connected().ok_or(HubError::NotConnected)?;
        self.move_to_key(Some(key), rare)
    }

    pub(crate) fn remove_key(self: &Arc<Self>) {
        if let Some(rare) = self.rare() {
            // A client that has left has no key.
            let _ = self.move_to_key(None, rare);
        }
    }

    fn move_to_key(self: &Arc<Self>, key: Option<&str>, rare: &Rare) -> Result<(), HubError> {
        let client = ClientHandle { entry: Arc::clone(self) };
        self.hub().inner.keys.move_to(key, self.id, &client, lock(&rare.keys))
    }

    pub(crate) fn key(&self) -> Option<Arc<str>> {
        lock(&self.rare()?.keys).names().pop()
    }

    /// Returns the values that wait for this client, if any ever did.
    pub(crate) fn latest_if_any(&self) -> Option<MutexGuard<'_, Latest>> {
        self.rare().map(|rare| lock(&rare.latest))
    }

    /// Returns the values that wait for this client; `None` once it has left.
    pub(crate) fn latest(&self) -> Option<MutexGuard<'_, Latest>> {
        self.rare_if_connected().map(|rare| lock(&rare.latest))
    }

    pub(crate) fn count_dropped(&self, count: usize) {
        if count > 0 {
            self.dropped.fetch_add(count as u64, Ordering::Relaxed);
        }
    }

    pub(crate) fn count_replaced(&self, count: usize) {
        if let Some(rare) = self.rare() {
            rare.replaced.fetch_add(count as u64, Ordering::Relaxed);
        }
    }

    pub(crate) fn replaced(&self) -> u64 {
        self.rare().map_or(0, |rare| rare.replaced.load(Ordering::Relaxed))
    }

    fn task(&self) -> MutexGuard<'_, Option<Waker>> {
        lock(&self.task)
    }
}

/// Checks the length of a client's key.
pub(crate) fn check_key(key: Option<&str>) -> Result<(), HubError> {
    match key.map_or(0, str::len) {
        len if len > MAX_ROOM_NAME => Err(HubError::Key { len }),
        _ => Ok(()),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No panic can leave the values here half changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for ClientHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientHandle")
            .field("id", &self.entry.id)
            .field("peer_addr", &self.entry.peer_addr)
            .finish_non_exhaustive()
    }
}

const POLICIES: [SlowPolicy; 3] = [SlowPolicy::DropNewest, SlowPolicy::DropOldest, SlowPolicy::Close];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registered_client_costs_little() {
        assert!(size_of::<Entry>() <= 136, "{}", size_of::<Entry>());
    }
}
