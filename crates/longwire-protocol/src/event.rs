//! What a peer does, as the receiving half reports it.

use bytes::Bytes;
use longwire_frame::Opcode;

use crate::{CloseFrame, Message};

/// What the peer did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A whole message.
    Message(Message),
    /// A piece of a message, while [`Inbound::set_parts`](crate::Inbound::set_parts) asks for pieces.
    Part(Part),
    /// A ping with its payload of at most 125 bytes; a pong is owed (RFC 6455 §5.5.2).
    Ping(Bytes),
    /// A pong with its payload of at most 125 bytes, asked for or not (RFC 6455 §5.5.3).
    Pong(Bytes),
    /// The close frame, the last event there is; `None` if it was empty (RFC 6455 §5.5.1).
    Close(Option<CloseFrame>),
}

/// A piece of a message that is received in parts.
///
/// Pieces follow what arrives, not the peer's frames. The pieces of a text message are valid UTF-8 together; a single
/// one may begin or end inside a character.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// [`Opcode::Text`] or [`Opcode::Binary`], the same for all pieces of a message.
    pub opcode: Opcode,
    /// The piece's bytes, possibly none.
    pub data: Bytes,
    /// Whether the message ends with this piece.
    pub last: bool,
}
