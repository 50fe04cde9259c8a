//! One hostile connection: a raw socket, and how it ended.
//!
//! Owns connecting, sending and reading under a total deadline, and distinguishing ends. The bytes to send are made
//! in `wire`.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use socket2::{Domain, SockRef, Socket, Type};

use super::{verdict::End, wire};

/// A connection, and the bytes that were read but not yet examined.
pub(super) struct Peer {
    stream: TcpStream,
    buf: Vec<u8>,
    /// The deadline for everything that this connection does.
    deadline: Instant,
}

/// A frame from the server.
pub(super) struct Frame {
    pub(super) opcode: u8,
    pub(super) payload: Vec<u8>,
}

impl Peer {
    /// Connects and sends nothing.
    pub(super) fn connect(addr: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&addr, LIMIT).context("an attacker cannot connect")?;
        Self::new(stream)
    }

    /// Connects with the smallest possible receive buffer, so that a peer that does not read is noticed early.
    pub(super) fn connect_narrow(addr: SocketAddr) -> Result<Self> {
        let socket =
            Socket::new(Domain::for_address(addr), Type::STREAM, None).context("an attacker cannot open")?;
        socket.set_recv_buffer_size(4096).context("an attacker cannot set up")?;
        socket.connect_timeout(&addr.into(), LIMIT).context("an attacker cannot connect")?;
        Self::new(socket.into())
    }

    fn new(stream: TcpStream) -> Result<Self> {
        stream.set_nodelay(true).context("an attacker cannot set up")?;
        Ok(Self { stream, buf: Vec::new(), deadline: Instant::now() + LIMIT })
    }

    /// Connects and performs the handshake.
    pub(super) fn open(addr: SocketAddr) -> Result<Self> {
        Self::connect(addr)?.shake_hands("")
    }

    /// Connects and performs the handshake with compression, which the server must agree to.
    pub(super) fn open_deflate(addr: SocketAddr) -> Result<Self> {
        Self::connect(addr)?.shake_hands(wire::DEFLATE)
    }

    /// Performs the handshake; `more` is further fields of the request.
    pub(super) fn shake_hands(mut self, more: &str) -> Result<Self> {
        self.send(wire::request(more).as_bytes()).context("an attacker cannot shake hands")?;
        let head = self.response_head()?;
        ensure!(
            status(&head) == Some(101),
            "a handshake was answered {:?}",
            head.lines().next().unwrap_or_default()
        );
        if !more.is_empty() && !head.contains("permessage-deflate") {
            bail!("the server did not agree to compression");
        }
        Ok(self)
    }

    fn response_head(&mut self) -> Result<String> {
        loop {
            if let Some(len) = head_len(&self.buf) {
                let head = self.buf.drain(..len).collect();
                return String::from_utf8(head).map_err(|_| anyhow!("a response is not text"));
            }
            if self.fill().context("an attacker cannot read a response")? == 0 {
                bail!("the server ended the connection in the handshake");
            }
        }
    }

    /// Writes all bytes.
    pub(super) fn send(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            self.stream.set_write_timeout(Some(self.left()?))?;
            match self.stream.write(bytes) {
                Ok(len) => bytes = &bytes[len..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Writes all bytes unless the connection takes nothing for `patience`, and returns whether it did.
    pub(super) fn send_patiently(&mut self, mut bytes: &[u8], patience: Duration) -> io::Result<bool> {
        self.stream.set_write_timeout(Some(patience.min(self.left()?)))?;
        while !bytes.is_empty() {
            match self.stream.write(bytes) {
                Ok(len) => bytes = &bytes[len..],
                Err(error) if is_timeout(&error) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Writes as much as the connection takes without waiting, and returns the number of bytes.
    pub(super) fn offer(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_nonblocking(true)?;
        let taken = self.stream.write(bytes);
        self.stream.set_nonblocking(false)?;
        match taken {
            Err(error) if is_timeout(&error) => Ok(0),
            taken => taken,
        }
    }

    /// Reads the available bytes, waiting for the first, and returns their number; 0 is the end.
    fn fill(&mut self) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(self.left()?))?;
        let mut block = [0; 16 * 1024];
        let len = self.stream.read(&mut block)?;
        self.buf.extend(&block[..len]);
        Ok(len)
    }

    fn left(&self) -> io::Result<Duration> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
    }

    /// Returns the next frame, or `None` at the end of the stream.
    pub(super) fn next_frame(&mut self) -> io::Result<Option<Frame>> {
        loop {
            if let Some((frame, len)) = parse(&self.buf) {
                self.buf.drain(..len);
                return Ok(Some(frame));
            }
            if self.fill()? == 0 {
                return Ok(None);
            }
        }
    }

    /// Reads messages, counted in `echoes`, and pongs up to the end, and returns how it ended.
    ///
    /// # Errors
    ///
    /// Frames after a close frame, and no end before the deadline.
    pub(super) fn end(&mut self, echoes: &mut usize) -> Result<End> {
        let mut closed = None;
        loop {
            match self.next_frame() {
                Ok(Some(frame)) if closed.is_some() => {
                    bail!("a frame with opcode {} came after the close frame", frame.opcode);
                }
                Ok(Some(Frame { opcode: 8, payload })) => {
                    let code = payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code));
                    closed = Some(End::Close(code));
                }
                Ok(Some(frame)) => *echoes += usize::from(frame.opcode < 8),
                Ok(None) => return Ok(closed.unwrap_or(End::Ended)),
                // The close frame arrived, which is what counts.
                Err(error) => match closed {
                    Some(end) if is_reset(&error) => return Ok(end),
                    None if is_reset(&error) => return Ok(End::Reset),
                    _ => bail!("no end came: {error}"),
                },
            }
        }
    }

    /// Reads a response and everything after it up to the end.
    ///
    /// # Errors
    ///
    /// More than one response, and no end before the deadline.
    pub(super) fn refusal(&mut self) -> Result<End> {
        let end = loop {
            match self.fill() {
                Ok(0) => break End::Ended,
                Ok(_) => {}
                Err(error) if is_reset(&error) => break End::Reset,
                Err(error) => bail!("no end came: {error}"),
            }
        };
        answer(&self.buf, end)
    }

    /// Returns whether the server still holds the connection and has sent nothing.
    pub(super) fn is_open(&self) -> Result<bool> {
        self.stream.set_nonblocking(true).context("an attacker cannot look")?;
        let seen = self.stream.peek(&mut [0]);
        self.stream.set_nonblocking(false).context("an attacker cannot look")?;
        Ok(seen.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock))
    }

    /// Sends a message as an honest client would, and expects it back.
    pub(super) fn echo(&mut self, payload: &[u8]) -> Result<()> {
        self.send(&wire::frame(wire::BINARY, payload)).context("an attacker cannot send")?;
        loop {
            match self.next_frame().context("an attacker cannot read an echo")? {
                Some(frame) if frame.opcode < 8 && frame.payload == payload => return Ok(()),
                Some(frame) if frame.opcode == 9 => {}
                Some(frame) => bail!("a frame with opcode {} came for an echo", frame.opcode),
                None => bail!("the server ended the connection"),
            }
        }
    }

    /// Ends the sending direction.
    pub(super) fn end_sending(&self) -> Result<()> {
        self.stream.shutdown(std::net::Shutdown::Write).context("an attacker cannot end sending")
    }

    /// Leaves with a reset instead of an end.
    pub(super) fn reset(self) -> Result<()> {
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).context("an attacker cannot reset")
    }

    /// Sets the time for the connection, counted from now.
    pub(super) fn set_limit(&mut self, limit: Duration) {
        self.deadline = Instant::now() + limit;
    }

    /// Returns the same connection for another thread; bytes already read stay here.
    pub(super) fn split(&self) -> Result<Self> {
        let stream = self.stream.try_clone().context("an attacker cannot split")?;
        Ok(Self { stream, buf: Vec::new(), deadline: self.deadline })
    }

    /// Takes the bytes that have arrived, without waiting; returns the end of the stream, if it has come.
    pub(super) fn look(&mut self) -> Result<Option<End>> {
        self.stream.set_nonblocking(true).context("an attacker cannot look")?;
        let end = loop {
            match self.fill() {
                Ok(0) => break Some(End::Ended),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break None,
                Err(error) if is_reset(&error) => break Some(End::Reset),
                Err(error) => bail!("cannot look: {error}"),
            }
        };
        self.stream.set_nonblocking(false).context("an attacker cannot look")?;
        end.map(|end| answer(&self.buf, end)).transpose()
    }
}

/// Returns the status of a response, or `end` if there is none.
fn answer(bytes: &[u8], end: End) -> Result<End> {
    let text = String::from_utf8_lossy(bytes);
    match (status(&text), text.matches("HTTP/1.").count()) {
        (Some(status), 1) => Ok(End::Status(status)),
        (None, 0) if bytes.is_empty() => Ok(end),
        _ => Err(anyhow!("an unexpected answer: {:?}", text.chars().take(200).collect::<String>())),
    }
}

/// Returns the status of a response.
fn status(head: &str) -> Option<u16> {
    head.strip_prefix("HTTP/1.1 ")?.split(' ').next()?.parse().ok()
}

/// Returns the length of a head, if it is complete.
fn head_len(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|start| start + 4)
}

/// Returns the frame at the front of the bytes and its length, once it is complete. Servers do not mask.
fn parse(bytes: &[u8]) -> Option<(Frame, usize)> {
    let [first, short, rest @ ..] = bytes else { return None };
    let (len, start): (usize, usize) = match short & 0x7f {
        126 => (usize::from(u16::from_be_bytes(*rest.first_chunk()?)), 4),
        127 => (usize::try_from(u64::from_be_bytes(*rest.first_chunk()?)).ok()?, 10),
        len => (usize::from(len), 2),
    };
    let payload = bytes.get(start..start.checked_add(len)?)?.to_vec();
    Some((Frame { opcode: first & 0x0f, payload }, start + len))
}

fn is_reset(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};
    matches!(error.kind(), ConnectionReset | BrokenPipe | ConnectionAborted)
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// The total time for a connection, unless set otherwise. Longer than every deadline of the server.
const LIMIT: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_taken_once_it_is_whole() {
        for (case, bytes, len) in [
            ("empty", &[0x8a, 0][..], 2),
            ("short", &[0x82, 2, 7, 7, 9], 4),
            ("16 bits", &[0x82, 126, 0, 2, 7, 7], 6),
            ("64 bits", &[0x82, 127, 0, 0, 0, 0, 0, 0, 0, 2, 7, 7], 12),
        ] {
            let (frame, taken) = parse(bytes).unwrap();
            assert_eq!((frame.opcode, taken), (bytes[0] & 0x0f, len), "{case}");
            assert!(frame.payload.iter().all(|byte| *byte == 7), "{case}");
            assert!((0..len).all(|cut| parse(&bytes[..cut]).is_none()), "{case}");
        }
        assert!(parse(&[0x82, 127, 255, 255, 255, 255, 255, 255, 255, 255]).is_none());
    }

    #[test]
    fn an_answer_is_one_response_or_nothing() {
        for (bytes, expected) in [
            (&b"HTTP/1.1 400 Bad Request\r\n\r\nwhy"[..], Some(End::Status(400))),
            (b"", Some(End::Reset)),
            (b"HTTP/1.1 400 x\r\n\r\nHTTP/1.1 101 y\r\n\r\n", None),
            (b"HTTP/1.1 4x0 Bad\r\n\r\n", None),
            (b"\x82\x01x", None),
        ] {
            assert_eq!(answer(bytes, End::Reset).ok(), expected, "{}", bytes.escape_ascii());
        }
    }
}
