//! Text that arrives in pieces.

use longwire_frame::Utf8Validator;

use crate::input::{Input, pieces};

/// Validates bytes as UTF-8 in any split.
///
/// - The verdict on the whole is that of the standard library.
/// - The first bad byte is the first one after which no text could be valid, however the bytes are split.
/// - After an error, everything is an error.
pub fn target(data: &[u8]) {
    let mut input = Input::new(data);
    let way = input.byte();
    let text = input.rest();
    let good = completable(text);
    let mut validator = Utf8Validator::new();
    let mut fed = 0;
    for piece in pieces(text, way) {
        fed += piece.len();
        assert_eq!(
            validator.feed(piece).is_ok(),
            fed <= good,
            "{fed} bytes of {text:02x?}, of which {good} are good"
        );
        if fed <= good {
            let is_whole = std::str::from_utf8(&text[..fed]).is_ok();
            assert_eq!(validator.finish().is_ok(), is_whole, "{fed} bytes of {text:02x?}");
            assert_eq!(validator.is_complete(), is_whole, "{fed} bytes of {text:02x?}");
        }
    }
    if good < text.len() {
        assert!(
            validator.feed(b"a").is_err() && validator.finish().is_err(),
            "after an error in {text:02x?}"
        );
    }
}

/// Returns the number of bytes that some text begins with.
pub(crate) fn completable(bytes: &[u8]) -> usize {
    let Err(error) = std::str::from_utf8(bytes) else { return bytes.len() };
    let valid = error.valid_up_to();
    // `None`: the bytes end within a character.
    let can_continue = |end: usize| {
        std::str::from_utf8(&bytes[valid..end]).err().is_none_or(|error| error.error_len().is_none())
    };
    (valid + 1..=bytes.len()).take_while(|&end| can_continue(end)).last().unwrap_or(valid)
}
