//! Bytes as hexadecimal digits.

use std::fmt::Write as _;

/// Reads pairs of digits, which white space may separate.
///
/// # Errors
///
/// A sentence that names the first character that is no digit, or an odd number of digits.
pub(crate) fn decode(text: &str) -> Result<Vec<u8>, String> {
    let mut digits = Vec::with_capacity(text.len());
    for c in text.chars().filter(|c| !c.is_whitespace()) {
        let digit = c.to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        digits.push(digit.ok_or_else(|| format!("{c:?} is not a hexadecimal digit"))?);
    }
    let (pairs, rest) = digits.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(format!("{} hexadecimal digits are half a byte too many", digits.len()));
    }
    Ok(pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

/// Writes two digits for each byte.
pub(crate) fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Writes a line for each 16 bytes: the offset, the digits, and the bytes that are printable ASCII.
pub(crate) fn dump(bytes: &[u8]) -> String {
    let mut text = String::new();
    for (i, row) in bytes.chunks(16).enumerate() {
        if i > 0 {
            text.push('\n');
        }
        let _ = write!(text, "{:08x} ", 16 * i);
        for (column, byte) in row.iter().enumerate() {
            let _ = write!(text, "{}{byte:02x}", if column == 8 { "  " } else { " " });
        }
        let missing = 16 - row.len();
        let gap = 3 * missing + usize::from(row.len() <= 8);
        let _ = write!(text, "{:gap$}  ", "");
        text.extend(row.iter().map(|&byte| match byte {
            b' '..=b'~' => char::from(byte),
            _ => '.',
        }));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_become_bytes_and_bytes_digits() {
        assert_eq!(decode("").unwrap(), b"");
        assert_eq!(decode("00 fF\t7f").unwrap(), [0, 255, 127]);
        assert_eq!(encode(&[0, 255, 127]), "00ff7f");
        assert_eq!(decode("0g").unwrap_err(), "'g' is not a hexadecimal digit");
        assert_eq!(decode("012").unwrap_err(), "3 hexadecimal digits are half a byte too many");
    }

    #[test]
    fn a_dump_aligns_its_columns() {
        assert_eq!(dump(b""), "");
        assert_eq!(
            dump(b"0123456789abcdef\x1b\xff"),
            "00000000  30 31 32 33 34 35 36 37  38 39 61 62 63 64 65 66  0123456789abcdef\n\
             00000010  1b ff                                             .."
        );
    }
}
