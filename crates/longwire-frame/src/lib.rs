//! WebSocket frames, sans-IO: headers, masking, close codes and UTF-8 (RFC 6455 §5).

#![forbid(unsafe_code)]

pub mod close;
mod error;
mod header;
pub mod mask;
mod opcode;
mod role;
mod utf8;

pub use close::CloseCode;
pub use error::FrameError;
pub use header::{EncodedHeader, FrameHeader};
pub use mask::MaskingKey;
pub use opcode::Opcode;
pub use role::Role;
pub use utf8::{InvalidUtf8, Utf8Validator};
