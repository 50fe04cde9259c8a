//! A WebSocket server for tokio.
//!
//! [`Server`] listens, reads request heads with its own parser, and passes each client to a handler together with
//! its [`Request`]. The clients of one server form a [`Hub`], which handles broadcasts and shutdown.
//!
//! ```no_run
//! use longwire_server::Server;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let server = Server::bind("127.0.0.1:8080").await?;
//! server
//!     .serve(|mut ws, request| async move {
//!         println!("{:?} asks for {}", request.peer_addr(), request.uri());
//!         while let Some(message) = ws.recv().await? {
//!             ws.hub().broadcast_except(ws.id(), message);
//!         }
//!         Ok(())
//!     })
//!     .await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Limits before the handshake completes
//!
//! | | |
//! |---|---|
//! | a request not complete within [`ServerConfig::handshake_timeout`] | 408, or a plain close if nothing arrived |
//! | a request head above the limits in [`ServerConfig::head`] | 431, or 414 for its target |
//! | a request that is malformed, or asks for something else | 400, 403, 404, 405, 426; see [`Rejection`] |
//! | more concurrent handshakes than [`ServerConfig::max_handshakes`] | the oldest is answered with 503 |
//! | no descriptors left | accepting pauses, for at most 1 s at a time |
//!
//! Every response ends the connection: the server shuts down the sending direction, then reads and drops the peer's
//! bytes for a bounded time, so that a TCP reset does not destroy the response.
//!
//! # HTTP
//!
//! This is not an HTTP server: there is one request per connection, no body and no keep-alive. [`Server::fallback`]
//! can answer plain GET and HEAD requests, which is enough for a page that opens a WebSocket. For anything more,
//! put an HTTP server in front.
//!
//! # TLS in production
//!
//! With the feature `ring` or `aws-lc-rs`, [`Server::tls`] takes a `TlsConfig`:
//!
//! ```no_run
//! # #[cfg(any(feature = "ring", feature = "aws-lc-rs"))]
//! # async fn example() -> Result<(), longwire_server::Error> {
//! use longwire_server::{Server, TlsCertificate, TlsConfig};
//!
//! let tls = TlsConfig::builder()
//!     .certificate(TlsCertificate::from_files("/etc/tls/default.pem", "/etc/tls/default.key"))
//!     .certificate_for(["*.example.com"], TlsCertificate::from_files("/etc/tls/com.pem", "/etc/tls/com.key"))
//!     .build()?;
//! let server = Server::bind("0.0.0.0:443").await?.tls(tls);
//! # Ok(())
//! # }
//! ```
//!
//! - **Renewed certificates:** replace the files. They are read again within a minute of clients connecting, or as
//!   set with `TlsBuilder::reload_every`; `TlsConfig::reload` reads them at once. `ServerHandle::set_tls` replaces the
//!   whole configuration.
//! - **Several names:** `TlsBuilder::certificate_for`, with host names and wildcards. Other names get the default
//!   certificate, or are refused.
//! - **Resumption:** the state of a session is in a ticket at the client, encrypted with a key that is only in memory
//!   and replaced every 6 hours. Any number of clients can resume, also after a new certificate. Give all servers of a
//!   process clones of one `TlsConfig`, which share the keys.
//! - **Certificates of clients:** `TlsBuilder::require_client_certificates` or `request_client_certificates`. Their
//!   sessions are not resumed, so that every connection is checked. `Request::peer_certificates` and
//!   `Request::server_name` are there in [`Server::authorize`] and in the handler.
//! - **Versions:** 1.2 and 1.3, or only 1.3 with `TlsBuilder::tls13_only`.
//! - **Debugging:** `TlsBuilder::dangerously_log_keys` and the variable `SSLKEYLOGFILE`, for Wireshark.
//! - **Anything else that rustls can do:** `TlsConfig::from` takes an `Arc<rustls::ServerConfig>`.
//!
//! The cryptography is from aws-lc-rs if that feature is on, otherwise from ring; a provider that the process has
//! installed is neither used nor changed. With only the feature `tls`, the installed one is used, and sessions are
//! resumed from the server's memory, which has room for 256.
//!
//! # Metrics
//!
//! [`ServerHandle::stats`] returns all counts in one value. With the feature `metrics`, the counts also go to the
//! recorder of the `metrics` crate: the metrics of clients that [`longwire_hub`] lists, and those of handshakes:
//!
//! | metric | kind | labels | counts |
//! |---|---|---|---|
//! | `longwire_handshakes_rejected_total` | counter | `status` | refused requests |
//! | `longwire_handshake_duration_seconds` | histogram | | durations of completed handshakes |

#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]

mod admission;
mod config;
mod error;
mod forwarded;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod gate;
mod hook;
mod lifecycle;
mod listen;
#[cfg(feature = "metrics")]
mod metrics;
#[cfg(not(feature = "metrics"))]
#[path = "no_metrics.rs"]
mod metrics;
mod overload;
mod pending;
mod proxied;
mod proxy_protocol;
mod query;
mod request;
mod response;
mod route;
mod routes;
mod serve;
mod server;
mod stats;
mod stream;
mod sync;
#[cfg(feature = "testing")]
pub mod testing;
#[cfg(feature = "tls")]
mod tls;
mod workers;

#[cfg(test)]
mod tests;

pub use admission::Admission;
pub use config::ServerConfig;
pub use error::Error;
pub use forwarded::{InvalidNetwork, TrustedProxies};
pub use lifecycle::ServerHandle;
pub use listen::{Listen, ListenOptions, Listeners};
pub use longwire_handshake::{
    AcceptedError, HeadLimits, OriginPolicy, Rejection, ServerOptions, Subprotocol,
};
use longwire_hub::Handling;
pub use longwire_hub::{
    BoxError, ClientHandle, ClientId, ClientInfo, ClientStats, Delivery, Drained, HandlerOutput,
    HandlerResult, Hub, HubConfig, HubError, HubStats, Reservation, Room, RunError, Shutdown, SlowPolicy,
};
pub use request::Request;
pub use serve::Serve;
pub use server::Server;
pub use stats::ServerStats;
pub use stream::{OtherStream, ServerStream};
#[cfg(feature = "tls")]
pub use tls::{TlsBuilder, TlsCertificate, TlsConfig, TlsError};
/// The version of rustls whose configurations [`TlsConfig`] accepts and whose types [`ServerStream::tls`] and
/// [`Request::peer_certificates`] return.
#[cfg(feature = "tls")]
#[doc(no_inline)]
pub use tokio_rustls::rustls;
pub use workers::Workers;

/// The socket passed to a handler: a [`WebSocket`](longwire_connection::WebSocket) registered in the server's
/// [`Hub`]. Handlers under axum, hyper or tower get the `Socket` of that module instead.
///
/// It has the methods of [`longwire_hub::Socket`] and of [`WebSocket`](longwire_connection::WebSocket):
///
/// | to | use |
/// |---|---|
/// | receive | [`recv`], [`next_event`] with pings and pongs, [`recv_parts`] for long messages |
/// | send | [`send`], [`feed`] many and [`flush`], [`send_flushed`] |
/// | send from other tasks | [`sender`], [`split`] |
/// | reach other clients | [`hub`], [`join`], [`leave`], [`id`] |
/// | keep data of the client | [`set_data`], [`data`], [`set_key`] |
/// | ping | [`ping`] |
/// | close | [`close`], [`start_close`], [`abort`] |
///
/// [`recv`]: longwire_connection::WebSocket::recv
/// [`next_event`]: longwire_connection::WebSocket::next_event
/// [`recv_parts`]: longwire_connection::WebSocket::recv_parts
/// [`flush`]: longwire_connection::WebSocket::flush
/// [`sender`]: longwire_connection::WebSocket::sender
/// [`ping`]: longwire_connection::WebSocket::ping
/// [`send`]: longwire_hub::Socket::send
/// [`feed`]: longwire_hub::Socket::feed
/// [`send_flushed`]: longwire_hub::Socket::send_flushed
/// [`split`]: longwire_hub::Socket::split
/// [`hub`]: longwire_hub::Socket::hub
/// [`join`]: longwire_hub::Socket::join
/// [`leave`]: longwire_hub::Socket::leave
/// [`id`]: longwire_hub::Socket::id
/// [`set_data`]: longwire_hub::Socket::set_data
/// [`data`]: longwire_hub::Socket::data
/// [`set_key`]: longwire_hub::Socket::set_key
/// [`close`]: longwire_hub::Socket::close
/// [`start_close`]: longwire_hub::Socket::start_close
/// [`abort`]: longwire_hub::Socket::abort
pub type Socket = longwire_hub::Socket<ServerStream>;

/// The receiving half of a split [`Socket`].
pub type SocketReceiver = longwire_hub::SocketReceiver<ServerStream>;
