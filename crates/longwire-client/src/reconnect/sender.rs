//! The sending handle, which any number of tasks can hold.

use std::fmt;
use std::sync::Arc;

use longwire_connection::{Error, Message};
use tokio::sync::watch;

use super::outbox::Outbox;
use super::shared::{Phase, Shared};
use crate::sync::oneshot;

/// A sending handle to a connection that is re-established whenever it is lost. It is cheap to clone and usable from
/// any task.
///
/// Messages are sent in the order in which they were queued. Undelivered ones are sent again, in the same order, on the
/// next connection. The handle does not keep the connection open: [`Reconnecting`](super::Reconnecting) does.
#[derive(Clone)]
pub struct Sender {
    shared: Arc<Shared>,
}

impl Sender {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Sends one message and waits until it is delivered, over this connection or a later one.
    ///
    /// [`Confirm`](super::Confirm) defines when a message counts as delivered, and in which case another task must
    /// receive meanwhile. If the connection fails before that, the message is sent again on the next: it arrives at
    /// least once, and possibly more than once. If the queue is full, the call first waits for space; waiting calls are
    /// served in order.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`] if this end closed or gave up, before or during the call; delivery of the message was not
    /// confirmed.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the message is withdrawn and not sent. If it was already passed to a connection, it
    /// may still arrive, but is not sent again on the next.
    pub async fn send(&self, message: impl Into<Message>) -> Result<(), Error> {
        let message = message.into();
        let outbox = &self.shared.outbox;
        let room = outbox.room(message.len()).await?;
        let (done, delivered) = oneshot::channel();
        let number = outbox.push(message, room, Some(done))?;
        let _withdraw = Withdraw { outbox, number };
        // Moved into the await, `delivered` is dropped before the message is withdrawn. A connection that is lost in
        // between sees that nobody waits.
        delivered.await.map_err(|_| Error::Closed)
    }

    /// Queues one message as soon as there is space, without waiting for delivery. [`flush`](Self::flush) waits for it.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`] if this end has closed or given up; nothing was queued.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it is ready, nothing is queued.
    pub async fn feed(&self, message: impl Into<Message>) -> Result<(), Error> {
        let message = message.into();
        let room = self.shared.outbox.room(message.len()).await?;
        self.shared.outbox.push(message, room, None).map(drop)
    }

    /// Queues one message if there is space now, without waiting for delivery.
    ///
    /// # Errors
    ///
    /// [`Error::QueueFull`] if [`max_queued`](super::Builder::max_queued) messages are queued, or if the message
    /// would exceed [`max_queued_bytes`](super::Builder::max_queued_bytes); [`Error::Closed`] as for
    /// [`feed`](Self::feed).
    pub fn try_send(&self, message: impl Into<Message>) -> Result<(), Error> {
        let message = message.into();
        let room = self.shared.outbox.try_room(message.len())?;
        self.shared.outbox.push(message, room, None).map(drop)
    }

    /// Waits until all messages queued so far, by any handle, are delivered.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`] if this end closes or gives up first.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, nothing is lost.
    pub async fn flush(&self) -> Result<(), Error> {
        self.shared.outbox.wait_settled().await
    }

    /// Returns the number of undelivered messages and their total size in bytes. The time is linear in their number.
    pub fn queued(&self) -> (usize, usize) {
        self.shared.outbox.waiting()
    }

    /// Returns a watcher of the connection's state.
    ///
    /// The watcher yields the newest state. A task that reads it seldom misses the states in between.
    pub fn phase(&self) -> watch::Receiver<Phase> {
        self.shared.state.subscribe()
    }

    /// Returns whether messages are no longer accepted.
    pub fn is_closed(&self) -> bool {
        self.shared.outbox.is_closed()
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }
}

/// Withdraws a message when dropped, unless it was delivered.
struct Withdraw<'a> {
    outbox: &'a Outbox,
    number: u64,
}

impl Drop for Withdraw<'_> {
    fn drop(&mut self) {
        self.outbox.withdraw(self.number);
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("state", &*self.shared.state.borrow()).finish_non_exhaustive()
    }
}
