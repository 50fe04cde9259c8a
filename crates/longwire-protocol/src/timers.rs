//! Deadlines: keepalive and the closing handshake's limit, as values.
//!
//! Owns when something is due and what. Reading the clock and sleeping belong to the caller, who passes `now` in.

use std::time::{Duration, Instant};

/// When to look whether the peer is still there.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use longwire_protocol::Keepalive;
///
/// let impatient = Keepalive { interval: Duration::from_secs(5), ..Keepalive::default() };
/// assert_eq!(impatient.timeout, Duration::from_secs(20));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// After how long without a byte from the peer a ping is sent. Default 30 s: below the idle limits of common
    /// proxies. What was received is noted without reading the clock, so the silence is between one and two intervals.
    pub interval: Duration,
    /// How long the peer then has for a sign of life before the connection counts as lost. Default 20 s.
    pub timeout: Duration,
}

impl Default for Keepalive {
    fn default() -> Self {
        Self { interval: Duration::from_secs(30), timeout: Duration::from_secs(20) }
    }
}

/// What a deadline that has passed calls for.
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
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Timers {
    keepalive: Option<Keepalive>,
    /// When something is due: the keepalive's next look, or the end of the closing handshake.
    due_at: Option<Instant>,
    /// Whether anything came from the peer since the last look.
    heard: bool,
    ping: Ping,
    /// Whether the closing handshake has begun.
    closing: bool,
}

/// The ping of the last look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ping {
    NotSent,
    Sent,
    /// Its pong has come.
    Answered,
}

impl Timers {
    /// Starts the keepalive, if there is one, at `now`.
    pub fn new(keepalive: Option<Keepalive>, now: Instant) -> Self {
        let due_at = keepalive.and_then(|keepalive| now.checked_add(keepalive.interval));
        Self { keepalive, due_at, heard: false, ping: Ping::NotSent, closing: false }
    }

    /// No keepalive: nothing is due until the connection closes.
    pub const fn idle() -> Self {
        Self { keepalive: None, due_at: None, heard: false, ping: Ping::NotSent, closing: false }
    }

    /// Takes note that something came from the peer.
    #[inline]
    pub fn heard(&mut self) {
        self.heard = true;
    }

    /// Takes note of a pong to the keepalive's ping; returns how long it took, once for each ping.
    pub fn answered(&mut self, now: Instant) -> Option<Duration> {
        let keepalive = self.keepalive.filter(|_| self.ping == Ping::Sent && !self.closing)?;
        self.ping = Ping::Answered;
        // The ping was sent when the deadline for its answer was set.
        let sent = self.due_at?.checked_sub(keepalive.timeout)?;
        now.checked_duration_since(sent)
    }

    /// Starts the closing handshake's limit, unless it runs already. The keepalive has no say from here on.
    pub fn closing(&mut self, now: Instant, limit: Duration) {
        if !self.closing {
            self.closing = true;
            self.due_at = now.checked_add(limit);
        }
    }

    /// Progress.
    pub fn progressed(&mut self, now: Instant) {
        let _ = now;
    }

    /// When [`handle_timeout`](Self::handle_timeout) has to be called next; `None` if nothing can become due.
    pub fn deadline(&self) -> Option<Instant> {
        self.due_at
    }

    /// Says what is due at `now`, and moves the deadline.
    pub fn handle_timeout(&mut self, now: Instant) -> Due {
        if self.due_at.is_none_or(|due_at| now < due_at) {
            return Due::Nothing;
        }
        if self.closing {
            return Due::CloseTimedOut;
        }
        let Some(keepalive) = self.keepalive else {
            return Due::Nothing;
        };
        let (due, wait) = match (self.heard, self.ping) {
            (true, _) => (Due::Nothing, keepalive.interval),
            (false, Ping::NotSent) => (Due::Ping, keepalive.timeout),
            (false, _) => return Due::PeerGone,
        };
        self.heard = false;
        self.ping = if due == Due::Ping { Ping::Sent } else { Ping::NotSent };
        self.due_at = now.checked_add(wait);
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEEPALIVE: Keepalive =
        Keepalive { interval: Duration::from_secs(30), timeout: Duration::from_secs(20) };

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
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
        assert_eq!(timers.handle_timeout(after(start, 80)), Due::Nothing, "answered");
        assert_eq!(timers.deadline(), Some(after(start, 110)));
    }

    #[test]
    fn the_way_there_and_back_is_told_once_for_each_ping() {
        let start = Instant::now();
        let mut timers = Timers::new(Some(KEEPALIVE), start);
        assert_eq!(timers.answered(after(start, 1)), None, "there was no ping");
        assert_eq!(timers.handle_timeout(after(start, 31)), Due::Ping, "late");
        assert_eq!(timers.answered(after(start, 34)), Some(Duration::from_secs(3)));
        assert_eq!(timers.answered(after(start, 35)), None, "an answer more");
        timers.heard();
        assert_eq!(timers.handle_timeout(after(start, 51)), Due::Nothing);
        assert_eq!(timers.handle_timeout(after(start, 81)), Due::Ping);
        assert_eq!(timers.answered(after(start, 81)), Some(Duration::ZERO));
        assert_eq!(timers.handle_timeout(after(start, 101)), Due::PeerGone, "nothing was heard");
        assert_eq!(Timers::idle().answered(start), None, "without keepalive");
    }

    #[test]
    fn a_late_answer_belongs_to_no_later_look() {
        let start = Instant::now();
        let mut timers = Timers::new(Some(KEEPALIVE), start);
        assert_eq!(timers.handle_timeout(after(start, 30)), Due::Ping);
        timers.heard();
        assert_eq!(timers.handle_timeout(after(start, 50)), Due::Nothing, "something else came");
        assert_eq!(timers.answered(after(start, 55)), None, "when it was sent is forgotten");
        assert_eq!(timers.handle_timeout(after(start, 80)), Due::Ping);
        timers.closing(after(start, 80), Duration::from_secs(5));
        assert_eq!(timers.answered(after(start, 81)), None, "while closing");
    }

    #[test]
    fn closing_replaces_the_keepalive_and_keeps_its_first_limit() {
        let start = Instant::now();
        let mut timers = Timers::new(Some(KEEPALIVE), start);
        timers.closing(start, Duration::from_secs(5));
        timers.closing(after(start, 3), Duration::from_secs(5));
        assert_eq!(timers.deadline(), Some(after(start, 5)));
        assert_eq!(timers.handle_timeout(after(start, 4)), Due::Nothing);
        assert_eq!(timers.handle_timeout(after(start, 5)), Due::CloseTimedOut);
    }

    #[test]
    fn without_keepalive_nothing_is_ever_due() {
        let start = Instant::now();
        let mut timers = Timers::new(None, start);
        assert_eq!(timers.deadline(), None);
        assert_eq!(timers.handle_timeout(after(start, 1_000_000)), Due::Nothing);
    }
}
