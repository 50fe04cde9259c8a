//! The configuration of a server.

use std::time::Duration;

use longwire_connection::Config;
use longwire_handshake::{HeadLimits, ServerOptions};
use longwire_hub::{HubConfig, Shutdown};

use crate::TrustedProxies;

/// The configuration of a server. The defaults are meant for the open internet.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use longwire_server::ServerConfig;
///
/// let config = ServerConfig::default().with_handshake_timeout(Duration::from_secs(3));
/// assert!(config.connection.keepalive.is_some());
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServerConfig {
    /// The settings of connections. Default: [`Config::for_server`], with keepalive and a memory budget of
    /// 1 GiB for all clients.
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
    /// within the handshake's time, the connection is closed without a response. It is not recognized from other
    /// peers. Default: none.
    pub proxy_protocol: TrustedProxies,
    /// The size limits of a request head. Default: 16 KiB, 100 header fields.
    pub head: HeadLimits,
    /// The maximum duration of a handshake, from the connection to the 101: the request, `authorize` or the
    /// fallback, and writing the 101. Any other response is cut off only if the client takes none of it (over TLS,
    /// less than 16 KiB) for [`close_timeout`](Config::close_timeout), if its slot is needed
    /// ([`max_handshakes`](Self::max_handshakes)), or at the deadline of a [`shutdown`](Self::shutdown). Default:
    /// 10 s.
    pub handshake_timeout: Duration,
    /// The maximum number of concurrent handshakes, and also of those that wait for `authorize` or the fallback.
    /// The two are counted separately.
    ///
    /// One more handshake ends the oldest that does not wait for the application with 503, or without a response if
    /// its TLS or proxy's header is not complete. An honest client needs its slot only for a moment; one that sends
    /// its request slowly on purpose keeps it as long as it can. A client that waits for the application keeps its
    /// slot. If the maximum number of clients is already waiting, the next complete request is answered with 503. A
    /// refusal or a page of the fallback that is being sent does not keep its slot, and is cut off if it is the oldest.
    /// Default: 1024.
    pub max_handshakes: usize,
    /// The settings of the hub, such as the policy for clients that do not keep up with broadcasts.
    pub hub: HubConfig,
    /// The shutdown of the server: the close frame for clients, and their deadline. If the code must not be sent or
    /// the reason exceeds 123 bytes, clients get 1001 without a reason instead.
    pub shutdown: Shutdown,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            connection: Config::for_server(),
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

impl ServerConfig {
    /// Sets [`connection`](Self::connection).
    #[must_use]
    pub fn with_connection(mut self, connection: Config) -> Self {
        self.connection = connection;
        self
    }

    /// Sets [`handshake`](Self::handshake).
    #[must_use]
    pub fn with_handshake(mut self, handshake: ServerOptions) -> Self {
        self.handshake = handshake;
        self
    }

    /// Sets [`trusted_proxies`](Self::trusted_proxies).
    #[must_use]
    pub fn with_trusted_proxies(mut self, trusted_proxies: TrustedProxies) -> Self {
        self.trusted_proxies = trusted_proxies;
        self
    }

    /// Sets [`proxy_protocol`](Self::proxy_protocol).
    #[must_use]
    pub fn with_proxy_protocol(mut self, proxy_protocol: TrustedProxies) -> Self {
        self.proxy_protocol = proxy_protocol;
        self
    }

    /// Sets [`head`](Self::head).
    #[must_use]
    pub fn with_head(mut self, head: HeadLimits) -> Self {
        self.head = head;
        self
    }

    /// Sets [`handshake_timeout`](Self::handshake_timeout).
    #[must_use]
    pub fn with_handshake_timeout(mut self, handshake_timeout: Duration) -> Self {
        self.handshake_timeout = handshake_timeout;
        self
    }

    /// Sets [`max_handshakes`](Self::max_handshakes).
    #[must_use]
    pub fn with_max_handshakes(mut self, max_handshakes: usize) -> Self {
        self.max_handshakes = max_handshakes;
        self
    }

    /// Sets [`hub`](Self::hub).
    #[must_use]
    pub fn with_hub(mut self, hub: HubConfig) -> Self {
        self.hub = hub;
        self
    }

    /// Sets [`shutdown`](Self::shutdown).
    #[must_use]
    pub fn with_shutdown(mut self, shutdown: Shutdown) -> Self {
        self.shutdown = shutdown;
        self
    }
}
