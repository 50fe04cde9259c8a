//! A connection that is re-established whenever it is lost.
//!
//! [`Client::reconnecting`](crate::Client::reconnecting) configures one and [`Builder::start`] starts it. The
//! resulting [`Reconnecting`] is used like a [`WebSocket`](crate::WebSocket) that does not end:
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
//! # Guarantees
//!
//! - A message is sent until it is delivered: **at least once**. If its connection fails first, the message is sent
//!   again on the next one, in order, so the peer may receive it twice. Number the messages if that matters.
//!   [`Confirm`] defines when a message counts as delivered: once it is written or, on request, once the peer has
//!   read it.
//! - Messages that the peer sends while there is no connection are missed. [`Event::Reconnected`] arrives exactly
//!   where messages may be missing, and [`Reconnecting::gaps`] counts these gaps.
//! - Attempts follow a [`Backoff`] until [`Builder::retry_if`] returns `false`.
//! - Both queues are bounded, in messages and in bytes.

use std::fmt;

use longwire_connection::{CloseCode, CloseFrame, Error, Message};
use tokio::sync::watch;

mod backoff;
mod builder;
mod inbox;
mod outage;
mod outbox;
mod sender;
mod serve;
mod settings;
mod shared;
mod task;

pub use backoff::{Backoff, Jitter};
pub use builder::Builder;
pub use inbox::Event;
pub use outage::{Failure, Gap, Outage};
pub use sender::Sender;
pub use settings::Confirm;
pub use shared::Phase;

/// A connection that is re-established whenever it is lost.
///
/// A separate task keeps the connection, sends queued messages, and receives up to 256 messages or 1 MiB ahead of the
/// application. Then it waits for the application to receive them, and the peer waits too. Even an application that
/// only sends must receive.
///
/// When dropped, it closes in the background, as [`close`](Self::close) does with code 1000.
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
    /// `None` is the end: this end has closed, or the peer has closed with code 1000 and [`Builder::retry_if`] did
    /// not retry. Every further call returns it again. To learn where messages may be missing, use
    /// [`next_event`](Self::next_event) or check [`gaps`](Self::gaps).
    ///
    /// # Errors
    ///
    /// The outage after which no more attempts are made, once; then `None`. Messages received before are returned
    /// first.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, no message is lost: the next call continues where this one stopped.
    pub async fn recv(&mut self) -> Result<Option<Message>, Outage> {
        loop {
            match self.next_event().await? {
                Some(Event::Message(message)) => return Ok(Some(message)),
                Some(Event::Reconnected(_)) => {}
                None => return Ok(None),
            }
        }
    }

    /// Receives the next message, or the notice that messages may be missing here.
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

    /// Returns the number of gaps so far: how often the connection was lost and re-established before the last
    /// received message. If the number grows between two messages, others may be missing between them.
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

    /// Queues one message if there is space now: as [`Sender::try_send`], with its errors.
    pub fn try_send(&self, message: impl Into<Message>) -> Result<(), Error> {
        self.sender.try_send(message)
    }

    /// Waits until every queued message is delivered: as [`Sender::flush`], with its errors and its cancel safety.
    pub async fn flush(&self) -> Result<(), Error> {
        self.sender.flush().await
    }

    /// Returns a handle with which any task can send.
    pub fn sender(&self) -> Sender {
        self.sender.clone()
    }

    /// Returns the state of the connection: see [`Sender::phase`].
    pub fn phase(&self) -> watch::Receiver<Phase> {
        self.sender.phase()
    }

    /// Closes for good, and waits until that is done, for at most [`Builder::close_timeout`].
    ///
    /// No further message is accepted. If there is a connection, queued messages are delivered first, then the
    /// closing handshake follows; messages that arrive meanwhile are dropped. If there is no connection, queued
    /// messages are dropped: call [`flush`](Self::flush) first to wait for their delivery, however long that takes.
    /// Messages received before can still be read.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for a code that must not be sent or a reason above 123 bytes: nothing has changed.
    /// [`Error::CloseTimeout`] if it took too long. [`Error::Closed`] if messages were dropped because there was no
    /// connection, because the peer closed it, or because this end had given up before. Otherwise the error that
    /// ended the connection before the peer's close frame. A second call returns the same.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, closing continues in the background; another call waits for it.
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
            .field("state", &*self.sender.phase().borrow())
            .field("gaps", &self.gaps)
            .finish_non_exhaustive()
    }
}
