//! A WebSocket client for tokio.
//!
//! [`connect`] takes a URL and returns an open [`WebSocket`]. A [`Client`] first sets headers, the origin,
//! subprotocols, deadlines and limits. `longwire-handshake` writes the request and verifies the response; this crate
//! dials, enforces the deadline and supplies randomness.
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
//! [`Client::handshake_over`] runs over a stream that the caller has connected by other means, such as with TLS of
//! another library. [`Client::reconnecting`] keeps a connection and re-establishes it whenever it is lost.
//!
//! # Logging
//!
//! Each connection attempt has a `tracing` span, `connect`, with the URL (without user, password and query) and, for a
//! reconnecting client, the number of the attempt. Its steps are events at level debug: the addresses of the host, the
//! connection, the proxy, TLS, redirects, and the upgrade. An error is returned and not logged. A reconnecting client,
//! whose span is `reconnecting`, warns of each failure, and reports at level info that it is connected again.
//!
//! # Features
//!
//! No feature is on by default; the facade `longwire` turns on TLS and compression.
//!
//! | feature | adds |
//! |---|---|
//! | `tls` | `wss` and `https` URLs with rustls: [`TlsConfig`]. By itself it has no cryptography and no trusted roots |
//! | `ring` | `tls`, and the cryptography of ring |
//! | `aws-lc-rs` | `tls`, and the cryptography of aws-lc-rs, also if `ring` is on |
//! | `platform-roots` | `tls`, and trust in the operating system's roots |
//! | `webpki-roots` | `tls`, and trust in Mozilla's list if `platform-roots` is off or the system has no roots |
//! | `deflate` | compression (RFC 7692), which is then offered by default |

#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]

mod body;
mod client;
mod connector;
mod deadline;
#[cfg(feature = "tls")]
mod diagnosis;
mod dial;
mod error;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod handshake;
mod proxy;
mod random;
pub mod reconnect;
mod redirect;
mod stage;
mod stream;
mod sync;
#[cfg(feature = "tls")]
mod tls;
mod trace;
#[cfg(unix)]
mod unix;

pub use client::Client;
pub use error::{Error, InvalidOption};
#[doc(no_inline)]
pub use longwire_connection::{BoxError, Config, WebSocket};
#[doc(no_inline)]
pub use longwire_handshake::{
    HeadLimits, OptionsError, PeerText, ResponseError, Subprotocol, UriError, WebSocketUri,
};
pub use proxy::ProxyError;
pub use redirect::RedirectError;
pub use stage::Stage;
pub use stream::ClientStream;
#[cfg(feature = "tls")]
pub use tls::{PemError, TlsConfig, TlsError};
/// The version of rustls whose configurations [`TlsConfig`] accepts.
#[cfg(feature = "tls")]
#[doc(no_inline)]
pub use tokio_rustls::rustls;

/// Connects to a `ws`, `wss`, `http` or `https` URL with the default settings of a [`Client`].
///
/// # Errors
///
/// As for [`Client::connect`].
///
/// # Cancel safety
///
/// As for [`Client::connect`].
pub async fn connect(url: impl Into<String>) -> Result<WebSocket<ClientStream>, Error> {
    let (ws, _response) = Client::new(url).connect().await?;
    Ok(ws)
}
