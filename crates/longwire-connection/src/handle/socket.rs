//! The socket: both halves of a connection in one value.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use longwire_protocol::{CloseCode, CloseFrame, Compress, Message, MessageRef, State};

use crate::handle::halves::Halves;
use crate::handle::message_writer::MessageWriter;
use crate::handle::parts::MessageReader;
use crate::handle::reply::Reply;
use crate::handle::sender::close_frame;
use crate::receiving::lend::Lent;
use crate::sending::request::{Item, Sending, Until};
use crate::sending::shared::Shared;
use crate::sending::wakers::Ticket;
use crate::{
    ByteStream, Config, Error, Handover, Incoming, Pong, Receiver, Sender, Stats, Transport, WriterOptions,
};

/// An open WebSocket connection.
///
/// Receiving and sending take `&mut self`; [`sender`](Self::sender) and [`split`](Self::split) give handles for
/// several tasks. Dropping the socket closes the connection: a close frame with code 1000 is sent unless one was
/// sent before, and the closing handshake continues in the background, on the tokio runtime, for at most
/// [`Config::close_timeout`].
///
/// # Examples
///
/// ```
/// use longwire_connection::{Config, Error, Message, testing::pair};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Error> {
/// let (mut client, mut server) = pair(Config::default());
/// client.send("hello").await?;
/// client.send(vec![1, 2, 3]).await?;
/// assert_eq!(server.recv().await?, Some(Message::text("hello")));
/// assert_eq!(server.recv().await?, Some(Message::binary(vec![1, 2, 3])));
///
/// let (closed, seen) = tokio::join!(client.close(1000, "done"), server.recv());
/// closed?;
/// assert_eq!(seen?, None);
/// # Ok(())
/// # }
/// ```
pub struct WebSocket<T: Transport> {
    receiver: Receiver<T>,
    /// The position in the queue that the flush in progress waits for, or 0 without one.
    pub(super) flushing: u64,
    /// The tasks of the two halves, if the socket was split through its traits.
    pub(super) halves: Option<Box<Halves>>,
}

impl<T: Transport> WebSocket<T> {
    /// Creates a connection on a transport whose opening handshake is complete.
    ///
    /// Outside a tokio runtime, it works until it needs a timer: for a keepalive, a close, or a failed write.
    pub fn new(io: T, handover: Handover, config: &Config) -> Self {
        Self { receiver: Receiver::new(io, handover, config), flushing: 0, halves: None }
    }

    /// Receives the next message.
    ///
    /// Returns `None`, now and from every further call, once the connection was closed by this end, or by the peer
    /// with code 1000, 1001 or none. While it waits, pings are answered and queued bytes are written.
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
        self.receiver.recv()
    }

    /// Receives the next message and lends it to `look`: as [`recv`](Self::recv), but the payload of a
    /// message that was read in one piece is neither copied nor allocated.
    ///
    /// `look` is called once, with the payload where it lies: in the read buffer, where it was unmasked and, if it is
    /// text, checked to be UTF-8; or, if the message arrived in several reads or frames or was compressed, in the
    /// memory in which it was assembled. The future then yields what `look` returns. To keep the message, return
    /// [`MessageRef::to_message`]. To answer it, use [`reply_with`](Self::reply_with).
    ///
    /// Returns `None`, without calling `look`, at the end of the connection. If `look` panics, the message still
    /// counts as received.
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
    ///
    /// # Examples
    ///
    /// Counts messages and the bytes in them:
    ///
    /// ```
    /// use longwire_connection::{Config, Error, testing::pair};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// let (mut client, mut server) = pair(Config::default());
    /// client.send("hello").await?;
    /// client.send(vec![1, 2, 3]).await?;
    /// client.start_close(1000, "")?;
    ///
    /// let (mut messages, mut bytes) = (0, 0);
    /// while let Some(len) = server.recv_with(|message| message.len()).await? {
    ///     messages += 1;
    ///     bytes += len;
    /// }
    /// assert_eq!((messages, bytes), (2, 8));
    /// # Ok(())
    /// # }
    /// ```
    #[inline]
    pub fn recv_with<R>(
        &mut self,
        look: impl FnOnce(MessageRef<'_>) -> R,
    ) -> impl Future<Output = Result<Option<R>, Error>> {
        self.receiver.recv_with(look)
    }

    /// Receives the next message and lends it to `reply`, as [`recv_with`](Self::recv_with) does, together with a
    /// [`Reply`] that answers it.
    ///
    /// If the answers to the previous message have filled the queue to [`Config::send_queue`] bytes or more, it waits
    /// for room before it receives. So answers are never refused for want of room, and a peer that does not read is
    /// no longer read from. Meanwhile control frames are handled.
    ///
    /// # Errors
    ///
    /// As for [`recv`](Self::recv).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it is ready, `reply` was not called, and no message is lost.
    ///
    /// # Panics
    ///
    /// If the future is polled again after it was ready.
    ///
    /// # Examples
    ///
    /// An echo that copies each payload once, from the read buffer to the write buffer:
    ///
    /// ```
    /// use longwire_connection::{Config, Error, drive, testing::pair};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// let (mut client, server) = pair(Config::default());
    /// tokio::spawn(drive(server, |mut ws| async move {
    ///     while let Some(sent) = ws.reply_with(|message, reply| reply.send(message)).await? {
    ///         sent?;
    ///     }
    ///     Ok::<_, Error>(())
    /// }));
    /// client.send("hello").await?;
    /// assert_eq!(client.recv().await?, Some("hello".into()));
    /// client.close(1000, "").await?;
    /// # Ok(())
    /// # }
    /// ```
    #[inline]
    pub fn reply_with<R>(
        &mut self,
        reply: impl FnOnce(MessageRef<'_>, &mut Reply<'_, T>) -> R,
    ) -> impl Future<Output = Result<Option<R>, Error>> {
        let mut reply = Some(reply);
        poll_fn(move |cx| {
            if !self.receiver.reader().has_room {
                ready!(self.poll_answer_room(cx));
                self.receiver.reader_mut().has_room = true;
            }
            let mut result = None;
            let lend = |lent: Lent<'_, T>| {
                let reply = reply.take().expect("polled after it was ready");
                result = Some(Reply::with(lent, reply));
            };
            ready!(self.receiver.reader_mut().poll_recv_with(lend, cx))?;
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
        self.receiver.next_event().await
    }

    /// Polls for the next event as [`next_event`](Self::next_event) does, for hand-written streams.
    ///
    /// # Errors
    ///
    /// As for [`recv`](Self::recv).
    pub fn poll_next_event(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Incoming>, Error>> {
        self.receiver.poll_next_event(cx)
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
        self.receiver.recv_parts().await
    }

    /// Sends one message.
    ///
    /// Completes when the message will reach the transport without any further call: it was written or, in a handler
    /// that [`drive`](crate::drive) runs, will be written when the handler yields. Waits while [`Config::send_queue`]
    /// bytes or more are queued.
    ///
    /// While it waits, and between consecutive sends, control frames before the next message are handled: pings are
    /// answered, and a close frame ends the call. Messages are not received, so if both ends send without
    /// receiving, both may wait. The wait ends when the peer reads or closes, when it does not answer a keepalive
    /// ping in time, or when the transport fails. Without [`Config::keepalive`], limit the wait with
    /// `tokio::time::timeout`, which loses nothing.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`] once a close frame was sent or received. Nothing was sent then, unless the peer closed
    /// while the call waited for it to read; in that case the message may have been sent. [`Error::Io`] if the
    /// transport failed.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the message is sent whole or not at all, and the connection stays usable.
    #[inline]
    pub fn send(&mut self, message: impl Into<Message>) -> impl Future<Output = Result<(), Error>> + Send {
        // Not an async block: a handler that waits takes as much memory as its largest future.
        SendMessage::new(self, message.into(), Until::Sent)
    }

    /// Sends one message. If compression was negotiated, `compress` decides whether it is used (RFC 7692 §6).
    ///
    /// # Errors
    ///
    /// As for [`send`](Self::send).
    ///
    /// # Cancel safety
    ///
    /// As for [`send`](Self::send).
    pub fn send_with(
        &mut self,
        message: impl Into<Message>,
        compress: Compress,
    ) -> impl Future<Output = Result<(), Error>> + Send {
        SendMessage { compress, ..SendMessage::new(self, message.into(), Until::Sent) }
    }

    /// Sends one message and waits until it is written to the transport, as [`Sender::send_flushed`] does. Meanwhile
    /// control frames are handled, as by [`send`](Self::send).
    ///
    /// A message that was written has not necessarily reached the peer.
    ///
    /// # Errors
    ///
    /// As for [`send`](Self::send), and also if the connection ends while the message is still queued.
    ///
    /// # Cancel safety
    ///
    /// As for [`send`](Self::send), but the caller does not learn whether the message is sent.
    pub fn send_flushed(
        &mut self,
        message: impl Into<Message>,
    ) -> impl Future<Output = Result<(), Error>> + Send {
        SendMessage::new(self, message.into(), Until::Written)
    }

    /// Queues one message. The next [`flush`](Self::flush), [`send`](Self::send) or [`recv`](Self::recv) writes it.
    /// Waits while the queue is full.
    ///
    /// # Errors
    ///
    /// As for [`send`](Self::send).
    ///
    /// # Cancel safety
    ///
    /// As for [`send`](Self::send).
    pub fn feed(&mut self, message: impl Into<Message>) -> impl Future<Output = Result<(), Error>> + Send {
        SendMessage::new(self, message.into(), Until::Queued)
    }

    /// Waits until everything queued by now is written to the transport. Meanwhile control frames are handled, and
    /// the wait ends, as for [`send`](Self::send).
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the transport failed, [`Error::Closed`] if the peer has closed or the connection is gone.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, nothing is lost.
    pub async fn flush(&mut self) -> Result<(), Error> {
        self.flushing = 0;
        poll_fn(|cx| self.poll_flush(cx)).await
    }

    /// Begins a message that is sent in parts: text, binary, or with [`WriterOptions`]. Other messages of this
    /// connection wait until it is finished.
    ///
    /// # Errors
    ///
    /// As for [`send`](Self::send), and [`Error::QueueFull`] if the call would wait and [`WriterOptions::wait`] is
    /// off.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it is ready, no message was begun.
    pub async fn message_writer(
        &mut self,
        options: impl Into<WriterOptions>,
    ) -> Result<MessageWriter<'_, T>, Error> {
        let options = options.into();
        let mut sending = options.sending();
        poll_fn(|cx| options.outcome(self.poll_send(&mut sending, Until::Queued, cx))).await?;
        Ok(MessageWriter::new(self, options.kind))
    }

    /// Sends a ping with a unique payload. The returned future completes with the round-trip time when its pong
    /// arrives.
    ///
    /// The pong is seen only while a task receives:
    ///
    /// ```
    /// # use longwire_connection::{Config, Error, testing::pair};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// # let (mut ws, mut server) = pair(Config::default());
    /// # tokio::spawn(async move { server.recv().await });
    /// let pong = ws.ping()?;
    /// let time = tokio::select! {
    ///     time = pong => time?,
    ///     message = ws.recv() => panic!("{message:?}"),
    /// };
    /// println!("{time:?}");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Closed`] once a close frame was sent or received, or the peer's sending direction has ended,
    /// [`Error::Io`] if the transport failed, [`Error::QueueFull`] if 8 KiB of pings and pongs wait to be written.
    pub fn ping(&mut self) -> Result<Pong, Error> {
        self.shared().ping(Bytes::new())
    }

    /// Sends a ping with this payload of at most 125 bytes. An empty payload is replaced by a unique one.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for a longer payload; otherwise as for [`ping`](Self::ping).
    pub fn ping_with(&mut self, payload: impl Into<Bytes>) -> Result<Pong, Error> {
        self.shared().ping(payload.into())
    }

    /// Sends a pong of at most 125 bytes: an unsolicited one, or the answer to a ping if [`Config::auto_pong`] is
    /// off.
    ///
    /// # Errors
    ///
    /// As for [`ping_with`](Self::ping_with).
    pub fn pong(&mut self, payload: impl AsRef<[u8]>) -> Result<(), Error> {
        self.shared().pong(payload.as_ref())
    }

    /// Closes the connection and waits until the peer has closed it too.
    ///
    /// Sends a close frame after everything queued, then receives until the peer's close frame. Messages that
    /// arrive before it are dropped; to receive them, call [`start_close`](Self::start_close) and continue
    /// receiving.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for a code that must not be sent: nothing was sent. A reason over 123 bytes is cut.
    /// [`Error::CloseTimeout`] if the peer takes longer than [`Config::close_timeout`]. Otherwise the reason why the
    /// connection ended before the peer's close frame.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the close frame stays queued, and [`recv`](Self::recv) continues to the end.
    pub async fn close(&mut self, code: impl Into<CloseCode>, reason: &str) -> Result<(), Error> {
        match self.start_close(code, reason) {
            // The peer closed first, or the connection is gone: `recv` knows how it ended.
            Ok(()) | Err(Error::Closed) => {}
            Err(error) => return Err(error),
        }
        while self.recv().await?.is_some() {}
        Ok(())
    }

    /// Starts the closing handshake: the close frame is sent after everything queued, and nothing after it. Receiving
    /// continues until the peer's close frame and then ends with `None`.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for a code that must not be sent, [`Error::Closed`] if a close frame was sent before. A
    /// reason of more than 123 bytes is cut at the last character that fits (RFC 6455 §5.5).
    pub fn start_close(&mut self, code: impl Into<CloseCode>, reason: &str) -> Result<(), Error> {
        self.start_close_with(Some(close_frame(code.into(), reason)))
    }

    /// As [`start_close`](Self::start_close), with a whole close frame. With `None`, the frame is empty, and the peer
    /// sees code 1005 (RFC 6455 §7.1.5). To forward a close frame that another connection received, convert it with
    /// [`CloseFrame::on_wire`].
    ///
    /// # Errors
    ///
    /// As for [`start_close`](Self::start_close), and [`Error::Invalid`] for a reason of more than 123 bytes.
    ///
    /// # Examples
    ///
    /// ```
    /// use longwire_connection::{CloseCode, Config, Error, testing::pair};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// let (mut client, mut server) = pair(Config::default());
    /// client.start_close_with(None)?;
    /// assert_eq!(server.recv().await?, None);
    /// let frame = server.close_received().expect("a close frame");
    /// assert_eq!(frame.code, CloseCode::NO_STATUS_RECEIVED);
    /// # Ok(())
    /// # }
    /// ```
    pub fn start_close_with(&mut self, frame: Option<CloseFrame>) -> Result<(), Error> {
        self.shared().close(frame)
    }

    /// Drops the connection at once, without a close frame: the peer sees code 1006.
    pub fn abort(self) {
        self.receiver.abort();
    }

    /// Returns a handle to send on this connection from any task.
    pub fn sender(&self) -> Sender {
        Sender::new(Arc::clone(self.shared()))
    }

    /// Splits the socket into a sender, which can be cloned, and the receiving half.
    pub fn split(self) -> (Sender, Receiver<T>) {
        (self.sender(), self.receiver)
    }

    /// Converts the connection into a stream of bytes: reads join the payloads of messages, and each write is one
    /// message.
    pub fn into_byte_stream(self) -> ByteStream<T> {
        ByteStream::new(self)
    }

    /// Returns the state of the closing handshake.
    pub fn state(&self) -> State {
        self.receiver.state()
    }

    /// Returns the close frame that the peer sent: `None` if none has arrived. The code of an empty one is
    /// 1005 (RFC 6455 §7.1.5).
    pub fn close_received(&self) -> Option<&CloseFrame> {
        self.receiver.close_received()
    }

    /// Returns the negotiated subprotocol, if any.
    pub fn subprotocol(&self) -> Option<&str> {
        self.receiver.subprotocol()
    }

    /// Returns the negotiated extensions, as the header names them.
    pub fn extensions(&self) -> Option<&str> {
        self.receiver.extensions()
    }

    /// Returns the counters of the connection.
    pub fn stats(&self) -> Stats {
        self.receiver.stats()
    }

    /// Calls `look` with the transport, for example to read its addresses. Returns `None` once the transport is
    /// gone.
    ///
    /// The connection is locked during the call, so `look` must not use it.
    pub fn with_transport<R>(&self, look: impl FnOnce(&T) -> R) -> Option<R> {
        self.shared().lock().io.as_ref().map(look)
    }

    pub(crate) fn shared(&self) -> &Arc<Shared<T>> {
        &self.receiver.reader().shared
    }

    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let mut flush = match self.flushing {
            0 => Sending::new(Item::Mark),
            // Messages queued later do not prolong it.
            position => Sending { item: None, position, ..Sending::new(Item::Mark) },
        };
        let polled = self.poll_send(&mut flush, Until::Written, cx);
        self.flushing = if polled.is_pending() { flush.position } else { 0 };
        polled
    }

    pub(crate) fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Message>, Error>> {
        self.receiver.reader_mut().poll_recv(cx)
    }

    #[inline]
    pub(crate) fn poll_send(
        &mut self,
        sending: &mut Sending,
        until: Until,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Error>> {
        // The socket waits for one thing at a time and under one ticket, so dropped calls leave nothing registered.
        sending.ticket = Some(Ticket::SOCKET);
        loop {
            let polled = self.shared().poll_send(sending, until, cx);
            if polled.is_ready() {
                return polled;
            }
            if self.close_received().is_some() {
                // Calls that receive still write the queued bytes, but a peer that has sent its close frame may
                // discard all of them (RFC 6455 §1.4), so there is no reason to wait.
                return Poll::Ready(Err(Error::Closed));
            }
            ready!(self.poll_blocked(cx))?;
        }
    }

    /// Waits until a message can be queued.
    #[inline]
    pub(crate) fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        loop {
            let ready = self.shared().with(|writer| writer.poll_room(cx.waker()));
            if ready.is_ready() {
                return ready;
            }
            ready!(self.poll_blocked(cx))?;
        }
    }

    /// Waits until an answer can be queued, or nothing can be sent any more: then receiving determines how the
    /// connection ends.
    #[cold]
    fn poll_answer_room(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.receiver.reader().ending.is_open() {
            if self.shared().with(|writer| writer.poll_answer_room(cx.waker())).is_ready() {
                break;
            }
            if ready!(self.poll_blocked(cx)).is_err() {
                break;
            }
        }
        Poll::Ready(())
    }

    /// Handles control frames while a call waits for the transport to accept bytes. Ready when the call must check
    /// again.
    #[cold]
    pub(crate) fn poll_blocked(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.receiver.reader_mut().poll_blocked(cx)
    }

    /// Handles control frames between consecutive sends, so that pings are answered and a close is noticed although
    /// no call receives.
    #[inline]
    fn look_around(&mut self, cx: &mut Context<'_>) {
        let reader = self.receiver.reader_mut();
        if reader.is_unheard() {
            reader.poll_control(cx);
        }
    }
}

/// A message being sent.
struct SendMessage<'a, T: Transport> {
    ws: &'a mut WebSocket<T>,
    stage: Stage,
    compress: Compress,
    until: Until,
}

/// The progress of a message being sent.
enum Stage {
    Unqueued(Message),
    /// The position up to which the queue must be flushed.
    Queued(u64),
}

impl<'a, T: Transport> SendMessage<'a, T> {
    #[inline]
    fn new(ws: &'a mut WebSocket<T>, message: Message, until: Until) -> Self {
        Self { ws, stage: Stage::Unqueued(message), compress: Compress::Auto, until }
    }

    /// Sends the message in any way that may be necessary. Unlike the future, its state is needed only for the poll.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let (item, position) = match std::mem::replace(&mut self.stage, Stage::Queued(0)) {
            Stage::Unqueued(message) => (Some(Item::Message(message)), 0),
            Stage::Queued(position) => (None, position),
        };
        let mut sending = Sending { item, compress: self.compress, position, ticket: None };
        let polled = self.ws.poll_send(&mut sending, self.until, cx);
        if polled.is_ready() {
            self.ws.look_around(cx);
        } else {
            self.stage = match sending.item {
                Some(Item::Message(message)) => Stage::Unqueued(message),
                _ => Stage::Queued(sending.position),
            };
        }
        polled
    }
}

impl<T: Transport> Future for SendMessage<'_, T> {
    type Output = Result<(), Error>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.until == Until::Sent
            && self.compress == Compress::Auto
            && let Stage::Unqueued(message) = &self.stage
            && self.ws.shared().try_gather(message)
        {
            self.stage = Stage::Queued(0);
            self.ws.look_around(cx);
            return Poll::Ready(Ok(()));
        }
        self.poll_send(cx)
    }
}

impl<T: Transport> fmt::Debug for WebSocket<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocket").field("state", &self.state()).finish_non_exhaustive()
    }
}
