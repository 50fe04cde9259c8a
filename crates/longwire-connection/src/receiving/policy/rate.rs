//! Limits on how much a peer may send over time.
//!
//! Owns only the arithmetic: the caller passes the time, and the reader acts on a refusal. The limits on a single
//! message belong to `longwire-protocol`.

use std::time::{Duration, Instant};

/// A limit on the rate at which a peer may send.
///
/// It counts whole messages and the bytes of their payloads, decompressed, as the application receives them.
/// Control frames do not count: at most one pong is owed, however many arrive.
///
/// # Examples
///
/// ```
/// use longwire_connection::{Config, Excess, Rate, RateLimit};
///
/// let rate_limit = RateLimit::default()
///     .with_messages(Rate::per_second(10).burst(30))
///     .with_bytes(Rate::per_second(64 * 1024))
///     .with_excess(Excess::Drop);
/// let config = Config::default().with_rate_limit(rate_limit);
/// # assert_eq!(config.rate_limit, Some(rate_limit));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RateLimit {
    /// The number of messages allowed. Default: unlimited.
    pub messages: Option<Rate>,
    /// The number of payload bytes allowed. Default: unlimited.
    ///
    /// A message passes as long as any of the burst is left, so a message longer than the burst is not refused
    /// forever. The excess must be made up before the next message passes.
    pub bytes: Option<Rate>,
    /// The handling of a message above the limit. Default: the connection is closed.
    pub excess: Excess,
}

impl RateLimit {
    /// Sets [`messages`](Self::messages).
    #[must_use]
    pub fn with_messages(mut self, messages: impl Into<Option<Rate>>) -> Self {
        self.messages = messages.into();
        self
    }

    /// Sets [`bytes`](Self::bytes).
    #[must_use]
    pub fn with_bytes(mut self, bytes: impl Into<Option<Rate>>) -> Self {
        self.bytes = bytes.into();
        self
    }

    /// Sets [`excess`](Self::excess).
    #[must_use]
    pub fn with_excess(mut self, excess: Excess) -> Self {
        self.excess = excess;
        self
    }
}

/// A rate per second, with a burst that is allowed at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    per_second: u64,
    burst: u64,
}

impl Rate {
    /// Allows `n` per second, and `n` at once after a second without any. 0 is treated as 1: to allow nothing, do
    /// not receive.
    #[must_use]
    pub const fn per_second(n: u64) -> Self {
        let n = if n == 0 { 1 } else { n };
        Self { per_second: n, burst: n }
    }

    /// Sets the number allowed at once. Default: the number per second. 0 is treated as 1.
    #[must_use]
    pub const fn burst(mut self, n: u64) -> Self {
        self.burst = if n == 0 { 1 } else { n };
        self
    }

    /// Returns the time that `n` take at this rate.
    fn time_of(self, n: u64) -> Duration {
        let nanos = u128::from(n) * 1_000_000_000 / u128::from(self.per_second);
        u64::try_from(nanos).map_or(Duration::MAX, Duration::from_nanos)
    }
}

/// The handling of a message above a [`RateLimit`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Excess {
    /// Closes the connection with code 1008 (policy violation); receiving ends with
    /// [`Error::RateExceeded`](crate::Error::RateExceeded). This is the default, because the peer then knows that a
    /// message was lost.
    #[default]
    Close,
    /// Drops the message without notifying the peer. [`Stats::messages_refused`](crate::Stats::messages_refused)
    /// counts it.
    Drop,
}

/// One peer's usage of its limit.
#[derive(Debug)]
pub(crate) struct Meter {
    messages: Option<Bucket>,
    bytes: Option<Bucket>,
    pub(crate) excess: Excess,
    /// Set while a message in parts that was admitted is being received.
    inside_message: bool,
}

impl Meter {
    pub(crate) fn new(limit: RateLimit, now: Instant) -> Self {
        Self {
            messages: limit.messages.map(|rate| Bucket { rate, settled: now }),
            bytes: limit.bytes.map(|rate| Bucket { rate, settled: now }),
            excess: limit.excess,
            inside_message: false,
        }
    }

    /// Charges a message of `len` bytes, and returns whether it may pass. A refused message costs nothing.
    pub(crate) fn admit_message(&mut self, len: usize, now: Instant) -> bool {
        self.inside_message = false;
        let has_room = |bucket: &Option<Bucket>| bucket.as_ref().is_none_or(|bucket| bucket.has_room(now));
        if !has_room(&self.messages) || !has_room(&self.bytes) {
            return false;
        }
        if let Some(messages) = &mut self.messages {
            messages.take(1, now);
        }
        if let Some(bytes) = &mut self.bytes {
            bytes.take(len as u64, now);
        }
        true
    }

    /// Charges a part of a message. Only the first part can be refused; later parts belong to the same message.
    pub(crate) fn admit_part(&mut self, len: usize, last: bool, now: Instant) -> bool {
        if self.inside_message {
            self.inside_message = !last;
            if let Some(bytes) = &mut self.bytes {
                bytes.take(len as u64, now);
            }
            return true;
        }
        let admitted = self.admit_message(len, now);
        self.inside_message = admitted && !last;
        admitted
    }

    /// Ends the metering of the message in parts, if one has begun: its rest does not arrive here.
    pub(crate) fn skip_rest(&mut self) {
        self.inside_message = false;
    }
}

/// A token bucket that stores only the time at which it will be full; nothing else is needed.
#[derive(Debug)]
struct Bucket {
    rate: Rate,
    /// The time at which everything that was charged is made up.
    settled: Instant,
}

impl Bucket {
    /// Returns whether at least one is left.
    fn has_room(&self, now: Instant) -> bool {
        let debt = self.settled.saturating_duration_since(now);
        debt.saturating_add(self.rate.time_of(1)) <= self.rate.time_of(self.rate.burst)
    }

    /// Charges `n`, even if fewer are left.
    fn take(&mut self, n: u64, now: Instant) {
        let from = self.settled.max(now);
        // If the clock cannot represent the result, a hundred years are added instead, or nothing if even that fails:
        // in practice, such a debt is never made up.
        self.settled =
            from.checked_add(self.rate.time_of(n)).or_else(|| from.checked_add(LONG)).unwrap_or(from);
    }
}

/// A hundred years.
const LONG: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(rate: Rate) -> RateLimit {
        RateLimit::default().with_messages(rate)
    }

    fn bytes(rate: Rate) -> RateLimit {
        RateLimit::default().with_bytes(rate)
    }

    /// Returns how many of `n` messages of `len` bytes pass at this time.
    fn pass(meter: &mut Meter, n: usize, len: usize, now: Instant) -> usize {
        (0..n).filter(|_| meter.admit_message(len, now)).count()
    }

    #[test]
    fn lets_a_burst_through_and_then_as_many_as_the_rate_says() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        for (case, rate, steps) in [
            ("a burst", Rate::per_second(10).burst(3), &[(0, 3), (99, 0), (100, 1), (100, 0), (300, 2)][..]),
            (
                "no more than a burst after silence",
                Rate::per_second(10).burst(3),
                &[(0, 3), (60_000, 3), (60_099, 0)],
            ),
            ("that of a second by default", Rate::per_second(5), &[(0, 5), (200, 1), (1200, 5)]),
            (
                "fractions of a second",
                Rate::per_second(3).burst(1),
                &[(0, 1), (333, 0), (334, 1), (667, 0), (668, 1)],
            ),
            ("nothing is taken for one", Rate::per_second(0).burst(0), &[(0, 1), (999, 0), (1000, 1)]),
            ("more than the clock has ticks", Rate::per_second(u64::MAX), &[(0, 1000), (1, 1000)]),
        ] {
            let mut meter = Meter::new(messages(rate), start);
            for &(millis, expected) in steps {
                let got = pass(&mut meter, 1000, 7, at(millis));
                assert_eq!(got, expected, "{case}: after {millis} ms");
            }
        }
    }

    #[test]
    fn a_message_longer_than_the_burst_passes_and_is_made_up_for() {
        let start = Instant::now();
        let mut meter = Meter::new(bytes(Rate::per_second(100).burst(200)), start);
        assert_eq!(pass(&mut meter, 9, 1000, start), 1);
        let after = |millis| start + Duration::from_millis(millis);
        assert_eq!(pass(&mut meter, 1, 1, after(8009)), 0);
        assert_eq!(pass(&mut meter, 1, 1, after(8010)), 1, "a byte of the burst is left");
    }

    #[test]
    fn lengths_beyond_the_clock_are_never_made_up() {
        let start = Instant::now();
        let mut meter = Meter::new(bytes(Rate::per_second(1)), start);
        for _ in 0..3 {
            meter.admit_part(usize::MAX, false, start);
        }
        assert_eq!(pass(&mut meter, 1, 0, start + LONG / 2), 0);
    }

    #[test]
    fn what_one_limit_refuses_costs_nothing_of_the_other() {
        let start = Instant::now();
        let limit = RateLimit::default()
            .with_messages(Rate::per_second(1).burst(2))
            .with_bytes(Rate::per_second(1000).burst(10))
            .with_excess(Excess::Drop);
        let mut meter = Meter::new(limit, start);
        assert_eq!(pass(&mut meter, 5, 10, start), 1, "of bytes there are none left");
        let later = start + Duration::from_millis(10);
        assert_eq!(pass(&mut meter, 5, 1, later), 1, "of messages there is one");
        assert_eq!(pass(&mut meter, 5, 0, later), 0);
    }

    #[test]
    fn parts_are_one_message_and_only_the_first_is_refused() {
        let start = Instant::now();
        let mut meter =
            Meter::new(messages(Rate::per_second(10).burst(2)).with_bytes(Rate::per_second(10)), start);
        for last in [false, false, true] {
            assert!(meter.admit_part(100, last, start));
        }
        assert!(!meter.admit_part(1, false, start), "the parts' bytes were taken");
        assert!(!meter.admit_part(1, true, start), "still no message inside of which this would be");
        let paid = start + Duration::from_secs(30);
        assert!(meter.admit_part(1, false, paid));
        meter.skip_rest();
        assert!(meter.admit_part(1, false, paid), "a message of its own, the second");
        meter.skip_rest();
        assert!(!meter.admit_part(1, false, paid), "the third");
    }
}
