//! The frames of a message as bytes: header, mask and payload (RFC 6455 §5.2).

use longwire_frame::{FirstByte, FrameHeader, MaskingKey, Opcode, mask};

/// A data frame without its payload.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DataFrame {
    pub(crate) opcode: Opcode,
    pub(crate) fin: bool,
    pub(crate) rsv1: bool,
}

impl DataFrame {
    /// Returns the header for a payload of `len` bytes in memory.
    #[inline]
    pub(crate) fn header(self, len: usize, key: Option<MaskingKey>) -> FrameHeader {
        let Self { opcode, fin, rsv1 } = self;
        let header = FrameHeader::data(FirstByte { opcode, fin, rsv1 }, len as u64, key);
        header.expect("RSV1 is on first frames only, and what is in memory is below 2^63 bytes")
    }
}

/// Appends a frame; its payload is masked if the header has a key.
#[inline]
pub(crate) fn gather_frame(tail: &mut Vec<u8>, header: FrameHeader, payload: &[u8]) {
    tail.reserve(FrameHeader::MAX_LEN + payload.len());
    header.append_to(tail);
    match header.mask() {
        Some(key) => mask::extend(tail, payload, key, 0),
        None => tail.extend_from_slice(payload),
    }
}
