//! The two tasks of a socket that was split by `futures` or by tokio. Each polls the same socket with its own
//! waker.
//!
//! The socket, its timer and its transport keep one waker each. While both halves wait, they are polled with one
//! waker that wakes both tasks.

use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use crate::{Transport, WebSocket};

/// The half that polls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Half {
    Read,
    Write,
}

/// The wakers of the tasks that wait on each half.
#[derive(Debug, Default)]
pub(crate) struct Halves {
    read: Option<Waker>,
    write: Option<Waker>,
}

impl Halves {
    /// Notes that one half polls. If the other half waits in another task, returns the waker to poll with instead
    /// of the polling half's own.
    pub(crate) fn enter(&mut self, half: Half, cx: &Context<'_>) -> Option<Waker> {
        let (own, other) = match half {
            Half::Read => (&mut self.read, &self.write),
            Half::Write => (&mut self.write, &self.read),
        };
        let own = own.insert(cx.waker().clone());
        let other = other.as_ref().filter(|other| !other.will_wake(own))?;
        Some(Waker::from(Arc::new(Both([own.clone(), other.clone()]))))
    }

    /// Notes that one half no longer waits.
    pub(crate) fn leave(&mut self, half: Half) {
        match half {
            Half::Read => self.read = None,
            Half::Write => self.write = None,
        }
    }

    /// Wakes the task that reads.
    pub(crate) fn wake_reader(&mut self) {
        if let Some(read) = self.read.take() {
            read.wake();
        }
    }
}

impl<T: Transport> WebSocket<T> {
    /// Begins a poll of one of the halves that `futures` or tokio split off. Returns the waker to poll with, if it
    /// is not the caller's.
    #[inline]
    pub(crate) fn enter(&mut self, half: Half, cx: &Context<'_>) -> Option<Waker> {
        if half == Half::Read && self.halves.is_none() {
            return None;
        }
        self.enter_half(half, cx)
    }

    fn enter_half(&mut self, half: Half, cx: &Context<'_>) -> Option<Waker> {
        if self.halves.is_none() {
            let read = self.shared().lock().owner.clone();
            self.halves = Some(Box::new(Halves { read, write: None }));
        }
        self.halves.as_mut()?.enter(half, cx)
    }

    /// Ends a poll of one of the halves.
    #[inline]
    pub(crate) fn leave<R>(&mut self, half: Half, polled: Poll<R>) -> Poll<R> {
        if let Some(halves) = &mut self.halves
            && polled.is_ready()
        {
            halves.leave(half);
        }
        polled
    }

    /// Wakes the task that reads, because the other half has seen the end.
    pub(crate) fn wake_reader(&mut self) {
        if let Some(halves) = &mut self.halves {
            halves.wake_reader();
        }
    }
}

struct Both([Waker; 2]);

impl Wake for Both {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        for waker in &self.0 {
            waker.wake_by_ref();
        }
    }
}
