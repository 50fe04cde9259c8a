//! The tasks that wait for a connection's sending half, and the condition that each of them waits for.
//!
//! A transport keeps one waker for writing, the last that it was polled with. Several tasks may wait here, so the
//! transport is polled with one waker that wakes all of them. The table in ARCHITECTURE.md lists which task wakes
//! which.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Wake, Waker};

use crate::sync::{AtomicUsize, Mutex, Ordering};

/// The waiting tasks of one connection.
#[derive(Debug, Default)]
pub(crate) struct Wakers {
    waiting: Mutex<BTreeMap<Ticket, Task>>,
    /// The length of `waiting`. Tasks are added under the connection's lock, so the holder of that lock misses
    /// none.
    count: AtomicUsize,
}

#[derive(Debug)]
struct Task {
    want: Want,
    waker: Waker,
}

/// The identity of a waiting task. A call keeps one from its first wait to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket(pub(crate) u64);

impl Ticket {
    /// The task that receives or drives the handler. It also writes what other tasks have queued.
    pub(crate) const OWNER: Self = Self(0);
    /// The calls on the socket itself, one at a time.
    pub(crate) const SOCKET: Self = Self(1);
    /// The task that receives, while it waits until the last bytes are flushed.
    pub(crate) const ENDING: Self = Self(2);
    /// The task that drives the handler, for the handler's own sends.
    pub(crate) const DRIVER: Self = Self(3);
    /// The last of the reserved tickets.
    pub(crate) const FIRST: u64 = 3;
}

/// The condition that a task waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    /// The transport accepts more. When everything is written, no task needs to be woken for it.
    Progress,
    /// A whole message may be queued.
    Room,
    /// A part of the open message may be queued.
    PartRoom,
    /// A prepared message may be queued: the cost of the queue is at most this.
    Fits(usize),
    /// Everything before this position was flushed by the transport.
    Flushed(u64),
}

/// A task that waits.
#[derive(Clone, Copy)]
pub(crate) struct Waiter<'a> {
    pub(crate) ticket: Ticket,
    pub(crate) want: Want,
    pub(crate) waker: &'a Waker,
}

impl Wakers {
    /// Adds a task, or updates its condition and waker.
    pub(crate) fn register(&self, waiter: Waiter<'_>) {
        let Waiter { ticket, want, waker } = waiter;
        let mut waiting = self.lock();
        if let Some(task) = waiting.get_mut(&ticket) {
            task.want = want;
            task.waker.clone_from(waker);
        } else {
            waiting.insert(ticket, Task { want, waker: waker.clone() });
            self.count.store(waiting.len(), Ordering::Relaxed);
        }
    }

    /// Returns whether any task waits.
    #[inline]
    pub(crate) fn is_waited_for(&self) -> bool {
        self.count.load(Ordering::Relaxed) > 0
    }

    /// Removes a task that no longer waits.
    pub(crate) fn forget(&self, ticket: Ticket) {
        let mut waiting = self.lock();
        let task = waiting.remove(&ticket);
        self.count.store(waiting.len(), Ordering::Relaxed);
        drop(waiting);
        drop(task);
    }

    /// Moves to `woken` the wakers of the tasks whose condition `is_met`. If `is_written`, also removes the tasks
    /// that wait for progress. Returns the smallest position whose flush a task still waits for.
    pub(crate) fn take_met(
        &self,
        is_written: bool,
        is_met: impl Fn(Want) -> bool,
        woken: &mut Vec<Waker>,
    ) -> u64 {
        let mut barrier = u64::MAX;
        let mut waiting = self.lock();
        waiting.retain(|_, task| {
            if is_met(task.want) {
                woken.push(task.waker.clone());
                return false;
            }
            if let Want::Flushed(position) = task.want {
                barrier = barrier.min(position);
            }
            task.want != Want::Progress || !is_written
        });
        self.count.store(waiting.len(), Ordering::Relaxed);
        barrier
    }

    /// Wakes every waiting task. Those that must continue to wait register again.
    fn wake_all(&self) {
        let mut waiting = self.lock();
        let woken = std::mem::take(&mut *waiting);
        self.count.store(0, Ordering::Relaxed);
        drop(waiting);
        for task in woken.into_values() {
            task.waker.wake();
        }
    }

    fn lock(&self) -> crate::sync::MutexGuard<'_, BTreeMap<Ticket, Task>> {
        crate::sync::lock(&self.waiting)
    }
}

/// Called by the transport when it accepts more.
impl Wake for Wakers {
    fn wake(self: Arc<Self>) {
        self.wake_all();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.wake_all();
    }
}

#[cfg(all(test, not(longwire_loom)))]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn wakes_whom_it_concerns_and_forgets_who_has_gone() {
        let wakers = Wakers::default();
        let counts = [(); 4].map(|()| Arc::new(Count::default()));
        let all = counts.clone().map(Waker::from);
        let wants = [Want::Progress, Want::Room, Want::Flushed(5), Want::Flushed(6)];
        for (i, (waker, want)) in all.iter().zip(wants).enumerate() {
            let waiter = Waiter { ticket: Ticket(i as u64), want, waker };
            wakers.register(waiter);
            wakers.register(waiter);
        }
        let mut woken = Vec::new();
        let met = |want| matches!(want, Want::Flushed(at) if at <= 5);
        assert_eq!(wakers.take_met(false, met, &mut woken), 6);
        assert_eq!(woken.len(), 1);
        assert!(woken[0].will_wake(&all[2]));
        wakers.forget(Ticket(1));
        assert!(wakers.is_waited_for());
        wakers.wake_all();
        assert!(!wakers.is_waited_for());
        assert_eq!(counts.map(|count| count.0.load(Ordering::Relaxed)), [1, 0, 0, 1]);
    }
}
