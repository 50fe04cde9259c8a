//! `permessage-deflate` for WebSocket, sans-IO: negotiation, compression and pooled contexts (RFC 7692).

#![forbid(unsafe_code)]

mod agreement;
mod deflater;
mod history;
mod inflater;
mod negotiate;
mod offer;
mod options;
mod params;
mod pool;
mod window;

pub use agreement::{Agreement, Direction};
pub use deflater::Deflater;
pub use inflater::{InflateError, Inflated, Inflater};
pub use negotiate::{AnswerError, accept, verify};
pub use offer::Offer;
pub use options::{DeflateOptions, Level};
pub use params::{EXTENSION_NAME, ParamError};
pub use pool::{Pool, PoolOptions};
pub use window::WindowBits;
