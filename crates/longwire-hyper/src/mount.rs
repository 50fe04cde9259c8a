//! State shared by all sockets of an application.

use std::sync::Arc;
#[cfg(feature = "axum")]
use std::sync::OnceLock;
use std::time::Duration;

use longwire_connection::{CloseCode, Config};
use longwire_handshake::ServerOptions;
use longwire_hub::{Hub, HubConfig};

/// The configuration of sockets. The defaults are meant for the open internet.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct MountConfig {
    /// The configuration of connections. Default: [`Config::for_server`], as in the standalone server. All sockets
    /// of the mount share its memory budget of 1 GiB, as do mounts whose configuration is a clone of this one.
    pub connection: Config,
    /// Subprotocols, allowed origins, the path and compression. Default: no subprotocols, any origin, any path,
    /// no compression.
    pub handshake: ServerOptions,
    /// The configuration of the hub, such as the policy for clients that do not keep up with broadcasts.
    pub hub: HubConfig,
    /// The time limit from the acceptance of a request until the HTTP server has sent the response and handed
    /// over the connection. Default 10 s.
    pub upgrade_timeout: Duration,
}

impl Default for MountConfig {
    fn default() -> Self {
        Self {
            connection: Config::for_server(),
            handshake: ServerOptions::default(),
            hub: HubConfig::default(),
            upgrade_timeout: Duration::from_secs(10),
        }
    }
}

impl MountConfig {
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

    /// Sets [`hub`](Self::hub).
    #[must_use]
    pub fn with_hub(mut self, hub: HubConfig) -> Self {
        self.hub = hub;
        self
    }

    /// Sets [`upgrade_timeout`](Self::upgrade_timeout).
    #[must_use]
    pub fn with_upgrade_timeout(mut self, upgrade_timeout: Duration) -> Self {
        self.upgrade_timeout = upgrade_timeout;
        self
    }
}

/// The configuration of sockets, and the [`Hub`] of all clients. Clones are handles to the same mount.
///
/// # Examples
///
/// ```
/// use longwire_hyper::{Mount, MountConfig, OriginPolicy};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut config = MountConfig::default();
/// config.handshake.origins = OriginPolicy::only(["https://example.com"])?;
/// config.connection.limits.max_message = Some(64 * 1024);
/// let mount = Mount::new(config);
/// mount.hub().broadcast("to everybody");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Mount {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: MountConfig,
    hub: Hub,
}

impl Mount {
    /// Makes a mount with its own hub.
    pub fn new(config: MountConfig) -> Self {
        let hub = Hub::new(config.hub);
        Self { inner: Arc::new(Inner { config, hub }) }
    }

    /// Makes a mount whose clients join an existing hub, such as that of a longwire server.
    ///
    /// [`MountConfig::hub`] is ignored: the hub has its own configuration.
    pub fn with_hub(config: MountConfig, hub: Hub) -> Self {
        Self { inner: Arc::new(Inner { config, hub }) }
    }

    /// Makes a mount for one client of a router that has none. Its hub warns if it is used.
    #[cfg(feature = "axum")]
    pub(crate) fn for_one_client() -> Self {
        // All of them share one budget of memory.
        static CONFIG: OnceLock<MountConfig> = OnceLock::new();
        let config = CONFIG.get_or_init(MountConfig::default).clone();
        let hub = Hub::for_one_client(
            config.hub,
            "a handler uses its hub, which reaches no other client: the router has no mount; add \
             `.layer(Extension(Mount::default()))` to it",
        );
        Self::with_hub(config, hub)
    }

    /// Returns the configuration of sockets.
    pub fn config(&self) -> &MountConfig {
        &self.inner.config
    }

    /// Returns the hub of all clients, to broadcast to them and to shut them down.
    pub fn hub(&self) -> &Hub {
        &self.inner.hub
    }

    /// Waits for a signal, then closes every client with code 1001 (going away) and waits for the handlers, for
    /// at most `limit`. The graceful shutdown of an HTTP server should wait for this, because the server does not
    /// wait for connections that it has handed over.
    ///
    /// From the signal on, WebSocket requests are answered with 503. This calls [`Hub::shutdown`], which
    /// has more options.
    ///
    /// # Cancel safety
    ///
    /// As for [`Hub::shutdown`].
    ///
    /// # Examples
    ///
    #[cfg_attr(feature = "axum", doc = "```no_run")]
    #[cfg_attr(not(feature = "axum"), doc = "```ignore")]
    /// use std::time::Duration;
    /// use axum::{Extension, Router, routing::any};
    /// use longwire_hyper::{Mount, axum::WebSocketUpgrade};
    ///
    /// # async fn example() -> std::io::Result<()> {
    /// let mount = Mount::default();
    /// let app = Router::new()
    ///     .route("/", any(|ws: WebSocketUpgrade| async move { ws.on_upgrade(|_ws| async { Ok(()) }) }))
    ///     .layer(Extension(mount.clone()));
    /// let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
    /// let signal = std::future::pending::<()>(); // for example, SIGTERM
    /// axum::serve(listener, app)
    ///     .with_graceful_shutdown(mount.shutdown_after(signal, Duration::from_secs(10)))
    ///     .await
    /// # }
    /// ```
    pub fn shutdown_after<S: Future>(&self, signal: S, limit: Duration) -> impl Future<Output = ()> + use<S> {
        let hub = self.hub().clone();
        async move {
            signal.await;
            // Fails only for codes and reasons that must not be sent, unlike these.
            drop(hub.shutdown(CloseCode::GOING_AWAY, "", limit).await);
        }
    }
}

impl Default for Inner {
    fn default() -> Self {
        let config = MountConfig::default();
        Self { hub: Hub::new(config.hub), config }
    }
}
