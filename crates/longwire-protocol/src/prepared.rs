//! Messages that are framed once and sent to many (RFC 6455 §5.1: a server's frame is the same for every client).

use bytes::Bytes;

use crate::data_frame::DataFrame;
use crate::{Message, MessageKind};

/// A message with its frame, encoded once for any number of receivers.
///
/// Clones share the bytes. Sending one to a thousand clients costs one encoding, and no copy of the payload for a
/// client that already has something in its queue.
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
    kind: MessageKind,
    /// Header and payload as a server sends them.
    frame: Bytes,
    header_len: usize,
    #[cfg(feature = "deflate")]
    compressed: std::sync::Arc<CompressedFrames>,
}

/// The frames by window bits, from 9 on, each made when the first connection that agreed on them needs it; `None` if
/// compression gains nothing.
#[cfg(feature = "deflate")]
type CompressedFrames = [std::sync::OnceLock<Option<CompressedFrame>>; 7];

#[cfg(feature = "deflate")]
#[derive(Debug)]
pub(crate) struct CompressedFrame {
    /// Header and payload.
    pub(crate) bytes: Bytes,
    pub(crate) payload_len: usize,
}

impl PreparedMessage {
    /// Frames a message.
    pub fn new(message: impl Into<Message>) -> Self {
        let message = message.into();
        let header = DataFrame { opcode: message.opcode(), fin: true, rsv1: false }
            .header(message.len(), None)
            .encode();
        let mut frame = Vec::with_capacity(header.len() + message.len());
        frame.extend_from_slice(&header);
        frame.extend_from_slice(message.as_bytes());
        Self {
            kind: message.kind(),
            frame: frame.into(),
            header_len: header.len(),
            #[cfg(feature = "deflate")]
            compressed: std::sync::Arc::default(),
        }
    }

    /// Returns the message that was framed; it shares its bytes with the frame.
    pub fn message(&self) -> Message {
        let payload = self.frame.slice(self.header_len..);
        Message::from_validated(self.kind, payload)
    }

    /// Returns whether this is a text message.
    pub const fn is_text(&self) -> bool {
        matches!(self.kind, MessageKind::Text)
    }

    /// Returns the frame for connections with these window bits, with `compress` applied to the payload. For each
    /// number of window bits, the first call decides for all.
    #[cfg(feature = "deflate")]
    pub(crate) fn compressed_frame(
        &self,
        bits: longwire_deflate::WindowBits,
        compress: impl FnOnce(&[u8]) -> Option<Vec<u8>>,
    ) -> Option<&CompressedFrame> {
        let slot = self.compressed.get(usize::from(bits.get()).checked_sub(9)?)?;
        let frame = slot.get_or_init(|| {
            let payload = compress(&self.frame[self.header_len..])?;
            let frame = DataFrame { opcode: self.kind.opcode(), fin: true, rsv1: true };
            let header = frame.header(payload.len(), None).encode();
            Some(CompressedFrame {
                bytes: [&header[..], &payload].concat().into(),
                payload_len: payload.len(),
            })
        });
        frame.as_ref()
    }

    /// Returns the payload's length in bytes.
    pub fn message_len(&self) -> usize {
        self.frame.len() - self.header_len
    }

    /// Returns the frame as a server sends it uncompressed.
    pub fn server_frame(&self) -> &Bytes {
        &self.frame
    }
}

impl From<Message> for PreparedMessage {
    fn from(message: Message) -> Self {
        Self::new(message)
    }
}
