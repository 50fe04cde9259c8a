//! Text payloads: [`Bytes`] that are known to be UTF-8 (RFC 6455 §5.6).
//!
//! Owns the places where validated bytes become a `str` without a second check. The check itself belongs to
//! [`Utf8Validator`](longwire_frame::Utf8Validator).

use std::borrow::{Borrow, Cow};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;

use bytes::Bytes;

/// A text payload: cheap to clone, always valid UTF-8, readable as `&str`.
///
/// Clones share the bytes. It derefs to `str`, so everything that takes a `&str` takes a `&Text`.
///
/// # Examples
///
/// ```
/// use longwire_protocol::Text;
///
/// let text = Text::from("κόσμε");
/// assert_eq!(text, "κόσμε");
/// assert_eq!(text.len(), 10); // bytes, as for every `str`
/// assert!(Text::try_from(vec![0xff]).is_err());
/// ```
#[derive(Clone, Default)]
pub struct Text {
    /// Invariant: valid UTF-8. Every constructor checks or starts from a `str`.
    bytes: Bytes,
}

impl Text {
    /// Creates an empty text.
    pub const fn new() -> Self {
        Self { bytes: Bytes::new() }
    }

    /// Wraps a string that lives as long as the program, without copying it.
    pub const fn from_static(text: &'static str) -> Self {
        Self { bytes: Bytes::from_static(text.as_bytes()) }
    }

    /// Wraps bytes that the incremental validator has accepted up to and including the end.
    pub(crate) fn from_validated(bytes: Bytes) -> Self {
        debug_assert!(std::str::from_utf8(&bytes).is_ok());
        Self { bytes }
    }

    /// Returns the text as a string slice.
    #[inline]
    #[allow(unsafe_code)] // A second validation costs 1 µs for each 64 KiB each time the text is read.
    pub fn as_str(&self) -> &str {
        // SAFETY: `bytes` is valid UTF-8 by the invariant of the field. All constructors are in this module: they start
        // from `str`/`String`, run `str::from_utf8`, or (`from_validated`) are called in this crate with bytes that
        // `Utf8Validator::finish` accepted or that were taken from a `Text`. Nothing changes the bytes afterwards.
        unsafe { std::str::from_utf8_unchecked(&self.bytes) }
    }

    /// Returns the text as the shared bytes that carry it.
    pub fn as_bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Consumes the text and returns the shared bytes that carry it.
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }
}

/// Returns bytes that the incremental validator has accepted up to and including the end as a string slice.
#[inline]
#[allow(unsafe_code)] // As for `Text::as_str`: a second validation costs more than everything else done for a message.
pub(crate) fn str_of_validated(bytes: &[u8]) -> &str {
    debug_assert!(std::str::from_utf8(bytes).is_ok());
    // SAFETY: `Inbound::decode_in_place` is the only caller, through `MessageRef::from_validated`, and calls it only
    // after `Utf8Validator::feed` and `finish` have accepted exactly these bytes. They are borrowed from then on, so
    // nothing changes them.
    unsafe { std::str::from_utf8_unchecked(bytes) }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<str> for Text {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<[u8]> for Text {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Borrow<str> for Text {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self { bytes: Bytes::from(text) }
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self { bytes: Bytes::copy_from_slice(text.as_bytes()) }
    }
}

impl From<&String> for Text {
    fn from(text: &String) -> Self {
        text.as_str().into()
    }
}

impl From<Cow<'_, str>> for Text {
    fn from(text: Cow<'_, str>) -> Self {
        match text {
            Cow::Borrowed(text) => text.into(),
            Cow::Owned(text) => text.into(),
        }
    }
}

impl From<Box<str>> for Text {
    fn from(text: Box<str>) -> Self {
        text.into_string().into()
    }
}

/// Shares the string, which is not copied.
impl From<Arc<str>> for Text {
    fn from(text: Arc<str>) -> Self {
        struct Owner(Arc<str>);

        impl AsRef<[u8]> for Owner {
            fn as_ref(&self) -> &[u8] {
                self.0.as_bytes()
            }
        }

        Self { bytes: Bytes::from_owner(Owner(text)) }
    }
}

impl From<Text> for Bytes {
    fn from(text: Text) -> Self {
        text.bytes
    }
}

impl From<Text> for String {
    fn from(text: Text) -> Self {
        text.as_str().to_owned()
    }
}

impl TryFrom<Bytes> for Text {
    type Error = std::str::Utf8Error;

    fn try_from(bytes: Bytes) -> Result<Self, Self::Error> {
        std::str::from_utf8(&bytes)?;
        Ok(Self { bytes })
    }
}

impl TryFrom<Vec<u8>> for Text {
    type Error = std::string::FromUtf8Error;

    fn try_from(bytes: Vec<u8>) -> Result<Self, Self::Error> {
        String::from_utf8(bytes).map(Self::from)
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.as_str(), f)
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for Text {}

impl PartialEq<str> for Text {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for Text {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl PartialEq<String> for Text {
    fn eq(&self, other: &String) -> bool {
        self.as_str() == other
    }
}

impl PartialOrd for Text {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Text {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl Hash for Text {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state); // as `str` does, because of `Borrow<str>`
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn refuses_bytes_that_are_not_utf8() {
        for (case, bytes) in [
            ("lone continuation", &b"\x80"[..]),
            ("overlong", b"\xc0\xaf"),
            ("surrogate", b"\xed\xa0\x80"),
            ("cut", b"a\xe2\x82"),
        ] {
            assert!(Text::try_from(bytes.to_vec()).is_err(), "{case}");
            assert!(Text::try_from(Bytes::copy_from_slice(bytes)).is_err(), "{case}");
        }
    }

    #[test]
    fn is_found_in_a_map_by_its_str() {
        let map = HashMap::from([(Text::from("key"), 1)]);
        assert_eq!(map.get("key"), Some(&1));
    }
}
