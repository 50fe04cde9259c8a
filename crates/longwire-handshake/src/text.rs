//! The peer's text in our error messages, escaped for logs and terminals.

use std::fmt;

/// A short excerpt of the peer's input, for an error message.
///
/// `Display` and `Debug` escape every byte outside printable ASCII, so a peer cannot put line breaks or terminal
/// sequences into a log. At most 64 bytes are kept.
#[derive(Clone, PartialEq, Eq)]
pub struct PeerText {
    bytes: Box<[u8]>,
    cut: bool,
}

impl PeerText {
    /// Keeps the first 64 bytes of `text`.
    pub fn new(text: impl AsRef<[u8]>) -> Self {
        let text = text.as_ref();
        let kept = &text[..text.len().min(MAX_LEN)];
        Self { bytes: kept.into(), cut: kept.len() < text.len() }
    }
}

impl fmt::Display for PeerText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}{}\"", self.bytes.escape_ascii(), if self.cut { "..." } else { "" })
    }
}

impl fmt::Debug for PeerText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

const MAX_LEN: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_whatever_could_act_on_a_log() {
        for (case, sent, shown) in [
            ("plain", &b"chat"[..], "\"chat\""),
            ("line break", b"a\r\nERROR b", "\"a\\r\\nERROR b\""),
            ("terminal sequence", b"\x1b[2J", "\"\\x1b[2J\""),
            ("quote", b"a\"b", "\"a\\\"b\""),
            ("not UTF-8", b"\xff\x00", "\"\\xff\\x00\""),
        ] {
            assert_eq!(PeerText::new(sent).to_string(), shown, "{case}");
            assert_eq!(format!("{:?}", PeerText::new(sent)), shown, "{case}");
        }
    }

    #[test]
    fn keeps_a_bounded_excerpt() {
        let shown = PeerText::new(vec![b'a'; 1 << 20]).to_string();
        assert_eq!(shown, format!("\"{}...\"", "a".repeat(64)));
    }
}
