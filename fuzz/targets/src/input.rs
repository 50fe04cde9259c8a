//! Choices, numbers and payloads out of the bytes of an input.
//!
//! An input that is too short is continued with zeros, so every input means something, and a small change of the bytes
//! is a small change of what they mean.

/// Reads an input from the front.
#[derive(Clone, Debug)]
pub(crate) struct Input<'a> {
    bytes: &'a [u8],
}

impl<'a> Input<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// Returns whether all bytes have been read.
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Returns the next byte; 0 after the end.
    pub(crate) fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.bytes.split_first() else { return 0 };
        self.bytes = rest;
        first
    }

    /// Returns the next two bytes as a number.
    pub(crate) fn pair(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    /// Returns a number below `bound`, from one byte.
    pub(crate) fn below(&mut self, bound: u8) -> u8 {
        self.byte() % bound.max(1)
    }

    /// Returns one of several values.
    pub(crate) fn choose<T: Copy>(&mut self, values: &[T]) -> T {
        values[usize::from(self.byte()) % values.len()]
    }

    /// Returns the next bytes: as many as the first one says, or fewer at the end.
    pub(crate) fn chunk(&mut self) -> &'a [u8] {
        let len = usize::from(self.byte()).min(self.bytes.len());
        let (chunk, rest) = self.bytes.split_at(len);
        self.bytes = rest;
        chunk
    }

    /// Returns the next [`chunk`](Self::chunk), or `other` if it is empty.
    pub(crate) fn chunk_or(&mut self, other: &'a [u8]) -> &'a [u8] {
        let chunk = self.chunk();
        if chunk.is_empty() { other } else { chunk }
    }

    /// Returns all remaining bytes.
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.bytes)
    }

    /// Returns a payload that is much longer than what describes it: a length of up to 80 000 bytes, and a short text
    /// that is repeated. Frames and queues change their ways at 126 bytes, 4, 16 and 64 KiB.
    pub(crate) fn long(&mut self) -> Vec<u8> {
        let near = self.choose(&[0, 1, 125, 126, 255, 1024, 4096, 16_384, 32_768, 65_535, 70_000_usize]);
        let len = near + usize::from(self.byte());
        let pattern = self.chunk();
        if pattern.is_empty() { vec![b'x'; len] } else { pattern.iter().copied().cycle().take(len).collect() }
    }
}

/// Returns the pieces of `bytes` for one of 256 ways to cut them: whole for 0, single bytes for 1, otherwise of lengths
/// that look random.
pub(crate) fn pieces(bytes: &[u8], way: u8) -> impl Iterator<Item = &[u8]> {
    let mut rest = bytes;
    let mut lengths = Lengths::new(way);
    std::iter::from_fn(move || {
        let len = lengths.next(rest.len());
        let (piece, after) = rest.split_at(len);
        rest = after;
        (len > 0).then_some(piece)
    })
}

/// The lengths of pieces, for one of 256 ways to cut.
#[derive(Clone, Debug)]
pub(crate) struct Lengths {
    way: u8,
    state: u32,
}

impl Lengths {
    pub(crate) fn new(way: u8) -> Self {
        Self { way, state: u32::from(way).wrapping_mul(0x9e37_79b9) | 1 }
    }

    /// Returns the length of the next piece of `left` bytes: at least 1, unless nothing is left.
    pub(crate) fn next(&mut self, left: usize) -> usize {
        match self.way {
            0 => left,
            1 => left.min(1),
            _ => left.min(1 + self.random() as usize % self.most()),
        }
    }

    /// Returns a number that looks random.
    pub(crate) fn random(&mut self) -> u32 {
        // xorshift32
        self.state ^= self.state << 13;
        self.state ^= self.state >> 17;
        self.state ^= self.state << 5;
        self.state
    }

    /// The longest piece: short ones for inputs that are mostly headers, long ones for payloads.
    fn most(&self) -> usize {
        [3, 8, 30, 200, 3000, 40_000][usize::from(self.way) % 6]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_reads_as_zeros_after_its_end() {
        let mut input = Input::new(b"\x02abc");
        assert_eq!((input.chunk(), input.byte()), (&b"ab"[..], b'c'));
        assert!(input.is_empty());
        assert_eq!((input.byte(), input.pair(), input.chunk()), (0, 0, &b""[..]));
    }

    #[test]
    fn pieces_are_the_whole() {
        let bytes: Vec<u8> = (0..=255).collect();
        for way in 0..=255 {
            let pieces: Vec<_> = pieces(&bytes, way).collect();
            assert_eq!(pieces.concat(), bytes, "{way}");
            assert!(pieces.iter().all(|piece| !piece.is_empty()), "{way}");
        }
        assert_eq!((pieces(&bytes, 0).count(), pieces(&bytes, 1).count()), (1, 256));
        assert_eq!(pieces(b"", 7).count(), 0);
    }
}
