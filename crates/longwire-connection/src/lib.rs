//! A WebSocket over any tokio stream: buffers, timers, backpressure and concurrent senders.
//!
//! [`WebSocket`] drives the state machine of `longwire-protocol` over any [`Transport`], once the opening handshake
//! is complete. `longwire`'s client and server return it; use this crate directly to speak WebSocket over a stream
//! of your own.
//!
//! | to | use |
//! |---|---|
//! | receive and send in one task | [`WebSocket`] |
//! | look at messages without copying them | [`WebSocket::recv_with`], [`WebSocket::reply_with`] |
//! | receive in one task and send from any number of others | [`WebSocket::split`], [`WebSocket::sender`] |
//! | send or receive one message in parts | [`MessageWriter`], [`OwnedMessageWriter`], [`MessageReader`] |
//! | use the connection as a stream of bytes | [`ByteStream`] |
//! | run a handler and gather its sends | [`drive`] |
//! | test without a network | `testing` (feature `testing`) |
//!
//! # Memory
//!
//! A connection that waits holds no buffer. For the duration of a poll, the thread lends it one buffer to read into
//! and one to gather small frames in. A connection owns memory only while it holds an incomplete message, messages
//! that were read but not yet received by the application, or bytes that the transport does not accept yet.
//!
//! A client that sends and never reads costs [`Config::send_queue`] bytes and one message, plus less than 16 KiB of
//! the data that it sent. If the answers suddenly become longer than the messages that they answer, it costs up to
//! `send_queue` bytes more, once.
//!
//! # Runtime
//!
//! A connection needs tokio's timers for keepalive, for compression, and to close. A dropped socket writes its
//! close frame at once, even at the end of `main` or without a runtime. Only the bytes that the transport does not
//! accept at once, and the wait for the peer's end, are left to a task.
//!
//! # Cancellation
//!
//! Every future here may be dropped at any await: no message is lost, sent twice or mixed with another. Each method
//! documents under "Cancel safety" what happens to a call that has already started.

#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]

mod config;
mod counting;
mod deadline;
mod ending;
mod error;
mod handle;
#[cfg(all(test, longwire_loom))]
mod models;
mod race;
#[cfg(feature = "random")]
#[doc(hidden)]
pub mod random;
mod receiving;
mod scratch;
mod sending;
#[cfg(longwire_loom)]
#[doc(hidden)]
#[allow(missing_docs)]
pub mod stepped;
mod sync;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod transport;

pub use config::{Config, Handover};
pub use counting::histogram::{Histogram, HistogramCounts};
pub use counting::measurements::{MeasurementCounts, Measurements};
pub use counting::stats::Stats;
#[doc(hidden)]
pub use deadline::{Deadline, Late};
pub use ending::drive::drive;
#[doc(hidden)]
pub use ending::drive::{Driven, drive_killable};
pub use error::{BoxError, Error};
pub use handle::byte_stream::ByteStream;
pub use handle::message_writer::{MessageWriter, OwnedMessageWriter, WriterOptions};
pub use handle::parts::MessageReader;
pub use handle::receiver::{Incoming, Receiver};
pub use handle::reply::Reply;
pub use handle::sender::Sender;
pub use handle::sink::SenderSink;
pub use handle::socket::WebSocket;
pub use longwire_protocol::{
    CloseCode, CloseFrame, Compress, CompressionStats, FrameError, Keepalive, Limits, MaskingKey,
    MaskingKeys, Message, MessageKind, MessageRef, Opcode, PreparedMessage, ProtocolError, State, Text,
};
#[cfg(feature = "deflate")]
pub use longwire_protocol::{Compression, deflate};
#[doc(hidden)]
pub use longwire_protocol::{causes, debug_with_causes};
#[doc(hidden)]
pub use race::race;
pub use receiving::policy::memory::MemoryBudget;
pub use receiving::policy::rate::{Excess, Rate, RateLimit};
#[doc(hidden)]
pub use sending::fan_out::{Publisher, Queued};
pub use sending::ping::Pong;
#[doc(hidden)]
pub use sending::request::IfFull;
pub use transport::Transport;
