//! A WebSocket server for tokio.
//!
//! [`Server`] listens, reads request heads with a parser of its own, and hands each client to a handler together with its
//! [`Request`]. The clients of one server form a [`Hub`]: broadcast and shutdown are the hub's.
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
//!             ws.server().broadcast_except(ws.id(), message);
//!         }
//!         Ok(())
//!     })
//!     .await?;
//! # Ok(())
//! # }
//! ```
//!
//! # What a stranger can cost
//!
//! | | |
//! |---|---|
//! | a request that is not complete within [`ServerConfig::handshake_timeout`] | 408, or a plain close if nothing came |
//! | a request head above [`ServerConfig::head`] | 431, or 414 for its target |
//! | a request that is malformed, or asks for something else | 400, 403, 404, 405, 426; see [`Rejection`] |
//! | more handshakes at once than [`ServerConfig::max_handshakes`] | the oldest meets 503 |
//! | no descriptors left | accepting pauses, for at most 1 s at a time |
//!
//! Every answer is followed by the end of the connection: the sending direction is shut down and what the peer still
//! sends is read and dropped for a bounded time, so that the answer is not lost to a TCP reset.
//!
//! # HTTP
//!
//! This is no HTTP server: one request a connection, no bodies, no keep-alive. [`Server::fallback`] can answer plain GET
//! and HEAD requests, which is enough for a page that opens a WebSocket; everything else belongs in front of it.

//! # Metrics
//!
//! [`ServerHandle::stats`] has all counts in one value. With the feature `metrics` they go to the recorder of the crate of
//! that name as well: what [`longwire_hub`] names of clients, and of handshakes
//!
//! | metric | kind | labels | counts |
//! |---|---|---|---|
//! | `longwire_handshakes_rejected_total` | counter | `status` | requests that were refused |
//! | `longwire_handshake_duration_seconds` | histogram | | how long those took that were completed |

#![forbid(unsafe_code)]

mod admission;
mod answer;
mod config;
mod deadline;
mod error;
mod gate;
mod hook;
mod lifecycle;
mod listen;
#[cfg(feature = "metrics")]
mod metrics;
#[cfg(not(feature = "metrics"))]
#[path = "no_metrics.rs"]
mod metrics;
mod pending;
mod proxied;
mod request;
mod routes;
mod serve;
mod server;
mod stats;
#[cfg(feature = "tls")]
mod tls;
mod transport;
mod workers;

#[cfg(test)]
mod tests;

pub use admission::Admission;
pub use config::{ServerConfig, Shutdown};
pub use error::Error;
pub use lifecycle::ServerHandle;
pub use listen::{Listen, ListenOptions, Listeners};
pub use longwire_handshake::{
    AcceptedError, HeadLimits, OriginPolicy, Rejection, ServerOptions, Subprotocol, TrustedProxies,
};
pub use longwire_hub::{
    Client, ClientId, ClientInfo, ClientStats, Delivery, Drained, Farewell, Hub, HubConfig, HubError,
    HubStats, Place, Room, RunError, SlowPolicy,
};
pub use request::Request;
pub use serve::{BoxError, HandlerResult, Serve};
pub use server::Server;
pub use stats::ServerStats;
#[cfg(feature = "tls")]
pub use tls::{TlsConfig, TlsError};
/// The rustls that [`TlsConfig`] takes configurations of, and whose types [`Transport::tls`] and [`Request::peer_certificates`] have.
#[cfg(feature = "tls")]
#[doc(no_inline)]
pub use tokio_rustls::rustls;
pub use transport::{OtherStream, Transport};
pub use workers::Workers;

/// The socket that a handler gets: a [`WebSocket`](longwire_connection::WebSocket) that the server's [`Hub`] knows.
pub type Socket = longwire_hub::Socket<Transport>;

/// The receiving side of a [`Socket`] that was split.
pub type Receiver = longwire_hub::Receiver<Transport>;
