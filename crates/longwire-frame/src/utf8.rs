//! UTF-8 validation of text that arrives in parts (RFC 6455 §8.1, RFC 3629).
//!
//! Owns the few bits that must be remembered between two parts. The bytes themselves are not kept: what a cut-off
//! sequence still needs is a count and a range for the next byte.

use thiserror::Error;

/// Reports a byte that cannot stand where it does, or an end in the middle of a character (RFC 6455 §8.1).
///
/// A text message which contains it fails the connection with close code 1007.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
#[error("text is not valid UTF-8")]
pub struct InvalidUtf8;

/// Checks that text arriving in parts is UTF-8, and fails at the first byte that rules it out.
///
/// A part may end anywhere, also inside a character. A sequence that no further byte can make valid (`E0 80`,
/// `ED A0`, `F4 90`, `F5`) fails with the byte which makes it so, not when the message ends. Make a new validator
/// for each message; after an error every further call fails too.
#[derive(Clone, Debug)]
pub struct Utf8Validator {
    /// How many bytes the character at the end still needs: 0 to 3.
    missing: u8,
    /// The least and the greatest value that the next of them may have; after a failure the range is empty. Not
    /// looked at when nothing is missing.
    lower: u8,
    upper: u8,
}

impl Utf8Validator {
    /// Creates a validator that has seen nothing yet.
    #[inline]
    pub const fn new() -> Self {
        Self {
            missing: 0,
            lower: 0x80,
            upper: 0xbf,
        }
    }

    /// Takes the next part of the text.
    ///
    /// # Errors
    ///
    /// [`InvalidUtf8`] if `part` holds the first byte that rules out UTF-8, or if an earlier part did.
    #[inline]
    pub fn feed(&mut self, part: &[u8]) -> Result<(), InvalidUtf8> {
        if self.missing == 0 {
            self.feed_at_boundary(part)
        } else {
            self.feed_inside_character(part)
        }
    }

    /// Ends the text.
    ///
    /// # Errors
    ///
    /// [`InvalidUtf8`] if the text ends inside a character, or if it was invalid before.
    #[inline]
    pub const fn finish(&self) -> Result<(), InvalidUtf8> {
        if self.is_complete() {
            Ok(())
        } else {
            Err(InvalidUtf8)
        }
    }

    /// Returns whether everything so far is valid and ends with a whole character.
    #[inline]
    pub const fn is_complete(&self) -> bool {
        self.missing == 0
    }

    #[inline]
    fn feed_at_boundary(&mut self, part: &[u8]) -> Result<(), InvalidUtf8> {
        // Most messages are short and ASCII.
        if part.len() < 64 && part.is_ascii() {
            return Ok(());
        }
        self.feed_any(part)
    }

    fn feed_any(&mut self, part: &[u8]) -> Result<(), InvalidUtf8> {
        let Err(error) = simdutf8::compat::from_utf8(part) else {
            return Ok(());
        };
        // No error length means that the part ends inside a character which is possible so far.
        if error.error_len().is_some() {
            return self.fail();
        }
        match &part[error.valid_up_to()..] {
            [first, rest @ ..] => {
                self.begin(*first);
                rest.iter().try_for_each(|&byte| self.proceed(byte))
            }
            [] => Ok(()),
        }
    }

    #[cold]
    fn feed_inside_character(&mut self, part: &[u8]) -> Result<(), InvalidUtf8> {
        if self.lower > self.upper {
            return Err(InvalidUtf8);
        }
        let (rest_of_character, rest) = part.split_at(part.len().min(usize::from(self.missing)));
        rest_of_character
            .iter()
            .try_for_each(|&byte| self.proceed(byte))?;
        if rest.is_empty() {
            Ok(())
        } else {
            self.feed_at_boundary(rest)
        }
    }

    /// Notes what the character needs that begins with `first`, the first byte of a possible sequence of two or more.
    ///
    /// The table is that of Unicode (table 3-7) and RFC 3629 §4: the second byte's range excludes overlong forms,
    /// surrogates and values above U+10FFFF, all further bytes are 80..BF.
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
        *self = Self {
            missing: self.missing - 1,
            ..Self::new()
        };
        Ok(())
    }

    #[cold]
    fn fail(&mut self) -> Result<(), InvalidUtf8> {
        *self = Self {
            missing: 1,
            lower: 1,
            upper: 0,
        };
        Err(InvalidUtf8)
    }
}

impl Default for Utf8Validator {
    fn default() -> Self {
        Self::new()
    }
}
