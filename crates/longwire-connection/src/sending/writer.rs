//! The transport and the sending half of one connection, as they are behind the lock.
//!
//! Owns how queued bytes reach the transport: in order, as many as it takes, and who is woken when it takes more.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use longwire_protocol::{CloseCode, Compress, Event, Message, Opcode, Outbound};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::counting::measurements::Measure;
use crate::receiving::reader::Reader;
use crate::scratch;
use crate::sending::ping::Pings;
use crate::sending::wakers::Wakers;
use crate::{CompressionStats, Config, Error, Stats};

/// The transport and the sending half.
pub(crate) struct Writer<T> {
    /// Gone with the connection, however many senders are left.
    pub(crate) io: Option<T>,
    pub(crate) out: Outbound,
    /// Whether bytes were written to the transport that it may still hold.
    unflushed: bool,
    /// The bytes that have left the queue since the connection began.
    written: u64,
    pub(crate) messages: u64,
    /// What came in, for those who cannot see the receiving half; of messages, those before the last read.
    pub(crate) bytes_received: u64,
    pub(crate) messages_received: u64,
    pub(crate) messages_refused: u64,
    measure: Measure,
    send_queue: usize,
    /// The first error of the transport; nothing is written after it.
    failed: Option<Arc<io::Error>>,
    /// Whether the connection is gone for senders.
    finished: bool,
    /// Who waits; made when somebody has to wait for the first time.
    wakers: Option<Arc<Wakers>>,
    /// Whether tasks wait in `wakers` for more than the transport: for room, or for a message in parts to end.
    waiting: bool,
    /// The task that receives: it writes what others left in the queue.
    pub(crate) owner: Option<Waker>,
    /// Pings whose pong is awaited; made with the first.
    pub(crate) pings: Option<Box<Pings>>,
    /// The receiving half, left here by a dropped socket for the [`Driven`](crate::Driven) task to finish.
    pub(crate) parked: Option<Box<Reader<T>>>,
}

/// One message on its way into the queue, and from there to the transport.
pub(crate) struct Sending {
    /// What is not yet queued.
    pub(crate) item: Option<Item>,
    pub(crate) compress: Compress,
    /// The place in the stream of bytes that has to be written.
    pub(crate) until: u64,
}

/// What can be queued.
pub(crate) enum Item {
    Message(Message),
    Part(Bytes, bool),
    Begin(Opcode),
}

impl Sending {
    pub(crate) fn new(item: Item) -> Self {
        Self { item: Some(item), compress: Compress::Auto, until: 0 }
    }

    pub(crate) fn compress(mut self, compress: Compress) -> Self {
        self.compress = compress;
        self
    }
}

/// How far a sender wants to be taken.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    /// The message is in the queue.
    Queued,
    /// The message reaches the transport without any further call.
    Sent,
    /// The transport has taken the message, whoever polls meanwhile.
    Written,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Writer<T> {
    pub(crate) fn new(io: T, out: Outbound, config: &Config) -> Self {
        Self {
            io: Some(io),
            out,
            unflushed: false,
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
            waiting: false,
            owner: None,
            pings: None,
            parked: None,
        }
    }

    /// Whether anything can still be sent.
    #[inline]
    pub(crate) fn check(&self) -> Result<(), Error> {
        match &self.failed {
            Some(error) => Err(Error::Io(Arc::clone(error))),
            None if self.finished || self.out.is_closing() => Err(Error::Closed),
            None => Ok(()),
        }
    }

    /// The error that ended writing, if one did.
    pub(crate) fn failure(&self) -> Option<Error> {
        self.failed.as_ref().map(|error| Error::Io(Arc::clone(error)))
    }

    /// Makes every sender see a closed connection, and drops the transport and what is queued.
    pub(crate) fn finish(&mut self) {
        self.finished = true;
        self.io = None;
        self.drop_queue();
        self.pings = None;
        self.wake_waiting();
    }

    pub(crate) fn stats(&self) -> Stats {
        Stats {
            bytes_received: self.bytes_received,
            messages_received: self.messages_received,
            messages_refused: self.messages_refused,
            bytes_sent: self.written,
            messages_sent: self.messages,
            bytes_queued: self.out.pending(),
            // The receiving half knows.
            received_compressed: CompressionStats::default(),
            sent_compressed: self.out.compression_stats(),
        }
    }

    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// Whether the transport has something to take yet, or to pass on.
    #[inline]
    pub(crate) fn has_unwritten(&self) -> bool {
        self.unflushed || !self.out.queue().is_empty()
    }

    /// Remembers the task that receives.
    #[inline]
    pub(crate) fn set_owner(&mut self, waker: &Waker) {
        if !self.owner.as_ref().is_some_and(|owner| owner.will_wake(waker)) {
            self.owner = Some(waker.clone());
        }
    }

    /// Queues what an event of the peer obliges to.
    pub(crate) fn respond(&mut self, event: &Event) {
        self.lend_buffer();
        self.out.respond(event);
    }

    /// Queues the close frame for a violation of the peer.
    pub(crate) fn fail(&mut self, code: CloseCode) {
        self.lend_buffer();
        self.out.fail_with(code);
        self.wake_waiting();
    }

    #[inline]
    pub(crate) fn has_room(&self) -> bool {
        self.out.cost() < self.send_queue.max(1)
    }

    #[inline]
    pub(crate) fn lend_buffer(&mut self) {
        self.out.queue_mut().lend(scratch::take_write_buffer);
    }

    pub(crate) fn drop_oldest(&mut self) -> bool {
        let dropped = self.out.queue_mut().drop_oldest();
        // Who waits for bytes behind these counts them as gone.
        self.written += dropped.unwrap_or(0) as u64;
        dropped.is_some()
    }

    /// Waits until a message can be queued.
    pub(crate) fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.check()?;
        self.poll_unblocked(false, cx)
    }

    /// Whether a message, or a part of one, has to wait.
    #[inline]
    fn is_blocked(&self, is_part: bool) -> bool {
        !self.has_room() || (self.out.is_message_open() && !is_part)
    }

    /// Waits until there is room and, but for a part of it, no message in parts is open.
    #[inline]
    fn poll_unblocked(&mut self, is_part: bool, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if self.is_blocked(is_part) {
            if let Poll::Ready(Err(error)) = self.poll_flush(cx) {
                return Poll::Ready(Err(error));
            }
            if self.is_blocked(is_part) {
                self.wait(cx);
                return Poll::Pending;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Has the task woken when something was written, or nothing can be sent any more.
    pub(crate) fn wait(&mut self, cx: &mut Context<'_>) {
        self.waiting = true;
        self.wakers().register(cx.waker());
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

    /// What the receiving task does before it waits: what is queued is written, and others know whom to wake.
    #[inline]
    pub(crate) fn before_waiting(&mut self, cx: &mut Context<'_>) {
        self.set_owner(cx.waker());
        if self.has_unwritten() {
            // Under a cork this is most probably the end of the handler's turn. An error is kept for the next call.
            let _ = self.poll_flush(cx);
        }
    }

    /// The end of a turn of the handler, in the task that drives it: what was queued meanwhile is written.
    #[inline]
    pub(crate) fn end_turn(&mut self, cx: &mut Context<'_>) {
        if self.owner.is_none() {
            // Where nobody receives yet, this task does the rest of others' writes.
            self.owner = Some(cx.waker().clone());
        }
        if self.has_unwritten() {
            // An error is kept and reported to the handler's next call.
            let _ = self.poll_flush(cx);
        }
    }

    /// Queues a message, whether there is room or not.
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

    /// Counts a message that was queued whole.
    #[inline]
    pub(crate) fn count_sent(&mut self, len: usize) {
        self.messages += 1;
        self.measure.sent(len);
    }

    #[inline]
    pub(crate) fn poll_queue(
        &mut self,
        sending: &mut Sending,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Error>> {
        self.check()?;
        let is_part = matches!(sending.item, Some(Item::Part(..)));
        ready!(self.poll_unblocked(is_part, cx))?;
        match sending.item.take() {
            Some(Item::Message(message)) => self.queue_message(message, sending.compress)?,
            Some(Item::Begin(opcode)) => self.out.begin_with(opcode, sending.compress)?,
            Some(Item::Part(data, last)) => {
                self.lend_buffer();
                let kept_before = self.out.keeps_compressor();
                self.out.part(data, last)?;
                self.watch_compressor(kept_before);
                if last {
                    self.messages += 1;
                    self.wake_waiting();
                }
            }
            None => {}
        }
        sending.until = self.written + self.out.queue().len() as u64;
        Poll::Ready(Ok(()))
    }

    pub(crate) fn poll_written(&mut self, until: u64, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if self.written >= until && !self.unflushed {
            return Poll::Ready(Ok(()));
        }
        match self.poll_flush(cx) {
            Poll::Pending if self.written >= until && !self.unflushed => Poll::Ready(Ok(())),
            polled => polled,
        }
    }

    /// Writes all that is queued.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if let Some(error) = self.failure() {
            return Poll::Ready(Err(error));
        }
        if self.finished {
            return Poll::Ready(Err(Error::Closed));
        }
        let before = self.written;
        let polled = self.poll_write_all(cx);
        if self.written != before && self.waiting {
            self.wake_waiting();
        }
        if let Poll::Ready(Err(error)) = polled {
            let error = Arc::new(error);
            self.failed = Some(Arc::clone(&error));
            self.drop_queue();
            self.wake_waiting();
            return Poll::Ready(Err(Error::Io(error)));
        }
        polled.map_err(Error::from)
    }

    fn poll_write_all(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Nobody waits before the transport has said that somebody has to.
        let mut waker = Waker::noop().clone();
        let mut registered = false;
        loop {
            let mut write_cx = Context::from_waker(&waker);
            let polled = if !self.out.queue().is_empty() {
                self.poll_write_some(&mut write_cx)
            } else if self.unflushed {
                self.poll_flush_io(&mut write_cx)
            } else {
                return Poll::Ready(Ok(()));
            };
            match polled {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending if registered => return Poll::Pending,
                Poll::Pending => {
                    // The transport keeps one waker for writing, the last that it was polled with: one for all who wait.
                    let wakers = Arc::clone(self.wakers());
                    wakers.register(cx.waker());
                    if let Some(owner) = &self.owner {
                        wakers.register(owner);
                    }
                    waker = Waker::from(wakers);
                    registered = true;
                }
            }
        }
    }

    fn poll_flush_io(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(io) = &mut self.io else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        Pin::new(io).poll_flush(cx).map_ok(|()| self.unflushed = false)
    }

    fn poll_write_some(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(io) = &mut self.io else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        let io = Pin::new(io);
        let contiguous = self.out.queue().contiguous();
        let in_one_piece = contiguous.is_some();
        let polled = if let Some(bytes) = contiguous {
            io.poll_write(cx, bytes)
        } else {
            let mut slices = [IoSlice::new(&[]); MAX_SLICES];
            let filled = self.out.queue().chunks(&mut slices);
            io.poll_write_vectored(cx, &slices[..filled])
        };
        let n = ready!(polled)?;
        if n == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        if in_one_piece {
            self.out.written(n);
        } else {
            scratch::with_spare(|spare| self.out.written_sparing(n, spare));
        }
        self.written += n as u64;
        self.unflushed = true;
        if let Some(buf) = self.out.queue_mut().reclaim() {
            scratch::give_write_buffer(buf);
        }
        Poll::Ready(Ok(()))
    }

    fn drop_queue(&mut self) {
        let queue = self.out.queue_mut();
        queue.advance(queue.len());
        self.unflushed = false;
        if let Some(buf) = self.out.queue_mut().reclaim() {
            scratch::give_write_buffer(buf);
        }
    }

    pub(crate) fn wake_waiting(&mut self) {
        self.waiting = false;
        if let Some(wakers) = &self.wakers {
            wakers.wake_all();
        }
    }

    /// Lets the receiving task know that a compressor is kept from now on: it looks after when that is given back.
    #[inline]
    fn watch_compressor(&self, kept_before: bool) {
        if !kept_before
            && self.out.keeps_compressor()
            && let Some(owner) = &self.owner
        {
            owner.wake_by_ref();
        }
    }

    #[cold]
    pub(crate) fn pings(&mut self) -> &mut Pings {
        self.pings.get_or_insert_default()
    }

    #[cold]
    fn wakers(&mut self) -> &Arc<Wakers> {
        self.wakers.get_or_insert_default()
    }
}

/// How many pieces one call writes at most.
const MAX_SLICES: usize = 32;
