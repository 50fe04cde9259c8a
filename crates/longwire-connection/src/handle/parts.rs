//! A message read in parts, before its end has arrived (RFC 6455 §5.4), and the conversion of errors for `std::io`.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use longwire_protocol::{Event, MessageKind, Part};
use tokio::io::{AsyncRead, ReadBuf};

use crate::{Error, Receiver, Transport};

/// Reads one message in parts, as they arrive.
///
/// If it is dropped before the end of the message, the next receiving call skips the rest. As an [`AsyncRead`], it
/// ends with the message.
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
    kind: MessageKind,
    /// Bytes received and not yet handed out.
    part: Bytes,
    last: bool,
}

impl<'a, T: Transport> MessageReader<'a, T> {
    pub(crate) async fn begin(receiver: &'a mut Receiver<T>) -> Result<Option<Self>, Error> {
        let reader = receiver.reader_mut();
        // The rest of a message that was not read to its end is not the start of a new one.
        reader.skip_rest();
        let first = poll_fn(|cx| {
            reader.inbound.set_parts(true);
            poll_part(reader, cx)
        })
        .await?;
        Ok(first.map(|Part { kind, data, last }| Self { receiver, kind, part: data, last }))
    }

    /// Returns the kind of the message.
    pub fn kind(&self) -> MessageKind {
        self.kind
    }

    /// Returns whether this is a text message. Its parts together are UTF-8, but a part may end within a character.
    pub fn is_text(&self) -> bool {
        self.kind == MessageKind::Text
    }

    /// Receives the next part, `None` after the last.
    ///
    /// # Errors
    ///
    /// The reason why the connection ended within the message; [`Error::Lost`] if it was closed cleanly there.
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
    reader: &mut crate::receiving::reader::Reader<T>,
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
        f.debug_struct("MessageReader").field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// Converts an error for `std::io`.
pub(crate) fn into_io(error: Error) -> io::Error {
    let kind = match &error {
        Error::Io(error) => error.kind(),
        Error::Protocol(_) | Error::NotText => io::ErrorKind::InvalidData,
        Error::PeerGone | Error::CloseTimeout => io::ErrorKind::TimedOut,
        Error::RateExceeded | Error::OutOfMemory => io::ErrorKind::ConnectionAborted,
        Error::Lost => io::ErrorKind::UnexpectedEof,
        Error::Invalid(_) => io::ErrorKind::InvalidInput,
        #[cfg(feature = "json")]
        Error::Json(_) => io::ErrorKind::InvalidInput,
        Error::QueueFull => io::ErrorKind::WouldBlock,
        Error::ClosedByPeer(_) | Error::Closed => io::ErrorKind::BrokenPipe,
    };
    io::Error::new(kind, error)
}
