//! Randomness: the nonce of a handshake and the masking keys of its frames (RFC 6455 §4.1, §10.3).
//!
//! Both come from `ThreadRng`, which the operating system seeds and reseeds: "the masking key MUST be derived from a
//! strong source of entropy". Otherwise a page could choose the bytes that a proxy sees on the wire. The same
//! generator spreads reconnection attempts over time, for which any generator would do.

use std::time::Duration;

use longwire_connection::MaskingKey;
use longwire_handshake::Key;

/// Returns the nonce of one connection.
pub(crate) fn nonce() -> Key {
    Key::new(rand::random())
}

/// Returns the masking key of one frame.
pub(crate) fn masking_key() -> MaskingKey {
    MaskingKey::new(rand::random())
}

/// Returns a random duration from `from` to `to`, both included; `from` if `to` is shorter.
pub(crate) fn between(from: Duration, to: Duration) -> Duration {
    rand::random_range(from..=to.max(from))
}
