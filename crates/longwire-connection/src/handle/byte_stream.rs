//! The connection as a stream of bytes, with `AsyncRead` and `AsyncWrite`.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use futures_sink::Sink;
use longwire_protocol::{CloseCode, Message};
use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, ReadBuf};

use crate::handle::halves::Half;
use crate::handle::parts::into_io;
use crate::sending::request::{Item, Sending, Until};
use crate::{Error, Transport, WebSocket};

/// A connection as a stream of bytes.
///
/// Reads join the payloads of the messages received, text or binary, and end when the connection is closed cleanly;
/// an abnormal end is an error. Each write is one binary message of at most 64 KiB. `shutdown` closes with code
/// 1000 and waits for the peer's close frame; messages that arrive meanwhile are dropped.
///
/// # Examples
///
/// ```
/// use longwire_connection::{Config, testing::pair};
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let (one, other) = pair(Config::default());
/// let (mut one, mut other) = (one.into_byte_stream(), other.into_byte_stream());
/// one.write_all(b"across messages").await?;
/// let mut word = [0; 6];
/// other.read_exact(&mut word).await?;
/// assert_eq!(&word, b"across");
/// # Ok(())
/// # }
/// ```
pub struct ByteStream<T: Transport> {
    ws: WebSocket<T>,
    /// Bytes received and not yet read.
    unread: Bytes,
    ended: bool,
    /// The abnormal end, if the writing half saw it first.
    failed: Option<Error>,
}

impl<T: Transport> ByteStream<T> {
    pub(crate) fn new(ws: WebSocket<T>) -> Self {
        Self { ws, unread: Bytes::new(), ended: false, failed: None }
    }

    /// Returns the underlying socket, for pings, a close code, or counters.
    pub fn get_mut(&mut self) -> &mut WebSocket<T> {
        &mut self.ws
    }

    /// Returns the socket, and the bytes of a message that were received but not read.
    pub fn into_inner(self) -> (WebSocket<T>, Bytes) {
        (self.ws, self.unread)
    }

    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let waker = self.ws.enter(Half::Read, cx);
        let mut cx = Context::from_waker(waker.as_ref().unwrap_or(cx.waker()));
        let polled = self.poll_unread(&mut cx);
        self.ws.leave(Half::Read, polled)
    }

    fn poll_unread(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(error) = self.failed.take() {
            return Poll::Ready(Err(into_io(error)));
        }
        while self.unread.is_empty() && !self.ended {
            match ready!(self.ws.poll_recv(cx)).map_err(into_io)? {
                Some(message) => self.unread = message.into_payload(),
                None => self.ended = true,
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: Transport> AsyncRead for ByteStream<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_readable(cx))?;
        let n = self.unread.len().min(buf.remaining());
        buf.put_slice(&self.unread.split_to(n));
        Poll::Ready(Ok(()))
    }
}

impl<T: Transport> AsyncBufRead for ByteStream<T> {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let this = self.get_mut();
        ready!(this.poll_readable(cx))?;
        Poll::Ready(Ok(&this.unread))
    }

    fn consume(mut self: Pin<&mut Self>, amt: usize) {
        self.unread.advance(amt);
    }
}

impl<T: Transport> AsyncWrite for ByteStream<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let waker = self.ws.enter(Half::Write, cx);
        let polled = self.poll_message(&mut Context::from_waker(waker.as_ref().unwrap_or(cx.waker())), buf);
        self.ws.leave(Half::Write, polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Sink::poll_flush(Pin::new(&mut self.ws), cx).map_err(into_io)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let waker = self.ws.enter(Half::Write, cx);
        let polled = self.poll_closed(&mut Context::from_waker(waker.as_ref().unwrap_or(cx.waker())));
        if polled.is_ready() {
            self.ws.wake_reader();
        }
        self.ws.leave(Half::Write, polled)
    }
}

impl<T: Transport> ByteStream<T> {
    fn poll_message(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let n = buf.len().min(MAX_WRITE);
        // Each call makes a new message, because a caller may retry with other bytes.
        let message = Message::Binary(Bytes::copy_from_slice(&buf[..n]));
        let mut sending = Sending::new(Item::Message(message));
        ready!(self.ws.poll_send(&mut sending, Until::Queued, cx)).map_err(into_io)?;
        // It is sent without a flush; an error is kept for the next call.
        let _ = self.ws.poll_send(&mut sending, Until::Sent, cx);
        Poll::Ready(Ok(n))
    }

    fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.ws.start_close(CloseCode::NORMAL, "") {
            Ok(()) | Err(Error::Closed) => {}
            Err(error) => return Poll::Ready(Err(into_io(error))),
        }
        self.unread = Bytes::new();
        while !self.ended {
            match ready!(self.ws.poll_recv(cx)) {
                Ok(message) => self.ended = message.is_none(),
                Err(error) => {
                    self.ended = true;
                    self.failed = Some(error.clone());
                    return Poll::Ready(Err(into_io(error)));
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: Transport> fmt::Debug for ByteStream<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ByteStream").field("unread", &self.unread.len()).finish_non_exhaustive()
    }
}

/// The length of the longest message that one write creates.
const MAX_WRITE: usize = 64 * 1024;
