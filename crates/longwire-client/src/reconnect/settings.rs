//! The settings of a reconnecting connection, as its task uses them.

use std::pin::Pin;
use std::time::Duration;

use longwire_connection::{BoxError, Message, Transport as Stream, WebSocket};

use super::{Backoff, Failure};
use crate::Error;

/// The point at which a message counts as delivered. Until then, `send` waits, and the message is kept to be sent
/// again on the next connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Confirm {
    /// Once the whole message is written to the transport. Bytes that the system has accepted but not sent when the
    /// connection fails are lost: without an answer from the peer, no more can be known.
    Written,
    /// Once the peer has answered a ping that was sent after the message (RFC 6455 §5.5.2, §5.5.3). The peer has then
    /// read the message, so no message reported as delivered is lost. A peer that continues to read only after its
    /// application has taken the earlier messages, as longwire does, has passed it to its application. Only an answer
    /// from the application can show what it did with the message.
    ///
    /// **Another task must receive all the time** while one sends: a pong arrives after the messages that the peer
    /// sent before it, and at most 256 messages or 1 MiB of them are buffered. A loop that sends and receives in turn
    /// would wait for itself forever once the peer is that far ahead.
    /// [`delivery_timeout`](super::Builder::delivery_timeout) detects a peer that does not answer pings.
    Pong,
}

type Future<T> = Pin<Box<dyn std::future::Future<Output = T> + Send>>;
/// Makes the attempt with this number, counted as in [`Phase`](super::Phase).
type Connect<T> = Box<dyn FnMut(u32) -> Future<Result<WebSocket<T>, Error>> + Send>;
type OnConnect<T> = Box<dyn FnMut(WebSocket<T>) -> Future<Result<WebSocket<T>, BoxError>> + Send>;
pub(super) type OnMessage = Box<dyn FnMut(&Message) + Send>;
type RetryIf = Box<dyn FnMut(&Failure<'_>) -> bool + Send>;

/// The settings of the task.
pub(super) struct Settings<T: Stream> {
    pub(super) connect: Connect<T>,
    pub(super) on_connect: Option<OnConnect<T>>,
    pub(super) on_message: Option<OnMessage>,
    pub(super) retry_if: RetryIf,
    pub(super) backoff: Backoff,
    pub(super) confirm: Confirm,
    pub(super) setup_timeout: Duration,
    pub(super) delivery_timeout: Option<Duration>,
    pub(super) close_timeout: Duration,
}
