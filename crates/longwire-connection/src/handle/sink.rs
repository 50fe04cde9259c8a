//! A [`Sender`] as a `Sink`.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_sink::Sink;
use longwire_protocol::{CloseCode, Message};

use crate::sending::request::{Item, Sending, Until};
use crate::{Error, Sender};

/// A [`Sender`] as a `Sink` of messages, made by [`Sender::into_sink`].
///
/// Messages are queued when the sink becomes ready again or is flushed. Closing the sink sends a close frame with code
/// 1000 and flushes, without waiting for the peer's. Dropping it closes nothing; a message that was started and is
/// not yet queued is then not sent. [`Sink::start_send`] fails with [`Error::QueueFull`] if it is called while the sink
/// is not ready.
pub struct SenderSink {
    sender: Sender,
    /// The message, or the flush, in progress.
    current: Option<Sending>,
}

impl Sender {
    /// Converts this handle into a `Sink`, for the combinators of the futures crates. Each clone of a sender may
    /// become a sink.
    ///
    /// # Examples
    ///
    /// ```
    /// # use longwire_connection::{Config, Error, testing::pair};
    /// use futures_util::{SinkExt, StreamExt, stream};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// # let (mut client, mut server) = pair(Config::default());
    /// let mut sink = client.sender().into_sink();
    /// sink.send_all(&mut stream::iter([Ok("one".into()), Ok("two".into())])).await?;
    /// assert_eq!(server.recv().await?, Some("one".into()));
    /// assert_eq!(server.recv().await?, Some("two".into()));
    /// # Ok(())
    /// # }
    /// ```
    pub fn into_sink(self) -> SenderSink {
        SenderSink { sender: self, current: None }
    }
}

impl SenderSink {
    /// Returns the handle.
    pub fn sender(&self) -> &Sender {
        &self.sender
    }

    /// Carries on with the current message or flush; ready if there is none.
    fn poll_current(&mut self, until: Until, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let Some(sending) = &mut self.current else {
            return Poll::Ready(Ok(()));
        };
        if until == Until::Queued && sending.item.is_none() {
            // A flush that was given up: nothing is left to queue.
            self.forget();
            return Poll::Ready(Ok(()));
        }
        let done = ready!(self.sender.poll_send(sending, until, cx));
        self.forget();
        Poll::Ready(done)
    }

    fn forget(&mut self) {
        if let Some(ticket) = self.current.take().and_then(|sending| sending.ticket) {
            self.sender.forget(ticket);
        }
    }
}

impl Sink<Message> for SenderSink {
    type Error = Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        ready!(self.poll_current(Until::Queued, cx))?;
        // Fails as a send would if the transport has failed, and does not wait.
        ready!(self.sender.poll_send(&mut Sending::new(Item::Mark), Until::Queued, cx))?;
        Poll::Ready(if self.sender.is_closed() { Err(Error::Closed) } else { Ok(()) })
    }

    fn start_send(mut self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
        // Without `poll_ready`, a message may still wait for its place in the queue.
        if matches!(&self.current, Some(Sending { item: Some(Item::Message(_)), .. })) {
            return Err(Error::QueueFull);
        }
        self.forget();
        self.current = Some(Sending::new(Item::Message(message)));
        Ok(())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        // Kept while the flush waits, so that messages of other tasks do not prolong it.
        self.current.get_or_insert_with(|| Sending::new(Item::Mark));
        self.poll_current(Until::Written, cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        // A message in progress precedes the close frame.
        let is_unsent = matches!(&self.current, Some(Sending { item: Some(Item::Message(_)), .. }));
        match ready!(self.poll_current(Until::Queued, cx)) {
            Ok(()) => {}
            Err(Error::Closed) if !is_unsent => {}
            Err(error) => return Poll::Ready(Err(error)),
        }
        match self.sender.start_close(CloseCode::NORMAL, "") {
            Ok(()) | Err(Error::Closed) => {}
            Err(error) => return Poll::Ready(Err(error)),
        }
        match ready!(self.poll_flush(cx)) {
            Err(Error::Closed) => Poll::Ready(Ok(())),
            flushed => Poll::Ready(flushed),
        }
    }
}

impl Drop for SenderSink {
    fn drop(&mut self) {
        self.forget();
    }
}

impl fmt::Debug for SenderSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SenderSink").field("sender", &self.sender).finish_non_exhaustive()
    }
}
