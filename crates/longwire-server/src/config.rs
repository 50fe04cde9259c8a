//! The configuration of a server.

use std::time::Duration;

use longwire_connection::{CloseCode, Config, Keepalive, MemoryBudget};
use longwire_handshake::{HeadLimits, ServerOptions};
use longwire_hub::HubConfig;

use crate::TrustedProxies;

/// The configuration of a server. The defaults are meant for the open internet.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use longwire_server::ServerConfig;
///
/// let config = ServerConfig { handshake_timeout: Duration::from_secs(3), ..ServerConfig::default() };
/// assert!(config.connection.keepalive.is_some());
/// ```
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// The settings of connections. Default: those of [`Config`], with [`Keepalive::default`] and a
    /// [`MemoryBudget`] of 1 GiB for incoming messages.
    pub connection: Config,
    /// Subprotocols, allowed origins and the path. Default: none, any, any.
    pub handshake: ServerOptions,
    /// The proxies that are trusted to name the client's address; see
    /// [`Request::client_ip`](crate::Request::client_ip). Default: none.
    pub trusted_proxies: TrustedProxies,
    /// The peers that are proxies which begin each connection with a header of the PROXY protocol, version 1 or 2.
    /// TLS, if any, comes after the header. For all purposes, the addresses in the header then replace those of the
    /// peer.
    ///
    /// The header is required from these peers: if it is not well formed, exceeds 4096 bytes or does not arrive
    /// within the handshake's time, the connection is closed without an answer. It is not recognized from other
    /// peers. Default: none.
    pub proxy_protocol: TrustedProxies,
    /// The size limits of a request head. Default: 16 KiB, 100 header fields.
    pub head: HeadLimits,
    /// The maximum duration of a handshake, from the connection to the 101: the request, `authorize` or the
    /// fallback, and writing the 101. Any other answer is cut off only if the client takes none of it for
    /// [`close_timeout`](Config::close_timeout). Default: 10 s.
    pub handshake_timeout: Duration,
    /// The maximum number of concurrent handshakes, and also of those that wait for `authorize` or the fallback.
    /// The two are counted separately.
    ///
    /// One more handshake ends the oldest that does not wait for the application with 503, or without an answer if
    /// its TLS or proxy's header is not complete. An honest client needs its slot only for a moment; one that sends
    /// its request slowly on purpose keeps it as long as it can. A client that waits for the application keeps its
    /// slot. If the maximum number of clients is already waiting, the next complete request is answered with 503.
    /// Default: 1024.
    pub max_handshakes: usize,
    /// The settings of the hub, such as the policy for clients that do not keep up with broadcasts.
    pub hub: HubConfig,
    /// The shutdown of the server.
    pub shutdown: Shutdown,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            connection: Config {
                keepalive: Some(Keepalive::default()),
                memory: Some(MemoryBudget::new(MEMORY)),
                ..Config::default()
            },
            handshake: ServerOptions::default(),
            trusted_proxies: TrustedProxies::default(),
            proxy_protocol: TrustedProxies::default(),
            head: HeadLimits::default(),
            handshake_timeout: Duration::from_secs(10),
            max_handshakes: 1024,
            hub: HubConfig::default(),
            shutdown: Shutdown::default(),
        }
    }
}

/// The shutdown of a server: the close frame for clients, and their deadline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shutdown {
    /// The close code. Default: 1001, going away. If it must not be sent, clients get 1001 without a reason
    /// instead.
    pub code: CloseCode,
    /// The close reason. Default: none. If it exceeds 123 bytes, clients get 1001 without a reason instead.
    pub reason: String,
    /// The deadline after which connections are dropped if their closing handshake or handler has not ended.
    /// Default: 10 s.
    pub deadline: Duration,
    /// The period over which the close frames are spread, so that clients do not all reconnect at once; see
    /// [`Farewell::spread`](longwire_hub::Farewell::spread). Default: zero, so all are sent at once.
    pub spread: Duration,
}

impl Default for Shutdown {
    fn default() -> Self {
        let deadline = Duration::from_secs(10);
        Self { code: CloseCode::GOING_AWAY, reason: String::new(), deadline, spread: Duration::ZERO }
    }
}

/// Enough for 64 concurrent clients with messages of the maximum length, or for 16 000 with 64 KiB.
const MEMORY: usize = 1 << 30;
