//! Messages: the data that applications send and receive (RFC 6455 §5.6).
//!
//! Owns the application's view of data and the content of close frames. Splitting messages into frames belongs to
//! [`crate::outbound`], assembling them to [`crate::inbound`].

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use longwire_frame::close::encode_close;
use longwire_frame::{CloseCode, FrameError, Opcode};

use crate::Text;

/// One text or binary message.
///
/// Clones share the payload. Strings become text, byte containers become binary:
///
/// ```
/// use longwire_protocol::Message;
///
/// let text: Message = "hello".into();
/// assert!(text.is_text());
/// let binary: Message = vec![1, 2, 3].into();
/// assert_eq!(binary.as_bytes(), [1, 2, 3]);
/// assert_eq!(text.as_text(), Some("hello"));
/// assert_eq!(binary.as_text(), None);
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Message {
    /// Text: always valid UTF-8 (opcode 1).
    Text(Text),
    /// Bytes whose meaning is up to the application (opcode 2).
    Binary(Bytes),
}

/// The kind of a message (RFC 6455 §5.6): the protocol has these two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MessageKind {
    /// UTF-8 text (opcode 1).
    Text,
    /// Arbitrary bytes (opcode 2).
    Binary,
}

impl MessageKind {
    /// Returns the opcode of the first frame of such a message.
    #[inline]
    pub const fn opcode(self) -> Opcode {
        match self {
            Self::Text => Opcode::Text,
            Self::Binary => Opcode::Binary,
        }
    }
}

/// The choice to compress a message, if compression was negotiated (RFC 7692 §6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Compress {
    /// By its length: compressed from the connection's threshold on.
    #[default]
    Auto,
    /// Whatever its length. If contexts are not kept between messages, one that would not shrink is sent uncompressed.
    Always,
    /// Not compressed. For data that is compressed already, and for secrets next to text that somebody else chooses
    /// (RFC 7692 §8).
    Never,
}

impl Message {
    /// Creates a text message.
    pub fn text(text: impl Into<Text>) -> Self {
        Self::Text(text.into())
    }

    /// Creates a binary message.
    pub fn binary(bytes: impl Into<Bytes>) -> Self {
        Self::Binary(bytes.into())
    }

    /// Returns whether this is a text message.
    pub const fn is_text(&self) -> bool {
        matches!(self, Self::Text(_))
    }

    /// Returns whether this is a binary message.
    pub const fn is_binary(&self) -> bool {
        matches!(self, Self::Binary(_))
    }

    /// Returns the text of a text message, or `None` for a binary one, whatever its bytes are.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text.as_str()),
            Self::Binary(_) => None,
        }
    }

    /// Returns the payload's bytes, of either kind.
    pub fn as_bytes(&self) -> &[u8] {
        self.payload()
    }

    /// Returns the payload as shared bytes, of either kind.
    pub fn payload(&self) -> &Bytes {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Binary(bytes) => bytes,
        }
    }

    /// Consumes the message and returns its payload, of either kind.
    pub fn into_payload(self) -> Bytes {
        match self {
            Self::Text(text) => text.into_bytes(),
            Self::Binary(bytes) => bytes,
        }
    }

    /// Returns the payload's length in bytes.
    pub fn len(&self) -> usize {
        self.payload().len()
    }

    /// Returns whether the payload is empty: such messages are legal and are delivered.
    pub fn is_empty(&self) -> bool {
        self.payload().is_empty()
    }

    /// Returns whether this is a text or a binary message.
    pub const fn kind(&self) -> MessageKind {
        match self {
            Self::Text(_) => MessageKind::Text,
            Self::Binary(_) => MessageKind::Binary,
        }
    }

    /// Returns the opcode of the message's first frame.
    pub(crate) const fn opcode(&self) -> Opcode {
        self.kind().opcode()
    }

    /// Creates a message of this kind. The payload of a text message has been validated.
    #[inline]
    pub(crate) fn from_validated(kind: MessageKind, payload: Bytes) -> Self {
        match kind {
            MessageKind::Text => Self::Text(Text::from_validated(payload)),
            MessageKind::Binary => Self::Binary(payload),
        }
    }
}

/// Formats a text message as its text and a binary one as `binary, N bytes`.
impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => text.fmt(f),
            Self::Binary(bytes) => write!(f, "binary, {} bytes", bytes.len()),
        }
    }
}

/// Formats at most the first 64 bytes of the payload: a log line must not grow with what a peer sends.
impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 64;
        match self {
            Self::Text(text) if text.len() <= SHOWN => f.debug_tuple("Text").field(text).finish(),
            Self::Text(text) => {
                let cut = (0..=SHOWN).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
                write!(f, "Text({:?}.. {} bytes)", &text[..cut], text.len())
            }
            Self::Binary(bytes) if bytes.len() <= SHOWN => f.debug_tuple("Binary").field(bytes).finish(),
            Self::Binary(bytes) => write!(f, "Binary({:?}.. {} bytes)", bytes.slice(..SHOWN), bytes.len()),
        }
    }
}

/// Strings become text, byte containers become binary.
macro_rules! impl_from {
    ($($from:ty => $kind:ident,)*) => {$(
        impl From<$from> for Message {
            #[inline]
            fn from(payload: $from) -> Self {
                Self::$kind(payload.into())
            }
        }
    )*};
}

impl_from! {
    Text => Text,
    String => Text,
    &String => Text,
    &str => Text,
    Box<str> => Text,
    Arc<str> => Text,
    Cow<'_, str> => Text,
    Bytes => Binary,
    Vec<u8> => Binary,
    Box<[u8]> => Binary,
}

impl From<&[u8]> for Message {
    fn from(bytes: &[u8]) -> Self {
        Self::Binary(Bytes::copy_from_slice(bytes))
    }
}

impl<const N: usize> From<&[u8; N]> for Message {
    fn from(bytes: &[u8; N]) -> Self {
        bytes.as_slice().into()
    }
}

impl<const N: usize> From<[u8; N]> for Message {
    fn from(bytes: [u8; N]) -> Self {
        bytes.as_slice().into()
    }
}

impl From<&Vec<u8>> for Message {
    fn from(bytes: &Vec<u8>) -> Self {
        bytes.as_slice().into()
    }
}

impl From<Cow<'_, [u8]>> for Message {
    fn from(bytes: Cow<'_, [u8]>) -> Self {
        bytes.into_owned().into()
    }
}

/// Shares the bytes, which are not copied.
impl From<Arc<[u8]>> for Message {
    fn from(bytes: Arc<[u8]>) -> Self {
        Self::Binary(Bytes::from_owner(bytes))
    }
}

/// The content of a close frame: a code and a reason (RFC 6455 §5.5.1, §7.4).
///
/// A close frame may also be empty. A received one is then represented by [`CloseCode::NO_STATUS_RECEIVED`] (1005) and
/// no reason (RFC 6455 §7.1.5), a code that cannot be sent; to send an empty one, methods take `None`.
/// [`on_wire`](Self::on_wire) converts from the first form to the second.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CloseFrame {
    /// The reason the connection ends, as a code.
    pub code: CloseCode,
    /// A reason for human readers, at most 123 bytes, often empty.
    pub reason: Text,
}

impl CloseFrame {
    /// Creates the content of a close frame.
    ///
    /// A reserved code or a reason above 123 bytes is rejected only when it is sent.
    pub fn new(code: CloseCode, reason: impl Into<Text>) -> Self {
        Self { code, reason: reason.into() }
    }

    /// Creates the representation of an empty close frame: code 1005, no reason.
    pub(crate) fn empty() -> Self {
        Self::new(CloseCode::NO_STATUS_RECEIVED, "")
    }

    /// Returns the content that repeats this close frame on the wire: `None`, an empty frame, for code 1005.
    pub fn on_wire(self) -> Option<Self> {
        (self.code != CloseCode::NO_STATUS_RECEIVED).then_some(self)
    }

    /// Checks that this can be sent (RFC 6455 §5.5, §7.4).
    ///
    /// # Errors
    ///
    /// [`FrameError`] for a code that must not be sent or a reason above 123 bytes.
    pub fn check(&self) -> Result<(), FrameError> {
        encode_close(self.code, &self.reason).map(drop)
    }
}

/// Formats as `1009 message too big`, `4000` or `1008 policy violation (no entry)`; control characters in the peer's
/// reason are escaped.
impl fmt::Display for CloseFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        if let Some(name) = self.code.name() {
            write!(f, " {name}")?;
        }
        if self.reason.is_empty() { Ok(()) } else { write!(f, " ({})", self.reason.escape_debug()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_does_not_grow_with_the_payload() {
        for message in [Message::text("ä".repeat(1 << 20)), Message::binary(vec![0; 1 << 20])] {
            let shown = format!("{message:?}");
            assert!(shown.len() < 400 && shown.contains("bytes"), "{shown}");
        }
    }

    #[test]
    fn a_reason_cannot_forge_log_lines() {
        let frame = CloseFrame::new(CloseCode::NORMAL, "a\r\nb\u{1b}[31m");
        assert_eq!(frame.to_string(), "1000 normal closure (a\\r\\nb\\u{1b}[31m)");
    }
}
