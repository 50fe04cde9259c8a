//! Opcodes: the four bits that identify a frame's type (RFC 6455 §5.2).
//!
//! Owns the six defined values and the two kinds, data and control. Their permitted order belongs to
//! `longwire-protocol`.

use std::fmt;

/// The type of a frame, which determines how its payload is interpreted (RFC 6455 §5.2).
///
/// Only the six defined opcodes exist as values; [`FrameHeader::parse`](crate::FrameHeader::parse) rejects the ten
/// reserved ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Opcode {
    /// A further part of a message that an earlier text or binary frame began: `%x0`.
    Continuation = 0x0,
    /// A text message, or its first part: `%x1`.
    Text = 0x1,
    /// A binary message, or its first part: `%x2`.
    Binary = 0x2,
    /// A close frame, which each end sends at most once: `%x8`.
    Close = 0x8,
    /// A ping, which the peer answers with a pong of the same payload: `%x9`.
    Ping = 0x9,
    /// A pong: the answer to a ping, or an unsolicited heartbeat: `%xA`.
    Pong = 0xa,
}

impl Opcode {
    /// Returns the opcode for its four bits, or `None` for the reserved values 3–7 and 11–15 and anything wider.
    #[inline]
    pub const fn from_bits(bits: u8) -> Option<Self> {
        match bits {
            0x0 => Some(Self::Continuation),
            0x1 => Some(Self::Text),
            0x2 => Some(Self::Binary),
            0x8 => Some(Self::Close),
            0x9 => Some(Self::Ping),
            0xa => Some(Self::Pong),
            _ => None,
        }
    }

    /// Returns the four bits that represent this opcode on the wire.
    #[inline]
    pub const fn bits(self) -> u8 {
        self as u8
    }

    /// Returns whether this is a control opcode: close, ping or pong (RFC 6455 §5.5).
    #[inline]
    pub const fn is_control(self) -> bool {
        // "Control frames are identified by opcodes where the most significant bit of the opcode is 1."
        self.bits() & 0x8 != 0
    }

    /// Returns whether this is a data opcode: continuation, text or binary (RFC 6455 §5.6).
    #[inline]
    pub const fn is_data(self) -> bool {
        !self.is_control()
    }
}

impl fmt::Display for Opcode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Continuation => "continuation",
            Self::Text => "text",
            Self::Binary => "binary",
            Self::Close => "close",
            Self::Ping => "ping",
            Self::Pong => "pong",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_six_opcodes_are_defined_and_keep_their_bits() {
        let defined: Vec<u8> = (0..=u8::MAX).filter(|&bits| Opcode::from_bits(bits).is_some()).collect();
        assert_eq!(defined, [0x0, 0x1, 0x2, 0x8, 0x9, 0xa]);
        for bits in defined {
            assert_eq!(Opcode::from_bits(bits).map(Opcode::bits), Some(bits));
        }
    }

    #[test]
    fn an_opcode_is_either_data_or_control() {
        for (opcode, control, name) in [
            (Opcode::Continuation, false, "continuation"),
            (Opcode::Text, false, "text"),
            (Opcode::Binary, false, "binary"),
            (Opcode::Close, true, "close"),
            (Opcode::Ping, true, "ping"),
            (Opcode::Pong, true, "pong"),
        ] {
            assert_eq!(opcode.is_control(), control, "{name}");
            assert_eq!(opcode.is_data(), !control, "{name}");
            assert_eq!(opcode.to_string(), name);
        }
    }
}
