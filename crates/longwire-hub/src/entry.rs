//! What a hub keeps for one client, in one allocation; what few clients need is in a second one.

use std::any::Any;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Waker;

use longwire_connection::Sender;

use crate::leaving::Home;
use crate::limits::Source;
use crate::rooms::Joined;
use crate::{ClientId, ClientInfo, Hub, SlowPolicy};

/// What an application keeps for a client.
pub(crate) type Data = Box<dyn Any + Send + Sync>;

/// One client.
pub(crate) struct Entry {
    pub(crate) id: ClientId,
    pub(crate) sender: Sender,
    pub(crate) peer_addr: Option<SocketAddr>,
    /// The registry holds this entry and this entry the registry, until the client leaves.
    pub(crate) home: Arc<Home>,
    /// When it was admitted, in nanoseconds of the hub's age: an `Instant` is twice as long.
    pub(crate) since: u64,
    pub(crate) dropped: AtomicU64,
    /// Which departure of the hub's was this client's; 0 while it is registered. Changed under the lock of `task`.
    departure: AtomicU64,
    /// How many [`Member`](crate::socket::Member)s there are; the last one takes the client out of the registry.
    pub(crate) holders: AtomicU32,
    /// Whether the client was closed for being slow.
    pub(crate) too_slow: AtomicBool,
    /// A policy for this client alone: its place in [`POLICIES`], from 1; 0 for none.
    slow_policy: AtomicU8,
    /// Whether the handler has to be dropped. Set before `task` is woken.
    killed: AtomicBool,
    /// The task that runs the handler: it may wait for anything, so the connection alone could not wake it.
    task: Mutex<Option<Waker>>,
    rare: OnceLock<Box<Rare>>,
}

/// What few clients need.
#[derive(Default)]
pub(crate) struct Rare {
    data: OnceLock<Data>,
    /// Limits for this client alone.
    own: OwnLimits,
    pub(crate) rooms: Mutex<Joined>,
}

/// Limits for one client, where they are not those of all.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct OwnLimits {
    queue: Option<usize>,
    max_rooms: Option<usize>,
}

impl Entry {
    pub(crate) fn new(id: ClientId, sender: Sender, info: ClientInfo, home: Arc<Home>) -> Self {
        let ClientInfo { peer_addr, slow_policy, queue, max_rooms, data, .. } = info;
        let own = OwnLimits { queue, max_rooms };
        // Enough for 500 years.
        let since = u64::try_from(home.hub.inner.age().as_nanos()).unwrap_or(u64::MAX);
        let is_rare = data.is_some() || own != OwnLimits::default();
        let data = data.map(OnceLock::from).unwrap_or_default();
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

    /// Drops the connection, and the handler that is run on it.
    pub(crate) fn kill(&self) {
        self.killed.store(true, Ordering::Release);
        self.sender.abort();
        let task = self.task().take();
        if let Some(task) = task {
            task.wake();
        }
    }

    /// Notes which task a kill has to wake; ask [`is_killed`](Self::is_killed) after that.
    pub(crate) fn set_task(&self, task: Option<Waker>) {
        let before = std::mem::replace(&mut *self.task(), task);
        drop(before);
    }

    #[inline]
    pub(crate) fn is_killed(&self) -> bool {
        self.killed.load(Ordering::Acquire)
    }

    /// What the client keeps while it is connected; `None` once it is not.
    pub(crate) fn rare_if_connected(&self) -> Option<&Rare> {
        let _unchanged = self.task();
        (self.departure() == 0).then(|| &**self.rare.get_or_init(Box::default))
    }

    /// What the client keeps, if it ever kept anything.
    pub(crate) fn rare(&self) -> Option<&Rare> {
        self.rare.get().map(|rare| &**rare)
    }

    /// Ends what lasts as long as the connection.
    pub(crate) fn leave_hub(&self) {
        let hub = self.hub();
        let mut departed = hub.departed();
        let code = self.depart(&mut departed);
        let mut task = self.task();
        self.departure.store(departed.count(), Ordering::Relaxed);
        drop(departed);
        // A handle that somebody keeps must not keep the task's memory.
        let task_before = task.take();
        drop(task);
        drop(task_before);
        crate::metrics::closed(code);
        // Who found the client connected has made what there is to find here, before that lock was taken.
        self.leave_all_rooms();
        hub.inner.counters.rate_limited.add(self.sender.stats().messages_refused);
    }

    /// Which departure of the hub's was this client's; 0 while it is registered.
    pub(crate) fn departure(&self) -> u64 {
        self.departure.load(Ordering::Relaxed)
    }

    pub(crate) fn source(&self) -> Option<Source> {
        self.peer_addr.map(Source::from)
    }

    pub(crate) fn data<T: Any>(&self) -> Option<&T> {
        self.rare()?.data.get()?.downcast_ref()
    }

    pub(crate) fn set_data<T: Any + Send + Sync>(&self, data: T) -> Result<(), T> {
        let mut given = Some(data);
        let rare = self.rare.get_or_init(Box::default);
        rare.data.get_or_init(|| Box::new(given.take().expect("it is asked for once")));
        given.map_or(Ok(()), Err)
    }

    /// How many bytes may wait for this client, where that of all is `of_all`.
    #[inline]
    pub(crate) fn queue(&self, of_all: usize) -> usize {
        self.rare().and_then(|rare| rare.own.queue).unwrap_or(of_all)
    }

    /// How many rooms this client may be in, where all may be in `of_all`.
    pub(crate) fn max_rooms(&self, of_all: Option<usize>) -> Option<usize> {
        self.rare().and_then(|rare| rare.own.max_rooms).or(of_all)
    }

    pub(crate) fn slow_policy(&self) -> Option<SlowPolicy> {
        let number = usize::from(self.slow_policy.load(Ordering::Relaxed));
        number.checked_sub(1).and_then(|index| POLICIES.get(index)).copied()
    }

    pub(crate) fn set_slow_policy(&self, policy: Option<SlowPolicy>) {
        let index = policy.and_then(|policy| POLICIES.iter().position(|&known| known == policy));
        // There are few.
        #[allow(clippy::cast_possible_truncation)]
        self.slow_policy.store(index.map_or(0, |index| index as u8 + 1), Ordering::Relaxed);
    }

    fn task(&self) -> MutexGuard<'_, Option<Waker>> {
        // Nothing that can panic leaves it half changed.
        self.task.lock().unwrap_or_else(PoisonError::into_inner)
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
