//! The WebSocket connection as a state machine, sans-IO (RFC 6455 §5 to §7).
//!
//! Bytes in, events and bytes out: no sockets, no clock, no randomness. Time is an argument, masking keys come from a
//! function that the caller supplies, so every rule can be tested with a byte string and the crate serves any runtime.
//!
//! | to | use |
//! |---|---|
//! | receive | [`Inbound`]: frames to messages, limits, UTF-8, every violation with its close code |
//! | send | [`Outbound`]: messages to frames, pongs, this end's part of closing, and the [`WriteQueue`] |
//! | know what is due | [`Timers`]: keepalive and the limit of the closing handshake |
//! | have all of it in one type | [`Connection`] |
//!
//! The halves share nothing, so one task may receive while another sends; they are connected by [`Outbound::respond`]
//! for each event and [`Outbound::fail`] for an error.
//!
//! # Examples
//!
//! A server, fed by hand:
//!
//! ```
//! use longwire_protocol::{Event, Inbound, Limits, Outbound, Role};
//!
//! let (mut inbound, mut outbound) = (Inbound::new(Role::Server, Limits::default()), Outbound::new(None));
//! let mut input = &b"\x89\x82\x01\x02\x03\x04\x69\x6b"[..]; // a ping that says "hi", masked
//! while !input.is_empty() {
//!     let Some(event) = inbound.decode(&mut input)? else { continue };
//!     outbound.respond(&event);
//!     if let Event::Message(message) = event {
//!         println!("{message}");
//!     }
//! }
//! assert_eq!(outbound.queue().contiguous(), Some(&b"\x8a\x02hi"[..]));
//! # Ok::<(), longwire_protocol::ProtocolError>(())
//! ```

#![cfg_attr(docsrs, feature(doc_cfg))]

mod assembly;
mod chunks;
#[cfg(feature = "deflate")]
mod compression;
#[cfg(not(feature = "deflate"))]
#[path = "no_compression.rs"]
mod compression;
mod connection;
mod data_frame;
mod error;
mod event;
mod inbound;
#[cfg(feature = "json")]
mod json;
mod limits;
mod message;
mod message_ref;
mod outbound;
mod prepared;
mod queue;
mod spill;
mod stats;
mod text;
mod timers;

#[cfg(feature = "deflate")]
pub use compression::Compression;
pub use connection::{Connection, State};
pub use error::{ProtocolError, SendError};
pub use event::{Event, Part};
pub use inbound::Inbound;
pub use limits::Limits;
#[cfg(feature = "deflate")]
pub use longwire_deflate as deflate;
pub use longwire_frame::{CloseCode, FrameError, InvalidUtf8, MaskingKey, Opcode, Role, Utf8Validator};
#[doc(hidden)]
pub use longwire_frame::{causes, debug_with_causes};
pub use message::{CloseFrame, Compress, Message, MessageKind};
pub use message_ref::MessageRef;
pub use outbound::{Dropped, MaskingKeys, Outbound};
pub use prepared::PreparedMessage;
pub use queue::WriteQueue;
pub use stats::CompressionStats;
pub use text::Text;
pub use timers::{Due, Keepalive, Timers};
