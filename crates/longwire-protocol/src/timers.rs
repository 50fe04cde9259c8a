//! Deadlines: keepalive and the closing handshake's limit, as values.
//!
//! Owns what is due and when. Reading the clock and sleeping belong to the caller, who passes `now` in.

use std::time::{Duration, Instant};

/// The times after which a silent peer is pinged and given up.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use longwire_protocol::Keepalive;
///
/// let impatient = Keepalive::default().with_interval(Duration::from_secs(5));
/// assert_eq!(impatient.timeout, Duration::from_secs(20));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Keepalive {
    /// The silence after which a ping is sent. Default 30 s.
    ///
    /// The clock is not read for each message, so a ping follows the last byte from the peer after one interval at the
    /// earliest and one and a quarter at the latest: 37.5 s with the default, below the idle limits of common proxies
    /// (60 s).
    pub interval: Duration,
    /// The time that the peer then has for a sign of life before the connection counts as lost. Default 20 s.
    pub timeout: Duration,
}

impl Default for Keepalive {
    fn default() -> Self {
        Self { interval: Duration::from_secs(30), timeout: Duration::from_secs(20) }
    }
}

impl Keepalive {
    /// Sets [`interval`](Self::interval).
    #[must_use]
    pub fn with_interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// Sets [`timeout`](Self::timeout).
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }
}

/// The action that an expired deadline calls for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Nothing: the deadline has moved.
    Nothing,
    /// A ping: the peer was silent for an interval.
    Ping,
    /// The end: the peer did not answer a keepalive ping in time.
    PeerGone,
    /// The end: the closing handshake took too long.
    CloseTimedOut,
}

/// The deadlines of one connection.
///
/// While the peer is silent, the clock is read once per interval, when a ping is due. While it sends, the clock is read
/// four times per interval:
///
/// ```text
///   heard  .  . . .  .
///   look   |----|----|----|----------------------> ping: one interval after the last look that heard something
///            1/4  1/4  1/4
/// ```
///
/// # Examples
///
/// ```
/// use std::time::{Duration, Instant};
/// use longwire_protocol::{Due, Keepalive, Timers};
///
/// let start = Instant::now();
/// let keepalive = Keepalive::default();
/// let mut timers = Timers::new(Some(keepalive), start);
/// let first = timers.deadline().unwrap();
/// assert_eq!(timers.handle_timeout(first), Due::Ping);
/// timers.heard(); // the pong, or anything else
/// let second = timers.deadline().unwrap();
/// assert_eq!(timers.handle_timeout(second), Due::Nothing);
/// assert_eq!(timers.deadline(), Some(second + keepalive.interval));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Timers {
    keepalive: Option<Keepalive>,
    /// The time at which something is due unless the peer is heard before.
    due_at: Option<Instant>,
    /// Whether anything came from the peer since the last look.
    heard: bool,
    phase: Phase,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    /// The keepalive is running, if there is one.
    Open {
        /// The time of the next look if the peer was heard since the last one.
        look_at: Option<Instant>,
        /// The time at which a ping was sent that is still unanswered.
        pinged: Option<Instant>,
        /// Whether the peer counts as gone if it stays silent until `due_at`.
        is_awaited: bool,
    },
    /// The closing handshake has begun.
    Closing {
        limit: Duration,
        /// The latest end, whatever progress there is.
        ends_at: Option<Instant>,
    },
}

impl Timers {
    /// The number of times its limit that the closing handshake may take while the peer makes progress: 2 minutes for a
    /// limit of 5 s.
    ///
    /// This bounds a peer that takes one byte at a time to keep a connection open.
    pub const MAX_CLOSING_LIMITS: u32 = 24;

    /// Starts the keepalive, if there is one, at `now`.
    pub fn new(keepalive: Option<Keepalive>, now: Instant) -> Self {
        let mut timers = Self::idle();
        if let Some(keepalive) = keepalive {
            timers.keepalive = Some(keepalive);
            timers.await_silence(keepalive, now);
        }
        timers
    }

    /// Creates timers without keepalive: nothing is due until the connection closes.
    pub const fn idle() -> Self {
        let phase = Phase::Open { look_at: None, pinged: None, is_awaited: false };
        Self { keepalive: None, due_at: None, heard: false, phase }
    }

    /// Records that something came from the peer. Returns whether the next [`deadline`](Self::deadline) may be earlier
    /// than before, which is so the first time after a look.
    #[inline]
    pub fn heard(&mut self) -> bool {
        !std::mem::replace(&mut self.heard, true)
    }

    /// Records a pong to the keepalive's ping; returns the round-trip time, once for each ping.
    ///
    /// Returns `None` if no ping was sent, or if the pong arrives later than [`Keepalive::timeout`].
    pub fn answered(&mut self, now: Instant) -> Option<Duration> {
        let Phase::Open { pinged, .. } = &mut self.phase else { return None };
        let (sent, keepalive) = (pinged.take()?, self.keepalive?);
        // The clock was read anyway, so the peer's silence is counted from now.
        self.await_silence(keepalive, now);
        now.checked_duration_since(sent).filter(|round_trip| *round_trip <= keepalive.timeout)
    }

    /// Starts the limit of the closing handshake, unless it is already running. The keepalive stops.
    pub fn closing(&mut self, now: Instant, limit: Duration) {
        if matches!(self.phase, Phase::Open { .. }) {
            let ends_at = now.checked_add(limit.saturating_mul(Self::MAX_CLOSING_LIMITS));
            self.phase = Phase::Closing { limit, ends_at };
            self.due_at = now.checked_add(limit);
        }
    }

    /// Records that the peer has taken bytes. While the connection closes, the limit of the closing handshake starts
    /// again at `now`, up to [`MAX_CLOSING_LIMITS`](Self::MAX_CLOSING_LIMITS) times the limit in total.
    pub fn progressed(&mut self, now: Instant) {
        if let Phase::Closing { limit, ends_at } = self.phase {
            let extended = now.checked_add(limit);
            self.due_at = earlier(extended, ends_at).max(self.due_at);
        }
    }

    /// Returns the time at which [`handle_timeout`](Self::handle_timeout) must be called next; `None` if nothing can
    /// become due.
    ///
    /// Ask again after each [`heard`](Self::heard) that returns `true`, and after any other call. A deadline that has
    /// already passed is handled at once.
    pub fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Open { look_at, .. } if self.heard => earlier(look_at, self.due_at),
            _ => self.due_at,
        }
    }

    /// Returns what is due at `now`, and moves the deadline.
    pub fn handle_timeout(&mut self, now: Instant) -> Due {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return Due::Nothing;
        }
        let Phase::Open { look_at, pinged, is_awaited } = &mut self.phase else {
            return Due::CloseTimedOut;
        };
        let Some(keepalive) = self.keepalive else {
            return Due::Nothing;
        };
        if self.heard {
            self.await_silence(keepalive, now);
            return Due::Nothing;
        }
        if *is_awaited {
            return Due::PeerGone;
        }
        *is_awaited = true;
        *pinged = Some(now);
        *look_at = now.checked_add(keepalive.interval / LOOKS);
        self.due_at = now.checked_add(keepalive.timeout);
        Due::Ping
    }

    /// Starts an interval at whose end a ping is due. A ping that was sent may still be answered.
    fn await_silence(&mut self, keepalive: Keepalive, now: Instant) {
        if let Phase::Open { look_at, is_awaited, .. } = &mut self.phase {
            self.heard = false;
            *is_awaited = false;
            *look_at = now.checked_add(keepalive.interval / LOOKS);
            self.due_at = now.checked_add(keepalive.interval);
        }
    }
}

/// Returns the earlier of two deadlines; `None` is no deadline.
fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    one.into_iter().chain(other).min()
}

/// The number of clock readings per interval while the peer sends. A ping is late by at most one part of the interval.
const LOOKS: u32 = 4;

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test needs some time to begin at")]
mod tests {
    use super::*;

    const KEEPALIVE: Keepalive =
        Keepalive { interval: Duration::from_secs(30), timeout: Duration::from_secs(20) };

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    /// Simulates a driver that sleeps until the deadline and is woken when the peer sends, at these milliseconds.
    ///
    /// Returns the time at which the first action other than nothing was due, the action, and how often the clock was
    /// read.
    fn drive(timers: &mut Timers, start: Instant, heard: impl IntoIterator<Item = u64>) -> (u64, Due, usize) {
        let (mut now, mut looks) = (start, 0);
        let mut heard = heard.into_iter().map(|ms| start + Duration::from_millis(ms)).peekable();
        loop {
            let deadline = timers.deadline().expect("a keepalive").max(now);
            if let Some(at) = heard.next_if(|&at| at < deadline) {
                now = at;
                timers.heard();
                continue;
            }
            now = deadline;
            looks += 1;
            match timers.handle_timeout(now) {
                Due::Nothing => {}
                due => return (u64::try_from((now - start).as_millis()).unwrap(), due, looks),
            }
        }
    }

    #[test]
    fn a_ping_follows_one_to_one_and_a_quarter_intervals_of_silence() {
        let seconds = |n: u64| (0..n).map(|second| second * 1000).collect::<Vec<_>>();
        for (case, heard) in [
            ("nothing", vec![]),
            ("1 ms", vec![1]),
            ("1 s", vec![1000]),
            ("5 s", vec![5000]),
            ("just before a look", vec![7499]),
            ("15 s", vec![15_000]),
            ("29.9 s", vec![29_900]),
            ("twice", vec![1, 29_900]),
            ("soon after a look", vec![1, 8000]),
            ("again and again", vec![10_000, 20_000, 49_000, 49_001, 70_000]),
            ("each second", seconds(100)),
        ] {
            let start = Instant::now();
            let last = heard.last().copied().unwrap_or(0);
            let (at, due, looks) = drive(&mut Timers::new(Some(KEEPALIVE), start), start, heard);
            assert_eq!(due, Due::Ping, "{case}");
            let silence = at - last;
            assert!((30_000..=37_500).contains(&silence), "{case}: silent for {silence} ms");
            assert!(looks as u64 <= 2 + last / 7500, "{case}: {looks} looks");
        }
    }

    #[test]
    fn silence_is_looked_at_once_and_traffic_four_times_an_interval() {
        let start = Instant::now();
        assert_eq!(drive(&mut Timers::new(Some(KEEPALIVE), start), start, []), (30_000, Due::Ping, 1));
        let mut timers = Timers::new(Some(KEEPALIVE), start);
        let traffic = (0..300_000).step_by(10);
        assert_eq!(drive(&mut timers, start, traffic), (330_000, Due::Ping, 41));
    }

    #[test]
    fn pings_after_silence_and_gives_up_without_an_answer() {
        let start = Instant::now();
        let mut timers = Timers::new(Some(KEEPALIVE), start);
        assert_eq!(timers.handle_timeout(after(start, 29)), Due::Nothing, "early");
        assert_eq!(timers.handle_timeout(after(start, 30)), Due::Ping);
        assert_eq!(timers.deadline(), Some(after(start, 50)));
        assert_eq!(timers.handle_timeout(after(start, 49)), Due::Nothing, "early");
        assert_eq!(timers.handle_timeout(after(start, 50)), Due::PeerGone);
    }

    #[test]
    fn any_sign_of_life_starts_over() {
        let start = Instant::now();
        let mut timers = Timers::new(Some(KEEPALIVE), start);
        timers.heard();
        assert_eq!(timers.handle_timeout(after(start, 30)), Due::Nothing, "heard before the look");
        assert_eq!(timers.handle_timeout(after(start, 60)), Due::Ping, "silent since the look");
        timers.heard();
        assert_eq!(timers.handle_timeout(after(start, 65)), Due::Nothing, "early");
        assert_eq!(timers.handle_timeout(after(start, 68)), Due::Nothing, "heard after the ping");
        assert_eq!(timers.deadline(), Some(after(start, 98)));
        assert_eq!(timers.handle_timeout(after(start, 98)), Due::Ping);
        assert_eq!(timers.handle_timeout(after(start, 118)), Due::PeerGone);
    }

    #[test]
    fn a_sign_of_life_counts_even_if_the_timeout_is_shorter_than_a_look() {
        let start = Instant::now();
        let mut timers = Timers::new(Some(KEEPALIVE.with_timeout(Duration::from_secs(1))), start);
        assert_eq!(timers.handle_timeout(after(start, 30)), Due::Ping);
        timers.heard();
        assert_eq!(timers.deadline(), Some(after(start, 31)));
        assert_eq!(timers.handle_timeout(after(start, 31)), Due::Nothing);
        assert_eq!(timers.handle_timeout(after(start, 61)), Due::Ping);
        assert_eq!(timers.handle_timeout(after(start, 62)), Due::PeerGone);
    }

    #[test]
    fn the_round_trip_is_reported_once_for_each_ping() {
        let start = Instant::now();
        let mut timers = Timers::new(Some(KEEPALIVE), start);
        assert_eq!(timers.answered(after(start, 1)), None, "there was no ping");
        assert_eq!(timers.handle_timeout(after(start, 31)), Due::Ping, "late");
        timers.heard();
        assert_eq!(timers.answered(after(start, 34)), Some(Duration::from_secs(3)));
        assert_eq!(timers.answered(after(start, 35)), None, "a second answer");
        assert_eq!(timers.deadline(), Some(after(start, 64)), "an interval after the answer");
        assert_eq!(timers.handle_timeout(after(start, 64)), Due::Ping);
        assert_eq!(timers.answered(after(start, 64)), Some(Duration::ZERO));
        assert_eq!(timers.handle_timeout(after(start, 94)), Due::Ping);
        assert_eq!(timers.handle_timeout(after(start, 114)), Due::PeerGone);
        assert_eq!(Timers::idle().answered(start), None, "without keepalive");
    }

    #[test]
    fn an_answer_is_measured_even_if_something_else_was_heard_before_it() {
        let start = Instant::now();
        let mut timers = Timers::new(Some(KEEPALIVE), start);
        assert_eq!(timers.handle_timeout(after(start, 30)), Due::Ping);
        timers.heard();
        assert_eq!(timers.handle_timeout(after(start, 38)), Due::Nothing, "something else");
        timers.heard();
        assert_eq!(timers.answered(after(start, 40)), Some(Duration::from_secs(10)));
        assert_eq!(timers.deadline(), Some(after(start, 70)));
    }

    #[test]
    fn a_late_answer_is_not_measured() {
        let start = Instant::now();
        let mut timers = Timers::new(Some(KEEPALIVE), start);
        assert_eq!(timers.handle_timeout(after(start, 30)), Due::Ping);
        timers.heard();
        assert_eq!(timers.handle_timeout(after(start, 50)), Due::Nothing, "something else came");
        assert_eq!(timers.answered(after(start, 55)), None, "after the timeout");
        assert_eq!(timers.handle_timeout(after(start, 85)), Due::Ping);
        timers.closing(after(start, 85), Duration::from_secs(5));
        assert_eq!(timers.answered(after(start, 86)), None, "while closing");
        assert_eq!(timers.deadline(), Some(after(start, 90)));
    }

    #[test]
    fn closing_replaces_the_keepalive_and_keeps_its_first_limit() {
        let start = Instant::now();
        let mut timers = Timers::new(Some(KEEPALIVE), start);
        timers.heard();
        timers.closing(start, Duration::from_secs(5));
        timers.heard();
        timers.closing(after(start, 3), Duration::from_secs(5));
        assert_eq!(timers.deadline(), Some(after(start, 5)));
        assert_eq!(timers.handle_timeout(after(start, 4)), Due::Nothing);
        assert_eq!(timers.handle_timeout(after(start, 5)), Due::CloseTimedOut);
    }

    #[test]
    fn progress_extends_the_closing_limit_up_to_a_bound() {
        const LIMIT: Duration = Duration::from_secs(5);
        let start = Instant::now();
        let mut timers = Timers::new(Some(KEEPALIVE), start);
        timers.progressed(after(start, 1));
        assert_eq!(timers.deadline(), Some(after(start, 30)), "not closing");
        timers.closing(start, LIMIT);
        for second in [0, 1, 4, 8, 8, 12] {
            timers.progressed(after(start, second));
            assert_eq!(timers.deadline(), Some(after(start, second + 5)));
            assert_eq!(timers.handle_timeout(after(start, second + 4)), Due::Nothing);
        }
        timers.closing(after(start, 13), LIMIT);
        assert_eq!(timers.deadline(), Some(after(start, 17)), "closing again does not extend it");
        for second in 13..=200 {
            timers.progressed(after(start, second));
            assert_eq!(timers.deadline(), Some(after(start, 120.min(second + 5))));
        }
        assert_eq!(timers.handle_timeout(after(start, 119)), Due::Nothing);
        assert_eq!(timers.handle_timeout(after(start, 120)), Due::CloseTimedOut);
    }

    #[test]
    fn limits_that_the_clock_cannot_express_never_run_out() {
        let start = Instant::now();
        let mut timers = Timers::idle();
        timers.closing(start, Duration::MAX);
        timers.progressed(start);
        assert_eq!(timers.deadline(), None);
        let mut timers = Timers::new(Some(KEEPALIVE.with_interval(Duration::MAX)), start);
        assert_eq!(timers.deadline(), None);
        timers.heard();
        assert_eq!(timers.handle_timeout(after(start, 1_000_000)), Due::Nothing);
    }

    #[test]
    fn without_keepalive_nothing_is_ever_due() {
        let start = Instant::now();
        let mut timers = Timers::new(None, start);
        timers.heard();
        assert_eq!(timers.deadline(), None);
        assert_eq!(timers.handle_timeout(after(start, 1_000_000)), Due::Nothing);
    }
}
