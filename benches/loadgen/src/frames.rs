//! The bytes on the wire: a batch of masked frames, and the echo that must come back for it.

/// One batch and its echo, both complete.
pub(crate) struct Script {
    /// The frames to write, masked.
    pub(crate) sent: Vec<u8>,
    /// The server's frames that echo them: unmasked, with the shortest header, one frame per message.
    pub(crate) expected: Vec<u8>,
}

/// The kind of a message.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Text,
    Binary,
}

impl Script {
    /// Creates a batch of `depth` messages of `size` bytes. Scripts with different `seed` differ in every payload,
    /// and so do the messages of one script, so an echo that arrives in the wrong place, or from another connection,
    /// is noticed.
    pub(crate) fn new(kind: Kind, size: usize, depth: u32, seed: u32) -> Self {
        let (mut sent, mut expected) = (Vec::new(), Vec::new());
        for index in 0..depth {
            let payload = payload(kind, size, seed.wrapping_mul(0x9e37) ^ index);
            let key = (0x37fa_213d_u32 ^ (seed << 8) ^ index.wrapping_mul(0x0101_0101)).to_be_bytes();
            header(&mut sent, kind, size, Some(key));
            sent.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
            header(&mut expected, kind, size, None);
            expected.extend(payload);
        }
        Self { sent, expected }
    }

    /// Returns the same batch for a server that sends back every byte unchanged.
    pub(crate) fn mirrored(self) -> Self {
        Self { expected: self.sent.clone(), sent: self.sent }
    }
}

pub(crate) fn payload(kind: Kind, size: usize, seed: u32) -> Vec<u8> {
    let mut state = u64::from(seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        // A xorshift generator: its output only has to differ from place to place.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..size)
        .map(|_| match kind {
            Kind::Binary => next(),
            Kind::Text => b'a' + next() % 26,
        })
        .collect()
}

/// Writes a header of RFC 6455 §5.2.
pub(crate) fn header(out: &mut Vec<u8>, kind: Kind, size: usize, key: Option<[u8; 4]>) {
    out.push(match kind {
        Kind::Text => 0x81,
        Kind::Binary => 0x82,
    });
    let masked = if key.is_some() { 0x80 } else { 0 };
    match (u8::try_from(size), u16::try_from(size)) {
        (Ok(len @ ..=125), _) => out.push(masked + len),
        (_, Ok(len)) => {
            out.push(masked + 126);
            out.extend(len.to_be_bytes());
        }
        _ => {
            out.push(masked + 127);
            out.extend((size as u64).to_be_bytes());
        }
    }
    out.extend(key.into_iter().flatten());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_have_the_shortest_length() {
        for (size, expected) in [
            (0, &[0x82, 0][..]),
            (125, &[0x82, 125]),
            (126, &[0x82, 126, 0, 126]),
            (65535, &[0x82, 126, 0xff, 0xff]),
            (65536, &[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let mut out = Vec::new();
            header(&mut out, Kind::Binary, size, None);
            assert_eq!(out, expected, "{size}");
        }
    }

    #[test]
    fn unmasking_what_is_sent_gives_what_is_expected() {
        let script = Script::new(Kind::Text, 5, 2, 3);
        assert_eq!((script.sent.len(), script.expected.len()), (2 * (6 + 5), 2 * (2 + 5)));
        for (sent, expected) in script.sent.chunks(11).zip(script.expected.chunks(7)) {
            assert_eq!((sent[0], sent[1] & 0x7f), (expected[0], expected[1]));
            let unmasked: Vec<_> =
                sent[6..].iter().zip(sent[2..6].iter().cycle()).map(|(a, b)| a ^ b).collect();
            assert_eq!(unmasked, expected[2..]);
        }
        assert_ne!(script.expected[..7], script.expected[7..]);
    }
}
