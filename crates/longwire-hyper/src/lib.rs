//! WebSocket mounted on hyper, axum and tower, over HTTP/1.1 and HTTP/2.
//!
//! An application that serves HTTP already answers a WebSocket request with [`upgrade`]: it checks the request and
//! yields the response to return and an [`Upgrade`], the connection to come. Both forms of the handshake are taken, the
//! upgrade of HTTP/1.1 (RFC 6455) and the extended CONNECT of HTTP/2 (RFC 8441). A [`Mount`] has the configuration
//! and the [`Hub`] of all clients, which broadcasts and shuts down.
//!
//! ```
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use hyper::body::Incoming;
//! use longwire_hyper::{Mount, upgrade};
//!
//! async fn service(mut request: Request<Incoming>, mount: Mount) -> Response<String> {
//!     match upgrade(&mut request, &mount) {
//!         Ok((response, upgrade)) => {
//!             upgrade.on_upgrade(|mut ws| async move {
//!                 while let Some(message) = ws.recv().await? {
//!                     ws.hub().broadcast(message);
//!                 }
//!                 Ok(())
//!             });
//!             response
//!         }
//!         Err(rejection) if rejection.is_plain_request() => Response::new("a page".to_owned()),
//!         Err(rejection) => rejection.to_response().map(|text| String::from_utf8_lossy(&text).into_owned()),
//!     }
//! }
//! ```
//!
//! # What the HTTP server has to do
//!
//! | | |
//! |---|---|
//! | hyper over HTTP/1.1 | `serve_connection(..).with_upgrades()`; under hyper-util's `auto::Builder`, `serve_connection_with_upgrades` |
//! | hyper over HTTP/2 | `http2::Builder::enable_connect_protocol()`, and the windows [`STREAM_WINDOW`] and [`CONNECTION_WINDOW`]: with hyper's own, one socket whose handler does not receive stops all streams of its connection |
//! | axum | `axum::serve` does both, with hyper's own windows; a route is `any(handler)`, as HTTP/2 asks with CONNECT |
//! | TLS | offer `h2` and `http/1.1` by ALPN: browsers dial HTTP/1.1 where they do not know the server's settings |
//!
//! A server that does neither is answered for with [`Rejection::NoUpgrade`], status 500.
//!
//! # The transport
//!
//! Where hyper runs over tokio's `TcpStream` or `UnixStream`, or over the `TlsStream` of `tokio-rustls` with the feature `tls`, the
//! socket gets it back ([`Transport::Tcp`]) and is as fast as under longwire's own server; what came behind the request is
//! not lost. Other streams are used through hyper ([`Transport::Upgraded`]), and streams of HTTP/2 gather what is
//! written ([`Transport::Http2`]).
//!
//! # Shutdown
//!
//! HTTP servers neither close connections that were handed over nor wait for them: without [`Mount::shutdown_after`], or
//! [`Hub::shutdown`] beside their own shutdown, the end of the process cuts every socket without a close frame.
//!
//! # Features
//!
//! | feature | adds |
//! |---|---|
//! | `axum` | `axum::WebSocketUpgrade`, an extractor |
//! | `deflate` | compression (RFC 7692), where `ServerOptions::deflate` allows it |
//! | `http2` | `http2::Http2`, the client over HTTP/2 |
//! | `testing` | `testing::serve`, a connection in memory to a tower service |
//! | `tls` | streams of `tokio-rustls` had back as they were, and addresses of theirs |
//! | `tower` | `tower::WebSocketLayer`, a handler mounted in front of any service |

#![forbid(unsafe_code)]

#[cfg(feature = "axum")]
pub mod axum;
#[cfg(feature = "http2")]
pub mod http2;
#[cfg(feature = "testing")]
pub mod testing;
#[cfg(feature = "tower")]
pub mod tower;

mod mount;
mod stream;
mod transport;
mod upgrade;

pub use longwire_handshake::{OriginPolicy, Rejection, ServerOptions, Subprotocol};
pub use longwire_hub::{Client, ClientId, Delivery, Hub, HubConfig, HubStats, SlowPolicy};
pub use mount::{Mount, MountConfig};
pub use stream::{CONNECTION_WINDOW, Http2Stream, STREAM_WINDOW};
pub use transport::Transport;
pub use upgrade::{Upgrade, UpgradeError, upgrade, upgrade_parts};

/// The socket that a handler gets: a [`WebSocket`](longwire_connection::WebSocket) that the mount's [`Hub`] knows.
pub type Socket = longwire_hub::Socket<Transport>;

/// The receiving side of a [`Socket`] that was split.
pub type Receiver = longwire_hub::Receiver<Transport>;

/// Any error.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What a handler returns: `?` turns every error into this one.
///
/// The connection is closed with 1000 after `Ok` and with 1011 after `Err`, unless it was closed before. Errors are logged
/// with `tracing`: those by which a connection ends at level debug, others as warnings.
pub type HandlerResult = Result<(), BoxError>;
