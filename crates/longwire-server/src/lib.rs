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
mod gate;
mod hook;
mod lifecycle;
mod listen;
mod lookup;
#[cfg(feature = "metrics")]
mod metrics;
#[cfg(not(feature = "metrics"))]
#[path = "no_metrics.rs"]
mod metrics;
mod pending;
mod proxied;
mod proxy_protocol;
mod request;
mod response;
mod route;
mod routes;
mod serve;
mod server;
mod stats;
mod stream;
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
    BoxError, ClientData, ClientHandle, ClientId, ClientInfo, ClientStats, Delivery, Drained, HandlerOutput,
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
/// [`Hub`].
pub type Socket = longwire_hub::Socket<ServerStream>;

/// The receiving half of a split [`Socket`].
pub type SocketReceiver = longwire_hub::SocketReceiver<ServerStream>;
