//! The transport and the sending half of one connection: the state under the lock.
//!
//! Owns the path of queued bytes to the transport: their order, partial writes, and the wake-ups when the transport
//! accepts more.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::Arc;
#[cfg(feature = "deflate")]
use std::sync::Weak;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use longwire_protocol::{CloseCode, Compress, Event, Message, MessageRef, Outbound, SendError};
use tokio::task::coop;

#[cfg(feature = "deflate")]
use crate::MemoryBudget;
use crate::counting::measurements::Measure;
use crate::ending::heir::Heir;
#[cfg(feature = "deflate")]
use crate::receiving::policy::memory::{Kept, Member};
use crate::scratch;
use crate::sending::due::Due;
use crate::sending::ping::Pings;
use crate::sending::request::{Item, Sending};
use crate::sending::wakers::{Ticket, Waiter, Wakers, Want};
use crate::transport::is_interrupted;
use crate::{CompressionStats, Config, Error, Stats, Transport};

/// The transport and the sending half.
///
/// The fields are in the order in which they are needed: to queue a message, to write, to receive, rarely. With many
/// connections, a broadcast spends most of its time waiting for memory, so fields that are used at the same time are
/// next to each other.
#[repr(C)]
pub(crate) struct Writer<T: Transport> {
    /// The first error of the transport; nothing is written after it.
    pub(super) failed: Option<Arc<io::Error>>,
    /// Work deferred until the lock is free.
    pub(crate) due: Option<Box<Due<T>>>,
    /// Set once senders can no longer use the connection.
    pub(super) finished: bool,
    pub(super) peer: Peer,
    /// Set if the connection was closed to free memory.
    pub(crate) is_shed: bool,
    /// The number of the publisher's list that this connection was last added to: see [`crate::sending::fan_out`].
    pub(super) publisher: u32,
    /// The stream position up to which the transport was flushed.
    pub(super) flushed: u64,
    pub(crate) messages: u64,
    measure: Measure,
    pub(crate) out: Outbound,
    /// The waiting tasks, created when a task first has to wait.
    pub(super) wakers: Option<Arc<Wakers>>,
    /// The number of bytes that the transport has accepted since the connection began.
    written: u64,
    /// The smallest position whose flush a task waits for. Once it is written, the transport is flushed before more
    /// is written, so a queue that never runs empty delays no task.
    pub(super) barrier: u64,
    /// `None` once the connection is gone, even if senders are left.
    pub(crate) io: Option<T>,
    /// The waker of the receiving task, which also writes what others left in the queue.
    pub(crate) owner: Option<Waker>,
    /// The task that takes over the receiving half of a dropped socket.
    pub(crate) heir: Heir,
    pub(super) send_queue: usize,
    /// Counts of received data, for code without access to the receiving half. The messages are those before the
    /// last read.
    pub(crate) bytes_received: u64,
    pub(crate) messages_received: u64,
    pub(crate) messages_refused: u64,
    /// The number of the last ticket, including the reserved ones.
    pub(super) tickets: u64,
    /// The control frames that the application has queued, once it queues one.
    controls: Option<Box<Controls>>,
    /// Pings whose pong is awaited, created with the first.
    pub(crate) pings: Option<Box<Pings>>,
    /// The compressor as the budget counts it, if there is a budget.
    #[cfg(feature = "deflate")]
    keeping: Option<Box<Keeping>>,
}

/// The compressor of a connection, as its budget counts it.
#[cfg(feature = "deflate")]
struct Keeping {
    budget: MemoryBudget,
    /// This connection.
    member: Weak<dyn Member>,
    kept: Option<Kept>,
}

/// Control frames of the application in the queue.
#[derive(Default)]
struct Controls {
    /// The position at which the first of them ends.
    end: u64,
    /// The bytes of that one and of those queued after it.
    bytes: usize,
}

/// The state of the transport before [`Writer::try_flush_waited`].
#[derive(Clone, Copy)]
enum Tried {
    NotYet,
    /// It has just returned pending.
    Pending,
}

/// The outcome of [`Writer::poll_write_some`].
enum Written {
    /// There may be more to write or to flush.
    Some,
    /// Everything is written and flushed.
    All,
}

/// Nothing more can be written: [`Writer::check_transport`] returns the reason.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failed;

/// The peer's sending direction.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Peer {
    Speaks,
    /// Nothing more arrives.
    Ended,
    /// Nothing more arrives, and the peer waits for the end of this direction, which is due once everything is
    /// written.
    AwaitsEnd,
}

impl<T: Transport> Writer<T> {
    pub(crate) fn new(io: T, out: Outbound, config: &Config) -> Self {
        Self {
            io: Some(io),
            out,
            flushed: 0,
            barrier: u64::MAX,
            written: 0,
            messages: 0,
            bytes_received: 0,
            messages_received: 0,
            messages_refused: 0,
            measure: Measure(config.measurements.clone()),
            send_queue: config.send_queue,
            failed: None,
            finished: false,
            wakers: None,
            tickets: Ticket::FIRST,
            owner: None,
            peer: Peer::Speaks,
            publisher: 0,
            controls: None,
            pings: None,
            heir: Heir::Nobody,
            due: None,
            is_shed: false,
            #[cfg(feature = "deflate")]
            keeping: None,
        }
    }

    /// Returns an error if nothing can be sent any more.
    #[inline]
    pub(crate) fn check(&self) -> Result<(), Error> {
        match &self.failed {
            Some(error) => Err(Error::Io(Arc::clone(error))),
            None if self.finished || self.out.is_closing() => Err(Error::Closed),
            None => Ok(()),
        }
    }

    /// Returns an error if the transport can no longer be written to, not even with bytes already queued.
    #[inline]
    pub(super) fn check_transport(&self) -> Result<(), Error> {
        match &self.failed {
            Some(error) => Err(Error::Io(Arc::clone(error))),
            None if self.finished => Err(Error::Closed),
            None => Ok(()),
        }
    }

    /// Ends the wait for pongs, because nothing more arrives from the peer.
    pub(crate) fn end_pings(&mut self) {
        if self.peer == Peer::Speaks {
            self.peer = Peer::Ended;
        }
        if let Some(pings) = self.pings.take() {
            self.due().pings = Some(pings);
        }
    }

    /// Returns whether nothing more is sent: the close frame was queued, or the transport has failed. The peer is read
    /// for a limited time from then on.
    #[inline]
    pub(crate) fn is_ending(&self) -> bool {
        self.out.is_closing() || self.failed.is_some()
    }

    /// Returns the error that ended writing, if one did.
    pub(crate) fn failure(&self) -> Option<Error> {
        self.failed.as_ref().map(|error| Error::Io(Arc::clone(error)))
    }

    /// Closes the connection for every sender, and drops the transport and the queue.
    pub(crate) fn finish(&mut self) {
        self.finished = true;
        if let Some(io) = self.io.take() {
            self.due().io = Some(io);
        }
        self.end_pings();
        // A sender may outlive the connection by far, and must not keep a task's memory.
        if let Some(owner) = self.owner.take() {
            self.due().wakers.push(owner);
        }
        self.drop_queue();
        self.abandon_compressor();
        self.wake_met();
    }

    pub(crate) fn stats(&self) -> Stats {
        Stats {
            bytes_received: self.bytes_received,
            messages_received: self.messages_received,
            messages_refused: self.messages_refused,
            bytes_sent: self.written,
            messages_sent: self.messages,
            bytes_queued: self.out.pending(),
            // Known only to the receiving half.
            received_compressed: CompressionStats::default(),
            sent_compressed: self.out.compression_stats(),
        }
    }

    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// Returns whether the transport has bytes left to accept or to flush.
    #[inline]
    pub(crate) fn has_unwritten(&self) -> bool {
        self.flushed < self.out.queue().end() && self.failed.is_none() && !self.finished
    }

    /// Remembers the waker of the receiving task.
    #[inline]
    pub(crate) fn set_owner(&mut self, waker: &Waker) {
        if !self.owner.as_ref().is_some_and(|owner| owner.will_wake(waker)) && !self.finished {
            self.owner = Some(waker.clone());
        }
    }

    /// Queues the response that an event of the peer requires.
    pub(crate) fn respond(&mut self, event: &Event) {
        self.lend_buffer();
        self.out.respond(event);
    }

    /// Queues the close frame for a violation by the peer.
    pub(crate) fn fail(&mut self, code: CloseCode) {
        self.lend_buffer();
        self.out.fail_with(code);
        #[cfg(feature = "deflate")]
        self.abandon_compressor();
        self.wake_met();
    }

    /// Queues a close frame and wakes the tasks that wait for room, because they will never get any.
    pub(crate) fn close(&mut self, frame: Option<longwire_protocol::CloseFrame>) -> Result<(), Error> {
        self.lend_buffer();
        self.out.close(frame)?;
        #[cfg(feature = "deflate")]
        // It may be in the middle of a message that will not be finished.
        self.abandon_compressor();
        self.wake_met();
        Ok(())
    }

    /// Records a pong.
    pub(crate) fn resolve_pings(&mut self, payload: &Bytes) {
        if let Some(pings) = &mut self.pings {
            let answered = pings.resolve(payload);
            if !answered.is_empty() {
                self.due().answered.extend(answered);
            }
        }
    }

    /// Queues a control frame of the application with a payload of `len` bytes. A full queue does not prevent this,
    /// but too many such frames that wait to be written do.
    pub(super) fn queue_control(
        &mut self,
        len: usize,
        queue: impl FnOnce(&mut Outbound) -> Result<(), SendError>,
    ) -> Result<(), Error> {
        let controls = self.controls.get_or_insert_default();
        if self.out.queue().position() >= controls.end {
            // The first of the counted frames is written. The others may not be, so up to twice the limit may wait.
            controls.bytes = 0;
        }
        if controls.bytes + len > CONTROL_ROOM {
            return Err(Error::QueueFull);
        }
        queue(&mut self.out)?;
        if controls.bytes == 0 {
            controls.end = self.out.queue().end();
        }
        controls.bytes += len + MAX_CONTROL_HEADER;
        Ok(())
    }

    #[inline]
    pub(crate) fn has_room(&self) -> bool {
        self.out.cost() < self.send_queue.max(1)
    }

    /// Returns whether a message can be queued without exceeding the room.
    #[inline]
    pub(crate) fn can_queue(&self) -> bool {
        self.has_room() && !self.out.is_message_open()
    }

    /// Returns whether the queue has room for a part of a message, or for an answer. Broadcasts that wait for the end
    /// of a message in parts are not ahead of it.
    #[inline]
    pub(crate) fn has_part_room(&self) -> bool {
        self.out.queue_cost() < self.send_queue.max(1)
    }

    /// Returns the number of bytes that may be queued before a send waits.
    #[inline]
    pub(crate) fn room(&self) -> usize {
        self.send_queue.saturating_sub(self.out.cost())
    }

    /// Returns whether more than half of [`Config::send_queue`] is queued.
    #[inline]
    pub(crate) fn is_half_full(&self) -> bool {
        self.out.cost() > self.send_queue / 2
    }

    #[inline]
    pub(crate) fn lend_buffer(&mut self) {
        self.out.queue_mut().lend(scratch::take_write_buffer);
    }

    pub(crate) fn drop_oldest(&mut self) -> bool {
        let dropped = self.out.drop_oldest().is_some();
        if dropped && self.is_waited_for() {
            self.wake_met();
        }
        dropped
    }

    #[inline]
    pub(crate) fn try_gather(&mut self, message: &Message) -> bool {
        if self.failed.is_some() || self.finished || !self.has_room() {
            return false;
        }
        self.lend_buffer();
        let gathered = self.out.gather_message(message);
        if gathered {
            self.count_sent(message.len());
        }
        gathered
    }

    /// Registers the receiving task to be woken, and writes what was queued before that task was known.
    pub(crate) fn before_waiting(&mut self, cx: &mut Context<'_>) {
        self.set_owner(cx.waker());
        if self.has_unwritten() {
            self.write_on(cx);
        }
    }

    /// Writes the queue, in the task that receives. An error is kept for the next call.
    #[inline]
    pub(crate) fn write_on(&mut self, cx: &mut Context<'_>) {
        let waiter = Waiter { ticket: Ticket::OWNER, want: Want::Progress, waker: cx.waker() };
        let _ = self.try_flush(Some(waiter));
    }

    /// Waits until everything queued is flushed, in the task that receives.
    pub(crate) fn poll_flush_all(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let want = Want::Flushed(self.out.queue().end());
        self.poll_want(Waiter { ticket: Ticket::ENDING, want, waker: cx.waker() })
    }

    /// Ends a turn of the handler, in the task that drives it: writes what the turn queued. Returns whether the
    /// socket was dropped.
    #[inline(always)]
    #[allow(clippy::inline_always, reason = "as for `Shared::with`")]
    pub(crate) fn end_turn(&mut self, cx: &mut Context<'_>) -> bool {
        self.heir.set_driver(cx.waker());
        if self.owner.is_none() {
            // Until a task receives, this task completes the writes of others.
            self.set_owner(cx.waker());
        }
        if self.has_unwritten() {
            self.write_turn(cx);
        }
        if self.peer == Peer::AwaitsEnd {
            self.shut(cx);
        }
        matches!(self.heir, Heir::Left(_))
    }

    /// Writes what a turn of the handler has queued. The amount is bounded, and the handler may have used up the
    /// cooperative budget of its tokio task. Under that budget, the transport would return pending now and at the
    /// end of every such turn.
    fn write_turn(&mut self, cx: &mut Context<'_>) {
        let flush = coop::unconstrained(poll_fn(|cx| {
            let waiter = Waiter { ticket: Ticket::DRIVER, want: Want::Progress, waker: cx.waker() };
            self.try_flush(Some(waiter))
        }));
        // An error is kept and reported to the handler's next call.
        let _ = pin!(flush).poll(cx);
    }

    /// Ends the sending direction of a server's connection after both close frames: now, or at the end of the
    /// handler's turn, which writes the last of them. The application may keep the socket, but the peer must not
    /// wait for that.
    ///
    /// "The server MUST close the underlying TCP connection immediately" (RFC 6455 §5.5.1)
    #[cold]
    pub(crate) fn shut(&mut self, cx: &mut Context<'_>) {
        if self.has_unwritten() {
            self.peer = Peer::AwaitsEnd;
            return;
        }
        self.peer = Peer::Ended;
        if let Some(io) = &mut self.io {
            // If this does not succeed at once, it is repeated when the socket is dropped.
            let _ = Pin::new(io).poll_shutdown(cx);
        }
    }

    /// Queues a message, even if the queue is full.
    #[inline]
    pub(crate) fn queue_message(&mut self, message: Message, compress: Compress) -> Result<(), Error> {
        self.check()?;
        self.lend_buffer();
        let kept_before = self.out.keeps_compressor();
        let len = message.len();
        self.out.message_with(message, compress)?;
        self.watch_compressor(kept_before);
        self.count_sent(len);
        Ok(())
    }

    /// Queues an answer whose payload is only borrowed, even if the queue is full.
    #[inline]
    pub(crate) fn queue_answer(&mut self, answer: MessageRef<'_>) -> Result<(), Error> {
        self.lend_buffer();
        let kept_before = self.out.keeps_compressor();
        self.out.message_ref(answer)?;
        self.watch_compressor(kept_before);
        self.count_sent(answer.len());
        Ok(())
    }

    /// Counts a message that was queued whole.
    #[inline]
    pub(crate) fn count_sent(&mut self, len: usize) {
        self.messages += 1;
        self.measure.sent(len);
    }

    #[inline]
    pub(crate) fn poll_queue(&mut self, sending: &mut Sending, waker: &Waker) -> Poll<Result<(), Error>> {
        let want = match sending.item {
            Some(Item::Mark) | None => Want::Flushed(0),
            Some(Item::Part { .. }) => Want::PartRoom,
            Some(Item::Message(_) | Item::Begin(_)) => Want::Room,
        };
        if want == Want::Flushed(0) {
            self.check_transport()?;
        } else {
            self.check()?;
            if !self.is_met(want) {
                let ticket = self.ticket(&mut sending.ticket);
                ready!(self.poll_want(Waiter { ticket, want, waker }))?;
                self.check()?;
            }
        }
        match sending.item.take() {
            Some(Item::Message(message)) => self.queue_message(message, sending.compress)?,
            Some(Item::Begin(kind)) => self.out.begin_with(kind, sending.compress)?,
            Some(Item::Part { data, last }) => {
                self.lend_buffer();
                let kept_before = self.out.keeps_compressor();
                if last {
                    self.out.last_part(data)?;
                } else {
                    self.out.part(data)?;
                }
                self.watch_compressor(kept_before);
                if last {
                    self.messages += 1;
                    self.wake_met();
                    if self.out.keeps_compressor() {
                        // It could not be given back within the message.
                        self.wake_owner();
                    }
                }
            }
            Some(Item::Mark) | None => {}
        }
        sending.position = self.out.queue().end();
        Poll::Ready(Ok(()))
    }

    /// Waits until the queue is flushed up to this position.
    pub(crate) fn poll_written(&mut self, sending: &mut Sending, waker: &Waker) -> Poll<Result<(), Error>> {
        // Bytes flushed before a failure count as flushed.
        if self.flushed >= sending.position {
            return Poll::Ready(Ok(()));
        }
        self.barrier = self.barrier.min(sending.position);
        let ticket = self.ticket(&mut sending.ticket);
        let polled = self.poll_flush(Some(Waiter { ticket, want: Want::Flushed(sending.position), waker }));
        if self.flushed >= sending.position {
            self.forget(ticket);
            return Poll::Ready(Ok(()));
        }
        polled
    }

    /// Writes as much as the transport accepts. Ready when all of it is flushed; otherwise the transport wakes
    /// `waiter` and the receiving task when it accepts more.
    pub(crate) fn poll_flush(&mut self, waiter: Option<Waiter<'_>>) -> Poll<Result<(), Error>> {
        self.try_flush(waiter).map(|flushed| flushed.or_else(|Failed| self.check_transport()))
    }

    /// Writes as [`poll_flush`](Self::poll_flush) does, for callers that leave the error to the next call.
    pub(crate) fn try_flush(&mut self, waiter: Option<Waiter<'_>>) -> Poll<Result<(), Failed>> {
        if self.failed.is_some() || self.finished {
            return Poll::Ready(Err(Failed));
        }
        if self.is_waited_for() {
            return self.try_flush_waited(waiter, Tried::NotYet);
        }
        // A no-op waker is cheap, but it displaces the one that the transport holds, so it is used only while no
        // task waits.
        match self.poll_write_all(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(())) => Poll::Ready(Ok(())),
            Poll::Ready(Err(error)) => Poll::Ready(Err(self.break_off(error))),
            Poll::Pending => {
                if waiter.is_some() {
                    return self.try_flush_waited(waiter, Tried::Pending);
                }
                self.settle();
                Poll::Pending
            }
        }
    }

    /// Writes with a waker that wakes `waiter` and all tasks that already wait.
    #[cold]
    fn try_flush_waited(&mut self, waiter: Option<Waiter<'_>>, tried: Tried) -> Poll<Result<(), Failed>> {
        let wakers = Arc::clone(self.wakers());
        let waker = Waker::from(Arc::clone(&wakers));
        let mut cx = Context::from_waker(&waker);
        let before = (self.written, self.flushed);
        let mut polled = match tried {
            Tried::NotYet => self.poll_write_all(&mut cx),
            Tried::Pending => Poll::Pending,
        };
        if polled.is_pending() && waiter.is_some() {
            self.register(&wakers, waiter);
            if let Some(Waiter { want: Want::Flushed(position), .. }) = waiter
                && self.flushed < position
            {
                // A flush up to an earlier position may have cleared the barrier.
                self.barrier = self.barrier.min(position);
            }
            // Registered before polling again, because the transport may have become ready in between.
            polled = self.poll_write_all(&mut cx);
        }
        if let Poll::Ready(Err(error)) = polled {
            return Poll::Ready(Err(self.break_off(error)));
        }
        if polled.is_ready() || (self.written, self.flushed) != before {
            self.wake_met();
        }
        if polled.is_pending() {
            self.settle();
        }
        polled.map(|_| Ok(()))
    }

    /// Registers `waiter` and the receiving task to be woken by the transport.
    fn register(&self, wakers: &Wakers, waiter: Option<Waiter<'_>>) {
        if let Some(waiter) = waiter {
            wakers.register(waiter);
        }
        if let Some(owner) = &self.owner
            && waiter.is_none_or(|waiter| waiter.ticket != Ticket::OWNER)
        {
            wakers.register(Waiter { ticket: Ticket::OWNER, want: Want::Progress, waker: owner });
        }
    }

    /// Ends writing after an error of the transport, which is kept.
    #[cold]
    fn break_off(&mut self, error: io::Error) -> Failed {
        self.failed = Some(Arc::new(error));
        self.drop_queue();
        self.wake_met();
        // It may wait for a peer that has nothing more to say.
        self.wake_owner();
        Failed
    }

    /// Gives back a buffer that is much larger than the bytes left in it.
    #[cold]
    fn settle(&mut self) {
        if let Some(buf) = self.out.queue_mut().settle() {
            scratch::give_write_buffer(buf);
        }
    }

    /// Writes and flushes until nothing is left or the transport accepts no more.
    fn poll_write_all(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            match ready!(self.poll_write_some(cx)) {
                Ok(Written::Some) => {}
                Ok(Written::All) => return Poll::Ready(Ok(())),
                Err(error) if is_interrupted(&error) => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Writes some of what is queued, and flushes if that was all of it, or all that a task waits for.
    #[inline]
    fn poll_write_some(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Written>> {
        let queue = self.out.queue();
        if queue.is_empty() {
            debug_assert_eq!(queue.position(), queue.end(), "nothing is left");
            if self.flushed == queue.end() {
                return Poll::Ready(Ok(Written::All));
            }
        } else if self.barrier == u64::MAX || !self.is_barrier_written() {
            ready!(self.poll_write_io(cx))?;
            if !self.out.queue().is_empty() {
                return Poll::Ready(Ok(Written::Some));
            }
        }
        ready!(self.poll_flush_io(cx))?;
        Poll::Ready(Ok(if self.out.queue().is_empty() { Written::All } else { Written::Some }))
    }

    /// Returns whether bytes whose flush a task waits for are written but not flushed.
    #[cold]
    fn is_barrier_written(&self) -> bool {
        let position = self.out.queue().position();
        self.flushed < position && self.barrier <= position
    }

    #[inline]
    fn poll_flush_io(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(io) = &mut self.io else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        ready!(Pin::new(io).poll_flush(cx))?;
        self.flushed = self.out.queue().position();
        if self.flushed >= self.barrier {
            self.barrier = u64::MAX;
        }
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn poll_write_io(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(io) = &mut self.io else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        let Some(bytes) = self.out.queue().contiguous() else {
            return self.poll_write_pieces(cx);
        };
        let n = ready!(Pin::new(io).poll_write(cx, bytes))?;
        if n == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.out.written(n);
        self.count_written(n);
        Poll::Ready(Ok(()))
    }

    /// Writes a queue of several pieces.
    #[inline(never)]
    fn poll_write_pieces(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(io) = &mut self.io else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        let mut slices = [IoSlice::new(&[]); MAX_SLICES];
        let filled = self.out.queue().chunks(&mut slices);
        let n = ready!(Pin::new(io).poll_write_vectored(cx, &slices[..filled]))?;
        if n == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        scratch::with_spare(|spare| self.out.written_sparing(n, spare));
        self.count_written(n);
        Poll::Ready(Ok(()))
    }

    /// Counts `n` bytes that were written, and gives back the buffer of a queue that is empty now.
    #[inline]
    fn count_written(&mut self, n: usize) {
        self.written += n as u64;
        if let Some(buf) = self.out.queue_mut().reclaim() {
            scratch::give_write_buffer(buf);
        }
    }

    fn drop_queue(&mut self) {
        let queue = self.out.queue_mut();
        queue.advance(queue.len());
        if let Some(buf) = self.out.queue_mut().reclaim() {
            scratch::give_write_buffer(buf);
        }
    }

    #[cold]
    pub(crate) fn due(&mut self) -> &mut Due<T> {
        self.due.get_or_insert_default()
    }

    /// Acts on a compressor that is kept from now on, or no longer.
    #[inline]
    pub(crate) fn watch_compressor(&mut self, kept_before: bool) {
        if kept_before != self.out.keeps_compressor() {
            self.note_compressor(!kept_before);
        }
    }

    #[cold]
    fn note_compressor(&mut self, is_kept: bool) {
        if is_kept {
            // The receiving task gives it back when the connection is idle.
            self.wake_owner();
        }
        #[cfg(feature = "deflate")]
        if let Some(keeping) = &mut self.keeping {
            keeping.kept = is_kept.then(|| keeping.budget.keep(Weak::clone(&keeping.member)));
            if is_kept && keeping.budget.is_exceeded() {
                let budget = keeping.budget.clone();
                self.due().exceeded = Some(budget);
            }
        }
    }

    /// Counts this connection's compressor in a budget. `member` is this connection.
    #[cfg(feature = "deflate")]
    pub(crate) fn count_compressor(&mut self, budget: MemoryBudget, member: Weak<dyn Member>) {
        self.keeping = Some(Box::new(Keeping { budget, member, kept: None }));
    }

    /// Gives the compressor back unless it is in the middle of a message. Returns whether none is kept now.
    #[cfg(feature = "deflate")]
    pub(crate) fn park_compressor(&mut self) -> bool {
        let kept_before = self.out.keeps_compressor();
        self.out.park();
        self.watch_compressor(kept_before);
        !self.out.keeps_compressor()
    }

    /// Gives the compressor back even in the middle of a message, because nothing follows.
    pub(crate) fn abandon_compressor(&mut self) {
        let kept_before = self.out.keeps_compressor();
        self.out.abandon();
        self.watch_compressor(kept_before);
    }

    #[cold]
    pub(crate) fn pings(&mut self) -> &mut Pings {
        self.pings.get_or_insert_default()
    }

    #[cold]
    pub(super) fn wakers(&mut self) -> &Arc<Wakers> {
        self.wakers.get_or_insert_default()
    }
}

/// The maximum number of bytes of the application's control frames queued before the first of them is written.
const CONTROL_ROOM: usize = 8 * 1024;

/// The length of the header of a masked control frame (RFC 6455 §5.2).
const MAX_CONTROL_HEADER: usize = 6;

/// The maximum number of slices passed to one vectored write.
const MAX_SLICES: usize = 32;
