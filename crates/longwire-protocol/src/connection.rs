//! Both halves and the deadlines as one machine, for drivers that own them together.
//!
//! Owns only the wiring: each event is passed to the sending half, and each error fails it.

use std::time::{Duration, Instant};

use longwire_frame::Role;

use crate::{
    CloseFrame, Due, Event, Inbound, Keepalive, Limits, MaskingKeys, Message, Outbound, ProtocolError,
    SendError, Timers,
};

/// The progress of a connection's closing (RFC 6455 §7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Messages can be sent and received.
    Open,
    /// A close frame was sent, or nothing more is accepted from the peer, but not both.
    Closing,
    /// Both directions have ended: it remains to write what is queued and to close the transport.
    Closed,
}

/// A whole connection without IO: the peer's bytes in, events and bytes out, time as an argument.
///
/// # Examples
///
/// ```
/// use std::time::Instant;
/// use longwire_protocol::{CloseCode, CloseFrame, Connection, Event, Limits, Message, Role, State};
///
/// let mut server = Connection::new(Role::Server, None, Limits::default());
/// // "Hello", masked (RFC 6455 §5.7), and an empty close frame
/// let mut input = &b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58\x88\x80\0\0\0\0"[..];
/// let now = Instant::now();
/// let event = server.handle_bytes(&mut input, now)?;
/// assert_eq!(event, Some(Event::Message(Message::text("Hello"))));
/// let no_code = CloseFrame::new(CloseCode::NO_STATUS_RECEIVED, "");
/// assert_eq!(server.handle_bytes(&mut input, now)?, Some(Event::Close(no_code)));
/// assert_eq!(server.state(), State::Closed);
/// assert_eq!(server.outbound().queue().contiguous(), Some(&b"\x88\x00"[..]));
/// # Ok::<(), longwire_protocol::ProtocolError>(())
/// ```
#[derive(Debug)]
pub struct Connection {
    inbound: Inbound,
    outbound: Outbound,
    timers: Timers,
    close_timeout: Duration,
}

impl Connection {
    /// Creates an open connection without keepalive, with a limit of 5 s for the closing handshake.
    ///
    /// # Panics
    ///
    /// If a client has no masking keys, or a server has them.
    pub fn new(role: Role, keys: Option<MaskingKeys>, limits: Limits) -> Self {
        assert_eq!(role == Role::Client, keys.is_some(), "a client masks, a server does not (RFC 6455 §5.1)");
        Self {
            inbound: Inbound::new(role, limits),
            outbound: Outbound::new(keys),
            timers: Timers::idle(),
            close_timeout: Duration::from_secs(5),
        }
    }

    /// Starts pinging a silent peer.
    #[must_use]
    pub fn with_keepalive(mut self, keepalive: Keepalive, now: Instant) -> Self {
        self.timers = Timers::new(Some(keepalive), now);
        self
    }

    /// Sets the limit of the closing handshake. Default: 5 s.
    #[must_use]
    pub fn with_close_timeout(mut self, close_timeout: Duration) -> Self {
        self.close_timeout = close_timeout;
        self
    }

    /// Takes bytes from the peer until an event is complete or `input` is used up; any reply that is owed is queued.
    ///
    /// As with [`Inbound::decode`], `None` with some of `input` left means that the decompression limit of one call was
    /// reached: call again.
    ///
    /// # Errors
    ///
    /// The peer's violation; the close frame for it is queued, and nothing more is interpreted.
    pub fn handle_bytes(&mut self, input: &mut &[u8], now: Instant) -> Result<Option<Event>, ProtocolError> {
        if !input.is_empty() {
            self.timers.heard();
        }
        let result = self.inbound.decode(input);
        match &result {
            Ok(Some(event)) => self.outbound.respond(event),
            Ok(None) => {}
            Err(error) => self.outbound.fail(error),
        }
        if self.inbound.is_ended() || self.outbound.is_closing() {
            self.timers.closing(now, self.close_timeout);
        }
        result
    }

    /// Returns what is due at `now`; a keepalive ping is queued before this returns.
    pub fn handle_timeout(&mut self, now: Instant) -> Due {
        let due = self.timers.handle_timeout(now);
        match due {
            // The empty payload distinguishes its pong from the pong to an application's ping.
            Due::Ping => drop(self.outbound.ping(&[])),
            Due::PeerGone | Due::CloseTimedOut => self.inbound.end(),
            Due::Nothing => {}
        }
        due
    }

    /// Returns the time at which [`handle_timeout`](Self::handle_timeout) must be called next.
    pub fn deadline(&self) -> Option<Instant> {
        self.timers.deadline()
    }

    /// Queues a message.
    ///
    /// # Errors
    ///
    /// As for [`Outbound::message`].
    pub fn send(&mut self, message: impl Into<Message>) -> Result<(), SendError> {
        self.outbound.message(message.into())
    }

    /// Queues the close frame and starts the limit of the closing handshake.
    ///
    /// # Errors
    ///
    /// As for [`Outbound::close`].
    pub fn close(&mut self, frame: Option<CloseFrame>, now: Instant) -> Result<(), SendError> {
        self.outbound.close(frame)?;
        self.timers.closing(now, self.close_timeout);
        Ok(())
    }

    /// Returns the progress of the closing.
    pub fn state(&self) -> State {
        State::of(&self.inbound, &self.outbound)
    }

    /// Returns the sending half: the bytes waiting to be written, and the state of sending.
    pub fn outbound(&self) -> &Outbound {
        &self.outbound
    }

    /// Returns the sending half, to send and to remove what was written.
    pub fn outbound_mut(&mut self) -> &mut Outbound {
        &mut self.outbound
    }

    /// Returns the receiving half.
    pub fn inbound_mut(&mut self) -> &mut Inbound {
        &mut self.inbound
    }
}

impl State {
    /// Derives the connection's state from its two halves.
    pub fn of(inbound: &Inbound, outbound: &Outbound) -> Self {
        match (inbound.is_ended(), outbound.is_closing()) {
            (false, false) => Self::Open,
            (true, true) => Self::Closed,
            _ => Self::Closing,
        }
    }
}
