//! User and password, from a URI and as a value of `Authorization` (RFC 7617).

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::HeaderValue;

use crate::field::ascii_value;

/// A user and a password without control characters. `Debug` hides both.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    user: Vec<u8>,
    password: Vec<u8>,
}

/// A user or a password that cannot be sent.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("user name or password contains control characters, or the user name a colon")]
pub struct InvalidLogin;

longwire_frame::debug_with_causes!(InvalidLogin);

impl Login {
    /// Takes a user and a password; each may be empty.
    ///
    /// # Errors
    ///
    /// [`InvalidLogin`] if either contains a control character, such as a line break.
    pub fn new(user: impl Into<Vec<u8>>, password: impl Into<Vec<u8>>) -> Result<Self, InvalidLogin> {
        let (user, password) = (user.into(), password.into());
        // "The user-id and password MUST NOT contain any control characters" (RFC 7617 §2)
        if user.iter().chain(&password).any(u8::is_ascii_control) {
            return Err(InvalidLogin);
        }
        Ok(Self { user, password })
    }

    /// Reads the part of a URI before the `@` and percent-decodes it. Returns `None` if it is empty.
    pub(crate) fn from_userinfo(userinfo: &str) -> Result<Option<Self>, InvalidLogin> {
        if userinfo.is_empty() {
            return Ok(None);
        }
        let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
        Self::new(percent_decoded(user), percent_decoded(password)).map(Some)
    }

    /// Returns the user.
    pub fn user(&self) -> &[u8] {
        &self.user
    }

    /// Returns the password.
    pub fn password(&self) -> &[u8] {
        &self.password
    }

    /// Returns the value of an `Authorization` or `Proxy-Authorization` field: `Basic` and both in base64, marked
    /// sensitive.
    ///
    /// # Errors
    ///
    /// [`InvalidLogin`] if the user contains a colon.
    pub fn basic(&self) -> Result<HeaderValue, InvalidLogin> {
        // "a user-id containing a colon character is invalid" (RFC 7617 §2)
        if self.user.contains(&b':') {
            return Err(InvalidLogin);
        }
        let plain = [&self.user[..], b":", &self.password].concat();
        let mut value = ascii_value(&format!("Basic {}", BASE64.encode(plain)));
        value.set_sensitive(true);
        Ok(value)
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Login(..)")
    }
}

/// Decodes percent escapes (RFC 3986 §2.1). Everything else, including an invalid escape, is left unchanged.
fn percent_decoded(text: &str) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, behind)) = rest.split_first() {
        let escaped = match behind {
            [high, low, ..] if first == b'%' => hex_digit(*high).zip(hex_digit(*low)),
            _ => None,
        };
        decoded.push(escaped.map_or(first, |(high, low)| 16 * high + low));
        rest = if escaped.is_some() { &behind[2..] } else { behind };
    }
    decoded
}

fn hex_digit(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hides_a_login() {
        let login = Login::new("user", "secret").unwrap();
        assert_eq!(format!("{login:?} {:?}", login.basic()), "Login(..) Ok(Sensitive)");
    }

    #[test]
    fn a_login_has_both_of_its_parts() {
        for (userinfo, user, password) in [
            ("Ada", &b"Ada"[..], &b""[..]),
            ("Ada:", b"Ada", b""),
            (":secret", b"", b"secret"),
            ("A%3Ada:se:cr%40et", b"A:da", b"se:cr@et"),
        ] {
            let login = Login::from_userinfo(userinfo).unwrap().unwrap();
            assert_eq!((login.user(), login.password()), (user, password), "{userinfo}");
        }
    }

    #[test]
    fn escapes_are_decoded_and_nothing_else_is() {
        for (text, decoded) in [
            ("", &b""[..]),
            ("Ada", b"Ada"),
            ("a%3Ab%40%2f", b"a:b@/"),
            ("%C3%bc%ff%00", b"\xc3\xbc\xff\0"),
            ("%", b"%"),
            ("%4", b"%4"),
            ("a%4", b"a%4"),
            ("%4g%g4%%41", b"%4g%g4%A"),
            ("%+1%-1", b"%+1%-1"),
            ("%25%34%31+", b"%41+"),
            ("ü%41", "üA".as_bytes()),
        ] {
            assert_eq!(percent_decoded(text), decoded, "{text}");
        }
    }
}
