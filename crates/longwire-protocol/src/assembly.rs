//! Payloads being assembled into messages: growth, unmasking, and UTF-8 validation of text.
//!
//! Owns how much memory a message may take before it has arrived. The order of frames and the limits belong to
//! [`crate::inbound`].

use longwire_frame::{FrameHeader, InvalidUtf8, MaskingKey, Opcode, Utf8Validator, mask};

use crate::{Message, MessageKind};

/// A frame's payload that has not arrived in full.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Payload {
    pub(crate) opcode: Opcode,
    pub(crate) fin: bool,
    pub(crate) key: Option<MaskingKey>,
    /// The number of bytes that have arrived: the masking key's phase.
    pub(crate) done: usize,
    /// The number of bytes still to come.
    pub(crate) left: usize,
}

/// The totals of a message, including a frame that was admitted.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Admitted {
    pub(crate) announced: usize,
    pub(crate) fragments: u32,
}

/// A message in progress.
#[derive(Debug)]
pub(crate) struct Assembly {
    pub(crate) kind: MessageKind,
    /// The payload so far, unmasked, and (for text) validated; excludes what was handed out in pieces.
    pub(crate) buf: Vec<u8>,
    /// The announced payload lengths of all frames so far.
    pub(crate) announced: usize,
    pub(crate) fragments: u32,
    pub(crate) utf8: Utf8Validator,
    /// Whether pieces were handed out, so that the rest is not a whole message.
    pub(crate) in_parts: bool,
    /// Whether the remaining pieces are not wanted.
    pub(crate) skipped: bool,
    /// The number of bytes decompressed so far, if the message is compressed.
    pub(crate) inflated: Option<usize>,
}

impl Assembly {
    #[inline]
    pub(crate) fn new(first: &FrameHeader) -> Self {
        Self {
            kind: kind(first),
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

/// Bytes appended to a message that are not validated yet. Unless they are kept, they are removed again: a reader that
/// panics must not leave unvalidated bytes in a text.
#[derive(Debug)]
pub(crate) struct Appended<'a> {
    pub(crate) buf: &'a mut Vec<u8>,
    /// The length of the message before the append.
    pub(crate) checked: usize,
}

impl<'a> Appended<'a> {
    pub(crate) fn to(buf: &'a mut Vec<u8>) -> Self {
        let checked = buf.len();
        Self { buf, checked }
    }

    /// Keeps the appended bytes and returns their number.
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

/// Builds a message from the payload of its only frame.
#[inline]
pub(crate) fn whole_message(header: &FrameHeader, payload: &[u8]) -> Result<Message, InvalidUtf8> {
    let mut buf = Vec::with_capacity(payload.len());
    if payload.len() <= SHORT {
        // A few words are masked faster where they are than while they are copied.
        buf.extend_from_slice(payload);
        if let Some(key) = header.mask() {
            mask::apply(&mut buf, key, 0);
        }
    } else {
        extend_unmasked(&mut buf, payload, header.mask(), 0);
    }
    let kind = kind(header);
    if kind == MessageKind::Text {
        check_text(&buf)?;
    }
    Ok(Message::from_validated(kind, buf.into()))
}

/// Checks that a whole text is UTF-8.
#[inline]
pub(crate) fn check_text(text: &[u8]) -> Result<(), InvalidUtf8> {
    let mut utf8 = Utf8Validator::default();
    utf8.feed(text)?;
    utf8.finish()
}

/// Returns the kind of the message that begins with this frame.
#[inline]
pub(crate) fn kind(first: &FrameHeader) -> MessageKind {
    if first.opcode() == Opcode::Text { MessageKind::Text } else { MessageKind::Binary }
}

#[inline]
pub(crate) fn extend_unmasked(buf: &mut Vec<u8>, arrived: &[u8], key: Option<MaskingKey>, phase: usize) {
    match key {
        Some(key) => mask::extend(buf, arrived, key, phase),
        None => buf.extend_from_slice(arrived),
    }
}

/// Makes room for `arriving` bytes of a frame with `left` bytes still to come (including `arriving`).
///
/// Memory follows what has arrived: exactly the frame if all of it is here, otherwise at most [`AHEAD`] times what is
/// there, so that a large message is rarely moved and a false header costs nothing. Unless this is the last frame of
/// its message, capacity at least doubles, so that many small frames rarely cause a move either.
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

/// Makes room to read some of the `left` bytes of a frame, none of which have arrived yet.
///
/// Reserves another [`DIRECT_STEP`] bytes, or up to [`AHEAD`] times what has arrived if that is more, but never
/// more than the frame: a header that announces 16 MiB makes this end hold 64 KiB until its payload arrives.
pub(crate) fn grow_ahead(buf: &mut Vec<u8>, left: usize) {
    // A read into less than half a step is not worth a system call.
    if buf.capacity() - buf.len() < left.min(DIRECT_STEP / 2) {
        let wanted = (buf.len() + DIRECT_STEP).max(buf.len().saturating_mul(AHEAD)).min(buf.len() + left);
        buf.reserve_exact(wanted - buf.len());
    }
}

/// The number of bytes reserved for a payload that is read straight into its message before any of it has arrived.
const DIRECT_STEP: usize = 64 * 1024;

/// The factor by which an allocation for announced bytes may exceed the bytes that have arrived.
const AHEAD: usize = 8;

/// The longest payload that is copied first and unmasked then.
const SHORT: usize = 32;
