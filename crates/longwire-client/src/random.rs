//! Randomness: the nonce of a handshake and the masking keys of its frames (RFC 6455 §4.1, §10.3).
//!
//! Both come from `ThreadRng`, which the operating system seeds and reseeds: "the masking key MUST be
//! derived from a strong source of entropy", or a page could choose what a proxy sees on the wire. The same generator spreads
//! attempts to connect again, where any would do.

use std::time::Duration;

use longwire_connection::MaskingKey;
use longwire_handshake::Key;

/// Makes the nonce of one connection.
pub(crate) fn nonce() -> Key {
    Key::new(rand::random())
}

/// Makes the masking key of one frame.
pub(crate) fn masking_key() -> MaskingKey {
    MaskingKey::new(rand::random())
}

/// Picks a time between the two, both included; `from` if they are the wrong way round.
pub(crate) fn between(from: Duration, to: Duration) -> Duration {
    rand::random_range(from..=to.max(from))
}
