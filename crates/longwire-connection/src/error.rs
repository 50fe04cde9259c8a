//! The reasons why a connection fails, or a message cannot be sent.

use std::io;
use std::sync::Arc;

use longwire_protocol::{CloseCode, CloseFrame, FrameError, ProtocolError, SendError};

/// The reason why a message could not be received or sent.
///
/// A closing handshake with code 1000, 1001 or none is not an error: receiving then ends with `None`.
#[derive(Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The peer broke the protocol or crossed a limit. A close frame with [`ProtocolError::close_code`] was sent, and
    /// nothing after the violation was interpreted.
    #[error("the peer broke the protocol: {0}")]
    Protocol(ProtocolError),
    /// The peer exceeded [`Config::rate_limit`](crate::Config::rate_limit), and its policy is
    /// [`Excess::Close`](crate::Excess::Close). A close frame with code 1008 was sent, and nothing after the
    /// message that exceeded the limit was interpreted.
    #[error("the peer exceeded the rate limit")]
    RateExceeded,
    /// The connection was closed to free its part of [`Config::memory`](crate::Config::memory): the message that
    /// was arriving, or the compressor of a message being sent in parts. A close frame with code 1013 was sent. A
    /// message that takes more than the whole budget is [`ProtocolError::MessageTooLong`] instead.
    #[error("the memory budget has no room for the message being received or sent")]
    OutOfMemory,
    /// The peer closed with a code other than 1000 and 1001 (RFC 6455 §7.4). An empty close frame is no error.
    #[error("the peer closed the connection: {0}")]
    ClosedByPeer(CloseFrame),
    /// The transport ended without a close frame: messages may be missing (close code 1006, RFC 6455 §7.1.5).
    #[error("the connection was lost: it ended without a close frame")]
    Lost,
    /// The peer did not answer a keepalive ping in time.
    #[error("the connection was lost: no answer to a keepalive ping")]
    PeerGone,
    /// The peer did not finish the closing handshake in time.
    #[error("the peer did not finish the closing handshake in time")]
    CloseTimeout,
    /// The transport failed. Clones share the cause.
    #[error("the transport failed")]
    Io(#[source] Arc<io::Error>),
    /// Nothing can be sent any more: a close frame was sent or received, or the connection is gone.
    #[error("the connection is closed")]
    Closed,
    /// More bytes are queued than [`Config::send_queue`](crate::Config::send_queue) allows, and the call does not
    /// wait.
    #[error("the send queue is full")]
    QueueFull,
    /// The parts of a text message to be sent are not UTF-8 (RFC 6455 §5.6).
    #[error("the text message to be sent is not valid UTF-8")]
    NotText,
    /// The frame to be sent is invalid: a control payload over 125 bytes, a close reason over 123 bytes, or a close
    /// code that must not be sent (RFC 6455 §5.5, §7.4). Nothing was sent.
    #[error(transparent)]
    Invalid(FrameError),
    /// The value to be sent has no form in JSON. Clones share the cause. Nothing was sent.
    #[cfg(feature = "json")]
    #[error("the value to be sent has no form in JSON")]
    Json(#[source] Arc<serde_json::Error>),
}

/// The error type of handlers and hooks of an application: a boxed error of any type.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

longwire_protocol::debug_with_causes!(Error);

impl Error {
    /// Returns the close code with which the connection ended: the peer's, the one sent to the peer, or 1006 for a
    /// connection that ended without one (RFC 6455 §7.1.5). Returns `None` if this error did not end the
    /// connection.
    pub fn close_code(&self) -> Option<CloseCode> {
        match self {
            Self::Protocol(error) => Some(error.close_code()),
            Self::RateExceeded => Some(CloseCode::POLICY_VIOLATION),
            Self::OutOfMemory => Some(CloseCode::TRY_AGAIN_LATER),
            Self::ClosedByPeer(frame) => Some(frame.code),
            Self::Lost | Self::PeerGone | Self::CloseTimeout | Self::Io(_) => {
                Some(CloseCode::ABNORMAL_CLOSURE)
            }
            Self::Closed | Self::QueueFull | Self::NotText | Self::Invalid(_) => None,
            #[cfg(feature = "json")]
            Self::Json(_) => None,
        }
    }

    /// Returns whether this error ends a connection, instead of refusing one message or close.
    pub fn is_disconnect(&self) -> bool {
        match self {
            Self::QueueFull | Self::NotText | Self::Invalid(_) => false,
            #[cfg(feature = "json")]
            Self::Json(_) => false,
            _ => true,
        }
    }
}

impl From<ProtocolError> for Error {
    fn from(error: ProtocolError) -> Self {
        Self::Protocol(error)
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Io(Arc::new(error))
    }
}

impl From<SendError> for Error {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Frame(error) => Self::Invalid(error),
            SendError::MessageOpen => Self::QueueFull,
            _ => Self::Closed,
        }
    }
}
