//! JSON, indented for reading.
//!
//! Only white space changes. Numbers of any precision, the order of members and repeated names stay as they came,
//! which is why the text itself is walked through, and not a value parsed from it.

use serde_json::value::RawValue;

use crate::style::{Paint, Style};

/// Returns the text with a line for each value, or `None` if it is not JSON or nested more than [`MAX_DEPTH`] deep.
///
/// Escapes in strings stay escapes. JSON does not allow control characters of ASCII in strings; others must be escaped
/// by the caller.
pub(crate) fn indent(text: &str, style: Style) -> Option<String> {
    serde_json::from_str::<&RawValue>(text).ok()?;
    Indenter { style, depth: 0, out: String::with_capacity(2 * text.len()) }.run(text.trim())
}

/// The deepest nesting that is indented. Each level indents further, so that the size of the output would be quadratic
/// in that of the input.
const MAX_DEPTH: usize = 100;

struct Indenter {
    style: Style,
    depth: usize,
    out: String,
}

impl Indenter {
    /// Walks through valid JSON, token by token.
    fn run(mut self, mut rest: &str) -> Option<String> {
        while let Some(first) = rest.chars().next() {
            let len = match first {
                '{' | '[' => self.open(rest)?,
                '}' | ']' => {
                    self.depth -= 1;
                    self.break_line();
                    self.out.push(first);
                    1
                }
                ',' => {
                    self.out.push(',');
                    self.break_line();
                    1
                }
                ':' => {
                    self.out.push_str(": ");
                    1
                }
                '"' => self.string(rest),
                c if c.is_ascii_whitespace() => 1,
                _ => self.literal(rest),
            };
            rest = &rest[len..];
        }
        Some(self.out)
    }

    /// Opens an object or an array; an empty one stays on its line. Returns the number of bytes taken.
    fn open(&mut self, rest: &str) -> Option<usize> {
        let after = rest[1..].trim_start();
        self.out.push_str(&rest[..1]);
        if let Some(closing @ ('}' | ']')) = after.chars().next() {
            self.out.push(closing);
            return Some(rest.len() - after.len() + 1);
        }
        self.depth += 1;
        self.break_line();
        (self.depth <= MAX_DEPTH).then_some(1)
    }

    fn string(&mut self, rest: &str) -> usize {
        let mut escaped = false;
        let end = rest.bytes().skip(1).position(|byte| {
            let ends = byte == b'"' && !escaped;
            escaped = byte == b'\\' && !escaped;
            ends
        });
        let len = end.map_or(rest.len(), |end| end + 2);
        let is_name = rest[len..].trim_start().starts_with(':');
        let paint = if is_name { Paint::Key } else { Paint::Text };
        self.out.push_str(&self.style.paint(paint, &rest[..len]));
        len
    }

    /// Copies a number, `true`, `false` or `null`.
    fn literal(&mut self, rest: &str) -> usize {
        let ends = |c: char| c.is_ascii_whitespace() || matches!(c, ',' | ']' | '}');
        let len = rest.find(ends).unwrap_or(rest.len());
        self.out.push_str(&self.style.paint(Paint::Literal, &rest[..len]));
        len
    }

    fn break_line(&mut self) {
        self.out.push('\n');
        self.out.extend(std::iter::repeat_n("  ", self.depth));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::style::ColorChoice;

    fn plain(text: &str) -> Option<String> {
        indent(text, Style::new(ColorChoice::Never, true))
    }

    #[test]
    fn only_white_space_changes() {
        for (case, text, expected) in [
            ("a literal", " null ", "null"),
            ("empty containers", "[{ }, [ ]]", "[\n  {},\n  []\n]"),
            (
                "order, repetition and precision",
                r#"{"b":1e400,"a":0.10,"b":2}"#,
                "{\n  \"b\": 1e400,\n  \"a\": 0.10,\n  \"b\": 2\n}",
            ),
            ("strings with the signs of JSON", r#"["a\"],{:","\\"]"#, "[\n  \"a\\\"],{:\",\n  \"\\\\\"\n]"),
        ] {
            assert_eq!(plain(text).as_deref(), Some(expected), "{case}");
        }
    }

    #[test]
    fn other_text_is_left_alone() {
        for text in ["", "hello", "{\"a\":}", "[1] [2]", "\"\u{1b}\""] {
            assert_eq!(plain(text), None, "{text:?}");
        }
        let nested = |depth| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        assert!(plain(&nested(MAX_DEPTH)).is_some());
        assert!(plain(&nested(MAX_DEPTH + 1)).is_none());
    }

    #[test]
    fn names_strings_and_literals_differ_in_colour() {
        let colored = indent(r#"{"a":["b",1]}"#, Style::new(ColorChoice::Always, true)).unwrap();
        assert!(colored.contains("\x1b[34m\"a\"") && colored.contains("\x1b[32m\"b\""), "{colored:?}");
        assert!(colored.contains("\x1b[33m1\x1b[0m"), "{colored:?}");
    }
}
