//! A peer's text on a terminal, where control characters would act instead of being shown.
//!
//! Every text of a peer that may reach a terminal passes through here: messages, payloads of pings and pongs, close
//! reasons, headers, and bodies of refusals.

use std::borrow::Cow;

/// Escapes everything that could act on a terminal or reorder its text. The result is one line.
pub(crate) fn line(text: &str) -> Cow<'_, str> {
    escape(text, is_active)
}

/// The same, but keeps line breaks and tabs, which a message may need to be readable.
pub(crate) fn lines(text: &str) -> Cow<'_, str> {
    escape(text, |c| is_active(c) && c != '\n' && c != '\t')
}

/// As [`line()`], for bytes that may be no UTF-8.
pub(crate) fn bytes(bytes: &[u8]) -> String {
    line(&String::from_utf8_lossy(bytes)).into_owned()
}

fn escape(text: &str, is_escaped: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&is_escaped) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_escaped(c) {
            escaped.extend(c.escape_default());
        } else {
            escaped.push(c);
        }
    }
    Cow::Owned(escaped)
}

/// Returns whether a character acts on a terminal: the control characters of ASCII and of Latin-1 (C0, DEL, C1), line
/// and paragraph separators, and those that change the direction of the text around them.
pub(crate) fn is_active(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_peer_acts_on_a_terminal() {
        for (case, text, one_line, many) in [
            ("plain", "aé€𝄞", "aé€𝄞", "aé€𝄞"),
            ("escape sequence", "\u{1b}[2J", "\\u{1b}[2J", "\\u{1b}[2J"),
            ("C1, which is CSI in one character", "\u{9b}31m", "\\u{9b}31m", "\\u{9b}31m"),
            ("line break and tab", "a\n\tb", "a\\n\\tb", "a\n\tb"),
            ("carriage return", "a\rb", "a\\rb", "a\\rb"),
            ("backspace, DEL, NUL", "\u{8}\u{7f}\0", "\\u{8}\\u{7f}\\u{0}", "\\u{8}\\u{7f}\\u{0}"),
            ("reversed text", "\u{202e}abc", "\\u{202e}abc", "\\u{202e}abc"),
        ] {
            assert_eq!(line(text), one_line, "{case}");
            assert_eq!(lines(text), many, "{case}");
        }
        assert_eq!(bytes(b"\xff\x1b"), "\u{fffd}\\u{1b}");
    }
}
