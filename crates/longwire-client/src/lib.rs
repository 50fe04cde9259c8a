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
//! [`Client::handshake_over`] runs over any stream that is connected by other means. [`Client::reconnecting`] keeps a connection: it is
//! made again whenever it is lost.
//!
//! # Features
//!
//! None is on by default; the facade `longwire` has TLS and compression on.
//!
//! | feature | adds |
//! |---|---|
//! | `tls` | `wss` and `https` URLs: rustls with ring, [`TlsConfig`]. Alone it has nobody to trust by default |
//! | `platform-roots` | `tls`, and trust in what the operating system trusts |
//! | `webpki-roots` | `tls`, and trust in Mozilla's list where `platform-roots` is off or the system has none |
//! | `deflate` | compression (RFC 7692), which is then offered |

#![forbid(unsafe_code)]

mod client;
mod deadline;
mod dial;
mod error;
mod handshake;
mod proxy;
mod random;
pub mod reconnect;
mod redirect;
mod route;
#[cfg(feature = "tls")]
mod tls;
mod transport;
#[cfg(unix)]
mod unix;

pub use client::Client;
pub use error::{Error, InvalidOption};
#[doc(no_inline)]
pub use longwire_connection::{Config, WebSocket};
#[doc(no_inline)]
pub use longwire_handshake::{
    HeadLimits, OptionsError, PeerText, ResponseError, Subprotocol, UriError, WebSocketUri,
};
pub use proxy::ProxyError;
pub use redirect::RedirectError;
#[cfg(feature = "tls")]
pub use tls::{PemError, TlsConfig, TlsError};
/// The rustls that [`TlsConfig`] takes configurations of.
#[cfg(feature = "tls")]
#[doc(no_inline)]
pub use tokio_rustls::rustls;
pub use transport::Transport;

/// Connects to a `ws`, `wss`, `http` or `https` URL with the default settings of a [`Client`].
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
