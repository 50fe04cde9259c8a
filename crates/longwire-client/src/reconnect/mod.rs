//! A connection that is made again whenever it is lost.
//!
//! [`Client::reconnecting`](crate::Client::reconnecting) sets one up, [`Builder::start`] starts it, and the [`Reconnecting`] is
//! used like a [`WebSocket`](crate::WebSocket) that does not end:
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use longwire_client::Client;
//! use longwire_client::reconnect::Event;
//!
//! let mut ws = Client::new("ws://example.com/feed").reconnecting().start();
//! ws.send("written when this is done").await?;
//! while let Some(event) = ws.next_event().await? {
//!     match event {
//!         Event::Message(message) => println!("{message}"),
//!         Event::Reconnected(gap) => println!("{}; back after {:?}", gap.outage, gap.duration),
//!         _ => {}
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # What is promised
//!
//! - A message is sent until it is delivered: **at least once**. One whose connection fails before that is sent again on the
//!   next, in order, so the peer may get it twice: give messages a number if that matters. [`Confirm`] says what
//!   delivered means: written, or, where that is asked for, read by the peer.
//! - What the peer sends while there is no connection is missed. [`Event::Reconnected`] comes exactly where something may be
//!   missing, and [`Reconnecting::gaps`] counts them.
//! - Attempts follow a [`Backoff`] until [`Builder::retry_if`] says no.
//! - What waits is bounded, in messages and bytes, in both directions.

use std::fmt;

use longwire_connection::{CloseCode, CloseFrame, Error, Message};
use tokio::sync::watch;
use tokio::time::Instant;

mod backoff;
mod builder;
mod inbox;
mod outage;
mod outbox;
mod sender;
mod serve;
mod shared;
mod task;

pub use backoff::{Backoff, Jitter};
pub use builder::{Builder, Confirm};
pub use inbox::Event;
pub use outage::{BoxError, Failure, Gap, Outage};
pub use sender::Sender;

/// What a connection that is made again is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// It is being made, and [`Builder::on_connect`] runs.
    Connecting {
        /// Which attempt this is, from 1 on. A connection that lasts [`Backoff::reset_after`] begins a new count.
        attempt: u32,
    },
    /// It is there.
    Connected,
    /// The next attempt is waited for.
    Waiting {
        /// How many failures there were in a row.
        failures: u32,
        /// When it is made.
        until: Instant,
    },
    /// This end has closed or given up; it stays so.
    Stopped,
}

/// A connection that is made again whenever it is lost.
///
/// A task of its own keeps it, sends what is queued, and receives up to 256 messages or 1 MiB ahead: then it waits
/// for the application to take them, and the peer waits too. An application that only sends has to receive all the same.
///
/// Dropped, it closes in the background, as [`close`](Self::close) does with code 1000.
pub struct Reconnecting {
    sender: Sender,
    incoming: inbox::Taking,
    gaps: u64,
}

impl Reconnecting {
    fn new(sender: Sender, incoming: inbox::Taking) -> Self {
        Self { sender, incoming, gaps: 0 }
    }

    /// Receives the next message, over this connection or a later one.
    ///
    /// `None` is the end: this end has closed, or the peer has with code 1000 and [`Builder::retry_if`] let it be; it is
    /// returned again by every further call. To know where messages may be missing, use [`next_event`](Self::next_event) or look at
    /// [`gaps`](Self::gaps).
    ///
    /// # Errors
    ///
    /// Why no more attempts are made, once; then `None`. Messages that came before are returned first.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, no message is lost: the next call goes on where this one was.
    pub async fn recv(&mut self) -> Result<Option<Message>, Outage> {
        loop {
            match self.next_event().await? {
                Some(Event::Message(message)) => return Ok(Some(message)),
                Some(Event::Reconnected(_)) => {}
                None => return Ok(None),
            }
        }
    }

    /// Receives the next message, or that messages may be missing here.
    ///
    /// # Errors
    ///
    /// As for [`recv`](Self::recv).
    ///
    /// # Cancel safety
    ///
    /// As for [`recv`](Self::recv).
    pub async fn next_event(&mut self) -> Result<Option<Event>, Outage> {
        let event = self.incoming.next().await;
        match &event {
            Some(Event::Reconnected(_)) => self.gaps += 1,
            Some(Event::Message(_)) => {}
            None => {
                if let Some(outage) = self.sender.shared().take_last() {
                    return Err(outage);
                }
            }
        }
        Ok(event)
    }

    /// How many gaps there were before what was received last: how often the connection was lost and made again. Where it has
    /// grown between two messages, others may be missing between them.
    pub fn gaps(&self) -> u64 {
        self.gaps
    }

    /// Sends one message and waits until it is delivered: as [`Sender::send`], with its errors and its cancel safety.
    pub async fn send(&self, message: impl Into<Message>) -> Result<(), Error> {
        self.sender.send(message).await
    }

    /// Queues one message: as [`Sender::feed`], with its errors and its cancel safety.
    pub async fn feed(&self, message: impl Into<Message>) -> Result<(), Error> {
        self.sender.feed(message).await
    }

    /// Queues one message if there is room now: as [`Sender::try_send`], with its errors.
    pub fn try_send(&self, message: impl Into<Message>) -> Result<(), Error> {
        self.sender.try_send(message)
    }

    /// Waits until all that is queued is delivered: as [`Sender::flush`], with its errors and its cancel safety.
    pub async fn flush(&self) -> Result<(), Error> {
        self.sender.flush().await
    }

    /// A handle to send from any task.
    pub fn sender(&self) -> Sender {
        self.sender.clone()
    }

    /// What the connection is doing: see [`Sender::state`].
    pub fn state(&self) -> watch::Receiver<State> {
        self.sender.state()
    }

    /// Closes for good, and waits until that is done, for at most [`Builder::close_timeout`].
    ///
    /// Nothing more is taken from then on. If there is a connection, what is queued is delivered first, then the closing handshake
    /// is done; messages that come meanwhile are dropped. If there is none, what is queued is dropped: [`flush`](Self::flush) first
    /// to have it delivered however long that takes. What was received before can still be taken.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for a code that must not be sent or a reason above 123 bytes: nothing has changed.
    /// [`Error::CloseTimeout`] if it took too long, [`Error::Closed`] if messages were dropped because there was no connection,
    /// because the peer closed it, or because it was given up before, else how the connection ended before the peer's close
    /// frame. A second call tells the same.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, closing goes on by itself; another call waits for it.
    pub async fn close(&mut self, code: impl Into<CloseCode>, reason: &str) -> Result<(), Error> {
        let frame = CloseFrame::new(code.into(), reason);
        frame.check().map_err(Error::Invalid)?;
        self.sender.shared().start_close(frame);
        self.sender.shared().ended().await
    }
}

impl Drop for Reconnecting {
    fn drop(&mut self) {
        self.sender.shared().start_close(CloseFrame::new(CloseCode::NORMAL, ""));
    }
}

impl fmt::Debug for Reconnecting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reconnecting")
            .field("state", &*self.sender.state().borrow())
            .field("gaps", &self.gaps)
            .finish_non_exhaustive()
    }
}
