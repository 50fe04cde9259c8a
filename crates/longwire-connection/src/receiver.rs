//! The receiving side: the one task that reads, keeps the deadlines and writes what others left in the queue.
//!
//! Owns the order of work of one poll: decode what is here, write what is queued, read more. The rules are the protocol
//! crate's; what is behind the lock is [`crate::shared`]'s.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{BufMut, Bytes};
use longwire_protocol::{
    CloseFrame, Due, Event, Inbound, Message, Outbound, ProtocolError, Role, State, Timers,
};
use tokio::io::{AsyncReadExt, ReadBuf};
use tokio::time::{Instant, Sleep};

use crate::scratch::{self, ReadBuffer};
use crate::shared::{Shared, Writer};
use crate::{Config, Error, Handover, Stats, Transport, ping};

/// What [`Receiver::next_event`] yields: messages, and the control frames that come between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// A whole message.
    Message(Message),
    /// A ping; it is answered already, unless [`Config::auto_pong`] is off.
    Ping(Bytes),
    /// A pong, asked for or not.
    Pong(Bytes),
}

/// The receiving state of one connection.
pub(crate) struct Reader<T> {
    pub(crate) shared: Arc<Shared<T>>,
    pub(crate) inbound: Inbound,
    /// What was read and not decoded.
    read: ReadBuffer,
    phase: Phase,
    pub(crate) timers: Timers,
    sleep: Option<Pin<Box<Sleep>>>,
    /// The task that `sleep` wakes.
    sleeper: Option<Waker>,
    close_timeout: Duration,
    /// What may still be done before the task has to yield.
    budget: usize,
    is_server: bool,
    /// Whether the transport has ended.
    pub(crate) eof: bool,
    /// The close frame that came; its content may be nothing.
    close_received: CloseReceived,
    bytes: u64,
    messages: u64,
    names: Option<Box<Names>>,
}

/// What the handshake agreed on.
struct Names {
    subprotocol: Option<String>,
    extensions: Option<String>,
}

#[derive(Debug)]
enum CloseReceived {
    No,
    Yes(Option<CloseFrame>),
}

enum Phase {
    /// Frames are read.
    Open,
    /// The last frames are written; then this is the end.
    Ending(Result<(), Error>),
    /// The end was reported.
    Ended,
}

impl<T: Transport> Reader<T> {
    pub(crate) fn new(io: T, handover: Handover, config: &Config) -> Box<Self> {
        let inbound = Inbound::new(handover.role(), config.limits);
        let is_server = handover.role() == Role::Server;
        let Handover { keys, read_ahead, subprotocol, extensions } = handover;
        let named = subprotocol.is_some() || extensions.is_some();
        // The clock is read only where it is needed.
        let now = || Instant::now().into_std();
        Box::new(Self {
            shared: Shared::new(io, Outbound::new(keys), config),
            inbound,
            read: if read_ahead.is_empty() { ReadBuffer::default() } else { ReadBuffer::new(&read_ahead) },
            phase: Phase::Open,
            timers: Timers::new(config.keepalive, now()),
            sleep: None,
            sleeper: None,
            close_timeout: config.close_timeout,
            budget: BUDGET,
            is_server,
            eof: false,
            close_received: CloseReceived::No,
            bytes: read_ahead.len() as u64,
            messages: 0,
            names: named.then(|| Box::new(Names { subprotocol, extensions })),
        })
    }

    /// Yields the next event; `None` at the end, whose error, if it had one, comes once before it.
    pub(crate) fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Event, Error>>> {
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
        if self.read.is_empty() || self.budget == 0 {
            return None;
        }
        let mut input = self.read.bytes();
        let message = scratch::with_block(|block| self.inbound.decode_message(&mut input, block))?;
        let left = input.len();
        self.read.keep_last(left);
        self.messages += 1;
        self.spend(1);
        Some(message)
    }

    /// Decodes what is here, or else reads more, or else gets on with ending.
    #[inline]
    fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        if self.budget == 0 {
            // Others have a turn: a peer that always has more for us must not keep the thread.
            self.budget = BUDGET;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if !self.read.is_empty() {
            return Poll::Ready(self.decode());
        }
        if !matches!(self.phase, Phase::Open) {
            return self.poll_end(cx);
        }
        let mut writer = self.shared.lock();
        if writer.out.is_closing() {
            self.timers.closing(Instant::now().into_std(), self.close_timeout);
        }
        if !self.shared.is_corked() && !writer.out.queue().is_empty() {
            // Not being able to write is no reason not to read: the peer's last words may be there.
            let _ = writer.poll_flush(cx);
        }
        let Some(io) = writer.io.as_mut() else {
            drop(writer);
            self.handle_end(None);
            return Poll::Ready(Step::More);
        };
        if self.inbound.payload_left() >= DIRECT_FROM {
            let (polled, result) = poll_read_payload(&mut self.inbound, io, cx);
            if polled.is_pending() {
                writer.before_waiting(cx);
            }
            drop(writer);
            return self.after_read(polled, cx).map(|step| match step {
                Step::More => self.handle(result),
                step => step,
            });
        }
        let polled = poll_read(&mut self.read, io, cx);
        if polled.is_pending() {
            writer.before_waiting(cx);
        }
        drop(writer);
        self.after_read(polled, cx)
    }

    /// Takes note of what a read came to.
    #[inline]
    fn after_read(&mut self, polled: Poll<io::Result<usize>>, cx: &mut Context<'_>) -> Poll<Step> {
        match polled {
            Poll::Ready(Ok(n)) if n > 0 => self.arrived(n),
            Poll::Ready(Ok(_)) => self.handle_end(None),
            Poll::Ready(Err(error)) => self.handle_end(Some(error)),
            Poll::Pending => {
                // What was gathered so far has just been written.
                self.shared.set_gathered(false);
                self.budget = BUDGET;
                ready!(self.poll_timers(cx));
            }
        }
        Poll::Ready(Step::More)
    }

    /// Decodes up to the next event.
    fn decode(&mut self) -> Step {
        let mut input = self.read.bytes();
        let result = self.inbound.decode(&mut input);
        let left = input.len();
        self.read.keep_last(left);
        self.handle(result)
    }

    #[inline]
    fn arrived(&mut self, n: usize) {
        self.bytes += n as u64;
        self.timers.heard();
        self.spend(1 + n / BYTES_A_TURN);
    }

    #[inline]
    fn spend(&mut self, turns: usize) {
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
        match &event {
            Event::Message(_) => self.messages += 1,
            Event::Part(part) => self.messages += u64::from(part.last),
            Event::Ping(_) => self.shared.lock().respond(&event),
            Event::Pong(payload) => ping::resolve(&mut self.shared.lock().pings, payload),
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
        drop(writer);
        self.timers.closing(Instant::now().into_std(), self.close_timeout);
        let outcome = match &frame {
            Some(frame) if !ours && !is_clean(frame) => Err(Error::ClosedByPeer(frame.clone())),
            _ => Ok(()),
        };
        self.close_received = CloseReceived::Yes(frame);
        self.phase = Phase::Ending(outcome);
    }

    #[cold]
    fn handle_violation(&mut self, error: ProtocolError) -> Step {
        self.shared.lock().fail(&error);
        self.timers.closing(Instant::now().into_std(), self.close_timeout);
        self.phase = Phase::Ending(Err(Error::Protocol(error)));
        Step::More
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
        self.phase = Phase::Ending(Err(outcome));
    }

    /// Writes what is left to be written, then reports how the connection ended.
    #[cold]
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        if matches!(self.phase, Phase::Ended) {
            return Poll::Ready(Step::End);
        }
        let shared = Arc::clone(&self.shared);
        let mut writer = shared.lock();
        writer.set_owner(cx.waker());
        // Where a task flushes when the handler yields, it goes on with this after the handler's end as well.
        if !shared.is_corked() && writer.poll_flush(cx).is_pending() {
            drop(writer);
            if !self.eof && self.poll_timers(cx).is_pending() {
                return Poll::Pending;
            }
            // The peer takes nothing: what it was owed is dropped when the socket is.
        } else {
            drop(writer);
        }
        match std::mem::replace(&mut self.phase, Phase::Ended) {
            Phase::Ending(Err(error)) => Poll::Ready(Step::Event(Err(error))),
            _ => Poll::Ready(Step::End),
        }
    }

    /// Waits for the next deadline; ready when one has passed and something was done about it.
    #[inline]
    fn poll_timers(&mut self, cx: &mut Context<'_>) -> Poll<()> {
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
        if matches!(self.phase, Phase::Open) {
            self.phase = Phase::Ending(Err(error));
        }
    }

    pub(crate) fn state(&self) -> State {
        match self.phase {
            Phase::Ended => State::Closed,
            _ => State::of(&self.inbound, &self.shared.lock().out),
        }
    }

    #[allow(clippy::option_option, reason = "no close frame and an empty one are two things")]
    pub(crate) fn close_received(&self) -> Option<Option<&CloseFrame>> {
        match &self.close_received {
            CloseReceived::No => None,
            CloseReceived::Yes(frame) => Some(frame.as_ref()),
        }
    }

    pub(crate) fn subprotocol(&self) -> Option<&str> {
        self.names.as_ref()?.subprotocol.as_deref()
    }

    pub(crate) fn extensions(&self) -> Option<&str> {
        self.names.as_ref()?.extensions.as_deref()
    }

    pub(crate) fn stats(&self) -> Stats {
        let writer = self.shared.lock();
        Stats {
            bytes_received: self.bytes,
            messages_received: self.messages,
            bytes_sent: writer.written(),
            messages_sent: writer.messages(),
            bytes_queued: writer.out.pending(),
        }
    }

    /// Gives back what is held while nothing is received.
    pub(crate) fn compact(&mut self) {
        self.read.compact();
    }

    /// One step of leaving: writes what is queued, ends the sending direction, and reads until the peer's end, so that
    /// the close frame is not lost to a reset (RFC 6455 §7.1.1).
    pub(crate) fn poll_leave(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.poll_timers(cx).is_ready() {
                return Poll::Ready(());
            }
            let shared = Arc::clone(&self.shared);
            let mut writer = shared.lock();
            writer.set_owner(cx.waker());
            let mut is_shut = false;
            let written = match writer.poll_flush(cx) {
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(())) => true,
                Poll::Pending => false,
            };
            // With both close frames exchanged, or none to come, this direction is over.
            if written && (self.inbound.is_ended() || self.eof) {
                let Some(io) = &mut writer.io else {
                    return Poll::Ready(());
                };
                match Pin::new(io).poll_shutdown(cx) {
                    Poll::Ready(Err(_)) => return Poll::Ready(()),
                    Poll::Ready(Ok(())) if self.eof => return Poll::Ready(()),
                    Poll::Ready(Ok(())) => is_shut = true,
                    Poll::Pending => {}
                }
            }
            if self.eof {
                return Poll::Pending;
            }
            match self.drain(&mut writer, cx) {
                Poll::Ready(()) => {}
                // "The server MUST close the underlying TCP connection immediately" (RFC 6455 §5.5.1): its peer has
                // nothing more to say, and what it said all the same was just read. A client waits for the server.
                Poll::Pending if is_shut && self.is_server && self.is_closed_by_peer() => {
                    return Poll::Ready(());
                }
                Poll::Pending => return Poll::Pending,
            }
            if self.budget == 0 {
                self.budget = BUDGET;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
    }

    /// Reads and looks only for the peer's close frame.
    fn drain(&mut self, writer: &mut Writer<T>, cx: &mut Context<'_>) -> Poll<()> {
        if self.read.is_empty() {
            let polled = match &mut writer.io {
                Some(io) => ready!(poll_read(&mut self.read, io, cx)),
                None => Ok(0),
            };
            match polled {
                Ok(n) if n > 0 => self.spend(1 + n / BYTES_A_TURN),
                _ => {
                    self.eof = true;
                    return Poll::Ready(());
                }
            }
        }
        let mut input = self.read.bytes();
        while !input.is_empty() {
            match self.inbound.decode(&mut input) {
                Ok(Some(Event::Close(frame))) => self.close_received = CloseReceived::Yes(frame),
                Ok(_) => {}
                Err(_) => break,
            }
        }
        self.read.release();
        Poll::Ready(())
    }

    fn is_closed_by_peer(&self) -> bool {
        matches!(self.close_received, CloseReceived::Yes(_))
    }

    /// Starts leaving: queues a close frame with this content unless one was sent or nobody is there to read it.
    pub(crate) fn begin_leave(&mut self, frame: Option<CloseFrame>) {
        let mut writer = self.shared.lock();
        if !self.eof && writer.check().is_ok() {
            // A frame that must not be sent is replaced by an empty one, which may.
            if writer.out.close(frame).is_err() {
                let _ = writer.out.close(None);
            }
        }
        drop(writer);
        self.inbound.set_parts(false);
        self.phase = Phase::Ended;
        self.timers.closing(Instant::now().into_std(), self.close_timeout);
    }

    /// Whether there is nothing left to do before the transport is dropped.
    pub(crate) fn is_over(&self) -> bool {
        let writer = self.shared.lock();
        self.eof && (writer.out.queue().is_empty() || writer.failure().is_some())
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
fn poll_read<T: Transport>(
    read: &mut ReadBuffer,
    io: &mut T,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    loop {
        let mut buf = ReadBuf::new(read.lend());
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
    use longwire_protocol::CloseCode;
    matches!(frame.code, CloseCode::NORMAL | CloseCode::GOING_AWAY)
}

/// The receiving side of a connection: the only task that reads.
///
/// It also answers pings, keeps the deadlines, and writes what senders left in the queue, so it has to be polled for
/// these to happen. Dropped, it closes the connection: a close frame is sent where the peer can still get one, and the
/// closing handshake goes on in the background for at most [`Config::close_timeout`].
pub struct Receiver<T: Transport> {
    /// Always there but in `drop`.
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
    /// `None` is the end of a connection that was closed with code 1000, 1001 or none, or that this end closed; it is
    /// returned again by every further call. Pings are answered on the way.
    ///
    /// # Errors
    ///
    /// How the connection ended otherwise, once; then `None`. Messages that came before are returned first.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, no message is lost: the next call goes on where this one was.
    #[inline]
    pub fn recv(&mut self) -> impl Future<Output = Result<Option<Message>, Error>> + Send {
        let reader = self.reader_mut();
        poll_fn(|cx| reader.poll_recv(cx))
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
        let reader = self.reader_mut();
        reader.inbound.set_parts(false);
        poll_fn(|cx| {
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
        })
        .await
    }

    /// How far the connection's closing has come.
    pub fn state(&self) -> State {
        self.reader().state()
    }

    /// The close frame that the peer sent: `None` if none came, `Some(None)` if it was empty.
    pub fn close_received(&self) -> Option<Option<&CloseFrame>> {
        self.reader().close_received()
    }

    /// The subprotocol that the handshake agreed on.
    pub fn subprotocol(&self) -> Option<&str> {
        self.reader().subprotocol()
    }

    /// The extensions that the handshake agreed on, as their header names them.
    pub fn extensions(&self) -> Option<&str> {
        self.reader().extensions()
    }

    /// What has gone through the connection so far.
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
            crate::leave::leave_behind(reader);
        }
    }
}

impl<T: Transport> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("state", &self.state()).finish_non_exhaustive()
    }
}

/// What one poll may do before the task yields: an event, or a read of up to [`BYTES_A_TURN`] bytes, costs one.
const BUDGET: usize = 256;

/// How many bytes of a read cost as much as one event.
const BYTES_A_TURN: usize = 4096;

/// When at least this much of a payload is to come, it is read straight into its message.
const DIRECT_FROM: usize = 32 * 1024;
