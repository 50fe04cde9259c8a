//! The attackers' bytes: handshakes, frames that may lie, and handmade compressed data.
//!
//! Owns bytes only; the attacks decide who sends them, and when. Longwire would refuse to make most of these
//! frames.

/// Returns a request that every server accepts, with the additional fields in `more`, each of which ends with a
/// line break.
pub(super) fn request(more: &str) -> String {
    format!(
        "GET / HTTP/1.1\r\nHost: abuse\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n"
    )
}

/// The field that offers compression.
pub(super) const DEFLATE: &str = "Sec-WebSocket-Extensions: permessage-deflate\r\n";

/// First bytes of frames (RFC 6455 §5.2): FIN is 0x80, RSV1 0x40.
pub(super) const TEXT: u8 = 0x81;
pub(super) const BINARY: u8 = 0x82;
pub(super) const BINARY_BEGINS: u8 = 0x02;
pub(super) const CONTINUES: u8 = 0x00;
pub(super) const LAST: u8 = 0x80;
pub(super) const COMPRESSED_BEGINS: u8 = 0x42;
pub(super) const CLOSE: u8 = 0x88;
pub(super) const PING: u8 = 0x89;
pub(super) const PONG: u8 = 0x8a;

/// The content of a close frame with code 1000.
pub(super) const NORMAL: &[u8] = &[0x03, 0xe8];

/// Returns the header of a masked frame that claims a payload of `len` bytes. The key is zero, so payloads are sent
/// unchanged.
pub(super) fn header(first: u8, len: usize) -> Vec<u8> {
    wire_model::header(first, len, Some(wire_model::ZERO))
}

pub(super) use wire_model::client_frame as frame;

/// Returns a compressed message in frames of at most `piece` bytes.
pub(super) fn compressed(payload: &[u8], piece: usize) -> Vec<u8> {
    let last = payload.len().div_ceil(piece).saturating_sub(1);
    let frames = payload.chunks(piece).enumerate().map(|(number, piece)| {
        let first = if number == 0 { COMPRESSED_BEGINS } else { CONTINUES };
        frame(first | if number == last { LAST } else { 0 }, piece)
    });
    frames.flatten().collect()
}

/// Returns a compressed message that yields `len` zeros, rounded up to a multiple of 258 and one more, in a 1032nd
/// of that.
///
/// One block with its own codes (RFC 1951 §3.2.7): a literal zero, then copies of 258 bytes from a distance of one
/// byte, for which the length and the distance take one bit each. Both bits are 0, so the data is zeros as well.
pub(super) fn bomb(len: usize) -> Vec<u8> {
    let mut bits = Bits::default();
    // BFINAL 0, BTYPE 2; HLIT 286 codes, HDIST one code, HCLEN 18 lengths of code lengths.
    for (value, count) in [(0, 1), (2, 2), (286 - 257, 5), (0, 5), (18 - 4, 4)] {
        bits.put(value, count);
    }
    // In the order 16 17 18 0 8 7 9 6 10 5 11 4 12 3 13 2 14 1: 18, a run of zeros, takes one bit; 1 and 2 take two.
    for length in [0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 2] {
        bits.put(length, 3);
    }
    // Canonical codes of these: 18 is `0`, 1 is `10`, 2 is `11`; codes are written first bit first.
    let run = |bits: &mut Bits, zeros: u32| {
        bits.put(0, 1);
        bits.put(zeros - 11, 7);
    };
    let one = |bits: &mut Bits| bits.put(0b01, 2);
    let two = |bits: &mut Bits| bits.put(0b11, 2);
    two(&mut bits); // the literal 0
    run(&mut bits, 138);
    run(&mut bits, 117);
    two(&mut bits); // 256, the end of the block
    run(&mut bits, 28);
    one(&mut bits); // 285, the length 258
    one(&mut bits); // the distance 1
    // Codes: 285 is `0`, the literal 0 `10`, the end `11`; the distance `0`.
    bits.put(0b01, 2);
    for _ in 0..len.div_ceil(258) {
        bits.put(0, 2);
    }
    bits.put(0b11, 2);
    // An empty stored block up to a whole byte; the bytes that would follow, 00 00 ff ff, are removed from messages
    // (RFC 7692 §7.2.1).
    bits.put(0, 3);
    bits.bytes
}

/// Bits to bytes, lowest bit first.
#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    /// The number of bits of the last byte that are used, 0 for all.
    used: u32,
}

impl Bits {
    fn put(&mut self, value: u32, count: u32) {
        for i in 0..count {
            if self.used == 0 {
                self.bytes.push(0);
            }
            let bit = (value >> i & 1) as u8;
            if let Some(last) = self.bytes.last_mut() {
                *last |= bit << self.used;
            }
            self.used = (self.used + 1) % 8;
        }
    }
}

#[cfg(test)]
mod tests {
    use flate2::{Decompress, FlushDecompress};

    use super::*;

    #[test]
    fn a_bomb_yields_its_zeros_and_is_a_thousandth_of_them() {
        for len in [1, 258, 259, 100_000, 20 << 20] {
            let mut bomb = bomb(len);
            let expected = len.div_ceil(258) * 258 + 1;
            assert!(bomb.len() < expected / 1030 + 64, "{len}: {} bytes", bomb.len());
            bomb.extend([0, 0, 0xff, 0xff]);
            let mut out = Vec::with_capacity(expected + 1);
            Decompress::new(false).decompress_vec(&bomb, &mut out, FlushDecompress::Sync).unwrap();
            assert_eq!(out.len(), expected, "{len}");
            assert!(out.iter().all(|byte| *byte == 0), "{len}");
        }
    }

    #[test]
    fn a_message_in_pieces_begins_once_and_ends_once() {
        for (payload, piece, firsts) in [
            (&[7; 10][..], 10, &[0xc2][..]),
            (&[7; 10], 5, &[0x42, 0x80]),
            (&[7; 11], 5, &[0x42, 0x00, 0x80]),
        ] {
            let bytes = compressed(payload, piece);
            let mut rest = &bytes[..];
            let mut seen = Vec::new();
            while let [first, len, ..] = rest {
                seen.push(*first);
                rest = &rest[6 + usize::from(len & 0x7f)..];
            }
            assert_eq!(seen, firsts);
        }
    }
}
