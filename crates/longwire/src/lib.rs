//! A WebSocket client and server for tokio: strict, safe and fast, without any setup.
//!
//! # A client
//!
//! ```no_run
//! # async fn client() -> Result<(), longwire::Error> {
//! let mut ws = longwire::connect("wss://example.com/chat").await?;
//! ws.send("something").await?;
//! while let Some(message) = ws.recv().await? {
//!     println!("{message}");
//! }
//! # Ok(())
//! # }
//! ```
//!
//! [`recv`](WebSocket::recv) returns `None` when the connection was closed cleanly, and a [`connection::Error`] with a
//! close code when it was not. `?` converts it and all other errors to [`Error`]. [`Client`] sets headers, an origin,
//! subprotocols, TLS and time limits.
//!
//! # A server
//!
//! ```no_run
//! # async fn serve() -> Result<(), longwire::Error> {
//! let server = longwire::Server::bind("127.0.0.1:8080").await?;
//! server
//!     .serve(|mut ws, request| async move {
//!         println!("{:?} asked for {}", request.peer_addr(), request.uri());
//!         ws.send("something").await?;
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
//! Each client has its own task. Messages sent by a handler are written when it yields, all at once; when it returns,
//! the connection is closed, with code 1000 for `Ok` and 1011 for `Err`. [`Server::hub`] reaches all clients,
//! [`Server::handle`] shuts the server down.
//!
//! # A server and a client, end to end
//!
//! ```
//! use longwire::{CloseCode, Message, Server};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let server = Server::bind("127.0.0.1:0").await?;
//! let (addr, handle) = (server.local_addr(), server.handle());
//! let served = server
//!     .serve(|mut ws, _request| async move {
//!         while let Some(message) = ws.recv().await? {
//!             ws.send(message).await?;
//!         }
//!         Ok(())
//!     })
//!     .spawn();
//!
//! let mut ws = longwire::connect(format!("ws://{addr}")).await?;
//! ws.send("text").await?;
//! ws.send(vec![1, 2, 3]).await?; // binary
//! assert_eq!(ws.recv().await?, Some(Message::text("text")));
//! assert_eq!(ws.recv().await?, Some(Message::binary(vec![1, 2, 3])));
//! ws.close(CloseCode::NORMAL, "done").await?;
//!
//! handle.shutdown().await;
//! served.await??;
//! # Ok(())
//! # }
//! ```
//!
//! # Finding what you need
//!
//! | to | use |
//! |---|---|
//! | send from several tasks | [`WebSocket::sender`], [`WebSocket::split`], [`Sender`] |
//! | send many messages in one write | [`WebSocket::feed`], [`WebSocket::flush`]; automatic in a server's handler |
//! | check that the peer is alive, and measure the round trip | [`WebSocket::ping`], [`Config::keepalive`] |
//! | look at messages where they were read, without a copy | [`WebSocket::recv_with`], [`WebSocket::reply_with`] |
//! | send or receive one message in parts | [`WebSocket::message_writer`], [`WebSocket::recv_parts`] |
//! | compress, or not | `ServerOptions::deflate` of a server's handshake, `Client::deflate`, [`WebSocket::send_with`] |
//! | pipe bytes | [`WebSocket::into_byte_stream`] |
//! | use combinators | `Stream` and `Sink` of the futures crates, on [`WebSocket`]; [`Sender::into_sink`] |
//! | send one message to many clients | `Hub::broadcast`, [`PreparedMessage`] |
//! | send to some of them | `Socket::join` and `Hub::publish`: rooms |
//! | store data for a client | `Admission::with_data`, `Socket::set_data`, `ClientHandle::data` |
//! | send to all sockets of one user | `Admission::with_key`, `Hub::send_to` |
//! | send values of which only the latest matters | `Hub::publish_latest` |
//! | send and receive JSON | the feature `json`: `WebSocket::send_json`, `Message::json` |
//! | limit what a peer can do | [`Limits`], [`RateLimit`], [`Config`], `ServerConfig` |
//! | decide which clients are accepted | `Server::authorize`, `Server::allowed_origins`, `Server::on_reject` |
//! | serve several paths | `Server::route` |
//! | renew certificates, serve several names over TLS | `server::TlsConfig::builder`, `ServerHandle::set_tls` |
//! | monitor a server | `ServerHandle::stats`, [`Measurements`], the feature `metrics` |
//! | run a server with one runtime per core | `server::Workers` |
//! | hand the listening socket over to a new process | `ServerHandle::hand_over` |
//! | find a client's address behind a proxy | `ServerConfig::trusted_proxies`, `Request::client_ip` |
//! | limit the memory of all connections | [`MemoryBudget`] |
//! | limit the number of clients | `HubConfig::max_clients`, `HubConfig::max_clients_per_address` |
//! | reconnect automatically | `Client::reconnecting` |
//! | speak WebSocket over your own stream | [`WebSocket::new`], [`drive`] |
//! | add it to an HTTP application | `hyper::upgrade`, `axum::WebSocketUpgrade`, `tower::WebSocketLayer` |
//! | open many connections over one HTTP/2 connection | `http2::Http2` |
//! | do without IO | the crates `longwire-protocol`, `longwire-handshake`, `longwire-deflate` and `longwire-frame` |
//!
//! The [guide](https://github.com/longwire/longwire/tree/main/docs/guide) has a page for each task, such as a chat, a
//! feed, a login, a proxy in front, a container, metrics: a whole program first, then the traps.
//!
//! # Defaults
//!
//! Messages and frames of up to 16 MiB, in up to 131 072 fragments. Pings are answered. A server pings a client that
//! was silent for 30 s and drops it 20 s later. The opening handshake may take 10 s in all, the closing one 5 s. A
//! request head may have 16 KiB and 100 fields. At most 128 KiB and one message wait to be written on a connection
//! before `send` waits. Masking keys come from a cryptographically secure generator, one per frame. `TCP_NODELAY` is
//! set. A client offers compression, and a server declines it unless configured otherwise; if both agreed, messages
//! from 1024 bytes on are compressed.
//!
//! # Cancel safety
//!
//! Every future may be dropped at any await, as `select!` and timeouts do: no message is lost, repeated or torn.
//!
//! # Features
//!
//! | feature | default | adds |
//! |---|---|---|
//! | `client` | yes | [`connect`], [`Client`] |
//! | `server` | yes | [`Server`] and its hub |
//! | `deflate` | yes | compression (RFC 7692): a client offers it, a server must be configured to accept it |
//! | `rustls` | yes | TLS with ring: `wss` URLs, with the operating system's trusted roots; `Server::tls` |
//! | `aws-lc-rs` | no | the same with aws-lc-rs. If `rustls` is on as well, aws-lc-rs is used and ring only compiled |
//! | `tls` | no | the same without cryptography: the application installs a provider of it for the process |
//! | `webpki-roots` | no | `tls`, and trust in Mozilla's list if the system has none |
//! | `hyper` | no | `hyper`: sockets in an application that serves HTTP with hyper, over HTTP/1.1 and HTTP/2 |
//! | `axum` | no | `axum`: an extractor; with `hyper` |
//! | `tower` | no | `tower`: a layer that mounts a handler at a path; with `hyper` |
//! | `http2` | no | `http2`: the client over HTTP/2 (RFC 8441); with `hyper` |
//! | `cluster` | no | `cluster`: rooms over several nodes, with a broker within the process or of your own |
//! | `nats` | no | NATS as the broker; with `cluster` |
//! | `redis` | no | Redis or Valkey as the broker; with `cluster` |
//! | `metrics` | no | metrics of server, hub and cluster for the `metrics` crate; with hyper, call `Hub::report_traffic` |
//! | `json` | no | messages as JSON: `send_json`, `publish_json`, `Message::json` |
//! | `testing` | no | [`testing`]: sockets connected in memory, with faults, in virtual time |

#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]

mod error;

/// Tests of your own code: sockets and servers in memory, with faults, in virtual time.
///
/// The server in memory for tower services, such as axum's routers, is `hyper::testing::serve`.
#[cfg(feature = "testing")]
pub mod testing {
    #[doc(inline)]
    pub use longwire_connection::testing::*;
    #[cfg(feature = "server")]
    #[doc(inline)]
    pub use longwire_server::testing::{InMemory, serve};
}
#[doc(inline)]
pub use longwire_connection::{
    BoxError, ByteStream, CloseCode, CloseFrame, Compress, CompressionStats, Config, Excess, FrameError,
    Handover, Histogram, HistogramCounts, Incoming, Keepalive, Limits, MaskingKey, MaskingKeys,
    MeasurementCounts, Measurements, MemoryBudget, Message, MessageKind, MessageReader, MessageRef,
    MessageWriter, Opcode, OwnedMessageWriter, Pong, PreparedMessage, ProtocolError, Rate, RateLimit,
    Receiver, Reply, Sender, SenderSink, State, Stats, Text, Transport, WebSocket, WriterOptions, drive,
};

pub use error::Error;

/// The error of an established connection. [`WebSocket`] itself is at the root.
pub mod connection {
    #[doc(inline)]
    pub use longwire_connection::Error;
}

#[cfg(feature = "deflate")]
#[doc(inline)]
pub use longwire_connection::deflate::DeflateOptions;
/// Compression (RFC 7692): its parameters, and the agreement reached in a handshake.
#[cfg(feature = "deflate")]
pub mod deflate {
    #[doc(inline)]
    pub use longwire_connection::Compression;
    #[doc(inline)]
    pub use longwire_connection::deflate::{
        Agreement, AnswerError, Direction, Level, Offer, ParamError, Pool, PoolOptions, Sweeper, WindowBits,
    };
}

#[cfg(feature = "client")]
#[doc(inline)]
pub use longwire_client::{Client, connect, reconnect};

#[cfg(feature = "server")]
#[doc(inline)]
pub use longwire_server::{Request, Server, ServerConfig, ServerHandle, ServerStats, Socket};

#[cfg(any(feature = "server", feature = "hyper", feature = "cluster"))]
#[doc(inline)]
pub use longwire_hub::{
    ClientId, Delivery, HandlerOutput, HandlerResult, Hub, HubConfig, HubStats, Room, Shutdown, SlowPolicy,
};

/// The version of rustls whose configurations the client's and the server's `TlsConfig` accept.
#[cfg(all(feature = "client", feature = "tls"))]
#[doc(no_inline)]
pub use longwire_client::rustls;
/// The version of rustls whose configurations the client's and the server's `TlsConfig` accept.
#[cfg(all(feature = "server", feature = "tls", not(feature = "client")))]
#[doc(no_inline)]
pub use longwire_server::rustls;

/// The opening handshake: its limits, policies, refusals and errors, for clients and servers.
#[cfg(any(feature = "client", feature = "server", feature = "hyper"))]
pub mod handshake {
    #[doc(inline)]
    pub use longwire_handshake::{
        AcceptedError, AllowedOrigins, ClientOptions, ExtensionError, HeadError, HeadLimits, InvalidKey,
        InvalidLogin, InvalidOrigin, InvalidSubprotocol, MAX_ADDED_HEADERS, OptionsError, OriginPolicy,
        PeerText, Rejection, ResponseError, ServerOptions, Subprotocol, SubprotocolError, UriError,
        WebSocketUri, bearer, cookie,
    };
}

/// Connected clients: handles, sockets over any transport, limits, statistics and shutdown. [`Hub`] itself is at the
/// root.
#[cfg(any(feature = "server", feature = "hyper", feature = "cluster"))]
pub mod hub {
    #[doc(inline)]
    pub use longwire_hub::{
        ClientHandle, ClientInfo, ClientStats, Drained, HubError, Reservation, RunError, Socket,
        SocketReceiver,
    };
}

/// Rooms over several nodes, linked by a message broker.
#[cfg(feature = "cluster")]
#[doc(inline)]
pub use longwire_cluster as cluster;

/// Types of the client: its errors, its stream and its TLS configuration. [`Client`] itself is at the root.
#[cfg(feature = "client")]
pub mod client {
    #[doc(inline)]
    pub use longwire_client::{ClientStream, Error, InvalidOption, ProxyError, RedirectError, Stage};
    #[cfg(feature = "tls")]
    #[doc(inline)]
    pub use longwire_client::{TlsConfig, TlsError};
}

/// Types of the server: its errors, listeners, streams and TLS configuration. [`Server`] itself is at the root.
#[cfg(feature = "server")]
pub mod server {
    #[doc(inline)]
    pub use longwire_server::{
        Admission, Error, InvalidNetwork, Listen, ListenOptions, Listeners, OtherStream, Serve, ServerStream,
        SocketReceiver, TrustedProxies, Workers,
    };
    #[cfg(feature = "tls")]
    #[doc(inline)]
    pub use longwire_server::{TlsBuilder, TlsCertificate, TlsConfig, TlsError};
}

#[cfg(feature = "axum")]
#[doc(inline)]
pub use longwire_hyper::axum;
#[cfg(feature = "http2")]
#[doc(inline)]
pub use longwire_hyper::http2;
#[cfg(feature = "tower")]
#[doc(inline)]
pub use longwire_hyper::tower;

/// Sockets in an application that serves HTTP with hyper: see [`upgrade`](hyper::upgrade).
#[cfg(feature = "hyper")]
pub mod hyper {
    #[cfg(feature = "testing")]
    #[doc(inline)]
    pub use longwire_hyper::testing;
    #[doc(inline)]
    pub use longwire_hyper::{
        CONNECTION_WINDOW, Http2Stream, Mount, MountConfig, STREAM_WINDOW, Socket, SocketReceiver, Upgrade,
        UpgradeError, UpgradedStream, upgrade, upgrade_parts,
    };
}

/// Compiles the README's snippets.
#[cfg(all(doctest, feature = "axum", feature = "client", feature = "server"))]
#[doc = include_str!("../../../README.md")]
struct Readme;

/// Compiles the snippets of the migration guide.
#[cfg(all(doctest, feature = "axum"))]
#[doc = include_str!("../../../docs/migration.md")]
struct Migration;
