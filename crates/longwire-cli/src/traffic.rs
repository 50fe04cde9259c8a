//! Numbers and sizes of messages.

use std::cell::Cell;
use std::fmt;
use std::time::{Duration, Instant};

use crate::report;

/// The messages of one connection.
pub(crate) struct Traffic {
    start: Instant,
    sent: Direction,
    received: Direction,
}

/// The messages of one direction: their number and their size.
#[derive(Default)]
struct Direction {
    messages: Cell<u64>,
    bytes: Cell<u64>,
}

impl Direction {
    fn add(&self, len: usize) {
        self.messages.set(self.messages.get() + 1);
        self.bytes.set(self.bytes.get() + len as u64);
    }

    fn describe(&self, time: Duration) -> String {
        let (messages, bytes) = (self.messages.get(), self.bytes.get());
        #[allow(clippy::cast_precision_loss, reason = "for readers")]
        let per_second = |number: u64| number as f64 / time.as_secs_f64().max(1e-9);
        let (rate, speed) = (per_second(messages), report::size(per_second(bytes)));
        let size = report::bytes(bytes);
        let noun = if messages == 1 { "message" } else { "messages" };
        format!("{messages} {noun}, {size}, {rate:.1} messages/s, {speed}/s")
    }
}

impl Traffic {
    /// Starts to count.
    pub(crate) fn start() -> Self {
        Self { start: Instant::now(), sent: Direction::default(), received: Direction::default() }
    }

    /// Counts a message that was sent.
    pub(crate) fn sent(&self, len: usize) {
        self.sent.add(len);
    }

    /// Counts a message that was received.
    pub(crate) fn received(&self, len: usize) {
        self.received.add(len);
    }
}

impl fmt::Display for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = self.start.elapsed();
        writeln!(f, "sent:     {}", self.sent.describe(time))?;
        writeln!(f, "received: {}", self.received.describe(time))?;
        write!(f, "time:     {}", report::time(time))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_sizes_are_per_direction() {
        let direction = Direction::default();
        assert_eq!(direction.describe(Duration::from_secs(1)), "0 messages, 0 B, 0.0 messages/s, 0 B/s");
        direction.add(3);
        direction.add(1021);
        let described = direction.describe(Duration::from_secs(2));
        assert_eq!(described, "2 messages, 1.0 KiB, 1.0 messages/s, 512 B/s");
    }
}
