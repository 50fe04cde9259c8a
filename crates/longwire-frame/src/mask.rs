//! Masking: the XOR that clients apply to every payload (RFC 6455 §5.3).
//!
//! Owns the transformation of payload bytes, in place and while they are copied. Masking undoes itself, so the
//! same two functions mask and unmask. Where keys come from belongs to the edges: the core is given them.

/// Holds the four bytes that a payload is masked with (RFC 6455 §5.3).
///
/// A client needs a fresh key for each frame, from a cryptographic source of randomness: a script in a browser
/// must not be able to choose the bytes that appear on the wire (RFC 6455 §10.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MaskingKey([u8; 4]);

impl MaskingKey {
    /// Creates a key from its bytes, in the order in which they stand on the wire.
    #[inline]
    pub const fn new(bytes: [u8; 4]) -> Self {
        Self(bytes)
    }

    /// Returns the bytes, in the order in which they stand on the wire.
    #[inline]
    pub const fn bytes(self) -> [u8; 4] {
        self.0
    }

    /// Returns the key for eight bytes in a row, the first of which stands at `offset` in the payload.
    ///
    /// The lowest byte is for the first of them.
    #[inline]
    const fn word_at(self, offset: usize) -> u64 {
        // "j = i MOD 4": only the two lowest bits of the offset matter, and turning the key by as many bytes brings
        // the one for the first byte to the front.
        #[allow(clippy::cast_possible_truncation, reason = "two bits are kept")]
        let turn = 8 * (offset & 3) as u32;
        let key = u32::from_le_bytes(self.0).rotate_right(turn) as u64;
        key | key << 32
    }
}

/// Masks or unmasks `buf` in place.
///
/// `offset` is the position of `buf[0]` in its frame's payload, so that a payload can be handled in parts. Positions
/// count anew in each frame, as each frame has a key of its own.
#[inline]
pub fn apply(buf: &mut [u8], key: MaskingKey, offset: usize) {
    let word = key.word_at(offset);
    let (words, rest) = buf.as_chunks_mut::<8>();
    for chunk in words {
        *chunk = xor(*chunk, word);
    }
    for (byte, key) in rest.iter_mut().zip(word.to_le_bytes()) {
        *byte ^= key;
    }
}

/// Appends `src` to `dst`, masked or unmasked on the way.
///
/// `offset` is the position of `src[0]` in its frame's payload.
#[inline]
pub fn extend(dst: &mut Vec<u8>, src: &[u8], key: MaskingKey, offset: usize) {
    let start = dst.len();
    dst.extend_from_slice(src);
    apply(&mut dst[start..], key, offset);
}

#[inline]
const fn xor(bytes: [u8; 8], word: u64) -> [u8; 8] {
    (u64::from_le_bytes(bytes) ^ word).to_le_bytes()
}
