//! The handshake's key and the server's response to it (RFC 6455 §4.1 step 7, §4.2.2 step 5.4).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::HeaderValue;
use sha1::{Digest, Sha1};

use crate::field::ascii_value;

/// The nonce of one opening handshake: 16 bytes chosen at random by the client.
///
/// It proves that the server speaks WebSocket; it is not a secret. The caller supplies the bytes: "The nonce MUST
/// be selected randomly for each connection" (RFC 6455 §4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key([u8; 16]);

impl Key {
    /// Creates a key from 16 fresh random bytes.
    pub const fn new(nonce: [u8; 16]) -> Self {
        Self(nonce)
    }

    /// Reads the value of a `Sec-WebSocket-Key` field.
    ///
    /// Only the canonical base64 form of exactly 16 bytes is valid: padded, and with the unused bits zero.
    pub fn parse(value: &[u8]) -> Result<Self, InvalidKey> {
        // 24 characters decode to at most 18 bytes; the decoder rejects a longer value.
        let mut decoded = [0; 18];
        let len = BASE64.decode_slice(value, &mut decoded).map_err(|_| InvalidKey(()))?;
        <[u8; 16]>::try_from(&decoded[..len]).map(Self).map_err(|_| InvalidKey(()))
    }

    /// Returns the value of the request's `Sec-WebSocket-Key` field.
    pub fn to_header_value(self) -> HeaderValue {
        ascii_value(&BASE64.encode(self.0))
    }

    /// Returns the value that the server must send in response to this key.
    pub fn accept(self) -> AcceptKey {
        let digest = Sha1::new().chain_update(BASE64.encode(self.0)).chain_update(ACCEPT_GUID).finalize();
        AcceptKey(BASE64.encode(digest))
    }
}

/// The server's response to a [`Key`]: the value of `Sec-WebSocket-Accept`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcceptKey(String);

impl AcceptKey {
    /// Returns the value as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the value of the response's `Sec-WebSocket-Accept` field.
    pub fn to_header_value(&self) -> HeaderValue {
        ascii_value(&self.0)
    }
}

/// A `Sec-WebSocket-Key` that is not the base64 form of 16 bytes (RFC 6455 §4.2.1).
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("key is not the canonical base64 form of exactly 16 bytes")]
pub struct InvalidKey(());

longwire_frame::debug_with_causes!(InvalidKey);

/// The constant that is appended to the key before hashing (RFC 6455 §1.3).
const ACCEPT_GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_the_example_of_rfc_6455() {
        let key = Key::parse(b"dGhlIHNhbXBsZSBub25jZQ==").unwrap();
        assert_eq!(key, Key::new(*b"the sample nonce"));
        assert_eq!(key.to_header_value(), "dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(key.accept().as_str(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn refuses_what_is_not_sixteen_bytes_in_canonical_form() {
        for (case, value) in [
            ("empty", &b""[..]),
            ("15 bytes", b"dGhlIHNhbXBsZSBub25j"),
            ("17 bytes", b"dGhlIHNhbXBsZSBub25jZTE="),
            ("18 bytes", b"dGhlIHNhbXBsZSBub25jZTEy"),
            ("no padding", b"dGhlIHNhbXBsZSBub25jZQ"),
            ("half the padding", b"dGhlIHNhbXBsZSBub25jZQ="),
            ("unused bits set", b"dGhlIHNhbXBsZSBub25jZR=="),
            ("URL alphabet", b"_-hlIHNhbXBsZSBub25jZQ=="),
            ("foreign character", b"dGhlIHNhbXBs!SBub25jZQ=="),
            ("inner space", b"dGhlIHNhbXBs SBub25jZQ=="),
            ("padding inside", b"dGhlIHNh==BsZSBub25jZQ=="),
        ] {
            assert_eq!(Key::parse(value), Err(InvalidKey(())), "{case}");
        }
    }
}
