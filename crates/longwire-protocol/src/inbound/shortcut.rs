//! The most frequent case: a message of one frame that has arrived in full, while no other is in progress.
//!
//! A message taken here is the one that [`Inbound::decode`] would yield. Everything else is left to `decode`.

use longwire_frame::{FrameHeader, Opcode, mask};

use super::Inbound;
use crate::assembly::{check_text, kind, whole_message};
use crate::{Message, MessageKind, MessageRef};

impl Inbound {
    /// Takes a message off the front of `input` if all of it is there, in one frame, and nothing else is in progress.
    ///
    /// `None` says nothing about the input, of which nothing was taken then: call [`decode`](Self::decode) to find out.
    /// This is `decode` for the most frequent case, without the cost of the others.
    #[inline]
    pub fn decode_message(&mut self, input: &mut &[u8]) -> Option<Message> {
        if !self.is_between {
            return None;
        }
        // One after the other, not both and then the message: so the fields of a short header stay in registers.
        match FrameHeader::parse_short(input, self.role) {
            Some((header, start)) => self.take_message(input, &header, start),
            None => self.decode_longer_message(input),
        }
    }

    /// Takes a message whose header is not short.
    #[inline(never)]
    fn decode_longer_message(&self, input: &mut &[u8]) -> Option<Message> {
        let (header, start) = self.longer_header(input)?;
        self.take_message(input, &header, start)
    }

    #[inline]
    fn take_message(&self, input: &mut &[u8], header: &FrameHeader, start: usize) -> Option<Message> {
        let end = self.whole_end(input, header, start)?;
        let message = whole_message(header, &input[start..end]).ok()?;
        *input = &input[end..];
        Some(message)
    }

    /// Takes a message off the front of `input` as [`decode_message`](Self::decode_message) does, but leaves its
    /// payload there, unmasked in place, so that nothing is copied or allocated.
    ///
    /// Returns the message, and the number of bytes at the front of `input` that belong to it. If it returns `None`,
    /// nothing was taken, and `input` is unchanged.
    ///
    /// # Examples
    ///
    /// ```
    /// use longwire_protocol::{Inbound, Limits, MessageRef, Role};
    ///
    /// let mut inbound = Inbound::new(Role::Server, Limits::default());
    /// // "Hello", masked (RFC 6455 §5.7), and the beginning of another frame.
    /// let mut input = *b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58\x82";
    /// assert_eq!(inbound.decode_in_place(&mut input), Some((MessageRef::Text("Hello"), 11)));
    /// assert_eq!(inbound.decode_in_place(&mut input[11..]), None);
    /// ```
    #[inline]
    pub fn decode_in_place<'a>(&mut self, input: &'a mut [u8]) -> Option<(MessageRef<'a>, usize)> {
        if !self.is_between {
            return None;
        }
        match FrameHeader::parse_short(input, self.role) {
            Some((header, start)) => self.unmask_message(input, &header, start),
            None => self.decode_longer_in_place(input),
        }
    }

    /// Unmasks a message whose header is not short.
    #[inline(never)]
    fn decode_longer_in_place<'a>(&self, input: &'a mut [u8]) -> Option<(MessageRef<'a>, usize)> {
        let (header, start) = self.longer_header(input)?;
        self.unmask_message(input, &header, start)
    }

    #[inline]
    fn unmask_message<'a>(
        &self,
        input: &'a mut [u8],
        header: &FrameHeader,
        start: usize,
    ) -> Option<(MessageRef<'a>, usize)> {
        let end = self.whole_end(input, header, start)?;
        let kind = kind(header);
        let payload = &mut input[start..end];
        if let Some(key) = header.mask() {
            mask::apply(payload, key, 0);
        }
        if kind == MessageKind::Text && check_text(payload).is_err() {
            // `decode` finds the violation again, in the input as it was.
            if let Some(key) = header.mask() {
                mask::apply(payload, key, 0);
            }
            return None;
        }
        Some((MessageRef::from_validated(kind, payload), end))
    }

    /// Returns the end of a message's only frame in `input`, if all of it is there and it is within the limits.
    #[inline]
    fn whole_end(&self, input: &[u8], header: &FrameHeader, start: usize) -> Option<usize> {
        if header.len() >= self.too_long || header.len() > (input.len() - start) as u64 {
            return None;
        }
        debug_assert!(self.admit(header).is_ok(), "the limits say the same of it as one");
        Some(start + usize::try_from(header.len()).ok()?)
    }

    /// Reads the header of an uncompressed message of one frame, of any length.
    fn longer_header(&self, input: &[u8]) -> Option<(FrameHeader, usize)> {
        let (header, start) = FrameHeader::parse(input, self.role).ok()??;
        let is_message =
            header.fin() && !header.rsv1() && matches!(header.opcode(), Opcode::Binary | Opcode::Text);
        is_message.then_some((header, start))
    }
}
