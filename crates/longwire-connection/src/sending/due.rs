//! Work that an operation under the lock leaves until the lock is free: wakers to wake, and values whose drop runs code
//! that is not ours.

use std::task::Waker;

use crate::MemoryBudget;
use crate::sending::ping::{Answered, PendingPing, Pings};

/// What is due once the lock is free.
pub(crate) struct Due<T> {
    pub(crate) wakers: Vec<Waker>,
    /// The transport of a finished connection.
    pub(crate) io: Option<T>,
    /// The pings of a finished connection: those who wait for their pongs are woken by the drop.
    pub(crate) pings: Option<Box<Pings>>,
    pub(crate) answered: Vec<Answered>,
    pub(crate) displaced: Option<PendingPing>,
    /// A budget that a compressor has brought above its limit: other connections, behind locks of their own, have to give
    /// something back.
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
    /// Does it.
    pub(crate) fn act(self) {
        let Self { wakers, io, pings, answered, displaced, exceeded } = self;
        // Before anybody is woken: a task that sees the end may rely on the transport being closed.
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
