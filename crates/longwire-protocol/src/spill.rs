//! Headers cut off by the end of the input: the part that has arrived is kept until the rest does.

use longwire_frame::{FrameHeader, Role};

use crate::ProtocolError;

/// At most 13 bytes of a header whose end has not arrived.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Spill {
    bytes: [u8; FrameHeader::MAX_LEN],
    len: u8,
}

impl Spill {
    /// Returns whether the next header begins with the next input.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the first byte of the header that has begun to arrive.
    #[inline]
    pub(crate) fn first(&self) -> Option<u8> {
        (self.len > 0).then_some(self.bytes[0])
    }

    /// Takes a header off the input, together with the bytes kept from before; returns `None` if it is incomplete.
    #[inline]
    pub(crate) fn take_header(
        &mut self,
        input: &mut &[u8],
        role: Role,
    ) -> Result<Option<FrameHeader>, ProtocolError> {
        if self.len > 0 {
            return self.take_spilled_header(input, role);
        }
        if let Some((header, len)) = FrameHeader::parse(input, role)? {
            *input = &input[len..];
            return Ok(Some(header));
        }
        // Less than a header: at most 13 bytes.
        self.bytes[..input.len()].copy_from_slice(input);
        self.len = small(input.len());
        *input = &[];
        Ok(None)
    }

    #[cold]
    fn take_spilled_header(
        &mut self,
        input: &mut &[u8],
        role: Role,
    ) -> Result<Option<FrameHeader>, ProtocolError> {
        let held = usize::from(self.len);
        let take = input.len().min(FrameHeader::MAX_LEN - held);
        self.bytes[held..held + take].copy_from_slice(&input[..take]);
        let Some((header, len)) = FrameHeader::parse(&self.bytes[..held + take], role)? else {
            self.len += small(take);
            *input = &input[take..];
            return Ok(None);
        };
        self.len = 0;
        *input = &input[len - held..];
        Ok(Some(header))
    }
}

/// Converts the length of a piece of a header.
fn small(len: usize) -> u8 {
    u8::try_from(len).expect("a header has at most 14 bytes")
}
