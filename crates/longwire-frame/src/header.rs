//! Frame headers: the 2 to 14 bytes before a payload (RFC 6455 §5.2).
//!
//! Owns the bit layout, the length encodings and every rule that a single header can break. Payload bytes belong to
//! [`crate::mask`]; the sequence of frames and the limits belong to `longwire-protocol`.
//!
//! ```text
//!  byte 0                    byte 1           then, as the length says          if masked
//! ┌───┬────┬────┬────┬──────┬──────┬────────┬────────────────────────────────┬─────────────┐
//! │FIN│RSV1│RSV2│RSV3│opcode│ MASK │ len: 7 │ 126: 16 bits · 127: 64 bits    │ key: 4 bytes│
//! └───┴────┴────┴────┴──────┴──────┴────────┴────────────────────────────────┴─────────────┘
//! ```

use std::ops::Deref;

use crate::{FrameError, MaskingKey, Opcode, Role};

/// Everything about one frame except its payload (RFC 6455 §5.2).
///
/// A value is always a valid header, whether it was [parsed](Self::parse) or built with [`data`](Self::data) or
/// [`control`](Self::control). Rules that depend on the connection's state (a continuation of nothing, RSV1 without an
/// extension that defines it) are not checked here.
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

    /// Reads the header at the front of `bytes`, which were received by an endpoint in the given role.
    ///
    /// Returns the header and its own length in bytes, which is the offset of the payload, or `None` if more bytes are
    /// needed. RSV1 on a text or binary frame is not an error here but [reported](Self::rsv1): only the negotiation
    /// determines whether it is allowed.
    ///
    /// # Errors
    ///
    /// Any violation that the header alone shows, as soon as the bytes show it. The rules are checked in the order of
    /// the bytes, so an error found in a prefix is found in every longer input, however it was split.
    #[inline]
    pub fn parse(bytes: &[u8], role: Role) -> Result<Option<(Self, usize)>, FrameError> {
        let Some((&first, rest)) = bytes.split_first() else {
            return Ok(None);
        };
        let FirstByte { opcode, fin, rsv1 } = FIRST_BYTES[usize::from(first)]?;

        let Some((&second, mut rest)) = rest.split_first() else {
            return Ok(None);
        };
        let masked = second & MASK != 0;
        check_mask(masked, role)?;

        let len7 = second & LEN7;
        let mut len = u64::from(len7);
        // A length below these is encoded directly, and short enough for any frame.
        if len7 >= LEN_IN_16_BITS {
            check_len(opcode, len)?;
            let Some(extended) = parse_extended_len(len7, rest)? else {
                return Ok(None);
            };
            (len, rest) = extended;
        }

        let mut mask = None;
        if masked {
            let Some((&key, after)) = rest.split_first_chunk() else {
                return Ok(None);
            };
            mask = Some(MaskingKey::new(key));
            rest = after;
        }
        Ok(Some((Self { fin, rsv1, opcode, mask, len }, bytes.len() - rest.len())))
    }

    /// Reads the header at the front of `bytes` if it is that of the most frequent frame: a short uncompressed message
    /// in one frame, with a payload of at most 125 bytes.
    ///
    /// This is [`parse`](Self::parse) without the cost of the other cases. `None` says nothing about the bytes: call
    /// `parse` to find out.
    #[inline]
    pub fn parse_short(bytes: &[u8], role: Role) -> Option<(Self, usize)> {
        let [first, second, rest @ ..] = bytes else { return None };
        let opcode = match *first {
            WHOLE_TEXT => Opcode::Text,
            WHOLE_BINARY => Opcode::Binary,
            _ => return None,
        };
        // A mask that is missing or unexpected makes this too large, like a longer length.
        let len7 = second ^ if role.peer().masks() { MASK } else { 0 };
        if len7 >= LEN_IN_16_BITS {
            return None;
        }
        let (mask, start) = match role {
            Role::Server => (Some(MaskingKey::new(*rest.first_chunk()?)), 6),
            Role::Client => (None, 2),
        };
        Some((Self { fin: true, rsv1: false, opcode, mask, len: u64::from(len7) }, start))
    }

    /// Creates the header of a data frame to be sent.
    ///
    /// `mask` is the key if we are a client, `None` if we are a server.
    ///
    /// # Errors
    ///
    /// [`FrameError::NotData`] for a control opcode, [`FrameError::UnexpectedRsv1`] for RSV1 on a
    /// continuation frame, [`FrameError::LengthTopBit`] for a length of 2^63 or more.
    #[inline]
    pub const fn data(
        FirstByte { opcode, fin, rsv1 }: FirstByte,
        len: u64,
        mask: Option<MaskingKey>,
    ) -> Result<Self, FrameError> {
        if opcode.is_control() {
            return Err(FrameError::NotData { opcode });
        }
        Self::checked(Self { fin, rsv1, opcode, mask, len })
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
        Self::checked(Self { fin: true, rsv1: false, opcode, mask, len })
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

    /// Writes the header in its wire format, with the length in its shortest form.
    #[inline]
    pub fn encode(self) -> EncodedHeader {
        let mut bytes = [0; Self::MAX_LEN];
        bytes[0] = self.first_byte();
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

    /// Appends the header in its wire format to a buffer.
    ///
    /// The same as [`encode`](Self::encode) followed by [`append_to`](EncodedHeader::append_to), with less work for the
    /// two bytes before a short frame of a server.
    #[inline]
    pub fn append_to(self, dst: &mut Vec<u8>) {
        match u8::try_from(self.len) {
            Ok(len) if len < LEN_IN_16_BITS && self.mask.is_none() => {
                dst.extend_from_slice(&[self.first_byte(), len]);
            }
            _ => self.encode().append_to(dst),
        }
    }

    #[inline]
    const fn first_byte(self) -> u8 {
        let fin = if self.fin { FIN } else { 0 };
        let rsv1 = if self.rsv1 { RSV1 } else { 0 };
        self.opcode.bits() | fin | rsv1
    }

    /// Returns whether this is the last frame of its message; always true of control frames.
    #[inline]
    pub const fn fin(self) -> bool {
        self.fin
    }

    /// Returns whether RSV1 is set, as permessage-deflate does on the first frame of a compressed message
    /// (RFC 7692 §6).
    ///
    /// Always false for continuation and control frames.
    #[inline]
    pub const fn rsv1(self) -> bool {
        self.rsv1
    }

    /// Returns the frame's opcode.
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

/// A header in its wire format: 2 to 14 bytes, made by [`FrameHeader::encode`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EncodedHeader {
    bytes: [u8; FrameHeader::MAX_LEN],
    /// The number of bytes used, at most all of them; the others are zero.
    len: usize,
}

impl EncodedHeader {
    /// Appends the header to a buffer.
    ///
    /// The same as `dst.extend_from_slice(&self)`, but without a function call to copy a handful of bytes. For this,
    /// `dst` may grow to have room for [`FrameHeader::MAX_LEN`] bytes.
    #[inline]
    pub fn append_to(&self, dst: &mut Vec<u8>) {
        let end = dst.len() + self.len;
        dst.extend_from_slice(&self.bytes);
        dst.truncate(end);
    }
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

/// The contents of a header's first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FirstByte {
    /// The opcode.
    pub opcode: Opcode,
    /// Whether this is the last frame of its message.
    pub fin: bool,
    /// Whether this is the first frame of a compressed message (RFC 7692 §6).
    pub rsv1: bool,
}

impl FirstByte {
    /// Creates the first byte of an uncompressed message of one frame.
    #[inline]
    pub const fn whole(opcode: Opcode) -> Self {
        Self { opcode, fin: true, rsv1: false }
    }
}

/// The result of [`parse_first_byte`] for every first byte: one load instead of its branches.
static FIRST_BYTES: [Result<FirstByte, FrameError>; 256] = {
    let mut verdicts = [Err(FrameError::ReservedBits); 256];
    let mut first = 0;
    loop {
        verdicts[first as usize] = parse_first_byte(first);
        if first == u8::MAX {
            break verdicts;
        }
        first += 1;
    }
};

const fn parse_first_byte(first: u8) -> Result<FirstByte, FrameError> {
    // "MUST be 0 unless an extension is negotiated that defines meanings for non-zero values" (RFC 6455
    // §5.2); none does for these two.
    if first & (RSV2 | RSV3) != 0 {
        return Err(FrameError::ReservedBits);
    }
    let Some(opcode) = Opcode::from_bits(first & OPCODE) else {
        // "If an unknown opcode is received, the receiving endpoint MUST _Fail the WebSocket Connection_."
        // (§5.2)
        return Err(FrameError::ReservedOpcode { opcode: first & OPCODE });
    };
    let fin = first & FIN != 0;
    let rsv1 = first & RSV1 != 0;
    match check_flags(opcode, fin, rsv1) {
        Ok(()) => Ok(FirstByte { opcode, fin, rsv1 }),
        Err(error) => Err(error),
    }
}

#[inline]
const fn check_flags(opcode: Opcode, fin: bool, rsv1: bool) -> Result<(), FrameError> {
    // "An endpoint MUST NOT set the 'Per-Message Compressed' bit of control frames and non-first fragments of
    // a data message" (RFC 7692 §6)
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
    if masked == role.peer().masks() {
        return Ok(());
    }
    match role {
        // "The server MUST close the connection upon receiving a frame that is not masked." (RFC 6455 §5.1)
        Role::Server => Err(FrameError::MissingMask),
        // "A client MUST close a connection if it detects a masked frame." (RFC 6455 §5.1)
        Role::Client => Err(FrameError::UnexpectedMask),
    }
}

/// Checks a length, or the seven bits that stand in for a longer one: both show whether it exceeds 125.
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

/// Reads the length that the seven bits 126 or 127 announce; returns it with the bytes after it.
fn parse_extended_len(len7: u8, bytes: &[u8]) -> Result<Option<(u64, &[u8])>, FrameError> {
    // "the minimal number of bytes MUST be used to encode the length" (RFC 6455 §5.2)
    if len7 == LEN_IN_16_BITS {
        let Some((&len, rest)) = bytes.split_first_chunk() else {
            return Ok(None);
        };
        let len = u64::from(u16::from_be_bytes(len));
        return if len < u64::from(LEN_IN_16_BITS) {
            Err(FrameError::NonMinimalLength)
        } else {
            Ok(Some((len, rest)))
        };
    }
    // The first of eight bytes shows the top bit, the first six whether 16 bits would do.
    if bytes.first().is_some_and(|&byte| byte & 0x80 != 0) {
        return Err(FrameError::LengthTopBit);
    }
    if bytes.starts_with(&[0; 6]) {
        return Err(FrameError::NonMinimalLength);
    }
    let Some((&len, rest)) = bytes.split_first_chunk() else {
        return Ok(None);
    };
    Ok(Some((u64::from_be_bytes(len), rest)))
}

const FIN: u8 = 0x80;
const RSV1: u8 = 0x40;
const RSV2: u8 = 0x20;
const RSV3: u8 = 0x10;
const OPCODE: u8 = 0x0f;
/// The first bytes of uncompressed messages of one frame.
const WHOLE_TEXT: u8 = FIN | Opcode::Text.bits();
const WHOLE_BINARY: u8 = FIN | Opcode::Binary.bits();
const MASK: u8 = 0x80;
const LEN7: u8 = 0x7f;
/// The seven bits that mean "the next 16 bits are the length"; as a number, the smallest length that needs them.
const LEN_IN_16_BITS: u8 = 126;
/// The seven bits that mean "the next 64 bits are the length".
const LEN_IN_64_BITS: u8 = 127;
const MAX_CONTROL_LEN: u64 = 125;

#[cfg(test)]
mod tests {
    use hex_literal::hex;
    use proptest::prelude::*;

    use super::*;
    use crate::CloseCode;

    const KEY: MaskingKey = MaskingKey::new(hex!("37fa213d"));

    type Parsed = Result<Option<(FrameHeader, usize)>, FrameError>;

    /// Parses every prefix of `bytes`, checks that they agree, and returns the result and how many bytes it took.
    fn parse_every_prefix(bytes: &[u8], role: Role) -> (Parsed, usize) {
        check_short(bytes, role);
        let whole = FrameHeader::parse(bytes, role);
        let mut decided_at = None;
        for end in 0..=bytes.len() {
            let parsed = FrameHeader::parse(&bytes[..end], role);
            match decided_at {
                None if parsed == Ok(None) => {}
                None => decided_at = Some((parsed, end)),
                Some((verdict, at)) => {
                    assert_eq!(parsed, verdict, "{bytes:02x?}: {at} and {end} bytes differ");
                }
            }
        }
        let (verdict, at) = decided_at.unwrap_or((Ok(None), bytes.len()));
        assert_eq!(verdict, whole, "{bytes:02x?}");
        (verdict, at)
    }

    /// Checks that `bytes` parse to exactly the given header, and that the header encodes to `bytes`.
    fn check_header(case: &str, bytes: &[u8], role: Role, header: FrameHeader) {
        let expected = Ok(Some((header, bytes.len())));
        assert_eq!(parse_every_prefix(bytes, role), (expected, bytes.len()), "{case}");
        assert_eq!(*header.encode(), *bytes, "{case}");
        assert_eq!(header.encode().as_ref(), bytes, "{case}");
        let mut appended = b"before".to_vec();
        header.encode().append_to(&mut appended);
        assert_eq!(appended, [b"before", bytes].concat(), "{case}");
        let mut appended = b"before".to_vec();
        header.append_to(&mut appended);
        assert_eq!(appended, [b"before", bytes].concat(), "{case}, appended without encoding");

        let followed = [bytes, &[0xff; 20]].concat();
        assert_eq!(FrameHeader::parse(&followed, role), expected, "{case}, payload behind it");
    }

    /// Checks that `bytes` are rejected once `seen` of them have arrived, not earlier and not later.
    fn check_refused(case: &str, bytes: &[u8], role: Role, error: FrameError, seen: usize) {
        assert_eq!(parse_every_prefix(bytes, role), (Err(error), seen), "{case}");
    }

    fn data(opcode: Opcode, fin: bool, len: u64, mask: Option<MaskingKey>) -> FrameHeader {
        FrameHeader::data(FirstByte { opcode, fin, rsv1: false }, len, mask).expect("a valid data frame")
    }

    fn control(opcode: Opcode, len: u64, mask: Option<MaskingKey>) -> FrameHeader {
        FrameHeader::control(opcode, len, mask).expect("a valid control frame")
    }

    /// Every pair of first bytes, with any number of bytes after them.
    #[test]
    fn whole_messages_are_parsed_the_same() {
        for role in [Role::Client, Role::Server] {
            for start in 0..=u16::MAX {
                let [first, second] = start.to_be_bytes();
                check_short(&[first, second, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14], role);
            }
        }
    }

    /// Checks that every prefix is taken for the beginning of a short message if it is one, and only then.
    fn check_short(bytes: &[u8], role: Role) {
        for end in 0..=bytes.len() {
            let is_short = |(header, _): &(FrameHeader, usize)| {
                let is_message = matches!(header.opcode(), Opcode::Text | Opcode::Binary);
                is_message && header.fin() && !header.rsv1() && header.len() <= 125
            };
            let expected = FrameHeader::parse(&bytes[..end], role).ok().flatten().filter(is_short);
            assert_eq!(FrameHeader::parse_short(&bytes[..end], role), expected, "{bytes:02x?} {end}");
        }
    }

    #[test]
    fn reads_and_writes_the_examples_of_the_rfc() {
        // RFC 6455 §5.7; the first two bytes of each frame and its key, without the payload.
        for (case, bytes, role, header) in [
            ("unmasked text", &hex!("81 05")[..], Role::Client, data(Opcode::Text, true, 5, None)),
            ("masked text", &hex!("81 85 37fa213d"), Role::Server, data(Opcode::Text, true, 5, Some(KEY))),
            ("first of two fragments", &hex!("01 03"), Role::Client, data(Opcode::Text, false, 3, None)),
            ("last fragment", &hex!("80 02"), Role::Client, data(Opcode::Continuation, true, 2, None)),
            ("unmasked ping", &hex!("89 05"), Role::Client, control(Opcode::Ping, 5, None)),
            ("masked pong", &hex!("8a 85 37fa213d"), Role::Server, control(Opcode::Pong, 5, Some(KEY))),
            ("256 bytes", &hex!("82 7e 0100"), Role::Client, data(Opcode::Binary, true, 256, None)),
            (
                "64 KiB",
                &hex!("82 7f 0000000000010000"),
                Role::Client,
                data(Opcode::Binary, true, 65_536, None),
            ),
        ] {
            check_header(case, bytes, role, header);
        }
    }

    #[test]
    fn lengths_take_their_shortest_form() {
        for (len, bytes) in [
            (0, &hex!("82 00")[..]),
            (1, &hex!("82 01")),
            (125, &hex!("82 7d")),
            (126, &hex!("82 7e 007e")),
            (127, &hex!("82 7e 007f")),
            (255, &hex!("82 7e 00ff")),
            (256, &hex!("82 7e 0100")),
            (65_535, &hex!("82 7e ffff")),
            (65_536, &hex!("82 7f 0000000000010000")),
            (1 << 31, &hex!("82 7f 0000000080000000")),
            (1 << 32, &hex!("82 7f 0000000100000000")),
            (1 << 53, &hex!("82 7f 0020000000000000")),
            (1 << 62, &hex!("82 7f 4000000000000000")),
            ((1 << 63) - 1, &hex!("82 7f 7fffffffffffffff")),
        ] {
            check_header(&format!("{len} bytes"), bytes, Role::Client, data(Opcode::Binary, true, len, None));

            let masked = [&[bytes[0], bytes[1] | 0x80], &bytes[2..], &KEY.bytes()].concat();
            let header = data(Opcode::Binary, true, len, Some(KEY));
            check_header(&format!("{len} bytes, masked"), &masked, Role::Server, header);
        }
    }

    #[test]
    fn rejects_lengths_not_in_minimal_form() {
        for (case, bytes, seen) in [
            ("0 in 16 bits", &hex!("82 7e 0000")[..], 4),
            ("125 in 16 bits", &hex!("82 7e 007d"), 4),
            ("0 in 64 bits", &hex!("82 7f 0000000000000000"), 8),
            ("125 in 64 bits", &hex!("82 7f 000000000000007d"), 8),
            ("126 in 64 bits", &hex!("82 7f 000000000000007e"), 8),
            ("65535 in 64 bits", &hex!("82 7f 000000000000ffff"), 8),
        ] {
            check_refused(case, bytes, Role::Client, FrameError::NonMinimalLength, seen);
            let masked = [&[bytes[0], bytes[1] | 0x80], &bytes[2..], &KEY.bytes()].concat();
            check_refused(case, &masked, Role::Server, FrameError::NonMinimalLength, seen);
        }
    }

    #[test]
    fn rejects_lengths_with_the_top_bit_set() {
        for bytes in [hex!("82 7f 8000000000000000"), hex!("82 7f ffffffffffffffff")] {
            check_refused("received", &bytes, Role::Client, FrameError::LengthTopBit, 3);
            check_refused(
                "received",
                &[&[0x82, 0xff], &bytes[2..]].concat(),
                Role::Server,
                FrameError::LengthTopBit,
                3,
            );
        }
        assert_eq!(
            FrameHeader::data(FirstByte::whole(Opcode::Binary), 1 << 63, None),
            Err(FrameError::LengthTopBit)
        );
        assert_eq!(FrameError::LengthTopBit.close_code(), CloseCode::PROTOCOL_ERROR);
    }

    #[test]
    fn the_table_has_the_result_for_each_first_byte() {
        for first in 0..=u8::MAX {
            assert_eq!(FIRST_BYTES[usize::from(first)], parse_first_byte(first), "{first:02x}");
        }
    }

    /// The result that the rules demand for a first byte, in the order in which they are checked.
    fn expected_of_first_byte(first: u8) -> Result<Opcode, FrameError> {
        if first & 0x30 != 0 {
            return Err(FrameError::ReservedBits);
        }
        let opcode = match first & 0x0f {
            0x0 => Opcode::Continuation,
            0x1 => Opcode::Text,
            0x2 => Opcode::Binary,
            0x8 => Opcode::Close,
            0x9 => Opcode::Ping,
            0xa => Opcode::Pong,
            opcode => return Err(FrameError::ReservedOpcode { opcode }),
        };
        match (first & 0xc0, opcode) {
            (0x40 | 0xc0, Opcode::Continuation | Opcode::Close | Opcode::Ping | Opcode::Pong) => {
                Err(FrameError::UnexpectedRsv1 { opcode })
            }
            (0x00, Opcode::Close | Opcode::Ping | Opcode::Pong) => {
                Err(FrameError::FragmentedControl { opcode })
            }
            _ => Ok(opcode),
        }
    }

    #[test]
    fn every_first_byte_is_judged_alone_and_at_once() {
        for first in 0..=u8::MAX {
            for role in [Role::Client, Role::Server] {
                let mask = if role == Role::Server { 0x80 } else { 0 };
                let bytes = [first, mask | 5, 0x37, 0xfa, 0x21, 0x3d];
                let (parsed, at) = parse_every_prefix(&bytes, role);
                match expected_of_first_byte(first) {
                    Err(error) => assert_eq!((parsed, at), (Err(error), 1), "{first:#04x}"),
                    Ok(opcode) => {
                        let (header, len) = parsed.expect("a valid first byte").expect("a whole header");
                        assert_eq!(len, if role == Role::Server { 6 } else { 2 });
                        assert_eq!(header.opcode(), opcode);
                        assert_eq!(header.fin(), first & 0x80 != 0);
                        assert_eq!(header.rsv1(), first & 0x40 != 0);
                        assert_eq!(header.len(), 5);
                        assert!(!header.is_empty());
                        assert_eq!(header.mask(), (role == Role::Server).then_some(KEY));
                    }
                }
            }
        }
    }

    #[test]
    fn control_frames_carry_at_most_125_bytes() {
        for opcode in [Opcode::Close, Opcode::Ping, Opcode::Pong] {
            let first = 0x80 | opcode.bits();
            let error = FrameError::ControlTooLong { opcode };
            check_header("125 bytes", &[first, 125], Role::Client, control(opcode, 125, None));
            // Refused before the extended length shows whether it is minimal.
            check_refused("126 bytes", &[first, 126, 0, 126], Role::Client, error, 2);
            check_refused("1 byte in 16 bits", &[first, 126, 0, 1], Role::Client, error, 2);
            check_refused("top bit", &[first, 127, 0x80, 0, 0, 0, 0, 0, 0, 0], Role::Client, error, 2);
            check_refused("masked", &[first, 0x80 | 0x7e, 0, 0x7e, 1, 2, 3, 4], Role::Server, error, 2);
            assert_eq!(FrameHeader::control(opcode, 126, None), Err(error));
            assert_eq!(FrameHeader::control(opcode, u64::MAX, None), Err(error));
        }
    }

    #[test]
    fn a_client_masks_and_a_server_does_not() {
        for (case, bytes, role, error) in [
            ("text to a server", &hex!("81 05")[..], Role::Server, FrameError::MissingMask),
            ("empty text to a server", &hex!("81 00"), Role::Server, FrameError::MissingMask),
            ("long text to a server", &hex!("81 7e 0001"), Role::Server, FrameError::MissingMask),
            ("ping to a server", &hex!("89 7f"), Role::Server, FrameError::MissingMask),
            ("text to a client", &hex!("81 85 37fa213d"), Role::Client, FrameError::UnexpectedMask),
            ("ping to a client", &hex!("89 fe"), Role::Client, FrameError::UnexpectedMask),
        ] {
            check_refused(case, bytes, role, error, 2);
        }
    }

    #[test]
    fn a_header_that_breaks_a_rule_cannot_be_built() {
        for opcode in [Opcode::Close, Opcode::Ping, Opcode::Pong] {
            let first = FirstByte::whole(opcode);
            assert_eq!(FrameHeader::data(first, 0, None), Err(FrameError::NotData { opcode }));
        }
        for opcode in [Opcode::Continuation, Opcode::Text, Opcode::Binary] {
            assert_eq!(FrameHeader::control(opcode, 0, None), Err(FrameError::NotControl { opcode }));
        }
        let opcode = Opcode::Continuation;
        assert_eq!(
            FrameHeader::data(FirstByte { rsv1: true, ..FirstByte::whole(opcode) }, 0, None),
            Err(FrameError::UnexpectedRsv1 { opcode })
        );
    }

    #[test]
    fn two_bytes_at_most_are_read_of_an_unmasked_short_frame() {
        let empty = control(Opcode::Close, 0, None);
        assert!(empty.is_empty() && empty.fin() && !empty.rsv1());
        assert_eq!(FrameHeader::parse(&hex!("88 00 ff ff"), Role::Client), Ok(Some((empty, 2))));
        assert_eq!(FrameHeader::parse(&[], Role::Client), Ok(None));
        assert_eq!(size_of::<FrameHeader>(), 16);
    }

    /// Bytes that are often headers: the length forms and their boundaries are as frequent as short lengths.
    fn bytes_like_a_header() -> impl Strategy<Value = Vec<u8>> {
        let first = prop_oneof![4 => prop::sample::select(&[0x81, 0x82, 0x01, 0x80, 0x89, 0xc1][..]), 1 => any::<u8>()];
        let second = prop_oneof![prop::sample::select(&[126, 127, 254, 255][..]), any::<u8>()];
        let rest = prop::collection::vec(prop_oneof![2 => Just(0), 1 => any::<u8>()], 0..16);
        (first, second, rest).prop_map(|(first, second, mut bytes)| {
            bytes.splice(..0, [first, second]);
            bytes
        })
    }

    fn any_header() -> impl Strategy<Value = FrameHeader> {
        let mask = any::<Option<[u8; 4]>>().prop_map(|key| key.map(MaskingKey::new));
        let len = (0..64_u32, any::<u64>()).prop_map(|(shift, bits)| (bits >> shift) & (u64::MAX >> 1));
        (0..8_u8, any::<[bool; 2]>(), len, mask).prop_map(|(kind, [fin, rsv1], len, mask)| match kind {
            0 => control(Opcode::Close, len % 126, mask),
            1 => control(Opcode::Ping, len % 126, mask),
            2 => control(Opcode::Pong, len % 126, mask),
            3 => data(Opcode::Continuation, fin, len, mask),
            4 | 5 => FrameHeader::data(FirstByte { opcode: Opcode::Text, fin, rsv1 }, len, mask)
                .expect("a valid text frame"),
            _ => FrameHeader::data(FirstByte { opcode: Opcode::Binary, fin, rsv1 }, len, mask)
                .expect("a valid binary frame"),
        })
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_read_back(header in any_header()) {
            let role = if header.mask().is_some() { Role::Server } else { Role::Client };
            check_header("round trip", &header.encode(), role, header);
        }

        #[test]
        fn any_split_gives_the_same_verdict(bytes in bytes_like_a_header(), server: bool) {
            let role = if server { Role::Server } else { Role::Client };
            let (verdict, at) = parse_every_prefix(&bytes, role);
            if let Ok(Some((header, len))) = verdict {
                // The form is minimal, so encoding yields exactly the bytes that were read.
                prop_assert_eq!(at, len);
                prop_assert_eq!(&*header.encode(), &bytes[..len]);
            }
        }
    }
}
