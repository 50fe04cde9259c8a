//! `permessage-deflate` for WebSocket, sans-IO: negotiation, compression and pooled contexts (RFC 7692).

#![forbid(unsafe_code)]

mod agreement;
mod negotiate;
mod offer;
mod options;
mod params;
mod window;

pub use agreement::{Agreement, Direction};
pub use negotiate::{AnswerError, accept, verify};
pub use offer::Offer;
pub use options::{DeflateOptions, Level};
pub use params::{EXTENSION_NAME, ParamError};
pub use window::WindowBits;
