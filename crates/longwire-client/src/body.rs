//! The body of a refusal: finding its end, and reading it within a limit (RFC 9112 §6, §7.1).
//!
//! The body is meant for a person, and the connection is closed after it. So malformed or excessive data ends the
//! body early instead of discarding what was already read, and nothing after that point is interpreted.

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, response};

/// The framing of a response's body, which determines where it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyFraming {
    /// There is no body.
    Empty,
    /// The body has this many bytes.
    Length(u64),
    /// The body is sent in chunks.
    Chunked,
    /// The body ends with the connection.
    UntilClose,
}

impl BodyFraming {
    /// Determines the framing of a response to a GET.
    ///
    /// If the length or the transfer coding is repeated, malformed or unsupported, the body is assumed to end with
    /// the connection. `Transfer-Encoding` overrides `Content-Length`.
    pub(crate) fn of(head: &response::Parts) -> Self {
        let status = head.status;
        if status.is_informational() || [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED].contains(&status) {
            return Self::Empty;
        }
        if head.headers.contains_key(TRANSFER_ENCODING) {
            let only_chunked = only_value(&head.headers, &TRANSFER_ENCODING)
                .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"chunked"));
            return if only_chunked { Self::Chunked } else { Self::UntilClose };
        }
        match only_value(&head.headers, &CONTENT_LENGTH) {
            Some(value) if value.as_bytes().iter().all(u8::is_ascii_digit) => {
                let len = value.to_str().ok().and_then(|digits| digits.parse().ok());
                len.map_or(Self::UntilClose, Self::Length)
            }
            _ => Self::UntilClose,
        }
    }
}

/// Returns the value of a field that occurs once.
fn only_value<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

/// Collects a body up to a limit.
#[derive(Debug)]
pub(crate) struct BodyReader {
    state: State,
    body: Vec<u8>,
    limit: usize,
    /// Bytes of chunk extensions, line ends and trailers, which are not part of the body.
    overhead: usize,
    truncated: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// This many more bytes of the body follow.
    Length(u64),
    UntilClose,
    /// In the size of a chunk, after `digits` digits.
    ChunkSize {
        size: u64,
        digits: u32,
    },
    /// After the size of a chunk.
    ChunkExtension {
        size: u64,
    },
    ChunkData {
        left: u64,
    },
    /// In the line end after a chunk's data.
    ChunkEnd,
    /// After the last chunk; `empty` while the current line contains nothing but CR.
    Trailer {
        empty: bool,
    },
    Done,
}

impl BodyReader {
    /// Creates a reader that keeps at most `limit` bytes.
    pub(crate) fn new(framing: BodyFraming, limit: usize) -> Self {
        let state = match framing {
            BodyFraming::Empty | BodyFraming::Length(0) => State::Done,
            BodyFraming::Length(len) => State::Length(len),
            BodyFraming::Chunked => State::ChunkSize { size: 0, digits: 0 },
            BodyFraming::UntilClose => State::UntilClose,
        };
        Self { state, body: Vec::new(), limit, overhead: 0, truncated: false }
    }

    /// Takes the next bytes of the connection, beginning with those read ahead with the head.
    pub(crate) fn handle_bytes(&mut self, mut bytes: &[u8]) {
        while let (false, Some(&byte)) = (self.is_complete(), bytes.first()) {
            let taken = match self.state {
                State::Length(left) => {
                    let taken = self.take(bytes, left);
                    self.advance(State::Length(left - taken as u64), left == taken as u64, State::Done);
                    taken
                }
                State::ChunkData { left } => {
                    let taken = self.take(bytes, left);
                    let next = State::ChunkData { left: left - taken as u64 };
                    self.advance(next, left == taken as u64, State::ChunkEnd);
                    taken
                }
                State::UntilClose => self.take(bytes, u64::MAX),
                _ => {
                    self.step_chunk_line(byte);
                    1
                }
            };
            bytes = &bytes[taken..];
        }
    }

    /// Handles the end of the connection.
    pub(crate) fn handle_eof(&mut self) {
        if !matches!(self.state, State::UntilClose | State::Done) {
            self.truncated = true;
        }
        self.state = State::Done;
    }

    /// Returns whether no more bytes are needed.
    pub(crate) fn is_complete(&self) -> bool {
        self.state == State::Done
    }

    /// Returns whether the body exceeded the limit, was malformed, or was cut off.
    pub(crate) fn is_truncated(&self) -> bool {
        self.truncated
    }

    /// Returns the bytes collected.
    pub(crate) fn into_body(self) -> Bytes {
        self.body.into()
    }

    /// Keeps the start of `bytes`, at most `left` of them, and ends the body if it exceeds the limit.
    fn take(&mut self, bytes: &[u8], left: u64) -> usize {
        let len = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        let room = self.limit - self.body.len();
        self.body.extend_from_slice(&bytes[..len.min(room)]);
        if len > room {
            self.cut();
        }
        len
    }

    fn advance(&mut self, next: State, finished: bool, then: State) {
        if self.state != State::Done {
            self.state = if finished { then } else { next };
        }
    }

    fn cut(&mut self) {
        self.truncated = true;
        self.state = State::Done;
    }

    fn step_chunk_line(&mut self, byte: u8) {
        self.state = match (self.state, byte) {
            (State::ChunkSize { size, digits }, _)
                if byte.is_ascii_hexdigit() && digits < MAX_SIZE_DIGITS =>
            {
                let digit = char::from(byte).to_digit(16).unwrap_or_default();
                State::ChunkSize { size: size << 4 | u64::from(digit), digits: digits + 1 }
            }
            (State::ChunkSize { size, digits: 1.. } | State::ChunkExtension { size }, b'\n') => match size {
                0 => State::Trailer { empty: true },
                left => State::ChunkData { left },
            },
            (State::ChunkSize { size, digits: 1.. }, b'\r' | b';' | b' ' | b'\t') => {
                State::ChunkExtension { size }
            }
            (State::ChunkExtension { size }, _) if self.spend() => State::ChunkExtension { size },
            (State::ChunkEnd, b'\r') if self.spend() => State::ChunkEnd,
            (State::ChunkEnd, b'\n') => State::ChunkSize { size: 0, digits: 0 },
            (State::Trailer { empty: true }, b'\n') => State::Done,
            (State::Trailer { .. }, b'\n') if self.spend() => State::Trailer { empty: true },
            (State::Trailer { empty }, _) if self.spend() => State::Trailer { empty: empty && byte == b'\r' },
            _ => return self.cut(),
        };
    }

    /// Counts a byte that is not part of the body. Returns `false` once there are too many.
    fn spend(&mut self) -> bool {
        self.overhead += 1;
        self.overhead <= MAX_OVERHEAD
    }
}

/// Enough for any `u64`.
const MAX_SIZE_DIGITS: u32 = 16;
/// Enough for a trailer as large as a head. Line ends after chunks count too, so this also limits the number of
/// tiny chunks.
const MAX_OVERHEAD: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use http::Response;
    use proptest::prelude::*;

    use super::*;

    fn read(framing: BodyFraming, limit: usize, wire: &[u8]) -> (Vec<u8>, bool, bool) {
        let whole = read_split(framing, limit, wire, wire.len().max(1));
        assert_eq!(read_split(framing, limit, wire, 1), whole, "byte by byte");
        whole
    }

    fn read_split(framing: BodyFraming, limit: usize, wire: &[u8], step: usize) -> (Vec<u8>, bool, bool) {
        let mut reader = BodyReader::new(framing, limit);
        for piece in wire.chunks(step) {
            reader.handle_bytes(piece);
        }
        let complete = reader.is_complete();
        reader.handle_eof();
        let truncated = reader.is_truncated();
        (reader.into_body().to_vec(), complete, truncated)
    }

    #[test]
    #[allow(clippy::too_many_lines, reason = "one table")]
    fn reads_each_framing_to_its_end() {
        use BodyFraming::{Chunked, Empty, Length, UntilClose};
        for (case, framing, wire, body, complete, truncated) in [
            ("none", Empty, &b"next"[..], &b""[..], true, false),
            ("length 0", Length(0), b"next", b"", true, false),
            ("length", Length(4), b"bodynext", b"body", true, false),
            ("length, cut off", Length(9), b"body", b"body", false, true),
            ("at the bound", Length(10), b"0123456789", b"0123456789", true, false),
            ("over the bound", Length(11), b"0123456789a", b"0123456789", true, true),
            ("length of 2^64-1", Length(u64::MAX), b"body", b"body", false, true),
            ("until close", UntilClose, b"body", b"body", false, false),
            ("until close, at the bound", UntilClose, b"0123456789", b"0123456789", false, false),
            ("until close, over the bound", UntilClose, b"0123456789a", b"0123456789", true, true),
            ("chunks", Chunked, b"2\r\nbo\r\n2;a=b\r\ndy\r\n0\r\n\r\nnext", b"body", true, false),
            ("chunk size in capitals", Chunked, b"A\r\n0123456789\r\n0\r\n\r\n", b"0123456789", true, false),
            ("chunks with trailer", Chunked, b"4\r\nbody\r\n0\r\nA: b\r\n\r\nnext", b"body", true, false),
            ("chunks, cut off", Chunked, b"4\r\nbo", b"bo", false, true),
            ("chunks, over the bound", Chunked, b"b\r\n0123456789a\r\n0\r\n\r\n", b"0123456789", true, true),
            ("chunk without size", Chunked, b"\r\nbody", b"", true, true),
            ("chunk with bad size", Chunked, b"4\r\nbody\r\nxyz\r\n", b"body", true, true),
            ("chunk with too long a size", Chunked, b"00000000000000004\r\nbody", b"", true, true),
            ("chunk longer than it says", Chunked, b"2\r\nbody\r\n0\r\n\r\n", b"bo", true, true),
        ] {
            let expected = (body.to_vec(), complete, truncated);
            assert_eq!(read(framing, 10, wire), expected, "{case}");
        }
    }

    #[test]
    fn bounds_what_carries_nothing() {
        let endless_extension = [b"1;".to_vec(), vec![b'a'; MAX_OVERHEAD + 1]].concat();
        let endless_trailer = [b"0\r\n".to_vec(), b"a\r\n".repeat(MAX_OVERHEAD)].concat();
        for wire in [endless_extension, endless_trailer] {
            assert_eq!(read_split(BodyFraming::Chunked, 10, &wire, 4096), (vec![], true, true));
        }
    }

    #[test]
    fn tells_the_framing_from_the_head() {
        use BodyFraming::{Chunked, Empty, Length, UntilClose};
        for (case, status, fields, framing) in [
            ("no field", 400, &[][..], UntilClose),
            ("length", 400, &[("content-length", "7")], Length(7)),
            ("length on 204", 204, &[("content-length", "7")], Empty),
            ("length on 304", 304, &[("content-length", "7")], Empty),
            ("two lengths", 400, &[("content-length", "7"), ("content-length", "7")], UntilClose),
            ("signed length", 400, &[("content-length", "+7")], UntilClose),
            ("empty length", 400, &[("content-length", "")], UntilClose),
            ("length of 2^64", 400, &[("content-length", "18446744073709551616")], UntilClose),
            ("chunked", 400, &[("transfer-encoding", "Chunked")], Chunked),
            ("gzip, chunked", 400, &[("transfer-encoding", "gzip, chunked")], UntilClose),
            (
                "chunked and length",
                400,
                &[("transfer-encoding", "chunked"), ("content-length", "7")],
                Chunked,
            ),
        ] {
            let mut response = Response::builder().status(status);
            for (name, value) in fields {
                response = response.header(*name, *value);
            }
            let (head, ()) = response.body(()).unwrap().into_parts();
            assert_eq!(BodyFraming::of(&head), framing, "{case}");
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic_or_exceed_its_limit(wire in prop::collection::vec(any::<u8>(), 0..400)) {
            use BodyFraming::{Chunked, Empty, Length, UntilClose};
            for framing in [Empty, Length(100), Chunked, UntilClose] {
                let mut reader = BodyReader::new(framing, 50);
                reader.handle_bytes(&wire);
                reader.handle_eof();
                prop_assert!(reader.into_body().len() <= 50);
            }
        }
    }
}
