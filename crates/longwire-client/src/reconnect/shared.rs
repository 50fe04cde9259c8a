//! What the handles and the task that keeps the connection share.

use std::sync::{Arc, Mutex, PoisonError};

use longwire_connection::{CloseFrame, Error};
use tokio::sync::watch;

use super::outbox::Outbox;
use super::{Outage, State};

pub(super) struct Shared {
    pub(super) outbox: Outbox,
    pub(super) state: watch::Sender<State>,
    /// Set once, when this end wants to close.
    pub(super) closing: watch::Sender<Option<CloseFrame>>,
    /// How the closing went, once nothing is left to be done.
    ended: watch::Sender<Option<Result<(), Error>>>,
    /// Why it stopped, until the application was told.
    last: Mutex<Option<Outage>>,
}

impl Shared {
    pub(super) fn new(outbox: Outbox) -> Self {
        Self {
            outbox,
            state: watch::Sender::new(State::Connecting { attempt: 1 }),
            closing: watch::Sender::default(),
            ended: watch::Sender::default(),
            // Unless the task comes to say something else.
            last: Mutex::new(Some(Outage::TaskGone)),
        }
    }

    /// Starts to close, unless something else has.
    pub(super) fn start_close(&self, frame: CloseFrame) {
        self.outbox.close();
        self.closing.send_if_modified(|closing| {
            let first = closing.is_none();
            closing.get_or_insert(frame);
            first
        });
    }

    /// Waits until nothing is left to be done; yields how the closing went.
    pub(super) async fn ended(&self) -> Result<(), Error> {
        let mut ended = self.ended.subscribe();
        match ended.wait_for(Option::is_some).await {
            Ok(ended) => ended.clone().unwrap_or(Ok(())),
            // The sender is in this very struct.
            Err(_) => Err(Error::Closed),
        }
    }

    /// Takes why it stopped, unless that was taken or it was clean.
    pub(super) fn take_last(&self) -> Option<Outage> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn set_last(&self, outage: Option<Outage>) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = outage;
    }
}

/// Tells everybody that it is over when it is dropped, by whatever way.
pub(super) struct Finish {
    shared: Arc<Shared>,
    closed: Result<(), Error>,
}

impl Finish {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, closed: Err(Error::Closed) }
    }

    /// Notes how it went.
    pub(super) fn orderly(&mut self, last: Option<Outage>, closed: Result<(), Error>) {
        self.shared.set_last(last);
        self.closed = closed;
    }
}

impl Drop for Finish {
    fn drop(&mut self) {
        self.shared.outbox.stop();
        self.shared.state.send_replace(State::Stopped);
        self.shared.ended.send_replace(Some(std::mem::replace(&mut self.closed, Ok(()))));
    }
}
