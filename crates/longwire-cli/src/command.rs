//! The commands of the prompt: lines that begin with a slash.

use longwire::{CloseCode, CloseFrame, Message};

use crate::hex;

/// A command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Ping,
    Pong(Vec<u8>),
    /// `None` is an empty close frame.
    Close(Option<CloseFrame>),
    Send(Message),
    Help,
}

/// The answer to `/help`.
pub(crate) const HELP: &str = "\
/ping                   send a ping, and show the round-trip time
/pong [TEXT]            send a pong that nobody asked for
/text TEXT              send a text message, even an empty one
/binary HEX             send a binary message
/close [CODE [REASON]]  close the connection
//TEXT                  send a message that begins with a slash
Ctrl-C, Ctrl-D          close with code 1000, and quit";

impl Command {
    /// Reads a command, without its slash.
    ///
    /// # Errors
    ///
    /// A sentence about the mistake.
    pub(crate) fn parse(line: &str) -> Result<Self, String> {
        let (name, rest) = line.split_once(' ').unwrap_or((line, ""));
        match name {
            "ping" if rest.trim().is_empty() => Ok(Self::Ping),
            "ping" => Err("/ping takes no text: its payload identifies the answer".to_owned()),
            "pong" => Ok(Self::Pong(rest.as_bytes().to_vec())),
            "close" => close_frame(rest.trim()).map(Self::Close),
            "text" => Ok(Self::Send(Message::text(rest))),
            "binary" => Ok(Self::Send(Message::binary(hex::decode(rest)?))),
            "help" => Ok(Self::Help),
            _ => Err(format!("there is no command /{name}: see /help, or begin a message with //")),
        }
    }
}

/// Reads the code and the reason of a close frame. Without a code, it is 1000.
fn close_frame(text: &str) -> Result<Option<CloseFrame>, String> {
    let (code, reason) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let code = match code {
        "" => CloseCode::NORMAL,
        code => CloseCode::new(code.parse().map_err(|_| format!("{code:?} is not a close code"))?),
    };
    let frame = CloseFrame::new(code, reason.trim_start());
    let Some(frame) = frame.on_wire() else { return Ok(None) };
    frame.check().map_err(|error| error.to_string())?;
    Ok(Some(frame))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_have_arguments() {
        let close =
            |code, reason: &str| Ok(Command::Close(Some(CloseFrame::new(CloseCode::new(code), reason))));
        for (line, expected) in [
            ("ping", Ok(Command::Ping)),
            ("pong", Ok(Command::Pong(vec![]))),
            ("pong a b", Ok(Command::Pong(b"a b".to_vec()))),
            ("close", close(1000, "")),
            ("close 4000", close(4000, "")),
            ("close 4000 good bye", close(4000, "good bye")),
            ("close 1005", Ok(Command::Close(None))),
            ("text", Ok(Command::Send(Message::text("")))),
            ("text  a", Ok(Command::Send(Message::text(" a")))),
            ("binary 00 ff", Ok(Command::Send(Message::binary(vec![0, 255])))),
            ("help", Ok(Command::Help)),
        ] {
            assert_eq!(Command::parse(line), expected, "{line}");
        }
    }

    #[test]
    fn mistakes_are_explained() {
        let long = format!("close 1000 {}", "x".repeat(124));
        for (line, expected) in [
            ("pign", "no command /pign"),
            ("ping a", "no text"),
            ("close now", "\"now\" is not a close code"),
            ("close 1006", "1006"),
            ("close 70000", "\"70000\""),
            (&long, "123"),
            ("binary xyz", "not a hexadecimal digit"),
        ] {
            let error = Command::parse(line).unwrap_err();
            assert!(error.contains(expected), "{line}: {error}");
        }
    }
}
