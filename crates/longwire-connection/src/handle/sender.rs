//! The sending half, which any number of tasks can hold.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use longwire_protocol::{CloseCode, CloseFrame, Compress, Message, PreparedMessage};

use crate::sending::fan_out::{Publisher, Queued};
use crate::sending::ping::Pong;
use crate::sending::request::{IfFull, Item, Sending, Until};
use crate::sending::shared::Shared;
use crate::sending::wakers::Ticket;
use crate::{Error, OwnedMessageWriter, Stats, Transport, WriterOptions};

/// The operations of a connection that a [`Sender`] needs, without the type of its transport.
trait Outlet: Send + Sync {
    fn poll_send(&self, sending: &mut Sending, until: Until, cx: &mut Context<'_>)
    -> Poll<Result<(), Error>>;
    fn forget(&self, ticket: Ticket);
    fn try_send(&self, message: Message) -> Result<(), Error>;
    fn try_send_prepared(
        &self,
        prepared: &PreparedMessage,
        limit: usize,
        if_full: IfFull,
    ) -> Result<usize, Error>;
    fn publish(
        &self,
        prepared: &PreparedMessage,
        limit: usize,
        if_full: IfFull,
        by: Publisher,
    ) -> Result<Queued, Error>;
    fn write_queued(&self);
    fn poll_send_prepared(
        &self,
        prepared: &PreparedMessage,
        limit: usize,
        ticket: &mut Option<Ticket>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Error>>;
    fn ping(&self, payload: Bytes) -> Result<Pong, Error>;
    fn pong(&self, payload: &[u8]) -> Result<(), Error>;
    fn close(&self, frame: Option<CloseFrame>) -> Result<(), Error>;
    fn queued(&self) -> usize;
    fn stats(&self) -> Stats;
    fn close_sent(&self) -> Option<CloseFrame>;
    fn is_closed(&self) -> bool;
    fn abort(&self);
    fn kill(&self);
}

impl<T: Transport> Outlet for Shared<T> {
    fn poll_send(
        &self,
        sending: &mut Sending,
        until: Until,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Error>> {
        self.poll_send(sending, until, cx)
    }

    fn forget(&self, ticket: Ticket) {
        self.forget(ticket);
    }

    fn try_send(&self, message: Message) -> Result<(), Error> {
        self.try_send(message)
    }

    fn try_send_prepared(
        &self,
        prepared: &PreparedMessage,
        limit: usize,
        if_full: IfFull,
    ) -> Result<usize, Error> {
        self.try_send_prepared(prepared, limit, if_full)
    }

    fn publish(
        &self,
        prepared: &PreparedMessage,
        limit: usize,
        if_full: IfFull,
        by: Publisher,
    ) -> Result<Queued, Error> {
        self.publish(prepared, limit, if_full, by)
    }

    fn write_queued(&self) {
        self.write_queued();
    }

    fn poll_send_prepared(
        &self,
        prepared: &PreparedMessage,
        limit: usize,
        ticket: &mut Option<Ticket>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Error>> {
        self.poll_send_prepared(prepared, limit, ticket, cx)
    }

    fn ping(&self, payload: Bytes) -> Result<Pong, Error> {
        self.ping(payload)
    }

    fn pong(&self, payload: &[u8]) -> Result<(), Error> {
        self.pong(payload)
    }

    fn close(&self, frame: Option<CloseFrame>) -> Result<(), Error> {
        self.close(frame)
    }

    fn queued(&self) -> usize {
        self.lock().out.pending()
    }

    fn stats(&self) -> Stats {
        self.lock().stats()
    }

    fn close_sent(&self) -> Option<CloseFrame> {
        self.lock().out.close_sent().cloned()
    }

    fn is_closed(&self) -> bool {
        self.lock().check().is_err()
    }

    fn abort(&self) {
        self.abort();
    }

    fn kill(&self) {
        self.kill();
    }
}

/// A handle to send on one connection, cheap to clone and usable from any task.
///
/// Messages of several senders are never mixed: each is sent whole, in the order in which the calls queued them. A
/// sender does not keep the connection open; the [`Receiver`](crate::Receiver) or the socket does. The receiving
/// task, while it is polled, writes the bytes that a call leaves in the queue.
#[derive(Clone)]
pub struct Sender {
    outlet: Arc<dyn Outlet>,
}

impl Sender {
    pub(crate) fn new<T: Transport>(shared: Arc<Shared<T>>) -> Self {
        Self { outlet: shared }
    }

    /// Sends one message.
    ///
    /// Completes when the message will reach the transport without any further call: it was written, or the task
    /// that drives the connection is about to write it. Waits while
    /// [`Config::send_queue`](crate::Config::send_queue) bytes or more are queued, or while a message in parts is
    /// open. The wait ends when the peer reads or the connection ends. The receiving task ends the connection when
    /// the peer closes it or does not answer a keepalive ping in time.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`] once a close frame was sent or received, [`Error::Io`] if the transport failed.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the message is sent whole or not at all, and the connection stays usable.
    pub async fn send(&self, message: impl Into<Message>) -> Result<(), Error> {
        Call::new(self, Sending::new(Item::Message(message.into())), Until::Sent).await
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
    pub async fn send_with(&self, message: impl Into<Message>, compress: Compress) -> Result<(), Error> {
        Call::new(self, Sending::new(Item::Message(message.into())).compress(compress), Until::Sent).await
    }

    /// Sends one message and waits until it is written to the transport.
    ///
    /// Does not wait for messages that other tasks queue after it. A message that was written has not necessarily
    /// reached the peer.
    ///
    /// # Errors
    ///
    /// As for [`send`](Self::send), and also if the connection ends while the message is still queued.
    ///
    /// # Cancel safety
    ///
    /// As for [`send`](Self::send), but the caller does not learn whether the message is sent.
    pub async fn send_flushed(&self, message: impl Into<Message>) -> Result<(), Error> {
        Call::new(self, Sending::new(Item::Message(message.into())), Until::Written).await
    }

    /// Queues one message. The next [`flush`](Self::flush) or [`send`](Self::send) writes it, or the receiving task
    /// when it is polled.
    ///
    /// # Errors
    ///
    /// As for [`send`](Self::send).
    ///
    /// # Cancel safety
    ///
    /// As for [`send`](Self::send).
    pub async fn feed(&self, message: impl Into<Message>) -> Result<(), Error> {
        Call::new(self, Sending::new(Item::Message(message.into())), Until::Queued).await
    }

    /// Waits until everything queued by now is written to the transport. Messages queued later do not prolong the
    /// wait. Broadcasts held back until the end of a message in parts are not included.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the transport failed, [`Error::Closed`] if the connection is gone.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, nothing is lost.
    pub async fn flush(&self) -> Result<(), Error> {
        Call::new(self, Sending::new(Item::Mark), Until::Written).await
    }

    /// Sends one message if the queue has room for it.
    ///
    /// # Errors
    ///
    /// [`Error::QueueFull`] if [`Config::send_queue`](crate::Config::send_queue) bytes or more are queued, or a
    /// message in parts is open; otherwise as for [`send`](Self::send).
    pub fn try_send(&self, message: impl Into<Message>) -> Result<(), Error> {
        self.outlet.try_send(message.into())
    }

    /// Sends a prepared message if it fits into `limit` bytes of queue; an empty queue accepts any message.
    ///
    /// # Errors
    ///
    /// [`Error::QueueFull`] if it does not fit; otherwise as for [`send`](Self::send).
    pub fn try_send_prepared(&self, prepared: &PreparedMessage, limit: usize) -> Result<(), Error> {
        self.outlet.try_send_prepared(prepared, limit, IfFull::Refuse).map(drop)
    }

    /// Sends a prepared message as soon as it fits into `limit` bytes of queue; an empty queue accepts any message.
    ///
    /// Completes when the message is queued. Until its first byte is written,
    /// [`send_prepared_dropping`](Self::send_prepared_dropping) may drop it.
    ///
    /// # Errors
    ///
    /// As for [`send`](Self::send).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it is ready, the message was not sent.
    pub async fn send_prepared(&self, prepared: &PreparedMessage, limit: usize) -> Result<(), Error> {
        let mut call = Call::new(self, Sending::new(Item::Mark), Until::Queued);
        poll_fn(|cx| self.outlet.poll_send_prepared(prepared, limit, &mut call.sending.ticket, cx)).await
    }

    /// Sends a prepared message that is chosen once there is room for it, as [`send_prepared`](Self::send_prepared)
    /// does. Returns the message that was sent, or `None` if `next` returned none.
    ///
    /// `next` returns the message to send now. It is called whenever the future is polled, so a value that has become
    /// outdated meanwhile need not be sent.
    ///
    /// # Errors
    ///
    /// As for [`send`](Self::send).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it is ready, no message was sent.
    pub async fn send_prepared_with(
        &self,
        limit: usize,
        mut next: impl FnMut() -> Option<PreparedMessage>,
    ) -> Result<Option<PreparedMessage>, Error> {
        let mut call = Call::new(self, Sending::new(Item::Mark), Until::Queued);
        poll_fn(|cx| {
            let Some(prepared) = next() else {
                return Poll::Ready(Ok(None));
            };
            let polled = self.outlet.poll_send_prepared(&prepared, limit, &mut call.sending.ticket, cx);
            polled.map_ok(|()| Some(prepared))
        })
        .await
    }

    /// Sends a prepared message. To make room for it, drops older prepared messages of which no byte was written.
    /// Returns the number of dropped messages.
    ///
    /// # Errors
    ///
    /// [`Error::QueueFull`], without dropping any, if other messages leave no room; otherwise as for
    /// [`send`](Self::send).
    pub fn send_prepared_dropping(&self, prepared: &PreparedMessage, limit: usize) -> Result<usize, Error> {
        self.outlet.try_send_prepared(prepared, limit, IfFull::DropOldest)
    }

    /// Sends a prepared message as [`try_send_prepared`](Self::try_send_prepared) or
    /// [`send_prepared_dropping`](Self::send_prepared_dropping) does. If [`Queued::is_due`], the message is only
    /// queued, and the caller must call [`write_queued`](Self::write_queued) later, with the same publisher's other
    /// messages.
    #[doc(hidden)]
    pub fn publish(
        &self,
        prepared: &PreparedMessage,
        limit: usize,
        if_full: IfFull,
        by: Publisher,
    ) -> Result<Queued, Error> {
        self.outlet.publish(prepared, limit, if_full, by)
    }

    /// Writes what is queued, as much as the transport accepts, and leaves the rest to the receiving task.
    #[doc(hidden)]
    pub fn write_queued(&self) {
        self.outlet.write_queued();
    }

    /// Returns a number that no other connection has while a sender of this one exists.
    #[doc(hidden)]
    pub fn address(&self) -> usize {
        Arc::as_ptr(&self.outlet).addr()
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
        &self,
        options: impl Into<WriterOptions>,
    ) -> Result<OwnedMessageWriter, Error> {
        let options = options.into();
        let mut call = Call::new(self, options.sending(), Until::Queued);
        poll_fn(|cx| options.outcome(Pin::new(&mut call).poll(cx))).await?;
        Ok(OwnedMessageWriter::new(self.clone(), options.kind))
    }

    pub(crate) fn poll_send(
        &self,
        sending: &mut Sending,
        until: Until,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Error>> {
        self.outlet.poll_send(sending, until, cx)
    }

    pub(crate) fn forget(&self, ticket: Ticket) {
        self.outlet.forget(ticket);
    }

    /// Sends a ping with a unique payload. The returned future completes with the round-trip time when its pong
    /// arrives.
    ///
    /// Pings and pongs do not wait for room in the queue.
    ///
    /// # Errors
    ///
    /// [`Error::QueueFull`] if 8 KiB of pings and pongs wait to be written; otherwise as for [`send`](Self::send),
    /// and [`Error::Closed`] if the peer's sending direction has ended.
    pub fn ping(&self) -> Result<Pong, Error> {
        self.outlet.ping(Bytes::new())
    }

    /// Sends a ping with this payload of at most 125 bytes. An empty payload is replaced by a unique one.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for a longer payload; otherwise as for [`ping`](Self::ping).
    pub fn ping_with(&self, payload: impl Into<Bytes>) -> Result<Pong, Error> {
        self.outlet.ping(payload.into())
    }

    /// Sends a pong of at most 125 bytes: an unsolicited one, or the answer to a ping if
    /// [`Config::auto_pong`](crate::Config::auto_pong) is off.
    ///
    /// # Errors
    ///
    /// As for [`ping_with`](Self::ping_with).
    pub fn pong(&self, payload: impl AsRef<[u8]>) -> Result<(), Error> {
        self.outlet.pong(payload.as_ref())
    }

    /// Starts the closing handshake: the close frame is sent after everything queued, and nothing after it.
    ///
    /// The receiver continues until the peer's close frame and then ends with `None`.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for a code that must not be sent, [`Error::Closed`] if a close frame was sent before. A
    /// reason of more than 123 bytes is cut at the last character that fits (RFC 6455 §5.5).
    pub fn start_close(&self, code: impl Into<CloseCode>, reason: &str) -> Result<(), Error> {
        self.start_close_with(Some(close_frame(code.into(), reason)))
    }

    /// As [`start_close`](Self::start_close), with a whole close frame. With `None`, the frame is empty, and the peer
    /// sees code 1005 (RFC 6455 §7.1.5). [`CloseFrame::on_wire`] converts a close frame that another connection
    /// received.
    ///
    /// # Errors
    ///
    /// As for [`start_close`](Self::start_close), and [`Error::Invalid`] for a reason of more than 123 bytes.
    pub fn start_close_with(&self, frame: Option<CloseFrame>) -> Result<(), Error> {
        self.outlet.close(frame)
    }

    /// Drops the connection at once, without a close frame: the peer sees code 1006.
    pub fn abort(&self) {
        self.outlet.abort();
    }

    /// Drops the connection as [`abort`](Self::abort) does, and marks it:
    /// [`Driven::is_killed`](crate::Driven::is_killed) is true from now on. The caller then wakes the task that drives
    /// the handler.
    #[doc(hidden)]
    pub fn kill(&self) {
        self.outlet.kill();
    }

    /// Returns the number of queued bytes.
    pub fn queued(&self) -> usize {
        self.outlet.queued()
    }

    /// Returns the counters of the connection. Received messages are counted once the receiving task has handled
    /// all the bytes of a read. Only the receiving half knows how many of them were compressed.
    pub fn stats(&self) -> Stats {
        self.outlet.stats()
    }

    /// Returns the close frame that this end has sent or queued. The code of an empty one is 1005 (RFC 6455 §7.1.5).
    /// If the peer closed first, this is the answer, with the peer's code (RFC 6455 §5.5.1).
    pub fn close_sent(&self) -> Option<CloseFrame> {
        self.outlet.close_sent()
    }

    /// Returns whether nothing more can be sent.
    pub fn is_closed(&self) -> bool {
        self.outlet.is_closed()
    }

    /// Returns whether both handles send on the same connection.
    pub fn same_connection(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.outlet, &other.outlet)
    }
}

/// Returns a close frame with as much of the reason as fits, so that the text of an error cannot prevent a close.
pub(crate) fn close_frame(code: CloseCode, reason: &str) -> CloseFrame {
    // "All control frames MUST have a payload length of 125 bytes or less" (RFC 6455 §5.5), two for the code.
    let fits = (0..=reason.len().min(123)).rfind(|&at| reason.is_char_boundary(at)).unwrap_or(0);
    CloseFrame::new(code, &reason[..fits])
}

/// One call of a sender. It stops waiting when it completes or is dropped.
struct Call<'a> {
    outlet: &'a dyn Outlet,
    sending: Sending,
    until: Until,
}

impl<'a> Call<'a> {
    fn new(sender: &'a Sender, sending: Sending, until: Until) -> Self {
        Self { outlet: &*sender.outlet, sending, until }
    }
}

impl Future for Call<'_> {
    type Output = Result<(), Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { outlet, sending, until } = &mut *self;
        outlet.poll_send(sending, *until, cx)
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.sending.ticket {
            self.outlet.forget(ticket);
        }
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("queued", &self.queued()).finish_non_exhaustive()
    }
}
