//! One reading client: its messages are compared byte by byte.

use std::time::Duration;

use crate::{Outcome, window::Window};

/// The progress of a reader, and the frame it is in the middle of.
#[derive(Default)]
pub(crate) struct Progress {
    /// The number of the next message.
    due: u64,
    /// The number of bytes of its frame that have arrived.
    at: usize,
    /// The part of a control frame that has arrived.
    control: Vec<u8>,
}

impl Progress {
    /// Takes bytes from the server. `arrived` is called with each message's time; returns the bytes to answer with.
    pub(crate) fn take(
        &mut self,
        mut bytes: &[u8],
        window: &mut Window,
        mut arrived: impl FnMut(Duration),
    ) -> Outcome<Vec<u8>> {
        let mut answer = Vec::new();
        while let &[first, ..] = bytes {
            if !self.control.is_empty() || (self.at == 0 && first & 0x08 != 0) {
                bytes = self.take_control(bytes, &mut answer)?;
                continue;
            }
            let due = self.due;
            let expected = window.expected(due).ok_or_else(|| format!("message {due} was not sent yet"))?;
            let left = &expected[self.at..];
            let len = left.len().min(bytes.len());
            if left[..len] != bytes[..len] {
                return Err(format!("message {due} is not what was sent"));
            }
            (self.at, bytes) = (self.at + len, &bytes[len..]);
            if self.at == expected.len() {
                (self.at, self.due) = (0, due + 1);
                arrived(window.arrived(due));
            }
        }
        Ok(answer)
    }

    /// Takes the bytes of a control frame (RFC 6455 §5.5), and returns the bytes after it.
    fn take_control<'a>(&mut self, bytes: &'a [u8], answer: &mut Vec<u8>) -> Outcome<&'a [u8]> {
        for (index, &byte) in bytes.iter().enumerate() {
            self.control.push(byte);
            let [first, len, payload @ ..] = &self.control[..] else { continue };
            if payload.len() < usize::from(*len) {
                continue;
            }
            match *first & 0x0f {
                0x8 => {
                    let code = payload.first_chunk().map(|code| u16::from_be_bytes(*code));
                    return Err(format!("the server closed with code {code:?}"));
                }
                0x9 => {
                    // The masking key is zero.
                    answer.extend([0x8a, 0x80 | *len, 0, 0, 0, 0]);
                    answer.extend(payload);
                }
                _ => {}
            }
            self.control.clear();
            return Ok(&bytes[index + 1..]);
        }
        Ok(&[])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_counted_however_they_are_cut() {
        for cut in 1..40 {
            let mut window = Window::new(30, 2, 1);
            let (mut progress, mut count) = (Progress::default(), 0);
            window.publish();
            window.publish();
            let ping = &b"\x89\x02hi"[..];
            let bytes = [ping, window.expected(0).unwrap(), ping, window.expected(1).unwrap()].concat();
            let mut answers = Vec::new();
            for part in bytes.chunks(cut) {
                answers.extend(progress.take(part, &mut window, |_| count += 1).unwrap());
            }
            assert_eq!((count, window.is_empty()), (2, true), "{cut}");
            assert_eq!(answers, b"\x8a\x82\0\0\0\0hi".repeat(2), "{cut}");
        }
    }

    #[test]
    fn what_was_not_sent_is_a_failure() {
        let mut window = Window::new(30, 2, 1);
        window.publish();
        let good = window.expected(0).unwrap().to_vec();
        let mut changed = good.clone();
        changed[31] ^= 1;
        for (case, bytes, reason) in [
            ("one bit", changed, "message 0 is not what was sent"),
            ("a message twice", good.repeat(2), "message 1 was not sent yet"),
            ("a close", b"\x88\x02\x03\xf5".to_vec(), "the server closed with code Some(1013)"),
        ] {
            let mut window = Window::new(30, 2, 1);
            window.publish();
            assert_eq!(
                Progress::default().take(&bytes, &mut window, |_| {}),
                Err(reason.to_owned()),
                "{case}"
            );
        }
        // A message was left out.
        let mut window = Window::new(30, 2, 1);
        window.publish();
        window.publish();
        let second = window.expected(1).unwrap().to_vec();
        assert!(Progress::default().take(&second, &mut window, |_| {}).is_err());
    }
}
