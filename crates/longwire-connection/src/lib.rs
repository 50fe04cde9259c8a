//! A WebSocket over any tokio stream: buffers, timers, backpressure and concurrent senders.
//!
//! [`WebSocket`] drives the state machine of `longwire-protocol` over any [`Transport`], once the opening handshake is
//! done. It is what `longwire`'s client and server hand out; use it alone to speak WebSocket over a stream of your own.
//!
//! | to | use |
//! |---|---|
//! | receive and send in one task | [`WebSocket`] |
//! | receive in one task and send from any number of others | [`WebSocket::split`], [`WebSocket::sender`] |
//! | send or receive one message in parts | [`MessageWriter`], [`OwnedMessageWriter`], [`MessageReader`] |
//! | have a stream of bytes | [`ByteStream`] |
//! | run a handler, its sends gathered | [`drive`] |
//! | test without a network | `testing` (feature `testing`) |
//!
//! # Memory
//!
//! A connection that waits holds no buffer: the thread lends one to read into for the time of a poll, and one to gather
//! small frames in. A connection owns memory while it holds an incomplete message, messages that were read and not
//! yet taken, or bytes that the transport does not take.
//!
//! What a client costs that sends and never reads is [`Config::send_queue`] and one message, and of what it sent less than
//! 16 KiB: where answers are suddenly longer than what they answer, up to `send_queue` more, once.
//!
//! # Runtime
//!
//! A connection needs tokio's timers where something is due: for keepalive, for compression, and to close. A socket that is
//! dropped writes its close frame at once, also at the end of `main` or where there is no runtime; only what the transport does
//! not take at once, and waiting for the peer's end, is left to a task.
//!
//! # Cancellation
//!
//! Every future here may be dropped at any await: no message is lost, sent twice or mixed with another. What that means
//! for a method that had begun stands under its "Cancel safety".

#![forbid(unsafe_code)]

mod config;
mod counting;
mod ending;
mod error;
mod handle;
#[cfg(all(test, longwire_loom))]
mod models;
mod receiving;
mod scratch;
mod sending;
mod sync;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod transport;

pub use config::{Config, Handover};
pub use counting::histogram::{Histogram, HistogramCounts};
pub use counting::measurements::{MeasurementCounts, Measurements};
pub use counting::stats::Stats;
pub use ending::drive::drive;
pub use error::Error;
pub use handle::byte_stream::ByteStream;
pub use handle::message_writer::{MessageWriter, OwnedMessageWriter};
pub use handle::parts::MessageReader;
pub use handle::receiver::{Incoming, Receiver};
pub use handle::sender::Sender;
pub use handle::socket::WebSocket;
pub use longwire_protocol::{
    CloseCode, CloseFrame, Compress, CompressionStats, FrameError, Keepalive, Limits, MaskingKey,
    MaskingKeys, Message, PreparedMessage, ProtocolError, State, Text,
};
#[cfg(feature = "deflate")]
pub use longwire_protocol::{Compression, deflate};
pub use receiving::policy::memory::MemoryBudget;
pub use receiving::policy::rate::{Excess, Rate, RateLimit};
pub use sending::ping::Pong;
pub use transport::Transport;
