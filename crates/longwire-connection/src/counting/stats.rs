//! Counters of one connection.

use longwire_protocol::CompressionStats;

/// Counts of one connection since it was opened. `+=` adds those of another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Bytes read from the transport, headers and control frames included.
    pub bytes_received: u64,
    /// Messages received.
    pub messages_received: u64,
    /// Messages that exceeded [`Config::rate_limit`](crate::Config::rate_limit): all that were dropped, or the one
    /// that closed the connection. They do not count as received.
    pub messages_refused: u64,
    /// Bytes passed to the transport, headers and control frames included.
    pub bytes_sent: u64,
    /// Messages sent or queued to be sent.
    pub messages_sent: u64,
    /// Bytes in the queue now.
    pub bytes_queued: usize,
    /// The compressed part of the messages received.
    pub received_compressed: CompressionStats,
    /// The compressed part of the messages sent or queued to be sent.
    pub sent_compressed: CompressionStats,
}

impl std::ops::AddAssign for Stats {
    fn add_assign(&mut self, more: Self) {
        self.bytes_received += more.bytes_received;
        self.messages_received += more.messages_received;
        self.messages_refused += more.messages_refused;
        self.bytes_sent += more.bytes_sent;
        self.messages_sent += more.messages_sent;
        self.bytes_queued += more.bytes_queued;
        self.received_compressed += more.received_compressed;
        self.sent_compressed += more.sent_compressed;
    }
}
