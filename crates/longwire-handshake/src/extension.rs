//! The grammar of `Sec-WebSocket-Extensions` (RFC 6455 §9.1).
//!
//! Owns only the syntax. The extension's negotiation decides what its parameters mean, which combinations are
//! allowed and whether one may be repeated.

use std::fmt;

use http::HeaderValue;

use crate::field::is_token_byte;

/// One element of a `Sec-WebSocket-Extensions` list: an offer in a request, an agreement in a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtensionOffer {
    name: String,
    params: Vec<ExtensionParam>,
}

impl ExtensionOffer {
    /// Reads the list in all `Sec-WebSocket-Extensions` fields of a message, in order of preference.
    ///
    /// Takes time linear in the length of the fields. Parameters are kept unchanged, including unknown and repeated
    /// ones. Whitespace is allowed around `,`, `;` and `=`; an empty element is an error.
    pub fn parse_list<'a>(
        values: impl IntoIterator<Item = &'a HeaderValue>,
    ) -> Result<Vec<Self>, ExtensionError> {
        let mut offers = Vec::new();
        for value in values {
            let mut cursor = Cursor { bytes: value.as_bytes(), at: 0 };
            loop {
                offers.push(cursor.offer()?);
                match cursor.next() {
                    None => break,
                    Some(b',') => {}
                    Some(_) => return Err(cursor.unexpected_before()),
                }
            }
        }
        Ok(offers)
    }

    /// Returns the extension's name as the peer wrote it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the parameters in the peer's order; the same name may occur more than once.
    pub fn params(&self) -> &[ExtensionParam] {
        &self.params
    }
}

impl fmt::Display for ExtensionOffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        for param in &self.params {
            match &param.value {
                Some(value) => write!(f, "; {}={value}", param.name)?,
                None => write!(f, "; {}", param.name)?,
            }
        }
        Ok(())
    }
}

/// One parameter of an [`ExtensionOffer`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtensionParam {
    name: String,
    value: Option<String>,
}

impl ExtensionParam {
    /// Returns the parameter's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the value without its quotes and escapes; `None` if there is no `=`.
    pub fn value(&self) -> Option<&str> {
        self.value.as_deref()
    }
}

/// A `Sec-WebSocket-Extensions` field that breaks its grammar (RFC 6455 §9.1); positions count bytes from 0.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExtensionError {
    /// A byte that the grammar does not allow here.
    #[error("unexpected byte {byte:#04x} at position {at} of the list of extensions")]
    Unexpected {
        /// The byte.
        byte: u8,
        /// The position of the byte in its field.
        at: usize,
    },
    /// The field ends before a name, a value or a closing quote that must follow.
    #[error("the list of extensions ends too early")]
    UnexpectedEnd,
    /// A quoted value is empty or contains a character that is not allowed in a token.
    // "When using the quoted-string syntax variant, the value after quoted-string unescaping MUST conform to the
    // 'token' ABNF" (RFC 6455 §9.1)
    #[error("the quoted value before position {at} of the list of extensions is not a token")]
    QuotedNotAToken {
        /// The position of the closing quote or the invalid byte in its field.
        at: usize,
    },
}

longwire_frame::debug_with_causes!(ExtensionError);

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    fn offer(&mut self) -> Result<ExtensionOffer, ExtensionError> {
        self.skip_whitespace();
        let name = self.token()?;
        let mut params = Vec::new();
        self.skip_whitespace();
        while self.peek() == Some(b';') {
            self.at += 1;
            self.skip_whitespace();
            params.push(self.param()?);
            self.skip_whitespace();
        }
        Ok(ExtensionOffer { name, params })
    }

    fn param(&mut self) -> Result<ExtensionParam, ExtensionError> {
        let name = self.token()?;
        self.skip_whitespace();
        if self.peek() != Some(b'=') {
            return Ok(ExtensionParam { name, value: None });
        }
        self.at += 1;
        self.skip_whitespace();
        let value = if self.peek() == Some(b'"') { self.quoted()? } else { self.token()? };
        Ok(ExtensionParam { name, value: Some(value) })
    }

    fn token(&mut self) -> Result<String, ExtensionError> {
        let mut token = String::new();
        while let Some(byte) = self.peek().filter(|&byte| is_token_byte(byte)) {
            token.push(char::from(byte));
            self.at += 1;
        }
        if !token.is_empty() {
            return Ok(token);
        }
        match self.peek() {
            Some(byte) => Err(ExtensionError::Unexpected { byte, at: self.at }),
            None => Err(ExtensionError::UnexpectedEnd),
        }
    }

    fn quoted(&mut self) -> Result<String, ExtensionError> {
        self.at += 1;
        let mut value = String::new();
        loop {
            let at = self.at;
            let byte = match self.next().ok_or(ExtensionError::UnexpectedEnd)? {
                b'"' if value.is_empty() => return Err(ExtensionError::QuotedNotAToken { at }),
                b'"' => return Ok(value),
                b'\\' => self.next().ok_or(ExtensionError::UnexpectedEnd)?,
                byte => byte,
            };
            if !is_token_byte(byte) {
                return Err(ExtensionError::QuotedNotAToken { at });
            }
            value.push(char::from(byte));
        }
    }

    fn skip_whitespace(&mut self) {
        while let Some(b' ' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    /// Returns the error for the byte that [`next`](Self::next) has just returned.
    fn unexpected_before(&self) -> ExtensionError {
        let at = self.at - 1;
        ExtensionError::Unexpected { byte: self.bytes[at], at }
    }
}
