//! The size of an LZ77 window, as expressed in the parameters (RFC 7692 §7.1.2).
//!
//! Owns the range and the grammar of the number. The rules for demanding a size belong to the negotiation.

use std::fmt;

/// The base-2 logarithm of a window's size: 8 to 15, for 256 bytes to 32 KiB.
///
/// A compressor refers back by at most that many bytes, and a decompressor must keep as many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WindowBits(u8);

impl WindowBits {
    /// 256 bytes, the smallest window that can be negotiated. Nothing here can *send* with it: see
    /// [`Deflater::new`](crate::Deflater::new).
    pub const MIN: Self = Self(8);

    /// 32 KiB, the largest window, and the one used if none is negotiated.
    pub const MAX: Self = Self(15);

    /// 512 bytes, the smallest window that the backend can compress with.
    pub(crate) const SMALLEST_TO_SEND: Self = Self(9);

    /// Creates a value from a number of bits; `None` unless it is 8 to 15.
    pub const fn new(bits: u8) -> Option<Self> {
        if bits >= Self::MIN.0 && bits <= Self::MAX.0 { Some(Self(bits)) } else { None }
    }

    /// Returns the number of bits, 8 to 15.
    pub const fn get(self) -> u8 {
        self.0
    }

    /// Returns the size of the window in bytes, 256 to 32768.
    pub const fn size(self) -> usize {
        1 << self.0
    }

    /// Reads a parameter's value.
    // "This parameter has a decimal integer value without leading zeroes between 8 to 15, inclusive" (RFC 7692
    // §7.1.2.1)
    pub(crate) fn parse(value: &str) -> Option<Self> {
        match value.as_bytes() {
            [digit @ b'8'..=b'9'] => Some(Self(digit - b'0')),
            [b'1', digit @ b'0'..=b'5'] => Some(Self(10 + digit - b'0')),
            _ => None,
        }
    }
}

impl fmt::Display for WindowBits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        for bits in 0..=u8::MAX {
            let known = (8..=15).contains(&bits);
            assert_eq!(WindowBits::new(bits).is_some(), known, "{bits}");
            assert_eq!(WindowBits::parse(&bits.to_string()), WindowBits::new(bits), "{bits}");
        }
    }

    #[test]
    fn rejects_what_is_no_decimal_number_in_shortest_form() {
        for value in
            ["", "08", "010", "0xA", "1e1", "+9", "-9", " 9", "9 ", "9.0", "15x", "115", "4294967305", "٩"]
        {
            assert_eq!(WindowBits::parse(value), None, "{value:?}");
        }
    }
}
