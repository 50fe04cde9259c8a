//! Masking: the XOR that clients apply to every payload (RFC 6455 §5.3).
//!
//! Owns the transformation of payload bytes, in place and while copying. Masking is its own inverse, so the same two
//! functions mask and unmask. Generating keys belongs to the edges: the core is given them.

/// The four bytes that a payload is masked with (RFC 6455 §5.3).
///
/// A client needs a fresh key for each frame, from a cryptographic source of randomness: a script in a
/// browser must not be able to choose the bytes that appear on the wire (RFC 6455 §10.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MaskingKey([u8; 4]);

impl MaskingKey {
    /// Creates a key from its bytes, in wire order.
    #[inline]
    pub const fn new(bytes: [u8; 4]) -> Self {
        Self(bytes)
    }

    /// Returns the bytes, in wire order.
    #[inline]
    pub const fn bytes(self) -> [u8; 4] {
        self.0
    }

    /// Returns the key for four consecutive bytes, the first of which is at `offset` in the payload.
    ///
    /// The lowest byte applies to the first of them.
    #[inline]
    const fn at(self, offset: usize) -> u32 {
        // "j = i MOD 4": only the two lowest bits of the offset matter, and rotating the key by that many bytes brings
        // the byte for the first position to the front.
        #[allow(clippy::cast_possible_truncation, reason = "two bits are kept")]
        let turn = 8 * (offset & 3) as u32;
        u32::from_le_bytes(self.0).rotate_right(turn)
    }
}

/// Masks or unmasks `buf` in place.
///
/// `offset` is the position of `buf[0]` in its frame's payload, so a payload can be handled in parts. Positions start
/// at 0 in each frame, because each frame has its own key.
#[inline]
pub fn apply(buf: &mut [u8], key: MaskingKey, offset: usize) {
    let key = key.at(offset);
    let (words, rest) = buf.as_chunks_mut();
    for bytes in words {
        *bytes = xor8(*bytes, key);
    }
    // Whole words leave the key aligned, so the rest begins with the key's first byte again.
    let (half, rest) = rest.as_chunks_mut();
    if let [bytes] = half {
        *bytes = xor4(*bytes, key);
    }
    for (byte, key) in rest.iter_mut().zip(key.to_le_bytes()) {
        *byte ^= key;
    }
}

/// Appends `src` to `dst`, masked or unmasked in the process.
///
/// `offset` is the position of `src[0]` in its frame's payload. Each byte is read once and written once: nothing is
/// zero-filled first, and nothing is copied and then masked in place.
#[inline]
pub fn extend(dst: &mut Vec<u8>, src: &[u8], key: MaskingKey, offset: usize) {
    let key = key.at(offset);
    dst.reserve(src.len());
    let (words, rest) = src.as_chunks();
    dst.extend(words.iter().flat_map(|&bytes| xor8(bytes, key)));
    let (half, rest) = rest.as_chunks();
    if let [bytes] = half {
        dst.extend_from_slice(&xor4(*bytes, key));
    }
    for (byte, key) in rest.iter().zip(key.to_le_bytes()) {
        dst.push(byte ^ key);
    }
}

// The compiler turns the loops over `xor8` into vector instructions: no intrinsics are needed.
#[inline]
const fn xor8(bytes: [u8; 8], key: u32) -> [u8; 8] {
    let key = key as u64;
    (u64::from_le_bytes(bytes) ^ (key | key << 32)).to_le_bytes()
}

#[inline]
const fn xor4(bytes: [u8; 4], key: u32) -> [u8; 4] {
    (u32::from_le_bytes(bytes) ^ key).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use hex_literal::hex;
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// The formula of RFC 6455 §5.3, literally: "transformed-octet-i = original-octet-i XOR masking-key-octet-j" with
    /// "j = i MOD 4".
    fn naive(bytes: &[u8], key: MaskingKey, offset: usize) -> Vec<u8> {
        bytes.iter().enumerate().map(|(i, byte)| byte ^ key.bytes()[(offset % 4 + i) % 4]).collect()
    }

    /// Masks `padding` and then `bytes` into one buffer, so that every alignment is covered.
    fn check(padding: usize, bytes: &[u8], key: MaskingKey, offset: usize) {
        let before = vec![0xaa; padding];
        let expected = [before.clone(), naive(bytes, key, offset)].concat();

        let mut in_place = [&before[..], bytes].concat();
        apply(&mut in_place[padding..], key, offset);
        assert_eq!(in_place, expected, "apply, {} bytes behind {padding} at offset {offset}", bytes.len());

        let mut appended = before;
        extend(&mut appended, bytes, key, offset);
        assert_eq!(appended, expected, "extend, {} bytes behind {padding} at offset {offset}", bytes.len());
    }

    #[test]
    fn masks_the_hello_of_the_rfc() {
        // RFC 6455 §5.7, a single-frame masked text message.
        let key = MaskingKey::new(hex!("37fa213d"));
        let mut text = *b"Hello";
        apply(&mut text, key, 0);
        assert_eq!(text, hex!("7f9f4d5158"));
        apply(&mut text, key, 0);
        assert_eq!(text, *b"Hello");
    }

    #[test]
    fn equals_the_naive_version_at_every_length_offset_and_alignment() {
        let key = MaskingKey::new(hex!("01 80 fe 37"));
        let bytes: Vec<u8> = (0..300_u16).map(|i| i.wrapping_mul(151).to_be_bytes()[1]).collect();
        for len in 0..=bytes.len() {
            for offset in 0..4 {
                for padding in [0, 1, 3, 6, 8, 14] {
                    check(padding, &bytes[..len], key, offset);
                }
            }
        }
    }

    #[test]
    fn only_the_offset_modulo_four_counts() {
        let key = MaskingKey::new([1, 2, 3, 4]);
        for offset in [4, 5, 126, 65_535, usize::MAX - 3, usize::MAX] {
            check(0, b"some bytes, more than one word of them", key, offset);
        }
    }

    proptest! {
        #[test]
        fn equals_the_naive_version(
            bytes in vec(any::<u8>(), 0..300),
            key: [u8; 4],
            offset: usize,
            padding in 0_usize..16,
        ) {
            check(padding, &bytes, MaskingKey::new(key), offset);
        }

        #[test]
        fn masking_in_parts_equals_masking_at_once(
            bytes in vec(any::<u8>(), 0..300),
            key: [u8; 4],
            cuts in vec(any::<prop::sample::Index>(), 0..5),
        ) {
            let key = MaskingKey::new(key);
            let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            ends.push(bytes.len());
            ends.sort_unstable();

            let mut in_place = bytes.clone();
            let mut appended = Vec::new();
            let mut start = 0;
            for end in ends {
                apply(&mut in_place[start..end], key, start);
                extend(&mut appended, &bytes[start..end], key, start);
                start = end;
            }
            prop_assert_eq!(&in_place, &naive(&bytes, key, 0));
            prop_assert_eq!(&appended, &in_place);
        }
    }
}
