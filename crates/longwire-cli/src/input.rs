//! Lines and pieces of standard input, as messages and commands.

use std::io::{self, BufRead, Read};
use std::thread;

use bytes::Bytes;
use longwire::Message;
use tokio::sync::mpsc;

use crate::command::Command;
use crate::hex;

/// An action that the user asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    Message(Message),
    Command(Command),
    /// A line that cannot be sent, and the reason.
    Invalid(String),
    /// The end, after which replies may still arrive.
    End,
    /// The end that a user at the prompt asked for, who waits for nothing.
    Quit,
}

/// The meaning of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Payload {
    Text,
    Binary,
    Hex,
}

/// The way in which lines are read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    pub(crate) payload: Payload,
    /// Whether lines that begin with a slash are commands.
    pub(crate) commands: bool,
}

impl Reading {
    /// Reads a line.
    pub(crate) fn parse(self, line: &str) -> Input {
        match line.strip_prefix('/') {
            Some(command) if self.commands && !command.starts_with('/') => {
                Command::parse(command).map_or_else(Input::Invalid, Input::Command)
            }
            Some(escaped) if self.commands => self.message(escaped),
            _ => self.message(line),
        }
    }

    fn message(self, line: &str) -> Input {
        match self.payload {
            Payload::Text => Input::Message(Message::text(line)),
            Payload::Binary => Input::Message(Message::binary(line.as_bytes().to_vec())),
            Payload::Hex => {
                hex::decode(line).map_or_else(Input::Invalid, |bytes| Input::Message(Message::binary(bytes)))
            }
        }
    }
}

/// Reads standard input in a thread of its own, until its end or until nobody receives.
///
/// tokio's `stdin` reads in a thread that the runtime waits for: after the server has closed, the program would not
/// exit before the next line.
pub(crate) fn read_stdin(reading: Reading, raw: bool) -> mpsc::Receiver<Input> {
    let (sender, inputs) = mpsc::channel(QUEUED);
    thread::spawn(move || {
        let input = io::stdin().lock();
        let end = if raw { read_pieces(input, &sender) } else { read_lines(input, reading, &sender) };
        let last = match end {
            Ok(()) => Input::End,
            Err(error) => Input::Invalid(format!("cannot read standard input: {error}")),
        };
        // The receiver may have ended first.
        let _ = sender.blocking_send(last);
    });
    inputs
}

/// The number of messages read ahead.
const QUEUED: usize = 16;
/// The size of a piece of binary input.
const PIECE: usize = 64 * 1024;

fn read_lines(mut input: impl BufRead, reading: Reading, to: &mpsc::Sender<Input>) -> io::Result<()> {
    loop {
        let mut line = Vec::new();
        if input.read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        if line.pop_if(|byte| *byte == b'\n').is_some() {
            line.pop_if(|byte| *byte == b'\r');
        }
        let input = match String::from_utf8(line) {
            Ok(line) => reading.parse(&line),
            Err(_) => Input::Invalid("standard input is not UTF-8: use --binary".to_owned()),
        };
        if to.blocking_send(input).is_err() {
            return Ok(());
        }
    }
}

fn read_pieces(mut input: impl Read, to: &mpsc::Sender<Input>) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    loop {
        match input.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(len) => {
                let message = Message::binary(Bytes::copy_from_slice(&piece[..len]));
                if to.blocking_send(Input::Message(message)).is_err() {
                    return Ok(());
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Input {
        Input::Message(Message::text(text))
    }

    #[test]
    fn slashes_are_commands_at_the_prompt_only() {
        let prompt = Reading { payload: Payload::Text, commands: true };
        assert_eq!(prompt.parse("/ping"), Input::Command(Command::Ping));
        assert_eq!(prompt.parse("//ping"), text("/ping"));
        assert_eq!(prompt.parse("a /ping"), text("a /ping"));
        assert!(matches!(prompt.parse("/pign"), Input::Invalid(_)));
        let pipe = Reading { payload: Payload::Text, commands: false };
        assert_eq!(pipe.parse("/ping"), text("/ping"));
        assert_eq!(pipe.parse("//ping"), text("//ping"));
    }

    #[test]
    fn lines_are_text_bytes_or_digits() {
        let parse = |payload, line| Reading { payload, commands: true }.parse(line);
        assert_eq!(parse(Payload::Binary, "ab"), Input::Message(Message::binary(b"ab".to_vec())));
        assert_eq!(parse(Payload::Hex, "00 ff"), Input::Message(Message::binary(vec![0, 255])));
        assert!(matches!(parse(Payload::Hex, "0"), Input::Invalid(_)));
    }

    #[test]
    fn line_ends_are_no_part_of_a_message() {
        let reading = Reading { payload: Payload::Text, commands: false };
        let (sender, mut inputs) = mpsc::channel(8);
        read_lines(&b"a\r\n\n\xff\nend"[..], reading, &sender).unwrap();
        drop(sender);
        let received: Vec<_> = std::iter::from_fn(|| inputs.try_recv().ok()).collect();
        assert_eq!(received[..2], [text("a"), text("")]);
        assert!(matches!(&received[2], Input::Invalid(reason) if reason.contains("--binary")));
        assert_eq!(received[3..], [text("end")]);
    }
}
