//! A model of frames on the wire (RFC 6455 §5.2), for the tests and tools of the other crates.
//!
//! It shares no code with `longwire-frame`, so that a mistake of the codec cannot hide itself, and it encodes frames
//! that the library refuses to send. The first byte of a frame is passed as it is: [`FIN`], the reserved bits, and
//! the opcode.

#![forbid(unsafe_code)]

/// The bit of the last frame of a message.
pub const FIN: u8 = 0x80;
/// The bit of a compressed message (RFC 7692 §6).
pub const RSV1: u8 = 0x40;

/// The opcode of a further frame of a message.
pub const CONTINUATION: u8 = 0x0;
/// The opcode of a text message.
pub const TEXT: u8 = 0x1;
/// The opcode of a binary message.
pub const BINARY: u8 = 0x2;
/// The opcode of a close frame.
pub const CLOSE: u8 = 0x8;
/// The opcode of a ping.
pub const PING: u8 = 0x9;
/// The opcode of a pong.
pub const PONG: u8 = 0xa;

/// A masking key.
pub type Key = [u8; 4];

/// An arbitrary key, the same in every run.
pub const KEY: Key = [0x37, 0xfa, 0x21, 0x3d];

/// The key that leaves the payload unchanged.
pub const ZERO: Key = [0; 4];

/// The bit beside the length that announces a key.
const MASKED: u8 = 0x80;

/// Encodes a header that claims a payload of `len` bytes, in the shortest form, with the key of a client.
pub fn header(first: u8, len: usize, key: Option<Key>) -> Vec<u8> {
    let len = match (u8::try_from(len), u16::try_from(len)) {
        (Ok(len @ ..126), _) => vec![len],
        (_, Ok(len)) => [&[126][..], &len.to_be_bytes()].concat(),
        _ => [&[127][..], &(len as u64).to_be_bytes()].concat(),
    };
    header_with(first, &len, key)
}

/// Encodes a header with these bytes of length, which may break the rules. There must be at least one.
fn header_with(first: u8, len: &[u8], key: Option<Key>) -> Vec<u8> {
    let mut bytes = vec![first];
    bytes.extend(len);
    if let Some(key) = key {
        bytes[1] |= MASKED;
        bytes.extend(key);
    }
    bytes
}

/// Encodes a frame.
pub fn frame(first: u8, payload: &[u8], key: Option<Key>) -> Vec<u8> {
    let mut bytes = header(first, payload.len(), key);
    bytes.extend(masked(payload, key));
    bytes
}

/// Encodes a frame whose length is written as these bytes, which may break the rules.
///
/// # Panics
///
/// If `len` is empty.
pub fn frame_with_len(first: u8, len: &[u8], payload: &[u8], key: Option<Key>) -> Vec<u8> {
    let mut bytes = header_with(first, len, key);
    bytes.extend(masked(payload, key));
    bytes
}

/// Encodes a frame of a client, with the key [`ZERO`].
pub fn client_frame(first: u8, payload: &[u8]) -> Vec<u8> {
    frame(first, payload, Some(ZERO))
}

/// Masks or unmasks a payload.
fn masked(payload: &[u8], key: Option<Key>) -> impl Iterator<Item = u8> {
    let key = key.unwrap_or(ZERO);
    payload.iter().zip(key.into_iter().cycle()).map(|(byte, key)| byte ^ key)
}

/// A frame taken off the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// [`FIN`], the reserved bits, and the opcode.
    pub first: u8,
    /// The key, if the frame was masked.
    pub key: Option<Key>,
    /// The unmasked payload.
    pub payload: Vec<u8>,
}

/// Takes one frame off `bytes`. Returns `None`, and takes nothing, if it is incomplete.
///
/// # Panics
///
/// If its length exceeds the memory's range.
pub fn take_frame(bytes: &mut &[u8]) -> Option<Frame> {
    let (&[first, second], mut rest) = bytes.split_first_chunk()?;
    let len = match second & !MASKED {
        126 => u64::from(u16::from_be_bytes(take(&mut rest)?)),
        127 => u64::from_be_bytes(take(&mut rest)?),
        len => u64::from(len),
    };
    let key = if second & MASKED == 0 { None } else { Some(take(&mut rest)?) };
    let (payload, rest) = rest.split_at_checked(usize::try_from(len).expect("a payload in memory"))?;
    *bytes = rest;
    Some(Frame { first, key, payload: masked(payload, key).collect() })
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_in_their_shortest_form() {
        for (len, start) in [
            (0, &[0x82, 0x80][..]),
            (125, &[0x82, 0xfd]),
            (126, &[0x82, 0xfe, 0, 126]),
            (65_535, &[0x82, 0xfe, 255, 255]),
            (65_536, &[0x82, 0xff, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            assert_eq!(header(FIN | BINARY, len, Some(KEY)), [start, &KEY].concat(), "{len}");
        }
    }

    #[test]
    fn the_examples_of_rfc_6455() {
        // RFC 6455 §5.7
        assert_eq!(frame(FIN | TEXT, b"Hello", None), b"\x81\x05Hello");
        assert_eq!(frame(FIN | TEXT, b"Hello", Some(KEY)), b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58");
        assert_eq!(frame(TEXT, b"Hel", None), b"\x01\x03Hel");
        assert_eq!(frame_with_len(0x80, &[2], b"lo", None), frame(FIN, b"lo", None));
    }

    #[test]
    fn a_frame_is_taken_as_a_whole_or_not_at_all() {
        for key in [None, Some(KEY)] {
            for len in [0, 1, 125, 126, 65_536] {
                let payload: Vec<u8> = (0..=255).cycle().take(len).collect();
                let mut bytes = frame(RSV1 | BINARY, &payload, key);
                for end in (0..bytes.len()).take(20) {
                    assert_eq!(take_frame(&mut &bytes[..end]), None);
                }
                bytes.push(7);
                let mut rest = &bytes[..];
                assert_eq!(take_frame(&mut rest), Some(Frame { first: RSV1 | BINARY, key, payload }));
                assert_eq!(rest, [7]);
            }
        }
    }
}
