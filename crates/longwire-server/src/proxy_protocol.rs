//! The PROXY protocol, versions 1 and 2: a header in which a proxy names the client it connects for.
//!
//! Owns the header's grammar and its limits (`proxy-protocol.txt` of `HAProxy`, 2020). The header precedes
//! everything else, including TLS, so the parser states how many bytes it wants and never needs one from after the
//! header. [`TrustedProxies`](crate::TrustedProxies) decides which peers to trust.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The source and destination of a connection, as reported by a proxy.
///
/// Without addresses, the proxy connects for itself, such as for a health check, or does not name the client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ProxyHeader {
    /// The address of the client.
    pub(crate) source: Option<SocketAddr>,
    /// The address that the client connected to.
    pub(crate) destination: Option<SocketAddr>,
}

/// Reads a [`ProxyHeader`] from bytes as they arrive.
#[derive(Debug, Default)]
pub(crate) struct ProxyHeaderParser {
    bytes: Vec<u8>,
    is_over: bool,
}

impl ProxyHeaderParser {
    /// The length of the longest header that is accepted, in bytes. A header of version 1 has at most 107. One of
    /// version 2 could have 65 551, of which the fixed part and the addresses take at most 52; the rest is ignored
    /// here.
    pub(crate) const MAX_LEN: usize = 4096;

    /// Returns the minimum number of bytes that are still missing. The caller may read at most this many. 0 after
    /// the header.
    pub(crate) fn wanted(&self) -> usize {
        let len = self.bytes.len();
        if self.is_over {
            return 0;
        }
        if self.bytes.starts_with(SIGNATURE) {
            let whole = declared(&self.bytes).map_or(FIXED, |declared| FIXED + declared);
            return whole.saturating_sub(len);
        }
        if len < SHORTEST {
            return SHORTEST - len;
        }
        if self.bytes.ends_with(b"\r") { 1 } else { 2 }
    }

    /// Takes the next bytes, at most as many as [`wanted`](Self::wanted). Returns the header once it is complete.
    ///
    /// # Errors
    ///
    /// [`ProxyHeaderError`] as soon as the bytes cannot become a header. All further bytes are refused as well.
    pub(crate) fn handle_bytes(&mut self, bytes: &[u8]) -> Result<Option<ProxyHeader>, ProxyHeaderError> {
        if bytes.len() > self.wanted() {
            self.is_over = true;
            return Err(ProxyHeaderError::Malformed { part: "end" });
        }
        self.bytes.extend_from_slice(bytes);
        let parsed = self.parse();
        self.is_over |= !matches!(parsed, Ok(None));
        parsed
    }

    fn parse(&self) -> Result<Option<ProxyHeader>, ProxyHeaderError> {
        let bytes = &self.bytes[..];
        let begins = |with: &[u8]| bytes.iter().zip(with).all(|(byte, expected)| byte == expected);
        if begins(SIGNATURE) {
            let Some(declared) = declared(bytes) else { return Ok(None) };
            if FIXED + declared > Self::MAX_LEN {
                return Err(ProxyHeaderError::TooLong { len: FIXED + declared });
            }
            // Checked as soon as the fixed part is complete, so an invalid header is refused without waiting for
            // the rest.
            let kind = Kind::parse(bytes[12], bytes[13])?;
            return if self.wanted() == 0 { kind.addresses(&bytes[FIXED..]).map(Some) } else { Ok(None) };
        }
        if !begins(b"PROXY ") {
            return Err(ProxyHeaderError::Missing);
        }
        match bytes.strip_suffix(b"\r\n") {
            Some(line) => parse_line(line).map(Some),
            // "a maximum of 107 chars including the CRLF" (§2.1)
            None if bytes.len() >= LONGEST_LINE => Err(ProxyHeaderError::TooLong { len: bytes.len() }),
            None if bytes.contains(&b'\n') => Err(ProxyHeaderError::Malformed { part: "line" }),
            None => Ok(None),
        }
    }
}

/// Parses a line of version 1 without its line end.
fn parse_line(line: &[u8]) -> Result<ProxyHeader, ProxyHeaderError> {
    let malformed = |part| ProxyHeaderError::Malformed { part };
    let line = std::str::from_utf8(line).ok().filter(|line| !line.contains(['\r', '\n']));
    let line = line.ok_or(malformed("line"))?;
    let mut words = line.split(' ').skip(1);
    let family = words.next().unwrap_or_default();
    if family == "UNKNOWN" {
        // "the receiver must ignore anything presented before the CRLF is found" (§2.1)
        return Ok(ProxyHeader::default());
    }
    let mut ip = |part| {
        let word = words.next().ok_or(malformed(part))?;
        let ip: Option<IpAddr> = match family {
            "TCP4" => word.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
            "TCP6" => word.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
            _ => return Err(malformed("family")),
        };
        ip.ok_or(malformed(part))
    };
    let (source, destination) = (ip("source")?, ip("destination")?);
    let mut port = |part| words.next().and_then(parse_port).ok_or(malformed(part));
    let (source_port, destination_port) = (port("source port")?, port("destination port")?);
    if words.next().is_some() {
        return Err(malformed("end"));
    }
    Ok(ProxyHeader {
        source: Some(SocketAddr::new(source, source_port)),
        destination: Some(SocketAddr::new(destination, destination_port)),
    })
}

/// "in the range [0..65535] included. Heading zeroes are not permitted" (§2.1)
fn parse_port(word: &str) -> Option<u16> {
    let is_canonical = word == "0" || !word.starts_with(['0', '+']);
    word.parse().ok().filter(|_| is_canonical)
}

/// The content of a header of version 2 after its fixed part.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// Content that is ignored.
    Unaddressed,
    Ipv4,
    Ipv6,
}

impl Kind {
    fn parse(command: u8, family: u8) -> Result<Self, ProxyHeaderError> {
        match (command, family) {
            (0x21, 0x11) => Ok(Self::Ipv4),
            (0x21, 0x21) => Ok(Self::Ipv6),
            // If the proxy connects for itself, "the receiver must accept this connection as valid and must use the
            // real connection endpoints" (§2.2). The others are unspecified addresses and Unix sockets.
            (0x20, _) | (0x21, 0x00 | 0x31) => Ok(Self::Unaddressed),
            (0x20..=0x2f, _) => Err(ProxyHeaderError::Malformed { part: "command or family" }),
            _ => Err(ProxyHeaderError::Malformed { part: "version" }),
        }
    }

    /// Parses the addresses, which come first. Extensions (TLV) after them are skipped.
    fn addresses(self, bytes: &[u8]) -> Result<ProxyHeader, ProxyHeaderError> {
        let both = match self {
            Self::Unaddressed => return Ok(ProxyHeader::default()),
            Self::Ipv4 => take::<4>(bytes).and_then(|(source, rest)| {
                let (destination, rest) = take::<4>(rest)?;
                Some((IpAddr::from(source), IpAddr::from(destination), rest))
            }),
            Self::Ipv6 => take::<16>(bytes).and_then(|(source, rest)| {
                let (destination, rest) = take::<16>(rest)?;
                Some((IpAddr::from(source), IpAddr::from(destination), rest))
            }),
        };
        let addressed = both.and_then(|(source, destination, rest)| {
            let (source_port, rest) = take::<2>(rest)?;
            let (destination_port, _) = take::<2>(rest)?;
            Some(ProxyHeader {
                source: Some(SocketAddr::new(source, u16::from_be_bytes(source_port))),
                destination: Some(SocketAddr::new(destination, u16::from_be_bytes(destination_port))),
            })
        });
        addressed.ok_or(ProxyHeaderError::Malformed { part: "length" })
    }
}

fn take<const N: usize>(bytes: &[u8]) -> Option<([u8; N], &[u8])> {
    bytes.split_first_chunk().map(|(first, rest)| (*first, rest))
}

/// Returns the number of bytes after the fixed part of version 2, once that part is complete.
fn declared(bytes: &[u8]) -> Option<usize> {
    let fixed: &[u8; FIXED] = bytes.first_chunk()?;
    Some(usize::from(u16::from_be_bytes([fixed[14], fixed[15]])))
}

/// An error in a header of the PROXY protocol. The connection should be closed without a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ProxyHeaderError {
    /// The bytes do not begin like a header.
    #[error("missing PROXY protocol header")]
    Missing,
    /// A part of the header is malformed.
    #[error("malformed {part} in the PROXY protocol header")]
    Malformed {
        /// The name of the part.
        part: &'static str,
    },
    /// The header is longer than [`ProxyHeaderParser::MAX_LEN`], or than a line may be.
    #[error("PROXY protocol header is too long: {len} bytes or more")]
    TooLong {
        /// The minimum length of the header.
        len: usize,
    },
}

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// The length of version 2's fixed part.
const FIXED: usize = 16;

/// The length of the shortest header: `PROXY UNKNOWN` and a line end.
const SHORTEST: usize = 15;

const LONGEST_LINE: usize = 107;

#[cfg(test)]
mod tests;
