//! The receiving half of a connection, a thin handle to [`Reader`].

use std::fmt;
use std::future::poll_fn;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use longwire_protocol::{CloseFrame, Event, Message, MessageRef, State};

use crate::handle::parts::MessageReader;
use crate::receiving::lend::Lent;
use crate::receiving::reader::Reader;
use crate::{Config, Error, Handover, Stats, Transport};

/// An item of [`Receiver::next_event`]: a message, or a control frame between messages.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Incoming {
    /// A whole message.
    Message(Message),
    /// A ping, already answered unless [`Config::auto_pong`] is off.
    Ping(Bytes),
    /// A pong, solicited or not.
    Pong(Bytes),
}

/// The receiving half of a connection, the only one that reads from the transport.
///
/// While it is polled, and only then, it also answers pings, watches the deadlines, and writes the bytes that
/// senders left in the queue. Dropping it closes the connection: a close frame is sent unless one was sent before,
/// and the closing handshake continues in the background for at most [`Config::close_timeout`].
pub struct Receiver<T: Transport> {
    /// `Some` except during `drop`.
    reader: Option<Box<Reader<T>>>,
}

impl<T: Transport> Receiver<T> {
    pub(crate) fn new(io: T, handover: Handover, config: &Config) -> Self {
        Self { reader: Some(Reader::new(io, handover, config)) }
    }

    #[inline]
    pub(crate) fn reader(&self) -> &Reader<T> {
        self.reader.as_ref().expect("taken only when dropped")
    }

    #[inline]
    pub(crate) fn reader_mut(&mut self) -> &mut Reader<T> {
        self.reader.as_mut().expect("taken only when dropped")
    }

    /// Receives the next message.
    ///
    /// Returns `None`, now and from every further call, once the connection was closed by this end, or by the peer
    /// with code 1000, 1001 or none. While it waits, pings are answered.
    ///
    /// # Errors
    ///
    /// The reason for any other end of the connection, once; then `None`. Messages that arrived before it are
    /// returned first.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, no message is lost: the next call continues where this one stopped.
    #[inline]
    pub fn recv(&mut self) -> impl Future<Output = Result<Option<Message>, Error>> + Send {
        let reader = self.reader_mut();
        poll_fn(|cx| reader.poll_recv(cx))
    }

    /// Receives the next message and lends it to `look`, as [`WebSocket::recv_with`](crate::WebSocket::recv_with) does.
    ///
    /// # Errors
    ///
    /// As for [`recv`](Self::recv).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it is ready, `look` was not called, and no message is lost.
    ///
    /// # Panics
    ///
    /// If the future is polled again after it was ready.
    #[inline]
    pub fn recv_with<R>(
        &mut self,
        look: impl FnOnce(MessageRef<'_>) -> R,
    ) -> impl Future<Output = Result<Option<R>, Error>> {
        let reader = self.reader_mut();
        let mut look = Some(look);
        poll_fn(move |cx| {
            let mut result = None;
            let lend = |lent: Lent<'_, T>| {
                let look = look.take().expect("polled after it was ready");
                result = Some(look(lent.message));
            };
            ready!(reader.poll_recv_with(lend, cx))?;
            Poll::Ready(Ok(result))
        })
    }

    /// Receives the next message, ping or pong.
    ///
    /// # Errors
    ///
    /// As for [`recv`](Self::recv).
    ///
    /// # Cancel safety
    ///
    /// As for [`recv`](Self::recv).
    pub async fn next_event(&mut self) -> Result<Option<Incoming>, Error> {
        poll_fn(|cx| self.poll_next_event(cx)).await
    }

    /// Polls for the next event as [`next_event`](Self::next_event) does, for hand-written streams.
    ///
    /// # Errors
    ///
    /// As for [`recv`](Self::recv).
    pub fn poll_next_event(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Incoming>, Error>> {
        let reader = self.reader_mut();
        reader.inbound.set_parts(false);
        loop {
            let incoming = match ready!(reader.poll_event(cx)) {
                Some(Ok(Event::Message(message))) => Incoming::Message(message),
                Some(Ok(Event::Ping(payload))) => Incoming::Ping(payload),
                Some(Ok(Event::Pong(payload))) => Incoming::Pong(payload),
                Some(Ok(_)) => continue,
                Some(Err(error)) => return Poll::Ready(Err(error)),
                None => return Poll::Ready(Ok(None)),
            };
            return Poll::Ready(Ok(Some(incoming)));
        }
    }

    /// Begins to receive the next message in parts, as they arrive; `None` as for [`recv`](Self::recv).
    ///
    /// # Errors
    ///
    /// As for [`recv`](Self::recv).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, no message is lost.
    pub async fn recv_parts(&mut self) -> Result<Option<MessageReader<'_, T>>, Error> {
        MessageReader::begin(self).await
    }

    /// Returns the state of the closing handshake.
    pub fn state(&self) -> State {
        self.reader().state()
    }

    /// Returns the close frame that the peer sent: `None` if none has arrived. The code of an empty one is
    /// 1005 (RFC 6455 §7.1.5).
    pub fn close_received(&self) -> Option<&CloseFrame> {
        self.reader().close_received()
    }

    /// Returns the negotiated subprotocol, if any.
    pub fn subprotocol(&self) -> Option<&str> {
        self.reader().subprotocol()
    }

    /// Returns the negotiated extensions, as the header names them.
    pub fn extensions(&self) -> Option<&str> {
        self.reader().extensions()
    }

    /// Returns the counters of the connection.
    pub fn stats(&self) -> Stats {
        self.reader().stats()
    }

    /// Drops the connection at once, without a close frame: the peer sees code 1006.
    pub fn abort(mut self) {
        if let Some(reader) = self.reader.take() {
            reader.shared.lock().finish();
        }
    }
}

impl<T: Transport> Drop for Receiver<T> {
    fn drop(&mut self) {
        if let Some(reader) = self.reader.take() {
            crate::ending::leave::leave_behind(reader);
        }
    }
}

impl<T: Transport> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("state", &self.state()).finish_non_exhaustive()
    }
}
