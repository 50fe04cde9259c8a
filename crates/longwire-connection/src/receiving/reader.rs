//! The state of receiving, and the order of work of one poll.
//!
//! Decode what is here, write what is queued, read more, look at the clock. The rules are the protocol crate's; what is
//! behind the lock is [`crate::sending::shared`]'s; the end is [`crate::ending::leave`]'s.

use std::collections::VecDeque;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::BufMut;
use longwire_protocol::{
    CloseCode, CloseFrame, Due, Event, Inbound, Message, Outbound, ProtocolError, Role, State, Timers,
};
use tokio::io::{AsyncReadExt, ReadBuf};
use tokio::time::{Instant, Sleep};

use crate::counting::measurements::Measure;
use crate::ending::end::Ending;
use crate::receiving::policy::memory::Holding;
#[cfg(feature = "deflate")]
use crate::receiving::policy::parking::Parking;
use crate::receiving::policy::rate::Meter;
use crate::scratch::{self, ReadBuffer};
use crate::sending::shared::Shared;
use crate::{Config, Error, Handover, Stats, Transport};

/// The receiving state of one connection.
pub(crate) struct Reader<T: Transport> {
    pub(crate) shared: Arc<Shared<T>>,
    pub(crate) inbound: Inbound,
    /// What was read and not decoded.
    pub(crate) read: ReadBuffer,
    pub(crate) ending: Ending,
    pub(crate) timers: Timers,
    sleep: Option<Pin<Box<Sleep>>>,
    /// The task that `sleep` wakes.
    sleeper: Option<Waker>,
    pub(crate) close_timeout: Duration,
    /// What may still be done before the task has to yield.
    pub(crate) budget: usize,
    pub(crate) is_server: bool,
    /// Whether the transport has ended.
    pub(crate) eof: bool,
    pub(crate) messages: u64,
    /// What the peer may still send, if that is limited.
    pub(crate) meter: Option<Box<Meter>>,
    pub(crate) holding: Option<Holding>,
    measure: Measure,
    /// When a compressor is given back, if messages are compressed.
    #[cfg(feature = "deflate")]
    pub(crate) parking: Option<Box<Parking>>,
    /// How many bytes were written when progress was last looked at.
    pub(crate) written_before: u64,
    /// How many sends in a row have come without a receive.
    sends: u8,
    /// Control frames that were handled while a call waited, for the application to see.
    handled: Option<Box<VecDeque<Event>>>,
    names: Option<Box<Names>>,
}

/// What the handshake agreed on.
struct Names {
    subprotocol: Option<String>,
    extensions: Option<String>,
}

impl<T: Transport> Reader<T> {
    pub(crate) fn new(io: T, handover: Handover, config: &Config) -> Box<Self> {
        #[cfg_attr(not(feature = "deflate"), allow(unused_mut))]
        let mut inbound = Inbound::new(handover.role(), config.limits);
        let is_server = handover.role() == Role::Server;
        let Handover { keys, read_ahead, subprotocol, extensions, .. } = handover;
        #[cfg_attr(not(feature = "deflate"), allow(unused_mut))]
        let mut outbound = Outbound::new(keys);
        #[cfg(feature = "deflate")]
        if let Some(compression) = &handover.compression {
            inbound.set_compression(compression);
            outbound.set_compression(compression);
        }
        let named = subprotocol.is_some() || extensions.is_some();
        // The clock is read only where it is needed.
        let now = || Instant::now().into_std();
        let shared = Shared::new(io, outbound, config);
        shared.lock().bytes_received = read_ahead.len() as u64;
        Box::new(Self {
            shared,
            inbound,
            read: if read_ahead.is_empty() { ReadBuffer::default() } else { ReadBuffer::new(&read_ahead) },
            ending: Ending::default(),
            timers: Timers::new(config.keepalive, now()),
            sleep: None,
            sleeper: None,
            close_timeout: config.close_timeout,
            budget: BUDGET,
            is_server,
            eof: false,
            messages: 0,
            holding: config.memory.clone().map(Holding::new),
            measure: Measure(config.measurements.clone()),
            meter: config.rate_limit.map(|limit| Box::new(Meter::new(limit, now()))),
            #[cfg(feature = "deflate")]
            parking: handover.compression.is_some().then(|| Box::new(Parking::new(config.deflate_idle))),
            written_before: 0,
            sends: 0,
            handled: None,
            names: named.then(|| Box::new(Names { subprotocol, extensions })),
        })
    }

    /// Yields the next event; `None` at the end, whose error, if it had one, comes once before it.
    pub(crate) fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Event, Error>>> {
        self.sends = 0;
        if let Some(handled) = &mut self.handled
            && let Some(event) = handled.pop_front()
        {
            return Poll::Ready(Some(Ok(event)));
        }
        self.handled = None;
        loop {
            match ready!(self.poll_step(cx)) {
                Step::More => {}
                Step::Event(event) => return Poll::Ready(Some(event)),
                Step::End => return Poll::Ready(None),
            }
        }
    }

    /// Yields the next message; a control frame is answered on the way.
    #[inline]
    pub(crate) fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Message>, Error>> {
        self.inbound.set_parts(false);
        self.sends = 0;
        loop {
            if let Some(message) = self.take_message() {
                return Poll::Ready(Ok(Some(message)));
            }
            match ready!(self.poll_step(cx)) {
                Step::Event(Ok(Event::Message(message))) => return Poll::Ready(Ok(Some(message))),
                Step::Event(Err(error)) => return Poll::Ready(Err(error)),
                Step::Event(Ok(_)) | Step::More => {}
                Step::End => return Poll::Ready(Ok(None)),
            }
        }
    }

    /// Takes a message that was read in one piece.
    #[inline]
    fn take_message(&mut self) -> Option<Message> {
        if self.read.is_empty() || self.budget == 0 || self.meter.is_some() {
            return None;
        }
        let mut input = self.read.bytes();
        let message = scratch::with_block(|block| self.inbound.decode_message(&mut input, block))?;
        let left = input.len();
        self.read.keep_last(left);
        self.messages += 1;
        self.measure.received(message.len());
        self.spend(1 + message.len() / BYTES_A_TURN);
        Some(message)
    }

    /// Decodes what is here, or else reads more, or else gets on with ending.
    #[inline]
    fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        if self.budget == 0 {
            return self.poll_yield(cx);
        }
        if !self.read.is_empty() {
            return Poll::Ready(self.decode());
        }
        if !self.ending.is_open() {
            return self.poll_end(cx);
        }
        let mut writer = self.shared.lock();
        if writer.out.is_closing() {
            note_closing(&mut self.timers, &mut self.written_before, writer.written(), self.close_timeout);
        }
        if !self.shared.is_corked() && writer.has_unwritten() {
            // Not being able to write is no reason not to read: the peer's last words may be there.
            let _ = writer.poll_progress(cx);
        }
        writer.messages_received = self.messages;
        let Some(io) = writer.io.as_mut() else {
            drop(writer);
            self.handle_end(None);
            return Poll::Ready(Step::More);
        };
        if self.inbound.payload_left() >= DIRECT_FROM {
            let (polled, result) = poll_read_payload(&mut self.inbound, io, cx);
            match &polled {
                Poll::Ready(Ok(n)) => writer.bytes_received += *n as u64,
                Poll::Ready(Err(_)) => {}
                Poll::Pending => writer.before_waiting(cx),
            }
            drop(writer);
            return self.after_read(polled, cx).map(|step| match step {
                Step::More => self.handle(result),
                step => step,
            });
        }
        let polled = poll_read(&mut self.read, io, usize::MAX, cx);
        match &polled {
            Poll::Ready(Ok(n)) => writer.bytes_received += *n as u64,
            Poll::Ready(Err(_)) => {}
            Poll::Pending => writer.before_waiting(cx),
        }
        drop(writer);
        self.after_read(polled, cx)
    }

    /// Takes note of what a read came to.
    #[inline]
    fn after_read(&mut self, polled: Poll<io::Result<usize>>, cx: &mut Context<'_>) -> Poll<Step> {
        match polled {
            Poll::Ready(Ok(n)) if n > 0 => self.arrived(n, cx),
            Poll::Ready(Ok(_)) => self.handle_end(None),
            Poll::Ready(Err(error)) => self.handle_end(Some(error)),
            Poll::Pending => {
                self.budget = BUDGET;
                self.count_memory(cx);
                if !self.ending.is_open() {
                    return Poll::Ready(Step::More);
                }
                #[cfg(feature = "deflate")]
                self.poll_parking(cx);
                ready!(self.poll_timers(cx));
            }
        }
        Poll::Ready(Step::More)
    }

    /// Lets others have a turn: a peer that always has more for us must keep neither the thread nor the deadlines.
    #[cold]
    fn poll_yield(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        self.budget = BUDGET;
        if self.timers.deadline().is_some_and(|deadline| Instant::from_std(deadline) <= Instant::now()) {
            ready!(self.poll_timers(cx));
            return Poll::Ready(Step::More);
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Decodes up to the next event.
    fn decode(&mut self) -> Step {
        let mut input = self.read.bytes();
        let result = scratch::with_spare(|spare| self.inbound.decode_lending(&mut input, spare));
        let left = input.len();
        self.read.keep_last(left);
        // Decompression is bounded in one call; many such calls are bounded here.
        let inflated = self.inbound.take_inflated();
        self.spend(inflated / BYTES_A_TURN);
        self.handle(result)
    }

    #[inline]
    fn arrived(&mut self, n: usize, cx: &Context<'_>) {
        self.timers.heard();
        self.count_memory(cx);
        self.spend(1 + n / BYTES_A_TURN);
    }

    #[inline]
    pub(crate) fn spend(&mut self, turns: usize) {
        self.budget = self.budget.saturating_sub(turns);
    }

    /// Does what a decoded event or a violation calls for.
    fn handle(&mut self, result: Result<Option<Event>, ProtocolError>) -> Step {
        match result {
            Ok(Some(event)) => self.handle_event(event),
            Ok(None) => Step::More,
            Err(error) => self.handle_violation(error),
        }
    }

    fn handle_event(&mut self, event: Event) -> Step {
        self.spend(1);
        if self.meter.is_some() && !self.is_within_rate(&event) {
            self.handle_excess();
            return Step::More;
        }
        match &event {
            Event::Message(message) => {
                self.messages += 1;
                self.measure.received(message.len());
            }
            Event::Part(part) => self.messages += u64::from(part.last),
            Event::Ping(_) => self.shared.lock().respond(&event),
            Event::Pong(payload) => {
                if payload.is_empty() {
                    self.measure.round_trip(self.timers.answered(Instant::now().into_std()));
                } else {
                    self.shared.lock().resolve_pings(payload);
                }
            }
            Event::Close(frame) => {
                self.handle_close(frame.clone(), &event);
                return Step::More;
            }
        }
        Step::Event(Ok(event))
    }

    fn handle_close(&mut self, frame: Option<CloseFrame>, event: &Event) {
        let mut writer = self.shared.lock();
        let ours = writer.out.is_closing();
        writer.respond(event);
        // Senders that wait for room have nothing to wait for.
        writer.wake_met();
        drop(writer);
        self.timers.closing(Instant::now().into_std(), self.close_timeout);
        let outcome = match &frame {
            Some(frame) if !ours && !is_clean(frame) => Err(Error::ClosedByPeer(frame.clone())),
            _ => Ok(()),
        };
        self.ending.note_close(frame);
        self.ending.begin(outcome);
    }

    #[cold]
    fn handle_violation(&mut self, error: ProtocolError) -> Step {
        self.fail(Error::Protocol(error));
        Step::More
    }

    /// Fails the connection (RFC 6455 §7.1.7): sends the close frame that the error calls for, interprets nothing of what
    /// follows, and reports the error at the end.
    #[cold]
    pub(crate) fn fail(&mut self, error: Error) {
        let code = error.close_code().unwrap_or(CloseCode::INTERNAL_ERROR);
        self.shared.lock().fail(code);
        self.inbound.end();
        self.timers.closing(Instant::now().into_std(), self.close_timeout);
        self.ending.begin(Err(error));
        if let Some(holding) = &mut self.holding {
            holding.release();
        }
    }

    /// The transport has no more: without a close frame, messages may be missing.
    #[cold]
    fn handle_end(&mut self, error: Option<io::Error>) {
        self.eof = true;
        self.inbound.end();
        let outcome = match error {
            Some(error) => Error::from(error),
            None => self.shared.lock().failure().unwrap_or(Error::Lost),
        };
        self.ending.begin(Err(outcome));
    }

    /// Writes what is left to be written, then reports how the connection ended.
    #[cold]
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        if self.ending.is_reported() {
            return Poll::Ready(Step::End);
        }
        let shared = Arc::clone(&self.shared);
        let mut writer = shared.lock();
        writer.messages_received = self.messages;
        writer.set_owner(cx.waker());
        // Where a task flushes when the handler yields, it goes on with this after the handler's end as well.
        if !shared.is_corked() && writer.poll_flush_all(cx).is_pending() {
            note_closing(&mut self.timers, &mut self.written_before, writer.written(), self.close_timeout);
            drop(writer);
            if !self.eof && self.poll_timers(cx).is_pending() {
                return Poll::Pending;
            }
            // The peer takes nothing: what it was owed is dropped when the socket is.
        } else {
            drop(writer);
        }
        Poll::Ready(match self.ending.report() {
            Ok(()) => Step::End,
            Err(error) => Step::Event(Err(error)),
        })
    }

    /// Counts what the message that is arriving takes; fails the connection if there is no room for it.
    #[inline]
    pub(crate) fn count_memory(&mut self, cx: &Context<'_>) {
        if let Some(holding) = &mut self.holding
            && !holding.hold(self.inbound.held(), cx.waker())
        {
            self.fail(Error::OutOfMemory);
        }
    }

    /// Gives compressor and decompressor back after a time without a message either way.
    #[cfg(feature = "deflate")]
    #[inline]
    fn poll_parking(&mut self, cx: &mut Context<'_>) {
        let Some(parking) = &mut self.parking else { return };
        let mut writer = self.shared.lock();
        let kept = writer.out.keeps_compressor() || self.inbound.keeps_decompressor();
        if parking.poll(kept, writer.messages + self.messages, cx) {
            writer.out.park();
            self.inbound.park();
        }
    }

    /// Waits for the next deadline; ready when one has passed and something was done about it.
    #[inline]
    pub(crate) fn poll_timers(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(deadline) = self.timers.deadline() else {
            return Poll::Pending;
        };
        if let (Some(sleep), Some(sleeper)) = (&self.sleep, &self.sleeper)
            && sleeper.will_wake(cx.waker())
            && !sleep.is_elapsed()
            && sleep.deadline() <= Instant::from_std(deadline)
        {
            return Poll::Pending; // it will wake this task
        }
        self.poll_sleep(cx)
    }

    #[cold]
    fn poll_sleep(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let Some(deadline) = self.timers.deadline() else {
                return Poll::Pending;
            };
            let deadline = Instant::from_std(deadline);
            let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
            if sleep.deadline() != deadline {
                sleep.as_mut().reset(deadline);
            }
            self.sleeper = Some(cx.waker().clone());
            ready!(sleep.as_mut().poll(cx));
            match self.timers.handle_timeout(Instant::now().into_std()) {
                Due::Nothing => {}
                Due::Ping => {
                    // It cannot fail but for a connection that is closing anyway.
                    let _ = self.shared.send_now(|out| out.ping(&[]));
                }
                due => {
                    let error = if due == Due::PeerGone { Error::PeerGone } else { Error::CloseTimeout };
                    self.give_up(error);
                    return Poll::Ready(());
                }
            }
        }
    }

    /// Ends without waiting for the peer any more.
    fn give_up(&mut self, error: Error) {
        self.eof = true;
        self.inbound.end();
        self.shared.lock().finish();
        if self.ending.is_open() {
            self.ending.begin(Err(error));
        }
    }

    pub(crate) fn state(&self) -> State {
        if self.ending.is_reported() {
            State::Closed
        } else {
            State::of(&self.inbound, &self.shared.lock().out)
        }
    }

    #[allow(clippy::option_option, reason = "no close frame and an empty one are two things")]
    pub(crate) fn close_received(&self) -> Option<Option<&CloseFrame>> {
        self.ending.close_received()
    }

    pub(crate) fn subprotocol(&self) -> Option<&str> {
        self.names.as_ref()?.subprotocol.as_deref()
    }

    pub(crate) fn extensions(&self) -> Option<&str> {
        self.names.as_ref()?.extensions.as_deref()
    }

    pub(crate) fn stats(&self) -> Stats {
        Stats {
            messages_received: self.messages,
            received_compressed: self.inbound.compression_stats(),
            ..self.shared.lock().stats()
        }
    }

    /// While a call waits for something other than messages: handles the control frames in front of the next message,
    /// gives back what is held (many peers that take nothing must not cost a read buffer each), and looks at the clock.
    ///
    /// Ready when the call has to look again, or with the error of a connection that was given up.
    pub(crate) fn poll_blocked(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let was_open = self.ending.is_open();
        self.poll_control(cx);
        self.count_memory(cx);
        #[cfg(feature = "deflate")]
        self.poll_parking(cx);
        if was_open && !self.ending.is_open() {
            return Poll::Ready(Ok(()));
        }
        let mut writer = self.shared.lock();
        if self.ending.is_open() {
            writer.set_owner(cx.waker());
        }
        let written = writer.written();
        let is_closing = writer.out.is_closing();
        drop(writer);
        if is_closing {
            note_closing(&mut self.timers, &mut self.written_before, written, self.close_timeout);
        } else if written != self.written_before {
            // A peer that takes bytes is there, whatever it has to say.
            self.written_before = written;
            self.timers.heard();
        }
        ready!(self.poll_timers(cx));
        Poll::Ready(Err(self.ending.error().cloned().unwrap_or(Error::Closed)))
    }

    /// Whether this is one of several sends in a row: then nobody receives, and control frames may be waiting.
    #[inline]
    pub(crate) fn is_unheard(&mut self) -> bool {
        self.sends = self.sends.saturating_add(1);
        self.sends > 1
    }

    /// Handles the control frames in front of the next message, without waiting for any. Messages stay where they are: at
    /// most [`GLANCE`] bytes of them are read.
    #[cold]
    pub(crate) fn poll_control(&mut self, cx: &mut Context<'_>) {
        while self.ending.is_open() {
            if self.budget == 0 {
                self.budget = BUDGET;
                cx.waker().wake_by_ref();
                return;
            }
            match self.inbound.is_control_next(self.read.bytes()) {
                Some(false) => break,
                Some(true) if !self.read.is_empty() => {
                    if let Step::Event(Ok(event)) = self.decode() {
                        self.note_handled(event);
                    }
                    continue;
                }
                Some(true) | None => {}
            }
            let mut writer = self.shared.lock();
            let Some(io) = writer.io.as_mut() else {
                drop(writer);
                self.handle_end(None);
                return;
            };
            let polled = poll_read(&mut self.read, io, GLANCE, cx);
            if let Poll::Ready(Ok(n)) = &polled {
                writer.bytes_received += *n as u64;
            }
            drop(writer);
            match polled {
                Poll::Ready(Ok(n)) if n > 0 => {
                    self.timers.heard();
                    self.spend(1);
                }
                Poll::Ready(Ok(_)) => self.handle_end(None),
                Poll::Ready(Err(error)) => self.handle_end(Some(error)),
                Poll::Pending => break,
            }
        }
        self.read.settle();
    }

    /// Keeps a control frame for [`Receiver::next_event`](crate::Receiver::next_event); of many, the latest.
    fn note_handled(&mut self, event: Event) {
        let handled = self.handled.get_or_insert_default();
        if handled.len() == HANDLED {
            handled.pop_front();
        }
        handled.push_back(event);
    }
}

/// Starts the limit of the closing handshake, or lets it start over while the peer takes bytes.
pub(crate) fn note_closing(timers: &mut Timers, before: &mut u64, written: u64, limit: Duration) {
    let now = Instant::now().into_std();
    timers.closing(now, limit);
    if *before != written {
        *before = written;
        timers.progressed(now);
    }
}

/// What one step of receiving came to.
enum Step {
    /// There may be more to decode, or another step to take.
    More,
    /// Something for the application, or the error that ended the connection.
    Event(Result<Event, Error>),
    /// The end was reported before.
    End,
}

/// Reads once into the thread's buffer.
#[inline]
pub(crate) fn poll_read<T: Transport>(
    read: &mut ReadBuffer,
    io: &mut T,
    most: usize,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    loop {
        let buf = read.lend();
        let most = most.min(buf.len());
        let mut buf = ReadBuf::new(&mut buf[..most]);
        let polled = Pin::new(&mut *io).poll_read(cx, &mut buf);
        let n = buf.filled().len();
        read.filled(n);
        match polled {
            Poll::Ready(Ok(())) => return Poll::Ready(Ok(n)),
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => return Poll::Pending,
        }
    }
}

/// Reads once, straight into the current message.
#[cold]
fn poll_read_payload<T: Transport>(
    inbound: &mut Inbound,
    io: &mut T,
    cx: &mut Context<'_>,
) -> (Poll<io::Result<usize>>, Result<Option<Event>, ProtocolError>) {
    loop {
        let (polled, result) = inbound.read_payload(|buf| {
            debug_assert!(buf.has_remaining_mut());
            pin!(io.read_buf(buf)).poll(cx)
        });
        match polled {
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
            polled => return (polled, result),
        }
    }
}

/// A frame that ends a connection as it should end.
fn is_clean(frame: &CloseFrame) -> bool {
    matches!(frame.code, CloseCode::NORMAL | CloseCode::GOING_AWAY)
}

/// What one poll may do before the task yields: an event, or a read of up to [`BYTES_A_TURN`] bytes, costs one.
pub(crate) const BUDGET: usize = 256;

/// How many bytes of a read cost as much as one event.
pub(crate) const BYTES_A_TURN: usize = 4096;

/// How much is read at most to look for control frames while messages are not received.
const GLANCE: usize = 4096;

/// How many control frames are kept that were handled while a call waited.
const HANDLED: usize = 16;

/// When at least this much of a payload is to come, it is read straight into its message.
const DIRECT_FROM: usize = 32 * 1024;
