//! The tasks that wait for a connection's transport to take more.
//!
//! A transport keeps one waker for writing, the last that it was polled with. Several tasks may wait here: the transport
//! is always polled with one waker that passes the wake-up on to all of them.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Wake, Waker};

/// The waiting tasks of one connection.
#[derive(Debug, Default)]
pub(crate) struct Wakers {
    waiting: Mutex<Vec<Waker>>,
}

impl Wakers {
    /// Adds a task, unless it waits already.
    pub(crate) fn register(&self, waker: &Waker) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if !waiting.iter().any(|known| known.will_wake(waker)) {
            waiting.push(waker.clone());
        }
    }

    /// Wakes every waiting task; those that still have to wait register again.
    pub(crate) fn wake_all(&self) {
        let waiting = std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        for waker in waiting {
            waker.wake();
        }
    }
}

impl Wake for Wakers {
    fn wake(self: Arc<Self>) {
        self.wake_all();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.wake_all();
    }
}
