//! Work that an operation under the lock defers until the lock is free: tasks to wake, and values whose drop runs
//! foreign code.

use std::task::Waker;

use crate::MemoryBudget;
use crate::sending::ping::{Answered, PendingPing, Pings};

/// The work due once the lock is free.
pub(crate) struct Due<T> {
    pub(crate) wakers: Vec<Waker>,
    /// The transport of a finished connection.
    pub(crate) io: Option<T>,
    /// The pings of a finished connection. Dropping them wakes the tasks that wait for their pongs.
    pub(crate) pings: Option<Box<Pings>>,
    pub(crate) answered: Vec<Answered>,
    pub(crate) displaced: Option<PendingPing>,
    /// A budget that a compressor has pushed above its limit. Other connections, which have their own locks, must
    /// give memory back.
    pub(crate) exceeded: Option<MemoryBudget>,
}

impl<T> Default for Due<T> {
    fn default() -> Self {
        Self {
            wakers: Vec::new(),
            io: None,
            pings: None,
            answered: Vec::new(),
            displaced: None,
            exceeded: None,
        }
    }
}

impl<T> Due<T> {
    /// Does the work.
    pub(crate) fn act(self) {
        let Self { wakers, io, pings, answered, displaced, exceeded } = self;
        // Before any task is woken: a task that sees the end may rely on the transport being closed.
        drop(io);
        drop(pings);
        drop(displaced);
        for answered in answered {
            answered.tell();
        }
        for waker in wakers {
            waker.wake();
        }
        #[cfg(feature = "deflate")]
        if let Some(budget) = exceeded {
            budget.relieve();
        }
        #[cfg(not(feature = "deflate"))]
        drop(exceeded);
    }
}
