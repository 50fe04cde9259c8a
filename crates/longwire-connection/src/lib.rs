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
//! # Cancellation
//!
//! Every future here may be dropped at any await: no message is lost, sent twice or mixed with another. What that means
//! for a method that had begun stands under its "Cancel safety".

#![forbid(unsafe_code)]

mod byte_stream;
mod config;
mod cork;
mod drive;
mod ending;
mod error;
mod excess;
mod histogram;
mod leave;
mod measurements;
mod memory;
mod message_writer;
#[cfg(feature = "deflate")]
mod parking;
mod parts;
mod ping;
mod rate;
mod reader;
mod receiver;
mod scratch;
mod sender;
mod shared;
mod socket;
mod stats;
mod stream;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod wakers;
mod writer;

use tokio::io::{AsyncRead, AsyncWrite};

pub use byte_stream::ByteStream;
pub use config::{Config, Handover};
pub use drive::drive;
pub use error::Error;
pub use histogram::{Histogram, HistogramCounts};
pub use longwire_protocol::{
    CloseCode, CloseFrame, Compress, CompressionStats, FrameError, Keepalive, Limits, MaskingKey,
    MaskingKeys, Message, PreparedMessage, ProtocolError, State, Text,
};
#[cfg(feature = "deflate")]
pub use longwire_protocol::{Compression, deflate};
pub use measurements::{MeasurementCounts, Measurements};
pub use memory::MemoryBudget;
pub use message_writer::{MessageWriter, OwnedMessageWriter};
pub use parts::MessageReader;
pub use ping::Pong;
pub use rate::{Excess, Rate, RateLimit};
pub use receiver::{Incoming, Receiver};
pub use sender::Sender;
pub use socket::WebSocket;
pub use stats::Stats;

/// What a connection can run over: any tokio stream that can be moved between threads.
///
/// A stream that is not [`Unpin`] is one in a `Pin<Box<_>>`.
pub trait Transport: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Transport for T {}
