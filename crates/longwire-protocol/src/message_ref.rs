//! Messages that are only looked at: a payload borrowed from the buffer that it lies in.

use std::fmt;

use bytes::Bytes;

use crate::text::str_of_validated;
use crate::{Message, MessageKind, Text};

/// One text or binary message whose payload is borrowed.
///
/// Strings become text, byte containers become binary, as for [`Message`]:
///
/// ```
/// use longwire_protocol::{Message, MessageRef};
///
/// let text = MessageRef::from("hello");
/// assert_eq!(text, MessageRef::Text("hello"));
/// assert_eq!(text.as_bytes(), b"hello");
/// let kept: Message = text.to_message();
/// assert_eq!(MessageRef::from(&kept), text);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum MessageRef<'a> {
    /// Text (opcode 1).
    Text(&'a str),
    /// Bytes whose meaning is up to the application (opcode 2).
    Binary(&'a [u8]),
}

impl<'a> MessageRef<'a> {
    /// Returns whether this is a text or a binary message.
    #[inline]
    pub const fn kind(self) -> MessageKind {
        match self {
            Self::Text(_) => MessageKind::Text,
            Self::Binary(_) => MessageKind::Binary,
        }
    }

    /// Returns whether this is a text message.
    #[inline]
    pub const fn is_text(self) -> bool {
        matches!(self, Self::Text(_))
    }

    /// Returns whether this is a binary message.
    #[inline]
    pub const fn is_binary(self) -> bool {
        matches!(self, Self::Binary(_))
    }

    /// Returns the text of a text message, or `None` for a binary one, whatever its bytes are.
    #[inline]
    pub const fn as_text(self) -> Option<&'a str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Binary(_) => None,
        }
    }

    /// Returns the payload's bytes, of either kind.
    #[inline]
    pub const fn as_bytes(self) -> &'a [u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Binary(bytes) => bytes,
        }
    }

    /// Returns the payload's length in bytes.
    #[inline]
    pub const fn len(self) -> usize {
        self.as_bytes().len()
    }

    /// Returns whether the payload is empty: such messages are legal and are delivered.
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Copies the payload into a message that can be kept.
    pub fn to_message(self) -> Message {
        match self {
            Self::Text(text) => text.into(),
            Self::Binary(bytes) => bytes.into(),
        }
    }

    /// Creates a message of this kind. The payload of a text message has been validated.
    #[inline]
    pub(crate) fn from_validated(kind: MessageKind, payload: &'a [u8]) -> Self {
        match kind {
            MessageKind::Text => Self::Text(str_of_validated(payload)),
            MessageKind::Binary => Self::Binary(payload),
        }
    }
}

/// Formats a text message as its text and a binary one as `binary, N bytes`.
impl fmt::Display for MessageRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => text.fmt(f),
            Self::Binary(bytes) => write!(f, "binary, {} bytes", bytes.len()),
        }
    }
}

/// Formats at most the first 64 bytes of the payload: a log line must not grow with what a peer sends.
impl fmt::Debug for MessageRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 64;
        match self {
            Self::Text(text) if text.len() <= SHOWN => f.debug_tuple("Text").field(text).finish(),
            Self::Text(text) => {
                let cut = (0..=SHOWN).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
                write!(f, "Text({:?}.. {} bytes)", &text[..cut], text.len())
            }
            Self::Binary(bytes) if bytes.len() <= SHOWN => {
                write!(f, "Binary(b\"{}\")", bytes.escape_ascii())
            }
            Self::Binary(bytes) => {
                write!(f, "Binary(b\"{}\".. {} bytes)", bytes[..SHOWN].escape_ascii(), bytes.len())
            }
        }
    }
}

impl<'a> From<&'a Message> for MessageRef<'a> {
    #[inline]
    fn from(message: &'a Message) -> Self {
        match message {
            Message::Text(text) => Self::Text(text.as_str()),
            Message::Binary(bytes) => Self::Binary(bytes),
        }
    }
}

impl From<MessageRef<'_>> for Message {
    fn from(message: MessageRef<'_>) -> Self {
        message.to_message()
    }
}

impl<'a, const N: usize> From<&'a [u8; N]> for MessageRef<'a> {
    #[inline]
    fn from(bytes: &'a [u8; N]) -> Self {
        Self::Binary(bytes)
    }
}

/// Strings become text, byte containers become binary.
macro_rules! impl_from {
    ($($from:ty => $kind:ident,)*) => {$(
        impl<'a> From<&'a $from> for MessageRef<'a> {
            #[inline]
            fn from(payload: &'a $from) -> Self {
                Self::$kind(payload)
            }
        }
    )*};
}

impl_from! {
    str => Text,
    String => Text,
    Text => Text,
    [u8] => Binary,
    Vec<u8> => Binary,
    Bytes => Binary,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_the_same_as_a_message() {
        let messages = [
            Message::text("Grüße"),
            Message::binary(&b"\x00\"\n\xff"[..]),
            Message::text("ä".repeat(100)),
            Message::binary(vec![7; 100]),
        ];
        for message in &messages {
            let lent = MessageRef::from(message);
            assert_eq!(lent.to_string(), message.to_string());
            assert!(format!("{lent:?}").len() < 400, "{lent:?}");
            assert_eq!(lent.to_message(), *message);
            assert_eq!((lent.kind(), lent.len()), (message.kind(), message.len()));
            assert_eq!((lent.as_text(), lent.as_bytes()), (message.as_text(), message.as_bytes()));
        }
        assert_eq!(format!("{:?}", MessageRef::from(&messages[0])), format!("{:?}", messages[0]));
    }

    #[test]
    fn debug_output_shows_64_bytes_whole_and_no_more() {
        for (shown, message) in [
            (format!("Text({:?})", "a".repeat(64)), Message::text("a".repeat(64))),
            (format!("Text({:?}.. 65 bytes)", "a".repeat(64)), Message::text("a".repeat(65))),
            (format!("Binary(b{:?})", "a".repeat(64)), Message::binary(vec![b'a'; 64])),
            (format!("Binary(b{:?}.. 65 bytes)", "a".repeat(64)), Message::binary(vec![b'a'; 65])),
        ] {
            assert_eq!(format!("{message:?}"), shown);
            assert_eq!(format!("{:?}", MessageRef::from(&message)), shown);
        }
    }
}
