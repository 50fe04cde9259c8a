//! How long to wait before the next attempt.
//!
//! Owns the steps and their jitter. When an attempt fails and whether there is another is [`super::task`]'s.

use std::time::Duration;

use crate::random;

/// How long to wait before attempts to connect.
///
/// Behind the `n`-th failure in a row the step is [`first`](Self::first) doubled `n - 1` times, at most
/// [`max`](Self::max); [`jitter`](Self::jitter) says how the wait is drawn from it.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use longwire_client::reconnect::{Backoff, Jitter};
///
/// let backoff = Backoff { first: Duration::from_secs(1), jitter: Jitter::None, ..Backoff::default() };
/// assert_eq!(backoff.wait(1), Duration::from_secs(1));
/// assert_eq!(backoff.wait(4), Duration::from_secs(8));
/// assert_eq!(backoff.wait(100), Duration::from_secs(30));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The first step. Default 500 ms: long enough for a server to be restarted, short enough not to be noticed.
    pub first: Duration,
    /// The longest step. Default 30 s.
    pub max: Duration,
    /// How a wait is drawn from its step. Default [`Jitter::Equal`].
    pub jitter: Jitter,
    /// How long a connection has to last for the failures before it to be forgotten. Default 10 s.
    ///
    /// One that is lost sooner counts as a failure: a server that accepts and hangs up is not asked ever faster.
    pub reset_after: Duration,
}

/// How a wait is drawn from a step of a [`Backoff`]. Clients that lost the same server must not come back all at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Jitter {
    /// The whole step. For tests, and where there is one client.
    None,
    /// Between half the step and all of it: no attempt comes at once.
    Equal,
    /// Between nothing and the whole step: spreads best.
    Full,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(500),
            max: Duration::from_secs(30),
            jitter: Jitter::Equal,
            reset_after: Duration::from_secs(10),
        }
    }
}

impl Backoff {
    /// Draws the wait behind the `failures`-th failure in a row, counted from 1.
    #[must_use]
    pub fn wait(&self, failures: u32) -> Duration {
        let factor = 1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
        let step = self.first.saturating_mul(factor).min(self.max);
        match self.jitter {
            Jitter::None => step,
            Jitter::Equal => random::between(step / 2, step),
            Jitter::Full => random::between(Duration::ZERO, step),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_stay_in_their_range_and_use_all_of_it() {
        const SECOND: Duration = Duration::from_secs(1);
        for (case, jitter, from, range) in [
            ("none", Jitter::None, 4 * SECOND, Duration::ZERO),
            ("equal", Jitter::Equal, 2 * SECOND, 2 * SECOND),
            ("full", Jitter::Full, Duration::ZERO, 4 * SECOND),
        ] {
            let backoff = Backoff { first: SECOND, max: 4 * SECOND, jitter, reset_after: SECOND };
            for failures in [3, 4, 32, 33, 34, u32::MAX] {
                let waits: Vec<_> = (0..200).map(|_| backoff.wait(failures)).collect();
                assert!(waits.iter().all(|wait| (from..=4 * SECOND).contains(wait)), "{case}: {waits:?}");
                // One of 200 draws misses a given tenth of the range once in 10⁹ times.
                assert!(waits.iter().any(|wait| *wait <= from + range / 10), "{case}, low: {waits:?}");
                assert!(waits.iter().any(|wait| *wait >= from + range / 10 * 9), "{case}, high: {waits:?}");
            }
        }
    }

    #[test]
    fn steps_double_up_to_the_longest_and_do_not_overflow() {
        let mut backoff = Backoff { jitter: Jitter::None, ..Backoff::default() };
        let steps: Vec<_> = (0..9).map(|failures| backoff.wait(failures).as_millis()).collect();
        assert_eq!(steps, [500, 500, 1000, 2000, 4000, 8000, 16000, 30000, 30000]);
        (backoff.first, backoff.max) = (Duration::MAX, Duration::MAX);
        assert_eq!(backoff.wait(u32::MAX), Duration::MAX);
        backoff.max = Duration::ZERO;
        assert_eq!(backoff.wait(5), Duration::ZERO);
    }
}
