//! How a server behaves.

use std::time::Duration;

use longwire_connection::{CloseCode, Config, Keepalive, MemoryBudget};
use longwire_handshake::{HeadLimits, ServerOptions, TrustedProxies};
use longwire_hub::HubConfig;

/// How a server behaves; the defaults are meant for the open internet.
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
    /// How connections behave. Default: that of [`Config`], with [`Keepalive::default`] and a
    /// [`MemoryBudget`] of 1 GiB for the messages that are arriving.
    pub connection: Config,
    /// Subprotocols, allowed origins and the path. Default: none, any, any.
    pub handshake: ServerOptions,
    /// Which proxies are believed where they name the client's address; see [`Request::client_ip`](crate::Request::client_ip).
    /// Default: none.
    pub trusted_proxies: TrustedProxies,
    /// Which peers are proxies that begin each connection with a header of the PROXY protocol, version 1 or 2: TLS, if any,
    /// comes behind it. The addresses that it tells are then those of the peer, for all purposes.
    ///
    /// Of these it is demanded: without a well-formed header, of at most 4096 bytes and within the handshake's time, the
    /// connection is closed without a word. Of others it is not understood. Default: none.
    pub proxy_protocol: TrustedProxies,
    /// How big a request head may be. Default: 16 KiB, 100 header fields.
    pub head: HeadLimits,
    /// How long a handshake may take in all, from the connection to the 101: the request, `authorize` or the fallback, and writing
    /// the 101. Any other answer is cut off only if the client takes none of it for
    /// [`close_timeout`](Config::close_timeout). Default 10 s.
    pub handshake_timeout: Duration,
    /// How many handshakes may be going on at once, and how many of them may wait for `authorize` or the fallback.
    ///
    /// One more ends the oldest that does not wait for the application with 503: an honest client needs its place for a moment,
    /// one that drips its request for as long as it gets. A client that waits for the application keeps its place; if as many
    /// wait as may, the next whole request is answered with 503. One whose TLS or proxy's header is not complete is closed without
    /// an answer instead. Default 1024.
    pub max_handshakes: usize,
    /// What happens to clients that do not keep up with broadcasts.
    pub hub: HubConfig,
    /// How the server takes its leave.
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

/// How a server takes its leave: what clients are told, and how long they have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shutdown {
    /// The close code. Default 1001, going away. One that must not be sent is replaced by 1001.
    pub code: CloseCode,
    /// The close reason. Default: none. One above 123 bytes is left out.
    pub reason: String,
    /// After how long connections are dropped whose closing handshake or handler has not ended. Default 10 s.
    pub deadline: Duration,
    /// Over how long the close frames are spread, so that clients do not all come back at once; see
    /// [`Farewell::spread`](longwire_hub::Farewell::spread). Default: they are sent at once.
    pub spread: Duration,
}

impl Default for Shutdown {
    fn default() -> Self {
        let deadline = Duration::from_secs(10);
        Self { code: CloseCode::GOING_AWAY, reason: String::new(), deadline, spread: Duration::ZERO }
    }
}

/// Enough for 64 clients at once with messages of the greatest length, or for 16 000 with 64 KiB.
const MEMORY: usize = 1 << 30;
