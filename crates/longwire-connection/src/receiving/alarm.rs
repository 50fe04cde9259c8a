//! The one timer of a connection: it sleeps until a deadline and reports what is due.
//!
//! [`Timers`] decides when something is due; the reader acts on it.

use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use longwire_protocol::{Due, Keepalive, Timers};
use tokio::time::{Instant, Sleep};

/// The deadlines of a connection, and the timer that wakes its task.
pub(crate) struct Alarm {
    timers: Timers,
    sleep: Option<Pin<Box<Sleep>>>,
    /// The task that `sleep` wakes.
    sleeper: Option<Waker>,
    /// Whether the deadline is not earlier than the end of `sleep`, or there is none. It is known without a look at
    /// `sleep`, which is elsewhere in memory.
    is_covered: bool,
    close_timeout: Duration,
    /// The number of bytes written when progress was last checked.
    written_before: u64,
}

impl Alarm {
    pub(super) fn new(keepalive: Option<Keepalive>, close_timeout: Duration) -> Self {
        let timers = Timers::new(keepalive, now());
        let is_covered = timers.deadline().is_none();
        Self { timers, sleep: None, sleeper: None, is_covered, close_timeout, written_before: 0 }
    }

    /// Records a sign of life.
    #[inline]
    pub(crate) fn heard(&mut self) {
        if self.timers.heard() {
            self.is_covered = false;
        }
    }

    /// Records the answer to a keepalive ping, and returns the time that it took.
    pub(super) fn answered(&mut self) -> Option<Duration> {
        self.is_covered = false;
        self.timers.answered(now())
    }

    /// Starts the time limit of the closing handshake, unless it is running.
    pub(crate) fn start_closing(&mut self) {
        self.is_covered = false;
        self.timers.closing(now(), self.close_timeout);
    }

    /// Starts the time limit of the closing handshake, or restarts it if the peer has accepted more bytes.
    /// `written` is the number of bytes that it has accepted so far.
    pub(crate) fn note_closing(&mut self, written: u64) {
        let now = now();
        self.is_covered = false;
        self.timers.closing(now, self.close_timeout);
        if self.has_progressed(written) {
            self.timers.progressed(now);
        }
    }

    /// Records that a peer which accepts bytes is alive, even if it sends nothing.
    pub(super) fn note_written(&mut self, written: u64) {
        if self.has_progressed(written) {
            self.heard();
        }
    }

    fn has_progressed(&mut self, written: u64) -> bool {
        std::mem::replace(&mut self.written_before, written) != written
    }

    /// Returns whether a deadline has passed.
    pub(crate) fn is_due(&self) -> bool {
        self.timers.deadline().is_some_and(|deadline| Instant::from_std(deadline) <= Instant::now())
    }

    /// Returns whether there is no deadline, or the timer will wake this task by then.
    #[inline]
    pub(super) fn is_set(&self, cx: &Context<'_>) -> bool {
        self.is_covered
            && match (&self.sleep, &self.sleeper) {
                (Some(sleep), Some(sleeper)) => sleeper.will_wake(cx.waker()) && !sleep.is_elapsed(),
                _ => true,
            }
    }

    /// Waits for the next deadline. Ready with what is due.
    #[cold]
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Due> {
        loop {
            self.is_covered = true;
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
            match self.timers.handle_timeout(now()) {
                Due::Nothing => {}
                due => return Poll::Ready(due),
            }
        }
    }
}

/// Returns the time of the runtime's clock, which tests can pause.
fn now() -> std::time::Instant {
    Instant::now().into_std()
}
