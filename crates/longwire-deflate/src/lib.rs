//! `permessage-deflate` for WebSocket, sans-IO: negotiation, compression and pooled contexts (RFC 7692).
//!
//! This crate can be used on its own. It does no input or output, reads no header fields and knows no frames: it takes
//! names and values of parameters and payloads, and returns the answer to give and other payloads.
//!
//! | Part | Purpose |
//! |---|---|
//! | [`DeflateOptions`] | the user's settings, in either role |
//! | [`accept`], [`verify`] | the server's choice among offers, the client's check of the answer |
//! | [`Agreement`], [`Direction`] | the agreed parameters, and their meaning for each direction |
//! | [`Deflater`], [`Inflater`] | the two codecs of a connection, whole messages or parts |
//! | [`Pool`] | the compressors and decompressors that all connections share |
//!
//! The caller is responsible for the name of the extension, the list syntax of `Sec-WebSocket-Extensions`, RSV1, the
//! choice of messages worth compressing, and the limit on a message's size.
//!
//! # A connection, from the offer to a message
//!
//! ```
//! use longwire_deflate::{DeflateOptions, Deflater, Inflater, Pool, accept, verify};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // The client offers; as a header field this is "permessage-deflate; client_max_window_bits".
//! let options = DeflateOptions::default();
//! let offers = options.offers();
//!
//! // The server has read the parameters of each offer, and answers with "permessage-deflate".
//! let parsed = [[("client_max_window_bits", None)]];
//! let Some(agreement) = accept(parsed, &options) else {
//!     return Ok(()); // no compression
//! };
//! assert_eq!(agreement.to_string(), "permessage-deflate");
//!
//! // The client checks the parameters of the answer.
//! let agreed = verify([], &offers)?;
//! assert_eq!(agreed, agreement);
//!
//! // Each end sends with one direction and receives with the other. Nothing is allocated yet.
//! let pool = Pool::default();
//! let Some(mut deflater) = Deflater::new(&pool, agreed.client_to_server(), options.level) else {
//!     return Ok(()); // 8 window bits: the client sends without compression
//! };
//! let mut inflater = Inflater::new(&pool, agreement.client_to_server());
//!
//! for message in ["Hello", "Hello", ""] {
//!     let mut payload = Vec::new(); // sent with RSV1 on its first frame
//!     deflater.compress(message.as_bytes(), &mut payload);
//!
//!     let mut received = Vec::new();
//!     for mut part in payload.chunks(2) {
//!         let room = 1024 - received.len();
//!         inflater.inflate(&mut part, &mut received, room)?;
//!     }
//!     inflater.finish()?;
//!     assert_eq!(received, message.as_bytes());
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Memory
//!
//! A compressor takes 250 to 380 KiB and a decompressor 48. They belong to the [`Pool`] and are borrowed:
//!
//! | | within a message | between messages, context takeover | without |
//! |---|---|---|---|
//! | [`Deflater`] | compressor and window | the same for some; for others, and after [`park`](Deflater::park), the window | nothing |
//! | [`Inflater`] | decompressor and window | the same for some; for others, and after [`park`](Inflater::park), the window | nothing |
//!
//! An inflater's window is the last 2^bits bytes of plaintext, at most 32 KiB, and less until there is that much. A
//! deflater's is the end of it: 4 KiB for each [`Level`], or as much as its longest message of late. A context that
//! is taken again loads the window and continues, so the other end sees one unbroken stream. [`PoolOptions`] bounds
//! the number of contexts that are kept or idle, and a [`Sweeper`] frees those that are no longer needed.
//!
//! # Resistance to hostile peers
//!
//! Whatever a peer sends, [`Inflater::inflate`] allocates no more than the room it is given, takes time in proportion
//! to its input and output, and terminates. Malformed data, references to data that was never sent, and a message that
//! ends within a block are errors.

#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]

mod agreement;
mod decompressor;
mod deflater;
mod history;
mod inflater;
mod negotiate;
mod offer;
mod options;
mod params;
mod pool;
mod sync;
mod window;

pub use agreement::{Agreement, Direction};
pub use deflater::Deflater;
pub use inflater::{InflateError, Inflater, Progress};
pub use negotiate::{AnswerError, accept, verify};
pub use offer::Offer;
pub use options::{DeflateOptions, Level};
pub use params::{EXTENSION_NAME, ParamError};
pub use pool::{Pool, PoolOptions, Sweeper};
pub use window::WindowBits;
