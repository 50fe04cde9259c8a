//! Sentences for people, and standard error.

use std::io::{self, Write};
use std::time::Duration;

use crate::escape;
use crate::status::Failure;

/// Writes a line to standard error. If nobody reads it, nothing can be done about that.
pub(crate) fn error(text: &str) {
    lines(&format!("longwire: {text}"));
}

/// The same without the program's name.
pub(crate) fn lines(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Reports a failure; returns its status.
pub(crate) fn failure(failure: &Failure) -> u8 {
    error(&failure.message);
    failure.status
}

/// Describes the payload of a ping or pong, after its name.
pub(crate) fn payload(payload: &[u8]) -> String {
    match str::from_utf8(payload) {
        Ok("") => String::new(),
        Ok(text) if !text.contains(|c: char| c.is_control()) => format!(": {}", escape::line(text)),
        _ => format!(": {}", crate::hex::encode(payload)),
    }
}

/// Describes a duration with three digits.
pub(crate) fn time(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    let (value, unit) = match seconds {
        1.0.. => (seconds, "s"),
        0.001.. => (seconds * 1e3, "ms"),
        _ => (seconds * 1e6, "µs"),
    };
    let decimals = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    format!("{value:.decimals$} {unit}")
}

/// Describes a number of bytes.
#[allow(clippy::cast_precision_loss, reason = "for readers")]
pub(crate) fn bytes(bytes: u64) -> String {
    size(bytes as f64)
}

/// The same for a fraction.
pub(crate) fn size(mut bytes: f64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1023.5 {
        return format!("{bytes:.0} B");
    }
    let mut unit = "B";
    for larger in UNITS {
        if bytes < 1023.95 {
            break;
        }
        bytes /= 1024.0;
        unit = larger;
    }
    format!("{bytes:.1} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short() {
        for (bytes, expected) in [
            (0.0, "0 B"),
            (1023.0, "1023 B"),
            (1024.0, "1.0 KiB"),
            (1_048_575.0, "1.0 MiB"),
            (1e9, "953.7 MiB"),
        ] {
            assert_eq!(size(bytes), expected);
        }
        for (seconds, expected) in [
            (0.0, "0.00 µs"),
            (0.000_012_34, "12.3 µs"),
            (0.001_5, "1.50 ms"),
            (0.15, "150 ms"),
            (90.0, "90.0 s"),
        ] {
            assert_eq!(time(Duration::from_secs_f64(seconds)), expected);
        }
    }

    #[test]
    fn payloads_are_text_or_digits() {
        assert_eq!(payload(b""), "");
        assert_eq!(payload("a é".as_bytes()), ": a é");
        assert_eq!(payload(b"\x1b[2J"), ": 1b5b324a");
        assert_eq!(payload("\u{202e}a".as_bytes()), ": \\u{202e}a");
    }
}
