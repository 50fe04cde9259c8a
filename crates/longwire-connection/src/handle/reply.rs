//! Answers to a message that was lent, queued while it is.

use std::fmt;

use longwire_protocol::{Compress, Message, MessageRef};

use crate::receiving::lend::Lent;
use crate::sending::shared::Shared;
use crate::{Error, Transport};

/// Queues messages for the peer while [`WebSocket::reply_with`](crate::WebSocket::reply_with) lends one.
pub struct Reply<'a, T: Transport> {
    shared: &'a Shared<T>,
    /// The lent message if it owns its payload, which can then be queued by reference.
    whole: Option<&'a Message>,
    /// Cleared if the queue has no room for another message.
    has_room: &'a mut bool,
    /// Set once a message was queued.
    has_queued: bool,
}

impl<T: Transport> Reply<'_, T> {
    /// Calls `reply` with a message that was lent, then starts to write the answers.
    #[inline]
    pub(crate) fn with<R>(
        lent: Lent<'_, T>,
        reply: impl FnOnce(MessageRef<'_>, &mut Reply<'_, T>) -> R,
    ) -> R {
        let Lent { message, whole, shared, has_room } = lent;
        let mut replies = Reply { shared, whole, has_room, has_queued: false };
        reply(message, &mut replies)
    }

    /// Queues one message, a lent one or any other, even if the queue is full. The payload is copied into the queue,
    /// or shared if it is that of a message that was not lent from the read buffer.
    ///
    /// It is written after the callback has returned: in a handler that [`drive`](crate::drive) runs, when the
    /// handler yields; otherwise at once, as far as the transport accepts it, and the rest by calls that receive,
    /// send or flush.
    ///
    /// # Errors
    ///
    /// [`Error::QueueFull`] while another task sends a message in parts: keep the message, and send it with
    /// [`WebSocket::send`](crate::WebSocket::send), which waits for the end of that message. [`Error::Closed`] once a
    /// close frame was sent or received, [`Error::Io`] if the transport failed. The message was not queued.
    #[inline]
    pub fn send<'m>(&mut self, message: impl Into<MessageRef<'m>>) -> Result<(), Error> {
        let message = message.into();
        let whole = self.whole.filter(|whole| is_the_same(whole, message));
        self.has_queued = true;
        self.shared.with(|writer| {
            writer.check()?;
            if writer.out.is_message_open() {
                return Err(Error::QueueFull);
            }
            match whole {
                Some(whole) => writer.queue_message(whole.clone(), Compress::Auto)?,
                None => writer.queue_answer(message)?,
            }
            *self.has_room = writer.has_part_room();
            Ok(())
        })
    }
}

/// Starts to write the answers, also if the callback panicked after it had queued some.
impl<T: Transport> Drop for Reply<'_, T> {
    #[inline]
    fn drop(&mut self) {
        if self.has_queued && !self.shared.is_corked() {
            self.shared.start_writing(&mut self.shared.lock());
        }
    }
}

/// Returns whether `lent` lends `whole`, unchanged.
#[inline]
fn is_the_same(whole: &Message, lent: MessageRef<'_>) -> bool {
    std::ptr::eq(whole.as_bytes(), lent.as_bytes()) && whole.kind() == lent.kind()
}

impl<T: Transport> fmt::Debug for Reply<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply").finish_non_exhaustive()
    }
}
