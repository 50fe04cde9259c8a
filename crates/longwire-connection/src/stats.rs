//! What has gone through a connection.

/// Counts of one connection since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Bytes read from the transport, headers and control frames included.
    pub bytes_received: u64,
    /// Messages received.
    pub messages_received: u64,
    /// Messages that came above [`Config::rate_limit`](crate::Config::rate_limit): all that were dropped, or the one that
    /// closed the connection. They do not count as received.
    pub messages_refused: u64,
    /// Bytes passed to the transport, headers and control frames included.
    pub bytes_sent: u64,
    /// Messages sent or queued to be sent.
    pub messages_sent: u64,
    /// Bytes that wait to be written now.
    pub bytes_queued: usize,
}
