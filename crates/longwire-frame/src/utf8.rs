//! UTF-8 validation of text that arrives in parts (RFC 6455 §8.1, RFC 3629).
//!
//! Owns the few bits that must be remembered between two parts. The bytes themselves are not kept: an incomplete
//! sequence is described by a count and a range for the next byte.

use thiserror::Error;

/// Text with an invalid byte, or that ends in the middle of a character (RFC 6455 §8.1).
///
/// A text message that contains it fails the connection with close code 1007.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Error)]
#[error("text is not valid UTF-8")]
pub struct InvalidUtf8;

crate::debug_with_causes!(InvalidUtf8);

/// Checks that text arriving in parts is UTF-8, and fails at the first byte that rules it out.
///
/// A part may end anywhere, even inside a character. A sequence that no further byte can make valid (`E0 80`, `ED A0`,
/// `F4 90`, `F5`) fails at the byte that makes it so, not when the message ends. Create a new validator for each
/// message; after an error every further call fails too.
#[derive(Clone, Debug)]
pub struct Utf8Validator {
    /// The number of bytes that the character at the end still needs: 0 to 3.
    missing: u8,
    /// The least and the greatest value of the next of them; after a failure the range is empty. Ignored if nothing is
    /// missing.
    lower: u8,
    upper: u8,
}

impl Utf8Validator {
    /// Creates a validator that has not seen any text.
    #[inline]
    pub const fn new() -> Self {
        Self { missing: 0, lower: 0x80, upper: 0xbf }
    }

    /// Takes the next part of the text.
    ///
    /// # Errors
    ///
    /// [`InvalidUtf8`] if `part` holds the first byte that rules out UTF-8, or if an earlier part did.
    #[inline]
    pub fn feed(&mut self, part: &[u8]) -> Result<(), InvalidUtf8> {
        if self.missing == 0 { self.feed_at_boundary(part) } else { self.feed_inside_character(part) }
    }

    /// Ends the text.
    ///
    /// # Errors
    ///
    /// [`InvalidUtf8`] if the text ends inside a character, or if it was invalid before.
    #[inline]
    pub const fn finish(&self) -> Result<(), InvalidUtf8> {
        if self.is_complete() { Ok(()) } else { Err(InvalidUtf8) }
    }

    /// Returns whether everything so far is valid and ends with a whole character.
    #[inline]
    pub const fn is_complete(&self) -> bool {
        self.missing == 0
    }

    #[inline]
    fn feed_at_boundary(&mut self, part: &[u8]) -> Result<(), InvalidUtf8> {
        // Most text is ASCII. While it is short, checking for that costs a fifth of a full validation: 4 ns instead of
        // 18 at 125 bytes. Beyond that, the validator itself is as fast on ASCII.
        if part.len() <= 256 && is_ascii(part) { Ok(()) } else { self.feed_any(part) }
    }

    fn feed_any(&mut self, part: &[u8]) -> Result<(), InvalidUtf8> {
        let Err(error) = simdutf8::compat::from_utf8(part) else {
            return Ok(());
        };
        // No error length means that the part ends inside a character that may still become valid.
        if error.error_len().is_some() {
            return self.fail();
        }
        if let [first, rest @ ..] = &part[error.valid_up_to()..] {
            self.begin(*first);
            rest.iter().try_for_each(|&byte| self.proceed(byte))?;
        }
        Ok(())
    }

    #[cold]
    fn feed_inside_character(&mut self, part: &[u8]) -> Result<(), InvalidUtf8> {
        if self.lower > self.upper {
            return Err(InvalidUtf8);
        }
        let (rest_of_character, rest) = part.split_at(part.len().min(usize::from(self.missing)));
        rest_of_character.iter().try_for_each(|&byte| self.proceed(byte))?;
        if rest.is_empty() { Ok(()) } else { self.feed_at_boundary(rest) }
    }

    /// Records what is needed by the character beginning with `first`, the first byte of a possible sequence of two or
    /// more.
    ///
    /// The table is that of Unicode (table 3-7) and RFC 3629 §4: the second byte's range excludes overlong
    /// forms, surrogates and values above U+10FFFF, all further bytes are 80..BF.
    fn begin(&mut self, first: u8) {
        (self.missing, self.lower, self.upper) = match first {
            0xe0 => (2, 0xa0, 0xbf),
            0xed => (2, 0x80, 0x9f),
            0xe1..=0xef => (2, 0x80, 0xbf),
            0xf0 => (3, 0x90, 0xbf),
            0xf4 => (3, 0x80, 0x8f),
            0xf1..=0xf3 => (3, 0x80, 0xbf),
            _ => (1, 0x80, 0xbf),
        };
    }

    fn proceed(&mut self, byte: u8) -> Result<(), InvalidUtf8> {
        if !(self.lower..=self.upper).contains(&byte) {
            return self.fail();
        }
        *self = Self { missing: self.missing - 1, ..Self::new() };
        Ok(())
    }

    #[cold]
    fn fail(&mut self) -> Result<(), InvalidUtf8> {
        *self = Self { missing: 1, lower: 1, upper: 0 };
        Err(InvalidUtf8)
    }
}

impl Default for Utf8Validator {
    fn default() -> Self {
        Self::new()
    }
}

/// Like `<[u8]>::is_ascii`, inline and without a branch per word.
#[inline]
fn is_ascii(bytes: &[u8]) -> bool {
    // The last word overlaps the one before it, which does not affect an OR.
    let Some(&last) = bytes.last_chunk() else {
        return bytes.is_ascii();
    };
    let words = bytes.as_chunks::<8>().0.iter().chain([&last]);
    words.fold(0, |all, &word| all | u64::from_ne_bytes(word)) & 0x8080_8080_8080_8080 == 0
}

#[cfg(test)]
mod tests {
    use hex_literal::hex;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::*;

    /// The index at which std rules out UTF-8: that of the first byte after which no continuation is valid.
    ///
    /// `valid_up_to` is where the bad sequence begins, `error_len` the number of its bytes that were still possible.
    fn first_impossible_byte(text: &[u8]) -> Option<usize> {
        let valid_up_to = std::str::from_utf8(text).err()?.valid_up_to();
        // A prefix of the text is possible as long as std would wait for more.
        (valid_up_to..text.len())
            .find(|&at| std::str::from_utf8(&text[..=at]).is_err_and(|error| error.error_len().is_some()))
    }

    /// Feeds the text cut at `ends` and checks that exactly the part with the first impossible byte fails, that every
    /// later one does, and that the end gets the same verdict as from std.
    fn check(text: &[u8], ends: impl IntoIterator<Item = usize>) {
        let bad = first_impossible_byte(text);
        let mut validator = Utf8Validator::default();
        let mut start = 0;
        for end in ends {
            let expected = if bad.is_some_and(|bad| bad < end) { Err(InvalidUtf8) } else { Ok(()) };
            assert_eq!(validator.feed(&text[start..end]), expected, "{text:02x?}, part {start}..{end}");
            let whole = std::str::from_utf8(&text[..end]).is_ok();
            assert_eq!(validator.is_complete(), whole, "{text:02x?} up to {end}");
            assert_eq!(validator.finish().is_ok(), whole, "{text:02x?} up to {end}");
            start = end;
        }
        assert_eq!(start, text.len(), "the cuts must reach the end");
    }

    fn check_every_split_in_two(text: &[u8]) {
        check(text, 1..=text.len());
        for cut in 0..=text.len() {
            check(text, [cut, text.len()]);
        }
    }

    #[test]
    fn fails_with_the_byte_that_rules_utf8_out() {
        for (case, text, bad) in [
            ("lone continuation byte", &hex!("80")[..], 0),
            ("overlong in two bytes", &hex!("c0 af"), 0),
            ("overlong in two bytes, the last", &hex!("c1 bf"), 0),
            ("overlong in three bytes", &hex!("e0 80 af"), 1),
            ("overlong in three bytes, the last", &hex!("e0 9f bf"), 1),
            ("overlong in four bytes", &hex!("f0 8f bf bf"), 1),
            ("first surrogate", &hex!("ed a0 80"), 1),
            ("last surrogate", &hex!("ed bf bf"), 1),
            ("above U+10FFFF", &hex!("f4 90 80 80"), 1),
            ("five-byte form", &hex!("f8 88 80 80 80"), 0),
            ("no first byte at all", &hex!("f5"), 0),
            ("ff", &hex!("61 62 63 ff"), 3),
            ("two bytes, cut by ASCII", &hex!("c3 28"), 1),
            ("three bytes, cut by ASCII", &hex!("e2 82 28"), 2),
            ("four bytes, cut by a first byte", &hex!("f0 9f 98 c3"), 3),
            (
                "Autobahn's kosme with a surrogate",
                &hex!("ce ba e1 bd b9 cf 83 ce bc ce b5 ed a0 80 65 64"),
                12,
            ),
        ] {
            assert_eq!(first_impossible_byte(text), Some(bad), "{case}");
            check_every_split_in_two(text);
            // After text that is long enough for the vector code.
            let long = ["κόσμε ".repeat(40).as_bytes(), text].concat();
            check(&long, (1..=long.len()).step_by(7).chain([long.len()]));
        }
    }

    #[test]
    fn accepts_the_bounds_of_every_sequence_length() {
        for text in [
            "",
            "\0",
            "\u{7f}",
            "\u{80}",
            "\u{7ff}",
            "\u{800}",
            "\u{fff}",
            "\u{1000}",
            "\u{d7ff}",
            "\u{e000}",
            "\u{fffe}",
            "\u{ffff}",
            "\u{10000}",
            "\u{3ffff}",
            "\u{40000}",
            "\u{fffff}",
            "\u{100000}",
            "\u{10ffff}",
        ] {
            check_every_split_in_two(text.as_bytes());
        }
    }

    #[test]
    fn every_sequence_of_two_bytes_is_judged_as_std_does() {
        for first in 0..=u8::MAX {
            for second in 0..=u8::MAX {
                check(&[first, second], 1..=2);
                check(&[first, second], [2]);
                check(&[first, second, 0x80, 0x80], 1..=4);
            }
        }
    }

    #[test]
    fn stays_failed() {
        let mut validator = Utf8Validator::new();
        assert_eq!(validator.feed(&[0xff]), Err(InvalidUtf8));
        for part in [&b"fine"[..], b"", "é".as_bytes(), &[0x80], &[0x00], &[0x01]] {
            assert_eq!(validator.feed(part), Err(InvalidUtf8), "{part:02x?}");
            assert_eq!(validator.finish(), Err(InvalidUtf8));
        }
        validator = Utf8Validator::default();
        assert_eq!(validator.feed(b"fine"), Ok(()));
    }

    #[test]
    fn is_small() {
        assert!(size_of::<Utf8Validator>() <= 8);
    }

    #[test]
    fn finds_any_byte_that_is_not_ascii() {
        for len in 0..=300 {
            let mut text = vec![b'x'; len];
            assert!(is_ascii(&text));
            for at in 0..len {
                text[at] = 0x80;
                assert!(!is_ascii(&text), "{at} of {len}");
                text[at] = b'x';
            }
        }
    }

    /// Text that is nearly UTF-8: characters of all lengths, some truncated, with an occasional stray byte.
    fn nearly_utf8() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            8 => any::<char>().prop_map(|char| char.to_string().into_bytes()),
            4 => vec(0x20..0x7f_u8, 1..40),
            1 => (any::<char>(), 1..4_usize)
                .prop_map(|(char, len)| char.to_string().into_bytes().into_iter().take(len).collect()),
            1 => any::<u8>().prop_map(|byte| vec![byte]),
        ];
        vec(piece, 0..24).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn byte_by_byte_fails_exactly_where_std_does(text in nearly_utf8()) {
            check(&text, 1..=text.len());
        }

        #[test]
        fn any_split_gives_the_same_verdict_at_the_same_byte(
            text in nearly_utf8(),
            cuts in vec(any::<Index>(), 0..6),
        ) {
            let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
            ends.push(text.len());
            ends.sort_unstable();
            check(&text, ends);
        }

        #[test]
        fn valid_text_passes_in_any_split(text: String, cut: Index) {
            prop_assert_eq!(first_impossible_byte(text.as_bytes()), None);
            check(text.as_bytes(), [cut.index(text.len() + 1), text.len()]);
        }
    }
}
