//! The state shared by the handles and the task that keeps the connection.

use std::sync::{Arc, Mutex, PoisonError};

use longwire_connection::{CloseFrame, Error};
use tokio::sync::watch;
use tokio::time::Instant;

use super::Outage;
use super::outbox::Outbox;

/// The state of a reconnecting connection.
///
/// There is no `==`, because causes cannot be compared: use `matches!`.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Phase {
    /// The connection is being established, and [`on_connect`](super::Builder::on_connect) runs.
    Connecting {
        /// The number of this attempt, counted from 1. A connection that lasts
        /// [`reset_after`](super::Backoff::reset_after) restarts the count.
        attempt: u32,
    },
    /// The connection is open.
    Connected,
    /// The next attempt is scheduled.
    Waiting {
        /// The number of failures in a row.
        failures: u32,
        /// The time of the next attempt.
        until: Instant,
        /// The last failure.
        cause: Arc<Outage>,
    },
    /// This end has closed or given up. This state is final.
    Stopped,
}

pub(super) struct Shared {
    pub(super) outbox: Outbox,
    pub(super) state: watch::Sender<Phase>,
    /// Set once, when this end starts to close.
    pub(super) closing: watch::Sender<Option<CloseFrame>>,
    /// The result of closing, set when nothing is left to do.
    ended: watch::Sender<Option<Result<(), Error>>>,
    /// The outage that stopped the task, until it is reported to the application.
    last: Mutex<Option<Outage>>,
}

impl Shared {
    pub(super) fn new(outbox: Outbox) -> Self {
        Self {
            outbox,
            state: watch::Sender::new(Phase::Connecting { attempt: 1 }),
            closing: watch::Sender::default(),
            ended: watch::Sender::default(),
            // The value that remains if the task never reports another.
            last: Mutex::new(Some(Outage::TaskGone)),
        }
    }

    /// Starts to close, unless closing has already started.
    pub(super) fn start_close(&self, frame: CloseFrame) {
        self.outbox.close();
        self.closing.send_if_modified(|closing| {
            let first = closing.is_none();
            closing.get_or_insert(frame);
            first
        });
    }

    /// Waits until nothing is left to do, and returns the result of closing.
    pub(super) async fn ended(&self) -> Result<(), Error> {
        let mut ended = self.ended.subscribe();
        match ended.wait_for(Option::is_some).await {
            Ok(ended) => ended.clone().unwrap_or(Ok(())),
            // `self` holds the sender, so it is never gone.
            Err(_) => Err(Error::Closed),
        }
    }

    /// Takes the outage that stopped the task; `None` if it was taken before or the end was clean.
    pub(super) fn take_last(&self) -> Option<Outage> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn set_last(&self, outage: Option<Outage>) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = outage;
    }
}

/// A guard that announces the end to every waiting task when it is dropped, for whatever reason.
pub(super) struct Finish {
    shared: Arc<Shared>,
    closed: Result<(), Error>,
}

impl Finish {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, closed: Err(Error::Closed) }
    }

    /// Records the outcome of an orderly end.
    pub(super) fn orderly(&mut self, last: Option<Outage>, closed: Result<(), Error>) {
        self.shared.set_last(last);
        self.closed = closed;
    }
}

impl Drop for Finish {
    fn drop(&mut self) {
        self.shared.outbox.stop();
        self.shared.state.send_replace(Phase::Stopped);
        self.shared.ended.send_replace(Some(std::mem::replace(&mut self.closed, Ok(()))));
    }
}
