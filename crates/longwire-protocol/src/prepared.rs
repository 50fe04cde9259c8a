//! Messages that are framed once and sent to many (RFC 6455 §5.1: what a server sends is the same for every client).

use bytes::Bytes;

use crate::outbound::data_header;
use crate::{Message, Text};

/// A message with its frame, encoded once for any number of receivers.
///
/// Clones share the bytes. Sending one to a thousand clients costs one encoding and no copy of the payload for a client
/// that has something before it in its queue.
///
/// # Examples
///
/// ```
/// use longwire_protocol::{Outbound, PreparedMessage};
///
/// let news = PreparedMessage::new("news");
/// let (mut one, mut other) = (Outbound::new(None), Outbound::new(None));
/// one.prepared(&news)?;
/// other.prepared(&news)?;
/// assert_eq!(one.queue().contiguous(), other.queue().contiguous());
/// # Ok::<(), longwire_protocol::SendError>(())
/// ```
#[derive(Clone, Debug)]
pub struct PreparedMessage {
    text: bool,
    /// Header and payload as a server sends them.
    frame: Bytes,
    header_len: usize,
}

impl PreparedMessage {
    /// Frames a message.
    pub fn new(message: impl Into<Message>) -> Self {
        let message = message.into();
        let header = data_header(message.opcode(), true, message.len(), None);
        let mut frame = Vec::with_capacity(header.len() + message.len());
        frame.extend_from_slice(&header);
        frame.extend_from_slice(message.as_bytes());
        Self { text: message.is_text(), frame: frame.into(), header_len: header.len() }
    }

    /// The message that was framed; it shares its bytes with the frame.
    pub fn message(&self) -> Message {
        let payload = self.frame.slice(self.header_len..);
        if self.text { Message::Text(Text::from_validated(payload)) } else { Message::Binary(payload) }
    }

    /// Whether this is a text message.
    pub const fn is_text(&self) -> bool {
        self.text
    }

    /// The frame as a server sends it.
    pub fn server_frame(&self) -> &Bytes {
        &self.frame
    }
}

impl From<Message> for PreparedMessage {
    fn from(message: Message) -> Self {
        Self::new(message)
    }
}
