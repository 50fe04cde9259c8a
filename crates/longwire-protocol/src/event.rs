//! The peer's actions, as the receiving half reports them.

use bytes::Bytes;

use crate::{CloseFrame, Message, MessageKind};

/// An action of the peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A whole message.
    Message(Message),
    /// A piece of a message, if pieces were requested with [`Inbound::set_parts`](crate::Inbound::set_parts).
    Part(Part),
    /// A ping with its payload of at most 125 bytes; a pong is owed (RFC 6455 §5.5.2).
    Ping(Bytes),
    /// A pong with its payload of at most 125 bytes, solicited or not (RFC 6455 §5.5.3).
    Pong(Bytes),
    /// The close frame, which is the last event; code 1005 if it was empty (RFC 6455 §7.1.5).
    Close(CloseFrame),
}

/// A piece of a message that is received in parts.
///
/// Pieces follow the bytes as they arrive, not the peer's frames. The pieces of a text message are valid UTF-8
/// together; a single one may begin or end inside a character.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The kind of the message, the same for all of its pieces.
    pub kind: MessageKind,
    /// The bytes of the piece, possibly none.
    pub data: Bytes,
    /// Whether the message ends with this piece.
    pub last: bool,
}
