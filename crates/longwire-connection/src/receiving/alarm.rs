//! Deadlines as wake-ups: the one timer of a connection, and what is done when it is due.
//!
//! When something is due is decided by [`Timers`]; this sleeps until then.

use std::task::{Context, Poll, ready};
use std::time::Duration;

use longwire_protocol::{Due, Timers};
use tokio::time::Instant;

use crate::receiving::reader::{BUDGET, Reader, Step};
use crate::{Error, Transport};

impl<T: Transport> Reader<T> {
    /// Waits for the next deadline; ready when one has passed and something was done about it.
    #[inline]
    pub(crate) fn poll_timers(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(deadline) = self.timers.deadline() else {
            return Poll::Pending;
        };
        if let (Some(sleep), Some(sleeper)) = (&self.sleep, &self.sleeper)
            && sleeper.will_wake(cx.waker())
            && !sleep.is_elapsed()
            && sleep.deadline() <= Instant::from_std(deadline)
        {
            return Poll::Pending; // it will wake this task
        }
        self.poll_sleep(cx)
    }

    #[cold]
    fn poll_sleep(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let Some(deadline) = self.timers.deadline() else {
                return Poll::Pending;
            };
            let deadline = Instant::from_std(deadline);
            let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
            if sleep.deadline() != deadline {
                sleep.as_mut().reset(deadline);
            }
            self.sleeper = Some(cx.waker().clone());
            ready!(sleep.as_mut().poll(cx));
            match self.timers.handle_timeout(Instant::now().into_std()) {
                Due::Nothing => {}
                Due::Ping => {
                    // It cannot fail but for a connection that is closing anyway.
                    let _ = self.shared.send_now(|out| out.ping(&[]));
                }
                due => {
                    let error = if due == Due::PeerGone { Error::PeerGone } else { Error::CloseTimeout };
                    self.give_up(error);
                    return Poll::Ready(());
                }
            }
        }
    }

    /// Ends without waiting for the peer any more.
    fn give_up(&mut self, error: Error) {
        self.eof = true;
        self.inbound.end();
        self.shared.lock().finish();
        if self.ending.is_open() {
            self.ending.begin(Err(error));
        }
    }

    /// Lets others have a turn: a peer that always has more for us must keep neither the thread nor the deadlines.
    #[cold]
    pub(super) fn poll_yield(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        self.budget = BUDGET;
        if !self.read.is_empty() {
            // What is here and was not decoded yet is a sign of life, however long the decoding takes.
            self.timers.heard();
        }
        if self.timers.deadline().is_some_and(|deadline| Instant::from_std(deadline) <= Instant::now())
            && self.poll_timers(cx).is_ready()
        {
            return Poll::Ready(Step::More);
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Starts the limit of the closing handshake, or lets it start over while the peer takes bytes.
pub(crate) fn note_closing(timers: &mut Timers, before: &mut u64, written: u64, limit: Duration) {
    let now = Instant::now().into_std();
    timers.closing(now, limit);
    if *before != written {
        *before = written;
        timers.progressed(now);
    }
}
