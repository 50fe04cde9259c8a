//! The handle to send that any number of tasks can hold.

use std::fmt;
use std::sync::Arc;

use longwire_connection::{Error, Message};
use tokio::sync::{oneshot, watch};

use super::State;
use super::outbox::Outbox;
use super::shared::Shared;

/// A handle to send on a connection that is made again whenever it is lost; cheap to clone and usable from any task.
///
/// Messages go out in the order in which they were queued, and are sent again in that order. It does not keep the connection: that
/// is [`Reconnecting`](super::Reconnecting)'s life.
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
    /// What delivered means, [`Confirm`](super::Confirm) says, and who has to receive meanwhile. A message whose connection fails before that is sent again on
    /// the next: it arrives at least once, and can arrive twice. First it waits for room in the queue, in turn.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`] if this end has closed or given up, before or meanwhile: the message was not delivered, as far as is
    /// known.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the message is withdrawn: it is not sent from then on. If a connection was given it
    /// already, it may still arrive, and is not sent again on the next.
    pub async fn send(&self, message: impl Into<Message>) -> Result<(), Error> {
        let message = message.into();
        let outbox = &self.shared.outbox;
        let room = outbox.room(message.len()).await?;
        let (done, delivered) = oneshot::channel();
        let number = outbox.push(message, room, Some(done))?;
        let _withdraw = Withdraw { outbox, number };
        delivered.await.map_err(|_| Error::Closed)
    }

    /// Queues one message as soon as there is room, and does not wait until it is delivered: [`flush`](Self::flush) does.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`] if this end has closed or given up; nothing was queued.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it is ready, nothing was queued.
    pub async fn feed(&self, message: impl Into<Message>) -> Result<(), Error> {
        let message = message.into();
        let room = self.shared.outbox.room(message.len()).await?;
        self.shared.outbox.push(message, room, None).map(drop)
    }

    /// Queues one message if there is room now, and does not wait until it is delivered.
    ///
    /// # Errors
    ///
    /// [`Error::QueueFull`] if [`max_queued`](super::Builder::max_queued) messages wait, or
    /// [`max_queued_bytes`](super::Builder::max_queued_bytes) would be exceeded; [`Error::Closed`] as for [`feed`](Self::feed).
    pub fn try_send(&self, message: impl Into<Message>) -> Result<(), Error> {
        let message = message.into();
        let room = self.shared.outbox.try_room(message.len())?;
        self.shared.outbox.push(message, room, None).map(drop)
    }

    /// Waits until all that is queued now, by whomever, is delivered.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`] if this end closed or gave up before that.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, nothing is lost.
    pub async fn flush(&self) -> Result<(), Error> {
        self.shared.outbox.wait_settled().await
    }

    /// How many messages wait to be delivered, and how many bytes they have. It looks at each of them.
    pub fn queued(&self) -> (usize, usize) {
        self.shared.outbox.waiting()
    }

    /// What the connection is doing, now and whenever that changes.
    ///
    /// A watcher that looks rarely sees the newest state and not those between.
    pub fn state(&self) -> watch::Receiver<State> {
        self.shared.state.subscribe()
    }

    /// Whether nothing more is taken.
    pub fn is_closed(&self) -> bool {
        self.shared.outbox.is_closed()
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }
}

/// Takes a message back when it is dropped, unless it was delivered.
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
