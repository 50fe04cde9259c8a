//! What the receiving task and all senders of a connection share: the transport and the sending half, behind one lock.
//!
//! The lock is held for one operation, never across an await, and never while a message is decoded. What happens behind
//! it is [`crate::sending::writer`]'s.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use longwire_protocol::{CloseFrame, Compress, Message, Outbound, PreparedMessage, SendError};
use tokio::task::coop;

use crate::sending::cork::Cork;
use crate::sending::ping::Pong;
use crate::sending::writer::{Sending, Until, Writer};
use crate::{Config, Error, Transport};

/// The part of a connection that several tasks may use.
pub(crate) struct Shared<T> {
    writer: Mutex<Writer<T>>,
    /// Whether a [`Driven`](crate::Driven) task takes over the receiving half when it is dropped.
    managed: AtomicBool,
}

impl<T: Transport> Shared<T> {
    pub(crate) fn new(io: T, mut out: Outbound, config: &Config) -> Arc<Self> {
        out.set_auto_pong(config.auto_pong);
        Arc::new(Self { writer: Mutex::new(Writer::new(io, out, config)), managed: AtomicBool::new(false) })
    }

    #[inline]
    pub(crate) fn lock(&self) -> MutexGuard<'_, Writer<T>> {
        // A panic of a transport's poll leaves nothing half done here.
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts gathering what this thread sends on the connection until the guard is dropped.
    #[inline]
    pub(crate) fn cork(&self) -> Cork {
        Cork::new(self.address())
    }

    /// Whether this thread is polling the handler of this connection: then what it sends may wait in the queue for the
    /// end of the handler's turn.
    #[inline]
    pub(crate) fn is_corked(&self) -> bool {
        Cork::is_on(self.address())
    }

    #[inline]
    fn address(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    pub(crate) fn set_managed(&self, managed: bool) {
        self.managed.store(managed, Ordering::Release);
    }

    pub(crate) fn is_managed(&self) -> bool {
        self.managed.load(Ordering::Acquire)
    }

    /// Queues a short message if that is all there is to sending it: under a cork, with room, nothing in the way.
    #[inline]
    pub(crate) fn try_gather(&self, message: &Message) -> bool {
        self.is_corked() && self.lock().try_gather(message)
    }

    /// Takes a message into the queue as soon as there is room, and from there as far as `until` says.
    #[inline]
    pub(crate) fn poll_send(
        &self,
        sending: &mut Sending,
        until: Until,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Error>> {
        let mut writer = self.lock();
        if sending.item.is_some() {
            ready!(writer.poll_queue(sending, cx))?;
            if until == Until::Queued || (until == Until::Sent && self.is_corked()) {
                return Poll::Ready(Ok(()));
            }
        }
        writer.poll_written(sending.until, cx)
    }

    /// Writes all that is queued, and waits until the transport has passed it on.
    pub(crate) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.lock().poll_flush(cx)
    }

    /// Queues something small that never waits for room and writes what the transport takes at once.
    pub(crate) fn send_now(
        &self,
        queue: impl FnOnce(&mut Outbound) -> Result<(), SendError>,
    ) -> Result<(), Error> {
        let mut writer = self.lock();
        writer.check()?;
        queue(&mut writer.out)?;
        self.start_writing(&mut writer);
        Ok(())
    }

    /// Queues the close frame and lets the receiving task start the limit of the closing handshake.
    pub(crate) fn close(&self, frame: Option<CloseFrame>) -> Result<(), Error> {
        let mut writer = self.lock();
        writer.check()?;
        writer.out.close(frame)?;
        self.start_writing(&mut writer);
        if let Some(owner) = &writer.owner {
            owner.wake_by_ref();
        }
        writer.wake_waiting();
        Ok(())
    }

    /// Sends a ping, with a payload of its own in place of an empty one, and notes that its pong is awaited.
    pub(crate) fn ping(&self, payload: Bytes) -> Result<Pong, Error> {
        let mut writer = self.lock();
        writer.check()?;
        let payload = if payload.is_empty() { writer.pings().next_payload() } else { payload };
        writer.out.ping(&payload)?;
        let pong = writer.pings().sent(payload);
        self.start_writing(&mut writer);
        Ok(pong)
    }

    /// Drops the transport at once.
    pub(crate) fn abort(&self) {
        let mut writer = self.lock();
        writer.finish();
        if let Some(owner) = &writer.owner {
            owner.wake_by_ref();
        }
    }

    /// Queues a message if there is room for it now, and writes what the transport takes at once.
    pub(crate) fn try_send(&self, message: Message) -> Result<(), Error> {
        let mut writer = self.lock();
        writer.check()?;
        if !writer.has_room() || writer.out.is_message_open() {
            return Err(Error::QueueFull);
        }
        writer.queue_message(message, Compress::Auto)?;
        self.start_writing(&mut writer);
        Ok(())
    }

    /// Queues a message that was framed before, within `limit` bytes of queue; older ones make room if `drop_oldest`.
    /// Returns how many were dropped for it.
    pub(crate) fn try_send_prepared(
        &self,
        prepared: &PreparedMessage,
        limit: usize,
        drop_oldest: bool,
    ) -> Result<usize, Error> {
        self.queue_prepared(&mut self.lock(), prepared, limit, drop_oldest)
    }

    /// Queues a message that was framed before, as soon as it fits into `limit` bytes of queue.
    pub(crate) fn poll_send_prepared(
        &self,
        prepared: &PreparedMessage,
        limit: usize,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Error>> {
        let mut writer = self.lock();
        let mut sent = self.queue_prepared(&mut writer, prepared, limit, false);
        if matches!(sent, Err(Error::QueueFull)) {
            if let Poll::Ready(Err(error)) = writer.poll_flush(cx) {
                return Poll::Ready(Err(error));
            }
            sent = self.queue_prepared(&mut writer, prepared, limit, false);
        }
        if matches!(sent, Err(Error::QueueFull)) {
            writer.wait(cx);
            return Poll::Pending;
        }
        Poll::Ready(sent.map(drop))
    }

    fn queue_prepared(
        &self,
        writer: &mut Writer<T>,
        prepared: &PreparedMessage,
        limit: usize,
        drop_oldest: bool,
    ) -> Result<usize, Error> {
        writer.check()?;
        let len = prepared.server_frame().len();
        let mut dropped = 0;
        // An empty queue takes any message: the limit is on what waits.
        while writer.out.pending() > 0 && writer.out.cost().saturating_add(len) > limit {
            if !drop_oldest || !writer.drop_oldest() {
                return Err(Error::QueueFull);
            }
            dropped += 1;
        }
        writer.lend_buffer();
        writer.out.prepared(prepared)?;
        writer.count_sent(prepared.message().len());
        self.start_writing(writer);
        Ok(dropped)
    }

    /// Writes what the transport takes at once; the receiving task, and whoever waits, does the rest, and all of it where
    /// the calling task has had its turn by tokio's cooperative budget.
    fn start_writing(&self, writer: &mut Writer<T>) {
        if self.is_corked() {
            return;
        }
        if let Some(owner) = &writer.owner
            && !coop::has_budget_remaining()
        {
            // A socket of tokio would refuse, and wake the same task in a dearer way. A broadcast to more clients than one
            // task may write to in its turn comes here for most of them; what else is queued until they run is written
            // with it in one call.
            owner.wake_by_ref();
            return;
        }
        // An error is kept, and reported where it can be acted on.
        let _ = match writer.owner.clone() {
            Some(owner) => writer.poll_flush(&mut Context::from_waker(&owner)),
            None => writer.poll_flush(&mut Context::from_waker(Waker::noop())),
        };
    }
}
