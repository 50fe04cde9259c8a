//! The state that the receiving task and all senders of a connection share: the transport and the sending half,
//! under one lock.
//!
//! The lock is held for one operation, never across an await, and never while a message is decoded. The operations
//! under it are in [`crate::sending::writer`].

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use longwire_protocol::{CloseCode, CloseFrame, Compress, Message, Outbound, PreparedMessage};
use tokio::task::coop;

use crate::ending::heir::Heir;
use crate::receiving::policy::memory::Member;
use crate::sending::cork::Cork;
use crate::sending::due::Due;
use crate::sending::ping::Pong;
use crate::sending::request::{IfFull, Sending, Until};
use crate::sending::wakers::{Ticket, Waiter, Want};
use crate::sending::writer::{Peer, Writer};
use crate::sync::{self, AtomicBool, Mutex, MutexGuard, Ordering, held};
use crate::{Config, Error, Transport};

/// The part of a connection that several tasks may use.
///
/// The flag is next to the lock, which every poll needs anyway: with many connections, a poll spends most of its time
/// waiting for memory.
#[repr(C)]
pub(crate) struct Shared<T: Transport> {
    /// Set if a handler of this connection may have to be dropped.
    is_killed: AtomicBool,
    writer: Mutex<Writer<T>>,
}

/// The lock on a connection's sending half.
///
/// Dropping it frees the lock first. Then it wakes the tasks and drops the values that the operation left in
/// [`Due`], so that no foreign code runs under the lock.
pub(crate) struct Locked<'a, T: Transport> {
    writer: MutexGuard<'a, Writer<T>>,
    address: usize,
    /// Dropped after the guard.
    due: Act<T>,
}

impl<T: Transport> Deref for Locked<'_, T> {
    type Target = Writer<T>;

    #[inline]
    fn deref(&self) -> &Writer<T> {
        &self.writer
    }
}

impl<T: Transport> DerefMut for Locked<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut Writer<T> {
        &mut self.writer
    }
}

impl<T: Transport> Drop for Locked<'_, T> {
    #[inline]
    fn drop(&mut self) {
        held::remove(self.address);
        self.due.0 = self.writer.due.take();
    }
}

/// Does the deferred work, if any, when dropped. In most cases there is none.
struct Act<T>(Option<Box<Due<T>>>);

impl<T> Drop for Act<T> {
    #[inline]
    fn drop(&mut self) {
        if self.0.is_some() {
            self.act();
        }
    }
}

impl<T> Act<T> {
    #[cold]
    fn act(&mut self) {
        if let Some(due) = self.0.take() {
            due.act();
        }
    }
}

/// A connection in the list of [`held`] until this is dropped, also by a panic.
struct Listed(usize);

impl Drop for Listed {
    #[inline]
    fn drop(&mut self) {
        held::remove(self.0);
    }
}

impl<T: Transport> Shared<T> {
    pub(crate) fn new(io: T, mut out: Outbound, config: &Config) -> Arc<Self> {
        out.set_auto_pong(config.auto_pong);
        Arc::new(Self { is_killed: AtomicBool::new(false), writer: Mutex::new(Writer::new(io, out, config)) })
    }

    /// Returns this connection as a memory budget sees it.
    pub(crate) fn member(self: &Arc<Self>) -> Weak<dyn Member> {
        Arc::downgrade(&(Arc::clone(self) as Arc<dyn Member>))
    }

    #[inline]
    pub(crate) fn lock(&self) -> Locked<'_, T> {
        self.locked(sync::lock(&self.writer))
    }

    /// Runs `work` under the lock. Equivalent to [`lock`](Self::lock), for the calls made for each message: here
    /// the compiler inlines locking and unlocking.
    #[inline(always)]
    #[allow(
        clippy::inline_always,
        reason = "a call for each of four locks was 3 % of the instructions of an echo"
    )]
    pub(crate) fn with<R>(&self, work: impl FnOnce(&mut Writer<T>) -> R) -> R {
        let mut writer = sync::lock(&self.writer);
        held::add(self.address());
        let listed = Listed(self.address());
        let result = work(&mut writer);
        drop(listed);
        if writer.due.is_some() {
            Self::act(writer);
        }
        result
    }

    #[cold]
    fn act(mut writer: MutexGuard<'_, Writer<T>>) {
        let due = Act(writer.due.take());
        drop(writer);
        drop(due);
    }

    /// Locks if the lock becomes free within [`ATTEMPTS`] attempts. It does not if this thread holds it, which is
    /// possible because a connection can be the transport of another.
    fn try_lock(&self) -> Option<Locked<'_, T>> {
        for _ in 0..ATTEMPTS {
            if let Some(writer) = sync::try_lock(&self.writer) {
                return Some(self.locked(writer));
            }
            sync::yield_now();
        }
        None
    }

    #[inline]
    fn locked<'a>(&self, writer: MutexGuard<'a, Writer<T>>) -> Locked<'a, T> {
        let address = self.address();
        held::add(address);
        Locked { writer, address, due: Act(None) }
    }

    /// Returns whether this thread holds the lock. Known only with debug assertions; `false` without them.
    #[inline]
    pub(crate) fn is_locked_here(&self) -> bool {
        held::has(self.address())
    }

    /// Gathers the messages that this thread sends on the connection until the guard is dropped.
    #[inline]
    pub(crate) fn cork(&self) -> Cork {
        Cork::new(self.address())
    }

    /// Returns whether this thread is polling the handler of this connection. If so, what it sends may wait in the
    /// queue for the end of the handler's turn.
    #[inline]
    pub(crate) fn is_corked(&self) -> bool {
        Cork::is_on(self.address())
    }

    #[inline]
    fn address(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    /// Queues a short message if that is all it takes to send it: the connection is corked, there is room, and
    /// nothing is in the way.
    #[inline]
    pub(crate) fn try_gather(&self, message: &Message) -> bool {
        self.is_corked() && self.with(|writer| writer.try_gather(message))
    }

    /// Queues a message as soon as there is room, then waits as far as `until` requires.
    #[inline]
    pub(crate) fn poll_send(
        &self,
        sending: &mut Sending,
        until: Until,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Error>> {
        let mut writer = self.lock();
        if sending.item.is_some() {
            ready!(writer.poll_queue(sending, cx.waker()))?;
            if until == Until::Queued || (until == Until::Sent && self.is_corked()) {
                return Poll::Ready(Ok(()));
            }
        }
        writer.poll_written(sending, cx.waker())
    }

    /// Ends the wait of a call that has waited under this ticket.
    pub(crate) fn forget(&self, ticket: Ticket) {
        self.lock().forget(ticket);
    }

    /// Sends a keepalive ping, even if the queue is full.
    pub(crate) fn keepalive_ping(&self) {
        let mut writer = self.lock();
        // It can fail only if the connection is closing anyway.
        if writer.check().is_ok() && writer.out.ping(&[]).is_ok() {
            self.start_writing(&mut writer);
        }
    }

    /// Queues the close frame and wakes the receiving task, which starts the time limit of the closing handshake.
    pub(crate) fn close(&self, frame: Option<CloseFrame>) -> Result<(), Error> {
        let mut writer = self.lock();
        writer.check()?;
        writer.close(frame)?;
        self.start_writing(&mut writer);
        writer.wake_owner();
        Ok(())
    }

    /// Sends a ping and registers the wait for its pong. An empty payload is replaced by a unique one.
    pub(crate) fn ping(&self, payload: Bytes) -> Result<Pong, Error> {
        let mut writer = self.lock();
        writer.check()?;
        if writer.peer != Peer::Speaks {
            return Err(Error::Closed);
        }
        let payload = if payload.is_empty() { writer.pings().next_payload() } else { payload };
        writer.queue_control(payload.len(), |out| out.ping(&payload))?;
        let (pong, displaced) = writer.pings().sent(payload);
        if displaced.is_some() {
            // Dropping it wakes a task.
            writer.due().displaced = displaced;
        }
        self.start_writing(&mut writer);
        Ok(pong)
    }

    /// Sends a pong for the application.
    pub(crate) fn pong(&self, payload: &[u8]) -> Result<(), Error> {
        let mut writer = self.lock();
        writer.check()?;
        writer.queue_control(payload.len(), |out| out.pong(payload))?;
        self.start_writing(&mut writer);
        Ok(())
    }

    /// Drops the transport at once.
    pub(crate) fn abort(&self) {
        self.lock().finish();
    }

    /// Drops the transport at once, and marks the connection. The caller wakes the task that drives the handler.
    pub(crate) fn kill(&self) {
        self.is_killed.store(true, Ordering::Release);
        self.abort();
    }

    #[inline]
    pub(crate) fn is_killed(&self) -> bool {
        self.is_killed.load(Ordering::Acquire)
    }

    /// Queues a message if there is room for it now, and writes as much as the transport accepts at once.
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

    /// Queues a message that was framed before, if it fits into `limit` bytes of queue or can be made to fit. Returns
    /// the number of dropped messages.
    pub(crate) fn try_send_prepared(
        &self,
        prepared: &PreparedMessage,
        limit: usize,
        if_full: IfFull,
    ) -> Result<usize, Error> {
        self.queue_prepared(&mut self.lock(), prepared, limit, if_full)
    }

    /// Queues a message that was framed before, as soon as it fits into `limit` bytes of queue.
    pub(crate) fn poll_send_prepared(
        &self,
        prepared: &PreparedMessage,
        limit: usize,
        ticket: &mut Option<Ticket>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Error>> {
        let mut writer = self.lock();
        let mut sent = self.queue_prepared(&mut writer, prepared, limit, IfFull::Refuse);
        if matches!(sent, Err(Error::QueueFull)) {
            let want = Want::Fits(limit.saturating_sub(prepared.server_frame().len()));
            let ticket = writer.ticket(ticket);
            ready!(writer.poll_want(Waiter { ticket, want, waker: cx.waker() }))?;
            sent = self.queue_prepared(&mut writer, prepared, limit, IfFull::Refuse);
        }
        Poll::Ready(sent.map(drop))
    }

    fn queue_prepared(
        &self,
        writer: &mut Writer<T>,
        prepared: &PreparedMessage,
        limit: usize,
        if_full: IfFull,
    ) -> Result<usize, Error> {
        let dropped = writer.queue_prepared(prepared, limit, if_full)?;
        self.start_writing(writer);
        Ok(dropped)
    }

    /// Writes as much as the transport accepts at once; the receiving task, or any task that waits, writes the
    /// rest. If the calling task has used up tokio's cooperative budget, they write all of it.
    pub(crate) fn start_writing(&self, writer: &mut Writer<T>) {
        if self.is_corked() {
            return;
        }
        if writer.owner.is_some() && !coop::has_budget_remaining() {
            // A tokio socket would return pending and wake the receiving task, at a higher cost. A broadcast to
            // more clients than one task may write to in its turn takes this path for most of them. Anything else
            // queued before they run is written in the same call.
            writer.wake_owner();
            if let Heir::Driver(driver) = &writer.heir {
                let driver = driver.clone();
                writer.due().wakers.push(driver);
            }
            return;
        }
        let owner = writer.owner.clone();
        let waiter =
            owner.as_ref().map(|waker| Waiter { ticket: Ticket::OWNER, want: Want::Progress, waker });
        // An error is kept and reported where it can be handled.
        let _ = writer.try_flush(waiter);
    }
}

impl<T: Transport> Shared<T> {
    fn close_shed(&self, writer: &mut Writer<T>) {
        if writer.check().is_ok() {
            writer.is_shed = true;
            writer.fail(CloseCode::TRY_AGAIN_LATER);
            self.start_writing(writer);
            writer.wake_owner();
        }
        writer.abandon_compressor();
    }
}

impl<T: Transport> Member for Shared<T> {
    fn shed(&self) {
        // If another thread holds the lock for long, this connection's task closes the connection at its next
        // check.
        if let Some(mut writer) = self.try_lock() {
            self.close_shed(&mut writer);
        }
    }

    #[cfg(feature = "deflate")]
    fn shed_compressor(&self) {
        // By now it may be between messages. In that case nothing has to be closed.
        if let Some(mut writer) = self.try_lock()
            && !writer.park_compressor()
        {
            self.close_shed(&mut writer);
        }
    }

    #[cfg(feature = "deflate")]
    fn park(&self) -> bool {
        self.try_lock().is_some_and(|mut writer| writer.park_compressor())
    }
}

/// The number of attempts to lock. Models search what happens if the lock is free at the only one, and if it is not.
const ATTEMPTS: usize = if cfg!(longwire_loom) { 1 } else { 64 };
