//! Frame headers: the 2 to 14 bytes before a payload (RFC 6455 §5.2).
//!
//! Owns the bit layout, the length encodings and every rule that one header alone can break. Payload bytes belong to
//! [`crate::mask`], the sequence of frames and the limits to `longwire-protocol`.
//!
//! ```text
//!  byte 0                    byte 1           then, as the length says          if masked
//! ┌───┬────┬────┬────┬──────┬──────┬────────┬────────────────────────────────┬─────────────┐
//! │FIN│RSV1│RSV2│RSV3│opcode│ MASK │ len: 7 │ 126: 16 bits · 127: 64 bits    │ key: 4 bytes│
//! └───┴────┴────┴────┴──────┴──────┴────────┴────────────────────────────────┴─────────────┘
//! ```

use std::ops::Deref;

use crate::{FrameError, MaskingKey, Opcode, Role};

/// Describes one frame: everything about it but its payload (RFC 6455 §5.2).
///
/// A value is always a valid header, whether it was [parsed](Self::parse) or built with [`data`](Self::data) or
/// [`control`](Self::control). What a connection's state forbids (a continuation of nothing, RSV1 without an extension
/// that defines it) is not known here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FrameHeader {
    /// Set on control frames.
    fin: bool,
    /// Clear on continuation and control frames.
    rsv1: bool,
    opcode: Opcode,
    mask: Option<MaskingKey>,
    /// At most 125 in control frames, and always below 2^63.
    len: u64,
}

impl FrameHeader {
    /// The longest header, in bytes: two, a 64-bit length and a masking key.
    pub const MAX_LEN: usize = 14;

    /// Reads the header at the front of `bytes`, which a peer sent to us in the given role.
    ///
    /// Returns the header and its own length in bytes, behind which the payload begins, or `None` if more bytes are
    /// needed. RSV1 on a text or binary frame is not an error here but [reported](Self::rsv1): only the negotiation
    /// tells whether it is allowed.
    ///
    /// # Errors
    ///
    /// Any violation that the header alone shows, as soon as the bytes show it. The rules are checked in the order of the
    /// bytes, so that an error found in some bytes is found in every longer input, however it was split.
    #[inline]
    pub fn parse(bytes: &[u8], role: Role) -> Result<Option<(Self, usize)>, FrameError> {
        let Some(&first) = bytes.first() else {
            return Ok(None);
        };
        let (opcode, fin, rsv1) = parse_first_byte(first)?;

        let Some(&second) = bytes.get(1) else {
            return Ok(None);
        };
        let masked = second & MASK != 0;
        check_mask(masked, role)?;
        let len7 = second & LEN7;
        check_len(opcode, u64::from(len7))?;

        let (len, at) = if len7 < LEN_IN_16_BITS {
            (u64::from(len7), 2)
        } else {
            let Some(extended) = parse_extended_len(len7, &bytes[2..])? else {
                return Ok(None);
            };
            extended
        };
        if !masked {
            return Ok(Some((
                Self {
                    fin,
                    rsv1,
                    opcode,
                    mask: None,
                    len,
                },
                at,
            )));
        }
        let Some(key) = bytes.get(at..).and_then(<[u8]>::first_chunk) else {
            return Ok(None);
        };
        let mask = Some(MaskingKey::new(*key));
        Ok(Some((
            Self {
                fin,
                rsv1,
                opcode,
                mask,
                len,
            },
            at + 4,
        )))
    }

    /// Creates the header of a data frame to be sent.
    ///
    /// `fin` marks the last frame of its message, `rsv1` the first frame of a compressed one (RFC 7692 §6). `mask` is
    /// the key if we are a client, `None` if we are a server.
    ///
    /// # Errors
    ///
    /// [`FrameError::NotData`] for a control opcode, [`FrameError::UnexpectedRsv1`] for RSV1 on a continuation frame,
    /// [`FrameError::LengthTopBit`] for a length of 2^63 or more.
    #[inline]
    pub const fn data(
        opcode: Opcode,
        fin: bool,
        rsv1: bool,
        len: u64,
        mask: Option<MaskingKey>,
    ) -> Result<Self, FrameError> {
        if opcode.is_control() {
            return Err(FrameError::NotData { opcode });
        }
        Self::checked(Self {
            fin,
            rsv1,
            opcode,
            mask,
            len,
        })
    }

    /// Creates the header of a close, ping or pong frame to be sent.
    ///
    /// `mask` is the key if we are a client, `None` if we are a server.
    ///
    /// # Errors
    ///
    /// [`FrameError::NotControl`] for a data opcode, [`FrameError::ControlTooLong`] for more than 125 bytes.
    #[inline]
    pub const fn control(opcode: Opcode, len: u64, mask: Option<MaskingKey>) -> Result<Self, FrameError> {
        if opcode.is_data() {
            return Err(FrameError::NotControl { opcode });
        }
        Self::checked(Self {
            fin: true,
            rsv1: false,
            opcode,
            mask,
            len,
        })
    }

    #[inline]
    const fn checked(header: Self) -> Result<Self, FrameError> {
        if let Err(error) = check_flags(header.opcode, header.fin, header.rsv1) {
            return Err(error);
        }
        if let Err(error) = check_len(header.opcode, header.len) {
            return Err(error);
        }
        Ok(header)
    }

    /// Writes the header as it stands on the wire, the length in its shortest form.
    #[inline]
    pub fn encode(self) -> EncodedHeader {
        let mut bytes = [0; Self::MAX_LEN];
        bytes[0] = self.opcode.bits();
        if self.fin {
            bytes[0] |= FIN;
        }
        if self.rsv1 {
            bytes[0] |= RSV1;
        }
        let mut at = 2;
        match (u8::try_from(self.len), u16::try_from(self.len)) {
            (Ok(len), _) if len < LEN_IN_16_BITS => bytes[1] = len,
            (_, Ok(len)) => {
                bytes[1] = LEN_IN_16_BITS;
                bytes[2..4].copy_from_slice(&len.to_be_bytes());
                at = 4;
            }
            _ => {
                bytes[1] = LEN_IN_64_BITS;
                bytes[2..10].copy_from_slice(&self.len.to_be_bytes());
                at = 10;
            }
        }
        if let Some(key) = self.mask {
            bytes[1] |= MASK;
            bytes[at..at + 4].copy_from_slice(&key.bytes());
            at += 4;
        }
        EncodedHeader { bytes, len: at }
    }

    /// Returns whether this is the last frame of its message; always true of control frames.
    #[inline]
    pub const fn fin(self) -> bool {
        self.fin
    }

    /// Returns whether RSV1 is set, as permessage-deflate does on the first frame of a compressed message (RFC 7692 §6).
    ///
    /// Always false for continuation and control frames.
    #[inline]
    pub const fn rsv1(self) -> bool {
        self.rsv1
    }

    /// Returns what the frame is.
    #[inline]
    pub const fn opcode(self) -> Opcode {
        self.opcode
    }

    /// Returns the key that the payload is masked with, if it is masked.
    #[inline]
    pub const fn mask(self) -> Option<MaskingKey> {
        self.mask
    }

    /// Returns the length of the payload in bytes, as the header claims it; below 2^63.
    #[inline]
    pub const fn len(self) -> u64 {
        self.len
    }

    /// Returns whether the frame has no payload.
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.len == 0
    }
}

/// Holds a header as it stands on the wire: 2 to 14 bytes, made by [`FrameHeader::encode`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EncodedHeader {
    bytes: [u8; FrameHeader::MAX_LEN],
    /// How many of the bytes are used, at most all of them; the others are zero.
    len: usize,
}

impl Deref for EncodedHeader {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl AsRef<[u8]> for EncodedHeader {
    #[inline]
    fn as_ref(&self) -> &[u8] {
        self
    }
}

#[inline]
const fn parse_first_byte(first: u8) -> Result<(Opcode, bool, bool), FrameError> {
    // "MUST be 0 unless an extension is negotiated that defines meanings for non-zero values" (RFC 6455 §5.2); none
    // does for these two.
    if first & (RSV2 | RSV3) != 0 {
        return Err(FrameError::ReservedBits);
    }
    let Some(opcode) = Opcode::from_bits(first & OPCODE) else {
        // "If an unknown opcode is received, the receiving endpoint MUST _Fail the WebSocket Connection_." (§5.2)
        return Err(FrameError::ReservedOpcode {
            opcode: first & OPCODE,
        });
    };
    let fin = first & FIN != 0;
    let rsv1 = first & RSV1 != 0;
    match check_flags(opcode, fin, rsv1) {
        Ok(()) => Ok((opcode, fin, rsv1)),
        Err(error) => Err(error),
    }
}

#[inline]
const fn check_flags(opcode: Opcode, fin: bool, rsv1: bool) -> Result<(), FrameError> {
    // "An endpoint MUST NOT set the 'Per-Message Compressed' bit of control frames and non-first fragments of a
    // data message" (RFC 7692 §6)
    if rsv1 && !matches!(opcode, Opcode::Text | Opcode::Binary) {
        return Err(FrameError::UnexpectedRsv1 { opcode });
    }
    // "All control frames [...] MUST NOT be fragmented." (RFC 6455 §5.5)
    if !fin && opcode.is_control() {
        return Err(FrameError::FragmentedControl { opcode });
    }
    Ok(())
}

#[inline]
const fn check_mask(masked: bool, role: Role) -> Result<(), FrameError> {
    match (role, masked) {
        // "The server MUST close the connection upon receiving a frame that is not masked." (RFC 6455 §5.1)
        (Role::Server, false) => Err(FrameError::MissingMask),
        // "A client MUST close a connection if it detects a masked frame." (RFC 6455 §5.1)
        (Role::Client, true) => Err(FrameError::UnexpectedMask),
        (Role::Server, true) | (Role::Client, false) => Ok(()),
    }
}

/// Checks a length, or the seven bits that stand in for a longer one: both tell whether it exceeds 125.
#[inline]
const fn check_len(opcode: Opcode, len: u64) -> Result<(), FrameError> {
    // "All control frames MUST have a payload length of 125 bytes or less" (RFC 6455 §5.5)
    if len > MAX_CONTROL_LEN && opcode.is_control() {
        return Err(FrameError::ControlTooLong { opcode });
    }
    // "the most significant bit MUST be 0" (RFC 6455 §5.2)
    if len >> 63 != 0 {
        return Err(FrameError::LengthTopBit);
    }
    Ok(())
}

/// Reads the length that follows the first two bytes; returns it with the position of what comes behind it.
fn parse_extended_len(len7: u8, bytes: &[u8]) -> Result<Option<(u64, usize)>, FrameError> {
    // "the minimal number of bytes MUST be used to encode the length" (RFC 6455 §5.2)
    if len7 == LEN_IN_16_BITS {
        let Some(&len) = bytes.first_chunk() else {
            return Ok(None);
        };
        let len = u16::from_be_bytes(len);
        if len < u16::from(LEN_IN_16_BITS) {
            return Err(FrameError::NonMinimalLength);
        }
        return Ok(Some((u64::from(len), 4)));
    }
    // The first of eight bytes shows the top bit, the first six whether 16 bits would do.
    if bytes.first().is_some_and(|&byte| byte & 0x80 != 0) {
        return Err(FrameError::LengthTopBit);
    }
    if bytes.starts_with(&[0; 6]) {
        return Err(FrameError::NonMinimalLength);
    }
    let Some(&len) = bytes.first_chunk() else {
        return Ok(None);
    };
    Ok(Some((u64::from_be_bytes(len), 10)))
}

const FIN: u8 = 0x80;
const RSV1: u8 = 0x40;
const RSV2: u8 = 0x20;
const RSV3: u8 = 0x10;
const OPCODE: u8 = 0x0f;
const MASK: u8 = 0x80;
const LEN7: u8 = 0x7f;
/// The seven bits that say "the next 16 bits are the length"; as a number, the least length that needs them.
const LEN_IN_16_BITS: u8 = 126;
/// The seven bits that say "the next 64 bits are the length".
const LEN_IN_64_BITS: u8 = 127;
const MAX_CONTROL_LEN: u64 = 125;
