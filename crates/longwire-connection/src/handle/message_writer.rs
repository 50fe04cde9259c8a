//! A message written in parts, before its length is known (RFC 6455 §5.4).
//!
//! Owns a writer's obligations: text is UTF-8 across its parts, the message is ended, and the connection fails if
//! it is not. The writers of the socket and of a sender share [`Writing`] and differ only in how they reach the
//! queue.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use longwire_protocol::{CloseCode, Compress, MessageKind, Utf8Validator};
use tokio::io::AsyncWrite;

use crate::handle::parts::into_io;
use crate::sending::request::{Item, Sending, Until};
use crate::sending::wakers::Ticket;
use crate::{Error, Sender, Transport, WebSocket};

/// Writes one message in parts, with one frame for each part.
///
/// [`finish`](Self::finish) ends the message. If the writer is dropped before that, the message is incomplete, and
/// the connection is closed with code 1011.
///
/// As an [`AsyncWrite`], each write sends one part, and `shutdown` finishes the message.
///
/// # Examples
///
/// ```
/// use longwire_connection::{Config, Error, Message, MessageKind, testing::pair};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Error> {
/// # let (mut ws, mut peer) = pair(Config::default());
/// let mut writer = ws.message_writer(MessageKind::Text).await?;
/// for word in ["one ", "two ", "three"] {
///     writer.write(word.as_bytes()).await?;
/// }
/// writer.finish().await?;
/// assert_eq!(peer.recv().await?, Some(Message::text("one two three")));
/// # Ok(())
/// # }
/// ```
#[must_use = "a message in parts has to be finished"]
pub struct MessageWriter<'a, T: Transport>(Writing<&'a mut WebSocket<T>>);

/// A [`MessageWriter`] of a [`Sender`], which can be moved to another task while other tasks receive.
///
/// # Examples
///
/// ```
/// use longwire_connection::{Config, Error, Message, MessageKind, testing::pair};
/// use tokio::io::AsyncWriteExt;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (ws, mut peer) = pair(Config::default());
/// let (sender, _receiver) = ws.split();
/// let mut writer = sender.message_writer(MessageKind::Binary).await?;
/// let copying = tokio::spawn(async move {
///     tokio::io::copy(&mut &b"a file"[..], &mut writer).await?;
///     writer.shutdown().await
/// });
/// copying.await??;
/// assert_eq!(peer.recv().await?, Some(Message::binary("a file")));
/// # Ok(())
/// # }
/// ```
#[must_use = "a message in parts has to be finished"]
pub struct OwnedMessageWriter(Writing<Sender>);

/// The options of a message that is written in parts. A [`MessageKind`] converts into the defaults for that kind.
///
/// # Examples
///
/// ```
/// use longwire_connection::{Compress, MessageKind, WriterOptions};
///
/// let options = WriterOptions::new(MessageKind::Binary).with_compress(Compress::Never);
/// assert!(options.wait);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WriterOptions {
    /// The kind of the message.
    pub kind: MessageKind,
    /// Whether the message is compressed, if compression was negotiated. The choice applies to the whole message
    /// (RFC 7692 §6.1). Default: [`Compress::Auto`], which decides by the length of the first part.
    pub compress: Compress,
    /// Whether the message waits for its beginning while the queue is full or another message in parts is open.
    /// Default: `true`. If `false`, [`Error::QueueFull`] is returned instead. The parts of a message that was begun
    /// wait in any case.
    pub wait: bool,
}

impl WriterOptions {
    /// Creates the default options for a message of this kind.
    pub const fn new(kind: MessageKind) -> Self {
        Self { kind, compress: Compress::Auto, wait: true }
    }

    /// Sets [`kind`](Self::kind).
    #[must_use]
    pub const fn with_kind(mut self, kind: MessageKind) -> Self {
        self.kind = kind;
        self
    }

    /// Sets [`compress`](Self::compress).
    #[must_use]
    pub const fn with_compress(mut self, compress: Compress) -> Self {
        self.compress = compress;
        self
    }

    /// Sets [`wait`](Self::wait).
    #[must_use]
    pub const fn with_wait(mut self, wait: bool) -> Self {
        self.wait = wait;
        self
    }

    /// Returns the call that begins the message.
    pub(crate) fn sending(self) -> Sending {
        Sending::new(Item::Begin(self.kind)).compress(self.compress)
    }

    /// Returns the outcome of a poll of that call: an error instead of a wait, if waiting is off.
    pub(crate) fn outcome(self, polled: Poll<Result<(), Error>>) -> Poll<Result<(), Error>> {
        if polled.is_pending() && !self.wait { Poll::Ready(Err(Error::QueueFull)) } else { polled }
    }
}

impl From<MessageKind> for WriterOptions {
    fn from(kind: MessageKind) -> Self {
        Self::new(kind)
    }
}

impl<'a, T: Transport> MessageWriter<'a, T> {
    /// Creates the writer of a message that was begun.
    pub(crate) fn new(ws: &'a mut WebSocket<T>, kind: MessageKind) -> Self {
        Self(Writing::new(ws, kind))
    }

    /// Sends one part. A part of a text message may end within a character.
    ///
    /// # Errors
    ///
    /// [`Error::NotText`] if the parts of a text message are not UTF-8; nothing of this part was sent. Otherwise as
    /// for [`WebSocket::send`].
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the part is sent whole or not at all.
    pub async fn write(&mut self, part: impl Into<Bytes>) -> Result<(), Error> {
        self.0.write(part.into()).await
    }

    /// Ends the message.
    ///
    /// # Errors
    ///
    /// [`Error::NotText`] if a text message ends within a character; the connection is then closed with code 1011,
    /// as for a dropped writer. Otherwise as for [`WebSocket::send`].
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it is ready, the message may be unfinished and the connection closing.
    pub async fn finish(mut self) -> Result<(), Error> {
        self.0.finish().await
    }
}

impl OwnedMessageWriter {
    /// Creates the writer of a message that was begun.
    pub(crate) fn new(sender: Sender, kind: MessageKind) -> Self {
        Self(Writing::new(sender, kind))
    }

    /// Sends one part. A part of a text message may end within a character.
    ///
    /// # Errors
    ///
    /// As for [`MessageWriter::write`].
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the part is sent whole or not at all.
    pub async fn write(&mut self, part: impl Into<Bytes>) -> Result<(), Error> {
        self.0.write(part.into()).await
    }

    /// Ends the message.
    ///
    /// # Errors
    ///
    /// As for [`MessageWriter::finish`].
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it is ready, the message may be unfinished and the connection closing.
    pub async fn finish(mut self) -> Result<(), Error> {
        self.0.finish().await
    }
}

/// The destination of a message in parts.
trait Target: Unpin {
    fn poll_send(
        &mut self,
        sending: &mut Sending,
        until: Until,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Error>>;

    /// Ends this writer's waits.
    fn forget(&mut self, ticket: Ticket);

    fn start_close(&mut self, code: CloseCode, reason: &str) -> Result<(), Error>;
}

impl<T: Transport> Target for &mut WebSocket<T> {
    fn poll_send(
        &mut self,
        sending: &mut Sending,
        until: Until,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Error>> {
        WebSocket::poll_send(self, sending, until, cx)
    }

    fn forget(&mut self, ticket: Ticket) {
        self.shared().forget(ticket);
    }

    fn start_close(&mut self, code: CloseCode, reason: &str) -> Result<(), Error> {
        WebSocket::start_close(self, code, reason)
    }
}

impl Target for Sender {
    fn poll_send(
        &mut self,
        sending: &mut Sending,
        until: Until,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Error>> {
        Sender::poll_send(self, sending, until, cx)
    }

    fn forget(&mut self, ticket: Ticket) {
        Sender::forget(self, ticket);
    }

    fn start_close(&mut self, code: CloseCode, reason: &str) -> Result<(), Error> {
        Sender::start_close(self, code, reason)
    }
}

/// A message that was begun and must be ended.
struct Writing<W: Target> {
    to: W,
    /// The UTF-8 validator of a text message.
    utf8: Option<Utf8Validator>,
    /// The ticket of this writer's calls, once one has waited. They wait one at a time.
    ticket: Option<Ticket>,
    /// The flush in progress, in the [`AsyncWrite`] form. Messages queued later do not prolong it.
    flush: Option<Sending>,
    /// The end being queued, in the [`AsyncWrite`] form.
    ending: Option<Sending>,
    finished: bool,
}

impl<W: Target> Writing<W> {
    fn new(to: W, kind: MessageKind) -> Self {
        let utf8 = (kind == MessageKind::Text).then(Utf8Validator::default);
        Self { to, utf8, ticket: None, flush: None, ending: None, finished: false }
    }

    async fn write(&mut self, part: Bytes) -> Result<(), Error> {
        let checked = self.check(&part)?;
        let mut sending = Sending::new(Item::Part { data: part, last: false }).ticket(self.ticket);
        poll_fn(|cx| {
            let polled = self.to.poll_send(&mut sending, Until::Sent, cx);
            self.ticket = sending.ticket;
            if sending.item.is_none() {
                self.utf8.clone_from(&checked); // the part is queued, even if this future is dropped now
            }
            polled
        })
        .await
    }

    async fn finish(&mut self) -> Result<(), Error> {
        self.check_end()?;
        let mut sending = Sending::new(Item::Part { data: Bytes::new(), last: true }).ticket(self.ticket);
        poll_fn(|cx| {
            let polled = self.to.poll_send(&mut sending, Until::Sent, cx);
            self.ticket = sending.ticket;
            self.finished |= sending.item.is_none();
            polled
        })
        .await
    }

    /// Returns the state of the validator after `part`.
    fn check(&self, part: &[u8]) -> Result<Option<Utf8Validator>, Error> {
        let mut utf8 = self.utf8.clone();
        if let Some(utf8) = &mut utf8 {
            utf8.feed(part).map_err(|_| Error::NotText)?;
        }
        Ok(utf8)
    }

    /// Checks that the message may end here.
    fn check_end(&self) -> Result<(), Error> {
        self.utf8.as_ref().map_or(Ok(()), |utf8| utf8.clone().finish().map_err(|_| Error::NotText))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let checked = self.check(buf).map_err(into_io)?;
        // If the part cannot be queued at once, it is discarded, because a caller may retry with other bytes.
        let mut sending =
            Sending::new(Item::Part { data: Bytes::copy_from_slice(buf), last: false }).ticket(self.ticket);
        let polled = self.to.poll_send(&mut sending, Until::Queued, cx);
        self.ticket = sending.ticket;
        ready!(polled).map_err(into_io)?;
        self.utf8 = checked;
        self.flush = None;
        // It is sent without a flush; an error is kept for the next call.
        let _ = self.to.poll_send(&mut sending, Until::Sent, cx);
        self.ticket = sending.ticket;
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flush = self.flush.get_or_insert_with(|| Sending::new(Item::Mark).ticket(self.ticket));
        let polled = self.to.poll_send(flush, Until::Written, cx);
        self.ticket = flush.ticket;
        if polled.is_ready() {
            self.flush = None;
        }
        polled.map_err(into_io)
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.finished {
            if self.ending.is_none() {
                self.check_end().map_err(into_io)?;
            }
            let ending = self.ending.get_or_insert_with(|| {
                Sending::new(Item::Part { data: Bytes::new(), last: true }).ticket(self.ticket)
            });
            let polled = self.to.poll_send(ending, Until::Queued, cx);
            self.ticket = ending.ticket;
            let result = ready!(polled);
            self.ending = None;
            result.map_err(into_io)?;
            self.finished = true;
            self.flush = None;
        }
        self.poll_flush(cx)
    }
}

impl<W: Target> Drop for Writing<W> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.to.forget(ticket);
        }
        if !self.finished {
            // If a close frame was already sent, it has ended the message too.
            let _ = self.to.start_close(CloseCode::INTERNAL_ERROR, "message abandoned");
        }
    }
}

impl<T: Transport> AsyncWrite for MessageWriter<'_, T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.0.poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_shutdown(cx)
    }
}

impl AsyncWrite for OwnedMessageWriter {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.0.poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_shutdown(cx)
    }
}

impl<T: Transport> fmt::Debug for MessageWriter<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessageWriter").field("finished", &self.0.finished).finish_non_exhaustive()
    }
}

impl fmt::Debug for OwnedMessageWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnedMessageWriter").field("finished", &self.0.finished).finish_non_exhaustive()
    }
}
