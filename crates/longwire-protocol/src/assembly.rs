//! Payloads on their way to becoming messages: growth, unmasking, and the check of text.
//!
//! Owns how much memory a message may take before it has come. Which frames may follow each other, and what is too much,
//! is [`crate::inbound`]'s.

use bytes::{Bytes, BytesMut};
use longwire_frame::{FrameHeader, InvalidUtf8, MaskingKey, Opcode, Utf8Validator, mask};

use crate::{Message, Text};

/// A frame's payload as far as it has not arrived.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Payload {
    pub(crate) opcode: Opcode,
    pub(crate) fin: bool,
    pub(crate) key: Option<MaskingKey>,
    /// How much has arrived: the masking key's phase.
    pub(crate) done: usize,
    /// How much is to come.
    pub(crate) left: usize,
}

/// What a message has come to with a frame that may come.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Admitted {
    pub(crate) announced: usize,
    pub(crate) fragments: u32,
}

/// A message in progress.
#[derive(Debug)]
pub(crate) struct Assembly {
    pub(crate) text: bool,
    /// The payload so far, unmasked, and (for text) checked: less what was handed out in pieces.
    pub(crate) buf: Vec<u8>,
    /// The payload lengths of all frames so far, as announced.
    pub(crate) announced: usize,
    pub(crate) fragments: u32,
    pub(crate) utf8: Utf8Validator,
    /// Whether pieces were handed out, so that what is left is no whole message.
    pub(crate) in_parts: bool,
    /// Whether nobody wants the rest of the pieces.
    pub(crate) skipped: bool,
    /// If it is compressed, how many bytes it has yielded so far.
    pub(crate) inflated: Option<usize>,
}

impl Assembly {
    #[inline]
    pub(crate) fn new(first: &FrameHeader) -> Self {
        Self {
            text: first.opcode() == Opcode::Text,
            buf: Vec::new(),
            announced: 0,
            fragments: 0,
            utf8: Utf8Validator::default(),
            in_parts: false,
            skipped: false,
            inflated: first.rsv1().then_some(0),
        }
    }

    pub(crate) fn is_compressed(&self) -> bool {
        self.inflated.is_some()
    }
}

/// Bytes on their way into a message that are not checked yet. Unless they are kept, they are removed again: a reader
/// that panics must not leave unchecked bytes in a text.
#[derive(Debug)]
pub(crate) struct Appended<'a> {
    pub(crate) buf: &'a mut Vec<u8>,
    /// The length of the message so far.
    pub(crate) checked: usize,
}

impl<'a> Appended<'a> {
    pub(crate) fn to(buf: &'a mut Vec<u8>) -> Self {
        let checked = buf.len();
        Self { buf, checked }
    }

    /// Keeps the appended bytes, and returns how many there are.
    pub(crate) fn keep(mut self) -> usize {
        let appended = self.buf.len() - self.checked;
        self.checked = self.buf.len();
        appended
    }
}

impl Drop for Appended<'_> {
    fn drop(&mut self) {
        self.buf.truncate(self.checked);
    }
}

/// Makes a message of one frame's payload.
#[inline]
pub(crate) fn whole_message(
    header: &FrameHeader,
    payload: &[u8],
    block: &mut BytesMut,
) -> Result<Message, InvalidUtf8> {
    if payload.len() > SHORT {
        let mut buf = Vec::with_capacity(payload.len());
        extend_unmasked(&mut buf, payload, header.mask(), 0);
        return checked_message(header, buf);
    }
    if block.capacity() < payload.len() {
        // Reuses the block if all that was cut from it is gone.
        block.reserve(BLOCK);
    }
    block.extend_from_slice(payload);
    if let Some(key) = header.mask() {
        mask::apply(block, key, 0);
    }
    checked_message(header, block.split())
}

/// Makes a message of the unmasked payload of its only frame.
#[inline]
fn checked_message<B>(header: &FrameHeader, payload: B) -> Result<Message, InvalidUtf8>
where
    B: AsRef<[u8]>,
    Bytes: From<B>,
{
    let text = header.opcode() == Opcode::Text;
    if text {
        let mut utf8 = Utf8Validator::default();
        utf8.feed(payload.as_ref())?;
        utf8.finish()?;
    }
    Ok(into_message(text, Bytes::from(payload)))
}

/// Makes a message of its unmasked payload, which has been checked if it is text.
#[inline]
pub(crate) fn into_message(text: bool, payload: Bytes) -> Message {
    if text { Message::Text(Text::from_validated(payload)) } else { Message::Binary(payload) }
}

#[inline]
pub(crate) fn extend_unmasked(buf: &mut Vec<u8>, arrived: &[u8], key: Option<MaskingKey>, phase: usize) {
    match key {
        Some(key) => mask::extend(buf, arrived, key, phase),
        None => buf.extend_from_slice(arrived),
    }
}

/// Makes room for `arriving` bytes of a frame of which `left` are to come (`arriving` among them).
///
/// Memory follows what has arrived: exactly the frame when all of it is here, else at most [`AHEAD`] times as much as
/// there is, so that a large message is moved seldom and a header that lies costs nothing. Unless this is the last frame
/// of its message, capacity at least doubles, so that many small ones are moved seldom as well.
#[inline]
pub(crate) fn grow(buf: &mut Vec<u8>, arriving: usize, left: usize, is_last: bool) {
    if buf.capacity() - buf.len() < arriving {
        let have = buf.len() + arriving;
        let frame = (buf.len() + left).min(have.saturating_mul(AHEAD));
        let wanted = if is_last || (arriving == left && buf.is_empty()) {
            frame
        } else {
            frame.max(buf.capacity().saturating_mul(2).min(have * 2))
        };
        buf.reserve_exact(wanted - buf.len());
    }
}

/// Makes room to read some of the `left` bytes of a frame, none of which are here yet.
///
/// Reserves [`DIRECT_STEP`] bytes for a message of which nothing has arrived, then at most [`AHEAD`] times as much as
/// has: a header that announces 16 MiB costs its sender as many bytes as it makes this end hold.
pub(crate) fn grow_ahead(buf: &mut Vec<u8>, left: usize) {
    // A read into less than half a step is not worth a system call.
    if buf.capacity() - buf.len() < left.min(DIRECT_STEP / 2) {
        let wanted = (buf.len() + DIRECT_STEP).max(buf.len().saturating_mul(AHEAD)).min(buf.len() + left);
        buf.reserve_exact(wanted - buf.len());
    }
}

/// How much is reserved for a payload that is read straight into its message before any of it has arrived.
const DIRECT_STEP: usize = 64 * 1024;

/// How many times what has come may be allocated for what is announced.
const AHEAD: usize = 8;

/// The longest payload that shares an allocation with others.
const SHORT: usize = 256;

/// The size of the blocks that short payloads are cut from.
const BLOCK: usize = 4096;
