//! The least that a WebSocket server on tokio can do with what one read brought: find the frames, unmask them in
//! place, and frame the answers in the same buffer.
//!
//! It checks nothing: no limits, no UTF-8, no reserved bits, no order of fragments. It is a yardstick, not a server.

use std::{cell::RefCell, ops::Range};

/// The work on the bytes of one read.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Turn {
    /// The number of bytes that complete frames took.
    pub taken: usize,
    /// The place of the answers in the buffer: the same messages, framed by a server.
    pub answers: Range<usize>,
    /// The length of the incomplete frame after them, as soon as its header is there.
    pub incomplete: Option<usize>,
    /// Whether the client closes.
    pub closes: bool,
}

/// Frames the complete messages at the start of `buf` anew, in place and next to each other.
pub fn answer(buf: &mut [u8]) -> Turn {
    let mut turn = Turn::default();
    while let Some(header) = Header::parse(&buf[turn.taken..]) {
        let payload = turn.taken + header.len..turn.taken + header.len + header.payload;
        if payload.end > buf.len() {
            turn.incomplete = Some(header.len + header.payload);
            break;
        }
        unmask(&mut buf[payload.clone()], header.key);
        turn.taken = payload.end;
        turn.closes |= header.opcode() == CLOSE;
        let (reply, reply_len) = header.reply();
        if turn.answers.is_empty() {
            // The client's header is four bytes longer: the first answer needs no copy.
            turn.answers = payload.start - reply_len..payload.end;
            buf[turn.answers.start..payload.start].copy_from_slice(&reply[..reply_len]);
        } else {
            let start = turn.answers.end;
            buf[start..start + reply_len].copy_from_slice(&reply[..reply_len]);
            turn.answers.end = start + reply_len + header.payload;
            buf.copy_within(payload, start + reply_len);
        }
    }
    turn
}

/// A client's header.
struct Header {
    first: u8,
    key: [u8; 4],
    /// Its own length.
    len: usize,
    payload: usize,
}

impl Header {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let (&first, &second) = (bytes.first()?, bytes.get(1)?);
        let (payload, at) = match second & 0x7f {
            126 => (usize::from(u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?)), 4),
            127 => (usize::try_from(u64::from_be_bytes(*bytes.get(2..)?.first_chunk()?)).ok()?, 10),
            len => (usize::from(len), 2),
        };
        let key = *bytes.get(at..)?.first_chunk()?;
        Some(Self { first, key, len: at + 4, payload })
    }

    fn opcode(&self) -> u8 {
        self.first & 0x0f
    }

    /// Returns the header of the answer, and its length.
    fn reply(&self) -> ([u8; 10], usize) {
        let mut reply = [0; 10];
        // A ping is answered by a pong, everything else by itself.
        reply[0] = if self.opcode() == PING { self.first + 1 } else { self.first };
        let len = match (u8::try_from(self.payload), u16::try_from(self.payload)) {
            (Ok(len @ ..=125), _) => {
                reply[1] = len;
                2
            }
            (_, Ok(len)) => {
                reply[1] = 126;
                reply[2..4].copy_from_slice(&len.to_be_bytes());
                4
            }
            _ => {
                reply[1] = 127;
                reply[2..].copy_from_slice(&(self.payload as u64).to_be_bytes());
                10
            }
        };
        (reply, len)
    }
}

/// In blocks that the compiler turns into vectors.
fn unmask(payload: &mut [u8], key: [u8; 4]) {
    let (blocks, rest) = payload.as_chunks_mut::<16>();
    for block in blocks {
        for (index, byte) in block.iter_mut().enumerate() {
            *byte ^= key[index % 4];
        }
    }
    for (byte, key) in rest.iter_mut().zip(key.iter().cycle()) {
        *byte ^= key;
    }
}

const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;

/// The size of a thread's buffer: two messages of 64 KiB with their headers.
pub const BUFFER: usize = 132 * 1024;

thread_local! {
    /// The buffer that a thread lends to the connection that it works for.
    pub static BUFFERS: RefCell<Vec<u8>> = RefCell::new(vec![0; BUFFER]);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a client's frame.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = vec![first];
        match payload.len() {
            len @ ..=125 => out.push(0x80 | u8::try_from(len).unwrap()),
            len @ ..=65535 => {
                out.push(0xfe);
                out.extend(u16::try_from(len).unwrap().to_be_bytes());
            }
            len => {
                out.push(0xff);
                out.extend((len as u64).to_be_bytes());
            }
        }
        out.extend(KEY);
        out.extend(payload.iter().zip(KEY.iter().cycle()).map(|(byte, key)| byte ^ key));
        out
    }

    const KEY: [u8; 4] = [1, 2, 3, 4];

    #[test]
    fn messages_are_unmasked_and_framed_next_to_each_other() {
        for len in [0, 1, 15, 16, 17, 125, 126, 65535, 65536] {
            let payload: Vec<_> = (0..len).map(|index: usize| u8::try_from(index % 251).unwrap()).collect();
            let one = frame(0x82, &payload);
            let head = one.len() - len - 4;
            let mut reply = one[..head].to_vec();
            reply[1] &= 0x7f;
            reply.extend(&payload);
            let mut buf = one.repeat(3);
            let turn = answer(&mut buf);
            assert_eq!((turn.taken, turn.incomplete, turn.closes), (buf.len(), None, false), "{len}");
            assert_eq!(buf[turn.answers], reply.repeat(3), "{len}");
        }
    }

    #[test]
    fn an_incomplete_frame_stays_where_it_is() {
        let whole = frame(0x81, b"hello");
        for cut in 0..whole.len() {
            let mut buf = [&whole[..], &whole[..cut]].concat();
            let turn = answer(&mut buf);
            assert_eq!(turn.taken, whole.len(), "{cut}");
            assert_eq!(buf[turn.answers], *b"\x81\x05hello", "{cut}");
            assert_eq!(buf[turn.taken..], whole[..cut], "{cut}");
            assert_eq!(turn.incomplete, (cut >= 6).then_some(whole.len()), "{cut}");
        }
    }

    #[test]
    fn control_frames_are_answered() {
        let mut buf = [frame(0x89, b"p"), frame(0x88, b"\x03\xe8")].concat();
        let turn = answer(&mut buf);
        assert_eq!(buf[turn.answers], *b"\x8a\x01p\x88\x02\x03\xe8");
        assert!(turn.closes);
    }
}
