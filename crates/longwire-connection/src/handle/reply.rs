//! Answers to a message that was lent, queued while it is.

use std::fmt;

use longwire_protocol::{Message, MessageRef};

use crate::receiving::lend::Lent;
use crate::sending::shared::Shared;
use crate::sending::writer::Writer;
use crate::{Error, Transport};

/// Queues messages for the peer while [`WebSocket::reply_with`](crate::WebSocket::reply_with) lends one.
pub struct Reply<'a, T: Transport> {
    shared: &'a Shared<T>,
    /// The lent message if it owns its payload, which can then be queued by reference.
    whole: Option<&'a Message>,
    /// Set once a message was queued.
    has_queued: bool,
}

impl<'a, T: Transport> Reply<'a, T> {
    /// Calls `reply` with a message that was lent, then starts to write the answers.
    #[inline]
    pub(crate) fn with<R>(
        lent: Lent<'a, T>,
        reply: impl FnOnce(MessageRef<'_>, &mut Reply<'_, T>) -> R,
    ) -> R {
        let Lent { message, whole, shared } = lent;
        let mut replies = Reply { shared, whole, has_queued: false };
        let result = reply(message, &mut replies);
        if replies.has_queued && !shared.is_corked() {
            shared.start_writing(&mut shared.lock());
        }
        result
    }

    /// Queues one message, a lent one or any other, even if the queue is full. The payload is copied into the queue,
    /// or shared if it is that of a long message that was not lent from the read buffer.
    ///
    /// It is written after the callback has returned: in a handler that [`drive`](crate::drive) runs, when the
    /// handler yields; otherwise at once, as far as the transport accepts it, and the rest by calls that receive,
    /// send or flush.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`] once a close frame was sent or received, [`Error::Io`] if the transport failed,
    /// [`Error::QueueFull`] if another task has begun a message in parts since the callback was entered. The message
    /// was not queued.
    #[inline]
    pub fn send<'m>(&mut self, message: impl Into<MessageRef<'m>>) -> Result<(), Error> {
        let message = message.into();
        let whole = self.whole;
        self.has_queued = true;
        self.shared.with(|writer| queue(writer, message, whole))
    }
}

#[inline]
fn queue<T: Transport>(
    writer: &mut Writer<T>,
    message: MessageRef<'_>,
    whole: Option<&Message>,
) -> Result<(), Error> {
    if let Some(whole) = whole
        && std::ptr::eq(whole.as_bytes(), message.as_bytes())
        && whole.kind() == message.kind()
    {
        return writer.queue_message(whole.clone(), longwire_protocol::Compress::Auto);
    }
    writer.queue_message_ref(message)
}

impl<T: Transport> fmt::Debug for Reply<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply").finish_non_exhaustive()
    }
}
