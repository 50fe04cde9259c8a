//! The receiving state, and the order of work of one poll.
//!
//! A poll decodes the bytes that are here, writes what is queued, reads more, and checks the deadlines. The rules
//! belong to the protocol crate, the state under the lock to [`crate::sending::shared`], and the end to
//! [`crate::ending::leave`].

use std::collections::VecDeque;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::BufMut;
use longwire_protocol::{
    CloseCode, CloseFrame, Due, Event, Inbound, Message, Outbound, ProtocolError, Role, State,
};
use tokio::io::AsyncReadExt;
use tokio::time::Instant;

use crate::counting::measurements::Measure;
use crate::ending::end::Ending;
use crate::receiving::alarm::Alarm;
use crate::receiving::excess::is_message_within_rate;
use crate::receiving::policy::memory::{Contact, Holding};
#[cfg(feature = "deflate")]
use crate::receiving::policy::parking::Parking;
use crate::receiving::policy::rate::Meter;
use crate::receiving::unanswered::Unanswered;
use crate::scratch::{self, Pace, ReadBuffer};
use crate::sending::shared::Shared;
use crate::transport::is_interrupted;
use crate::{Config, Error, Handover, Stats, Transport};

/// The receiving state of one connection.
#[allow(clippy::struct_excessive_bools, reason = "facts that do not depend on each other, of one byte each")]
pub(crate) struct Reader<T: Transport> {
    pub(crate) shared: Arc<Shared<T>>,
    pub(crate) inbound: Inbound,
    /// Bytes that were read but not decoded.
    pub(crate) read: ReadBuffer,
    pub(crate) ending: Ending,
    pub(crate) alarm: Alarm,
    /// The work that may still be done before the task must yield.
    pub(crate) budget: usize,
    pub(crate) is_server: bool,
    /// Set once the transport has ended.
    pub(crate) eof: bool,
    pub(crate) messages: u64,
    unanswered: Unanswered,
    pub(crate) pace: Pace,
    /// The peer's usage of its rate limit, if it has one.
    pub(crate) meter: Option<Box<Meter>>,
    pub(crate) holding: Option<Holding>,
    pub(super) measure: Measure,
    /// The timer for giving a compressor back, if messages are compressed.
    #[cfg(feature = "deflate")]
    pub(crate) parking: Option<Box<Parking>>,
    /// The number of sends in a row without a receive.
    pub(super) sends: u8,
    /// Set if a pong was queued that no task has begun to write.
    pub(super) owes_pong: bool,
    /// Set if the queue had room for another message after the last answer to one that was lent.
    pub(crate) has_room: bool,
    /// Control frames that were handled while a call waited, kept for the application.
    #[allow(
        clippy::box_collection,
        reason = "one word instead of four for the many connections that have none"
    )]
    pub(super) handled: Option<Box<VecDeque<Event>>>,
    names: Option<Box<Names>>,
}

/// The names that the handshake agreed on.
struct Names {
    subprotocol: Option<Box<str>>,
    extensions: Option<Box<str>>,
}

impl Names {
    /// Keeps the names, if there are any, without spare memory.
    fn of(subprotocol: Option<String>, extensions: Option<String>) -> Option<Box<Self>> {
        if subprotocol.is_none() && extensions.is_none() {
            return None;
        }
        let [subprotocol, extensions] =
            [subprotocol, extensions].map(|name| name.map(String::into_boxed_str));
        Some(Box::new(Self { subprotocol, extensions }))
    }
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
        let shared = Shared::new(io, outbound, config);
        let mut writer = shared.lock();
        writer.bytes_received = read_ahead.len() as u64;
        #[cfg(feature = "deflate")]
        if let (Some(budget), Some(_)) = (&config.memory, &handover.compression) {
            writer.count_compressor(budget.clone(), shared.member());
        }
        drop(writer);
        let holding = config.memory.clone().map(Holding::new);
        Box::new(Self {
            shared,
            inbound,
            read: if read_ahead.is_empty() { ReadBuffer::default() } else { ReadBuffer::new(&read_ahead) },
            ending: Ending::default(),
            alarm: Alarm::new(config.keepalive, config.close_timeout),
            budget: BUDGET,
            is_server,
            eof: false,
            messages: 0,
            unanswered: Unanswered::default(),
            pace: Pace::default(),
            holding,
            measure: Measure(config.measurements.clone()),
            meter: config.rate_limit.map(|limit| Box::new(Meter::new(limit, Instant::now().into_std()))),
            #[cfg(feature = "deflate")]
            parking: handover
                .compression
                .map(|compression| Box::new(Parking::new(config.deflate_idle, compression.pool().clone()))),
            sends: 0,
            owes_pong: false,
            has_room: true,
            handled: None,
            names: Names::of(subprotocol, extensions),
        })
    }

    /// Yields the next event, `None` at the end. If the connection ended with an error, yields it once before
    /// `None`.
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
                Step::Event(event) => {
                    self.write_pong();
                    return Poll::Ready(Some(event));
                }
                Step::End => return Poll::Ready(None),
            }
        }
    }

    /// Yields the next message. Control frames before it are answered.
    #[inline]
    pub(crate) fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Message>, Error>> {
        self.start_receiving();
        loop {
            if let Some(message) = self.take_message() {
                if self.count_message(message.len()) {
                    self.write_pong();
                    return Poll::Ready(Ok(Some(message)));
                }
                continue;
            }
            if self.needs_bytes() && ready!(self.poll_fill(cx)) == Filled::Read {
                continue;
            }
            if let Some(received) = ready!(self.poll_message(cx)) {
                return Poll::Ready(received);
            }
        }
    }

    /// Prepares to receive whole messages.
    #[inline]
    pub(super) fn start_receiving(&mut self) {
        self.inbound.set_parts(false);
        self.sends = 0;
    }

    /// Takes one step, and returns the message or the end that it led to, if any.
    #[inline(never)]
    pub(super) fn poll_message(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Option<Message>, Error>>> {
        Poll::Ready(match ready!(self.poll_step(cx)) {
            Step::Event(Ok(Event::Message(message))) => {
                self.write_pong();
                Some(Ok(Some(message)))
            }
            Step::Event(Err(error)) => Some(Err(error)),
            Step::Event(Ok(_)) | Step::More => None,
            Step::End => Some(Ok(None)),
        })
    }

    /// Starts to write a queued pong, because the application may take its time before the next call.
    #[inline]
    pub(super) fn write_pong(&mut self) {
        if std::mem::take(&mut self.owes_pong) {
            self.shared.start_writing(&mut self.shared.lock());
        }
    }

    /// Takes a message that was read in one piece.
    #[inline]
    fn take_message(&mut self) -> Option<Message> {
        if !self.may_take_message() {
            return None;
        }
        let mut input = self.read.bytes();
        let message = self.inbound.decode_message(&mut input)?;
        let left = input.len();
        self.read.keep_last(left, &mut self.pace);
        Some(message)
    }

    /// Counts a message of `len` bytes that was taken without a step. Returns whether the application receives it.
    #[inline]
    pub(super) fn count_message(&mut self, len: usize) -> bool {
        self.spend(cost(len));
        if !is_message_within_rate(&mut self.meter, len) {
            self.handle_excess();
            return false;
        }
        self.messages += 1;
        self.measure.received(len);
        true
    }

    /// Returns whether the message that was read next may be taken without a step.
    #[inline]
    pub(super) fn may_take_message(&self) -> bool {
        debug_assert!(!self.shared.is_locked_here(), "messages are decoded without the lock");
        !self.read.is_empty() && self.budget > 0
    }

    /// Decodes the bytes that are here; without any, reads more, or continues the end of the connection.
    #[inline]
    fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        // A message that is decompressed in part is finished first if its rest is here, so that connections that
        // take turns do not all hold one. Its cost is paid afterward.
        if self.budget == 0 && !self.has_to_finish() {
            return self.poll_yield(cx);
        }
        if !self.read.is_empty() {
            return Poll::Ready(self.decode(cx));
        }
        if !self.ending.is_open() {
            return self.poll_end(cx);
        }
        match ready!(self.poll_fill(cx)) {
            Filled::Read => Poll::Ready(Step::More),
            Filled::Direct => self.poll_direct(cx),
        }
    }

    /// Returns whether the next step is [`poll_fill`](Self::poll_fill) alone.
    #[inline]
    pub(super) fn needs_bytes(&self) -> bool {
        self.budget > 0
            && self.read.is_empty()
            && self.ending.is_open()
            && self.inbound.frame_left() < DIRECT_FROM
    }

    /// Reads into the thread's buffer, unless much of a payload is still to come. Writes what is queued before it
    /// waits.
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Filled> {
        let Self { shared, alarm, inbound, read, unanswered, pace, .. } = self;
        let is_corked = shared.is_corked();
        let messages = self.messages;
        let polled = shared.with(|writer| {
            // A handler's turn is written at its end, but a queue without room would only let a few bytes be read.
            if (!is_corked || writer.is_half_full()) && writer.has_unwritten() {
                // A failure to write is no reason to stop reading at once: the peer's last messages may be here.
                writer.write_on(cx);
            }
            if writer.is_ending() {
                alarm.note_closing(writer.written());
            }
            writer.messages_received = messages;
            let left = inbound.frame_left();
            if left >= DIRECT_FROM && inbound.payload_left() == left {
                return None;
            }
            let most = left.saturating_add(unanswered.most_to_read(is_corked, writer));
            let Some(io) = writer.io.as_mut() else {
                return Some(Poll::Ready(Ok(0)));
            };
            let polled = poll_read(read, io, (most, pace), cx);
            match &polled {
                Poll::Ready(Ok(n)) => {
                    writer.bytes_received += *n as u64;
                    unanswered.note_read(*n, is_corked, writer.out.queue().end());
                }
                Poll::Ready(Err(_)) => {}
                Poll::Pending => {
                    writer.set_owner(cx.waker());
                    if is_corked && writer.has_unwritten() {
                        // This is most likely the end of the handler's turn; if not, its end cannot be predicted.
                        writer.write_on(cx);
                    }
                }
            }
            Some(polled)
        });
        match polled {
            Some(polled) => self.after_read(polled, cx).map(|()| Filled::Read),
            None => Poll::Ready(Filled::Direct),
        }
    }

    /// Returns whether a message is decompressed in part and the next frame belongs to it. Control frames do not,
    /// and a peer may send any number of them.
    #[cold]
    fn has_to_finish(&self) -> bool {
        self.inbound.is_inflating()
            && self.ending.is_open()
            && self.inbound.is_control_next(self.read.bytes()) != Some(true)
    }

    /// Reads directly into the message that is arriving.
    #[cold]
    fn poll_direct(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        let shared = Arc::clone(&self.shared);
        let mut writer = shared.lock();
        let Some(io) = writer.io.as_mut() else {
            drop(writer);
            return self.after_read(Poll::Ready(Ok(0)), cx).map(|()| Step::More);
        };
        let (polled, result) = poll_read_payload(&mut self.inbound, io, cx);
        match &polled {
            Poll::Ready(Ok(n)) => {
                writer.bytes_received += *n as u64;
                self.unanswered.bytes += *n as u64;
            }
            Poll::Ready(Err(_)) => {}
            Poll::Pending => writer.before_waiting(cx),
        }
        drop(writer);
        // Memory was reserved for the payload, even if none of it has arrived yet.
        self.count_memory(cx);
        if polled.is_pending() && !self.ending.is_open() {
            return Poll::Ready(Step::More);
        }
        self.after_read(polled, cx).map(|()| self.handle(result))
    }

    /// Acts on the result of a read.
    #[inline(always)]
    #[allow(clippy::inline_always, reason = "as for `poll_read`")]
    fn after_read(&mut self, polled: Poll<io::Result<usize>>, cx: &mut Context<'_>) -> Poll<()> {
        match polled {
            Poll::Ready(Ok(n)) if n > 0 => {
                self.alarm.heard();
                self.spend(1 + n / BYTES_A_TURN);
            }
            Poll::Ready(Ok(_)) => self.handle_end(None),
            Poll::Ready(Err(error)) => self.handle_end(Some(error)),
            Poll::Pending => {
                self.budget = BUDGET;
                if self.holding.as_ref().is_some_and(Holding::is_listed) {
                    // The memory budget may have chosen this connection to be closed.
                    self.count_memory(cx);
                    if !self.ending.is_open() {
                        return Poll::Ready(());
                    }
                }
                #[cfg(feature = "deflate")]
                if self.parking.is_some() {
                    self.poll_parking(cx);
                }
                ready!(self.poll_alarm(cx));
            }
        }
        Poll::Ready(())
    }

    /// Decodes up to the next event, and counts the memory held.
    pub(super) fn decode(&mut self, cx: &Context<'_>) -> Step {
        debug_assert!(!self.shared.is_locked_here(), "messages are decoded without the lock");
        let mut input = self.read.bytes();
        // One message is decompressed without a pause, so that connections that take turns do not all hold one. Its
        // cost is paid before the next.
        let result = scratch::with_spare(|spare| {
            loop {
                let result = self.inbound.decode_lending(&mut input, spare);
                if !matches!(result, Ok(None)) || input.is_empty() {
                    break result;
                }
            }
        });
        let left = input.len();
        self.read.keep_last(left, &mut self.pace);
        let inflated = self.inbound.take_inflated();
        self.spend(inflated / BYTES_A_TURN);
        let step = self.handle(result);
        self.count_memory(cx);
        step
    }

    #[inline]
    pub(crate) fn spend(&mut self, turns: usize) {
        self.budget = self.budget.saturating_sub(turns);
    }

    /// Handles a decoded event or a violation.
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
                // From here on the memory belongs to the application.
                if let Some(holding) = &mut self.holding {
                    holding.release();
                }
            }
            Event::Part(part) => self.messages += u64::from(part.last),
            Event::Ping(_) => {
                self.shared.lock().respond(&event);
                self.owes_pong = true;
            }
            Event::Pong(payload) => {
                if payload.is_empty() {
                    self.measure.round_trip(self.alarm.answered());
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

    fn handle_close(&mut self, frame: CloseFrame, event: &Event) {
        let mut writer = self.shared.lock();
        let (ours, is_shed) = (writer.out.is_closing(), writer.is_shed);
        writer.respond(event);
        // Senders that wait for room have nothing to wait for.
        writer.wake_met();
        drop(writer);
        self.alarm.start_closing();
        let outcome = if is_shed {
            Err(Error::OutOfMemory)
        } else if ours || is_clean(&frame) {
            Ok(())
        } else {
            Err(Error::ClosedByPeer(frame.clone()))
        };
        self.ending.note_close(frame);
        self.ending.begin(outcome);
    }

    #[cold]
    fn handle_violation(&mut self, error: ProtocolError) -> Step {
        self.fail(Error::Protocol(error));
        Step::More
    }

    /// Fails the connection (RFC 6455 §7.1.7): sends the close frame that the error calls for, ignores everything
    /// that follows, and reports the error at the end.
    #[cold]
    pub(crate) fn fail(&mut self, error: Error) {
        let code = error.close_code().unwrap_or(CloseCode::INTERNAL_ERROR);
        self.shared.lock().fail(code);
        self.inbound.end();
        self.alarm.start_closing();
        self.ending.begin(Err(error));
        if let Some(holding) = &mut self.holding {
            holding.release();
        }
    }

    /// Waits for the next deadline. Ready if the connection was given up; not if only a ping was sent.
    #[inline]
    pub(crate) fn poll_alarm(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.alarm.is_set(cx) { Poll::Pending } else { self.poll_due(cx) }
    }

    #[cold]
    fn poll_due(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let error = loop {
            match ready!(self.alarm.poll(cx)) {
                Due::Nothing => {}
                Due::Ping => self.shared.keepalive_ping(),
                Due::PeerGone => break Error::PeerGone,
                Due::CloseTimedOut => break Error::CloseTimeout,
            }
        };
        self.give_up(error);
        Poll::Ready(())
    }

    /// Ends the connection without waiting for the peer any longer.
    #[cold]
    fn give_up(&mut self, error: Error) {
        self.eof = true;
        self.inbound.end();
        let mut writer = self.shared.lock();
        let error = if writer.is_shed { Error::OutOfMemory } else { writer.failure().unwrap_or(error) };
        writer.finish();
        drop(writer);
        if self.ending.is_open() {
            self.ending.begin(Err(error));
        }
    }

    /// Yields to other tasks: a peer that always has more data must not block the thread or delay the deadlines.
    #[cold]
    fn poll_yield(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        self.budget = BUDGET;
        if !self.read.is_empty() {
            // Bytes that are here and not decoded yet are a sign of life, however long the decoding takes.
            self.alarm.heard();
            self.read.end_poll(&mut self.pace);
        }
        if self.alarm.is_due() && self.poll_alarm(cx).is_ready() {
            return Poll::Ready(Step::More);
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Handles the end of the transport: without a close frame, messages may be missing.
    #[cold]
    pub(super) fn handle_end(&mut self, error: Option<io::Error>) {
        self.eof = true;
        self.inbound.end();
        let mut writer = self.shared.lock();
        let outcome = match error {
            _ if writer.is_shed => Error::OutOfMemory,
            Some(error) => Error::from(error),
            None => writer.failure().unwrap_or(Error::Lost),
        };
        writer.end_pings();
        drop(writer);
        self.ending.begin(Err(outcome));
    }

    /// Writes what is still queued, then reports how the connection ended.
    #[cold]
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        if self.ending.is_reported() {
            return Poll::Ready(Step::End);
        }
        // The message that was arriving is discarded, and the application may keep the socket.
        if let Some(holding) = &mut self.holding {
            holding.release();
        }
        let shared = Arc::clone(&self.shared);
        let mut writer = shared.lock();
        writer.messages_received = self.messages;
        writer.set_owner(cx.waker());
        writer.end_pings();
        // If a driving task flushes when the handler yields, it continues to do so after the handler's end.
        if !shared.is_corked() && writer.poll_flush_all(cx).is_pending() {
            self.alarm.note_closing(writer.written());
            drop(writer);
            if !self.eof && self.poll_alarm(cx).is_pending() {
                return Poll::Pending;
            }
            // The peer accepts nothing: bytes still owed to it are dropped with the socket.
        } else {
            if self.is_server && self.is_closed_by_peer() {
                writer.shut(cx);
            }
            drop(writer);
        }
        #[cfg(feature = "deflate")]
        {
            // Another connection sweeps the pool, even if the application keeps this one.
            self.parking = None;
        }
        Poll::Ready(match self.ending.report() {
            Ok(()) => Step::End,
            Err(error) => Step::Event(Err(error)),
        })
    }

    /// Counts the memory of the message that is arriving, and fails the connection if the budget has no room for
    /// it.
    #[inline]
    pub(crate) fn count_memory(&mut self, cx: &Context<'_>) {
        if !self.may_hold(cx) {
            let error = self.holding.as_ref().map_or(Error::OutOfMemory, Holding::error);
            self.fail(error);
        }
    }

    /// Counts the memory of the message that is arriving. Returns whether the budget has room for it.
    #[inline]
    pub(crate) fn may_hold(&mut self, cx: &Context<'_>) -> bool {
        let Self { holding, shared, inbound, .. } = self;
        let Some(holding) = holding else { return true };
        holding.hold(inbound.held(), Contact { waker: cx.waker(), member: &|| shared.member() })
    }

    /// Gives the compressor and the decompressor back after a time without a message in either direction.
    #[cfg(feature = "deflate")]
    #[cold]
    pub(super) fn poll_parking(&mut self, cx: &mut Context<'_>) {
        let Some(parking) = &mut self.parking else { return };
        let mut writer = self.shared.lock();
        let kept = writer.out.keeps_compressor() || self.inbound.keeps_decompressor();
        if parking.poll(kept, writer.messages + self.messages, cx) {
            writer.park_compressor();
            self.inbound.park();
        }
        drop(writer);
        parking.poll_sweep(cx);
    }

    pub(crate) fn state(&self) -> State {
        if self.ending.is_reported() {
            State::Closed
        } else {
            State::of(&self.inbound, &self.shared.lock().out)
        }
    }

    pub(crate) fn close_received(&self) -> Option<&CloseFrame> {
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
}

/// The outcome of one step of receiving.
pub(crate) enum Step {
    /// There may be more to decode, or another step to take.
    More,
    /// An event for the application, or the error that ended the connection.
    Event(Result<Event, Error>),
    /// The end was reported before.
    End,
}

/// The outcome of [`Reader::poll_fill`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Filled {
    /// There may be more to decode, or another step to take.
    Read,
    /// The payload that is arriving is to be read directly into its message.
    Direct,
}

/// Reads once into the thread's buffer.
#[inline(always)]
#[allow(
    clippy::inline_always,
    reason = "a call for each of two reads was 1 % of the instructions of an echo"
)]
pub(crate) fn poll_read<T: Transport>(
    read: &mut ReadBuffer,
    io: &mut T,
    (most, pace): (usize, &mut Pace),
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    loop {
        let (polled, n) = read.fill(most, pace, |buf| Pin::new(&mut *io).poll_read(cx, buf));
        match polled {
            Poll::Ready(Ok(())) => return Poll::Ready(Ok(n)),
            Poll::Ready(Err(error)) if is_interrupted(&error) => {}
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => return Poll::Pending,
        }
    }
}

/// Reads once, directly into the current message.
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
            Poll::Ready(Err(error)) if is_interrupted(&error) => {}
            polled => return (polled, result),
        }
    }
}

/// Returns what a message of `len` bytes costs of the budget.
#[inline]
pub(super) const fn cost(len: usize) -> usize {
    1 + len / BYTES_A_TURN
}

/// Returns whether this close frame ends a connection without an error.
fn is_clean(frame: &CloseFrame) -> bool {
    matches!(frame.code, CloseCode::NORMAL | CloseCode::GOING_AWAY | CloseCode::NO_STATUS_RECEIVED)
}

/// The work that one poll may do before the task yields. An event, or a read of up to [`BYTES_A_TURN`] bytes, costs
/// one.
pub(crate) const BUDGET: usize = 256;

/// The number of bytes of a read that cost as much as one event.
pub(crate) const BYTES_A_TURN: usize = 4096;

/// A payload is read directly into its message if at least this much of it is still to come.
const DIRECT_FROM: usize = 32 * 1024;
