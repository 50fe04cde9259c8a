//! The wait before the next attempt.
//!
//! This module owns the steps and their jitter. [`super::task`] decides when an attempt fails and whether another
//! follows.

use std::time::Duration;

use crate::random;

/// The waits between connection attempts.
///
/// After the `n`-th failure in a row, the step is [`first`](Self::first) doubled `n - 1` times, at most
/// [`max`](Self::max). [`jitter`](Self::jitter) determines how the wait is drawn from it.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use longwire_client::reconnect::{Backoff, Jitter};
///
/// let backoff = Backoff::default().with_first(Duration::from_secs(1)).with_jitter(Jitter::None);
/// assert_eq!(backoff.wait(1), Duration::from_secs(1));
/// assert_eq!(backoff.wait(4), Duration::from_secs(8));
/// assert_eq!(backoff.wait(100), Duration::from_secs(30));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Backoff {
    /// The first step. Default 500 ms: long enough for a server to restart, short enough to go unnoticed.
    pub first: Duration,
    /// The longest step. Default 30 s.
    pub max: Duration,
    /// The rule for drawing a wait from its step. Default [`Jitter::Equal`].
    pub jitter: Jitter,
    /// The time that a connection must last for earlier failures to be forgotten. Default 10 s.
    ///
    /// A connection that is lost sooner adds to the failures, so a server that accepts and hangs up is not retried at
    /// an ever faster rate.
    pub reset_after: Duration,
    /// The longest time to wait because of a server's or proxy's [`Retry-After`](super::Outage::retry_after). Default
    /// 5 min: ten times the longest step, so that a value that is too large by mistake does not disconnect clients for
    /// hours. Zero ignores the field.
    ///
    /// The time requested, up to this limit, is added to the wait of the step. The step keeps clients apart that were
    /// all given the same date.
    pub max_retry_after: Duration,
}

/// The rule for drawing a wait from a step of a [`Backoff`]. Clients that lost the same server must not all return at
/// once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Jitter {
    /// The whole step. For tests, and if there is only one client.
    None,
    /// Between half the step and the whole step: no attempt follows immediately.
    Equal,
    /// Between zero and the whole step, which spreads clients best.
    Full,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(500),
            max: Duration::from_secs(30),
            jitter: Jitter::Equal,
            reset_after: Duration::from_secs(10),
            max_retry_after: Duration::from_secs(5 * 60),
        }
    }
}

impl Backoff {
    /// Sets [`first`](Self::first).
    #[must_use]
    pub fn with_first(mut self, first: Duration) -> Self {
        self.first = first;
        self
    }

    /// Sets [`max`](Self::max).
    #[must_use]
    pub fn with_max(mut self, max: Duration) -> Self {
        self.max = max;
        self
    }

    /// Sets [`jitter`](Self::jitter).
    #[must_use]
    pub fn with_jitter(mut self, jitter: Jitter) -> Self {
        self.jitter = jitter;
        self
    }

    /// Sets [`reset_after`](Self::reset_after).
    #[must_use]
    pub fn with_reset_after(mut self, reset_after: Duration) -> Self {
        self.reset_after = reset_after;
        self
    }

    /// Sets [`max_retry_after`](Self::max_retry_after).
    #[must_use]
    pub fn with_max_retry_after(mut self, max_retry_after: Duration) -> Self {
        self.max_retry_after = max_retry_after;
        self
    }
}

impl Backoff {
    /// Draws the wait after the `failures`-th failure in a row, counted from 1.
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

    /// Draws the wait after the `failures`-th failure in a row, for which a server may have requested a minimum.
    pub(super) fn wait_after(&self, failures: u32, requested: Option<Duration>) -> Duration {
        let requested = requested.unwrap_or_default().min(self.max_retry_after);
        self.wait(failures).saturating_add(requested)
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
            let backoff = Backoff::default()
                .with_first(SECOND)
                .with_max(4 * SECOND)
                .with_jitter(jitter)
                .with_reset_after(SECOND);
            for failures in [3, 4, 32, 33, 34, u32::MAX] {
                let waits: Vec<_> = (0..200).map(|_| backoff.wait(failures)).collect();
                assert!(waits.iter().all(|wait| (from..=4 * SECOND).contains(wait)), "{case}: {waits:?}");
                // 200 draws all miss a given tenth of the range once in 10⁹ times.
                assert!(waits.iter().any(|wait| *wait <= from + range / 10), "{case}, low: {waits:?}");
                assert!(waits.iter().any(|wait| *wait >= from + range / 10 * 9), "{case}, high: {waits:?}");
            }
        }
    }

    #[test]
    fn steps_double_up_to_the_longest_and_do_not_overflow() {
        let mut backoff = Backoff::default().with_jitter(Jitter::None);
        let steps: Vec<_> = (0..9).map(|failures| backoff.wait(failures).as_millis()).collect();
        assert_eq!(steps, [500, 500, 1000, 2000, 4000, 8000, 16000, 30000, 30000]);
        (backoff.first, backoff.max) = (Duration::MAX, Duration::MAX);
        assert_eq!(backoff.wait(u32::MAX), Duration::MAX);
        backoff.max = Duration::ZERO;
        assert_eq!(backoff.wait(5), Duration::ZERO);
    }
}
