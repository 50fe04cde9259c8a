//! Finds the head of an HTTP/1.1 message in a stream of bytes, within limits (RFC 9112 §2).
//!
//! Owns where a head ends, which bytes it may contain and how large it may be. Each byte is examined once when it
//! arrives, however the stream is split into reads, and the whole head once more when it is complete: `httparse`
//! then parses its grammar. The meaning of the fields belongs to [`server`](crate::server) and
//! [`client`](crate::client).
//!
//! The rules are stricter than HTTP requires, because two parties can disagree on every leniency here: lines end
//! only with CR LF, no field is folded over several lines, and no control byte occurs.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

/// The size limits for the head of a request or response.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct HeadLimits {
    /// Bytes of the whole head with its line ends, 16 KiB by default. A client counts interim responses too.
    pub max_bytes: usize,
    /// Number of header fields, 100 by default.
    pub max_headers: usize,
    /// Bytes of one header field or status line, 8 KiB by default.
    pub max_line: usize,
    /// Bytes of the request target, 8 KiB by default.
    pub max_target: usize,
}

impl Default for HeadLimits {
    fn default() -> Self {
        Self { max_bytes: 16 * 1024, max_headers: 100, max_line: 8 * 1024, max_target: 8 * 1024 }
    }
}

impl HeadLimits {
    /// Sets [`max_bytes`](Self::max_bytes).
    #[must_use]
    pub fn with_max_bytes(mut self, max_bytes: usize) -> Self {
        self.max_bytes = max_bytes;
        self
    }

    /// Sets [`max_headers`](Self::max_headers).
    #[must_use]
    pub fn with_max_headers(mut self, max_headers: usize) -> Self {
        self.max_headers = max_headers;
        self
    }

    /// Sets [`max_line`](Self::max_line).
    #[must_use]
    pub fn with_max_line(mut self, max_line: usize) -> Self {
        self.max_line = max_line;
        self
    }

    /// Sets [`max_target`](Self::max_target).
    #[must_use]
    pub fn with_max_target(mut self, max_target: usize) -> Self {
        self.max_target = max_target;
        self
    }
}

/// A head that is not HTTP/1.1 or exceeds a limit.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeadError {
    /// A byte that is not allowed in a head: a control byte (including NUL) or DEL.
    #[error("control byte {byte:#04x} in the head")]
    ControlByte {
        /// The byte.
        byte: u8,
    },
    /// A carriage return without a line feed (RFC 9112 §2.2).
    #[error("carriage return without line feed in the head")]
    BareCarriageReturn,
    /// A line feed without a carriage return. HTTP allows a recipient to accept it as a line end; this crate does
    /// not.
    #[error("line feed without carriage return in the head")]
    BareLineFeed,
    /// A line that starts with a space or tab, which once continued the previous field (RFC 9112 §5.2).
    #[error("header field is folded over several lines")]
    Folded,
    /// The first line is not a request line or status line of HTTP/1 (RFC 9112 §3, §4).
    #[error("malformed start line")]
    StartLine,
    /// The protocol's version is not HTTP/1.0 or HTTP/1.1.
    #[error("protocol version is not HTTP/1.1")]
    Version,
    /// The request target is neither a path nor an absolute `http` or `ws` URI (RFC 9112 §3.2).
    #[error("malformed request target")]
    Target,
    /// A line is not a header field, such as one with a space before its colon (RFC 9112 §5.1).
    #[error("malformed header field")]
    Field,
    /// `Content-Length` is repeated, not a number, or combined with `Transfer-Encoding` (RFC 9112 §6.1, §6.3).
    #[error("conflicting or malformed length of the body")]
    BodyLength,
    /// The head is longer than [`HeadLimits::max_bytes`].
    #[error("head is longer than {limit} bytes")]
    TooLong {
        /// The limit.
        limit: usize,
    },
    /// A line is longer than [`HeadLimits::max_line`].
    #[error("line of the head is longer than {limit} bytes")]
    LineTooLong {
        /// The limit.
        limit: usize,
    },
    /// The head has more fields than [`HeadLimits::max_headers`].
    #[error("head has more than {limit} header fields")]
    TooManyHeaders {
        /// The limit.
        limit: usize,
    },
    /// The request target is longer than [`HeadLimits::max_target`].
    #[error("request target is longer than {limit} bytes")]
    TargetTooLong {
        /// The limit.
        limit: usize,
    },
    /// A server sent more interim responses (1xx) than a client accepts.
    #[error("more than {limit} interim responses")]
    TooManyInterim {
        /// The limit.
        limit: usize,
    },
}

longwire_frame::debug_with_causes!(HeadError);

impl HeadError {
    /// Returns the status of a server's response: 414, 431 or 400.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::TargetTooLong { .. } => StatusCode::URI_TOO_LONG,
            Self::TooLong { .. } | Self::LineTooLong { .. } | Self::TooManyHeaders { .. } => {
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
            }
            _ => StatusCode::BAD_REQUEST,
        }
    }
}

/// The kind of start line in a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Request,
    Response,
}

/// Collects bytes until a head is complete.
#[derive(Debug)]
pub(crate) struct HeadReader {
    kind: Kind,
    limits: HeadLimits,
    /// The bytes of the head so far, and none after it.
    buf: BytesMut,
    /// The number of bytes that count toward `max_bytes`: more than `buf` holds after an empty line or interim
    /// response was skipped.
    counted: usize,
    /// The number of complete lines, including the start line.
    lines: usize,
    /// The number of bytes in the incomplete line.
    line_len: usize,
    /// The number of spaces in the start line so far: 0 in the method, 1 in the target, 2 in the version.
    spaces: usize,
    /// The number of bytes of the request target so far.
    target_len: usize,
    after_cr: bool,
    skipped_empty_line: bool,
    failed: Option<HeadError>,
}

/// A complete head.
#[derive(Debug)]
pub(crate) struct CompleteHead {
    pub(crate) bytes: Bytes,
    /// The number of bytes of the last input that belong to the head.
    pub(crate) taken: usize,
    /// The number of lines between the first and the empty one.
    fields: usize,
}

impl CompleteHead {
    /// Returns space for the fields that `httparse` finds.
    pub(crate) fn slots(&self) -> Vec<httparse::Header<'_>> {
        vec![httparse::EMPTY_HEADER; self.fields]
    }

    /// Converts `httparse`'s fields into a map whose values share the memory of the head.
    pub(crate) fn header_map(&self, fields: &[httparse::Header<'_>]) -> Result<HeaderMap, HeadError> {
        // `with_capacity` panics at more.
        let mut headers = HeaderMap::with_capacity(fields.len().min(MAX_NAMES));
        for field in fields {
            let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| HeadError::Field)?;
            let value = HeaderValue::from_maybe_shared(self.bytes.slice_ref(field.value))
                .map_err(|_| HeadError::Field)?;
            let limit = headers.len();
            headers.try_append(name, value).map_err(|_| HeadError::TooManyHeaders { limit })?;
        }
        Ok(headers)
    }
}

/// The effect of one byte on the head.
enum Step {
    Continue,
    SkippedEmptyLine,
    Complete,
}

impl HeadReader {
    pub(crate) fn new(kind: Kind, limits: HeadLimits) -> Self {
        Self {
            kind,
            limits,
            buf: BytesMut::new(),
            counted: 0,
            lines: 0,
            line_len: 0,
            spaces: 0,
            target_len: 0,
            after_cr: false,
            skipped_empty_line: false,
            failed: None,
        }
    }

    /// Takes the next bytes of the stream. Returns a head once it is complete.
    ///
    /// After an error no further byte is interpreted, and the same error is returned again.
    pub(crate) fn handle_bytes(&mut self, bytes: &[u8]) -> Result<Option<CompleteHead>, HeadError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        // The start of the bytes that are not in `buf` yet.
        let mut start = 0;
        for (index, &byte) in bytes.iter().enumerate() {
            match self.step(byte) {
                Ok(Step::Continue) => {}
                Ok(Step::SkippedEmptyLine) => {
                    self.buf.clear();
                    start = index + 1;
                }
                Ok(Step::Complete) => {
                    self.buf.extend_from_slice(&bytes[start..=index]);
                    // The copy has the exact size, because a handler may keep the request for as long as the
                    // connection lives.
                    let head = Bytes::copy_from_slice(&self.buf);
                    let fields = self.lines - 1;
                    self.restart();
                    return Ok(Some(CompleteHead { bytes: head, taken: index + 1, fields }));
                }
                Err(error) => return Err(self.fail(error)),
            }
        }
        self.buf.extend_from_slice(&bytes[start..]);
        Ok(None)
    }

    /// Stops reading with `error`.
    pub(crate) fn fail(&mut self, error: HeadError) -> HeadError {
        self.buf = BytesMut::new();
        *self.failed.insert(error)
    }

    /// Resets the count, so that the next head may have as many bytes as the first.
    pub(crate) fn forget_counted(&mut self) {
        self.counted = 0;
    }

    /// Returns whether part of an incomplete head has arrived.
    pub(crate) fn is_partial(&self) -> bool {
        !self.buf.is_empty()
    }

    /// Returns the number of bytes examined since the count was last reset.
    #[cfg(test)]
    pub(crate) fn counted(&self) -> usize {
        self.counted
    }

    /// Prepares for another head on the same stream.
    fn restart(&mut self) {
        self.buf = BytesMut::new();
        self.lines = 0;
        self.spaces = 0;
        self.target_len = 0;
        self.skipped_empty_line = false;
    }

    fn step(&mut self, byte: u8) -> Result<Step, HeadError> {
        self.counted += 1;
        if self.counted > self.limits.max_bytes {
            return Err(HeadError::TooLong { limit: self.limits.max_bytes });
        }
        match (self.after_cr, byte) {
            (true, b'\n') => {
                self.after_cr = false;
                self.end_line()
            }
            (true, _) => Err(HeadError::BareCarriageReturn),
            (false, b'\r') => {
                self.after_cr = true;
                Ok(Step::Continue)
            }
            (false, b'\n') => Err(HeadError::BareLineFeed),
            (false, 0x00..=0x08 | 0x0b..=0x1f | 0x7f) => Err(HeadError::ControlByte { byte }),
            (false, _) if self.lines == 0 => self.step_start_line(byte),
            (false, b' ' | b'\t') if self.line_len == 0 => Err(HeadError::Folded),
            (false, _) => {
                if self.line_len == 0 && self.lines > self.limits.max_headers {
                    return Err(HeadError::TooManyHeaders { limit: self.limits.max_headers });
                }
                self.lengthen_line()
            }
        }
    }

    fn step_start_line(&mut self, byte: u8) -> Result<Step, HeadError> {
        if self.kind == Kind::Response {
            return self.lengthen_line();
        }
        // The three parts have separate limits, so that a long target is distinguished from a malformed line.
        self.line_len += 1;
        match (self.spaces, byte) {
            (_, b' ') => {
                self.spaces += 1;
                if self.line_len == 1 || self.spaces > 2 {
                    return Err(HeadError::StartLine);
                }
            }
            (0, _) if self.line_len > MAX_METHOD => return Err(HeadError::StartLine),
            // A target is ASCII, no tab ends it (RFC 9112 §3), and it has no fragment (RFC 6455 §3).
            (1, b'#' | 0x00..=0x20 | 0x7f..) => return Err(HeadError::Target),
            (1, _) => {
                self.target_len += 1;
                if self.target_len > self.limits.max_target {
                    return Err(HeadError::TargetTooLong { limit: self.limits.max_target });
                }
            }
            (2, _) if self.line_len > MAX_METHOD + self.limits.max_target + MAX_VERSION => {
                return Err(HeadError::StartLine);
            }
            _ => {}
        }
        Ok(Step::Continue)
    }

    fn lengthen_line(&mut self) -> Result<Step, HeadError> {
        self.line_len += 1;
        if self.line_len > self.limits.max_line {
            return Err(HeadError::LineTooLong { limit: self.limits.max_line });
        }
        Ok(Step::Continue)
    }

    fn end_line(&mut self) -> Result<Step, HeadError> {
        if self.line_len > 0 {
            self.lines += 1;
            self.line_len = 0;
            return Ok(Step::Continue);
        }
        if self.lines > 0 {
            return Ok(Step::Complete);
        }
        // "a server that is expecting to receive and parse a request-line SHOULD ignore at least one empty line
        // (CRLF) received prior to the request-line" (RFC 9112 §2.2). Exactly one is ignored, and none before a
        // response.
        if self.kind == Kind::Request && !self.skipped_empty_line {
            self.skipped_empty_line = true;
            return Ok(Step::SkippedEmptyLine);
        }
        Err(HeadError::StartLine)
    }
}

/// Returns the error for a fault found by `httparse`.
pub(crate) fn parse_fault(error: httparse::Error) -> HeadError {
    match error {
        httparse::Error::Version => HeadError::Version,
        httparse::Error::HeaderName | httparse::Error::HeaderValue | httparse::Error::TooManyHeaders => {
            HeadError::Field
        }
        httparse::Error::NewLine | httparse::Error::Status | httparse::Error::Token => HeadError::StartLine,
    }
}

/// The number of names that a map of headers holds.
const MAX_NAMES: usize = 24_576;
/// The longest registered method has 17 letters.
const MAX_METHOD: usize = 32;
/// `HTTP/1.1` and two spaces, with some space for malformed versions, so that the parser reports them.
const MAX_VERSION: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `wire` in pieces of `step` bytes until all of it is consumed or the head fails.
    fn feed(reader: &mut HeadReader, wire: &[u8], step: usize) -> Result<Option<CompleteHead>, HeadError> {
        for piece in wire.chunks(step) {
            if let Some(head) = reader.handle_bytes(piece)? {
                return Ok(Some(head));
            }
        }
        Ok(None)
    }

    #[test]
    fn looks_at_each_byte_once_however_small_the_reads() {
        let mut head = b"GET / HTTP/1.1\r\n".to_vec();
        while head.len() < 15 * 1024 {
            head.extend_from_slice(format!("X-Field: {}\r\n", "a".repeat(200)).as_bytes());
        }
        for step in [1, 2, 3, 7, 1000, head.len()] {
            let mut reader = HeadReader::new(Kind::Request, HeadLimits::default());
            assert!(feed(&mut reader, &head, step).unwrap().is_none(), "{step} bytes at a time");
            assert_eq!(reader.counted(), head.len(), "{step} bytes at a time");
            assert_eq!(reader.buf, head, "{step} bytes at a time");
        }
    }

    #[test]
    fn stops_looking_at_the_byte_that_crosses_a_limit() {
        let limits = HeadLimits::default();
        let long_field = [b"GET / HTTP/1.1\r\nA: ".to_vec(), vec![b'a'; 8 << 20]].concat();
        let many_fields = [b"GET / HTTP/1.1\r\n".to_vec(), b"A: b\r\n".repeat(20_000)].concat();
        let long_target = [b"GET /".to_vec(), vec![b'a'; 1 << 20]].concat();
        let endless =
            [b"GET / HTTP/1.1\r\n".to_vec(), format!("A: {}\r\n", "a".repeat(1000)).repeat(20).into()]
                .concat();
        for (case, wire, error, looked_at) in [
            ("8 MiB field", long_field, HeadError::LineTooLong { limit: 8192 }, 16 + 8192 + 1),
            ("20 000 fields", many_fields, HeadError::TooManyHeaders { limit: 100 }, 16 + 600 + 1),
            ("1 MiB target", long_target, HeadError::TargetTooLong { limit: 8192 }, 4 + 8192 + 1),
            ("long head", endless, HeadError::TooLong { limit: 16384 }, 16384 + 1),
        ] {
            for step in [1, 1448, wire.len()] {
                let mut reader = HeadReader::new(Kind::Request, limits.clone());
                assert_eq!(feed(&mut reader, &wire, step).unwrap_err(), error, "{case}");
                assert_eq!(reader.counted(), looked_at, "{case}");
                assert_eq!(reader.handle_bytes(b"more").unwrap_err(), error, "{case}");
                assert_eq!(reader.counted(), looked_at, "{case}: nothing is interpreted after the error");
                assert_eq!(reader.buf.capacity(), 0, "{case}: the memory is given back");
            }
        }
    }

    #[test]
    fn a_space_too_many_ends_a_request_line() {
        for before in ["", "GET / HTTP/1.1"] {
            let mut reader = HeadReader::new(Kind::Request, HeadLimits::default());
            assert!(reader.handle_bytes(before.as_bytes()).unwrap().is_none(), "{before:?}");
            assert_eq!(reader.handle_bytes(b" ").unwrap_err(), HeadError::StartLine, "{before:?}");
        }
    }

    #[test]
    fn a_version_that_does_not_end_is_cut_off() {
        let limits = HeadLimits::default().with_max_target(100);
        let wire = [b"GET / HTTP/1.".to_vec(), vec![b'1'; 1000]].concat();
        for step in [1, 7, wire.len()] {
            let mut reader = HeadReader::new(Kind::Request, limits.clone());
            assert_eq!(feed(&mut reader, &wire, step).unwrap_err(), HeadError::StartLine);
            // As long as a line with the longest method, target and version, and one byte.
            assert_eq!(reader.counted(), MAX_METHOD + 100 + MAX_VERSION + 1, "{step} bytes at a time");
        }
    }

    #[test]
    fn holds_no_memory_between_heads() {
        let mut reader = HeadReader::new(Kind::Request, HeadLimits::default());
        assert!(reader.handle_bytes(b"GET / HTTP/1.1\r\nA: b\r\n\r\n").unwrap().is_some());
        assert_eq!(reader.buf.capacity(), 0);
    }
}
