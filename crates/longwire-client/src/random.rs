//! Randomness: the nonce of a handshake, and the times of reconnection attempts.

use std::time::Duration;

use longwire_connection::random::random;
use longwire_handshake::Key;

/// Returns the nonce of one connection (RFC 6455 §4.1).
pub(crate) fn nonce() -> Key {
    Key::new(random())
}

/// Returns a random duration from `from` to `to`; `from` if `to` is shorter.
pub(crate) fn between(from: Duration, to: Duration) -> Duration {
    // 53 bits, so that the fraction is less than one.
    #[allow(clippy::cast_precision_loss)]
    let fraction = (u64::from_ne_bytes(random()) >> 11) as f64 / (1_u64 << 53) as f64;
    from + to.saturating_sub(from).mul_f64(fraction)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_spread_between_their_bounds() {
        let (from, to) = (Duration::from_millis(500), Duration::from_millis(1500));
        let drawn: Vec<_> = (0..1000).map(|_| between(from, to)).collect();
        assert!(drawn.iter().all(|time| (from..=to).contains(time)));
        // The chance that a tenth of the range is never drawn is less than 10^-40.
        assert!(drawn.iter().any(|time| *time < Duration::from_millis(600)));
        assert!(drawn.iter().any(|time| *time > Duration::from_millis(1400)));
        assert_eq!(between(to, from), to);
        assert_eq!(between(Duration::MAX, Duration::MAX), Duration::MAX);
        assert!(between(Duration::ZERO, Duration::MAX) < Duration::MAX);
    }
}
