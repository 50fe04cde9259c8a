//! WebSocket mounted on hyper, axum and tower, over HTTP/1.1 and HTTP/2.
//!
//! An application that already serves HTTP answers a WebSocket request with [`upgrade`](fn@upgrade), which checks the
//! request and returns the response and an [`Upgrade`], the pending connection. Both forms of the handshake are
//! accepted: the upgrade of HTTP/1.1 (RFC 6455) and the extended CONNECT of HTTP/2 (RFC 8441). A [`Mount`] holds the
//! configuration and the [`Hub`] of all clients, which broadcasts and shuts down.
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
//! # Setup of the HTTP server
//!
//! - hyper over HTTP/1.1: `serve_connection(..).with_upgrades()`; with hyper-util's `auto::Builder`,
//!   `serve_connection_with_upgrades`.
//! - hyper over HTTP/2: `http2::Builder::enable_connect_protocol()`, and the windows [`STREAM_WINDOW`] and
//!   [`CONNECTION_WINDOW`]. With hyper's default windows, a single socket whose handler does not receive stops
//!   all streams of its connection.
//! - axum: `axum::serve` does both, with hyper's default windows. A route is `any(handler)`, because
//!   HTTP/2 uses CONNECT.
//! - TLS: offer `h2` and `http/1.1` by ALPN. Browsers use HTTP/1.1 if they do not know the server's settings.
//!
//! If the server hands over no connections, requests are rejected with [`Rejection::NoUpgrade`], status 500.
//!
//! # The transport
//!
//! If hyper runs over tokio's `TcpStream` or `UnixStream`, or over the `TlsStream` of `tokio-rustls` with the
//! feature `tls`, the socket gets that stream back ([`UpgradedStream::Tcp`]) and is as fast as with longwire's own
//! server. Bytes that arrived after the request are not lost. Other streams are used through hyper
//! ([`UpgradedStream::Upgraded`]), and HTTP/2 streams gather writes ([`UpgradedStream::Http2`]).
//!
//! # Shutdown
//!
//! HTTP servers neither close connections that they have handed over nor wait for them. Without
//! [`Mount::shutdown_after`], or [`Hub::shutdown`] alongside the server's own shutdown, the end of the process
//! cuts every socket without a close frame.
//!
//! # Features
//!
//! | feature | adds |
//! |---|---|
//! | `axum` | `axum::WebSocketUpgrade`, an extractor |
//! | `deflate` | compression (RFC 7692), if `ServerOptions::deflate` allows it |
//! | `http2` | `http2::Http2`, the client over HTTP/2 |
//! | `testing` | `testing::serve`, an in-memory connection to a tower service |
//! | `tls` | streams of `tokio-rustls` recovered from hyper, and their addresses |
//! | `tower` | `tower::WebSocketLayer`, a handler mounted in front of any service |

#![cfg_attr(docsrs, feature(doc_cfg))]
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
mod upgrade;
mod upgraded;

pub use longwire_handshake::{OriginPolicy, Rejection, ServerOptions, Subprotocol};
pub use longwire_hub::{
    BoxError, ClientHandle, ClientId, Delivery, HandlerOutput, HandlerResult, Hub, HubConfig, HubStats,
    SlowPolicy,
};
pub use mount::{Mount, MountConfig};
pub use stream::{CONNECTION_WINDOW, Http2Stream, STREAM_WINDOW};
pub use upgrade::{Upgrade, UpgradeError, upgrade, upgrade_parts};
pub use upgraded::UpgradedStream;

/// The socket that a handler gets: a [`WebSocket`](longwire_connection::WebSocket) registered with the mount's [`Hub`].
/// It is not the `Socket` of longwire's own server; a function for both takes the hub's `Socket<T>`.
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
pub type Socket = longwire_hub::Socket<UpgradedStream>;

/// The receiving side of a [`Socket`] that was split.
pub type SocketReceiver = longwire_hub::SocketReceiver<UpgradedStream>;
