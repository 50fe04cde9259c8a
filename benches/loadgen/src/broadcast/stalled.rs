//! The client that did not read: the messages it finds when it finally reads, and how its connection ended.

use std::{
    io::{BufReader, ErrorKind, Read},
    net::TcpStream,
    time::Duration,
};

use crate::{
    Outcome,
    window::{DIGITS, digits},
};

/// Reads to the end, or until the server has been silent for a while, and returns a line that describes it.
pub(crate) fn drain(stream: TcpStream, size: usize) -> Outcome<String> {
    stream.set_read_timeout(Some(SILENCE)).map_err(|error| error.to_string())?;
    let read = read_all(BufReader::with_capacity(64 * 1024, stream), size)?;
    let Drained { messages, gaps, end } = read;
    Ok(format!("stalled messages {messages} gaps {gaps} end {end}"))
}

#[derive(Debug, PartialEq, Eq)]
struct Drained {
    messages: u64,
    /// The number of times that a message did not follow the one before it.
    gaps: u64,
    end: String,
}

fn read_all(mut stream: impl Read, size: usize) -> Outcome<Drained> {
    let mut drained = Drained { messages: 0, gaps: 0, end: String::new() };
    let mut due = None;
    drained.end = loop {
        let (opcode, payload) = match frame(&mut stream) {
            Ok(frame) => frame,
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut => break "open".to_owned(),
                ErrorKind::UnexpectedEof => break "cut".to_owned(),
                ErrorKind::ConnectionReset => break "reset".to_owned(),
                _ => return Err(format!("the client that did not read: {error}")),
            },
        };
        match (opcode, payload.first_chunk()) {
            (0x8, code) => {
                break code.map_or("1005".to_owned(), |code| u16::from_be_bytes(*code).to_string());
            }
            (0x1, _) => {
                let number: Option<u64> = payload
                    .get(..DIGITS)
                    .and_then(|digits| std::str::from_utf8(digits).ok())
                    .and_then(|digits| digits.parse().ok());
                let number = number.filter(|&number| {
                    payload.len() == size && payload.starts_with(digits(number).as_bytes())
                });
                let number = number.ok_or("the client that did not read got what was not sent")?;
                drained.messages += 1;
                drained.gaps += u64::from(due.is_some_and(|due| due != number));
                due = Some(number + 1);
            }
            _ => {}
        }
    };
    Ok(drained)
}

/// Reads one frame of a server: unmasked and unfragmented.
fn frame(stream: &mut impl Read) -> std::io::Result<(u8, Vec<u8>)> {
    let mut head = [0; 2];
    stream.read_exact(&mut head)?;
    let len = match head[1] {
        126 => {
            let mut len = [0; 2];
            stream.read_exact(&mut len)?;
            u64::from(u16::from_be_bytes(len))
        }
        127 => {
            let mut len = [0; 8];
            stream.read_exact(&mut len)?;
            u64::from_be_bytes(len)
        }
        len => u64::from(len),
    };
    let mut payload = Vec::new();
    stream.take(len).read_to_end(&mut payload)?;
    if payload.len() as u64 == len {
        Ok((head[0] & 0x0f, payload))
    } else {
        Err(ErrorKind::UnexpectedEof.into())
    }
}

/// A server with something to write takes less than this.
const SILENCE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_and_the_gaps_are_told() {
        let message = |number: u64| [&[0x81, 22][..], digits(number).as_bytes(), b"ab"].concat();
        let (first, second, fifth) = (message(0), message(1), message(4));
        for (case, parts, expected) in [
            ("a close", vec![&first[..], &second, b"\x88\x02\x03\xf5"], (2, 0, "1013")),
            ("a close without a code", vec![&b"\x88\x00"[..]], (0, 0, "1005")),
            (
                "two gaps, and half a message",
                vec![&first[..], b"\x89\x00", &fifth, &second, &fifth[..9]],
                (3, 2, "cut"),
            ),
        ] {
            let (messages, gaps, end) = expected;
            let expected = Drained { messages, gaps, end: end.to_owned() };
            assert_eq!(read_all(&parts.concat()[..], 22), Ok(expected), "{case}");
        }
        assert!(read_all(&b"\x81\x02hi"[..], 2).is_err());
    }
}
