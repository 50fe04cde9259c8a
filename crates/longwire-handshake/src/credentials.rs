//! User and password: from a URI, and as a value of `Authorization` (RFC 7617).

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::HeaderValue;
use percent_encoding::percent_decode_str;

use crate::field::ascii_value;

/// A user and a password, neither with control characters. `Debug` hides both.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    user: Vec<u8>,
    password: Vec<u8>,
}

/// A user or a password that cannot be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("user and password have control characters, or the user a colon")]
pub struct InvalidLogin;

impl Login {
    /// Takes a user and a password; each may be empty.
    ///
    /// # Errors
    ///
    /// [`InvalidLogin`] if one has a control character, such as a line break.
    pub fn new(user: impl Into<Vec<u8>>, password: impl Into<Vec<u8>>) -> Result<Self, InvalidLogin> {
        let (user, password) = (user.into(), password.into());
        // "The user-id and password MUST NOT contain any control characters" (RFC 7617 §2)
        if user.iter().chain(&password).any(u8::is_ascii_control) {
            return Err(InvalidLogin);
        }
        Ok(Self { user, password })
    }

    /// Reads the part of a URI before the `@`, percent-decoded; `None` if it is empty.
    pub(crate) fn from_userinfo(userinfo: &str) -> Result<Option<Self>, InvalidLogin> {
        if userinfo.is_empty() {
            return Ok(None);
        }
        let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
        let decoded = |text| percent_decode_str(text).collect::<Vec<u8>>();
        Self::new(decoded(user), decoded(password)).map(Some)
    }

    /// Returns the user.
    pub fn user(&self) -> &[u8] {
        &self.user
    }

    /// Returns the password.
    pub fn password(&self) -> &[u8] {
        &self.password
    }

    /// Returns the value of an `Authorization` or `Proxy-Authorization` field: `Basic` and both in base64, marked sensitive.
    ///
    /// # Errors
    ///
    /// [`InvalidLogin`] if the user has a colon.
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
