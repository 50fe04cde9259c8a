//! One message in parts: written before its length is known, read before its end has come (RFC 6455 §5.4).

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use longwire_protocol::{CloseCode, Event, Opcode, Part, Utf8Validator};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::writer::{Item, Sending, Until};
use crate::{Error, Receiver, Transport, WebSocket};

/// Writes one message in parts, each as a frame.
///
/// [`finish`](Self::finish) ends the message. A writer that is dropped before that cannot take back what it sent, and
/// must not pass it off as whole: it closes the connection with code 1011.
///
/// As an [`AsyncWrite`], each write is a part and `shutdown` finishes.
///
/// # Examples
///
/// ```
/// use longwire_connection::{Config, Error, Message, testing::pair};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Error> {
/// # let (mut ws, mut peer) = pair(Config::default());
/// let mut writer = ws.text_writer().await?;
/// for word in ["one ", "two ", "three"] {
///     writer.write(word.as_bytes()).await?;
/// }
/// writer.finish().await?;
/// assert_eq!(peer.recv().await?, Some(Message::text("one two three")));
/// # Ok(())
/// # }
/// ```
#[must_use = "a message in parts has to be finished"]
pub struct MessageWriter<'a, T: Transport> {
    ws: &'a mut WebSocket<T>,
    /// Checks what a text message is made of.
    utf8: Option<Utf8Validator>,
    /// A part on its way into the queue, of the [`AsyncWrite`] form.
    sending: Option<Sending>,
    finished: bool,
}

impl<'a, T: Transport> MessageWriter<'a, T> {
    pub(crate) fn new(ws: &'a mut WebSocket<T>, opcode: Opcode) -> Self {
        let utf8 = (opcode == Opcode::Text).then(Utf8Validator::default);
        Self { ws, utf8, sending: None, finished: false }
    }

    /// Sends one part. The parts of a text message may be cut inside a character.
    ///
    /// # Errors
    ///
    /// [`Error::NotText`] if the parts of a text message are not UTF-8: nothing of this one was sent. Else as for
    /// [`WebSocket::send`].
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the part is sent whole or not at all.
    pub async fn write(&mut self, part: impl Into<Bytes>) -> Result<(), Error> {
        let part = part.into();
        let checked = self.check(&part, false)?;
        let mut sending = Sending::new(Item::Part(part, false));
        poll_fn(|cx| {
            let polled = self.ws.poll_send(&mut sending, Until::Sent, cx);
            if sending.item.is_none() {
                self.utf8.clone_from(&checked); // it went into the queue, even if this future ends here
            }
            polled
        })
        .await
    }

    /// Ends the message.
    ///
    /// # Errors
    ///
    /// [`Error::NotText`] if a text message ends inside a character: the connection is closed with code 1011, as for a
    /// dropped writer. Else as for [`WebSocket::send`].
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it is ready, the message may be unfinished and the connection closing.
    pub async fn finish(mut self) -> Result<(), Error> {
        self.check(&[], true)?;
        let mut sending = Sending::new(Item::Part(Bytes::new(), true));
        poll_fn(|cx| {
            let polled = self.ws.poll_send(&mut sending, Until::Sent, cx);
            self.finished |= sending.item.is_none();
            polled
        })
        .await
    }

    /// The validator as it is behind `part`.
    fn check(&self, part: &[u8], last: bool) -> Result<Option<Utf8Validator>, Error> {
        let mut utf8 = self.utf8.clone();
        if let Some(utf8) = &mut utf8 {
            utf8.feed(part).map_err(|_| Error::NotText)?;
            if last {
                utf8.finish().map_err(|_| Error::NotText)?;
            }
        }
        Ok(utf8)
    }

    /// Goes on with a part that a write or a shutdown has begun.
    fn poll_sending(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(sending) = &mut self.sending {
            let result = ready!(self.ws.poll_send(sending, Until::Queued, cx));
            self.sending = None;
            result.map_err(into_io)?;
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: Transport> AsyncWrite for MessageWriter<'_, T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let checked = self.check(buf, false).map_err(into_io)?;
        // The part is only made once it goes in at once, so that a caller who comes back with other bytes is right.
        let mut sending = Sending::new(Item::Part(Bytes::copy_from_slice(buf), false));
        ready!(self.ws.poll_send(&mut sending, Until::Queued, cx)).map_err(into_io)?;
        self.utf8 = checked;
        // Nobody has to flush for it to leave; an error is kept for the next call.
        let _ = self.ws.poll_flush(cx);
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.ws.poll_flush(cx).map_err(into_io)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.finished {
            if self.sending.is_none() {
                self.check(&[], true).map_err(into_io)?;
                self.sending = Some(Sending::new(Item::Part(Bytes::new(), true)));
            }
            ready!(self.poll_sending(cx))?;
            self.finished = true;
        }
        self.ws.poll_flush(cx).map_err(into_io)
    }
}

impl<T: Transport> Drop for MessageWriter<'_, T> {
    fn drop(&mut self) {
        if !self.finished {
            // If a close frame was sent already, that is the end of the message too.
            let _ = self.ws.start_close(CloseCode::INTERNAL_ERROR, "message abandoned");
        }
    }
}

impl<T: Transport> fmt::Debug for MessageWriter<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessageWriter").field("finished", &self.finished).finish_non_exhaustive()
    }
}

/// Reads one message in parts, as they arrive.
///
/// Dropped before the end, the rest of the message is skipped by the next receiving call. As an [`AsyncRead`], it ends
/// where the message ends.
///
/// # Examples
///
/// ```
/// use longwire_connection::{Config, Error, testing::pair};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Error> {
/// # let (mut ws, mut peer) = pair(Config::default());
/// peer.send(vec![7; 10_000]).await?;
/// let mut sum = 0;
/// if let Some(mut reader) = ws.recv_parts().await? {
///     while let Some(part) = reader.next().await? {
///         sum += part.len();
///     }
/// }
/// assert_eq!(sum, 10_000);
/// # Ok(())
/// # }
/// ```
pub struct MessageReader<'a, T: Transport> {
    receiver: &'a mut Receiver<T>,
    text: bool,
    /// What came and was not handed out.
    part: Bytes,
    last: bool,
}

impl<'a, T: Transport> MessageReader<'a, T> {
    pub(crate) async fn begin(receiver: &'a mut Receiver<T>) -> Result<Option<Self>, Error> {
        let reader = receiver.reader_mut();
        // What is left of a message that nobody read to its end is not the beginning of one.
        reader.skip_rest();
        let first = poll_fn(|cx| {
            reader.inbound.set_parts(true);
            poll_part(reader, cx)
        })
        .await?;
        Ok(first.map(|Part { opcode, data, last }| Self {
            receiver,
            text: opcode == Opcode::Text,
            part: data,
            last,
        }))
    }

    /// Whether this is a text message. Its parts are UTF-8 together, and may be cut inside a character.
    pub fn is_text(&self) -> bool {
        self.text
    }

    /// Receives the next part; `None` behind the last.
    ///
    /// # Errors
    ///
    /// How the connection ended inside the message: a connection that was closed properly there is [`Error::Lost`].
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, no part is lost.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Error>> {
        loop {
            if !self.part.is_empty() {
                return Poll::Ready(Ok(Some(std::mem::take(&mut self.part))));
            }
            if self.last {
                return Poll::Ready(Ok(None));
            }
            let reader = self.receiver.reader_mut();
            match ready!(poll_part(reader, cx))? {
                Some(part) => {
                    self.part = part.data;
                    self.last = part.last;
                }
                None => return Poll::Ready(Err(Error::Lost)),
            }
        }
    }
}

fn poll_part<T: Transport>(
    reader: &mut crate::reader::Reader<T>,
    cx: &mut Context<'_>,
) -> Poll<Result<Option<Part>, Error>> {
    loop {
        match ready!(reader.poll_event(cx)) {
            Some(Ok(Event::Part(part))) => return Poll::Ready(Ok(Some(part))),
            Some(Ok(_)) => {}
            Some(Err(error)) => return Poll::Ready(Err(error)),
            None => return Poll::Ready(Ok(None)),
        }
    }
}

impl<T: Transport> AsyncRead for MessageReader<'_, T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(mut part) = ready!(self.poll_next(cx)).map_err(into_io)? {
            let n = part.len().min(buf.remaining());
            buf.put_slice(&part.split_to(n));
            self.part = part;
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: Transport> fmt::Debug for MessageReader<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessageReader").field("text", &self.text).finish_non_exhaustive()
    }
}

/// The error as `std::io` has it.
pub(crate) fn into_io(error: Error) -> io::Error {
    let kind = match &error {
        Error::Io(error) => error.kind(),
        Error::Protocol(_) | Error::NotText => io::ErrorKind::InvalidData,
        Error::PeerGone | Error::CloseTimeout => io::ErrorKind::TimedOut,
        Error::RateExceeded | Error::OutOfMemory => io::ErrorKind::ConnectionAborted,
        Error::Lost => io::ErrorKind::UnexpectedEof,
        Error::Invalid(_) => io::ErrorKind::InvalidInput,
        Error::QueueFull => io::ErrorKind::WouldBlock,
        Error::ClosedByPeer(_) | Error::Closed => io::ErrorKind::BrokenPipe,
    };
    io::Error::new(kind, error)
}
