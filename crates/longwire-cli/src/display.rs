//! Messages and notices as they are written: escaped and marked on a terminal, as they are in a pipe.

use std::borrow::Cow;
use std::fmt::Write as _;

use bytes::Bytes;
use jiff::ZonedDateTime;
use longwire::Message;

use crate::args::DisplayArgs;
use crate::style::{Paint, Style};
use crate::{escape, hex, json};

/// The form of messages.
#[derive(Clone, Copy, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "independent choices of the user")]
pub(crate) struct Display {
    /// Whether a terminal shows them.
    pub(crate) terminal: bool,
    pub(crate) style: Style,
    pub(crate) timestamps: bool,
    /// Whether messages are written without line breaks between them.
    pub(crate) raw: bool,
    pub(crate) hex: bool,
    pub(crate) json: bool,
}

/// The longest part of a message that a terminal shows, in bytes of the message.
const MOST_SHOWN: usize = 64 * 1024;
/// The same for a message that is shown as a dump, which takes four times the space.
const MOST_DUMPED: usize = 4 * 1024;

impl Display {
    /// Text as text, and binary messages as they are.
    pub(crate) fn new(args: &DisplayArgs, terminal: bool) -> Self {
        let style = Style::new(args.color, terminal);
        Self { terminal, style, timestamps: args.timestamps, raw: false, hex: false, json: false }
    }

    /// Returns the pieces to write for a message; `from` names its sender if there are several.
    pub(crate) fn message(self, message: &Message, from: Option<&str>) -> Vec<Bytes> {
        if self.terminal { vec![self.shown(message, from).into()] } else { self.written(message, from) }
    }

    /// Returns a line for a remark of this program, which must be safe for a terminal.
    pub(crate) fn notice(self, paint: Paint, text: &str) -> String {
        format!("{}{}\n", self.time(), self.style.paint(paint, text))
    }

    fn shown(self, message: &Message, from: Option<&str>) -> String {
        let marker = self.style.paint(Paint::Marker, &format!("{}<", sender(from)));
        let (body, rest) = match message {
            Message::Text(text) => self.shown_text(text),
            Message::Binary(bytes) => self.shown_binary(bytes),
        };
        let rest = if rest == 0 {
            String::new()
        } else {
            let note = format!("({rest} more bytes; redirect standard output to have all of them)");
            format!("\n  {}", self.style.paint(Paint::Notice, &note))
        };
        // A message must not pass for several, or for a notice: its further lines are indented.
        let body = body.replace('\n', "\n  ");
        format!("{}{marker} {body}{rest}\n", self.time())
    }

    fn shown_text(self, text: &str) -> (Cow<'_, str>, usize) {
        let shown = start_of(text, MOST_SHOWN);
        let rest = text.len() - shown.len();
        if self.json
            && rest == 0
            && let Some(indented) = json::indent(&escape_json(shown), self.style)
        {
            return (Cow::Owned(indented), 0);
        }
        (escape::lines(shown), rest)
    }

    fn shown_binary(self, bytes: &Bytes) -> (Cow<'static, str>, usize) {
        let shown = &bytes[..bytes.len().min(MOST_DUMPED)];
        let head = self.style.paint(Paint::Notice, &format!("binary, {}", count(bytes.len(), "byte")));
        let body = if shown.is_empty() {
            head
        } else if self.hex {
            format!("{head}\n{}", hex::encode(shown))
        } else {
            format!("{head}\n{}", hex::dump(shown))
        };
        (Cow::Owned(body), bytes.len() - shown.len())
    }

    fn written(self, message: &Message, from: Option<&str>) -> Vec<Bytes> {
        let mut pieces = Vec::with_capacity(3);
        let mark = format!("{}{}", self.time(), sender(from));
        if !mark.is_empty() {
            pieces.push(mark.into());
        }
        let (body, is_line) = match message {
            Message::Text(text) if self.json => {
                (json::indent(text, self.style).map_or_else(|| message.payload().clone(), Bytes::from), true)
            }
            Message::Binary(bytes) if self.hex => (hex::encode(bytes).into(), true),
            message => (message.payload().clone(), message.is_text()),
        };
        pieces.push(body);
        if is_line && !self.raw {
            pieces.push(Bytes::from_static(b"\n"));
        }
        pieces
    }

    /// Returns the time and a space, if it is shown: of the day on a terminal, and complete in a file.
    fn time(self) -> String {
        if !self.timestamps {
            return String::new();
        }
        let format = if self.terminal { "%H:%M:%S%.3f" } else { "%Y-%m-%dT%H:%M:%S%.3f%:z" };
        let time = ZonedDateTime::now().strftime(format).to_string();
        if self.terminal { self.style.paint(Paint::Notice, &time) + " " } else { time + " " }
    }
}

fn sender(from: Option<&str>) -> String {
    from.map(|from| format!("{from} ")).unwrap_or_default()
}

/// Returns a number and its noun.
pub(crate) fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// Returns the first `len` bytes of a text, or fewer, so that no character is split.
fn start_of(text: &str, len: usize) -> &str {
    let end = (0..=len.min(text.len())).rev().find(|&end| text.is_char_boundary(end));
    &text[..end.unwrap_or(0)]
}

/// Escapes the characters that JSON allows in strings and a terminal acts on, in the way of JSON.
fn escape_json(text: &str) -> Cow<'_, str> {
    // Of those in ASCII, JSON allows white space between values, and DEL in strings.
    let is_active = |c: char| c == '\u{7f}' || !c.is_ascii() && escape::is_active(c);
    if !text.contains(is_active) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            // All of them are in the basic plane: four digits are enough.
            c if is_active(c) => {
                // Writing to a string cannot fail.
                let _ = write!(escaped, "\\u{:04x}", u32::from(c));
            }
            c => escaped.push(c),
        }
    }
    Cow::Owned(escaped)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::style::ColorChoice;

    fn display(terminal: bool) -> Display {
        let style = Style::new(ColorChoice::Never, terminal);
        Display { terminal, style, timestamps: false, raw: false, hex: false, json: false }
    }

    fn shown(display: Display, message: impl Into<Message>) -> String {
        let pieces = display.message(&message.into(), None);
        String::from_utf8(pieces.concat()).unwrap()
    }

    #[test]
    fn a_terminal_gets_a_marker_and_no_control_characters() {
        for (case, message, expected) in [
            ("text", Message::text("aé"), "< aé\n"),
            ("escape sequence", Message::text("\u{1b}[2J\u{9b}"), "< \\u{1b}[2J\\u{9b}\n"),
            ("lines", Message::text("a\n< b"), "< a\n  < b\n"),
            ("empty", Message::text(""), "< \n"),
            ("empty binary", Message::binary(vec![]), "< binary, 0 bytes\n"),
        ] {
            assert_eq!(shown(display(true), message), expected, "{case}");
        }
        let dump = shown(display(true), vec![0x1b]);
        assert!(dump.starts_with("< binary, 1 byte\n  00000000  1b ") && dump.ends_with(" .\n"), "{dump}");
        let hex = Display { hex: true, ..display(true) };
        assert_eq!(shown(hex, vec![0x1b, 0]), "< binary, 2 bytes\n  1b00\n");
    }

    #[test]
    fn a_pipe_gets_messages_as_they_are() {
        for (case, message, expected) in [
            ("text", Message::text("\u{1b}[2J"), "\u{1b}[2J\n"),
            ("binary", Message::binary(b"a".to_vec()), "a"),
        ] {
            assert_eq!(shown(display(false), message), expected, "{case}");
        }
        let raw = Display { raw: true, ..display(false) };
        assert_eq!(shown(raw, "a"), "a");
        let hex = Display { hex: true, ..display(false) };
        assert_eq!(shown(hex, vec![0, 255]), "00ff\n");
        assert_eq!(shown(hex, "a"), "a\n");
    }

    #[test]
    fn a_terminal_shows_the_start_of_a_long_message() {
        let long = "é".repeat(MOST_SHOWN);
        let text = shown(display(true), long.as_str());
        assert!(text.contains(&format!("({MOST_SHOWN} more bytes;")), "{}", &text[text.len() - 80..]);
        assert!(text.len() < MOST_SHOWN + 100);
        assert_eq!(shown(display(false), long.as_str()).len(), long.len() + 1);
        let dump = shown(display(true), vec![0; MOST_DUMPED + 1]);
        assert!(dump.contains("(1 more bytes;"), "{}", &dump[dump.len() - 80..]);
    }

    #[test]
    fn json_is_indented_and_still_escaped() {
        let json = |terminal| Display { json: true, ..display(terminal) };
        assert_eq!(shown(json(true), r#"{"a":1}"#), "< {\n    \"a\": 1\n  }\n");
        assert_eq!(shown(json(true), "[\"\u{9b}\u{7f}\"]"), "< [\n    \"\\u009b\\u007f\"\n  ]\n");
        assert_eq!(shown(json(true), "no JSON"), "< no JSON\n");
        assert_eq!(shown(json(false), r#"{"a":1}"#), "{\n  \"a\": 1\n}\n");
    }

    #[test]
    fn times_are_complete_in_a_pipe() {
        let timed = |terminal| Display { timestamps: true, ..display(terminal) };
        let line = shown(timed(true), "a");
        assert!(line.len() == "08:00:00.000 < a\n".len() && line.ends_with(" < a\n"), "{line}");
        let line = shown(timed(false), "a");
        assert!(line.len() == "2026-11-28T08:00:00.000+00:00 a\n".len() && line.ends_with(" a\n"), "{line}");
    }
}
