//! WebSocket frames, sans-IO: headers, masking, close codes and UTF-8 (RFC 6455 §5).
//!
//! This crate is the lowest layer of longwire and can be used on its own. It turns bytes into values and values into
//! bytes, and checks every rule that a single frame can break; it does no input or output, keeps no buffers, and does
//! not know what a message is.
//!
//! | Part | Purpose |
//! |---|---|
//! | [`FrameHeader`] | reads and writes the 2 to 14 bytes before a payload |
//! | [`mask`] | masks and unmasks payloads, in place or while copying |
//! | [`Utf8Validator`] | checks text that arrives in parts, and fails at the first bad byte |
//! | [`close`] | reads and writes the payload of close frames |
//! | [`CloseCode`] | the codes, and which of them may be sent |
//! | [`FrameError`] | reports which rule was broken, and the close code that is due |
//!
//! Rules that depend on earlier frames or on negotiation are left to the caller: whether a continuation continues
//! anything, whether RSV1 was agreed on, and how long a frame or a message may be.
//!
//! # Examples
//!
//! A server reads a client's frame, and answers with the same text:
//!
//! ```
//! use longwire_frame::{FirstByte, FrameHeader, Opcode, Role, Utf8Validator, mask};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // "Hello", as RFC 6455 §5.7 has it from a client, in what a socket might have given.
//! let mut bytes = *b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58";
//!
//! let Some((header, header_len)) = FrameHeader::parse(&bytes, Role::Server)? else {
//!     return Ok(()); // the header is not complete yet: read more
//! };
//! assert_eq!(header.opcode(), Opcode::Text);
//!
//! // The length is what the peer claims, so it is compared with what is there, not reserved.
//! let payload = &mut bytes[header_len..];
//! assert_eq!(header.len(), payload.len() as u64);
//! if let Some(key) = header.mask() {
//!     mask::apply(payload, key, 0);
//! }
//!
//! let mut utf8 = Utf8Validator::new();
//! utf8.feed(payload)?;
//! if header.fin() {
//!     utf8.finish()?;
//! }
//! assert_eq!(payload, b"Hello");
//!
//! let reply = FrameHeader::data(FirstByte::whole(Opcode::Text), header.len(), None)?;
//! let mut out = reply.encode().to_vec();
//! out.extend_from_slice(payload);
//! assert_eq!(out, b"\x81\x05Hello");
//! # Ok(())
//! # }
//! ```
//!
//! A violation is rejected as soon as the bytes show it, here at the second of ten, with the close code to answer with:
//!
//! ```
//! use longwire_frame::{CloseCode, FrameError, FrameHeader, Opcode, Role};
//!
//! let error = FrameHeader::parse(b"\x89\x7f", Role::Client).unwrap_err();
//! assert_eq!(error, FrameError::ControlTooLong { opcode: Opcode::Ping });
//! assert_eq!(error.close_code(), CloseCode::PROTOCOL_ERROR);
//! ```

#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]

#[doc(hidden)]
pub mod causes;
pub mod close;
mod close_code;
mod error;
mod header;
pub mod mask;
mod opcode;
mod role;
mod utf8;

pub use close_code::CloseCode;
pub use error::FrameError;
pub use header::{EncodedHeader, FirstByte, FrameHeader};
pub use mask::MaskingKey;
pub use opcode::Opcode;
pub use role::Role;
pub use utf8::{InvalidUtf8, Utf8Validator};
