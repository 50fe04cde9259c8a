//! Errors: violations by the peer, and requests of the application that cannot be sent.
//!
//! Owns the mapping from a violation to the close code due for it ([`ProtocolError::close_code`]).

use longwire_frame::{CloseCode, FrameError, InvalidUtf8};

/// A violation by the peer, or a limit that it exceeded.
///
/// After one of these the connection has failed (RFC 6455 §7.1.7): no further byte of the peer is interpreted, and a
/// close frame with [`close_code`](Self::close_code) is due.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// A frame is malformed in itself (RFC 6455 §5.2, §5.5). Close code 1002, or 1007 for a close reason that is not
    /// UTF-8.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A continuation frame arrived with no message to continue (RFC 6455 §5.4). Close code 1002.
    #[error("continuation frame without a message to continue")]
    UnexpectedContinuation,
    /// A new message began before the last one had ended (RFC 6455 §5.4). Close code 1002.
    #[error("a new message began inside an unfinished one")]
    UnfinishedMessage,
    /// RSV1 was set though no extension that gives it a meaning was negotiated (RFC 6455 §5.2). Close code 1002.
    #[error("RSV1 is set but no extension was negotiated")]
    UnexpectedRsv1,
    /// A text message is not UTF-8 (RFC 6455 §8.1). Close code 1007.
    #[error("text message is not valid UTF-8")]
    InvalidUtf8,
    /// A frame's header announces more than [`Limits::max_frame`](crate::Limits::max_frame). Close code 1009.
    #[error("frame of {len} bytes, at most {max} are allowed")]
    FrameTooLong {
        /// The announced length in bytes.
        len: u64,
        /// The limit in bytes.
        max: usize,
    },
    /// A message is, or is announced to become, longer than [`Limits::max_message`](crate::Limits::max_message), or it
    /// takes more memory than a whole budget of `longwire-connection`. Close code 1009.
    #[error("message of at least {len} bytes, at most {max} are allowed")]
    MessageTooLong {
        /// The length that the message would have reached with the frame that exceeded the limit, in bytes; for a
        /// budget, the memory that it took.
        len: u64,
        /// The limit in bytes.
        max: usize,
    },
    /// A message consists of more frames than [`Limits::max_fragments`](crate::Limits::max_fragments). Close code 1008.
    #[error("message in more than {max} fragments")]
    TooManyFragments {
        /// The limit in frames.
        max: u32,
    },
    /// The payload of a compressed message is not valid compressor output, or ends too early (RFC 7692 §7.2.2). Close
    /// code 1007.
    #[error("compressed message is malformed")]
    MalformedCompression,
    /// A compressed message ends its stream repeatedly, each time at a cost. Close code 1008.
    #[error("compressed message has too many final blocks")]
    TooManyFinalBlocks,
}

longwire_frame::debug_with_causes!(ProtocolError, SendError);

impl ProtocolError {
    /// Returns the close code that reports the violation to the peer (RFC 6455 §7.4.1).
    pub fn close_code(&self) -> CloseCode {
        match self {
            Self::Frame(error) => error.close_code(),
            Self::UnexpectedContinuation | Self::UnfinishedMessage | Self::UnexpectedRsv1 => {
                CloseCode::PROTOCOL_ERROR
            }
            Self::InvalidUtf8 | Self::MalformedCompression => CloseCode::INVALID_PAYLOAD,
            Self::FrameTooLong { .. } | Self::MessageTooLong { .. } => CloseCode::MESSAGE_TOO_BIG,
            Self::TooManyFragments { .. } | Self::TooManyFinalBlocks => CloseCode::POLICY_VIOLATION,
        }
    }
}

impl From<InvalidUtf8> for ProtocolError {
    fn from(_: InvalidUtf8) -> Self {
        Self::InvalidUtf8
    }
}

/// A request of the application that cannot be sent.
///
/// Nothing was sent, and the connection is unchanged.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// A close frame was already sent: no frame may follow it (RFC 6455 §5.5.1).
    #[error("the connection is closing: a close frame was already sent")]
    Closing,
    /// A ping or pong payload above 125 bytes, a close reason above 123, or a close code that must not be sent
    /// (RFC 6455 §5.5, §7.4).
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A message in parts is open: no other message may begin before it has ended (RFC 6455 §5.4).
    #[error("a message in parts is still open")]
    MessageOpen,
    /// A part was given, but no message in parts is open.
    #[error("no message in parts is open")]
    NoMessageOpen,
}
