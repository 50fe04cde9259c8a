//! The rules of a frame's header (RFC 6455 §5.2, §5.5), written once more and without regard to speed.

use longwire_frame::Role;

/// Returns whether these first bytes of a frame break a rule already, whatever follows.
pub(crate) fn breaks_a_rule(bytes: &[u8], role: Role) -> bool {
    let Some(&first) = bytes.first() else { return false };
    let (fin, rsv1, opcode) = (first & 0x80 != 0, first & 0x40 != 0, first & 0x0f);
    let is_control = opcode >= 8;
    if first & 0x30 != 0 || ![0, 1, 2, 8, 9, 10].contains(&opcode) {
        return true;
    }
    if (rsv1 && opcode != 1 && opcode != 2) || (is_control && !fin) {
        return true;
    }
    let Some(&second) = bytes.get(1) else { return false };
    let (is_masked, len) = (second & 0x80 != 0, second & 0x7f);
    if is_masked != (role == Role::Server) || (is_control && len > 125) {
        return true;
    }
    let extended = &bytes[2..];
    match len {
        126 => extended.len() >= 2 && u16::from_be_bytes([extended[0], extended[1]]) < 126,
        127 => extended.first().is_some_and(|byte| byte & 0x80 != 0) || extended.starts_with(&[0; 6]),
        _ => false,
    }
}

/// A header that is complete.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Header {
    pub(crate) first: u8,
    pub(crate) key: Option<[u8; 4]>,
    pub(crate) len: u64,
    /// The length of the header itself.
    pub(crate) own_len: usize,
}

/// Reads a header that breaks no rule; `None` if it is incomplete.
pub(crate) fn read(bytes: &[u8]) -> Option<Header> {
    let (&[first, second], rest) = bytes.split_first_chunk()?;
    let (len, rest) = match second & 0x7f {
        126 => {
            let (len, rest) = rest.split_first_chunk()?;
            (u64::from(u16::from_be_bytes(*len)), rest)
        }
        127 => {
            let (len, rest) = rest.split_first_chunk()?;
            (u64::from_be_bytes(*len), rest)
        }
        len => (u64::from(len), rest),
    };
    let (key, rest) = if second & 0x80 == 0 {
        (None, rest)
    } else {
        let (key, rest) = rest.split_first_chunk()?;
        (Some(*key), rest)
    };
    Some(Header { first, key, len, own_len: bytes.len() - rest.len() })
}
