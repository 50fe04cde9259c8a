//! A WebSocket client for tokio.
//!
//! [`connect`] takes a URL and yields an open [`WebSocket`]; a [`Client`] sets headers, origin, subprotocols, deadlines and
//! limits first. What is sent and verified is `longwire-handshake`'s; this crate dials, keeps the deadline and supplies randomness.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let mut ws = longwire_client::connect("ws://example.com/chat").await?;
//! ws.send("something").await?;
//! while let Some(message) = ws.recv().await? {
//!     println!("{message:?}");
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Plain TCP only: a `wss` or `https` URL is an error. [`Client::handshake_over`] runs over any stream that is connected, TLS
//! included.

#![forbid(unsafe_code)]

mod client;
mod deadline;
mod dial;
mod error;
mod handshake;
mod random;
mod transport;

pub use client::Client;
pub use error::{Error, InvalidOption};
#[doc(no_inline)]
pub use longwire_connection::{Config, WebSocket};
#[doc(no_inline)]
pub use longwire_handshake::{HeadLimits, OptionsError, ResponseError, Subprotocol, UriError};
pub use transport::Transport;

/// Connects to a `ws` or `http` URL with the default settings of a [`Client`].
///
/// # Errors
///
/// As for [`Client::connect`].
///
/// # Cancel safety
///
/// As for [`Client::connect`].
pub async fn connect(url: impl Into<String>) -> Result<WebSocket<Transport>, Error> {
    let (ws, _response) = Client::new(url).connect().await?;
    Ok(ws)
}
